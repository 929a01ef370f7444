"""How far each configuration was taken, and what it had there."""

from __future__ import annotations

from functools import partial
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from analysis.figures.style import COLOURS, ReportFigure, listed, loss_name, plural, render
from analysis.found.scores import validation
from study.run.results import SELECTION, SOUND, Study

MARK = {"rung": "o", "final": "D"}


def ladder_table(study: Study) -> pd.DataFrame:
    """A row a trial that has an epoch and ended well, or may: its configuration, named by its first
    trial; the epochs that it had; its score at their end; whether it is a `rung` or a `final`."""
    rows = [
        {
            "loss": trial.loss,
            "configuration": study.root(trial).trial_id,
            "trial_id": trial.trial_id,
            "kind": "final" if trial.origin == SELECTION else "rung",
            "epochs": trial.reached,
            "score": trial.epochs[-1][study.metric],
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
        alt=f"The {validation(study.metric)} of each configuration after the epochs of each of its "
        "trials.",
    )


def draw_ladder(figure: Figure, table: pd.DataFrame, metric: str) -> None:
    """A panel a loss; a line a configuration through its rungs, pale if it went no further than the
    lowest; a diamond for each run on a fresh seed."""
    losses = list(table["loss"].unique()) or [""]
    panels = figure.subplots(1, len(losses), squeeze=False, sharey=True)[0]
    for axes, loss in zip(panels, losses, strict=True):
        mine = table[table["loss"] == loss]
        rungs = mine[mine["kind"] == "rung"]
        style: dict[str, Any] = {"color": COLOURS[loss], "marker": MARK["rung"], "ms": 3.5, "lw": 1}
        for _, part in rungs.groupby("configuration", sort=False):
            climbed = part.sort_values("epochs")
            alpha = 0.75 if len(climbed) > 1 else 0.3
            axes.plot(climbed["epochs"], climbed["score"], **style, alpha=alpha)
        finals = mine[mine["kind"] == "final"]
        axes.plot(finals["epochs"], finals["score"], MARK["final"], ms=5, mfc="none", color="black")
        axes.set(title=loss_name(loss), xlabel="epochs of the trial", xscale="log")
        lengths = sorted(mine["epochs"].unique())
        axes.xaxis.set_major_locator(FixedLocator(lengths))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda epochs, _: f"{epochs:.3g}"))
    panels[0].set_ylabel(f"{validation(metric)} at its end")
    keys = [Line2D([], [], color="0.4", marker=MARK["rung"], ms=4, lw=1, label="a configuration")]
    if (table["kind"] == "final").any():
        shown: dict[str, Any] = {"marker": MARK["final"], "mfc": "none", "color": "black", "ls": ""}
        keys.append(Line2D([], [], **shown, label="on a fresh seed"))
    figure.legend(handles=keys, loc="outside upper right", ncols=2)


def _caption(table: pd.DataFrame) -> str:
    """How many configurations had how many epochs, by loss."""
    parts = []
    for loss, mine in table[table["kind"] == "rung"].groupby("loss", sort=False):
        counts = mine.groupby("epochs")["configuration"].nunique()
        said = [f"{count} {epochs:.3g}" for epochs, count in counts.items()]
        parts.append(f"of {loss_name(loss)} {listed(said)}")
    finals = table[table["kind"] == "final"]
    text = f"How many configurations had trials of how many epochs: {'; '.join(parts)}."
    if len(finals):
        text += f" {plural(len(finals), 'run')} on fresh seeds had {finals['epochs'].max():.3g}."
    return text
