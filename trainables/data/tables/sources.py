"""Which kind of data a path holds: a CSV, a benchmark known by its own files, or folders.

To add a layout is to write one file in this package: a module with

    LAYOUT = Layout(signs, inside, read)
"""

from __future__ import annotations

import functools
import importlib
import os
import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from trainables.data.errors import DataError

from .csvs import read_csv
from .files import absolute
from .folders import has_own_pictures, read_folders, read_pictures
from .table import Table

METADATA = "metadata.csv"  # of image folders as the Hugging Face hub has them
TABLES = (".csv", ".tsv")
UNLABELLED = "not known"


class Layout(NamedTuple):
    """A data set that is known by its own files.

    Attributes:
        signs: what lies in its folder, all of it; `a|b` where either does.
        inside: the folder's name where it is unpacked, for a path to what it was unpacked into.
        read: the folder → its table.
    """

    signs: tuple[str, ...]
    inside: str
    read: Callable[[Path], Table]

    def fits(self, folder: Path) -> bool:
        """Whether all signs lie in this folder."""
        return all(any((folder / one).exists() for one in sign.split("|")) for sign in self.signs)


@functools.cache
def layouts() -> tuple[Layout, ...]:
    """The layouts of this package's modules, by the modules' names."""
    package = importlib.import_module(__package__)
    found = [module.name for module in pkgutil.iter_modules(package.__path__)]
    names = sorted(name for name in found if not name.startswith("_"))
    modules = [importlib.import_module(f"{__package__}.{name}") for name in names]
    return tuple(module.LAYOUT for module in modules if hasattr(module, "LAYOUT"))


def read_table(path: Path | str) -> Table:
    """The table of the data at a path.

    Args:
        path: a CSV or TSV; the folder of a known benchmark, or the one it was unpacked into; a
            folder with `metadata.csv`; a folder of classes, or of train, validation and test.

    Raises:
        DataError: there is nothing, it is none of these, or it is damaged.
    """
    path = absolute(os.path.expanduser(path))
    if not os.path.exists(path):
        raise DataError(f"{path} does not exist")
    if not path.is_dir():
        if path.suffix.lower() not in TABLES:
            raise DataError(f"data must be a folder, or a file {' or '.join(TABLES)}; got {path}")
        return read_csv(path)
    if known := _known(path):
        layout, folder = known
        return layout.read(folder)
    if (path / METADATA).is_file():
        return read_csv(path / METADATA)
    return read_folders(path)


def read_gallery(path: Path | str) -> tuple[Table, bool]:
    """The table of pictures to search among, and whether their classes are known.

    As `read_table`, and further: a folder in which pictures lie, of which all pictures in depth are
    taken, and a CSV without labels. Their rows have the label `UNLABELLED`.

    Raises:
        DataError: as `read_table`.
    """
    path = absolute(os.path.expanduser(path))
    if path.is_file() and path.suffix.lower() in TABLES:
        table = read_csv(path, UNLABELLED)
        return table, table.classes != (UNLABELLED,)
    plain = path.is_dir() and not _known(path) and not (path / METADATA).is_file()
    if plain and (has_own_pictures(path) or not any(path.iterdir())):
        return read_pictures(path, UNLABELLED), False
    return read_table(path), True


def _known(path: Path) -> tuple[Layout, Path] | None:
    """The layout that is known at a path, and its folder.

    Raises:
        DataError: there are several.
    """
    places = [(layout, path / layout.inside) for layout in layouts()]
    found = [(layout, path) for layout in layouts() if layout.fits(path)]
    found = found or [(layout, folder) for layout, folder in places if layout.fits(folder)]
    if len(found) > 1:
        names = ", ".join(layout.inside for layout, _ in found)
        raise DataError(f"a path must lead to one data set; {path} holds {names}")
    return found[0] if found else None
