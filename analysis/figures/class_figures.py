"""Which classes are found and which are taken for which: AP by class, wrong images by class.

Of many classes the figures show the best and the worst, and those most often confused.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.style import (
    COLOURS,
    MANY_CLASSES,
    ReportFigure,
    add_legend,
    loss_keys,
    render,
    short_name,
)
from analysis.found.runs import Judged, Results
from analysis.found.words import cut, listed, loss_name, plural

WIDE = 12  # classes beside each other
ENDS = 20  # classes of the best and of the worst, where there are many
PAIRS = 25  # of classes that are confused, where there are many


def class_ap_table(results: Results) -> pd.DataFrame:
    """A row a loss, role and class: the mean AP of its queries, over its runs (of repeated
    searches, over these); and their number.

    A class that no query has is in no row.
    """
    labels, parts = results.query_labels(results.first), []
    counts = np.bincount(labels)
    for loss, role in dict.fromkeys((run.loss, run.role) for run in results.runs):
        precisions = results.mean_of(loss, role, lambda judged: judged.average_precision)
        known = ~np.isnan(precisions)
        judged = np.bincount(labels[known], minlength=len(counts))
        sums = np.bincount(labels[known], precisions[known], minlength=len(counts))
        present = np.flatnonzero(judged)
        part: dict[str, object] = {"loss": loss, "role": role}
        part["class"] = [results.classes[label] for label in present]
        part |= {"ap": sums[present] / judged[present], "queries": counts[present]}
        parts.append(pd.DataFrame(part))
    return pd.concat(parts, ignore_index=True)


def class_ends(table: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Of the classes of a `class_ap_table`, the worst and the best of the others, worst first.

    By the mean over the losses of the AP of the chosen runs; equal ones in the order of the table.
    """
    chosen = table[table["role"] == "chosen"]
    means = chosen.groupby("class", sort=False)["ap"].mean().sort_values(kind="stable")
    order = list(means.index)
    return order[:ENDS], order[ENDS:][-ENDS:]


def class_ap_figure(results: Results) -> ReportFigure:
    """AP by class as a coloured table: a line a loss and role; of many classes a line a class."""
    table = class_ap_table(results)
    wide, label = _wide(table), "mean AP of the class's queries"
    classes, which = wide.shape[1], ""
    draw = partial(_draw_wide, wide=wide, label=label)
    size = (2.6 + 0.78 * classes, 1.5 + 0.42 * len(wide))
    if classes > WIDE:
        draw = partial(draw_tall, parts={"": wide.T}, label=label)
        size = (2.4 + 0.66 * max(len(wide), 3), 1.9 + 0.27 * classes)
    if classes > MANY_CLASSES:
        worst, best = class_ends(table)
        parts = {
            f"the {len(ends)} {which}": wide[ends].T
            for which, ends in (("worst", worst), ("best", best))
        }
        draw = partial(draw_tall, parts=parts, label=label)
        size = (2 * size[0], 1.9 + 0.27 * ENDS)
        which = (
            f", of the {len(worst)} worst and the {len(best)} best of {classes:,} classes by the "
            f"mean over the losses"
        )
    said = []
    for loss in results.losses:
        mine = table[(table["loss"] == loss) & (table["role"] == "chosen")].set_index("class")["ap"]
        lowest, highest = (
            f"{cut(name)} ({mine[name]:.2f})" for name in (mine.idxmin(), mine.idxmax())
        )
        said.append(f"{loss_name(loss)} finds {highest} best and {lowest} worst")
    return render(
        "class_ap",
        draw,
        size=size,
        data=table,
        caption=f"Mean AP by class of the query{which}: {'; '.join(said)} ({results.described}).",
        alt="A table of the mean AP of each class under each loss, darker where it is higher.",
    )


