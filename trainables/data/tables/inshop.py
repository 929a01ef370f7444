"""In-shop Clothes Retrieval (DeepFashion): 3,997 items train, 3,985 others test.

Of its 52,712 images 25,882 train, 14,218 are queries and 12,612 the gallery.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from trainables.data.errors import DataError

from .lists import read_list
from .sources import Layout
from .table import Table

LIST = "list_eval_partition.txt"
FIELDS = {"image_name": str, "item_id": str, "evaluation_status": str}
STATUSES = ("train", "query", "gallery")
SIZES = ("img", "img_highres")  # 256 pixels, which the literature uses, before the full size


def read(folder: Path) -> Table:
    """The table of the unpacked benchmark; DataError if its list is damaged or no picture is there.

    The list lies in `Eval` or in the folder itself, the pictures in `Img` or beside the list.
    """
    file = next(one for one in (folder / "Eval" / LIST, folder / LIST) if one.is_file())
    rows = read_list(file, FIELDS, header=2)
    status = rows["evaluation_status"]
    odd = ~status.isin(STATUSES)
    if odd.any():
        line = odd.idxmax()
        law = f"an evaluation_status must be one of {', '.join(STATUSES)}"
        raise DataError(f"{file}, line {line}: {law}; got {status[line]!r}")
    pictures = _pictures(folder)
    rows["path"] = [str(pictures / name.removeprefix("img/")) for name in rows["image_name"]]
    rows["label"] = rows["item_id"]
    rows["split"] = np.where(status == "train", "train", "test")
    rows["is_query"], rows["is_gallery"] = status == "query", status == "gallery"
    columns = ["path", "label", "split", "is_query", "is_gallery"]
    note = f"the pictures are those of {pictures.name}"
    source = f"In-shop Clothes Retrieval in {folder}"
    return Table(rows[columns], source, file=file, notes=(note,))


def _pictures(folder: Path) -> Path:
    places = [base / size for size in SIZES for base in (folder / "Img", folder)]
    for place in places:
        if place.is_dir():
            return place
    raise DataError(f"{folder} must hold the pictures in one of {', '.join(map(str, places))}")


LAYOUT = Layout((f"Eval/{LIST}|{LIST}",), "In-shop Clothes Retrieval Benchmark", read)
