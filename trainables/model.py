"""The network of the seed study, and networks by name."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SeedCNN(nn.Module):
    """Three 3x3 convolutions, pooled to a vector of 256: 28,064 weights (and a classifier).

    The embedding is that vector scaled to unit length; the classifier is one linear layer on
    the unscaled vector.
    """

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
        )
        self.classifier = nn.Linear(256, classes)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 1, 28, 28) in [-1, 1] → (B, 256), not scaled to unit length."""
        return self.features(images)


NETWORKS: dict[str, Callable[[], nn.Module]] = {"seed_cnn": SeedCNN}


def build(network: str, seed: int) -> nn.Module:
    """A fresh network whose weights depend on `seed` alone; the global random state stays."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return NETWORKS[network]()


def unit_length(features: Tensor) -> Tensor:
    """(B, D) → the embeddings (B, D), each of Euclidean length 1."""
    return F.normalize(features.float(), dim=1)
