"""What the rest of the project knows of a data set: who trains, who judges, under which name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainables.data.errors import DataError
from trainables.data.images import JudgedImages, Split
from trainables.data.ledger import Reading
from trainables.data.pixels.decode import Box
from trainables.networks import Input


class Asked(NamedTuple):
    """How a study asks for a data set; what a data set does not know must be left as it is.

    Attributes:
        place: where its files are; None for its usual place.
        protocol: which classes train and which judge, by name; None for its own default.
        folds, fold: of the classes that judge meanwhile, which of how many is.
        held_out: classes, by number or name, that are not trained on and are all that is tested.
        judging: others of them that are not trained on either, and alone judge meanwhile; empty:
            those that are trained on do.
        small: a slice of it, for smoke tests.
        grey: pictures without colour.
        input: what the network takes, where pictures are made for it.
    """

    place: Path | None = None
    protocol: str | None = None
    folds: int | None = None
    fold: int = 0
    held_out: tuple[int | str, ...] = ()
    judging: tuple[int | str, ...] = ()
    small: bool = False
    grey: bool = False
    input: Input | None = None


class Dataset(ABC):
    """A data set as a study asked for it. To read it is put off until it is asked for.

    Attributes:
        name: for people, and in a trial's configuration.
        classes: the name of label 0, 1, ...
        held_out: ascending numbers of the classes that are not trained on and are all that is
            tested; empty where that is not by the study's choice.
        judging: ascending numbers of the classes that alone judge meanwhile and are not trained on;
            empty as above.
        described: which classes are judged if not all: ` of Bag and Coat`; else empty.
        changes: of the search space's ranges, as `--space` has them, that its pictures ask for.
        narrowed: the same, of the core of the space alone: `--space wide` has all again. A batch
            size, for one: the smaller it is the more steps a part of an epoch has, so that small
            ones are ahead at low rungs whatever they come to at the end.
        licence: of its pictures, as its makers say; of one's own nobody here knows.
        own_size: whether all its pictures have a size of their own, which the network gets.
        fingerprint: of the rows, the parts and the pixels of one's own data, for which each of its
            pictures is read, and DataError names those that cannot be; empty for one that is known
            by its name, whose files are verified.
        image_size: the side, in pixels, of the squares that the network gets; None: the size that
            all its pictures have.
        tested: how many test images it has, where that is known before they are read; else None.
        notes: how it was read where it could be read otherwise, a line each.
        passed_over: which files were found and not taken, a line at most.
    """

    name: str
    described: str = ""
    held_out: tuple[int, ...] = ()
    judging: tuple[int, ...] = ()
    changes: Mapping[str, Mapping[str, Any]] = {}
    narrowed: Mapping[str, Mapping[str, Any]] = {}
    licence: str = "yours to say"
    own_size: bool = False
    image_size: int | None = None
    tested: int | None = None
    notes: Sequence[str] = ()
    passed_over: Sequence[str] = ()

    def changes_of(self, *, wide: bool) -> Mapping[str, Mapping[str, Any]]:
        """What it asks of the core of the search space, or of the wide one."""
        return {**self.changes, **({} if wide else self.narrowed)}

    @property
    @abstractmethod
    def classes(self) -> tuple[str, ...]: ...

    @property
    def fingerprint(self) -> str:
        return ""

    @abstractmethod
    def split(self) -> Split:
        """What its trials train on and are judged on meanwhile.

        Raises:
            DataError: it cannot be had, or is not as it was asked for.
        """

    def outline(self) -> Split:
        """As `split`, but before any of one's own pictures is read: who trains and who judges,
        and how large pictures are. Its pixels say nothing."""
        return self.split()

    @abstractmethod
    def validation(self) -> JudgedImages:
        """The validation images on which a finished study may be judged; DataError as `split`."""

    @abstractmethod
    def test(self, reading: Reading) -> JudgedImages:
        """The test images, for networks to be judged on: a line of the ledger.

        Args:
            reading: which configurations are to meet the images, and why; it is entered in the
                ledger before they are read.

        Raises:
            DataError: the choices are not frozen, no reason is given, the ledger cannot be written,
                or the images are missing or damaged.
        """

    @abstractmethod
    def shown(self, found: Path) -> JudgedImages:
        """The same images to be looked at beside what a reading found; no network may meet them.

        Args:
            found: the file that the reading left, with its results.

        Raises:
            DataError: that file does not exist, or the images are missing or damaged.
        """

    @abstractmethod
    def picture(self, path: Path | str, box: Box | None = None) -> NDArray[np.uint8]:
        """(C, H, W): any picture as it would be if it were one of these. Its data is not read.

        Args:
            box: left, top, right, lower in pixels of the part to take; None: the whole picture.

        Raises:
            DataError: it cannot be read; the message is the reason, without the path.
        """

    @property
    def described_validation(self) -> str:
        """Of the images of `validation`, as `described` of those of the test."""
        return self.described

    @property
    def validation_chose(self) -> bool:
        """Whether the images of `validation` are those on which trials were judged."""
        return not self.held_out or bool(self.judging)

    def about(self) -> dict[str, Any]:
        """What a study's folder keeps of it, to be read without the data."""
        return {
            "name": self.name,
            "fingerprint": self.fingerprint,
            "described": self.described,
            "classes": list(self.classes),
        }

    @abstractmethod
    def card(self) -> str:
        """What is in it, for people, a fact a line; DataError as `split`."""


def check_found(found: Path) -> None:
    """DataError unless a reading has left its results: then test images may be shown."""
    if not found.is_file():
        law = "the test images are shown beside what a reading of them has found"
        raise DataError(f"{law}; there is no {found}")
