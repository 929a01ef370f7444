"""What each knob did to validation mAP: its importance, and a slice of the search along it."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from plotly.subplots import make_subplots

from analysis.knobs import (
    CHOICES,
    LOG,
    importance_table,
    knob_table,
    label,
    places,
    varied,
)
from analysis.parallel_coordinates import parallel_figures
from analysis.style import COLOURS, MARKERS, ReportFigure, listed, loss_name, plural, render, words
from study.results import Study

WIDE = 4  # panels side by side


def knob_figures(study: Study) -> list[ReportFigure]:
    """Importance, slices and parallel coordinates: those for which there are trials enough."""
    table, importance = knob_table(study), importance_table(study)
    figures = [_importance(importance, study.losses)] if len(importance) else []
    if varied(table):
        figures += [_slices(table), *parallel_figures(table)]
    return figures


def draw_importance(figure: Figure, table: pd.DataFrame, losses: list[str]) -> None:
    """A panel a loss, the most important knob on top."""
    shown = [loss for loss in losses if loss in set(table["loss"])]
    panels = figure.subplots(1, len(shown), squeeze=False, sharex=True)[0]
    for axes, loss in zip(panels, shown, strict=True):
        part = table[table["loss"] == loss].sort_values("importance")
        axes.barh(part["knob"].map(words), part["importance"], color=COLOURS[loss])
        axes.set(title=loss_name(loss), xlabel="importance")
        axes.grid(axis="y", visible=False)


def draw_slices(figure: Figure, table: pd.DataFrame) -> None:
    """A panel a knob, a colour a loss, a marker a status."""
    knobs = varied(table)
    panels = figure.subplots(
        -(-len(knobs) // WIDE), min(WIDE, len(knobs)), squeeze=False, sharey=True
    )
    for axes, knob in zip(panels.flat, knobs, strict=False):
        part = table[table[knob].notna()]
        for (loss, status), mine in part.groupby(["loss", "status"], sort=False):
            x = places(mine[knob], knob) + _shift(loss, knob)
            style: dict[str, Any] = {"color": COLOURS[loss], "marker": MARKERS[status]}
            axes.scatter(x, mine["best_val_map"], s=24, alpha=0.8, ec="white", lw=0.4, **style)
        _label_axis(axes, part[knob], knob)
    for axes in panels.flat[len(knobs) :]:
        axes.set_visible(False)
    for row in panels:
        row[0].set_ylabel("best validation mAP")


def _importance(table: pd.DataFrame, losses: list[str]) -> ReportFigure:
    parts = []
    for loss, part in table.groupby("loss", sort=False):
        top = part.sort_values("importance", ascending=False).iloc[0]
        share = f"{top['importance']:.0%}"
        parts.append(f"{words(top['knob'])} for {loss_name(loss)} ({share})")
    most = int(table.groupby("loss").size().max())
    return render(
        "importance",
        partial(draw_importance, table=table, losses=losses),
        size=(2.0 + 2.6 * table["loss"].nunique(), 1.1 + 0.26 * most),
        data=table,
        caption=f"The most important knob is {listed(parts)}.",
        alt="The importance of each knob for each loss.",
    )


def _slices(table: pd.DataFrame) -> ReportFigure:
    knobs = varied(table)
    rows = -(-len(knobs) // WIDE)
    best = table.sort_values("best_val_map").groupby("loss", sort=False).tail(1)
    numbers = [knob for knob in knobs if knob in LOG][:1]
    at = [
        f"{words(knob)} {row[knob]:.3g} for {loss_name(row['loss'])}"
        for knob in numbers
        for _, row in best.iterrows()
    ]
    said = f"the best trial has {listed(at)}" if at else "a point a trial"
    return render(
        "slices",
        partial(draw_slices, table=table),
        size=(2.3 + 2.4 * min(WIDE, len(knobs)), 0.6 + 2.3 * rows),
        data=table,
        caption=f"Validation mAP by each of {plural(len(knobs), 'knob')}, "
        f"{plural(len(table), 'trial')}: {said}.",
        alt="Validation mAP of every trial against the value of each knob.",
        interactive=_interactive_slices(table, knobs),
    )


def _interactive_slices(table: pd.DataFrame, knobs: list[str]) -> go.Figure:
    columns = min(3, len(knobs))
    titles = [words(knob) for knob in knobs]
    rows = -(-len(knobs) // columns)
    figure = make_subplots(
        rows, columns, subplot_titles=titles, shared_yaxes=True, vertical_spacing=0.3 / rows
    )
    for place, knob in enumerate(knobs):
        where = {"row": place // columns + 1, "col": place % columns + 1}
        part = table[table[knob].notna()]
        for loss, mine in part.groupby("loss", sort=False):
            figure.add_scatter(
                x=mine[knob].map(label) if knob in CHOICES else mine[knob].astype(float),
                y=mine["best_val_map"],
                mode="markers",
                marker={"color": COLOURS[loss], "size": 7},
                text=mine["trial_id"] + ", " + mine["status"].map(words),
                name=loss_name(loss),
                legendgroup=loss,
                showlegend=place == 0,
                **where,
            )
        if knob in CHOICES:
            order = {"categoryorder": "array", "categoryarray": CHOICES[knob]}
            figure.update_xaxes(type="category", **order, **where)
        elif knob in LOG:
            figure.update_xaxes(type="log", **where)
    return figure.update_layout(height=110 + 230 * rows)


def _shift(loss: str, knob: str) -> float:
    """Choices are few: beside each other the losses do not hide one another."""
    return 0.16 * (list(COLOURS).index(loss) - 1) if knob in CHOICES else 0.0


def _label_axis(axes: Axes, values: pd.Series, knob: str) -> None:
    axes.set_title(words(knob))
    if knob in CHOICES:
        names = list(dict.fromkeys([*CHOICES[knob], *sorted(set(values.map(label)))]))
        axes.set_xticks(range(len(names)), names)
        axes.set_xlim(-0.5, len(names) - 0.5)
    elif knob in LOG:
        low, high = (np.log10(float(end)) for end in (values.min(), values.max()))
        decades = range(int(np.floor(low)), int(np.ceil(high)) + 1)
        axes.set_xticks(list(decades), [f"{10.0**decade:g}" for decade in decades])
        axes.set_xlim(low - 0.08 * (high - low) - 0.05, high + 0.08 * (high - low) + 0.05)
