"""A trained network on images that it was not trained on: embeddings, AP, intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from study.judge.significance import GAPS, Interval, mean_interval
from study.results.files import StudyError
from study.results.images import Images
from study.results.studies import Choice, Study
from trainables.data import Roles
from trainables.metrics import RetrievalResult, evaluate_roles
from trainables.networks import Embedder
from trainables.retrieval import nearest
from trainables.trained import embed, load_trained


class ProtocolResult(NamedTuple):
    """One network under one protocol: the roles of the images, and what came of them."""

    roles: Roles
    result: RetrievalResult
    interval: Interval

    @property
    def mean_average_precision(self) -> float:
        """Over the queries that have a relevant image."""
        return self.result.mean_average_precision


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The chosen network of a loss: unit embeddings (N, D), and its results by protocol."""

    choice: Choice
    embeddings: Tensor
    protocols: dict[str, ProtocolResult]


def evaluate(choice: Choice, images: Images) -> Evaluation:
    """One chosen network on N images, which it embeds once; StudyError as `trained_network`."""
    network = trained_network(choice)
    embeddings, labels = embed(network, images.data), torch.from_numpy(images.data.labels)
    judged = {name: judge(embeddings, labels, roles) for name, roles in images.protocols.items()}
    return Evaluation(choice, embeddings, judged)


def evaluate_study(study: Study, images: Images) -> dict[str, Evaluation]:
    """By loss, its chosen network on these images, the best mAP under the first protocol first.

    Raises:
        StudyError: a checkpoint is missing, damaged, or of another configuration or epoch.
    """
    evaluations = {loss: evaluate(choice, images) for loss, choice in study.best().items()}
    return dict(sorted(evaluations.items(), key=lambda item: -_first_map(item[1])))


def difference(
    first: Evaluation, second: Evaluation, protocol: str = "full"
) -> tuple[float, Interval]:
    """By how much the first has the higher mAP, paired over the same queries."""
    pairs = (
        first.protocols[protocol].result.average_precision
        - second.protocols[protocol].result.average_precision
    )
    return float(np.nanmean(pairs)), mean_interval(pairs, GAPS)


def trained_network(choice: Choice) -> Embedder:
    """The network of a choice, at the epoch that was chosen.

    Raises:
        StudyError: the checkpoint is missing, damaged, or of another configuration or epoch.
    """
    if choice.checkpoint is None or not choice.checkpoint.is_file():
        where = choice.checkpoint or "none was recorded"
        raise StudyError(f"the checkpoint of trial {choice.trial_id} is missing: {where}")
    try:
        found = load_trained(choice.checkpoint)
    except ValueError as error:
        raise StudyError(str(error)) from error
    if (found.config, found.epoch) != (choice.config, choice.epoch):
        wanted = f"epoch {choice.epoch} of trial {choice.trial_id}"
        raise StudyError(f"{choice.checkpoint} is not the checkpoint of {wanted}")
    return found.network


def judge(embeddings: Tensor, labels: Tensor, roles: Roles) -> ProtocolResult:
    """Embeddings (N, D) with labels (N,) in their roles."""
    result = evaluate_roles(embeddings, labels, roles)
    return ProtocolResult(roles, result, mean_interval(result.average_precision))


def nearest_places(embeddings: Tensor, roles: Roles, k: int) -> NDArray[np.int64]:
    """(Q, k) places of the gallery's images that are nearest to each query, nearest first.

    Args:
        embeddings: (N, D) of the images, in their roles.
        k: 1 to what every query ranks.
    """
    gallery = torch.from_numpy(roles.gallery)
    groups = None if roles.groups is None else torch.from_numpy(roles.groups)
    queries = torch.from_numpy(roles.queries)
    rows = nearest(
        embeddings[queries],
        embeddings[gallery],
        k=k,
        query_index=torch.from_numpy(roles.own),
        query_groups=None if groups is None else groups[queries],
        gallery_groups=None if groups is None else groups[gallery],
    )
    return np.asarray(roles.gallery[rows.numpy()])


def _first_map(evaluation: Evaluation) -> float:
    return next(iter(evaluation.protocols.values())).mean_average_precision
