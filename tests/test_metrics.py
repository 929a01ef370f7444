"""Tests of the exact mean average precision and the precision-recall curves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, precision_recall_curve

from tests.oracles import slow_average_precision, slow_interpolated_precision, slow_ranking
from trainables import metrics, retrieval
from trainables.metrics import RetrievalResult, evaluate_retrieval
from trainables.retrieval import squared_distances

Array = NDArray[Any]


def line(*places: float) -> Array:
    """One-dimensional embeddings: a query at 0 ranks them by magnitude."""
    return np.array(places, dtype=np.float32)[:, None]


def slow_hits(
    queries: Array, query_labels: Array, gallery: Array, labels: Array, own: Array | None
) -> list[list[bool]]:
    """Relevance along the slow ranking of each query."""
    rows = [None] * len(queries) if own is None else own.tolist()
    items = gallery.tolist()
    return [
        [labels[i] == label for i in slow_ranking(query, items, row)]
        for query, label, row in zip(queries.tolist(), query_labels, rows, strict=True)
    ]


def assert_is_slow(result: RetrievalResult, hits: list[list[bool]]) -> None:
    """The result equals the slow metrics of these relevance lists."""
    averages = [slow_average_precision(row) for row in hits]
    expected = [np.nan if a is None else a for a in averages]
    np.testing.assert_allclose(result.average_precision, expected, atol=1e-12)
    judged = [a for a in averages if a is not None]
    assert result.mean_average_precision == pytest.approx(sum(judged) / len(judged), abs=1e-12)
    assert result.queries_without_relevant == len(hits) - len(judged)
    curve = [
        np.mean([slow_interpolated_precision(row, percent) for row in hits if any(row)])
        for percent in range(101)
    ]
    np.testing.assert_allclose(result.precision, curve, atol=1e-12)


@st.composite
def tied_problems(draw: st.DrawFn) -> tuple[Array, Array, Array, Array, Array | None]:
    """Small-integer vectors, whose squared distances are exact and often equal."""
    seed = draw(st.integers(0, 2**32 - 1))
    random = np.random.default_rng(seed)
    items, classes = draw(st.integers(2, 30)), draw(st.integers(1, 12))
    dtype = draw(st.sampled_from([np.float16, np.float32, np.float64]))
    gallery = random.integers(0, 3, (items, 2)).astype(dtype)
    labels = random.integers(-1, classes, items)
    if draw(st.booleans()):
        own = random.integers(0, items, draw(st.integers(1, 12)))
        return gallery[own], labels[own], gallery, labels, own
    queries = random.integers(0, 3, (draw(st.integers(1, 12)), 2)).astype(dtype)
    return queries, random.integers(-1, classes, len(queries)), gallery, labels, None


@given(tied_problems(), st.sampled_from([1, 7, 1 << 21]), st.booleans())
@settings(max_examples=150, deadline=None)
def test_is_the_slow_metric_with_ties(
    problem: tuple[Array, Array, Array, Array, Array | None], elements: int, device: bool
) -> None:
    *arrays, own = problem
    hits = slow_hits(*arrays, own)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retrieval, "CHUNK_ELEMENTS", elements)
        patch.setattr(metrics, "BLOCK_ELEMENTS", elements)
        if device:  # the accelerator's code, on the CPU
            patch.setattr(metrics, "_judge_numpy", lambda _, *given: metrics._judge_torch(*given))
        if not any(map(any, hits)):
            with pytest.raises(ValueError, match="a query must have a relevant item"):
                evaluate_retrieval(*arrays, query_index=own)
        else:
            assert_is_slow(evaluate_retrieval(*arrays, query_index=own), hits)


def random_problem(dtype: type[np.floating] = np.float32) -> tuple[Array, Array, Array, Array]:
    """Tie-free queries (30, 8) and gallery (300, 8) of 5 classes that overlap."""
    random = np.random.default_rng(0)
    centres = random.normal(size=(5, 8))
    query_labels, labels = random.integers(0, 5, 30), random.integers(0, 5, 300)
    queries = (centres[query_labels] + random.normal(size=(30, 8))).astype(dtype)
    gallery = (centres[labels] + random.normal(size=(300, 8))).astype(dtype)
    return queries, query_labels, gallery, labels


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_agrees_with_scikit_learn(dtype: type[np.floating]) -> None:
    queries, query_labels, gallery, labels = random_problem(dtype)
    result = evaluate_retrieval(queries, query_labels, gallery, labels)
    scores = -squared_distances(torch.from_numpy(queries), torch.from_numpy(gallery)).numpy()
    curves = []
    for row, label, average in zip(scores, query_labels, result.average_precision, strict=True):
        relevant = labels == label
        assert average == pytest.approx(average_precision_score(relevant, row), abs=1e-10)
        precision, recall, _ = precision_recall_curve(relevant, row)
        # Its last point, precision 1 at recall 0, is a convention, not a rank.
        precision, recall = precision[:-1], recall[:-1]
        curves.append([precision[recall >= r - 1e-12].max() for r in result.recall])
    np.testing.assert_allclose(result.precision, np.mean(curves, axis=0), atol=1e-10)


@given(st.permutations(range(300)))
@settings(max_examples=20, deadline=None)
def test_gallery_order_does_not_matter_without_ties(order: list[int]) -> None:
    queries, query_labels, gallery, labels = random_problem(np.float64)
    first = evaluate_retrieval(queries, query_labels, gallery, labels)
    other = evaluate_retrieval(queries, query_labels, gallery[order], labels[order])
    np.testing.assert_allclose(first.average_precision, other.average_precision, atol=1e-12)


def test_float64_is_ranked_in_float64() -> None:
    gallery = np.array([[1 + 1e-12], [1.0]])
    labels = np.array([0, 1])
    query, label = np.zeros((1, 1)), np.array([1])
    assert evaluate_retrieval(query, label, gallery, labels).mean_average_precision == 1
    narrow = gallery.astype(np.float32), labels
    result = evaluate_retrieval(query.astype(np.float32), label, *narrow)
    assert result.mean_average_precision == 1 / 2


def test_hand_worked_ranking() -> None:
    # Ranks 1 to 5: relevant, not, relevant, not, relevant: (1 + 2/3 + 3/5) / 3 = 34/45.
    labels = np.array([7, 7, 0, 7, 3])
    result = evaluate_retrieval(line(0), np.array([7]), line(1, 3, 2, 5, 4), labels)
    assert result.mean_average_precision == pytest.approx(34 / 45, abs=1e-15)
    # Recall 1/3 at precision 1, 2/3 at 2/3, 1 at 3/5.
    eleven = [1] * 4 + [2 / 3] * 3 + [3 / 5] * 4
    np.testing.assert_allclose(result.eleven_point_precision, eleven, atol=1e-15)
    assert result.recall.tolist() == [step / 100 for step in range(101)]
    assert result.precision[33:35].tolist() == [1, 2 / 3]


def test_interpolated_precision_never_rises_with_recall() -> None:
    # Ranks: not, relevant, relevant: the precision at the first, 1/2, gives way to 2/3.
    labels = np.array([0, 1, 1])
    result = evaluate_retrieval(line(0), np.array([1]), line(1, 2, 3), labels)
    assert result.mean_average_precision == pytest.approx((1 / 2 + 2 / 3) / 2)
    np.testing.assert_allclose(result.precision, np.full(101, 2 / 3))


def test_ties_are_ranked_in_gallery_order() -> None:
    place, label = line(1, -1, 1), np.array([1])
    for labels, expected in (([1, 0, 0], 1), ([0, 1, 0], 1 / 2), ([0, 0, 1], 1 / 3)):
        result = evaluate_retrieval(line(0), label, place, np.array(labels))
        assert result.mean_average_precision == pytest.approx(expected)


def test_a_query_is_left_out_by_index_not_by_distance() -> None:
    # Row 1 is the query; its twin, row 2, is irrelevant and ranks first; row 0 is relevant.
    gallery, labels = line(5, 0, 0), np.array([1, 1, 0])
    own = np.array([1])
    result = evaluate_retrieval(gallery[own], labels[own], gallery, labels, query_index=own)
    assert result.mean_average_precision == 1 / 2
    included = evaluate_retrieval(gallery[own], labels[own], gallery, labels)
    assert included.mean_average_precision == pytest.approx((1 + 2 / 3) / 2)


def test_queries_without_a_relevant_item_are_counted_and_left_out() -> None:
    gallery, labels = line(1, 2, 3), np.array([4, 5, 5])
    own = np.arange(3)
    result = evaluate_retrieval(gallery, labels, gallery, labels, query_index=own)
    assert np.isnan(result.average_precision).tolist() == [True, False, False]
    assert result.queries_without_relevant == 1
    assert result.mean_average_precision == (1 / 2 + 1) / 2


def test_one_class_is_perfect() -> None:
    gallery, labels = line(1, 2, 3, 3), np.zeros(4, dtype=np.uint8)
    result = evaluate_retrieval(gallery, labels, gallery, labels, query_index=np.arange(4))
    assert result.mean_average_precision == 1
    assert result.precision.tolist() == [1] * 101


def test_tensors_and_arrays_give_the_same() -> None:
    arrays = random_problem()
    for array in arrays:
        array.flags.writeable = False
    first = evaluate_retrieval(*arrays)
    tensors = [torch.tensor(array) for array in arrays]
    other = evaluate_retrieval(tensors[0].requires_grad_(), *tensors[1:])
    assert first.average_precision.tolist() == other.average_precision.tolist()
    assert first.average_precision.dtype == first.precision.dtype == np.float64


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_do_not_matter(threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        *arrays, labels = random_problem()
        assert_is_slow(evaluate_retrieval(*arrays, labels), slow_hits(*arrays, labels, None))
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("name", ["query_labels", "gallery_labels"])
@pytest.mark.parametrize("labels", [np.zeros(2, dtype=int), np.zeros(3), np.zeros((3, 1), int)])
def test_refuses_labels(name: str, labels: Array) -> None:
    given = {"query_labels": np.zeros(3, int), "gallery_labels": np.zeros(3, int), name: labels}
    with pytest.raises(ValueError, match=rf"{name} must be \(3,\) integers, got"):
        evaluate_retrieval(queries=line(1, 2, 3), gallery=line(1, 2, 3), **given)


@pytest.mark.parametrize(("queries", "items"), [(0, 3), (2, 0)])
def test_refuses_an_empty_side(queries: int, items: int) -> None:
    mine, theirs = np.zeros((queries, 3)), np.zeros((items, 3))
    with pytest.raises(ValueError, match=f"must have a row each, got {queries} and {items}"):
        evaluate_retrieval(mine, np.zeros(queries, int), theirs, np.zeros(items, int))


def test_labels_of_any_integer_type_are_those_numbers() -> None:
    place, index = line(1, 2, 3, 4), np.arange(4)
    kinds = [np.uint8, np.int8, np.uint16, np.uint32, np.uint64, np.int64]
    found = {
        evaluate_retrieval(place, labels, place, labels, query_index=index.astype(kind))
        .average_precision.tobytes()
        for kind in kinds
        for labels in (np.array([0, 1, 0, 1], kind), torch.tensor([0, 1, 0, 1]).numpy())
    }  # fmt: skip
    assert len(found) == 1
    huge = np.full(4, 2**63, np.uint64)
    with pytest.raises(ValueError, match="query_labels must be numbers of int64, got 92233"):
        evaluate_retrieval(place, huge, place, huge)


def test_refuses_what_the_ranking_refuses() -> None:
    with pytest.raises(ValueError, match="queries must be a 2-d tensor"):
        evaluate_retrieval(np.float32(1), np.zeros(1, int), line(1), np.zeros(1, int))
    with pytest.raises(ValueError, match=r"query_index must be \(1,\) integers, got torch.bool"):
        evaluate_retrieval(
            line(1), np.zeros(1, int), line(1, 2), np.zeros(2, int), query_index=np.array([True])
        )
    labels = np.zeros(3, int)
    with pytest.raises(ValueError, match="queries must be finite"):
        evaluate_retrieval(line(0, 1, np.nan), labels, line(0, 1, 2), labels)
    with pytest.raises(ValueError, match="gallery rows, 0 to 2, got 3"):
        evaluate_retrieval(
            line(0, 1, 2), labels, line(0, 1, 2), labels, query_index=np.array([0, 1, 3])
        )
