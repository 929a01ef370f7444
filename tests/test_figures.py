"""The data of every figure against slow and obvious versions; what is drawn, by its artists."""

from __future__ import annotations

import json
from fractions import Fraction
from itertools import combinations, permutations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.collections import PatchCollection, PathCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from scipy import stats

from analysis.figures import style
from analysis.figures.class_figures import (
    class_ap_table,
    confusion_table,
    draw_confusion,
    draw_tall,
)
from analysis.figures.expected_figure import (
    draw_expected,
    expected_figure,
    expected_table,
    found_table,
)
from analysis.figures.histories import chosen_history, draw_history, history_figures
from analysis.figures.knob_figures import knob_figures
from analysis.figures.ladder_figure import draw_ladder, ladder_figure, ladder_table, lower_edge
from analysis.figures.parallel_coordinates import (
    SCORE,
    draw_parallel,
    parallel_figures,
    parallel_heights,
)
from analysis.figures.pr_curves import draw_all, pr_figures, pr_table
from analysis.figures.retrieval_figures import (
    chosen_queries,
    many_figures,
    retrieval,
    retrieval_table,
    retrievals,
    side_by_side_figure,
)
from analysis.figures.retrieval_grid import Grid, Retrieval, compose, draw_retrieval
from analysis.figures.search_figures import (
    draw_search,
    search_figure,
    search_table,
    seconds_figure,
    seconds_table,
)
from analysis.figures.style import ReportFigure
from analysis.figures.timeline_figure import (
    busy,
    draw_timeline,
    timeline_figure,
    timeline_table,
)
from analysis.found import words
from analysis.found.importance import importance
from analysis.found.knobs import field_ranges, heights, knob_table, varied
from analysis.found.runs import Results, map_table, mean_curve, of_study
from analysis.found.sources import query_differences
from analysis.page.answer import gap_between
from study.judge.evaluation import Evaluation, difference, judge
from study.judge.significance import mean_interval
from study.results.images import Images
from study.results.studies import Choice, Study
from study.results.trials import STATUSES, trial_name
from tests.configurations import REFERENCES, made_up
from tests.conftest import synthetic
from tests.small_studies import INFO, trial
from trainables.config import TrialConfig
from trainables.data import LabelledImages, Roles
from trainables.data.fashion_mnist import CLASSES
from trainables.losses import names as names_of_losses
from trainables.losses import resolve


@pytest.fixture(scope="module")
def images() -> Images:
    """Under protocols that 70 images can fill."""
    protocols = {"full": Roles.first(70, 70), "seed": Roles.first(20, 50)}
    return Images(synthetic(70, seed=3), protocols, CLASSES, "test images", "")


@pytest.fixture(scope="module")
def evaluations(images: Images) -> dict[str, Evaluation]:
    """Random embeddings."""
    labels = torch.from_numpy(images.data.labels)
    made = {}
    for number, loss in enumerate(("smooth_ap", "triplet")):
        generator = torch.Generator().manual_seed(number)
        embeddings = torch.randn(len(labels), 8, generator=generator, dtype=torch.float64)
        embeddings[range(70), labels % 8] += 2 - number  # so that classes lie together
        embeddings = torch.nn.functional.normalize(embeddings)
        choice = Choice(f"{loss}-000", REFERENCES[loss], 0.5, 1, None)
        judged = {name: judge(embeddings, labels, one) for name, one in images.protocols.items()}
        made[loss] = Evaluation(choice, embeddings, judged)
    return made


@pytest.fixture(scope="module")
def results(evaluations: dict[str, Evaluation], images: Images) -> Results:
    return of_study(evaluations, images)


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """Two trials of which one is chosen, a fault that had the higher mAP, one without an epoch."""
    trials = [
        trial("cross_entropy", 0, [0.3, 0.5, 0.4]),
        trial("cross_entropy", 1, [0.2]),
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
    names = [*names_of_losses(), "pml:ArcFaceLoss", "pml:SupConLoss"]  # the last without their own
    assert len({style.COLOURS[name] for name in names}) == len(names)
    assert len({words.loss_name(name) for name in names}) == len(names)
    assert set(style.MARKERS) == set(STATUSES)
    assert len(set(style.MARKERS.values())) == len(STATUSES)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.000123456, "0.0001235"), (10.0, "10"), (64, "64"), (None, ""), (np.nan, ""), (pd.NA, "")],
)
def test_cells_show_four_digits_and_nothing_for_what_is_missing(value: object, shown: str) -> None:
    assert words.text(value) == shown


def test_words_of_lists_and_counts() -> None:
    assert words.listed(["a"]) == "a"
    assert words.listed(["a", "b", "c"]) == "a, b and c"
    assert words.plural(1, "query", "queries") == "1 query"
    assert words.plural(2_000, "query", "queries") == "2,000 queries"
    assert words.plural(2, "trial") == "2 trials"


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
    gap, interval = difference(evaluations["triplet"], evaluations["smooth_ap"])
    assert gap == pytest.approx(other.mean() - one.mean())  # a difference may be below 0
    assert interval == pytest.approx((-expected.high, -expected.low))


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


