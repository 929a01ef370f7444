"""The whole report on a tiny study, its tables, what it may read, and how it fails."""

from __future__ import annotations

import dataclasses
import math
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from scipy import stats

from analysis import report
from analysis.found.sources import Source
from analysis.page import tables
from analysis.page.answer import answer, answer_of, power_sentence
from analysis.page.side_by_side import judged_alike, maps_figure, side_by_side
from study.judge.evaluation import evaluate_study
from study.results.images import validation_images
from study.results.studies import Study
from study.results.trials import HAND_SET, SELECTION, TrialRecord
from study.search.space import SPACE, WIDE, describe, knobs_of
from tests.conftest import noise
from tests.small_data import SmallData, use
from tests.small_studies import INFO, TEST, VALIDATION, save_checkpoint, trial, write_study
from trainables.data.fashion_mnist import CLASSES
from trainables.data.ledger import LEDGER, entries
from trainables.metrics import evaluate_retrieval
from trainables.trained import embed, load_trained

ROOT = Path(__file__).resolve().parent.parent
Maker = Callable[..., Study]


@pytest.fixture(autouse=True)
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The dataset is a small one; the list says what was read of it."""
    dataset = SmallData(VALIDATION, VALIDATION, TEST)
    use(monkeypatch, dataset)
    return dataset.read


@pytest.fixture
def make_study(tmp_path: Path) -> Maker:
    """Writes a study of these trials, as `write_study` does."""

    def make(*trials: TrialRecord, name: str = "small", **asked: Any) -> Study:
        return write_study(tmp_path / name, *trials, **asked)

    return make


def image_alts(html: str) -> list[str]:
    return re.findall(r'<img src="data:image/(?:svg\+xml|png|webp);[^"]+" alt="([^"]*)"', html)


def without_scripts(html: str) -> str:
    return re.sub(r"<script.*?</script>", "", html, flags=re.DOTALL)


def test_whole_report(
    make_study: Maker, reads: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    study = make_study(
        trial("smooth_ap", 0, [0.4, 0.6]),
        trial("smooth_ap", 1, [0.5]),
        trial("triplet", 0, [0.3]),
        trial("triplet", 1, [], "failed", "<b>no memory</b>"),
    )
    assert report.main([str(study.folder)]) == 0
    assert reads == ["validation"]
    folder, html = study.folder / "report", (study.folder / "report/index.html").read_text()
    drawn = ["answer", "pr_curves", "pr_curve_triplet", "class_ap", "confusion_smooth_ap"]
    drawn += ["retrieval_10", "retrieval_triplet_50", "history_triplet", "search"]
    drawn += ["search_seconds", "ladder", "timeline"]
    for name in drawn:
        for suffix in ("png", "svg", "csv"):
            assert (folder / f"{name}.{suffix}").stat().st_size > 50
    alts = image_alts(html)
    shown = {path.stem for path in folder.glob("*.svg")}
    assert len(alts) == len(shown) and set(drawn) <= shown and all(alts)
    assert not re.search(r'(?:src|href)="(?!data:|#)', without_scripts(html))
    assert "&lt;b&gt;no memory" in html and "<b>no memory" not in html
    assert html.count("validation images, not test") > 5
    out = capsys.readouterr().out
    assert str(folder / "index.html") in out and "60 validation images" in out
    assert "chosen on these images, which flatters them" in out
    for said in (html, out):
        assert not re.search(r"(?<!not )\btest(ed)? (images|split)", without_scripts(said))
    assert not (study.folder.parent / LEDGER).exists()
    scores = pd.read_csv(folder / "scores.csv")
    assert set(scores["loss"]) == {"smooth_ap", "triplet"}


@pytest.mark.parametrize("tested", [False, True])
def test_scores_are_of_the_chosen_checkpoints(make_study: Maker, tested: bool) -> None:
    study = make_study(trial("smooth_ap", 0, [0.4]), trial("smooth_ap", 1, [0.5]))
    source = Source.load(study, test="to see" if tested else None)
    images = TEST if tested else VALIDATION
    assert source.results is not None
    path = study.best()["smooth_ap"].checkpoint
    assert path is not None and "smooth_ap-001" in str(path)
    embeddings, labels = embed(load_trained(path).network, images), torch.from_numpy(images.labels)
    expected = evaluate_retrieval(
        embeddings, labels, embeddings, labels, query_index=torch.arange(len(images))
    ).mean_average_precision
    (run,) = source.results.of("smooth_ap")
    assert run.protocols["full"].mean_average_precision == pytest.approx(expected)
    assert f"mAP {expected:.3f}" in answer_of(source)


def test_the_same_study_gives_the_same_page(make_study: Maker, tmp_path: Path) -> None:
    study = make_study(trial("triplet", 0, [0.4, 0.3]))
    for name in ("one", "two"):
        assert report.main([str(study.folder), "--output", str(tmp_path / name)]) == 0
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert "index.html" in names
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert not (study.folder / "report").exists()


@pytest.mark.parametrize("status", ["running", "interrupted"])
def test_an_unfinished_study_reads_no_test_image(
    make_study: Maker, reads: list[str], status: str, capsys: pytest.CaptureFixture[str]
) -> None:
    study = make_study(trial("cross_entropy", 0, [0.4]), status=status)
    assert report.main([str(study.folder)]) == 0
    assert reads == ["validation"]
    html = (study.folder / "report/index.html").read_text()
    mark = f"alidation images, not test; the study is {status}"
    assert html.count(mark) > 5 and "among the test images" not in html
    assert mark in capsys.readouterr().out


def test_the_test_images_are_read_where_that_is_asked_for_and_logged(
    make_study: Maker, reads: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    study = make_study(trial("triplet", 0, [0.4]), trial("smooth_ap", 0, [0.3]))
    study.write()
    assert report.main([str(study.folder), "--test", "for the annual report"]) == 0
    assert reads == ["test"]
    html = (study.folder / "report/index.html").read_text()
    assert "not test" not in html and "90 test images" in capsys.readouterr().out
    (line,) = entries(study.folder.parent / LEDGER)
    assert (line["study"], line["why"], line["rows"]) == ("small", "for the annual report", 2)
    assert line["configurations"] == {
        loss: choice.config.describe() for loss, choice in study.best().items()
    }
    assert "for the annual report; 2 networks; choices" in html
    assert report.main([str(study.folder)]) == 0  # which judges on validation images again
    assert reads == ["test", "validation"]
    html = (study.folder / "report/index.html").read_text()
    assert "for the annual report; 2 networks; choices" in html


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"status": "running"}, "for a finished study with a choice; "),
        ({"plan": {"confirm_seeds": 2}}, "in its last step, and again with compare_losses.py"),
    ],
)
def test_the_test_images_are_not_read_for_what_is_not_chosen(
    make_study: Maker,
    reads: list[str],
    changes: dict,
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Nor for the sound study beside it."""
    sound = make_study(trial("triplet", 0, [0.4]), name="sound")
    study = make_study(trial("triplet", 0, [0.4]))
    study.info |= changes | {"plan": study.info["plan"] | changes.get("plan", {})}
    study.write()
    assert report.main([str(sound.folder), str(study.folder), "--test", "to see"]) == 2
    assert message in capsys.readouterr().err
    assert reads == [] and not (study.folder.parent / LEDGER).exists()


