"""Distances between embeddings, and the ranking that they give."""

from __future__ import annotations

import torch
from torch import Tensor


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """Squared Euclidean distances |x|² + |y|² - 2 x·y of (N, D) and (M, D) → (N, M), >= 0.

    For unit vectors this is 2 - 2 x·y. float64 stays float64, all else is computed in float32.
    """
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        raise ValueError(
            f"x and y must be (N, D) and (M, D); got {tuple(x.shape)} and {tuple(y.shape)}"
        )
    if x.dtype != torch.float64:
        x, y = x.float(), y.float()
    norms = x.square().sum(1)[:, None] + y.square().sum(1)[None, :]
    return torch.addmm(norms, x, y.T, alpha=-2).clamp_min(0)