def test_pr_curve_is_the_interpolated_precision(
    evaluations: dict[str, Evaluation], images: Images, results: Results
) -> None:
    table = pr_table(results)
    curve = table[(table["loss"] == "triplet") & (table["protocol"] == "seed")]
    points = [slow_precisions(evaluations["triplet"], images, q, 50) for q in range(20)]
    recalls = curve["recall"].to_numpy()
    assert recalls[0] == 0 and recalls[-1] == 1 and len(recalls) == 101
    for recall, precision in zip(recalls, curve["precision"], strict=True):
        # 3 of 10 found is recall 0.3, however the division was rounded
        best = [max(p for r, p in ranks if r >= recall - 1e-9) for ranks in points]
        assert precision == pytest.approx(np.mean(best))


def test_pr_plot_has_a_curve_a_loss_and_its_map(
    evaluations: dict[str, Evaluation], results: Results
) -> None:
    table = pr_table(results)
    full = table[table["protocol"] == "full"]
    figure = Figure()
    draw_all(figure, full, "a title")
    (axes,) = figure.axes
    assert axes.get_title() == "a title"
    assert axes.get_xlim() == axes.get_ylim() == (0, 1)
    for line, (loss, curve) in zip(axes.lines, full.groupby("loss", sort=False), strict=True):
        assert line.get_color() == style.COLOURS[loss]
        np.testing.assert_array_equal(line.get_ydata(), curve["precision"])
        judged = evaluations[loss].protocols["full"]
        assert line.get_label().endswith(f"mAP {judged.mean_average_precision:.3f}")
    together, *each = pr_figures(results)
    assert set(together.data["protocol"]) == {"full"}
    assert [figure.name for figure in each] == ["pr_curve_smooth_ap", "pr_curve_triplet"]


def test_a_loss_has_one_colour_on_every_page_of_the_same_losses() -> None:
    losses = ["pml:B", "smooth_ap:tau=0.5", "pml:A", "triplet"]
    pages = []
    for order in (losses, losses[::-1]):
        colours = style.Colours({"triplet": style.COLOURS["triplet"]})
        colours.settle(order)
        pages.append({loss: colours[loss] for loss in order})
    assert pages[0] == pages[1] and len(set(pages[0].values())) == len(losses)


@pytest.mark.parametrize(("curves", "beneath"), [(4, False), (5, True), (8, True)])
def test_the_names_of_many_curves_stand_beneath_the_plot(
    results: Results, monkeypatch: pytest.MonkeyPatch, curves: int, beneath: bool
) -> None:
    """Within it they would lie over the curves."""
    full = pr_table(results).query("protocol == 'full' and loss == 'triplet'")
    names = [(loss, role) for role in ("chosen", "reference") for loss in style.COLOURS][:curves]
    table = pd.concat([full.assign(loss=loss, role=role) for loss, role in names])
    monkeypatch.setattr("analysis.figures.pr_curves.pr_table", lambda results: table)
    figure = pr_figures(results)[0].figure
    figure.draw_without_rendering()
    (axes,) = figure.axes
    (legend,) = figure.legends if beneath else [axes.get_legend()]
    assert len(legend.get_texts()) == curves
    box, plot = legend.get_window_extent(), axes.get_tightbbox()
    assert plot is not None and (box.y1 <= plot.y0) == beneath
    assert box.x0 >= 0 and box.x1 <= figure.bbox.x1 and box.y0 >= 0


def test_a_band_is_students_at_every_point() -> None:
    curves = np.random.default_rng(0).random((5, 7))
    table = mean_curve(curves)
    expected = stats.ttest_1samp(curves, 0, axis=0).confidence_interval(0.95)
    np.testing.assert_allclose(table["low"], expected.low.clip(0))
    np.testing.assert_allclose(table["high"], expected.high.clip(max=1))
    np.testing.assert_allclose(table["mean"], curves.mean(0))
    assert mean_curve(curves[:1])[["low", "high"]].isna().all(axis=None)


def test_difference_has_its_sign_in_either_order(evaluations: dict[str, Evaluation]) -> None:
    table = query_differences(evaluations)
    gap, sure = difference(evaluations["smooth_ap"], evaluations["triplet"])
    forth = gap_between(table, "smooth_ap", "triplet", "full")
    back = gap_between(table, "triplet", "smooth_ap", "full")
    assert forth is not None and back is not None
    assert forth[:3] == pytest.approx((gap, sure.low, sure.high))
    assert back[:3] == pytest.approx((-gap, -sure.high, -sure.low))
    assert forth.verdict == back.verdict == "not resolved"  # one run of each
    assert gap_between(table, "smooth_ap", "cross_entropy", "full") is None


