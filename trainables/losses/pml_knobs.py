"""The knobs of pytorch-metric-learning's losses: chosen by hand, or derived from a signature."""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn

from trainables import laws
from trainables.knobs import (
    Knob,
    Law,
    Span,
    choice,
    integer,
    log,
    not_negative,
    one_of,
    positive,
    share,
    word,
)

#: Arguments that are no knobs: what the data decides, and parts to put other parts in.
DECIDED = ("num_classes", "embedding_size", "descriptors_dim")
PARTS = (
    "collect_stats",
    "distance",
    "embedding_reg_weight",
    "embedding_regularizer",
    "mat_based_loss",
    "reducer",
    "weight_init_func",
    "weight_reg_weight",
    "weight_regularizer",
)
#: Arguments that count something, and so are whole numbers.
COUNTS = ("centers_per_class", "n_bins", "num_bins", "sub_centers")

#: Knobs that are called otherwise than their argument, whose name a field of configurations has.
RENAMED = {"histogram_momentum": "momentum"}

VARIANTS = ("O", "Ds", "Dq", "Iu", "Ib")
DISTANCE, COSINE, DEGREES = "of distance, not squared", "of cosine", "degrees"


def real(name: str, value: Any) -> None:
    laws.number(name, value, "of any sign", lambda x: True)


def at_most(most: float) -> Law:
    return lambda name, value: laws.number(name, value, f"<= {most}", lambda x: x <= most)


def _scale(default: float) -> Knob:
    return Knob("scale", default, log(4, 256), positive, unit="of logits")


def _angular(default: float, *others: Knob) -> tuple[Knob, ...]:
    return Knob("margin", default, log(5, 50), positive, unit=DEGREES), _scale(64.0), *others


def _lifted() -> tuple[Knob, ...]:
    return (Knob("neg_margin", 1.0, log(0.2, 2), positive, unit=DISTANCE),)


# Its own 1 is for features of any length: of unit embeddings, the logits would hardly differ.
_MULTIPLE = (Knob("margin", 4, choice(2, 3, 4), integer(2), unit="times the angle"), _scale(16.0))
_SOFTMAX = (Knob("softmax_scale", 1.0, log(0.5, 64), positive, unit="per squared distance"),)

