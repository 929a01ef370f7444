"""One Optuna search for each loss, all of equal size, taken in turn.

Optuna is told what happened: a finished trial is COMPLETE with its best epoch's metric, one
that ASHA stopped is PRUNED with its epochs' values, one that failed or diverged is FAIL, and so is
one that was interrupted, until its study goes on.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import optuna
from optuna.storages import BaseStorage
from optuna.trial import TrialState

from study.run.results import UNFINISHED, TrialRecord, title, trial_name
from study.search.space import (
    SPACE,
    Space,
    default,
    distributions,
    params,
    sample,
    starts,
)

SEARCHES = ("tpe", "random")
STARTUP_TRIALS = 6  # before TPE models what it has seen: few, as a study of an evening is small
STATES: Mapping[str, TrialState] = {
    "running": TrialState.RUNNING,
    "interrupted": TrialState.FAIL,  # until the study goes on: then its search is made anew
    "finished": TrialState.COMPLETE,
    "stopped_early": TrialState.PRUNED,
    "diverged": TrialState.FAIL,
    "failed": TrialState.FAIL,
}
LEFT_OPEN = (TrialState.RUNNING, TrialState.WAITING)


class Source(Protocol):
    """Where a study's trials come from, and who is told what becomes of them."""

    def ask(self) -> TrialRecord | None: ...

    def report(self, record: TrialRecord) -> None: ...

    def tell(self, record: TrialRecord) -> None: ...


class Listed:
    """Hands out given trials, and needs to be told nothing: what a study without a search runs."""

    def __init__(self, trials: Sequence[TrialRecord]) -> None:
        self.left = list(trials)

    def ask(self) -> TrialRecord | None:
        """The next trial to run; None when all have been handed out."""
        return self.left.pop(0) if self.left else None

    def report(self, record: TrialRecord) -> None:
        """No later trial depends on it."""

    def tell(self, record: TrialRecord) -> None:
        """No later trial depends on it."""


class Searches:
    """Asks each loss's search in turn until each has had `num_samples` trials.

    A loss's first trials are those of `search_space.starts`, whatever the sampler, unless the
    search begins from scratch. What trial n of
    a loss is depends on the seed, on n and on what the search has been told until then: a study
    that is continued goes on as if it had not been interrupted.

    Args:
        space: what is searched; of the data in use, by `search_space.fitted`.
        metric: the field of an epoch that is to be high.
        from_scratch: without what is set by hand.
        fixed: of every trial: precision, network, weights and the like.
        records: the trials of a study that is continued, in order; none for a new one. The
            storage must be empty: it is filled from these.
    """

    def __init__(
        self,
        losses: Sequence[str],
        *,
        num_samples: int,
        epochs: int,
        seed: int,
        kind: str = "tpe",
        space: Space = SPACE,
        metric: str = "val_map",
        from_scratch: bool = False,
        storage: BaseStorage | None = None,
        records: Sequence[TrialRecord] = (),
        **fixed: Any,
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.seed, self.kind, self.space, self.metric = seed, kind, space, metric
        self.base = {
            loss: default(loss, epochs=epochs, seed=seed, space=space, **fixed) for loss in losses
        }
        self.starts = {
            loss: () if from_scratch else starts(base, space) for loss, base in self.base.items()
        }
        self.turns = [loss for _ in range(num_samples) for loss in losses]
        self.studies = {loss: _new_study(loss, storage, metric) for loss in losses}
        self.asked: dict[str, optuna.Trial] = {}
        for record in sorted(records, key=lambda record: record.number):
            self._take_back(record)

    def ask(self) -> TrialRecord | None:
        """The next trial to run; None when every search has had its number of trials."""
        if len(self.asked) >= len(self.turns):
            return None
        loss = self.turns[len(self.asked)]
        study, number = self.studies[loss], len(self.studies[loss].get_trials(deepcopy=False))
        for start in self.starts[loss][number : number + 1]:
            study.enqueue_trial(params(start, self.space))
        study.sampler = _sampler(self.kind, self.seed, list(self.base).index(loss), number)
        trial = study.ask()
        config = sample(trial, self.base[loss], self.space)
        record = TrialRecord(trial_name(loss, number), config, metric=self.metric)
        record.search_state = study.get_trials(deepcopy=False)[number].system_attrs
        self.asked[record.trial_id] = trial
        return record

    def report(self, record: TrialRecord) -> None:
        """Tells Optuna the last epoch of a trial."""
        last = record.epochs[-1]
        trial = self.asked[record.trial_id]
        known = trial.study.get_trials(deepcopy=False)[trial.number].intermediate_values
        if last["epoch"] not in known:  # a trial that went on from a checkpoint may repeat one
            trial.report(last[record.metric], last["epoch"])

    def tell(self, record: TrialRecord) -> None:
        """Tells Optuna how a trial ended."""
        state, trial = STATES[record.status], self.asked[record.trial_id]
        if trial.study.get_trials(deepcopy=False)[trial.number].state not in LEFT_OPEN:
            return  # a trial that Tune ends again, after a fault in between
        value = record.score if state is TrialState.COMPLETE and record.best else None
        self.studies[record.loss].tell(self.asked[record.trial_id], value, state)

    def _take_back(self, record: TrialRecord) -> None:
        """Puts a recorded trial into its search, as it would be there had it just happened."""
        # A trial that failed is run again when a study is continued.
        state = TrialState.RUNNING if record.status in UNFINISHED else STATES[record.status]
        values = {row["epoch"]: row[record.metric] for row in record.epochs}
        study = self.studies[record.loss]
        study.add_trial(
            optuna.trial.create_trial(
                state=state,
                value=max(values.values()) if state is TrialState.COMPLETE else None,
                params=params(record.config, self.space),
                distributions=distributions(record.config, self.space),
                intermediate_values=values,
                system_attrs=record.search_state,
            )
        )
        frozen = study.get_trials(deepcopy=False)[-1]
        self.asked[record.trial_id] = optuna.Trial(study, frozen._trial_id)


def _new_study(loss: str, storage: BaseStorage | None, metric: str) -> optuna.Study:
    study = optuna.create_study(storage=storage, study_name=loss, direction="maximize")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        # What optuna-dashboard's charts call the objective.
        study.set_metric_names([f"validation {title(metric)}"])
    return study


def _sampler(kind: str, seed: int, *position: int) -> optuna.samplers.BaseSampler:
    """A sampler for one trial, seeded by the study's seed and the trial's position in it."""
    own_seed = int(np.random.SeedSequence([seed, *position]).generate_state(1)[0])
    if kind == "random":
        return optuna.samplers.RandomSampler(seed=own_seed)
    with warnings.catch_warnings():
        # `group` is marked experimental; without it, knobs that only some trials have fall out
        # of the joint model.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(
            seed=own_seed,
            n_startup_trials=STARTUP_TRIALS,
            multivariate=True,
            group=True,
            constant_liar=True,
        )
