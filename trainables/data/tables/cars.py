"""Cars196: the first 98 classes train, the last 98 test (8,054 and 8,131 images).

The split in its annotations is for classification, every class in both parts, and is not used; nor
are the boxes, without which the literature's figures are measured.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from scipy.io import loadmat

from trainables.data.errors import DataError

from .sources import Layout
from .table import Table

CLASSES = 196


def read(folder: Path) -> Table:
    """The table of a folder with `cars_annos.mat` and `car_ims`; DataError if that is damaged."""
    file = folder / "cars_annos.mat"
    try:
        content = loadmat(file, variable_names=["annotations", "class_names"], squeeze_me=True)
        names = [str(name) for name in content["class_names"]]
        images = content["annotations"]
        paths = [str(path) for path in images["relative_im_path"]]
        numbers = images["class"].astype(np.int64)
    except Exception as error:  # of scipy, which raises what it meets in a damaged file
        raise DataError(f"{file} cannot be read: {error!r}") from error
    if len(names) != CLASSES or not 1 <= numbers.min() <= numbers.max() <= CLASSES:
        given = f"{len(names)} names, classes {numbers.min()} to {numbers.max()}"
        raise DataError(f"{file} must hold {CLASSES} classes, numbered from 1; got {given}")
    rows = pd.DataFrame(
        {
            "path": [str(folder / path) for path in paths],
            "label": np.array(names)[numbers - 1],
            "split": np.where(numbers <= CLASSES // 2, "train", "test"),
        },
        index=range(1, len(paths) + 1),
    )
    present = [names[number - 1] for number in np.unique(numbers)]
    return Table(rows, f"Cars196 in {folder}", file=file, classes=present)


LAYOUT = Layout(("cars_annos.mat",), "cars196", read)
