"""The one reading of the test split: when it is refused, and what it writes."""

from __future__ import annotations

import csv
import hashlib
import json
import math
import shutil
import time
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from study.judge import final_test
from study.judge.choices import CHOICES, Frozen, confirming_trials, freeze, rule_by
from study.judge.comparison import search_folder
from study.judge.evaluation import evaluate
from study.judge.final_test import (
    INTERRUPTED,
    is_complete,
    narrow,
    nearest_images,
    read_test,
    readings,
)
from study.results.files import StudyError
from study.results.images import DATA, Images
from study.results.studies import Study
from study.results.trials import TrialRecord, trial_name
from study.run.plan import Plan
from study.search.space import default, reference
from tests.configurations import LOSSES, REFERENCES
from tests.oracles import (
    slow_average_precision,
    slow_average_precision_at_r,
    slow_r_precision,
    slow_ranking,
    slow_recall_at,
)
from tests.small_data import SmallData, use
from trainables.data import DataError, LabelledImages, Roles, Split, resolve
from trainables.data.ledger import LEDGER, Reading, entries
from trainables.metrics import METRICS
from trainables.train import TrainingRun
from trainables.trained import embed, load_trained

SEEDS = (8, 9, 10)
Made = tuple[Study, Study]


def blocks(count: int, seed: int) -> LabelledImages:
    """Coarse images that say little about their label; one class has one image alone, row 5."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(9, size=count)
    labels[5] = 9
    coarse = rng.integers(200, size=(count, 4, 4)) + 6 * labels[:, None, None]
    images = coarse.repeat(7, axis=1).repeat(
        7, axis=2
    )  # far apart, so that float32 ranks nearly all surely
    return LabelledImages(images[:, None].astype(np.uint8), labels)


TRAIN, TEST = blocks(80, seed=1), blocks(130, seed=2)


@pytest.fixture(autouse=True)
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Reading]:
    """The dataset is a small one; the list has every reading of its test images."""
    small = SmallData(TRAIN, TRAIN, TEST)
    use(monkeypatch, small)
    return small.readings


def add_trial(study: Study, record: TrialRecord, val_map: float, status: str = "finished") -> None:
    """Writes a trial as if it had been trained for one epoch, to weights of its own."""
    run = TrainingRun(record.config, Split(TRAIN, TRAIN))
    known = record.loss in LOSSES
    place = LOSSES.index(record.loss) if known else zlib.crc32(record.loss.encode()) % 1_000 + 10
    number = torch.Generator().manual_seed(
        place * 100 + record.number * (study.folder.name == "confirmation")
    )
    for weights in run.learner.parameters():
        weights.data += 0.05 * torch.randn(weights.shape, generator=number)
    run.epoch = 1
    path = study.folder / "tune" / "01" / record.trial_id / "checkpoint.pt"
    path.parent.mkdir(parents=True)
    run.save(path)
    row = dict.fromkeys(("train_loss", "val_loss", "evaluation_seconds", "images_per_second"), 1.0)
    row |= {f"val_{name}": 1 - val_map for name in METRICS}  # which choose another trial
    record.add_epoch({**row, "epoch": 1, "val_map": val_map, "seconds": 2.0})
    record.add_checkpoint(str(path))
    record.status, record.worker, record.logs = status, "the-host:123", str(path.parent)
    study.trials.append(record)
    study.write_trial(record)


def make(folder: Path, failed: tuple[str, ...] = (), **changes: Any) -> Made:
    """A comparison whose sweeps and confirmation are finished; a sweep had two trials a loss."""
    fields = {"losses": list(LOSSES), "num_samples": 2, "max_epochs": 1, "seed": 7}
    plan = Plan(**{**fields, "confirm_seeds": len(SEEDS), **changes})
    info = {"status": "finished", "plan": plan.fields(), "command": "python study/x.py --name c"}
    for number, seed in enumerate(plan.seeds()):
        sweep = Study.create(search_folder(folder, number + 1), info)
        for loss in plan.losses:
            first = reference(loss, epochs=1, seed=seed) or default(loss, epochs=1, seed=seed)
            first = first.replace(batch_size=64)
            other = first.replace(lr=0.01 / (1 + number))
            for n, (config, val_map) in enumerate(((first, 0.3), (other, 0.4))):
                record = TrialRecord(trial_name(loss, n), config, metric=plan.metric)
                add_trial(sweep, record, val_map)
        sweep.write()
        (sweep.folder / DATA).write_text(json.dumps(resolve("fashion_mnist").about()))
    sweep, *others = sweeps_of(folder, plan)
    confirmation = Study.create(folder / "confirmation", info | {"listed": True})
    frozen = freeze(sweep, plan, others=others)
    for number, record in enumerate(confirming_trials(plan, frozen)):
        status = "failed" if record.trial_id in failed else "finished"
        add_trial(confirmation, record, 0.5 + number / 100, status)
    confirmation.write()
    shutil.copy(folder / DATA, confirmation.folder)
    return Study.load(folder), Study.load(folder / "confirmation")


def sweeps_of(folder: Path, plan: Plan) -> list[Study]:
    return [Study.load(search_folder(folder, 1 + n)) for n in range(plan.search_seeds)]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return make(tmp_path / "c")


def finals(sweep: Study, name: str) -> pd.DataFrame:
    return pd.read_csv(sweep.folder / "finals" / f"{name}.csv")


def slow_rankings(
    study: Study, trial_id: str, test: LabelledImages, queries: int
) -> tuple[list, list]:
    """By loops, whether what the first queries rank is relevant, and the rankings."""
    trial = next(trial for trial in study.trials if trial.trial_id == trial_id)
    assert trial.checkpoint is not None
    rows = embed(load_trained(Path(trial.checkpoint)).network, test).double().tolist()
    rankings = [slow_ranking(rows[q], rows, own=q) for q in range(queries)]
    return [[test.labels[i] == test.labels[q] for i in r] for q, r in enumerate(rankings)], rankings


def test_the_choice_and_the_runs_that_confirm_it(made: Made) -> None:
    sweep, confirmation = made
    frozen = Frozen.load(sweep.folder)
    assert frozen.seeds == list(SEEDS)  # and not 7, the sweep's
    assert {loss: c.trial_id for loss, c in frozen.choices.items()} == {
        loss: f"{loss}-001" for loss in LOSSES
    }
    for loss in LOSSES:
        runs = [run for run in confirmation.trials if run.loss == loss]
        beside = [REFERENCES[loss].lr] * 3 if loss in REFERENCES else []
        assert [run.config.seed for run in runs] == [*SEEDS, *SEEDS][: 3 + len(beside)]
        assert [frozen.role(run) for run in runs] == (["chosen"] * 3 + ["reference"] * 3)[
            : len(runs)
        ]
        assert [run.config.lr for run in runs] == [0.01] * 3 + beside


@pytest.mark.parametrize("references", [0, 2])
def test_fewer_seeds_of_the_references(tmp_path: Path, references: int) -> None:
    sweep, confirmation = make(tmp_path / "c", reference_seeds=references, reference_epochs=4)
    frozen = Frozen.load(sweep.folder)
    for loss in REFERENCES:
        runs = [run for run in confirmation.trials if run.loss == loss]
        assert [frozen.role(run) for run in runs] == ["chosen"] * 3 + ["reference"] * references
        assert [run.config.seed for run in runs[3:]] == list(SEEDS[:references])
        assert {run.config.epochs for run in runs[3:]} == ({4} if references else set())
        assert {frozen.search(run) for run in runs} == {0}
    with pytest.raises(StudyError, match=r"is frozen and must agree .* seeds of a reference"):
        freeze(sweep, Plan(**sweep.info["plan"] | {"reference_seeds": 3}))
    read_test(sweep, confirmation)
    summary, differences = finals(sweep, "summary"), finals(sweep, "differences")
    assert not differences.isna().any(axis=None)
    maps = summary.set_index(["protocol", "role", "loss"])["map"]
    tuned = differences.query("role == 'tuning'")
    assert len(tuned) == (2 * len(REFERENCES) if references else 0)
    for row in tuned.itertuples():
        of = [maps[row.protocol, role, row.first] for role in ("chosen", "reference")]
        assert row.difference == pytest.approx(of[0] - of[1])
        assert row.seed_low <= row.difference <= row.seed_high


def test_what_a_reading_writes(made: Made, reads: list[Reading]) -> None:
    sweep, confirmation = made
    read_test(sweep, confirmation)
    assert [reading.frozen for reading in reads] == [sweep.folder / CHOICES]
    runs, queries = finals(sweep, "runs"), np.load(sweep.folder / "finals" / "queries.npz")
    assert runs["trial_id"].tolist() == [
        f"{loss}-{n:03d}" for loss in sorted(LOSSES) for n in range(6 if loss in REFERENCES else 3)
    ]
    assert runs["seed"].tolist() == [*SEEDS] * (len(LOSSES) + len(REFERENCES))
    np.testing.assert_array_equal(queries["labels"], TEST.labels)
    assert queries["labels"].dtype == np.uint8
    for trial_id in ("triplet-000", "smooth_ap-004"):
        relevant, rankings = slow_rankings(confirmation, trial_id, TEST, 100)
        slow = [slow_average_precision(marks) for marks in relevant]
        assert slow[5] is None
        expected = [math.nan if ap is None else ap for ap in slow]
        for found in (queries[f"ap_full/{trial_id}"][:100], queries[f"ap_seed/{trial_id}"]):
            same = np.isclose(found, expected, atol=1e-6, equal_nan=True)
            assert same.shape == (100,) and same.mean() >= 0.98
        row = runs.set_index("trial_id").loc[trial_id]
        assert row["map_seed"] == pytest.approx(np.nanmean(expected), abs=1e-4)
        assert row["map_full"] == pytest.approx(np.nanmean(queries[f"ap_full/{trial_id}"]))
        if trial_id == "triplet-000":
            for name, k in (("seed", 50), ("full", 10)):
                same = queries[f"nearest_{name}/{trial_id}"][:100] == [r[:k] for r in rankings]
                assert same.shape == (100, k) and same.mean() > 0.99
    shown = {name for name in queries.files if name.startswith("nearest")}
    assert shown == {
        f"nearest_{p}/{loss}-{n:03d}"
        for p in ("full", "seed")
        for n, losses in ((0, LOSSES), (3, REFERENCES))
        for loss in losses
    }
    assert queries["precision_full/triplet-000"].shape == (101,)
    for name, asked, searched in (("full", 130, 130), ("seed", 100, 130)):
        assert queries[f"queries_{name}"].tolist() == list(range(asked))
        assert queries[f"gallery_{name}"].tolist() == list(range(searched))
    assert {queries[name].dtype.name for name in queries.files} == {"uint8", "float32"}


def test_a_run_has_every_metric_of_the_first_protocol(made: Made) -> None:
    read_test(*made)
    runs = finals(made[0], "runs").set_index("trial_id")
    oracles: dict[str, Callable[[list], float | None]] = {
        "map_at_r": slow_average_precision_at_r,
        "r_precision": slow_r_precision,
        **{f"recall_at_{k}": partial(slow_recall_at, k=k) for k in (1, 2, 4, 8)},
    }
    assert {*oracles} == {*METRICS} - {"map"}
    for trial_id in ("triplet-000", "smooth_ap-004"):
        marks, _ = slow_rankings(made[1], trial_id, TEST, len(TEST))
        for name, oracle in oracles.items():
            each = [value for one in marks if (value := oracle(one)) is not None]
            assert len(each) == len(TEST) - 1
            # A pair may be ranked the other way round in float32.
            assert runs.loc[trial_id, name] == pytest.approx(np.mean(each), abs=0.01)


def test_the_nearest_images_of_shuffled_roles_with_groups(made: Made) -> None:
    """The places are of images, not of rows of the gallery; the group is left out."""
    rng = np.random.default_rng(0)
    choice = made[1].choice(made[1].trials[0])
    queries, gallery = rng.permutation(130)[:40], rng.permutation(130)[:90]
    roles = Roles(queries, gallery, rng.integers(-1, 6, size=130))
    images = Images(TEST, {"full": roles}, (), "", "")
    evaluation = evaluate(choice, images)
    found = nearest_images(evaluation, "full")
    assert found.shape == (40, 10)
    assert roles.groups is not None
    rows = evaluation.embeddings.double().tolist()
    for query, nearest in zip(queries.tolist(), found.tolist(), strict=True):
        group = roles.groups[query]
        ranked = [
            place
            for place in gallery.tolist()
            if place != query and (group == -1 or roles.groups[place] != group)
        ]
        expected = slow_ranking(rows[query], [rows[place] for place in ranked])[:10]
        assert nearest == [ranked[place] for place in expected]


def test_no_image_is_nearest_where_a_query_ranks_none(made: Made) -> None:
    choice = made[1].choice(made[1].trials[0])
    groups = np.where(np.arange(130) < 2, 0, -1)
    roles = Roles(np.array([0, 9]), np.array([0, 1]), groups)
    images = Images(TEST.relabelled(np.zeros(130, np.int64)), {"seed": roles}, (), "", "")
    assert nearest_images(evaluate(choice, images), "seed").shape == (2, 0)


def test_the_tables_follow_from_the_queries(made: Made) -> None:
    sweep, confirmation = made
    read_test(sweep, confirmation)
    queries = np.load(sweep.folder / "finals" / "queries.npz")
    summary = finals(sweep, "summary").set_index(["protocol", "role", "loss"])
    differences = finals(sweep, "differences").set_index(["protocol", "role", "first", "second"])
    chosen, beside = len(LOSSES), len(REFERENCES)
    assert len(summary) == 2 * (chosen + beside)
    assert len(differences) == 2 * (math.comb(chosen, 2) + math.comb(beside, 2) + beside)

    def ap(loss: str, first: int) -> np.ndarray:
        rows = [queries[f"ap_full/{loss}-{first + n:03d}"] for n in range(3)]
        return np.delete(np.array(rows, dtype=float), 5, axis=1)

    row = summary.loc["full", "reference", "triplet"]
    maps = ap("triplet", 3).mean(1)
    low, high = stats.ttest_1samp(maps, 0).confidence_interval()
    assert row[["map", "low", "high"]].tolist() == pytest.approx([maps.mean(), low, high])
    assert row[["runs", "trials", "epochs", "sweep_seconds"]].tolist() == [3, 0, 0, 0]
    row = summary.loc["full", "chosen", "triplet"]
    assert row[["trials", "epochs", "sweep_seconds", "confirm_seconds"]].tolist() == [2, 2, 4, 6]
    numbers = [LOSSES.index("triplet") + n * len(LOSSES) for n in range(3)]
    assert row["val_map"] == pytest.approx(0.5 + sum(numbers) / 300)
    pairs = [("cross_entropy", "triplet"), ("cross_entropy", "smooth_ap"), ("triplet", "smooth_ap")]
    tests = [stats.ttest_rel(ap(a, 0), ap(b, 0), axis=None) for a, b in pairs]
    by_seed = [stats.ttest_rel(ap(a, 0).mean(1), ap(b, 0).mean(1)).pvalue for a, b in pairs]
    by_query = [stats.ttest_rel(ap(a, 0).mean(0), ap(b, 0).mean(0)).pvalue for a, b in pairs]
    for pair, test, seed_p, query_p in zip(pairs, tests, by_seed, by_query, strict=True):
        row = differences.loc[("full", "chosen", *pair)]
        assert np.sign(row["difference"]) == np.sign(test.statistic)
        assert row[["seed_p", "query_p"]].tolist() == pytest.approx([seed_p, query_p])
        assert row["p_corrected"] >= max(seed_p, query_p)
        assert row["shown"] == (row["p_corrected"] < 0.05)
    row = differences.loc[("full", "tuning", "triplet", "triplet")]
    assert row["difference"] == pytest.approx((ap("triplet", 0) - ap("triplet", 3)).mean())


def test_a_second_reading_must_say_why_and_is_logged(made: Made, reads: list[Reading]) -> None:
    sweep, confirmation = made
    read_test(sweep, confirmation)
    with pytest.raises(StudyError, match=r"is read once; .* logs 1 reading: say why"):
        read_test(sweep, confirmation)
    with pytest.raises(StudyError, match="is read once"):
        read_test(sweep, confirmation, resume=True)
    assert len(reads) == 1
    before = {p.name: p.read_bytes() for p in (sweep.folder / "finals").iterdir()}
    read_test(sweep, confirmation, reread="a label was wrong")
    first, second = readings(sweep.folder)
    digest = hashlib.sha256((sweep.folder / CHOICES).read_bytes()).hexdigest()
    assert (first["why"], second["why"]) == ("first reading", "a label was wrong")
    assert first["sha256"] == second["sha256"] == digest
    assert first["rows"] == second["rows"] == len(confirmation.trials)
    assert {*before} == {*final_test.RAW, "summary.csv", "differences.csv", "classes.csv"}
    for name, content in before.items():
        assert (sweep.folder / "finals" / name).read_bytes() == content


@pytest.mark.parametrize("part", ["sweep", "confirmation"])
def test_nothing_is_read_before_all_is_finished(made: Made, part: str, reads: list) -> None:
    study = made[part == "confirmation"]
    study.info["status"] = "interrupted"
    with pytest.raises(StudyError, match=f"{study.folder} is interrupted"):
        read_test(*made)
    assert not reads and not (made[0].folder / "finals").exists()


def test_nothing_is_read_before_the_choices_are_frozen(made: Made, reads: list) -> None:
    (made[0].folder / CHOICES).unlink()
    with pytest.raises(StudyError, match=r"there is no .*choices\.json$"):
        read_test(*made)
    assert not reads and not (made[0].folder / "finals").exists()


def test_a_missing_network_is_missed_before_a_reading(made: Made, reads: list) -> None:
    Path(made[1].trials[-1].checkpoint or "").unlink()
    with pytest.raises(StudyError, match=r"checkpoint of trial .* is missing"):
        read_test(*made)
    assert not reads and readings(made[0].folder) == []


def test_the_log_is_written_before_the_images_are_read(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a reading that was interrupted is completed by a resumed comparison alone."""
    sweep, confirmation = made
    calls: list[int] = []

    def interrupted(*arguments: Any) -> Any:
        calls.append(len(readings(sweep.folder)))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(final_test, "evaluate", interrupted)
        with pytest.raises(KeyboardInterrupt):
            read_test(sweep, confirmation)
    assert calls == [1]
    assert not is_complete(sweep.folder)
    with pytest.raises(StudyError, match="is read once"):
        read_test(sweep, confirmation)
    read_test(sweep, confirmation, resume=True)
    assert is_complete(sweep.folder)
    assert [line["why"] for line in readings(sweep.folder)] == ["first reading", INTERRUPTED]
    with monkeypatch.context() as patch:  # a second reading, which is interrupted too
        patch.setattr(final_test, "evaluate", interrupted)
        with pytest.raises(KeyboardInterrupt):
            read_test(sweep, confirmation, reread="to see")
    assert not is_complete(sweep.folder)