def confusion_table(results: Results, loss: str) -> pd.DataFrame:
    """Of the images nearest to the queries of a class, the share that is of each other class.

    A row a query class and other class: count, and share of all that were retrieved for the class
    (right ones too). Of many classes only pairs that occur. No more images are counted for a query
    than it has relevant ones: beyond these even the best ranking has others. Empty where no run of
    the loss has its nearest images.
    """
    columns = ["query_class", "image_class", "count", "share"]
    run = results.pictured(loss)
    if run is None:
        return pd.DataFrame(columns=columns)
    judged = run.protocols[results.first]
    counted = _counted(judged)
    labels = results.labels
    asked = np.broadcast_to(labels[judged.queries][:, None], counted.shape)[counted]
    pairs = pd.DataFrame({"query": asked, "image": labels[_nearest(judged)][counted]})
    counts = pairs.groupby(["query", "image"]).size().rename("count")
    totals = pairs.groupby("query").size()
    present = np.unique(labels)
    if len(present) <= MANY_CLASSES:
        names = ["query", "image"]
        every = pd.MultiIndex.from_product([totals.index, present], names=names)
        counts = counts.reindex(every, fill_value=0)
    table = counts.reset_index()
    table = table[table["query"] != table["image"]].reset_index(drop=True)
    classes = np.array(results.classes, dtype=object)
    table["query_class"] = classes[table["query"].to_numpy(np.int64)]
    table["image_class"] = classes[table["image"].to_numpy(np.int64)]
    table["share"] = table["count"] / table["query"].map(totals)
    return table[columns]


