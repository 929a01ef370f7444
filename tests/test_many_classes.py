"""A report of many classes: pictures in colour, queries and gallery that are not the same."""

from __future__ import annotations

import dataclasses
import json
import re
from html import unescape
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from analysis import report
from analysis.figures.class_differences import class_differences_figure
from analysis.figures.class_figures import (
    ENDS,
    PAIRS,
    class_ap_table,
    class_ends,
    confused_pairs,
    confusion_table,
    draw_pairs,
)
from analysis.figures.retrieval_figures import (
    FEW,
    WIDEST,
    arranged,
    chosen_queries,
    retrieval,
    rule,
)
from analysis.figures.retrieval_grid import Grid, compose, picture, shown_size
from analysis.found.finals import Finals
from analysis.found.runs import Results, of_comparison, of_study
from analysis.found.sources import Source, query_differences
from analysis.found.words import cut
from analysis.page.sections import data_sections
from analysis.page.side_by_side import side_by_side
from analysis.page.tables import metrics_table
from study.judge.evaluation import Evaluation, judge
from study.judge.final_test import narrow
from study.results.images import DATA, Images
from study.results.studies import Choice, Study
from tests.configurations import REFERENCES
from tests.oracles import slow_average_precision, slow_ranking, slow_recall_at
from tests.small_studies import INFO, trial
from trainables.data import LabelledImages, Roles

COUNT, SIZE = 300, (40, 56)
LONG = "a bird with a very long name that goes on and on, "
CLASSES = (
    "$5 or $6",
    "<b>bold</b>",
    LONG + "male",
    LONG + "female",
    *(f"class {number:03}" for number in range(4, COUNT)),
)
CARD = "data        /pictures\nimages      1,200 images of 300 classes <b>"
LOSSES = ("smooth_ap", "triplet")


