"""How far each configuration was taken, and what it had there."""

from __future__ import annotations

from functools import partial
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from analysis.figures.style import COLOURS, ReportFigure, panel_title, render
from analysis.found.scores import validation
from analysis.found.words import epochs, listed, loss_name, plural
from study.results.studies import Study
from study.results.trials import SELECTION, SOUND

RUNG: dict[str, Any] = {"marker": "o", "ms": 3.5}
FINAL: dict[str, Any] = {"marker": "D", "ms": 4, "mfc": "none", "mew": 0.8, "color": "0.25"}
MEAN: dict[str, Any] = {"marker": "_", "ms": 11, "mew": 2}
BESIDE = 1.15  # times the epochs of the one before


def ladder_table(study: Study) -> pd.DataFrame:
    """A row a trial that has an epoch and ended well, or may: its configuration, named by its first
    trial; the epochs that it had; its score; whether it is a `rung` or a `final`."""
    rows = [
        {
            "loss": trial.loss,
            "configuration": study.root(trial).trial_id,
            "trial_id": trial.trial_id,
            "kind": "final" if trial.origin == SELECTION else "rung",
            "epochs": trial.reached,
            "score": trial.score,
        }
        for trial in study.trials
        if trial.epochs and trial.status in SOUND
    ]
    columns = ["loss", "configuration", "trial_id", "kind", "epochs", "score"]
    return pd.DataFrame(rows, columns=columns)


def ladder_figure(study: Study) -> ReportFigure:
    """All configurations; at least one trial has an epoch."""
    table = ladder_table(study)
    losses = table["loss"].nunique()
    return render(
        "ladder",
        partial(draw_ladder, table=table, metric=study.metric),
        size=(2.2 + 3.2 * max(1, losses), 3.6),
        data=table,
        caption=_caption(table),
        alt=f"The {validation(study.metric)} of each configuration by the epochs of its trials.",
    )


def draw_ladder(figure: Figure, table: pd.DataFrame, metric: str) -> None:
    """A panel a loss; a line a configuration through its rungs, pale if it rests at the lowest, and
    dotted from its last one to the mean of its runs on fresh seeds, which are diamonds.

    What is far below all that goes on lies on the lower edge, so that these are told apart.
    """
    losses = list(table["loss"].unique()) or [""]
    panels = figure.subplots(1, len(losses), squeeze=False, sharey=True)[0]
    edge = lower_edge(table)
    shown = table.assign(score=table["score"].clip(lower=edge))
    for axes, loss in zip(panels, losses, strict=True):
        mine = shown[shown["loss"] == loss]
        lengths = sorted(mine["epochs"].unique())
        for _, part in mine[mine["kind"] == "rung"].groupby("configuration", sort=False):
            climbed = part.sort_values("epochs")
            alpha = 0.75 if climbed["epochs"].iloc[-1] > lengths[0] else 0.3
            x, y = climbed["epochs"], climbed["score"]
            axes.plot(x, y, color=COLOURS[loss], lw=1, alpha=alpha, clip_on=False, **RUNG)
        _draw_finals(axes, mine, COLOURS[loss])
        axes.set(title=panel_title(loss), xlabel="epochs of the trial", xscale="log")
        axes.xaxis.set_major_locator(FixedLocator(lengths))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda length, _: f"{length:.3g}"))
        axes.margins(x=0.08)
    panels[0].set_ylabel(f"best {validation(metric)} of the trial")
    panels[0].set_ylim(bottom=edge)
    grey: dict[str, Any] = {"color": "0.4", "lw": 1}
    keys = [Line2D([], [], **grey, **RUNG, label="a configuration")]
    if (table["kind"] == "final").any():
        keys.append(Line2D([], [], **FINAL, ls="", label="on a fresh seed"))
        keys.append(Line2D([], [], color="0.4", ls="", **MEAN, label="their mean"))
    figure.legend(handles=keys, loc="outside upper right", ncols=3)


def lower_edge(table: pd.DataFrame) -> float:
    """The median of the lowest rung, or what is lowest above it; a little below."""
    if table.empty:
        return 0.0
    lowest = table["epochs"] == table["epochs"].min()
    low = min([table[lowest]["score"].median(), *table[~lowest]["score"]])
    return float(max(0.0, low - max(0.1 * (table["score"].max() - low), 0.005)))


def _draw_finals(axes: Axes, trials: pd.DataFrame, colour: str) -> None:
    """The finalists beside each other, as their values are often near."""
    finals = trials[trials["kind"] == "final"]
    names = list(finals["configuration"].unique())
    for place, name in enumerate(names):
        runs = finals[finals["configuration"] == name]
        x = runs["epochs"].max() * BESIDE ** (place - (len(names) - 1) / 2)
        rungs = trials[(trials["kind"] == "rung") & (trials["configuration"] == name)]
        for _, last in rungs.sort_values("epochs").tail(1).iterrows():
            ends = [last["epochs"], x], [last["score"], runs["score"].mean()]
            axes.plot(*ends, color=colour, lw=1, ls=":")
        axes.plot([x], [runs["score"].mean()], color=colour, **MEAN)
        axes.plot([x] * len(runs), runs["score"], ls="", **FINAL)


def _caption(table: pd.DataFrame) -> str:
    """How many configurations had how many epochs, by loss."""
    parts = []
    for loss, mine in table[table["kind"] == "rung"].groupby("loss", sort=False):
        counts = mine.groupby("epochs")["configuration"].nunique()
        said = [f"{count:,} of {epochs(length)}" for length, count in counts.items()]
        parts.append(f"{listed(said)} for {loss_name(loss)}")
    text = f"Trials by their length: {'; '.join(parts)}." if parts else ""
    below = int((table["score"] < lower_edge(table)).sum())
    text += f" {plural(below, 'trial')} below the lower edge, on it." if below else ""
    finals = table[table["kind"] == "final"]
    if len(finals):
        configurations = plural(finals["configuration"].nunique(), "configuration")
        text += f" The finals: {plural(len(finals), 'run')} of {configurations} on fresh seeds, of "
        text += f"{epochs(finals['epochs'].max())}."
    return text.strip()
