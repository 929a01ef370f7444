"""What happens in a study, told to Optuna's storage for its dashboard."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import optuna
from optuna.storages import BaseStorage
from optuna.trial import TrialState

from study.results.trials import UNFINISHED, TrialRecord, title
from study.search.space import Space, ranges_of

PARTS = 1_000  # of an epoch: Optuna counts steps in whole numbers


class Mirror:
    """A trial of Optuna's for each: COMPLETE with its value after all epochs, PRUNED if it was of a
    lower rung, FAIL if it ended by a fault, or, until the study goes on, was interrupted. Steps are
    thousandths of an epoch. Nothing is read from it.

    Args:
        losses: each has a study of Optuna's by its name.
        metric: the field of an epoch that is to be high.
        max_epochs: of the last rung.
        storage: Optuna's, which must be empty; None: in memory.
    """

    def __init__(
        self,
        losses: Sequence[str],
        space: Space,
        metric: str,
        max_epochs: float,
        storage: BaseStorage | None,
    ) -> None:
        self.max_epochs = max_epochs
        self.ranges = {loss: ranges_of(loss, space) for loss in losses}
        self.studies = {loss: _new_study(loss, storage, metric) for loss in losses}
        self.mirrored: dict[str, optuna.Trial] = {}

    def add(self, record: TrialRecord) -> None:
        """A record as it is now: one that is unfinished is going on."""
        study = self.studies[record.loss]
        # A trial that failed is run again when a study is continued.
        state = TrialState.RUNNING if record.status in UNFINISHED else self._state(record)
        study.add_trial(
            optuna.trial.create_trial(
                state=state,
                value=record.score if state is TrialState.COMPLETE else None,
                params=record.knobs,
                distributions={name: self.ranges[record.loss][name] for name in record.knobs},
                intermediate_values={
                    _step(row["epoch"]): row[record.metric] for row in record.epochs
                },
                user_attrs={
                    "trial": record.trial_id,
                    "epochs": record.config.epochs,
                    "origin": record.origin,
                    "follows": record.follows or "",
                },
            )
        )
        frozen = study.get_trials(deepcopy=False)[-1]
        self.mirrored[record.trial_id] = optuna.Trial(study, frozen._trial_id)

    def report(self, record: TrialRecord) -> None:
        """The last epoch of a trial."""
        last, trial = record.epochs[-1], self.mirrored[record.trial_id]
        known = trial.study.get_trials(deepcopy=False)[trial.number].intermediate_values
        if _step(last["epoch"]) not in known:  # one that went on from a checkpoint may repeat it
            trial.report(last[record.metric], _step(last["epoch"]))

    def tell(self, record: TrialRecord) -> None:
        """How a trial ended."""
        trial, state = self.mirrored[record.trial_id], self._state(record)
        if trial.study.get_trials(deepcopy=False)[trial.number].state is not TrialState.RUNNING:
            return  # a trial that Tune ends again, after a fault in between
        trial.study.tell(trial, record.score if state is TrialState.COMPLETE else None, state)

    def _state(self, record: TrialRecord) -> TrialState:
        if record.status != "finished":
            return TrialState.FAIL
        whole = record.config.epochs >= self.max_epochs
        return TrialState.COMPLETE if whole else TrialState.PRUNED


def _step(epoch: float) -> int:
    return round(PARTS * epoch)


def _new_study(loss: str, storage: BaseStorage | None, metric: str) -> optuna.Study:
    study = optuna.create_study(storage=storage, study_name=loss, direction="maximize")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        # What optuna-dashboard's charts call the objective.
        study.set_metric_names([f"validation {title(metric)}"])
    return study
