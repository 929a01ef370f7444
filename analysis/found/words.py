"""Names and numbers as readers know them."""

from __future__ import annotations

import math

import pandas as pd

from trainables.losses import resolve

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


def loss_name(loss: str) -> str:
    """The loss as readers know it."""
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
