"""The nearest in a gallery that need not fit into memory: exact, or by faiss's approximation."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from study.results.files import StudyError, write_atomically
from trainables.retrieval import first, squared_distances

PIECE = 1 << 22  # distances at a time, 16 MiB
ROWS = 1 << 15  # of the gallery at a time
QUERIES = 256  # at a time
APPROXIMATE = "approximate.faiss"
GOOD, SAMPLE, DEPTH = 0.95, 100, 10  # recall at 10 that is aimed at, over so many of the gallery


class Neighbours(NamedTuple):
    """The nearest of Q queries.

    Attributes:
        rows: (Q, k) int64, of the gallery, nearest first.
        distances: (Q, k) float32, squared Euclidean.
    """

    rows: NDArray[np.int64]
    distances: NDArray[np.float32]


def exact(
    queries: Tensor, gallery: NDArray[np.float32], k: int, own: NDArray[np.int64] | None = None
) -> Neighbours:
    """The k nearest, piece after piece of the gallery; equal distances are in gallery order.

    Args:
        queries: (Q, D) float32, finite.
        gallery: (G, D) float32, finite; it may be mapped from a file.
        k: 1 to G, less than G if a query has a row of its own.
        own: (Q,) each query's own row of the gallery, which is left out, -1 for none.
    """
    own = np.full(len(queries), -1) if own is None else own
    parts = [
        _exact(queries[start : start + QUERIES], gallery, k, own[start : start + QUERIES])
        for start in range(0, len(queries), QUERIES)
    ]
    rows, distances = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Neighbours(rows, distances)


def _exact(
    queries: Tensor, gallery: NDArray[np.float32], k: int, own: NDArray[np.int64]
) -> Neighbours:
    best = Neighbours(
        np.empty((len(queries), 0), np.int64), np.empty((len(queries), 0), np.float32)
    )
    step = max(1, min(PIECE // len(queries), ROWS))
    for start in range(0, len(gallery), step):
        piece = torch.from_numpy(np.array(gallery[start : start + step], dtype=np.float32))
        distances = squared_distances(queries, piece)
        mine = np.flatnonzero((own >= start) & (own < start + len(piece)))
        distances[mine, own[mine] - start] = torch.inf
        places = first(distances, min(k, len(piece)))
        here = Neighbours(places + start, np.take_along_axis(distances.numpy(), places, 1))
        # What was found so far comes first, as it does in the gallery.
        rows = np.concatenate([best.rows, here.rows], 1)
        both = np.concatenate([best.distances, here.distances], 1)
        order = np.argsort(both, axis=1, kind="stable")[:, :k]
        best = Neighbours(np.take_along_axis(rows, order, 1), np.take_along_axis(both, order, 1))
    return best


class Approximate:
    """faiss's inverted lists (Jegou, Douze and Schmid, PAMI 2011) over a gallery.

    Attributes:
        recall: the share of the exact 10 nearest that it finds, over a sample of the gallery.
        sample: how many these are.
    """

    def __init__(self, lists: Any, recall: float, sample: int) -> None:
        self._lists = lists
        self.recall = recall
        self.sample = sample

    @classmethod
    def beside(cls, folder: Path, gallery: NDArray[np.float32]) -> Approximate:
        """That of an index in its folder: read, or made and kept there.

        Raises:
            StudyError: faiss is not installed.
        """
        faiss, path = _faiss(), folder / APPROXIMATE
        about = path.with_suffix(".json")
        with contextlib.suppress(OSError, ValueError, RuntimeError, TypeError):  # or damaged
            known = json.loads(about.read_text())
            return cls(faiss.read_index(str(path)), **known)
        made = cls._made(faiss, gallery)
        partial = path.with_suffix(f".{os.getpid()}")
        faiss.write_index(made._lists, str(partial))
        partial.replace(path)
        write_atomically(about, json.dumps({"recall": made.recall, "sample": made.sample}))
        return made

    @classmethod
    def _made(cls, faiss: Any, gallery: NDArray[np.float32]) -> Approximate:
        """So many lists are looked through that `GOOD` of the nearest are found."""
        count, width = gallery.shape
        lists = max(1, min(round(4 * count**0.5), count // 39))  # 39: faiss's least to learn from
        index = faiss.index_factory(width, f"IVF{lists},Flat")
        rng = np.random.default_rng(0)
        learned = np.sort(rng.permutation(count)[: 64 * lists])
        index.train(np.array(gallery[learned]))
        for rows in _pieces(count):
            index.add(np.array(gallery[rows]))
        sample = np.sort(rng.permutation(count)[:SAMPLE])
        queries, k = torch.from_numpy(np.array(gallery[sample])), max(1, min(DEPTH, count - 1))
        own = sample if count > 1 else None  # itself is no find
        wanted, made = exact(queries, gallery, k, own), cls(index, 0.0, len(sample))
        index.nprobe = 1
        while True:
            found = made.nearest(queries, k, own).rows
            shared = [len(set(a) & set(b)) for a, b in zip(wanted.rows, found, strict=True)]
            made.recall = sum(shared) / wanted.rows.size
            if made.recall >= GOOD or index.nprobe >= lists:
                return made
            index.nprobe = min(2 * index.nprobe, lists)

    def nearest(self, queries: Tensor, k: int, own: NDArray[np.int64] | None = None) -> Neighbours:
        """As `exact`. Where so few lists hold fewer than k, more are looked through."""
        wanted, asked = k + (own is not None), self._lists.nprobe
        try:
            while True:
                distances, rows = self._lists.search(queries.numpy(), wanted)
                if (rows >= 0).all() or self._lists.nprobe >= self._lists.nlist:
                    break
                self._lists.nprobe = min(2 * self._lists.nprobe, self._lists.nlist)
        finally:
            self._lists.nprobe = asked
        distances = np.where(rows < 0, np.inf, distances.clip(0))
        if own is not None:  # to its end
            distances = np.where(rows == own[:, None], np.inf, distances)
        order = np.argsort(distances, axis=1, kind="stable")[:, :k]
        rows, distances = (np.take_along_axis(a, order, 1) for a in (rows, distances))
        return Neighbours(rows.astype(np.int64), distances.astype(np.float32))


def _pieces(count: int, step: int = 1 << 16) -> Iterator[slice]:
    return (slice(start, start + step) for start in range(0, count, step))


def _faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        law = "approximate search needs faiss"
        remedy = "of the extra [faiss]: pip install --editable '.[faiss]'"
        raise StudyError(f"{law}, {remedy}") from error
    return faiss
