"""What Ray Tune calls: the search, and the recorder of results."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.experiment import Trial
from ray.tune.logger import (
    CSVLoggerCallback,
    JsonLoggerCallback,
    LoggerCallback,
    TBXLoggerCallback,
)
from ray.tune.search import Searcher

from study.results.studies import Study
from study.results.trials import TrialRecord
from study.run.exchange import Exchange
from study.search.searches import Source
from trainables.terminal import BestEffort
from trainables.train import EpochMetrics

TABLES_EVERY = 20  # times as long as writing them takes
View = Callable[[TrialRecord], None]
EPOCH_FIELDS = tuple(EpochMetrics.__dataclass_fields__)


class StudySearcher(Searcher):
    """Hands trials to Tune: those that were interrupted, then those that the source gives.

    The recorder tells the source what came of them.
    """

    def __init__(self, source: Source, study: Study, exchange: Exchange) -> None:
        super().__init__(metric=study.metric, mode="max")
        self.source = source
        self.study = study
        self.exchange = exchange
        self.unfinished = study.unfinished()

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]
        if self.unfinished:
            record = self.unfinished.pop(0)
        else:
            asked = self.source.ask()
            if asked is None:  # until one that runs has ended, if any does
                waits = any(trial.status == "running" for trial in self.study.trials)
                return None if waits else Searcher.FINISHED
            record = asked
        record.status = "running"
        self.study.write_trial(record)
        return {
            **record.config.to_dict(),
            "trial_id": record.trial_id,
            "checkpoint": self.exchange.give(record.trial_id, record.last_checkpoint),
        }

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Nothing: the recorder knows why a trial ended, this call does not say."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the trials' records are what a study is continued from."""

    def restore(self, checkpoint_path: str) -> None:
        raise NotImplementedError("a study is continued from its trials' records")


class Recorder(tune.Callback):
    """Writes what happens to the study's folder and tells it to their source.

    A record or a checkpoint that cannot be written stops the study; what only shows them does not.
    The views are called with every trial whose record changed. The tables follow the records as
    fast as their size allows, so that a trial of a large study costs no more than one of a small.
    """

    def __init__(
        self,
        study: Study,
        source: Source,
        exchange: Exchange,
        views: Mapping[str, View],
    ) -> None:
        self.study = study
        self.source = source
        self.exchange = exchange
        self.views = [(BestEffort(name), view) for name, view in views.items()]
        self.tables = BestEffort("a table (trials.csv, epochs.csv, best.json)")
        self.stale, self.due = False, 0.0  # the tables, and when they may be written again

    def on_trial_start(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        record = self._record(trial)
        record.started = record.started or time.time()
        record.logs = trial.path
        self._write(record)

    def on_trial_result(
        self,
        iteration: int,
        trials: list[Trial],
        trial: Trial,
        result: dict[str, Any],
        **info: Any,
    ) -> None:
        record = self._record(trial)
        record.worker = f"{result['hostname']}:{result['pid']}"
        if "diverged" in result:
            record.cause = result["diverged"]
        else:
            record.add_epoch({name: result[name] for name in EPOCH_FIELDS})
            self.source.report(record)
        self._write(record)

    def on_trial_save(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        # Not `on_checkpoint`, whose errors Tune would log and pass over.
        record, saved = self._record(trial), trial.latest_checkpoint_result
        # A diverged network is not worth keeping.
        if saved is None or record.cause or saved.metrics["epoch"] != record.reached:
            return
        before = {record.checkpoint, record.last_checkpoint}
        record.add_checkpoint(self.exchange.keep(record.trial_id, saved.checkpoint))
        self.study.write_trial(record)
        trial.config["checkpoint"] = None  # from here on, Tune goes back to its own
        for old in before - {record.checkpoint, record.last_checkpoint}:
            self.exchange.drop(old)

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        record = self._record(trial)
        if record.cause:
            record.status = "diverged"
        else:
            record.status = "finished"
        self.end(record)

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        record = self._record(trial)
        record.status = "failed"
        record.cause = _last_line(trial.error_file)
        self.end(record)

    def end(self, record: TrialRecord) -> None:
        """Tells the search and the folder of a trial that has just ended."""
        record.ended = time.time()
        self.stale = True
        self._write(record)
        self.source.tell(record)

    def _write(self, record: TrialRecord) -> None:
        self.study.write_trial(record)
        for attempt, view in self.views:
            attempt(view, record)
        start = time.monotonic()
        if self.stale and start >= self.due:  # what is not written now is written at the end
            self.tables(self.study.write)
            self.stale, self.due = False, start + TABLES_EVERY * (time.monotonic() - start)

    def _record(self, trial: Trial) -> TrialRecord:
        trial_id = trial.config["trial_id"]
        return next(record for record in self.study.trials if record.trial_id == trial_id)


class Clock(tune.Callback):
    """Calls `look` as often as Tune looks around: how many trials run, and how many wait to."""

    def __init__(self, look: Callable[[int, int], None]) -> None:
        self.look = look
        self.attempt = BestEffort("the line that says how the study is")

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        counts = Counter(trial.status for trial in trials)
        self.attempt(self.look, counts[Trial.RUNNING], counts[Trial.PENDING])


def loggers() -> list[LoggerCallback]:
    """Tune's own: what they write is not read again, so that they stop nothing."""
    made = [CSVLoggerCallback(), JsonLoggerCallback(), TBXLoggerCallback()]
    for logger in made:
        attempt = BestEffort(type(logger).__name__)
        for name in ("start", "restore", "save", "result", "end"):
            hook = f"log_trial_{name}"
            setattr(logger, hook, partial(attempt, getattr(logger, hook)))
    return made


def _last_line(error_file: str | None) -> str:
    """The exception's own line of Tune's error file."""
    try:
        text = Path(error_file or "").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "unknown: the worker left no error file"
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip() if lines else "unknown: the error file is empty"
