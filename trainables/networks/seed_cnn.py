"""The network of the seed study."""

from __future__ import annotations

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.fused import conv_pool_relu
from trainables.networks.entry import Backbone
from trainables.networks.input import Input, NetworkError

CPU_BATCH = 64  # images at a time through all layers
SIDE = 28  # of Fashion-MNIST's images, in pixels
WIDTH = 256


class SeedCNN(nn.Module):
    """Three 3x3 convolutions, pooled to a vector of 256: 28,064 weights for grey images.

    in_channels → 32 channels, max-pool to a half, 32 → 32, max-pool to a quarter, 32 → 64, average
    pool to 2x2, a ReLU after each convolution.

    Args:
        in_channels: 1 for grey, 3 for colour.
        height, width: of the images, each at least 4 pixels.
    """

    replayed_batch = math.inf

    def __init__(self, in_channels: int = 1, height: int = SIDE, width: int = SIDE) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 32, 3, padding=1)
        self.conv2 = nn.Conv2d(32, 32, 3, padding=1)
        self.conv3 = nn.Conv2d(32, 64, 3, padding=1)
        windows = torch.kron(_halves(height // 4), _halves(width // 4))
        self.register_buffer("windows", windows, persistent=False)
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        """(B, in_channels, height, width) in [-1, 1] → (B, 256), not scaled to unit length.

        Under autocast the convolutions are computed in its dtype, the result is in the weights'.
        """
        if images.device.type == "cpu":  # what one layer leaves is in the cache for the next
            return torch.cat([self._pooled(part) for part in images.split(CPU_BATCH)])
        return self._pooled(images)

    def _pooled(self, images: Tensor) -> Tensor:
        # The maximum and ReLU commute, and the first leaves a quarter of the numbers.
        grey = images.shape[1] == 1
        if grey and images.device.type == "cpu" and not images.requires_grad:
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


def _halves(length: int) -> Tensor:
    """The two windows of adaptive average pooling, as (2, length); they share an odd middle."""
    half = -(-length // 2)
    ends = torch.zeros(2, length)
    ends[0, :half] = ends[1, length - half :] = 1 / half
    return ends


def known() -> list[str]:
    """The one name."""
    return ["seed_cnn"]


def backbone(name: str, channels: int, size: tuple[int, int] | None) -> Backbone | None:
    """Grey or colour as the images are, 28 x 28 unless told; pixels are scaled to [-1, 1]."""
    if name not in known():
        return None
    height, width = size or (SIDE, SIDE)
    if min(height, width) < 4:
        raise NetworkError(f"seed_cnn takes pictures of at least 4 x 4; got {height} x {width}")
    half = (0.5,) * channels
    make = partial(SeedCNN, channels, height, width)
    wants = Input(channels, height, width, mean=half, std=half)
    return Backbone(wants, WIDTH, fresh=make, default=make, pretrained=False, lr=1.5e-2)
