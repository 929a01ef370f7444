"""Images per second of a training step on one CPU thread, as a Markdown table.

    python tests/benchmarks/bench_training.py [--rounds R] [--batch B]

A plain loop (float32 NCHW tensors from a DataLoader, ReLU before pooling, a Python loop over ten
Smooth-AP anchors, unfused Adam) against the project's step over all anchors, in float32 and
bfloat16. The variants take turns in one process; times are of this thread's CPU clock, so that
other work on the machine counts less. Images are random: the speed does not depend on them.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, RandomSampler, TensorDataset

sys.path.insert(0, str(Path(__file__).parents[2]))

from trainables.losses import smooth_ap_loss
from trainables.model import EmbeddingNet

ITEMS, TAU, RATE = 20_000, 0.01, 1e-3


def plain_smooth_ap(vectors: Tensor, labels: Tensor, anchors: int = 10) -> Tensor:
    """Mean loss of the first anchors, one at a time (Brown et al., ECCV 2020, eq. 6)."""
    losses = []
    for anchor in range(anchors):
        distances = (vectors - vectors[anchor]).square().sum(1)
        positive = labels == labels[anchor]
        near, far = distances[positive], distances[~positive]
        others = torch.arange(len(labels))[positive] != anchor
        near = near[others]
        if len(near) and len(far):
            before = torch.sigmoid((near[:, None] - near) / TAU).sum(1) - 0.5
            wrong = torch.sigmoid((near[:, None] - far) / TAU).sum(1)
            losses.append((wrong / (1 + before + wrong)).mean())
    return torch.stack(losses).mean()


def plain_step(images: Tensor, labels: Tensor, batch: int) -> Callable[[], None]:
    """The baseline's step."""
    torch.manual_seed(0)
    net = nn.Sequential(
        *(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()),
    )
    optimizer = torch.optim.Adam(net.parameters(), lr=RATE, foreach=False)
    data = TensorDataset(images[:, None] / 127.5 - 1, labels)
    forever = RandomSampler(data, replacement=True, num_samples=1 << 30)
    batches = iter(DataLoader(data, batch, sampler=forever))

    def step() -> None:
        pixels, targets = next(batches)
        loss = plain_smooth_ap(nn.functional.normalize(net(pixels)), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()

    return step


def fast_step(images: Tensor, labels: Tensor, batch: int, bfloat16: bool) -> Callable[[], None]:
    """The project's step: batches from one uint8 tensor, all anchors, fused Adam."""
    torch.manual_seed(0)
    net = EmbeddingNet()
    optimizer = torch.optim.Adam(net.parameters(), lr=RATE, fused=True)

    def step() -> None:
        rows = torch.randint(len(images), (batch,))
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            vectors = net.embed(images.index_select(0, rows))
        loss = smooth_ap_loss(vectors, labels.index_select(0, rows), tau=TAU)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--batch", type=int, default=64)
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    images = torch.randint(0, 256, (ITEMS, 28, 28), dtype=torch.uint8)
    labels = torch.randint(0, 10, (ITEMS,))
    steps = {
        "plain loop, float32, ten anchors": plain_step(images, labels, given.batch),
        "project, float32, all anchors": fast_step(images, labels, given.batch, False),
        "project, bfloat16, all anchors": fast_step(images, labels, given.batch, True),
    }
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(given.rounds):
        for name, step in steps.items():
            step()  # brings this variant's memory back into the caches
            start = time.thread_time()
            step()
            step()
            times[name].append((time.thread_time() - start) / 2)
    plain = next(iter(times.values()))
    print("| step | median ms | images/s | times the plain loop |")
    print("| --- | --- | --- | --- |")
    for name, mine in times.items():
        median = statistics.median(mine)
        ratio = statistics.median(p / m for p, m in zip(plain, mine, strict=True))
        row = f"{median * 1e3:.1f} | {given.batch / median:.0f} | {ratio:.2f}"
        print(f"| {name} | {row} |")


if __name__ == "__main__":
    main()
