"""Which images a step sees, and how they are changed: an epoch is drawn at once, on the CPU."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from trainables.config import TrialConfig
from trainables.data import Split
from trainables.orders import check_classes, class_order, plain_order

BLANK = 0  # the pixel of an empty background, before scaling


@dataclass(frozen=True)
class Changes:
    """How each of N images is changed.

    Attributes:
        flip: (N,) bool, mirrored left to right.
        shift: (N, 2) int64, moved down and to the right by so many pixels.
        erase: (N, 2) int64, the upper left corner of the blank square.
        side: of that square; 0 for none.
    """

    flip: Tensor
    shift: Tensor
    erase: Tensor
    side: int

    def to(self, device: torch.device) -> Changes:
        """The same on a device."""
        return Changes(
            self.flip.to(device), self.shift.to(device), self.erase.to(device), self.side
        )

    def take(self, rows: slice) -> Changes:
        """Those of some of the images."""
        return Changes(self.flip[rows], self.shift[rows], self.erase[rows], self.side)


def check_room(config: TrialConfig, split: Split) -> None:
    """ValueError unless the data holds what the configuration takes of it; states the law."""
    for name, part in (("training", split.train), ("validation", split.validation)):
        if config.batch_size > len(part):
            raise ValueError(
                f"batch_size may not exceed the {len(part)} {name} images; got {config.batch_size}"
            )
    side = min(split.train.images.shape[1:])
    for name, pixels in (("shift", config.shift), ("erase", config.erase)):
        if pixels >= side:  # nothing would be left of an image
            raise ValueError(f"{name} must be below the images' {side} pixels; got {pixels}")
    counts = np.unique(split.train.labels, return_counts=True)[1]
    if config.per_class is not None:
        check_classes(len(counts), config.batch_size, config.per_class)
    if config.entry.needs_positives and counts.max() < 2:
        raise ValueError(f"{config.loss} needs 2 training images of one class; got 1 of each")
    if np.unique(split.validation.labels, return_counts=True)[1].max() < 2:
        raise ValueError("validation needs 2 images of one class; got 1 of each")


def draw_order(labels: Tensor, config: TrialConfig, generator: torch.Generator) -> Tensor:
    """The rows that each step of an epoch takes, (steps, batch_size) int64 on the CPU.

    An epoch is as many steps for every loss: whole batches of the images.

    Args:
        labels: (N,) on the CPU.

    Raises:
        ValueError: there are fewer classes than a batch of `per_class` images each has.
    """
    size = config.batch_size
    steps = len(labels) // size
    if config.per_class is None:
        return plain_order(len(labels), steps, size, generator)
    return class_order(labels, steps, size, config.per_class, generator)


def draw_changes(
    count: int, height: int, width: int, config: TrialConfig, generator: torch.Generator
) -> Changes | None:
    """How so many images are changed, independently of each other; None if they stay."""
    if not (config.flip or config.shift or config.erase):
        return None
    corner = torch.tensor([height, width]) - min(config.erase, height, width) + 1
    return Changes(
        flip=torch.rand(count, generator=generator) < (0.5 if config.flip else 0.0),
        shift=torch.randint(-config.shift, config.shift + 1, (count, 2), generator=generator),
        erase=(torch.rand(count, 2, generator=generator) * corner).long(),
        side=config.erase,
    )


def change(images: Tensor, changes: Changes) -> Tensor:
    """(B, H, W) uint8, changed; what comes in from outside is blank."""
    height, width = images.shape[1:]
    far = max(height, width)  # no shift can matter that is larger
    shift = changes.shift.clamp(-far, far)
    rows = torch.arange(height, device=images.device) - shift[:, :1]
    columns = torch.arange(width, device=images.device) - shift[:, 1:]
    columns = torch.where(changes.flip[:, None], width - 1 - columns, columns)
    inside = _within(rows, height)[:, :, None] & _within(columns, width)[:, None, :]
    places = rows.clamp(0, height - 1)[:, :, None] * width + columns.clamp(0, width - 1)[:, None]
    moved = images.flatten(1).gather(1, places.flatten(1)).view_as(images)
    down = torch.arange(height, device=images.device) - changes.erase[:, :1]
    right = torch.arange(width, device=images.device) - changes.erase[:, 1:]
    erased = _within(down, changes.side)[:, :, None] & _within(right, changes.side)[:, None, :]
    return moved.masked_fill_(~inside | erased, BLANK)


def _within(places: Tensor, length: int) -> Tensor:
    return (places >= 0) & (places < length)
