"""Configurations that a model suggests: Optuna's, on the highest rung that has enough values."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any

import optuna

from study.results.trials import TrialRecord
from study.search import ladder
from study.search.space import Pick, Space, ranges_of
from trainables.knobs import Choice, Knob

MODELS = ("tpe", "gp")


def enough(trials: Sequence[TrialRecord], least: int) -> list[TrialRecord]:
    """The sound trials of the highest rung that has enough of them (Falkner et al., BOHB, ICML
    2018); empty if none has."""
    for rung in sorted({trial.config.epochs for trial in trials}, reverse=True):
        sound = [t for t in ladder.ranked(trials) if t.config.epochs == rung and t.is_sound]
        if len(sound) >= least:
            return sorted(sound, key=lambda trial: trial.number)
    return []


def modelling(kind: str, seed: int, loss: str, trials: Sequence[TrialRecord], space: Space) -> Pick:
    """What one of Optuna's samplers suggests after these trials of a loss."""
    ranges = ranges_of(loss, space)
    known = [
        optuna.trial.create_trial(
            params=trial.knobs,
            distributions={name: ranges[name] for name in trial.knobs},
            value=trial.score,
        )
        for trial in trials
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler: optuna.samplers.BaseSampler = (
            optuna.samplers.GPSampler(seed=seed, n_startup_trials=0)
            if kind == "gp"
            else optuna.samplers.TPESampler(seed=seed, n_startup_trials=0, group=True)
        )
        study = optuna.create_study(direction="maximize", sampler=sampler)
        study.add_trials(known)
        return partial(_suggest, study.ask())


def _suggest(trial: optuna.Trial, knob: Knob) -> Any:
    if isinstance(knob.range, Choice):
        return trial.suggest_categorical(knob.name, knob.range.values)
    assert knob.range is not None
    return trial.suggest_float(knob.name, knob.range.low, knob.range.high, log=knob.range.log)
