"""Which images each step of an epoch sees: by chance alone, or so many of each class."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainables.laws import integer

Integers = NDArray[np.int64]


def plain_order(images: int, steps: int, batch_size: int, generator: torch.Generator) -> Tensor:
    """The rows that each step takes, (steps, batch_size) int64: each image at most once.

    Args:
        generator: on the CPU, of all that is drawn.

    Raises:
        ValueError: there are fewer images than the steps take.
    """
    _check_steps(steps, batch_size)
    if steps * batch_size > images:
        law = f"steps * batch_size may not exceed the {images} images"
        raise ValueError(f"{law}; got {steps} * {batch_size} = {steps * batch_size}")
    drawn = torch.randperm(images, generator=generator)[: steps * batch_size]
    return drawn.view(steps, batch_size)


def class_order(
    labels: Tensor, steps: int, batch_size: int, per_class: int, generator: torch.Generator
) -> Tensor:
    """The rows that each step takes, (steps, batch_size) int64 on the CPU, in mixed order.

    A batch has batch_size / per_class classes of per_class images each. Classes are drawn evenly,
    however many images they have, and so are the images of a class: none comes again before all
    of its class have had their turn. A batch holds an image twice only if its class has fewer than
    per_class, and then each of them equally often, to within one.

    Args:
        labels: (N,) integers on the CPU, any numbers.
        generator: on the CPU, of all that is drawn.

    Raises:
        ValueError: as `check_classes`.
    """
    _check_steps(steps, batch_size)
    _, classes, sizes = np.unique(labels.numpy(), return_inverse=True, return_counts=True)
    check_classes(len(sizes), batch_size, per_class)
    drawn = _class_draws(len(sizes), steps, batch_size // per_class, generator).reshape(-1)
    times = np.bincount(drawn, minlength=len(sizes))
    rows = np.empty((len(drawn), per_class), dtype=np.int64)
    rows[drawn.argsort(kind="stable")] = _image_draws(classes, sizes, times, per_class, generator)
    mixed = _chances((steps, batch_size), generator).argsort(axis=1)
    return torch.from_numpy(np.take_along_axis(rows.reshape(steps, batch_size), mixed, axis=1))


def check_classes(classes: int, batch_size: int, per_class: int) -> None:
    """ValueError unless so many classes fill a batch with per_class images each."""
    integer("per_class", per_class, 1)
    if batch_size % per_class:
        raise ValueError(f"per_class must divide batch_size, {batch_size}; got {per_class}")
    if batch_size // per_class > classes:
        law = f"batch_size / per_class may not exceed the {classes} classes"
        raise ValueError(f"{law}; got {batch_size} / {per_class} = {batch_size // per_class}")


def _check_steps(steps: int, batch_size: int) -> None:
    integer("steps", steps, 0)
    integer("batch_size", batch_size, 1)


def _class_draws(classes: int, steps: int, wanted: int, generator: torch.Generator) -> Integers:
    """(steps, wanted) numbers of classes, no number twice in a row.

    One shuffle of all classes after the other is dealt out; the few at its end that fill no batch
    are passed over, others each time.
    """
    batches = classes // wanted
    shuffles = _chances((-(-steps // batches), classes), generator).argsort(axis=1)
    return shuffles[:, : batches * wanted].reshape(-1, wanted)[:steps]


def _image_draws(
    classes: Integers, sizes: Integers, times: Integers, per_class: int, generator: torch.Generator
) -> Integers:
    """(sum of `times`, per_class) rows, `times[c]` groups of class c after those of class c - 1.

    A class is gone through in one random order again and again. With each pass, blocks of
    s - per_class + 1 of its s images are shuffled in themselves: an image then comes again
    per_class places later at the earliest, so that a group has none twice.

    Args:
        classes: (N,) the class of each image, 0 to C - 1.
        sizes, times: (C,) each class's images, and how often it was drawn.
    """
    members = (classes + _chances(classes.shape, generator)).argsort()  # of class 0, of class 1 ...
    draws = times * per_class
    place = np.arange(draws.sum()) - (draws.cumsum() - draws).repeat(draws)
    place %= sizes.repeat(draws)
    block = np.maximum(sizes - per_class + 1, 1).repeat(draws)
    number = (place % block == 0).cumsum()  # of the block: each begins where this is so
    place = place[(number + _chances(place.shape, generator)).argsort()]
    rows = members[(sizes.cumsum() - sizes).repeat(draws) + place]
    return rows.reshape(-1, per_class)


def _chances(shape: tuple[int, ...], generator: torch.Generator) -> NDArray[np.float64]:
    """Numbers in [0, 1), in float64: of 10,000 in float32 some would be equal."""
    return torch.rand(shape, dtype=torch.float64, generator=generator).numpy()
