"""Tests of the exact mean average precision and the precision-recall curves."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, precision_recall_curve

from tests.oracles import (
    slow_average_precision,
    slow_average_precision_at_r,
    slow_interpolated_precision,
    slow_left_out,
    slow_r_precision,
    slow_ranking,
    slow_recall_at,
)
from trainables import judging, metrics, retrieval
from trainables.metrics import METRICS, RetrievalResult, evaluate_retrieval, metric
from trainables.retrieval import squared_distances

Array = NDArray[Any]


def line(*places: float) -> Array:
    """One-dimensional embeddings: a query at 0 ranks them by magnitude."""
    return np.array(places, dtype=np.float32)[:, None]


def slow_hits(
    queries: Array,
    query_labels: Array,
    gallery: Array,
    labels: Array,
    own: Array | None = None,
    groups: tuple[Array, Array] | None = None,
) -> list[list[bool]]:
    """Relevance along the slow ranking of each query."""
    rows = [-1] * len(queries) if own is None else own.tolist()
    mine = [-1] * len(queries) if groups is None else groups[0].tolist()
    theirs = [-1] * len(gallery) if groups is None else groups[1].tolist()
    items = gallery.tolist()
    return [
        [
            labels[i] == label
            for i in slow_ranking(query, items, left_out=slow_left_out(row, group, theirs))
        ]
        for query, label, row, group in zip(queries.tolist(), query_labels, rows, mine, strict=True)
    ]


def assert_is_slow(result: RetrievalResult, hits: list[list[bool]]) -> None:
    """The result equals the slow metrics of these relevance lists."""
    judged = [row for row in hits if any(row)]
    assert result.queries_without_relevant == len(hits) - len(judged)
    slow: dict[str, Callable[[list[bool]], float | None]] = {
        "map": slow_average_precision,
        "map_at_r": slow_average_precision_at_r,
        "r_precision": slow_r_precision,
        **{f"recall_at_{k}": partial(slow_recall_at, k=k) for k in (1, 2, 3, 4, 8, 1000)},
    }
    for name, one in slow.items():
        expected = [np.nan if one(row) is None else one(row) for row in hits]
        np.testing.assert_allclose(metric(name).each(result), expected, atol=1e-12)
        mean = sum(one(row) or 0.0 for row in judged) / len(judged)
        assert metric(name).mean(result) == pytest.approx(mean, abs=1e-12)
    assert result.mean_average_precision == METRICS["map"].mean(result)
    first = [row.index(True) + 1 if any(row) else np.nan for row in hits]
    np.testing.assert_array_equal(result.first_relevant_rank, first)
    curve = [
        np.mean([slow_interpolated_precision(row, percent) for row in judged])
        for percent in range(101)
    ]
    np.testing.assert_allclose(result.precision, curve, atol=1e-12)


@st.composite
def tied_problems(draw: st.DrawFn) -> tuple[list[Array], dict[str, Array | None]]:
    """Small-integer vectors, whose squared distances are exact and often equal, and what is left
    out: own rows of all queries, of some or of none, and groups of several rows or none."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    items, classes = draw(st.integers(2, 30)), draw(st.integers(1, 12))
    dtype = draw(st.sampled_from([np.float16, np.float32, np.float64]))
    gallery = random.integers(0, 3, (items, 2)).astype(dtype)
    labels = random.integers(-1, classes, items)
    count = draw(st.integers(1, 12))
    own = random.integers(0, items, count)
    queries, mine = gallery[own], labels[own]
    kind = draw(st.sampled_from(["all", "some", "none"]))
    if kind != "all":
        outside = np.arange(count) >= (0 if kind == "none" else count // 2)
        queries[outside] = random.integers(0, 3, (outside.sum(), 2))
        mine[outside] = random.integers(-1, classes, outside.sum())
        own[outside] = -1
    left_out: dict[str, Array | None] = {"query_index": None if kind == "none" else own}
    if draw(st.booleans()):
        groups = draw(st.integers(1, 6))
        left_out["query_groups"] = random.integers(-1, groups, count)
        left_out["gallery_groups"] = random.integers(-1, groups, items)
    return [queries, mine, gallery, labels], left_out


@given(tied_problems(), st.sampled_from([1, 7, 1 << 21]), st.booleans())
@settings(max_examples=200, deadline=None)
def test_is_the_slow_metric_with_ties(
    problem: tuple[list[Array], dict[str, Array | None]], elements: int, device: bool
) -> None:
    arrays, left_out = problem
    mine, theirs = left_out.get("query_groups"), left_out.get("gallery_groups")
    groups = None if mine is None or theirs is None else (mine, theirs)
    hits = slow_hits(*arrays, left_out["query_index"], groups)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retrieval, "CHUNK_ELEMENTS", elements)
        patch.setattr(judging, "BLOCK_ELEMENTS", elements)
        if device:  # the accelerator's code, on the CPU
            patch.setattr(metrics, "judge_numpy", lambda _, *given: judging.judge_torch(*given))
        if not any(map(any, hits)):
            with pytest.raises(ValueError, match="a query must have a relevant item"):
                evaluate_retrieval(*arrays, **left_out)
        else:
            assert_is_slow(evaluate_retrieval(*arrays, **left_out), hits)


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


