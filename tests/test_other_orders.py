"""Orders beside that of the distances: what they are worth, and a comparison that judges them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from analysis import report
from study import publish
from study.judge import other_orders
from study.judge.evaluation import evaluate, trained_network
from study.judge.other_orders import (
    ORDERS,
    average_precisions,
    mirrored,
    orders_of_runs,
    orders_table,
)
from study.judge.significance import GAPS, mean_interval
from study.results.images import Images
from tests.oracles import slow_average_precision
from tests.small_studies import TEST, trial, write_study
from tests.test_final_test import finals, made, make, read_test, reads  # noqa: F401
from tests.test_reranking import unit
from trainables.data import Roles
from trainables.data.fashion_mnist import CLASSES
from trainables.reranking import RERANKINGS
from trainables.trained import embed_pixels


@pytest.mark.parametrize("name", RERANKINGS)
def test_what_re_ranking_is_worth_is_the_slow_average_precision(name: str) -> None:
    x, labels = unit(30, 4), np.arange(30) % 5
    groups = np.where(np.arange(30) % 3 == 0, np.arange(30) // 6, -1)
    roles = Roles(np.array([4, 9, 0, 21]), np.array([21, 3, 9, 14, 6, 8, 2, 29, 24]), groups)
    found = average_precisions(x, labels, roles, name)
    order = [4, 9, 0, 21, *sorted(set(roles.gallery.tolist()) - {9, 21})]
    gallery = np.array([order.index(place) for place in roles.gallery])
    distances = RERANKINGS[name](x[order], 4, gallery, None)
    for place, query in enumerate(roles.queries):
        left = [g for g in roles.gallery if g != query and not (groups[g] == groups[query] >= 0)]
        ranked = sorted(left, key=lambda g, p=place: distances[p, order.index(g)])
        wanted = slow_average_precision([labels[g] == labels[query] for g in ranked])
        assert found[place] == pytest.approx(np.nan if wanted is None else wanted, nan_ok=True)


def test_with_the_mirror_an_embedding_is_the_mean_of_two(tmp_path: Path) -> None:
    study = write_study(tmp_path / "study", trial("smooth_ap", 0, [0.6]))
    choice = study.best()["smooth_ap"]
    images = Images(TEST, {"full": Roles.first(40, len(TEST))}, CLASSES, "", "")
    evaluation = evaluate(choice, images)
    pixels = torch.from_numpy(TEST.pixels[TEST.rows])
    network = trained_network(choice)
    both = embed_pixels(network, pixels) + embed_pixels(network, pixels.flip(3))
    expected = both / both.norm(dim=1, keepdim=True)
    found = mirrored(evaluation, TEST)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert (found - evaluation.embeddings).abs().max() > 0.01
    table = orders_table({"smooth_ap": evaluation}, TEST).set_index("order")
    labels, gap = TEST.labels.tolist(), []
    for query in range(40):
        distances = 2 - 2 * (expected @ expected[query])
        order = [g for g in distances.argsort(stable=True).tolist() if g != query]
        gap.append(slow_average_precision([labels[g] == labels[query] for g in order]))
    assert table.loc["with the mirror", "map"] == pytest.approx(np.mean(gap), abs=1e-3)


def test_a_comparison_judges_its_runs_in_other_orders_if_it_is_asked_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep, confirmation = make(tmp_path / "c", rerank=True)
    read_test(sweep, confirmation)
    table, arrays = finals(sweep, "orders"), np.load(sweep.folder / "finals" / "orders.npz")
    runs = finals(sweep, "runs").set_index("trial_id")
    assert table.groupby("trial_id", sort=False)["order"].apply(list).tolist() == [
        [*ORDERS] for _ in runs.index
    ]
    for row in table.itertuples():
        found = np.nanmean(arrays[f"{row.order}/{row.trial_id}"].astype(float))
        assert row.map == pytest.approx(found, abs=1e-6)
        assert row.gain == pytest.approx(found - runs.loc[row.trial_id, "map_full"], abs=1e-6)
        assert (row.loss, row.role) == tuple(runs.loc[row.trial_id, ["loss", "role"]])
    means = orders_of_runs(table)
    mine = table.query("loss == 'triplet' and role == 'chosen' and order == 'k-reciprocal'")
    (row,) = means.query("loss == 'triplet' and role == 'chosen' and order == 'k-reciprocal'").T
    row = means.loc[row]
    assert row["map"] == pytest.approx(mine["map"].mean())
    assert (row["low"], row["high"]) == pytest.approx(mean_interval(mine["gain"].to_numpy(), GAPS))
    assert report.main([str(sweep.folder)]) == 0
    shown = pd.read_csv(sweep.folder / "report" / "table_what_re_ranking_gains_and_costs.csv")
    assert len(shown) == len(means) and "95 % over runs" in shown
    assert set(shown["loss"]) >= {"triplet", "triplet (reference)"}
    publish.publish(sweep.folder, tmp_path / "records" / "r")
    kept = {path.name for path in (tmp_path / "records" / "r" / "finals").iterdir()}
    assert {"orders.csv", "orders.npz"} <= kept


def test_of_repeated_searches_the_interval_is_over_these() -> None:
    own = {"trial_id": "t", "loss": "triplet", "role": "chosen", "order": "x", "seconds": 1.0}
    gains = {0: [0.01, 0.03], 1: [0.05, 0.07]}
    rows = pd.DataFrame(
        [
            {**own, "search": search, "map": 0.5 + gain, "gain": gain}
            for search, of in gains.items()
            for gain in of
        ]
    )
    (row,) = orders_of_runs(rows).to_dict("records")
    assert (row["map"], row["gain"], row["over"]) == pytest.approx((0.54, 0.04, "searches"))
    expected = mean_interval(np.array([0.02, 0.06]), GAPS)
    assert (row["low"], row["high"]) == pytest.approx(tuple(expected))


def test_a_comparison_that_was_not_asked_has_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep, confirmation = make(tmp_path / "c")
    read_test(sweep, confirmation)
    assert not (sweep.folder / "finals" / "orders.csv").exists()
    assert report.main([str(sweep.folder), "--rerank"]) == 2
    assert "where it was begun with --rerank; " in capsys.readouterr().err


def test_too_many_images_to_re_rank_stop_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor does want of memory: all else is written before."""
    monkeypatch.setattr(other_orders, "MOST", 5)
    sweep, confirmation = make(tmp_path / "c", rerank=True)
    read_test(sweep, confirmation)
    assert "warning: no other orders: re-ranking holds all" in capsys.readouterr().err
    assert len(finals(sweep, "summary")) and not (sweep.folder / "finals" / "orders.csv").exists()
    assert report.main([str(sweep.folder), "--rerank"]) == 2
    assert "left them out, as it said then" in capsys.readouterr().err