#: By loss; an argument that is not named here is derived. Ranges hold the optima found by "A Metric
#: Learning Reality Check" (Musgrave et al., ECCV 2020, arXiv 2003.08505) and the papers' choices.
CHOSEN: dict[str, tuple[Knob, ...]] = {
    "AngularLoss": (Knob("alpha", 40.0, Span(30, 55), positive, unit=DEGREES),),
    "ArcFaceLoss": _angular(28.6),
    "CircleLoss": (
        Knob("m", 0.4, Span(0.1, 0.6), share, unit=COSINE),
        Knob("gamma", 80.0, log(16, 512), positive, unit="per cosine"),
    ),
    "ContrastiveLoss": (
        Knob("pos_margin", 0.0, Span(0, 0.3), not_negative, unit=DISTANCE),
        Knob("neg_margin", 1.0, Span(0.2, 1.4), positive, unit=DISTANCE),
    ),
    "CosFaceLoss": (Knob("margin", 0.35, log(0.05, 0.7), positive, unit=COSINE), _scale(64.0)),
    # A difference of distances, up to 2, must fall into the last bin but one, or it is an error.
    "DynamicSoftMarginLoss": (
        Knob("min_val", -2.6, None, at_most(-2.6), unit=DISTANCE),
        Knob("num_bins", 10, choice(10, 20, 40), integer(10)),
        Knob("histogram_momentum", 0.01, log(1e-3, 0.1), share),
    ),
    "GeneralizedLiftedStructureLoss": _lifted(),
    "HistogramLoss": (Knob("n_bins", 100, choice(50, 100, 200), integer(2)),),
    "LargeMarginSoftmaxLoss": _MULTIPLE,
    "LiftedStructureLoss": _lifted(),
    "MarginLoss": (
        Knob("margin", 0.2, log(0.05, 0.6), positive, unit=DISTANCE),
        Knob("beta", 1.2, Span(0.6, 1.4), positive, unit=DISTANCE),
        Knob("learn_beta", False, None, laws.truth),  # a weight, whose rate no search looks for
    ),
    "MultiSimilarityLoss": (
        Knob("alpha", 2.0, log(0.5, 50), positive, unit="per cosine"),
        Knob("beta", 50.0, log(10, 200), positive, unit="per cosine"),
        Knob("base", 0.5, Span(0, 1), real, unit=COSINE),
    ),
    "NCALoss": _SOFTMAX,
    "NormalizedSoftmaxLoss": (Knob("temperature", 0.05, log(0.01, 0.3), positive, unit=COSINE),),
    "NTXentLoss": (Knob("temperature", 0.07, log(2e-4, 0.3), positive, unit=COSINE),),
    "PNPLoss": (
        Knob("anneal", 0.01, log(1e-3, 0.1), positive, unit=COSINE),
        Knob("variant", "O", choice(*VARIANTS), one_of(*VARIANTS)),
        Knob("b", 2.0, None, positive),
        Knob("alpha", 1.0, None, positive),
    ),
    "ProxyAnchorLoss": (
        Knob("margin", 0.1, log(0.02, 0.5), positive, unit=COSINE),
        Knob("alpha", 32.0, log(8, 128), positive, unit="per cosine"),
    ),
    "ProxyNCALoss": _SOFTMAX,
    "RankedListLoss": (
        Knob("margin", 0.4, log(0.1, 1), positive, unit=DISTANCE),
        Knob("Tn", 1.0, log(0.1, 5), positive, unit="per distance"),
        Knob("imbalance", 0.5, Span(0.1, 0.9), share),
    ),
    "SoftTripleLoss": (
        Knob("la", 20.0, log(5, 100), positive, unit="per cosine"),
        Knob("gamma", 0.1, log(0.01, 1), positive, unit=COSINE),
        Knob("margin", 0.01, log(0.003, 0.3), positive, unit=COSINE),
        Knob("centers_per_class", 10, choice(2, 5, 10), integer(1)),
    ),
    "SphereFaceLoss": _MULTIPLE,
    "SubCenterArcFaceLoss": _angular(28.6, Knob("sub_centers", 3, choice(2, 3, 5), integer(1))),
    "SupConLoss": (Knob("temperature", 0.1, log(0.01, 0.5), positive, unit=COSINE),),
    "ThresholdConsistentMarginLoss": (
        Knob("margin_plus", 0.9, Span(0.5, 1), real, unit=COSINE),
        Knob("margin_minus", 0.5, Span(0, 0.9), real, unit=COSINE),
    ),
    "TripletMarginLoss": (
        Knob("margin", 0.05, log(0.02, 0.5), positive, unit=DISTANCE),
        Knob("smooth_loss", False, None, laws.truth),
    ),
    "TupletMarginLoss": (
        Knob("margin", 5.73, log(1, 20), positive, unit=DEGREES),
        _scale(64.0),
    ),
}


def parameters(loss: type[nn.Module]) -> dict[str, Any]:
    """The arguments of a loss by name along the chain of its bases, and their defaults."""
    found: dict[str, Any] = {}
    for base in loss.__mro__:
        if base is nn.Module:
            break
        if "__init__" in vars(base):
            _, *named = inspect.signature(vars(base)["__init__"]).parameters.values()
            for parameter in named:
                if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
                    found.setdefault(parameter.name, parameter.default)
    return found


def knobs(loss: type[nn.Module]) -> tuple[Knob, ...]:
    """The knobs of a loss: those chosen, and then those derived."""
    chosen = CHOSEN.get(loss.__name__, ())
    known = {*DECIDED, *PARTS, *(RENAMED.get(knob.name, knob.name) for knob in chosen)}
    rest = (derived(*item) for item in parameters(loss).items() if item[0] not in known)
    return *chosen, *(knob for knob in rest if knob is not None)


def derived(name: str, default: Any) -> Knob | None:
    """A knob from an argument's default; None for one that has none, which is left as it is.

    A positive number v is searched from v/10 to 10 v in its logarithm, a count from v/2 to 2 v, a
    truth value over both; anything else is fixed.
    """
    if default is None or default is inspect.Parameter.empty:
        return None
    if isinstance(default, bool):
        return Knob(name, default, choice(False, True), laws.truth)
    if isinstance(default, int) and name in COUNTS:
        return Knob(name, default, choice(max(1, default // 2), default, 2 * default), integer(1))
    if isinstance(default, int | float):
        if default > 0:
            return Knob(name, float(default), log(default / 10, default * 10), positive)
        return Knob(name, float(default), None, real)
    return Knob(name, default, None, word)
