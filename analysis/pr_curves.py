"""Precision over recall: all losses in one plot, and each loss under both protocols."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.evaluation import Evaluation, Images
from analysis.style import COLOURS, ReportFigure, listed, loss_name, render

RULE = (
    "Precision is interpolated at 101 recall levels (the highest precision at this recall or "
    "beyond, query by query) and averaged over queries"
)
DASHES = {"full": "-", "seed": "--"}


def pr_table(evaluations: Mapping[str, Evaluation]) -> pd.DataFrame:
    """A row a point: loss, protocol, recall (ascending from 0 to 1), precision; and the mAP."""
    parts = [
        pd.DataFrame(
            {
                "loss": loss,
                "protocol": name,
                "recall": judged.result.recall,
                "precision": judged.result.precision,
                "map": judged.mean_average_precision,
            }
        )
        for loss, evaluation in evaluations.items()
        for name, judged in evaluation.protocols.items()
    ]
    return pd.concat(parts, ignore_index=True)


def pr_figures(evaluations: Mapping[str, Evaluation], images: Images) -> list[ReportFigure]:
    """All losses in one plot, then a plot a loss."""
    table = pr_table(evaluations)
    together = _all_losses(table[table["protocol"] == "full"], images)
    return [together, *(_one_loss(part, images) for _, part in table.groupby("loss", sort=False))]


def draw_all(figure: Figure, table: pd.DataFrame, images: Images) -> None:
    """A curve a loss; `table` holds one protocol."""
    axes = figure.subplots()
    for loss, curve in table.groupby("loss", sort=False):
        label = f"{loss_name(loss)}, mAP {curve['map'].iloc[0]:.3f}"
        axes.plot(curve["recall"], curve["precision"], color=COLOURS[loss], lw=2, label=label)
    _finish(axes, f"Retrieval among {len(images.data):,}\n{images.described}")


def draw_one(figure: Figure, table: pd.DataFrame, images: Images) -> None:
    """A curve a protocol; `table` holds one loss."""
    axes = figure.subplots()
    loss = table["loss"].iloc[0]
    for protocol, curve in table.groupby("protocol", sort=False):
        label = f"{protocol} protocol, mAP {curve['map'].iloc[0]:.3f}"
        dash = DASHES.get(protocol, ":")
        axes.plot(curve["recall"], curve["precision"], dash, color=COLOURS[loss], lw=2, label=label)
    _finish(axes, f"{loss_name(loss)}\n{images.described}")


def precision_at(table: pd.DataFrame, recall: float) -> float:
    """The precision of one curve at a recall that is on its grid."""
    return float(table["precision"].iloc[np.abs(table["recall"].to_numpy() - recall).argmin()])


def _all_losses(table: pd.DataFrame, images: Images) -> ReportFigure:
    at_half = [
        f"{precision_at(curve, 0.5):.2f} for {loss_name(loss)}"
        for loss, curve in table.groupby("loss", sort=False)
    ]
    caption = (
        f"With half of the relevant images found, precision is {listed(at_half)} "
        f"(full protocol, {images.described}). {RULE}."
    )
    return render(
        "pr_curves",
        partial(draw_all, table=table, images=images),
        size=(6.0, 5.6),
        data=table,
        caption=caption,
        alt=f"Precision-recall curves of all losses on the {images.name}.",
    )


def _one_loss(table: pd.DataFrame, images: Images) -> ReportFigure:
    loss = table["loss"].iloc[0]
    scores = [
        f"{curve['map'].iloc[0]:.3f} under the {protocol} protocol"
        for protocol, curve in table.groupby("protocol", sort=False)
    ]
    return render(
        f"pr_curve_{loss}",
        partial(draw_one, table=table, images=images),
        size=(4.0, 4.0),
        data=table,
        caption=f"{loss_name(loss)}: mAP {listed(scores)}, {images.described}.",
        alt=f"Precision-recall curve of {loss_name(loss)} under both protocols.",
    )


def _finish(axes: Axes, title: str) -> None:
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="recall", ylabel="precision")
    axes.set_title(title.replace("; ", ";\n"))  # each part fits the narrowest plot
    axes.set_aspect("equal")
    axes.legend(loc="lower left")
