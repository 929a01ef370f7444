"""A trial: its configuration, its epochs, how it ended, and how it is called."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from study.results.files import StudyError, read_json
from trainables.config import TrialConfig
from trainables.metrics import METRICS

STATUSES = ("running", "finished", "diverged", "failed", "interrupted")
# Of a trial's `origin`, those that are not the name of what drew its configuration.
HAND_SET, GIVEN, PROMOTION, SELECTION = "hand-set", "given", "promotion", "final"
# The epochs of these are exact, so one of them can be the best; the others ended by a fault.
SOUND = ("running", "finished", "interrupted")
UNFINISHED = ("running", "interrupted", "failed")  # a study that is continued runs these again
# The name of a trial's record: `file_name` of a loss and what it fixes, and the trial's number.
RECORD = re.compile(r"[a-z][\w.+]*(=[\w.=,+-]*)?-\d{3,}\.json")


@dataclass
class TrialRecord:
    """One trial: its configuration, every epoch, how and why it ended.

    Attributes:
        trial_id: `<loss>-<number>`; the number counts within the loss, from 0.
        epochs: one mapping an epoch with the fields of `trainables.train.EpochMetrics`, and
            `time` when its result came, in seconds since 1970.
        status: one of `STATUSES`.
        cause: why it ended as it did, empty for `running` and `finished`.
        checkpoint: the best epoch's checkpoint file, once the trial has one. As the other two
            places it is absolute here, and as seen from the study's folder in the written record.
        last_checkpoint, last_checkpoint_epoch: the last epoch's, from which it can go on.
        logs: Tune's folder of the trial.
        knobs: the values of those that were searched, as the search has them.
        origin: how its configuration was come by: HAND_SET; what drew it; GIVEN where no knob has
            another value; PROMOTION of one that rested, to more epochs; SELECTION, for all epochs
            on a fresh seed. Empty: it is of no search.
        follows: the trial whose configuration it has, if it is one of the latter two.
        metric: the field of an epoch by which its study stops and chooses.
        worker: `host:pid` of the process that trained it last.
        started, ended: seconds since 1970, None if it has not.
    """

    trial_id: str
    config: TrialConfig
    epochs: list[dict[str, Any]] = field(default_factory=list)
    status: str = "running"
    cause: str = ""
    checkpoint: str | None = None
    last_checkpoint: str | None = None
    last_checkpoint_epoch: float = 0
    knobs: dict[str, Any] = field(default_factory=dict)
    origin: str = ""
    follows: str | None = None
    logs: str | None = None
    metric: str = "val_map"
    worker: str | None = None
    started: float | None = None
    ended: float | None = None

    @property
    def loss(self) -> str:
        """The loss whose search, or whose confirmation, the trial belongs to."""
        return search_of(self.trial_id)

    @property
    def hand_set(self) -> bool:
        """Whether the search was given the configuration to begin with, and did not find it."""
        return self.origin == HAND_SET

    @property
    def has_ended(self) -> bool:
        """Well or by a fault; one that is interrupted has not."""
        return self.status not in ("running", "interrupted")

    @property
    def is_sound(self) -> bool:
        """Whether it ended well."""
        return self.status == "finished" and bool(self.epochs)

    @property
    def reached(self) -> float:
        """The epochs that it has had."""
        return self.epochs[-1]["epoch"] if self.epochs else 0

    @property
    def number(self) -> int:
        return int(self.trial_id.rsplit("-", 1)[1])

    @property
    def best(self) -> dict[str, Any] | None:
        """The epoch of the highest metric, of equal ones the latest; None before any."""
        if not self.epochs:
            return None
        return max(self.epochs, key=lambda row: (row[self.metric], row["epoch"]))

    @property
    def score(self) -> float:
        """The metric at the best epoch; NaN before any."""
        return math.nan if self.best is None else float(self.best[self.metric])

    @property
    def seconds(self) -> float:
        """Spent in training and evaluation, without the start of processes."""
        return sum(row["seconds"] for row in self.epochs)

    def add_epoch(self, metrics: Mapping[str, Any]) -> None:
        """Adds an epoch; one that is run again after a fault takes the place of the first."""
        first = [row["time"] for row in self.epochs if row["epoch"] == metrics["epoch"]]
        self.epochs = [row for row in self.epochs if row["epoch"] < metrics["epoch"]]
        self.epochs.append({**metrics, "time": first[0] if first else time.time()})

    def add_checkpoint(self, path: str) -> None:
        """The last epoch's checkpoint was written to `path`."""
        self.last_checkpoint, self.last_checkpoint_epoch = path, self.epochs[-1]["epoch"]
        if self.best is self.epochs[-1]:
            self.checkpoint = path

    def go_back_to(self, checkpoint: str | None, epoch: float) -> None:
        """The trial is to go on from this checkpoint of this epoch; later ones are dropped."""
        self.last_checkpoint, self.last_checkpoint_epoch = checkpoint, epoch
        self.epochs = [row for row in self.epochs if row["epoch"] <= epoch]
        self.cause, self.ended = "", None
        if not self.epochs:
            self.checkpoint = None

    def to_dict(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self), "config": self.config.to_dict()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrialRecord:
        return cls(**{**values, "config": TrialConfig.from_dict(values["config"])})


def root(trial: TrialRecord, trials: Iterable[TrialRecord]) -> TrialRecord:
    """The trial, among these, with which a trial's configuration began."""
    by_name = {record.trial_id: record for record in trials}
    while trial.follows is not None:
        trial = by_name[trial.follows]
    return trial


def title(metric: str) -> str:
    """What the metric of an epoch's field, such as `val_map`, is called: `mAP`."""
    return METRICS[metric.removeprefix("val_")].title


def trial_name(loss: str, number: int) -> str:
    """A trial's name, which is a file's too: not every file system takes the colon of `pml:`."""
    return f"{file_name(loss)}-{number:03d}"


def file_name(loss: str) -> str:
    """A loss's name in those of files: a point for a colon, and two for a point."""
    return loss.replace(".", "..").replace(":", ".")


def search_of(trial_id: str) -> str:
    """The loss whose search a trial belongs to: the inverse of `trial_name`."""
    return ".".join(part.replace(".", ":") for part in trial_id.rsplit("-", 1)[0].split(".."))


def read_trial(path: Path) -> TrialRecord:
    trial = _trial_of(read_json(path), path)
    if trial.trial_id != path.stem:
        raise StudyError(f"{path} is not the record of a trial: {trial.trial_id}, {trial.status}")
    return trial


def read_together(path: Path) -> list[TrialRecord]:
    if not path.exists():
        return []
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise StudyError(f"{path} cannot be read: {error}") from error
    return [_trial_of(line, path) for line in lines]


def _trial_of(values: Any, path: Path) -> TrialRecord:
    """The trial that a file's content, or a line of it, describes."""
    try:
        trial = TrialRecord.from_dict(values)
        name = trial_name(trial.loss, trial.number)
        fits = trial.config.loss == trial.loss
        maps = [row[trial.metric] for row in trial.epochs]
    except (TypeError, KeyError, ValueError, IndexError) as error:
        raise StudyError(f"{path} is not the record of a trial: {error!r}") from error
    if not (fits and trial.trial_id == name and trial.status in STATUSES):
        raise StudyError(f"{path} is not the record of a trial: {trial.trial_id}, {trial.status}")
    if not all(map(math.isfinite, maps)):
        raise StudyError(f"{path}: {trial.metric} must be finite; got {maps}")
    return trial
