"""Cross-entropy of a linear classifier."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn

from trainables.knobs import Knob, choice, share
from trainables.losses.entry import Loss

LABEL_SMOOTHING = Knob("label_smoothing", 0.0, choice(0.0, 0.05, 0.1), share)


class CrossEntropy(nn.Module):
    """On the features as the network gives them, whatever their length.

    Args:
        label_smoothing: the share of the target that is spread evenly, in [0, 1).
    """

    replayed_batch = math.inf

    def __init__(self, *, classes: int, width: int, label_smoothing: float) -> None:
        super().__init__()
        self.classifier = nn.Linear(width, classes)
        self.label_smoothing = label_smoothing

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """(B, D) and (B,) → a scalar."""
        logits = self.classifier(features)
        return F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)


LOSS = Loss(
    name="cross_entropy",
    title="cross-entropy",
    source="the classifier of the seed study: one linear layer on the features",
    make=CrossEntropy,
    knobs=(LABEL_SMOOTHING,),
    knows_classes=True,
    reference={"optimizer": "sgd", "lr": 1e-3, "momentum": 0.9, "loss_args": {}},
    colour="#0072B2",
)
