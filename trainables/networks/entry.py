"""What the rest of the project knows of a network: its input, its width, how it is built."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn

from trainables.networks.embedder import Embedder

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

    @property
    def crop_share(self) -> float:
        """The central crop's smaller side as a share of the resized picture's, in (0, 1]."""
        return min(self.height, self.width) / self.resize

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


@dataclass(frozen=True)
class Backbone:
    """What a file of this package says of one of its networks.

    Attributes:
        input: what it takes.
        width: D of its features.
        fresh: makes the module (B, C, H, W) → (B, D) with random weights, drawn from torch's
            global random state.
        default: the same with the weights that it comes with, NetworkError where they cannot be
            had; None if it comes with none.
        pretrained: whether those have been trained; None where nobody knows.
        lr: Adam's learning rate for fresh weights.
    """

    input: Input
    width: int
    fresh: Callable[[], nn.Module]
    default: Callable[[], nn.Module] | None
    pretrained: bool | None = True
    lr: float = 1e-3


@dataclass(frozen=True)
class Network:
    """A network by name with its weights: all that the rest of the project knows of it.

    Attributes:
        title: its name as it was given.
        input: the pictures that it takes.
        width: of its features without a head.
        lr: the default of Adam's learning rate.
        pretrained: whether its first weights were trained before.
        freeze: which weights stay: `none`, `bn`, `stem` or `backbone`.
        trunk: makes the module (B, C, H, W) → (B, width).
    """

    title: str
    input: Input
    width: int
    lr: float
    pretrained: bool
    freeze: str
    trunk: Callable[[], nn.Module]

    def build(self, embedding_dim: int | None = None) -> Embedder:
        """The module (B, C, H, W) of scaled pictures → (B, embedding_dim), not of unit length.

        Random weights are drawn from torch's global random state, the trunk's before the head's.

        Args:
            embedding_dim: of the linear head; None has no head and gives (B, width).

        Raises:
            NetworkError: the weights cannot be had or are another network's, or nothing of the
                network would be trained.
            ValueError: embedding_dim is not an integer >= 1.
        """
        if embedding_dim is not None and (not isinstance(embedding_dim, int) or embedding_dim < 1):
            raise ValueError(
                f"embedding_dim must be an integer >= 1, or None; got {embedding_dim!r}"
            )
        if self.freeze == "backbone" and embedding_dim is None:
            raise NetworkError(
                f"{self.title}: freeze backbone leaves nothing to train without an embedding_dim"
            )
        return Embedder(self.trunk(), self.input, self.width, embedding_dim, self.freeze)


def measure_width(
    title: str,
    make: Callable[[], nn.Module],
    wants: Input,
    devices: tuple[str, ...] = ("meta", "cpu"),
) -> int:
    """D of the features (B, D) that a module gives for its input.

    Args:
        title: of the network, for messages.
        make: makes the module.
        wants: the input.
        devices: tried in turn; on `meta` nothing is computed, but some modules cannot be made on
            it.

    Raises:
        NetworkError: it cannot take such pictures, or gives something else.
    """
    shape = (2, wants.channels, wants.height, wants.width)
    for device in devices:
        try:
            features = _features(make, shape, device)
            break
        except NetworkError:
            raise
        except Exception as error:  # a module may raise anything for a size that it cannot take
            failure = error
    else:
        reason = (str(failure).splitlines() or [type(failure).__name__])[0]
        raise NetworkError(f"{title} cannot take pictures {shape[1:]}: {reason}") from failure
    if not isinstance(features, Tensor) or features.ndim != 2 or len(features) != 2:
        got = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise NetworkError(f"{title} must give (B, D) for pictures {shape}; got {got}")
    return features.shape[1]


def _features(make: Callable[[], nn.Module], shape: tuple[int, ...], device: str) -> object:
    with torch.random.fork_rng(devices=[]), torch.no_grad(), torch.device(device):
        return make().eval()(torch.zeros(shape))
