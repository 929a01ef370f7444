"""Tests of the distances and the exact ranking."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.oracles import slow_left_out, slow_ranking
from trainables import retrieval
from trainables.retrieval import distance_chunks, nearest, rank, squared_distances

ZEROS = torch.zeros(4, 2)


def small_integers(rows: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """(rows, 3) vectors of 0, 1, 2: their distances are exact and often equal."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 3, (rows, 3), generator=generator).to(dtype)


def test_squared_distances_of_vectors_of_any_length() -> None:
    x, y = torch.tensor([[0.0, 3.0], [1.0, 1.0]]), torch.tensor([[4.0, 0.0], [0.0, 3.0]])
    assert squared_distances(x, y).tolist() == [[25.0, 0.0], [10.0, 5.0]]


def test_squared_distances_are_never_negative() -> None:
    x = torch.randn(200, 64, generator=torch.Generator().manual_seed(0))
    assert (squared_distances(x, x) >= 0).all()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (torch.float64, torch.float64),
        (torch.float32, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
    ],
)
def test_squared_distances_dtype(given: torch.dtype, expected: torch.dtype) -> None:
    x = small_integers(20, dtype=given)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        distances = squared_distances(x * 100, x)
    assert distances.dtype == expected
    wide = x.to(expected)
    torch.testing.assert_close(distances, torch.cdist(wide * 100, wide).square())


def test_squared_distances_have_the_gradient_of_the_formula() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, 3, dtype=torch.float64, generator=generator, requires_grad=True)
    y = torch.randn(5, 3, dtype=torch.float64, generator=generator, requires_grad=True)
    assert torch.autograd.gradcheck(squared_distances, (x, y))


@pytest.mark.parametrize(
    ("x", "y", "law"),
    [
        (torch.zeros(3), torch.zeros(2, 3), "x must be a 2-d tensor"),
        (torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.int64), "y must be a 2-d tensor"),
        (torch.zeros(2, 3), torch.zeros(2, 4), "same D, got 3 and 4"),
    ],
)
def test_squared_distances_refuses(x: torch.Tensor, y: torch.Tensor, law: str) -> None:
    with pytest.raises(ValueError, match=law):
        squared_distances(x, y)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rank_is_the_stable_argsort(dtype: type[np.floating]) -> None:
    random = np.random.default_rng(0)
    for distances in (
        random.random((5, 999)),
        random.exponential(1e-30, (5, 999)),
        random.integers(0, 9, (5, 999)),
        np.array([[np.inf, 0, np.finfo(dtype).max, np.finfo(dtype).tiny, 0, np.inf]]),
        np.zeros((2, 0)),
    ):
        rows = distances.astype(dtype)
        expected = [sorted(range(len(row)), key=row.tolist().__getitem__) for row in rows]
        assert rank(rows).tolist() == expected


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("elements", [1, 100, 1 << 21])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_nearest_is_the_slow_ranking(
    dtype: torch.dtype, elements: int, own: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retrieval, "CHUNK_ELEMENTS", elements)
    gallery = small_integers(40, dtype=dtype)
    index = torch.randperm(40, generator=torch.Generator().manual_seed(1))[:9] if own else None
    queries = small_integers(9, seed=2, dtype=dtype) if index is None else gallery[index]
    rows = [None] * 9 if index is None else index.tolist()
    expected = [
        slow_ranking(query, gallery.tolist(), row)
        for query, row in zip(queries.tolist(), rows, strict=True)
    ]
    for k in (1, 39):
        found = nearest(queries, gallery, k=k, query_index=index)
        assert found.dtype == torch.int64
        assert found.tolist() == [ranking[:k] for ranking in expected]


@pytest.mark.parametrize("elements", [1, 100, 1 << 21])
def test_nearest_leaves_out_own_rows_and_groups(
    elements: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retrieval, "CHUNK_ELEMENTS", elements)
    generator = torch.Generator().manual_seed(1)
    gallery, queries = small_integers(40), small_integers(9, seed=2)
    index = torch.randint(0, 40, (9,), generator=generator)
    mine, theirs = (torch.randint(-1, 8, (n,), generator=generator) for n in (9, 40))
    index[::2], mine[::3], theirs[::4] = -1, -1, -1
    found = nearest(
        queries, gallery, k=25, query_index=index, query_groups=mine, gallery_groups=theirs
    )
    for query, own, group, row in zip(queries.tolist(), index, mine, found, strict=True):
        left_out = slow_left_out(int(own), int(group), theirs.tolist())
        assert row.tolist() == slow_ranking(query, gallery.tolist(), left_out=left_out)[:25]


