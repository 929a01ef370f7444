"""A name, or the path of one's own pictures → a `Dataset`."""

from __future__ import annotations

import importlib
import os
import pkgutil
from functools import cache
from types import ModuleType

from trainables.data import own
from trainables.data.entry import Asked, Dataset
from trainables.data.errors import DataError
from trainables.data.tables.files import absolute

DEFAULT = "fashion_mnist"


def resolve(data: str, asked: Asked = Asked()) -> Dataset:  # noqa: B008  (it is frozen)
    """The data set of a name, or at a path.

    Raises:
        DataError: there is none, or it does not know what is asked of it.
    """
    if data in modules():
        found: Dataset = modules()[data].open_data(asked)
        return found
    place = asked.place or data
    if not os.path.exists(os.path.expanduser(place)):
        names = ", ".join(modules())
        raise DataError(
            f"data must be {names}, or a folder or a CSV; there is no {place}"
            " (--data-dir says where a study's data are now)"
        )
    return own.open_data(data, asked)


def known(data: str) -> bool:
    """Whether data is known by its name, and not by its path."""
    return data in modules()


def placed(data: str) -> str:
    """A name as it is, a path from the root."""
    return data if known(data) else str(absolute(os.path.expanduser(data)))


@cache
def modules() -> dict[str, ModuleType]:
    """The modules of this package that are data sets, by their names."""
    found = {}
    for one in pkgutil.iter_modules([os.path.dirname(__file__)]):
        if not one.name.startswith("_"):
            module = importlib.import_module(f"{__package__}.{one.name}")
            if hasattr(module, "NAME"):
                found[module.NAME] = module
    return found
