"""How the chosen trials were trained: losses and validation mAP by epoch."""

from __future__ import annotations

from functools import partial
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.style import COLOURS, ReportFigure, loss_name, plural, render
from study.results import Study


def history_table(study: Study) -> pd.DataFrame:
    """A row an epoch of the chosen trials; `chosen` marks the epoch whose checkpoint is used."""
    epochs, best = study.epochs_table(), study.best()
    parts = []
    for choice in best.values():
        history = epochs[epochs["trial_id"] == choice.trial_id]
        parts.append(history.assign(chosen=history["epoch"] == choice.epoch))
    return pd.concat(parts, ignore_index=True)


def history_figures(study: Study) -> list[ReportFigure]:
    """A figure a loss, in the study's order."""
    return [_figure(part) for _, part in history_table(study).groupby("loss", sort=False)]


def draw_history(figure: Figure, history: pd.DataFrame) -> None:
    """The losses on the left, the validation mAP on the right, the chosen epoch marked in both."""
    left, right = figure.subplots(1, 2)
    loss = history["loss"].iloc[0]
    # A line through few epochs needs its points: a single one would not be seen at all.
    marker = "o" if len(history) <= 30 else ""
    style: dict[str, Any] = {"color": COLOURS[loss], "marker": marker, "ms": 4, "lw": 1.8}
    epoch = history["epoch"]
    left.plot(epoch, history["train_loss"], ls=(0, (3, 1.5)), label="training", **style)
    left.plot(epoch, history["val_loss"], label="validation", **style)
    right.plot(epoch, history["val_map"], label="validation", **style)
    best = history[history["chosen"]].iloc[0]
    left.set(ylabel=f"{loss_name(loss)} loss, mean over batches", title="loss")
    right.set(ylabel="mAP", title="validation mAP")
    _mark(left, best["epoch"], best["val_loss"], None)
    _mark(right, best["epoch"], best["val_map"], f"{best['val_map']:.3f} at epoch {best['epoch']}")


def _mark(axes: Axes, epoch: int, value: float, label: str | None) -> None:
    axes.axvline(epoch, color="0.35", lw=1, ls=":")
    axes.plot(epoch, value, "*", ms=13, mfc="white", mec="black", label=label or "chosen epoch")
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.margins(y=0.1)
    axes.legend(loc="best", handlelength=3.2)


def _figure(history: pd.DataFrame) -> ReportFigure:
    loss, trial = history["loss"].iloc[0], history["trial_id"].iloc[0]
    first, best, last = history.iloc[0], history[history["chosen"]].iloc[0], history.iloc[-1]
    caption = (
        f"{loss_name(loss)}, trial {trial}: in {plural(len(history), 'epoch')} the training loss "
        f"went from {first['train_loss']:.4g} to {last['train_loss']:.4g}, the validation loss "
        f"from {first['val_loss']:.4g} to {last['val_loss']:.4g}; validation mAP was highest at "
        f"epoch {best['epoch']}, {best['val_map']:.3f}."
    )
    return render(
        f"history_{loss}",
        partial(draw_history, history=history),
        size=(8.6, 3.4),
        data=history,
        caption=caption,
        alt=f"Training and validation loss, and validation mAP, by epoch of trial {trial}.",
    )
