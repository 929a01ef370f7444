"""The one table that all data becomes: a row an image, checked and in one order."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .columns import BOX, checked
from .files import composed


@dataclass(frozen=True, eq=False)
class Table:
    """Images by path, or by row of an array, with what is known of each.

    Args:
        rows: a row an image, in any order. Its columns:
            path: (str) absolute; or row: (int) of an array data set, from 0.
            label: (str) its class.
            split: (str) "train", "validation" or "test"; "" for all rows where the protocol
                decides, the default. Validation rows without test rows become the test rows.
            is_query, is_gallery: (bool) the roles of rows that judge. Default: both.
            sequence: (str) rows of one sequence are not retrieved for each other; "" for none,
                the default.
            x_1, y_1, x_2, y_2: left, top, right and lower of a crop box, in whole pixels; -1 or
                missing in all four for none. Optional.
            bytes: the file's size, which is measured again.
        source: what the data is, for people.
        file: the list that the rows are from; rows in errors are numbered by the index of `rows`.
        classes: the classes in an order of their own. Default: the labels, sorted.
        left_out: (path, why) of what was found and not taken.
        notes: how the data was read where it could be read otherwise, a line each.

    Attributes:
        rows: the same with all columns but the optional ones, sorted by path below the folder that
            all lie in, or by row, from 0: what was given in another order is the same table.

    Raises:
        DataError: a row breaks a law; the message names the file and the row.
    """

    rows: pd.DataFrame
    source: str
    file: Path | None = None
    classes: Sequence[str] = ()
    left_out: Sequence[tuple[str, str]] = ()
    notes: Sequence[str] = ()

    def __post_init__(self) -> None:
        rows, notes = checked(self.rows, str(self.file or self.source), self.classes)
        names = _names(rows)
        keys = [rows["row"]] if "row" in rows else [list(map(composed, names)), rows["path"]]
        boxes = [rows[side] for side in BOX if side in rows]
        order = sorted(range(len(rows)), key=list(zip(*keys, *boxes, strict=True)).__getitem__)
        classes = tuple(map(composed, self.classes)) or tuple(sorted(set(rows["label"])))
        for name, value in (
            ("rows", rows.iloc[order].reset_index(drop=True)),
            ("classes", classes),
            ("left_out", tuple(self.left_out)),
            ("notes", (*self.notes, *notes)),
        ):
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns of `rows`."""
        return tuple(self.rows.columns)

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """(N,) int64: each row's class, by its place in `classes`."""
        numbers = {name: number for number, name in enumerate(self.classes)}
        return np.array([numbers[label] for label in self.rows["label"]], dtype=np.int64)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """N names to show: the path below the folder that all lie in, or `row 7`."""
        return tuple(_names(self.rows))

    @cached_property
    def boxes(self) -> NDArray[np.int64] | None:
        """(N, 4) int64: each row's left, top, right and lower, -1 for none; None without boxes."""
        if BOX[0] not in self.rows:
            return None
        return self.rows[list(BOX)].to_numpy(dtype=np.int64)

    def fingerprint(self) -> str:
        """SHA-256 of the rows and the classes: the same wherever the folder lies.

        A file whose content changes and whose size does not is not noticed.
        """
        digest = hashlib.sha256(json.dumps(list(self.classes)).encode())
        for name in self.columns:
            values = self.names if name == "path" else self.rows[name].tolist()
            if name == "path":
                values = [composed(value) for value in values]
            digest.update(json.dumps([name, values]).encode())
        return digest.hexdigest()


def _names(rows: pd.DataFrame) -> list[str]:
    if "row" in rows:
        return [f"row {row}" for row in rows["row"]]
    folder = os.path.commonpath({os.path.dirname(path) for path in rows["path"]})
    start = len(os.path.join(folder, ""))
    return [path[start:].replace(os.sep, "/") for path in rows["path"]]
