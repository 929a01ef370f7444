"""Writes a cache of pixels: whole, or not at all, and by one program alone."""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import json
import logging
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from filelock import FileLock, Timeout
from PIL import Image

from trainables.data.errors import DataError

from .decode import Box, Decoding, decode

BLOCK = 32  # pictures that a thread decodes before it writes
NAMED = 10  # unreadable pictures that a message names
ARRAY, ABOUT = "pixels.npy", "about.json"

Picture = tuple[Path | str, Box | None]
Progress = Callable[[int, int], None]


class UnreadablePicturesError(DataError):
    """Pictures that cannot be read; `reasons` holds why, by place in the list of pictures."""

    reasons: dict[int, str]


@contextlib.contextmanager
def one_maker(path: Path) -> Iterator[None]:
    """Holds the lock of this cache. It is the system's: a program that dies gives it back."""
    lock = FileLock(path.with_suffix(".lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        logging.getLogger(__name__).warning("waiting for another program that makes %s", path)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def make(
    path: Path,
    pictures: Sequence[Picture],
    decoding: Decoding,
    workers: int | None,
    progress: Progress | None,
) -> None:
    """Makes the cache `path`, of which the lock is held; arguments as for `load_pixels`.

    Raises:
        UnreadablePicturesError: names what cannot be read.
        OSError: the folder cannot take it.
    """
    partial = path.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a program that was killed
    try:
        partial.mkdir()
        _check_space(partial, len(pictures) * int(np.prod(decoding.shape)))
        array = np.lib.format.open_memmap(
            partial / ARRAY, "w+", np.uint8, (len(pictures), *decoding.shape)
        )
        target = (partial / ARRAY, array.offset)
        del array
        about = _decode_all(target, pictures, decoding, workers, progress)
        with (partial / ARRAY).open("r+b") as whole:
            os.fsync(whole.fileno())
        (partial / ABOUT).write_text(json.dumps(about, indent=2))
        shutil.rmtree(path, ignore_errors=True)  # a damaged one
        partial.rename(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def check(
    pictures: Sequence[Picture],
    decoding: Decoding,
    workers: int | None,
    progress: Progress | None,
) -> dict[str, Any]:
    """Decodes all pictures and keeps none: what `make` would write about them.

    Raises:
        UnreadablePicturesError: names what cannot be read.
    """
    return _decode_all(None, pictures, decoding, workers, progress)


def _unreadable(pictures: Sequence[Picture], reasons: dict[int, str]) -> UnreadablePicturesError:
    """All of them in one error, the first `NAMED` by name."""
    places = sorted(reasons)
    lines = [f"{pictures[place][0]}: {reasons[place]}" for place in places[:NAMED]]
    if len(places) > NAMED:
        lines.append(f"and {len(places) - NAMED} more")
    before = " " if len(lines) == 1 else "\n  "
    count = f"{len(places)} of {len(pictures)} pictures cannot be read:"
    error = UnreadablePicturesError(count + before + "\n  ".join(lines))
    error.reasons = {place: reasons[place] for place in places}
    return error


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        why = f"they take {needed / 1e9:.3g} GB, and {free / 1e9:.3g} GB are free"
        raise OSError(errno.ENOSPC, why)


class _Block(NamedTuple):
    """What became of the pictures from `start` on."""

    start: int
    digests: list[bytes]
    reasons: dict[int, str]
    several_frames: int


_Target = tuple[Path, int]  # a .npy file and where in it the first picture begins


def _decode_all(
    target: _Target | None,
    pictures: Sequence[Picture],
    decoding: Decoding,
    workers: int | None,
    progress: Progress | None,
) -> dict[str, Any]:
    """Decodes all pictures into a file, or to look at each alone; what is known of them then.

    Threads, as Pillow's codecs run beside each other: a process would import the caller's program
    again, and torch with it.

    Raises:
        UnreadablePicturesError: names what cannot be read.
    """
    count = len(pictures)
    task = functools.partial(_decode_block, target, pictures, decoding)
    Image.init()  # before there are threads that would
    blocks: list[_Block] = []
    done = 0
    with warnings.catch_warnings(), ThreadPoolExecutor(workers or _cores()) as pool:
        warnings.simplefilter("ignore")  # a codec's doubts about a picture that it reads
        futures = [pool.submit(task, start) for start in range(0, count, BLOCK)]
        try:
            for future in as_completed(futures):
                blocks.append(future.result())
                done += len(blocks[-1].digests)
                if progress is not None:
                    progress(done, count)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    reasons = {place: why for block in blocks for place, why in block.reasons.items()}
    if reasons:
        raise _unreadable(pictures, reasons)
    return _about(sorted(blocks), count, decoding)


def _decode_block(
    target: _Target | None, pictures: Sequence[Picture], decoding: Decoding, start: int
) -> _Block:
    """Decodes up to `BLOCK` pictures and writes them to their place in a file, if any."""
    part = pictures[start : start + BLOCK]
    pixels = np.zeros((len(part), *decoding.shape), np.uint8)
    reasons, several = {}, 0
    for place, (path, box) in enumerate(part):
        try:
            pixels[place], has_more = decode(path, box, decoding)
            several += has_more
        except DataError as error:
            reasons[start + place] = str(error)
    if target is not None:
        path, offset = target
        with path.open("r+b") as file:  # not through a map: a full disk would kill the process
            file.seek(offset + start * pixels[0].nbytes)
            file.write(pixels.data)
    digests = [hashlib.sha256(picture.data).digest() for picture in pixels]
    return _Block(start, digests, reasons, several)


def _about(blocks: list[_Block], count: int, decoding: Decoding) -> dict[str, Any]:
    shape = [count, *decoding.shape]
    digest = hashlib.sha256(json.dumps(shape).encode())
    for block in blocks:
        digest.update(b"".join(block.digests))
    return {
        "fingerprint": digest.hexdigest(),
        "shape": shape,
        "several_frames": sum(block.several_frames for block in blocks),
        "decoding": asdict(decoding),
    }
