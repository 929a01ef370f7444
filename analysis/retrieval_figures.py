"""What a network finds: a row a query, its nearest images beside it, right or wrong."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from analysis.evaluation import Evaluation, Images
from analysis.style import RIGHT, WRONG, ReportFigure, loss_name, plural, render
from trainables.metrics import evaluate_retrieval
from trainables.retrieval import nearest

# Nearest images a query, by protocol; folded, so that a figure is no wider than a page.
SHOWN = {"full": 10, "seed": 50}
COLUMNS = {"full": 10, "seed": 25}
GAP = 6  # pixels between two images, in which their borders lie


class Retrieval(NamedTuple):
    """C queries and the k nearest of a gallery, which is the first `gallery` images.

    Attributes:
        queries: (C,) rows of the images.
        neighbours: (C, k) rows of the images, nearest first, the query itself left out.
        right: (C, k) whether a neighbour has the query's label.
        average_precision: (C,) over the whole gallery.
        gallery: how many images were ranked, the query among them.
    """

    queries: np.ndarray
    neighbours: np.ndarray
    right: np.ndarray
    average_precision: np.ndarray
    gallery: int


class Grid(NamedTuple):
    """Where images lie on a canvas: the query first, then `columns` neighbours a line.

    Attributes:
        cell: (height, width) of an image with its gap, in pixels.
        lines: of neighbours a query.
    """

    cell: tuple[int, int]
    columns: int
    lines: int

    def corner(self, query: int, rank: int | None) -> tuple[int, int]:
        """(y, x) of the upper left pixel of the neighbour at a rank from 0; None: of the query."""
        line, column = (0, 0) if rank is None else divmod(rank, self.columns)
        beside = 0 if rank is None else self.cell[1] + GAP  # the query stands a little apart
        height = self.lines * self.cell[0] + (GAP if self.lines > 1 else 0)
        return query * height + line * self.cell[0] + GAP, beside + column * self.cell[1] + GAP


def first_of_each_class(labels: np.ndarray, gallery: int) -> np.ndarray:
    """(C,) the row of the first image of each class that the first `gallery` images hold."""
    return np.unique(labels[:gallery], return_index=True)[1]


def retrieve(evaluation: Evaluation, images: Images, gallery: int, shown: int) -> Retrieval:
    """The nearest images of the first image of each class, at most `shown` of them a query."""
    labels = images.data.labels
    queries = first_of_each_class(labels, gallery)
    rows, targets = torch.from_numpy(queries), torch.from_numpy(labels)
    embedded, ranked = evaluation.embeddings[rows], evaluation.embeddings[:gallery]
    k = min(shown, len(ranked) - 1)
    neighbours = nearest(embedded, ranked, k=k, query_index=rows).numpy()
    result = evaluate_retrieval(
        embedded, targets[rows], ranked, targets[:gallery], query_index=rows
    )
    right = labels[neighbours] == labels[queries][:, None]
    return Retrieval(queries, neighbours, right, result.average_precision, len(ranked))


def retrieval_table(retrieval: Retrieval, images: Images) -> pd.DataFrame:
    """A row a retrieved image: its query, its rank from 1, both classes, the query's AP."""
    count, k = retrieval.neighbours.shape
    classes = np.array(images.classes)[images.data.labels]
    queries = retrieval.queries.repeat(k)
    neighbours = retrieval.neighbours.ravel()
    return pd.DataFrame(
        {
            "query": queries,
            "query_class": classes[queries],
            "average_precision": retrieval.average_precision.repeat(k),
            "rank": np.tile(np.arange(1, k + 1), count),
            "image": neighbours,
            "image_class": classes[neighbours],
            "right": retrieval.right.ravel(),
        }
    )


def retrieval_figures(
    evaluations: Mapping[str, Evaluation], images: Images, protocol: str
) -> list[ReportFigure]:
    """A figure a loss, with the same queries in all."""
    figures = []
    for loss, evaluation in evaluations.items():
        gallery = evaluation.protocols[protocol].protocol.gallery
        retrieval = retrieve(evaluation, images, gallery, SHOWN[protocol])
        figures.append(_figure(loss, retrieval, images, COLUMNS[protocol]))
    return figures


def compose(retrieval: Retrieval, images: np.ndarray, grid: Grid) -> np.ndarray:
    """One picture of all queries and neighbours, from images (N, H, W)."""
    count, k = retrieval.neighbours.shape
    height, width = images.shape[1:]
    y, x = grid.corner(count - 1, grid.lines * grid.columns - 1)
    canvas = np.zeros((y + height + GAP, x + width + GAP), np.uint8)
    for row, query in enumerate(retrieval.queries):
        ranks: list[int | None] = [None, *range(k)]
        for rank, image in zip(ranks, [query, *retrieval.neighbours[row]], strict=True):
            y, x = grid.corner(row, rank)
            canvas[y : y + height, x : x + width] = images[image]
    return canvas


