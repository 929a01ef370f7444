"""Fashion-MNIST's four files: where they are found, how they are fetched and verified."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import logging
import os
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from filelock import FileLock, Timeout

from trainables.data.errors import DataError

SYSTEM_FOLDER = Path("/usr/share/datasets/fashion-mnist")  # Debian: dataset-fashion-mnist
DOWNLOAD_FOLDER = Path(__file__).resolve().parents[2] / "data"
IN_TORCHVISION = Path("FashionMNIST", "raw")  # of a folder that torchvision downloads into
LOGGER = logging.getLogger(__name__)


class File(NamedTuple):
    """One IDX file, by the name, shape and SHA-256 of its unpacked form: packers differ in the
    gzip header, never in this."""

    name: str
    shape: tuple[int, ...]
    sha256: str


FILES = {
    "train_images": File(
        "train-images-idx3-ubyte",
        (60_000, 28, 28),
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    ),
    "train_labels": File(
        "train-labels-idx1-ubyte",
        (60_000,),
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    ),
    "test_images": File(
        "t10k-images-idx3-ubyte",
        (10_000, 28, 28),
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    ),
    "test_labels": File(
        "t10k-labels-idx1-ubyte",
        (10_000,),
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
}


def read(part: str, folder: Path | str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, 28, 28) and labels (N,), both uint8, of the part `train` or `test`.

    A damaged file in this project's own folder is fetched again.

    Raises:
        DataError: as `find_fashion_mnist`, or a file is damaged; the message names the remedy.
    """
    found, wanted = find_fashion_mnist(folder), (f"{part}_images", f"{part}_labels")
    try:
        images, labels = (_content(found, FILES[name]) for name in wanted)
    except DataError as damage:
        if found != _own_folder():
            raise DataError(f"{damage}; {_remedy(found)}") from damage
        LOGGER.warning("%s; it is fetched again", damage)
        failure = _fetch()
        if failure is not None:
            raise DataError(f"{damage}; to fetch it again failed: {failure}") from damage
        images, labels = (_content(found, FILES[name]) for name in wanted)
    return images, labels


def check(folder: Path | str | None = None) -> Path:
    """The folder whose four files are sound; DataError as `read`."""
    for part in ("train", "test"):
        read(part, folder)
    return find_fashion_mnist(folder)


def holds_files(folder: Path) -> bool:
    """Whether any of the four files lies in a folder, as it is or as torchvision downloads it."""
    found = [
        place / file.name for place in (folder, folder / IN_TORCHVISION) for file in FILES.values()
    ]
    return any(path.is_file() or path.with_name(f"{path.name}.gz").is_file() for path in found)


def find_fashion_mnist(folder: Path | str | None = None) -> Path:
    """The folder that holds the four files: the given one, the system's, or torchvision's.

    Args:
        folder: holds the IDX files (packed or not), or torchvision's `FashionMNIST/raw` that
            does. With a given folder no other place is tried. Default: Debian's data package,
            then this project's `data/`, into which torchvision downloads.

    Raises:
        DataError: a file is missing or a folder may not be read; the message names it, or all
            remedies.
    """
    if folder is not None:
        given = Path(folder).expanduser()
        for candidate in (given, given / IN_TORCHVISION):
            if _missing(candidate) is None:
                return candidate
        raise DataError(f"data folder {given} does not hold {_missing(given)}[.gz]")
    for candidate in (SYSTEM_FOLDER, _own_folder()):
        if _missing(candidate) is None:
            return candidate
    failure = _fetch()
    if failure is None:
        return _own_folder()
    raise DataError(
        "Fashion-MNIST was not found. Either name a folder that holds its four IDX files "
        "(--data-dir), or install Debian's package (apt-get install dataset-fashion-mnist), "
        f"or let torchvision download it into {DOWNLOAD_FOLDER} (it just failed: {failure})"
    )


def _own_folder() -> Path:
    return DOWNLOAD_FOLDER / IN_TORCHVISION


def _missing(folder: Path) -> str | None:
    """The first file that a folder has in no form; DataError if the folder may not be read."""
    try:
        there = set(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        there = set()
    except OSError as error:
        raise DataError(f"data folder {folder} cannot be read: {error.strerror}") from error
    for file in FILES.values():
        if there.isdisjoint((file.name, f"{file.name}.gz")):
            return file.name
    return None


def _remedy(folder: Path) -> str:
    if folder == SYSTEM_FOLDER:
        return "install it again (apt-get install --reinstall dataset-fashion-mnist)"
    return "put Fashion-MNIST's own file in its place, or name another folder (--data-dir)"


def _fetch() -> str | None:
    """Downloads into this project's own folder; why that failed, on one line.

    Of several programs that need the data at once, one downloads and the others wait for it. Only
    files that are sound come to their place, each as a whole.
    """
    own = _own_folder()
    try:
        DOWNLOAD_FOLDER.mkdir(parents=True, exist_ok=True)
        with _alone(), tempfile.TemporaryDirectory(dir=DOWNLOAD_FOLDER) as partial:
            if _is_sound(own):
                return None  # the program before has fetched it
            _download(Path(partial))
            new = Path(partial) / IN_TORCHVISION
            for file in FILES.values():
                _content(new, file)
            own.mkdir(parents=True, exist_ok=True)
            for path in new.iterdir():
                os.replace(path, own / path.name)
    except (OSError, RuntimeError, DataError) as error:
        return " ".join(str(error).split())
    return None


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """No other program is within it; a line is logged if one is waited for."""
    lock = FileLock(DOWNLOAD_FOLDER / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        LOGGER.warning("waiting for another program that downloads into %s", DOWNLOAD_FOLDER)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _download(root: Path) -> None:
    """torchvision's download; OSError or RuntimeError if that fails."""
    from torchvision.datasets import FashionMNIST  # slow to import, rarely needed

    FashionMNIST(str(root), download=True)


def _is_sound(folder: Path) -> bool:
    try:
        for file in FILES.values():
            _content(folder, file)
    except DataError:
        return False
    return True


def _content(folder: Path, file: File) -> np.ndarray:
    """The verified content of a file, uint8 of its shape: of its two forms the first sound one."""
    damages = []
    for path in (folder / file.name, folder / f"{file.name}.gz"):
        if not path.exists():  # so that who watches sees that each file is opened once
            continue
        try:
            return _read(path, file)
        except DataError as damage:
            damages.append(str(damage))
    raise DataError("; ".join(damages) or f"data folder {folder} does not hold {file.name}[.gz]")


def _read(path: Path, file: File) -> np.ndarray:
    """The verified content of one form of a file; DataError names damage."""
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
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
