"""Orders beside that of the distances: re-ranked, and of pictures together with their mirrors. No
loss is chosen or compared by them: each is a line of its own.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from study.judge.evaluation import Evaluation, judge, trained_network
from study.judge.significance import GAPS, mean_interval
from study.results.files import StudyError
from trainables.data import LabelledImages, Roles
from trainables.judging import judge_numpy
from trainables.reranking import RERANKINGS
from trainables.retrieval import unit_length
from trainables.terminal import bar
from trainables.trained import embed

MIRRORED = "with the mirror"
MOST = 20_000  # images: their distances to each other take about 11 bytes a pair, 4.4 GB
ORDERS = (*RERANKINGS, MIRRORED, *(f"{MIRRORED}, {name}" for name in RERANKINGS))


class Order(NamedTuple):
    """How one order answers the queries of the first protocol.

    Attributes:
        name: one of `ORDERS`.
        average_precision: (Q,) NaN for a query without a relevant image.
        seconds: that all queries took, judged; of the mirror alone with its embedding.
    """

    name: str
    average_precision: NDArray[np.float64]
    seconds: float


def check_size(images: LabelledImages) -> None:
    """StudyError if there are more images than re-ranking can hold."""
    if len(images) > MOST:
        law = f"re-ranking holds all distances at once, of at most {MOST:,} images"
        raise StudyError(f"{law}; got {len(images):,}")


def orders(evaluation: Evaluation, images: LabelledImages) -> Iterator[Order]:
    """Each of `ORDERS`, under the first protocol.

    Raises:
        StudyError: the network is missing.
    """
    roles = next(iter(evaluation.protocols.values())).roles
    for name in RERANKINGS:
        start = time.perf_counter()
        found = average_precisions(evaluation.embeddings, images.labels, roles, name)
        yield Order(name, found, time.perf_counter() - start)
    start = time.perf_counter()
    both = mirrored(evaluation, images)
    found = judge(both, torch.from_numpy(images.labels), roles).result.average_precision
    yield Order(MIRRORED, found, time.perf_counter() - start)
    for name in RERANKINGS:
        start = time.perf_counter()
        found = average_precisions(both, images.labels, roles, name)
        yield Order(f"{MIRRORED}, {name}", found, time.perf_counter() - start)


def orders_table(evaluations: Mapping[str, Evaluation], images: LabelledImages) -> pd.DataFrame:
    """A row a loss and order: loss, order, map, by how much that is above the plain order's (gain),
    its 95 % interval (low, high) over queries (over), and seconds.

    Raises:
        StudyError: there are more than `MOST` images, or a network is missing.
    """
    check_size(images)
    rows = []
    with bar(len(evaluations) * len(ORDERS), "re-ranked", "rankings") as shown:
        for loss, evaluation in evaluations.items():
            plain = next(iter(evaluation.protocols.values())).result.average_precision
            for order in orders(evaluation, images):
                gap = order.average_precision - plain
                gain = mean_interval(gap, GAPS)
                rows.append(
                    {
                        "loss": loss,
                        "order": order.name,
                        "map": float(np.nanmean(order.average_precision)),
                        "gain": float(np.nanmean(gap)),
                        "low": gain.low,
                        "high": gain.high,
                        "over": "queries",
                        "seconds": order.seconds,
                    }
                )
                shown.update()
    return pd.DataFrame(rows)


def orders_of_runs(rows: pd.DataFrame) -> pd.DataFrame:
    """The same of the runs of a comparison, in the mean, with intervals over runs; of repeated
    searches over these, each with the mean of its runs.

    Args:
        rows: a row a run and order, as `finals/orders.csv` has them.
    """
    found, repeated = [], rows["search"].nunique() > 1
    for (role, loss), mine in rows.groupby(["role", "loss"], sort=False):
        for order, each in mine.groupby("order", sort=False):
            units = each.groupby("search" if repeated else "trial_id")[["map", "gain"]].mean()
            gain = mean_interval(units["gain"].to_numpy(), GAPS)
            found.append(
                {
                    "loss": loss,
                    "role": role,
                    "order": order,
                    **units.mean(),
                    "low": gain.low,
                    "high": gain.high,
                    "over": "searches" if repeated else "runs",
                    "seconds": each["seconds"].mean(),
                }
            )
    return pd.DataFrame(found)


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
    groups = None if roles.groups is None else roles.groups[order]
    asking = embeddings[torch.from_numpy(order)], len(roles.queries)
    found = RERANKINGS[name](*asking, gallery, groups)
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
