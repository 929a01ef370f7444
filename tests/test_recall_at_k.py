"""The recall@k surrogate against slow loops, finite differences, limits and worked fractions."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from tests import oracles
from trainables.losses.kernels import by_block, by_row
from trainables.losses.recall_at_k import KS, LOSS, recall_at_k_loss
from trainables.retrieval import squared_distances, unit_length

LABELS = {
    "shuffled": [2, 0, 1, 2, 1, 0, 0, 2, 1, 2, 0, 2],
    "singletons": [7, 1, 7, -3, 1, 9, 7, 7],
    "only singletons": [3, 1, 2, 0],
    "one class": [5, 5, 5, 5],
    "two samples": [0, 1],
    "one sample": [0],
    "large class": [0] * 11 + [1, 2, 2, 3],
}


def slow(
    rows: oracles.Rows,
    labels: list[int],
    tau: float,
    tau_k: float = 1.0,
    ks: Any = KS,
    anchors: int | None = None,
) -> float:
    """One logistic at a time."""
    losses = []
    for a in range(len(rows) if anchors is None else min(anchors, len(rows))):
        positives, negatives = oracles.split(labels, a)
        if not positives or not negatives:
            continue
        d = [oracles.squared_distance(rows[a], row) for row in rows]
        ranks = [
            1 + sum(oracles.logistic((d[p] - d[j]) / tau) for j in range(len(d)) if j not in (a, p))
            for p in positives
        ]
        for k in ks:
            length = min(k, len(rows) - 1)
            held = sum(oracles.logistic((length - rank) / (tau_k * k)) for rank in ranks)
            losses.append(1 - min(held, length) / min(length, len(positives)))
    return sum(losses) / len(losses) if losses else 0.0


def dense(
    rows: Tensor,
    labels: Tensor,
    tau: float,
    tau_k: float = 1.0,
    ks: Any = KS,
    anchors: int | None = None,
) -> Tensor:
    """By (A, B, B) tensors, for autograd to differentiate."""
    batch, mine = len(rows), rows[:anchors]
    d = (mine.square().sum(1)[:, None] + rows.square().sum(1)) - 2 * mine @ rows.T
    itself = torch.eye(batch, dtype=torch.bool)
    same = (labels[:anchors, None] == labels) & ~itself[:anchors]
    s = torch.sigmoid((d[:, :, None] - d[:, None, :]) / tau)
    rank = 1 + s.masked_fill(itself | itself[: len(mine), None], 0).sum(2)
    counts = same.any(1) & (labels[:anchors, None] != labels).any(1)
    total = torch.zeros(len(mine), dtype=rows.dtype)
    for k in ks:
        length = max(1, min(k, batch - 1))
        held = (torch.sigmoid((length - rank) / (tau_k * k)) * same).sum(1)
        recall = held.clamp(max=length) / same.sum(1).clamp(1, length)
        total = total + (1 - recall) / len(ks)
    return torch.where(counts, total, 0).sum() / counts.sum().clamp(min=1)


def batch(labels: list[int], dtype: torch.dtype = torch.float64, scale: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(len(labels))
    rows = torch.randn(len(labels), 5, generator=generator, dtype=torch.float64)
    return (rows * scale).to(dtype).requires_grad_()


def gradient(loss: Tensor, rows: Tensor) -> Tensor:
    (found,) = torch.autograd.grad(loss, rows)
    return found


@pytest.mark.parametrize("tau_k", [0.3, 1.0, 4.0])  # at 4, lists are full, and flat there
@pytest.mark.parametrize("anchors", [None, 1, 3, 100])
@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
def test_value_and_gradient(labels: list[int], anchors: int | None, tau_k: float) -> None:
    rows, marks = batch(labels), torch.tensor(labels)
    found = recall_at_k_loss(rows, marks, tau=3.0, tau_k=tau_k, anchors=anchors)
    expected = slow(rows.tolist(), labels, 3.0, tau_k, anchors=anchors)
    assert found.item() == pytest.approx(expected, abs=1e-12)
    by_autograd = dense(rows, marks, 3.0, tau_k, anchors=anchors)
    assert by_autograd.item() == pytest.approx(expected, abs=1e-12)
    torch.testing.assert_close(
        gradient(found, rows), gradient(by_autograd, rows), rtol=1e-9, atol=1e-13
    )


def test_a_full_list_is_held_once() -> None:
    """Twelve positives at one distance have rank 6.5 each: more than 8 are held of a list of 8."""
    labels = [0] * 13 + [1]
    rows = torch.zeros(14, 2, dtype=torch.float64)
    rows[0, 0], rows[13, 1] = 1.0, 100.0
    rows.requires_grad_()
    arguments: dict[str, Any] = {"tau": 1.0, "tau_k": 0.125, "anchors": 1}
    full = recall_at_k_loss(rows, torch.tensor(labels), k=[8], **arguments)
    assert full.item() == 0
    assert torch.equal(gradient(full, rows), torch.zeros_like(rows))
    both = recall_at_k_loss(rows, torch.tensor(labels), k=[8, 4], **arguments)
    held = 12 / (1 + math.exp((6.5 - 4) / 0.5))
    assert both.item() == pytest.approx((1 - held / 4) / 2, rel=1e-12)
    torch.testing.assert_close(
        gradient(both, rows),
        gradient(dense(rows, torch.tensor(labels), 1.0, 0.125, [8, 4], 1), rows),
    )


def test_gradcheck() -> None:
    for name in ("singletons", "large class"):
        rows, marks = batch(LABELS[name]), torch.tensor(LABELS[name])
        for k in ([1], [2, 4], KS):
            assert torch.autograd.gradcheck(
                lambda x, y=marks, k=k: recall_at_k_loss(x, y, tau=2.0, k=k), rows
            )


def test_hand_worked() -> None:
    """On a line, tau small: from 0, the positives 1 and 3 rank first and third of 1, 2, 3, 4."""
    rows = torch.tensor([[0.0], [1.0], [3.0], [2.0], [4.0]], dtype=torch.float64)
    marks = torch.tensor([0, 0, 0, 1, 2])

    def loss(*k: int, tau_k: float = 1e-4) -> float:
        return recall_at_k_loss(rows, marks, tau=1e-4, tau_k=tau_k, k=k, anchors=1).item()

    assert loss(1) == pytest.approx(1 / 2)  # what ranks first, at the end of the list, counts half
    assert loss(2) == pytest.approx(1 / 2)  # one of two
    assert loss(3) == pytest.approx(1 / 4)
    assert loss(4) == pytest.approx(0)
    assert loss(9) == loss(4)  # no longer than the batch
    assert loss(1, 2, 3, 4) == pytest.approx((1 / 2 + 1 / 2 + 1 / 4 + 0) / 4)
    held = oracles.logistic((2 - 1) / (0.5 * 2)) + oracles.logistic((2 - 3) / (0.5 * 2))
    assert loss(2, tau_k=0.5) == pytest.approx(1 - held / 2)


def test_small_temperatures_give_recall() -> None:
    """Against counting hits among the first k, where the k-th counts half."""
    rows, labels = batch(LABELS["shuffled"]).detach(), LABELS["shuffled"]
    losses = []
    for a in range(len(labels)):
        ranking = oracles.slow_ranking(rows[a].tolist(), rows.tolist())
        hits = [labels[j] == labels[a] for j in ranking if j != a]
        for k in KS[:4]:
            losses.append(1 - (sum(hits[:k]) - hits[k - 1] / 2) / min(k, sum(hits)))
    found = recall_at_k_loss(rows, torch.tensor(labels), tau=1e-6, tau_k=1e-6, k=KS[:4]).item()
    assert found == pytest.approx(sum(losses) / len(losses), abs=1e-9)


@pytest.mark.parametrize("bound", [1, 200, 700, 5000, by_block.BLOCK_BYTES])
@pytest.mark.parametrize("tau_k", [0.1, 1.0, 4.0])
@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
def test_blocks_of_any_size_agree_with_rows(
    labels: list[int], tau_k: float, bound: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, marks = batch(labels).detach(), torch.tensor(labels)
    monkeypatch.setattr(by_block, "BLOCK_BYTES", bound)
    for anchors in (None, 3):
        distances = squared_distances(rows[:anchors], rows)
        one = by_row.recall_at_k(distances, marks, 2.0, KS, tau_k)
        other = by_block.recall_at_k(distances, marks, 2.0, KS, tau_k)
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("spread", [0.0, 0.3, 3.0, 100.0])
@pytest.mark.parametrize("tau", [0.02, 1e-5])
@pytest.mark.parametrize("tau_k", [1.0, 0.01])
def test_saturated_negatives_are_left_out_within_rounding(
    dtype: torch.dtype, spread: float, tau: float, tau_k: float
) -> None:
    labels = [i % 4 for i in range(60)]
    centres = torch.eye(4, 5, dtype=torch.float64)[torch.tensor(labels)] * spread
    rows = (batch([0] * 60, scale=0.05).detach() + centres).to(dtype)
    distances, marks = squared_distances(rows, rows), torch.tensor(labels)
    within = max(8 * torch.finfo(dtype).eps, 1e-12) / tau_k
    fast, fast_slopes = by_row.recall_at_k(distances, marks, tau, KS, tau_k)
    full, full_slopes = by_block.recall_at_k(distances.double(), marks, tau, KS, tau_k)
    assert fast.dtype == fast_slopes.dtype == dtype
    torch.testing.assert_close(fast.double(), full, rtol=0, atol=within)
    torch.testing.assert_close(fast_slopes.double(), full_slopes, rtol=0, atol=within / tau)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e200])
@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
@pytest.mark.parametrize("anchors", [None, 1])
def test_a_number_that_is_none_shows(labels: list[int], anchors: int | None, value: float) -> None:
    rows, marks = batch(labels), torch.tensor(labels)
    with torch.no_grad():
        rows[-1, -1] = value
    loss = recall_at_k_loss(rows, marks, tau=0.1, anchors=anchors)
    assert loss.isnan()
    assert gradient(loss, rows).isnan().any()
    for kernels in (by_row, by_block):
        bad = squared_distances(rows.detach()[:anchors], rows.detach())
        assert all(found.isnan().all() for found in kernels.recall_at_k(bad, marks, 0.1, KS, 1.0))


def test_no_gradient_without_pairs() -> None:
    rows = batch([0] * 4)
    for marks in (torch.zeros(4, dtype=torch.long), torch.arange(4)):
        loss = recall_at_k_loss(rows, marks, tau=0.1)
        assert loss.item() == 0
        assert torch.equal(gradient(loss, rows), torch.zeros_like(rows))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    rows, marks = batch(LABELS["shuffled"], dtype), torch.tensor(LABELS["shuffled"])
    wide = rows.detach().float().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = recall_at_k_loss(rows, marks, tau=0.5)
    full = recall_at_k_loss(wide, marks, tau=0.5)
    assert half.dtype == torch.float32 and torch.equal(half, full)
    assert torch.equal(gradient(half, rows), gradient(full, wide).to(dtype))


def test_the_accelerator_path_reads_no_value() -> None:
    with FakeTensorMode(), torch.no_grad():
        rows = torch.empty(12, 5, device="cuda")
        marks = torch.empty(12, dtype=torch.long, device="cuda")
        for anchors in (None, 4):
            loss = recall_at_k_loss(rows, marks, tau=0.1, anchors=anchors)
            assert loss.shape == () and loss.device.type == "cuda"


@settings(max_examples=80, deadline=None)
@given(
    labels=st.lists(st.integers(-3, 3), min_size=1, max_size=14),
    tau=st.floats(1e-2, 1e3),
    tau_k=st.floats(1e-2, 1e2),
    ks=st.lists(st.integers(1, 20), min_size=1, max_size=4),
    anchors=st.none() | st.integers(1, 20),
    data=st.data(),
)
def test_any_batch(
    labels: list[int],
    tau: float,
    tau_k: float,
    ks: list[int],
    anchors: int | None,
    data: st.DataObject,
) -> None:
    row = st.lists(st.integers(-2, 2), min_size=2, max_size=2)  # integers collide: ties
    values = data.draw(st.lists(row, min_size=len(labels), max_size=len(labels)))
    rows = torch.tensor(values, dtype=torch.float64, requires_grad=True)
    marks = torch.tensor(labels, dtype=torch.int16)
    found = recall_at_k_loss(rows, marks, tau=tau, tau_k=tau_k, k=ks, anchors=anchors)
    expected = slow(values, labels, tau, tau_k, ks, anchors)
    assert found.item() == pytest.approx(expected, abs=1e-11)
    assert 0 <= found.item() <= 1 + 1e-12
    assert gradient(found, rows).isfinite().all()
    distances = squared_distances(rows.detach()[:anchors], rows.detach())
    other, _ = by_block.recall_at_k(distances, marks, tau, ks, tau_k)
    assert other.item() == pytest.approx(expected, abs=1e-11)


ROWS, MARKS = torch.zeros(3, 2), torch.zeros(3, dtype=torch.long)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tau": 0.0}, "tau must be a finite number > 0; got 0.0"),
        ({"tau_k": -1}, "tau_k must be a finite number > 0; got -1"),
        ({"tau_k": 1e-40}, "tau_k must be a normal number of float32 .*; got 1e-40"),
        ({"k": []}, r"k must be a list of integers >= 1, and hold one; got \[\]"),
        ({"k": 3}, "k must be a list of integers >= 1, and hold one; got 3"),
        ({"k": "12"}, "k must be a list of integers >= 1, and hold one; got '12'"),
        ({"k": [1, 0]}, "k must be an integer >= 1; got 0"),
        ({"k": [2.0]}, "k must be an integer >= 1; got 2.0"),
        ({"anchors": 0}, "anchors must be an integer >= 1 or None; got 0"),
        ({"embeddings": ROWS[:0], "labels": MARKS[:0]}, r"must have a row, got \(0, 2\)"),
        ({"labels": MARKS.float()}, r"labels must be \(3,\) integers, got torch.float32 \(3,\)"),
    ],
)
def test_wrong_arguments(changes: dict[str, Any], message: str) -> None:
    given_all: dict[str, Any] = {"embeddings": ROWS, "labels": MARKS, "tau": 1.0} | changes
    rows, marks = given_all.pop("embeddings"), given_all.pop("labels")
    with pytest.raises(ValueError, match=message):
        recall_at_k_loss(rows, marks, **given_all)


def test_the_entry() -> None:
    arguments = LOSS.arguments({"tau": 0.1})
    assert dict(arguments) == {"anchors": "all", "tau": 0.1, "tau_k": 1.0, "longest": 16}
    module = LOSS.build(arguments, classes=3, width=5)
    assert module.k == [1, 2, 4, 8, 16]
    assert LOSS.build(LOSS.arguments({"longest": 6}), classes=3, width=5).k == [1, 2, 4]
    assert not list(module.parameters())
    rows, marks = batch(LABELS["shuffled"]), torch.tensor(LABELS["shuffled"])
    assert module(rows, marks) == recall_at_k_loss(unit_length(rows), marks, tau=0.1)
    assert all(knob.range is None or knob.range.holds(knob.default) for knob in LOSS.knobs)
    with pytest.raises(ValueError, match="longest must be an integer >= 1; got 0"):
        LOSS.arguments({"longest": 0})


def test_training_raises_recall() -> None:
    """A linear map learns to tell classes that differ in one of ten coordinates."""
    generator = torch.Generator().manual_seed(0)
    marks = torch.arange(60) % 6
    images = torch.randn(60, 10, generator=generator) * 3
    images[:, 0] = marks * 2.0
    weight = torch.randn(10, 4, generator=generator).requires_grad_()
    module = LOSS.build(LOSS.arguments({"tau": 0.1}), classes=6, width=4)
    optimizer, losses = torch.optim.Adam([weight], lr=0.05), []
    for _ in range(60):
        loss = module(images @ weight, marks)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.15
