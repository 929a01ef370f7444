"""What searches chose, knob by knob, and where it lies in the ranges that they looked in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from analysis.found.words import text, words
from study.judge.choices import Frozen
from study.judge.comparison import SEARCHES
from study.results.studies import Study
from trainables.knobs import Choice, Range, Span, range_of

COLUMNS = ["search", "loss", "knob", "value", "range", "place"]
OUTER = 0.1  # of a range, at each end, in which a choice makes one ask what lies beyond


def chosen_knobs(folders: Sequence[Path]) -> pd.DataFrame:
    """A row a search of these comparisons, a loss and a knob of which there was something to
    choose.

    Columns: `search`, from 0 over all comparisons; loss, knob; `value`; `range`, as `study.json`
    describes it; `place`, how far along the range the value lies, from 0 to 1.
    """
    rows, number = [], 0
    for folder in folders:
        frozen = Frozen.load(folder)
        further = sorted(path.parent for path in folder.glob(f"{SEARCHES}/*/study.json"))
        chosen = (frozen.choices, *frozen.further)
        for below, choices in zip([folder, *further], chosen, strict=True):
            study = Study.load(below)
            trials = {trial.trial_id: trial for trial in study.trials}
            for loss, choice in choices.items():
                knobs = trials[choice.trial_id].knobs
                rows += [
                    {"search": number, "loss": loss, "knob": knob, "value": knobs[knob]}
                    | {"range": str(known), "place": known.place(knobs[knob])}
                    for knob, known in searched(study, loss).items()
                    if knob in knobs and known.holds(knobs[knob])
                ]
            number += 1
    table = pd.DataFrame(rows, columns=COLUMNS, dtype=object)  # values stay as they are, None too
    return table.astype({"search": int, "place": float})


def searched(study: Study, loss: str) -> dict[str, Range]:
    """By knob, the ranges of a loss that have more than one value."""
    found = {}
    for row in study.info["space"]:
        users, known = {*row["used by"].split(", ")}, range_of(row["range"])
        mine = loss in users or not users & {*study.losses}  # all of them, or wherever it applies
        if mine and not (isinstance(known, Choice) and len(known.values) == 1):
            found[row["knob"]] = known
    return found


def chosen_table(found: pd.DataFrame) -> pd.DataFrame:
    """A row a loss and knob, as text: its range, the lowest, middle and highest choice, or how
    often each was chosen, and how many lie in the outer tenths."""
    rows = []
    for (loss, knob), mine in found.groupby(["loss", "knob"], sort=False):
        known, values = range_of(mine["range"].iloc[0]), mine["value"]
        if isinstance(known, Span):
            ordered = values.astype(float)
            chosen = f"{text(ordered.min())} to {text(ordered.max())}"
            middle = text(float(ordered.median()))
        else:
            often = [(v, sum(Choice((v,)).holds(one) for one in values)) for v in known.values]
            chosen = ", ".join(f"{value} ({many})" for value, many in often if many)
            middle = ""
        low, high = outer(mine)
        rows.append(
            {
                "loss": loss,
                "knob": words(str(knob)),
                "range": str(known),
                "chosen": chosen,
                "median": middle,
                "in the lowest tenth": str(low) if isinstance(known, Span) else "",
                "in the highest tenth": str(high) if isinstance(known, Span) else "",
            }
        )
    return pd.DataFrame(rows)


def outer(chosen: pd.DataFrame) -> tuple[int, int]:
    """How many choices of a knob lie in the lowest and in the highest tenth of its range."""
    return int((chosen["place"] <= OUTER).sum()), int((chosen["place"] >= 1 - OUTER).sum())
