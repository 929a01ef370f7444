"""What the knobs of a search were, trial by trial, and how much each of them decided."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import optuna
import pandas as pd
from optuna.distributions import CategoricalDistribution

from analysis.style import listed, loss_name
from study.results import Study, TrialRecord
from study.search_space import SPACE, distributions, params

ENDED = ("finished", "stopped_early")  # soundly: their best validation mAP is final
LEAST_TRIALS = 8  # of a loss, below which a ranking of knobs would be noise
TOP = 0.25  # a knob is important that decides whether a trial is in the best quarter
FIELDS = tuple(dict.fromkeys(knob.field for knob in SPACE))
LOG = {knob.field for knob in SPACE if getattr(knob.range, "log", False)}
CHOICES = {
    knob.field: [str(choice) for choice in knob.range.choices]
    for knob in SPACE
    if isinstance(knob.range, CategoricalDistribution)
}
UNUSED = "unused"  # stands for the value of a knob that a trial does not use


def knob_table(study: Study) -> pd.DataFrame:
    """A row a trial that has a mAP and ended soundly, or still runs: its mAP and its knobs.

    Columns loss, trial_id, status, best_val_map, then the knobs that differ between the trials of
    some loss; None where a trial does not use one.
    """
    trials = [t for t in study.trials if t.best and t.status not in ("failed", "diverged")]
    rows = [
        {
            "loss": trial.loss,
            "trial_id": trial.trial_id,
            "status": trial.status,
            "best_val_map": trial.best["val_map"] if trial.best else np.nan,
            **{field: trial.config.to_dict()[field] for field in FIELDS},
        }
        for trial in trials
    ]
    table = pd.DataFrame(rows, columns=["loss", "trial_id", "status", "best_val_map", *FIELDS])
    table = table.astype(dict.fromkeys(FIELDS, object))
    of_losses = [part for _, part in table.groupby("loss")]
    shown = [f for f in FIELDS if any(part[f].astype(str).nunique() > 1 for part in of_losses)]
    return table[["loss", "trial_id", "status", "best_val_map", *shown]]


def varied(table: pd.DataFrame) -> list[str]:
    """The knobs of a `knob_table` that differ between its trials."""
    return [f for f in FIELDS if f in table and table[f].astype(str).nunique() > 1]


def importance_table(study: Study) -> pd.DataFrame:
    """A row a loss and knob: how much it decided whether a trial was in the best quarter.

    PED-ANOVA of Optuna, the knobs that only some trials use included; scaled to sum to 1 within a
    loss. A loss with fewer than `LEAST_TRIALS` soundly ended trials has no row.
    """
    rows = []
    for loss in study.losses:
        ended = [t for t in study.trials if t.loss == loss and t.best and t.status in ENDED]
        found = _importances(ended)
        total = sum(found.values())
        rows += [
            {"loss": loss, "knob": knob, "importance": value / total, "trials": len(ended)}
            for knob, value in found.items()
            if total > 0
        ]
    return pd.DataFrame(rows, columns=["loss", "knob", "importance", "trials"])


def too_few(study: Study) -> str:
    """Which losses have no importance, and why; empty if all have one."""
    known = set(importance_table(study)["loss"])
    without = [loss_name(loss) for loss in study.losses if loss not in known]
    if not without:
        return ""
    return f"No importance is given for {listed(without)}: fewer than {LEAST_TRIALS} sound trials."


def label(value: Any) -> str:
    """A knob's value as a choice of `CHOICES`, or as `UNUSED`."""
    return UNUSED if value is None or value != value else str(value)


def short(value: Any) -> str:
    """A knob's value to three digits."""
    return f"{value:.3g}" if isinstance(value, float) else label(value)


def places(values: pd.Series, knob: str) -> pd.Series:
    """Where values lie on a knob's axis: the number of a choice, a number, or its logarithm.

    `UNUSED` lies beyond the others.
    """
    if knob in CHOICES:
        known = list(dict.fromkeys([*CHOICES[knob], *sorted(set(values.map(label)))]))
        known = [choice for choice in known if choice != UNUSED] + [UNUSED]
        return values.map(lambda value: float(known.index(label(value))))
    numbers = pd.to_numeric(values).astype(float)
    logs = np.log10(numbers) if knob in LOG else numbers
    spread = logs.max() - logs.min()
    return logs.fillna(logs.max() + 0.15 * (spread or 1.0))


def heights(values: pd.Series, knob: str) -> pd.Series:
    """The places of one knob's values between the lowest, 0, and the highest, 1; 0.5 if equal."""
    found = places(values, knob)
    low, high = found.min(), found.max()
    return (found - low) / (high - low) if high > low else found * 0 + 0.5


def _importances(trials: list[TrialRecord]) -> dict[str, float]:
    """By knob of the search, not scaled; empty for too few trials of today's search space."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize")
    for trial in trials:
        try:
            found = params(trial.config)
        except ValueError:  # of another search space than today's
            continue
        value = trial.best["val_map"] if trial.best else np.nan
        study.add_trial(
            optuna.trial.create_trial(
                params=found, distributions=distributions(trial.config), value=value
            )
        )
    if len(study.trials) < LEAST_TRIALS:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a knob that few trials use, which the text says too
        evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=TOP)
        return optuna.importance.get_param_importances(study, evaluator=evaluator, normalize=False)
