"""Triplet loss over every triplet of a batch."""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from trainables import laws
from trainables.knobs import Knob, choice, log, not_negative, one_of
from trainables.losses.entry import Loss
from trainables.losses.kernels.by_block import UNREAD
from trainables.losses.ranking import ANCHORS, REDUCTIONS, kernels, ranking_loss
from trainables.retrieval import unit_length


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
    laws.one_of("reduction", reduction, REDUCTIONS)
    kernel = partial(kernels(embeddings).triplet, margin=margin, mean=reduction == "mean")
    return ranking_loss(kernel, embeddings, labels, anchors)


class Triplet(nn.Module):
    """`triplet_loss` of a batch's unit embeddings.

    Args:
        margin, reduction: as there.
        anchors: the first so many images of a batch, or `all`.
    """

    replayed_batch = UNREAD

    def __init__(self, *, margin: float, reduction: str, anchors: int | str, **_: int) -> None:
        super().__init__()
        self.margin, self.reduction = margin, reduction
        self.anchors = anchors if isinstance(anchors, int) else None

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """(B, D) and (B,) → a scalar."""
        return triplet_loss(
            unit_length(features),
            labels,
            margin=self.margin,
            anchors=self.anchors,
            reduction=self.reduction,
        )


LOSS = Loss(
    name="triplet",
    title="triplet",
    source="Schroff et al., CVPR 2015, arXiv 1503.03832, on all triplets of a batch",
    make=Triplet,
    knobs=(
        ANCHORS,
        Knob("margin", 0.2, log(0.05, 1.0), not_negative, unit="of squared distance"),
        Knob("reduction", "mean", choice("sum", "mean"), one_of(*REDUCTIONS)),
    ),
    needs_positives=True,
    reference={
        "optimizer": "sgd",
        "lr": 1e-3,
        "momentum": 0.0,
        "loss_args": {"margin": 0.5, "reduction": "sum", "anchors": 10},
    },
    colour="#E69F00",
)
