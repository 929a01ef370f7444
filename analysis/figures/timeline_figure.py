"""What the search did with its workers: what ran where, and when."""

from __future__ import annotations

from functools import partial

import pandas as pd
import plotly.graph_objects as go
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from analysis.figures.style import COLOURS, ReportFigure, add_loss_keys, loss_keys, render
from analysis.found.words import plural, words
from study.results.studies import Study

FAULT_HATCH, OPEN_HATCH = "xxx", ".."
HATCHES = {
    "finished": "",
    "running": OPEN_HATCH,
    "interrupted": OPEN_HATCH,
}
PATTERNS = {"": "", FAULT_HATCH: "x", OPEN_HATCH: "."}  # the same in Plotly


def timeline_table(study: Study) -> pd.DataFrame:
    """A row a trial that has started: loss, trial_id, status, worker, lane, start, end.

    `start` and `end` are seconds since the first start; a trial that has not ended goes to its last
    epoch. `lane` numbers the workers from 1, in the order in which they got their first trial.
    """
    started = [trial for trial in study.trials if trial.started is not None]
    rows = [
        {
            "loss": trial.loss,
            "trial_id": trial.trial_id,
            "status": trial.status,
            "worker": trial.worker or "not recorded",
            "start": trial.started,
            "end": trial.ended
            or max([row["time"] for row in trial.epochs[-1:]], default=None)
            or trial.started,
        }
        for trial in started
    ]
    columns = ["loss", "trial_id", "status", "worker", "start", "end"]
    table = pd.DataFrame(rows, columns=columns).sort_values("start", ignore_index=True)
    lanes = {worker: lane for lane, worker in enumerate(table["worker"].unique(), start=1)}
    first = table["start"].min()
    return table.assign(
        lane=table["worker"].map(lanes), start=table["start"] - first, end=table["end"] - first
    )


def timeline_figure(study: Study) -> ReportFigure | None:
    """Which worker trained which trial when; None if no trial has started."""
    table = timeline_table(study)
    if table.empty:
        return None
    workers, last = int(table["lane"].max()), table["end"].max()
    busy = (table["end"] - table["start"]).sum() / (workers * last) if last else 1.0
    minutes = f"{last / 60:,.1f} minutes"
    return render(
        "timeline",
        partial(draw_timeline, table=table),
        size=(8.6, 1.5 + min(0.3 * workers, 8)),
        data=table,
        caption=f"{plural(workers, 'worker')} trained {plural(len(table), 'trial')} in {minutes}, "
        f"busy for {busy:.0%} of that time.",
        alt="A bar a trial, from its start to its end, on the line of the worker that trained it.",
        interactive=_interactive_timeline(table),
    )


def draw_timeline(figure: Figure, table: pd.DataFrame) -> None:
    """A line a worker; trials that ended by a fault are crossed, those not ended dotted."""
    axes = figure.subplots()
    for row in table.itertuples():
        axes.barh(
            row.lane,
            (row.end - row.start) / 60,
            left=row.start / 60,
            height=0.8,
            color=COLOURS[row.loss],
            hatch=HATCHES.get(row.status, FAULT_HATCH),
            edgecolor="white",
            linewidth=0.8,
        )
    axes.set(xlabel="minutes since the first start", ylabel="worker")
    axes.set_ylim(table["lane"].max() + 0.6, 0.4)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(axis="y", visible=False)
    ends = [
        Patch(facecolor="0.6", edgecolor="white", hatch=hatch, label=name)
        for hatch, name in _endings(table)
    ]
    axes.legend(
        handles=[*loss_keys(table["loss"]), *ends], loc="upper left", bbox_to_anchor=(1.01, 1.0)
    )


def _interactive_timeline(table: pd.DataFrame) -> go.Figure:
    """As `draw_timeline`: a colour a loss, a pattern for an end by a fault and for none."""
    figure = go.Figure()
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
                "line": {"color": "white", "width": 1},
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
