"""The embeddings of a gallery by one network, kept beside it and used again."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from analysis.gallery.networks import Chosen
from analysis.gallery.pictures import Gallery
from study.results.files import StudyError
from trainables.networks import Embedder
from trainables.terminal import bar
from trainables.trained import embed_pixels

EMBEDDINGS, ABOUT, STATES = "embeddings.npy", "about.json", "states.json"
ALL = "all.npy"  # while it is made: with rows for what cannot be read
BLOCK = 512  # pictures that are in memory at a time
COPIED = 1 << 16  # rows at a time


@dataclass(frozen=True, eq=False)
class Index:
    """What a network makes of a gallery.

    Attributes:
        folder: of its files.
        embeddings: (G, D) float32 of unit length, mapped from a file.
        places: (G,) which pictures of the gallery these are: all that can be read.
        unreadable: N texts, what cannot be read and why.
        news: a line on what was found and what was made.
    """

    folder: Path
    embeddings: NDArray[np.float32]
    places: NDArray[np.int64]
    unreadable: tuple[str, ...]
    news: str


def index_of(gallery: Gallery, chosen: Chosen) -> Index:
    """The index of a gallery by a network: read, or made where it is missing or stale.

    What has not changed since is not embedded again, and an interrupted pass keeps what it has. An
    index of another network is left alone. Where the gallery's folder takes no files, the index is
    kept in the system's folder for temporary ones.

    Raises:
        StudyError: no picture of the gallery can be read.
    """
    folder = _folder(gallery, chosen.fingerprint)
    before = _Kept.read(folder)
    if before is not None and before.fingerprint == gallery.fingerprint:
        news = f"index used again: {folder}"
    else:
        news = _news(before, gallery, folder)
        _make(folder, gallery, chosen, before)
        before = _Kept.read(folder)
        assert before is not None
    places = {state: place for place, state in enumerate(gallery.states)}
    unreadable = tuple(
        f"{gallery.names[places[state]]}: {why}" for state, why in before.unreadable.items()
    )
    if not len(before.embeddings):
        law = "a gallery must hold a picture that can be read"
        raise StudyError(f"{law}; of {len(gallery):,} none can: {unreadable[0]}")
    own = np.array([places[state] for state in before.states], np.int64)
    return Index(folder, before.embeddings, own, unreadable, news)


@dataclass(frozen=True, eq=False)
class _Kept:
    """An index as it lies on the disk, of the pictures that could be read, in the gallery's order.

    Attributes:
        fingerprint: of the gallery that it is whole for; empty for a part of one.
    """

    fingerprint: str
    embeddings: NDArray[np.float32]
    states: list[str]
    unreadable: dict[str, str]

    @classmethod
    def read(cls, folder: Path) -> _Kept | None:
        """None where there is none, or what there is is damaged."""
        try:
            about = json.loads((folder / ABOUT).read_text())
            states = json.loads((folder / STATES).read_text())
            embeddings = np.load(folder / EMBEDDINGS, mmap_mode="r")
            if list(embeddings.shape) != about["shape"] or len(states) != len(embeddings):
                return None
            return cls(about["fingerprint"], embeddings, states, about["unreadable"])
        except (OSError, ValueError, KeyError, TypeError):
            return None


def _folder(gallery: Gallery, fingerprint: str) -> Path:
    """Where the index is, or is to be."""
    folder = gallery.index / fingerprint
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError:
        kept = _Kept.read(folder)
        if kept is not None and kept.fingerprint == gallery.fingerprint:
            return folder  # which need not be written
    elsewhere = Path(tempfile.gettempdir()) / f"retrieval-index-{os.getuid()}"
    folder = elsewhere / gallery.fingerprint[:16] / fingerprint
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _news(before: _Kept | None, gallery: Gallery, folder: Path) -> str:
    if before is None:
        others = [one.name for one in folder.parent.iterdir() if (one / ABOUT).exists()]
        beside = f"; beside it lie those of other networks, {', '.join(others)}" if others else ""
        return f"index made: {folder}{beside}"
    known, now = set(before.states), set(gallery.states)
    unread = len(now & set(before.unreadable))
    new, gone = len(now - known) - unread, len(known - now)
    if not before.fingerprint:
        return f"index completed, of which {len(known):,} were there: {folder}"
    return f"index was stale, {new:,} new or changed, {gone:,} gone: {folder}"


def _make(folder: Path, gallery: Gallery, chosen: Chosen, before: _Kept | None) -> None:
    """Writes the index; if it is interrupted, of what is embedded until then."""
    partial = folder.with_name(f".partial-{os.getpid()}")
    try:
        partial.mkdir()
        array = _Rows(partial, len(gallery), chosen.network.width)
        missing = array.copy_known(gallery, before)
        try:
            with bar(len(missing), "embedded") as shown:
                for start in range(0, len(missing), BLOCK):
                    places = missing[start : start + BLOCK]
                    array.embed(gallery, chosen.network, places)
                    shown.update(len(places))
            missing = missing[:0]
        finally:
            about = {"fingerprint": "" if len(missing) else gallery.fingerprint}
            about |= {"network": chosen.fingerprint, "loss": chosen.loss}
            about |= {"trial": chosen.choice.trial_id, "study": chosen.study.folder.resolve().name}
            array.write(gallery, about)
            shutil.rmtree(folder, ignore_errors=True)
            partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


class _Rows:
    """The embeddings of an index that is being made, (N, D), in a file."""

    def __init__(self, folder: Path, count: int, width: int) -> None:
        self.folder = folder
        self.all = np.lib.format.open_memmap(folder / ALL, "w+", np.float32, (count, width))
        self.done = np.zeros(count, dtype=bool)
        self.unreadable: dict[str, str] = {}

    def copy_known(self, gallery: Gallery, before: _Kept | None) -> NDArray[np.int64]:
        """Takes what an earlier index has; the places of the others."""
        if before is not None and before.embeddings.shape[1] == self.all.shape[1]:
            known = {state: row for row, state in enumerate(before.states)}
            rows = np.array([known.get(state, -1) for state in gallery.states], np.int64)
            self.done = rows >= 0
            for start in range(0, len(rows), COPIED):
                places = start + np.flatnonzero(self.done[start : start + COPIED])
                self.all[places] = before.embeddings[rows[places]]
        return np.flatnonzero(~self.done)

    def embed(self, gallery: Gallery, network: Embedder, places: NDArray[np.int64]) -> None:
        """Those of a block of pictures."""
        loaded = gallery.load(places)
        self.unreadable |= {gallery.states[places[n]]: why for n, why in loaded.reasons.items()}
        read = places[loaded.places]
        if len(read):
            self.all[read] = embed_pixels(network, torch.from_numpy(loaded.pixels)).numpy()
            self.done[read] = True

    def write(self, gallery: Gallery, about: dict[str, Any]) -> None:
        """The files of the index: what was done, in the gallery's order."""
        rows = np.flatnonzero(self.done)
        shape = (len(rows), self.all.shape[1])
        if len(rows) == len(self.all):
            self.all.flush()
            os.replace(self.folder / ALL, self.folder / EMBEDDINGS)
        else:
            kept = np.lib.format.open_memmap(self.folder / EMBEDDINGS, "w+", np.float32, shape)
            for start in range(0, len(rows), COPIED):
                kept[start : start + COPIED] = self.all[rows[start : start + COPIED]]
            kept.flush()
            (self.folder / ALL).unlink()
        states = [gallery.states[row] for row in rows]
        (self.folder / STATES).write_text(json.dumps(states))
        about |= {"shape": shape, "unreadable": self.unreadable}
        (self.folder / ABOUT).write_text(json.dumps(about, indent=1))