def test_a_comparison_of_held_out_classes_under_way_shows_these(
    make_study: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_every_class = noise(150, seed=9)
    small = SmallData(TEST, of_every_class, TEST)
    use(monkeypatch, small)
    study = make_study(trial("triplet", 0, [0.4]), trial("smooth_ap", 0, [0.3]))
    study.info["plan"] |= {"confirm_seeds": 2, "holdout_classes": [5, 7, 9]}
    study.write()
    assert report.main([str(study.folder)]) == 0
    assert small.read == ["validation"]
    table = pd.read_csv(study.folder / "report/class_ap.csv")
    assert set(table["class"]) == {"Sandal", "Sneaker", "Ankle boot"}
    queries = pd.read_csv(study.folder / "report/retrieval_10.csv")
    assert set(queries["query_class"]) <= {"Sandal", "Sneaker", "Ankle boot"}
    html = (study.folder / "report/index.html").read_text()
    assert html.count("validation images of Sandal, Sneaker and Ankle boot, not test") > 5


def test_one_trial_with_one_epoch_and_a_loss_without_any(make_study: Maker) -> None:
    study = make_study(trial("triplet", 0, [0.4]), losses=["triplet", "smooth_ap"])
    source = Source.load(study)
    (said,) = report.build(source).answers
    assert "Triplet reaches mAP" in said
    assert "There is no result for Smooth-AP." in said
    assert source.results is not None and len(source.results.summary) == 2


def test_only_failed_trials_give_a_page_without_images(
    make_study: Maker, reads: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    study = make_study(trial("triplet", 0, [], "failed", "out of memory"))
    assert report.main([str(study.folder)]) == 0
    assert reads == []
    html = (study.folder / "report/index.html").read_text()
    assert "of 1 trial, none has an epoch" in html and "out of memory" in html
    assert len(image_alts(html)) == 2  # the search and the timeline
    assert "none has an epoch" in capsys.readouterr().out


@pytest.mark.parametrize(("low", "words"), [(0.01, "retrieves best"), (-0.01, "comes out highest")])
def test_answer_names_a_winner_only_where_the_difference_is_shown(
    make_study: Maker, low: float, words: str
) -> None:
    study = make_study(trial("smooth_ap", 0, [0.4]), trial("triplet", 0, [0.5]))
    source = Source.load(study)
    assert source.results is not None
    best, other = source.results.losses
    row = {"protocol": "full", "role": "chosen", "first": best, "second": other}
    row |= {"difference": 0.02, "seed_low": low, "seed_high": 0.05, "p_corrected": 0.5 - 30 * low}
    row |= {"verdict": "shown" if low > 0 else "not resolved", "smallest": 0.011}
    differences = pd.DataFrame([row | {"query_low": 0.0, "query_high": 1.0, "shown": low > 0}])
    sentence = answer(source.results, differences, study.losses)
    assert words in sentence and f"+0.020 ({low:+.3f} to +0.050, p = " in sentence
    assert "of at least 0.011 would be shown" in sentence


@pytest.mark.parametrize(
    ("smallest", "said"),
    [
        (
            (0.011, 0.02),
            "of at least 0.011 to 0.020, by pair, would be shown with 80 % probability.",
        ),
        (
            (0.011, 2.4),
            "of at least 0.011 would be shown with 80 % probability; between 1 pair none",
        ),
        (
            (0.011, math.nan, 2.4),
            "of at least 0.011 would be shown with 80 % probability; between 2 pairs none",
        ),
        ((math.nan, 2.4), "With 1 seed for each loss, no possible difference would be shown."),
        ((1.9, 2.4), "With 1 seed for each loss, no possible difference would be shown."),
    ],
)
def test_a_difference_above_1_is_none_that_could_be_shown(
    make_study: Maker, smallest: tuple[float, ...], said: str
) -> None:
    study = make_study(trial("smooth_ap", 0, [0.4]), trial("triplet", 0, [0.5]))
    results = Source.load(study).results
    assert results is not None
    rows = [{"protocol": "full", "role": "chosen", "smallest": one} for one in smallest]
    assert said in power_sentence(results, pd.DataFrame(rows))


def test_the_best_loss_comes_first(make_study: Maker) -> None:
    study = make_study(trial("smooth_ap", 0, [0.4]), trial("triplet", 0, [0.4]))
    evaluations = evaluate_study(study, validation_images(study))
    first, second = (e.protocols["full"].mean_average_precision for e in evaluations.values())
    assert first > second


def no_folder(study: Study) -> None:
    study.folder.rename(study.folder.with_name("moved"))


def no_study_file(study: Study) -> None:
    (study.folder / "study.json").unlink()


def no_trials(study: Study) -> None:
    (study.folder / "trials/triplet-000.json").unlink()


def no_checkpoint(study: Study) -> None:
    checkpoint(study).unlink()


def truncated_checkpoint(study: Study) -> None:
    checkpoint(study).write_bytes(checkpoint(study).read_bytes()[:1000])


def foreign_checkpoint(study: Study) -> None:
    save_checkpoint(trial("triplet", 5, [0.4]), checkpoint(study))


def checkpoint_of_another_epoch(study: Study) -> None:
    save_checkpoint(trial("triplet", 0, [0.4, 0.5]), checkpoint(study))


def other_file(study: Study) -> None:
    torch.save({"weights": torch.ones(3)}, checkpoint(study))


def a_file_for_a_folder(study: Study) -> None:
    (study.folder / "report").write_text("mine")


def checkpoint(study: Study) -> Path:
    return study.folder / "tune/triplet-000/best.pt"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (no_folder, "is not a study"),
        (no_study_file, "has no study.json"),
        (no_trials, "has no trial yet"),
        (no_checkpoint, "checkpoint of trial triplet-000 is missing"),
        (truncated_checkpoint, "cannot be read"),
        (foreign_checkpoint, "not the checkpoint of epoch 1 of trial triplet-000"),
        (checkpoint_of_another_epoch, "not the checkpoint of epoch 1 of trial triplet-000"),
        (other_file, "is not a checkpoint"),
        (a_file_for_a_folder, "exists"),
    ],
)
def test_what_cannot_be_reported_is_one_line(
    make_study: Maker,
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[Study], None],
    message: str,
) -> None:
    study = make_study(trial("triplet", 0, [0.4]))
    damage(study)
    assert report.main([str(study.folder)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1
    assert message in err
    assert not (study.folder / "report").is_dir()


def test_missing_data_is_one_line(
    make_study: Maker,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    study = make_study(trial("triplet", 0, [0.4]))
    monkeypatch.undo()  # the real data set again
    assert report.main([str(study.folder), "--data-dir", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and err.startswith(f"error: data folder {tmp_path} does not hold")
    assert not (study.folder / "report").exists()


def test_script_runs_by_its_path(tmp_path: Path) -> None:
    script = [sys.executable, "-W", "error", str(ROOT / "analysis/report.py"), "nowhere"]
    done = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True, env={})
    assert done.returncode == 2
    assert done.stderr == "error: nowhere is not a study: it has no study.json\n"


def test_trials_are_sorted_and_only_used_knobs_are_columns(make_study: Maker) -> None:
    study = make_study(
        trial("triplet", 0, [], "failed"),
        trial("triplet", 1, [0.2]),
        trial("cross_entropy", 0, [0.3, 0.1]),
    )
    table, same = tables.trials_table(study)
    assert table.cells["trial"].tolist() == ["cross_entropy-000", "triplet-001", "triplet-000"]
    assert table.cells["validation mAP"].tolist() == ["0.300", "0.200", ""]
    assert table.cells["best epoch"].tolist() == ["1", "1", ""]
    assert table.cells["momentum"].tolist() == ["0.9", "0", "0"]
    assert {"τ", "margin", "images a batch"}.isdisjoint(table.cells)
    assert "images a batch 16" in same and "margin 0.5" in same
    assert "τ" not in same and "momentum" not in same


def halved(make_study: Maker) -> Study:
    """Four configurations of which the defaults and another were trained on two fresh seeds."""
    trials = [trial("triplet", n, [score]) for n, score in enumerate((0.5, 0.3, 0.6, 0.2))]
    finals = [(2, 1_000, 0.7), (0, 1_000, 0.6), (2, 1_001, 0.64), (0, 1_001, 0.66)]
    for number, (root, seed, score) in enumerate(finals, start=4):
        trials.append(trial("triplet", number, [0.1, score]))
        trials[-1].follows, trials[-1].origin = f"triplet-{root:03d}", SELECTION
        trials[-1].config = trials[root].config.replace(seed=seed, epochs=2)
    trials[0].origin = HAND_SET
    for record in trials[:4]:
        record.config = record.config.replace(epochs=1)
    return make_study(*trials)


def test_the_finals_are_a_table_and_a_verdict(make_study: Maker) -> None:
    study = halved(make_study)
    cells = tables.finals_table(study).cells
    assert cells.to_numpy().tolist() == [
        ["triplet", "triplet-002", "0.6700", "0.7000", "0.6400"],
        ["triplet", "triplet-000 (the hand-set defaults)", "0.6300", "0.6000", "0.6600"],
    ]
    assert cells.columns.tolist()[3:] == ["seed 1000", "seed 1001"]
    # By the second seed the defaults are chosen, by the first the other: 0 and -0.02.
    half = stats.t.ppf(0.975, 1) * 0.01
    (said,) = tables.verdicts(study)
    assert said.endswith(
        f"triplet: not resolved whether it is above the hand-set defaults: -0.0100 (95 % interval "
        f"{-0.01 - half:+.4f} to {-0.01 + half:+.4f}, 2 fresh seeds)."
    )
    (row,) = tables.budget_table(study).cells.to_dict("records")
    assert (row["trials"], row["configurations"], row["epochs"]) == ("8", "4", "12")
    shown, _ = tables.trials_table(study)
    longest = [f"triplet-{n:03d}" for n in (4, 7, 6, 5)]
    assert shown.cells["trial"].tolist() == [*longest, "triplet-002", "triplet-000", "triplet-001",
                                             "triplet-003"]  # fmt: skip
    assert shown.cells["follows"].tolist()[:5] == [
        "triplet-002", "triplet-000", "triplet-002", "triplet-000", "",
    ]  # fmt: skip


def test_what_fresh_seeds_chose_is_said_to_be_so(make_study: Maker) -> None:
    study = halved(make_study)
    assert report.main([str(study.folder)]) == 0
    html = (study.folder / "report/index.html").read_text()
    assert "the configuration of the highest mean validation mAP over fresh seeds" in html
    assert "the mean over the fresh seeds, of each run&#39;s best epoch" in html
    row = pd.read_csv(study.folder / "report/table_map_of_each_loss.csv").iloc[0]
    assert (row["validation mAP"], row["trial"]) == (0.67, "triplet-004")
    for name in ("ladder", "search_expected"):
        assert (study.folder / f"report/{name}.csv").exists()


def test_without_finals_no_table_and_no_verdict_is_shown(make_study: Maker) -> None:
    study = make_study(trial("triplet", 0, [0.4]))
    assert tables.finals_table(study).cells.empty and tables.verdicts(study) == []


def test_numbers_are_the_columns_of_numbers_alone() -> None:
    cells = pd.DataFrame({"a": ["1,000", ""], "b": ["1", "all"], "c": ["4e-05", "-2"]})
    assert tables.Table("", cells).numbers == ["a", "c"]


def test_a_long_table_is_looked_through_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page asks at each cell: it took minutes, of a study of hundreds of trials."""
    cells = pd.DataFrame({"mAP": [f"0.{n}" for n in range(100)], "cause": ["a word"] * 100})
    asked: list[str] = []
    plain = tables._is_number
    monkeypatch.setattr(tables, "_is_number", lambda cell: bool(asked.append(cell)) or plain(cell))
    table = tables.Table("trials", cells)
    for _ in range(3):
        assert table.numbers == ["mAP"] and table.long == []
    assert len(asked) == 101  # all of the one, and of the other the first, which is none


def test_a_plan_has_no_empty_values(make_study: Maker) -> None:
    study = make_study(trial("triplet", 0, [0.1]))
    study.info["plan"] |= {"max_concurrent": None, "holdout_classes": [], "smoke_test": False}
    said = dict(tables.origin_table(study).cells.to_numpy().tolist())["plan"]
    assert said == "num samples 2, max concurrent none, holdout classes none, smoke test no"
    study.info["plan"]["holdout_classes"] = [5, 7, 9]
    said = dict(tables.origin_table(study).cells.to_numpy().tolist())["plan"]
    assert "holdout classes 5, 7 and 9" in said
    study.info["plan"] |= {"changes": {}}
    said = dict(tables.origin_table(study).cells.to_numpy().tolist())["plan"]
    assert said.endswith("changes none")
    study.info["plan"]["changes"] = {"lr": {"choices": [0.05]}}
    said = dict(tables.origin_table(study).cells.to_numpy().tolist())["plan"]
    assert said.endswith("changes learning rate choices 0.05")


def test_only_long_text_may_be_broken_into_lines() -> None:
    cells = pd.DataFrame({"trial": ["normalized_softmax-001"], "cause": ["so " * 20]})
    assert tables.Table("", cells).long == ["cause"]


def test_a_librarys_knob_is_explained_by_its_unit(make_study: Maker) -> None:
    """`margin` and `temperature` are others there."""
    study = make_study(trial("triplet", 0, [0.1]))
    losses = ["triplet", "pml:TripletMarginLoss", "pml:SupConLoss"]
    study.info["space"] = describe(losses, SPACE)
    rows = tables.space_table(study).cells
    margins = rows[rows["knob"] == "margin"]["what it is"].tolist()
    assert margins == [
        "by how much farther another class must be: of triplet, in squared distance",
        "an argument of its library's loss, of distance, not squared",
    ]
    (own,) = rows[rows["knob"] == "temperature"]["what it is"]
    assert own == "an argument of its library's loss, of cosine"
    study.info["space"] = describe(["pml:SupConLoss", "triplet:batch_size=64"], SPACE)
    rows = tables.space_table(study).cells.set_index("knob")["what it is"]
    assert set(rows["images a batch"]) == {"training images in a step"}  # of either loss
    study.info["space"] = describe(["pml:SupConLoss+triplet"], SPACE)
    assert tables.space_table(study).cells.set_index("knob").loc["temperature", "what it is"]


def test_every_knob_of_the_search_is_explained(make_study: Maker) -> None:
    study = make_study(trial("triplet", 0, [0.1]))
    del study.info["space"]
    assert tables.space_table(study).cells.empty  # not recorded
    for space in (SPACE, WIDE):
        study.info["space"] = describe(["triplet"], space)
        cells = tables.space_table(study).cells
        assert len(cells) == len(knobs_of("triplet", space)) and cells.ne("").all(axis=None)
    rows = cells.set_index("knob")
    row = rows.loc["images a class"]
    assert (row["searched over"], row["default"]) == ("none, 2, 4, 8", "none")
    assert "a multiple of the usual one" in rows.loc["relative learning rate", "what it is"]


def test_budget_and_faults_are_counted(make_study: Maker) -> None:
    study = make_study(
        trial("triplet", 0, [0.1, 0.2]),
        trial("triplet", 1, [0.2], "diverged", "the loss became nan"),
        trial("triplet", 2, [0.2]),
    )
    (row,) = tables.budget_table(study).cells.to_dict("records")
    assert (row["trials"], row["epochs"], row["seconds"]) == ("3", "4", "8")
    assert row["how the trials ended"] == "2 finished, 1 diverged"
    (fault,) = tables.faults_table(study, "a title").cells.to_dict("records")
    assert (fault["trial"], fault["cause"]) == ("triplet-001", "the loss became nan")


def test_origin_says_what_is_known_and_what_is_not(make_study: Maker) -> None:
    study = make_study(trial("triplet", 0, [0.1]))
    study.info |= {"ended": None, "commit": None}
    facts = dict(tables.origin_table(study).cells.to_numpy().tolist())
    assert facts["command"] == INFO["command"]
    assert facts["started"] == "2023-11-14 22:13 UTC"
    assert facts["ended"] == facts["commit"] == "not recorded"
    assert facts["versions"] == "torch 2.15" and facts["trials"] == "1 finished"


def test_two_studies_side_by_side(
    make_study: Maker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = make_study(trial("triplet", 0, [0.4]), trial("smooth_ap", 0, [0.3, 0.5]), name="first")
    second = make_study(trial("triplet", 0, [0.2, 0.6]), trial("triplet", 1, [], "failed", "x"))
    out = tmp_path / "both"
    assert report.main([str(first.folder), str(second.folder), "--output", str(out)]) == 0
    said = capsys.readouterr().out
    assert "A. " in said and "B. Triplet reaches mAP" in said
    maps = pd.read_csv(out / "two_maps.csv")
    assert sorted(zip(maps["study"], maps["loss"], strict=True)) == [
        ("A", "smooth_ap"), ("A", "triplet"), ("B", "triplet"),
    ]  # fmt: skip
    of_b = pd.read_csv(out / "scores_b.csv").set_index("protocol").loc["full", "map"]
    assert maps.set_index(["study", "loss"]).loc[("B", "triplet"), "map"] == pytest.approx(of_b)
    html = (out / "index.html").read_text()
    assert "A and B: Validation images, not test: each configuration" in html
    change = maps[maps["loss"] == "triplet"].set_index("study")["map"].diff().iloc[1]
    assert f" in B ({change:+.3f})" in html and "do not compare" not in html
    assert f"triplet {maps[maps['loss'] == 'triplet']['map'].iloc[0]:.3f} in A" in html
    budgets = pd.read_csv(out / "table_the_budgets.csv")
    row = budgets[budgets["study"] == "B"].iloc[0]
    assert (row["trials"], row["epochs"], row["best validation mAP"]) == (2, 2, 0.6)


def test_two_studies_on_other_images_have_no_change(
    make_study: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Source.load(make_study(trial("triplet", 0, [0.4]), name="first"))
    second = Source.load(make_study(trial("triplet", 0, [0.4]), status="running", name="second"))
    page = side_by_side([first, second])
    assert page.warning.startswith("A: Validation images, not test: each configuration")
    assert "B: Validation images, not test; the study is running: all numbers are" in page.warning
    assert judged_alike({"A": first, "B": first})
    assert second.results is not None
    for change in (
        {"labels": second.results.labels[::-1]},
        {"name": "test images"},
    ):
        other = dataclasses.replace(second, results=dataclasses.replace(second.results, **change))
        names = {"A": first, "B": other}
        assert not judged_alike(names)
        figure = maps_figure(names)
        assert figure is not None and "A and B do not compare" in figure.caption
        assert re.search(r"triplet 0\.\d{3} in A and 0\.\d{3} in B;", figure.caption)


def test_three_studies_are_one_too_many(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        report.main(["a", "b", "c"])
    assert "one study or two, or with --together" in capsys.readouterr().err


@pytest.mark.parametrize("status", ["failed", "diverged"])
def test_a_class_that_is_missing_and_no_finished_trial(
    make_study: Maker, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = TEST.take(TEST.labels != 3)
    use(monkeypatch, SmallData(VALIDATION, few, TEST))
    study = make_study(trial("triplet", 0, [0.2]), trial("triplet", 1, [0.9], status, "nan"))
    assert report.main([str(study.folder)]) == 0
    table = pd.read_csv(study.folder / "report/class_ap.csv")
    assert len(table) == 9 and CLASSES[3] not in set(table["class"])
    queries = pd.read_csv(study.folder / "report/retrieval_10.csv")["query_class"]
    assert CLASSES[3] not in set(queries)
