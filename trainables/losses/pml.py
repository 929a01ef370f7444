"""Losses of pytorch-metric-learning (Musgrave et al., arXiv 2008.09164) by name, each an entry."""

from __future__ import annotations

import importlib
import inspect
import warnings
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from trainables.laws import did_you_mean
from trainables.losses.entry import Loss
from trainables.losses.pml_knobs import DECIDED, RENAMED, knobs, parameters
from trainables.retrieval import unit_length

INSTALL = "pip install --editable '.[pml]'"

_NO_LABELS = "it takes no labels"
_NO_LOSS = "it is a part that others are made of"
_WRAPPER = "it wraps another loss"
REFUSED = {
    "BaseLossWrapper": _NO_LOSS,
    "BaseMetricLossFunction": _NO_LOSS,
    "CrossBatchMemory": _WRAPPER,
    "EmbeddingRegularizerMixin": _NO_LOSS,
    "GenericPairLoss": _NO_LOSS,
    "InstanceLoss": "it takes a class's number for a place in the batch: what it trains from free "
    "embeddings of 8 classes of 4 has R@1 0.06, where chance is 0.10",
    "ManifoldLoss": _NO_LABELS,
    "MultipleLosses": _WRAPPER,
    "SelfSupervisedLoss": _WRAPPER,
    "SmoothAPLoss": "it takes samples a class for the number of classes: perfect embeddings have "
    "loss 0.316 at 8 classes of 4, 0.435 at 4 of 8; smooth_ap is exact",
    "VICRegLoss": _NO_LABELS,
    "WeightRegularizerMixin": _NO_LOSS,
}

#: Without a class that comes twice in a batch, these have no gradient.
NEED_POSITIVES = (
    "AngularLoss",
    "CircleLoss",
    "DynamicSoftMarginLoss",
    "FastAPLoss",
    "HistogramLoss",
    "LiftedStructureLoss",
    "MarginLoss",
    "NCALoss",
    "NPairsLoss",
    "NTXentLoss",
    "PNPLoss",
    "SupConLoss",
    "TripletMarginLoss",
    "TupletMarginLoss",
)

#: These take the angle of a cosine, or its bin, which none has beyond 1, where rounding takes it.
BOUNDED = (
    "ArcFaceLoss",
    "HistogramLoss",
    "LargeMarginSoftmaxLoss",
    "SphereFaceLoss",
    "SubCenterArcFaceLoss",
    "TupletMarginLoss",
)
WITHIN = 1 - 1e-6

#: These divide by the length of each embedding, or its variance: both are 0 where all features are.
DIVIDING = ("P2SGradLoss", "SignalToNoiseRatioContrastiveLoss")

TITLES = {
    "ArcFaceLoss": "ArcFace",
    "CircleLoss": "circle",
    "ContrastiveLoss": "contrastive",
    "CosFaceLoss": "CosFace",
    "LiftedStructureLoss": "lifted structure",
    "MultiSimilarityLoss": "multi-similarity",
    "NTXentLoss": "NT-Xent",
    "NormalizedSoftmaxLoss": "normalised softmax (pml)",
    "ProxyAnchorLoss": "Proxy-Anchor",
    "ProxyNCALoss": "Proxy-NCA",
    "SoftTripleLoss": "SoftTriple",
    "SubCenterArcFaceLoss": "sub-center ArcFace",
    "SupConLoss": "supervised contrastive",
    "TripletMarginLoss": "triplet margin (pml)",
}


def entry(name: str) -> Loss:
    """The loss of pytorch-metric-learning of this name, as `SupConLoss`.

    Raises:
        ValueError: it is not installed, has no such loss, or one that cannot be used, with why.
    """
    found = _class(name)
    given = parameters(found)
    return Loss(
        name=f"pml:{name}",
        title=TITLES.get(name, name),
        source=f"pytorch-metric-learning {_package().__version__}, {name}",
        make=partial(MetricLearning, name),
        knobs=knobs(found),
        needs_positives=name in NEED_POSITIVES,
        knows_classes=given.get("num_classes") is inspect.Parameter.empty,
    )


def usable() -> list[str]:
    """The names that `entry` takes."""
    package = _package().losses
    losses = (name for name, value in vars(package).items() if _is_loss(package, value))
    return sorted(name for name in losses if name not in REFUSED)


