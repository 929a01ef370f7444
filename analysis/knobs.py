"""What the knobs of a search were, trial by trial, and where their values lie on an axis."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from optuna.distributions import CategoricalDistribution

from analysis.style import loss_name
from study.results import Study
from study.search_space import SPACE
from trainables.config import KNOB_NAMES, TrialConfig

NONE = "none"  # a value that was chosen
UNUSED = "unused"  # stands for the missing value of a knob that a trial does not use
OBJECTIVE = "objective"  # the loss of a trial, where a search for one loss tried another too
FIELDS = (OBJECTIVE, *dict.fromkeys(knob.field for knob in SPACE))
LOG = {knob.field for knob in SPACE if getattr(knob.range, "log", False)}
CHOICES = {
    OBJECTIVE: [],  # those that occur
    **{
        knob.field: [NONE if choice is None else str(choice) for choice in knob.range.choices]
        for knob in SPACE
        if isinstance(knob.range, CategoricalDistribution)
    },
}


def settings(config: TrialConfig) -> dict[str, Any]:
    """The fields that a configuration uses, by name, `NONE` where it chose none.

    So a value that is missing in a table of these is of a knob that the trial does not use.
    """
    used = {name: NONE if value is None else value for name, value in config.used().items()}
    return {OBJECTIVE: loss_name(used.pop("loss")), **used}


def settings_table(study: Study) -> pd.DataFrame:
    """A row a trial, by its trial_id: `settings`; `OBJECTIVE` only where a loss's trials differ."""
    rows = [settings(trial.config) for trial in study.trials]
    columns = [OBJECTIVE, *(name for name in KNOB_NAMES if name != "loss")]
    names = [trial.trial_id for trial in study.trials]
    table = pd.DataFrame(rows, index=names, columns=columns, dtype=object)
    losses = [trial.loss for trial in study.trials]
    several = table[OBJECTIVE].groupby(losses).transform("nunique") > 1
    return table.assign(**{OBJECTIVE: table[OBJECTIVE].where(several)})


def knob_table(study: Study) -> pd.DataFrame:
    """A row a trial that has a mAP and ended soundly, or still runs: its mAP and its knobs.

    Columns loss, trial_id, status, best_val_map, then the knobs that differ between the trials of
    some loss; missing where a trial does not use one.
    """
    trials = [t for t in study.trials if t.best and t.status not in ("failed", "diverged")]
    rows = [
        {
            "loss": trial.loss,
            "trial_id": trial.trial_id,
            "status": trial.status,
            "best_val_map": trial.best["val_map"] if trial.best else np.nan,
        }
        for trial in trials
    ]
    table = pd.DataFrame(rows, columns=["loss", "trial_id", "status", "best_val_map"])
    table = table.join(settings_table(study)[list(FIELDS)], on="trial_id")
    of_losses = [part for _, part in table.groupby("loss")]
    shown = [f for f in FIELDS if any(differs(part[f]) for part in of_losses)]
    return table[["loss", "trial_id", "status", "best_val_map", *shown]]


def varied(table: pd.DataFrame) -> list[str]:
    """The knobs of a `knob_table` that differ between its trials."""
    return [f for f in FIELDS if f in table and differs(table[f])]


def differs(values: pd.Series) -> bool:
    """Whether a knob has more than one value; to be unused is one."""
    return bool(values.map(label).nunique() > 1)


def label(value: Any) -> str:
    """A knob's value as a choice of `CHOICES`, or as `UNUSED`."""
    return UNUSED if value is None or value != value else str(value)


def short(value: Any) -> str:
    """A knob's value to three digits."""
    return f"{value:.3g}" if isinstance(value, float) else label(value)


def choices(values: pd.Series, knob: str) -> list[str]:
    """The choices on a knob's axis: those of the search space, others that occur, `UNUSED` last."""
    found = set(values.map(label))
    others = sorted(found - {*CHOICES[knob], UNUSED})
    return [*CHOICES[knob], *others, *([UNUSED] if UNUSED in found else [])]


def places(values: pd.Series, knob: str) -> pd.Series:
    """Where values lie on a knob's axis: the number of a choice, a number, or its logarithm.

    `UNUSED` lies beyond the others.
    """
    if knob in CHOICES:
        known = choices(values, knob)
        return values.map(lambda value: float(known.index(label(value))))
    numbers = pd.to_numeric(values).astype(float)
    logs = np.log10(numbers) if knob in LOG else numbers
    spread = logs.max() - logs.min()
    return logs.fillna(logs.max() + 0.15 * (spread or 1.0))


def ticks(values: pd.Series, knob: str) -> list[tuple[float, str]]:
    """Places on the axis of a knob of `CHOICES` or `LOG`, and what stands there."""
    if knob in CHOICES:
        return [(float(place), name) for place, name in enumerate(choices(values, knob))]
    used = values.dropna().astype(float)
    return [(math.log10(value), f"{value:.3g}") for value in round_numbers(used.min(), used.max())]


def round_numbers(low: float, high: float) -> list[float]:
    """Powers of ten in a range, or 1, 2 and 5 times these; its ends if there are fewer than two."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1,), (1, 2, 5)):
        numbers = [float(f"{step}e{decade}") for decade in decades for step in steps]
        found = [number for number in numbers if low <= number <= high]
        if len(found) > 1:
            return found
    return sorted({low, high})


def heights(values: pd.Series, knob: str) -> pd.Series:
    """The places of one knob's values between the lowest, 0, and the highest, 1; 0.5 if equal."""
    found = places(values, knob)
    low, high = found.min(), found.max()
    return (found - low) / (high - low) if high > low else found * 0 + 0.5