def test_changed_choices_are_refused(made: Made) -> None:
    sweep, confirmation = made
    read_test(sweep, confirmation)
    path = sweep.folder / CHOICES
    path.write_text(path.read_text() + "\n")
    with pytest.raises(StudyError, match=r"choices.json was changed after the test split was read"):
        read_test(sweep, confirmation, reread="to see")


def change(content: dict[str, Any]) -> None:
    content["choices"]["triplet"]["trial_id"] = "triplet-000"


def reseed(content: dict[str, Any]) -> None:
    content["seeds"][0] = 7


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (change, r"triplet: triplet-000 at epoch 1, 0.4 there, triplet-001 at epoch 1, 0.4 here"),
        (reseed, r"seeds: \[7, 9, 10\] there, \[8, 9, 10\] here"),
    ],
)
def test_choices_are_never_rewritten(
    edit: Callable[[dict[str, Any]], None], message: str, made: Made
) -> None:
    sweep = made[0]
    path, plan = sweep.folder / CHOICES, Plan(**sweep.info["plan"])
    before = path.read_bytes()
    freeze(sweep, plan)
    assert path.read_bytes() == before
    content = json.loads(before)
    edit(content)
    path.write_text(json.dumps(content))
    with pytest.raises(StudyError, match=message):
        freeze(sweep, plan)


