"""What Ray Tune calls: the search, the scheduler, and the recorder of results."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from study.results import Study, TrialRecord
from study.search import Searches
from trainables.train import EpochMetrics

METRIC = "val_map"
EPOCH_FIELDS = tuple(EpochMetrics.__dataclass_fields__)


class StudySearcher(Searcher):
    """Hands the trials that the searches ask for to Tune; the recorder tells the searches."""

    def __init__(self, searches: Searches, study: Study) -> None:
        super().__init__(metric=METRIC, mode="max")
        self.searches = searches
        self.study = study

    def suggest(self, trial_id: str) -> dict[str, Any] | str:  # type: ignore[override]
        record = self.searches.ask()
        if record is None:
            return Searcher.FINISHED
        self.study.trials.append(record)
        self.study.write_trial(record)
        return {"trial_id": record.trial_id, **record.config.to_dict()}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Nothing: the recorder knows why a trial ended, this call does not say."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the trials' records are what a study is continued from."""

    def restore(self, checkpoint_path: str) -> None:
        raise NotImplementedError("a study is continued from its trials' records")


class HalvingByLoss(FIFOScheduler):
    """ASHA for each loss on its own: losses differ in how fast they learn."""

    def __init__(
        self, losses: Sequence[str], *, max_epochs: int, grace_epochs: int, factor: int
    ) -> None:
        super().__init__()
        self.by_loss = {
            loss: ASHAScheduler(
                time_attr="epoch",
                max_t=max_epochs,
                grace_period=min(grace_epochs, max_epochs),
                reduction_factor=factor,
            )
            for loss in losses
        }

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        return all(
            asha.set_search_properties(metric, mode, **spec) for asha in self.by_loss.values()
        )

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        self.by_loss[trial.config["loss"]].on_trial_add(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        if "diverged" in result:
            return TrialScheduler.CONTINUE
        return self.by_loss[trial.config["loss"]].on_trial_result(tune_controller, trial, result)

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        asha = self.by_loss[trial.config["loss"]]
        if "diverged" in result:
            asha.on_trial_remove(tune_controller, trial)
        else:
            asha.on_trial_complete(tune_controller, trial, result)

    def on_trial_remove(self, tune_controller: Any, trial: Trial) -> None:
        self.by_loss[trial.config["loss"]].on_trial_remove(tune_controller, trial)


class Recorder(tune.Callback):
    """Writes what happens to the study's folder and tells it to the searches.

    `watch` is called with every trial whose record changed.
    """

    def __init__(
        self, study: Study, searches: Searches, watch: Callable[[TrialRecord], None]
    ) -> None:
        self.study = study
        self.searches = searches
        self.watch = watch

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
            record.epochs.append({name: result[name] for name in EPOCH_FIELDS})
            self.searches.report(record)
        self._write(record)

    def on_checkpoint(
        self,
        iteration: int,
        trials: list[Trial],
        trial: Trial,
        checkpoint: tune.Checkpoint,
        **info: Any,
    ) -> None:
        record = self._record(trial)
        # The checkpoint is that of the last epoch: Tune trains no further while it saves.
        if not record.cause and record.best is record.epochs[-1]:
            record.checkpoint = str(Path(checkpoint.path) / "checkpoint.pt")
            self.study.write_trial(record)

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        record = self._record(trial)
        epochs, asked = len(record.epochs), record.config.epochs
        if record.cause:
            record.status = "diverged"
        elif epochs < asked:
            record.status = "stopped_early"
            record.cause = f"ASHA: among the lower of its rung after epoch {epochs} of {asked}"
        else:
            record.status = "finished"
        self._end(record)

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        record = self._record(trial)
        record.status = "failed"
        record.cause = _last_line(trial.error_file)
        self._end(record)

    def _end(self, record: TrialRecord) -> None:
        record.ended = time.time()
        self.searches.tell(record)
        self._write(record)
        self.study.write()

    def _write(self, record: TrialRecord) -> None:
        self.study.write_trial(record)
        self.watch(record)

    def _record(self, trial: Trial) -> TrialRecord:
        trial_id = trial.config["trial_id"]
        return next(record for record in self.study.trials if record.trial_id == trial_id)


def _last_line(error_file: str | None) -> str:
    """The exception's own line of Tune's error file."""
    if error_file is None or not Path(error_file).is_file():
        return "unknown: the worker left no error file"
    lines = [line for line in Path(error_file).read_text().splitlines() if line.strip()]
    return lines[-1].strip() if lines else "unknown: the error file is empty"
