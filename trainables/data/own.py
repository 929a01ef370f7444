"""One's own pictures as a data set: a table under a protocol, and its pixels for a network."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.data.card import read_card
from trainables.data.entry import Asked, Dataset, check_found
from trainables.data.errors import DataError
from trainables.data.images import JudgedImages, LabelledImages, Roles, Rows, Split
from trainables.data.ledger import Reading
from trainables.data.partitions import JudgedRows, Partition
from trainables.data.pixels.cache import (
    Decoding,
    Picture,
    Pixels,
    UnreadablePicturesError,
    check_pictures,
    load_pixels,
)
from trainables.data.pixels.decode import Box, decode
from trainables.data.protocols import partition
from trainables.data.tables.files import absolute, passed_over
from trainables.data.tables.sources import read_table
from trainables.data.tables.table import Table
from trainables.networks import Input
from trainables.terminal import told

PROTOCOL = "held_out"
# In a smoke test, of each part: whole classes, until there are so many images.
SMOKE_TRAIN, SMOKE_JUDGED = 1_000, 400
# Images a step that may be searched; the most of them, and the fewest steps an epoch, where they
# are not.
BATCHES, MOST, FEWEST = (16, 32, 64, 128, 256), 128, 10


@dataclass(frozen=True, eq=False)
class OwnData(Dataset):
    """A folder, a CSV or an unpacked benchmark.

    Attributes:
        place: of it, absolute.
        protocol, folds, fold: as `protocols.partition` takes them.
        input: of the network, which decides how pictures are decoded; None: only the card is
            asked for.
        grey: pictures without colour.
        small: whole classes of each part, for smoke tests.
    """

    place: Path
    protocol: str
    folds: int | None
    fold: int
    input: Input | None
    grey: bool
    small: bool

    @property
    def name(self) -> str:  # type: ignore[override]
        return self.place.stem if self.place.is_file() else self.place.name

    @property
    def notes(self) -> Sequence[str]:  # type: ignore[override]
        return self.table.notes

    @property
    def passed_over(self) -> Sequence[str]:  # type: ignore[override]
        return passed_over(self.table.left_out)

    @property
    def image_size(self) -> int:  # type: ignore[override]
        assert self.input is not None
        return self.input.height

    @property
    def tested(self) -> int:  # type: ignore[override]
        return len(self._judged(self.parts.test)[0])

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self.table.classes)

    @property
    def changes(self) -> Mapping[str, Mapping[str, Any]]:  # type: ignore[override]
        """Pictures of things, as this field changes them; a crop moves them too."""
        side = min(self.decoding.height, self.decoding.width)
        return {
            "batch_size": {"choices": sorted({*BATCHES, self._batch}), "default": self._batch},
            "per_class": {"choices": ["none", 2, 4, 8], "default": 4},
            "flip": {"default": True},
            "shift": {"choices": [0]},
            "erase": {"choices": [0, side // 4]},
            "crop": {"choices": ["none", 0.6, 0.2], "default": 0.6},
            "jitter": {"choices": [0.0, 0.1, 0.4], "default": 0.1},
            "loss_lr": {"choices": [1.0, 10.0, 100.0], "default": 10.0},
        }

    @property
    def narrowed(self) -> Mapping[str, Mapping[str, Any]]:  # type: ignore[override]
        """One batch size, since low rungs prefer small ones (`Dataset.narrowed`)."""
        return {"batch_size": {"choices": [self._batch]}}

    @property
    def _batch(self) -> int:
        """Images a step: the most, up to MOST, with which an epoch has FEWEST steps; all of fewer
        than the least batch."""
        images = len(self._train)
        return max(
            (size for size in BATCHES if size <= MOST and FEWEST * size <= images),
            default=min(BATCHES[0], images),
        )

    @cached_property
    def table(self) -> Table:
        return read_table(self.place)

    @cached_property
    def parts(self) -> Partition:
        return partition(self.table, self.protocol, folds=self.folds, fold=self.fold)

    @property
    def decoding(self) -> Decoding:
        """A square, or what has the network's aspect, of which the network gets the centre."""
        assert self.input is not None
        height, width, resize = self.input.height, self.input.width, self.input.resize
        share = resize / min(height, width)
        return Decoding(
            height=round(height * share),
            width=round(width * share),
            channels=1 if self.grey else self.input.channels,
            interpolation=self.input.interpolation,
        )

    @cached_property
    def fingerprint(self) -> str:
        self._check_pictures()
        facts = [
            self.table.fingerprint(),
            [self.protocol, self.folds, self.fold, self.small],
            asdict(self.decoding),
            self._study_pixels.fingerprint,
            self._test_fingerprint,
        ]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]

    def outline(self) -> Split:
        return self._split(self._black)

    def _black(self, rows: Rows) -> LabelledImages:
        decoding = self.decoding
        shape = len(rows), decoding.channels, decoding.height, decoding.width
        return LabelledImages(np.broadcast_to(np.uint8(0), shape), self.table.labels[rows])

    def split(self) -> Split:
        self._check_pictures()
        return self._split(self._images)

    def _split(self, images: Callable[[Rows], LabelledImages]) -> Split:
        train, (judged, roles) = self._train, self._judged(self.parts.validation)
        return Split(
            images(train),
            images(judged),
            roles,
            data=self.table.fingerprint(),
            classes=self.classes,
        )

    def _check_pictures(self) -> None:
        """UnreadablePicturesError names all pictures that cannot be read, of whatever part."""
        found = []
        for part in ("_study_pixels", "_test_fingerprint"):
            try:
                getattr(self, part)
            except UnreadablePicturesError as error:
                found.append(str(error))
        if found:
            raise UnreadablePicturesError("\n".join(found))

    def validation(self) -> JudgedImages:
        split = self.split()
        names = self._names(self._judged(self.parts.validation)[0])
        return JudgedImages(split.validation, {"full": split.roles}, names)

    def test(self, reading: Reading) -> JudgedImages:
        reading.check()
        _ = self.parts  # what is missing is missed before it is logged
        reading.enter()
        return self._test()

    def shown(self, found: Path) -> JudgedImages:
        check_found(found)
        return self._test()

    def picture(self, path: Path | str, box: Box | None = None) -> NDArray[np.uint8]:
        return decode(path, box, self.decoding).pixels

    def about(self) -> dict[str, Any]:
        return {**super().about(), "card": self.card()}

    def card(self) -> str:
        return read_card(self.table, self.parts).text()

    def _test(self) -> JudgedImages:
        rows, roles = self._judged(self.parts.test)
        wanted = self._test_fingerprint
        pixels = load_pixels(self._pictures(rows), self.decoding, progress=told("decoded"))
        if pixels.fingerprint != wanted:
            law = "the test pictures must be those that were there when the study began"
            raise DataError(f"{law}; some of {self.place} were changed")
        images = LabelledImages(pixels, self.table.labels[rows])
        return JudgedImages(images, {"full": roles}, self._names(rows))

    @cached_property
    def _train(self) -> Rows:
        """The table's rows to train on, in the order that was drawn."""
        rows = self.parts.train
        return rows[_whole_classes(self.table.labels[rows], SMOKE_TRAIN)] if self.small else rows

    def _judged(self, part: JudgedRows) -> tuple[Rows, Roles]:
        """The table's rows of the images that judge, and their roles."""
        rows, roles = part.rows, part.roles(self.table)
        if self.small:
            drawn = np.random.default_rng(0).permutation(len(rows))
            places = np.sort(drawn[_whole_classes(self.table.labels[rows[drawn]], SMOKE_JUDGED)])
            rows, roles = rows[places], roles.among(places)
        return rows, roles

    @cached_property
    def _study_rows(self) -> Rows:
        """The table's rows whose pixels a study reads, ascending."""
        return np.union1d(self._train, self._judged(self.parts.validation)[0])

    @cached_property
    def _study_pixels(self) -> Pixels:
        pictures = self._pictures(self._study_rows)
        return load_pixels(pictures, self.decoding, progress=told("decoded"))

    @cached_property
    def _test_fingerprint(self) -> str:
        """Of the test pixels, none of which is kept."""
        rows, _ = self._judged(self.parts.test)
        return check_pictures(self._pictures(rows), self.decoding, progress=told("checked"))

    def _images(self, rows: Rows) -> LabelledImages:
        places = np.searchsorted(self._study_rows, rows)
        return LabelledImages(self._study_pixels, self.table.labels[rows], places)

    def _names(self, rows: Rows) -> tuple[str, ...]:
        return tuple(self.table.names[row] for row in rows)

    def _pictures(self, rows: Rows) -> list[Picture]:
        paths, boxes = self.table.rows["path"].to_numpy()[rows], self.table.boxes
        if boxes is None:
            return [(path, None) for path in paths]
        known = [None if box[0] < 0 else tuple(map(float, box)) for box in boxes[rows]]
        return list(zip(paths, known, strict=True))  # type: ignore[arg-type]


def open_data(data: str, asked: Asked) -> OwnData:
    """At a path, as a study asks for it; DataError if it asks for what there is not."""
    if given := [*asked.held_out, *asked.judging]:
        law = "held-out classes of one's own data are drawn, or named by its test split"
        raise DataError(f"{law}; got {', '.join(map(str, given))}")
    place = absolute(os.path.expanduser(asked.place or data))
    if asked.place and os.path.isdir(place) and data.lower().endswith((".csv", ".tsv")):
        place = place / os.path.basename(data)  # the folder to which the table was moved
    return OwnData(
        place=place,
        protocol=asked.protocol or PROTOCOL,
        folds=asked.folds,
        fold=asked.fold,
        input=asked.input,
        grey=asked.grey,
        small=asked.small,
    )


def _whole_classes(labels: Rows, images: int) -> Rows:
    """Places, ascending, of the images of the first classes that have so many together."""
    classes, first, counts = np.unique(labels, return_index=True, return_counts=True)
    order = np.argsort(first)
    needed = int(np.searchsorted(counts[order].cumsum(), images)) + 1
    return np.flatnonzero(np.isin(labels, classes[order[: max(needed, 4)]]))
