"""Where the choices of several searches lie in the ranges of their knobs."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.figures.style import COLOURS, ReportFigure, panel_title, render
from analysis.found.chosen_knobs import LINE, OUTER, in_outer_tenths, is_span, shown
from analysis.found.words import listed, loss_name, plural, words

WIDTH, COLUMNS = 8.6, 2  # inches; panels side by side
SHARE, LEAST = 0.3, 2  # of the choices, and how many at least, for a caption to name their end


def chosen_figure(table: pd.DataFrame) -> ReportFigure | None:
    """A panel a loss, a line a knob, a dot a search, of a `chosen_knobs` table; None of fewer than
    two searches, or where nothing was searched."""
    searches = table["search"].nunique()
    if searches < 2:
        return None
    losses = list(dict.fromkeys(table["loss"]))
    rows = -(-len(losses) // COLUMNS)
    most = max(len(mine.groupby(LINE)) for _, mine in table.groupby("loss"))
    return render(
        "chosen_knobs",
        partial(draw_chosen, table=table),
        size=(WIDTH, rows * (0.9 + 0.52 * most) + 0.3),
        data=table,
        caption=f"What {plural(searches, 'search', 'searches')} chose, a dot each, at the same "
        "height in every line. A line is a range from its lowest to its highest number, "
        "logarithmic where that is said, with its outer tenths in grey; or the values that there "
        f"are, from left to right. {_ends(table)}",
        alt="Where the chosen value of each knob lies in its range, by loss and search.",
    )


def _ends(table: pd.DataFrame) -> str:
    """Where so many choices lie in an outer tenth that one asks what lies beyond."""
    found = []
    for (loss, knob, known), mine in table.groupby(LINE, sort=False):
        for end, many in zip(("lowest", "highest"), in_outer_tenths(mine), strict=True):
            if is_span(str(known)) and many >= max(LEAST, SHARE * len(mine)):
                whose = f"{loss_name(str(loss))}'s {words(str(knob))}"
                found.append(f"the {end} tenth of {whose} ({many} of {len(mine)})")
    if not found:
        return ""
    return f"At least two choices, and three in ten, lie in {listed(found)}."


def draw_chosen(figure: Figure, table: pd.DataFrame) -> None:
    """Each search has a height of its own within the lines, so that no dot hides another."""
    losses, searches = list(dict.fromkeys(table["loss"])), table["search"].unique()
    columns = min(COLUMNS, len(losses))
    panels = figure.subplots(-(-len(losses) // columns), columns, squeeze=False)
    heights = dict(zip(sorted(searches), np.linspace(-0.25, 0.25, len(searches)), strict=True))
    for axes, loss in zip(panels.flat, losses, strict=False):
        mine, names = table[table["loss"] == loss], []
        for line, ((_, knob, known), chosen) in enumerate(mine.groupby(LINE, sort=False)):
            axes.plot([0, 1], [line, line], color="0.7", lw=1, zorder=0)
            for left in (0, 1 - OUTER) if is_span(str(known)) else ():
                ends, below, above = [left, left + OUTER], line - 0.38, line + 0.38
                axes.fill_between(ends, below, above, color="0.9", lw=0, zorder=-1)
            y = [line + heights[search] for search in chosen["search"]]
            axes.plot(chosen["place"], y, "o", color=COLOURS[loss], ms=4, alpha=0.8, mec="none")
            names.append(f"{words(str(knob))}\n{shown(str(known))}")
        axes.set_yticks(range(len(names)), names, fontsize=8)
        axes.set(xlim=(-0.02, 1.02), ylim=(len(names) - 0.5, -0.5), title=panel_title(loss))
        axes.set_xticks([])
        axes.grid(visible=False)
    for axes in panels.flat[len(losses) :]:
        axes.set_visible(False)
