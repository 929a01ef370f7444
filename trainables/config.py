"""One trial is one value: a frozen configuration that was validated when it was made."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from trainables import laws, losses
from trainables.knobs import Law, integer, not_negative, one_of, optional, positive, share, word
from trainables.losses import Loss
from trainables.networks.embedder import FREEZES

OPTIMIZERS = ("sgd", "adam", "adamw")
SCHEDULES = ("constant", "cosine")
PRECISIONS = ("auto", "float32", "bfloat16")
MOST_DIM = 2**16  # of an embedding: a head beyond it fills the memory


def _is_share(value: float) -> bool:
    return 0 < value <= 1


# What a field must be; a loss's own arguments have their laws beside it.
LAWS: dict[str, Law] = {
    "optimizer": one_of(*OPTIMIZERS),
    "lr": positive,
    "weight_decay": not_negative,
    "per_class": integer(2, None),
    "epochs": positive,
    "schedule": one_of(*SCHEDULES),
    "warmup": share,
    "averaging": share,
    "flip": laws.truth,
    "shift": integer(0),
    "erase": integer(0),
    "crop": optional(lambda name, value: laws.number(name, value, "in (0, 1]", _is_share)),
    "jitter": lambda name, value: laws.number(name, value, "in [0, 1]", lambda v: 0 <= v <= 1),
    "dataset": word,
    "data_fingerprint": laws.text,
    "image_size": integer(4, None),
    "network": word,
    "weights": word,
    "embedding_dim": integer(1, None, most=MOST_DIM),
    "freeze": optional(one_of(*FREEZES)),
    "head_lr": positive,
    "loss_lr": positive,
    "teacher": optional(word),
    "teacher_weight": optional(positive),
    "precision": one_of(*PRECISIONS),
    "seed": lambda name, value: laws.integer(name, value, 0, most=2**32 - 1),
}
# Of fields for which another field decides what more is asked of them.
NOT_ALWAYS = ("momentum", "teacher", "teacher_weight")  # used; None where they are not
LEAST_LAWS: dict[str, Law] = {"batch_size": integer(2), "momentum": share}


@dataclass(frozen=True, kw_only=True)
class TrialConfig:
    """Everything that decides the numbers of a training run; the data's content by a fingerprint.

    Attributes:
        loss: an entry of `trainables.losses`, by name; what the name fixes has that value.
        loss_args: its own arguments by name; those that are not given have its defaults.
        optimizer: `sgd`, `adam` or `adamw`.
        lr: the highest learning rate, > 0: of the first step, or of that at which a warm-up ends.
        momentum: SGD's momentum, 0 <= momentum < 1. Only for `sgd`.
        weight_decay: >= 0; coupled for SGD and Adam, decoupled for AdamW, as torch defines them.
        batch_size: images a step, >= 2; >= 3 for a loss that needs positives, whose anchors need a
            positive and a negative. The incomplete batch at an epoch's end is left out.
        per_class: images of a class in a batch (P x K batches: K), >= 2; it divides `batch_size`,
            and a loss that needs positives needs two classes in a batch. None takes batches of a
            random order of all images.
        epochs: passes over the training images, > 0: a part of one too, in whole steps and at least
            one.
        schedule: `constant`, or `cosine` (to 0 over all steps of the run).
        warmup: the share of all steps over which the learning rate first rises linearly, in
            [0, 1), rounded to whole steps and at most all but the last.
        averaging: of the weights, which are judged and kept then: the decay a step of their
            exponential moving average, in [0, 1); 0 for none.
        flip: mirror every training image left to right with probability 1/2.
        shift: move every training image by up to so many pixels each way, >= 0.
        erase: blank a square of this side at a random place of every training image, >= 0.
        crop: the least share of the area, in (0, 1], that a random part of a training image has,
            which is scaled to the network's size; None takes the centre.
        jitter: brightness, contrast and saturation of a training image are each multiplied by
            1 - jitter to 1 + jitter; in [0, 1].
        network, weights: by the names of `trainables.networks`.
        embedding_dim: of the linear head on the network's features; None for none.
        freeze: which weights of the network stay, as in `trainables.networks`; None: its own
            default.
        head_lr, loss_lr: the learning rates of the head and of the loss's own weights, as multiples
            of `lr`, > 0.
        teacher: the checkpoint of a network that was trained before, whose similarities of the
            training images are learnt beside the loss (`trainables.losses.distillation`).
        teacher_weight: of that, > 0. Only with a teacher.
        precision: of the network's body: `float32`, `bfloat16` (autocast: weights, the linear head,
            losses and metrics stay float32, a library's network without a head ends in bfloat16;
            test images are always embedded in float32), or `auto`: bfloat16 where the device is
            faster in it.
        seed: of the initial weights, of the order of the images and of their changes, in
            [0, 2**32): torch's generators use no more of it.
        dataset: its name.
        data_fingerprint: of one's own data, as `trainables.data` has it; empty where the name
            says which data it is.
        image_size: the side, in pixels, of the squares that the network gets; None: the size that
            all images of the data have.

    Numbers are finite and, unless 0, normal in float32. Scalars of numpy are taken as Python's.

    Raises:
        ValueError: a field breaks its law; the message states the law and the value.
    """

    loss: str
    loss_args: Mapping[str, Any] = field(default_factory=dict)
    optimizer: str
    lr: float
    momentum: float | None = None
    weight_decay: float = 0.0
    batch_size: int = 64
    per_class: int | None = None
    epochs: float = 100
    schedule: str = "constant"
    warmup: float = 0.0
    averaging: float = 0.0
    flip: bool = False
    shift: int = 0
    erase: int = 0
    crop: float | None = None
    jitter: float = 0.0
    network: str = "seed_cnn"
    weights: str = "default"
    embedding_dim: int | None = None
    freeze: str | None = None
    head_lr: float = 1.0
    loss_lr: float = 1.0
    teacher: str | None = None
    teacher_weight: float | None = None
    precision: str = "auto"
    seed: int = 0
    dataset: str = "fashion_mnist"
    data_fingerprint: str = ""
    image_size: int | None = None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            object.__setattr__(self, name, _plain(value))
        object.__setattr__(self, "loss", self.entry.name)
        if clash := sorted({knob.name for knob in self.entry.knobs} & {*FIELDS}):
            said = "a loss's knobs must have names that no field of a configuration has"
            raise ValueError(f"{said}; those of {self.loss} have {', '.join(clash)}")
        own = {name: _plain(value) for name, value in self.loss_args.items()}
        object.__setattr__(self, "loss_args", self.entry.arguments(own))
        for name, law in LAWS.items():
            law(name, getattr(self, name))
        self._check_momentum()
        self._check_teacher()
        self._check_batches()
        self._check_settings()

    @property
    def entry(self) -> Loss:
        """Its loss's entry; ValueError if there is none of this name."""
        return losses.resolve(self.loss)

    def _check_momentum(self) -> None:
        if self.optimizer == "sgd":
            share("momentum", self.momentum)
        elif self.momentum is not None:
            law = f"momentum is used only by sgd, so it may not be set for {self.optimizer}"
            raise ValueError(f"{law}; got {self.momentum!r}")

    def _check_teacher(self) -> None:
        if (self.teacher is None) != (self.teacher_weight is None):
            law = "teacher and teacher_weight must be set together, or neither"
            raise ValueError(f"{law}; got {self.teacher!r} and {self.teacher_weight!r}")

    def _check_batches(self) -> None:
        """A ranking loss needs an anchor with a positive and a negative: else it is always 0."""
        ranks = self.entry.needs_positives
        laws.integer("batch_size", self.batch_size, 3 if ranks else 2, f"for {self.loss}")
        if self.per_class is None:
            return
        if self.batch_size % self.per_class:
            law = f"per_class must divide batch_size {self.batch_size}"
            raise ValueError(f"{law}; got {self.per_class}")
        if ranks and self.batch_size == self.per_class:
            law = f"batch_size / per_class must be at least 2 for {self.loss}"
            raise ValueError(f"{law}; got {self.batch_size} / {self.per_class}")

    def _check_settings(self) -> None:
        fields = self.flat()
        for name, value in self.entry.settings.items():
            if name not in fields:
                raise ValueError(f"{self.loss} fixes {name}, which no configuration has")
            if fields[name] != value:
                law = f"{name} must be {value!r} for {self.loss}"
                raise ValueError(f"{law}; got {fields[name]!r}")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrialConfig:
        """The configuration with these fields; ValueError names a field that does not exist.

        The loss's own arguments may stand among the others, as `flat` has them.
        """
        values = values if "loss_args" in values else _nested(values)
        unknown = sorted(set(values) - set(FIELDS))
        if unknown:
            raise ValueError(f"a configuration has the fields {', '.join(FIELDS)}; got {unknown}")
        missing = sorted({"loss", "optimizer", "lr"} - set(values))
        if missing:
            raise ValueError(f"a configuration needs loss, optimizer and lr; {missing} missing")
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """All fields by name, None where one is not used; `from_dict` takes it back."""
        return {**vars(self), "loss_args": dict(self.loss_args)}

    def flat(self) -> dict[str, Any]:
        """All fields by name, the loss's own arguments among them: a row of a table."""
        fields = self.to_dict()
        return {**{name: fields[name] for name in FIELDS if name != "loss_args"}, **self.loss_args}

    def replace(self, **changes: Any) -> TrialConfig:
        """A validated copy with these fields changed, the loss's own arguments by name too."""
        own = {name: changes.pop(name) for name in list(changes) if name not in FIELDS}
        given = {**changes.pop("loss_args", self.loss_args), **own}
        return dataclasses.replace(self, loss_args=given, **changes)

    def used(self) -> dict[str, Any]:
        """As `flat`, without what is not used; None among the others is a choice."""
        return {k: v for k, v in self.flat().items() if k not in NOT_ALWAYS or v is not None}

    def describe(self) -> str:
        """The fields that are in use, on one line."""
        return ", ".join(f"{name}={value}" for name, value in self.used().items())


FIELDS = tuple(field.name for field in dataclasses.fields(TrialConfig))


def reference(loss: str) -> TrialConfig | None:
    """What the seed study printed for a loss, for its 100 epochs; None if it had none."""
    settings = losses.resolve(loss).reference
    return None if settings is None else TrialConfig(loss=loss, **settings)


def _plain(value: Any) -> Any:
    """What checkpoints and JSON hold is Python's, not numpy's."""
    return value.item() if isinstance(value, np.generic) else value


def _nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `flat`: what is no field is an argument of the loss; None is not given."""
    fields = {name: value for name, value in values.items() if name in FIELDS}
    own = {k: v for k, v in values.items() if k not in fields and v is not None}
    return {**fields, "loss_args": own}
