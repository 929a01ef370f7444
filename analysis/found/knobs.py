"""What the knobs of a search were, trial by trial, and where their values lie on an axis."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from analysis.found.scores import PREFIX, score_column
from study.results.studies import Study
from study.search.space import WIDE
from trainables.config import TrialConfig
from trainables.knobs import Choice, Range, Span, range_of

NONE = "none"  # a value that was chosen
UNUSED = "unused"  # stands for the missing value of a knob that a trial does not use
ASKED = ("epochs", "seed", "precision", "dataset")  # of the plan, and no knobs
IDENTITY = ("loss", "trial_id", "status")


def searched(study: Study, loss: str) -> dict[str, Range]:
    """By knob, the ranges of a loss that have more than one value."""
    found = {}
    for row in study.info.get("space") or []:
        users, known = {*row["used by"].split(", ")}, range_of(row["range"])
        mine = loss in users or not users & {*study.losses}  # all of them, or wherever it applies
        several = known.low < known.high if isinstance(known, Span) else len(known.values) > 1
        if mine and several:
            found[row["knob"]] = known
    return found


def field_ranges(study: Study) -> dict[str, Range]:
    """By the field that a knob sets, where the searches of all losses looked for it.

    Of a field that is a multiple of its knob, as `lr` is, the scale alone is known.
    """
    shared, found = {knob.name: knob for knob in WIDE.shared}, dict[str, Range]()
    for loss in study.losses:
        for name, known in searched(study, loss).items():
            knob = shared.get(name)
            field = name if knob is None else knob.sets
            if isinstance(known, Span) or knob is None or knob.per is None:
                found[field] = _joined(found.get(field, known), known)
    return found


def _joined(one: Range, other: Range) -> Range:
    """Both: of numbers on a line where either is."""
    if isinstance(one, Choice) and isinstance(other, Choice):
        return Choice(tuple(dict.fromkeys(one.values + other.values)))
    spans = [known for known in (one, other) if isinstance(known, Span)]
    low, high = min(span.low for span in spans), max(span.high for span in spans)
    return Span(low, high, all(span.log for span in spans))


def is_choice(values: pd.Series, known: Range | None) -> bool:
    """Whether the values are of a few kinds, and not numbers on a line, where none was looked for
    on a line (None: no search looked for it)."""
    numbers = all(isinstance(one, int | float) for one in values.dropna())
    return not (numbers and isinstance(known, Span))


def is_log(values: pd.Series, known: Range | None) -> bool:
    """Whether the values lie on a logarithmic axis, which has no place for what was set to 0."""
    if not isinstance(known, Span) or is_choice(values, known):
        return False
    return known.log and bool((values.dropna().astype(float) > 0).all())


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


def choices(values: pd.Series, known: Range | None) -> list[str]:
    """The choices on a knob's axis: those of its range, others that occur, `UNUSED` last."""
    ranged = known.values if isinstance(known, Choice) else ()
    names = [NONE if one is None else label(one) for one in ranged]
    found = set(values.map(label))
    others = sorted(found - {*names, UNUSED})
    return [*names, *others, *([UNUSED] if UNUSED in found else [])]


def places(values: pd.Series, known: Range | None) -> pd.Series:
    """Where values lie on a knob's axis: the number of a choice, a number, or its logarithm.

    `UNUSED` lies beyond the others.
    """
    if is_choice(values, known):
        order = choices(values, known)
        return values.map(lambda value: float(order.index(label(value))))
    numbers = pd.to_numeric(values).astype(float)
    logs = np.log10(numbers) if is_log(values, known) else numbers
    spread = logs.max() - logs.min()
    return logs.fillna(logs.max() + 0.15 * (spread or 1.0))


def ticks(values: pd.Series, known: Range | None) -> list[tuple[float, str]]:
    """Places on the axis of a knob of choices, or a logarithmic one, and what stands there."""
    if is_choice(values, known):
        return [(float(place), name) for place, name in enumerate(choices(values, known))]
    used = values.dropna().astype(float)
    return [(math.log10(value), f"{value:.3g}") for value in round_numbers(used.min(), used.max())]


def round_numbers(low: float, high: float) -> list[float]:
    """Powers of ten in a range above 0, or 1, 2 and 5 times these; its ends if there are fewer than
    two."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1,), (1, 2, 5)):
        numbers = [float(f"{step}e{decade}") for decade in decades for step in steps]
        found = [number for number in numbers if low <= number <= high]
        if len(found) > 1:
            return found
    return sorted({low, high})


def heights(values: pd.Series, known: Range | None) -> pd.Series:
    """The places of one knob's values between the lowest, 0, and the highest, 1; 0.5 if equal."""
    found = places(values, known)
    low, high = found.min(), found.max()
    return (found - low) / (high - low) if high > low else found * 0 + 0.5
