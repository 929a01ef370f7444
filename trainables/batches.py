"""Which images a step sees: an epoch is drawn at once, on the CPU."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from trainables.config import TrialConfig
from trainables.data import Split
from trainables.data.images import Rows
from trainables.orders import check_classes, class_order, plain_order


def check_room(config: TrialConfig, split: Split) -> None:
    """ValueError unless the data holds what the configuration takes of it; states the law."""
    if config.batch_size > len(split.train):
        law = f"batch_size may not exceed the {len(split.train)} training images"
        raise ValueError(f"{law}; got {config.batch_size}")
    side = side_of(config.image_size, split)
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


def side_of(image_size: int | None, split: Split) -> int:
    """The smaller side, in pixels, of what a network gets; ValueError if images have less."""
    side = min(split.shape[1:])
    if image_size is not None and image_size > side:
        law = f"image_size may not exceed the images' {side} pixels"
        raise ValueError(f"{law}; got {image_size}")
    return side if image_size is None else image_size


def positives(labels: Rows, batch_size: int) -> float:
    """How many others of its class an image of a random batch of these has, in the mean."""
    counts = np.unique(labels, return_counts=True)[1]
    images = len(labels)
    chance = (counts * (counts - 1)).sum() / (images * (images - 1))
    return (min(batch_size, images) - 1) * float(chance)


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
