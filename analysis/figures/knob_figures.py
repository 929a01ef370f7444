"""What each knob did to the validation metric: its importance, a slice of the search along it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from plotly.subplots import make_subplots

from analysis.figures.parallel_coordinates import parallel_figures
from analysis.figures.style import (
    COLOURS,
    MARKERS,
    SYMBOLS,
    ReportFigure,
    add_legend,
    add_loss_keys,
    add_status_keys,
    loss_keys,
    panel_title,
    render,
    status_keys,
)
from analysis.found.importance import SHUFFLES, Importance
from analysis.found.knobs import (
    field_ranges,
    is_choice,
    is_log,
    knob_table,
    places,
    short,
    ticks,
    varied,
)
from analysis.found.scores import score_of, validation
from analysis.found.words import capital, listed, loss_name, plural, words
from study.results.studies import Study
from trainables.knobs import Range

WIDE = 4  # panels side by side


def knob_figures(study: Study, found: Importance) -> list[ReportFigure]:
    """Importance, slices and parallel coordinates: those for which there are trials enough."""
    table, ranges = knob_table(study), field_ranges(study)
    figures = [_importance(found)] if len(found.table) else []
    if varied(table):
        figures += [_slices(table, ranges), *parallel_figures(table, ranges)]
    return figures


def draw_importance(figure: Figure, table: pd.DataFrame) -> None:
    """A panel a loss, the most important knob on top, a mark where chance ends."""
    shown = list(table["loss"].unique())
    panels = figure.subplots(1, len(shown), squeeze=False)[0]
    mark = Line2D([], [], color="black", marker="|", ls="", ms=9, mew=2, label="chance level")
    for axes, loss in zip(panels, shown, strict=True):
        part = table[table["loss"] == loss].sort_values("importance")
        names = part["knob"].map(words)
        axes.barh(names, part["importance"], color=COLOURS[loss])
        axes.plot(part["chance"], names, "|", color="black", ms=9, mew=2)
        axes.set(title=panel_title(loss), xlabel="importance", xlim=(0, None))
        axes.grid(axis="y", visible=False)
    figure.legend(handles=[mark], loc="outside upper right")


def draw_slices(figure: Figure, table: pd.DataFrame, ranges: Mapping[str, Range]) -> None:
    """A panel a knob, a colour a loss, a marker a status; `ranges` by field."""
    knobs, losses, score = varied(table), list(table["loss"].unique()), score_of(table)
    panels = figure.subplots(
        -(-len(knobs) // WIDE), min(WIDE, len(knobs)), squeeze=False, sharey=True
    )
    for axes, knob in zip(panels.flat, knobs, strict=False):
        part, known = table[table[knob].notna()], ranges.get(knob)
        at = places(part[knob], known)
        for (loss, status), mine in part.groupby(["loss", "status"], sort=False):
            x = at[mine.index] + _shift(loss, losses, part[knob], known)
            style: dict[str, Any] = {"color": COLOURS[loss], "marker": MARKERS[status]}
            axes.scatter(x, mine[score], s=24, alpha=0.8, ec="white", lw=0.4, **style)
        axes.set_title(words(knob))
        _label_axis(axes, part[knob], known)
    for axes in panels.flat[len(knobs) :]:
        axes.set_visible(False)
    for row in panels:
        row[0].set_ylabel(f"best {validation(score)}")
    add_legend(figure, [*loss_keys(losses), *status_keys(table["status"])])


def _importance(found: Importance) -> ReportFigure:
    table = found.table
    parts, none = [], []
    for loss in table["loss"].unique():
        above = found.shown(loss)
        said = [f"{words(row.knob)} ({row.share:.0%})" for row in above.itertuples()]
        if said:
            parts.append(f"{listed(said)} for {loss_name(loss)}")
        else:
            none.append(loss_name(loss))
    start = "More importance than shuffled scores give (in brackets, its share of all) has"
    sentences = [f"{start} {listed(parts)}."] if parts else []
    if none:
        start = f"Of {listed(none)} no" if parts else "No"
        sentences.append(f"{start} knob has more importance than shuffled scores give.")
    most = int(table.groupby("loss").size().max())
    return render(
        "importance",
        partial(draw_importance, table=table),
        size=(1.6 + 2.9 * table["loss"].nunique(), 1.4 + 0.26 * most),
        data=table,
        caption=f"{' '.join(sentences)} Marks: in 95 % of {SHUFFLES} shuffles of the scores, no "
        "bar of the loss is longer than its mark.",
        alt="The importance of each knob for each loss, and how much of it chance gives.",
    )


def _slices(table: pd.DataFrame, ranges: Mapping[str, Range]) -> ReportFigure:
    knobs, score = varied(table), score_of(table)
    rows = -(-len(knobs) // WIDE)
    best = table.sort_values(score).groupby("loss", sort=False).tail(1)
    numbers = [knob for knob in knobs if is_log(table[knob], ranges.get(knob))][:1]
    at = [
        f"{words(knob)} {row[knob]:.3g} for {loss_name(row['loss'])}"
        for knob in numbers
        for _, row in best[best[knob].notna()].iterrows()
    ]
    said = f"the best has {listed(at)}" if at else "a point a configuration"
    return render(
        "slices",
        partial(draw_slices, table=table, ranges=ranges),
        size=(max(2.3 + 2.4 * min(WIDE, len(knobs)), 8.0), 0.6 + 2.3 * rows),
        data=table,
        caption=f"{capital(validation(score))} of the first trial of "
        f"{plural(len(table), 'configuration')} by each of {plural(len(knobs), 'knob')}: {said}.",
        alt=f"{capital(validation(score))} of every configuration by the value of each knob.",
        interactive=_interactive_slices(table, knobs, ranges),
    )


def _interactive_slices(
    table: pd.DataFrame, knobs: list[str], ranges: Mapping[str, Range]
) -> go.Figure:
    """As `draw_slices`; not for a window too narrow for panels side by side."""
    columns = min(3, len(knobs))
    rows, losses = -(-len(knobs) // columns), list(table["loss"].unique())
    titles, score = [words(knob) for knob in knobs], score_of(table)
    figure = make_subplots(
        rows, columns, subplot_titles=titles, shared_yaxes=True, vertical_spacing=0.3 / rows
    )
    for place, knob in enumerate(knobs):
        where = {"row": place // columns + 1, "col": place % columns + 1}
        part, known = table[table[knob].notna()], ranges.get(knob)
        at = places(part[knob], known)
        for (loss, status), mine in part.groupby(["loss", "status"], sort=False):
            said = f", {words(status)}<br>{words(knob)} " + mine[knob].map(short)
            scores = f"<br>best {validation(score)} " + mine[score].map("{:.3f}".format)
            figure.add_scatter(
                x=at[mine.index] + _shift(loss, losses, part[knob], known),
                y=mine[score],
                mode="markers",
                marker={"color": COLOURS[loss], "symbol": SYMBOLS[status], "size": 7},
                text=mine["trial_id"] + said + scores,
                hoverinfo="text",
                showlegend=False,
                **where,
            )
        few = is_choice(part[knob], known)
        if few or is_log(part[knob], known):
            values, names = zip(*ticks(part[knob], known), strict=True)
            lines = [name.replace(" ", "<br>") for name in names]
            figure.update_xaxes(tickvals=values, ticktext=lines, tickangle=0, **where)
        if few:
            figure.update_xaxes(range=[-0.5, len(values) - 0.5], zeroline=False, **where)
    figure.update_yaxes(title=f"best {validation(score)}", col=1)
    add_loss_keys(figure, losses)
    add_status_keys(figure, table["status"])
    return figure.update_layout(height=150 + 230 * rows, meta={"least_width": 600})


def _shift(loss: str, losses: list[str], values: pd.Series, known: Range | None) -> float:
    """Choices are few: beside each other the losses do not hide one another."""
    few, step = is_choice(values, known), min(0.16, 0.9 / len(losses))  # within the panel
    return step * (losses.index(loss) - (len(losses) - 1) / 2) if few else 0.0


def _label_axis(axes: Axes, values: pd.Series, known: Range | None) -> None:
    few = is_choice(values, known)
    if few or is_log(values, known):
        found, names = zip(*ticks(values, known), strict=True)
        axes.set_xticks(found, [name.replace(" ", "\n") for name in names])
    if few:
        axes.set_xlim(-0.5, len(found) - 0.5)
    else:
        axes.margins(x=0.08)
