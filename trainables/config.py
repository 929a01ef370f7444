"""One trial is one value: a frozen configuration that was validated when it was made."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

LOSSES = ("cross_entropy", "triplet", "smooth_ap")
OPTIMIZERS = ("sgd", "adam", "adamw")
SCHEDULES = ("constant", "cosine")
NUMERATORS = ("paper", "seed")
REDUCTIONS = ("mean", "sum")
PRECISIONS = ("auto", "float32", "bfloat16")
METRIC_LOSSES = ("triplet", "smooth_ap")
CLASSIFIERS = ("linear", "cosine")
DATASETS = ("fashion_mnist",)  # read by `trainables.data`
NETWORKS = ("seed_cnn",)  # built by `trainables.model`

# A knob stands here if only some losses or optimizers use it: (the field that decides, its values).
# Where it is used it must be set, elsewhere it may not be.
CONDITIONAL_KNOBS: dict[str, tuple[str, tuple[str, ...]]] = {
    "momentum": ("optimizer", ("sgd",)),
    "classifier": ("loss", ("cross_entropy",)),
    "temperature": ("classifier", ("cosine",)),
    "label_smoothing": ("loss", ("cross_entropy",)),
    "anchors": ("loss", METRIC_LOSSES),
    "margin": ("loss", ("triplet",)),
    "reduction": ("loss", ("triplet",)),
    "tau": ("loss", ("smooth_ap",)),
    "numerator": ("loss", ("smooth_ap",)),
}


def _one_of(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}; got {value!r}")


def _number(name: str, value: object, law: str, holds: Any) -> None:
    real = isinstance(value, int | float) and not isinstance(value, bool)
    if not (real and math.isfinite(value) and holds(value)):  # type: ignore[arg-type]
        raise ValueError(f"{name} must be a finite number {law}; got {value!r}")


def _integer(name: str, value: object, least: int, alternative: str = "") -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        law = f"an integer >= {least} {alternative}".rstrip()
        raise ValueError(f"{name} must be {law}; got {value!r}")


def _truth(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be True or False; got {value!r}")


def _set_exactly_where_used(
    knob: str, value: object, field: str, chosen: str | None, users: tuple[str, ...]
) -> None:
    if chosen in users and value is None:
        raise ValueError(f"{knob} must be set for {field} {chosen}; got None")
    if chosen not in users and value is not None:
        raise ValueError(
            f"{knob} is used only by {field} {' and '.join(users)}, "
            f"so it may not be set for {chosen}; got {value!r}"
        )


@dataclass(frozen=True, kw_only=True)
class TrialConfig:
    """Everything that decides the numbers of a training run, apart from the data.

    Attributes:
        loss: `cross_entropy` (on the 10 logits), `triplet` or `smooth_ap` (on unit embeddings).
        optimizer: `sgd`, `adam` or `adamw`.
        lr: the learning rate at the first step, > 0.
        momentum: SGD's momentum, 0 <= momentum < 1. Only for `sgd`.
        weight_decay: >= 0; coupled for SGD and Adam, decoupled for AdamW, as torch defines them.
        batch_size: images a step, >= 2. The incomplete batch at an epoch's end is left out.
        batch_classes: classes a batch, each with `batch_size / batch_classes` images (P x K
            batches); it divides `batch_size`. None takes batches of a random order of all images.
        epochs: passes over the training images, >= 1.
        schedule: `constant`, or `cosine` (to 0 over all steps of the run).
        warmup: the share of all steps over which the learning rate first rises linearly, in
            [0, 1).
        averaging: of the weights, which are judged and kept then: the decay a step of their
            exponential moving average, in [0, 1); 0 for none.
        flip: mirror every training image left to right with probability 1/2.
        shift: move every training image by up to so many pixels each way, >= 0.
        erase: blank a square of this side at a random place of every training image, >= 0.
        classifier: `linear`, on the vector before it is scaled to unit length, or `cosine`: the
            similarity of unit embeddings and unit class weights. Only for `cross_entropy`.
        temperature: divides these similarities, > 0. Only for the `cosine` classifier.
        label_smoothing: the share of the target that is spread evenly, in [0, 1). Only for
            `cross_entropy`.
        anchors: the first so many images of a batch, or `all`. Only for `triplet`, `smooth_ap`.
        margin: in squared distance, >= 0. Only for `triplet`.
        reduction: `mean` over the violating triplets, or `sum` over an anchor's pairs. Only for
            `triplet`.
        tau: temperature in squared distance (twice that on similarities), > 0. Only for
            `smooth_ap`.
        numerator: `paper` (1 - smooth AP) or `seed` (with the seed study's "1 +"). Only for
            `smooth_ap`.
        precision: of the convolutions: `float32`, `bfloat16` (autocast; weights, embeddings, losses
            and metrics stay float32), or `auto`: bfloat16 where the device is faster in it.
        seed: of the initial weights, of the order of the images and of their changes, >= 0.
        dataset, network: by their names in `trainables.data` and `trainables.model`.

    Raises:
        ValueError: a field breaks its law; the message states the law and the value.
    """

    loss: str
    optimizer: str
    lr: float
    momentum: float | None = None
    weight_decay: float = 0.0
    batch_size: int = 64
    batch_classes: int | None = None
    epochs: int = 100
    schedule: str = "constant"
    warmup: float = 0.0
    averaging: float = 0.0
    flip: bool = False
    shift: int = 0
    erase: int = 0
    classifier: str | None = None
    temperature: float | None = None
    label_smoothing: float | None = None
    anchors: int | Literal["all"] | None = None
    margin: float | None = None
    reduction: str | None = None
    tau: float | None = None
    numerator: str | None = None
    precision: str = "auto"
    seed: int = 0
    dataset: str = "fashion_mnist"
    network: str = "seed_cnn"

    def __post_init__(self) -> None:
        _one_of("loss", self.loss, LOSSES)
        _one_of("optimizer", self.optimizer, OPTIMIZERS)
        _one_of("schedule", self.schedule, SCHEDULES)
        for knob, (field, users) in CONDITIONAL_KNOBS.items():
            _set_exactly_where_used(knob, getattr(self, knob), field, getattr(self, field), users)
        _number("lr", self.lr, "> 0", lambda x: x > 0)
        _number("weight_decay", self.weight_decay, ">= 0", lambda x: x >= 0)
        for name in ("momentum", "warmup", "averaging", "label_smoothing"):
            if getattr(self, name) is not None:
                _number(name, getattr(self, name), "in [0, 1)", lambda x: 0 <= x < 1)
        if self.classifier is not None:
            _one_of("classifier", self.classifier, CLASSIFIERS)
        if self.temperature is not None:
            _number("temperature", self.temperature, "> 0", lambda x: x > 0)
        if self.margin is not None:
            _number("margin", self.margin, ">= 0", lambda x: x >= 0)
        if self.tau is not None:
            _number("tau", self.tau, "> 0", lambda x: x > 0)
        if self.reduction is not None:
            _one_of("reduction", self.reduction, REDUCTIONS)
        if self.numerator is not None:
            _one_of("numerator", self.numerator, NUMERATORS)
        if self.anchors not in (None, "all"):
            _integer("anchors", self.anchors, 1, "or 'all'")
        _integer("batch_size", self.batch_size, 2)
        if self.batch_classes is not None:
            _integer("batch_classes", self.batch_classes, 1, "or None")
            if self.batch_size % self.batch_classes:
                raise ValueError(
                    f"batch_classes must divide batch_size {self.batch_size}; "
                    f"got {self.batch_classes}"
                )
        _truth("flip", self.flip)
        _integer("shift", self.shift, 0)
        _integer("erase", self.erase, 0)
        _integer("epochs", self.epochs, 1)
        _integer("seed", self.seed, 0)
        _one_of("precision", self.precision, PRECISIONS)
        _one_of("dataset", self.dataset, DATASETS)
        _one_of("network", self.network, NETWORKS)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrialConfig:
        """The configuration with these fields; ValueError names a field that does not exist."""
        unknown = sorted(set(values) - set(KNOB_NAMES))
        if unknown:
            raise ValueError(
                f"a configuration has the knobs {', '.join(KNOB_NAMES)}; got {unknown}"
            )
        missing = sorted({"loss", "optimizer", "lr"} - set(values))
        if missing:
            raise ValueError(f"a configuration needs loss, optimizer and lr; {missing} missing")
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """All fields by name, None where a knob is not used; `from_dict` takes it back."""
        return dataclasses.asdict(self)

    def replace(self, **changes: Any) -> TrialConfig:
        """A validated copy with these fields changed."""
        return dataclasses.replace(self, **changes)

    def describe(self) -> str:
        """The knobs that are in use, on one line."""
        used = {name: value for name, value in self.to_dict().items() if value is not None}
        return ", ".join(f"{name}={value}" for name, value in used.items())


KNOB_NAMES = tuple(field.name for field in dataclasses.fields(TrialConfig))

# The settings that the seed study printed, for its 100 epochs.
REFERENCES: dict[str, TrialConfig] = {
    "cross_entropy": TrialConfig(
        loss="cross_entropy",
        optimizer="sgd",
        lr=1e-3,
        momentum=0.9,
        classifier="linear",
        label_smoothing=0.0,
    ),
    "triplet": TrialConfig(
        loss="triplet",
        optimizer="sgd",
        lr=1e-3,
        momentum=0.0,
        margin=0.5,
        reduction="sum",
        anchors=10,
    ),
    "smooth_ap": TrialConfig(
        loss="smooth_ap",
        optimizer="adam",
        lr=1e-4,
        weight_decay=4e-5,
        tau=0.01,
        numerator="seed",
        anchors=10,
    ),
}
