"""The tables of a report, as text that is ready to be read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property

import numpy as np
import pandas as pd

from analysis.found.knobs import NONE, settings_table
from analysis.found.runs import Results
from analysis.found.scores import score_column, validation
from analysis.found.words import listed, loss_name, plural, text, words
from analysis.page.glossary import HEADS, KNOBS, MEANINGS, RANKING, THEIRS, scored
from study.judge.verdict import against_defaults
from study.results.studies import Study
from study.search.space import WIDE
from trainables.losses import PML
from trainables.losses.pml_knobs import CHOSEN
from trainables.metrics import METRICS

FAULTS = ("failed", "diverged", "interrupted")


LONG = 40  # letters, from which on a cell is text that may be broken into lines


@dataclass(frozen=True, eq=False)
class Table:
    """A table of text: a title and the cells.

    Attributes:
        notes: by head, or by a sign in the notes themselves, what the glossary does not say.
    """

    title: str
    cells: pd.DataFrame
    notes: Mapping[str, str] = field(default_factory=dict)

    @cached_property  # the page asks at each cell
    def numbers(self) -> list[str]:
        """The columns whose filled cells are all numbers."""
        return [name for name in self.cells if all(map(_is_number, self.cells[name]))]

    @cached_property
    def long(self) -> list[str]:
        """The columns that hold text of more than `LONG` letters."""
        return [name for name in self.cells if self.cells[name].map(len).max() > LONG]

    @property
    def meanings(self) -> dict[str, str]:
        """What those of its heads mean that say too little by themselves, knobs included."""
        known = {**MEANINGS, **self.notes}
        return {head: known[head] for head in self.cells if head in known}

    @property
    def heads(self) -> dict[str, str]:
        """Of the meanings those that are not of knobs, which have a table of their own; the signs
        of the notes come last."""
        known = {**HEADS, **self.notes}
        mine = {head: known[head] for head in self.cells if head in known}
        return {**mine, **{sign: said for sign, said in self.notes.items() if sign not in mine}}


def trials_table(study: Study) -> tuple[Table, str]:
    """All trials, the longest and of these the best first, with the knobs that differ; and a
    sentence on those that do not.

    A knob that no trial uses is in neither.
    """
    score, name = score_column(study.metric), validation(study.metric)
    table = study.trials_frame().sort_values(
        ["max_epochs", score, "trial_id"], ascending=[False, False, True], na_position="last"
    )
    knobs = settings_table(study).loc[table["trial_id"]].set_index(table.index)
    knobs = knobs.dropna(axis="columns", how="all")
    varied = [knob for knob in knobs if knobs[knob].nunique() > 1]
    same = [
        f"{_head(knob)} {text(knobs[knob].dropna().iloc[0])}"
        for knob in knobs
        if knob not in varied
    ]
    cells = pd.DataFrame(
        {
            "trial": table["trial_id"],
            "follows": table["follows"].map(text),
            "status": table["status"].map(words),
            name: ["" if pd.isna(one) else f"{one:.3f}" for one in table[score]],
            "best epoch": table["best_epoch"].map(text),
            "epochs": table["epochs"].map(text),
            "seconds": [f"{seconds:,.0f}" for seconds in table["seconds"]],
            **{_head(knob): knobs[knob].map(text) for knob in varied},
        }
    )
    sentence = f"The same in every trial that uses it: {', '.join(same)}." if same else ""
    return Table("All trials", cells, scored(name)), sentence


def metrics_table(results: Results) -> Table:
    """A row a loss, the best first: the mean of each metric over its chosen runs, as far as known.

    All are of the first protocol.
    """
    known = results.metrics.set_index("loss").loc[results.losses].dropna(axis="columns", how="all")
    shown = {name: metric for name, metric in METRICS.items() if name in known}
    cells = {
        metric.title: ["" if pd.isna(one) else f"{one:.3f}" for one in known[name]]
        for name, metric in shown.items()
    }
    notes = {metric.title: metric.formula for metric in shown.values()}
    rows = pd.DataFrame({"loss": list(map(loss_name, known.index)), **cells})
    return Table("Metrics", rows, notes | RANKING)


def data_text(name: str, classes: Sequence[str], results: Results | None) -> str:
    """What the data is called, and what of it judged the networks."""
    said = f"{name}: {plural(len(classes), 'class', 'classes')}."
    if results is None:
        return said
    judged = len(np.unique(results.labels))
    return (
        f"{said} The networks are judged on {len(results.labels):,} {results.described}, of "
        f"{plural(judged, 'class', 'classes')}."
    )


def space_table(study: Study) -> Table:
    """A row a knob of the search: what it is, its range, its default and who uses it."""
    fields = {knob.name: knob.sets for knob in WIDE.shared}
    rows = [
        {
            "knob": words(row["knob"]),
            "what it is": _meaning(row["knob"], row["used by"].split(", "), fields),
            "searched over": row["range"].replace("None", NONE),
            "default": row["default"].replace("None", NONE),
            "used by": ", ".join(map(loss_name, row["used by"].split(", "))),
        }
        for row in study.info.get("space") or []
    ]
    columns = ["knob", "what it is", "searched over", "default", "used by"]
    return Table("What was searched", pd.DataFrame(rows, columns=columns))


def _meaning(knob: str, losses: Sequence[str], fields: Mapping[str, str]) -> str:
    """Of a knob; of one that libraries' losses alone have, its unit."""
    said = KNOBS.get(knob) or KNOBS.get(fields.get(knob, ""), "")
    addends = [addend for loss in losses for addend in loss.split("+")]
    if knob in fields or not all(addend.startswith(PML) for addend in addends):
        return said
    known = [own for addend in addends for own in CHOSEN.get(addend.split(":")[1], ())]
    return next((THEIRS.format(unit=own.unit) for own in known if own.name == knob), said)


