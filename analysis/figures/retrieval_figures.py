"""What the networks find: queries by a rule, their nearest images by each loss, right or wrong."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.figures.retrieval_grid import MOST, Grid, Retrieval, draw_retrieval, shown_size
from analysis.figures.style import MANY_CLASSES, ReportFigure, render, short_name
from analysis.found.runs import Judged, Results
from analysis.found.words import LONG, cut, listed, loss_name, plural

FEW = 7  # classes of which the first query is shown, where there are many
COLUMNS = 10  # of the nearest images in a line
MANY, MANY_COLUMNS = "seed", 25  # a protocol whose many nearest are shown, folded into lines
WIDEST = 15.6  # inches, of a figure that a page can still show
HEAD, NUMBERS, LETTER = 0.7, 1.15, 0.085  # inches above a block, behind it, of a letter before it


class Layout(NamedTuple):
    """Where blocks of pictures lie in a figure, which no layout of matplotlib's finds: their sides
    are fixed to each other.

    Attributes:
        size: (width, height) of the figure in inches.
        boxes: (left, bottom, width, height) of each block, as shares of these.
        firsts: for each block, whether it is the first of its row, which has the queries.
    """

    size: tuple[float, float]
    boxes: list[tuple[float, float, float, float]]
    firsts: list[bool]


def rule(results: Results) -> str:
    """By which rule the queries that are shown were chosen."""
    start = (
        "The queries were chosen by a rule, not by hand: those of the highest, the median and the "
        "lowest AP (mean over the losses, and over the seeds of each), then the first of "
    )
    classes = len(_judged_classes(results, results.first))
    if classes <= MANY_CLASSES:
        return f"{start}each class"
    return f"{start}{FEW} of the {classes:,} classes, evenly spaced in their order"


def chosen_queries(results: Results, protocol: str) -> pd.DataFrame:
    """A row a query that is shown, by `rule`: query, image, why, class, ap (that mean).

    `query` is its number among the queries, `image` its place among the images; `why` is best,
    median, worst or first. A query that is several is shown once, as the first of these.
    """
    scores, labels = _scores(results, protocol), results.query_labels(protocol)
    order = np.argsort(-scores, kind="stable")
    order = order[~np.isnan(scores[order])]  # without those that have no relevant image
    picked = {int(order[0]): "best"}
    picked.setdefault(int(order[len(order) // 2]), "median")
    picked.setdefault(int(order[-1]), "worst")
    classes = _judged_classes(results, protocol)
    if len(classes) > MANY_CLASSES:
        classes = classes[np.linspace(0, len(classes) - 1, FEW).round().astype(int)]
    for label in classes:
        picked.setdefault(int(order[labels[order] == label].min()), "first")
    places = results.runs[0].protocols[protocol].queries
    rows = [
        {
            "query": query,
            "image": int(places[query]),
            "why": why,
            "class": results.classes[labels[query]],
            "ap": scores[query],
        }
        for query, why in picked.items()
    ]
    return pd.DataFrame(rows)


def retrieval(judged: Judged, labels: np.ndarray, queries: np.ndarray) -> Retrieval:
    """These queries (C,), by their numbers, and their nearest images under a protocol."""
    assert judged.nearest is not None
    places, neighbours = judged.queries[queries], judged.nearest[queries]
    right = labels[neighbours] == labels[places][:, None]
    return Retrieval(places, neighbours, right, judged.average_precision[queries], judged.gallery)


def retrieval_table(found: Retrieval, results: Results) -> pd.DataFrame:
    """A row a retrieved image: its query, its rank from 1, both classes, the query's AP.

    `query` and `image` are places among the images.
    """
    count, k = found.neighbours.shape
    queries, neighbours = found.queries.repeat(k), found.neighbours.ravel()
    return pd.DataFrame(
        {
            "query": queries,
            "query_class": [_class(results, place) for place in queries],
            "average_precision": found.average_precision.repeat(k),
            "rank": np.tile(np.arange(1, k + 1), count),
            "image": neighbours,
            "image_class": [_class(results, place) for place in neighbours],
            "right": found.right.ravel(),
        }
    )


def retrievals(results: Results, protocol: str, queries: np.ndarray) -> dict[str, Retrieval]:
    """By loss, of the run that is shown (`Results.pictured`); without a loss that has none."""
    shown = {loss: results.pictured(loss) for loss in results.losses}
    return {
        loss: retrieval(run.protocols[protocol], results.labels, queries)
        for loss, run in shown.items()
        if run is not None
    }


def side_by_side_figure(results: Results) -> ReportFigure | None:
    """The nearest of the whole gallery, a block of columns a loss; the results have pixels.

    None where no nearest images are known.
    """
    assert results.pixels is not None
    queries = chosen_queries(results, results.first)
    found = retrievals(results, results.first, queries["query"].to_numpy())
    if not found:
        return None
    parts = [retrieval_table(one, results).assign(loss=loss) for loss, one in found.items()]
    one = next(iter(found.values()))
    k = one.neighbours.shape[1]
    shares = [f"{one.right.mean():.0%} with {loss_name(loss)}" for loss, one in found.items()]
    relevant = results.runs[0].protocols[results.first].relevant[queries["query"]]
    least, most = relevant.min(), relevant.max()
    counts = f"{least} to {most}" if least < most else f"{least}"
    few = f" A query has {counts} relevant images in the gallery." if least < k else ""
    caption = (
        f"Of the {k} nearest to these {plural(len(queries), 'query', 'queries')} among "
        f"{one.gallery:,} {results.described}, so many are of the query's class: "
        f"{listed(shares)}.{few} {results.of_which_runs}".rstrip()
    )
    names = _names(queries)
    layout = arranged(results.pixels.shape, len(found), k, names)
    return render(
        f"retrieval_{k}",
        partial(draw_side_by_side, found=found, results=results, names=names, layout=layout),
        size=layout.size,
        data=pd.concat(parts, ignore_index=True),
        caption=caption,
        alt=f"The {k} nearest images of the same queries with the network of each loss.",
        channels=results.pixels.shape[0],
    )


def draw_side_by_side(
    figure: Figure, found: dict[str, Retrieval], results: Results, names: list[str], layout: Layout
) -> None:
    """A block of the nearest images for each loss, the queries before the first of each row."""
    assert results.pixels is not None
    figure.set_layout_engine("none")
    for (loss, one), box, first in zip(found.items(), layout.boxes, layout.firsts, strict=True):
        draw_retrieval(
            figure.add_axes(box),
            one,
            results.pixels,
            names if first else [],
            columns=one.neighbours.shape[1],
            title=short_name(loss_name(loss)),
            query=first,
        )


def many_figures(results: Results) -> list[ReportFigure]:
    """The many nearest of the seed protocol's gallery, a figure a loss with the same queries; none
    of images that are not judged under it."""
    if MANY not in results.protocols:
        return []
    queries = chosen_queries(results, MANY)
    found = retrievals(results, MANY, queries["query"].to_numpy())
    return [_many(loss, one, results, _names(queries)) for loss, one in found.items()]


def draw_many(
    figure: Figure, found: Retrieval, results: Results, names: list[str], title: str
) -> None:
    """Queries and their nearest, folded into lines."""
    assert results.pixels is not None
    draw_retrieval(
        figure.subplots(), found, results.pixels, names, columns=MANY_COLUMNS, title=title
    )


def _many(loss: str, found: Retrieval, results: Results, names: list[str]) -> ReportFigure:
    count, k = found.neighbours.shape
    columns = min(MANY_COLUMNS, k)
    lines, side = -(-k // columns), 0.33
    assert results.pixels is not None
    hits = found.right.sum(1)
    weakest = cut(_class(results, int(found.queries[hits.argmin()])))
    title = (
        f"{cut(loss_name(loss), LONG)}: the {k} nearest of {found.gallery:,} {results.described}"
    )
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
        channels=results.pixels.shape[0],
    )


def arranged(shape: tuple[int, int, int], losses: int, k: int, names: list[str]) -> Layout:
    """Blocks of so many losses for pictures of a shape (C, H, W), in rows that a page can show.

    A picture's sides are between 28 and 64 CSS pixels, of which an inch has 96, as far as its shape
    and the page allow.
    """
    size, label = shown_size(shape), 0.1 + LETTER * max(map(len, names))
    for beside in range(min(3, losses), 0, -1):
        grids = [Grid(size, k, 1, query=place == 0) for place in range(beside)]
        inch = {1: 0.6, 2: 0.42, 3: 0.31}[beside] / min(grids[0].cell)  # of a pixel
        inch = min(inch, MOST / 96 / max(size))
        extents = [grid.extent(len(names)) for grid in grids]
        tall, wide = inch * extents[0][0], [inch * extent[1] for extent in extents]
        width = label + sum(wide) + beside * NUMBERS
        if width <= WIDEST:
            break
    height = 0.1 + -(-losses // beside) * (tall + HEAD)
    boxes, firsts = [], []
    for place in range(losses):
        row, column = divmod(place, beside)
        left = label + sum(wide[:column]) + column * NUMBERS
        bottom = height - (row + 1) * (tall + HEAD)
        boxes.append((left / width, bottom / height, wide[column] / width, tall / height))
        firsts.append(column == 0)
    return Layout((width, height), boxes, firsts)


def _scores(results: Results, protocol: str) -> np.ndarray:
    """(Q,) the AP of each query, the mean over the losses and the seeds, or searches, of each."""

    def read(judged: Judged) -> np.ndarray:
        return judged.average_precision

    losses = [results.mean_of(loss, "chosen", read, protocol) for loss in results.losses]
    return np.mean(losses, axis=0)


def _judged_classes(results: Results, protocol: str) -> np.ndarray:
    """The labels, ascending, of the queries that have a relevant image."""
    known = ~np.isnan(_scores(results, protocol))
    return np.unique(results.query_labels(protocol)[known])


def _names(queries: pd.DataFrame) -> list[str]:
    return [
        cut(row["class"]) if row["why"] == "first" else f"{row['why']} AP: {cut(row['class'])}"
        for _, row in queries.iterrows()
    ]


def _class(results: Results, place: int) -> str:
    return results.classes[results.labels[place]]