def test_queries_are_the_best_the_median_the_worst_and_one_a_class(results: Results) -> None:
    table = chosen_queries(results, "seed")
    precisions = [run.protocols["seed"].average_precision for run in results.runs]
    scores = [float(np.mean([run[query] for run in precisions])) for query in range(20)]
    ranked = sorted(range(20), key=lambda query: (-scores[query], query))
    expected = {"best": ranked[0], "median": ranked[10], "worst": ranked[-1]}
    found = table.set_index("query")["why"]
    for why, query in expected.items():
        assert found[query] == why
    labels = results.labels[:20]
    for label in set(labels):
        first = int(np.flatnonzero(labels == label)[0])
        assert found[first] in {"first", *expected}
    assert len(table) == len(set(table["query"]))
    assert table["ap"].tolist() == pytest.approx([scores[query] for query in table["query"]])


@pytest.fixture(scope="module")
def found(results: Results) -> Retrieval:
    """The first of each class among 50, and the five nearest of each."""
    labels = results.labels[:20]
    queries = np.array([int(np.flatnonzero(labels == label)[0]) for label in np.unique(labels)])
    whole = retrieval(results.of("triplet")[0].protocols["seed"], results.labels, queries)
    return whole._replace(neighbours=whole.neighbours[:, :5], right=whole.right[:, :5])


def test_neighbours_are_those_of_a_slow_ranking(
    evaluations: dict[str, Evaluation], images: Images, results: Results, found: Retrieval
) -> None:
    labels, evaluation = images.data.labels, evaluations["triplet"]
    for row, query in enumerate(found.queries):
        expected = slow_ranking(evaluation, query, 50)[:5]
        assert found.neighbours[row].tolist() == expected
        assert found.right[row].tolist() == [labels[r] == labels[query] for r in expected]
        points = slow_precisions(evaluation, images, query, 50)
        assert found.average_precision[row] == pytest.approx(np.mean([p for _, p in points]))
    judged = results.of("triplet")[0].protocols["seed"]
    assert judged.nearest is not None and judged.nearest.shape == (20, 49)


def test_retrieval_table_is_a_row_an_image(found: Retrieval, results: Results) -> None:
    table = retrieval_table(found, results)
    assert len(table) == found.neighbours.size
    assert table["rank"].tolist() == [1, 2, 3, 4, 5] * len(found.queries)
    last = table.iloc[-1]
    assert last["query"] == found.queries[-1]
    assert last["image"] == found.neighbours[-1, -1]
    assert last["image_class"] == CLASSES[results.labels[last["image"]]]
    assert (table["right"] == (table["query_class"] == table["image_class"])).all()


