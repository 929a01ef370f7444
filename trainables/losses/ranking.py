"""Exact ranking losses over all pairs of a batch, in O(anchors x batch) memory.

Each is a scalar whose gradient with respect to the anchor-to-sample distances has a closed form, so
one pass gives value and gradient and nothing of size anchors x batch x batch is ever stored: an
anchor at a time on a CPU, a few at a time elsewhere. Double backward is therefore not supported.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from trainables.knobs import Knob, choice, integer
from trainables.laws import integer as checked_integer
from trainables.losses.kernels import by_block, by_row
from trainables.losses.kernels.laws import ValueAndSlopes
from trainables.retrieval import checked_rows, squared_distances

Kernel = Callable[[Tensor, Tensor], ValueAndSlopes]

REDUCTIONS = ("mean", "sum")
# Of all ranking losses: the first so many images of a batch rank it, or all of them. Ten, which the
# seed study had, lose 0.04 to 0.05 of mAP in runs of up to an epoch (tests/benchmarks/README.md).
ANCHORS = Knob(
    "anchors", "all", choice(10, "all"), integer(1, "all"), unit="images of a batch", core=False
)


def ranking_loss(kernel: Kernel, embeddings: Tensor, labels: Tensor, anchors: int | None) -> Tensor:
    """`kernel`, which knows its own laws, of the distances from the first `anchors` samples."""
    if not isinstance(labels, Tensor):
        raise ValueError(f"labels must be a tensor, got {type(labels).__name__}")
    if anchors is not None:
        anchors = checked_integer("anchors", anchors, 1, "or None")
    # Widened once, so that the gradient is rounded to the narrow type once.
    embeddings = embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))
    loss: Tensor = _RankingLoss.apply(embeddings, labels, anchors, kernel)
    return loss


def kernels(embeddings: Tensor) -> ModuleType:
    """Those for the device of the embeddings, once these are some."""
    checked_rows("embeddings", embeddings)
    if len(embeddings) == 0:
        raise ValueError(f"embeddings must have a row, got {tuple(embeddings.shape)}")
    return by_row if embeddings.device.type == "cpu" else by_block


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
