"""All knobs of a loss at once: a line a trial across parallel coordinates."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from analysis.figures.style import COLOURS, ReportFigure, render
from analysis.found.knobs import UNUSED, heights, is_choice, label, short, varied
from analysis.found.scores import PREFIX, score_of, validation
from analysis.found.words import loss_name, plural, words
from trainables.knobs import Range, Span

SCORE = Span(0.0, 1.0)  # has a line like a knob's


def parallel_figures(table: pd.DataFrame, ranges: Mapping[str, Range]) -> list[ReportFigure]:
    """From a `knob_table`, a figure for each loss of which at least two trials differ; `ranges` by
    field."""
    parts = [part.reset_index(drop=True) for _, part in table.groupby("loss", sort=False)]
    ranges = {**ranges, score_of(table): SCORE}
    return [_parallel(part, ranges) for part in parts if varied(part)]


def parallel_heights(table: pd.DataFrame, ranges: Mapping[str, Range]) -> pd.DataFrame:
    """(trials, knobs + 1) where a trial's line crosses each knob's: 0 is the lowest, 1 the top."""
    columns = [*varied(table), score_of(table)]
    return pd.DataFrame({c: heights(table[c], ranges.get(c)) for c in columns})


def draw_parallel(figure: Figure, table: pd.DataFrame, ranges: Mapping[str, Range]) -> None:
    """A vertical line a knob, a line across a trial; the better, the stronger."""
    axes, crossings = figure.subplots(), parallel_heights(table, ranges)
    colours = _colours(table)
    for trial in table[score_of(table)].sort_values().index:  # the best are drawn last, on top
        line = crossings.loc[trial]
        axes.plot(range(len(line)), line, color=colours[trial], lw=1.5)
    text: dict[str, Any] = {"textcoords": "offset points", "size": 8, "va": "center", "zorder": 5}
    box = {"fc": "white", "ec": "none", "pad": 0.6, "alpha": 0.85}
    for place, column in enumerate(crossings):
        axes.axvline(place, color="0.3", lw=0.8, zorder=1)
        for height, name in ticks(table[column], crossings[column], ranges.get(column)):
            axes.annotate(name, (place, height), (4, 0), bbox=box, **text)
    names = [_name(column).replace(" ", "\n") for column in crossings]
    axes.set_xticks(range(crossings.shape[1]), names)
    axes.set(yticks=[], ylim=(-0.06, 1.06), xlim=(-0.1, crossings.shape[1] - 0.5))
    axes.grid(False)


def ticks(values: pd.Series, crossings: pd.Series, known: Range | None) -> list[tuple[float, str]]:
    """Heights on a knob's line and what stands there: each choice, or the two ends."""
    if is_choice(values, known):
        pairs = zip(crossings, values.map(label), strict=True)
        return sorted({(float(height), name) for height, name in pairs})
    used = values.dropna().astype(float)
    ends = dict.fromkeys([used.idxmin(), used.idxmax()])
    found = [(float(crossings[row]), short(float(used[row]))) for row in ends]
    return found + [(1.0, UNUSED)] * bool(values.isna().any())


def _parallel(table: pd.DataFrame, ranges: Mapping[str, Range]) -> ReportFigure:
    loss, knobs, score = table["loss"].iloc[0], varied(table), score_of(table)
    best = table.loc[table[score].idxmax()]
    values = [f"{words(knob)} {short(best[knob])}" for knob in knobs if label(best[knob]) != UNUSED]
    return render(
        f"parallel_{loss}",
        partial(draw_parallel, table=table, ranges=ranges),
        size=(1.5 + 1.05 * (len(knobs) + 1), 3.6),
        data=table,
        caption=f"{loss_name(loss)}, {plural(len(table), 'configuration')} by their first trials, "
        f"the stronger the better: the best, {best[score]:.3f}, has {', '.join(values)}.",
        alt=f"A line a configuration of {loss_name(loss)} across its knobs and its "
        f"{validation(score)}.",
        interactive=_interactive(table, ranges),
    )


def _interactive(table: pd.DataFrame, ranges: Mapping[str, Range]) -> go.Figure:
    """As `draw_parallel`; not for a window too narrow for the names of the knobs."""
    figure, crossings = go.Figure(), parallel_heights(table, ranges)
    columns = list(crossings)
    for trial in table[score_of(table)].sort_values().index:
        row = table.loc[trial]
        said = "<br>".join(f"{_name(column)} {short(row[column])}" for column in columns)
        figure.add_scatter(
            x=list(range(len(columns))),
            y=crossings.loc[trial],
            mode="lines+markers",
            line={"color": _css(_colours(table)[trial])},
            text=f"<b>{row['trial_id']}</b>, {words(row['status'])}<br>{said}",
            hoverinfo="text",
            showlegend=False,
        )
    for place, column in enumerate(columns):
        for height, name in ticks(table[column], crossings[column], ranges.get(column)):
            text = name.replace(" ", "<br>")
            where = {"x": place, "y": height, "xanchor": "left", "xshift": 5}
            figure.add_annotation(text=text, showarrow=False, font={"size": 11}, **where)
    names = [_name(column).replace(" ", "<br>") for column in columns]
    at = {"tickvals": list(range(len(columns))), "ticktext": names, "tickangle": 0}
    figure.update_xaxes(**at, zeroline=False, range=[-0.1, len(columns) - 0.4])
    figure.update_yaxes(visible=False, range=[-0.06, 1.06])
    return figure.update_layout(meta={"least_width": 75 * (len(columns) + 1)})


def _colours(table: pd.DataFrame) -> dict[Any, tuple[float, float, float, float]]:
    """By trial, its loss's colour, the stronger the better: on a light page as on a dark one."""
    strength = 0.15 + 0.85 * table[score_of(table)].rank(pct=True)
    colour = to_rgb(COLOURS[table["loss"].iloc[0]])
    return {trial: (*colour, float(strength[trial])) for trial in table.index}


def _css(colour: tuple[float, float, float, float]) -> str:
    parts = [round(255 * part) for part in colour[:3]]
    return "rgba({},{},{},{:.2f})".format(*parts, colour[3])


def _name(column: str) -> str:
    return validation(column) if column.startswith(PREFIX) else words(column)