@pytest.mark.parametrize("columns", [5, 3])
def test_canvas_holds_every_image_once_and_apart(
    found: Retrieval, images: Images, columns: int
) -> None:
    grid = Grid((28, 28), columns, -(-5 // columns))
    canvas = compose(found, images.data, grid, ground=0)
    shown = [*found.queries, *found.neighbours.ravel()]
    assert canvas.sum(dtype=np.int64) == images.data.images[shown].sum(dtype=np.int64)
    y, x = grid.corner(2, 4)
    (expected,) = images.data.images[found.neighbours[2, 4]]
    np.testing.assert_array_equal(canvas[y : y + 28, x : x + 28, 0], expected)


@pytest.mark.parametrize(("ground", "drawn"), [(0, "gray_r"), (30, "gray"), (255, "gray")])
def test_grey_pictures_on_black_are_drawn_dark_on_light_others_as_they_are(
    ground: int, drawn: str
) -> None:
    pixels = np.full((6, 1, 8, 8), ground, np.uint8)
    pixels[:, :, 2:6, 2:6] = 100
    shown = Retrieval(np.arange(2), np.arange(2, 6).reshape(2, 2), np.ones((2, 2), bool),
                      np.ones(2), 6)  # fmt: skip
    axes = Figure().subplots()
    images = LabelledImages(pixels, np.zeros(6))
    draw_retrieval(axes, shown, images, ["a", "b"], columns=2, title="")
    (image,) = axes.images
    colours = np.asarray(image.cmap(image.norm(image.get_array())))
    assert image.get_cmap().name == drawn
    assert (colours[0, 0, :3] == 1).all()  # between the pictures is the white of the page


def test_wrong_images_are_crossed_not_only_coloured(found: Retrieval, images: Images) -> None:
    figure = Figure()
    axes = figure.subplots()
    names = [CLASSES[images.data.labels[query]] for query in found.queries]
    draw_retrieval(axes, found, images.data, names, columns=5, title="triplet")
    boxes = [c for c in axes.collections if isinstance(c, PatchCollection)]
    (crosses,) = [c for c in axes.collections if isinstance(c, PathCollection)]
    wrong = int((~found.right).sum())
    assert [len(box.get_paths()) for box in boxes] == [found.right.size - wrong, wrong]
    assert len(crosses.get_offsets()) == wrong
    assert [label.get_text() for label in axes.get_yticklabels()] == names
    hits = f"{found.right[0].sum()}/5"
    assert hits in [text.get_text() for text in axes.texts]


def test_all_losses_are_shown_the_same_queries(results: Results) -> None:
    first, second = many_figures(results)
    assert first.data["query"].tolist() == second.data["query"].tolist()
    share = first.data["right"].mean()
    assert f"{share:.0%} have the query's class" in first.caption
    beside = side_by_side_figure(results)
    assert beside is not None
    by_loss = [part["query"].tolist() for _, part in beside.data.groupby("loss")]
    assert len(by_loss) == 2 and by_loss[0] == by_loss[1]
    queries = chosen_queries(results, "full")["query"].to_numpy()
    assert list(retrievals(results, "full", queries)) == results.losses


def test_class_ap_is_the_mean_over_the_class(results: Results) -> None:
    table = class_ap_table(results)
    precisions = results.of("triplet")[0].protocols["full"].average_precision
    for label, name in enumerate(results.classes):
        mine = [precisions[q] for q in range(70) if results.labels[q] == label]
        row = table[(table["loss"] == "triplet") & (table["class"] == name)]
        assert row["ap"].item() == pytest.approx(np.mean(mine))
        assert row["queries"].item() == len(mine)


def test_confusion_counts_the_wrong_images_of_each_class(results: Results) -> None:
    table = confusion_table(results, "triplet")
    neighbours = results.of("triplet")[0].protocols["full"].nearest
    assert neighbours is not None and neighbours.shape == (70, 10)
    others = [int((results.labels == label).sum()) - 1 for label in results.labels]
    assert min(others) < 10  # no more are counted than a perfect ranking would find
    counted = [neighbours[query][: others[query]] for query in range(70)]
    for _, row in table.iterrows():
        one, other = (results.classes.index(row[k]) for k in ("query_class", "image_class"))
        pairs = [
            results.labels[image] == other
            for query in range(70)
            if results.labels[query] == one
            for image in counted[query]
        ]
        assert (row["count"], row["share"]) == (sum(pairs), pytest.approx(np.mean(pairs)))
    assert (table["query_class"] != table["image_class"]).all()
    wrong = [results.labels[row] != results.labels[query] for query, row in enumerate(counted)]
    assert table["count"].sum() == sum(row.sum() for row in wrong)


def test_history_is_of_the_chosen_trials(study: Study) -> None:
    table = chosen_history(study)
    assert table["trial_id"].tolist() == ["cross_entropy-003"] * 2 + ["triplet-001"]
    assert table["chosen"].tolist() == [True, False, True]
    figure = Figure()
    draw_history(figure, table[table["loss"] == "cross_entropy"], "val_map")
    losses, scores = figure.axes
    np.testing.assert_array_equal(losses.lines[0].get_ydata(), [1, 0.5])
    np.testing.assert_array_equal(losses.lines[1].get_ydata(), [1.5, 0.75])
    np.testing.assert_array_equal(scores.lines[0].get_ydata(), [0.6, 0.55])
    star = scores.lines[-1]
    assert (star.get_xdata()[0], star.get_ydata()[0]) == (1, 0.6)


def test_a_loss_without_a_validation_loss_is_shown_without_one(study: Study) -> None:
    for record in study.trials:
        for row in record.epochs if record.loss == "cross_entropy" else []:
            row["val_loss"] = None
    without, whole = history_figures(chosen_history(study), "val_map")
    assert "training loss went from 1 to 0.5; validation mAP was highest at" in without.caption
    assert "the validation loss from" in whole.caption
    assert (without.alt[:13], whole.alt[:13]) == ("Training loss", "Training and ")
    table, figure = chosen_history(study), Figure()
    draw_history(figure, table[table["loss"] == "cross_entropy"], "val_map")
    losses, _ = figure.axes
    line, star = losses.lines
    np.testing.assert_array_equal(line.get_ydata(), [1, 0.5])
    assert (star.get_xdata()[0], star.get_ydata()[0]) == (1, 1)
    assert [text.get_text() for text in losses.get_legend().get_texts()] == ["training"]


def test_losses_of_two_configurations_share_no_axis(study: Study) -> None:
    chosen = chosen_history(study)
    chosen = chosen[chosen["loss"] == "triplet"]
    reference = chosen.assign(role="reference", trial_id="r", val_loss=60.0, train_loss=70.0)
    figure = Figure()
    draw_history(figure, pd.concat([chosen, reference], ignore_index=True), "val_map")
    mine, its, scores = figure.axes
    assert [axes.get_title() for axes in figure.axes][:2] == ["loss, chosen", "loss, reference"]
    assert [line.get_ydata()[0] for line in mine.lines[:2]] == [1.0, 1.5]
    assert [line.get_ydata()[0] for line in its.lines[:2]] == [70.0, 60.0]
    assert mine.get_ylim()[1] < 2 < its.get_ylim()[0]
    assert [line.get_ydata()[0] for line in scores.lines if line.get_marker() != "*"] == [0.7, 0.7]


def test_no_confusion_has_the_colour_of_the_ground() -> None:
    pairs = [("a", "b"), ("b", "a")]
    table = pd.DataFrame(pairs, columns=["query_class", "image_class"]).assign(share=[0.0, 0.2])
    for shown, top in ((table, 0.2), (table.assign(share=0.0), 0.0)):
        figure = Figure()
        draw_confusion(figure, shown, ["a", "b"], "", top)
        figure.canvas.draw()
        (mesh,) = figure.axes[0].collections
        colours = np.asarray(mesh.get_facecolor()).reshape(2, 2, 4)[..., :3]
        assert colours[0, 1].min() > 0.96  # white, but for a trace of blue
        assert (colours[1, 0].min() > 0.96) == (top == 0)


def legend(figure: ReportFigure) -> dict[str, str]:
    """By its name in a moving figure's legend, the colour of a trace or key."""
    drawn = json.loads(figure.interactive)
    assert drawn["layout"]["legend"]["y"] > 1  # above the plot: it is not cut off
    named = [trace for trace in drawn["data"] if trace.get("showlegend", True) and "name" in trace]
    styles = [trace.get("line", {}) | trace.get("marker", {}) for trace in named]
    return {trace["name"]: s["color"] for trace, s in zip(named, styles, strict=True)}


def test_figures_that_move_say_what_colour_and_shape_mean(study: Study, tmp_path: Path) -> None:
    blue, orange, grey = style.COLOURS["cross_entropy"], style.COLOURS["triplet"], "#808080"
    statuses = ["finished", "diverged", "failed"]
    lines = {"cross-entropy, best so far": blue, "triplet, best so far": orange}
    shapes = {f"trial {status}": grey for status in statuses}
    assert legend(search_figure(study)) == lines | shapes
    assert legend(seconds_figure(study)) == {"cross-entropy": blue, "triplet": orange}
    timeline = timeline_figure(study)
    assert timeline is not None
    bars = {"cross-entropy": blue, "triplet": orange, "ended by a fault": grey}
    assert legend(timeline) == bars
    found = searched(tmp_path, 5)
    slices = next(f for f in knob_figures(found, importance(found)) if f.name == "slices")
    assert legend(slices) == {"Smooth-AP": style.COLOURS["smooth_ap"], "trial finished": grey}


def test_trials_without_a_map_are_in_the_moving_figure_too(study: Study) -> None:
    data = json.loads(search_figure(study).interactive)["data"]
    points = [t for t in data if t["mode"] == "markers" and t["x"] != [None]]
    said = [text for trace in points for text in trace["text"]]
    assert sorted(text.split(",")[0] for text in said) == [t.trial_id for t in study.trials]
    assert any(text.startswith("triplet-000, failed after 0 epochs<br>") for text in said)


def test_moving_parallel_coordinates_have_values_on_their_axes(tmp_path: Path) -> None:
    study = searched(tmp_path, 5)
    table = knob_table(study)
    (figure,) = parallel_figures(table, field_ranges(study))
    notes = json.loads(figure.interactive)["layout"]["annotations"]
    ends = [
        f"{end:.3g}" for knob in ("lr", "tau") for end in (table[knob].min(), table[knob].max())
    ]
    assert [note["text"] for note in notes if note["x"] < 2] == ends
    assert [note["y"] for note in notes if note["x"] < 2] == [0, 1, 0, 1]


@pytest.fixture(scope="module")
def whole() -> Study:
    """A search of 81 configurations with its finals."""
    return made_up(Path("whole"), "smooth_ap")


def climbed(tmp_path: Path) -> Study:
    """Of triplet three configurations: one of two rungs, and a run of it on a fresh seed."""
    trials = [trial("triplet", number, [value]) for number, value in enumerate((0.5, 0.3, 0.4))]
    trials.append(trial("triplet", 3, [0.55, 0.6, 0.65]))
    trials[3].follows, trials[3].origin = "triplet-000", "promotion"
    trials.append(trial("triplet", 4, [0.6, 0.7, 0.75, 0.72]))
    trials[4].follows, trials[4].origin = "triplet-003", "final"
    for record in trials:
        record.config = record.config.replace(epochs=len(record.epochs))
    return Study(tmp_path, INFO | {"plan": {"losses": ["triplet"]}}, trials)


def test_the_ladder_has_each_trial_of_a_configuration(tmp_path: Path) -> None:
    study = climbed(tmp_path)
    table = ladder_table(study)
    assert table["configuration"].tolist() == [f"triplet-{n:03d}" for n in (0, 1, 2, 0, 0)]
    assert table["kind"].tolist() == ["rung"] * 4 + ["final"]
    assert table["epochs"].tolist() == [1, 1, 1, 3, 4]
    assert table["score"].tolist() == [0.5, 0.3, 0.4, 0.65, 0.75]  # that by which they are chosen
    figure = Figure()
    draw_ladder(figure, table, "val_map")
    (axes,) = figure.axes
    edge = axes.get_ylim()[0]
    assert edge == lower_edge(table) == pytest.approx(0.4 - 0.1 * (0.75 - 0.4))
    drawn = [(line.get_xydata().tolist(), line.get_alpha()) for line in axes.lines]
    rungs = [([[1, 0.5], [3, 0.65]], 0.75), ([[1, edge]], 0.3), ([[1, 0.4]], 0.3)]
    mean = [([[3, 0.65], [4, 0.75]], None), ([[4, 0.75]], None), ([[4, 0.75]], None)]
    assert drawn == [*rungs, *mean]  # to the mean of one run, the mean, and the run
    assert ladder_figure(study).caption == (
        "Trials by their length: 3 of 1 epoch and 1 of 3 epochs for triplet. 1 trial below the "
        "lower edge, on it. The finals: 1 run of 1 configuration on fresh seeds, of 4 epochs."
    )


def test_a_ladder_of_81_is_drawn_whole_and_its_finalists_apart(whole: Study) -> None:
    table = ladder_table(whole)
    counts = table.groupby(["kind", "epochs"]).size().to_dict()
    rungs = {("rung", 0.1111): 81, ("rung", 0.3333): 27, ("rung", 1): 9, ("rung", 3): 3}
    finals = table[table["kind"] == "final"]
    assert counts == rungs | {("final", 9): len(finals)}
    figure = Figure()
    draw_ladder(figure, table, "val_map")
    (axes,) = figure.axes
    lengths = [len(line.get_xdata()) for line in axes.lines if line.get_marker() == "o"]
    assert len(lengths) == 81 and sum(lengths) == 120
    diamonds = [line for line in axes.lines if line.get_marker() == "D"]
    means = [line for line in axes.lines if line.get_marker() == "_"]
    assert len({line.get_xdata()[0] for line in diamonds}) == len(diamonds) >= 3
    for line, mean in zip(diamonds, means, strict=True):
        assert len(line.get_ydata()) == 2
        assert mean.get_ydata()[0] == pytest.approx(np.mean(line.get_ydata()))
    assert [label.get_text() for label in axes.get_xticklabels()] == [
        "0.111", "0.333", "1", "3", "9",
    ]  # fmt: skip


def scored(tmp_path: Path, scores: list[Fraction]) -> Study:
    trials = [trial("triplet", number, [float(score)]) for number, score in enumerate(scores)]
    return Study(tmp_path, INFO | {"plan": {"losses": ["triplet"]}}, trials)


def test_what_a_smaller_search_would_have_found_is_the_mean_over_all_orders(
    tmp_path: Path,
) -> None:
    scores = [Fraction(n, 100) for n in (65, 30, 40, 40, 72)]
    orders = list(permutations(scores))
    table = expected_table(scored(tmp_path, scores))
    assert table["configurations"].tolist() == [1, 2, 3, 4, 5]
    for row in table.itertuples():
        mean = sum(max(order[: row.configurations]) for order in orders) / len(orders)
        assert row.expected == pytest.approx(float(mean), rel=1e-12)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_band_holds_90_percent_of_all_draws(tmp_path: Path, count: int) -> None:
    """Of 20 configurations: 1 of them is exactly 5 %."""
    scores = [Fraction(7 * n % 20, 20) for n in range(20)]
    row = expected_table(scored(tmp_path, scores)).iloc[count - 1]
    best = sorted(max(drawn) for drawn in combinations(scores, count))
    shares = [Fraction(place, len(best)) for place in range(1, len(best) + 1)]
    low = next(b for b, share in zip(best, shares, strict=True) if share >= Fraction(1, 20))
    high = next(b for b, share in zip(best, shares, strict=True) if share >= Fraction(19, 20))
    assert (row["low"], row["high"]) == (float(low), float(high))


def test_a_large_search_has_an_expected_best_too(tmp_path: Path) -> None:
    """There are more orders than a float can count."""
    study = scored(tmp_path, [Fraction(n, 2_000) for n in range(1_200)])
    table = expected_table(study)
    assert np.isfinite(table["expected"]).all() and table["expected"].is_monotonic_increasing
    # of the numbers below n the best of k is in the mean k (n + 1) / (k + 1) - 1
    assert table["expected"].iloc[599] == pytest.approx((600 * 1_201 / 601 - 1) / 2_000)


def test_a_configuration_counts_with_its_longest_trial_and_the_cost_of_all(tmp_path: Path) -> None:
    study = climbed(tmp_path)
    study.info["plan"]["cpus_per_trial"] = 3
    study.trials.append(trial("triplet", 5, [0.99], "diverged"))
    table = expected_table(study)
    assert table["expected"].iloc[-1] == 0.65  # neither the final nor what diverged
    # 1 + 1 + 1 + 3 epochs of 2 s each and the fault's 2 s, on 3 cores, for three configurations
    assert table["seconds"].tolist() == pytest.approx([14, 28, 42])


def test_what_was_found_is_by_the_order_in_which_trials_ended(tmp_path: Path) -> None:
    study = climbed(tmp_path)
    study.trials[0].ended, study.trials[1].ended = study.trials[1].ended, study.trials[0].ended
    study.trials.append(trial("triplet", 5, [0.99], "diverged"))
    table = found_table(study)
    assert table["trial_id"].tolist() == [f"triplet-{n:03d}" for n in (1, 0, 2, 3, 5)]
    assert table["best_so_far"].tolist() == [0.3, 0.5, 0.5, 0.65, 0.65]
    assert table["seconds"].tolist() == [2, 4, 6, 12, 14]


def test_a_smaller_search_is_said_with_its_size(whole: Study, tmp_path: Path) -> None:
    figure = expected_figure(whole)
    assert figure is not None
    table = expected_table(whole).set_index("configurations")["expected"]
    assert f"is {table[27]:.3f} with 27 and {table[81]:.3f} with all 81 for Smooth-AP" in (
        figure.caption
    )
    canvas = Figure()
    draw_expected(canvas, expected_table(whole), found_table(whole), "val_map")
    (axes,) = canvas.axes
    assert all("$" not in label.get_text() for label in axes.get_xticklabels())
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), table)
    assert expected_figure(scored(tmp_path, [Fraction(1, 2)])) is None


