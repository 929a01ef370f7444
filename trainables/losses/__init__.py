"""Losses by name: each is an entry in a file of its own; `pml:NAME` is one of
pytorch-metric-learning; `NAME+NAME` is a sum; and `NAME:knob=value,...` one of all these with some
of its knobs fixed."""

from __future__ import annotations

import functools
import importlib
import pkgutil
import re

from trainables.knobs import typed
from trainables.laws import did_you_mean
from trainables.losses import combined
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
    """The entry of this name, whose own name is without blanks, with its settings in order.

    Raises:
        ValueError: there is none, or pytorch-metric-learning is not installed or has none; a sum
            has a loss twice; a setting after the name is no `knob=value`, is there twice, or breaks
            the knob's law.
    """
    name = name.strip()
    base, _, settings = name.rpartition(":")
    if "=" in settings:
        whole = resolve(base)
        if whole.settings or re.search(r"\+\s*[a-z]", settings):
            law = "a loss's settings must stand at its end, after one colon, also those of a sum"
            raise ValueError(f"{law}; got {name!r}")
        return whole.with_settings(_read(settings, name))
    if "+" in name:
        return combined.entry([resolve(part.strip()) for part in name.split("+")])
    if name in _entries():
        return _entries()[name]
    if name.startswith(PML):
        from trainables.losses.pml import entry

        return entry(name.removeprefix(PML))
    law = f"loss must be one of {', '.join(names())}, or pml:NAME, or a sum of these, A+B, "
    law += "and may have :knob=value after it"
    if ".py" in name:
        law += "; one of your own is a file in trainables/losses (study/OWN-IMAGES.md)"
    raise ValueError(f"{law}; got {name!r}{did_you_mean(name, names())}")


def _read(settings: str, name: str) -> dict[str, object]:
    """The settings of a name, by knob."""
    found: dict[str, object] = {}
    for one in settings.split(","):
        knob, equals, value = (part.strip() for part in one.partition("="))
        if not (knob and equals and value) or knob in found:
            law = "a loss's settings must be knob=value, each knob once"
            raise ValueError(f"{law}; got {one!r} in {name!r}")
        found[knob] = typed(value)
    return found
