"""Pictures that ask, and their nearest in a gallery by one network."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from analysis.gallery.index import Index, index_of
from analysis.gallery.networks import Chosen
from analysis.gallery.pictures import Gallery, load
from analysis.gallery.search import Approximate, Neighbours, exact
from study.results.files import StudyError
from trainables.laws import did_you_mean
from trainables.reranking import RERANKINGS
from trainables.trained import embed_pixels

RERANKED = 1_000  # of the nearest of a query: the others keep their order behind them


@dataclass(frozen=True, eq=False)
class Found:
    """What Q pictures found.

    Attributes:
        queries: their names.
        query_labels: their classes, empty where not known.
        pixels: (Q, C, H, W) uint8, what the network saw of them.
        gallery: which was searched.
        places: (Q, k) of its pictures, nearest first.
        distances: (Q, k) squared Euclidean, of unit vectors 0 to 4; they do not ascend where the
            order was changed by re-ranking.
        ranked: how many pictures were ranked.
        news: lines on how it was found.
    """

    queries: tuple[str, ...]
    query_labels: tuple[str, ...]
    pixels: NDArray[np.uint8]
    gallery: Gallery
    places: NDArray[np.int64]
    distances: NDArray[np.float32]
    ranked: int
    news: tuple[str, ...]

    @property
    def right(self) -> NDArray[np.int8]:
        """(Q, k) 1 where a neighbour is of the query's class, 0 where not, -1 where not known."""
        if self.gallery.labels is None:
            return np.full(self.places.shape, -1, np.int8)
        theirs = np.array(self.gallery.labels, dtype=object)[self.places]
        mine = np.array(self.query_labels, dtype=object)[:, None]
        return np.where(mine == "", -1, theirs == mine).astype(np.int8)

    def first(self, queries: int, k: int) -> Found:
        """The k nearest of the first queries, or as many as there are."""
        return replace(
            self,
            queries=self.queries[:queries],
            query_labels=self.query_labels[:queries],
            pixels=self.pixels[:queries],
            places=self.places[:queries, :k],
            distances=self.distances[:queries, :k],
        )

    def table(self) -> pd.DataFrame:
        """A row a neighbour: query, rank from 1, picture, its class if known, squared distance."""
        count, k = self.places.shape
        flat = self.places.ravel()
        table: dict[str, Any] = {
            "query": np.repeat(self.queries, k),
            "rank": np.tile(np.arange(1, k + 1), count),
            "picture": [self.gallery.names[place] for place in flat],
        }
        if self.gallery.labels is not None:
            table["class"] = [self.gallery.labels[place] for place in flat]
        return pd.DataFrame(table | {"squared_distance": self.distances.ravel()})


def find(
    pictures: list[Path],
    gallery: Gallery,
    chosen: Chosen,
    *,
    k: int,
    label: str = "",
    rerank: str | None = None,
    approximate: bool = False,
) -> Found:
    """The k nearest of pictures, all of a gallery that has no more.

    A picture that is one of the gallery's files is left out of its own ranking, and has its class.

    Args:
        label: the class of all these pictures, empty where it is not known.
        rerank: one of `RERANKINGS`; None keeps the order of the distances.
        approximate: by faiss.

    Raises:
        StudyError: a picture or the whole gallery cannot be read, or faiss is not there.
    """
    pictures = list(dict.fromkeys(pictures))
    if label and gallery.labels is not None and label not in gallery.labels:
        law = "a label must be a class of the gallery"
        raise StudyError(f"{law}; got {label!r}{did_you_mean(label, set(gallery.labels))}")
    loaded = load([(str(path), None) for path in pictures], chosen.dataset)
    if loaded.reasons:
        lines = [f"{pictures[place]}: {why}" for place, why in loaded.reasons.items()]
        raise StudyError(f"a query must be a picture that can be read; {'; '.join(lines)}")
    queries = embed_pixels(chosen.network, torch.from_numpy(loaded.pixels))
    index = index_of(gallery, chosen)
    own_places = np.array([gallery.place_of(path) for path in pictures])
    own = _rows_of(own_places, index)
    most = len(index.embeddings) - bool((own >= 0).any())
    if most < 1:
        raise StudyError("a gallery must hold a picture that is not the query; got none")
    depth = min(most, max(k, RERANKED if rerank else 0))
    found, how = _search(queries, index, depth, own, approximate)
    news = [index.news, how]
    if rerank is not None:
        found = _reranked(queries, index, found, rerank)
        news.append(f"the nearest {depth:,} re-ranked by {rerank}")
    if k > most:
        news.append(f"k is {k:,}; the gallery has {most:,} to rank, which are all given")
    if index.unreadable:
        some = ", ".join(index.unreadable[:3]) + ", ..." * (len(index.unreadable) > 3)
        news.append(f"left out, as they cannot be read: {len(index.unreadable):,} ({some})")
    if gallery.left_out:
        name, why = gallery.left_out[0]
        more = f" and {len(gallery.left_out) - 1:,} more" * (len(gallery.left_out) > 1)
        news.append(f"not taken into the gallery: {name} ({why}){more}")
    labels = gallery.labels
    known = [labels[place] if labels and place >= 0 else label for place in own_places]
    return Found(
        tuple(map(str, pictures)),
        tuple(known),
        loaded.pixels,
        gallery,
        index.places[found.rows[:, :k]],
        found.distances[:, :k],
        most,
        tuple(news),
    )


def _rows_of(places: NDArray[np.int64], index: Index) -> NDArray[np.int64]:
    """The row of the index of each place in the gallery, -1 for none."""
    rows = np.searchsorted(index.places, places)
    known = index.places[np.minimum(rows, len(index.places) - 1)] == places
    return np.where(known & (places >= 0), rows, -1)


def _search(
    queries: Tensor, index: Index, k: int, own: NDArray[np.int64], approximate: bool
) -> tuple[Neighbours, str]:
    """The nearest, and a line on the search."""
    among, start = f"search among {len(index.embeddings):,}", time.perf_counter()
    if not approximate:
        found = exact(queries, index.embeddings, k, own)
        return found, f"exact {among}: {time.perf_counter() - start:.2g} s"
    lists = Approximate.beside(index.folder, index.embeddings)
    made, start = time.perf_counter() - start, time.perf_counter()
    found = lists.nearest(queries, k, own)
    seconds = time.perf_counter() - start
    recall = (
        f"recall {lists.recall:.3f} of the exact 10 nearest, over {lists.sample} of the gallery"
    )
    return found, f"approximate {among}: {seconds:.2g} s, after {made:.2g} s to be ready; {recall}"


def _reranked(queries: Tensor, index: Index, found: Neighbours, name: str) -> Neighbours:
    """The candidates of each query in the order of another distance."""
    orders = []
    for query, rows in zip(queries, found.rows, strict=True):
        candidates = torch.from_numpy(np.array(index.embeddings[rows]))
        both = torch.cat([query[None], candidates])
        distances = RERANKINGS[name](both, 1, np.arange(1, len(both)), None)[0, 1:]
        orders.append(np.argsort(distances, kind="stable"))
    order = np.stack(orders)
    return Neighbours(
        np.take_along_axis(found.rows, order, 1), np.take_along_axis(found.distances, order, 1)
    )
