"""The pictures that a network takes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

CACHED = 4
SMALL = 16_384  # numbers of a picture of which many are in the cache at a time
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos")


class NetworkError(ValueError):
    """A network, or weights, that cannot be had; one line with the name and the remedy."""


@dataclass(frozen=True)
class Input:
    """The pictures that a network takes, and what becomes of their numbers.

    Attributes:
        channels: 3, or 1 for a network of grey pictures.
        height, width: in pixels, of what the network gets.
        mean, std: one a channel, of pixels in [0, 1].
        interpolation: `nearest`, `bilinear`, `bicubic` or `lanczos`.
        resize: to judge a picture, its shorter side is scaled to so many pixels, of which the
            central height x width are taken. Default: the smaller of the two.

    Raises:
        NetworkError: a field breaks its law.
    """

    channels: int
    height: int
    width: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bilinear"
    resize: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "resize", self.resize or min(self.height, self.width))
        if self.channels not in (1, 3):
            raise NetworkError(f"channels must be 1 or 3; got {self.channels!r}")
        for name in ("height", "width"):
            side = getattr(self, name)
            if not isinstance(side, int) or side < 1:
                raise NetworkError(f"{name} must be an integer >= 1; got {side!r}")
        for name, law in (("mean", -math.inf), ("std", 0.0)):
            numbers = getattr(self, name)
            fit = len(numbers) == self.channels and all(law < one < math.inf for one in numbers)
            if not fit:
                above = "" if name == "mean" else " > 0"
                raise NetworkError(
                    f"{name} must be {self.channels} finite numbers{above}; got {numbers!r}"
                )
        if self.interpolation not in INTERPOLATIONS:
            known = ", ".join(INTERPOLATIONS)
            raise NetworkError(f"interpolation must be one of {known}; got {self.interpolation!r}")
        if self.resize < min(self.height, self.width):
            raise NetworkError(
                f"resize must be at least the smaller side of {self.height} x {self.width}; "
                f"got {self.resize}"
            )

    def scale(
        self, images: Tensor, dtype: torch.dtype = torch.float32, out: Tensor | None = None
    ) -> Tensor:
        """(B, C, H, W) uint8 in 0..255 → (B, channels, H, W): x / 255, less mean, over std.

        A grey picture for a network of colour stands in all its channels.

        Args:
            out: (B, channels, H, W) of this dtype to write to. A buffer that stays costs a fifth of
                a new one: what takes time is the system's pages.

        Raises:
            ValueError: the pictures have another number of channels.
        """
        if images.shape[1] not in (1, self.channels):
            raise ValueError(
                f"pictures must have 1 or {self.channels} channels; got {tuple(images.shape)}"
            )
        images = images.expand(-1, self.channels, -1, -1)
        if out is None:
            out = torch.empty(images.shape, dtype=dtype, device=images.device)
        step: float | Tensor
        zero: float | Tensor
        if len(set(self.mean)) == len(set(self.std)) == 1:
            step, zero = 255 * self.std[0], self.mean[0] / self.std[0]
        else:
            step = _by_channel(tuple(255 * std for std in self.std), dtype, images.device)
            zeros = tuple(mean / std for mean, std in zip(self.mean, self.std, strict=True))
            zero = _by_channel(zeros, dtype, images.device)
        # A few at a time, on a CPU: they stay in its cache, on pages that are there already.
        large = images.shape[1:].numel() > SMALL
        few = CACHED if images.device.type == "cpu" and large else len(images)
        for start in range(0, len(images), max(few, 1)):
            part = slice(start, start + few)
            out[part].copy_(images[part]).div_(step).sub_(zero)
        return out


@cache
def _by_channel(numbers: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # kept for all later calls
        return torch.tensor(numbers, dtype=dtype, device=device)[:, None, None]
