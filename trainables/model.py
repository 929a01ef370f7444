"""The network of the seed study, and networks by name."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.fused import conv_pool_relu

CPU_BATCH = 64  # images at a time through all layers


class SeedCNN(nn.Module):
    """Three 3x3 convolutions, pooled to a vector of 256: 28,064 weights, and 2,570 to classify.

    1 → 32 channels, max-pool to 14x14, 32 → 32, max-pool to 7x7, 32 → 64, average pool to 2x2, a
    ReLU after each convolution. The embedding is that vector scaled to unit length; the classifier
    is one linear layer on the unscaled vector.
    """

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, padding=1)
        self.conv2 = nn.Conv2d(32, 32, 3, padding=1)
        self.conv3 = nn.Conv2d(32, 64, 3, padding=1)
        self.classifier = nn.Linear(256, classes)
        # The four overlapping 4x4 windows of adaptive average pooling from 7x7 to 2x2, as (4, 49).
        ends = torch.tensor([[1.0, 1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1, 1]]) / 4
        self.register_buffer("windows", torch.kron(ends, ends), persistent=False)
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 1, 28, 28) in [-1, 1] → (B, 256), not scaled to unit length.

        Under autocast the convolutions are computed in its dtype, the result is in the weights'.
        """
        if images.device.type == "cpu":  # what one layer leaves is in the cache for the next
            return torch.cat([self._pooled(part) for part in images.split(CPU_BATCH)])
        return self._pooled(images)

    def _pooled(self, images: Tensor) -> Tensor:
        # The maximum and ReLU commute, and the first leaves a quarter of the numbers.
        if images.device.type == "cpu" and not images.requires_grad:
            assert self.conv1.bias is not None
            x = conv_pool_relu(images, self.conv1.weight, self.conv1.bias)
        else:
            x = images.contiguous(memory_format=torch.channels_last)
            x = F.max_pool2d(self.conv1(x), 2).relu_()
        x = F.max_pool2d(self.conv2(x), 2).relu_()
        x = self.conv3(x).relu_().to(self.windows.dtype)
        with torch.autocast(images.device.type, enabled=False):  # means of 16 are not for bfloat16
            means = self.windows @ x.permute(0, 2, 3, 1).flatten(1, 2)
        return means.transpose(1, 2).flatten(1)

    def logits(self, features: Tensor, temperature: float | None = None) -> Tensor:
        """(B, 256), not scaled to unit length → (B, classes).

        With a temperature: the cosine of embedding and class weights, divided by it (no bias).
        """
        if temperature is None:
            return self.classifier(features)
        return unit_length(features) @ unit_length(self.classifier.weight).T / temperature


NETWORKS: dict[str, Callable[[int], SeedCNN]] = {"seed_cnn": SeedCNN}


def build(network: str, seed: int, classes: int = 10) -> SeedCNN:
    """A fresh network whose weights depend on `seed` alone, those before the classifier whatever
    the number of classes; the global random state stays."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return NETWORKS[network](classes)


def unit_length(features: Tensor) -> Tensor:
    """(B, D) → the embeddings (B, D), each of Euclidean length 1."""
    return F.normalize(features, dim=1)
