"""Fashion-MNIST: 28 x 28 grey pictures of ten kinds of clothing (Xiao, Rasul and Vollgraf, 2017).

60,000 training images, of which a tenth of each class is for validation, and 10,000 test images.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from trainables.data import fashion_mnist_files as files
from trainables.data.entry import Asked, Dataset, check_found
from trainables.data.errors import DataError
from trainables.data.images import JudgedImages, LabelledImages, Roles, Split
from trainables.data.ledger import Reading
from trainables.data.pixels.decode import Box, shown

NAME = "fashion_mnist"
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
# Of the test images, the first of which are the queries and the gallery: by protocol.
GALLERY = {"full": 10_000, "seed": 1_000}
QUERIES = {"full": 10_000, "seed": 100}
VALIDATION_FRACTION = 0.1
SIDE = 28  # pixels
LIGHT = 128  # of 0..255: a picture whose rim is lighter shows its thing on a light ground
NEAR = 13  # of 0..255, 5 %: what is so near to the corner's grey is ground
SPLIT_SEED = 20_201_123  # of the training/validation split alone: no trial's seed moves it
# In a smoke test: no fewer to train and validate on than the largest batch.
SMOKE_TRAIN, SMOKE_VALIDATION, SMOKE_TEST = 3_000, 1_024, 1_000


@dataclass(frozen=True, eq=False)
class FashionMnist(Dataset):
    """Its files as they are found.

    Attributes:
        folder: holds them; None: `find_fashion_mnist` looks for them.
        held_out: numbers of the classes that are not trained on, and are all that is tested.
        judging: numbers of those that are not trained on either, and alone judge meanwhile.
        small: a slice of each part, for smoke tests.
    """

    folder: Path | None = None
    held_out: tuple[int, ...] = ()
    judging: tuple[int, ...] = ()
    small: bool = False

    name = NAME
    licence = "MIT (Zalando SE, 2017)"
    own_size = True
    # Of 128, 256 and 512 the best at nine epochs are not told apart (tests/benchmarks/README.md).
    narrowed = {"batch_size": {"choices": [256]}}  # noqa: RUF012  (it is not changed)

    @property
    def classes(self) -> tuple[str, ...]:
        return CLASSES

    @property
    def described(self) -> str:  # type: ignore[override]
        return of_classes(self.held_out)

    @property
    def described_validation(self) -> str:
        return of_classes(self.judging or self.held_out)

    def split(self) -> Split:
        split = hold_out(stratified_split(self._read("train")), self.held_out, self.judging)
        return split.sliced(SMOKE_TRAIN, SMOKE_VALIDATION) if self.small else split

    def validation(self) -> JudgedImages:
        images = stratified_split(self._read("train")).validation
        return self._judged(images, SMOKE_VALIDATION, self.judging or self.held_out)

    def test(self, reading: Reading) -> JudgedImages:
        reading.check()
        files.find_fashion_mnist(self.folder)  # what is missing is missed before it is logged
        reading.enter()
        return self._judged(self._read("test"), SMOKE_TEST, self.held_out)

    def shown(self, found: Path) -> JudgedImages:
        check_found(found)
        return self._judged(self._read("test"), SMOKE_TEST, self.held_out)

    def picture(self, path: Path | str, box: Box | None = None) -> NDArray[np.uint8]:
        image = shown(path, "L")
        return as_fashion(image if box is None else image.crop(box))[None]

    def card(self) -> str:
        return f"Fashion-MNIST: {files.check(self.folder)} (four files, checksums right)"

    def _read(self, part: str) -> LabelledImages:
        images, labels = files.read(part, self.folder)
        return LabelledImages(images[:, None], labels)

    def _judged(self, images: LabelledImages, smoke: int, classes: Sequence[int]) -> JudgedImages:
        if classes:
            images = images.take(np.isin(images.labels, classes))
        images = images.take(slice(smoke)) if self.small else images
        return JudgedImages(images, protocols(len(images)))


def open_data(asked: Asked) -> FashionMnist:
    """As a study asks for it; DataError if it asks for what there is not."""
    for what in ("protocol", "folds", "fold", "grey"):
        if getattr(asked, what):
            law = f"{what} is of one's own data: Fashion-MNIST has its own protocols"
            raise DataError(f"{law}; got {getattr(asked, what)!r}")
    held_out, judging = class_numbers(asked.held_out), class_numbers(asked.judging)
    if held_out and not 2 <= len(held_out) <= len(CLASSES) - 2:
        law = f"held-out classes must be 2 to {len(CLASSES) - 2} of the {len(CLASSES)} classes"
        raise DataError(f"{law}; got {len(held_out)}: {held_out}")
    most = len(CLASSES) - len(held_out) - 2
    if judging and not (held_out and 2 <= len(judging) <= most):
        law = f"validation classes must be 2 to {most} beside at least 2 held-out ones"
        raise DataError(f"{law}; got {len(judging)}: {judging}, held out {held_out}")
    if both := sorted(set(held_out) & set(judging)):
        raise DataError(f"validation classes must not be held out for the test; got {both} in both")
    return FashionMnist(asked.place, tuple(held_out), tuple(judging), asked.small)


def as_fashion(picture: Image.Image) -> NDArray[np.uint8]:
    """(28, 28): a grey picture after the steps by which the data set was made (Xiao, Rasul and
    Vollgraf, arXiv 1708.07747, section 2): its ground trimmed, its longer side 28, centred, light
    on black. One of 28 x 28 on black, as its own are, stays as it is.

    Scaled antialiased, where they took rows and columns and sharpened them.
    """
    grey = np.array(picture)  # writable, as torch asks of an array that it shares
    rim = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    if np.median(rim) >= LIGHT:
        picture, grey = ImageOps.invert(picture), 255 - grey
    elif grey.shape == (SIDE, SIDE):
        return grey
    thing = np.abs(grey.astype(np.int16) - int(grey[0, 0])) > NEAR
    if thing.any():
        down, across = np.flatnonzero(thing.any(1)), np.flatnonzero(thing.any(0))
        picture = picture.crop((across[0], down[0], across[-1] + 1, down[-1] + 1))
    padded = ImageOps.pad(picture, (SIDE, SIDE), Image.Resampling.LANCZOS, color=0)
    return np.array(padded)


def of_classes(numbers: Sequence[int], classes: Sequence[str] = CLASSES) -> str:
    """` of Bag and Coat`; empty for none."""
    names = [classes[number] for number in numbers]
    return f" of {', '.join(names[:-1])} and {names[-1]}" if names else ""


def protocols(images: int) -> dict[str, Roles]:
    """The roles of so many test images under each protocol, or as much of it as there are."""
    return {
        name: Roles.first(min(QUERIES[name], images), min(GALLERY[name], images))
        for name in GALLERY
    }


def stratified_split(data: LabelledImages, seed: int = SPLIT_SEED) -> Split:
    """A tenth of each class for validation; both parts in an order that this seed fixes."""
    order = np.random.default_rng(seed).permutation(len(data))
    validation = np.zeros(len(data), dtype=bool)
    for label in np.unique(data.labels):
        rows = order[data.labels[order] == label]
        validation[rows[: round(VALIDATION_FRACTION * len(rows))]] = True
    return Split(data.take(order[~validation[order]]), data.take(order[validation[order]]))


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


def hold_out(split: Split, classes: Sequence[int], judging: Sequence[int] = ()) -> Split:
    """The split without the images of these classes; each that is left asks for all others.

    Args:
        judging: classes that are not trained on either, and of which the validation images are;
            none: these are of the classes that are trained on.
    """
    train, validation = split.train.labels, split.validation.labels
    judged = np.isin(validation, judging) if judging else ~np.isin(validation, classes)
    return Split(
        split.train.take(~np.isin(train, [*classes, *judging])), split.validation.take(judged)
    )
