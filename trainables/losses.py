"""Exact ranking losses over all pairs of a batch, in O(anchors x batch) memory.

Both losses are scalars whose gradient with respect to the anchor-to-sample distances has a closed
form, so one pass gives value and gradient and nothing of size anchors x batch x batch is ever
stored: an anchor at a time on a CPU, a few at a time elsewhere. Double backward is therefore not
supported.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from trainables import losses_by_block, losses_by_row
from trainables.retrieval import squared_distances

ValueAndSlopes = tuple[Tensor, Tensor]
Kernel = Callable[[Tensor, Tensor], ValueAndSlopes]


def smooth_ap_loss(
    embeddings: Tensor,
    labels: Tensor,
    *,
    tau: float,
    anchors: int | None = None,
    numerator: str = "paper",
) -> Tensor:
    """Smooth AP loss of a batch (Brown et al., ECCV 2020, arXiv 2007.12163, eq. 6): a scalar.

    For an anchor with positives P and negatives N (itself in neither) at squared distances d,

        Sp = sum_{p' in P, p' != p} sigma(p, p'),  Sn = sum_{n in N} sigma(p, n),
        sigma(p, j) = 1 / (1 + exp(-(d_p - d_j) / tau)),
        loss = 1/|P| sum_p Sn / (1 + Sp + Sn)            "paper": 1 - smooth AP, in [0, 1)
        loss = 1/|P| sum_p (1 + Sn) / (1 + Sp + Sn)      "seed"

    averaged over the anchors that have a positive and a negative; 0 when there is none. "paper"
    tends to 1 - AP as tau -> 0 where distances differ. The result is float32, or float64 for
    float64 embeddings.

    Args:
        embeddings: (B, D), floating; bfloat16 and float16 are computed in float32.
        labels: (B,), integers, in any order and numbers.
        tau: temperature, in units of squared distance: for unit vectors, twice that of similarity.
        anchors: how many of the first samples rank the batch; None: all.
        numerator: which of the two losses above.

    Raises:
        ValueError: an argument is not as described, or not tau > 0, or not anchors >= 1.
    """
    if not (math.isfinite(tau) and tau > 0):
        raise ValueError(f"tau must be finite and > 0, got {tau}")
    if numerator not in ("paper", "seed"):
        raise ValueError(f"numerator must be 'paper' or 'seed', got {numerator!r}")
    kernel = partial(_on(embeddings).smooth_ap, tau=tau, seed=numerator == "seed")
    return _ranking_loss(kernel, embeddings, labels, anchors)


def triplet_loss(
    embeddings: Tensor,
    labels: Tensor,
    *,
    margin: float,
    anchors: int | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Triplet loss over every (anchor, positive, negative) of a batch: a scalar.

    A triplet's hinge is max(0, d_p - d_n + margin), with squared distances to the anchor
    (Schroff et al., CVPR 2015, arXiv 1503.03832, eq. 2).

    Args:
        embeddings: (B, D), floating; bfloat16 and float16 are computed in float32.
        labels: (B,), integers, in any order and numbers.
        margin: in units of squared distance, >= 0.
        anchors: how many of the first samples are anchors; None: all.
        reduction: "mean": the mean over the triplets whose hinge is > 0; "sum": the sum over an
            anchor's triplets, averaged over the anchors that have a positive and a negative. Both
            are 0 when there is nothing to average.

    Raises:
        ValueError: an argument is not as described.
    """
    if not (math.isfinite(margin) and margin >= 0):
        raise ValueError(f"margin must be finite and >= 0, got {margin}")
    if reduction not in ("mean", "sum"):
        raise ValueError(f"reduction must be 'mean' or 'sum', got {reduction!r}")
    kernel = partial(_on(embeddings).triplet, margin=margin, mean=reduction == "mean")
    return _ranking_loss(kernel, embeddings, labels, anchors)


def _on(embeddings: Tensor) -> ModuleType:
    """Where the kernels for the device of these embeddings are."""
    return losses_by_row if embeddings.device.type == "cpu" else losses_by_block


def _ranking_loss(
    kernel: Kernel, embeddings: Tensor, labels: Tensor, anchors: int | None
) -> Tensor:
    """`kernel` of the distances from the first `anchors` samples, once the arguments are right."""
    if embeddings.ndim != 2 or not embeddings.is_floating_point():
        kind = f"{embeddings.dtype} {tuple(embeddings.shape)}"
        raise ValueError(f"embeddings must be a 2-d floating tensor, got {kind}")
    whole = not (labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool)
    if labels.shape != embeddings.shape[:1] or not whole:
        kind = f"{labels.dtype} {tuple(labels.shape)}"
        raise ValueError(f"labels must be ({len(embeddings)},) integers, got {kind}")
    if anchors is not None and anchors < 1:
        raise ValueError(f"anchors must be >= 1, got {anchors}")
    # Widened once, so that the gradient is rounded to the narrow type once.
    embeddings = embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))
    loss: Tensor = _RankingLoss.apply(embeddings, labels, anchors, kernel)
    return loss


class _RankingLoss(torch.autograd.Function):
    """`kernel`'s scalar; its slopes (A, B) by squared distance are known from the forward pass."""

    @staticmethod
    def forward(
        ctx: Any, embeddings: Tensor, labels: Tensor, anchors: int | None, kernel: Kernel
    ) -> Tensor:
        loss, slopes = kernel(squared_distances(embeddings[:anchors], embeddings), labels)
        ctx.save_for_backward(embeddings, slopes)
        return loss

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        # once_differentiable would let create_graph=True through here, as `grad` is a constant,
        # and a second derivative would silently miss the slopes' own dependence on embeddings.
        if torch.is_grad_enabled():
            raise RuntimeError("the ranking losses cannot be differentiated twice (create_graph)")
        y, slopes = ctx.saved_tensors
        x = y[: len(slopes)]
        # The gradient of |x - y|^2 by x is 2 (x - y), and its opposite by y.
        with torch.autocast(y.device.type, enabled=False):
            moved = torch.addmm(slopes.sum(0)[:, None] * y, slopes.T, x, alpha=-1)
            mine = moved[: len(x)].addmm_(slopes, y, alpha=-1)
            mine.addcmul_(slopes.sum(1, keepdim=True), x)
        return moved.mul_(2 * grad), None, None, None
