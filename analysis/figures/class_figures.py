"""Which classes are found and which are taken for which: AP by class, wrong images by class."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from analysis.figures.style import ReportFigure, listed, loss_name, render
from analysis.found.runs import Results

PROTOCOL = "full"


def class_ap_table(results: Results) -> pd.DataFrame:
    """A row a loss, role and class: the mean AP of its queries, over all runs; and their number.

    A class that no query has is in no row.
    """
    rows = []
    for loss, role in dict.fromkeys((run.loss, run.role) for run in results.runs):
        runs = [run.protocols[PROTOCOL].average_precision for run in results.of(loss, role)]
        precisions = np.stack(runs).astype(np.float64)
        labels = results.labels[: precisions.shape[1]]
        for label in np.unique(labels[~np.isnan(precisions[0])]):
            mine = precisions[:, labels == label]
            row = {"loss": loss, "role": role, "class": results.classes[label]}
            rows.append(row | {"ap": float(np.nanmean(mine)), "queries": mine.shape[1]})
    return pd.DataFrame(rows)


def class_ap_figure(results: Results) -> ReportFigure:
    """AP by class as a table with colour, a line a loss and role."""
    table = class_ap_table(results)
    wide = _wide(table)
    parts = []
    for loss in results.losses:
        mine = table[(table["loss"] == loss) & (table["role"] == "chosen")].set_index("class")["ap"]
        worst, best = f"{mine.idxmin()} ({mine.min():.2f})", f"{mine.idxmax()} ({mine.max():.2f})"
        parts.append(f"{loss_name(loss)} finds {best} best and {worst} worst")
    return render(
        "class_ap",
        partial(_draw_wide, wide=wide, label="mean AP of the class's queries"),
        size=(2.6 + 0.78 * wide.shape[1], 1.5 + 0.42 * len(wide)),
        data=table,
        caption=f"Mean AP by class of the query: {'; '.join(parts)} ({results.described}).",
        alt="A table of the mean AP of each class under each loss, darker where it is higher.",
    )


def confusion_table(results: Results, loss: str) -> pd.DataFrame:
    """Of the images nearest to the queries of a class, the share that is of each other class.

    A row a query class and other class that occur: count, and share of all that were retrieved
    for the class (right ones too). Empty where no run of the loss has its nearest images.
    """
    found = [run.protocols[PROTOCOL].nearest for run in results.of(loss)]
    stored = [rows for rows in found if rows is not None]
    if not stored:
        return pd.DataFrame(columns=["query_class", "image_class", "count", "share"])
    neighbours = stored[0]
    queries = results.labels[: len(neighbours)].repeat(neighbours.shape[1])
    counts = np.zeros((len(results.classes), len(results.classes)), dtype=np.int64)
    np.add.at(counts, (queries, results.labels[neighbours].ravel()), 1)
    totals = counts.sum(1)
    present = [int(label) for label in np.unique(results.labels)]
    rows = [
        {
            "query_class": results.classes[one],
            "image_class": results.classes[other],
            "count": counts[one, other],
            "share": counts[one, other] / totals[one],
        }
        for one in present
        for other in present
        if one != other and totals[one]
    ]
    return pd.DataFrame(rows)


def confusion_figures(results: Results) -> list[ReportFigure]:
    """A figure a loss whose nearest images are known."""
    tables = {loss: confusion_table(results, loss) for loss in results.losses}
    top = max((table["share"].max() for table in tables.values() if len(table)), default=0.0)
    return [
        _confusion(table, results, loss, float(top)) for loss, table in tables.items() if len(table)
    ]


def draw_confusion(
    figure: Figure, table: pd.DataFrame, classes: Sequence[str], title: str, top: float
) -> None:
    """A row a query class, a column the class that was retrieved; the diagonal is left out.

    No confusion at all has the colour of the ground, and `top`, a share, the darkest.
    """
    axes = figure.subplots()
    axes.set_facecolor("0.9")  # of the diagonal
    occurring = {*table["query_class"], *table["image_class"]}
    order = [name for name in classes if name in occurring]
    wide = table.pivot(index="query_class", columns="image_class", values="share")
    wide = wide.reindex(index=[c for c in order if c in wide.index], columns=order)
    shown = wide.map(lambda share: f"{100 * share:.0f}" if share >= 0.005 else "")
    sns.heatmap(
        100 * wide,
        annot=shown,
        fmt="",
        cmap="Blues",
        vmin=0,
        vmax=100 * top or 1,
        linewidths=0.5,
        cbar=False,
        ax=axes,
        annot_kws={"size": 8},
    )
    axes.set(title=title, xlabel="class of the image found", ylabel="class of the query")
    axes.tick_params(axis="x", rotation=60)
    axes.tick_params(axis="y", rotation=0)
    axes.grid(False)


def _confusion(table: pd.DataFrame, results: Results, loss: str, top: float) -> ReportFigure:
    worst = table.sort_values("share", ascending=False, kind="stable").iloc[:2]
    if worst["share"].iloc[0] == 0:
        said = "no image of another class is among the nearest"
    else:
        parts = [
            f"{row.share:.0%} of the images found for {row.query_class} are {row.image_class}"
            for row in worst.itertuples()
            if row.share > 0
        ]
        said = f"most often {listed(parts)}"
    nearest = next(
        run.protocols[PROTOCOL].nearest
        for run in results.of(loss)
        if run.protocols[PROTOCOL].nearest is not None
    )
    assert nearest is not None
    shown = f"the {nearest.shape[1]} nearest to each of {len(nearest):,} queries"
    return render(
        f"confusion_{loss}",
        partial(
            draw_confusion, table=table, classes=results.classes, title=loss_name(loss), top=top
        ),
        size=(5.2, 4.9),
        data=table,
        caption=f"{loss_name(loss)}, {shown}: {said} ({results.described}).",
        alt=f"Which class is taken for which by {loss_name(loss)}, in per cent of images found.",
    )


def _wide(table: pd.DataFrame) -> pd.DataFrame:
    several = table["role"].nunique() > 1
    names = [
        loss_name(row.loss) + (f", {row.role}" if several else "") for row in table.itertuples()
    ]
    wide = table.assign(name=names).pivot(index="name", columns="class", values="ap")
    return wide.reindex(index=list(dict.fromkeys(names)), columns=list(table["class"].unique()))


def _draw_wide(figure: Figure, wide: pd.DataFrame, label: str) -> None:
    axes = figure.subplots()
    sns.heatmap(
        wide, annot=True, fmt=".2f", cmap="Blues", vmin=0, vmax=1, cbar=False, ax=axes,
        linewidths=0.5, annot_kws={"size": 9},
    )  # fmt: skip
    axes.set(xlabel=label, ylabel="")
    axes.tick_params(axis="x", rotation=35)
    axes.tick_params(axis="y", rotation=0)
