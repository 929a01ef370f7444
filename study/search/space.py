"""What a study varies: the knobs that all trials share, and those of each loss from its entry.

Every knob has a name of its own in Optuna (`lr_sgd`, `lr_adam`) where its range depends on another
knob, so that each name has one distribution and the sampler can model it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

from study.search.changes import Changes, changed
from trainables import config as configuration
from trainables import losses
from trainables.config import FIELDS, LAWS, LEAST_LAWS, OPTIMIZERS, SCHEDULES, TrialConfig
from trainables.knobs import Choice, Knob, Range, Span, choice, log

_SGD, _ADAPTIVE = {"optimizer": ("sgd",)}, {"optimizer": ("adam", "adamw")}


@dataclass(frozen=True)
class Space:
    """What is searched: the knobs that all trials share; a loss's own, from its entry, follow them.

    Attributes:
        shared: with their ranges.
        changes: of the losses' own ranges, as `study.search.changes` has them.
    """

    shared: tuple[Knob, ...]
    changes: Changes = field(default_factory=dict)

    def changed(self, changes: Changes) -> Space:
        """The same with one's own ranges and fixed values; StudyError if they break a law."""
        return Space(tuple(changed(self.shared, changes)), {**self.changes, **changes})


def _shared(
    name: str,
    default: Any,
    range: Range | None,
    field: str = "",
    where: Mapping[str, Any] | None = None,
) -> Knob:
    law = {**LAWS, **LEAST_LAWS}[field or name]
    return Knob(name, default, range, law, field=field, where=where or {})


# The scientific knob above all is `loss`: each loss has a search of its own.
# fmt: off
_SHARED = (
    #       name           default   range
    _shared("optimizer",    "adam",   choice(*OPTIMIZERS)),
    _shared("lr_sgd",       0.1,      log(1e-4, 1.0), "lr", _SGD),
    _shared("lr_adam",      1.5e-2,   log(1e-4, 1e-1), "lr", _ADAPTIVE),
    _shared("momentum",     0.9,      choice(0.0, 0.9, 0.98), "", _SGD),
    _shared("weight_decay", 4e-5,     choice(0.0, 4e-5, 4e-4, 4e-3)),
    _shared("batch_size",   256,      choice(64, 128, 256, 512, 1024)),
    _shared("per_class",    None,     choice(None, 2, 4, 8)),
    _shared("schedule",     "cosine", choice(*SCHEDULES)),
    _shared("warmup",       0.1,      choice(0.0, 0.1)),
    _shared("averaging",    0.0,      choice(0.0, 0.995)),
    _shared("flip",         False,    choice(False, True)),
    _shared("shift",        0,        choice(0, 1)),
    _shared("erase",        0,        choice(0, 4)),
    # Not searched unless the data or the user gives a range.
    _shared("crop",         None,     None),
    _shared("jitter",       0.0,      None),
    _shared("embedding_dim", None,    None),
    _shared("head_lr",      1.0,      None),
    _shared("loss_lr",      1.0,      None),
)
# fmt: on
SPACE = Space(_SHARED)
SMALL_BATCH, SMALL_SHARE = 64, 7 / 15  # of the usual learning rate
# What a search leaves as its study has it; the rest are knobs.
FIXED = ("loss", "epochs", "precision", "seed", "dataset", "data_fingerprint", "image_size",
         "network", "weights", "freeze")  # fmt: skip


def around(lr: float) -> dict[str, Any]:
    """The range of Adam's learning rate about a network's own default, as wide as the space's."""
    knob = next(knob for knob in SPACE.shared if knob.name == "lr_adam")
    assert isinstance(knob.range, Span)
    ends = (float(f"{end / knob.default * lr:.3g}") for end in (knob.range.low, knob.range.high))
    return {"range": list(ends), "default": lr}


def knobs_of(loss: str, space: Space = SPACE) -> list[Knob]:
    """The knobs of a loss's search: all that have a range and that it can use."""
    return [knob for knob in all_knobs(loss, space) if knob.range is not None]


def all_knobs(loss: str, space: Space = SPACE) -> list[Knob]:
    """The shared knobs, then the loss's own; also those that stay unless they are set."""
    entry = losses.resolve(loss)
    shared = [knob for knob in space.shared if entry.knows_classes or knob.sets != "loss_lr"]
    return [*shared, *changed(entry.knobs, space.changes)]


def sample(trial: optuna.trial.BaseTrial, base: TrialConfig, space: Space = SPACE) -> TrialConfig:
    """The configuration that an Optuna trial suggests; the FIXED fields are those of `base`."""
    return _suggested(trial, {field: getattr(base, field) for field in FIXED}, space)


