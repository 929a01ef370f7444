"""The images of each step: at most once by chance alone, or so many of each class, evenly."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trainables.orders import check_classes, class_order, plain_order


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def shuffled_labels(sizes: list[int], seed: int = 0) -> Tensor:
    """Labels 5, 2, -1, -4, ... of classes of these sizes, in mixed order."""
    labels = (5 - 3 * torch.arange(len(sizes))).repeat_interleave(torch.tensor(sizes))
    return labels[torch.randperm(len(labels), generator=generator(seed))]


def test_a_plain_order_is_a_cut_shuffle() -> None:
    order = plain_order(50, 4, 12, generator(3))
    assert order.shape == (4, 12)
    expected = torch.randperm(50, generator=generator(3))[:48].view(4, 12)
    assert torch.equal(order, expected)


def test_a_plain_order_of_no_step_is_empty() -> None:
    assert plain_order(5, 0, 12, generator()).shape == (0, 12)


@st.composite
def class_problems(draw: st.DrawFn) -> tuple[Tensor, int, int, int, int]:
    """Labels, steps, batch_size, per_class and a seed; classes of 1 image to 20."""
    sizes = draw(st.lists(st.integers(1, 20), min_size=1, max_size=9))
    each = draw(st.integers(1, 8))
    wanted = draw(st.integers(1, len(sizes)))
    seed = draw(st.integers(0, 999))
    return shuffled_labels(sizes, seed), draw(st.integers(0, 30)), wanted * each, each, seed


@settings(max_examples=150, deadline=None)
@given(class_problems())
def test_a_batch_has_so_many_of_each_class(problem: tuple[Tensor, int, int, int, int]) -> None:
    labels, steps, size, each, seed = problem
    order = class_order(labels, steps, size, each, generator(seed))
    assert order.dtype == torch.int64 and order.shape == (steps, size)
    sizes = {label: labels.tolist().count(label) for label in labels.tolist()}
    for rows in order.tolist():
        found = [int(labels[row]) for row in rows]
        assert {found.count(label) for label in found} == {each}
        for row, label in zip(rows, found, strict=True):
            least, most = each // sizes[label], -(-each // sizes[label])
            assert least <= rows.count(row) <= most


@settings(max_examples=150, deadline=None)
@given(class_problems())
def test_each_image_of_a_class_has_its_turn(problem: tuple[Tensor, int, int, int, int]) -> None:
    labels, steps, size, each, seed = problem
    order = class_order(labels, steps, size, each, generator(seed))
    for label in labels.unique().tolist():
        members = (labels == label).nonzero()[:, 0].tolist()
        times = dict.fromkeys(members, 0)
        for rows in order.tolist():  # after every batch, not at the end alone
            for row in rows:
                if row in times:
                    times[row] += 1
            assert max(times.values()) - min(times.values()) <= 1


@settings(max_examples=60, deadline=None)
@given(class_problems())
def test_each_class_has_its_turn(problem: tuple[Tensor, int, int, int, int]) -> None:
    labels, _, size, each, seed = problem
    classes, wanted = len(labels.unique()), size // each
    batches = classes // wanted  # of one shuffle of the classes
    order = class_order(labels, 3 * batches, size, each, generator(seed))
    for rows in order.split(batches):
        _, counts = labels[rows].unique(return_counts=True)
        assert counts.tolist() == [each] * (batches * wanted)


def test_classes_are_drawn_evenly_whatever_their_size() -> None:
    # 7 classes, 3 a batch: two batches a shuffle, in which a class is left out at 1 to 7.
    labels = shuffled_labels([3, 4, 8, 20, 100, 300, 1000])
    order = class_order(labels, 14_000, 12, 4, generator())
    _, counts = labels[order].unique(return_counts=True)
    # 7,000 shuffles, 6,000 draws expected, of standard deviation sqrt(7000 * 6/7 * 1/7) = 29.
    assert (counts // 4 - 6_000).abs().max() < 6 * 30
    _, counts = order.view(-1)[(labels[order] == labels.mode().values).view(-1)].unique(
        return_counts=True
    )
    assert len(counts) == 1000 and counts.max() - counts.min() <= 1


def test_every_pair_of_a_class_meets() -> None:
    # Six images, four a batch: in passes that are shuffled anew, no pair is kept apart.
    labels = shuffled_labels([6, 6])
    order = class_order(labels, 200, 4, 4, generator())
    together = np.zeros((12, 12), dtype=int)
    for rows in order.numpy():
        together[np.ix_(rows, rows)] += 1
    same = labels[:, None] == labels
    assert (together[same.numpy()] > 0).all()
    assert (together[~same.numpy()] == 0).all()


def test_a_batch_is_mixed() -> None:
    labels = shuffled_labels([40] * 6)
    order = class_order(labels, 200, 12, 6, generator())
    runs = (labels[order].diff(dim=1) != 0).sum(dim=1)
    assert 5.5 < runs.float().mean() < 6.5  # sorted batches have 1 change of class, mixed ones 6
    assert labels[order[:, 0]].unique().tolist() == labels.unique().tolist()


def test_small_classes_repeat_their_images() -> None:
    labels = torch.tensor([0, 1, 1, 2, 2, 2])
    order = class_order(labels, 5, 12, 4, generator())
    for rows in order.tolist():
        counts = [rows.count(row) for row in range(6)]
        assert counts[:3] == [4, 2, 2]
        assert sorted(counts[3:]) == [1, 1, 2]


def test_a_seed_gives_an_order_and_the_global_state_is_not_drawn_from() -> None:
    labels = shuffled_labels([5, 6, 7])
    before = torch.get_rng_state()
    first, second = (class_order(labels, 9, 6, 3, generator(1)) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), before)
    one = generator(1)
    assert not torch.equal(class_order(labels, 9, 6, 3, one), class_order(labels, 9, 6, 3, one))


def test_labels_of_any_integer_type_are_those_numbers() -> None:
    labels = shuffled_labels([5, 6, 7]) + 10
    kinds = (torch.uint8, torch.int16, torch.int32, torch.int64)
    found = [class_order(labels.to(kind), 9, 6, 3, generator()).tolist() for kind in kinds]
    assert all(one == found[0] for one in found)


def test_ten_thousand_classes() -> None:
    labels = torch.randint(0, 10_000, (100_000,), generator=generator())
    order = class_order(labels, 781, 128, 4, generator())
    found = labels[order].sort(dim=1).values.view(781, 32, 4)
    assert (found == found[:, :, :1]).all()
    assert (found[:, 1:, 0] > found[:, :-1, 0]).all()


@pytest.mark.parametrize(
    ("classes", "size", "each", "law"),
    [
        (3, 16, 4, r"batch_size / per_class may not exceed the 3 classes; got 16 / 4 = 4"),
        (0, 4, 4, r"may not exceed the 0 classes; got 4 / 4 = 1"),
        (3, 16, 3, r"per_class must divide batch_size, 16; got 3"),
        (3, 4, 8, r"per_class must divide batch_size, 4; got 8"),
        (3, 4, 0, r"per_class must be an integer >= 1; got 0"),
        (3, 4, True, r"per_class must be an integer >= 1; got True"),
    ],
)
def test_a_batch_by_class_that_cannot_be_is_refused(
    classes: int, size: int, each: int, law: str
) -> None:
    with pytest.raises(ValueError, match=law):
        check_classes(classes, size, each)
    with pytest.raises(ValueError, match=law):
        class_order(torch.arange(classes), 2, size, each, generator())


def test_steps_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="steps must be an integer >= 0; got -1"):
        class_order(torch.arange(3), -1, 2, 1, generator())
    with pytest.raises(ValueError, match="batch_size must be an integer >= 1; got 0"):
        plain_order(3, 1, 0, generator())
    with pytest.raises(ValueError, match=r"may not exceed the 50 images; got 5 \* 12 = 60"):
        plain_order(50, 5, 12, generator())
