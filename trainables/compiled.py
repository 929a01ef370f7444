"""Loops over arrays, compiled for the CPU at their first call and kept beside their file."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from numba import njit

# Sums may be reordered, so that they are computed side by side; NaN stays NaN.
_compile = partial(njit, nogil=True, error_model="numpy", fastmath={"contract", "reassoc"})


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, compiled; each process compiles it again where nothing can be kept.

    It is kept in `__pycache__`, else in the user's cache folder, or in NUMBA_CACHE_DIR.
    """
    try:
        return _compile(cache=True)(function)
    except RuntimeError:  # numba found no folder that can be written
        return _compile()(function)
