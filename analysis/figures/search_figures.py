"""The search: what every trial reached, and the best of each loss so far, by trials and by time."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import plotly.express as px
import plotly.graph_objects as go
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from analysis.figures.style import (
    COLOURS,
    MARKERS,
    SYMBOLS,
    ReportFigure,
    add_legend,
    add_status_keys,
    loss_keys,
    render,
    short_name,
    status_keys,
)
from analysis.found.scores import score_column, score_of, validation
from analysis.found.words import epochs, listed, loss_name, plural, words
from study.results.studies import Study
from study.results.trials import SOUND


def search_table(study: Study) -> pd.DataFrame:
    """A row a trial: loss, number, status, its score (best_val_map), best_so_far.

    The score is NaN without an epoch. `best_so_far` is over the trials of the loss up to this
    number that may be chosen, NaN before.
    """
    score = score_column(study.metric)
    rows = [
        {
            "loss": trial.loss,
            "number": trial.number,
            "trial_id": trial.trial_id,
            "status": trial.status,
            "epochs": trial.reached,
            score: trial.score,
        }
        for trial in study.trials
    ]
    table = pd.DataFrame(rows).sort_values(["loss", "number"], ignore_index=True)
    eligible = table[score].where(table["status"].isin(SOUND))
    so_far = eligible.groupby(table["loss"]).cummax()
    return table.assign(best_so_far=so_far.groupby(table["loss"]).ffill())


def seconds_table(study: Study) -> pd.DataFrame:
    """A row an epoch in the order in which they ended: what was spent on the loss, and its best.

    Columns loss, trial_id, epoch, seconds (of training and evaluation, times the CPUs that a trial
    occupies, summed over the trials of the loss so far, those that failed included), best_so_far.
    """
    cpus = study.info["plan"].get("cpus_per_trial", 1)
    sound = {trial.trial_id: trial.status in SOUND for trial in study.trials}
    numbers = {trial.trial_id: trial.number for trial in study.trials}
    table = study.epochs_frame().astype({"time": float})
    table["number"] = table["trial_id"].map(numbers)
    table = table.sort_values(["time", "number", "epoch"], ignore_index=True, na_position="last")
    eligible = table[study.metric].astype(float).where(table["trial_id"].map(sound).astype(bool))
    so_far = eligible.groupby(table["loss"]).cummax()
    return pd.DataFrame(
        {
            "loss": table["loss"],
            "trial_id": table["trial_id"],
            "epoch": table["epoch"],
            "seconds": (cpus * table["seconds"].astype(float)).groupby(table["loss"]).cumsum(),
            "best_so_far": so_far.groupby(table["loss"]).ffill(),
        }
    )


def search_figure(study: Study) -> ReportFigure:
    """All trials of the study, which has at least one."""
    table = search_table(study)
    return render(
        "search",
        partial(draw_search, table=table, losses=study.losses),
        size=(8.6, 4.0),
        data=table,
        caption=_caption(table),
        alt=f"The best {validation(study.metric)} of each trial in order, with the best so far of "
        "each loss.",
        interactive=_interactive_search(table),
    )


def seconds_figure(study: Study) -> ReportFigure:
    """The best so far by the time that was spent on the loss; at least one trial has an epoch."""
    table = seconds_table(study)
    spent = table.groupby("loss", sort=False)["seconds"].max()
    parts = []
    for loss, part in table.groupby("loss", sort=False):
        best = part["best_so_far"].max()
        if np.isnan(best):
            continue
        first = part[part["best_so_far"] >= 0.99 * best]["seconds"].iloc[0]
        parts.append(f"{loss_name(loss)} after {first:,.0f} of {spent[loss]:,.0f}")
    said = f"99 % of the best was reached by {listed(parts)} core-seconds" if parts else ""
    lines = px.line(
        table.assign(loss=table["loss"].map(loss_name)),
        x="seconds",
        y="best_so_far",
        color="loss",
        line_shape="hv",
        render_mode="svg",  # of many points it would ask for WebGL, which not every browser has
        hover_data=["trial_id", "epoch"],
        color_discrete_map={loss_name(loss): COLOURS[loss] for loss in study.losses},
        labels={
            "seconds": "core-seconds, all trials of the loss",
            "best_so_far": f"best {validation(study.metric)} so far",
        },
    )
    return render(
        "search_seconds",
        partial(draw_seconds, table=table, metric=study.metric),
        size=(8.6, 3.4),
        data=table,
        caption=f"{said or 'No epoch could be chosen'} (summed over all trials of the loss).",
        alt=f"The best {validation(study.metric)} so far of each loss by the core-seconds spent on "
        "it.",
        interactive=lines,
    )


def draw_search(figure: Figure, table: pd.DataFrame, losses: list[str]) -> None:
    """A colour a loss, a marker a status; trials without an epoch lie on the lower edge."""
    axes, score = figure.subplots(), score_of(table)
    # Losses have trials of the same numbers: beside each other they do not hide one another.
    shift = dict(zip(losses, np.linspace(-0.16, 0.16, len(losses)), strict=True))
    floor = _floor(table[score])
    for (loss, status), part in table.groupby(["loss", "status"]):
        axes.scatter(
            part["number"] + shift[loss],
            part[score].fillna(floor),
            color=COLOURS[loss],
            marker=MARKERS[status],
            s=42,
            edgecolor="white",
            linewidth=0.6,
            zorder=3,
            clip_on=False,
        )
    for loss, part in table.groupby("loss"):
        numbers = part["number"] + shift[loss]
        axes.step(numbers, part["best_so_far"], where="post", color=COLOURS[loss], lw=1.5)
    axes.set(xlabel="trial number within its loss", ylabel=f"best {validation(score)} of the trial")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_ylim(bottom=floor)
    add_legend(figure, _keys(table, losses))


def draw_seconds(figure: Figure, table: pd.DataFrame, metric: str) -> None:
    """A step a loss."""
    axes = figure.subplots()
    for loss, part in table.groupby("loss", sort=False):
        x, y = part["seconds"], part["best_so_far"]
        axes.step(x, y, where="post", color=COLOURS[loss], lw=2)
    axes.set(
        xlabel="core-seconds of training and evaluation, all trials of the loss",
        ylabel=f"best {validation(metric)}",
    )
    axes.set_xlim(left=0)
    add_legend(figure, loss_keys(table["loss"]))


def _interactive_search(table: pd.DataFrame) -> go.Figure:
    """As `draw_search`: a colour a loss, a shape a status."""
    figure, score = go.Figure(), score_of(table)
    floor, title = _floor(table[score]), f"best {validation(score)}"
    for loss, part in table.groupby("loss", sort=False):
        line = {"color": COLOURS[loss], "shape": "hv"}
        name = f"{loss_name(loss)}, best so far"
        figure.add_scatter(
            x=part["number"], y=part["best_so_far"], mode="lines", line=line, name=name,
            hoverinfo="skip",
        )  # fmt: skip
    for (loss, status), part in table.groupby(["loss", "status"], sort=False):
        scores = part[score].map(lambda one: "none" if np.isnan(one) else f"{one:.3f}")
        ends = f", {words(status)} after " + part["epochs"].map(epochs)
        figure.add_scatter(
            x=part["number"],
            y=part[score].fillna(floor),
            mode="markers",
            marker={"color": COLOURS[loss], "symbol": SYMBOLS[status], "size": 9},
            text=part["trial_id"] + ends + f"<br>{title} " + scores,
            hoverinfo="text",
            showlegend=False,
        )
    add_status_keys(figure, table["status"])
    figure.update_xaxes(title="trial number within its loss")
    return figure.update_yaxes(title=f"{title} of the trial")


def _floor(reached: pd.Series) -> float:
    """The lower edge: a little below the lowest score, and 0 if there is none."""
    if reached.notna().any():
        spread = float(reached.max() - reached.min())
        return float(max(0.0, reached.min() - max(0.1 * spread, 0.02)))
    return 0.0


def _keys(table: pd.DataFrame, losses: list[str]) -> list[Artist]:
    shown = [loss for loss in losses if loss in set(table["loss"])]
    lines: list[Artist] = [
        Line2D(
            [], [], color=COLOURS[loss], lw=2, label=short_name(f"{loss_name(loss)}, best so far")
        )
        for loss in shown
    ]
    return [*lines, *status_keys(table["status"])]


def _caption(table: pd.DataFrame) -> str:
    score = score_of(table)
    without, name = int(table[score].isna().sum()), validation(score).removeprefix("validation ")
    edge = f" {plural(without, 'trial')} without any {name} on the lower edge." if without else ""
    bests = table.groupby("loss")["best_so_far"].max().dropna().sort_values(ascending=False)
    if bests.empty:
        return f"None of {plural(len(table), 'trial')} has a {name} that could be chosen.{edge}"
    best = listed([f"{value:.3f} for {loss_name(loss)}" for loss, value in bests.items()])
    return f"The best {validation(score)} among {plural(len(table), 'trial')} is {best}.{edge}"
