"""What rankings are worth, from which `metrics.py` takes its means: two judges of equal numbers."""

from __future__ import annotations

from concurrent.futures import Executor
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainables.retrieval import rank

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

#: Steps of the recall axis: the curve has its points at recall 0, 1/100, ... 1.
STEPS = 100

#: Distances ranked at once by a CPU thread: few enough to stay in its second-level cache.
BLOCK_ELEMENTS = 1 << 16


class Judged(NamedTuple):
    """What C rankings are worth, NaN where nothing is relevant: (C,) each, the curve (C, 101)."""

    average: Any  # tensors, or arrays of numpy
    average_at_r: Any
    r_precision: Any
    first_rank: Any
    curve: Any


def judge_numpy(pool: Executor, distances: Tensor, mine: Tensor, theirs: Tensor) -> Judged:
    """Judge C rankings.

    Args:
        pool: the threads that rank.
        distances: (C, G), infinite at what is left out.
        mine, theirs: the labels (C,) of the queries and (G,) of the gallery.
    """
    rows, labels, gallery = distances.numpy(), mine.numpy(), theirs.numpy()

    def judge(block: slice) -> Judged:
        relevant = labels[block, None] == gallery
        relevant &= rows[block] < np.inf
        return _judge_order(relevant, rank(rows[block]))

    step = max(1, BLOCK_ELEMENTS // rows.shape[1])
    blocks = [slice(start, start + step) for start in range(0, len(rows), step)]
    # numpy's sorts release the interpreter lock, so threads rank at once.
    judged = zip(*pool.map(judge, blocks), strict=True)
    return Judged(*(torch.from_numpy(np.concatenate(part)) for part in judged))


def _judge_order(relevant: NDArray[np.bool], order: Integers) -> Judged:
    """Judge the rankings `order` (C, G) of the gallery, of which `relevant` (C, G) is relevant.

    The n-th relevant item of a row, at rank r_n, has precision n / r_n. Precision falls from one
    relevant item to the next, so the highest at recall >= s / 100 is at one of them: the n-th or
    a later one, n being the first with n / R >= s / 100. What is left out ranks last, so that
    neither the rank of a relevant item nor any of the first R is changed by it.
    """
    rows, items = relevant.shape
    row_starts = np.arange(rows)[:, None] * items
    row, place = np.divmod(np.flatnonzero(relevant.reshape(-1).take(order + row_starts)), items)
    total = np.bincount(row, minlength=rows)
    before = np.cumsum(total) - total
    precision = (np.arange(len(row)) - before[row] + 1) / (place + 1)
    within = place < total[row]  # among the first R
    some = total > 0
    before, total = before[some], total[some]
    judged = Judged(
        average=np.add.reduceat(precision, before) / total,
        average_at_r=np.add.reduceat(precision * within, before) / total,
        r_precision=np.add.reduceat(within, before, dtype=np.int64) / total,
        first_rank=place[before] + 1,
        curve=_curve(precision, before, total),
    )
    return Judged(*(_spread(part, some) for part in judged))


def _curve(precision: Floats, before: Integers, total: Integers) -> Floats:
    """(C, 101) of the precisions at the relevant ranks, `total` for each row from `before` on."""
    first = -(-np.arange(STEPS + 1) * total[:, None] // STEPS)
    starts = before[:, None] + np.maximum(first, 1) - 1
    # The highest up to the next step's start, then of all later steps.
    highest = np.maximum.reduceat(precision, starts.reshape(-1)).reshape(starts.shape)
    return np.maximum.accumulate(highest[:, ::-1], axis=1)[:, ::-1]


def _spread(values: NDArray[Any], some: NDArray[np.bool]) -> Floats:
    """A row of `values` where `some` is true, NaN elsewhere."""
    spread = np.full((len(some), *values.shape[1:]), np.nan)
    spread[some] = values
    return spread


def judge_torch(distances: Tensor, mine: Tensor, theirs: Tensor) -> Judged:
    """As `judge_numpy`, the same numbers for all rows at once, on the device of the distances."""
    device = distances.device
    relevant = (mine.to(device)[:, None] == theirs.to(device)) & distances.isfinite()
    hits = relevant.gather(1, distances.argsort(dim=1, stable=True))
    found = hits.cumsum(1)
    ranks = torch.arange(1, hits.shape[1] + 1, device=device, dtype=torch.float64)
    precision = hits * found / ranks
    total = found[:, -1:]
    none = total == 0
    highest = precision.flip(1).cummax(1).values.flip(1)
    first = -(-torch.arange(STEPS + 1, device=device) * total // STEPS)
    place = torch.searchsorted(found, first.clamp_min(1)).clamp_max(hits.shape[1] - 1)
    return Judged(
        average=precision.sum(1) / total[:, 0],
        average_at_r=precision.masked_fill(ranks > total, 0).sum(1) / total[:, 0],
        r_precision=(found.gather(1, (total - 1).clamp_min(0)).double() / total)[:, 0],
        first_rank=(place[:, 0] + 1).double().masked_fill(none[:, 0], torch.nan),
        curve=highest.gather(1, place).masked_fill(none, torch.nan),
    )
