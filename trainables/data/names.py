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
from trainables.laws import did_you_mean

DEFAULT = "fashion_mnist"


def resolve(data: str, asked: Asked = Asked()) -> Dataset:  # noqa: B008  (it is frozen)
    """The data set of a name, or at a path.

    Raises:
        DataError: there is none, or it does not know what is asked of it.
    """
    if data in modules():
        found: Dataset = modules()[data].open_data(asked)
        return found
    if asked.place is None and os.path.isabs(data):  # as a study has it
        check_there(data, " (--data-dir says where a study's data are now)")
    else:
        check_there(str(asked.place or data))
    return own.open_data(data, asked)


def check_there(data: str, hint: str = "") -> None:
    """DataError, with the nearest name or the hint, if data is neither a name nor at a path."""
    if known(data) or os.path.exists(os.path.expanduser(data)):
        return
    law = f"data must be {', '.join(modules())}, or a folder or a CSV"
    near = did_you_mean(os.path.basename(data), modules())
    raise DataError(f"{law}; there is no {data}{near or hint}")


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