def draw_retrieval(
    figure: Figure, retrieval: Retrieval, images: Images, columns: int, title: str
) -> None:
    """Green borders where the label agrees; red, dashed and crossed where it does not."""
    axes = figure.subplots()
    height, width = images.data.images.shape[1:]
    columns = min(columns, retrieval.neighbours.shape[1])
    lines = -(-retrieval.neighbours.shape[1] // columns)
    grid = Grid((height + GAP, width + GAP), columns, lines)
    canvas = compose(retrieval, images.data.images, grid)
    edges = (-0.5, canvas.shape[1] - 0.5, canvas.shape[0] - 0.5, -0.5)
    axes.imshow(canvas, cmap="gray_r", vmin=0, vmax=255, interpolation="none", extent=edges)
    _draw_borders(axes, retrieval, grid, (height, width))
    _label(axes, retrieval, images, grid)
    axes.set_title(title, pad=10)


def _draw_borders(axes: Axes, retrieval: Retrieval, grid: Grid, size: tuple[int, int]) -> None:
    height, width = size
    for right, colour, dash in ((True, RIGHT, "-"), (False, WRONG, (0, (2.2, 0.9)))):
        where = np.argwhere(retrieval.right == right)
        corners = [grid.corner(query, rank) for query, rank in where]
        boxes = [Rectangle((x - 2, y - 2), width + 3, height + 3) for y, x in corners]
        axes.add_collection(
            PatchCollection(boxes, facecolor="none", edgecolor=colour, lw=1.8, linestyle=dash)
        )
        if not right and corners:
            y, x = np.array(corners).T
            axes.scatter(x + width - 2, y + 2, marker="X", s=42, color=WRONG, ec="white", lw=0.8)


def _label(axes: Axes, retrieval: Retrieval, images: Images, grid: Grid) -> None:
    """Ranks above the columns, classes before the rows, scores behind them."""
    height, width = grid.cell
    rows = [grid.corner(row, None)[0] + height / 2 - GAP for row in range(len(retrieval.queries))]
    step = 1 if grid.columns <= 10 else 5
    ranks = [rank for rank in range(grid.columns) if rank == 0 or (rank + 1) % step == 0]
    columns = [grid.corner(0, rank)[1] + width / 2 - GAP for rank in (None, *ranks)]
    names = [images.classes[images.data.labels[row]] for row in retrieval.queries]
    axes.set_xticks(columns, ["query", *(str(rank + 1) for rank in ranks)])
    axes.set_yticks(rows, names)
    axes.tick_params(length=0, labeltop=True, labelbottom=False)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    precisions = ["–" if np.isnan(ap) else f"{ap:.2f}" for ap in retrieval.average_precision]
    hits = [f"{right.sum()}/{len(right)}" for right in retrieval.right]
    for offset, head, cells in ((20, "AP", precisions), (62, "right", hits)):
        _column(axes, offset, head, rows, cells)


def _column(axes: Axes, offset: int, head: str, rows: list[float], cells: list[str]) -> None:
    """A column of text, so many points to the right of the images."""
    edge = axes.get_xlim()[1]
    style: dict[str, Any] = {"textcoords": "offset points", "ha": "center"}
    axes.annotate(head, (edge, 0), (offset, 5), **style)
    for y, cell in zip(rows, cells, strict=True):
        axes.annotate(cell, (edge, y), (offset, 0), va="center_baseline", **style)


def _figure(loss: str, retrieval: Retrieval, images: Images, columns: int) -> ReportFigure:
    count, k = retrieval.neighbours.shape
    lines = -(-k // columns)
    side = 0.62 if lines == 1 else 0.4  # inches an image
    hits = retrieval.right.sum(1)
    weakest = images.classes[images.data.labels[retrieval.queries[hits.argmin()]]]
    title = f"{loss_name(loss)}: the {k} nearest of {retrieval.gallery:,} {images.described}"
    caption = (
        f"{loss_name(loss)}: of the {k} nearest among {retrieval.gallery:,} "
        f"{images.described}, {retrieval.right.mean():.0%} have the query's class over "
        f"all {plural(count, 'query', 'queries')}; the fewest, {hits.min()} of {k}, for {weakest}."
    )
    return render(
        f"retrieval_{loss}_{k}",
        partial(draw_retrieval, retrieval=retrieval, images=images, columns=columns, title=title),
        size=(2.4 + side * (columns + 1.3), 0.9 + side * count * (lines + 0.15 * (lines > 1))),
        data=retrieval_table(retrieval, images),
        caption=caption,
        alt=f"The {k} nearest images of one query a class with the network of {loss_name(loss)}.",
    )
