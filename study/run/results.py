"""The results of a study: one schema, written by a study and read by the analysis.

    <storage-path>/<name>/
        study.json            what was asked, by which command, versions, commit, machine, status
        data.json             the data as it was: name, fingerprint, classes, its card
        trials/<trial>.json   the record of a trial: the truth from which the tables are derived
        trials.jsonl          in a study that was published: all of these, a line each, and no
                              epochs.csv
        trials.csv            a row a trial: identity, status, best epoch, then the knobs
        epochs.csv            a row an epoch of a trial
        best.json             by loss: the chosen configuration, its validation mAP, its checkpoint
        search.journal        the search as Optuna stores it
        tune/<run>/           Ray Tune's own folders, one for each time that the study was run:
                              checkpoints, TensorBoard files, logs
        report/               made by `analysis/report.py`

A file is replaced as a whole, so that no crash leaves half of one. Records name the study's files
as seen from its folder, so that a study that is copied or moved is whole, and is not the original.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import pandas as pd

from trainables.config import FIELDS, TrialConfig
from trainables.metrics import METRICS
from trainables.trained import read_checkpoint

SCHEMA = 1
# Records of earlier studies have trials that were stopped early; now each has its epochs.
STATUSES = ("running", "finished", "stopped_early", "diverged", "failed", "interrupted")
# Of a trial's `origin`, those that are not the name of what drew its configuration.
HAND_SET, PROMOTION, SELECTION = "hand-set", "promotion", "final"
# A loss whose search tried another one as well, before that had a name of its own.
FORMERLY = {"cross_entropy": "normalized_softmax"}
# The epochs of these are exact, so one of them can be the best; the others ended by a fault.
SOUND = ("running", "finished", "stopped_early", "interrupted")


UNFINISHED = ("running", "interrupted", "failed")  # a study that is continued runs these again
# The name of a trial's record: `file_name` of a loss and what it fixes, and the trial's number.
RECORD = re.compile(r"[a-z][\w.+]*(=[\w.=,+-]*)?-\d{3,}\.json")
FILES = ("checkpoint", "last_checkpoint", "logs")  # of a record's fields, those that name a file
TOGETHER = "trials.jsonl"


class StudyError(ValueError):
    """A study that cannot be made, read or continued; the message is one line for the user."""


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
        origin: how its configuration was come by: HAND_SET; what drew it; PROMOTION of one that
            rested, to more epochs; SELECTION, for all epochs on a fresh seed. Empty: it was given.
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
        return self.status in ("finished", "stopped_early") and bool(self.epochs)

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
        """Also of earlier records, which have what Optuna kept of a trial instead of its origin."""
        fields = dict(values)
        state = fields.pop("search_state", None)
        if state is not None:
            fields["origin"] = HAND_SET if "fixed_params" in state else ""
        return cls(**{**fields, "config": TrialConfig.from_dict(values["config"])})


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


class Choice(NamedTuple):
    """The configuration that a loss is represented by, chosen on the validation images alone; its
    `score` is the value of the metric that chose it: the mean over `seeds` runs, of which
    the trial is the first."""

    trial_id: str
    config: TrialConfig
    val_map: float
    epoch: float
    checkpoint: Path | None
    score: float = math.nan
    seeds: int = 1

    def to_dict(self) -> dict[str, Any]:
        """As best.json and choices.json have it; `checkpoint` is as text."""
        place = None if self.checkpoint is None else str(self.checkpoint)
        return {**self._asdict(), "config": self.config.to_dict(), "checkpoint": place}


@dataclass
class Study:
    """A study's folder: `info` as in study.json, and the trials in the order of their start."""

    folder: Path
    info: dict[str, Any]
    trials: list[TrialRecord]

    @classmethod
    def create(cls, folder: Path, info: dict[str, Any]) -> Study:
        """A new study; StudyError if the folder has one already."""
        if (folder / "study.json").exists():
            raise StudyError(f"{folder} already holds a study; choose another --name")
        try:
            (folder / "trials").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StudyError(f"the study's folder cannot be made: {error}") from error
        study = cls(folder, {"schema": SCHEMA, **info}, [])
        study.write()
        return study

    @classmethod
    def load(cls, folder: Path | str) -> Study:
        """Reads a study; StudyError names what is missing or damaged."""
        folder = Path(folder)
        if not (folder / "study.json").is_file():
            raise StudyError(f"{folder} is not a study: it has no study.json")
        info = read_json(folder / "study.json")
        if info.get("schema") != SCHEMA:
            raise StudyError(
                f"{folder / 'study.json'} must have schema {SCHEMA}; got {info.get('schema')!r}"
            )
        # Before the records, as a study that runs writes each before the table that names it.
        named = _named_in(folder / "trials.csv")
        paths = sorted((folder / "trials").glob("*.json"))
        # What an editor or another system leaves beside the records is none.
        own = [_read_trial(path) for path in paths if RECORD.fullmatch(path.name)]
        together = {trial.trial_id: trial for trial in _read_together(folder / TOGETHER)}
        trials = [*(together | {trial.trial_id: trial for trial in own}).values()]
        for trial in trials:
            for name in FILES:
                setattr(trial, name, _here(folder, getattr(trial, name)))
        trials.sort(key=lambda trial: (trial.number, trial.loss))
        for loss in {trial.loss for trial in trials if not info.get("listed")}:
            numbers = {trial.number for trial in trials if trial.loss == loss}
            for missing in sorted(set(range(max(numbers))) - numbers):
                raise StudyError(
                    f"{folder / 'trials'}: the record {trial_name(loss, missing)}.json is missing"
                )
        for lost in sorted(named - {trial.trial_id for trial in trials}):
            raise StudyError(
                f"{folder / 'trials'}: the record {lost}.json is missing, which trials.csv has"
            )
        return cls(folder, info, trials)

    @property
    def metric(self) -> str:
        """The field of an epoch by which the study stops and chooses trials."""
        return f"val_{self.info['plan'].get('select_by', 'map')}"

    @property
    def losses(self) -> list[str]:
        """The losses that the study was asked to tune, in that order."""
        return list(self.info["plan"]["losses"])

    def write_trial(self, trial: TrialRecord) -> None:
        text = json.dumps(self._values(trial), indent=1)
        write_atomically(self.folder / "trials" / f"{trial.trial_id}.json", text)

    def write_together(self) -> None:
        """The whole study, which has ended, in few files."""
        self.folder.mkdir(parents=True, exist_ok=True)
        lines = [json.dumps(self._values(trial)) + "\n" for trial in self.trials]
        write_atomically(self.folder / TOGETHER, "".join(lines))
        self.write(epochs=False)

    def _values(self, trial: TrialRecord) -> dict[str, Any]:
        values = trial.to_dict()
        return values | {name: _as_seen_from(self.folder, values[name]) for name in FILES}

    def write(self, *, epochs: bool = True) -> None:
        """study.json and all that is derived from the trials; the table of epochs if asked."""
        write_atomically(self.folder / "study.json", json.dumps(self.info, indent=2))
        write_atomically(self.folder / "trials.csv", self.trials_frame().to_csv(index=False))
        if epochs:
            write_atomically(self.folder / "epochs.csv", self.epochs_frame().to_csv(index=False))
        best = {loss: choice.to_dict() for loss, choice in self.best().items()}
        write_atomically(self.folder / "best.json", json.dumps(best, indent=2))

    def trials_frame(self) -> pd.DataFrame:
        """A row a trial: TRIAL_COLUMNS, then the knobs; best_* are empty before the first epoch."""
        rows = []
        for trial in self.trials:
            best = trial.best or {}
            row = {
                "trial_id": trial.trial_id,
                "status": trial.status,
                "cause": trial.cause,
                "origin": trial.origin,
                "follows": trial.follows,
                "epochs": trial.reached,
                "best_epoch": best.get("epoch"),
                "best_val_map": best.get("val_map"),
                f"best_{self.metric}": best.get(self.metric),
                "seconds": round(trial.seconds, 3),
                "started": trial.started,
                "ended": trial.ended,
                "worker": trial.worker,
                "logs": _as_seen_from(self.folder, trial.logs),
                "checkpoint": _as_seen_from(self.folder, trial.checkpoint),
            }
            knobs = trial.config.flat()
            knobs["max_epochs"] = knobs.pop("epochs")  # `epochs` is how many it had
            rows.append(row | knobs | {"loss": trial.loss})
        shared = [name for name in FIELDS if name not in ("loss", "loss_args", "epochs")]
        own = [name for row in rows for name in row if name not in TRIAL_COLUMNS]
        place = TRIAL_COLUMNS.index("best_val_map")  # beside it, the metric that chose
        identity = [*TRIAL_COLUMNS[:place], f"best_{self.metric}", *TRIAL_COLUMNS[place:]]
        columns = dict.fromkeys([*identity, *shared, "max_epochs", *own])
        return pd.DataFrame(rows, columns=list(columns))

    def epochs_frame(self) -> pd.DataFrame:
        """A row an epoch: trial_id, loss, then the fields of `EpochMetrics`."""
        rows = [
            {"trial_id": trial.trial_id, "loss": trial.loss, **row}
            for trial in self.trials
            for row in trial.epochs
        ]
        return pd.DataFrame(rows, columns=EPOCH_COLUMNS)

    def best(self) -> dict[str, Choice]:
        """By loss: of the configurations that were trained on fresh seeds, that of the highest
        mean; before there are any, the highest value of the most epochs. Faults are left out."""
        choices = {}
        for loss in self.losses:
            sound = [t for t in self.trials if t.loss == loss and t.status in SOUND and t.best]
            finals = self.finals(loss)
            if finals:
                most = max(map(len, finals.values()))
                choices[loss] = max(
                    (self.choice(*runs) for runs in finals.values() if len(runs) == most),
                    key=lambda choice: choice.score,
                )
            elif sound:
                # What has only begun to be trained for longer is not yet the better for it.
                ended = [trial for trial in sound if trial.has_ended] or sound
                longest = max(trial.config.epochs for trial in ended)
                trial = max((t for t in sound if t.config.epochs == longest), key=lambda t: t.score)
                choices[loss] = self.choice(trial)
        return choices

    def finals(self, loss: str) -> dict[str, list[TrialRecord]]:
        """The finished runs on fresh seeds of each configuration of a loss, by the trial that they
        follow."""
        found: dict[str, list[TrialRecord]] = {}
        for trial in self.trials:
            if trial.loss == loss and trial.origin == SELECTION and trial.status == "finished":
                assert trial.follows is not None
                found.setdefault(trial.follows, []).append(trial)
        return {name: sorted(runs, key=lambda t: t.config.seed) for name, runs in found.items()}

    def root(self, trial: TrialRecord) -> TrialRecord:
        """The trial with which a trial's configuration began."""
        return root(trial, self.trials)

    def choice(self, trial: TrialRecord, *others: TrialRecord) -> Choice:
        """A trial that has an epoch, at its best one; with the means over others, on more seeds."""
        best = [one.best for one in (trial, *others) if one.best is not None]
        path = None if trial.checkpoint is None else Path(trial.checkpoint)
        return Choice(
            trial.trial_id,
            trial.config,
            fmean(row["val_map"] for row in best),
            best[0]["epoch"],
            path,
            fmean(row[trial.metric] for row in best),
            len(best),
        )

    def unfinished(self) -> list[TrialRecord]:
        """The trials that have not ended, those that failed included: a fault may have passed."""
        return [t for t in self.trials if t.status in UNFINISHED]

    def go_back(self, trial: TrialRecord) -> None:
        """Takes a trial to its last epoch whose checkpoint can be read, else to its start."""
        for path in (trial.last_checkpoint, trial.checkpoint):
            epoch = None if path is None else _epoch_of(Path(path))
            if epoch is not None and epoch in {row["epoch"] for row in trial.epochs}:
                trial.go_back_to(path, epoch)
                return
        trial.go_back_to(None, 0)

    def counts(self) -> dict[str, int]:
        """How many trials have each status, without those that none has."""
        counts = dict.fromkeys(STATUSES, 0)
        for trial in self.trials:
            counts[trial.status] += 1
        return {status: count for status, count in counts.items() if count}


