"""Every picture decoded once, at the size asked for, into one file that all processes of a node
map into memory.

    pixels = load_pixels([("a.jpg", None), ("b.png", (10, 10, 90, 90))], Decoding(256, 256))
    pixels.tensor().index_select(0, rows)  # (B, C, H, W) uint8

A cache is a folder `<key>/` with `pixels.npy` and `about.json`; the key is a fingerprint of the
files' paths, sizes and times, the boxes and the decoding. It is written beside its place and
renamed as a whole. Evaluation takes the centre of the square that is kept, training its random
crops from it: what the longer side has beyond that is not kept.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch
from torch import Tensor

from trainables.data.errors import DataError

from .decode import VERSION, Decoding
from .making import ABOUT, ARRAY, Picture, Progress, UnreadablePicturesError, check, make, one_maker

__all__ = [
    "Decoding",
    "Picture",
    "Pixels",
    "UnreadablePicturesError",
    "check_pictures",
    "default_folder",
    "load_pixels",
    "open_pixels",
]


@dataclass(frozen=True, eq=False)
class Pixels:
    """The pixels of N pictures; on its way to another process it is a path, where on another
    machine there is nothing, and the pictures from which that machine makes its own.

    Attributes:
        path: the folder that holds them.
        array: (N, C, H, W) uint8, mapped from the file, not to be written to.
        fingerprint: SHA-256 of the pixels and their order, the same wherever the files lie.
        several_frames: how many files hold further frames, which are not taken.
        source: the pictures and how they were decoded; None where that is not known.
    """

    path: Path
    array: np.ndarray
    fingerprint: str
    several_frames: int
    source: tuple[Sequence[Picture], Decoding] | None = None

    def __len__(self) -> int:
        return len(self.array)

    def __reduce__(self) -> tuple[Callable[..., Pixels], tuple[Any, ...]]:
        return _arrived, (self.path, self.fingerprint, self.source)

    def tensor(self) -> Tensor:
        """(N, C, H, W) uint8 on the CPU: a view of the file."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            return torch.from_numpy(self.array)


def open_pixels(path: Path) -> Pixels:
    """What `load_pixels` made, by its folder. It is not read before it is used.

    Raises:
        DataError: there is none, or it is damaged.
    """
    try:
        about = json.loads((path / ABOUT).read_text())
        array = np.load(path / ARRAY, mmap_mode="r")
        if list(array.shape) != about["shape"] or array.dtype != np.uint8:
            raise ValueError(f"pixels must be uint8 {about['shape']}; got {array.dtype}")
        return Pixels(path, array, about["fingerprint"], about["several_frames"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} holds no whole pixel cache: {error}") from error


def _arrived(
    path: Path, fingerprint: str, source: tuple[Sequence[Picture], Decoding] | None
) -> Pixels:
    """The pixels that another process has: from the file, else made anew on this machine.

    Raises:
        DataError: there is neither, or the pictures here are others.
    """
    found = _whole(path)
    if found is not None and found.fingerprint == fingerprint:
        return replace(found, source=source)
    if source is None:
        raise DataError(f"{path} holds no whole pixel cache {fingerprint}")
    made = load_pixels(*source)
    if made.fingerprint != fingerprint:
        law = "all machines of a study must see the same pictures, decoded by one version of Pillow"
        raise DataError(f"{law}; some differ here, of {len(made)} from {source[0][0][0]} on")
    return made


def default_folder() -> Path:
    """Where caches lie: `retrieval-loss-study/pixels` in $XDG_CACHE_HOME, else in ~/.cache."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home).absolute() / "retrieval-loss-study" / "pixels"


def load_pixels(
    pictures: Sequence[Picture],
    decoding: Decoding,
    *,
    folder: Path | str | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Pixels:
    """The pixels of these pictures: from the cache, which is made first if need be.

    A file that changes without changing its size and time is not noticed. Of two programs that
    want the same cache one makes it and the other waits.

    Args:
        pictures: N times a file and the box to be cut out of it, or None.
        folder: of the caches. Default: `default_folder()`.
        workers: threads that decode (Pillow's codecs run beside each other). Default: one a core.
        progress: called with the pictures done and all pictures.

    Raises:
        UnreadablePicturesError: names what cannot be read, all at once; no cache is made.
        DataError: there are no pictures, or the folder cannot take the cache (read-only, full).
    """
    path = _place(pictures, decoding, folder)
    if (found := _whole(path)) is None:
        with _writing_to(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            with one_maker(path):
                if _whole(path) is None:  # no other program made it meanwhile
                    make(path, pictures, decoding, workers, progress)
        found = open_pixels(path)
    return replace(found, source=(tuple(pictures), decoding))


def check_pictures(
    pictures: Sequence[Picture],
    decoding: Decoding,
    *,
    folder: Path | str | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> str:
    """The fingerprint that the pixels of these pictures will have. No pixel is kept.

    What was found out once is remembered beside the caches. Arguments and errors as `load_pixels`.
    """
    path = _place(pictures, decoding, folder)
    if (found := _whole(path)) is not None:
        return found.fingerprint
    known = path.with_suffix(".json")
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return str(json.loads(known.read_text())["fingerprint"])
    with _writing_to(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        about = check(pictures, decoding, workers, progress)
        partial = known.with_suffix(f".{os.getpid()}")
        partial.write_text(json.dumps(about, indent=2))
        partial.replace(known)
    return str(about["fingerprint"])


def _place(pictures: Sequence[Picture], decoding: Decoding, folder: Path | str | None) -> Path:
    if not pictures:
        raise DataError("pixels need at least one picture; got none")
    folder = default_folder() if folder is None else Path(folder).expanduser().absolute()
    return folder / _key(pictures, decoding)


def _whole(path: Path) -> Pixels | None:
    with contextlib.suppress(DataError):
        return open_pixels(path)
    return None


def _key(pictures: Sequence[Picture], decoding: Decoding) -> str:
    rules = [VERSION, PIL.__version__, asdict(decoding)]  # another Pillow may decode otherwise
    digest = hashlib.sha256(json.dumps(rules).encode())
    for file, box in pictures:
        path = Path(file).absolute()
        try:
            found = path.stat()
            state = [found.st_size, found.st_mtime_ns]
        except OSError:  # said when it is decoded
            state = []
        line = [os.fspath(path), state, None if box is None else [float(side) for side in box]]
        digest.update(json.dumps(line).encode())
    return digest.hexdigest()[:32]


@contextlib.contextmanager
def _writing_to(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        why = error.strerror or error
        remedy = "free some space or name" if error.errno == errno.ENOSPC else "name"
        raise DataError(
            f"pixels cannot be kept in {folder}: {why}; {remedy} another cache folder "
            "(XDG_CACHE_HOME)"
        ) from error
