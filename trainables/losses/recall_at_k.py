"""Recall@k surrogate: one less a smooth recall of every anchor's first k, over several k."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn

from trainables.knobs import Knob, choice, integer, log, positive
from trainables.losses.entry import Loss
from trainables.losses.kernels.by_block import UNREAD
from trainables.losses.ranking import ANCHORS, kernels, ranking_loss
from trainables.retrieval import unit_length

KS = (1, 2, 4, 8, 16)


def recall_at_k_loss(
    embeddings: Tensor,
    labels: Tensor,
    *,
    tau: float,
    tau_k: float = 1.0,
    k: Sequence[int] = KS,
    anchors: int | None = None,
) -> Tensor:
    """Recall@k surrogate loss (Patel, Tolias and Matas, CVPR 2022, arXiv 2108.11179): a scalar.

    For an anchor with positives P and negatives (itself in neither) at squared distances d, a
    positive's rank and how far the first k hold it are

        R_p = 1 + sum_{j != p} sigma((d_p - d_j) / tau),   h_p = sigma((k - R_p) / (tau_k k)),
        loss = max(0, 1 - sum_p h_p / min(k, |P|))

    with the logistic sigma, averaged over the k and then over the anchors that have a positive and
    a negative; 0 when there is none. What is at rank k is held by half, so that the loss of a
    perfect ranking is not 0. NaN and dtypes are as in `smooth_ap_loss`.

    min(k, |P|), the bound of 1 on the recall, the temperature in proportion to k, and a k larger
    than a batch being cut to it are as in the authors' code. There, the query is ranked too, always
    first, so that each rank is one more; here, as in the paper, it is left out of its ranking, and
    a k is cut to B - 1.

    Args:
        embeddings: (B, D), B >= 1, floating; bfloat16 and float16 are computed in float32.
        labels: (B,), integers, in any order and numbers.
        tau: temperature of a rank, in units of squared distance: for unit vectors, twice that of
            similarity (the paper's 0.01 is 0.02 here); > 0, and a normal number of float32.
        tau_k: temperature of the end of a list of k, in units of k ranks; as tau.
        k: how long the lists are, integers >= 1.
        anchors: how many of the first samples rank the batch, an integer >= 1; None: all.

    Raises:
        ValueError: an argument is not as described.
    """
    kernel = partial(kernels(embeddings).recall_at_k, tau=tau, ks=k, tau_k=tau_k)
    return ranking_loss(kernel, embeddings, labels, anchors)


class RecallAtK(nn.Module):
    """`recall_at_k_loss` of a batch's unit embeddings.

    Args:
        tau, tau_k: as there.
        longest: of the lists, which are of 1, 2, 4, ... up to it.
        anchors: the first so many images of a batch, or `all`.
    """

    replayed_batch = UNREAD

    def __init__(
        self, *, tau: float, tau_k: float, longest: int, anchors: int | str, **_: int
    ) -> None:
        super().__init__()
        self.tau, self.tau_k = tau, tau_k
        self.k = [1 << power for power in range(longest.bit_length())]
        self.anchors = anchors if isinstance(anchors, int) else None

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """(B, D) and (B,) → a scalar."""
        embeddings, arguments = unit_length(features), {"tau": self.tau, "tau_k": self.tau_k}
        return recall_at_k_loss(embeddings, labels, **arguments, k=self.k, anchors=self.anchors)


LOSS = Loss(
    name="recall_at_k",
    title="recall@k surrogate",
    source="Patel, Tolias and Matas, CVPR 2022, arXiv 2108.11179",
    make=RecallAtK,
    knobs=(
        ANCHORS,
        Knob("tau", 0.02, log(5e-4, 0.5), positive, "scientific", "of squared distance"),
        Knob("tau_k", 1.0, log(0.1, 2.0), positive, unit="of k ranks"),
        Knob("longest", 16, choice(1, 4, 16), integer(1), unit="images; lists of 1, 2, 4, ..."),
    ),
    needs_positives=True,
)
