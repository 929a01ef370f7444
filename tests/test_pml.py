"""The losses of pytorch-metric-learning: each trains, keeps its state, and repeats."""

from __future__ import annotations

import copy
import dataclasses
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("pytorch_metric_learning", reason="the extra [pml]")

from study.search.space import WIDE, default
from trainables import losses
from trainables.config import TrialConfig
from trainables.knobs import Choice, Knob, positive
from trainables.losses import pml
from trainables.losses.pml_knobs import derived, knobs, parameters
from trainables.retrieval import unit_length

USABLE = sorted(
    f"{name}Loss"
    for name in (
        "Angular",
        "ArcFace",
        "Circle",
        "Contrastive",
        "CosFace",
        "DynamicSoftMargin",
        "FastAP",
        "GeneralizedLiftedStructure",
        "Histogram",
        "IntraPairVariance",
        "LargeMarginSoftmax",
        "LiftedStructure",
        "Margin",
        "MultiSimilarity",
        "NCA",
        "NPairs",
        "NTXent",
        "NormalizedSoftmax",
        "P2SGrad",
        "PNP",
        "ProxyAnchor",
        "ProxyNCA",
        "RankedList",
        "SignalToNoiseRatioContrastive",
        "SoftTriple",
        "SphereFace",
        "SubCenterArcFace",
        "SupCon",
        "ThresholdConsistentMargin",
        "TripletMargin",
        "TupletMargin",
    )
)
WITH_CLASSES = sorted(
    f"{name}Loss"
    for name in (
        "ArcFace",
        "CosFace",
        "LargeMarginSoftmax",
        "NormalizedSoftmax",
        "P2SGrad",
        "ProxyAnchor",
        "ProxyNCA",
        "SoftTriple",
        "SphereFace",
        "SubCenterArcFace",
    )
)
CLASSES, WIDTH = 6, 8


def clusters() -> tuple[Tensor, Tensor]:
    """48 rows of 12 numbers, of six classes, by class."""
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(CLASSES).repeat_interleave(8)
    centres = torch.randn(CLASSES, 12, generator=generator)
    noise = torch.randn(48, 12, generator=generator)
    return centres[labels] + 0.7 * noise, labels


class Run:
    """A linear network and a loss that train on batches of 24, the same at the same step."""

    def __init__(self, name: str, **changes: Any) -> None:
        torch.manual_seed(0)
        found = pml.entry(name)
        self.network = nn.Linear(12, WIDTH)
        self.loss = found.build(found.arguments(changes), classes=CLASSES, width=WIDTH)
        weights = [*self.network.parameters(), *self.loss.parameters()]
        self.optimizer = torch.optim.Adam(weights, lr=0.01)

    def step(self, number: int) -> float:
        images, labels = clusters()
        chosen = torch.randperm(48, generator=torch.Generator().manual_seed(number))[:24]
        loss = self.loss(self.network(images[chosen]), labels[chosen])
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        assert loss.shape == ()
        return loss.item()

    def parts(self) -> tuple[Any, ...]:
        return self.network, self.loss, self.optimizer


def test_the_usable_ones() -> None:
    assert pml.usable() == USABLE
    assert len(USABLE) == 31
    assert [name for name in USABLE if pml.entry(name).knows_classes] == WITH_CLASSES


@pytest.mark.parametrize("name", USABLE)
def test_it_trains_and_a_resumed_run_repeats(name: str) -> None:
    whole = Run(name)
    before = copy.deepcopy(whole.loss.state_dict())
    network = copy.deepcopy(whole.network.state_dict())
    losses, saved = [], None
    for number in range(8):
        if number == 4:
            saved = copy.deepcopy([part.state_dict() for part in whole.parts()])
        losses.append(whole.step(number))
    assert all(map(math.isfinite, losses))
    assert len(set(losses)) == 8
    assert not torch.equal(network["weight"], whole.network.weight)
    for key, weight in whole.loss.named_parameters():
        assert weight.dtype == torch.float32
        assert not torch.equal(before[key], weight), key
    resumed = Run(name)
    assert saved is not None
    for part, state in zip(resumed.parts(), saved, strict=True):
        part.load_state_dict(state)
    assert [resumed.step(number) for number in range(4, 8)] == losses[4:]
    for one, other in zip(whole.parts()[:2], resumed.parts()[:2], strict=True):
        for mine, theirs in zip(
            one.state_dict().values(), other.state_dict().values(), strict=True
        ):
            assert torch.equal(mine, theirs)


