"""Images on a canvas: a row a query, its nearest beside it, bordered by right and wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.patches import Rectangle
from PIL import Image

from analysis.figures.style import RIGHT, WRONG
from trainables.data import LabelledImages

MOST = 64  # pixels: the longer side of a picture that is shown, at most
GAP = 3 / 14  # of the longer side, between two pictures, in which their borders lie


class Retrieval(NamedTuple):
    """C queries and the k nearest of a gallery.

    Attributes:
        queries: (C,) places of images.
        neighbours: (C, k) places of images, nearest first, the query itself left out.
        right: (C, k) whether a neighbour has the query's label; -1 where that is not known.
        average_precision: (C,) over the whole gallery, NaN where it is not known.
        gallery: how many images were ranked, the query among them if it is one of them.
    """

    queries: np.ndarray
    neighbours: np.ndarray
    right: np.ndarray
    average_precision: np.ndarray
    gallery: int


class Grid(NamedTuple):
    """Where pictures lie on a canvas: the query first, then `columns` neighbours a line.

    Attributes:
        size: (height, width) of a picture, in pixels.
        columns: of neighbours in a line.
        lines: of neighbours a query.
        query: whether the query itself is shown.
    """

    size: tuple[int, int]
    columns: int
    lines: int
    query: bool = True

    @property
    def gap(self) -> int:
        """Between two pictures, in pixels."""
        return max(round(GAP * max(self.size)), 1)

    @property
    def cell(self) -> tuple[int, int]:
        """(height, width) of a picture with its gap."""
        height, width = self.size
        return height + self.gap, width + self.gap

    def corner(self, query: int, rank: int | None) -> tuple[int, int]:
        """(y, x) of the upper left pixel of the neighbour at a rank from 0; None: of the query."""
        line, column = (0, 0) if rank is None else divmod(rank, self.columns)
        cell, gap = self.cell, self.gap
        # The query stands a little apart.
        beside = cell[1] + gap if self.query and rank is not None else 0
        height = self.lines * cell[0] + (gap if self.lines > 1 else 0)
        return query * height + line * cell[0] + gap, beside + column * cell[1] + gap

    def extent(self, count: int) -> tuple[int, int]:
        """(height, width) of the canvas of so many queries, in pixels."""
        y, x = self.corner(count - 1, self.lines * self.columns - 1)
        return y + self.cell[0], x + self.cell[1]


def shown_size(shape: tuple[int, int, int], most: int = MOST) -> tuple[int, int]:
    """(height, width) at which pictures of a shape (C, H, W) are shown, in pixels."""
    _, height, width = shape
    scale = min(1.0, most / max(height, width))
    return max(round(scale * height), 1), max(round(scale * width), 1)


def picture(images: LabelledImages, place: int, most: int = MOST) -> np.ndarray:
    """(h, w, C) uint8 of the image at a place, which alone is read; no side beyond `most`."""
    pixels = np.moveaxis(images.array[images.rows[place]], 0, -1)
    height, width = shown_size(images.shape, most)
    if pixels.shape[:2] != (height, width):
        made = Image.fromarray(pixels if images.shape[0] == 3 else pixels[..., 0])
        made = made.resize((width, height), Image.Resampling.LANCZOS)
        pixels = np.asarray(made).reshape(height, width, -1)
    return pixels


def compose(
    retrieval: Retrieval, images: LabelledImages, grid: Grid, ground: int = 255
) -> np.ndarray:
    """(H, W, C) uint8: all queries and neighbours on a ground of this grey."""
    size, extent = grid.size, grid.extent(len(retrieval.queries))
    canvas = np.full((*extent, images.shape[0]), ground, np.uint8)
    for row, query in enumerate(retrieval.queries):
        shown = [(rank, image) for rank, image in enumerate(retrieval.neighbours[row])]
        for rank, image in [(None, query)] * grid.query + shown:
            y, x = grid.corner(row, rank)
            canvas[y : y + size[0], x : x + size[1]] = picture(images, image)
    return canvas


def draw_retrieval(
    axes: Axes,
    retrieval: Retrieval,
    images: LabelledImages,
    names: Sequence[str],
    *,
    columns: int,
    title: str,
    query: bool = True,
) -> None:
    """Green borders where the label agrees; red, dashed and crossed where it does not.

    Grey pictures on black, as those of Fashion-MNIST, are drawn as dark on light.

    Args:
        images: from which those of `retrieval` are taken.
        names: (C,) what stands before each query; empty for nothing.
        columns: of neighbours in a line, at most.
        query: whether the queries are shown too.
    """
    columns = min(columns, retrieval.neighbours.shape[1])
    lines = -(-retrieval.neighbours.shape[1] // columns)
    grid = Grid(shown_size(images.shape), columns, lines, query)
    inverted = images.shape[0] == 1 and on_black(images, retrieval.queries)
    canvas = compose(retrieval, images, grid, 0 if inverted else 255)
    edges = (-0.5, canvas.shape[1] - 0.5, canvas.shape[0] - 0.5, -0.5)
    grey: dict[str, Any] = {"cmap": "gray_r" if inverted else "gray", "vmin": 0, "vmax": 255}
    axes.imshow(canvas.squeeze(-1) if canvas.shape[-1] == 1 else canvas, interpolation="none",
                extent=edges, **(grey if canvas.shape[-1] == 1 else {}))  # fmt: skip
    _draw_borders(axes, retrieval, grid)
    _label(axes, retrieval, names, grid)
    axes.set_title(title, pad=10)


def on_black(images: LabelledImages, places: np.ndarray) -> bool:
    """Whether most of the corners of these pictures are black."""
    corners = [picture(images, place)[[0, 0, -1, -1], [0, -1, 0, -1]] for place in places]
    return bool(np.median(np.array(corners)) == 0)


def _draw_borders(axes: Axes, retrieval: Retrieval, grid: Grid) -> None:
    (height, width), off = grid.size, grid.gap / 3
    for right, colour, dash in ((True, RIGHT, "-"), (False, WRONG, (0, (2.2, 0.9)))):
        where = np.argwhere(retrieval.right == right)
        corners = [grid.corner(query, rank) for query, rank in where]
        boxes = [
            Rectangle((x - off, y - off), width + 1.5 * off, height + 1.5 * off) for y, x in corners
        ]
        axes.add_collection(
            PatchCollection(boxes, facecolor="none", edgecolor=colour, lw=1.8, linestyle=dash)
        )
        if not right and corners:
            y, x = np.array(corners).T
            axes.scatter(
                x + width - off, y + off, marker="X", s=42, color=WRONG, ec="white", lw=0.8
            )


def _label(axes: Axes, retrieval: Retrieval, names: Sequence[str], grid: Grid) -> None:
    """Ranks above the columns, classes before the rows, scores behind them."""
    height, width = grid.cell
    gap = grid.gap
    rows = [grid.corner(row, None)[0] + height / 2 - gap for row in range(len(retrieval.queries))]
    step = 1 if grid.columns <= 10 else 5
    ranks = [rank for rank in range(grid.columns) if rank == 0 or (rank + 1) % step == 0]
    heads = [(None, "query")] * grid.query + [(rank, str(rank + 1)) for rank in ranks]
    columns = [grid.corner(0, rank)[1] + width / 2 - gap for rank, _ in heads]
    axes.set_xticks(columns, [head for _, head in heads])
    axes.set_yticks(rows, names or [""] * len(rows))
    axes.tick_params(length=0, labeltop=True, labelbottom=False)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    precisions = ["–" if np.isnan(ap) else f"{ap:.2f}" for ap in retrieval.average_precision]
    hits = [
        f"{(right == 1).sum()}/{len(right)}" if right.min() >= 0 else "–"
        for right in retrieval.right
    ]
    known = [
        (head, cells)
        for head, cells in (("AP", precisions), ("right", hits))
        if set(cells) != {"–"}
    ]
    for offset, (head, cells) in zip((20, 52), known, strict=False):
        _column(axes, offset, head, rows, cells)


def _column(axes: Axes, offset: int, head: str, rows: list[float], cells: list[str]) -> None:
    """A column of text, so many points to the right of the images."""
    edge = axes.get_xlim()[1]
    style: dict[str, Any] = {"textcoords": "offset points", "ha": "center"}
    axes.annotate(head, (edge, 0), (offset, 5), **style)
    for y, cell in zip(rows, cells, strict=True):
        axes.annotate(cell, (edge, y), (offset, 0), va="center_baseline", **style)
