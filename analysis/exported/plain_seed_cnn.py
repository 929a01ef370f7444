"""The seed study's network in torch's own layers. Its code goes along with the weights."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class PlainSeedCNN(nn.Module):
    """Scaled pictures (B, channels, H, W) → features (B, 256)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 32, 3, padding=1)
        self.conv2 = nn.Conv2d(32, 32, 3, padding=1)
        self.conv3 = nn.Conv2d(32, 64, 3, padding=1)

    def forward(self, pictures: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(pictures)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return F.adaptive_avg_pool2d(F.relu(self.conv3(x)), 2).flatten(1)