TRIAL_COLUMNS = [
    "trial_id",
    "loss",
    "status",
    "cause",
    "origin",
    "follows",
    "epochs",
    "best_epoch",
    "best_val_map",
    "seconds",
    "started",
    "ended",
    "worker",
    "logs",
    "checkpoint",
]
EPOCH_COLUMNS = [
    "trial_id",
    "loss",
    "epoch",
    "train_loss",
    "val_loss",
    *(f"val_{name}" for name in METRICS),
    "seconds",
    "evaluation_seconds",
    "images_per_second",
    "precision",
    "time",
]


def write_atomically(path: Path, text: str) -> None:
    """Replaces a file's content as a whole, so that a power cut leaves the old or the new."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    to_disk(partial)
    os.replace(partial, path)
    to_disk(path.parent)


def to_disk(path: Path) -> None:
    """Returns when a file's content, or the names in a folder, would survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; StudyError names a file that is missing or damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StudyError(f"{path} cannot be read (truncated?): {error}") from error
    if not isinstance(content, dict):
        raise StudyError(f"{path} must hold an object; got {type(content).__name__}")
    return content


def _as_seen_from(folder: Path, path: str | None) -> str | None:
    """A place in the study, or beside it in a study that holds it; any other as it is."""
    if path is None or not os.path.isabs(path):
        return path
    seen = os.path.relpath(path, folder)
    return seen if seen.startswith(("tune/", "../tune/")) else path


