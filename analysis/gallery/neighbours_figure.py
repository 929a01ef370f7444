"""The nearest of any pictures: a row a query, bordered where classes are known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from analysis.figures.retrieval_figures import COLUMNS, LETTER, MANY_COLUMNS
from analysis.figures.retrieval_grid import Retrieval, draw_retrieval, picture
from analysis.figures.style import ReportFigure, render
from analysis.found.words import cut, loss_name, plural
from analysis.gallery.neighbours import Found
from trainables.data import LabelledImages

SIDE = 0.42  # inches of a picture
QUERIES, NEAREST = 40, 100  # that a figure shows at most
LOADED = 64  # pictures at a time, at the size that the network takes


def neighbours_figure(found: Found, loss: str) -> ReportFigure:
    """Queries and their nearest, as the network saw them; of many the first."""
    found = found.first(QUERIES, NEAREST)
    count, k = found.places.shape
    columns = min(k, COLUMNS if k <= 2 * COLUMNS else MANY_COLUMNS)
    lines = -(-k // columns)
    names = told_apart(found.queries)
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


def told_apart(paths: Sequence[str]) -> list[str]:
    """Files by name, those of one name with as much of their folders as tells them apart."""
    parts = [Path(path).parts for path in paths]
    tails = Counter(own[-many:] for own in parts for many in range(1, len(own) + 1))
    names = [
        next(
            ("/".join(own[-many:]) for many in range(1, len(own)) if tails[own[-many:]] == 1), path
        )
        for own, path in zip(parts, paths, strict=True)
    ]
    shown = [cut(name) for name in names]
    return shown if len(set(shown)) == len(set(names)) else names


def thumbnails(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(N, C, h, w) of pictures (N, C, H, W), no larger than a figure shows them."""
    images = LabelledImages(pixels, np.zeros(len(pixels), np.int64))
    return np.stack([np.moveaxis(picture(images, place), -1, 0) for place in range(len(pixels))])


def draw_neighbours(
    figure: Figure, found: Found, columns: int, names: list[str], title: str
) -> None:
    """Without borders where classes are not known."""
    count, k = found.places.shape
    places, inverse = np.unique(found.places, return_inverse=True)
    parts = [thumbnails(found.pixels)]
    for start in range(0, len(places), LOADED):  # all at once may not fit into memory
        parts.append(thumbnails(found.gallery.load(places[start : start + LOADED]).pixels))
    pixels = np.concatenate(parts)
    retrieval = Retrieval(
        np.arange(count),
        count + inverse.reshape(count, k),
        found.right,
        np.full(count, np.nan),
        found.ranked,
    )
    images = LabelledImages(pixels, np.zeros(len(pixels), np.int64))
    draw_retrieval(figure.subplots(), retrieval, images, names, columns=columns, title=title)
