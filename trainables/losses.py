"""Exact ranking losses over all pairs of a batch, in O(anchors x batch) memory.

Both losses are scalars whose gradient with respect to the anchor-to-sample distances has a closed
form, so one pass gives value and gradient and nothing of size anchors x batch x batch is ever
stored: an anchor at a time on a CPU, a few at a time elsewhere. Double backward is therefore not
supported.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from trainables import losses_by_block, losses_by_row
from trainables.config import NUMERATORS, REDUCTIONS
from trainables.laws import integer, one_of
from trainables.losses_laws import ValueAndSlopes
from trainables.retrieval import checked_rows, squared_distances

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
    float64 embeddings; it and its gradient are NaN if a distance of the batch, or a distance over
    tau, is NaN or infinite.

    Args:
        embeddings: (B, D), B >= 1, floating; bfloat16 and float16 are computed in float32.
        labels: (B,), integers, in any order and numbers.
        tau: temperature, in units of squared distance: for unit vectors, twice that of similarity;
            > 0, and a normal number of float32.
        anchors: how many of the first samples rank the batch, an integer >= 1; None: all.
        numerator: which of the two losses above.

    Raises:
        ValueError: an argument is not as described.
    """
    one_of("numerator", numerator, NUMERATORS)
    kernel = partial(_kernels(embeddings).smooth_ap, tau=tau, seed=numerator == "seed")
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
    (Schroff et al., CVPR 2015, arXiv 1503.03832, eq. 2). The loss and its gradient are NaN if a
    distance of the batch, or a distance and margin, is NaN or infinite.

    Args:
        embeddings: (B, D), B >= 1, floating; bfloat16 and float16 are computed in float32.
        labels: (B,), integers, in any order and numbers.
        margin: in units of squared distance; 0, or > 0 and a normal number of float32.
        anchors: how many of the first samples are anchors, an integer >= 1; None: all.
        reduction: "mean": the mean over the triplets whose hinge is > 0; "sum": the sum over an
            anchor's triplets, averaged over the anchors that have a positive and a negative. Both
            are 0 when there is nothing to average.

    Raises:
        ValueError: an argument is not as described.
    """
    one_of("reduction", reduction, REDUCTIONS)
    kernel = partial(_kernels(embeddings).triplet, margin=margin, mean=reduction == "mean")
    return _ranking_loss(kernel, embeddings, labels, anchors)


def _kernels(embeddings: Tensor) -> ModuleType:
    """Those for the device of the embeddings, once these are some."""
    checked_rows("embeddings", embeddings)
    if len(embeddings) == 0:
        raise ValueError(f"embeddings must have a row, got {tuple(embeddings.shape)}")
    return losses_by_row if embeddings.device.type == "cpu" else losses_by_block


def _ranking_loss(
    kernel: Kernel, embeddings: Tensor, labels: Tensor, anchors: int | None
) -> Tensor:
    """`kernel`, which knows its own laws, of the distances from the first `anchors` samples."""
    if not isinstance(labels, Tensor):
        raise ValueError(f"labels must be a tensor, got {type(labels).__name__}")
    if anchors is not None:
        anchors = integer("anchors", anchors, 1, "or None")
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