@pytest.mark.parametrize("name", USABLE)
def test_training_brings_classes_together(name: str) -> None:
    """More of the seven nearest training rows are of a row's class than before."""
    run = Run(name)
    images, labels = clusters()

    def precision() -> float:
        rows = unit_length(run.network(images)).detach()
        near = (rows @ rows.T).fill_diagonal_(-2).topk(7).indices
        return (labels[near] == labels[:, None]).float().mean().item()

    first = precision()
    for number in range(60):
        run.step(number)
    assert precision() > first + 0.05


@pytest.mark.parametrize("name", USABLE)
def test_autocast_changes_nothing(name: str) -> None:
    run = Run(name)
    images, labels = clusters()
    features = run.network(images).detach().bfloat16()
    other = copy.deepcopy(run.loss)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = run.loss(features.requires_grad_(), labels)
    plain = other(features.detach().float(), labels)
    assert cast.dtype == torch.float32 and torch.equal(cast, plain)
    cast.backward()
    assert features.grad is not None and features.grad.dtype == torch.bfloat16
    assert features.grad.isfinite().all()
    assert all(weight.dtype == torch.float32 for weight in run.loss.parameters())
    twin = copy.deepcopy(run.loss)  # also after a step, as averaged weights are
    assert torch.equal(twin(features.float(), labels), run.loss(features.float(), labels))


@pytest.mark.parametrize("name", USABLE)
def test_evaluation_leaves_no_trace(name: str) -> None:
    run = Run(name)
    run.step(0)
    images, labels = clusters()
    features = run.network(images).detach()
    trained = copy.deepcopy(run.loss.state_dict())
    run.loss.eval()
    with torch.no_grad():
        first, again = run.loss(features, labels), run.loss(features, labels)
    assert torch.equal(first, again)
    for key, value in run.loss.state_dict().items():
        assert torch.equal(value, trained[key]), key


@pytest.mark.parametrize("name", USABLE)
@pytest.mark.parametrize(
    "labels",
    [list(range(6)), [0] * 6, [3], [0, 0, 1, 1, 2, 2]],
    ids=["no positives", "one class", "one image", "equal pairs"],
)
def test_a_batch_without_pairs_is_finite(name: str, labels: list[int]) -> None:
    run, marks = Run(name), torch.tensor(labels)
    rows = torch.randn(len(labels), WIDTH, generator=torch.Generator().manual_seed(0))
    if labels == [0, 0, 1, 1, 2, 2]:
        rows = rows[marks]
    rows.requires_grad_()
    loss = run.loss(rows, marks)
    loss.backward()
    assert loss.isfinite()
    assert rows.grad is not None and rows.grad.isfinite().all()
    if pml.entry(name).needs_positives and labels == list(range(6)):
        assert loss == 0 and not rows.grad.any()


@pytest.mark.parametrize("name", USABLE)
@pytest.mark.parametrize("zero", [0.0, 1e-40])
def test_an_image_without_features_is_finite(name: str, zero: float) -> None:
    """Its embedding has no direction; 1e-40 is a length whose square is 0."""
    run = Run(name)
    images, labels = clusters()
    features = run.network(images).detach()
    features[5] = zero
    loss = run.loss(features.requires_grad_(), labels)
    (slope,) = torch.autograd.grad(loss, features)
    assert loss.isfinite()
    assert slope.isfinite().all()
    if name in pml.DIVIDING:
        others = [row for row in range(48) if row != 5]
        assert torch.equal(loss, run.loss(features[others], labels[others]))
        assert run.loss(0 * features[:2], labels[:2]) == 0


@pytest.mark.parametrize("name", USABLE)
def test_what_needs_positives(name: str) -> None:
    """Of twenty random batches of distinct labels, one at least teaches a loss that needs none."""
    module, taught = Run(name).loss, False
    module.needs_positives = False
    for seed in range(20):
        rows = torch.randn(CLASSES, WIDTH, generator=torch.Generator().manual_seed(seed))
        rows = (rows + 2 * rows[0]).requires_grad_()  # near to each other
        module(rows, torch.arange(CLASSES)).backward()
        assert rows.grad is not None
        taught = taught or bool((rows.grad.abs() > 1e-7).any())
    assert taught != pml.entry(name).needs_positives


