"""The results of a study: one schema, written by a study and read by the analysis.

    <storage-path>/<name>/
        study.json            what was asked, by which command, versions, commit, machine, status,
                              digests of the files of network, weights and teacher
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

import json
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import pandas as pd

from study.results.files import StudyError, read_json, write_atomically
from study.results.trials import (
    RECORD,
    SELECTION,
    SOUND,
    STATUSES,
    UNFINISHED,
    TrialRecord,
    read_together,
    read_trial,
    root,
    trial_name,
)
from trainables.config import FIELDS, TrialConfig
from trainables.metrics import METRICS
from trainables.trained import read_checkpoint

SCHEMA = 1
FILES = ("checkpoint", "last_checkpoint", "logs")  # of a record's fields, those that name a file
TOGETHER = "trials.jsonl"


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
        own = [read_trial(path) for path in paths if RECORD.fullmatch(path.name)]
        together = {trial.trial_id: trial for trial in read_together(folder / TOGETHER)}
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
    def commit(self) -> str:
        """The first letters of the commit that ran it, with `+` if files differed; or empty."""
        commit = str(self.info.get("commit") or "")
        return commit[:10] + "+" * commit[10:].endswith("+")

    @property
    def processor(self) -> str:
        """Of the one machine that ran it; empty where it is not recorded, or there were several."""
        return str(self.info.get("machine", {}).get("processor") or "")

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
        """Takes a trial to its last epoch whose checkpoint can be read, else to its start: also if
        that of its best epoch cannot, which it would end without."""
        best = trial.checkpoint
        if best is not None and _epoch_of(Path(best)) is None:
            trial.go_back_to(None, 0)
            return
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


def _as_seen_from(folder: Path, path: str | None) -> str | None:
    """A place in the study, or beside it in a study that holds it; any other as it is."""
    if path is None or not os.path.isabs(path):
        return path
    seen = os.path.relpath(path, folder)
    return seen if seen.startswith(("tune/", "../tune/")) else path


def _here(folder: Path, path: str | None) -> str | None:
    """The absolute place of what a record names, in its folder unless that is elsewhere."""
    if path is None:
        return None
    return os.path.abspath(folder / path) if path.startswith(("tune/", "../tune/")) else path


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
