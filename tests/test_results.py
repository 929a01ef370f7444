from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis.found.finals import is_comparison
from analysis.found.sources import may_test
from study.results import studies
from study.results.files import StudyError
from study.results.studies import EPOCH_COLUMNS, Study
from study.results.trials import HAND_SET, PROMOTION, SELECTION, TrialRecord, trial_name
from tests.configurations import REFERENCES
from trainables.config import TrialConfig
from trainables.metrics import METRICS

INFO = {"plan": {"losses": ["smooth_ap", "triplet"]}, "status": "finished"}


def record(
    trial_id: str, maps: list[float], status: str = "finished", **kwargs: Any
) -> TrialRecord:
    loss = trial_id.rsplit("-", 1)[0]
    zeros = dict.fromkeys(EPOCH_COLUMNS[3:], 0.5)
    epochs = [{"epoch": i, **zeros, "val_map": m} for i, m in enumerate(maps, 1)]
    return TrialRecord(trial_id, REFERENCES[loss], epochs, status, **kwargs)


@pytest.fixture
def study(tmp_path: Path) -> Study:
    checkpoint = tmp_path / "study" / "tune" / "smooth_ap-001" / "checkpoint.pt"
    study = Study.create(tmp_path / "study", dict(INFO))
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_text("weights")
    study.trials += [
        record("smooth_ap-000", [0.5, 0.6, 0.55]),
        record("triplet-000", [0.4]),
        record("smooth_ap-001", [0.2, 0.7], checkpoint=str(checkpoint)),
        record("smooth_ap-002", [0.9], "diverged", cause="nan"),
        record("triplet-001", [0.95, 0.96], "failed", cause="killed"),
        record("triplet-002", [], "failed", cause="killed"),
    ]
    for trial in study.trials:
        study.write_trial(trial)
    study.write()
    return study


def test_a_study_comes_back_as_it_was_written(study: Study) -> None:
    loaded = Study.load(study.folder)
    assert loaded.info == study.info
    by_id = {trial.trial_id: trial for trial in loaded.trials}
    assert by_id == {trial.trial_id: trial for trial in study.trials}


def test_the_best_is_the_best_epoch_of_a_sound_trial(study: Study) -> None:
    best = study.best()
    assert (best["smooth_ap"].trial_id, best["smooth_ap"].val_map) == ("smooth_ap-001", 0.7)
    assert best["smooth_ap"].epoch == 2
    assert (best["triplet"].trial_id, best["triplet"].val_map) == ("triplet-000", 0.4)
    assert study.trials[0].best["epoch"] == 2  # not the last
    assert record("triplet-000", [0.5, 0.5]).best["epoch"] == 2  # of equal ones the latest


def test_the_tables_on_disk(study: Study) -> None:
    trials = pd.read_csv(study.folder / "trials.csv")
    assert len(trials) == 6
    assert {"trial_id", "loss", "status", "epochs", "best_epoch", "best_val_map", "seconds"} <= set(
        trials.columns
    )
    assert {"lr", "tau", "margin", "batch_size", "max_epochs"} <= set(trials.columns)
    row = trials.set_index("trial_id").loc["smooth_ap-000"]
    assert (row["epochs"], row["best_epoch"], row["best_val_map"], row["seconds"]) == (
        3,
        2,
        0.6,
        1.5,
    )
    epochs = pd.read_csv(study.folder / "epochs.csv")
    assert list(epochs.columns) == EPOCH_COLUMNS
    assert len(epochs) == 3 + 1 + 2 + 1 + 2
    best = json.loads((study.folder / "best.json").read_text())
    assert best["smooth_ap"]["config"] == REFERENCES["smooth_ap"].to_dict()
    assert Path(best["smooth_ap"]["checkpoint"]).read_text() == "weights"