def _suggested(
    trial: optuna.trial.BaseTrial, fixed: Mapping[str, Any], space: Space
) -> TrialConfig:
    chosen, own = dict(fixed), dict[str, Any]()
    for knob in knobs_of(chosen["loss"], space):
        if knob.used(chosen):
            value = _suggest(trial, knob)
            (chosen if knob.sets in FIELDS else own)[knob.sets] = value
    return TrialConfig(**chosen, loss_args=own)


def _suggest(trial: optuna.trial.BaseTrial, knob: Knob) -> Any:
    if isinstance(knob.range, Choice):
        return trial.suggest_categorical(knob.name, knob.range.values)
    assert knob.range is not None
    return trial.suggest_float(knob.name, knob.range.low, knob.range.high, log=knob.range.log)


def default(
    loss: str,
    *,
    epochs: int,
    seed: int,
    space: Space = SPACE,
    **fixed: Any,
) -> TrialConfig:
    """The configuration of the knobs' defaults; `fixed`: of the other FIXED fields."""
    trial = optuna.trial.FixedTrial({knob.name: knob.default for knob in knobs_of(loss, space)})
    return _suggested(trial, {"loss": loss, "epochs": epochs, "seed": seed, **fixed}, space)


def reference(loss: str, *, epochs: int, seed: int, **fixed: Any) -> TrialConfig | None:
    """The seed study's configuration of a loss, for so many epochs; None if it had none.

    Args:
        fixed: of the other FIXED fields.
    """
    found = configuration.reference(loss)
    return None if found is None else found.replace(epochs=epochs, seed=seed, **fixed)


def starts(base: TrialConfig, space: Space = SPACE) -> tuple[TrialConfig, ...]:
    """What every search begins with, set by hand; the FIXED fields are those of `base`.

    The seed study's configuration, so that no search can end below it, if it had one of this loss
    and its data and network are searched; the knobs' defaults; and these with a small batch.
    """
    fixed: dict[str, Any] = {field: getattr(base, field) for field in FIXED if field != "loss"}
    first = configuration.reference(base.loss) if is_of_seed_study(base) else None
    usual = default(base.loss, space=space, **fixed)
    begin = [] if first is None else [first.replace(**fixed)]
    begin.append(usual)
    rate = float(f"{usual.lr * SMALL_SHARE:.3g}")
    with contextlib.suppress(ValueError):  # a small batch may not be had of so many of a class
        begin.append(usual.replace(batch_size=SMALL_BATCH, lr=rate))
    return tuple(start for start in begin if holds(space, start))


def is_of_seed_study(config: TrialConfig) -> bool:
    """Whether a configuration is of the data and the network that the seed study had."""
    names = ("dataset", "data_fingerprint", "image_size", "network", "weights", "freeze")
    return all(getattr(config, name) == getattr(TrialConfig, name) for name in names)


def holds(space: Space, config: TrialConfig) -> bool:
    """Whether a configuration lies in the space."""
    try:
        params(config, space)
    except ValueError:
        return False
    return True


def params(config: TrialConfig, space: Space = SPACE) -> dict[str, Any]:
    """A configuration as Optuna's parameters: the inverse of `sample`.

    Raises:
        ValueError: a value lies outside the range of its knob.
    """
    chosen = config.flat()
    found = {}
    for knob in knobs_of(config.loss, space):
        if knob.used(chosen):
            value = chosen[knob.sets]
            if knob.range is None or not knob.range.holds(value):
                raise ValueError(f"{knob.name} must be in {knob.range}; got {value!r}")
            found[knob.name] = value
    return found


def distributions(config: TrialConfig, space: Space = SPACE) -> dict[str, BaseDistribution]:
    """The ranges of the knobs that a configuration uses, by their names in Optuna."""
    chosen = config.flat()
    return {
        knob.name: distribution(knob.range)
        for knob in knobs_of(config.loss, space)
        if knob.used(chosen) and knob.range is not None
    }


def distribution(range: Range) -> BaseDistribution:
    """A knob's range as Optuna has it."""
    if isinstance(range, Choice):
        return CategoricalDistribution(range.values)
    return FloatDistribution(range.low, range.high, log=range.log)


def describe(names: Sequence[str], space: Space = SPACE) -> list[dict[str, str]]:
    """The searches of these losses as rows of text, for results and pages."""
    searched = {loss: knobs_of(loss, space) for loss in names}
    rows = []
    for knob in space.shared:
        users = [loss for loss, knobs in searched.items() if knob in knobs]
        where = ", ".join(v for vs in knob.where.values() for v in vs)
        if users:
            rows.append(_row(knob, where if len(users) == len(names) else ", ".join(users)))
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
