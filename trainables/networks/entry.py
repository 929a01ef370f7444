"""What the rest of the project knows of a network: its input, its width, how it is built."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trainables.networks.embedder import Embedder, parameter_groups
from trainables.networks.input import Input, NetworkError
from trainables.terminal import in_a_line


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
    return _features_of(title, features, shape).shape[1]


def check_trainable(title: str, network: Embedder) -> None:
    """Computes two black pictures forward and backward in training mode, of which nothing stays:
    no gradient, nothing in a batch norm's statistics or the random state.

    Args:
        title: of the network, for messages.

    Raises:
        NetworkError: it cannot be computed so, gives something else than (B, D), or nothing of it
            would be trained.
    """
    wants, parts = network.input, parameter_groups(network)
    shape = (2, wants.channels, wants.height, wants.width)
    if not any(parts.values()):
        raise NetworkError(f"{title} has no weights that could be trained, nor a head")
    before = {name: one.clone() for name, one in network.state_dict().items()}
    try:
        with torch.random.fork_rng(devices=[]):
            found = network.train().trunk(torch.zeros(shape))
            features = _features_of(title, found, shape, ", in training too")
            if parts["backbone"] and not features.requires_grad:
                law = f"{title} must keep its gradients in training"
                raise NetworkError(f"{law}; its features have none (no_grad, or detached)")
            if parts["backbone"]:
                torch.autograd.grad(features.sum(), parts["backbone"], allow_unused=True)
    except NetworkError:
        raise
    except Exception as error:  # a module may raise anything
        law = f"{title} cannot be trained on pictures {shape[1:]}"
        raise NetworkError(f"{law}: {in_a_line(error)}") from error
    finally:
        network.load_state_dict(before)


def _features_of(title: str, found: object, shape: tuple[int, ...], when: str = "") -> Tensor:
    """What a module gave for pictures of a shape, once it is (B, D)."""
    if isinstance(found, Tensor) and found.ndim == 2 and len(found) == shape[0]:
        return found
    got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
    raise NetworkError(f"{title} must give (B, D) for pictures {shape}{when}; got {got}")


def _features(make: Callable[[], nn.Module], shape: tuple[int, ...], device: str) -> object:
    with torch.random.fork_rng(devices=[]), torch.no_grad(), torch.device(device):
        return make().eval()(torch.zeros(shape))