def test_a_moved_study_finds_its_checkpoints(study: Study, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / "copy"
    shutil.move(study.folder, moved)
    checkpoint = Study.load(moved).best()["smooth_ap"].checkpoint
    assert checkpoint == moved / "tune" / "smooth_ap-001" / "checkpoint.pt"


def test_a_copied_study_has_its_own_files_and_never_the_originals(
    study: Study, tmp_path: Path
) -> None:
    copy = tmp_path / "elsewhere" / "copy"
    shutil.copytree(study.folder, copy)
    own = copy / "tune" / "smooth_ap-001" / "checkpoint.pt"
    own.write_text("damaged")
    assert Study.load(copy).best()["smooth_ap"].checkpoint == own
    own.unlink()
    assert Study.load(copy).best()["smooth_ap"].checkpoint == own  # which is missed, and named


def test_records_name_files_as_seen_from_the_study(study: Study, tmp_path: Path) -> None:
    """The last of an audit lie in the study that holds it; what lies elsewhere is absolute."""
    audit = Study.create(study.folder / "audit", dict(INFO))
    trial = record("triplet-000", [0.4])
    trial.checkpoint = str(audit.folder / "tune" / "01" / "a.pt")
    trial.last_checkpoint = str(study.folder / "tune" / "01" / "b.pt")
    trial.logs = "/elsewhere/logs"
    audit.write_trial(trial)
    written = json.loads((audit.folder / "trials" / "triplet-000.json").read_text())
    places = [written[name] for name in ("checkpoint", "last_checkpoint", "logs")]
    assert places == ["tune/01/a.pt", "../tune/01/b.pt", "/elsewhere/logs"]
    assert Study.load(audit.folder).trials == [trial]
    shutil.move(study.folder, tmp_path / "moved")
    (moved,) = Study.load(tmp_path / "moved" / "audit").trials
    assert moved.checkpoint == str(tmp_path / "moved" / "audit" / "tune" / "01" / "a.pt")
    assert moved.last_checkpoint == str(tmp_path / "moved" / "tune" / "01" / "b.pt")


@pytest.mark.parametrize(
    "name",
    ["._smooth_ap-000.json", ".smooth_ap-000.json", "smooth_ap-000 2.json", "#triplet-000.json",
     "smooth_ap-000.json~", "notes.json", ".smooth_ap-000.json.partial"],
)  # fmt: skip
def test_what_others_leave_beside_the_records_is_none(study: Study, name: str) -> None:
    (study.folder / "trials" / name).write_bytes(b"\x00\x05\x16\x07 not JSON")
    assert len(Study.load(study.folder).trials) == 6


def test_a_study_that_runs_can_be_read_at_any_moment(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = studies.read_trial

    def while_a_trial_starts(path: Path) -> TrialRecord:
        if len(study.trials) == 6:
            study.trials.append(record("smooth_ap-003", [0.1], "running"))
            study.write_trial(study.trials[-1])
            study.write()
        return read(path)

    monkeypatch.setattr(studies, "read_trial", while_a_trial_starts)
    assert len(Study.load(study.folder).trials) == 6
    assert len(Study.load(study.folder).trials) == 7


def test_counts_by_status(study: Study) -> None:
    assert study.counts() == {"finished": 3, "diverged": 1, "failed": 2}


def test_a_folder_without_a_study_is_named(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=f"{tmp_path} is not a study"):
        Study.load(tmp_path)


def test_a_second_study_does_not_overwrite_the_first(study: Study) -> None:
    with pytest.raises(StudyError, match="already holds a study"):
        Study.create(study.folder, dict(INFO))


@pytest.mark.parametrize("name", ["study.json", "trials/smooth_ap-000.json"])
def test_a_truncated_file_is_named(study: Study, name: str) -> None:
    path = study.folder / name
    path.write_text(path.read_text()[:40])
    with pytest.raises(StudyError, match=rf"{name} cannot be read"):
        Study.load(study.folder)


def test_a_study_in_few_files_is_the_same(study: Study, tmp_path: Path) -> None:
    few = Study(tmp_path / "few", study.info, study.trials)
    few.write_together()
    assert not (few.folder / "trials").exists()
    there, here = Study.load(few.folder), Study.load(study.folder)
    assert [trial.to_dict() for trial in there.trials] == [trial.to_dict() for trial in here.trials]
    pd.testing.assert_frame_equal(there.epochs_frame(), here.epochs_frame())
    # A trial that has a file of its own since, as after a study went on, is what that says.
    (few.folder / "trials").mkdir()
    later = dataclasses.replace(there.trials[0], cause="later")
    there.write_trial(later)
    causes = [trial.cause for trial in Study.load(few.folder).trials]
    assert causes == ["later", *(trial.cause for trial in there.trials[1:])]


@pytest.mark.parametrize(
    ("damage", "law"),
    [
        (lambda text: text[:-40], r"trials\.jsonl cannot be read"),
        (lambda text: text.rpartition('{"trial_id')[0], r"record \S+ is missing"),
        (lambda text: text + "{}\n", r"trials\.jsonl is not the record of a trial"),
        (lambda text: text + "[]\n", r"trials\.jsonl is not the record of a trial"),
    ],
)
def test_damage_to_the_one_file_is_named(
    study: Study, tmp_path: Path, damage: Callable[[str], str], law: str
) -> None:
    few = Study(tmp_path / "few", study.info, study.trials)
    few.write_together()
    path = few.folder / "trials.jsonl"
    path.write_text(damage(path.read_text()))
    with pytest.raises(StudyError, match=law):
        Study.load(few.folder)


def test_a_foreign_record_is_named(study: Study) -> None:
    path = study.folder / "trials" / "smooth_ap-000.json"
    path.write_text("{}")
    with pytest.raises(StudyError, match=r"smooth_ap-000\.json is not the record of a trial"):
        Study.load(study.folder)


def scored(
    trial_id: str, epochs: list[tuple[float, float]], metric: str, **more: Any
) -> TrialRecord:
    """A trial of these mAPs and R@1s."""
    made = record(trial_id, [val_map for val_map, _ in epochs], **more)
    for row, (_, recall) in zip(made.epochs, epochs, strict=True):
        row["val_recall_at_1"] = recall
    made.metric = metric
    return made


@pytest.mark.parametrize(
    ("select_by", "trial_id", "epoch", "val_map", "score"),
    [
        ("map", "smooth_ap-000", 2, 0.8, 0.8),
        ("recall_at_1", "smooth_ap-001", 3, 0.3, 0.9),
    ],
)
def test_the_best_is_by_the_metric_of_the_study(
    select_by: str, trial_id: str, epoch: int, val_map: float, score: float, tmp_path: Path
) -> None:
    """A trial's best epoch, the best trial, and what is kept of both."""
    plan = {"losses": ["smooth_ap"], "select_by": select_by}
    study = Study.create(tmp_path / "s", {"plan": plan, "status": "finished"})
    metric = f"val_{select_by}"
    assert study.metric == metric
    study.trials += [
        scored("smooth_ap-000", [(0.5, 0.6), (0.8, 0.5)], metric),
        scored("smooth_ap-001", [(0.4, 0.7), (0.6, 0.8), (0.3, 0.9)], metric),
        scored("smooth_ap-002", [(0.9, 0.95)], metric, status="diverged", cause="nan"),
    ]
    for trial in study.trials:
        study.write_trial(trial)
    study.write()
    loaded = Study.load(study.folder)
    assert loaded.trials == study.trials
    for one in (study, loaded):
        choice = one.best()["smooth_ap"]
        assert (choice.trial_id, choice.epoch) == (trial_id, epoch)
        assert (choice.val_map, choice.score) == (val_map, score)
    best = json.loads((study.folder / "best.json").read_text())["smooth_ap"]
    assert (best["val_map"], best["score"], best["epoch"]) == (val_map, score, epoch)
    row = pd.read_csv(study.folder / "trials.csv").set_index("trial_id").loc[trial_id]
    assert (row["best_epoch"], row["best_val_map"]) == (epoch, val_map)
    assert row[f"best_{metric}"] == score
    assert ("best_val_recall_at_1" in row.index) == (select_by == "recall_at_1")


def test_the_best_epochs_checkpoint_is_by_the_metric() -> None:
    trial = scored("smooth_ap-000", [(0.5, 0.6)], "val_recall_at_1")
    trial.add_checkpoint("first")
    trial.epochs += [{**trial.epochs[0], "epoch": 2, "val_map": 0.9, "val_recall_at_1": 0.5}]
    trial.add_checkpoint("second")
    assert (trial.checkpoint, trial.last_checkpoint) == ("first", "second")
    assert trial.score == 0.6


def test_a_record_from_before_there_were_other_metrics_is_read(study: Study) -> None:
    path = study.folder / "trials" / "smooth_ap-000.json"
    old = json.loads(path.read_text())
    del old["metric"]
    for row in old["epochs"]:
        for name in METRICS:
            if name != "map":
                del row[f"val_{name}"]
    path.write_text(json.dumps(old))
    trial = next(one for one in Study.load(study.folder).trials if one.trial_id == "smooth_ap-000")
    assert trial.score == 0.6 and set(trial.epochs[0]) == {*old["epochs"][0]}


@pytest.mark.parametrize(("value", "law"), [(None, "is not the record"), (float("nan"), "finite")])
def test_an_epoch_without_the_metric_that_chooses_is_named(
    study: Study, value: float | None, law: str
) -> None:
    path = study.folder / "trials" / "smooth_ap-000.json"
    old = json.loads(path.read_text())
    old["metric"] = "val_map_at_r"
    del old["epochs"][0]["val_map_at_r"]
    if value is not None:
        old["epochs"][0]["val_map_at_r"] = value
    path.write_text(json.dumps(old))
    with pytest.raises(StudyError, match=rf"{path.name}.*{law}"):
        Study.load(study.folder)


def climb(study: Study, number: int, epochs: float, score: float, **more: Any) -> TrialRecord:
    """A trial of Smooth-AP of so many epochs, judged at its end, is added to a study."""
    trial = record(f"smooth_ap-{number:03d}", [score])
    trial.config = trial.config.replace(epochs=epochs, seed=more.pop("seed", 0))
    trial.epochs[0]["epoch"] = epochs
    for name, value in more.items():
        setattr(trial, name, value)
    study.trials.append(trial)
    return trial


@pytest.fixture
def climbed(tmp_path: Path) -> Study:
    """Two of three configurations went on to an epoch, one from there to three."""
    plan = {"losses": ["smooth_ap", "triplet"]}
    study = Study.create(tmp_path / "climbed", {"plan": plan, "status": "finished"})
    climb(study, 0, 0.3333, 0.6, origin=HAND_SET)
    climb(study, 1, 0.3333, 0.9, origin="quasi-random", knobs={"lr_factor": 0.5})
    climb(study, 2, 0.3333, 0.5, origin="nearby", status="diverged", cause="nan")
    climb(study, 3, 1, 0.7, origin=PROMOTION, follows="smooth_ap-001")
    climb(study, 4, 1, 0.8, origin=PROMOTION, follows="smooth_ap-000")
    climb(study, 5, 3, 0.65, origin=PROMOTION, follows="smooth_ap-004")
    return study


def test_before_the_finals_the_highest_value_of_the_most_epochs_is_the_best(
    climbed: Study,
) -> None:
    assert climbed.finals("smooth_ap") == {}
    best = climbed.best()
    assert set(best) == {"smooth_ap"}  # of the other loss there is no trial
    assert (best["smooth_ap"].trial_id, best["smooth_ap"].score) == ("smooth_ap-005", 0.65)
    climb(climbed, 6, 3, 0.7, origin=PROMOTION, follows="smooth_ap-003")
    assert climbed.best()["smooth_ap"].trial_id == "smooth_ap-006"
    climbed.trials[-1].status = "failed"
    assert climbed.best()["smooth_ap"].trial_id == "smooth_ap-005"
    assert climbed.best()["smooth_ap"].seeds == 1


def test_what_has_only_begun_to_be_longer_is_not_yet_the_better_for_it(climbed: Study) -> None:
    climb(climbed, 6, 9, 0.4, origin=PROMOTION, follows="smooth_ap-005", status="running")
    assert climbed.best()["smooth_ap"].trial_id == "smooth_ap-005"
    climbed.trials[-1].status = "finished"
    assert climbed.best()["smooth_ap"].trial_id == "smooth_ap-006"


def test_fresh_seeds_choose_by_their_mean(climbed: Study) -> None:
    """The highest value of one seed chooses nothing, nor does one whose other run failed."""
    finals = [
        ("smooth_ap-005", 1_001, 0.70), ("smooth_ap-005", 1_000, 0.80),
        ("smooth_ap-003", 1_000, 0.60), ("smooth_ap-003", 1_001, 0.85),
        ("smooth_ap-000", 1_000, 0.95), ("smooth_ap-000", 1_001, 0.99),
    ]  # fmt: skip
    for number, (follows, seed, score) in enumerate(finals, start=6):
        climb(climbed, number, 9, score, seed=seed, origin=SELECTION, follows=follows)
    climbed.trials[-1].status = "diverged"
    found = climbed.finals("smooth_ap")
    assert {name: [t.number for t in runs] for name, runs in found.items()} == {
        "smooth_ap-005": [7, 6],  # by their seeds
        "smooth_ap-003": [8, 9],
        "smooth_ap-000": [10],
    }
    for trial in climbed.trials:
        climbed.write_trial(trial)
    climbed.write()
    for study in (climbed, Study.load(climbed.folder)):
        choice = study.best()["smooth_ap"]
        assert (choice.trial_id, choice.seeds, choice.epoch) == ("smooth_ap-007", 2, 9)
        assert choice.score == choice.val_map == pytest.approx(0.75)
        assert choice.config == climbed.trials[7].config and choice.config.seed == 1_000
        assert study.root(study.trials[7]).trial_id == "smooth_ap-000"
    written = json.loads((climbed.folder / "best.json").read_text())["smooth_ap"]
    assert (written["trial_id"], written["seeds"], written["score"]) == (
        "smooth_ap-007", 2, pytest.approx(0.75),
    )  # fmt: skip
    climbed.trials[-1].status = "finished"
    assert climbed.best()["smooth_ap"].score == pytest.approx(0.97)


def test_the_table_says_where_a_trial_came_from_and_how_long_it_was(climbed: Study) -> None:
    climbed.trials[3].status, climbed.trials[3].epochs = "running", []
    climbed.write()
    table = pd.read_csv(climbed.folder / "trials.csv").set_index("trial_id")
    assert table["origin"].tolist() == [
        HAND_SET, "quasi-random", "nearby", PROMOTION, PROMOTION, PROMOTION,
    ]  # fmt: skip
    assert table["follows"].fillna("").tolist() == [
        "", "", "", "smooth_ap-001", "smooth_ap-000", "smooth_ap-004",
    ]  # fmt: skip
    assert table["epochs"].tolist() == [0.3333, 0.3333, 0.3333, 0, 1, 3]
    assert table["max_epochs"].tolist() == [0.3333, 0.3333, 0.3333, 1, 1, 3]
    assert pd.read_csv(climbed.folder / "epochs.csv")["epoch"].tolist() == [*3 * [0.3333], 1, 3]


@pytest.mark.parametrize(
    ("status", "has_ended", "is_sound"),
    [
        ("running", False, False),
        ("interrupted", False, False),
        ("finished", True, True),
        ("diverged", True, False),
        ("failed", True, False),
    ],
)
def test_how_a_trial_ended(status: str, has_ended: bool, is_sound: bool) -> None:
    trial = record("triplet-000", [0.5, 0.4], status)
    assert (trial.has_ended, trial.is_sound, trial.reached) == (has_ended, is_sound, 2)
    none = record("triplet-000", [], status)
    assert (none.has_ended, none.is_sound, none.reached) == (has_ended, False, 0)


def test_a_configuration_began_with_the_first_of_those_that_follow_it(climbed: Study) -> None:
    roots = [climbed.root(trial).number for trial in climbed.trials]
    assert roots == [0, 1, 2, 1, 0, 0]


def test_a_study_of_a_loss_with_a_dot_in_its_file_is_read(tmp_path: Path) -> None:
    """`pml:SupConLoss` is `pml.SupConLoss-000.json`."""
    made = Study.create(tmp_path / "s", {"status": "x", "plan": {"losses": ["pml:SupConLoss"]}})
    config = TrialConfig(loss="pml:SupConLoss", optimizer="adam", lr=1e-3)
    made.trials.append(TrialRecord(trial_name("pml:SupConLoss", 0), config))
    made.write_trial(made.trials[0])
    made.write()
    assert Study.load(made.folder).trials == made.trials


def test_the_parts_of_a_comparison_are_none_themselves(tmp_path: Path) -> None:
    """They have its plan: its further searches, what confirms its choices, an audit."""
    plan = {"plan": {"confirm_seeds": 5}}
    whole = Study(tmp_path / "x", plan, [])
    further = Study(tmp_path / "x" / "searches" / "02", plan, [])
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "study.json").touch()
    confirmation = Study(tmp_path / "x" / "confirmation", {**plan, "listed": True}, [])
    found = [is_comparison(study) for study in (whole, further, confirmation)]
    assert found == [True, False, False]
    assert not is_comparison(Study(tmp_path / "x", {"plan": {"confirm_seeds": 0}}, []))
    assert is_comparison(Study(tmp_path / "searches" / "mine", plan, []))  # a user's own name
    for part in (whole, further, confirmation):  # and no report reads the test images for one
        with pytest.raises(StudyError, match="is one, or a part of one"):
            may_test(part)
