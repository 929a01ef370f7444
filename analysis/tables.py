"""The tables of a report, as text that is ready to be read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple

import pandas as pd

from analysis.style import loss_name, text, words
from study.results import TRIAL_COLUMNS, Study

FAULTS = ("failed", "diverged", "interrupted")


class Table(NamedTuple):
    """A table of text: a title and the cells. Its last column may hold long text."""

    title: str
    cells: pd.DataFrame

    @property
    def numbers(self) -> list[str]:
        """The columns whose filled cells are all numbers."""
        return [name for name in self.cells if all(map(_is_number, self.cells[name]))]


def trials_table(study: Study) -> tuple[Table, str]:
    """All trials, the best first, with the knobs that differ; and a sentence on those that do not.

    A knob that no trial uses is in neither.
    """
    table = study.trials_table().sort_values(
        ["best_val_map", "trial_id"], ascending=[False, True], na_position="last"
    )
    knobs = [name for name in table.columns if name not in TRIAL_COLUMNS]
    used = [knob for knob in knobs if table[knob].notna().any()]
    varied = [knob for knob in used if table[knob].nunique() > 1]
    same = [
        f"{words(knob)} {text(table[knob].dropna().iloc[0])}" for knob in used if knob not in varied
    ]
    cells = pd.DataFrame(
        {
            "trial": table["trial_id"],
            "status": table["status"].map(words),
            "validation mAP": ["" if pd.isna(m) else f"{m:.3f}" for m in table["best_val_map"]],
            "best epoch": table["best_epoch"].map(text),
            "epochs": table["epochs"].map(text),
            "seconds": [f"{seconds:,.0f}" for seconds in table["seconds"]],
            **{words(knob): table[knob].map(text) for knob in varied},
        }
    )
    sentence = f"The same in every trial that uses it: {', '.join(same)}." if same else ""
    return Table("All trials", cells), sentence


def budget_table(study: Study) -> Table:
    """A row a loss: what was spent on it."""
    table = study.trials_table()
    rows = []
    for loss in study.losses:
        mine = table[table["loss"] == loss]
        statuses = mine["status"].value_counts()
        rows.append(
            {
                "loss": loss_name(loss),
                "trials": f"{len(mine):,}",
                "epochs": f"{mine['epochs'].sum():,}",
                "seconds": f"{mine['seconds'].sum():,.0f}",
                "how the trials ended": ", ".join(f"{n} {words(s)}" for s, n in statuses.items()),
            }
        )
    return Table("What each loss was given", pd.DataFrame(rows))


def faults_table(study: Study) -> Table:
    """A row a trial that ended by a fault, with its cause; perhaps none."""
    rows = [
        {
            "trial": trial.trial_id,
            "status": words(trial.status),
            "after epochs": str(len(trial.epochs)),
            "cause": trial.cause or "not recorded",
        }
        for trial in study.trials
        if trial.status in FAULTS
    ]
    columns = ["trial", "status", "after epochs", "cause"]
    return Table("Trials that ended by a fault", pd.DataFrame(rows, columns=columns))


def origin_table(study: Study) -> Table:
    """How the study was made: command, time, commit, versions, machine, plan."""
    info, plan = study.info, study.info["plan"]
    facts = {
        "command": info.get("command"),
        "status": info.get("status"),
        "started": _time(info.get("started")),
        "ended": _time(info.get("ended")),
        "commit": info.get("commit"),
        "versions": _pairs(info.get("versions")),
        "machine": _pairs(info.get("machine")),
        "plan": _pairs({key: value for key, value in plan.items() if key != "losses"}),
        "trials": ", ".join(f"{count} {words(s)}" for s, count in study.counts().items()),
    }
    rows = [{"what": what, "value": text(value) or "not recorded"} for what, value in facts.items()]
    return Table("The study", pd.DataFrame(rows))


def _is_number(cell: str) -> bool:
    try:
        return not cell or math.isfinite(float(cell.replace(",", "")))
    except ValueError:
        return False


def _pairs(values: object) -> str:
    if not isinstance(values, Mapping):
        return text(values)
    return ", ".join(f"{words(str(key))} {text(value)}" for key, value in values.items())


def _time(seconds: float | None) -> str:
    return "" if seconds is None else f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"
