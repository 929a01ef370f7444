"""Images and labels: where they are found, how they are verified, split and protocolled.

Images stay uint8 in memory (54 MB for all of Fashion-MNIST); `scale` maps a batch to [-1, 1].
The test images are read by `load_test` alone, so that a study can prove that it did not.

`python -m trainables.data [FOLDER]` says where the data is, downloading it if need be.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import sys
import warnings
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

SYSTEM_FOLDER = Path("/usr/share/datasets/fashion-mnist")  # Debian: dataset-fashion-mnist
DOWNLOAD_FOLDER = Path(__file__).resolve().parent.parent / "data"
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


class DataError(ValueError):
    """Data that is missing, truncated or foreign; the message names the file and the remedy."""


class _File(NamedTuple):
    name: str
    shape: tuple[int, ...]
    sha256: str  # of the unpacked IDX file: packers differ in the gzip header, never in this


_FILES = {
    "train_images": _File(
        "train-images-idx3-ubyte",
        (60_000, 28, 28),
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    ),
    "train_labels": _File(
        "train-labels-idx1-ubyte",
        (60_000,),
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    ),
    "test_images": _File(
        "t10k-images-idx3-ubyte",
        (10_000, 28, 28),
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    ),
    "test_labels": _File(
        "t10k-labels-idx1-ubyte",
        (10_000,),
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
}


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


class Protocol(NamedTuple):
    """Retrieve from the first `gallery` test images, with the first `queries` of them."""

    gallery: int
    queries: int


PROTOCOLS = {"seed": Protocol(1_000, 100), "full": Protocol(10_000, 10_000)}


def load_split(folder: Path | str | None = None) -> Split:
    """Fashion-MNIST's 60,000 training images as 54,000 to train on and 6,000 to validate on."""
    return stratified_split(_load("train", folder))


def load_test(folder: Path | str | None = None, *, frozen: Path) -> LabelledImages:
    """Fashion-MNIST's 10,000 test images, for configurations that are chosen and frozen.

    Args:
        folder: as for `find_fashion_mnist`.
        frozen: the file that holds the choices.

    Raises:
        DataError: that file does not exist, or the images are missing or damaged.
    """
    check_frozen(frozen)
    return _load("test", folder)


def check_frozen(file: Path) -> None:
    """DataError unless the file of the frozen choices exists: the law of every `load_test`."""
    if not file.is_file():
        law = "the test images are read for configurations that are chosen and frozen"
        raise DataError(f"{law}; there is no {file}")


class Dataset(NamedTuple):
    """A dataset by name: its training split, its test images (`load_test(folder, frozen=file)`),
    and its classes' names."""

    load_split: Callable[[Path | str | None], Split]
    load_test: Callable[..., LabelledImages]
    classes: tuple[str, ...]


DATASETS = {"fashion_mnist": Dataset(load_split, load_test, CLASSES)}


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


def scale(images: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """(B, H, W) uint8 in 0..255 to (B, 1, H, W) in [-1, 1]."""
    return images.unsqueeze(1).to(dtype).div_(127.5).sub_(1.0)


def find_fashion_mnist(folder: Path | str | None = None) -> Path:
    """The folder that holds the four files: the given one, the system's, or torchvision's.

    Args:
        folder: holds the IDX files (packed or not), or torchvision's `FashionMNIST/raw` that
            does. With a given folder no other place is tried. Default: Debian's data package,
            then this project's `data/`, into which torchvision downloads.

    Raises:
        DataError: a file is missing; the message names it, or all remedies.
    """
    if folder is not None:
        given = Path(folder).expanduser()
        for candidate in (given, given / "FashionMNIST" / "raw"):
            if _missing(candidate) is None:
                return candidate
        raise DataError(f"data folder {given} does not hold {_missing(given)}[.gz]")
    downloaded = DOWNLOAD_FOLDER / "FashionMNIST" / "raw"
    for candidate in (SYSTEM_FOLDER, downloaded):
        if _missing(candidate) is None:
            return candidate
    failure = _download(DOWNLOAD_FOLDER)
    if failure is None and _missing(downloaded) is None:
        return downloaded
    raise DataError(
        "Fashion-MNIST was not found. Either name a folder that holds its four IDX files "
        "(--data-dir), or install Debian's package (apt-get install dataset-fashion-mnist), "
        f"or let torchvision download it into {DOWNLOAD_FOLDER} (it just failed: {failure})"
    )


def _missing(folder: Path) -> str | None:
    for file in _FILES.values():
        if not any((folder / f"{file.name}{suffix}").is_file() for suffix in ("", ".gz")):
            return file.name
    return None


def _download(root: Path) -> str | None:
    """Downloads into `root`; the reason as one line if that failed."""
    from torchvision.datasets import FashionMNIST  # slow to import, rarely needed

    try:
        FashionMNIST(str(root), download=True)
    except (OSError, RuntimeError) as error:
        return " ".join(str(error).split())
    return None


def _load(part: str, folder: Path | str | None) -> LabelledImages:
    found = find_fashion_mnist(folder)
    images = _read(found, _FILES[f"{part}_images"])
    labels = _read(found, _FILES[f"{part}_labels"])
    return LabelledImages(images, labels.astype(np.int64))


def _read(folder: Path, file: _File) -> np.ndarray:
    """The verified content of one IDX file, uint8 of the file's shape."""
    packed = folder / f"{file.name}.gz"
    path = packed if packed.is_file() else folder / file.name
    try:
        content = gzip.decompress(path.read_bytes()) if path == packed else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read (truncated?): {error}") from error
    header = 4 + 4 * len(file.shape)  # IDX: a magic number, then the length of each axis
    size = header + int(np.prod(file.shape))
    if len(content) != size:
        raise DataError(f"{path} must hold {size} bytes unpacked; got {len(content)}")
    digest = hashlib.sha256(content).hexdigest()
    if digest != file.sha256:
        raise DataError(
            f"{path} is not Fashion-MNIST's {file.name}: "
            f"SHA-256 must be {file.sha256[:16]}…; got {digest[:16]}…"
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(file.shape)


def main() -> int:
    parser = argparse.ArgumentParser(description="Find, verify or download Fashion-MNIST.")
    parser.add_argument("folder", nargs="?", help="a folder that holds it")
    folder = parser.parse_args().folder
    try:
        found = find_fashion_mnist(folder)
        for file in _FILES.values():
            _read(found, file)
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"Fashion-MNIST: {found} (four files, checksums right)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
