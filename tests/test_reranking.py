"""Re-ranking against the papers' equations, with sets and loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from trainables.reranking import RERANKINGS, expanded, k_reciprocal
from trainables.retrieval import unit_length


def unit(count: int, width: int, seed: int = 0) -> torch.Tensor:
    """Unit vectors around a few directions."""
    rng = torch.Generator().manual_seed(seed)
    centres = torch.randn(5, width, generator=rng)
    return unit_length(centres[torch.arange(count) % 5] + torch.randn(count, width, generator=rng))


def slow_k_reciprocal(
    x: np.ndarray, asks: int, k1: int, k2: int, weight: float
) -> list[list[float]]:
    """Zhong et al.'s equations, with sets."""
    count = len(x)
    d = [[float(((a - b) ** 2).sum()) for b in x] for a in x]
    d = [[one / max(row) for one in row] for row in d]
    order = [sorted(range(count), key=lambda j, row=row: (row[j], j)) for row in d]

    def reciprocal(i: int, k: int) -> set[int]:
        return {j for j in order[i][: k + 1] if i in order[j][: k + 1]}

    described = []
    for i in range(count):
        own = reciprocal(i, k1)
        alike = set(own)
        for j in own:
            theirs = reciprocal(j, round(k1 / 2))
            if len(own & theirs) >= 2 / 3 * len(theirs):
                alike |= theirs
        total = sum(np.exp(-d[i][j]) for j in alike)
        described.append([np.exp(-d[i][j]) / total if j in alike else 0.0 for j in range(count)])
    described = [np.mean([described[j] for j in order[i][:k2]], axis=0) for i in range(count)]
    found = []
    for i in range(asks):
        shared = [float(np.minimum(described[i], described[j]).sum()) for j in range(count)]
        widest = [float(np.maximum(described[i], described[j]).sum()) for j in range(count)]
        jaccard = [1 - a / b for a, b in zip(shared, widest, strict=True)]
        found.append([(1 - weight) * a + weight * b for a, b in zip(jaccard, d[i], strict=True)])
    return found


@pytest.mark.parametrize(
    ("count", "k1", "k2", "weight"), [(40, 8, 3, 0.3), (30, 5, 1, 0), (6, 20, 6, 1)]
)
def test_k_reciprocal_is_the_paper(count: int, k1: int, k2: int, weight: float) -> None:
    x = unit(count, 6).double()
    found = k_reciprocal(x, 7 if count > 6 else 2, k1=k1, k2=k2, weight=weight)
    wanted = slow_k_reciprocal(x.numpy(), len(found), k1, k2, weight)
    np.testing.assert_allclose(found, wanted, atol=2e-6)


def test_expansion_is_the_paper() -> None:
    x = unit(20, 4)
    found = expanded(x, 3, count=4, power=3.0)
    for query in range(3):
        similar = (x @ x[query]).tolist()
        order = sorted(range(20), key=lambda j, s=similar: -s[j])[:5]
        total = sum(max(similar[j], 0) ** 3 * x[j] for j in order)
        direction = total / torch.linalg.vector_norm(total)
        wanted = [float(((direction - row) ** 2).sum()) for row in x]
        np.testing.assert_allclose(found[query], wanted, atol=1e-5)


def test_equal_vectors_can_be_re_ranked() -> None:
    x = torch.ones(50, 4) / 2
    for name, method in RERANKINGS.items():
        assert np.isfinite(method(x, 5, np.arange(50))).all(), name


def test_a_query_is_not_expanded_by_what_is_of_its_group() -> None:
    """As if that were no part of the gallery; -1 is no group."""
    x, groups = unit(20, 4), np.array([0, 1, -1, *[0, 0, 1, -1] * 4, -1])
    together = expanded(x, 3, np.arange(3, 20), groups, count=4)
    for query in range(3):
        alike = (groups == groups[query]) & (groups >= 0)
        rest = [place for place in range(3, 20) if not alike[place]]
        alone = expanded(x[[query, *rest]], 1, np.arange(1, 1 + len(rest)), count=4)
        np.testing.assert_allclose(together[query, rest], alone[0, 1:], atol=1e-6)
    assert np.isfinite(expanded(x, 3, np.arange(3, 5), groups)).all()  # one has nothing left


@pytest.mark.parametrize("in_gallery", [True, False])
def test_each_query_is_expanded_by_all_that_it_ranks(in_gallery: bool) -> None:
    """By loops: a group that is nearly the whole gallery shortens no other query's expansion."""
    x = unit(30, 4, seed=3)
    groups = np.array([0, 1, -1, 2, *[0] * 22, 1, 1, -1, 2])
    gallery = np.arange(0 if in_gallery else 4, 30)[::-1].copy()
    found = expanded(x, 4, gallery, groups, count=6, power=3.0)
    for query in range(4):
        alike = {j for j in gallery if groups[j] == groups[query] >= 0}
        similar = {j: float(x[j] @ x[query]) for j in gallery if j not in {query, *alike}}
        total = x[query].clone()
        for j in sorted(similar, key=lambda j, s=similar: -s[j])[:6]:
            total += max(similar[j], 0) ** 3 * x[j]
        direction = total / torch.linalg.vector_norm(total)
        wanted = [float(((direction - row) ** 2).sum()) for row in x]
        np.testing.assert_allclose(found[query], wanted, atol=1e-5)


def test_a_query_is_expanded_by_the_gallery_alone() -> None:
    x = unit(20, 4)
    together = expanded(x, 5, np.arange(5, 20), count=4)
    for query in range(5):
        alone = expanded(x[[query, *range(5, 20)]], 1, np.arange(1, 16), count=4)
        np.testing.assert_allclose(together[query, 5:], alone[0, 1:], atol=1e-6)
