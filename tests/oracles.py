"""Slow, obvious references in float64, which import nothing of what they check."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import torch
from torch import Tensor

Rows = Sequence[Sequence[float]]


def squared_distance(x: Sequence[float], y: Sequence[float]) -> float:
    return sum((a - b) ** 2 for a, b in zip(x, y, strict=True))


def split(labels: Sequence[int], anchor: int) -> tuple[list[int], list[int]]:
    """The anchor's positives (not itself) and negatives."""
    others = [j for j in range(len(labels)) if j != anchor]
    positives = [j for j in others if labels[j] == labels[anchor]]
    return positives, [j for j in others if labels[j] != labels[anchor]]


def logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def smooth_ap(
    rows: Rows,
    labels: Sequence[int],
    tau: float,
    anchors: int | None = None,
    seed: bool = False,
    mean: bool = True,
) -> float:
    """The smooth AP loss, one logistic at a time."""
    losses = []
    for a in range(len(rows) if anchors is None else min(anchors, len(rows))):
        positives, negatives = split(labels, a)
        if not positives or not negatives:
            continue
        d = [squared_distance(rows[a], row) for row in rows]
        terms = []
        for p in positives:
            closer = sum(logistic((d[p] - d[j]) / tau) for j in positives if j != p)
            wrong = sum(logistic((d[p] - d[j]) / tau) for j in negatives)
            terms.append(((1 if seed else 0) + wrong) / (1 + closer + wrong))
        losses.append(sum(terms) / (len(terms) if mean else 1))
    return sum(losses) / len(losses) if losses else 0.0


def average_precision_loss(rows: Rows, labels: Sequence[int]) -> float:
    """1 - AP of every sample's ranking of the others, averaged where it is defined."""
    losses = []
    for a in range(len(rows)):
        positives, negatives = split(labels, a)
        if not positives or not negatives:
            continue
        ranking = sorted(positives + negatives, key=lambda j: squared_distance(rows[a], rows[j]))
        hits, precisions = 0, []
        for rank, j in enumerate(ranking, start=1):
            if labels[j] == labels[a]:
                hits += 1
                precisions.append(hits / rank)
        losses.append(1 - sum(precisions) / len(precisions))
    return sum(losses) / len(losses)


def triplet(
    rows: Rows, labels: Sequence[int], margin: float, anchors: int | None = None, mean: bool = True
) -> float:
    """The triplet loss, one triplet at a time."""
    hinges, anchor_sums = [], []
    for a in range(len(rows) if anchors is None else min(anchors, len(rows))):
        positives, negatives = split(labels, a)
        d = [squared_distance(rows[a], row) for row in rows]
        mine = [max(0.0, d[p] - d[n] + margin) for p in positives for n in negatives]
        hinges += mine
        if mine:
            anchor_sums.append(sum(mine))
    used = [hinge for hinge in hinges if hinge > 0] if mean else anchor_sums
    return sum(used) / len(used) if used else 0.0


def dense_smooth_ap(
    embeddings: Tensor,
    labels: Tensor,
    tau: float,
    anchors: int | None = None,
    seed: bool = False,
    mean: bool = True,
) -> Tensor:
    """The smooth AP loss by (A, B, B) tensors, for autograd to differentiate (and for timing)."""
    batch = len(embeddings)
    mine = embeddings[:anchors]
    d = (mine.square().sum(1)[:, None] + embeddings.square().sum(1)) - 2 * mine @ embeddings.T
    itself = torch.eye(batch, dtype=torch.bool)
    same = (labels[:anchors, None] == labels) & ~itself[:anchors]
    other = labels[:anchors, None] != labels
    s = torch.sigmoid((d[:, :, None] - d[:, None, :]) / tau).masked_fill(itself, 0)
    closer = (s * same[:, None]).sum(2)
    wrong = (s * other[:, None]).sum(2)
    terms = ((1 if seed else 0) + wrong) / (1 + closer + wrong) * same
    counts = same.any(1) & other.any(1)
    each = terms.sum(1) / (same.sum(1).clamp(min=1) if mean else 1)
    return torch.where(counts, each, 0).sum() / counts.sum().clamp(min=1)


def dense_triplet(
    embeddings: Tensor, labels: Tensor, margin: float, anchors: int | None = None, mean: bool = True
) -> Tensor:
    """The triplet loss by (A, B, B) tensors, for autograd to differentiate."""
    d = (embeddings[:anchors, None] - embeddings).square().sum(2)
    same = labels[:anchors, None] == labels
    other = ~same
    same = same & ~torch.eye(len(labels), dtype=torch.bool)[:anchors]
    hinges = (d[:, :, None] - d[:, None] + margin).clamp(min=0) * (
        same[:, :, None] & other[:, None]
    )
    count = (hinges > 0).sum() if mean else (same.any(1) & other.any(1)).sum()
    return hinges.sum() / count.clamp(min=1)


def slow_ranking(
    query: Sequence[float],
    gallery: Rows,
    own: int | None = None,
    left_out: Collection[int] = (),
) -> list[int]:
    """Gallery indices from nearest to farthest, without those left out; ties in gallery order."""
    scored = []
    for index, item in enumerate(gallery):
        if index != own and index not in left_out:
            distance = sum((a - b) * (a - b) for a, b in zip(query, item, strict=True))
            scored.append((distance, index))
    return [index for _, index in sorted(scored)]


def slow_average_precision(ranking: Sequence[bool]) -> float | None:
    """Mean of the precision at each relevant rank of a whole ranking; None without a relevant."""
    found, total = 0, 0.0
    for rank, relevant in enumerate(ranking, start=1):
        if relevant:
            found += 1
            total += found / rank
    return total / found if found else None


def slow_left_out(own: int, group: int, gallery_groups: Sequence[int]) -> list[int]:
    """The gallery rows that a query may not retrieve: its own, and those of its group; -1: none."""
    return [
        index
        for index, other in enumerate(gallery_groups)
        if index == own or (group != -1 and group == other)
    ]


def slow_average_precision_at_r(ranking: Sequence[bool]) -> float | None:
    """Mean over the R relevant of the precision at their ranks, 0 beyond rank R."""
    relevant, total = sum(ranking), 0.0
    for rank in range(1, relevant + 1):
        if ranking[rank - 1]:
            total += sum(ranking[:rank]) / rank
    return total / relevant if relevant else None


def slow_r_precision(ranking: Sequence[bool]) -> float | None:
    """The share of relevant items in the first R of a ranking with R of them."""
    relevant = sum(ranking)
    return sum(ranking[:relevant]) / relevant if relevant else None


def slow_recall_at(ranking: Sequence[bool], k: int) -> float | None:
    """1 if any of the first k is relevant, else 0; None without a relevant item."""
    return float(any(ranking[:k])) if any(ranking) else None


def slow_interpolated_precision(ranking: Sequence[bool], percent: int) -> float:
    """The highest precision at any rank whose recall is at least `percent` in a hundred."""
    relevant, found, best = sum(ranking), 0, 0.0
    for rank, hit in enumerate(ranking, start=1):
        found += hit
        if 100 * found >= percent * relevant:
            best = max(best, found / rank)
    return best
