"""One trial is one value: a frozen configuration that was validated when it was made."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from trainables.laws import integer, number, one_of, truth

LOSSES = ("cross_entropy", "normalized_softmax", "triplet", "smooth_ap")
OPTIMIZERS = ("sgd", "adam", "adamw")
SCHEDULES = ("constant", "cosine")
NUMERATORS = ("paper", "seed")
REDUCTIONS = ("mean", "sum")
PRECISIONS = ("auto", "float32", "bfloat16")
LOSS_NAMES = {  # as readers know them
    "cross_entropy": "cross-entropy",
    "normalized_softmax": "normalised softmax",
    "triplet": "triplet",
    "smooth_ap": "Smooth-AP",
}
SOFTMAX_LOSSES = ("cross_entropy", "normalized_softmax")
METRIC_LOSSES = ("triplet", "smooth_ap")
DATASETS = ("fashion_mnist",)  # read by `trainables.data`
NETWORKS = ("seed_cnn",)  # built by `trainables.model`

# A knob stands here if only some losses or optimizers use it: (the field that decides, its values).
# Where it is used it must be set, elsewhere it may not be.
CONDITIONAL_KNOBS: dict[str, tuple[str, tuple[str, ...]]] = {
    "momentum": ("optimizer", ("sgd",)),
    "temperature": ("loss", ("normalized_softmax",)),
    "label_smoothing": ("loss", SOFTMAX_LOSSES),
    "anchors": ("loss", METRIC_LOSSES),
    "margin": ("loss", ("triplet",)),
    "reduction": ("loss", ("triplet",)),
    "tau": ("loss", ("smooth_ap",)),
    "numerator": ("loss", ("smooth_ap",)),
}


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
        loss: `cross_entropy` (of a linear classifier on the vector before it is scaled to unit
            length), `normalized_softmax` (cross-entropy of the similarities of unit embeddings and
            unit class weights over a temperature, a proxy loss: Zhai and Wu, BMVC 2019, arXiv
            1811.12649), `triplet` or `smooth_ap` (both on unit embeddings).
        optimizer: `sgd`, `adam` or `adamw`.
        lr: the learning rate at the first step, > 0.
        momentum: SGD's momentum, 0 <= momentum < 1. Only for `sgd`.
        weight_decay: >= 0; coupled for SGD and Adam, decoupled for AdamW, as torch defines them.
        batch_size: images a step, >= 2; >= 3 for `triplet` and `smooth_ap`, whose anchors need a
            positive and a negative. The incomplete batch at an epoch's end is left out.
        batch_classes: classes a batch, each with `batch_size / batch_classes` images (P x K
            batches); it divides `batch_size`. For `triplet` and `smooth_ap` >= 2 classes, each with
            >= 2 images. None takes batches of a random order of all images.
        epochs: passes over the training images, >= 1.
        schedule: `constant`, or `cosine` (to 0 over all steps of the run).
        warmup: the share of all steps over which the learning rate first rises linearly, in
            [0, 1), rounded to whole steps and at most all but the last.
        averaging: of the weights, which are judged and kept then: the decay a step of their
            exponential moving average, in [0, 1); 0 for none.
        flip: mirror every training image left to right with probability 1/2.
        shift: move every training image by up to so many pixels each way, >= 0.
        erase: blank a square of this side at a random place of every training image, >= 0.
        temperature: divides the similarities to the class weights, > 0. Only for
            `normalized_softmax`.
        label_smoothing: the share of the target that is spread evenly, in [0, 1). Only for
            `cross_entropy`, `normalized_softmax`.
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
        seed: of the initial weights, of the order of the images and of their changes, in
            [0, 2**32): torch's generators use no more of it.
        dataset, network: by their names in `trainables.data` and `trainables.model`.

    Numbers are finite and, unless 0, normal in float32. Scalars of numpy are taken as Python's.

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
        for name, value in vars(self).items():
            if isinstance(value, np.generic):  # what checkpoints and JSON hold is Python's
                object.__setattr__(self, name, value.item())
        one_of("loss", self.loss, LOSSES)
        one_of("optimizer", self.optimizer, OPTIMIZERS)
        one_of("schedule", self.schedule, SCHEDULES)
        for knob, (field, users) in CONDITIONAL_KNOBS.items():
            _set_exactly_where_used(knob, getattr(self, knob), field, getattr(self, field), users)
        number("lr", self.lr, "> 0", lambda x: x > 0)
        number("weight_decay", self.weight_decay, ">= 0", lambda x: x >= 0)
        for name in ("momentum", "warmup", "averaging", "label_smoothing"):
            if getattr(self, name) is not None:
                number(name, getattr(self, name), "in [0, 1)", lambda x: 0 <= x < 1)
        if self.temperature is not None:
            number("temperature", self.temperature, "> 0", lambda x: x > 0)
        if self.margin is not None:
            number("margin", self.margin, ">= 0", lambda x: x >= 0)
        if self.tau is not None:
            number("tau", self.tau, "> 0", lambda x: x > 0)
        if self.reduction is not None:
            one_of("reduction", self.reduction, REDUCTIONS)
        if self.numerator is not None:
            one_of("numerator", self.numerator, NUMERATORS)
        if self.anchors not in (None, "all"):
            integer("anchors", self.anchors, 1, "or 'all'")
        self._check_batches()
        truth("flip", self.flip)
        integer("shift", self.shift, 0)
        integer("erase", self.erase, 0)
        integer("epochs", self.epochs, 1)
        integer("seed", self.seed, 0, most=2**32 - 1)
        one_of("precision", self.precision, PRECISIONS)
        one_of("dataset", self.dataset, DATASETS)
        one_of("network", self.network, NETWORKS)

    def _check_batches(self) -> None:
        """A ranking loss needs an anchor with a positive and a negative: else it is always 0."""
        ranks = self.loss in METRIC_LOSSES
        integer("batch_size", self.batch_size, 3 if ranks else 2, f"for {self.loss}")
        if self.batch_classes is None:
            return
        integer("batch_classes", self.batch_classes, 2 if ranks else 1, f"for {self.loss}, or None")
        if self.batch_size % self.batch_classes:
            law = f"batch_classes must divide batch_size {self.batch_size}"
            raise ValueError(f"{law}; got {self.batch_classes}")
        if ranks and self.batch_size == self.batch_classes:
            law = f"batch_size / batch_classes must be at least 2 for {self.loss}"
            raise ValueError(f"{law}; got {self.batch_size} / {self.batch_classes}")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrialConfig:
        """The configuration with these fields; ValueError names a field that does not exist.

        Also of records in which normalised softmax was cross-entropy with a cosine classifier.
        """
        values = dict(values)
        if values.pop("classifier", None) == "cosine":
            values["loss"] = "normalized_softmax"
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

    def used(self) -> dict[str, Any]:
        """The fields that this configuration uses, by name; None among them is a choice."""
        return {
            name: value
            for name, value in self.to_dict().items()
            if name not in CONDITIONAL_KNOBS or value is not None
        }

    def describe(self) -> str:
        """The fields that are in use, on one line."""
        return ", ".join(f"{name}={value}" for name, value in self.used().items())


KNOB_NAMES = tuple(field.name for field in dataclasses.fields(TrialConfig))

# The settings that the seed study printed, for its 100 epochs; it had no normalised softmax.
REFERENCES: dict[str, TrialConfig] = {
    "cross_entropy": TrialConfig(
        loss="cross_entropy",
        optimizer="sgd",
        lr=1e-3,
        momentum=0.9,
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
