"""The text lists of benchmarks: a line an image, its fields parted by blanks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd

from trainables.data.errors import DataError


def read_list(
    file: Path, fields: Mapping[str, Callable[[str], int | str]], *, header: int = 0
) -> pd.DataFrame:
    """The list as a table; its index is the line, from 1.

    Args:
        fields: name and type of each, in order.
        header: how many lines come before the first image.

    Raises:
        DataError: the file cannot be read, or a line is not as described; both are named.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} cannot be read: {error}") from error
    rows: dict[int, list[int | str]] = {}
    for number, line in enumerate(lines[header:], start=header + 1):
        if not line.strip():
            continue
        try:
            parts = zip(fields.values(), line.split(), strict=True)
            rows[number] = [kind(part) for kind, part in parts]
        except ValueError as error:
            law = f"a line must hold {', '.join(fields)}"
            raise DataError(f"{file}, line {number}: {law}; got {line!r}") from error
    if not rows:
        raise DataError(f"{file} must list images; got none")
    return pd.DataFrame.from_dict(rows, orient="index", columns=list(fields))
