"""Precision over recall: all losses in one plot, and each loss under each protocol."""

from __future__ import annotations

from functools import partial
from operator import attrgetter
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.style import COLOURS, ReportFigure, legend_columns, render, short_name
from analysis.found.runs import Results, mean_curve
from analysis.found.words import listed, loss_name

RULE = (
    "Precision is interpolated at 101 recall levels (the highest precision at this recall or "
    "beyond, query by query) and averaged over queries"
)
DASHES = ("-", "--", "-.", ":")  # of the protocols, the answer's first
REFERENCE_DASH = (0, (1, 1.2))
WITHIN = 4  # curves whose names find a place beneath them; those of more stand below the plot
SIDE, NAME = 6.4, 0.22  # inches: the plot of all losses, and a line of a legend below it


def pr_table(results: Results) -> pd.DataFrame:
    """A row a point of the mean curve over a loss's runs of one role.

    Columns loss, role, protocol, recall (ascending from 0 to 1), precision, low and high (95 %
    over what `Results.unit` says; NaN for one), map (the mean over the same) and runs.
    """
    parts = []
    keys = dict.fromkeys((run.loss, run.role) for run in results.runs)
    for loss, role in keys:
        for protocol in results.protocols:
            drawn = results.drawn(loss, role, lambda judged: judged.precision, protocol)
            curve = mean_curve(drawn)
            curve = curve.rename(columns={"mean": "precision"})
            scores = results.drawn(loss, role, attrgetter("mean_average_precision"), protocol)
            curve = curve.assign(recall=np.arange(len(curve)) / (len(curve) - 1))
            curve = curve.assign(loss=loss, role=role, protocol=protocol, map=scores.mean())
            parts.append(curve.assign(runs=len(results.of(loss, role))))
    columns = ["loss", "role", "protocol", "recall", "precision", "low", "high", "map", "runs"]
    return pd.concat(parts, ignore_index=True)[columns]


def pr_figures(results: Results) -> list[ReportFigure]:
    """All losses in one plot, then a plot a loss, unless that would be the same again."""
    table = pr_table(results)
    together = _all_losses(table[table["protocol"] == results.first], results)
    if len(results.protocols) == table["loss"].nunique() == 1:
        return [together]
    return [together, *(_one_loss(part, results) for _, part in table.groupby("loss", sort=False))]


def draw_all(figure: Figure, table: pd.DataFrame, title: str) -> None:
    """A curve a loss and role; `table` holds one protocol."""
    axes = figure.subplots()
    several = table["role"].nunique() > 1
    for (loss, role), curve in table.groupby(["loss", "role"], sort=False):
        name = f"{short_name(loss_name(loss))}{', ' + role if several else ''}"
        _curve(axes, curve, "-" if role == "chosen" else REFERENCE_DASH, name)
    below = len(axes.lines) > WITHIN
    _finish(axes, title, legend=not below)
    if below:
        columns = legend_columns(axes.lines, SIDE)
        figure.legend(handles=axes.lines, loc="outside lower center", ncols=columns)


def draw_one(figure: Figure, table: pd.DataFrame, results: Results) -> None:
    """A curve a protocol and role; `table` holds one loss."""
    axes = figure.subplots()
    for (protocol, role), curve in table.groupby(["protocol", "role"], sort=False):
        several = len(results.protocols) > 1
        if role == "chosen":
            name = f"{protocol} protocol" if several else role
            _curve(axes, curve, DASHES[results.protocols.index(protocol)], name)
        elif protocol == results.first:
            name = f"reference, {protocol}" if several else role
            _curve(axes, curve, REFERENCE_DASH, name)
    _finish(axes, f"{short_name(loss_name(table['loss'].iloc[0]))}\n{results.described}")


def precision_at(table: pd.DataFrame, recall: float) -> float:
    """The precision of one curve at a recall that is on its grid."""
    return float(table["precision"].iloc[np.abs(table["recall"].to_numpy() - recall).argmin()])


def _curve(axes: Axes, curve: pd.DataFrame, dash: Any, name: str) -> None:
    colour, label = COLOURS[curve["loss"].iloc[0]], f"{name}, mAP {curve['map'].iloc[0]:.3f}"
    axes.plot(curve["recall"], curve["precision"], ls=dash, color=colour, lw=2, label=label)
    if curve["low"].notna().any():
        low, high = curve["low"].clip(0, 1), curve["high"].clip(0, 1)
        axes.fill_between(curve["recall"], low, high, color=colour, alpha=0.2, lw=0)


def together_figure(
    name: str, table: pd.DataFrame, *, title: str, said: str, images: str
) -> ReportFigure:
    """All losses in one plot, from a table like `pr_table`'s of one protocol.

    Args:
        said: how the curves came about, for the caption.
        images: whose curves they are.
    """
    at_half = [
        f"{precision_at(curve, 0.5):.2f} for {loss_name(str(loss))}"
        for loss, curve in table[table["role"] == "chosen"].groupby("loss", sort=False)
    ]
    below = max(0, table.groupby(["loss", "role"]).ngroups - WITHIN)
    return render(
        name,
        partial(draw_all, table=table, title=title),
        size=(SIDE, 6.0 + NAME * below),
        data=table,
        caption=f"With half of the relevant images found, precision is {listed(at_half)} "
        f"({said}). {RULE}.",
        alt=f"Precision-recall curves of all losses on the {images}.",
    )


def _all_losses(table: pd.DataFrame, results: Results) -> ReportFigure:
    protocol = f"{results.first} protocol, " if len(results.protocols) > 1 else ""
    return together_figure(
        "pr_curves",
        table,
        title=f"Retrieval among {results.sizes(results.first)[1]:,}\n{results.described}",
        said=f"{protocol}{results.described}{_band(results)}",
        images=results.name,
    )


def _one_loss(table: pd.DataFrame, results: Results) -> ReportFigure:
    loss = table["loss"].iloc[0]
    # A loss that is a reference alone has no choice to speak of.
    role = "chosen" if (table["role"] == "chosen").any() else "reference"
    shown = table[table["role"] == role]
    several = len(results.protocols) > 1
    scores = [
        f"{curve['map'].iloc[0]:.3f}" + (f" under the {protocol} protocol" if several else "")
        for protocol, curve in shown.groupby("protocol", sort=False)
    ]
    each = " under each protocol" if several else ""
    beside = "" if role == "chosen" else ", reference"
    return render(
        f"pr_curve_{loss}",
        partial(draw_one, table=table, results=results),
        size=(4.0, 4.0),
        data=table,
        caption=f"{loss_name(loss)}{beside}: mAP {listed(scores)}, {results.described}.",
        alt=f"Precision-recall curve of {loss_name(loss)}{each}.",
    )


def _band(results: Results) -> str:
    many = max(len(results.units(loss)) for loss in results.losses)
    return f"; mean and 95 % band over {results.counted(many)}" if many > 1 else ""


def _finish(axes: Axes, title: str, *, legend: bool = True) -> None:
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="recall", ylabel="precision")
    axes.set_title(title.replace("; ", ";\n"))  # each part fits the narrowest plot
    axes.set_aspect("equal")
    if legend:
        axes.legend(loc="lower left")
