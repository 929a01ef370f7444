"""What a study varies: the knobs that all trials share, and those of each loss from its entry.

A search is narrow: the learning rate, the batch size, the weight decay and the loss's own knobs.
The learning rate is a multiple of what is usual for the optimizer and the batch size, so that it is
one knob for all of them. The other shared knobs stay at their defaults, unless the space is `wide`,
or the data or the user gives them a range.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

from study.search.changes import Changes, changed, of_loss, only
from trainables import config as configuration
from trainables import losses
from trainables.config import FIELDS, LAWS, LEAST_LAWS, OPTIMIZERS, SCHEDULES, TrialConfig
from trainables.knobs import GIVEN, Choice, Knob, Range, choice, log, shortened

USUAL_BATCH = 256
USUAL_LR = {"sgd": 0.1, "adam": 1.5e-2, "adamw": 1.5e-2}  # at this batch size
CORE = ("batch_size", "lr_factor", "weight_decay")  # of the shared knobs
Pick = Callable[[Knob], Any]  # of a knob that has a range, a value in it


def usual_lr(chosen: Mapping[str, Any], usual: Mapping[str, float] = USUAL_LR) -> float:
    """The usual learning rate of an optimizer at a batch size: proportional to it for SGD (Goyal et
    al. 2017), to its square root for Adam (Malladi et al., NeurIPS 2022)."""
    grown = chosen["batch_size"] / USUAL_BATCH
    return usual[chosen["optimizer"]] * (grown if chosen["optimizer"] == "sgd" else grown**0.5)


@dataclass(frozen=True)
class Space:
    """What is searched: the knobs that all trials share; a loss's own, from its entry, follow them.

    Attributes:
        shared: with their ranges.
        changes: of the losses' own ranges, as `study.search.changes` has them.
        wide: with those of the losses' knobs that are not core, too.
    """

    shared: tuple[Knob, ...]
    changes: Changes = field(default_factory=dict)
    wide: bool = False

    def changed(self, changes: Changes) -> Space:
        """The same with one's own ranges and fixed values; StudyError if they break a law."""
        shared = tuple(changed(self.shared, changes))
        return dataclasses.replace(self, shared=shared, changes={**self.changes, **changes})

    def around(self, lr: float) -> Space:
        """The same where `lr` is the usual learning rate of Adam: a network's own."""
        usual = {**USUAL_LR, "adam": lr, "adamw": lr}
        knobs = [
            knob if knob.per is None else knob._replace(per=lambda chosen: usual_lr(chosen, usual))
            for knob in self.shared
        ]
        return dataclasses.replace(self, shared=tuple(knobs))


def _shared(
    name: str,
    default: Any,
    range: Range | None,
    field: str = "",
    where: Mapping[str, Any] | None = None,
    per: Callable[[Mapping[str, Any]], float] | None = None,
) -> Knob:
    law, core = {**LAWS, **LEAST_LAWS}[field or name], name in CORE
    return Knob(name, default, range, law, field=field, where=where or {}, per=per, core=core)


def _narrow(knobs: Sequence[Knob]) -> tuple[Knob, ...]:
    """The knobs, of which those that are not core stay at their defaults."""
    return tuple(knob if knob.core else knob._replace(range=None) for knob in knobs)


# The scientific knob above all is `loss`: each loss has a search of its own.
# fmt: off
WIDE = Space((
    #       name           default   range
    _shared("optimizer",    "adam",   choice(*OPTIMIZERS)),
    _shared("batch_size",   256,      choice(64, 128, 256, 512, 1024)),
    _shared("lr_factor",    1.0,      log(0.03, 3.0), "lr", per=usual_lr),
    _shared("weight_decay", 4e-5,     choice(0.0, 4e-5, 4e-4, 4e-3)),
    _shared("momentum",     0.9,      choice(0.0, 0.9, 0.98), "", {"optimizer": ("sgd",)}),
    _shared("per_class",    None,     choice(None, 2, 4, 8)),
    _shared("schedule",     "cosine", choice(*SCHEDULES)),
    _shared("warmup",       0.5,      choice(0.0, 0.1, 0.5)),
    _shared("averaging",    0.0,      choice(0.0, 0.995)),
    _shared("flip",         False,    choice(False, True)),
    _shared("shift",        0,        choice(0, 1)),
    _shared("erase",        0,        choice(0, 4)),
    # Not searched unless the data or the user gives a range.
    _shared("crop",         None,     None),
    _shared("jitter",       0.0,      None),
    _shared("embedding_dim", None,    None),
    _shared("head_lr",      1.0,      None, "", {"embedding_dim": GIVEN}),
    _shared("loss_lr",      1.0,      None),
    _shared("teacher_weight", 10.0,   None, "", {"teacher": GIVEN}),
), wide=True)
# fmt: on
SPACE = Space(_narrow(WIDE.shared))
# What a search leaves as its study has it; the rest are knobs.
FIXED = ("loss", "epochs", "precision", "seed", "dataset", "data_fingerprint", "image_size",
         "network", "weights", "freeze", "teacher")  # fmt: skip


