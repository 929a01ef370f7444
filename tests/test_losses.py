"""The ranking losses against slow loops, finite differences and limits."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import DynamicOutputShapeException, FakeTensorMode

from tests import oracles
from trainables.losses import smooth_ap_loss, triplet_loss
from trainables.losses.kernels import by_block as losses_by_block
from trainables.losses.kernels import by_row as losses_by_row
from trainables.retrieval import squared_distances

LABELS = {
    "shuffled": [2, 0, 1, 2, 1, 0, 0, 2, 1, 2, 0, 2],
    "singletons": [7, 1, 7, -3, 1, 9, 7, 7],
    "only singletons": [3, 1, 2, 0],
    "one class": [5, 5, 5, 5],
    "two samples": [0, 1],
    "one sample": [0],
    "large class": [0] * 11 + [1, 2, 2, 3],
}


def batch(labels: list[int], dtype: torch.dtype = torch.float64, scale: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(len(labels))
    rows = torch.randn(len(labels), 5, generator=generator, dtype=torch.float64)
    return (rows * scale).to(dtype).requires_grad_()


def gradient(loss: Tensor, rows: Tensor) -> Tensor:
    (found,) = torch.autograd.grad(loss, rows)
    return found


@pytest.mark.parametrize("mean", [True, False])
@pytest.mark.parametrize("seed", [False, True])
@pytest.mark.parametrize("anchors", [None, 1, 3, 100])
@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
def test_smooth_ap_value_and_gradient(
    labels: list[int], anchors: int | None, seed: bool, mean: bool
) -> None:
    rows, marks = batch(labels), torch.tensor(labels)
    options = {"numerator": "seed" if seed else "paper", "positives": "mean" if mean else "sum"}
    found = smooth_ap_loss(rows, marks, tau=3.0, anchors=anchors, **options)
    assert found.item() == pytest.approx(
        oracles.smooth_ap(rows.tolist(), labels, 3.0, anchors, seed, mean), abs=1e-12
    )
    dense = oracles.dense_smooth_ap(rows, marks, 3.0, anchors, seed, mean)
    distances = squared_distances(rows[:anchors].detach(), rows.detach())
    blocks, slopes = losses_by_block.smooth_ap(distances, marks, 3.0, seed, mean)
    _, rowwise = losses_by_row.smooth_ap(distances, marks, 3.0, seed, mean)
    assert blocks.item() == pytest.approx(found.item(), abs=1e-12)
    torch.testing.assert_close(slopes, rowwise, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(gradient(found, rows), gradient(dense, rows), rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("mean", [False, True])
@pytest.mark.parametrize("anchors", [None, 1, 3, 100])
@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
def test_triplet_value_and_gradient(labels: list[int], anchors: int | None, mean: bool) -> None:
    rows, marks = batch(labels), torch.tensor(labels)
    reduction: Any = "mean" if mean else "sum"
    found = triplet_loss(rows, marks, margin=0.7, anchors=anchors, reduction=reduction)
    expected = oracles.triplet(rows.tolist(), labels, 0.7, anchors, mean)
    assert found.item() == pytest.approx(expected, abs=1e-12)
    dense = oracles.dense_triplet(rows, marks, 0.7, anchors, mean)
    torch.testing.assert_close(gradient(found, rows), gradient(dense, rows), rtol=1e-9, atol=1e-12)


def test_gradcheck() -> None:
    rows, marks = batch(LABELS["singletons"]), torch.tensor(LABELS["singletons"])
    for numerator in ("paper", "seed"):
        assert torch.autograd.gradcheck(
            lambda x, n=numerator: smooth_ap_loss(x, marks, tau=2.0, numerator=n), rows
        )
    for reduction in ("mean", "sum"):
        assert torch.autograd.gradcheck(
            lambda x, r=reduction: triplet_loss(x, marks, margin=0.7, reduction=r), rows
        )


def test_double_backward_is_refused() -> None:
    rows, marks = batch(LABELS["shuffled"]), torch.tensor(LABELS["shuffled"])
    for loss in (smooth_ap_loss(rows, marks, tau=1.0), triplet_loss(rows, marks, margin=1.0)):
        with pytest.raises(RuntimeError, match="differentiated twice"):
            torch.autograd.grad(loss, rows, create_graph=True)


@pytest.mark.parametrize("name", ["shuffled", "singletons", "large class"])
def test_small_tau_gives_average_precision(name: str) -> None:
    rows, marks = batch(LABELS[name]), torch.tensor(LABELS[name])
    expected = oracles.average_precision_loss(rows.tolist(), LABELS[name])
    assert 0.05 < expected < 0.95
    assert smooth_ap_loss(rows, marks, tau=1e-6).item() == pytest.approx(expected, abs=1e-9)


def far_apart(dtype: torch.dtype, spread: float) -> tuple[Tensor, list[int]]:
    """60 samples of 4 classes, of size 0.05, whose centres are `spread` from 0."""
    labels = [i % 4 for i in range(60)]
    centres = torch.eye(4, 5, dtype=torch.float64)[torch.tensor(labels)] * spread
    rows = batch([0] * 60, scale=0.05).detach() + centres
    return rows.to(dtype).requires_grad_(), labels


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("spread", [0.0, 0.3, 1.0, 3.0, 100.0])
@pytest.mark.parametrize("tau", [0.02, 1e-5])
def test_saturated_negatives_are_left_out_within_rounding(
    dtype: torch.dtype, spread: float, tau: float
) -> None:
    """Against all logistics of the same distances, also where exponentials would overflow."""
    rows, labels = far_apart(dtype, spread)
    distances, marks = squared_distances(rows, rows).detach(), torch.tensor(labels)
    within = max(4 * torch.finfo(dtype).eps, 1e-13)  # float64: rounding of both
    for seed in (False, True):
        fast, fast_slopes = losses_by_row.smooth_ap(distances, marks, tau, seed)
        full, full_slopes = losses_by_block.smooth_ap(distances.double(), marks, tau, seed)
        assert fast.dtype == fast_slopes.dtype == dtype
        torch.testing.assert_close(fast.double(), full, rtol=0, atol=within)
        torch.testing.assert_close(fast_slopes.double(), full_slopes, rtol=0, atol=within / tau)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_negatives_are_left_out_exactly_when_saturated(dtype: torch.dtype) -> None:
    eps, near = torch.finfo(dtype).eps, [3.0, 150.0]
    far = list(range(-99, 300))
    distances = torch.tensor([[0.0, *near, *far]], dtype=dtype)
    labels = torch.tensor([0] * 3 + [1] * len(far))
    loss, slopes = losses_by_row.smooth_ap(distances, labels, 1.0, False)
    left_out = [
        -min(abs(p - d) for p in near)
        for d, slope in zip(far, slopes[0, 3:].tolist(), strict=True)
        if slope == 0 and (d > near[0] or dtype is torch.float32)  # 1 - 1e-17 is 1 in float64
    ]
    # The logistic farthest from 0 and 1, times how many there are, in units of eps.
    worst = [oracles.logistic(gap) * distances.numel() / eps for gap in left_out]
    assert 0.1 < max(worst) <= 1
    # Those that rank first are counted.
    ranks = [sum(oracles.logistic(p - d) for d in far) for p in near]
    other = oracles.logistic(near[0] - near[1]), oracles.logistic(near[1] - near[0])
    terms = [wrong / (1 + before + wrong) for wrong, before in zip(ranks, other, strict=True)]
    assert loss.item() == pytest.approx(sum(terms) / 2, abs=4 * eps)


def test_saturated_negatives_that_rank_first_are_counted() -> None:
    # Positives far from one another, each between all the negatives: every logistic is 1.
    rows = torch.tensor([[-5.0], [5.0], [0.0], [0.1], [-0.1]], dtype=torch.float64)
    labels = [0, 0, 1, 2, 3]
    found = smooth_ap_loss(rows, torch.tensor(labels), tau=0.1).item()
    assert found == pytest.approx(0.75, abs=1e-12)
    assert found == pytest.approx(oracles.smooth_ap(rows.tolist(), labels, 0.1), abs=1e-12)


@pytest.mark.parametrize("bound", [1, 200, 700, 5000, losses_by_block.BLOCK_BYTES])
@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
def test_blocks_of_any_size_agree_with_rows(
    labels: list[int], bound: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, marks = batch(labels), torch.tensor(labels)
    calls = (
        lambda: smooth_ap_loss(rows, marks, tau=2.0),
        lambda: smooth_ap_loss(rows, marks, tau=2.0, numerator="seed", anchors=3),
        lambda: triplet_loss(rows, marks, margin=0.7),
        lambda: triplet_loss(rows, marks, margin=0.7, reduction="sum", anchors=2),
    )
    by_row = [(loss.detach(), gradient(loss, rows)) for loss in (call() for call in calls)]
    monkeypatch.setattr("trainables.losses.ranking.by_row", losses_by_block)
    monkeypatch.setattr(losses_by_block, "BLOCK_BYTES", bound)
    by_block = [(loss.detach(), gradient(loss, rows)) for loss in (call() for call in calls)]
    torch.testing.assert_close(by_row, by_block, rtol=1e-12, atol=1e-14)


def test_the_bound_of_a_block_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    bound, seen = 4096, []
    monkeypatch.setattr(losses_by_block, "BLOCK_BYTES", bound)
    original = losses_by_block._smooth_ranks

    def spy(ranked: Tensor, weight: Tensor, near: Tensor, far: Tensor, seed: bool) -> Any:
        seen.append(ranked.numel() * (near.shape[1] + far.shape[1]) * ranked.element_size())
        return original(ranked, weight, near, far, seed)

    monkeypatch.setattr(losses_by_block, "_smooth_ranks", spy)
    rows = batch([0] * 60).detach()
    losses_by_block.smooth_ap(squared_distances(rows, rows), torch.arange(60) % 3, 2.0, False)
    assert max(seen) <= bound
    assert sum(seen) == 60 * 59 * 2 * 59 * 8


@pytest.mark.parametrize("name", ["shuffled", "singletons"])
def test_order_does_not_matter(name: str) -> None:
    rows, marks = batch(LABELS[name]), torch.tensor(LABELS[name])
    order = torch.randperm(len(marks), generator=torch.Generator().manual_seed(1))
    for loss in (
        lambda x, y: smooth_ap_loss(x, y, tau=1.0),
        lambda x, y: triplet_loss(x, y, margin=0.5),
    ):
        torch.testing.assert_close(loss(rows, marks), loss(rows[order], 5 - marks[order]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    rows, marks = batch(LABELS["shuffled"], dtype), torch.tensor(LABELS["shuffled"])
    wide = rows.detach().float().requires_grad_()
    for loss in (
        lambda x: smooth_ap_loss(x, marks, tau=0.5),
        lambda x: triplet_loss(x, marks, margin=0.5),
    ):
        half, full = loss(rows), loss(wide)
        assert half.dtype == torch.float32
        assert torch.equal(half, full)
        assert torch.equal(gradient(half, rows), gradient(full, wide).to(dtype))


def test_autocast_changes_nothing() -> None:
    rows = batch(LABELS["shuffled"], torch.float32)
    marks = torch.tensor(LABELS["shuffled"])
    for loss in (
        lambda: smooth_ap_loss(rows, marks, tau=0.5),
        lambda: triplet_loss(rows, marks, margin=0.5),
    ):
        plain = loss()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            cast = loss()
            slope = gradient(cast, rows)
        assert cast.dtype == torch.float32
        assert torch.equal(cast, plain)
        assert torch.equal(slope, gradient(plain, rows))


def test_the_accelerator_path_reads_no_value() -> None:
    """Fake CUDA tensors refuse any operation whose shape or result the host would wait for."""
    with FakeTensorMode(), torch.no_grad():
        rows = torch.empty(12, 5, device="cuda")
        marks = torch.empty(12, dtype=torch.long, device="cuda")
        for anchors in (None, 4):
            for loss in (
                smooth_ap_loss(rows, marks, tau=0.1, anchors=anchors),
                triplet_loss(rows, marks, margin=0.1, anchors=anchors),
            ):
                assert loss.shape == () and loss.device.type == "cuda"
        with pytest.raises(DynamicOutputShapeException):
            rows.nonzero()


def test_no_gradient_without_pairs() -> None:
    rows = batch([0] * 4)
    for marks in (torch.zeros(4, dtype=torch.long), torch.arange(4)):
        for loss in (smooth_ap_loss(rows, marks, tau=0.1), triplet_loss(rows, marks, margin=1.0)):
            assert loss.item() == 0
            assert torch.equal(gradient(loss, rows), torch.zeros_like(rows))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e200])
@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
@pytest.mark.parametrize("anchors", [None, 1])
def test_a_number_that_is_none_shows(labels: list[int], anchors: int | None, value: float) -> None:
    """Wherever it stands, also where no pair would use it; the square of 1e200 is infinite."""
    rows, marks = batch(labels), torch.tensor(labels)
    with torch.no_grad():
        rows[-1, -1] = value
    for loss in (
        smooth_ap_loss(rows, marks, tau=0.1, anchors=anchors),
        triplet_loss(rows, marks, margin=1.0, anchors=anchors),
        triplet_loss(rows, marks, margin=1.0, anchors=anchors, reduction="sum"),
    ):
        assert loss.isnan()
        assert gradient(loss, rows).isnan().any()


def test_what_overflows_over_tau_or_with_the_margin_shows() -> None:
    rows, marks = torch.tensor([[0.0], [1.0], [2.0]], requires_grad=True), torch.tensor([0, 0, 1])
    assert smooth_ap_loss(rows, marks, tau=2e-38).isfinite()  # 4 over it is 2e38
    assert smooth_ap_loss(rows, marks, tau=1.18e-38).isfinite()  # 3.39e38
    assert smooth_ap_loss(3 * rows, marks, tau=2e-38).isnan()  # 36 over it is infinite
    assert smooth_ap_loss(3 * rows.double(), marks, tau=2e-38).isfinite()
    assert triplet_loss(1e18 * rows, marks, margin=3.4e38).isnan()
    assert triplet_loss(rows, marks, margin=3e38).item() == pytest.approx(3e38)


numbers = st.sampled_from([0.0, 0.5, 0.5, 1.0, 2.5, 4.0, 1e-3, 1e30])
odd = st.sampled_from([math.nan, math.inf, -math.inf, 3.4e38, -1.0, -0.0])


@st.composite
def distances_and_labels(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """(A, B) with many ties, in places no number or too large a one; a few classes, or one."""
    batch = draw(st.integers(0, 9))
    anchors = draw(st.integers(0, batch))
    entry = numbers if draw(st.booleans()) else numbers | odd
    size = anchors * batch
    values = draw(st.lists(entry, min_size=size, max_size=size))
    labels = draw(st.lists(st.integers(0, 2), min_size=batch, max_size=batch))
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    return torch.tensor(values, dtype=dtype).view(anchors, batch), torch.tensor(labels).to(
        draw(st.sampled_from([torch.uint8, torch.uint16, torch.uint64, torch.int8, torch.int64]))
    )


@settings(max_examples=150, deadline=None)
@given(
    distances_and_labels(),
    st.sampled_from([2e-38, 1e-6, 0.1, 30.0, 3e38]),
    st.sampled_from([0.0, 1e-6, 0.2, 3e38]),
    st.booleans(),
)
def test_kernels_agree_on_any_distances(
    given: tuple[Tensor, Tensor], tau: float, margin: float, flag: bool
) -> None:
    distances = given[0]
    before = distances.clone()
    for one, other, constant in (
        (losses_by_row.smooth_ap, losses_by_block.smooth_ap, tau),
        (losses_by_row.triplet, losses_by_block.triplet, margin),
    ):
        by_row, by_block = one(*given, constant, flag), other(*given, constant, flag)
        assert [t.dtype for t in by_row] == [t.dtype for t in by_block] == [distances.dtype] * 2
        steep = 1 / tau if one is losses_by_row.smooth_ap else 1
        torch.testing.assert_close(by_row[0], by_block[0], rtol=1e-5, atol=1e-6, equal_nan=True)
        torch.testing.assert_close(
            by_row[1], by_block[1], rtol=1e-4, atol=1e-6 * steep, equal_nan=True
        )
        whole = before / tau if one is losses_by_row.smooth_ap else before + margin
        shows = not whole.isfinite().all()
        assert by_row[0].isnan() == shows
        assert (by_row[1].isnan() == shows).all()
        torch.testing.assert_close(distances, before, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("kernels", [losses_by_row, losses_by_block])
@pytest.mark.parametrize(
    ("distances", "labels", "constant", "message"),
    [
        (torch.zeros(3, 2), torch.zeros(2).long(), 1.0, r"\(A, B\), A <= B.* got .* \(3, 2\)"),
        (torch.zeros(2, 2).half(), torch.zeros(2).long(), 1.0, "float32 or float64, got .*16"),
        (torch.zeros(2), torch.zeros(2).long(), 1.0, r"distances must be .* got .* \(2,\)"),
        (torch.zeros(2, 3), torch.zeros(2).long(), 1.0, r"labels must be \(3,\) integers, got"),
        (torch.zeros(2, 2), torch.zeros(2), 1.0, r"labels must be \(2,\) integers, got .*float32"),
        (torch.zeros(2, 2), torch.zeros(2).long(), -1.0, "must be a finite number >=? 0; got -1.0"),
        (torch.zeros(2, 2), torch.zeros(2).long(), 1e-40, "a normal number of float32 .* 1e-40"),
    ],
)
def test_kernels_refuse(
    kernels: Any, distances: Tensor, labels: Tensor, constant: float, message: str
) -> None:
    for kernel in (kernels.smooth_ap, kernels.triplet):
        with pytest.raises(ValueError, match=message):
            kernel(distances, labels, constant, True)


@settings(max_examples=80, deadline=None)
@given(
    labels=st.lists(st.integers(-3, 3), min_size=1, max_size=14),
    tau=st.floats(1e-3, 1e3),
    margin=st.integers(0, 40).map(lambda tenths: tenths / 10),
    anchors=st.none() | st.integers(1, 20),
    seed=st.booleans(),
    data=st.data(),
)
def test_any_batch(
    labels: list[int],
    tau: float,
    margin: float,
    anchors: int | None,
    seed: bool,
    data: st.DataObject,
) -> None:
    # Integers collide, so many distances tie.
    row = st.lists(st.integers(-2, 2), min_size=2, max_size=2)
    values = data.draw(st.lists(row, min_size=len(labels), max_size=len(labels)))
    rows = torch.tensor(values, dtype=torch.float64, requires_grad=True)
    marks = torch.tensor(labels, dtype=torch.int16)
    found = smooth_ap_loss(
        rows, marks, tau=tau, anchors=anchors, numerator="seed" if seed else "paper"
    )
    assert found.item() == pytest.approx(
        oracles.smooth_ap(values, labels, tau, anchors, seed), abs=1e-12
    )
    dense = oracles.dense_smooth_ap(rows, marks, tau, anchors, seed)
    torch.testing.assert_close(
        gradient(found, rows), gradient(dense, rows), rtol=1e-9, atol=1e-12 / min(tau, 1)
    )
    for reduction in ("mean", "sum"):
        hinge = triplet_loss(rows, marks, margin=margin, anchors=anchors, reduction=reduction)
        expected = oracles.triplet(values, labels, margin, anchors, reduction == "mean")
        assert hinge.item() == pytest.approx(expected, rel=1e-12, abs=1e-12)
        assert gradient(hinge, rows).isfinite().all()


ROWS, MARKS = torch.zeros(3, 2), torch.zeros(3, dtype=torch.long)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tau": 0.0}, "tau must be a finite number > 0; got 0.0"),
        ({"tau": math.nan}, "tau must be a finite number > 0; got nan"),
        ({"tau": math.inf}, "tau must be a finite number > 0; got inf"),
        ({"tau": 10**400}, r"tau must be a normal number of float32 .*; got 10000"),
        ({"tau": 1e-40}, r"tau must be a normal number of float32 \(1.2e-38 to .*\); got 1e-40"),
        ({"tau": True}, "tau must be a finite number > 0; got True"),
        ({"tau": "1"}, "tau must be a finite number > 0; got '1'"),
        ({"tau": torch.tensor(1.0)}, r"tau must be a finite number > 0; got tensor\(1.\)"),
        ({"tau": np.array(1.0)}, r"tau must be a finite number > 0; got array\(1.\)"),
        ({"anchors": 0}, "anchors must be an integer >= 1 or None; got 0"),
        ({"anchors": True}, "anchors must be an integer >= 1 or None; got True"),
        ({"anchors": np.True_}, "anchors must be an integer >= 1 or None; got np.True_"),
        ({"anchors": 2.5}, "anchors must be an integer >= 1 or None; got 2.5"),
        ({"anchors": 2.0}, "anchors must be an integer >= 1 or None; got 2.0"),
        ({"anchors": "2"}, "anchors must be an integer >= 1 or None; got '2'"),
        ({"numerator": "x"}, "numerator must be one of paper, seed; got 'x'"),
        ({"numerator": np.array(["paper"])}, r"numerator must be .*; got array\("),
        ({"margin": -0.5}, "margin must be a finite number >= 0; got -0.5"),
        ({"margin": math.inf}, "margin must be a finite number >= 0; got inf"),
        ({"margin": 1e39}, "margin must be a normal number of float32 .*; got 1e[+]39"),
        ({"reduction": "x"}, "reduction must be one of mean, sum; got 'x'"),
        ({"positives": "x"}, "positives must be one of mean, sum; got 'x'"),
        ({"embeddings": ROWS[0]}, r"embeddings must be a 2-d tensor of .* torch.float32 \(2,\)"),
        ({"embeddings": ROWS.int()}, r"embeddings must be .* got torch.int32 \(3, 2\)"),
        ({"embeddings": ROWS.to(torch.float8_e5m2)}, "embeddings must be .* got torch.float8"),
        ({"embeddings": ROWS.tolist()}, "embeddings must be .* got <class 'list'>"),
        ({"embeddings": ROWS[:0], "labels": MARKS[:0]}, r"must have a row, got \(0, 2\)"),
        ({"labels": MARKS.tolist()}, "labels must be a tensor, got list"),
        ({"labels": MARKS[:2]}, r"labels must be \(3,\) integers, got torch.int64 \(2,\)"),
        ({"labels": MARKS.float()}, r"labels must be \(3,\) integers, got torch.float32 \(3,\)"),
        ({"labels": MARKS.bool()}, r"labels must be \(3,\) integers, got torch.bool \(3,\)"),
    ],
)
def test_wrong_arguments(changes: dict[str, Any], message: str) -> None:
    given_all: dict[str, Any] = {"embeddings": ROWS, "labels": MARKS} | changes
    rows, marks = given_all.pop("embeddings"), given_all.pop("labels")
    if not {"margin", "reduction"} & changes.keys():
        with pytest.raises(ValueError, match=message):
            smooth_ap_loss(rows, marks, **{"tau": 1.0} | given_all)
    if not {"tau", "numerator", "positives"} & changes.keys():
        with pytest.raises(ValueError, match=message):
            triplet_loss(rows, marks, **{"margin": 1.0} | given_all)


def test_scalars_of_numpy_are_numbers() -> None:
    rows, marks = batch(LABELS["shuffled"]), torch.tensor(LABELS["shuffled"])
    plain = smooth_ap_loss(rows, marks, tau=0.5, anchors=3)
    assert smooth_ap_loss(rows, marks, tau=np.float32(0.5), anchors=np.int64(3)) == plain
    assert smooth_ap_loss(rows, marks, tau=1) == smooth_ap_loss(rows, marks, tau=1.0)


def test_squared_distances() -> None:
    x, y = batch([0] * 4, scale=3.0).detach(), batch([0] * 6).detach()
    found = squared_distances(x, y)
    expected = [[oracles.squared_distance(a, b) for b in y.tolist()] for a in x.tolist()]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))
    assert (squared_distances(x, x) >= 0).all()
    assert squared_distances(x.half(), y.bfloat16()).dtype == torch.float32
    with pytest.raises(ValueError, match="same D, got 5 and 4"):
        squared_distances(x, y[:, :4])
    with pytest.raises(ValueError, match=r"y must be a 2-d tensor of .*, got torch.int32"):
        squared_distances(x, y.int())
