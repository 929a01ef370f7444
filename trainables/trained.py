"""A network that was trained: from its checkpoint, and the embeddings that it makes."""

from __future__ import annotations

import math
import pickle
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from trainables.augment import centre_crop
from trainables.config import TrialConfig
from trainables.data import LabelledImages
from trainables.learner import network_of
from trainables.networks import Embedder
from trainables.retrieval import unit_length
from trainables.terminal import bar, in_a_line

# Images at a time where no gradient is needed: so many, or those of so many numbers together.
EMBEDDING_BATCH, EMBEDDED_NUMBERS = 1_000, 10_000_000
ORIGIN = "trained_on"  # what a file of weights calls the `Origin` in its metadata


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What `TrainingRun.save` wrote.

    Raises:
        ValueError: the file is missing, damaged, or something else.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # whose advice is to let the file run code
        raise ValueError(f"checkpoint {path} cannot be read: it is no file of weights") from error
    except Exception as error:  # torch raises many kinds for a damaged file
        raise ValueError(f"checkpoint {path} cannot be read: {in_a_line(error)}") from error
    if not isinstance(state, dict) or not {"config", "network"} <= set(state):
        raise ValueError(f"{path} is not a checkpoint of a trial: it holds something else")
    return state


class Origin(NamedTuple):
    """What a network was trained on.

    Attributes:
        dataset: the name of the data, as configurations have it.
        data: its fingerprint, as a split has it; None: from before it was kept.
        classes: that were trained on, ascending, as the data numbers them; of a checkpoint from
            before these were kept, how many.
        names: theirs; empty where the split has none.
        same_classes: whether the images that judged it were of these classes; None: not known.
    """

    dataset: str
    data: str | None
    classes: list[int] | int
    names: list[str]
    same_classes: bool | None


class Trained(NamedTuple):
    """What a checkpoint holds of a trial.

    Attributes:
        config: of the trial.
        network: with the weights of that epoch, in evaluation mode, on the CPU.
        epoch: at which it was kept.
        shape: (C, H, W) of the pictures that it was trained on.
        origin: what else is known of these.
    """

    config: TrialConfig
    network: Embedder
    epoch: float
    shape: tuple[int, int, int]
    origin: Origin


def load_trained(path: Path) -> Trained:
    """What a checkpoint holds.

    Raises:
        ValueError: as `read_checkpoint`, or the weights are of another network.
    """
    state = read_checkpoint(path)
    config = TrialConfig.from_dict(state["config"])
    channels, *size = state["shape"]
    bare = config.replace(weights="none", freeze="none")  # its weights come from the checkpoint
    network = network_of(bare, channels=channels, size=tuple(size)).build(config.embedding_dim)
    try:
        network.load_state_dict(state["network"])
    except RuntimeError as error:
        law = f"{path} has the weights of another network"
        raise ValueError(f"{law}: {in_a_line(error)}") from error
    origin = Origin(
        config.dataset,
        state.get("data"),
        state["classes"],
        state.get("class_names", []),
        state.get("same_classes"),
    )
    return Trained(config, network.eval(), state["epoch"], tuple(state["shape"]), origin)


def repeat_exactly(kind: str) -> None:
    """On a device of a kind, `cuda` or `cpu`: of a card the same numbers again, and float32 that is
    float32."""
    if kind == "cuda":
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.allow_tf32 = False


@torch.no_grad()
def embed(network: Embedder, images: LabelledImages, *, mirror: bool = False) -> Tensor:
    """The unit embeddings (N, D) of images, in float32; made on a card if there is one, given on
    the CPU.

    Args:
        mirror: of each picture mirrored left to right.
    """
    pixels, found = images.tensor(), []
    with bar(len(images), "embedded") as shown:
        for rows in torch.from_numpy(images.rows).split(embedding_batch(images.shape)):
            batch = pixels.index_select(0, rows)
            found.append(_features(network, batch.flip(3) if mirror else batch))
            shown.update(len(rows))
    return unit_length(torch.cat(found))


@torch.no_grad()
def embed_pixels(network: Embedder, pixels: Tensor) -> Tensor:
    """The same of pixels (N, C, H, W) uint8 that are in memory."""
    parts = pixels.split(embedding_batch((pixels.shape[1], pixels.shape[2], pixels.shape[3])))
    return unit_length(torch.cat([_features(network, part) for part in parts]))


def _features(network: Embedder, pixels: Tensor) -> Tensor:
    """(B, C, H, W) uint8 → (B, D) float32 on the CPU, not of unit length."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    repeat_exactly(device)
    network, wants = network.eval().to(device), network.input
    batch = centre_crop(pixels, wants.height, wants.width)
    return network(wants.scale(batch.to(device))).cpu()


def embedding_batch(shape: tuple[int, int, int]) -> int:
    """How many images (C, H, W) are embedded at a time, so that they fit into memory."""
    return max(1, min(EMBEDDING_BATCH, EMBEDDED_NUMBERS // math.prod(shape)))