def confused_pairs(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """From the `confusion_table` of each loss, the pairs most often confused: a row a pair.

    Columns query_class, image_class, then the share by loss, 0 where it does not occur. By the mean
    over the losses, the most confused first, equal ones by name.
    """
    key = ["query_class", "image_class"]
    shares = [table.set_index(key)["share"].rename(loss) for loss, table in tables.items()]
    wide = pd.concat(shares, axis=1).fillna(0.0).sort_index()
    order = wide.mean(axis=1).sort_values(ascending=False, kind="stable").index[:PAIRS]
    return wide.loc[order].reset_index()


def confusion_rule(results: Results) -> str:
    """What `confusion_figures` show."""
    if len(np.unique(results.labels)) <= MANY_CLASSES:
        said = (
            "Rows are the classes of the queries, columns the other classes that were found among "
            "their nearest images, in per cent of all that was found for the row."
        )
    else:
        said = (
            "Before the arrow is the class of the queries, after it another class that was found "
            "among their nearest images; the share is of all that was found for these queries."
        )
    return f"{said} {results.of_which_runs}".strip()


def confusion_figures(results: Results) -> list[ReportFigure]:
    """A figure a loss whose nearest images are known; of many classes one of the worst pairs."""
    found = {loss: confusion_table(results, loss) for loss in results.losses}
    tables = {loss: table for loss, table in found.items() if len(table)}
    if tables and len(np.unique(results.labels)) > MANY_CLASSES:
        return [_pairs(tables, results)]
    top = max((table["share"].max() for table in tables.values()), default=0.0)
    return [_confusion(table, results, loss, float(top)) for loss, table in tables.items()]


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
    wide = wide.rename(index=cut, columns=cut)
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
    _slant(axes, 60)
    axes.grid(False)


def draw_pairs(figure: Figure, pairs: pd.DataFrame) -> None:
    """A line a pair of `confused_pairs`, a point a loss."""
    axes, losses = figure.subplots(), list(pairs.columns[2:])
    style: dict[str, Any] = {"ms": 7, "mec": "white", "clip_on": False, "zorder": 3}
    shifts = np.linspace(-0.22, 0.22, len(losses)) if len(losses) > 1 else [0.0]
    for loss, shift in zip(losses, shifts, strict=True):
        lines = np.arange(len(pairs)) + shift
        axes.plot(100 * pairs[loss], lines, "o", color=COLOURS[loss], **style)
    names = [
        f"{cut(one)} → {cut(other)}"
        for one, other in zip(pairs["query_class"], pairs["image_class"], strict=True)
    ]
    axes.set_yticks(range(len(pairs)), names)
    axes.set(xlabel="% of the images found for the class", ylim=(len(pairs) - 0.5, -0.5))
    axes.set_xlim(left=0)
    add_legend(figure, loss_keys(losses), most=3)


def _pairs(tables: dict[str, pd.DataFrame], results: Results) -> ReportFigure:
    pairs = confused_pairs(tables)
    said = []
    for loss in tables:
        most = pairs.loc[pairs[loss].idxmax()]
        said.append(
            f"{most[loss]:.0%} of the images that {loss_name(loss)} finds for "
            f"{cut(most['query_class'])} are {cut(most['image_class'])}"
        )
    classes, looked_at = len(np.unique(results.labels)), _looked_at(results, next(iter(tables)))
    every = [table.assign(loss=loss) for loss, table in tables.items()]
    return render(
        "confusions",
        partial(draw_pairs, pairs=pairs),
        size=(8.6, 1.1 + 0.27 * len(pairs)),
        data=pd.concat(every, ignore_index=True),
        caption=f"Of {classes:,} classes the {plural(len(pairs), 'pair')} most often confused "
        f"(mean over the losses), by {looked_at}: {listed(said)} ({results.described}).",
        alt="Which classes are most often taken for which, in per cent of images found, by loss.",
    )


def _confusion(table: pd.DataFrame, results: Results, loss: str, top: float) -> ReportFigure:
    worst = table.sort_values("share", ascending=False, kind="stable").iloc[:2]
    if worst["share"].iloc[0] == 0:
        said = "no image of another class is among the nearest"
    else:
        parts = [
            f"{row.share:.0%} of the images found for {cut(row.query_class)} are "
            f"{cut(row.image_class)}"
            for row in worst.itertuples()
            if row.share > 0
        ]
        said = f"most often {listed(parts)}"
    shown = _looked_at(results, loss)
    side = max(len(set(table["image_class"]) | set(table["query_class"])) - 10, 0)
    return render(
        f"confusion_{loss}",
        partial(
            draw_confusion,
            table=table,
            classes=results.classes,
            title=short_name(loss_name(loss)),
            top=top,
        ),
        size=(5.2 + 0.3 * side, 4.9 + 0.25 * side),
        data=table,
        caption=f"{loss_name(loss)}, {shown}: {said} ({results.described}).",
        alt=f"Which class is taken for which by {loss_name(loss)}, in per cent of images found.",
    )


def _nearest(judged: Judged) -> np.ndarray:
    assert judged.nearest is not None
    return judged.nearest


def _counted(judged: Judged) -> np.ndarray:
    """(Q, k) of the nearest images those that are counted: as many as are relevant."""
    return np.arange(_nearest(judged).shape[1]) < judged.relevant[:, None]


def _looked_at(results: Results, loss: str) -> str:
    """Which images a `confusion_table` counts."""
    run = results.pictured(loss)
    assert run is not None
    judged = run.protocols[results.first]
    counted, k = _counted(judged), _nearest(judged).shape[1]
    asking = plural(int(counted.any(1).sum()), "query", "queries")
    if counted.all():
        return f"the {k} nearest to each of {asking}"
    return f"the nearest to each of {asking}, as many as are relevant to it and at most {k}"


def _wide(table: pd.DataFrame) -> pd.DataFrame:
    """A row a loss and role, by their name in a figure; a column a class."""
    several, rows = table["role"].nunique() > 1, ["loss", "role"]
    wide = table.pivot(index=rows, columns="class", values="ap")
    order = pd.MultiIndex.from_frame(table[rows].drop_duplicates())
    wide = wide.reindex(index=order, columns=list(table["class"].unique()))
    wide.index = pd.Index(
        [short_name(loss_name(loss) + (f", {role}" if several else "")) for loss, role in order]
    )
    return wide


def _draw_wide(figure: Figure, wide: pd.DataFrame, label: str) -> None:
    axes = figure.subplots()
    sns.heatmap(
        wide.rename(columns=cut), annot=True, fmt=".2f", cmap="Blues", vmin=0, vmax=1, cbar=False,
        ax=axes, linewidths=0.5, annot_kws={"size": 9},
    )  # fmt: skip
    axes.set(xlabel=label, ylabel="")
    _slant(axes, 35)


def _slant(axes: Axes, degrees: float) -> None:
    """The columns' names at an angle, each with its end below its column."""
    for name in axes.get_xticklabels():
        name.set(rotation=degrees, ha="right", rotation_mode="anchor")
    axes.tick_params(axis="y", rotation=0)


def draw_tall(figure: Figure, parts: dict[str, pd.DataFrame], label: str) -> None:
    """A panel for each part of the classes, by its title; a line a class, a column a loss."""
    panels = figure.subplots(1, len(parts), squeeze=False)[0]
    for axes, (title, part) in zip(panels, parts.items(), strict=True):
        sns.heatmap(
            part.rename(index=cut), annot=True, fmt=".2f", cmap="Blues", vmin=0, vmax=1, cbar=False,
            ax=axes, linewidths=0.5, annot_kws={"size": 9},
        )  # fmt: skip
        axes.set(title=title, xlabel="", ylabel="")
        _slant(axes, 35)
    figure.supxlabel(label, size=10)
