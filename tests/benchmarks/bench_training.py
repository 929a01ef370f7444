"""Images per second of the training step on one CPU thread, as a Markdown table.

    python tests/benchmarks/bench_training.py [--rounds R] [--steps S]

The plain loop (a DataLoader over float32 NCHW tensors, ReLU before pooling, a Python loop over the
first ten anchors, unfused Adam, batch 64) against the project's training run with all anchors, in
float32 and bfloat16, on Fashion-MNIST. The variants take turns in one process.

Also: which part of an epoch evaluation takes; how far the losses of the first 100 steps are from
the plain loop's, from the same weights and batches and with the same ten anchors, in the seed
study's three configurations; and how far the plain loop is from itself where its first weights
differ by their last bit.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.configurations import REFERENCES
from trainables.config import TrialConfig
from trainables.data import Split, resolve
from trainables.learner import Learner, network_of
from trainables.terminal import Parser
from trainables.train import TrainingRun


class PlainNetwork(nn.Module):
    """The network as one writes it down: NCHW, ReLU before pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()),
        )
        self.classifier = nn.Linear(256, 10)


def plain_loss(
    config: TrialConfig, network: PlainNetwork, images: Tensor, labels: Tensor
) -> Tensor:
    """The configured loss of one batch; metric losses take the first ten anchors in turn."""
    features = network.features(images)
    if config.loss == "cross_entropy":
        return F.cross_entropy(network.classifier(features), labels)
    embeddings = F.normalize(features)
    losses = []
    for anchor in range(10):
        distances = 2 - 2 * embeddings @ embeddings[anchor]
        positive = labels == labels[anchor]
        positive[anchor] = False
        near, far = distances[positive], distances[labels != labels[anchor]]
        if len(near) == 0 or len(far) == 0:
            continue
        if config.loss == "triplet":
            losses.append(F.relu(near[:, None] - far + config.loss_args["margin"]).sum())
        else:
            before = torch.sigmoid((near[:, None] - near) / config.loss_args["tau"]).sum(1) - 0.5
            wrong = torch.sigmoid((near[:, None] - far) / config.loss_args["tau"]).sum(1)
            top = wrong + (config.loss_args["numerator"] == "seed")
            losses.append((top / (1 + before + wrong)).mean())
    return torch.stack(losses).mean()


def plain_optimizer(config: TrialConfig, network: nn.Module) -> torch.optim.Optimizer:
    common = {"lr": config.lr, "weight_decay": config.weight_decay, "foreach": False}
    if config.optimizer == "sgd":
        return torch.optim.SGD(network.parameters(), momentum=config.momentum or 0.0, **common)
    return torch.optim.Adam(network.parameters(), **common)


class PlainLoop:
    """Trains as the seed study did; `steps(n)` gives the losses of the next n steps."""

    def __init__(self, config: TrialConfig, split: Split) -> None:
        torch.manual_seed(config.seed)
        self.config = config
        self.network = PlainNetwork()
        self.optimizer = plain_optimizer(config, self.network)
        images, labels = map(torch.from_numpy, (split.train.images, split.train.labels))
        data = TensorDataset(images / 127.5 - 1, labels)
        self.loader = DataLoader(data, config.batch_size, shuffle=True, drop_last=True)
        self.batches = iter(self.loader)

    def step(self, images: Tensor, labels: Tensor) -> float:
        loss = plain_loss(self.config, self.network, images, labels)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def epoch(self) -> list[float]:
        return [self.step(images, labels) for images, labels in self.loader]


