"""Labelled images that share pixels, and the roles in which they judge: against plain loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import synthetic
from tests.oracles import (
    slow_average_precision,
    slow_average_precision_at_r,
    slow_left_out,
    slow_r_precision,
    slow_ranking,
    slow_recall_at,
)
from trainables.data import DataError, LabelledImages, Roles, Split
from trainables.metrics import METRICS, evaluate_roles

# --- images ---


def test_images_are_rows_of_an_array_that_others_share() -> None:
    pixels = synthetic(6, seed=0).array
    images = LabelledImages(pixels, np.array([3, 1, 3]), rows=np.array([5, 0, 2]))
    assert len(images) == 3 and images.shape == (1, 28, 28)
    np.testing.assert_array_equal(images.images, pixels[[5, 0, 2]])
    for few in (images.take(slice(1, 3)), images.take(np.array([False, True, True]))):
        assert few.array is pixels
        assert (few.rows.tolist(), few.labels.tolist()) == ([0, 2], [1, 3])
    again = images.take(np.array([2, 0])).take(np.array([1]))
    assert (again.rows.tolist(), again.labels.tolist()) == ([5], [3])
    renamed = images.relabelled(np.array([0, 1, 0]))
    assert renamed.array is pixels and renamed.rows.tolist() == images.rows.tolist()
    assert (renamed.labels.tolist(), images.labels.tolist()) == ([0, 1, 0], [3, 1, 3])


def test_read_only_images_become_a_tensor_without_a_copy() -> None:
    part = synthetic(4, seed=0)
    part.array.flags.writeable = False
    assert part.tensor().data_ptr() == part.array.ctypes.data
    assert part.take(slice(2)).tensor().shape == (4, 1, 28, 28)


def test_labels_must_fit_the_images() -> None:
    with pytest.raises(DataError, match=r"one label an image: 2 images, labels \(3,\)"):
        LabelledImages(np.zeros((2, 1, 28, 28), np.uint8), np.zeros(3, np.int64))
    with pytest.raises(DataError, match=r"one label an image: 1 images, labels \(2,\)"):
        LabelledImages(np.zeros((2, 1, 28, 28), np.uint8), np.zeros(2, np.int64), np.array([1]))
    with pytest.raises(
        DataError, match=r"uint8 of shape \(N, C, H, W\); got float64 \(2, 1, 4, 4\)"
    ):
        LabelledImages(np.zeros((2, 1, 4, 4)), np.zeros(2, np.int64))
    with pytest.raises(DataError, match=r"uint8 of shape \(N, C, H, W\); got uint8 \(2, 28, 28\)"):
        LabelledImages(np.zeros((2, 28, 28), np.uint8), np.zeros(2, np.int64))


# --- roles ---


@st.composite
def roles(draw: st.DrawFn, grouped: bool | None = None) -> tuple[int, Roles]:
    """Of so many images, some ask and some are retrieved, in any order."""
    count = draw(st.integers(1, 12))
    places = st.permutations(range(count))
    queries = draw(places)[: draw(st.integers(1, count))]
    gallery = draw(places)[: draw(st.integers(1, count))]
    groups = None
    if draw(st.booleans()) if grouped is None else grouped:
        groups = np.array(draw(st.lists(st.integers(-1, 3), min_size=count, max_size=count)))
    return count, Roles(np.array(queries), np.array(gallery), groups)


def ranked_by(roles: Roles, query: int) -> list[int]:
    """The places of the images that a query ranks, in the gallery's order."""
    return [
        place
        for place in roles.gallery.tolist()
        if place != query
        and (
            roles.groups is None
            or roles.groups[query] == -1
            or roles.groups[place] != roles.groups[query]
        )
    ]


@given(roles())
def test_own_places_and_how_many_are_ranked(made: tuple[int, Roles]) -> None:
    _, one = made
    gallery = one.gallery.tolist()
    own = [gallery.index(q) if q in gallery else -1 for q in one.queries.tolist()]
    assert one.own.tolist() == own and one.own.dtype == np.int64
    assert one.ranked == min(len(ranked_by(one, q)) for q in one.queries.tolist())


@given(roles(), st.data())
def test_roles_among_some_places(made: tuple[int, Roles], data: st.DataObject) -> None:
    count, one = made
    kept = data.draw(st.permutations(range(count)))[: data.draw(st.integers(1, count))]
    few = one.among(np.array(kept))
    assert [kept[q] for q in few.queries] == [q for q in one.queries.tolist() if q in kept]
    assert [kept[g] for g in few.gallery] == [g for g in one.gallery.tolist() if g in kept]
    if one.groups is None:
        assert few.groups is None
    else:
        assert few.groups is not None
        assert few.groups.tolist() == [int(one.groups[place]) for place in kept]


