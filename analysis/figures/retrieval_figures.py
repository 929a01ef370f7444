"""What the networks find: queries by a rule, their nearest images by each loss, right or wrong."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.figures.retrieval_grid import Retrieval, draw_retrieval
from analysis.figures.style import ReportFigure, listed, loss_name, plural, render
from analysis.found.runs import Judged, Results

RULE = (
    "The queries were chosen by a rule, not by hand: those of the highest, the median and the "
    "lowest AP (mean over the losses, and over the seeds of each), then the first of each class"
)
COLUMNS = {"full": 10, "seed": 25}  # folded, so that a figure is no wider than a page


def chosen_queries(results: Results, protocol: str) -> pd.DataFrame:
    """A row a query that is shown, by `RULE`: query, why, class, ap (that mean).

    `why` is best, median, worst or first; a query that is several is shown once, as the first of
    these.
    """
    losses = [
        np.stack([run.protocols[protocol].average_precision for run in results.of(loss)]).mean(0)
        for loss in results.losses
    ]
    scores = np.stack(losses).astype(np.float64).mean(0)
    order = np.argsort(-scores, kind="stable")
    order = order[~np.isnan(scores[order])]  # without those that have no relevant image
    picked = {int(order[0]): "best"}
    picked.setdefault(int(order[len(order) // 2]), "median")
    picked.setdefault(int(order[-1]), "worst")
    for label in np.unique(results.labels[order]):
        picked.setdefault(int(order[results.labels[order] == label].min()), "first")
    rows = [
        {"query": query, "why": why, "class": _class(results, query), "ap": scores[query]}
        for query, why in picked.items()
    ]
    return pd.DataFrame(rows)


def retrieval(judged: Judged, labels: np.ndarray, queries: np.ndarray) -> Retrieval:
    """These queries (C,) and their nearest images under a protocol."""
    assert judged.nearest is not None
    neighbours = judged.nearest[queries]
    right = labels[neighbours] == labels[queries][:, None]
    precisions = judged.average_precision[queries]
    return Retrieval(queries, neighbours, right, precisions, judged.gallery)


def retrieval_table(found: Retrieval, results: Results) -> pd.DataFrame:
    """A row a retrieved image: its query, its rank from 1, both classes, the query's AP."""
    count, k = found.neighbours.shape
    classes = np.array(results.classes)[results.labels]
    queries, neighbours = found.queries.repeat(k), found.neighbours.ravel()
    return pd.DataFrame(
        {
            "query": queries,
            "query_class": classes[queries],
            "average_precision": found.average_precision.repeat(k),
            "rank": np.tile(np.arange(1, k + 1), count),
            "image": neighbours,
            "image_class": classes[neighbours],
            "right": found.right.ravel(),
        }
    )


def retrievals(results: Results, protocol: str, queries: np.ndarray) -> dict[str, Retrieval]:
    """By loss, of its first run that has the nearest images; without a loss that has none."""
    found = {}
    for loss in results.losses:
        judged = [run.protocols[protocol] for run in results.of(loss)]
        stored = [one for one in judged if one.nearest is not None]
        if stored:
            found[loss] = retrieval(stored[0], results.labels, queries)
    return found


def side_by_side_figure(results: Results) -> ReportFigure:
    """The nearest of the whole gallery, a block of columns a loss; the results have pixels."""
    queries = chosen_queries(results, "full")
    found = retrievals(results, "full", queries["query"].to_numpy())
    parts = [retrieval_table(one, results).assign(loss=loss) for loss, one in found.items()]
    k = next(iter(found.values())).neighbours.shape[1]
    shares = [f"{one.right.mean():.0%} with {loss_name(loss)}" for loss, one in found.items()]
    caption = (
        f"Of the {k} nearest to these {plural(len(queries), 'query', 'queries')} among "
        f"{len(results.labels):,} {results.described}, so many are of the query's class: "
        f"{listed(shares)}."
    )
    side = {1: 0.6, 2: 0.42}.get(len(found), 0.31)  # inches an image
    width = 1.7 + side * 1.3 + len(found) * (side * (k + 0.4) + 0.95)
    return render(
        f"retrieval_{k}",
        partial(draw_side_by_side, found=found, results=results, names=_names(queries)),
        size=(width, 1.0 + side * 0.98 * len(queries)),
        data=pd.concat(parts, ignore_index=True),
        caption=caption,
        alt=f"The {k} nearest images of the same queries with the network of each loss.",
    )


def draw_side_by_side(
    figure: Figure, found: dict[str, Retrieval], results: Results, names: list[str]
) -> None:
    """The queries once, then a block of their nearest images for each loss."""
    assert results.pixels is not None
    k = next(iter(found.values())).neighbours.shape[1]
    ratios = [k + 1.35, *[float(k + 0.18)] * (len(found) - 1)]
    blocks = figure.subplots(1, len(found), squeeze=False, width_ratios=ratios)[0]
    for place, (axes, (loss, one)) in enumerate(zip(blocks, found.items(), strict=True)):
        draw_retrieval(
            axes,
            one,
            results.pixels,
            names if place == 0 else [],
            columns=k,
            title=loss_name(loss),
            query=place == 0,
        )


def many_figures(results: Results) -> list[ReportFigure]:
    """The many nearest of the seed protocol's gallery, a figure a loss with the same queries."""
    queries = chosen_queries(results, "seed")
    found = retrievals(results, "seed", queries["query"].to_numpy())
    return [_many(loss, one, results, _names(queries)) for loss, one in found.items()]


def draw_many(
    figure: Figure, found: Retrieval, results: Results, names: list[str], title: str
) -> None:
    """Queries and their nearest, folded into lines."""
    assert results.pixels is not None
    draw_retrieval(
        figure.subplots(), found, results.pixels, names, columns=COLUMNS["seed"], title=title
    )


def _many(loss: str, found: Retrieval, results: Results, names: list[str]) -> ReportFigure:
    count, k = found.neighbours.shape
    columns = min(COLUMNS["seed"], k)
    lines, side = -(-k // columns), 0.33
    hits = found.right.sum(1)
    weakest = _class(results, int(found.queries[hits.argmin()]))
    title = f"{loss_name(loss)}: the {k} nearest of {found.gallery:,} {results.described}"
    caption = (
        f"{loss_name(loss)}: of the {k} nearest among {found.gallery:,} {results.described}, "
        f"{found.right.mean():.0%} have the query's class over all "
        f"{plural(count, 'query', 'queries')}; the fewest, {hits.min()} of {k}, for {weakest}."
    )
    return render(
        f"retrieval_{loss}_{k}",
        partial(draw_many, found=found, results=results, names=names, title=title),
        size=(3.6 + side * (columns + 1.3), 0.9 + side * count * (lines + 0.15 * (lines > 1))),
        data=retrieval_table(found, results),
        caption=caption,
        alt=f"The {k} nearest images of each query with the network of {loss_name(loss)}.",
    )


def _names(queries: pd.DataFrame) -> list[str]:
    return [
        row["class"] if row["why"] == "first" else f"{row['why']} AP: {row['class']}"
        for _, row in queries.iterrows()
    ]


def _class(results: Results, row: int) -> str:
    return results.classes[results.labels[row]]