def test_the_rule_names_the_metric_that_chooses(tmp_path: Path) -> None:
    """And a comparison by another metric than mAP chooses, freezes and confirms by it."""
    sentence = (
        "Of each loss, the best configurations of the search are trained on fresh seeds, and that "
        "of the highest mean {} on the validation images is chosen; without fresh seeds, the "
        "highest value of the most epochs. No test image is seen."
    )
    for name, metric in METRICS.items():
        assert rule_by(name) == sentence.format(metric.title)
    sweep, confirmation = make(tmp_path / "c", losses=["triplet"], select_by="recall_at_1")
    frozen = Frozen.load(sweep.folder)
    assert frozen.rule == sentence.format("R@1")
    choice = frozen.choices["triplet"]
    assert (choice.trial_id, choice.score, choice.val_map) == ("triplet-000", 0.7, 0.3)
    assert {run.metric for run in confirmation.trials} == {"val_recall_at_1"}
    by_map = Plan(**{**sweep.info["plan"], "select_by": "map"})
    with pytest.raises(StudyError, match="is frozen and must agree with the sweep; rule: Of each"):
        freeze(sweep, by_map)


def test_a_failed_run_is_left_out(tmp_path: Path) -> None:
    failed = ("triplet-001", "smooth_ap-000", "smooth_ap-002")
    sweep, confirmation = make(tmp_path / "c", failed=failed)
    read_test(sweep, confirmation)
    summary = finals(sweep, "summary").set_index(["protocol", "role", "loss"])
    assert summary.loc["full", "chosen"]["runs"].to_dict() == dict.fromkeys(LOSSES, 3) | {
        "triplet": 2,
        "smooth_ap": 1,
    }
    alone = summary.loc["full", "chosen", "smooth_ap"]
    assert np.isnan(alone["low"]) and 0 < alone["query_low"] < alone["map"] < alone["query_high"]
    assert not np.isnan(summary.loc["full", "chosen", "triplet"]["low"])
    differences = finals(sweep, "differences").set_index(["protocol", "role", "first", "second"])
    row = differences.loc[("full", "chosen", "triplet", "smooth_ap")]
    assert np.isnan(row["p_corrected"]) and not row["shown"]
    row = differences.loc[("full", "chosen", "cross_entropy", "triplet")]
    assert row["p_corrected"] >= max(row["seed_p"], row["query_p"])
    queries = np.load(sweep.folder / "finals" / "queries.npz")
    assert "nearest_full/smooth_ap-001" in queries.files  # the first that is there