@pytest.fixture(scope="module")
def images() -> Images:
    """1,200 rows of an array of 1,300, in an order of their own; some ask, some are searched, some
    do both, and some neither."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(256, size=(1_300, 3, *SIZE)).astype(np.uint8)
    labels = rng.permutation(np.arange(1_200) % COUNT)
    data = LabelledImages(pixels, labels, rng.permutation(1_300)[:1_200])
    places = rng.permutation(1_200)
    roles = Roles(places[:500], rng.permutation(places[300:1_100]))
    return Images(
        data, {"full": roles}, CLASSES, "validation images", "validation images, not test"
    )


@pytest.fixture(scope="module")
def evaluations(images: Images) -> dict[str, Evaluation]:
    labels = torch.from_numpy(images.data.labels)
    made = {}
    for number, loss in enumerate(LOSSES):
        generator = torch.Generator().manual_seed(number)
        centres = torch.randn(COUNT, 8, generator=generator, dtype=torch.float64)
        noise = torch.randn(len(labels), 8, generator=generator, dtype=torch.float64)
        embeddings = torch.nn.functional.normalize(centres[labels] + (0.4 + 0.2 * number) * noise)
        choice = Choice(f"{loss}-000", REFERENCES[loss], 0.5, 1, None)
        judged = judge(embeddings, labels, images.protocols["full"])
        made[loss] = Evaluation(choice, embeddings, {"full": judged})
    return made


@pytest.fixture(scope="module")
def results(evaluations: dict[str, Evaluation], images: Images) -> Results:
    return of_study(evaluations, images)


def slow_rankings(evaluation: Evaluation, images: Images) -> dict[int, list[int]]:
    """By query, the places of the gallery from nearest to farthest, without the query."""
    points, roles = evaluation.embeddings.tolist(), images.protocols["full"]
    gallery = roles.gallery.tolist()
    rows = [points[place] for place in gallery]
    found = {}
    for query in roles.queries.tolist():
        own = gallery.index(query) if query in gallery else None
        found[query] = [gallery[row] for row in slow_ranking(points[query], rows, own)]
    return found


@pytest.fixture(scope="module")
def rankings(evaluations: dict[str, Evaluation], images: Images) -> dict[str, dict[int, list[int]]]:
    return {loss: slow_rankings(one, images) for loss, one in evaluations.items()}


def slow_class_means(
    rankings: dict[str, dict[int, list[int]]], labels: np.ndarray
) -> dict[str, list[float]]:
    """By class, the mean over its queries of their AP, loss by loss."""
    means: dict[str, list[float]] = {}
    for ranking in rankings.values():
        by_class: dict[str, list[float]] = {}
        for query, places in ranking.items():
            ap = slow_average_precision([labels[p] == labels[query] for p in places])
            if ap is not None:
                by_class.setdefault(CLASSES[labels[query]], []).append(ap)
        for name, values in by_class.items():
            means.setdefault(name, []).append(float(np.mean(values)))
    return means


def test_the_worst_and_the_best_classes_are_those_of_a_slow_loop(
    results: Results, rankings: dict[str, dict[int, list[int]]]
) -> None:
    expected = slow_class_means(rankings, results.labels)
    table = class_ap_table(results)
    assert set(table["class"]) == set(expected) and len(expected) > 200
    for number, loss in enumerate(LOSSES):
        mine = table[table["loss"] == loss].set_index("class")["ap"]
        assert mine.to_dict() == pytest.approx({name: v[number] for name, v in expected.items()})
    worst, best = class_ends(table)
    assert len(worst) == len(best) == ENDS
    means = {name: float(np.mean(values)) for name, values in expected.items()}
    shown = [means[name] for name in (*worst, *best)]
    assert all(one <= other + 1e-12 for one, other in pairwise(shown))
    rest = [means[name] for name in means if name not in {*worst, *best}]
    assert means[worst[-1]] <= min(rest) + 1e-12 and max(rest) <= means[best[0]] + 1e-12


def test_of_few_more_than_many_classes_each_is_shown_once() -> None:
    table = pd.DataFrame({"role": "chosen", "class": list("abcdefghijklmnopqrstuvwxyz")})
    worst, best = class_ends(table.assign(ap=np.arange(26) / 26))
    assert "".join(worst + best) == "abcdefghijklmnopqrstuvwxyz"


def test_confused_pairs_are_those_of_a_slow_loop(
    results: Results, rankings: dict[str, dict[int, list[int]]]
) -> None:
    labels, shares = results.labels, []
    for loss, ranking in rankings.items():
        found: dict[str, list[str]] = {}
        for query, places in ranking.items():
            relevant = sum(labels[place] == labels[query] for place in places)
            names = [CLASSES[labels[place]] for place in places[: min(relevant, 10)]]
            found.setdefault(CLASSES[labels[query]], []).extend(names)
        mine = {
            (one, other): names.count(other) / len(names)
            for one, names in found.items()
            for other in set(names) - {one}
        }
        table = confusion_table(results, loss).set_index(["query_class", "image_class"])
        assert table["share"].to_dict() == pytest.approx(mine)
        shares.append(mine)
    means = {
        pair: float(np.mean([one.get(pair, 0.0) for one in shares]))
        for pair in {*shares[0], *shares[1]}
    }
    pairs = confused_pairs({loss: confusion_table(results, loss) for loss in LOSSES})
    assert len(pairs) == PAIRS
    shown = [means[pair] for pair in zip(pairs["query_class"], pairs["image_class"], strict=True)]
    assert shown == pytest.approx(sorted(means.values(), reverse=True)[:PAIRS])
    for _, row in pairs.iterrows():
        pair = (row["query_class"], row["image_class"])
        assert [row[loss] for loss in LOSSES] == [one.get(pair, 0.0) for one in shares]
    figure = Figure()
    draw_pairs(figure, pairs)
    (axes,) = figure.axes
    first = f"{cut(pairs['query_class'][0])} → {cut(pairs['image_class'][0])}"
    assert axes.get_yticklabels()[0].get_text() == first
    for line, loss in zip(axes.lines, LOSSES, strict=True):
        np.testing.assert_allclose(line.get_xdata(), 100 * pairs[loss])


def test_shown_queries_are_the_ends_the_median_and_seven_classes_in_order(
    results: Results, rankings: dict[str, dict[int, list[int]]], images: Images
) -> None:
    labels, queries = results.labels, images.protocols["full"].queries
    scores = {}
    for query in queries.tolist():
        aps = [
            slow_average_precision([labels[p] == labels[query] for p in ranking[query]])
            for ranking in rankings.values()
        ]
        if aps[0] is not None:
            scores[query] = float(np.mean(aps))
    assert len(scores) < len(queries)  # some have no relevant image, and are not shown
    table = chosen_queries(results, "full")
    assert table["ap"].tolist() == pytest.approx([scores[place] for place in table["image"]])
    assert queries[table["query"]].tolist() == table["image"].tolist()
    by_why = table.set_index("why")["ap"]
    ordered = sorted(scores.values(), reverse=True)
    expected = (ordered[0], ordered[len(ordered) // 2], ordered[-1])
    assert [by_why[why] for why in ("best", "median", "worst")] == pytest.approx(expected)
    firsts = table[table["why"] == "first"]
    judged = sorted({int(labels[query]) for query in scores})
    spaced = [judged[round(step * (len(judged) - 1) / (FEW - 1))] for step in range(FEW)]
    allowed = {
        next(query for query in queries.tolist() if labels[query] == label and query in scores)
        for label in spaced
    }
    assert set(firsts["image"]) <= allowed <= set(table["image"])
    assert f"the first of 7 of the {len(judged)} classes" in rule(results)


def test_the_right_pictures_are_in_the_right_cells(
    results: Results, rankings: dict[str, dict[int, list[int]]], images: Images
) -> None:
    queries = chosen_queries(results, "full")["query"].to_numpy()
    judged = results.of("triplet")[0].protocols["full"]
    found = retrieval(judged, results.labels, queries)
    grid = Grid(SIZE, 10, 1)
    canvas = compose(found, images.data, grid)
    covered = np.zeros(canvas.shape[:2], dtype=bool)
    asking = images.protocols["full"].queries
    for row, number in enumerate(queries):
        expected = rankings["triplet"][int(asking[number])][:10]
        assert found.neighbours[row].tolist() == expected
        for rank, place in [(None, int(asking[number])), *enumerate(expected)]:
            y, x = grid.corner(row, rank)
            cell = (slice(y, y + SIZE[0]), slice(x, x + SIZE[1]))
            assert not covered[cell].any()
            covered[cell] = True
            pixels = images.data.array[images.data.rows[place]]
            np.testing.assert_array_equal(canvas[cell], pixels.transpose(1, 2, 0))
        same = [results.labels[p] == results.labels[asking[number]] for p in expected]
        assert found.right[row].tolist() == same
    assert (canvas[~covered] == 255).all()


@pytest.mark.parametrize("shape", [(3, *SIZE), (1, 28, 28), (3, 200, 60)])
@pytest.mark.parametrize("losses", [1, 2, 3, 7])
def test_blocks_lie_apart_within_the_figure_and_keep_the_shape_of_their_pictures(
    shape: tuple[int, int, int], losses: int
) -> None:
    layout = arranged(shape, losses, 10, ["median AP: " + cut(LONG)] * 10)
    width, height = layout.size
    assert width <= WIDEST and layout.firsts[0] and len(layout.boxes) == losses
    for (left, bottom, wide, tall), first in zip(layout.boxes, layout.firsts, strict=True):
        assert left > 0 and left + wide < 1 and bottom > 0 and bottom + tall < 1
        rows, columns = Grid(shown_size(shape), 10, 1, query=first).extent(10)
        assert (wide * width) / (tall * height) == pytest.approx(columns / rows)
    for one, other in combinations(layout.boxes, 2):
        assert other[0] >= one[0] + one[2] or other[1] + other[3] <= one[1]


def test_nothing_is_cut_off_at_the_edge_of_a_figure(folder: Path) -> None:
    for path in folder.glob("*.png"):
        with Image.open(path) as drawn:
            pixels = np.asarray(drawn.convert("L"))
        for edge in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]):
            assert (edge == 255).all(), path.name


def test_large_pictures_are_scaled_down_and_read_one_at_a_time() -> None:
    halves = np.zeros((2, 3, 100, 200), np.uint8)
    halves[1, 0, :, :100] = halves[1, 2, :, 100:] = 200  # red, then blue
    images = LabelledImages(halves, np.array([0, 1]))
    assert shown_size(images.shape) == (32, 64) and shown_size((3, *SIZE)) == SIZE
    shown = picture(images, 1)
    assert shown.shape == (32, 64, 3)
    assert (shown[:, :28] == [200, 0, 0]).all() and (shown[:, 36:] == [0, 0, 200]).all()
    grey = picture(LabelledImages(halves[:, :1], np.array([0, 1])), 1)
    assert grey.shape == (32, 64, 1) and (grey[:, :28] == 200).all()


@pytest.mark.parametrize("grouped", [False, True])
def test_relevant_images_are_counted_as_a_slow_loop_does(grouped: bool) -> None:
    rng = np.random.default_rng(1)
    labels, places = rng.integers(6, size=60), rng.permutation(60)
    groups = rng.integers(-1, 4, size=60) if grouped else None
    roles = Roles(places[:30], places[20:], groups)
    expected = [
        sum(
            labels[place] == labels[query]
            and place != query
            and (groups is None or groups[query] < 0 or groups[place] != groups[query])
            for place in roles.gallery
        )
        for query in roles.queries
    ]
    assert roles.relevant(labels).tolist() == expected


def test_metrics_are_a_row_a_loss_and_what_a_record_lacks_is_left_out(
    results: Results, rankings: dict[str, dict[int, list[int]]]
) -> None:
    table, labels = metrics_table(results), results.labels
    titles = ["mAP", "MAP@R", "R-precision", "R@1", "R@2", "R@4", "R@8"]
    assert list(table.cells) == ["loss", *titles]
    hits = [
        slow_recall_at([labels[p] == labels[query] for p in places], 2)
        for query, places in rankings[results.losses[0]].items()
    ]
    expected = np.mean([hit for hit in hits if hit is not None])
    assert table.cells["R@2"][0] == f"{expected:.3f}"
    assert table.heads["R@2"] == "1 if rel(i) = 1 for any i ≤ 2, else 0" and "P(i)" in table.heads
    scores = results.metrics[["loss", "map"]].assign(map_at_r=np.nan)
    older = metrics_table(dataclasses.replace(results, metrics=scores))
    assert list(older.cells) == ["loss", "mAP"] and "MAP@R" not in older.heads


def own_study(folder: Path, select_by: str) -> Study:
    """Of the data with a card; the earlier epoch is the better one by mAP, the later by R@1."""
    folder.mkdir()
    trials = []
    for loss in LOSSES:
        for number in range(2):
            record = trial(loss, number, [0.7 - 0.1 * number, 0.6])
            record.metric = f"val_{select_by}"
            own = {"dataset": "birds", "data_fingerprint": "0123", "lr": 0.01 * (number + 1)}
            record.config = record.config.replace(**own)
            for row, value in zip(record.epochs, (0.21, (0.345, 0.445)[number]), strict=True):
                row["val_recall_at_1"] = value
            trials.append(record)
    about = {"name": "birds", "described": "", "classes": CLASSES, "card": CARD}
    (folder / DATA).write_text(json.dumps(about))
    plan = {"losses": list(LOSSES), "num_samples": 2, "select_by": select_by}
    return Study(folder, INFO | {"plan": plan}, trials)


@pytest.fixture(scope="module")
def source(
    results: Results, evaluations: dict[str, Evaluation], tmp_path_factory: pytest.TempPathFactory
) -> Source:
    study = own_study(tmp_path_factory.mktemp("own") / "birds", "recall_at_1")
    return Source(study, results, query_differences(evaluations))


@pytest.fixture(scope="module")
def folder(source: Source, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("page")
    report.build(source).write(made)
    return made


def test_the_page_is_whole_and_small(folder: Path) -> None:
    page = folder / "index.html"
    assert page.stat().st_size < 10_000_000
    html = page.read_text()
    assert "data:image/webp;base64," in html
    said = re.sub(r'<script.*?</script>|"data:[^"]*"', "", html, flags=re.DOTALL)
    assert not re.search(r"seed protocol|full protocol|The 50 nearest|\bnan\b", said)
    assert "A query has 1 to 3 relevant images in the gallery." in html
    assert "protocol" not in pd.read_csv(folder / "table_differences_in_map.csv")
    queries = pd.read_csv(folder / "retrieval_10.csv")
    assert queries["query"].nunique() <= 3 + FEW
    names = set(pd.read_csv(folder / "class_ap.csv")["class"])
    assert {LONG + "male", LONG + "female"} <= names <= set(CLASSES)
    assert not list(folder.glob("retrieval_*_50.csv"))


def test_the_data_has_its_section_with_the_card_as_it_is(
    source: Source, folder: Path, tmp_path: Path
) -> None:
    html = (folder / "index.html").read_text()
    (shown,) = re.findall(r"<pre[^>]*>(.*?)</pre>", html, flags=re.DOTALL)
    lines = [unescape(line) for line in re.findall("<span>(.*?)</span>", shown)]
    assert lines == CARD.splitlines() and "<b>" not in shown
    assert "birds: 300 classes. The networks are judged on 1,200 validation images" in html
    study = own_study(tmp_path / "known", "recall_at_1")
    (study.folder / DATA).write_text(json.dumps({"name": "birds", "classes": CLASSES}))
    assert len(data_sections(source)) == 1
    assert data_sections(dataclasses.replace(source, study=study)) == []


def test_the_metric_that_chose_is_named_everywhere(source: Source, folder: Path) -> None:
    html = (folder / "index.html").read_text()
    assert "alidation mAP" not in html
    assert "The best validation R@1 among 4 trials is 0.445 for" in html
    assert "the epoch of the highest validation R@1" in html
    assert "validation R@1 was highest at epoch 2, 0.445" in html
    for name in ("search", "slices", "parallel_triplet"):
        table = pd.read_csv(folder / f"{name}.csv")
        assert table["best_val_recall_at_1"].max() == 0.445 and "best_val_map" not in table
    so_far = pd.read_csv(folder / "search_seconds.csv")["best_so_far"]
    assert so_far.max() == 0.445
    trials = pd.read_csv(folder / "table_all_trials.csv")
    assert trials["validation R@1"].tolist() == [0.445, 0.445, 0.345, 0.345]
    losses = pd.read_csv(folder / "table_map_of_each_loss.csv")
    assert losses["validation R@1"].tolist() == [0.445] * 2 and losses["epoch"].tolist() == [2] * 2


def test_other_data_has_no_reference(folder: Path) -> None:
    knobs = pd.read_csv(folder / "table_the_chosen_configurations.csv").set_index("knob")
    assert sorted(knobs) == ["Smooth-AP", "triplet"]
    assert knobs.loc["dataset"].tolist() == ["birds"] * 2
    assert knobs.loc["data fingerprint"].tolist() == ["0123"] * 2


def test_what_a_final_test_stored_is_what_was_evaluated(
    source: Source, results: Results, images: Images
) -> None:
    roles, arrays = images.protocols["full"], {"labels": narrow(images.data.labels)}
    arrays |= {"queries_full": narrow(roles.queries), "gallery_full": narrow(roles.gallery)}
    rows = []
    for run in results.runs:
        judged = run.protocols["full"]
        assert judged.nearest is not None
        arrays[f"ap_full/{run.trial_id}"] = judged.average_precision
        arrays[f"precision_full/{run.trial_id}"] = judged.precision
        arrays[f"nearest_full/{run.trial_id}"] = narrow(judged.nearest)
        row = {"trial_id": run.trial_id, "loss": run.loss, "role": "chosen", "seed": 1, "search": 0}
        rows.append(row | {"map_full": judged.mean_average_precision, "recall_at_1": 0.5})
    finals = Finals(
        sweep=source.study,
        confirmation=source.study,
        rule="",
        frozen=0.0,
        choices=[],
        seeds=[1],
        runs=pd.DataFrame(rows[::-1]),
        summary=results.summary,
        differences=source.differences,
        classes=pd.DataFrame(),
        readings=[],
        arrays=arrays,
        left_out={},
    )
    found = of_comparison(finals, CLASSES)
    assert found.losses == results.losses and found.protocols == ["full"]
    np.testing.assert_array_equal(found.query_labels("full"), results.query_labels("full"))
    for loss in LOSSES:
        (mine,), (theirs,) = found.of(loss), results.of(loss)
        for one, other in zip(mine.protocols["full"], theirs.protocols["full"], strict=True):
            np.testing.assert_array_equal(one, other)
    assert list(metrics_table(found).cells) == ["loss", "mAP", "R@1"]


def test_two_studies_that_chose_by_two_metrics_say_which(source: Source, tmp_path: Path) -> None:
    by_map = dataclasses.replace(source, study=own_study(tmp_path / "by_map", "map"))
    page = side_by_side([source, by_map])
    budgets = next(table for table in page.tables if table.title == "The budgets").cells
    assert budgets["best validation score"].tolist() == ["R@1 0.445"] * 2 + ["mAP 0.700"] * 2
    page = side_by_side([source, source])
    budgets = next(table for table in page.tables if table.title == "The budgets").cells
    assert budgets["best validation R@1"].tolist() == ["0.445"] * 4


def test_of_two_studies_each_losss_own_range_is_beside_its_other(
    source: Source, tmp_path: Path
) -> None:
    """Two losses have a knob of one name; that of the first differs."""
    other = dataclasses.replace(source, study=own_study(tmp_path / "other", "recall_at_1"))
    for one, low in ((source, "0.05"), (other, "0.01")):
        one.study.info["space"] = [
            {"knob": "temperature", "range": f"{low} to 1", "used by": "normalized_softmax"},
            {"knob": "temperature", "range": "0.01 to 0.5", "used by": "pml:SupConLoss"},
        ]
    tables = side_by_side([source, other]).tables
    rows = [" ".join(map(str, row)) for table in tables for row in table.cells.to_numpy()]
    said = [row for row in rows if "temperature" in row]
    assert len(said) == 1 and "normalized_softmax" in said[0]
    assert "0.05 to 1" in said[0] and "0.01 to 1" in said[0]


def test_the_classes_on_which_losses_differ_most_are_shown() -> None:
    rng = np.random.default_rng(2)
    pairs = [("smooth_ap", "triplet"), ("smooth_ap", "cross_entropy")]
    parts = []
    for first, second in pairs:
        gaps = rng.normal(size=COUNT)
        part = pd.DataFrame({"first": first, "second": second, "label": range(COUNT)})
        part = part.assign(difference=gaps, seed_low=gaps - 0.1, seed_high=gaps + 0.1)
        parts.append(part)
    table = pd.concat(parts, ignore_index=True)
    figure = class_differences_figure(table, "smooth_ap", CLASSES, "seeds")
    assert figure is not None and len(figure.data) == 2 * COUNT
    assert "Shown are the 20 of 300 classes on which two losses differ most." in figure.caption
    most = max(range(COUNT), key=lambda one: abs(parts[0]["difference"][one]))
    sign = parts[0]["difference"][most]
    assert f"Smooth-AP less triplet is {sign:+.3f} on {cut(CLASSES[most])}" in figure.caption


def test_of_many_pairs_of_losses_those_of_the_best_are_shown() -> None:
    """Of nine losses, all of whose differences are sure."""
    losses = [f"loss {n}" for n in range(9)]
    rows = [
        {"first": one, "second": other, "label": label, "difference": 0.2}
        | {"seed_low": 0.1, "seed_high": 0.3}
        for one, other in combinations(losses, 2)
        for label in range(10)
    ]
    drawn = class_differences_figure(pd.DataFrame(rows), "loss 4", CLASSES, "seeds")
    assert drawn is not None
    panels = [axes for axes in drawn.figure.axes if axes.get_visible()]
    assert len(panels) == 8 and all("loss 4" in axes.get_title() for axes in panels)
    assert drawn.caption.count("less") == 3 and "; 5 pairs more in the figure" in drawn.caption
    assert "for 80 comparisons" in drawn.caption
    assert drawn.caption.endswith("Of 36 pairs of losses those with loss 4 are shown.")


def test_long_names_lose_their_middle() -> None:
    assert cut("Ankle boot") == "Ankle boot"
    ends = {cut(LONG + sex) for sex in ("male", "female")}
    assert len(ends) == 2 and all(len(name) <= 24 and "…" in name for name in ends)
    assert cut("abcdefghij", 7) == "abcd…ij"
