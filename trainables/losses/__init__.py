"""Losses by name: each is an entry in a file of its own; `pml:NAME` is one of
pytorch-metric-learning."""

from __future__ import annotations

import difflib
import functools
import importlib
import pkgutil

from trainables.losses.entry import Arguments, Loss
from trainables.losses.smooth_ap import smooth_ap_loss
from trainables.losses.triplet import triplet_loss

__all__ = ["Arguments", "Loss", "names", "resolve", "smooth_ap_loss", "triplet_loss"]
PML = "pml:"


@functools.cache
def _entries() -> dict[str, Loss]:
    """The `LOSS` of each file of this folder, by name."""
    found = {}
    for module in pkgutil.iter_modules(__path__, f"{__name__}."):
        if not module.ispkg:
            entry = getattr(importlib.import_module(module.name), "LOSS", None)
            if entry is not None:
                found[entry.name] = entry
    return found


def names() -> list[str]:
    """The losses of this folder."""
    return list(_entries())


@functools.cache
def resolve(name: str) -> Loss:
    """The entry of this name.

    Raises:
        ValueError: there is none, or pytorch-metric-learning is not installed or has none.
    """
    if name in _entries():
        return _entries()[name]
    if name.startswith(PML):
        from trainables.losses.pml import entry

        return entry(name.removeprefix(PML))
    near = difflib.get_close_matches(name, names(), 1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise ValueError(f"loss must be one of {', '.join(names())}, or pml:NAME; got {name!r}{hint}")
