"""How good a ranking is: mean average precision, MAP@R, R-precision, R@k and the precision-recall
curve, exact, from the one full ranking. `METRICS` has the formulas."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainables.data import Roles
from trainables.judging import STEPS, Floats, Judged, judge_numpy, judge_torch
from trainables.laws import integer
from trainables.retrieval import checked_rows, distance_chunks


@dataclass(frozen=True, eq=False)
class RetrievalResult:
    """What `evaluate_retrieval` measures.

    What is given for each query is NaN for a query with no relevant item, which no mean counts.

    Attributes:
        mean_average_precision: the mean of `average_precision`.
        average_precision: (Q,) float64, in [0, 1].
        recall: (101,) float64, 0 to 1 ascending.
        precision: (101,) float64, the interpolated precision at each recall.
        queries_without_relevant: how many queries are in neither mean.
        average_precision_at_r: (Q,) float64, in [0, 1].
        r_precision: (Q,) float64, in [0, 1].
        first_relevant_rank: (Q,) float64, the rank of the nearest relevant item, from 1.
    """

    mean_average_precision: float
    average_precision: Floats
    recall: Floats
    precision: Floats
    queries_without_relevant: int
    average_precision_at_r: Floats
    r_precision: Floats
    first_relevant_rank: Floats

    @property
    def eleven_point_precision(self) -> Floats:
        """(11,) the interpolated precision at recall 0, 0.1, ... 1."""
        return self.precision[:: STEPS // 10]

    def recall_at(self, k: int) -> Floats:
        """(Q,) 1 where any of the first k is relevant, else 0."""
        first = self.first_relevant_rank
        return np.where(np.isnan(first), np.nan, first <= integer("k", k, 1))


class Metric(NamedTuple):
    """A number that says how good a retrieval is, in [0, 1], the higher the better.

    Attributes:
        title: as the field writes it.
        formula: of one query; the metric is the mean over the queries with a relevant item.
        each: reads it off a result for each query, (Q,) float64, NaN where nothing is relevant.
    """

    title: str
    formula: str
    each: Callable[[RetrievalResult], Floats]

    def mean(self, result: RetrievalResult) -> float:
        """Over the queries with a relevant item."""
        values = self.each(result)
        return float(values[~np.isnan(values)].mean())


def _recall_at(k: int) -> Metric:
    formula = f"1 if rel(i) = 1 for any i ≤ {k}, else 0"
    return Metric(f"R@{k}", formula, lambda result: result.recall_at(k))


#: The metrics by name. R: relevant items of the query; G: items ranked; rel(i): 1 if the item at
#: rank i is relevant, else 0; P(i) = 1/i Σ_{j≤i} rel(j), the precision at rank i.
METRICS = {
    "map": Metric("mAP", "1/R Σ_{i≤G} P(i) rel(i)", lambda result: result.average_precision),
    "map_at_r": Metric(
        "MAP@R", "1/R Σ_{i≤R} P(i) rel(i)", lambda result: result.average_precision_at_r
    ),
    "r_precision": Metric("R-precision", "1/R Σ_{i≤R} rel(i)", lambda result: result.r_precision),
    **{f"recall_at_{k}": _recall_at(k) for k in (1, 2, 4, 8)},
}


def metric(name: str) -> Metric:
    """One of `METRICS`, or `recall_at_K` for any K from 1; ValueError for another name."""
    if name in METRICS:
        return METRICS[name]
    k = re.fullmatch(r"recall_at_([1-9][0-9]{0,8})", name)
    if k is None:
        raise ValueError(f"a metric is one of {', '.join(METRICS)} or recall_at_K; got {name!r}")
    return _recall_at(int(k[1]))


def evaluate_retrieval(
    queries: Tensor | NDArray[Any],
    query_labels: Tensor | NDArray[Any],
    gallery: Tensor | NDArray[Any],
    gallery_labels: Tensor | NDArray[Any],
    *,
    query_index: Tensor | NDArray[Any] | None = None,
    query_groups: Tensor | NDArray[Any] | None = None,
    gallery_groups: Tensor | NDArray[Any] | None = None,
) -> RetrievalResult:
    """Rank the whole gallery for every query by squared Euclidean distance, and judge the rankings.

    A gallery item is relevant to a query of the same label. The average precision of a query is
    the mean, over all its relevant items, of the precision at the item's rank (Manning, Raghavan
    and Schuetze, Introduction to Information Retrieval, eq. 8.8). Its interpolated precision at
    recall r is the highest precision at any rank whose recall is >= r (there, eq. 8.7); the curve
    is the mean of these over the queries with a relevant item. MAP@R is that of Musgrave, Belongie
    and Lim, A Metric Learning Reality Check (ECCV 2020, arXiv 2003.08505).

    Equal squared distances, as computed, are ranked in gallery order. float64 embeddings are
    ranked in float64, others in float32. What is left out of a query's ranking has no rank in it
    and is not relevant.

    Args:
        queries, gallery: (Q, D) and (G, D), floating, of one dtype and device, finite.
        query_labels, gallery_labels: (Q,) and (G,), integers, any numbers of int64.
        query_index: (Q,) integers, each query's own row of the gallery, left out of its ranking
            by index, not by distance; -1: the query is not in the gallery; None: no query is.
        query_groups, gallery_groups: (Q,) and (G,) integers, -1 for none: the gallery rows of a
            query's own group (a camera's sequence) are left out of its ranking too; None, both:
            there are no groups.

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
    given = (query_index, query_groups, gallery_groups)
    left_out = [None if rows is None else _tensor(rows) for rows in given]
    # One pool for all chunks: each new thread would keep memory of its own.
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        judge = partial(judge_numpy, pool) if gallery.device.type == "cpu" else judge_torch
        judged = [
            judge(distances, mine[rows], theirs)
            for rows, distances in distance_chunks(queries.detach(), gallery.detach(), *left_out)
        ]
    return _result(Judged(*(torch.cat(part).cpu().numpy() for part in zip(*judged, strict=True))))


def evaluate_roles(embeddings: Tensor, labels: Tensor, roles: Roles) -> RetrievalResult:
    """How well images (N, D) of these labels (N,) are retrieved in their roles."""
    queries, gallery = torch.from_numpy(roles.queries), torch.from_numpy(roles.gallery)
    groups = None if roles.groups is None else torch.from_numpy(roles.groups)
    mine, theirs = queries.to(embeddings.device), gallery.to(embeddings.device)
    return evaluate_retrieval(
        embeddings[mine],
        labels[queries],
        embeddings[theirs],
        labels[gallery],
        query_index=roles.own,
        query_groups=None if groups is None else groups[queries],
        gallery_groups=None if groups is None else groups[gallery],
    )


def _result(judged: Judged) -> RetrievalResult:
    average = judged.average
    some = ~np.isnan(average)
    if not some.any():
        raise ValueError(f"a query must have a relevant item, got none in {len(average)} queries")
    return RetrievalResult(
        mean_average_precision=float(average[some].mean()),
        average_precision=average,
        recall=np.arange(STEPS + 1) / STEPS,
        precision=judged.curve[some].mean(0),
        queries_without_relevant=int((~some).sum()),
        average_precision_at_r=judged.average_at_r,
        r_precision=judged.r_precision,
        first_relevant_rank=judged.first_rank,
    )


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