def plain_losses(config: TrialConfig, split: Split, steps: int, factor: float = 1.0) -> Tensor:
    """Of the plain loop, from the project's first weights times a factor, on its batches."""
    plain = PlainLoop(config, split)
    entry = network_of(config, channels=1, size=(28, 28))
    first = Learner(config, entry, classes=10).state_dict()
    names = {f"network.trunk.conv{i + 1}": f"features.{3 * i}" for i in range(3)}
    names["loss.classifier"] = "classifier"  # of cross-entropy
    for name, tensor in first.items():
        module, kind = name.rsplit(".", 1)
        target = plain.network.get_submodule(names[module])
        getattr(target, kind).data.copy_(tensor * factor)
    images, labels = map(torch.from_numpy, (split.train.images, split.train.labels))
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(config.seed))
    batches = order.split(config.batch_size)[:steps]
    return torch.tensor([plain.step(images[rows] / 127.5 - 1, labels[rows]) for rows in batches])


def epoch_of(run: TrainingRun) -> Callable[[], object]:
    """Trains the run's next epoch, without judging it."""
    return lambda: run._train_steps(run.step + run.steps_per_epoch)


def largest_differences(config: TrialConfig, split: Split) -> list[float]:
    """To the plain loop's losses in steps 1 to 10 and 1 to 100: of the project's run, then of the
    plain loop itself, its first weights rounded otherwise."""
    expected = plain_losses(config, split, 100)
    found = TrainingRun(config.replace(precision="float32"), split)._train_steps(100)
    rounded = plain_losses(config, split, 100, 1 + torch.finfo(torch.float32).eps)
    return [
        float((losses - expected)[:steps].abs().max())
        for losses in (found, rounded)
        for steps in (10, 100)
    ]


def main() -> None:
    parser = Parser(description="Images per second of the training step.")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=30)
    given = parser.parse_args()
    torch.set_num_threads(1)
    split = resolve("fashion_mnist").split()
    config = REFERENCES["smooth_ap"].replace(lr=1e-3, numerator="paper")
    part = split.sliced(given.steps * config.batch_size, 1_000)
    fast = config.replace(anchors="all")
    epochs = {
        "plain loop, float32, ten anchors": PlainLoop(config, part).epoch,
        "project, float32, all anchors": epoch_of(
            TrainingRun(fast.replace(precision="float32"), part)
        ),
        "project, bfloat16, all anchors": epoch_of(
            TrainingRun(fast.replace(precision="bfloat16"), part)
        ),
    }
    times: dict[str, list[float]] = {name: [] for name in epochs}
    for _ in range(given.rounds + 1):
        for name, epoch in epochs.items():
            start = time.perf_counter()
            epoch()
            times[name].append((time.perf_counter() - start) / given.steps)
    plain = next(iter(times.values()))[1:]
    print("| step, batch 64, one thread | median ms | images/s | times the plain loop |")
    print("|---|--:|--:|--:|")
    for name, measured in times.items():
        mine = measured[1:]  # the first round warms up
        median = statistics.median(mine)
        ratio = statistics.median(p / m for p, m in zip(plain, mine, strict=True))
        print(f"| {name} | {median * 1e3:.1f} | {64 / median:.0f} | {ratio:.2f} |")
    print("\n| one epoch, all images | s | of which evaluation, s | share |")
    print("|---|--:|--:|--:|")
    for precision in ("float32", "bfloat16"):
        epoch = TrainingRun(fast.replace(precision=precision), split).train_epoch()
        share = epoch.evaluation_seconds / epoch.seconds
        print(
            f"| {precision} | {epoch.seconds:.1f} | {epoch.evaluation_seconds:.1f} | {share:.0%} |"
        )
    print(
        "\nLargest difference to the plain loop's losses in so many steps, seed study's settings:\n"
    )
    print("| loss | project, 1 to 10 | 1 to 100 | plain, 1 ulp off, 1 to 10 | 1 to 100 |")
    print("|---|--:|--:|--:|--:|")
    for loss, reference in REFERENCES.items():
        differences = largest_differences(reference, split_of(split))
        print(f"| {loss} |", " | ".join(f"{value:.1e}" for value in differences), "|")


def split_of(split: Split) -> Split:
    """100 batches of 64."""
    return split.sliced(6_400, 1_000)


if __name__ == "__main__":
    main()
