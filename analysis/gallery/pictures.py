"""The pictures to search among: files of any kind, or the images that a study was judged on."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from study.results.images import dataset_of, validation_images
from study.results.studies import Study
from trainables.data import DataError, Dataset, LabelledImages
from trainables.data.own import OwnData
from trainables.data.pixels.decode import Box
from trainables.data.tables.files import absolute
from trainables.data.tables.sources import read_gallery

Bytes = NDArray[np.uint8]
INDEXES = ".retrieval-index"  # hidden, so that no folder of pictures has it for a class


class Loaded(NamedTuple):
    """Some pictures of a gallery.

    Attributes:
        pixels: (n, C, H, W) of those that could be read.
        places: (n,) theirs.
        reasons: by place, why the others could not.
    """

    pixels: Bytes
    places: NDArray[np.int64]
    reasons: dict[int, str]


@dataclass(frozen=True, eq=False)
class Gallery:
    """N pictures.

    Attributes:
        title: what they are, for people.
        names: N, to be shown.
        labels: N names of classes; None where they are not known.
        states: N texts, each of which is another one if the picture is another one.
        index: the folder that keeps the indexes.
        paths: N absolute paths; None for images that are not files.
        load: the pictures at places (n,), in order.
        left_out: (path, why) of what was found beside them and not taken.
    """

    title: str
    names: tuple[str, ...]
    labels: tuple[str, ...] | None
    states: tuple[str, ...]
    index: Path
    paths: tuple[str, ...] | None
    load: Callable[[NDArray[np.int64]], Loaded]
    left_out: tuple[tuple[str, str], ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def fingerprint(self) -> str:
        """Of the states and their order."""
        return hashlib.sha256("\n".join(self.states).encode()).hexdigest()

    def place_of(self, path: Path) -> int:
        """Where a file stands in it, -1 if it does not."""
        mine = self._places.get(os.path.abspath(path))
        return self._places.get(os.path.realpath(path), -1) if mine is None else mine

    @cached_property
    def _places(self) -> dict[str, int]:
        paths = list(enumerate(self.paths or ()))
        real = {os.path.realpath(path): place for place, path in reversed(paths)}
        return real | {path: place for place, path in paths}


def of_study(study: Study, data_dir: Path | str | None = None) -> Gallery:
    """The gallery of a study's validation images, which of one's own data are files.

    Raises:
        StudyError, DataError: as `validation_images`.
    """
    images = validation_images(study, data_dir)
    places = next(iter(images.protocols.values())).gallery
    data = images.data.take(places)
    numbered = [f"validation image {place}" for place in places]
    names = [images.names[place] for place in places] if images.names else numbered
    config = study.trials[0].config
    whose = f"{config.dataset} {config.data_fingerprint}"
    return Gallery(
        title=f"the study's {len(data):,} {images.name}",
        names=tuple(names),
        labels=tuple(images.classes[label] for label in data.labels),
        states=distinct([f"{whose} {name}" for name in names]),
        index=study.folder / "index",
        paths=_paths(dataset_of(study.info["plan"], data_dir), names),
        load=lambda places: _of_memory(data, places),
    )


def _paths(dataset: Dataset, names: list[str]) -> tuple[str, ...] | None:
    """The absolute paths of a data set's images; None where they are not files."""
    if not isinstance(dataset, OwnData):
        return None
    paths = dict(zip(dataset.table.names, dataset.table.rows["path"], strict=True))
    return tuple(str(paths[name]) for name in names)


def of_files(path: Path | str, dataset: Dataset) -> Gallery:
    """The pictures of a folder or a CSV, read as the data set would.

    Raises:
        DataError: there are none, or the list of them is damaged.
    """
    table, labelled = read_gallery(path)
    place = absolute(os.path.expanduser(path))
    boxes: list[Box | None] = [None] * len(table)
    if table.boxes is not None:
        boxes = [None if box[0] < 0 else tuple(map(float, box)) for box in table.boxes]  # type: ignore[misc]
    paths = tuple(table.rows["path"])
    folder = place if place.is_dir() else place.parent
    return Gallery(
        title=f"{len(table):,} pictures of {table.source}",
        names=table.names,
        labels=tuple(table.rows["label"]) if labelled else None,
        states=tuple(_state(folder, path, box) for path, box in zip(paths, boxes, strict=True)),
        # A list of some pictures of a folder has an index of its own.
        index=folder / INDEXES / ("" if place.is_dir() else place.name),
        paths=paths,
        load=lambda places: load([(paths[place], boxes[place]) for place in places], dataset),
        left_out=tuple(one for one in table.left_out if not one[0].startswith(INDEXES)),
    )


def load(pictures: list[tuple[str, Box | None]], dataset: Dataset) -> Loaded:
    """Pictures of files; threads, as Pillow's codecs run beside each other."""

    def one(picture: tuple[str, Box | None]) -> Bytes | str:
        try:
            return dataset.picture(*picture)
        except DataError as error:
            return str(error)

    with ThreadPoolExecutor() as pool:
        found = list(pool.map(one, pictures))
    reasons = {place: one for place, one in enumerate(found) if isinstance(one, str)}
    read = [one for one in found if not isinstance(one, str)]
    places = [place for place in range(len(found)) if place not in reasons]
    pixels = np.stack(read) if read else np.empty((0, 1, 1, 1), np.uint8)
    return Loaded(pixels, np.array(places, np.int64), reasons)


def _of_memory(images: LabelledImages, places: NDArray[np.int64]) -> Loaded:
    return Loaded(images.take(places).images, np.arange(len(places)), {})


def distinct(states: Iterable[str]) -> tuple[str, ...]:
    """The same, with a number where one was there before: of a file's second box."""
    seen: Counter[str] = Counter()
    found = []
    for state in states:
        seen[state] += 1
        found.append(state if seen[state] == 1 else f"{state} #{seen[state]}")
    return tuple(found)


def _state(folder: Path, path: str, box: Box | None) -> str:
    """Of a file, by its place in the gallery's folder; its inode's time tells swapped names."""
    name = os.path.relpath(path, folder)
    try:
        found = os.stat(path)
        return f"{name} {found.st_size} {found.st_mtime_ns} {found.st_ctime_ns} {box}"
    except OSError as error:  # it is said when it is read
        return f"{name} {error.strerror}"
