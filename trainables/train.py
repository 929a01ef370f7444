"""The training run: a configuration and a split in, metrics for every epoch out. No Ray in it.

    for metrics in TrainingRun(config, split):
        print(metrics.epoch, metrics.val_map)

or, judged where it is asked to be, TrainingRun(config, split).train_until(1 / 3).

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
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from trainables.augment import Augmentation, Changes, centre_crop, change
from trainables.batches import check_room, draw_order, positives
from trainables.config import TrialConfig
from trainables.data import LabelledImages, Split
from trainables.data.images import Rows
from trainables.learner import Learner, average_of, network_of, optimizer_of
from trainables.losses.distillation import similarity_loss
from trainables.metrics import METRICS, RetrievalResult, evaluate_roles
from trainables.networks import Embedder, seeded
from trainables.networks.randomness import drawn_seed
from trainables.replay import Replay, can_replay
from trainables.retrieval import unit_length
from trainables.terminal import few
from trainables.trained import embedding_batch, read_checkpoint, repeat_exactly

TOGETHER = 4  # images of a class where a validation batch is to hold several classes
RESIDENT_SHARE = 0.25  # of a trial's memory on a card that its pixels may take


class DivergedError(RuntimeError):
    """A loss that is not finite, or features whose length is not; the message has the step, the
    configuration and the last finite loss."""


@dataclass(frozen=True)
class EpochMetrics:
    """How a run is after so many epochs, or a part of one. Losses are means over batches, those in
    training since it was judged before; `val_loss` is None where the loss is not defined on the
    validation images; `val_<metric>` are `trainables.metrics.METRICS` of these in their
    roles; `images_per_second` is of training alone; `precision` is what `auto` came to."""

    epoch: float
    train_loss: float
    val_loss: float | None
    val_map: float
    val_map_at_r: float
    val_r_precision: float
    val_recall_at_1: float
    val_recall_at_2: float
    val_recall_at_4: float
    val_recall_at_8: float
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


class Drawn(NamedTuple):
    """An epoch: of each step and each of its images.

    Attributes:
        places: (steps, batch) among the training images, on the device.
        rows: (steps, batch) of the pixels, where these are.
        labels: (steps, batch) on the device.
        changes: of all, one after the other.
    """

    places: Tensor
    rows: Tensor
    labels: Tensor
    changes: Changes


class TrainingRun:
    """Trains one configuration; iterating it gives an `EpochMetrics` for each epoch that is left.

    Args:
        config: the trial.
        split: training and validation images; a loss that knows classes learns those of training.
        device: `cpu` or `cuda`; the images are resident on it if they take a quarter of it at most.

    Raises:
        ValueError: the data does not hold what the configuration takes of it, or there is no such
            network.
        DivergedError: while iterating, when a loss or the length of an image's features is not
            finite.
    """

    def __init__(self, config: TrialConfig, split: Split, device: str = "cpu") -> None:
        check_room(config, split)
        self.config = config
        self.epoch: float = 0  # at which it was judged last
        self.step = 0
        self.device = torch.device(device)
        repeat_exactly(self.device.type)
        self.precision = resolve_precision(config.precision, self.device)
        self.classes = split.trained  # as the data numbers them
        self.data = split.data
        self.class_names = [split.classes[one] for one in self.classes if split.classes]
        self.split = split.renumbered()
        self.pixels = _resident(split.train, self.device)
        self.val_pixels = self.pixels
        if split.validation.pixels is not split.train.pixels:
            self.val_pixels = _resident(split.validation, self.device)
        self.rows = torch.from_numpy(self.split.train.rows)
        self.labels = torch.from_numpy(self.split.train.labels)
        self.targets = _targets(config, split, self.device)
        side = config.image_size
        size = split.shape[1:] if side is None else (side, side)
        entry = network_of(config, channels=split.shape[0], size=size)
        self.shape = (split.shape[0], entry.input.height, entry.input.width)
        self.learner = Learner(config, entry, len(self.classes)).to(self.device)
        self.optimizer = optimizer_of(config, self.learner)
        self.steps_per_epoch = len(split.train) // config.batch_size
        self.steps = max(1, round(config.epochs * self.steps_per_epoch))
        self.schedule = _schedule(config, self.optimizer, self.steps)
        self.average = average_of(config, self.learner)
        self.order = torch.Generator().manual_seed(config.seed)  # of the images, on the CPU
        self.changes = torch.Generator().manual_seed(_stream(config.seed, 1))
        self.noise = torch.Generator().manual_seed(_stream(config.seed, 2))  # drop-out, say
        self.is_judging = False
        self.last_finite: float | None = None
        self.drawn: Drawn | None = None  # the epoch that is under way
        self.replays = can_replay(config, self.learner, self.device)
        self.replay: Replay | None = None
        # Of a batch, by name and device, which stay from step to step.
        self.buffers: dict[tuple[str, torch.device], Tensor] = {}
        self.copied: torch.cuda.Event | None = None  # the last batch, from memory to a card

    def __iter__(self) -> Iterator[EpochMetrics]:
        while self.step < self.steps:
            yield self.train_epoch()

    def train_epoch(self) -> EpochMetrics:
        """To the next whole epoch, or to the end of the run, if no step lies between the two."""
        whole = math.floor(self.epoch) + 1
        ends = round(whole * self.steps_per_epoch) >= self.steps
        return self.train_until(self.config.epochs if ends else whole)

    def train_until(self, epoch: float) -> EpochMetrics:
        """Trains to so many epochs, rounded to whole steps, then judges on the validation images.

        Raises:
            ValueError: so many epochs were trained already, or are not to be.
        """
        if not self.epoch < epoch <= self.config.epochs:
            law = f"a run that has had {self.epoch:g} of {self.config.epochs:g} epochs goes on"
            raise ValueError(f"{law} to one between; got {epoch:g}")
        start = time.perf_counter()
        last = self.steps if epoch == self.config.epochs else round(epoch * self.steps_per_epoch)
        losses = self._train_steps(max(last, self.step + 1))
        train_loss = self._finite_mean(losses, "training")
        trained = time.perf_counter()
        self.is_judging = True
        val_loss, result = self._judge()
        self.is_judging = False
        scores = {f"val_{name}": metric.mean(result) for name, metric in METRICS.items()}
        end = time.perf_counter()
        self.epoch = epoch
        return EpochMetrics(
            epoch=epoch,
            train_loss=train_loss,
            val_loss=val_loss,
            **scores,
            seconds=end - start,
            evaluation_seconds=end - trained,
            images_per_second=len(losses) * self.config.batch_size / (trained - start),
            precision=self.precision,
        )

    def save(self, path: Path) -> None:
        """Writes a checkpoint: whole, or not at all."""
        judged = self.judged
        state = {
            "config": self.config.to_dict(),
            "shape": self.shape,
            "classes": self.classes,
            "data": self.data,
            "class_names": self.class_names,
            "same_classes": self.split.same_classes,
            "epoch": self.epoch,
            "step": self.step,
            "precision": self.precision,
            "last_finite": self.last_finite,
            "network": judged.network.state_dict(),
            "loss": judged.loss.state_dict(),
            "trained": None if self.average is None else self.learner.state_dict(),
            "averaged": None if self.average is None else self.average.n_averaged,
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "order": self.began[0] if self._is_within else self.order.get_state(),
            "changes": self.began[1] if self._is_within else self.changes.get_state(),
            "noise": self.noise.get_state(),
        }
        partial = path.with_suffix(".partial")
        torch.save(state, partial)
        os.replace(partial, path)

    def load(self, path: Path) -> None:
        """Goes on from a checkpoint of the same configuration, in the precision that it began in;
        ValueError if it is another's."""
        state = read_checkpoint(path)
        if TrialConfig.from_dict(state["config"]) != self.config:
            raise ValueError(f"checkpoint {path} belongs to {state['config']}, not to this trial")
        theirs = state["classes"]
        if theirs not in (self.classes, len(self.classes)):  # a count: from before they were kept
            law = f"must be of the {len(self.classes)} classes {few(self.classes)}"
            found = theirs if isinstance(theirs, int) else few(theirs)
            raise ValueError(f"checkpoint {path} {law}; it is of {found}")
        began = state.get("precision", self.precision)  # of one from before it was kept: as here
        if began != self.precision:
            print(
                f"goes on in {began}, as it began; auto would be {self.precision} here", flush=True
            )
            self.precision = began
        self.replay = None  # which works on the optimizer's state as it was
        self.epoch, self.step = state["epoch"], state["step"]
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
        self.drawn = self._draw_epoch() if self._is_within else None
        self.noise.set_state(state["noise"])

    @property
    def judged(self) -> Learner:
        """What is evaluated and kept: of the averaged weights, if there are."""
        return self.learner if self.average is None else self.average.module  # type: ignore[return-value]

    @property
    def _is_within(self) -> bool:
        """Whether the run stands within an epoch, not between two."""
        return self.step % self.steps_per_epoch > 0

    def _draw_epoch(self) -> Drawn:
        """All at once: a copy to a card halts it, so there is one an epoch, not one a step."""
        self.began = self.order.get_state(), self.changes.get_state()
        config = self.config
        order = draw_order(self.labels, config, self.order)
        augmentation = Augmentation(
            config.flip, config.shift, config.erase, config.crop, config.jitter
        )
        changes = augmentation.draw(
            order.numel(), *self.split.shape[1:], self.changes, size=self.shape[1:]
        )
        rows, labels = self.rows[order].to(self.pixels.device), self.labels[order].to(self.device)
        return Drawn(order.to(self.device), rows, labels, changes.to(self.device))

    def _train_steps(self, last: int) -> Tensor:
        """All steps up to a last one; their losses (steps,), still on the device."""
        self.learner.train()
        size, losses = self.config.batch_size, []
        while self.step < last:
            if self.drawn is None or not self._is_within:
                self.drawn = self._draw_epoch()
            drawn, place = self.drawn, self.step % self.steps_per_epoch
            part = drawn.changes.take(slice(place * size, (place + 1) * size))
            batch = [change(self._batch(self.pixels, drawn.rows[place]), part), drawn.labels[place]]
            if self.targets is not None:
                batch.append(self.targets[drawn.places[place]])
            losses.append(self._train_step(*batch))
            self.schedule.step()
            if self.average is not None:
                self.average.update_parameters(self.learner)
            self.step += 1
        return torch.stack(losses)

    def _train_step(self, *batch: Tensor) -> Tensor:
        """A step, replayed where it can be; its loss ()."""
        if not self.replays:
            with seeded(self.noise, self.device):
                return self._step(*batch)
        drawn_seed(self.noise)  # which does not depend on where the steps before were
        if self.replay is None:
            self.replay = Replay(self._step, batch, self.learner, self.optimizer)
        return self.replay(*batch)

    def _step(self, images: Tensor, labels: Tensor, taught: Tensor | None = None) -> Tensor:
        """Of the optimizer, on the loss () of a batch and of what a teacher says of it."""
        features = self._features(self.learner.network, images)
        loss: Tensor = self.learner(features, labels)
        if taught is not None:
            weight = self.config.teacher_weight or 0.0
            loss = loss + weight * similarity_loss(features, taught)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def _batch(self, pixels: Tensor, rows: Tensor) -> Tensor:
        """(B, C, H, W) uint8 on the device; it is written over by the next batch.

        Rows (B,) are where the pixels are. From memory to a card they go by a pinned buffer, so
        that the next batch is gathered while the card computes with this one.
        """
        shape = (len(rows), *pixels.shape[1:])
        far = pixels.device.type != self.device.type
        if self.copied is not None:
            self.copied.synchronize()  # until the buffer may be written over, no longer
        out = self._buffer("pixels", shape, pixels.dtype, pixels.device, pinned=far)
        torch.index_select(pixels, 0, rows, out=out)
        batch = out.to(self.device, non_blocking=far)
        if far:
            self.copied = torch.cuda.Event()
            self.copied.record()
        return batch

    def _buffer(
        self,
        name: str,
        shape: tuple[int, ...],
        dtype: torch.dtype,
        device: torch.device,
        pinned: bool = False,
    ) -> Tensor:
        """Of this shape, the same memory as last time if that was enough."""
        key, size = (name, device), math.prod(shape)
        if key not in self.buffers or self.buffers[key].numel() < size:
            self.buffers[key] = torch.empty(size, dtype=dtype, device=device, pin_memory=pinned)
        return self.buffers[key][:size].view(shape)

    def _features(self, network: Embedder, images: Tensor) -> Tensor:
        low = self.precision == "bfloat16"
        shape = (len(images), network.input.channels, *images.shape[2:])
        # Of training it stays where it is, as a replay must find it; those judged are more.
        name = "inputs" if network.training else "judged inputs"
        inputs = self._buffer(name, shape, torch.float32, self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=low):
            features: Tensor = network(network.input.scale(images, out=inputs))
        # A network may give its input back, which the next batch is written over.
        own = features.untyped_storage().data_ptr() != inputs.untyped_storage().data_ptr()
        return features if own else features.clone()

    def _judge(self) -> tuple[float | None, RetrievalResult]:
        """As `_validate`; without a replay where a card has no room for both."""
        try:
            return self._validate()
        except torch.OutOfMemoryError:
            if self.replay is None:
                raise
        self.replay = None
        return self._validate()

    @torch.no_grad()
    def _validate(self) -> tuple[float | None, RetrievalResult]:
        """The same loss over batches of the validation images, None where it is not defined on
        their classes; and how well they are retrieved."""
        learner = self.judged.eval()
        rows = torch.from_numpy(self.split.validation.rows).to(self.val_pixels.device)
        batches = rows.split(embedding_batch(self.shape))
        crop = self.shape[1:]
        features = torch.cat(
            [
                self._features(learner.network, centre_crop(self._batch(self.val_pixels, b), *crop))
                for b in batches
            ]
        )
        val_loss = self._validation_loss(learner, features)
        lengths = features.square().sum(1)
        if not lengths.isfinite().all():  # which unit length would hide, as a vector of zeros
            raise self._diverged("an image's features became too long for float32", "at its end")
        labels = torch.from_numpy(self.split.validation.labels)
        return val_loss, evaluate_roles(unit_length(features), labels, self.split.roles)

    def _validation_loss(self, learner: Learner, features: Tensor) -> float | None:
        if self.config.entry.knows_classes and not self.split.same_classes:
            return None
        drawn = self._validation_order()
        size = min(self.config.batch_size, len(drawn))
        labels = torch.from_numpy(self.split.validation.labels[drawn]).to(self.device)
        features = features[torch.from_numpy(drawn).to(self.device)]
        losses = [
            learner(features[i : i + size], labels[i : i + size])
            for i in range(0, len(features) - size + 1, size)
        ]
        return self._finite_mean(torch.stack(losses), "validation")

    def _validation_order(self) -> Rows:
        """The validation images in the order in which the loss takes them by batches: as they were
        drawn; where a random batch would hold almost no positive, a few of each class together, so
        that a batch has others too."""
        drawn = self.split.roles.gallery
        labels = self.split.validation.labels[drawn]
        if positives(labels, self.config.batch_size) >= 1 or not self.config.entry.needs_positives:
            return drawn
        _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
        by_class = np.argsort(first[inverse], kind="stable")
        _, begins, counts = np.unique(
            first[inverse][by_class], return_index=True, return_counts=True
        )
        rank = np.arange(len(drawn)) - np.repeat(begins, counts)
        return np.asarray(drawn[by_class[np.argsort(rank // TOGETHER, kind="stable")]])

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
            f"{what} in epoch {math.floor(self.epoch) + 1}, {where}; the last finite value was "
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


def _targets(config: TrialConfig, split: Split, device: torch.device) -> Tensor | None:
    """(N, D) of a teacher, on the device; None without one."""
    if config.teacher is None:
        return None
    if split.targets is None or len(split.targets) != len(split.train):
        law = "a configuration with a teacher needs its embedding of each training image"
        raise ValueError(f"{law} (`trainables.teacher.taught`); the split has none")
    return torch.tensor(split.targets, device=device)


def _resident(images: LabelledImages, device: torch.device) -> Tensor:
    """(M, C, H, W) uint8, on the device if they take no more than a share of it."""
    pixels = images.tensor()
    if device.type == "cuda":
        whole = torch.cuda.get_device_properties(device).total_memory
        # This one, unlike the other, does not take a card without its number.
        card = torch.cuda.current_device() if device.index is None else device.index
        mine = torch.cuda.get_per_process_memory_fraction(card) * whole
        if pixels.nbytes <= RESIDENT_SHARE * mine:
            return pixels.to(device)
    return pixels


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
