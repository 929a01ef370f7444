"""One Optuna search for each loss, all of equal size, taken in turn.

Optuna is told what happened: a finished trial is COMPLETE with its best epoch's validation mAP, one
that ASHA stopped is PRUNED with its epochs' values, one that failed or diverged is FAIL.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import optuna
from optuna.storages import BaseStorage
from optuna.trial import TrialState

from study.results import TrialRecord
from study.search_space import params, reference, sample

STATES: Mapping[str, TrialState] = {
    "finished": TrialState.COMPLETE,
    "stopped_early": TrialState.PRUNED,
    "diverged": TrialState.FAIL,
    "failed": TrialState.FAIL,
}


class Searches:
    """Asks each loss's search in turn until each has had `num_samples` trials.

    A loss's first trial is always its reference configuration, so that no search can end below
    the seed study. The samplers are seeded; what they suggest also depends on the order in which
    trials end.
    """

    def __init__(
        self,
        losses: Sequence[str],
        *,
        num_samples: int,
        epochs: int,
        seed: int,
        storage: BaseStorage | None = None,
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.base = {loss: reference(loss, epochs=epochs, seed=seed) for loss in losses}
        self.turns = [loss for _ in range(num_samples) for loss in losses]
        self.studies: dict[str, optuna.Study] = {}
        for offset, loss in enumerate(losses):
            sampler = _tpe(seed * len(losses) + offset)
            self.studies[loss] = optuna.create_study(
                storage=storage, sampler=sampler, study_name=loss, direction="maximize"
            )
            self.studies[loss].enqueue_trial(params(self.base[loss]))
        self.asked: dict[str, optuna.Trial] = {}

    def ask(self) -> TrialRecord | None:
        """The next trial to run; None when every search has had its number of trials."""
        if len(self.asked) == len(self.turns):
            return None
        loss = self.turns[len(self.asked)]
        trial = self.studies[loss].ask()
        record = TrialRecord(f"{loss}-{trial.number:03d}", sample(trial, self.base[loss]))
        self.asked[record.trial_id] = trial
        return record

    def report(self, record: TrialRecord) -> None:
        """Tells Optuna the last epoch of a trial."""
        last = record.epochs[-1]
        self.asked[record.trial_id].report(last["val_map"], last["epoch"])

    def tell(self, record: TrialRecord) -> None:
        """Tells Optuna how a trial ended."""
        state = STATES[record.status]
        value = record.best["val_map"] if state is TrialState.COMPLETE and record.best else None
        self.studies[record.loss].tell(self.asked[record.trial_id], value, state)


def _tpe(seed: int) -> optuna.samplers.TPESampler:
    with warnings.catch_warnings():
        # `group` is marked experimental; without it, knobs that only some trials have fall out
        # of the joint model.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(
            seed=seed, multivariate=True, group=True, constant_liar=True
        )