def knobs_of(loss: str, space: Space = SPACE) -> list[Knob]:
    """The knobs of a loss's search: all that have a range and that it can use."""
    return [knob for knob in all_knobs(loss, space) if knob.range is not None]


def all_knobs(loss: str, space: Space = SPACE) -> list[Knob]:
    """The shared knobs, then the loss's own; also those that stay unless they are set."""
    entry = losses.resolve(loss)
    shared = [knob for knob in space.shared if entry.knows_classes or knob.sets != "loss_lr"]
    own = entry.knobs if space.wide else _narrow(entry.knobs)
    alone = {name: only(value) for name, value in entry.settings.items()}
    return [*changed(shared, alone), *changed(own, of_loss(space.changes, entry))]


def configured(
    pick: Pick, fixed: Mapping[str, Any], space: Space = SPACE
) -> tuple[TrialConfig, dict[str, Any]]:
    """A configuration, and the values that were picked for it, by knob.

    Args:
        pick: is asked for each knob that has a range and that the configuration uses, in order.
        fixed: its FIELDS that are no knobs, of which `loss` must be one.
    """
    chosen, own, picked = dict(fixed), dict[str, Any](), dict[str, Any]()
    for knob in all_knobs(chosen["loss"], space):
        if not knob.used(chosen) or (knob.range is None and knob.sets not in FIELDS):
            continue
        value = knob.default
        if knob.range is not None:
            value = picked[knob.name] = pick(knob)
        if knob.per is not None:
            value = shortened(value * knob.per(chosen))
        (chosen if knob.sets in FIELDS else own)[knob.sets] = value
    return TrialConfig(**chosen, loss_args=own), picked


def fixed_of(config: TrialConfig) -> dict[str, Any]:
    """The fields of a configuration that are not searched."""
    return {name: getattr(config, name) for name in FIXED}


def default(
    loss: str, *, epochs: float, seed: int, space: Space = SPACE, **fixed: Any
) -> TrialConfig:
    """The configuration of the knobs' defaults; `fixed`: of the other FIXED fields."""
    whole = {"loss": loss, "epochs": epochs, "seed": seed, **fixed}
    return configured(lambda knob: knob.default, whole, space)[0]


def reference(loss: str, *, epochs: float, seed: int, **fixed: Any) -> TrialConfig | None:
    """The seed study's configuration of a loss, for so many epochs; None if it had none.

    Args:
        fixed: of the other FIXED fields.
    """
    found = configuration.reference(loss)
    return None if found is None else found.replace(epochs=epochs, seed=seed, **fixed)


def is_of_seed_study(config: TrialConfig) -> bool:
    """Whether a configuration is of the data and the network that the seed study had, which no
    teacher helped."""
    data, network = ("dataset", "data_fingerprint", "image_size"), ("network", "weights", "freeze")
    names = (*data, *network, "teacher")
    return all(getattr(config, name) == getattr(TrialConfig, name) for name in names)


def distribution(range: Range) -> BaseDistribution:
    """A knob's range as Optuna has it."""
    if isinstance(range, Choice):
        return CategoricalDistribution(range.values)
    return FloatDistribution(range.low, range.high, log=range.log)


def ranges_of(loss: str, space: Space) -> dict[str, BaseDistribution]:
    """By knob, as Optuna has them."""
    return {k.name: distribution(k.range) for k in knobs_of(loss, space) if k.range is not None}


def describe(names: Sequence[str], space: Space = SPACE) -> list[dict[str, str]]:
    """The searches of these losses as rows of text, for results and pages."""
    searched = {loss: knobs_of(loss, space) for loss in names}
    rows = []
    for knob in space.shared:
        users = [loss for loss, knobs in searched.items() if knob in knobs]
        where = ", ".join(v for vs in knob.where.values() for v in vs)
        if users:
            rows.append(_row(knob, where if len(users) == len(names) else ", ".join(users)))
        for loss in [name for name in names if name not in users]:
            rows += [_row(own, loss) for own in searched[loss] if own.sets == knob.sets]
    for loss in names:
        rows += [_row(knob, loss) for knob in searched[loss] if knob.sets not in FIELDS]
    merged: dict[tuple[str, ...], dict[str, str]] = {}
    for row in rows:  # a knob that several losses have alike is one row
        key = (row["knob"], row["default"], row["range"])
        users = merged[key]["used by"].split(", ") if key in merged else []
        merged[key] = {**row, "used by": ", ".join([*users, row["used by"]])}
    return list(merged.values())


def _row(knob: Knob, users: str) -> dict[str, str]:
    return {
        "knob": knob.name,
        "default": str(knob.default),
        "range": str(knob.range),
        "role": knob.role,
        "used by": users or "all",
    }
