"""A small data set in the place of Fashion-MNIST, which says what was read of it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from trainables.data import Asked, Dataset, JudgedImages, LabelledImages, Split, fashion_mnist
from trainables.data.entry import check_found
from trainables.data.fashion_mnist import (
    CLASSES,
    class_numbers,
    hold_out,
    of_classes,
    protocols,
)
from trainables.data.ledger import Reading
from trainables.data.pixels.decode import Box


@dataclass(eq=False)
class SmallData(Dataset):
    """Images in memory under the protocols of Fashion-MNIST, whose name they have.

    Attributes:
        train, judged, tested: the images to train on, to validate on and to test on.
        classes: the name of label 0, 1, ...
        held_out: classes that are not trained on and are all that is tested.
        judging: classes that are not trained on and alone judge meanwhile.
        read: what was read, in order: `split`, `validation`, `test` or `shown`.
        readings: for which the test images were.
    """

    train: LabelledImages
    judged: LabelledImages
    tested: LabelledImages
    classes: tuple[str, ...] = CLASSES
    held_out: tuple[int, ...] = ()
    judging: tuple[int, ...] = ()
    read: list[str] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)

    name = fashion_mnist.NAME
    own_size = True

    @property
    def described(self) -> str:  # type: ignore[override]
        return of_classes(self.held_out, self.classes)

    @property
    def described_validation(self) -> str:
        return of_classes(self.judging or self.held_out, self.classes)

    def split(self) -> Split:
        self.read.append("split")
        return hold_out(Split(self.train, self.judged), self.held_out, self.judging)

    def validation(self) -> JudgedImages:
        self.read.append("validation")
        return self._judged(self.judged, self.judging or self.held_out)

    def test(self, reading: Reading) -> JudgedImages:
        reading.check()
        reading.enter()
        self.read.append("test")
        self.readings.append(reading)
        return self._judged(self.tested, self.held_out)

    def shown(self, found: Path) -> JudgedImages:
        check_found(found)
        self.read.append("shown")
        return self._judged(self.tested, self.held_out)

    def picture(self, path: Path | str, box: Box | None = None) -> np.ndarray:
        return fashion_mnist.FashionMnist().picture(path, box)

    def card(self) -> str:
        return f"{len(self.train)} images to train on"

    def _judged(self, images: LabelledImages, classes: tuple[int, ...]) -> JudgedImages:
        if classes:
            images = images.take(np.isin(images.labels, classes))
        return JudgedImages(images, protocols(len(images)))


def use(monkeypatch: pytest.MonkeyPatch, dataset: SmallData) -> None:
    """Puts it in the place of Fashion-MNIST; what holds classes out shares its lists."""

    def open_data(asked: Asked) -> SmallData:
        held_out, judging = (
            tuple(class_numbers(given, dataset.classes))
            for given in (asked.held_out, asked.judging)
        )
        return dataclasses.replace(dataset, held_out=held_out, judging=judging)

    monkeypatch.setattr(fashion_mnist, "open_data", open_data)