@pytest.mark.parametrize("name", USABLE)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_no_number_shows(name: str, value: float) -> None:
    run = Run(name)
    images, labels = clusters()
    features = run.network(images).detach()
    features[5, 3] = value
    loss = run.loss(features.requires_grad_(), labels)
    (slope,) = torch.autograd.grad(loss, features)
    assert loss.isnan() and slope.isnan().any()
    assert all(weight.isfinite().all() for weight in run.loss.state_dict().values())


@pytest.mark.parametrize("name", USABLE)
def test_any_value_of_a_range_is_one(name: str) -> None:
    """Both ends of every range, one knob at a time: finite."""
    found = pml.entry(name)
    assert len({knob.name for knob in found.knobs}) == len(found.knobs)
    for knob in found.knobs:
        knob.law(knob.name, knob.default)
        if knob.range is None:
            continue
        assert knob.range.holds(knob.default), knob
        ends = knob.range.values if isinstance(knob.range, Choice) else knob.range[:2]
        for value in ends:
            run = Run(name, **{knob.name: value})
            assert all(math.isfinite(run.step(number)) for number in range(2)), (knob.name, value)


def test_knobs_of_the_whole_chain_of_bases() -> None:
    package = pml._package().losses
    assert parameters(package.ProxyNCALoss)["softmax_scale"] == 1
    assert parameters(package.SphereFaceLoss)["margin"] == 4
    assert parameters(package.ArcFaceLoss)["margin"] == 28.6
    found = {knob.name: knob for knob in knobs(package.SignalToNoiseRatioContrastiveLoss)}
    assert set(found) == {"pos_margin", "neg_margin"}
    assert found["pos_margin"].range is None
    assert str(found["neg_margin"].range) == "0.1 to 10 (log)"


@pytest.mark.parametrize(
    ("default", "expected"),
    [
        (2.0, "0.2 to 20 (log)"),
        (3, "0.3 to 30 (log)"),
        (True, "False, True"),
        (0, "None"),
        (-1.5, "None"),
        ("all", "None"),
    ],
)
def test_a_derived_knob(default: Any, expected: str) -> None:
    knob = derived("x", default)
    assert isinstance(knob, Knob)
    assert str(knob.range) == expected
    assert knob.default == default
    knob.law("x", default)
    with pytest.raises(ValueError, match="x must be"):
        knob.law("x", [])