def test_the_history_of_a_search_is_that_of_whole_runs(whole: Study) -> None:
    (figure,) = history_figures(chosen_history(whole), "val_map")
    assert figure.data["epoch"].tolist() == list(range(1, 10))
    assert ": in 9 epochs the training loss" in figure.caption


def test_a_part_of_an_epoch_is_said_as_such(whole: Study) -> None:
    whole = Study(whole.folder, whole.info, whole.trials[:5])  # none has gone on yet
    (figure,) = history_figures(chosen_history(whole), "val_map")
    assert ": in 0.111 epochs the" in figure.caption and "at epoch 0.111, " in figure.caption
    assert [words.epochs(n) for n in (1, 1.0, 0.1111, 9)] == [
        "1 epoch", "1 epoch", "0.111 epochs", "9 epochs",
    ]  # fmt: skip


def test_knobs_are_compared_where_all_configurations_have_a_value(tmp_path: Path) -> None:
    table = knob_table(climbed(tmp_path))
    assert table["trial_id"].tolist() == [f"triplet-{n:03d}" for n in range(3)]
    assert table["best_val_map"].tolist() == [0.5, 0.3, 0.4]


def test_seconds_are_summed_over_a_losss_trials_in_the_order_of_time(study: Study) -> None:
    table = seconds_table(study)
    mine = table[table["loss"] == "cross_entropy"]
    # of 3, 1, 1 and 2 epochs, 2 s each (the diverged one's too, but never its mAP)
    assert mine["seconds"].tolist() == [2.0 * n for n in range(1, 8)]
    np.testing.assert_array_equal(mine["best_so_far"], [0.3, 0.5, 0.5, 0.5, 0.5, 0.6, 0.6])