class MetricLearning(nn.Module):
    """A loss of pytorch-metric-learning, of a batch's unit embeddings, in float32.

    Whatever its forward pass keeps is in `state_dict`, and stays as it was in evaluation.

    Args:
        name: of the loss.
        arguments: its own, by the names of its knobs.
    """

    def __init__(self, name: str, *, classes: int, width: int, **arguments: Any) -> None:
        super().__init__()
        found, given = _class(name), {"num_classes": classes}
        arguments = {RENAMED.get(knob, knob): value for knob, value in arguments.items()}
        given |= {"embedding_size": width, "descriptors_dim": width}
        asked = parameters(found)
        for each in DECIDED:
            if asked.get(each) is inspect.Parameter.empty:
                arguments[each] = given[each]
        if name in BOUNDED:
            arguments["distance"] = _bounded_cosine()
        with warnings.catch_warnings():
            # scipy is given tensors.
            warnings.filterwarnings("ignore", "__array_wrap__", DeprecationWarning)
            self.loss = found(**arguments)
        _keep_tensors(self.loss)
        self.needs_positives = name in NEED_POSITIVES
        self.divides = name in DIVIDING

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """(B, D) and (B,) → a scalar; 0 if it needs positives and no class comes twice.

        Embeddings of zeros, which have no direction, are left out where it would divide by their
        length or variance; 0 if none remains.
        """
        # It casts its own weights to the type of what it is given, in place: always float32.
        with torch.autocast(features.device.type, enabled=False), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Using a non-tuple sequence", UserWarning)
            embeddings, labels = unit_length(features.float()), labels.long()
            if self.divides:
                there = embeddings.detach().square().sum(1).ne(0)
                embeddings, labels = embeddings[there], labels[there]
            idle = self.needs_positives and len(labels.unique()) == len(labels)
            # What is no number shows, where some would compare it away, or take it for a place.
            if idle or not len(labels) or not embeddings.isfinite().all():
                return (embeddings * 0).sum()
            if self.training:
                loss: Tensor = self.loss(embeddings, labels)
                for kept in self.loss.buffers():
                    kept.detach_()  # the next step does not go back through this one
            else:
                state = (*self.loss.named_parameters(), *self.loss.named_buffers())
                copies = {name: tensor.clone() for name, tensor in state}
                loss = functional_call(self.loss, copies, (embeddings, labels))
        return loss.sum()


def _package() -> Any:
    try:
        importlib.import_module("pytorch_metric_learning.losses")
    except ImportError as error:
        raise ValueError(f"pml:NAME needs pytorch-metric-learning ({error}): {INSTALL}") from None
    return importlib.import_module("pytorch_metric_learning")


def _is_loss(package: Any, value: object) -> bool:
    return inspect.isclass(value) and issubclass(value, package.BaseMetricLossFunction)


def _class(name: str) -> type[nn.Module]:
    if name in REFUSED:
        raise ValueError(f"pml:{name} cannot be used: {REFUSED[name]}")
    names = usable()
    if name not in names:
        hint = did_you_mean(name, names, 0.4, before="pml:")
        raise ValueError(f"pytorch-metric-learning has no loss {name!r}{hint}")
    found: type[nn.Module] = getattr(_package().losses, name)
    return found


def _bounded_cosine() -> nn.Module:
    """Its cosine similarity, kept a little within -1 and 1."""
    cosine = importlib.import_module("pytorch_metric_learning.distances").CosineSimilarity

    class BoundedCosine(cosine):  # type: ignore[misc, valid-type]
        def compute_mat(self, *rows: Tensor) -> Tensor:
            cosines: Tensor = super().compute_mat(*rows)
            return cosines.clamp(-WITHIN, WITHIN)

    return BoundedCosine()


def _keep_tensors(loss: nn.Module) -> None:
    """Makes buffers of the tensors that are plain attributes, so that they are saved and moved."""
    for module in list(loss.modules()):
        for name, value in list(vars(module).items()):
            if isinstance(value, Tensor):
                delattr(module, name)
                wide = value.is_floating_point()
                module.register_buffer(name, value.float() if wide else value)