def test_counts_stay_whole() -> None:
    knob = derived("num_bins", 10)
    assert knob is not None and str(knob.range) == "5, 10, 20"
    with pytest.raises(ValueError, match=r"num_bins must be an integer >= 1; got 2\.5"):
        knob.law("num_bins", 2.5)
    assert derived("alpha", None) is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("SmoothAPLoss", "pml:SmoothAPLoss cannot be used: it takes samples a class for .* 0.316"),
        ("InstanceLoss", "pml:InstanceLoss cannot be used: .* a place in the batch"),
        ("ManifoldLoss", "pml:ManifoldLoss cannot be used: it takes no labels"),
        ("VICRegLoss", "pml:VICRegLoss cannot be used: it takes no labels"),
        ("CrossBatchMemory", "pml:CrossBatchMemory cannot be used: it wraps another loss"),
        ("SupCon", "has no loss 'SupCon'; did you mean pml:SupConLoss"),
        ("multisimilarity", "did you mean pml:MultiSimilarityLoss"),
        ("", "pytorch-metric-learning has no loss ''$"),
    ],
)
def test_what_is_refused(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pml.entry(name)


def test_every_name_of_the_package_is_usable_or_refused() -> None:
    package = pml._package().losses
    classes = {name for name, value in vars(package).items() if isinstance(value, type)}
    assert classes == {*USABLE, *pml.REFUSED}


def test_the_reasons_are_so() -> None:
    """Perfect embeddings cost its Smooth-AP; following its instance loss takes classes apart."""
    package = pml._package().losses
    for classes, many, expected in ((8, 4, 0.316), (4, 8, 0.435), (4, 4, 0.0)):
        marks = torch.arange(classes).repeat_interleave(many)
        rows = torch.eye(classes)[marks]
        found = package.SmoothAPLoss()(rows, marks).item()
        assert found == pytest.approx(expected, abs=0.02), (classes, many)
    marks = torch.arange(8).repeat_interleave(4)
    rows = torch.randn(32, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    optimizer, loss = torch.optim.Adam([rows], lr=0.05), package.InstanceLoss()
    for _ in range(300):
        optimizer.zero_grad()
        loss(unit_length(rows), marks).backward()
        optimizer.step()
    unit = unit_length(rows).detach()
    near = (unit @ unit.T).fill_diagonal_(-2).argmax(1)
    assert (marks[near] == marks).float().mean() < 0.2


def test_units_are_theirs() -> None:
    """Triplet distances are not squared; an ArcFace margin is in degrees."""
    rows = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    marks = torch.tensor([0, 0, 1])
    found = pml.entry("TripletMarginLoss")
    module = found.build(found.arguments({"margin": 0.7}), classes=2, width=2)
    # From (1, 0): sqrt 2 - 2 + 0.7; from (0, 1): sqrt 2 - sqrt 2 + 0.7.
    assert module(rows, marks).item() == pytest.approx((math.sqrt(2) - 2 + 0.7 + 0.7) / 2, abs=1e-6)
    found = pml.entry("ArcFaceLoss")
    module = found.build(found.arguments({"margin": 30.0, "scale": 4.0}), classes=2, width=2)
    with torch.no_grad():
        module.loss.W.copy_(torch.eye(2))
    angle = math.radians(20)
    row = torch.tensor([[math.cos(angle), math.sin(angle)]])
    logits = 4 * math.cos(math.radians(50)), 4 * math.cos(math.radians(70))
    expected = math.log(1 + math.exp(logits[1] - logits[0]))
    assert module(3 * row, torch.tensor([0])).item() == pytest.approx(expected, abs=1e-5)


def test_it_names_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str, *_: Any) -> Any:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(pml.importlib, "import_module", missing)
    with pytest.raises(
        ValueError, match=r"needs pytorch-metric-learning .*: pip install .*\[pml\]"
    ):
        pml.entry("SupConLoss")


def test_an_unknown_knob_is_refused() -> None:
    with pytest.raises(ValueError, match="has the knobs temperature; got 'temprature'; did you"):
        pml.entry("SupConLoss").arguments({"temprature": 0.1})
    given = {"alpha": 1.0, "beta": 20.0}
    one, other = (
        pml.entry("MultiSimilarityLoss").arguments(dict(items))
        for items in (given.items(), reversed(given.items()))
    )
    assert one == other and hash(one) == hash(other)


@pytest.mark.parametrize("name", USABLE)
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_each_has_a_configuration_which_a_row_of_a_table_gives_back(
    name: str, optimizer: str
) -> None:
    """Of the widest space; what is the optimizer's stays the optimizer's."""
    loss = f"pml:{name}:optimizer={optimizer}"
    config = default(loss, epochs=1, seed=0, space=WIDE)
    assert TrialConfig.from_dict(config.flat()) == config
    assert config.momentum == (None if optimizer == "adam" else 0.9)
    given = config.entry.build(config.loss_args, classes=CLASSES, width=WIDTH)
    assert isinstance(given, nn.Module)


def test_a_loss_that_knows_no_class_trains_no_weight_of_its_own() -> None:
    """Whose learning rate no search would look for."""
    (knob,) = [knob for knob in pml.entry("MarginLoss").knobs if knob.name == "learn_beta"]
    assert (knob.default, knob.range) == (False, None)
    for name in set(USABLE) - set(WITH_CLASSES):
        assert not list(Run(name).loss.parameters()), name


def test_a_knob_may_have_another_name_than_its_argument() -> None:
    run = Run("DynamicSoftMarginLoss", histogram_momentum=0.05)
    assert run.loss.loss.momentum == 0.05


def test_a_knob_of_a_fields_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = dataclasses.replace(pml.entry("SupConLoss"), knobs=(Knob("crop", 1.0, None, positive),))
    monkeypatch.setattr(losses, "resolve", lambda name: entry)
    law = "a loss's knobs must have names that no field of a configuration has; those of"
    with pytest.raises(ValueError, match=f"{law} pml:SupConLoss have crop"):
        TrialConfig(loss="mine", optimizer="adam", lr=0.1)
