"""Re-ranking: the order of the nearest once more, with what the gallery knows of itself.

It is no part of the judge: no loss is chosen or compared by it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from trainables.data.images import own_places
from trainables.retrieval import (
    distance_chunks,
    first,
    nearest,
    squared_distances,
    unit_length,
)

K1, K2, WEIGHT = 20, 6, 0.3  # as Zhong et al. have them
EXPANDED, POWER = 10, 3.0  # as Radenovic et al. have it: so many, by the cube of their similarity

Rows = NDArray[np.int64]
Floats = NDArray[np.float32]
Reranking = Callable[[Tensor, int, Rows, Rows | None], Floats]


def k_reciprocal(
    embeddings: Tensor,
    asks: int,
    gallery: Rows | None = None,
    groups: Rows | None = None,
    *,
    k1: int = K1,
    k2: int = K2,
    weight: float = WEIGHT,
) -> Floats:
    """Distances by k-reciprocal encoding (Zhong, Zheng, Cao and Li, CVPR 2017, arXiv 1701.08398).

    Two are alike if they are among each other's k1 nearest: each is described by those, expanded by
    the k1 / 2 nearest of these where two thirds agree (eq. 5), weighted by exp(-distance) (eq. 7)
    and averaged over its k2 nearest (eq. 11). The distance of two is `1 - weight` of the Jaccard
    distance of their descriptions (eq. 10) and `weight` of their squared distance, which is divided
    by the farthest of its row (eq. 12).

    Args:
        embeddings: (N, D) of unit length, those that ask first. Memory is about 11 N^2 bytes.
        asks: Q of them ask. As published, what asks describes the others too.
        gallery, groups: not used: all are each other's neighbours, those of a query's group too.

    Returns:
        (Q, N) float32, at 0 for itself.
    """
    count = len(embeddings)
    distances = squared_distances(embeddings, embeddings).numpy()
    distances /= distances.max(1, keepdims=True).clip(1e-12)
    order = nearest(embeddings, embeddings, k=min(max(k1, k2) + 1, count)).numpy()
    alike = _reciprocal(order[:, : k1 + 1])
    half = _reciprocal(order[:, : round(k1 / 2) + 1])
    agree = alike.multiply(alike @ half.T).tocoo()  # small whole numbers, exact in float32
    enough = 3 * agree.data >= 2 * _sums(half)[agree.col]
    taken = (np.ones(enough.sum(), np.float32), (agree.row[enough], agree.col[enough]))
    alike = ((alike + sparse.csr_matrix(taken, (count, count)) @ half) > 0).tocoo()
    weights = np.exp(-distances[alike.row, alike.col])
    described = sparse.csr_matrix((weights, (alike.row, alike.col)), (count, count))
    described = sparse.diags(1 / _sums(described).clip(1e-12)) @ described
    described = (_rows(order[:, :k2]) / min(k2, count)) @ described
    found = _shared(described.tocsr(), asks)
    for row, plain in zip(found, distances, strict=False):  # in place: it is large
        row[:] = (1 - weight) * (1 - row / (2 - row)) + weight * plain
    return found


def expanded(
    embeddings: Tensor,
    asks: int,
    gallery: Rows | None = None,
    groups: Rows | None = None,
    *,
    count: int = EXPANDED,
    power: float = POWER,
) -> Floats:
    """Distances of queries that are expanded by their nearest (alpha query expansion: Radenovic,
    Tolias and Chum, PAMI 2019, arXiv 1711.02512, section 5.3; Chum et al., ICCV 2007).

    A query becomes the unit vector along the sum of itself and its `count` nearest of the gallery,
    or as many as it ranks, each times `power` of its similarity, where that is positive.

    Args:
        embeddings: (N, D) of unit length, those that ask first.
        asks: Q of them ask.
        gallery: (G,) which of them are the gallery; None: all.
        groups: (N,) as roles have them: a query is not expanded by what is of its group; -1 is in
            none.

    Returns:
        (Q, N) float32, squared Euclidean.
    """
    queries = embeddings[:asks]
    rows = np.arange(len(embeddings)) if gallery is None else gallery
    theirs, left_out = embeddings[torch.from_numpy(rows)], [own_places(np.arange(asks), rows)]
    if groups is not None:
        left_out += [groups[:asks], groups[rows]]
    count = min(count, len(rows))
    if count > 0:
        order = torch.empty(asks, count, dtype=torch.int64)
        ranked = torch.empty(asks, count)  # 0 for what is left out: some have fewer than others
        for some, distances in distance_chunks(queries, theirs, *map(torch.from_numpy, left_out)):
            order[some] = torch.from_numpy(first(distances, count))
            ranked[some] = distances.gather(1, order[some]).isfinite().float()
        found = theirs[order]
        similar = torch.einsum("qd,qkd->qk", queries, found).clamp_min(0) ** power * ranked
        queries = unit_length(queries + torch.einsum("qk,qkd->qd", similar, found))
    return squared_distances(queries, embeddings).numpy()


#: By name, as `--rerank` has them.
RERANKINGS: dict[str, Reranking] = {"k-reciprocal": k_reciprocal, "expansion": expanded}


def _rows(order: Rows) -> sparse.csr_matrix:
    """(N, N) with a 1 where a row's order has a column."""
    count, k = order.shape
    ones = np.ones(order.size, np.float32)
    return sparse.csr_matrix((ones, order.ravel(), np.arange(0, order.size + 1, k)), (count, count))


def _reciprocal(order: Rows) -> sparse.csr_matrix:
    """(N, N) with a 1 where two are in each other's order."""
    near = _rows(order)
    return near.multiply(near.T).tocsr()


def _sums(matrix: sparse.csr_matrix) -> NDArray[np.floating]:
    return np.asarray(matrix.sum(1)).ravel()


def _shared(described: sparse.csr_matrix, asks: int) -> NDArray[np.float32]:
    """(Q, N) the sum over columns of the lesser of two rows' numbers."""
    columns = described.tocsc()
    found = np.zeros((asks, described.shape[0]), np.float32)
    for query in range(asks):
        own = slice(described.indptr[query], described.indptr[query + 1])
        for column, weight in zip(described.indices[own], described.data[own], strict=True):
            others = slice(columns.indptr[column], columns.indptr[column + 1])
            rows = columns.indices[others]
            found[query, rows] += np.minimum(columns.data[others], weight)
    return found