def test_held_out_classes_alone_are_retrieved(tmp_path: Path) -> None:
    sweep, confirmation = make(tmp_path / "c", holdout_classes=["sneaker", 1, "0"])
    read_test(sweep, confirmation)
    queries = np.load(sweep.folder / "finals" / "queries.npz")
    mine = TEST.take(np.isin(TEST.labels, [0, 1, 7]))
    assert queries["labels"].tolist() == mine.labels.tolist()
    assert queries["ap_full/triplet-000"].shape == (len(mine),)


def test_the_ledger_says_which_configurations_met_the_images_when_and_why(made: Made) -> None:
    sweep, confirmation = made
    sweep.info["commit"] = "0bf7ce3"
    before = time.time()
    read_test(sweep, confirmation)
    (line,) = entries(sweep.folder.parent / LEDGER)
    assert before <= line["time"] <= time.time()
    assert (line["study"], line["commit"]) == ("c", "0bf7ce3")
    assert line["rows"] == len(confirmation.trials)
    roles = [(loss, role) for loss in LOSSES for role in ("chosen", "reference")]
    known = {f"{loss}, {role}" for loss, role in roles if role == "chosen" or loss in REFERENCES}
    assert set(line["configurations"]) == known
    said = line["configurations"]["triplet, chosen"]
    assert "loss=triplet" in said and "lr=0.01," in said and "seed=" not in said
    with (sweep.folder / "finals" / "differences.csv").open() as file:
        assert {row["shown"] for row in csv.DictReader(file)} <= {"True", "False"}


