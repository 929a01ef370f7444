"""What the search did with its workers: what ran where, and when."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from analysis.figures.style import (
    COLOURS,
    ReportFigure,
    add_legend,
    add_loss_keys,
    loss_keys,
    render,
)
from analysis.found.words import plural, words
from study.results.studies import Study
from study.results.trials import TrialRecord

FAULT_HATCH, OPEN_HATCH = "xxx", ".."
HATCHES = {
    "finished": "",
    "running": OPEN_HATCH,
    "interrupted": OPEN_HATCH,
}
WIDTH, EDGE = 8.6, 0.8  # inches of the figure; points of the edge around a bar
PAUSE = 60  # seconds without training after which a trial has paused: checkpoints take some
PATTERNS = {"": "", FAULT_HATCH: "x", OPEN_HATCH: "."}  # the same in Plotly


def timeline_table(study: Study) -> pd.DataFrame:
    """A row a piece of training, of which a trial that has started has one, and one more each time
    that it went on after a pause: loss, trial_id, status, worker, lane, start, end.

    `start` and `end` are seconds since the first start. `worker` is the trial's last one; `lane`
    numbers them from 1, in the order in which they got their first trial.
    """
    rows = [
        (trial.loss, trial.trial_id, trial.status, trial.worker or "not recorded", *piece)
        for trial in study.trials
        for piece in _pieces(trial)
    ]
    columns = ["loss", "trial_id", "status", "worker", "start", "end"]
    table = pd.DataFrame(rows, columns=columns).sort_values("start", ignore_index=True)
    lanes = {worker: lane for lane, worker in enumerate(table["worker"].unique(), start=1)}
    first = table["start"].min()
    return table.assign(
        lane=table["worker"].map(lanes), start=table["start"] - first, end=table["end"] - first
    )


def _pieces(trial: TrialRecord) -> list[tuple[float, float]]:
    """(start, end) in seconds since 1970 of what a trial trained without a pause."""
    if trial.started is None:
        return []
    if not trial.epochs:
        return [(trial.started, trial.ended or trial.started)]
    spans = [(row["time"] - row["seconds"], row["time"]) for row in trial.epochs]
    spans.insert(0, (trial.started, trial.started))
    if trial.ended is not None:
        spans.append((trial.ended, trial.ended))
    pieces = spans[:1]
    for start, end in spans[1:]:
        if start - pieces[-1][1] > PAUSE:
            pieces.append((start, end))
        else:
            pieces[-1] = (pieces[-1][0], max(end, pieces[-1][1]))
    return [(start, end) for start, end in pieces if end > start]


def busy(table: pd.DataFrame) -> tuple[int, float]:
    """The most pieces at a time, and for which share of the whole time so many were trained."""
    starts, lengths = table["start"], table["end"] - table["start"]
    at = (starts + 0.01 * lengths).to_numpy()  # clocks differ a little where one follows another
    begun, over = np.sort(starts).searchsorted(at, "right"), np.sort(table["end"]).searchsorted(at)
    most, last = max(int((begun - over).max()), 1), table["end"].max()
    return most, float(lengths.sum() / (most * last)) if last else 1.0


def timeline_figure(study: Study) -> ReportFigure | None:
    """Which worker trained which trial when; None if no trial has started."""
    table = timeline_table(study)
    if table.empty:
        return None
    workers, last = int(table["lane"].max()), table["end"].max()
    most, share = busy(table)
    trials = plural(table["trial_id"].nunique(), "trial")
    at_most = f", at most {most} at a time," if most < workers else ""
    return render(
        "timeline",
        partial(draw_timeline, table=table),
        size=(WIDTH, 1.2 + min(0.3 * workers, 8)),
        data=table,
        caption=f"{plural(workers, 'worker')}{at_most} trained {trials} in {last / 60:,.1f} "
        f"minutes, busy for {share:.0%} of that time.",
        alt="A bar a trial, one more after each pause, on the line of the worker that trained it.",
        interactive=_interactive_timeline(table),
    )


def draw_timeline(figure: Figure, table: pd.DataFrame) -> None:
    """A line a worker, a bar a piece of training; of trials that ended by a fault it is crossed, of
    those not ended dotted."""
    axes, edges = figure.subplots(), _edges(table)
    for row, edge in zip(table.itertuples(), edges, strict=True):
        axes.barh(
            row.lane,
            (row.end - row.start) / 60,
            left=row.start / 60,
            height=0.8,
            color=COLOURS[row.loss],
            hatch=HATCHES.get(row.status, FAULT_HATCH),
            edgecolor="white",
            linewidth=edge,
        )
    axes.set(xlabel="minutes since the first start", ylabel="worker")
    axes.set_ylim(table["lane"].max() + 0.6, 0.4)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(axis="y", visible=False)
    ends = [
        Patch(facecolor="0.6", edgecolor="white", hatch=hatch, label=name)
        for hatch, name in _endings(table)
    ]
    add_legend(figure, [*loss_keys(table["loss"]), *ends])


def _edges(table: pd.DataFrame) -> list[float]:
    """By bar the width of its white edge in points: none where it would hide a narrow bar."""
    shown = (table["end"] - table["start"]) * WIDTH * 72 / (table["end"].max() or 1.0)
    return [EDGE if width > 5 * EDGE else 0.0 for width in shown]


def _interactive_timeline(table: pd.DataFrame) -> go.Figure:
    """As `draw_timeline`: a colour a loss, a pattern for an end by a fault and for none."""
    figure, edges = go.Figure(), pd.Series(_edges(table), table.index)
    for (loss, status), part in table.groupby(["loss", "status"], sort=False):
        minutes = (part["end"] - part["start"]) / 60
        took = minutes.map("{:.1f} minutes".format)
        figure.add_bar(
            y=part["lane"].map("worker {}".format),
            base=part["start"] / 60,
            x=minutes,
            orientation="h",
            marker={
                "color": COLOURS[loss],
                "line": {"color": "white", "width": edges[part.index].tolist()},
                "pattern": _pattern(HATCHES.get(status, FAULT_HATCH)),
            },
            hovertext=part["trial_id"] + f", {words(status)}<br>" + took + ", " + part["worker"],
            hoverinfo="text",
            showlegend=False,
        )
    add_loss_keys(figure, table["loss"])
    for hatch, name in _endings(table):
        marker = {"color": "#808080", "pattern": _pattern(hatch)}
        figure.add_bar(x=[None], y=["worker 1"], orientation="h", marker=marker, name=name)
    lanes = int(table["lane"].max())
    figure.update_xaxes(title="minutes since the first start")
    figure.update_yaxes(autorange="reversed")
    return figure.update_layout(barmode="overlay", height=200 + min(30 * lanes, 700))


def _pattern(hatch: str) -> dict[str, str]:
    return {"shape": PATTERNS[hatch], "fillmode": "overlay"}


def _endings(table: pd.DataFrame) -> list[tuple[str, str]]:
    """The hatches that occur, and what they say of how a trial ended."""
    hatches = {HATCHES.get(status, FAULT_HATCH) for status in table["status"]}
    names = ((FAULT_HATCH, "ended by a fault"), (OPEN_HATCH, "not ended"))
    return [(hatch, name) for hatch, name in names if hatch in hatches]
