"""Names and numbers as readers know them."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable

import pandas as pd

from trainables.losses import Loss, resolve

WORDS = {  # where the name that the code has says too little
    "anchors": "anchors a batch",
    "averaging": "weight averaging",
    "per_class": "images a class",
    "batch_size": "images a batch",
    "crop": "least cropped share",
    "erase": "erased square",
    "flip": "mirrored",
    "head_lr": "learning rate of the head",
    "jitter": "colours changed by",
    "loss_lr": "learning rate of the loss",
    "lr": "learning rate",
    "lr_factor": "relative learning rate",
    "max_epochs": "epochs asked for",
    "schedule": "learning rate schedule",
    "shift": "shifted",
    "tau": "τ",
    "warmup": "warm-up",
}


LONG = 40  # letters of a loss's name for which a figure has room
CUT = 56  # to which it is cut there, with what may follow it
FOLLOWS = ", best so far"  # the longest that does
_SHORT: dict[str, str] = {}  # by loss, on the page that is being made


def settle_names(losses: Iterable[str]) -> None:
    """Gives the losses of a page their names: settings that would make them too long are told only
    where others of the same loss have other ones. All of them stand in the page's tables. Names
    that a figure would cut alike are numbered."""
    _SHORT.clear()
    found: dict[str, list[Loss]] = {}
    every = list(dict.fromkeys(losses))
    for loss in every:
        with contextlib.suppress(ValueError):  # of a record whose loss is not to be had here
            entry = resolve(loss)
            base = entry.name.rpartition(":")[0] if entry.settings else entry.name
            found.setdefault(base, []).append(entry)
    for base, entries in found.items():
        knobs = {knob for entry in entries for knob in entry.settings}
        differ = {
            knob for knob in knobs if len({repr(e.settings.get(knob, ...)) for e in entries}) > 1
        }
        for entry in entries if max(len(e.title) for e in entries) > LONG else []:
            kept = {knob: value for knob, value in entry.settings.items() if knob in differ}
            alone = resolve(base)
            _SHORT[entry.name] = (alone.with_settings(kept) if kept else alone).title
    alike: dict[str, list[str]] = {}
    for loss in every:
        alike.setdefault(cut(loss_name(loss) + FOLLOWS, CUT), []).append(loss)
    for those in alike.values():
        for number, loss in enumerate(sorted(those) if len(those) > 1 else [], start=1):
            _SHORT[loss] = f"{loss_name(loss)} ({number})"


def loss_name(loss: str) -> str:
    """The loss as readers know it; on a page, as `settle_names` has it."""
    if loss in _SHORT:
        return _SHORT[loss]
    try:
        return resolve(loss).title
    except ValueError:  # of a record whose loss is not to be had here
        return loss


def words(status: str) -> str:
    """A status or a knob's name as readable words."""
    return WORDS.get(status, status.replace("_", " "))


def capital(sentence: str) -> str:
    """The same with a capital at its beginning."""
    return sentence[:1].upper() + sentence[1:]


def cut(name: str, letters: int = 24) -> str:
    """A name in a figure: a long one without its middle, as long ones often differ at their end."""
    if len(name) <= letters:
        return name
    end = letters // 3
    return f"{name[: letters - end - 1].rstrip()}…{name[-end:].lstrip()}"


def listed(items: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)


def plural(count: int, one: str, many: str = "") -> str:
    """`1 trial`, `2,000 trials`; `many` where it is not `one` with an s."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def epochs(count: float) -> str:
    """`1 epoch`, `0.111 epochs`, `2,000 epochs`."""
    return f"{count:.3g} epochs" if count % 1 else plural(int(count), "epoch")


def text(value: object) -> str:
    """A table's cell: numbers to four digits, nothing for what is missing."""
    if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
