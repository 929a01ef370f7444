"""What re-ranking and mirrored pictures gain and cost; nothing is chosen by them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from analysis.gallery.rerank import RERANKINGS
from study.judge.evaluation import Evaluation, judge, trained_network
from study.judge.significance import GAPS, mean_interval
from study.run.results import StudyError
from trainables.data import LabelledImages, Roles
from trainables.judging import judge_numpy
from trainables.retrieval import unit_length
from trainables.terminal import bar
from trainables.trained import embed

MIRRORED = "with the mirror"
MOST = 20_000  # images: their distances to each other take about 11 bytes a pair, 4.4 GB


def reranked(evaluations: Mapping[str, Evaluation], images: LabelledImages) -> pd.DataFrame:
    """A row a loss and order, under the first protocol: loss, order, map, by how much that is
    above the plain order's, the 95 % interval of this over queries (low, high), and seconds.

    The orders are those of `RERANKINGS`; that of the mean of a picture's and its mirror's
    embedding, scaled to unit length; and those of `RERANKINGS` of these means.

    Raises:
        StudyError: there are more than `MOST` images, or a network is missing.
    """
    if len(images) > MOST:
        law = f"re-ranking holds all distances at once, of at most {MOST:,} images"
        raise StudyError(f"{law}; got {len(images):,}")
    rows = []
    with bar(len(evaluations) * (2 * len(RERANKINGS) + 1), "re-ranked", "rankings") as shown:
        for loss, evaluation in evaluations.items():
            judged = next(iter(evaluation.protocols.values()))
            plain = judged.result.average_precision
            for order, found, seconds in _orders(evaluation, images, judged.roles):
                gain = mean_interval(found - plain, GAPS)
                rows.append(
                    {
                        "loss": loss,
                        "order": order,
                        "map": float(np.nanmean(found)),
                        "gain": float(np.nanmean(found - plain)),
                        "low": gain.low,
                        "high": gain.high,
                        "seconds": seconds,
                    }
                )
                shown.update()
    return pd.DataFrame(rows)


def _orders(
    evaluation: Evaluation, images: LabelledImages, roles: Roles
) -> Iterator[tuple[str, NDArray[np.float64], float]]:
    """Of each order its name, the AP of the queries (Q,), and the seconds that it took."""
    for name in RERANKINGS:
        start = time.perf_counter()
        found = average_precisions(evaluation.embeddings, images.labels, roles, name)
        yield name, found, time.perf_counter() - start
    start = time.perf_counter()
    both = mirrored(evaluation, images)
    found = judge(both, torch.from_numpy(images.labels), roles).result.average_precision
    yield MIRRORED, found, time.perf_counter() - start
    for name in RERANKINGS:
        start = time.perf_counter()
        found = average_precisions(both, images.labels, roles, name)
        yield f"{MIRRORED}, {name}", found, time.perf_counter() - start


def mirrored(evaluation: Evaluation, images: LabelledImages) -> Tensor:
    """(N, D): the mean of each picture's and its mirror's embedding, scaled to unit length."""
    mirror = embed(trained_network(evaluation.choice), images, mirror=True)
    return unit_length(evaluation.embeddings + mirror)


def average_precisions(
    embeddings: Tensor, labels: NDArray[np.int64], roles: Roles, name: str
) -> NDArray[np.float64]:
    """(Q,) of the queries, by one of `RERANKINGS`; NaN for one without a relevant image.

    Args:
        embeddings: (N, D) of unit length.
        labels: (N,).
    """
    others = np.setdiff1d(roles.gallery, roles.queries)
    order = np.concatenate([roles.queries, others])
    column = np.empty(len(labels), np.int64)
    column[order] = np.arange(len(order))
    gallery = column[roles.gallery]
    found = RERANKINGS[name](embeddings[torch.from_numpy(order)], len(roles.queries), gallery)
    distances = np.ascontiguousarray(found[:, gallery]).clip(0)
    own = roles.own
    distances[np.flatnonzero(own >= 0), own[own >= 0]] = np.inf
    if roles.groups is not None:
        groups = roles.groups[roles.queries][:, None]
        distances[(groups == roles.groups[roles.gallery]) & (groups >= 0)] = np.inf
    mine, theirs = (torch.from_numpy(labels[part]) for part in (roles.queries, roles.gallery))
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        judged = judge_numpy(pool, torch.from_numpy(distances), mine, theirs)
    return np.asarray(judged.average, np.float64)
