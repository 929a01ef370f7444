"""What the search did with its workers: what early stopping ended when, and what ran where."""

from __future__ import annotations

from functools import partial

import pandas as pd
import plotly.express as px
import plotly.graph_objects as go
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from analysis.style import (
    COLOURS,
    NAMED_COLOURS,
    ReportFigure,
    listed,
    loss_name,
    plural,
    render,
    words,
)
from study.results import Study

HATCHES = {"stopped_early": "", "finished": "", "running": "..", "interrupted": ".."}
FAULT_HATCH = "xxx"


def survival_table(study: Study) -> pd.DataFrame:
    """A row a loss and epoch: how many trials had it, and how many ASHA stopped after it."""
    rows = []
    longest = max((len(trial.epochs) for trial in study.trials), default=0)
    for loss in study.losses:
        mine = [trial for trial in study.trials if trial.loss == loss]
        for epoch in range(1, longest + 1):
            ended = [t for t in mine if len(t.epochs) == epoch and t.status == "stopped_early"]
            reached = sum(len(trial.epochs) >= epoch for trial in mine)
            rows.append({"loss": loss, "epoch": epoch, "reached": reached, "stopped": len(ended)})
    return pd.DataFrame(rows, columns=["loss", "epoch", "reached", "stopped"])


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


def survival_figure(study: Study) -> ReportFigure:
    """How many trials were trained to each epoch; at least one trial has one."""
    table = survival_table(study)
    stopped = table[table["stopped"] > 0]
    parts = []
    for loss, part in stopped.groupby("loss", sort=False):
        when = [f"{row.stopped} after epoch {row.epoch}" for row in part.itertuples()]
        total = int(part["stopped"].sum())
        parts.append(f"{total} of {loss_name(loss)} ({', '.join(when)})")
    said = f"ASHA stopped {listed(parts)}." if parts else "ASHA stopped no trial."
    trained = sum(len(trial.epochs) for trial in study.trials)
    asked = sum(trial.config.epochs for trial in study.trials)
    return render(
        "stopping",
        partial(draw_survival, table=table),
        size=(8.6, 3.2),
        data=table,
        caption=f"{said} In all {trained:,} of the {asked:,} epochs asked for were trained.",
        alt="How many trials of each loss were trained to each epoch.",
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


def draw_survival(figure: Figure, table: pd.DataFrame) -> None:
    """A step a loss, from all trials down to those that were trained to the end."""
    axes = figure.subplots()
    for loss, part in table.groupby("loss", sort=False):
        x, y = part["epoch"], part["reached"]
        axes.step(x, y, where="mid", color=COLOURS[loss], lw=2, marker="o", label=loss_name(loss))
    axes.set(xlabel="epoch", ylabel="trials that had it", ylim=(0, None))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.legend(loc="upper right")


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
    handles = [Patch(color=COLOURS[loss], label=loss_name(loss)) for loss in table["loss"].unique()]
    hatches = {HATCHES.get(status, FAULT_HATCH) for status in table["status"]}
    for hatch, name in ((FAULT_HATCH, "ended by a fault"), ("..", "not ended")):
        if hatch in hatches:
            handles.append(Patch(facecolor="0.6", edgecolor="white", hatch=hatch, label=name))
    axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.01, 1.0))


def _interactive_timeline(table: pd.DataFrame) -> go.Figure:
    named = table.assign(
        loss=table["loss"].map(loss_name),
        status=table["status"].map(words),
        minutes=(table["end"] - table["start"]) / 60,
        begin=pd.to_datetime(table["start"], unit="s"),
        finish=pd.to_datetime(table["end"], unit="s"),
        line=table["lane"].map("worker {}".format),
    )
    bars = px.timeline(
        named,
        x_start="begin",
        x_end="finish",
        y="line",
        color="loss",
        hover_name="trial_id",
        hover_data={"status": True, "minutes": ":.1f", "worker": True}
        | dict.fromkeys(("begin", "finish", "line", "loss"), False),
        color_discrete_map=NAMED_COLOURS,
        labels={"line": ""},
        height=180 + min(30 * int(table["lane"].max()), 700),
    )
    bars.update_xaxes(title="hours:minutes since the first start", tickformat="%H:%M")
    order = [f"worker {lane}" for lane in sorted(table["lane"].unique(), reverse=True)]
    return bars.update_yaxes(categoryorder="array", categoryarray=order)