def test_timeline_has_a_bar_a_trial_on_its_workers_line(study: Study) -> None:
    table = timeline_table(study).set_index("trial_id")
    assert len(table) == len(study.trials)
    assert table["start"].min() == 0
    row = table.loc["cross_entropy-003"]
    assert (row["start"], row["end"]) == (300.0, 306.0)
    assert table.groupby("loss")["lane"].nunique().eq(1).all()
    assert set(table["lane"]) == {1, 2}


def searched(tmp_path: Path, count: int) -> Study:
    """Trials of Smooth-AP whose mAP follows tau alone."""
    rng = np.random.default_rng(0)
    trials = []
    for number in range(count):
        tau, lr = 10 ** rng.uniform(-3, -0.5), 10 ** rng.uniform(-4, -1)
        record = trial("smooth_ap", number, [0.8 - 0.1 * abs(np.log10(tau) + 2)])
        record.config = record.config.replace(tau=float(tau), lr=float(lr), batch_size=64)
        record.knobs = {"lr_factor": float(lr) / 0.015, "tau": float(tau)}
        trials.append(record)
    return Study(tmp_path, INFO | {"plan": {"losses": ["smooth_ap"], "num_samples": count}}, trials)


def test_knobs_that_differ_are_the_axes_of_slices_and_lines(tmp_path: Path) -> None:
    study = searched(tmp_path, 5)
    table, ranges = knob_table(study), field_ranges(study)
    assert varied(table) == ["lr", "tau"]
    crossings = parallel_heights(table, ranges)
    logs = np.log10(table["tau"].astype(float))
    expected = (logs - logs.min()) / (logs.max() - logs.min())
    np.testing.assert_allclose(crossings["tau"], expected)
    assert heights(pd.Series([0.5, 0.5]), SCORE).tolist() == [0.5, 0.5]
    figure = Figure()
    draw_parallel(figure, table, ranges)
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_xticklabels()] == [
        "learning\nrate",
        "τ",
        "validation\nmAP",
    ]
    lines = [line for line in axes.lines if len(line.get_xdata()) == 3]
    assert len(lines) == 5


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
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == [
        "cross-entropy, best so far",
        "triplet, best so far",
        "trial finished",
        "trial diverged",
        "trial failed",
    ]