def _here(folder: Path, path: str | None) -> str | None:
    """The absolute place of what a record names; first of all a study has its own files."""
    if path is None:
        return None
    if path.startswith(("tune/", "../tune/")):
        return os.path.abspath(folder / path)
    if "/tune/" in path:  # an absolute one, as records once had: of this study, or of its original
        own = os.path.abspath(folder / "tune" / path.rsplit("/tune/", 1)[1])
        return own if os.path.exists(own) else path
    return path


def _read_trial(path: Path) -> TrialRecord:
    trial = _trial_of(read_json(path), path)
    if trial.trial_id != path.stem:
        raise StudyError(f"{path} is not the record of a trial: {trial.trial_id}, {trial.status}")
    return trial


def _read_together(path: Path) -> list[TrialRecord]:
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
        fits = trial.config.loss in (trial.loss, FORMERLY.get(trial.loss))
        maps = [row[trial.metric] for row in trial.epochs]
    except (TypeError, KeyError, ValueError, IndexError) as error:
        raise StudyError(f"{path} is not the record of a trial: {error!r}") from error
    if not (fits and trial.trial_id == name and trial.status in STATUSES):
        raise StudyError(f"{path} is not the record of a trial: {trial.trial_id}, {trial.status}")
    if not all(map(math.isfinite, maps)):
        raise StudyError(f"{path}: {trial.metric} must be finite; got {maps}")
    return trial


def _named_in(table: Path) -> set[str]:
    """The trials that a trials.csv names; whatever else is in it may be damaged."""
    try:
        content = table.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return set()
    found = re.findall(r'^(?:"([^\s"/]+-\d{3,})"|([^\s,"/]+-\d{3,}))(?=,)', content, re.MULTILINE)
    return {quoted or plain for quoted, plain in found}


def _epoch_of(checkpoint: Path) -> float | None:
    """The epoch after which a checkpoint was written; None if it cannot be read."""
    try:
        epoch: float = read_checkpoint(checkpoint)["epoch"]
        return epoch
    except (ValueError, TypeError, KeyError):
        return None
