"""How the chosen configurations were trained: losses and validation mAP by epoch, run by run."""

from __future__ import annotations

from functools import partial
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from analysis.figures.style import COLOURS, ReportFigure, loss_name, plural, render
from analysis.found.finals import Finals
from study.run.results import Study

GREY = "0.55"  # of the references, beside the colour of their loss


def chosen_history(study: Study) -> pd.DataFrame:
    """A row an epoch of the chosen trials; `chosen` marks the epoch whose checkpoint is used."""
    epochs = study.epochs_table()
    parts = []
    for choice in study.best().values():
        history = epochs[epochs["trial_id"] == choice.trial_id]
        history = history.assign(role="chosen", seed=choice.config.seed)
        parts.append(history.assign(chosen=history["epoch"] == choice.epoch))
    return pd.concat(parts, ignore_index=True)


def confirmed_history(finals: Finals) -> pd.DataFrame:
    """A row an epoch of the confirmed runs, which have the role and seed of `finals.runs`."""
    runs = finals.runs[["trial_id", "role", "seed", "best_epoch"]]
    table = finals.confirmation.epochs_table().merge(runs, on="trial_id")
    table = table.assign(chosen=table["epoch"] == table["best_epoch"])
    return table.drop(columns="best_epoch")


def history_figures(table: pd.DataFrame) -> list[ReportFigure]:
    """A figure a loss, in the order of the table."""
    return [_figure(part) for _, part in table.groupby("loss", sort=False)]


def draw_history(figure: Figure, history: pd.DataFrame) -> None:
    """Losses on the left, a panel a role; the validation mAP on the right; a line a run.

    What a loss's values mean depends on its knobs, so those of two configurations share no axis.
    """
    roles = list(history["role"].unique())
    *panels, right = figure.subplots(1, len(roles) + 1)
    loss = history["loss"].iloc[0]
    # A line through few epochs needs its points: a single one would not be seen at all.
    few = history.groupby("trial_id").size().max() <= 30
    for (role, _), run in history.groupby(["role", "trial_id"], sort=False):
        left = panels[roles.index(role)]
        colour = COLOURS[loss] if role == "chosen" else GREY
        style: dict[str, Any] = {"color": colour, "marker": "o" if few else "", "ms": 3.5}
        style |= {"lw": 1.6, "zorder": 3 if role == "chosen" else 2}
        left.plot(run["epoch"], run["train_loss"], ls=(0, (3, 1.5)), **style)
        left.plot(run["epoch"], run["val_loss"], **style)
        right.plot(run["epoch"], run["val_map"], **style)
        for axes, column in ((left, "val_loss"), (right, "val_map")):
            _star(axes, run[run["chosen"]], column)
    for axes, role in zip(panels, roles, strict=True):
        axes.set(title="loss" if len(roles) == 1 else f"loss, {role}")
        axes.legend(handles=_kinds(COLOURS[loss] if role == "chosen" else GREY), handlelength=3.2)
    panels[0].set_ylabel(f"{loss_name(loss)} loss, mean over batches")
    right.set(ylabel="mAP", title="validation mAP")
    right.legend(handles=_runs(history), loc="best")
    for axes in (*panels, right):
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.margins(y=0.1)


def _star(axes: Axes, best: pd.DataFrame, column: str) -> None:
    axes.plot(best["epoch"], best[column], "*", ms=11, mfc="white", mec="black", zorder=4)


def _kinds(colour: str) -> list[Line2D]:
    kinds = [("training", (0, (3, 1.5))), ("validation", "-")]
    return [Line2D([], [], color=colour, ls=dash, label=name) for name, dash in kinds]


def _runs(history: pd.DataFrame) -> list[Line2D]:
    colour = COLOURS[history["loss"].iloc[0]]
    star = Line2D([], [], marker="*", ls="", ms=11, mfc="white", mec="black", label="epoch used")
    runs = history.drop_duplicates("trial_id")["role"].value_counts()
    handles = [
        Line2D([], [], color=c, label=f"{role}, {plural(int(runs[role]), 'run')}")
        for role, c in (("chosen", colour), ("reference", GREY))
        if role in runs
    ]
    return [*handles, star]


def _figure(history: pd.DataFrame) -> ReportFigure:
    loss = history["loss"].iloc[0]
    chosen = history[history["role"] == "chosen"]
    runs = chosen["trial_id"].nunique()
    said = _one_run(chosen) if runs == 1 else _several_runs(chosen)
    rest = history[(history["role"] == "reference") & history["chosen"]]
    beside = ""
    if len(rest):
        low, high = rest["val_map"].min(), rest["val_map"].max()
        beside = f" Its reference, {plural(len(rest), 'run')} in grey: {low:.3f} to {high:.3f}."
    return render(
        f"history_{loss}",
        partial(draw_history, history=history),
        size=(4.3 + 3.6 * history["role"].nunique(), 3.4),
        data=history,
        caption=f"{loss_name(loss)}{said}{beside}",
        alt=f"Training and validation loss, and validation mAP, by epoch, of {loss_name(loss)}.",
    )


def _one_run(history: pd.DataFrame) -> str:
    first, best, last = history.iloc[0], history[history["chosen"]].iloc[0], history.iloc[-1]
    return (
        f", trial {history['trial_id'].iloc[0]}: in {plural(len(history), 'epoch')} the training "
        f"loss went from {first['train_loss']:.4g} to {last['train_loss']:.4g}, the validation "
        f"loss from {first['val_loss']:.4g} to {last['val_loss']:.4g}; validation mAP was highest "
        f"at epoch {best['epoch']}, {best['val_map']:.3f}."
    )


def _several_runs(history: pd.DataFrame) -> str:
    best = history[history["chosen"]]
    seeds = ", ".join(str(seed) for seed in sorted(best["seed"].unique()))
    first, last = best["epoch"].min(), best["epoch"].max()
    epochs = f"epoch {last}" if first == last else f"epochs {first} to {last}"
    return (
        f", {plural(len(best), 'run')} of the chosen configuration (seeds {seeds}): the highest "
        f"validation mAP is {best['val_map'].min():.3f} to {best['val_map'].max():.3f}, reached at "
        f"{epochs}."
    )