def test_a_reading_that_cannot_be_logged_does_not_happen(made: Made, reads: list[Reading]) -> None:
    ledger = made[0].folder.parent / LEDGER
    ledger.mkdir()
    with pytest.raises((DataError, StudyError), match=r"ledger .*cannot be (written|read)"):
        read_test(*made)
    assert not reads and not (made[0].folder / "finals").exists()


def test_a_comparison_that_was_read_and_moved_from_its_ledger_is_not_read_again(
    made: Made, tmp_path: Path, reads: list[Reading]
) -> None:
    read_test(*made)
    moved = tmp_path / "elsewhere" / "c"
    shutil.copytree(made[0].folder, moved)
    studies = Study.load(moved), Study.load(moved / "confirmation")
    with pytest.raises(StudyError, match=f"is read once; {moved}/finals holds what a reading left"):
        read_test(*studies)
    assert is_complete(moved) and len(reads) == 1
    read_test(*studies, reread="to see")
    assert [line["why"] for line in readings(moved)] == ["to see"]


def test_a_new_comparison_by_the_name_of_a_deleted_one_is_read(made: Made, tmp_path: Path) -> None:
    read_test(*made)
    shutil.rmtree(made[0].folder)
    again = make(tmp_path / "c")
    read_test(*again)
    assert [line["study"] for line in entries(tmp_path / LEDGER)] == ["c", "c"]
    assert [line["why"] for line in readings(again[0].folder)] == ["first reading"]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([0, 255], "uint8"),
        ([0, 256], "uint16"),
        ([65_535], "uint16"),
        ([65_536], "uint32"),
        ([2**32], "uint64"),
        ([-1, 200], "int16"),
        ([], "uint8"),
    ],
)
def test_numbers_are_stored_in_a_type_that_holds_them(values: list[int], kind: str) -> None:
    stored = narrow(np.array(values, dtype=np.int64))
    assert stored.tolist() == values and stored.dtype == kind


def test_a_gallery_of_more_rows_and_classes_than_a_small_type_holds(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """300 classes: their numbers come back from the file as they were."""
    labels = np.arange(600) % 300
    wide = blocks(600, seed=3).relabelled(labels)
    use(monkeypatch, SmallData(TRAIN, TRAIN, wide, classes=tuple(map(str, range(300)))))
    read_test(*made)
    queries = np.load(made[0].folder / "finals" / "queries.npz")
    np.testing.assert_array_equal(queries["labels"], labels)
    nearest = queries["nearest_full/triplet-000"]
    assert nearest.dtype == np.uint16 and 256 <= nearest.max() < 600
