"""CUB-200-2011: the first 100 classes train, the last 100 test (5,864 and 5,924 images).

The split that lies beside it is for classification, every class in both parts, and is not used;
nor are the boxes, without which the literature's figures are measured.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from trainables.data.errors import DataError

from .lists import read_list
from .sources import Layout
from .table import Table

CLASSES = 200


def read(folder: Path) -> Table:
    """The table of an unpacked `CUB_200_2011`; DataError if its list is damaged.

    A class is named as its folder is: `001.Black_footed_Albatross`.
    """
    file = folder / "images.txt"
    rows = read_list(file, {"image": int, "path": str})
    rows["label"] = rows["path"].str.partition("/")[0]
    numbers = rows["label"].str.partition(".")[0].map({f"{n:03}": n for n in range(1, CLASSES + 1)})
    if numbers.isna().any():
        law = f"a path must begin with a class from 001 to {CLASSES}, as 001.Name/"
        line = numbers.index[numbers.isna()][0]
        raise DataError(f"{file}, line {line}: {law}; got {rows['path'][line]!r}")
    rows["split"] = np.where(numbers <= CLASSES // 2, "train", "test")
    rows["path"] = [str(folder / "images" / path) for path in rows["path"]]
    return Table(rows[["path", "label", "split"]], f"CUB-200-2011 in {folder}", file=file)


LAYOUT = Layout(("images.txt", "images"), "CUB_200_2011", read)
