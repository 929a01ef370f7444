"""What searches chose, knob by knob, and where it lies in the ranges that they looked in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.found.knobs import NONE, searched
from analysis.found.words import text, words
from study.judge.choices import Frozen
from study.judge.comparison import search_folder
from study.results import studies
from study.results.studies import Study
from trainables.knobs import Choice, Range, Span, range_of

LINE = ["loss", "knob", "range"]  # what stands together: searches may have looked in other ranges
COLUMNS = ["search", "study", *LINE, "value", "place"]
OUTER = 0.1  # of a range, at each end, in which a choice makes one ask what lies beyond


def chosen_knobs(folders: Sequence[Path]) -> pd.DataFrame:
    """A row a search of these comparisons, a loss and a knob of which there was something to
    choose, in the order of the losses and their knobs.

    Columns: `search`, from 0 over all comparisons, and `study`, its name; loss, knob, and `range`,
    as `study.json` describes it; `value`; `place`, how far along the range it lies, from 0 to 1.
    """
    rows, order = list[dict[str, Any]](), dict[tuple[str, ...], int]()
    for number, (name, study, choices) in enumerate(_searches(folders)):
        knobs = {trial.trial_id: trial.knobs for trial in study.trials}
        for loss, choice in choices.items():
            chosen = knobs.get(choice.trial_id, {})
            for knob, known in searched(study, loss).items():
                line = {"loss": loss, "knob": knob, "range": str(known)}
                order.setdefault(tuple(line.values()), len(order))
                place = _place(known, chosen[knob]) if knob in chosen else None
                if place is not None:
                    value = NONE if chosen[knob] is None else chosen[knob]
                    said = {"search": number, "study": name, "value": value, "place": place}
                    rows.append({**line, **said})
    rows.sort(key=lambda row: order[row["loss"], row["knob"], row["range"]])
    table = pd.DataFrame(rows, columns=COLUMNS, dtype=object)  # values stay as they are
    return table.astype({"search": int, "place": float})


def _searches(folders: Sequence[Path]) -> Iterator[tuple[str, Study, Mapping[str, studies.Choice]]]:
    """Each search's name, its study and its choices; without those whose folder was not kept."""
    for folder in folders:
        frozen, name = Frozen.load(folder), folder.resolve().name
        for number, choices in enumerate((frozen.choices, *frozen.further), start=1):
            below = search_folder(folder, number)
            if (below / "study.json").exists():
                yield f"{name}, search {number}", Study.load(below), choices


def _place(known: Range, value: Any) -> float | None:
    """How far along its range a value lies; None where it is of another."""
    if isinstance(known, Span) and isinstance(value, int | float):
        value = min(max(value, known.low), known.high)  # its ends are written to six digits
    return known.place(value) if known.holds(value) else None


def chosen_table(found: pd.DataFrame) -> pd.DataFrame:
    """A row a loss, knob and range, as text: the lowest to the highest choice and their median, or
    how often each was chosen; and how many lie in the outer tenths."""
    rows = []
    for (loss, knob, known), mine in found.groupby(LINE, sort=False):
        row = {"loss": loss, "knob": words(str(knob)), "range": known}
        if is_span(str(known)):
            values, (low, high) = mine["value"].astype(float), in_outer_tenths(mine)
            ends = dict.fromkeys([text(values.min()), text(values.max())])
            row |= {"chosen": " to ".join(ends), "median": text(float(values.median()))}
            row |= {"in the lowest tenth": str(low), "in the highest tenth": str(high)}
        else:
            often = mine.groupby("place")["value"].agg(["first", "size"])
            counts = [f"{value} ({many})" for value, many in often.itertuples(index=False)]
            row |= {"range": shown(str(known)), "chosen": ", ".join(counts)}
        rows.append(row)
    columns = ["loss", "knob", "range", "chosen", "median"]
    columns += ["in the lowest tenth", "in the highest tenth"]
    return pd.DataFrame(rows, columns=columns).fillna("")


def is_span(known: str) -> bool:
    """Whether a range, as text, is of numbers on a line and not of a few values."""
    return isinstance(range_of(known), Span)


def shown(known: str) -> str:
    """A range as text for readers."""
    found = range_of(known)
    if not isinstance(found, Choice):
        return known
    return ", ".join(NONE if value is None else str(value) for value in found.values)


def in_outer_tenths(chosen: pd.DataFrame) -> tuple[int, int]:
    """How many choices lie in the lowest and in the highest tenth of their range."""
    return int((chosen["place"] <= OUTER).sum()), int((chosen["place"] >= 1 - OUTER).sum())
