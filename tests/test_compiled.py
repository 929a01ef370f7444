"""Loops are compiled also where the result cannot be kept."""

from __future__ import annotations

from typing import Any

import numpy as np

from trainables.compiled import compiled


def test_a_function_is_compiled_where_no_folder_can_hold_it() -> None:
    """A function of no file has no folder, as one of a file in a checkout and home of others."""
    found: dict[str, Any] = {}
    exec("def doubled(numbers):\n    return numbers * 2", found)
    loop = compiled(found["doubled"])
    assert loop(np.arange(3)).tolist() == [0, 2, 4]
    assert loop.signatures  # it ran compiled