def test_slanted_names_end_below_their_columns() -> None:
    """Centred ones of unlike lengths would end below others'."""
    losses = ["smooth_ap", "supervised contrastive, reference", "triplet"]
    wide = pd.DataFrame(np.full((3, 4), 0.5), index=losses, columns=list("abcd")).T
    figure = Figure(figsize=(8, 4), layout="constrained")
    draw_tall(figure, {"a": wide, "b": wide}, "mean AP")
    figure.draw_without_rendering()
    for axes in figure.axes:
        for column, name in enumerate(axes.get_xticklabels()):
            middle = axes.transData.transform((column + 0.5, 0))[0]
            box = name.get_window_extent()
            assert box.x1 == pytest.approx(middle, abs=15) and box.x0 < middle - 20


def stopped(study: Study) -> Study:
    """Of which a trial paused for ten minutes before its last epoch, and another never went on."""
    paused, begun = study.trials[0], study.trials[3]
    paused.epochs[2]["time"] += 600.0
    paused.ended = paused.epochs[2]["time"] + 1
    begun.started = begun.epochs[0]["time"] - 900.0
    return study


def test_a_trial_that_paused_has_a_bar_for_each_piece(study: Study) -> None:
    before, table = timeline_table(study), timeline_table(stopped(study))
    pieces = table[table["trial_id"] == "cross_entropy-000"]
    (first, last) = (pieces["end"] - pieces["start"]).tolist()
    assert (first, last) == (5.0, 3.0)  # two epochs from the start; one, of 2 s, and the end
    assert pieces["start"].iloc[1] - pieces["end"].iloc[0] == 600.5
    assert len(table[table["trial_id"] == "cross_entropy-003"]) == 1
    figure = timeline_figure(study)
    assert figure is not None and f"trained {len(before)} trials in" in figure.caption
    trained, whole = (table["end"] - table["start"]).sum(), table["end"].max()
    assert figure.caption.endswith(f"busy for {trained / (2 * whole):.0%} of that time.")
    alone = table[table["worker"] == "host:100"].assign(lane=range(4, 9))  # one after the other
    assert busy(alone) == (1, pytest.approx((alone["end"] - alone["start"]).sum() / whole))


