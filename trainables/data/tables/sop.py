"""Stanford Online Products: 11,318 classes train, 11,316 test (59,551 and 60,502 images)."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from .lists import read_list
from .sources import Layout
from .table import Table

FIELDS = {"image_id": int, "class_id": int, "super_class_id": int, "path": str}
FILES = {"train": "Ebay_train.txt", "test": "Ebay_test.txt"}


def read(folder: Path) -> Table:
    """The table of an unpacked `Stanford_Online_Products`; DataError if a list is damaged.

    A class is an item on sale, named by its number.
    """
    parts = {split: read_list(folder / name, FIELDS, header=1) for split, name in FILES.items()}
    rows = pd.concat(
        pd.DataFrame(
            {
                "path": [str(folder / path) for path in part["path"]],
                "label": part["class_id"].astype(str),
                "split": split,
            }
        ).set_axis([f"{line} of {FILES[split]}" for line in part.index])
        for split, part in parts.items()
    )
    classes = sorted(rows["label"].unique(), key=int)
    return Table(rows, f"Stanford Online Products in {folder}", classes=classes)


LAYOUT = Layout(tuple(FILES.values()), "Stanford_Online_Products", read)
