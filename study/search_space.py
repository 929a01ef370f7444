"""What a study varies: a line a knob, with its default, its range and its role.

Roles as in Google's tuning playbook: a *scientific* knob is what the study asks about, a
*nuisance* knob must be tuned for the comparison to be fair, a *fixed* one is the same for all.

Every knob has a name of its own in Optuna (`lr_sgd`, `lr_adam`) where its range depends on another
knob, so that each name has one distribution and the sampler can model it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

from trainables.config import (
    METRIC_LOSSES,
    OPTIMIZERS,
    REFERENCES,
    SCHEDULES,
    SOFTMAX_LOSSES,
    TrialConfig,
)

Range = CategoricalDistribution | FloatDistribution


class Knob(NamedTuple):
    """A knob of the search: its name in Optuna, the field that it sets, and where it is used."""

    name: str
    field: str
    default: Any
    range: Range
    role: str
    where: Mapping[str, tuple[str, ...]] = {}

    def used(self, chosen: Mapping[str, Any]) -> bool:
        return all(chosen.get(field) in values for field, values in self.where.items())

    def suggest(self, trial: optuna.trial.BaseTrial) -> Any:
        if isinstance(self.range, CategoricalDistribution):
            return trial.suggest_categorical(self.name, self.range.choices)
        return trial.suggest_float(self.name, self.range.low, self.range.high, log=self.range.log)

    def allows(self, value: Any) -> bool:
        if isinstance(self.range, CategoricalDistribution):
            return value in self.range.choices
        return self.range.low <= value <= self.range.high


def _choice(*values: Any) -> CategoricalDistribution:
    return CategoricalDistribution(values)


def _log(low: float, high: float) -> FloatDistribution:
    return FloatDistribution(low, high, log=True)


_SGD, _ADAPTIVE = {"optimizer": ("sgd",)}, {"optimizer": ("adam", "adamw")}
_METRIC = {"loss": METRIC_LOSSES}
_SOFTMAX, _COSINE = {"loss": SOFTMAX_LOSSES}, {"loss": ("normalized_softmax",)}
_TRIPLET, _SMOOTH_AP = {"loss": ("triplet",)}, {"loss": ("smooth_ap",)}
_N, _S = "nuisance", "scientific"

Space = tuple[Knob, ...]

# The scientific knob above all is `loss`: each loss has a search of its own.
# fmt: off
SPACE: Space = (
    # name               field           default   range                            role  where
    Knob("optimizer",    "optimizer",    "adam",   _choice(*OPTIMIZERS),            _N),
    Knob("lr_sgd",       "lr",           0.1,      _log(1e-4, 1.0),                 _N, _SGD),
    Knob("lr_adam",      "lr",           1.5e-2,   _log(1e-4, 1e-1),                _N, _ADAPTIVE),
    Knob("momentum",     "momentum",     0.9,      _choice(0.0, 0.9, 0.98),         _N, _SGD),
    Knob("weight_decay", "weight_decay", 4e-5,     _choice(0.0, 4e-5, 4e-4, 4e-3),  _N),
    Knob("batch_size",   "batch_size",   256,      _choice(64, 128, 256, 512, 1024), _N),
    Knob("batch_classes", "batch_classes", None,   _choice(None, 8),                _N),
    Knob("schedule",     "schedule",     "cosine", _choice(*SCHEDULES),             _N),
    Knob("warmup",       "warmup",       0.1,      _choice(0.0, 0.1),               _N),
    Knob("averaging",    "averaging",    0.0,      _choice(0.0, 0.995),             _N),
    Knob("flip",         "flip",         False,    _choice(False, True),            _N),
    Knob("shift",        "shift",        0,        _choice(0, 1),                   _N),
    Knob("erase",        "erase",        0,        _choice(0, 4),                   _N),
    Knob("temperature",  "temperature",  0.2,      _log(0.05, 1.0),                 _N, _COSINE),
    Knob("label_smoothing", "label_smoothing", 0.0, _choice(0.0, 0.05, 0.1),        _N, _SOFTMAX),
    Knob("anchors",      "anchors",      "all",    _choice(10, "all"),              _N, _METRIC),
    Knob("margin",       "margin",       0.2,      _log(0.05, 1.0),                 _N, _TRIPLET),
    Knob("reduction",    "reduction",    "mean",   _choice("sum", "mean"),          _N, _TRIPLET),
    Knob("tau",          "tau",          2.5e-3,   _log(5e-4, 0.5),                 _S, _SMOOTH_AP),
    Knob("numerator",    "numerator",    "paper",  _choice("seed", "paper"),        _S, _SMOOTH_AP),
)
# fmt: on
SMALL_BATCH = {"batch_size": 64, "lr": 7e-3}
FIXED = ("loss", "epochs", "precision", "seed", "dataset", "network")


def sample(trial: optuna.trial.BaseTrial, base: TrialConfig, space: Space = SPACE) -> TrialConfig:
    """The configuration that an Optuna trial suggests; the FIXED knobs are those of `base`."""
    return _suggested(trial, {field: getattr(base, field) for field in FIXED}, space)


def _suggested(
    trial: optuna.trial.BaseTrial, fixed: Mapping[str, Any], space: Space
) -> TrialConfig:
    chosen = dict(fixed)
    for knob in space:
        if knob.used(chosen):
            chosen[knob.field] = knob.suggest(trial)
    return TrialConfig.from_dict(chosen)


def default(
    loss: str, *, epochs: int, seed: int, precision: str = "auto", space: Space = SPACE
) -> TrialConfig:
    """The configuration of the knobs' defaults, for so many epochs."""
    trial = optuna.trial.FixedTrial({knob.name: knob.default for knob in space})
    fixed = {"loss": loss, "epochs": epochs, "seed": seed, "precision": precision}
    return _suggested(trial, fixed, space)


