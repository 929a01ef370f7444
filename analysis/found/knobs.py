"""What the knobs of a search were, trial by trial, and where their values lie on an axis."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from analysis.found.scores import PREFIX, score_column
from study.results.studies import Study
from study.search.space import WIDE
from trainables import losses
from trainables.config import TrialConfig
from trainables.knobs import Choice, Range, Span

NONE = "none"  # a value that was chosen
UNUSED = "unused"  # stands for the missing value of a knob that a trial does not use
ASKED = ("epochs", "seed", "precision", "dataset")  # of the plan, and no knobs
IDENTITY = ("loss", "trial_id", "status")


@cache
def _range(name: str) -> Range | None:
    """Where a search looks, unless it was told otherwise, for a knob: of all trials, or of a loss
    that has a file of its own; by its name, or by the field that it sets."""
    own = [knob for loss in losses.names() for knob in losses.resolve(loss).knobs]
    found = [knob.range for knob in (*WIDE.shared, *own) if name in (knob.sets, knob.name)]
    return next(iter(found), None)


def is_choice(values: pd.Series, knob: str) -> bool:
    """Whether the values are of a few kinds, and not numbers on a line: a study may have looked for
    numbers where searches have choices otherwise."""
    known, used = _range(knob), values.dropna()
    if isinstance(known, Span):
        return False
    if isinstance(known, Choice) and used.isin(known.values).all():
        return True
    return not all(isinstance(one, float) for one in used)


def is_log(values: pd.Series, knob: str) -> bool:
    """Whether the values lie on a logarithmic axis."""
    known = _range(knob)
    if isinstance(known, Span):
        return known.log
    if is_choice(values, knob):
        return False
    used = values.dropna().astype(float)
    return bool(len(used) and used.min() > 0 and used.max() > 30 * used.min())


def _known(knob: str) -> list[str]:
    """The choices that a knob has in the search space."""
    known = _range(knob)
    if not isinstance(known, Choice):
        return []
    return [NONE if one is None else str(one) for one in known.values]


def settings(config: TrialConfig) -> dict[str, Any]:
    """The fields that a configuration uses but its loss, by name, `NONE` where it chose none.

    So a value that is missing in a table of these is of a knob that the trial does not use.
    """
    used = {name: NONE if value is None else value for name, value in config.used().items()}
    for name in ("data_fingerprint", "image_size"):  # of data that is not known by its name
        if not getattr(config, name):
            del used[name]
    del used["loss"]
    return used


def knobs_used(configs: Iterable[TrialConfig]) -> list[str]:
    """The fields that any of the configurations uses, but the loss itself."""
    return list(dict.fromkeys(name for one in configs for name in settings(one)))


def settings_table(study: Study) -> pd.DataFrame:
    """A row a trial, by its trial_id: `settings`."""
    rows = [settings(trial.config) for trial in study.trials]
    names = [trial.trial_id for trial in study.trials]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return pd.DataFrame(rows, index=names, columns=columns, dtype=object)


def knob_table(study: Study) -> pd.DataFrame:
    """A row a configuration, by its first trial, if that has an epoch and ended soundly, or still
    runs: its score there, where all have had equal epochs, and its knobs.

    Columns loss, trial_id, status, the score (best_val_map), then the knobs that differ between the
    trials of some loss; missing where a trial does not use one.
    """
    begun = [trial for trial in study.trials if trial.follows is None]
    trials = [t for t in begun if t.best and t.status not in ("failed", "diverged")]
    score = score_column(study.metric)
    rows = [
        {
            "loss": trial.loss,
            "trial_id": trial.trial_id,
            "status": trial.status,
            score: trial.score,
        }
        for trial in trials
    ]
    table = pd.DataFrame(rows, columns=[*IDENTITY, score])
    found = settings_table(study).drop(columns=list(ASKED), errors="ignore")
    table = table.join(found, on="trial_id")
    of_losses = [part for _, part in table.groupby("loss")]
    shown = [f for f in found if any(differs(part[f]) for part in of_losses)]
    return table[[*IDENTITY, score, *shown]]


def varied(table: pd.DataFrame) -> list[str]:
    """The knobs of a `knob_table` that differ between its trials."""
    knobs = [f for f in table.columns if f not in IDENTITY and not f.startswith(PREFIX)]
    return [f for f in knobs if differs(table[f])]


def differs(values: pd.Series) -> bool:
    """Whether a knob has more than one value; to be unused is one."""
    return bool(values.map(label).nunique() > 1)


def label(value: Any) -> str:
    """A knob's value as a choice, or as `UNUSED`."""
    return UNUSED if value is None or value != value else str(value)


def short(value: Any) -> str:
    """A knob's value to three digits."""
    return f"{value:.3g}" if isinstance(value, float) else label(value)


def choices(values: pd.Series, knob: str) -> list[str]:
    """The choices on a knob's axis: those of the search space, others that occur, `UNUSED` last."""
    found = set(values.map(label))
    others = sorted(found - {*_known(knob), UNUSED})
    return [*_known(knob), *others, *([UNUSED] if UNUSED in found else [])]


def places(values: pd.Series, knob: str) -> pd.Series:
    """Where values lie on a knob's axis: the number of a choice, a number, or its logarithm.

    `UNUSED` lies beyond the others.
    """
    if is_choice(values, knob):
        known = choices(values, knob)
        return values.map(lambda value: float(known.index(label(value))))
    numbers = pd.to_numeric(values).astype(float)
    logs = np.log10(numbers) if is_log(values, knob) else numbers
    spread = logs.max() - logs.min()
    return logs.fillna(logs.max() + 0.15 * (spread or 1.0))


def ticks(values: pd.Series, knob: str) -> list[tuple[float, str]]:
    """Places on the axis of a knob of choices, or a logarithmic one, and what stands there."""
    if is_choice(values, knob):
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
