"""A 3x3 convolution of one channel, 2x2 max-pool and ReLU in one pass over the images, on the CPU.

Layer by layer, the convolution's output is written and read again four times over, forward and
backward, and it is four times what the pooling leaves. Here a pooled number is computed from its
4x4 patch of the image and only it and the place of the maximum are kept.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from trainables.compiled import compiled


def conv_pool_relu(images: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """`relu(max_pool2d(conv2d(images, weight, bias, padding=1), 2))`, to rounding.

    Among equal numbers the first is the maximum, NaN is larger than any number, and where all are
    <= 0 no gradient passes, as in torch. Images get no gradient; there is no second derivative.

    Args:
        images: (B, 1, H, W), H and W >= 2, on the CPU; float32 or float64, as weight and bias are.
        weight: (C, 1, 3, 3).
        bias: (C,).

    Returns:
        (B, C, H // 2, W // 2), channels last in memory.

    Raises:
        ValueError: shapes or dtypes are not as described, or the images want a gradient.
    """
    fit = images.ndim == 4 and images.shape[1] == 1 and min(images.shape[2:]) >= 2
    if not fit or bias.ndim != 1 or weight.shape != (len(bias), 1, 3, 3):
        raise ValueError(
            "images must be (B, 1, H, W), H and W >= 2, weight (C, 1, 3, 3) and bias (C,); "
            f"got {tuple(images.shape)}, {tuple(weight.shape)} and {tuple(bias.shape)}"
        )
    wide = images.dtype in (torch.float32, torch.float64)
    if not (wide and images.dtype == weight.dtype == bias.dtype):
        kinds = f"{images.dtype}, {weight.dtype} and {bias.dtype}"
        law = "images, weight and bias must be of one dtype, float32 or float64"
        raise ValueError(f"{law}; got {kinds}")
    if images.requires_grad:
        raise ValueError("images get no gradient here; got images with requires_grad")
    pooled: Tensor = _ConvPoolReLU.apply(images, weight, bias)
    return pooled


class _ConvPoolReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        padded = F.pad(images[:, 0], (1, 1, 1, 1)).contiguous()
        taps = weight[:, 0].permute(1, 2, 0).contiguous()
        batch, _, height, width = images.shape
        pooled = padded.new_empty(batch, height // 2, width // 2, len(bias))
        place = torch.empty(pooled.shape, dtype=torch.int32)
        _forward(padded.numpy(), taps.numpy(), bias.numpy(), pooled.numpy(), place.numpy())
        ctx.save_for_backward(padded, place)
        return pooled.permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor, Tensor]:
        padded, place = ctx.saved_tensors
        slopes = grad.permute(0, 2, 3, 1).contiguous()
        taps = slopes.new_zeros(3, 3, slopes.shape[3])
        bias = slopes.new_zeros(slopes.shape[3])
        _backward(padded.numpy(), slopes.numpy(), place.numpy(), taps.numpy(), bias.numpy())
        return None, taps.permute(2, 0, 1)[:, None], bias


Row = tuple[float, float, float, float]


@compiled
def _patch(image: np.ndarray, i: int, j: int) -> tuple[Row, Row, Row, Row]:
    """The 4x4 numbers from (i, j) on; as scalars, they stay in registers."""
    return (
        _row(image[i], j),
        _row(image[i + 1], j),
        _row(image[i + 2], j),
        _row(image[i + 3], j),
    )


@compiled
def _row(row: np.ndarray, j: int) -> Row:
    return row[j], row[j + 1], row[j + 2], row[j + 3]


@compiled
def _forward(
    padded: np.ndarray, taps: np.ndarray, bias: np.ndarray, pooled: np.ndarray, place: np.ndarray
) -> None:
    """`pooled` and `place` (B, h, w, C) of padded images (B, H + 2, W + 2) and taps (3, 3, C).

    The place is 0 to 3, row by row in the window of the pooling, and 4 where ReLU gave 0.
    """
    zero = bias.dtype.type(0)
    batch, height, width, channels = pooled.shape
    for b in range(batch):
        for i in range(height):
            for j in range(width):
                p = _patch(padded[b], 2 * i, 2 * j)
                out, at = pooled[b, i, j], place[b, i, j]
                for c in range(channels):
                    a0 = a1 = a2 = a3 = zero
                    for y in range(3):
                        for x in range(3):
                            tap = taps[y, x, c]
                            a0 += tap * p[y][x]
                            a1 += tap * p[y][x + 1]
                            a2 += tap * p[y + 1][x]
                            a3 += tap * p[y + 1][x + 1]
                    most, which = a0, np.int32(0)
                    if a1 > most or a1 != a1:
                        most, which = a1, np.int32(1)
                    if a2 > most or a2 != a2:
                        most, which = a2, np.int32(2)
                    if a3 > most or a3 != a3:
                        most, which = a3, np.int32(3)
                    most += bias[c]
                    if most <= 0:
                        most, which = zero, np.int32(4)
                    out[c] = most
                    at[c] = which


@compiled
def _backward(
    padded: np.ndarray, slopes: np.ndarray, place: np.ndarray, taps: np.ndarray, bias: np.ndarray
) -> None:
    """Adds to `taps` (3, 3, C) and `bias` (C,) the gradients of the slopes (B, h, w, C)."""
    zero = bias.dtype.type(0)
    batch, height, width, channels = slopes.shape
    for b in range(batch):
        for i in range(height):
            for j in range(width):
                p = _patch(padded[b], 2 * i, 2 * j)
                slope, at = slopes[b, i, j], place[b, i, j]
                for c in range(channels):
                    s0 = slope[c] if at[c] == 0 else zero
                    s1 = slope[c] if at[c] == 1 else zero
                    s2 = slope[c] if at[c] == 2 else zero
                    s3 = slope[c] if at[c] == 3 else zero
                    bias[c] += s0 + s1 + s2 + s3
                    for y in range(3):
                        for x in range(3):
                            taps[y, x, c] += (
                                s0 * p[y][x]
                                + s1 * p[y][x + 1]
                                + s2 * p[y + 1][x]
                                + s3 * p[y + 1][x + 1]
                            )
