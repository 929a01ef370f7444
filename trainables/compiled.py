"""Loops over arrays, compiled for the CPU at their first call and kept beside their file."""

from __future__ import annotations

from numba import njit

# Sums may be reordered, so that they are computed side by side; NaN stays NaN.
compiled = njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract", "reassoc"})
