"""Exact nearest-neighbour ranking in squared Euclidean distance, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainables.laws import integer

FLOATS = frozenset((torch.float16, torch.bfloat16, torch.float32, torch.float64))
INTEGERS = frozenset(
    getattr(torch, f"{sign}int{bits}") for sign in ("", "u") for bits in (8, 16, 32, 64)
)

#: Distances held at once, in elements of (queries, gallery): 64 MiB of float32.
CHUNK_ELEMENTS = 1 << 24


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """Squared Euclidean distances between the rows of `x` (N, D) and of `y` (M, D): (N, M).

    Computed as |x|^2 + |y|^2 - 2 x.y, which holds for rows of any length, and clamped at 0,
    below which rounding alone could take it; a row is so at about eps |x|^2 from itself, not at 0.
    The result has the wider dtype of the two, and at least float32: bfloat16 and float16 rows are
    converted first, also under autocast.

    Raises:
        ValueError: `x` or `y` is not 2-d floating, or their D differ.
    """
    checked_rows("x", x)
    checked_rows("y", y)
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"x and y must have the same D, got {x.shape[1]} and {y.shape[1]}")
    dtype = torch.promote_types(torch.promote_types(x.dtype, y.dtype), torch.float32)
    x, y = x.to(dtype), y.to(dtype)
    lengths = x.square().sum(1, keepdim=True) + y.square().sum(1)
    # In place, which saves memory and which autocast leaves in this dtype.
    return lengths.addmm_(x, y.T, alpha=-2).clamp_min_(0)


def distance_chunks(
    queries: Tensor, gallery: Tensor, query_index: Tensor | None = None
) -> Iterator[tuple[slice, Tensor]]:
    """Yield successive rows of queries and their squared distances (rows, G) to the gallery.

    A query's own row of the gallery is at distance infinity, so that it ranks last. A chunk holds
    about `CHUNK_ELEMENTS` distances.

    Args:
        queries, gallery: (Q, D) and (G, D), floating, of one dtype and device, finite.
        query_index: (Q,) integers, each query's own row of the gallery; None: it has none.

    Raises:
        ValueError: an argument is not as described, or a squared distance could overflow.
    """
    _check_embeddings(queries, gallery)
    if query_index is not None:
        query_index = checked_index(query_index, len(queries), len(gallery)).to(gallery.device)
    step = max(1, CHUNK_ELEMENTS // max(1, len(gallery)))
    for start in range(0, len(queries), step):
        rows = slice(start, start + step)
        distances = squared_distances(queries[rows], gallery)
        if query_index is not None:
            distances.scatter_(1, query_index[rows, None], torch.inf)
        yield rows, distances


def rank(distances: NDArray[np.floating]) -> NDArray[np.int64]:
    """The stable ascending order of each row, (R, G) -> (R, G): equal distances keep theirs.

    It equals np.argsort(distances, axis=1, kind="stable"), in float32 several times as fast: the
    bits of such numbers are ordered as the numbers are, so bits and gallery row, side by side in
    one integer, are ordered as the stable ranking is, and numpy sorts integers with the vector
    unit, in place.

    Args:
        distances: C-contiguous float32 or float64, each in [0, inf] and none -0.0; float32 with
            fewer than 2**32 columns. Best a few rows, that stay in cache.
    """
    if distances.dtype != np.float32:
        return np.argsort(distances, axis=1, kind="stable")
    keys = np.left_shift(distances.view(np.int32), 32, dtype=np.int64)
    keys |= np.arange(distances.shape[1])
    keys.sort(axis=1)
    keys &= 0xFFFFFFFF
    return keys


def nearest(
    queries: Tensor, gallery: Tensor, *, k: int, query_index: Tensor | None = None
) -> Tensor:
    """The k nearest gallery rows of each query, nearest first: (Q, k) int64, on the CPU.

    Equal squared distances, as computed, are ranked in gallery order.

    Args:
        queries, gallery: (Q, D) and (G, D), floating, of one dtype and device, finite.
        k: an integer from 1 to the number of gallery rows, the query's own not counted.
        query_index: (Q,) integers, each query's own row of the gallery, left out of its
            neighbours; None: no query is in the gallery.

    Raises:
        ValueError: an argument is not as described.
    """
    k, most = integer("k", k, 1), len(gallery) - (query_index is not None)
    if k > most:
        raise ValueError(f"k may not exceed the {max(most, 0)} gallery rows to rank, got {k}")
    neighbours = np.empty((len(queries), k), dtype=np.int64)
    with torch.no_grad():
        for rows, distances in distance_chunks(queries, gallery, query_index):
            neighbours[rows] = _first(distances.cpu(), k)
    return torch.from_numpy(neighbours)


def _first(distances: Tensor, k: int) -> NDArray[np.int64]:
    """The first k of `rank` of each row, (R, G) -> (R, k), without ranking the others."""
    farthest = distances.topk(k, largest=False).values.amax(1, keepdim=True)
    # All that are as near as the k-th, more than k where distances are equal, in gallery order.
    row, item = (distances <= farthest).nonzero().numpy().T
    order = np.lexsort((distances.numpy()[row, item], row))  # stable: equal ones keep theirs
    starts = np.searchsorted(row, np.arange(len(distances)))
    return item[order[starts[:, None] + np.arange(k)]]


def checked_rows(name: str, rows: Tensor) -> str:
    """What is known to be 2-d floating by its name, in words for other laws: dtype and shape."""
    kind = f"{rows.dtype} {tuple(rows.shape)}" if isinstance(rows, Tensor) else str(type(rows))
    if not (isinstance(rows, Tensor) and rows.ndim == 2 and rows.dtype in FLOATS):
        law = f"{name} must be a 2-d tensor of float64, float32, bfloat16 or float16"
        raise ValueError(f"{law}, got {kind}")
    return kind


def _check_embeddings(queries: Tensor, gallery: Tensor) -> None:
    """Raise ValueError unless every squared distance will be finite."""
    for name, rows in (("queries", queries), ("gallery", gallery)):
        kind = checked_rows(name, rows)
        if rows.shape[1:] != gallery.shape[1:] or rows.dtype != gallery.dtype:
            law = "queries and gallery must have the same D and dtype"
            raise ValueError(f"{law}, got {kind} and {gallery.dtype} {tuple(gallery.shape)}")
        # |x - y|^2 <= 4 max(|x|^2, |y|^2): this catches NaN, infinity and overflow at once.
        wide = rows.to(torch.promote_types(rows.dtype, torch.float32))
        bad = ~(4 * wide.square().sum(1)).isfinite()
        if bad.any():
            law = f"{name} must be finite, and 4 times a squared length too"
            raise ValueError(f"{law}, got row {int(bad.nonzero()[0])}: {rows[bad][0].tolist()}")


def checked_index(query_index: Tensor, queries: int, gallery: int) -> Tensor:
    """`query_index` as int64, once it is known to be one gallery row for each query."""
    kind = f"{query_index.dtype} {tuple(query_index.shape)}"
    if query_index.shape != (queries,) or query_index.dtype not in INTEGERS:
        raise ValueError(f"query_index must be ({queries},) integers, got {kind}")
    rows = query_index.long()
    outside = rows[(rows < 0) | (rows >= gallery)]
    if len(outside):
        law = f"query_index must be gallery rows, 0 to {gallery - 1}"
        raise ValueError(f"{law}, got {int(outside[0])}")
    return rows
