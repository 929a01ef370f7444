"""Mean average precision and precision-recall curves of the full ranking, exact."""

from __future__ import annotations

from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainables.retrieval import checked_index, checked_rows, distance_chunks, rank

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

#: Steps of the recall axis: the curve has its points at recall 0, 1/100, ... 1.
STEPS = 100

#: Distances ranked at once by a CPU thread: few enough to stay in its second-level cache.
BLOCK_ELEMENTS = 1 << 16


@dataclass(frozen=True, eq=False)
class RetrievalResult:
    """What `evaluate_retrieval` measures; every number is in [0, 1] but the count.

    Attributes:
        mean_average_precision: the mean of `average_precision`, over queries with a relevant item.
        average_precision: (Q,) float64; NaN for a query with no relevant item.
        recall: (101,) float64, 0 to 1 ascending.
        precision: (101,) float64, the interpolated precision at each recall.
        queries_without_relevant: how many queries are in neither mean.
    """

    mean_average_precision: float
    average_precision: Floats
    recall: Floats
    precision: Floats
    queries_without_relevant: int

    @property
    def eleven_point_precision(self) -> Floats:
        """(11,) the interpolated precision at recall 0, 0.1, ... 1."""
        return self.precision[:: STEPS // 10]


def evaluate_retrieval(
    queries: Tensor | NDArray[Any],
    query_labels: Tensor | NDArray[Any],
    gallery: Tensor | NDArray[Any],
    gallery_labels: Tensor | NDArray[Any],
    *,
    query_index: Tensor | NDArray[Any] | None = None,
) -> RetrievalResult:
    """Rank the whole gallery for every query by squared Euclidean distance, and judge the rankings.

    A gallery item is relevant to a query of the same label. The average precision of a query is
    the mean, over all its relevant items, of the precision at the item's rank (Manning, Raghavan
    and Schuetze, Introduction to Information Retrieval, eq. 8.8). Its interpolated precision at
    recall r is the highest precision at any rank whose recall is >= r (there, eq. 8.7); the curve
    is the mean of these over the queries with a relevant item.

    Equal squared distances, as computed, are ranked in gallery order. float64 embeddings are
    ranked in float64, others in float32.

    Args:
        queries, gallery: (Q, D) and (G, D), floating, of one dtype and device, finite.
        query_labels, gallery_labels: (Q,) and (G,), integers, any numbers of int64.
        query_index: (Q,) integers, each query's own row of the gallery, left out of its ranking
            by index, not by distance; None: no query is in the gallery.

    Raises:
        ValueError: an argument is not as described, or no query has a relevant item.
    """
    queries, gallery = _tensor(queries), _tensor(gallery)
    checked_rows("queries", queries)
    checked_rows("gallery", gallery)
    mine = _labels("query_labels", query_labels, len(queries))
    theirs = _labels("gallery_labels", gallery_labels, len(gallery))
    if 0 in (len(mine), len(theirs)):
        law = "queries and gallery must have a row each"
        raise ValueError(f"{law}, got {len(mine)} and {len(theirs)}")
    own = None if query_index is None else _tensor(query_index)
    if own is not None:
        own = checked_index(own, len(queries), len(gallery)).to(gallery.device)
    # One pool for all chunks: each new thread would keep memory of its own.
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        judge = partial(_judge_numpy, pool) if gallery.device.type == "cpu" else _judge_torch
        judged = [
            judge(distances, mine[rows], theirs, None if own is None else own[rows])
            for rows, distances in distance_chunks(queries.detach(), gallery.detach(), own)
        ]
    average = torch.cat([a for a, _ in judged]).cpu().numpy()
    some = ~np.isnan(average)
    if not some.any():
        raise ValueError(f"a query must have a relevant item, got none in {len(average)} queries")
    return RetrievalResult(
        mean_average_precision=float(average[some].mean()),
        average_precision=average,
        recall=np.arange(STEPS + 1) / STEPS,
        precision=torch.cat([c for _, c in judged]).cpu().numpy()[some].mean(0),
        queries_without_relevant=int((~some).sum()),
    )


def _judge_numpy(
    pool: Executor, distances: Tensor, mine: Tensor, theirs: Tensor, own: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Average precision (C,) and curve (C, 101) of C rankings, NaN where nothing is relevant.

    Args:
        pool: the threads that rank.
        distances: (C, G), infinite at the query's own row.
        mine, theirs: the labels (C,) of the queries and (G,) of the gallery.
        own: (C,) each query's own row, never relevant; None: it has none.
    """
    rows, labels, gallery = distances.numpy(), mine.numpy(), theirs.numpy()

    def judge(block: slice) -> tuple[Floats, Floats]:
        relevant = labels[block, None] == gallery
        if own is not None:
            np.put_along_axis(relevant, own.numpy()[block, None], False, axis=1)
        return _average_precision(relevant, rank(rows[block]))

    step = max(1, BLOCK_ELEMENTS // rows.shape[1])
    blocks = [slice(start, start + step) for start in range(0, len(rows), step)]
    # numpy's sorts release the interpreter lock, so threads rank at once.
    average, curve = zip(*pool.map(judge, blocks), strict=True)
    return torch.from_numpy(np.concatenate(average)), torch.from_numpy(np.concatenate(curve))


def _average_precision(relevant: NDArray[np.bool], order: Integers) -> tuple[Floats, Floats]:
    """Average precision (R,) and curve (R, 101) of the rankings `order` (R, G) of the gallery.

    The n-th relevant item of a row, at rank r_n, has precision n / r_n. Precision falls from one
    relevant item to the next, so the highest at recall >= s / 100 is at one of them: the n-th or
    a later one, n being the first with n / P >= s / 100.
    """
    rows, items = relevant.shape
    row_starts = np.arange(rows)[:, None] * items
    row, place = np.divmod(np.flatnonzero(relevant.reshape(-1).take(order + row_starts)), items)
    total = np.bincount(row, minlength=rows)
    before = np.cumsum(total) - total
    precision = (np.arange(len(row)) - before[row] + 1) / (place + 1)
    average = np.full(rows, np.nan)
    curve = np.full((rows, STEPS + 1), np.nan)
    some = total > 0
    if some.any():
        average[some] = np.add.reduceat(precision, before[some]) / total[some]
        first = -(-np.arange(STEPS + 1) * total[some, None] // STEPS)
        starts = before[some, None] + np.maximum(first, 1) - 1
        # The highest up to the next step's start, then of all later steps.
        highest = np.maximum.reduceat(precision, starts.reshape(-1)).reshape(starts.shape)
        curve[some] = np.maximum.accumulate(highest[:, ::-1], axis=1)[:, ::-1]
    return average, curve


def _judge_torch(
    distances: Tensor, mine: Tensor, theirs: Tensor, own: Tensor | None
) -> tuple[Tensor, Tensor]:
    """As `_judge_numpy`, the same numbers for all rows at once, on the device of the distances."""
    device = distances.device
    relevant = mine.to(device)[:, None] == theirs.to(device)
    if own is not None:
        relevant.scatter_(1, own.to(device).long()[:, None], False)
    hits = relevant.gather(1, distances.argsort(dim=1, stable=True))
    found = hits.cumsum(1)
    ranks = torch.arange(1, hits.shape[1] + 1, device=device, dtype=torch.float64)
    precision = hits * found / ranks
    total = found[:, -1:]
    average = precision.sum(1) / total[:, 0]
    highest = precision.flip(1).cummax(1).values.flip(1)
    first = -(-torch.arange(STEPS + 1, device=device) * total // STEPS)
    place = torch.searchsorted(found, first.clamp_min(1)).clamp_max(hits.shape[1] - 1)
    curve = highest.gather(1, place).masked_fill(total == 0, torch.nan)
    return average, curve


def _tensor(values: Tensor | NDArray[Any]) -> Tensor:
    """`values` as a tensor, without a copy where torch can share the memory."""
    if isinstance(values, Tensor):
        return values
    return torch.from_numpy(np.require(values, requirements=["C", "W"]))


def _labels(name: str, labels: Tensor | NDArray[Any], items: int) -> Tensor:
    """`labels` as an int64 tensor on the CPU, once they are known to be one for each item."""
    array = labels.cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
    if array.shape != (items,) or array.dtype.kind not in "iu":
        raise ValueError(f"{name} must be ({items},) integers, got {array.dtype} {array.shape}")
    if array.dtype == np.uint64 and array.max(initial=0) > np.iinfo(np.int64).max:
        raise ValueError(f"{name} must be numbers of int64, got {array.max()}")
    return torch.from_numpy(array.astype(np.int64))