def test_narrow_bars_have_no_edge(study: Study) -> None:
    figure = Figure((8.6, 3.0))
    draw_timeline(figure, timeline_table(stopped(study)))
    bars = [patch for patch in figure.axes[0].patches if isinstance(patch, Rectangle)]
    edges = {bar.get_width() * 60: bar.get_linewidth() for bar in bars}
    assert edges == {width: 0.8 * (width > 4.0) for width in edges} and 0.8 in edges.values()


def test_no_legend_lies_over_a_line_or_is_cut(tmp_path: Path) -> None:
    """Of twelve losses with long names."""
    losses = [resolve(f"triplet:margin=0.{n},warmup=0.{n}").name for n in range(11, 23)]
    trials = []
    for number, loss in enumerate(losses):
        for other in range(2):
            settings = dict(resolve(loss).settings)
            record = trial("triplet", other, [0.5 + 0.01 * number, 0.6])
            record.trial_id = trial_name(loss, other)
            own: dict[str, Any] = {"warmup": settings.pop("warmup"), "loss_args": settings}
            record.config = TrialConfig(loss=loss, optimizer="adam", lr=0.01, **own)
            trials.append(record)
    study = Study(tmp_path, INFO | {"plan": {"losses": losses, "num_samples": 2}}, trials)
    expected = expected_figure(study)
    timeline = timeline_figure(study)
    assert expected is not None and timeline is not None
    for drawn in (search_figure(study), seconds_figure(study), expected, timeline):
        drawn.figure.draw_without_rendering()
        (legend,), (axes,) = drawn.figure.legends, drawn.figure.axes
        box, panel = legend.get_window_extent(), axes.get_window_extent()
        whole = drawn.figure.bbox
        assert box.y0 >= panel.y1 and box.y1 <= whole.y1 and box.x1 <= whole.x1, drawn.name
        assert panel.height > 70, drawn.name
