"""A network as it is exported, in torch alone. Its code goes along with the weights."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Network(nn.Module):
    """Pictures (B, C, H, W) float32 in [0, 1] → embeddings (B, D) of unit length.

    Args:
        trunk: scaled pictures → features.
        head: features → (B, D).
        mean, std: one a channel of what the trunk takes; a grey picture stands in all of them.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, trunk: nn.Module, head: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]
    ) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = head
        self.register_buffer("mean", torch.tensor(mean)[:, None, None])
        self.register_buffer("std", torch.tensor(std)[:, None, None])

    def forward(self, pictures: Tensor) -> Tensor:
        scaled = (pictures - self.mean) / self.std
        return F.normalize(self.head(self.trunk(scaled)), dim=1)
