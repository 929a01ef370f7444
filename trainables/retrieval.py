"""Exact nearest-neighbour ranking in squared Euclidean distance, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from trainables.laws import integer

FLOATS = frozenset((torch.float16, torch.bfloat16, torch.float32, torch.float64))
INTEGERS = frozenset(
    getattr(torch, f"{sign}int{bits}") for sign in ("", "u") for bits in (8, 16, 32, 64)
)

#: Distances held at once, in elements of (queries, gallery): 64 MiB of float32.
CHUNK_ELEMENTS = 1 << 24


def unit_length(features: Tensor) -> Tensor:
    """(B, D) → the embeddings (B, D), each of Euclidean length 1."""
    return F.normalize(features, dim=1)


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
    queries: Tensor,
    gallery: Tensor,
    query_index: Tensor | None = None,
    query_groups: Tensor | None = None,
    gallery_groups: Tensor | None = None,
) -> Iterator[tuple[slice, Tensor]]:
    """Yield successive rows of queries and their squared distances (rows, G) to the gallery.

    What is left out of a query's ranking, its own row and the rows of its own group, is at distance
    infinity, so that it ranks last; all else is finite. A chunk holds about `CHUNK_ELEMENTS`.

    Args:
        queries, gallery: (Q, D) and (G, D), floating, of one dtype and device, finite.
        query_index: (Q,) integers, each query's own row of the gallery, -1 for a query that is not
            there; None: none is.
        query_groups, gallery_groups: (Q,) and (G,) integers, the group of each row, such as a
            camera's sequence, -1 for none; None, both: there are no groups.

    Raises:
        ValueError: an argument is not as described, or a squared distance could overflow.
    """
    _check_embeddings(queries, gallery)
    own, mine, theirs = _left_out(query_index, query_groups, gallery_groups, queries, gallery)
    step = max(1, CHUNK_ELEMENTS // max(1, len(gallery)))
    for start in range(0, len(queries), step):
        rows = slice(start, start + step)
        distances = squared_distances(queries[rows], gallery)
        if own is not None:
            there = (own[rows] >= 0).nonzero()[:, 0]
            distances[there, own[rows][there]] = torch.inf
        if mine is not None and theirs is not None:
            distances.masked_fill_(mine[rows, None] == theirs, torch.inf)
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
    queries: Tensor,
    gallery: Tensor,
    *,
    k: int,
    query_index: Tensor | None = None,
    query_groups: Tensor | None = None,
    gallery_groups: Tensor | None = None,
) -> Tensor:
    """The k nearest gallery rows of each query, nearest first: (Q, k) int64, on the CPU.

    Equal squared distances, as computed, are ranked in gallery order.

    Args:
        queries, gallery: (Q, D) and (G, D), floating, of one dtype and device, finite.
        k: an integer from 1 to the number of gallery rows that every query ranks.
        query_index, query_groups, gallery_groups: what is left out, as in `distance_chunks`.

    Raises:
        ValueError: an argument is not as described.
    """
    k, left_out = integer("k", k, 1), (query_index, query_groups, gallery_groups)
    _check_k(k, len(gallery))
    neighbours = np.empty((len(queries), k), dtype=np.int64)
    with torch.no_grad():
        for rows, distances in distance_chunks(queries, gallery, *left_out):
            _check_k(k, int(distances.isfinite().sum(1).min()))
            neighbours[rows] = first(distances.cpu(), k)
    return torch.from_numpy(neighbours)


def _check_k(k: int, ranked: int) -> None:
    if k > ranked:
        raise ValueError(f"k may not exceed the {ranked} gallery rows to rank, got {k}")


def first(distances: Tensor, k: int) -> NDArray[np.int64]:
    """The first k of `rank` of each row, (R, G) -> (R, k), without ranking the others.

    Args:
        distances: on the CPU, none of them NaN.
        k: 1 to G.
    """
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


def _left_out(
    index: Tensor | None,
    mine: Tensor | None,
    theirs: Tensor | None,
    queries: Tensor,
    gallery: Tensor,
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """The same as int64 on the gallery's device, -2 for a query of no group, once they are known
    to be what `distance_chunks` says."""
    if (mine is None) != (theirs is None):
        one = "query_groups" if theirs is None else "gallery_groups"
        raise ValueError(f"query_groups and gallery_groups belong together, got {one} alone")
    if index is not None:
        most = len(gallery) - 1
        law = f"-1 or gallery rows, 0 to {most}"
        index = _numbers("query_index", index, len(queries), law, most).to(gallery.device)
    if mine is not None and theirs is not None:
        most = torch.iinfo(torch.int64).max
        law = f"-1 or groups, 0 to {most}"
        mine = _numbers("query_groups", mine, len(queries), law, most).to(gallery.device)
        mine = mine.masked_fill(mine < 0, -2)  # the group of no gallery row
        theirs = _numbers("gallery_groups", theirs, len(gallery), law, most).to(gallery.device)
    return index, mine, theirs


def _numbers(name: str, values: Tensor, rows: int, law: str, most: int) -> Tensor:
    """`values` as int64 on the CPU, once they are known to be one for each row, -1 to `most`."""
    if values.shape != (rows,) or values.dtype not in INTEGERS:
        kind = f"{values.dtype} {tuple(values.shape)}"
        raise ValueError(f"{name} must be ({rows},) integers, got {kind}")
    numbers = values.cpu().numpy()
    outside = numbers[(numbers < -1) | (numbers > most)]
    if len(outside):
        raise ValueError(f"{name} must be {law}, got {outside[0]}")
    return torch.from_numpy(numbers.astype(np.int64))