def budget_table(study: Study) -> Table:
    """A row a loss: what was spent on it."""
    table = study.trials_frame()
    rows = []
    for loss in study.losses:
        mine = table[table["loss"] == loss]
        statuses = mine["status"].value_counts()
        rows.append(
            {
                "loss": loss_name(loss),
                "trials": f"{len(mine):,}",
                "configurations": f"{int(mine['follows'].isna().sum()):,}",
                "epochs": f"{round(mine['epochs'].sum(), 1):,g}",
                "seconds": f"{mine['seconds'].sum():,.0f}",
                "how the trials ended": ", ".join(f"{n} {words(s)}" for s, n in statuses.items()),
            }
        )
    return Table("What each loss was given", pd.DataFrame(rows))


def finals_table(study: Study) -> Table:
    """A row a configuration that was trained on fresh seeds, the best of each loss first; perhaps
    none."""
    rows = []
    for loss in study.losses:
        finals = study.finals(loss)
        means = {name: study.choice(*runs).score for name, runs in finals.items()}
        for name in sorted(means, key=lambda name: -means[name]):
            trial = next(trial for trial in study.trials if trial.trial_id == name)
            rows.append(
                {
                    "loss": loss_name(loss),
                    "configuration": f"{study.root(trial).trial_id}"
                    + " (the hand-set defaults)" * study.root(trial).hand_set,
                    "mean": f"{means[name]:.4f}",
                    **{f"seed {run.config.seed}": f"{run.score:.4f}" for run in finals[name]},
                }
            )
    cells = pd.DataFrame(rows).fillna("")
    chosen = "over the seeds; the highest is chosen, of those with the most seeds"
    notes = {"configuration": "by its first trial", "mean": chosen}
    return Table(f"The finals: {validation(study.metric)} on fresh seeds", cells, notes)


def verdicts(study: Study) -> list[str]:
    """Whether the choices are above the hand-set defaults, where the finals have these too."""
    found = {loss: against_defaults(study, loss) for loss in study.losses}
    said = [f"{loss_name(loss)}: {one}" for loss, one in found.items() if one is not None]
    if not said:
        return []
    return [
        "What the search chose, on the finals' fresh seeds, each judged by what the other seeds "
        f"choose. {'; '.join(said)}."
    ]


def faults_table(study: Study, title: str) -> Table:
    """A row a trial that ended by a fault, with its cause; perhaps none."""
    rows = [
        {
            "trial": trial.trial_id,
            "status": words(trial.status),
            "after epochs": f"{trial.reached:.3g}",
            "cause": trial.cause or "not recorded",
        }
        for trial in study.trials
        if trial.status in FAULTS
    ]
    columns = ["trial", "status", "after epochs", "cause"]
    return Table(title, pd.DataFrame(rows, columns=columns))


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
    return ", ".join(f"{words(str(key))} {_said(value)}" for key, value in values.items())


def _said(value: object) -> str:
    """A setting as text, none and nothing at all included."""
    if isinstance(value, list | tuple):
        return listed([_said(item) for item in value]) or NONE
    if isinstance(value, Mapping):
        return _pairs(value) or NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    return text(value) or NONE


def _head(knob: str) -> str:
    """Of a knob's column; `epochs` is that of how many were trained."""
    return words("max_epochs" if knob == "epochs" else knob)


def _time(seconds: float | None) -> str:
    return "" if seconds is None else f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"


def orders_table(found: pd.DataFrame) -> Table:
    """From `study.judge.other_orders`: of a study, or of a comparison's runs in the mean."""
    over = f"95 % over {found['over'].iloc[0]}"
    beside = [
        " (reference)" * (role == "reference") for role in found.get("role", [""] * len(found))
    ]
    cells = pd.DataFrame(
        {
            "loss": [f"{loss_name(a)}{b}" for a, b in zip(found["loss"], beside, strict=True)],
            "order": found["order"],
            "mAP": found["map"].map("{:.4f}".format),
            "above the plain order": found["gain"].map("{:+.4f}".format),
            over: [f"{row.low:+.4f} to {row.high:+.4f}" for row in found.itertuples()],
            "seconds": found["seconds"].map("{:.1f}".format),
        }
    )
    return Table("What re-ranking gains and costs", cells)
