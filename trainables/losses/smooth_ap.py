"""Smooth-AP: one less a smooth average precision of every anchor's ranking of its batch."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor, nn

from trainables import laws
from trainables.knobs import Knob, choice, log, one_of, positive
from trainables.losses.entry import Loss
from trainables.losses.kernels.by_block import UNREAD
from trainables.losses.ranking import ANCHORS, REDUCTIONS, kernels, ranking_loss
from trainables.retrieval import unit_length

NUMERATORS = ("paper", "seed")


def smooth_ap_loss(
    embeddings: Tensor,
    labels: Tensor,
    *,
    tau: float,
    anchors: int | None = None,
    numerator: str = "paper",
    positives: str = "mean",
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
        positives: "mean" over an anchor's positives, as above; "sum": without the 1/|P|, which the
            seed study left out at first.

    Raises:
        ValueError: an argument is not as described.
    """
    laws.one_of("numerator", numerator, NUMERATORS)
    laws.one_of("positives", positives, REDUCTIONS)
    options = {"tau": tau, "seed": numerator == "seed", "mean": positives == "mean"}
    kernel = partial(kernels(embeddings).smooth_ap, **options)
    return ranking_loss(kernel, embeddings, labels, anchors)


class SmoothAP(nn.Module):
    """`smooth_ap_loss` of a batch's unit embeddings.

    Args:
        tau, numerator, positives: as there.
        anchors: the first so many images of a batch, or `all`.
    """

    replayed_batch = UNREAD

    def __init__(
        self, *, tau: float, numerator: str, positives: str, anchors: int | str, **_: int
    ) -> None:
        super().__init__()
        self.options: dict[str, Any] = {"tau": tau, "numerator": numerator, "positives": positives}
        self.anchors = anchors if isinstance(anchors, int) else None

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """(B, D) and (B,) → a scalar."""
        return smooth_ap_loss(unit_length(features), labels, anchors=self.anchors, **self.options)


LOSS = Loss(
    name="smooth_ap",
    title="Smooth-AP",
    source="Brown et al., ECCV 2020, arXiv 2007.12163",
    make=SmoothAP,
    knobs=(
        ANCHORS,
        # 0.1 to 0.5 lose 0.02 to 0.04 of mAP in runs of up to an epoch (tests/benchmarks).
        Knob("tau", 2.5e-3, log(5e-4, 0.1), positive, "scientific", "of squared distance"),
        Knob("numerator", "paper", choice("seed", "paper"), one_of(*NUMERATORS), "scientific"),
        # Of batches in a random order the sum is little but a learning rate |P| times as high.
        Knob("positives", "mean", None, one_of(*REDUCTIONS), "scientific"),
    ),
    needs_positives=True,
    reference={
        "optimizer": "adam",
        "lr": 1e-4,
        "weight_decay": 4e-5,
        "loss_args": {"anchors": 10, "tau": 0.01, "numerator": "seed"},
    },
    colour="#CC79A7",
)
