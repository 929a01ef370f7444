"""Two studies on one page: answers, budgets, best configurations, searches, differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.figures.search_figures import seconds_table
from analysis.figures.style import (
    COLOURS,
    ReportFigure,
    add_legend,
    draw_mean,
    name_lines,
    render,
    short_name,
)
from analysis.found.finals import searches
from analysis.found.knobs import knobs_used, settings
from analysis.found.scores import validation
from analysis.found.sources import Source
from analysis.found.words import listed, loss_name, text, words
from analysis.page.answer import answer_of, answer_table, warning_of
from analysis.page.page import Page, Section
from analysis.page.tables import Table
from study.results.studies import Choice, Study
from study.results.trials import title

STYLES = ("-", (0, (4, 1.5)))


def side_by_side(sources: Sequence[Source]) -> Page:
    """The page of two studies, which are told apart as A and B."""
    names = dict(zip("AB", sources, strict=True))
    title = " and ".join(f"{letter}: {source.name}" for letter, source in names.items())
    answers = [f"{letter}. {answer_of(source)}" for letter, source in names.items()]
    figures = [figure for figure in (maps_figure(names), curves_figure(names)) if figure]
    tables = [maps_table(names), configurations_table(names)]
    parts = [
        Section("The answers", figures=figures[:1], tables=tables),
        Section("The searches", figures=figures[1:], tables=[budgets_table(names)]),
        Section(
            "What differs",
            ["Of the plans, the search spaces, the versions and the machines, what is not equal."],
            [differences_table(names)],
        ),
    ]
    return Page(f"Two studies side by side. {title}", answers, warnings(names), parts)


def warnings(names: Mapping[str, Source]) -> str:
    """Of each study why its numbers are not those of a test; of both at once where it is one."""
    found: dict[str, list[str]] = {}
    for letter, source in names.items():
        if text := warning_of(source):
            found.setdefault(text, []).append(letter)
    return " ".join(f"{listed(letters)}: {text}" for text, letters in found.items())


def maps_table(names: Mapping[str, Source]) -> Table:
    """A row a study, loss, role and protocol: its mAP, interval and validation mAP."""
    rows, searched = [], f"{chosen_by(names)} of the search"
    for letter, source in names.items():
        best = source.study.best()
        found = [] if source.results is None else answer_table(source.results).to_dict("records")
        for row in found:
            chosen = row["role"] == "chosen" and row["loss"] in best
            rows.append(
                {
                    "study": f"{letter}: {source.name}",
                    "loss": loss_name(row["loss"]),
                    "configuration": row["role"],
                    "images": source.results.described if source.results else "",
                    "protocol": row["protocol"],
                    "mAP": f"{row['map']:.3f}",
                    "95 % interval": f"{row['low']:.3f} to {row['high']:.3f} ({row['over']})",
                    "runs": str(row["runs"]),
                    searched: _score(names, source, best[row["loss"]]) if chosen else "",
                }
            )
    return Table("mAP", pd.DataFrame(rows))


def budgets_table(names: Mapping[str, Source]) -> Table:
    """A row a study and loss: trials, epochs, seconds and the best score of the search."""
    rows, reached = [], f"best {chosen_by(names)}"
    for letter, source in names.items():
        table, best = source.study.trials_frame(), source.study.best()
        for loss in source.study.losses:
            mine = table[table["loss"] == loss]
            rows.append(
                {
                    "study": letter,
                    "loss": loss_name(loss),
                    "trials": f"{len(mine):,}",
                    "epochs": f"{round(mine['epochs'].sum(), 1):,g}",
                    "seconds": f"{mine['seconds'].sum():,.0f}",
                    reached: _score(names, source, best[loss]) if loss in best else "",
                }
            )
    repeated = any(searches(source.study) > 1 for source in names.values())
    return Table(f"The budgets{' of the first searches' * repeated}", pd.DataFrame(rows))


def configurations_table(names: Mapping[str, Source]) -> Table:
    """A row a knob that any choice uses, a column a loss and study."""
    knobs = knobs_used(c for source in names.values() for c in _configs(source).values())
    losses = dict.fromkeys(loss for source in names.values() for loss in source.study.losses)
    columns = {
        f"{loss_name(loss)}, {letter}": [text(settings(config).get(knob)) for knob in knobs]
        for loss in losses
        for letter, source in names.items()
        if (config := _configs(source).get(loss)) is not None
    }
    cells = pd.DataFrame({"knob": [words(knob) for knob in knobs], **columns})
    used = cells.drop(columns="knob").ne("").any(axis=1)
    return Table("The best configurations", cells[used])


def differences_table(names: Mapping[str, Source]) -> Table:
    """A row a fact of study.json that is not equal in both."""
    facts = {letter: _facts(source.study) for letter, source in names.items()}
    first, second = facts.values()
    rows = [
        {"what": what, **{letter: mine.get(what, "not recorded") for letter, mine in facts.items()}}
        for what in dict.fromkeys([*first, *second])
        if first.get(what) != second.get(what)
    ]
    return Table("Differences", pd.DataFrame(rows, columns=["what", *facts]))


def maps_data(names: Mapping[str, Source]) -> pd.DataFrame:
    """A row a study and loss: the chosen configuration's mAP under the answer's protocol."""
    parts = []
    for letter, source in names.items():
        if source.results is not None:
            table = answer_table(source.results).assign(study=letter)
            parts.append(table[table["protocol"] == source.results.first])
    if not parts:
        return pd.DataFrame(columns=["study", "loss", "map"])
    table = pd.concat(parts, ignore_index=True)
    table = table[table["role"] == "chosen"]
    return table[["study", "loss", "map", "low", "high", "over"]].reset_index(drop=True)


def maps_figure(names: Mapping[str, Source]) -> ReportFigure | None:
    """A line a study and loss, with its interval; None if neither study has a result."""
    table = maps_data(names)
    if table.empty:
        return None
    parts, alike = [], judged_alike(names)
    for loss, mine in table.groupby("loss", sort=False):
        values = mine.set_index("study")["map"]
        each = " and ".join(f"{values[letter]:.3f} in {letter}" for letter in values.index)
        change = f" ({values['B'] - values['A']:+.3f})" if len(values) == 2 and alike else ""
        parts.append(f"{loss_name(loss)} {each}{change}")
    apart = ""
    if table["study"].nunique() == 2 and not alike:
        apart = " A and B do not compare: they are not judged on the same images alike."
    return render(
        "two_maps",
        partial(draw_maps, table=table, under=under(names)),
        size=(7.0, 1.2 + 0.42 * len(table)),
        data=table,
        caption=f"mAP{under(names)}: {'; '.join(parts)}; {images_of(names)}. "
        f"Bars are 95 % intervals.{apart}",
        alt="mAP of each loss in both studies, with its interval.",
    )


def judged_alike(names: Mapping[str, Source]) -> bool:
    """Whether both studies have results on the same images, which ask and are searched alike."""
    one, other = (source.results for source in names.values())
    if one is None or other is None:
        return False
    trained = [
        {(trial.config.dataset, trial.config.data_fingerprint) for trial in source.study.trials}
        for source in names.values()
    ]
    roles = [result.runs[0].protocols[result.first] for result in (one, other)]
    return (
        (trained[0], one.name, one.first) == (trained[1], other.name, other.first)
        and roles[0].gallery == roles[1].gallery
        and np.array_equal(one.labels, other.labels)
        and np.array_equal(roles[0].queries, roles[1].queries)
        and np.array_equal(roles[0].relevant, roles[1].relevant)
    )


def chosen_by(names: Mapping[str, Source]) -> str:
    """The validation metric by which both studies chose, or that there are two."""
    metrics = {source.study.metric for source in names.values()}
    return validation(metrics.pop()) if len(metrics) == 1 else "validation score"


def _score(names: Mapping[str, Source], source: Source, choice: Choice) -> str:
    """A choice's score, with the metric's title where the studies have two."""
    one = len({source.study.metric for source in names.values()}) == 1
    return f"{choice.score:.3f}" if one else f"{title(source.study.metric)} {choice.score:.3f}"


def under(names: Mapping[str, Source]) -> str:
    """Under which protocol a mAP is, where a study has several; else nothing."""
    found = [source.results.under for source in names.values() if source.results is not None]
    return next(filter(None, found), "")


def images_of(names: Mapping[str, Source]) -> str:
    """On which images each study is judged."""
    judged = {letter: source.results for letter, source in names.items()}
    return "; ".join(f"{n} on {found.described}" for n, found in judged.items() if found)


def draw_maps(figure: Figure, table: pd.DataFrame, under: str) -> None:
    """The losses together, A above B."""
    axes = figure.subplots()
    table = table.sort_values(["loss", "study"], ignore_index=True)
    for line, row in enumerate(table.itertuples()):
        ends, colour = (row.low, row.high), COLOURS[row.loss]
        draw_mean(axes, line, row.map, ends, colour, full=row.study == "A")
    labels = [f"{loss_name(row.loss)}, {row.study}" for row in table.itertuples()]
    name_lines(axes, labels, f"mAP{under}")


def curves_data(names: Mapping[str, Source]) -> pd.DataFrame:
    """`search_figures.seconds_table` of both studies, with the column study."""
    parts = [seconds_table(source.study).assign(study=letter) for letter, source in names.items()]
    return pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)


def curves_figure(names: Mapping[str, Source]) -> ReportFigure | None:
    """The best so far by seconds, both studies in one plot; None before the first epoch."""
    table = curves_data(names)
    if table["best_so_far"].isna().all():
        return None
    spent = table.groupby("study")["seconds"].max()
    said = listed([f"{spent[letter]:,.0f} in {letter}" for letter in spent.index])
    best = table.groupby("study")["best_so_far"].max()
    reached = listed([f"{best[letter]:.3f} in {letter}" for letter in best.index])
    return render(
        "two_searches",
        partial(draw_curves, table=table, title=f"best {chosen_by(names)}"),
        size=(8.6, 3.6),
        data=table,
        caption=f"The highest {chosen_by(names)} is {reached}; the longest search of a loss took "
        f"{said} core-seconds.",
        alt=f"Best {chosen_by(names)} so far of each loss in both studies, by core-seconds.",
    )


def draw_curves(figure: Figure, table: pd.DataFrame, title: str) -> None:
    """A colour a loss; A is drawn through, B dashed."""
    axes = figure.subplots()
    for (loss, letter), part in table.groupby(["loss", "study"], sort=False):
        style: dict[str, Any] = {"ls": STYLES["AB".index(letter)], "color": COLOURS[loss], "lw": 2}
        label = short_name(f"{loss_name(loss)}, {letter}")
        axes.step(part["seconds"], part["best_so_far"], where="post", label=label, **style)
    axes.set(xlabel="core-seconds of training and evaluation, all trials of the loss", ylabel=title)
    axes.set_xlim(left=0)
    add_legend(figure, axes.lines)


def _configs(source: Source) -> dict[str, Any]:
    choices = source.study.best() if source.finals is None else source.finals.choices[0]
    return {loss: choice.config for loss, choice in choices.items()}


def _facts(study: Study) -> dict[str, str]:
    """study.json as one line a fact, the search space a line a knob."""
    info = study.info
    facts = {what: text(info.get(what)) for what in ("command", "status", "commit")}
    for part in ("plan", "files", "versions", "machine"):
        for key, value in (info.get(part) or {}).items():
            facts[f"{part}: {words(str(key))}"] = text(value)
    for row in info.get("space") or []:
        apart = ("knob", "used by")
        said = ", ".join(f"{key} {value}" for key, value in row.items() if key not in apart)
        for loss in row["used by"].split(", "):  # two losses may have knobs of one name
            facts[f"space: {row['knob']}, {loss}"] = said
    return facts
