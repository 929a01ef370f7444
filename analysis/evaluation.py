"""The chosen networks on images that they were not trained on: embeddings, AP, intervals.

The test split is read here alone, and only for a study that is finished: its choices are frozen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy import stats
from torch import Tensor

from study.results import Choice, Study, StudyError
from trainables.data import DATASETS, PROTOCOLS, LabelledImages, Protocol
from trainables.metrics import RetrievalResult, evaluate_retrieval
from trainables.train import embed, load_network, read_checkpoint

CONFIDENCE = 0.95


class Interval(NamedTuple):
    """Student's t interval of a mean; both ends NaN for fewer than two values."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.low:.3f} to {self.high:.3f}"


class Images(NamedTuple):
    """What the networks are judged on.

    Attributes:
        data: N images with their labels.
        classes: the name of label 0, 1, ...
        name: `test images` or `validation images`.
        note: why these are not the test images; empty if they are.
    """

    data: LabelledImages
    classes: tuple[str, ...]
    name: str
    note: str

    @property
    def described(self) -> str:
        """For every place that states a number: it must not be taken for the test's."""
        return self.note or self.name


class ProtocolResult(NamedTuple):
    """One network under one protocol, with the sizes that were really used."""

    protocol: Protocol
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


def load_images(study: Study, data_dir: Path | str | None = None) -> Images:
    """The test images of a finished study; of any other study the validation images.

    Raises:
        StudyError: the chosen configurations are of no known dataset, or of several.
        DataError: the dataset's files are missing or damaged.
    """
    names = sorted({choice.config.dataset for choice in study.best().values()})
    if len(names) != 1 or names[0] not in DATASETS:
        known = ", ".join(DATASETS)
        raise StudyError(f"the choices must be of one dataset of {known}; got {', '.join(names)}")
    dataset = DATASETS[names[0]]
    status = study.info.get("status")
    if status == "finished":
        return Images(dataset.load_test(data_dir), dataset.classes, "test images", "")
    note = f"validation images, not test; the study is {status}"
    validation = dataset.load_split(data_dir).validation
    return Images(validation, dataset.classes, "validation images", note)


def evaluate_study(study: Study, images: Images) -> dict[str, Evaluation]:
    """By loss, its chosen network on these images, the best mAP under `full` first.

    Raises:
        StudyError: a checkpoint is missing, damaged, or of another configuration or epoch.
    """
    evaluations = {loss: evaluate(choice, images.data) for loss, choice in study.best().items()}
    return dict(sorted(evaluations.items(), key=lambda item: -_full_map(item[1])))


def evaluate(choice: Choice, data: LabelledImages) -> Evaluation:
    """One chosen network on N images, which it embeds once.

    Raises:
        StudyError: the checkpoint is missing, damaged, or of another configuration or epoch.
    """
    if choice.checkpoint is None or not choice.checkpoint.is_file():
        where = choice.checkpoint or "none was recorded"
        raise StudyError(f"the checkpoint of trial {choice.trial_id} is missing: {where}")
    try:
        config, network = load_network(choice.checkpoint)
    except (KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise StudyError(f"{choice.checkpoint} is not a checkpoint: {reason}") from error
    if config != choice.config or read_checkpoint(choice.checkpoint)["epoch"] != choice.epoch:
        wanted = f"epoch {choice.epoch} of trial {choice.trial_id}"
        raise StudyError(f"{choice.checkpoint} is not the checkpoint of {wanted}")
    embeddings, labels = embed(network, data), torch.from_numpy(data.labels)
    judged = {name: judge(embeddings, labels, protocol) for name, protocol in PROTOCOLS.items()}
    return Evaluation(choice, embeddings, judged)


def judge(embeddings: Tensor, labels: Tensor, protocol: Protocol) -> ProtocolResult:
    """Embeddings (N, D) with labels (N,) under a protocol, or as much of it as N images allow."""
    used = Protocol(min(protocol.gallery, len(labels)), min(protocol.queries, len(labels)))
    queries, gallery = slice(used.queries), slice(used.gallery)
    result = evaluate_retrieval(
        embeddings[queries],
        labels[queries],
        embeddings[gallery],
        labels[gallery],
        query_index=torch.arange(used.queries),
    )
    return ProtocolResult(used, result, mean_interval(result.average_precision))


def mean_interval(values: np.ndarray) -> Interval:
    """The interval of the mean of values (Q,), those that are NaN left out."""
    values = values[~np.isnan(values)]
    if len(values) < 2:
        return Interval(np.nan, np.nan)
    half = stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * stats.sem(values)
    return Interval(float(values.mean() - half), float(values.mean() + half))


def difference(
    first: Evaluation, second: Evaluation, protocol: str = "full"
) -> tuple[float, Interval]:
    """By how much the first has the higher mAP, paired over the same queries."""
    pairs = (
        first.protocols[protocol].result.average_precision
        - second.protocols[protocol].result.average_precision
    )
    return float(np.nanmean(pairs)), mean_interval(pairs)


def map_table(evaluations: Mapping[str, Evaluation]) -> pd.DataFrame:
    """A row a loss and protocol: mAP, its interval, how many queries and gallery images."""
    rows = [
        {
            "loss": loss,
            "protocol": name,
            "map": judged.mean_average_precision,
            "low": judged.interval.low,
            "high": judged.interval.high,
            "queries": judged.protocol.queries,
            "gallery": judged.protocol.gallery,
            "queries_without_relevant": judged.result.queries_without_relevant,
        }
        for loss, evaluation in evaluations.items()
        for name, judged in evaluation.protocols.items()
    ]
    return pd.DataFrame(rows)


def _full_map(evaluation: Evaluation) -> float:
    return evaluation.protocols["full"].mean_average_precision