def test_nearest_refuses_more_than_a_query_ranks() -> None:
    x, groups = small_integers(5), torch.tensor([0, 0, 0, 1, -1])
    given = {"query_index": torch.arange(5), "query_groups": groups, "gallery_groups": groups}
    assert nearest(x, x, k=2, **given).shape == (5, 2)
    with pytest.raises(ValueError, match="k may not exceed the 2 gallery rows to rank, got 3"):
        nearest(x, x, k=3, **given)
    nobody = torch.full((5,), -1)
    assert nearest(x, x, k=5, query_index=nobody).tolist() == nearest(x, x, k=5).tolist()


@pytest.mark.parametrize(
    ("mine", "theirs", "law"),
    [
        (torch.zeros(4).long(), None, "belong together, got query_groups alone"),
        (None, torch.zeros(4).long(), "belong together, got gallery_groups alone"),
        (torch.zeros(3).long(), torch.zeros(4).long(), r"query_groups must be \(4,\) integers"),
        (torch.zeros(4).long(), torch.zeros(4), r"gallery_groups must be \(4,\) integers"),
        (torch.tensor([0, 1, -2, 3]), torch.zeros(4).long(), "query_groups must be -1 or .* -2"),
        (torch.zeros(4).long(), torch.tensor([0, 1, 2, -3]), "gallery_groups must be .* got -3"),
    ],
)
def test_distance_chunks_refuses_groups(
    mine: torch.Tensor | None, theirs: torch.Tensor | None, law: str
) -> None:
    with pytest.raises(ValueError, match=law):
        list(distance_chunks(ZEROS, ZEROS, None, mine, theirs))


@pytest.mark.parametrize(("k", "own"), [(6, False), (5, True)])
def test_nearest_refuses_more_than_there_are(k: int, own: bool) -> None:
    x = small_integers(5)
    with pytest.raises(ValueError, match=rf"k may not exceed the {5 - own} gallery .* got {k}"):
        nearest(x, x, k=k, query_index=torch.arange(5) if own else None)
    for index in (None, torch.zeros(0, dtype=torch.int64)):
        with pytest.raises(ValueError, match=r"k may not exceed the 0 gallery rows"):
            nearest(x[:0], x[:0], k=1, query_index=index)


@pytest.mark.parametrize("k", [0, True, 2.0, "2", torch.tensor(2)])
def test_nearest_refuses_what_is_no_count(k: Any) -> None:
    x = small_integers(5)
    with pytest.raises(ValueError, match="k must be an integer >= 1; got"):
        nearest(x, x, k=k)
    assert nearest(x, x, k=np.int64(2)).shape == (5, 2)


@pytest.mark.parametrize(
    ("queries", "gallery", "index", "law"),
    [
        (ZEROS[0], ZEROS, None, r"queries must be a 2-d tensor of .*, got torch.float32 \(2,\)"),
        (ZEROS.int(), ZEROS, None, "queries must be a 2-d tensor of .*, got torch.int32"),
        (ZEROS[:, :1], ZEROS, None, "the same D and dtype"),
        (ZEROS.double(), ZEROS, None, "the same D and dtype"),
        (ZEROS, torch.full((4, 2), torch.nan), None, "gallery must be finite.* row 0"),
        (ZEROS + torch.inf, ZEROS, None, "queries must be finite.* row 0"),
        (ZEROS, ZEROS + 1e19, None, "gallery must be finite"),
        (ZEROS, ZEROS, torch.arange(3), r"query_index must be \(4,\) integers"),
        (ZEROS, ZEROS, torch.zeros(4), r"query_index must be \(4,\) integers"),
        (ZEROS, ZEROS, torch.ones(4, dtype=torch.bool), r"\(4,\) integers, got torch.bool"),
        (ZEROS, ZEROS, torch.tensor([0, 1, 2, 4]), "gallery rows, 0 to 3, got 4"),
        (ZEROS, ZEROS, torch.tensor([0, 1, 2, -2]), "-1 or gallery rows, 0 to 3, got -2"),
        (ZEROS, ZEROS, torch.tensor([0, 1, 2, 2**64 - 1], dtype=torch.uint64), "got 18446744"),
    ],
)
def test_distance_chunks_refuses(
    queries: torch.Tensor, gallery: torch.Tensor, index: torch.Tensor | None, law: str
) -> None:
    with pytest.raises(ValueError, match=law):
        list(distance_chunks(queries, gallery, index))
