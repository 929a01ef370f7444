"""The network of a study that a person searches with."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from study.judge.choices import Frozen
from study.judge.comparison import CONFIRMATION
from study.judge.evaluation import trained_network
from study.results.files import StudyError
from study.results.images import dataset_of
from study.results.studies import Choice, Study
from trainables.data import Dataset
from trainables.data.pixels.decode import VERSION
from trainables.laws import did_you_mean
from trainables.networks import Embedder


@dataclass(frozen=True, eq=False)
class Chosen:
    """The network of one loss.

    Attributes:
        study: it is from here.
        loss: as the study names it.
        choice: the trial, its configuration, its epoch and its checkpoint.
        network: in evaluation mode, on the CPU.
        dataset: makes of any picture what the network was trained on.
    """

    study: Study
    loss: str
    choice: Choice
    network: Embedder
    dataset: Dataset

    @cached_property
    def fingerprint(self) -> str:
        """Of the weights, of what the network takes and of the rules by which pictures are read, 16
        hexadecimal digits."""
        digest = hashlib.sha256(f"{self.network.input} {VERSION}".encode())
        for name, weight in self.network.state_dict().items():
            digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
            digest.update(weight.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]


def choices(study: Study) -> dict[str, Choice]:
    """By loss, what a study ended with: the first run that confirms its choice, in a comparison
    that has confirmed them; else what the search chose. The highest validation score comes first.
    """
    found = dict(study.best())
    confirmation = study.folder / CONFIRMATION
    if (confirmation / "study.json").exists():
        confirmed, frozen = Study.load(confirmation), Frozen.load(study.folder)
        for run in reversed(confirmed.trials):
            if run.status == "finished" and frozen.role(run) == "chosen":
                found[run.loss] = confirmed.choice(run)
    return dict(sorted(found.items(), key=lambda item: -item[1].score))


def chosen(study: Study, loss: str | None = None, data_dir: Path | str | None = None) -> Chosen:
    """The network of a loss; of None, that of the highest validation score.

    Raises:
        StudyError: the study has no such loss, has not chosen, or is a record without weights; or
            as `trained_network`.
    """
    found = choices(study)
    if not found:
        raise StudyError(f"{study.folder} has no trial yet that could be chosen")
    loss = loss or next(iter(found))
    if loss not in found:
        law = f"the study in {study.folder} has chosen for {', '.join(found)}"
        raise StudyError(f"{law}; got {loss}{did_you_mean(loss, found)}")
    if found[loss].checkpoint is None:
        law = "a published record has no weights"
        raise StudyError(f"{law}: give the study that {study.folder} was made from")
    network = trained_network(found[loss])
    return Chosen(study, loss, found[loss], network, dataset_of(study.info["plan"], data_dir))
