"""A network and the loss that trains it: what a trial trains, averages and keeps."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from trainables import networks
from trainables.config import TrialConfig
from trainables.networks import Network, parameter_groups


class Learner(nn.Module):
    """Both have fresh weights that depend on the configuration's seed alone.

    Attributes:
        network: scaled pictures (B, C, H, W) → features (B, D), not of unit length.
        loss: (features, labels (B,)) → a scalar; with whatever weights of its own it has.

    Args:
        entry: of the network.
        classes: how many there are in training, numbered from 0.
    """

    def __init__(self, config: TrialConfig, entry: Network, classes: int) -> None:
        super().__init__()
        width = config.embedding_dim or entry.width
        with torch.random.fork_rng(devices=[]):  # the global random state stays
            torch.manual_seed(config.seed)
            self.network = entry.build(config.embedding_dim)
            self.loss = config.entry.build(config.loss_args, classes=classes, width=width)

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """The loss, in the features' precision whatever autocast says."""
        with torch.autocast(features.device.type, enabled=False):
            loss: Tensor = self.loss(features, labels)
        return loss


def network_of(config: TrialConfig, *, channels: int, size: tuple[int, int]) -> Network:
    """The entry of a configuration's network, for pictures of so many channels and this size.

    Raises:
        NetworkError: there is none, or it cannot take such pictures.
    """
    return networks.resolve(
        config.network, weights=config.weights, freeze=config.freeze, channels=channels, size=size
    )


def optimizer_of(config: TrialConfig, learner: Learner) -> torch.optim.Optimizer:
    """Over three groups, each at its own multiple of the learning rate: backbone, head, loss."""
    parts = parameter_groups(learner.network)
    own = [weight for weight in learner.loss.parameters() if weight.requires_grad]
    multiples = ((parts["backbone"], 1.0), (parts["head"], config.head_lr), (own, config.loss_lr))
    groups = [{"params": part, "lr": config.lr * times} for part, times in multiples if part]
    # Fused: one pass over all weights.
    common: dict[str, Any] = {"lr": config.lr, "weight_decay": config.weight_decay, "fused": True}
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=config.momentum or 0.0, **common)
    kind = torch.optim.Adam if config.optimizer == "adam" else torch.optim.AdamW
    return kind(groups, **common)


def average_of(config: TrialConfig, learner: Learner) -> AveragedModel | None:
    """The moving average of its weights, and of what batch norm has seen; None without one.

    After n steps its decay is at most (1 + n) / (10 + n), so that a short run's is not mostly of
    its first weights (as TensorFlow's ExponentialMovingAverage has it with `num_updates`).
    """
    if not config.averaging:
        return None

    def update(averages: Any, weights: Any, count: Any) -> None:
        steps = int(average.n_averaged)  # on the host, where `count` may be on a card
        decay = min(config.averaging, (1 + steps) / (10 + steps))
        get_ema_multi_avg_fn(decay)(averages, weights, count)

    average = AveragedModel(learner, multi_avg_fn=update, use_buffers=True)
    return average
