"""The training run: a configuration and a split in, metrics for every epoch out. No Ray in it.

    for metrics in TrainingRun(config, split):
        print(metrics.epoch, metrics.val_map)

A run depends on its configuration and the split alone, not on what the process did before; a
run that is loaded from a checkpoint gives the same numbers as one that was never interrupted.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainables.augment import Augmentation, change
from trainables.batches import check_room, draw_order
from trainables.config import TrialConfig
from trainables.data import LabelledImages, Split
from trainables.learner import Learner, average_of, network_of, optimizer_of
from trainables.metrics import evaluate_retrieval
from trainables.networks import Embedder, seeded
from trainables.retrieval import unit_length

EMBEDDING_BATCH = 1_000  # images at a time where no gradient is needed


class DivergedError(RuntimeError):
    """A loss that is not finite, or features whose length is not; the message has the step, the
    configuration and the last finite loss."""


@dataclass(frozen=True)
class EpochMetrics:
    """One epoch. Losses are means over batches, `val_loss` None where the loss is not defined on
    the validation images; `val_map` is mAP with these as queries and gallery; `images_per_second`
    is of the training part alone; `precision` is the one that `auto` came to."""

    epoch: int
    train_loss: float
    val_loss: float | None
    val_map: float
    seconds: float
    evaluation_seconds: float
    images_per_second: float
    precision: str

    def describe(self) -> str:
        """One line for a log."""
        loss = "" if self.val_loss is None else f"validation loss {self.val_loss:.5f}  "
        return (
            f"epoch {self.epoch}  training loss {self.train_loss:.5f}  "
            f"{loss}validation mAP {self.val_map:.4f}  "
            f"{self.seconds:.1f} s  {self.images_per_second:.0f} images/s"
        )


class TrainingRun:
    """Trains one configuration; iterating it gives an `EpochMetrics` for each epoch that is left.

    Args:
        config: the trial.
        split: training and validation images; a loss that knows classes learns those of training.
        device: `cpu` or `cuda`; the images are resident on it.

    Raises:
        ValueError: the data does not hold what the configuration takes of it, or there is no such
            network.
        DivergedError: while iterating, when a loss or the length of an image's features is not
            finite.
    """

    def __init__(self, config: TrialConfig, split: Split, device: str = "cpu") -> None:
        check_room(config, split)
        self.config = config
        self.epoch = 0
        self.device = torch.device(device)
        if self.device.type == "cuda":  # the same numbers again, and float32 that is float32
            torch.backends.cudnn.deterministic = True
            torch.backends.cudnn.allow_tf32 = False
        self.precision = resolve_precision(config.precision, self.device)
        self.split = split.renumbered()
        self.images, self.labels = self.split.train.tensors(self.device)
        self.val_images, self.val_labels = self.split.validation.tensors(self.device)
        self.shape = split.train.shape
        entry = network_of(config, channels=self.shape[0], size=self.shape[1:])
        self.learner = Learner(config, entry, self.split.trained).to(self.device)
        self.optimizer = optimizer_of(config, self.learner)
        self.steps_per_epoch = len(split.train) // config.batch_size
        self.schedule = _schedule(config, self.optimizer, config.epochs * self.steps_per_epoch)
        self.average = average_of(config, self.learner)
        self.order = torch.Generator().manual_seed(config.seed)  # of the images, on the CPU
        self.changes = torch.Generator().manual_seed(_stream(config.seed, 1))
        self.noise = torch.Generator().manual_seed(_stream(config.seed, 2))  # drop-out, say
        self.last_finite: float | None = None

    def __iter__(self) -> Iterator[EpochMetrics]:
        while self.epoch < self.config.epochs:
            yield self.train_epoch()

    def train_epoch(self) -> EpochMetrics:
        """One pass over the training images, then the metrics on the validation images."""
        start = time.perf_counter()
        losses = self._train_steps()
        train_loss = self._finite_mean(losses, "training")
        trained = time.perf_counter()
        val_loss, val_map = self._validate()
        end = time.perf_counter()
        self.epoch += 1
        return EpochMetrics(
            epoch=self.epoch,
            train_loss=train_loss,
            val_loss=val_loss,
            val_map=val_map,
            seconds=end - start,
            evaluation_seconds=end - trained,
            images_per_second=self.steps_per_epoch * self.config.batch_size / (trained - start),
            precision=self.precision,
        )

    def save(self, path: Path) -> None:
        """Writes a checkpoint: whole, or not at all."""
        judged = self.judged
        state = {
            "config": self.config.to_dict(),
            "shape": self.shape,
            "classes": self.split.trained,
            "epoch": self.epoch,
            "last_finite": self.last_finite,
            "network": judged.network.state_dict(),
            "loss": judged.loss.state_dict(),
            "trained": None if self.average is None else self.learner.state_dict(),
            "averaged": None if self.average is None else self.average.n_averaged,
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "order": self.order.get_state(),
            "changes": self.changes.get_state(),
            "noise": self.noise.get_state(),
        }
        partial = path.with_suffix(".partial")
        torch.save(state, partial)
        os.replace(partial, path)

    def load(self, path: Path) -> None:
        """Goes on from a checkpoint of the same configuration; ValueError if it is another's."""
        state = read_checkpoint(path)
        if state["config"] != self.config.to_dict():
            raise ValueError(f"checkpoint {path} belongs to {state['config']}, not to this trial")
        mine, theirs = self.split.trained, state["classes"]
        if mine != theirs:
            raise ValueError(f"checkpoint {path} must be of {mine} classes; it is of {theirs}")
        self.epoch = state["epoch"]
        self.last_finite = state["last_finite"]
        self.judged.network.load_state_dict(state["network"])
        self.judged.loss.load_state_dict(state["loss"])
        if self.average is not None:
            self.learner.load_state_dict(state["trained"])
            self.average.n_averaged.copy_(state["averaged"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.order.set_state(state["order"])
        self.changes.set_state(state["changes"])
        self.noise.set_state(state["noise"])

    @property
    def judged(self) -> Learner:
        """What is evaluated and kept: of the averaged weights, if there are."""
        return self.learner if self.average is None else self.average.module  # type: ignore[return-value]

    def _train_steps(self) -> Tensor:
        """All steps of an epoch; their losses (steps,), still on the device."""
        self.learner.train()
        size = self.config.batch_size
        order = draw_order(self.labels.cpu(), self.config, self.order).to(self.device)
        height, width = self.images.shape[1:]
        augmentation = Augmentation(self.config.flip, self.config.shift, self.config.erase)
        changes = augmentation.draw(order.numel(), height, width, self.changes).to(self.device)
        losses = torch.empty(self.steps_per_epoch, device=self.device)
        for step, rows in enumerate(order):
            part = changes.take(slice(step * size, (step + 1) * size))
            images = change(self.images.index_select(0, rows).unsqueeze(1), part)
            with seeded(self.noise, self.device):
                features = self._features(self.learner.network, images)
            loss = self.learner(features, self.labels.index_select(0, rows))
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
            self.schedule.step()
            if self.average is not None:
                self.average.update_parameters(self.learner)
            losses[step] = loss.detach()
        return losses

    def _features(self, network: Embedder, images: Tensor) -> Tensor:
        low = self.precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=low):
            return network(network.input.scale(images))

    @torch.no_grad()
    def _validate(self) -> tuple[float | None, float]:
        """The same loss over batches of the validation images, None where it is not defined on
        their classes; and their mAP."""
        learner = self.judged.eval()
        images = self.val_images.unsqueeze(1).split(EMBEDDING_BATCH)
        features = torch.cat([self._features(learner.network, batch) for batch in images])
        val_loss = self._validation_loss(learner, features)
        lengths = features.square().sum(1)
        if not lengths.isfinite().all():  # which unit length would hide, as a vector of zeros
            raise self._diverged("an image's features became too long for float32", "at its end")
        embeddings = unit_length(features)
        itself = torch.arange(len(embeddings), device=self.device)
        result = evaluate_retrieval(
            embeddings, self.val_labels, embeddings, self.val_labels, query_index=itself
        )
        return val_loss, result.mean_average_precision

    def _validation_loss(self, learner: Learner, features: Tensor) -> float | None:
        if self.config.entry.knows_classes and not self.split.same_classes:
            return None
        size = self.config.batch_size
        losses = [
            learner(features[i : i + size], self.val_labels[i : i + size])
            for i in range(0, len(features) - size + 1, size)
        ]
        return self._finite_mean(torch.stack(losses), "validation")

    def _finite_mean(self, losses: Tensor, part: str) -> float:
        finite = torch.isfinite(losses)
        if finite.all():
            self.last_finite = float(losses[-1])
            return float(losses.mean())
        step = int(finite.int().argmin())
        if step > 0:
            self.last_finite = float(losses[step - 1])
        what = f"the {part} loss became {float(losses[step])}"
        raise self._diverged(what, f"step {step + 1} of {len(losses)}")

    def _diverged(self, what: str, where: str) -> DivergedError:
        return DivergedError(
            f"{what} in epoch {self.epoch + 1}, {where}; the last finite value was "
            f"{self.last_finite}; configuration: {self.config.describe()}"
        )


def resolve_precision(precision: str, device: torch.device) -> str:
    """`float32` or `bfloat16`: `auto` is bfloat16 where it is faster on the device."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        # AVX-512's bfloat16 products run at twice the rate of float32's on AMD's cores, at half of
        # it on Intel's, whose fast unit for them is AMX (which virtual machines may hide).
        cpu = torch.cpu.get_capabilities()
        amd = cpu.get("cpu_name", "").startswith("AMD")
        fast = cpu.get("amx_bf16", False) or (cpu.get("avx512_bf16", False) and amd)
    return "bfloat16" if fast else "float32"


@torch.no_grad()
def embed(network: Embedder, data: LabelledImages) -> Tensor:
    """The unit embeddings (N, D) of images, on the CPU in float32."""
    network.eval()
    batches = data.tensors()[0].unsqueeze(1).split(EMBEDDING_BATCH)
    return unit_length(torch.cat([network(network.input.scale(batch)) for batch in batches]))


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What `TrainingRun.save` wrote; ValueError names a file that is missing or damaged."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged file
        reason = str(error).splitlines()[0]
        raise ValueError(f"checkpoint {path} cannot be read: {reason}") from error


def load_network(path: Path) -> tuple[TrialConfig, Embedder]:
    """The configuration and the trained network of a checkpoint."""
    state = read_checkpoint(path)
    config = TrialConfig.from_dict(state["config"])
    channels, *size = state["shape"]
    bare = config.replace(weights="none", freeze="none")  # its weights come from the checkpoint
    network = network_of(bare, channels=channels, size=tuple(size)).build(config.embedding_dim)
    network.load_state_dict(state["network"])
    return config, network.eval()


def _stream(seed: int, number: int) -> int:
    """The seed of one of several streams of random numbers, independent of `seed`'s own.

    That one draws the initial weights and, anew from its beginning, the order of the images.
    """
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])


def _schedule(
    config: TrialConfig, optimizer: torch.optim.Optimizer, steps: int
) -> torch.optim.lr_scheduler.LRScheduler:
    rising = min(round(config.warmup * steps), steps - 1)

    def factor(step: int) -> float:
        if step < rising:
            return (step + 1) / (rising + 1)
        if config.schedule == "constant":
            return 1.0
        return 0.5 * (1 + math.cos(math.pi * (step - rising) / (steps - rising)))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
