"""Images and labels: how they are split, protocolled, and given to be judged on.

Images stay uint8 in memory (54 MB for all of Fashion-MNIST); `scale` maps a batch to [-1, 1].
The test images are given by `load_test` alone, with a line of the ledger, and by `show_test` to be
looked at beside what was found.

`python -m trainables.data` says where Fashion-MNIST is, downloading it if need be;
`python -m trainables.data PATH` prints the data card of one's own pictures.

To be read from a folder, a CSV or an unpacked benchmark: `sources.read_table` → `table.Table`; who
trains, who judges and who is retrieved: `protocols.partition`; one array of pixels, decoded once:
`pixels.load_pixels`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from trainables.data import fashion_mnist
from trainables.data.errors import DataError
from trainables.data.ledger import Reading

CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
VALIDATION_FRACTION = 0.1
SPLIT_SEED = 20_201_123  # of the training/validation split alone: no trial's seed moves it


@dataclass(frozen=True)
class LabelledImages:
    """Images (N, H, W) uint8 and their classes (N,) int64; DataError if they do not fit."""

    images: np.ndarray
    labels: np.ndarray

    def __post_init__(self) -> None:
        if self.images.dtype != np.uint8 or self.images.ndim != 3:
            raise DataError(
                f"images must be uint8 of shape (N, H, W); "
                f"got {self.images.dtype} {self.images.shape}"
            )
        if self.labels.shape != self.images.shape[:1]:
            raise DataError(
                f"one label an image: {len(self.images)} images, labels {self.labels.shape}"
            )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of an image."""
        return (1, *self.images.shape[1:])

    def take(self, rows: slice | np.ndarray) -> LabelledImages:
        """The images and labels at these rows."""
        return LabelledImages(self.images[rows], self.labels[rows])

    def tensors(self, device: str | torch.device = "cpu") -> tuple[Tensor, Tensor]:
        """Images (N, H, W) uint8 and labels (N,) int64 on a device; on the CPU without a copy."""
        with warnings.catch_warnings():
            # Ray's object store hands out read-only arrays; nothing here writes to an image.
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            return (
                torch.from_numpy(self.images).to(device),
                torch.from_numpy(self.labels).to(device),
            )


@dataclass(frozen=True)
class Split:
    """What a study may read: the training images and those that it is judged on meanwhile."""

    train: LabelledImages
    validation: LabelledImages

    def __post_init__(self) -> None:
        for name, part in (("training", self.train), ("validation", self.validation)):
            classes = np.unique(part.labels)
            if len(classes) < 2:
                raise DataError(
                    f"retrieval needs at least 2 classes; "
                    f"the {name} labels hold {len(classes)}: {classes.tolist()}"
                )

    @property
    def trained(self) -> int:
        """How many classes there are in training."""
        return len(np.unique(self.train.labels))

    @property
    def same_classes(self) -> bool:
        """Whether each validation image is of a class of training."""
        return bool(np.isin(self.validation.labels, self.train.labels).all())

    def renumbered(self) -> Split:
        """The same images with the classes of training numbered from 0, in ascending order; those
        of validation alone come after them."""
        known = np.unique(self.train.labels)
        classes = np.concatenate([known, np.setdiff1d(self.validation.labels, known)])
        order = np.argsort(classes)
        train, validation = (
            LabelledImages(part.images, order[np.searchsorted(classes[order], part.labels)])
            for part in (self.train, self.validation)
        )
        return Split(train, validation)


class Protocol(NamedTuple):
    """Retrieve from the first `gallery` test images, with the first `queries` of them."""

    gallery: int
    queries: int


PROTOCOLS = {"seed": Protocol(1_000, 100), "full": Protocol(10_000, 10_000)}


def load_split(folder: Path | str | None = None) -> Split:
    """Fashion-MNIST's 60,000 training images as 54,000 to train on and 6,000 to validate on."""
    return stratified_split(_load("train", folder))


def load_test(folder: Path | str | None = None, *, reading: Reading) -> LabelledImages:
    """Fashion-MNIST's 10,000 test images, for networks to be judged on: a line of the ledger.

    Args:
        folder: as for `find_fashion_mnist`.
        reading: which configurations are to meet the images, and why; it is entered in the ledger
            before they are read.

    Raises:
        DataError: the choices are not frozen, no reason is given, the ledger cannot be written,
            or the images are missing or damaged.
    """
    reading.check()
    fashion_mnist.find_fashion_mnist(folder)  # what is missing is missed before it is logged
    reading.enter()
    return _load("test", folder)


def show_test(folder: Path | str | None = None, *, found: Path) -> LabelledImages:
    """The same images to be looked at beside what a reading found; no network may meet them.

    Args:
        folder: as for `find_fashion_mnist`.
        found: the file that the reading left, with its results.

    Raises:
        DataError: that file does not exist, or the images are missing or damaged.
    """
    if not found.is_file():
        law = "the test images are shown beside what a reading of them has found"
        raise DataError(f"{law}; there is no {found}")
    return _load("test", folder)


class Dataset(NamedTuple):
    """A dataset by name: its training split, its test images (`load_test(folder, reading=...)` to
    judge on, `show_test(folder, found=...)` to look at), and its classes' names."""

    load_split: Callable[[Path | str | None], Split]
    load_test: Callable[..., LabelledImages]
    show_test: Callable[..., LabelledImages]
    classes: tuple[str, ...]


DATASETS = {"fashion_mnist": Dataset(load_split, load_test, show_test, CLASSES)}


def stratified_split(data: LabelledImages, seed: int = SPLIT_SEED) -> Split:
    """A tenth of each class for validation; both parts in an order that this seed fixes."""
    order = np.random.default_rng(seed).permutation(len(data))
    validation = np.zeros(len(data), dtype=bool)
    for label in np.unique(data.labels):
        rows = order[data.labels[order] == label]
        validation[rows[: round(VALIDATION_FRACTION * len(rows))]] = True
    return Split(data.take(order[~validation[order]]), data.take(order[validation[order]]))


def slice_of(split: Split, train: int, validation: int) -> Split:
    """The first images of each part of a split, for smoke tests."""
    return Split(split.train.take(slice(train)), split.validation.take(slice(validation)))


def class_numbers(given: Iterable[int | str], names: Sequence[str] = CLASSES) -> list[int]:
    """Ascending numbers of classes that are given by number or by name, whatever its case.

    Raises:
        DataError: there is no such class, or it is given twice.
    """
    known = {name.lower(): number for number, name in enumerate(names)}
    known |= {str(number): number for number in range(len(names))}
    wanted = [str(one).strip().lower() for one in given]
    for one in wanted:
        if one not in known:
            classes = ", ".join(f"{number} {name}" for number, name in enumerate(names))
            raise DataError(f"a class must be one of {classes}; got {one!r}")
    numbers = sorted(known[one] for one in wanted)
    if len(set(numbers)) < len(numbers):
        raise DataError(f"classes must be named once each; got {', '.join(wanted)}")
    return numbers


def hold_out(split: Split, classes: Sequence[int]) -> Split:
    """The split without the images of these classes."""
    return Split(
        split.train.take(~np.isin(split.train.labels, classes)),
        split.validation.take(~np.isin(split.validation.labels, classes)),
    )


def _load(part: str, folder: Path | str | None) -> LabelledImages:
    images, labels = fashion_mnist.read(part, folder)
    return LabelledImages(images, labels.astype(np.int64))
