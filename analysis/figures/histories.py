"""How the chosen configurations were trained: losses and validation metric by epoch, run by run."""

from __future__ import annotations

import textwrap
from functools import partial
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from analysis.figures.style import COLOURS, ReportFigure, render
from analysis.found.finals import Finals
from analysis.found.scores import validation
from analysis.found.words import epochs, loss_name, plural
from study.results.studies import Study
from study.results.trials import title
from trainables.metrics import METRICS

GREY = "0.55"  # of the references, beside the colour of their loss
LETTERS = 80  # of a line above the narrowest figure


def chosen_history(study: Study) -> pd.DataFrame:
    """A row an epoch of the chosen trials; `chosen` marks the epoch whose checkpoint is used."""
    table, parts = study.epochs_frame(), []
    for choice in study.best().values():
        history = table[table["trial_id"] == choice.trial_id]
        history = history.assign(role="chosen", seed=choice.config.seed, search=0)
        parts.append(history.assign(chosen=history["epoch"] == choice.epoch))
    return _measured(pd.concat(parts, ignore_index=True))


def confirmed_history(finals: Finals) -> pd.DataFrame:
    """A row an epoch of the confirmed runs, with role, seed and search of `finals.runs`."""
    runs = finals.runs[["trial_id", "role", "seed", "search", "best_epoch"]]
    table = finals.confirmation.epochs_frame().merge(runs, on="trial_id")
    table = table.assign(chosen=table["epoch"] == table["best_epoch"])
    return _measured(table.drop(columns="best_epoch"))


def history_figures(table: pd.DataFrame, metric: str) -> list[ReportFigure]:
    """A figure a loss, in the order of the table; epochs are chosen by the column `metric`.

    A loss that knows its classes has no validation loss where others are judged.
    """
    return [_figure(part, metric) for _, part in table.groupby("loss", sort=False)]


def draw_history(figure: Figure, history: pd.DataFrame, metric: str) -> None:
    """Losses on the left, a panel a role; the validation metric on the right; a line a run.

    What a loss's values mean depends on its knobs, so those of two configurations share no axis.
    """
    roles = list(history["role"].unique())
    *panels, right = figure.subplots(1, len(roles) + 1)
    loss, known = history["loss"].iloc[0], _has_validation_loss(history)
    # A line through few epochs needs its points: a single one would not be seen at all.
    few = history.groupby("trial_id").size().max() <= 30
    for (role, _), run in history.groupby(["role", "trial_id"], sort=False):
        left = panels[roles.index(role)]
        colour = COLOURS[loss] if role == "chosen" else GREY
        style: dict[str, Any] = {"color": colour, "marker": "o" if few else "", "ms": 3.5}
        style |= {"lw": 1.6, "zorder": 3 if role == "chosen" else 2}
        left.plot(run["epoch"], run["train_loss"], ls=(0, (3, 1.5)), **style)
        if known:
            left.plot(run["epoch"], run["val_loss"], **style)
        right.plot(run["epoch"], run[metric], **style)
        for axes, column in ((left, "val_loss" if known else "train_loss"), (right, metric)):
            _star(axes, run[run["chosen"]], column)
    for axes, role in zip(panels, roles, strict=True):
        axes.set(title="loss" if len(roles) == 1 else f"loss, {role}")
        kinds = _kinds(COLOURS[loss] if role == "chosen" else GREY)
        axes.legend(handles=kinds if known else kinds[:1], handlelength=3.2)
    figure.suptitle("\n".join(textwrap.wrap(loss_name(loss), LETTERS)), size="medium")
    panels[0].set_ylabel("loss, mean over batches")
    right.set(ylabel=title(metric), title=validation(metric))
    right.legend(handles=_runs(history), loc="best")
    for axes in (*panels, right):
        axes.set_xlabel("epoch")
        whole = history["epoch"].max() >= 1
        axes.xaxis.set_major_locator(MaxNLocator(integer=whole, min_n_ticks=1))
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


def _measured(table: pd.DataFrame) -> pd.DataFrame:
    """Without the metrics that a record of another day does not have."""
    columns = [f"val_{name}" for name in METRICS]
    return table.drop(columns=[name for name in columns if table[name].isna().all()])


def _has_validation_loss(history: pd.DataFrame) -> bool:
    return bool(history["val_loss"].notna().any())


def _figure(history: pd.DataFrame, metric: str) -> ReportFigure:
    loss = history["loss"].iloc[0]
    chosen = history[history["role"] == "chosen"]
    runs = chosen["trial_id"].nunique()
    if runs < 2:
        said = _one_run(chosen, metric) if runs else ", no run of a choice."
    else:
        said = _several_runs(chosen, metric)
    rest = history[(history["role"] == "reference") & history["chosen"]]
    beside = ""
    if len(rest):
        low, high = rest[metric].min(), rest[metric].max()
        beside = f" Its reference, {plural(len(rest), 'run')} in grey: {low:.3f} to {high:.3f}."
    losses = "Training and validation loss" if _has_validation_loss(history) else "Training loss"
    return render(
        f"history_{loss}",
        partial(draw_history, history=history, metric=metric),
        size=(4.3 + 3.6 * history["role"].nunique(), 3.4),
        data=history,
        caption=f"{loss_name(loss)}{said}{beside}",
        alt=f"{losses}, and {validation(metric)}, by epoch, of {loss_name(loss)}.",
    )


def _one_run(history: pd.DataFrame, metric: str) -> str:
    first, best, last = history.iloc[0], history[history["chosen"]].iloc[0], history.iloc[-1]
    beside = ""
    if _has_validation_loss(history):
        beside = f", the validation loss from {first['val_loss']:.4g} to {last['val_loss']:.4g}"
    return (
        f", trial {history['trial_id'].iloc[0]}: in {epochs(last['epoch'])} the training "
        f"loss went from {first['train_loss']:.4g} to {last['train_loss']:.4g}{beside}; "
        f"{validation(metric)} was highest at epoch {best['epoch']:.3g}, {best[metric]:.3f}."
    )


def _several_runs(history: pd.DataFrame, metric: str) -> str:
    best = history[history["chosen"]]
    seeds = ", ".join(str(seed) for seed in sorted(best["seed"].unique()))
    first, last = best["epoch"].min(), best["epoch"].max()
    reached = f"epoch {last:.3g}" if first == last else f"epochs {first:.3g} to {last:.3g}"
    searches = best["search"].nunique()
    found = "configuration" if searches == 1 else f"configurations of {searches} searches"
    return (
        f", {plural(len(best), 'run')} of the chosen {found} (seeds {seeds}): the highest "
        f"{validation(metric)} is {best[metric].min():.3f} to {best[metric].max():.3f}, reached at "
        f"{reached}."
    )
