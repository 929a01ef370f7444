"""Images on a canvas: a row a query, its nearest beside it, bordered by right and wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.patches import Rectangle

from analysis.figures.style import RIGHT, WRONG

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
        columns: of neighbours in a line.
        lines: of neighbours a query.
        query: whether the query itself is shown.
    """

    cell: tuple[int, int]
    columns: int
    lines: int
    query: bool = True

    def corner(self, query: int, rank: int | None) -> tuple[int, int]:
        """(y, x) of the upper left pixel of the neighbour at a rank from 0; None: of the query."""
        line, column = (0, 0) if rank is None else divmod(rank, self.columns)
        # The query stands a little apart.
        beside = self.cell[1] + GAP if self.query and rank is not None else 0
        height = self.lines * self.cell[0] + (GAP if self.lines > 1 else 0)
        return query * height + line * self.cell[0] + GAP, beside + column * self.cell[1] + GAP


def compose(retrieval: Retrieval, images: np.ndarray, grid: Grid) -> np.ndarray:
    """One picture of all queries and neighbours, from images (N, H, W)."""
    count = len(retrieval.queries)
    height, width = images.shape[1:]
    y, x = grid.corner(count - 1, grid.lines * grid.columns - 1)
    canvas = np.zeros((y + height + GAP, x + width + GAP), np.uint8)
    for row, query in enumerate(retrieval.queries):
        shown = [(rank, image) for rank, image in enumerate(retrieval.neighbours[row])]
        for rank, image in [(None, query)] * grid.query + shown:
            y, x = grid.corner(row, rank)
            canvas[y : y + height, x : x + width] = images[image]
    return canvas


def draw_retrieval(
    axes: Axes,
    retrieval: Retrieval,
    images: np.ndarray,
    names: Sequence[str],
    *,
    columns: int,
    title: str,
    query: bool = True,
) -> None:
    """Green borders where the label agrees; red, dashed and crossed where it does not.

    Args:
        images: (N, H, W) from which the rows of `retrieval` are taken.
        names: (C,) what stands before each query; empty for nothing.
        columns: of neighbours in a line, at most.
        query: whether the queries are shown too.
    """
    height, width = images.shape[1:]
    columns = min(columns, retrieval.neighbours.shape[1])
    lines = -(-retrieval.neighbours.shape[1] // columns)
    grid = Grid((height + GAP, width + GAP), columns, lines, query)
    canvas = compose(retrieval, images, grid)
    edges = (-0.5, canvas.shape[1] - 0.5, canvas.shape[0] - 0.5, -0.5)
    axes.imshow(canvas, cmap="gray_r", vmin=0, vmax=255, interpolation="none", extent=edges)
    _draw_borders(axes, retrieval, grid, (height, width))
    _label(axes, retrieval, names, grid)
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


def _label(axes: Axes, retrieval: Retrieval, names: Sequence[str], grid: Grid) -> None:
    """Ranks above the columns, classes before the rows, scores behind them."""
    height, width = grid.cell
    rows = [grid.corner(row, None)[0] + height / 2 - GAP for row in range(len(retrieval.queries))]
    step = 1 if grid.columns <= 10 else 5
    ranks = [rank for rank in range(grid.columns) if rank == 0 or (rank + 1) % step == 0]
    heads = [(None, "query")] * grid.query + [(rank, str(rank + 1)) for rank in ranks]
    columns = [grid.corner(0, rank)[1] + width / 2 - GAP for rank, _ in heads]
    axes.set_xticks(columns, [head for _, head in heads])
    axes.set_yticks(rows, names or [""] * len(rows))
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