def test_the_first_images_ask_among_the_first() -> None:
    one = Roles.first(2, 3)
    assert (one.queries.tolist(), one.gallery.tolist()) == ([0, 1], [0, 1, 2])
    assert one.groups is None and one.own.tolist() == [0, 1] and one.ranked == 2
    outside = Roles(np.array([3, 1]), np.arange(3))
    assert outside.own.tolist() == [-1, 1] and outside.ranked == 2
    assert Roles(np.array([3]), np.arange(3)).ranked == 3
    assert Roles(np.arange(2), np.arange(0)).own.tolist() == [-1, -1]


@given(roles(grouped=True), st.integers(0, 99))
def test_every_metric_in_roles_is_that_of_a_slow_ranking(
    made: tuple[int, Roles], seed: int
) -> None:
    """Whole numbers, whose distances are exact and often equal: the gallery's order decides."""
    count, one = made
    assert one.groups is not None
    rng = np.random.default_rng(seed)
    rows = rng.integers(3, size=(count, 2)).astype(np.float32)
    labels = rng.integers(2, size=count)
    gallery = one.gallery.tolist()
    marks = []
    for query in one.queries.tolist():
        own = gallery.index(query) if query in gallery else -1
        group = int(one.groups[query])
        left_out = slow_left_out(own, group, one.groups[gallery].tolist())
        ranking = slow_ranking(rows[query].tolist(), rows[gallery].tolist(), left_out=left_out)
        marks.append([bool(labels[gallery[i]] == labels[query]) for i in ranking])
    embeddings, classes = torch.from_numpy(rows), torch.from_numpy(labels)
    if not any(map(any, marks)):
        with pytest.raises(ValueError, match="a query must have a relevant item"):
            evaluate_roles(embeddings, classes, one)
        return
    result = evaluate_roles(embeddings, classes, one)
    oracles = {
        "map": slow_average_precision,
        "map_at_r": slow_average_precision_at_r,
        "r_precision": slow_r_precision,
        **{f"recall_at_{k}": lambda m, k=k: slow_recall_at(m, k) for k in (1, 2, 4, 8)},
    }
    assert set(oracles) == set(METRICS)
    for name, oracle in oracles.items():
        expected = [oracle(one) for one in marks]
        found = METRICS[name].each(result)
        np.testing.assert_allclose(found, np.array(expected, dtype=float), rtol=1e-12, atol=0)
        some = [value for value in expected if value is not None]
        assert METRICS[name].mean(result) == pytest.approx(sum(some) / len(some), rel=1e-12)


# --- splits ---


def test_one_class_is_no_retrieval() -> None:
    part = synthetic(20, seed=0)
    one = part.relabelled(np.full(20, 3))
    with pytest.raises(DataError, match=r"at least 2 classes; the training labels hold 1: \[3\]"):
        Split(one, part)
    with pytest.raises(DataError, match=r"the validation labels hold 1: \[3\]"):
        Split(part, one)


def test_each_validation_image_asks_for_all_others_unless_it_is_said() -> None:
    split = Split(synthetic(300, seed=0), synthetic(20, seed=1))
    assert split.roles.queries.tolist() == split.roles.gallery.tolist() == list(range(20))
    assert (split.shape, split.trained, split.same_classes) == ((1, 28, 28), [*range(10)], True)
    few = split.sliced(12, 15)
    assert (len(few.train), len(few.validation), few.roles.ranked) == (12, 15, 14)
    assert few.train.array is split.train.array


def test_classes_of_training_are_numbered_first_and_roles_stay() -> None:
    pixels = np.zeros((6, 1, 4, 4), np.uint8)
    train = LabelledImages(pixels, np.array([7, 2, 9, 7, 2, 9]))
    validation = LabelledImages(pixels, np.array([8, 9, 0, 8, 2, 0]))
    asked = Roles(np.array([0, 3]), np.array([5, 3, 0]), np.zeros(6, np.int64))
    split = Split(train, validation, asked)
    assert (split.trained, split.same_classes) == ([2, 7, 9], False)
    new = split.renumbered()
    assert new.train.labels.tolist() == [1, 0, 2, 1, 0, 2]
    assert new.validation.labels.tolist() == [4, 2, 3, 4, 0, 3]  # 0 and 8 come after 2, 7 and 9
    assert new.roles is asked
