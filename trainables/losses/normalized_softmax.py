"""Normalised softmax: cross-entropy of the cosines of embedding and class weights, a proxy loss."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn

from trainables.knobs import Knob, log, positive
from trainables.losses.cross_entropy import LABEL_SMOOTHING
from trainables.losses.entry import Loss
from trainables.retrieval import unit_length


class NormalizedSoftmax(nn.Module):
    """Zhai and Wu, BMVC 2019, arXiv 1811.12649, without their dropout and layer norm.

    Args:
        temperature: divides the cosines, > 0.
        label_smoothing: the share of the target that is spread evenly, in [0, 1).
    """

    replayed_batch = math.inf

    def __init__(
        self, *, classes: int, width: int, temperature: float, label_smoothing: float
    ) -> None:
        super().__init__()
        self.weight = nn.Linear(width, classes).weight  # with the spread that layers begin with
        self.temperature, self.label_smoothing = temperature, label_smoothing

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """(B, D) and (B,) → a scalar."""
        logits = unit_length(features) @ unit_length(self.weight).T / self.temperature
        return F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)


LOSS = Loss(
    name="normalized_softmax",
    title="normalised softmax",
    source="Zhai and Wu, BMVC 2019, arXiv 1811.12649",
    make=NormalizedSoftmax,
    knobs=(
        Knob("temperature", 0.2, log(0.05, 1.0), positive, unit="of cosines"),
        LABEL_SMOOTHING,
    ),
    knows_classes=True,
    colour="#56B4E9",
)
