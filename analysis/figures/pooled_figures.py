"""What several comparisons show together: mAPs by comparison, differences, classes."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from analysis.figures.style import (
    COLOURS,
    ReportFigure,
    add_legend,
    draw_mean,
    loss_keys,
    name_lines,
    render,
)
from analysis.found.words import cut, listed, loss_name, plural
from study.judge.pooled import Pooled
from study.judge.significance import GAPS, MARGIN, mean_interval

WIDTH = 8.6  # inches
VERDICTS = {"shown": ("o", True), "equivalent": ("D", True), "not resolved": ("o", False)}


def pooled_maps_figure(found: Pooled) -> ReportFigure:
    """The mAP of every loss in every comparison, and beside the mean of the losses in it."""
    table, many, beside = pooled_maps_table(found), len(found.maps), ""
    if len(found.losses) > 1:
        beside = (
            " To the right each comparison's mAP less the mean of its losses, which takes out what "
            "all of them find hard there; its bars are no tests, which are of the differences."
        )
    values = [f"{row.map:.3f} for {loss_name(row.loss)}" for row in found.losses.itertuples()]
    settings = ""
    if len(found.references):
        settings = " Squares are the seed study's settings, from the lowest to the highest run."
    return render(
        "pooled_maps",
        partial(draw_pooled_maps, table=table, found=found),
        size=(WIDTH, 1.5 + 0.42 * (len(found.losses) + len(found.references))),
        data=table,
        caption=f"Test mAP in the mean of {many} comparisons: {listed(values)}. A small dot is a "
        f"comparison, a bar the 95 % interval over these.{beside}{settings}",
        alt="mAP of each loss in each comparison, and beside the mean of the losses there.",
    )


def pooled_maps_table(found: Pooled) -> pd.DataFrame:
    """A row a comparison and loss: `map`, and `beside`, by how much it is above their mean."""
    maps = found.maps.reset_index(drop=True).rename_axis("comparison")
    beside = maps.sub(maps.mean(axis=1), axis=0)
    columns = [t.melt(var_name="loss", value_name=name, ignore_index=False)
               for t, name in ((maps, "map"), (beside, "beside"))]  # fmt: skip
    return columns[0].assign(beside=columns[1]["beside"]).reset_index()


def draw_pooled_maps(figure: Figure, table: pd.DataFrame, found: Pooled) -> None:
    """A line a loss, the best on top, the references below."""
    several = len(found.losses) > 1
    panels = figure.subplots(1, 1 + several, sharey=True, squeeze=False)[0]
    left, names = panels[0], []
    for line, row in enumerate(found.losses.itertuples()):
        mine, colour = table[table["loss"] == row.loss], COLOURS[row.loss]
        maps, beside = mine["map"].to_numpy(), mine["beside"].to_numpy()
        draw_mean(left, line, row.map, (row.low, row.high), colour, singles=maps)
        for right in panels[1:]:
            ends = mean_interval(beside, GAPS)
            draw_mean(right, line, beside.mean(), ends, colour, singles=beside, form="+.3f")
        names.append(loss_name(row.loss))
    for line, row in enumerate(found.references.itertuples(), start=len(names)):
        run_ends, colour = (row.lowest, row.highest), COLOURS[row.loss]
        draw_mean(left, line, row.map, run_ends, colour, mark="s", full=False)
        names.append(f"{loss_name(row.loss)}, reference")
    name_lines(left, names, "test mAP")
    for right in panels[1:]:
        right.axvline(0, color="0.3", lw=0.8)
        right.xaxis.set_major_locator(MaxNLocator(4))
        right.set_xlabel("test mAP less the mean of the losses\nin the same comparison")
        right.grid(axis="y", visible=False)
        right.margins(x=0.12)


def differences_figure(found: Pooled) -> ReportFigure | None:
    """A line a pair of losses; None where there is no pair."""
    table = found.differences
    if table.empty:
        return None
    over = ", and over queries" if found.common else ""
    return render(
        "pooled_differences",
        partial(draw_differences, table=table),
        size=(WIDTH, 1.7 + 0.3 * len(table)),
        data=table,
        caption=f"{counted(found)}. Bars are 95 % intervals over comparisons, in the colour of the "
        f"loss that is ahead; what decides is the p of tests over comparisons{over}, corrected for "
        f"all pairs. The grey band is ±{MARGIN}.",
        alt="The difference of each pair of losses with its interval and verdict.",
    )


def counted(found: Pooled) -> str:
    """How many of the differences have each verdict."""
    counts = [
        f"{len(found.pairs(verdict)) or 'none'} {verdict}"
        for verdict in VERDICTS
        if verdict != "equivalent" or len(found.pairs(verdict))
    ]
    return f"Of {plural(len(found.differences), 'difference')} in test mAP: {listed(counts)}"


def draw_differences(figure: Figure, table: pd.DataFrame) -> None:
    """Right of 0 the first of a pair is above; a full mark is a verdict, an open one is none."""
    axes = figure.subplots()
    axes.axvspan(-MARGIN, MARGIN, color="0.85", lw=0, zorder=0)
    axes.axvline(0, color="0.3", lw=0.8)
    for line, row in enumerate(table.itertuples()):
        colour = COLOURS[row.first if row.difference > 0 else row.second]
        marker, full = VERDICTS[row.verdict]
        axes.plot([row.low, row.high], [line, line], color=colour, lw=2)
        face = colour if full else "white"
        axes.plot(row.difference, line, marker, color=colour, mfc=face, ms=7)
    names = [
        f"{cut(loss_name(row.first))} less {cut(loss_name(row.second))}"
        for row in table.itertuples()
    ]
    axes.set_yticks(range(len(table)), names)
    axes.set(xlabel="difference in test mAP", ylim=(len(table) - 0.5, -0.6))
    axes.grid(axis="y", visible=False)
    grey: dict[str, Any] = {"color": "0.4", "ls": "", "ms": 7}
    keys = [
        Line2D([], [], marker=marker, mfc="0.4" if full else "white", label=verdict, **grey)
        for verdict, (marker, full) in VERDICTS.items()
        if verdict in set(table["verdict"])
    ]
    figure.legend(handles=keys, loc="outside upper right", ncols=len(keys))


def classes_figure(found: Pooled) -> ReportFigure | None:
    """The mean AP of each class under each loss; None of many classes."""
    if found.classes is None:
        return None
    table = found.classes.T.rename_axis(index="class", columns="loss")
    gaps = (table.max(axis=1) - table.min(axis=1)).sort_values(ascending=False, kind="stable")
    name, widest = cut(str(gaps.index[0])), table.loc[gaps.index[0]]
    best, worst = loss_name(str(widest.idxmax())), loss_name(str(widest.idxmin()))
    ends = f"{best} has {widest.max():.3f} and {worst} {widest.min():.3f}"
    said = f" The losses are farthest apart on {name}, where {ends}."
    return render(
        "pooled_classes",
        partial(draw_classes, table=table),
        size=(WIDTH, 1.2 + 0.32 * len(table)),
        data=table.melt(value_name="ap", ignore_index=False).reset_index(),
        caption="Mean AP of a class's queries, over the comparisons that test it."
        f"{said if len(table.columns) > 1 else ''}",
        alt="Mean AP of each class under each loss.",
    )


def draw_classes(figure: Figure, table: pd.DataFrame) -> None:
    """A line a class, a point a loss."""
    axes, losses = figure.subplots(), list(table)
    shifts = np.linspace(-0.22, 0.22, len(losses)) if len(losses) > 1 else np.zeros(1)
    for loss, shift in zip(losses, shifts, strict=True):
        lines = np.arange(len(table)) + shift
        axes.plot(table[loss], lines, "o", color=COLOURS[loss], ms=6, mec="white")
    axes.set_yticks(range(len(table)), [cut(str(name)) for name in table.index])
    axes.set(xlabel="mean AP of the class's queries", ylim=(len(table) - 0.5, -0.5))
    add_legend(figure, loss_keys(losses), most=3)
