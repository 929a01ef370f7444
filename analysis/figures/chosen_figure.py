"""Where the choices of several searches lie in the ranges of their knobs."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.figures.style import COLOURS, ReportFigure, panel_title, render
from analysis.found.chosen_knobs import OUTER, outer
from analysis.found.words import listed, loss_name, plural, words

WIDTH, COLUMNS = 8.6, 2  # inches; panels side by side
MANY = 0.3  # of the choices, of which one asks what lies beyond a range


def chosen_figure(table: pd.DataFrame) -> ReportFigure | None:
    """A panel a loss, a line a knob, a dot a search, of a `chosen_knobs` table; None of fewer than
    two searches, or where nothing was searched."""
    searches = table["search"].nunique()
    if searches < 2:
        return None
    found = []
    for (loss, knob), mine in table.groupby(["loss", "knob"], sort=False):
        if " to " not in mine["range"].iloc[0]:
            continue
        for end, many in zip(("lowest", "highest"), outer(mine), strict=True):
            if many >= max(2, MANY * searches):
                found.append(f"{loss_name(str(loss))}'s {words(str(knob))} ({end}, {many})")
    said = (
        f"In an outer tenth lie three in ten or more of {listed(found)}."
        if found
        else ("Of no knob lie three in ten or more in an outer tenth.")
    )
    losses = list(dict.fromkeys(table["loss"]))
    rows = -(-len(losses) // COLUMNS)
    most = int(table.groupby("loss")["knob"].nunique().max())
    return render(
        "chosen_knobs",
        partial(draw_chosen, table=table),
        size=(WIDTH, rows * (0.9 + 0.52 * most) + 0.3),
        data=table,
        caption=f"What {plural(searches, 'search', 'searches')} chose, in the ranges that they "
        "looked in, or which of the values from left to right; a dot is a search, at the same "
        f"height in all lines of a loss, grey the outer tenths of a range. {said}",
        alt="Where the chosen value of each knob lies in its range, by loss and search.",
    )


def draw_chosen(figure: Figure, table: pd.DataFrame) -> None:
    """Each search has a height of its own within the lines, so that no dot hides another."""
    losses, searches = list(dict.fromkeys(table["loss"])), table["search"].nunique()
    columns = min(COLUMNS, len(losses))
    panels = figure.subplots(-(-len(losses) // columns), columns, squeeze=False, sharex=True)
    heights = np.linspace(-0.25, 0.25, searches)
    numbers = {search: n for n, search in enumerate(sorted(table["search"].unique()))}
    for axes, loss in zip(panels.flat, losses, strict=False):
        mine, names = table[table["loss"] == loss], []
        for line, (knob, chosen) in enumerate(mine.groupby("knob", sort=False)):
            known = chosen["range"].iloc[0]
            axes.plot([0, 1], [line, line], color="0.7", lw=1, zorder=0)
            if " to " in known:
                for left in (0, 1 - OUTER):
                    axes.fill_between([left, left + OUTER], line - 0.38, line + 0.38,
                                      color="0.9", lw=0, zorder=-1)  # fmt: skip
            y = [line + heights[numbers[search]] for search in chosen["search"]]
            axes.plot(chosen["place"], y, "o", color=COLOURS[loss], ms=4, alpha=0.8, mec="none")
            names.append(f"{words(str(knob))}\n{known}")
        axes.set_yticks(range(len(names)), names, fontsize=8)
        axes.set(xlim=(-0.02, 1.02), ylim=(len(names) - 0.5, -0.5), title=panel_title(loss))
        axes.set_xticks([0, 1], ["lowest", "highest"])
        axes.tick_params(labelbottom=True)
        axes.grid(visible=False)
    for axes in panels.flat[len(losses) :]:
        axes.set_visible(False)
