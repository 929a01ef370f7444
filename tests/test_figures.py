"""The data of every figure against slow and obvious versions; what is drawn, by its artists."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.collections import PatchCollection, PathCollection
from matplotlib.figure import Figure
from scipy import stats

from analysis import style
from analysis.evaluation import Evaluation, Images, difference, judge, map_table, mean_interval
from analysis.histories import draw_history, history_table
from analysis.pr_curves import draw_all, pr_figures, pr_table
from analysis.retrieval_figures import (
    GAP,
    Grid,
    compose,
    draw_retrieval,
    first_of_each_class,
    retrieval_figures,
    retrieval_table,
    retrieve,
)
from analysis.search_figures import draw_search, search_figure, search_table
from study.results import STATUSES, Choice, Study, TrialRecord
from tests.conftest import synthetic
from trainables.config import LOSSES, REFERENCES
from trainables.data import CLASSES, Protocol

INFO = {
    "status": "finished",
    "plan": {"losses": list(LOSSES), "num_samples": 2},
    "command": "python study/tune_smoothap.py --name small",
    "commit": "abc1234",
    "started": 1_700_000_000.0,
    "ended": 1_700_000_600.0,
    "versions": {"torch": "2.15"},
    "machine": {"cpus": 2},
}


def trial(
    loss: str, number: int, maps: list[float], status: str = "finished", cause: str = ""
) -> TrialRecord:
    """A trial with these validation mAPs; its other numbers follow from the epoch."""
    epochs = [
        {
            "epoch": epoch,
            "train_loss": 1 / epoch,
            "val_loss": 1.5 / epoch,
            "val_map": value,
            "seconds": 2.0,
            "evaluation_seconds": 0.5,
            "images_per_second": 100.0,
        }
        for epoch, value in enumerate(maps, start=1)
    ]
    seed = 10 * LOSSES.index(loss) + number  # no two trials start from the same weights
    config = REFERENCES[loss].replace(batch_size=16, epochs=4, seed=seed)
    return TrialRecord(f"{loss}-{number:03}", config, epochs, status, cause)


@pytest.fixture(scope="module")
def images() -> Images:
    return Images(synthetic(70, seed=3), CLASSES, "test images", "")


@pytest.fixture(scope="module")
def evaluations(images: Images) -> dict[str, Evaluation]:
    """Random embeddings under protocols that 70 images can fill."""
    protocols = {"seed": Protocol(50, 20), "full": Protocol(70, 70)}
    labels = torch.from_numpy(images.data.labels)
    made = {}
    for number, loss in enumerate(("smooth_ap", "triplet")):
        generator = torch.Generator().manual_seed(number)
        embeddings = torch.randn(len(labels), 8, generator=generator, dtype=torch.float64)
        embeddings[range(70), labels % 8] += 2 - number  # so that classes lie together
        embeddings = torch.nn.functional.normalize(embeddings)
        choice = Choice(f"{loss}-000", REFERENCES[loss], 0.5, 1, None)
        judged = {name: judge(embeddings, labels, protocol) for name, protocol in protocols.items()}
        made[loss] = Evaluation(choice, embeddings, judged)
    return made


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """Two trials of which one is chosen, a fault that had the higher mAP, one without an epoch."""
    trials = [
        trial("cross_entropy", 0, [0.3, 0.5, 0.4]),
        trial("cross_entropy", 1, [0.2], "stopped_early"),
        trial("cross_entropy", 2, [0.9], "diverged"),
        trial("cross_entropy", 3, [0.6, 0.55]),
        trial("triplet", 0, [], "failed"),
        trial("triplet", 1, [0.7]),
    ]
    return Study(tmp_path, dict(INFO), trials)


def slow_ranking(evaluation: Evaluation, query: int, gallery: int) -> list[int]:
    points = evaluation.embeddings.numpy()
    others = [row for row in range(gallery) if row != query]
    return sorted(others, key=lambda row: float(((points[query] - points[row]) ** 2).sum()))


def slow_precisions(evaluation: Evaluation, images: Images, query: int, gallery: int) -> list:
    """(recall, precision) at every rank of a relevant image."""
    labels = images.data.labels
    ranking = slow_ranking(evaluation, query, gallery)
    relevant = [labels[row] == labels[query] for row in ranking]
    return [
        (sum(relevant[: rank + 1]) / sum(relevant), sum(relevant[: rank + 1]) / (rank + 1))
        for rank in range(len(ranking))
        if relevant[rank]
    ]


def test_every_loss_and_every_status_has_its_own_look() -> None:
    assert set(style.NAMES) == set(style.COLOURS) == set(LOSSES)
    assert len(set(style.COLOURS.values())) == len(LOSSES)
    assert set(style.MARKERS) == set(STATUSES)
    assert len(set(style.MARKERS.values())) == len(STATUSES)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.000123456, "0.0001235"), (10.0, "10"), (64, "64"), (None, ""), (np.nan, ""), (pd.NA, "")],
)
def test_cells_show_four_digits_and_nothing_for_what_is_missing(value: object, shown: str) -> None:
    assert style.text(value) == shown


def test_words_of_lists_and_counts() -> None:
    assert style.listed(["a"]) == "a"
    assert style.listed(["a", "b", "c"]) == "a, b and c"
    assert style.plural(1, "query", "queries") == "1 query"
    assert style.plural(2_000, "query", "queries") == "2,000 queries"
    assert style.plural(2, "trial") == "2 trials"


def test_a_figure_is_the_same_bytes_each_time(study: Study) -> None:
    first, second = search_figure(study), search_figure(study)
    assert first.png == second.png
    assert first.svg == second.svg
    assert b"<dc:date>" not in first.svg
    assert first.png.startswith(b"\x89PNG")


def test_interval_is_students() -> None:
    values = np.random.default_rng(0).random(30)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert mean_interval(np.append(values, np.nan)) == pytest.approx(tuple(expected))
    assert np.isnan(mean_interval(values[:1])).all()


def test_difference_is_paired_by_query(evaluations: dict[str, Evaluation]) -> None:
    gap, interval = difference(evaluations["smooth_ap"], evaluations["triplet"])
    one, other = (e.protocols["full"].result.average_precision for e in evaluations.values())
    assert gap == pytest.approx(one.mean() - other.mean())
    expected = stats.ttest_rel(one, other).confidence_interval(0.95)
    assert interval == pytest.approx(tuple(expected))


@pytest.mark.parametrize(("protocol", "queries", "gallery"), [("seed", 20, 50), ("full", 70, 70)])
def test_map_is_that_of_slow_rankings(
    evaluations: dict[str, Evaluation], images: Images, protocol: str, queries: int, gallery: int
) -> None:
    table = map_table(evaluations).set_index(["loss", "protocol"])
    for loss, evaluation in evaluations.items():
        points = [slow_precisions(evaluation, images, q, gallery) for q in range(queries)]
        expected = np.mean([np.mean([precision for _, precision in ranks]) for ranks in points])
        row = table.loc[(loss, protocol)]
        assert row["map"] == pytest.approx(expected)
        assert row["low"] < expected < row["high"]
        assert (row["queries"], row["gallery"]) == (queries, gallery)


def test_a_protocol_takes_what_there_is() -> None:
    embeddings, labels = torch.eye(6), torch.tensor([0, 0, 1, 1, 2, 2])
    judged = judge(embeddings, labels, Protocol(1_000, 100))
    assert judged.protocol == Protocol(6, 6)


def test_pr_curve_is_the_interpolated_precision(
    evaluations: dict[str, Evaluation], images: Images
) -> None:
    table = pr_table(evaluations)
    curve = table[(table["loss"] == "triplet") & (table["protocol"] == "seed")]
    points = [slow_precisions(evaluations["triplet"], images, q, 50) for q in range(20)]
    recalls = curve["recall"].to_numpy()
    assert recalls[0] == 0 and recalls[-1] == 1 and len(recalls) == 101
    for recall, precision in zip(recalls, curve["precision"], strict=True):
        # 3 of 10 found is recall 0.3, however the division was rounded
        best = [max(p for r, p in ranks if r >= recall - 1e-9) for ranks in points]
        assert precision == pytest.approx(np.mean(best))


def test_pr_plot_has_a_curve_a_loss_and_its_map(
    evaluations: dict[str, Evaluation], images: Images
) -> None:
    table = pr_table(evaluations)
    full = table[table["protocol"] == "full"]
    figure = Figure()
    draw_all(figure, full, images)
    (axes,) = figure.axes
    assert axes.get_xlim() == axes.get_ylim() == (0, 1)
    for line, (loss, curve) in zip(axes.lines, full.groupby("loss", sort=False), strict=True):
        assert line.get_color() == style.COLOURS[loss]
        np.testing.assert_array_equal(line.get_ydata(), curve["precision"])
        judged = evaluations[loss].protocols["full"]
        assert line.get_label().endswith(f"mAP {judged.mean_average_precision:.3f}")
    together, *each = pr_figures(evaluations, images)
    assert set(together.data["protocol"]) == {"full"}
    assert [figure.name for figure in each] == ["pr_curve_smooth_ap", "pr_curve_triplet"]


def test_queries_are_the_first_of_each_class() -> None:
    labels = np.array([2, 0, 2, 1, 0, 3])
    assert first_of_each_class(labels, 6).tolist() == [1, 3, 0, 5]
    assert first_of_each_class(labels, 4).tolist() == [1, 3, 0]


def test_neighbours_are_those_of_a_slow_ranking(
    evaluations: dict[str, Evaluation], images: Images
) -> None:
    labels, evaluation = images.data.labels, evaluations["triplet"]
    retrieval = retrieve(evaluation, images, gallery=50, shown=12)
    for row, query in enumerate(retrieval.queries):
        expected = slow_ranking(evaluation, query, 50)[:12]
        assert retrieval.neighbours[row].tolist() == expected
        assert retrieval.right[row].tolist() == [labels[r] == labels[query] for r in expected]
        points = slow_precisions(evaluation, images, query, 50)
        assert retrieval.average_precision[row] == pytest.approx(np.mean([p for _, p in points]))
    assert retrieve(evaluation, images, gallery=9, shown=12).neighbours.shape[1] == 8


def test_retrieval_table_is_a_row_an_image(
    evaluations: dict[str, Evaluation], images: Images
) -> None:
    retrieval = retrieve(evaluations["triplet"], images, gallery=50, shown=5)
    table = retrieval_table(retrieval, images)
    assert len(table) == retrieval.neighbours.size
    assert table["rank"].tolist() == [1, 2, 3, 4, 5] * len(retrieval.queries)
    last = table.iloc[-1]
    assert last["query"] == retrieval.queries[-1]
    assert last["image"] == retrieval.neighbours[-1, -1]
    assert last["image_class"] == CLASSES[images.data.labels[last["image"]]]
    assert (table["right"] == (table["query_class"] == table["image_class"])).all()


@pytest.mark.parametrize("columns", [5, 3])
def test_canvas_holds_every_image_once_and_apart(
    evaluations: dict[str, Evaluation], images: Images, columns: int
) -> None:
    retrieval = retrieve(evaluations["triplet"], images, gallery=50, shown=5)
    grid = Grid((28 + GAP, 28 + GAP), columns, -(-5 // columns))
    canvas = compose(retrieval, images.data.images, grid)
    shown = [*retrieval.queries, *retrieval.neighbours.ravel()]
    assert canvas.sum(dtype=np.int64) == images.data.images[shown].sum(dtype=np.int64)
    y, x = grid.corner(2, 4)
    expected = images.data.images[retrieval.neighbours[2, 4]]
    np.testing.assert_array_equal(canvas[y : y + 28, x : x + 28], expected)


def test_wrong_images_are_crossed_not_only_coloured(
    evaluations: dict[str, Evaluation], images: Images
) -> None:
    retrieval = retrieve(evaluations["triplet"], images, gallery=50, shown=5)
    figure = Figure()
    draw_retrieval(figure, retrieval, images, columns=5, title="triplet")
    (axes,) = figure.axes
    boxes = [c for c in axes.collections if isinstance(c, PatchCollection)]
    (crosses,) = [c for c in axes.collections if isinstance(c, PathCollection)]
    wrong = int((~retrieval.right).sum())
    assert [len(box.get_paths()) for box in boxes] == [retrieval.right.size - wrong, wrong]
    assert len(crosses.get_offsets()) == wrong
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == [CLASSES[images.data.labels[query]] for query in retrieval.queries]
    hits = f"{retrieval.right[0].sum()}/5"
    assert hits in [text.get_text() for text in axes.texts]


def test_all_losses_are_shown_the_same_queries(
    evaluations: dict[str, Evaluation], images: Images
) -> None:
    first, second = retrieval_figures(evaluations, images, "seed")
    assert first.data["query"].tolist() == second.data["query"].tolist()
    share = first.data["right"].mean()
    assert f"{share:.0%} have the query's class" in first.caption


def test_history_is_of_the_chosen_trials(study: Study) -> None:
    table = history_table(study)
    assert table["trial_id"].tolist() == ["cross_entropy-003"] * 2 + ["triplet-001"]
    assert table["chosen"].tolist() == [True, False, True]
    figure = Figure()
    draw_history(figure, table[table["loss"] == "cross_entropy"])
    losses, scores = figure.axes
    assert [line.get_label() for line in losses.lines[:2]] == ["training", "validation"]
    np.testing.assert_array_equal(losses.lines[0].get_ydata(), [1, 0.5])
    np.testing.assert_array_equal(scores.lines[0].get_ydata(), [0.6, 0.55])
    star = scores.lines[-1]
    assert (star.get_xdata()[0], star.get_ydata()[0]) == (1, 0.6)
    assert star.get_label() == "0.600 at epoch 1"


def test_best_so_far_counts_only_what_may_be_chosen(study: Study) -> None:
    table = search_table(study)
    assert table["number"].tolist() == [0, 1, 2, 3, 0, 1]
    np.testing.assert_array_equal(table["best_val_map"], [0.5, 0.2, 0.9, 0.6, np.nan, 0.7])
    np.testing.assert_array_equal(table["best_so_far"], [0.5, 0.5, 0.5, 0.6, np.nan, 0.7])
    assert "0.700 for triplet and 0.600 for cross-entropy" in search_figure(study).caption
    assert "1 trial without any mAP" in search_figure(study).caption


def test_every_trial_is_in_the_search_plot(study: Study) -> None:
    figure = Figure()
    draw_search(figure, search_table(study), study.losses)
    (axes,) = figure.axes
    heights = np.concatenate([c.get_offsets()[:, 1] for c in axes.collections])
    assert len(heights) == len(study.trials)
    assert axes.get_ylim()[0] == heights.min() < 0.2
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    assert legend == [
        "cross-entropy, best so far",
        "triplet, best so far",
        "trial finished",
        "trial stopped early",
        "trial diverged",
        "trial failed",
    ]
