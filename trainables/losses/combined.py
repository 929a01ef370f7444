"""Sums of losses by name: `smooth_ap+normalized_softmax` is an entry like any other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from trainables.knobs import Knob, log, positive
from trainables.losses.entry import Loss


class Combined(nn.Module):
    """The first loss, plus each of the others times its weight.

    Args:
        parts: their entries.
        arguments: of all, by the names that `entry` gives them.
    """

    def __init__(
        self, parts: Sequence[Loss], *, classes: int, width: int, **arguments: Any
    ) -> None:
        super().__init__()
        shared = _shared(parts)
        self.losses = nn.ModuleList()
        self.weights = [1.0, *(arguments[f"{_short(part)}_weight"] for part in parts[1:])]
        for part in parts:
            own = {k.name: arguments[_named(part, k, shared)] for k in part.knobs}
            self.losses.append(part.build(own, classes=classes, width=width))

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """(B, D) and (B,) → a scalar."""
        total = features.new_zeros(())
        for weight, loss in zip(self.weights, self.losses, strict=True):
            total = total + weight * loss(features, labels)
        return total


def entry(parts: Sequence[Loss]) -> Loss:
    """The sum of these losses: their knobs, and a weight of each but the first.

    A knob that two of them have is known by its loss's name too: `triplet_anchors`.

    Raises:
        ValueError: a loss comes twice.
    """
    names = [_short(part) for part in parts]
    if len(set(names)) < len(names):
        raise ValueError(f"a sum must have each loss once; got {' + '.join(names)}")
    shared = _shared(parts)
    knobs = [k._replace(name=_named(part, k, shared)) for part in parts for k in part.knobs]
    knobs += [Knob(f"{name}_weight", 1.0, log(0.1, 10.0), positive) for name in names[1:]]
    return Loss(
        name="+".join(part.name for part in parts),
        title=" + ".join(part.title for part in parts),
        source="; ".join(part.source for part in parts),
        make=partial(Combined, tuple(parts)),
        knobs=tuple(knobs),
        needs_positives=all(part.needs_positives for part in parts),
        part_needs_positives=any(part.needs_positives for part in parts),
        knows_classes=any(part.knows_classes for part in parts),
    )


def _short(part: Loss) -> str:
    return part.name.rpartition(":")[2]


def _shared(parts: Sequence[Loss]) -> Mapping[str, int]:
    """How many of the losses have a knob, by its name."""
    return Counter(knob.name for part in parts for knob in part.knobs)


def _named(part: Loss, knob: Knob, shared: Mapping[str, int]) -> str:
    return knob.name if shared[knob.name] == 1 else f"{_short(part)}_{knob.name}"
