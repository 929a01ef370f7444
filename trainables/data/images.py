"""Labelled images, the roles in which they judge a network, and what a study may read of them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainables.data.errors import DataError
from trainables.data.pixels.cache import Pixels

Rows = NDArray[np.int64]


class LabelledImages:
    """N images, as rows of an array of pixels that others may share, and their classes.

    Args:
        pixels: (M, C, H, W) uint8, or `Pixels` that hold it in a file.
        labels: (N,) integers.
        rows: (N,) the row of each image; None: all M in order.

    Raises:
        DataError: they do not fit.
    """

    def __init__(
        self, pixels: np.ndarray | Pixels, labels: np.ndarray, rows: np.ndarray | None = None
    ) -> None:
        array = pixels.array if isinstance(pixels, Pixels) else pixels
        if array.dtype != np.uint8 or array.ndim != 4:
            raise DataError(
                f"images must be uint8 of shape (N, C, H, W); got {array.dtype} {array.shape}"
            )
        self.pixels = pixels
        self.labels = np.asarray(labels, dtype=np.int64)
        self.rows: Rows = np.arange(len(array)) if rows is None else np.asarray(rows, np.int64)
        if self.labels.shape != self.rows.shape:
            raise DataError(
                f"one label an image: {len(self.rows)} images, labels {self.labels.shape}"
            )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def array(self) -> np.ndarray:
        """(M, C, H, W) uint8, in which `rows` are these images."""
        return self.pixels.array if isinstance(self.pixels, Pixels) else self.pixels

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of an image."""
        channels, height, width = self.array.shape[1:]
        return channels, height, width

    @property
    def images(self) -> np.ndarray:
        """(N, C, H, W) uint8, a copy: for few of them."""
        return self.array[self.rows]

    def take(self, rows: slice | np.ndarray) -> LabelledImages:
        """The images at these places, of the same array."""
        return LabelledImages(self.pixels, self.labels[rows], self.rows[rows])

    def relabelled(self, labels: np.ndarray) -> LabelledImages:
        """The same images with other labels."""
        return LabelledImages(self.pixels, labels, self.rows)

    def tensor(self) -> Tensor:
        """(M, C, H, W) uint8 on the CPU, without a copy; not to be written to."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            return torch.from_numpy(self.array)


@dataclass(frozen=True, eq=False)
class Roles:
    """Who of N images asks, and among whom is searched.

    Attributes:
        queries: (Q,) places of images, none twice.
        gallery: (G,) places of images, none twice, in the order that ranks equal distances.
        groups: (N,) int64, -1 for none: images of one group (a camera's sequence) are not retrieved
            for each other; None: there are no groups.
    """

    queries: Rows
    gallery: Rows
    groups: Rows | None = None

    @classmethod
    def first(cls, queries: int, gallery: int) -> Roles:
        """The first of the images ask, among the first."""
        return cls(np.arange(queries), np.arange(gallery))

    @property
    def own(self) -> Rows:
        """(Q,) int64: each query's place in the gallery, -1 for a query that is not in it."""
        return own_places(self.queries, self.gallery)

    @property
    def ranked(self) -> int:
        """How many gallery images every query ranks at least, itself and its group left out."""
        left_out = (self.own >= 0).astype(np.int64)
        if self.groups is not None:
            groups = self.groups[self.queries]
            counts = np.bincount(self.groups[self.gallery] + 1, minlength=self.groups.max() + 2)
            left_out = np.where(groups >= 0, counts[groups + 1], left_out)
        return int(len(self.gallery) - left_out.max(initial=0))

    def relevant(self, labels: Rows) -> Rows:
        """(Q,) int64: how many gallery images are of each query's class; neither the query itself
        is counted nor its group.

        Args:
            labels: (N,) of the images.
        """
        left_out = (self.own >= 0).astype(np.int64)
        if self.groups is not None:
            alike = self._like_queries(labels * (self.groups.max() + 2) + self.groups)
            left_out = np.where(self.groups[self.queries] >= 0, alike, left_out)
        return np.asarray(self._like_queries(labels) - left_out)

    def _like_queries(self, kinds: Rows) -> Rows:
        """(Q,) how many gallery images are of each query's kind, of kinds (N,)."""
        _, kinds = np.unique(kinds, return_inverse=True)
        return np.bincount(kinds[self.gallery], minlength=len(kinds))[kinds[self.queries]]

    def among(self, places: Rows) -> Roles:
        """Of the images at these places alone, which are numbered anew in this order."""
        new = np.full(max(self.queries.max(), self.gallery.max(), places.max()) + 1, -1)
        new[places] = np.arange(len(places))
        queries, gallery = new[self.queries], new[self.gallery]
        groups = None if self.groups is None else self.groups[places]
        return Roles(queries[queries >= 0], gallery[gallery >= 0], groups)


def own_places(queries: Rows, gallery: Rows) -> Rows:
    """(Q,) int64: where each query stands in the gallery, -1 for one that does not."""
    if not len(gallery):
        return np.full(len(queries), -1, dtype=np.int64)
    order = np.argsort(gallery)
    place = np.searchsorted(gallery, queries, sorter=order)
    place = order[np.minimum(place, len(order) - 1)]
    return np.where(gallery[place] == queries, place, -1)


class JudgedImages(NamedTuple):
    """Images on which a trained network is judged, by protocol; the first protocol is the answer's.

    Each image is in it once, whatever its roles. Those of files have names to be shown.
    """

    images: LabelledImages
    protocols: Mapping[str, Roles]
    names: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Split:
    """What a study may read: the training images and those that it is judged on meanwhile.

    Attributes:
        roles: of the validation images; by default each of them asks for all others.
        targets: (N, D) float32 of unit length, a teacher's embeddings of the N training images;
            None without a teacher.
        data: the fingerprint of the data that both are of, the same under every protocol; empty
            where its name says it.
        classes: the names of the data's classes, by number; empty where its name says them.
    """

    train: LabelledImages
    validation: LabelledImages
    roles: Roles = None  # type: ignore[assignment]
    targets: NDArray[np.float32] | None = None
    data: str = ""
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.roles is None:
            count = len(self.validation)
            object.__setattr__(self, "roles", Roles.first(count, count))
        for name, part in (("training", self.train), ("validation", self.validation)):
            classes = np.unique(part.labels)
            if len(classes) < 2:
                raise DataError(
                    f"retrieval needs at least 2 classes; "
                    f"the {name} labels hold {len(classes)}: {classes.tolist()}"
                )

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of an image."""
        return self.train.shape

    @property
    def trained(self) -> list[int]:
        """The classes of training, ascending."""
        return np.unique(self.train.labels).tolist()

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
            part.relabelled(order[np.searchsorted(classes[order], part.labels)])
            for part in (self.train, self.validation)
        )
        return Split(train, validation, self.roles, self.targets)

    def sliced(self, train: int, validation: int) -> Split:
        """The first images of each part, of which each that judges asks for all others."""
        targets = None if self.targets is None else self.targets[:train]
        parts = self.train.take(slice(train)), self.validation.take(slice(validation))
        split = Split(*parts, targets=targets)
        return replace(split, data=self.data, classes=self.classes)
