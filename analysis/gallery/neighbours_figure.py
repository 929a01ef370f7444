"""The nearest of any pictures: a row a query, bordered where classes are known."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from analysis.figures.retrieval_figures import COLUMNS, LETTER, MANY_COLUMNS
from analysis.figures.retrieval_grid import Retrieval, draw_retrieval
from analysis.figures.style import ReportFigure, render
from analysis.found.words import cut, loss_name, plural
from analysis.gallery.neighbours import Found
from trainables.data import LabelledImages

SIDE = 0.42  # inches of a picture
QUERIES, NEAREST = 40, 100  # that a figure shows at most


def neighbours_figure(found: Found, loss: str) -> ReportFigure:
    """Queries and their nearest, as the network saw them; of many the first."""
    found = found.first(QUERIES, NEAREST)
    count, k = found.places.shape
    columns = min(k, COLUMNS if k <= 2 * COLUMNS else MANY_COLUMNS)
    lines = -(-k // columns)
    names = [cut(Path(query).name) for query in found.queries]
    width = 1.6 + LETTER * max(map(len, names)) + SIDE * (columns + 1.3)
    title = f"{loss_name(loss)}: the {plural(k, 'nearest', 'nearest')} of {found.ranked:,} pictures"
    right = found.right
    known = f"{(right == 1).sum() / max((right >= 0).sum(), 1):.0%} are of the query's class."
    return render(
        "neighbours",
        partial(draw_neighbours, found=found, columns=columns, names=names, title=title),
        size=(width, 0.75 + SIDE * count * (lines + 0.15 * (lines > 1))),
        data=found.table(),
        caption=f"{title}. {known if (right >= 0).any() else 'Their classes are not known.'}",
        alt=f"The {k} nearest pictures of each query.",
        channels=found.pixels.shape[1],
    )


def draw_neighbours(
    figure: Figure, found: Found, columns: int, names: list[str], title: str
) -> None:
    """Without borders where classes are not known."""
    count, k = found.places.shape
    places, inverse = np.unique(found.places, return_inverse=True)
    pixels = np.concatenate([found.pixels, found.gallery.load(places).pixels])
    retrieval = Retrieval(
        np.arange(count),
        count + inverse.reshape(count, k),
        found.right,
        np.full(count, np.nan),
        found.ranked,
    )
    images = LabelledImages(pixels, np.zeros(len(pixels), np.int64))
    draw_retrieval(figure.subplots(), retrieval, images, names, columns=columns, title=title)