def reference(loss: str, *, epochs: int, seed: int, precision: str = "auto") -> TrialConfig | None:
    """The seed study's configuration of a loss, for so many epochs; None if it had none."""
    if loss not in REFERENCES:
        return None
    return REFERENCES[loss].replace(epochs=epochs, seed=seed, precision=precision)


def starts(base: TrialConfig, space: Space = SPACE) -> tuple[TrialConfig, ...]:
    """What every search begins with, set by hand; the FIXED knobs are those of `base`.

    The seed study's configuration, so that no search can end below it, if it had one of this loss;
    the knobs' defaults; and these with a small batch.
    """
    fixed: dict[str, Any] = {
        field: getattr(base, field) for field in ("epochs", "seed", "precision")
    }
    first, usual = reference(base.loss, **fixed), default(base.loss, **fixed, space=space)
    return (*([] if first is None else [first]), usual, usual.replace(**SMALL_BATCH))


def params(config: TrialConfig, space: Space = SPACE) -> dict[str, Any]:
    """A configuration as Optuna's parameters: the inverse of `sample`.

    Raises:
        ValueError: a value lies outside the range of its knob.
    """
    chosen = config.to_dict()
    found = {}
    for knob in space:
        if knob.used(chosen):
            value = chosen[knob.field]
            if not knob.allows(value):
                raise ValueError(f"{knob.name} must be in {knob.range}; got {value!r}")
            found[knob.name] = value
    return found


def distributions(config: TrialConfig, space: Space = SPACE) -> dict[str, BaseDistribution]:
    """The ranges of the knobs that a configuration uses, by their names in Optuna."""
    chosen = config.to_dict()
    return {knob.name: knob.range for knob in space if knob.used(chosen)}


def describe(space: Space = SPACE) -> list[dict[str, str]]:
    """The space as rows of text (knob, default, range, role, used by), for results and pages."""
    return [
        {
            "knob": knob.name,
            "default": str(knob.default),
            "range": _range_text(knob.range),
            "role": knob.role,
            "used by": ", ".join(v for values in knob.where.values() for v in values) or "all",
        }
        for knob in space
    ]


def _range_text(distribution: Range) -> str:
    if isinstance(distribution, CategoricalDistribution):
        return ", ".join(str(choice) for choice in distribution.choices)
    return f"{distribution.low:g} to {distribution.high:g}" + (" (log)" if distribution.log else "")
