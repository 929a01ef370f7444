"""A CSV or TSV with a row an image: open-metric-learning's columns, and looser."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from trainables.data.errors import DataError

from .columns import BOX, ROLES
from .files import PARTS, absolute, on_disk, part_of
from .table import Table

# A column's own name, and what else it is called.
NAMES = {
    "path": ("file_name", "filename", "image_path", "image"),
    "label": ("class", "class_name"),
    "split": (),
    **dict.fromkeys((*ROLES, "sequence", *BOX), ()),
}
REQUIRED = ("path", "label")
TRUTHS = {"true": True, "1": True, "1.0": True, "yes": True} | {
    "false": False, "0": False, "0.0": False, "no": False, "": None
}  # fmt: skip

Cell = str | bool | float | None


def read_csv(file: Path, label: str = "") -> Table:
    """The table of a CSV; rows in errors are numbered as a spreadsheet does, the header being 1.

    Cells are parted by comma, semicolon or tab. Only `path` (or `file_name`) and `label` are
    required. A path is absolute or from the file's folder.

    Args:
        label: of all rows of a file that has no such column; empty: it must have one.

    Raises:
        DataError: the file is no such CSV, a cell breaks its column's law, or a path leads nowhere.
    """
    header, lines = _lines(file)
    columns = _columns(file, header, REQUIRED[:1] if label else REQUIRED)
    rows = pd.DataFrame(
        {
            name: [_cell(file, number, name, cells[place]) for number, cells in lines.items()]
            for name, place in columns.items()
        },
        index=list(lines),
    )
    if "label" not in rows:
        rows["label"] = label
    unread = [name for place, name in enumerate(header) if name and place not in columns.values()]
    notes = [f"columns not read: {', '.join(unread)}"] if unread else []
    return Table(rows, str(file), file=file, notes=notes)


def _lines(file: Path) -> tuple[list[str], dict[int, list[str]]]:
    """The header, and the cells of each row that holds something, by its number."""
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise DataError(f"{file} must be UTF-8; line {line} is not") from error
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    lines: dict[int, list[str]] = {}
    number = 0
    try:
        for number, cells in enumerate(reader, start=1):
            if any(cell.strip() for cell in cells):
                lines[number] = [cell.strip() for cell in cells]
    except csv.Error as error:
        raise DataError(f"{file}, row {number + 1} cannot be read: {error}") from error
    header = lines.pop(1, [])
    for number, cells in lines.items():
        if len(cells) != len(header):
            law = f"a row must have as many cells as the header, {len(header)}"
            raise DataError(f"{file}, row {number}: {law}; got {len(cells)}")
    return header, lines


def _columns(file: Path, header: list[str], required: Sequence[str]) -> dict[str, int]:
    """Where each column is."""
    given = [name.lower() for name in header]
    columns = {}
    for name, others in NAMES.items():
        places = [place for place, one in enumerate(given) if one == name]
        places = places or [place for place, one in enumerate(given) if one in others]
        if len(places) > 1:
            got = ", ".join(header[place] for place in places)
            raise DataError(f"{file} must have one column {name}; got {got}")
        if places:
            columns[name] = places[0]
        elif name in required:
            also = " or ".join((name, *others))
            raise DataError(f"{file} must have a column {also}; got {', '.join(header) or 'none'}")
    return columns


def _cell(file: Path, number: int, name: str, text: str) -> Cell:
    """What a cell says."""
    try:
        return _MEANINGS.get(name, str)(text) if name != "path" else _path(file, text)
    except ValueError as error:
        raise DataError(f"{file}, row {number}: {name} {error}; got {text!r}") from error


def _path(file: Path, text: str) -> str:
    if not text:
        raise ValueError("must not be empty")
    return str(on_disk(absolute(file.parent / text)))


def _split(text: str) -> str:
    part = part_of(text) if text else ""
    if part is None:
        words = ", ".join(word for words in PARTS.values() for word in words)
        raise ValueError(f"must be one of {words}")
    return part


def _truth(text: str) -> bool | None:
    if text.lower() not in TRUTHS:
        raise ValueError("must be true or false")
    return TRUTHS[text.lower()]


def _number(text: str) -> float:
    try:
        number = float(text or -1)  # -1 for none
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError("must be a number")
    return number


_MEANINGS: dict[str, Callable[[str], Cell]] = {
    "split": _split,
    **dict.fromkeys(ROLES, _truth),
    **dict.fromkeys(BOX, _number),
}
