"""AP, mAP and the precision-recall curve of the full ranking: the one definition of the project."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from trainables.retrieval import squared_distances


@dataclass(frozen=True)
class RetrievalResult:
    mean_average_precision: float
    average_precision: np.ndarray
    recall: np.ndarray
    precision: np.ndarray
    queries_without_relevant: int


def evaluate_retrieval(
    queries: Tensor,
    query_labels: Tensor,
    gallery: Tensor,
    gallery_labels: Tensor,
    *,
    query_index: Tensor | None = None,
) -> RetrievalResult:
    """Ranks the whole gallery for each query, equal distances in gallery order."""
    grid = torch.linspace(0, 1, 101, dtype=torch.float64)
    aps, curve = [], torch.zeros(101, dtype=torch.float64)
    for start in range(0, len(queries), 1000):
        rows = slice(start, start + 1000)
        distance = squared_distances(queries[rows], gallery)
        if query_index is not None:
            distance[torch.arange(len(distance)), query_index[rows]] = torch.inf
        order = distance.argsort(dim=1, stable=True)
        relevant = gallery_labels[order] == query_labels[rows, None]
        if query_index is not None:
            relevant[:, -1] = False
        found = relevant.double().cumsum(1)
        precision = found / torch.arange(1, len(gallery) + 1)
        total = relevant.sum(1)
        aps.append((precision * relevant).sum(1) / total)
        interpolated = precision.flip(1).cummax(1).values.flip(1)
        need = torch.ceil(grid * total[:, None] - 1e-9).clamp_min(1)
        rank = torch.searchsorted(found, need).clamp_max(len(gallery) - 1)
        curve += interpolated.gather(1, rank)[total > 0].sum(0)
    ap = torch.cat(aps).numpy()
    counted = ~np.isnan(ap)
    return RetrievalResult(
        float(ap[counted].mean()),
        ap,
        grid.numpy(),
        curve.numpy() / counted.sum(),
        int((~counted).sum()),
    )