def test_hand_worked_metrics() -> None:
    # Ranks 1 to 6: not, relevant, relevant, not, not, relevant; R = 3.
    labels = np.array([0, 7, 7, 0, 0, 7])
    result = evaluate_retrieval(line(0), np.array([7]), line(1, 2, 3, 4, 5, 6), labels)
    found = {name: one.mean(result) for name, one in METRICS.items()}
    assert found == {
        "map": pytest.approx((1 / 2 + 2 / 3 + 3 / 6) / 3, abs=1e-15),
        "map_at_r": pytest.approx((1 / 2 + 2 / 3) / 3, abs=1e-15),
        "r_precision": pytest.approx(2 / 3, abs=1e-15),
        "recall_at_1": 0,
        "recall_at_2": 1,
        "recall_at_4": 1,
        "recall_at_8": 1,
    }
    assert result.first_relevant_rank.tolist() == [2]


@given(tied_problems())
@settings(max_examples=50, deadline=None)
def test_metrics_bound_each_other(
    problem: tuple[list[Array], dict[str, Array | None]],
) -> None:
    arrays, left_out = problem
    arrays = [*arrays[:3], np.append(arrays[3][1:], arrays[1][0])]  # mostly, one is relevant
    try:
        result = evaluate_retrieval(*arrays, **left_out)
    except ValueError:
        return
    some = ~np.isnan(result.average_precision)
    at = {name: one.each(result)[some] for name, one in METRICS.items()}
    assert (at["map"] >= at["map_at_r"] - 1e-12).all()
    assert (at["r_precision"] >= at["map_at_r"] - 1e-12).all()
    for less, more in ((1, 2), (2, 4), (4, 8)):
        assert (at[f"recall_at_{less}"] <= at[f"recall_at_{more}"]).all()
    for values in at.values():
        assert ((values >= 0) & (values <= 1 + 1e-12)).all()


def test_a_group_of_several_rows_is_left_out() -> None:
    # Rows 0 to 2 are the query and its sequence, nearest and of its label; then not, relevant.
    gallery, labels = line(0, 1, 2, 3, 4, 5), np.array([7, 7, 7, 0, 7, 0])
    query, own = (gallery[:1], labels[:1]), np.array([0])
    groups = np.array([3, 3, 3, -1, 4, -1])
    result = evaluate_retrieval(
        *query, gallery, labels, query_index=own, query_groups=groups[:1], gallery_groups=groups
    )
    assert result.mean_average_precision == 1 / 2
    assert METRICS["map_at_r"].mean(result) == METRICS["r_precision"].mean(result) == 0
    assert [float(result.recall_at(k)[0]) for k in (1, 2, 3, 99)] == [0, 1, 1, 1]
    # The group alone leaves the query's own row out; -1 is no group, however many share it.
    alone = evaluate_retrieval(
        *query, gallery, labels, query_groups=groups[:1], gallery_groups=groups
    )
    assert alone.mean_average_precision == 1 / 2
    none = np.full(6, -1)
    kept = evaluate_retrieval(*query, gallery, labels, query_groups=none[:1], gallery_groups=none)
    assert (
        kept.mean_average_precision
        == evaluate_retrieval(*query, gallery, labels).mean_average_precision
    )


def test_a_query_whose_group_holds_all_that_is_relevant_is_counted() -> None:
    gallery, labels, groups = line(1, 2, 8, 9), np.array([1, 1, 2, 2]), np.array([0, 0, 1, 2])
    result = evaluate_retrieval(
        gallery,
        labels,
        gallery,
        labels,
        query_index=np.arange(4),
        query_groups=groups,
        gallery_groups=groups,
    )
    assert np.isnan(result.average_precision).tolist() == [True, True, False, False]
    assert result.queries_without_relevant == 2
    for one in METRICS.values():
        assert np.isnan(one.each(result)).tolist() == [True, True, False, False]
        assert one.mean(result) == 1


def test_some_queries_are_in_the_gallery() -> None:
    gallery, labels = line(0, 1, 2), np.array([1, 0, 1])
    queries, mine = np.repeat(gallery[:1], 2, axis=0), np.array([1, 1])
    result = evaluate_retrieval(queries, mine, gallery, labels, query_index=np.array([0, -1]))
    np.testing.assert_allclose(result.average_precision, [1 / 2, (1 + 2 / 3) / 2], atol=1e-15)


def test_metrics_have_names() -> None:
    assert list(METRICS) == [
        "map", "map_at_r", "r_precision", *(f"recall_at_{k}" for k in (1, 2, 4, 8))
    ]  # fmt: skip
    assert metric("map") is METRICS["map"]
    assert metric("recall_at_1000").title == "R@1000"
    for name in ("mAP", "recall_at_0", "recall_at_01", "recall_at_", "recall_at_1.5", ""):
        with pytest.raises(ValueError, match=f"a metric is one of map, .*recall_at_K; got '{name}"):
            metric(name)


@pytest.mark.parametrize("k", [0, True, 1.5])
def test_recall_refuses_what_is_no_count(k: Any) -> None:
    result = evaluate_retrieval(line(0), np.array([1]), line(1), np.array([1]))
    with pytest.raises(ValueError, match="k must be an integer >= 1; got"):
        result.recall_at(k)


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
        assert_is_slow(evaluate_retrieval(*arrays, labels), slow_hits(*arrays, labels))
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
