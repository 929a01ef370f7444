"""A trunk and its head: what is built, what of it stays as it is, what is trained at which rate."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from trainables.networks.input import Input

FREEZES = ("none", "bn", "stem", "backbone")  # each keeps what the one before keeps, and more


class Embedder(nn.Module):
    """Pictures, scaled as the network wants them → embeddings, not scaled to unit length.

    Attributes:
        input: the pictures that it takes.
        width: D of its embeddings.

    Args:
        trunk: (B, C, H, W) → (B, width).
        wants: its input.
        width: of the trunk's features.
        embedding_dim: of the linear head on them; None for no head.
        freeze: what keeps its weights, statistics and evaluation mode, also after `train()`:
            `none`; `bn`, every batch norm; `stem`, also the first convolution and its norm;
            `backbone`, the whole trunk.
    """

    def __init__(
        self,
        trunk: nn.Module,
        wants: Input,
        width: int,
        embedding_dim: int | None,
        freeze: str = "none",
    ) -> None:
        super().__init__()
        self.input = wants
        self.width = width if embedding_dim is None else embedding_dim
        self.trunk = trunk
        self.head = nn.Identity() if embedding_dim is None else nn.Linear(width, embedding_dim)
        self.freeze = freeze
        for part in _frozen(trunk, freeze):
            part.requires_grad_(False)
        self.to(memory_format=torch.channels_last)
        self.train()

    def train(self, mode: bool = True) -> Embedder:
        super().train(mode)
        for part in _frozen(self.trunk, self.freeze):
            part.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) → (B, D) in the pictures' dtype.

        Under autocast the trunk is computed in its dtype, and the head in the pictures'.
        """
        features = self.trunk(images.contiguous(memory_format=torch.channels_last))
        with torch.autocast(images.device.type, enabled=False):
            return self.head(features.to(images.dtype))


def parameter_groups(network: Embedder) -> dict[str, list[nn.Parameter]]:
    """The weights to train, `backbone` and `head`, in the network's order; frozen ones in none."""
    parts = {"backbone": network.trunk, "head": network.head}
    return {
        name: [weight for weight in part.parameters() if weight.requires_grad]
        for name, part in parts.items()
    }


def _frozen(trunk: nn.Module, freeze: str) -> list[nn.Module]:
    if freeze == "none":
        return []
    if freeze == "backbone":
        return [trunk]
    norms: list[nn.Module] = [part for part in trunk.modules() if isinstance(part, _BatchNorm)]
    return norms if freeze == "bn" else norms + _stem(trunk)


def _stem(trunk: nn.Module) -> list[nn.Module]:
    """The first convolution, what comes before it, and the norm after it."""
    norms = (_BatchNorm, nn.LayerNorm, nn.GroupNorm)
    layers = list[nn.Module](
        part for part in trunk.modules() if isinstance(part, (_ConvNd, *norms))
    )
    first = next((i for i, part in enumerate(layers) if isinstance(part, _ConvNd)), None)
    if first is None:
        raise ValueError("freeze stem needs a network with a convolution")
    normed = first + 1 < len(layers) and isinstance(layers[first + 1], norms)
    return layers[: first + 1 + normed]
