"""Losses on unit embeddings: triplet and Smooth-AP, for any label order and any class counts.

τ and margin apply to *squared* distances, which for unit vectors are 2 - 2 x·y: a τ here is
twice the τ on similarities of the Smooth-AP paper.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from trainables.retrieval import squared_distances


def smooth_ap_loss(
    embeddings: Tensor,
    labels: Tensor,
    *,
    tau: float,
    anchors: int | None = None,
    numerator: str = "paper",
) -> Tensor:
    """Mean over anchors of 1 - smooth AP (Brown et al., ECCV 2020, arXiv 2007.12163, eq. 4-6).

    With σ the logistic function of (d_p - d_j)/τ, and the sums over p' ≠ p in P and n in N:
    `paper`: 1/|P| Σ_p Σ_n σ / (1 + Σ_p' σ + Σ_n σ); `seed`: the same with 1 + Σ_n σ above.
    """
    if not (math.isfinite(tau) and tau > 0):
        raise ValueError(f"tau must be a finite number > 0; got {tau!r}")
    distance, positive, negative = _anchored(embeddings, labels, anchors)
    total = distance.new_zeros(())
    valid = positive.any(1) & negative.any(1)
    for d, p, n in zip(distance[valid], positive[valid], negative[valid], strict=True):
        above = torch.sigmoid((d[p, None] - d[None, :]) / tau)
        negatives = above[:, n].sum(1)
        positives = above[:, p].sum(1) - 0.5  # without p' = p
        extra = 1 if numerator == "seed" else 0
        total = total + ((extra + negatives) / (1 + positives + negatives)).mean()
    return total / valid.sum().clamp_min(1) + 0 * distance.sum()


def triplet_loss(
    embeddings: Tensor,
    labels: Tensor,
    *,
    margin: float,
    anchors: int | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Hinge max(0, d_p - d_n + margin) over all triplets."""
    if not (math.isfinite(margin) and margin >= 0):
        raise ValueError(f"margin must be a finite number >= 0; got {margin!r}")
    distance, positive, negative = _anchored(embeddings, labels, anchors)
    hinge = F.relu(distance[:, :, None] - distance[:, None, :] + margin)
    hinge = hinge * (positive[:, :, None] & negative[:, None, :])
    if reduction == "mean":
        return hinge.sum() / (hinge > 0).sum().clamp_min(1)
    valid = positive.any(1) & negative.any(1)
    return hinge.sum() / valid.sum().clamp_min(1)


def _anchored(
    embeddings: Tensor, labels: Tensor, anchors: int | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Distances (A, B) of the anchors, and which samples are their positives and negatives."""
    rows = len(embeddings) if anchors is None else min(anchors, len(embeddings))
    distance = squared_distances(embeddings[:rows], embeddings)
    same = labels[:rows, None] == labels[None, :]
    itself = torch.eye(rows, len(labels), dtype=torch.bool, device=labels.device)
    return distance, same & ~itself, ~same
