"""How a run ends, of studies that the tests make; whole runs are in the tests of studies."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from study.results.files import StudyError
from study.results.images import DATA, dataset_of
from study.results.studies import Study
from study.results.trials import TrialRecord
from study.run.plan import Plan
from study.run.runner import _continued, _end, _network, _sizes, check_plan
from study.search.searches import Listed, Searches
from study.search.space import describe
from tests.configurations import REFERENCES
from trainables.data import Split


def trial(number: int, status: str, ended: float | None) -> TrialRecord:
    return TrialRecord(f"triplet-{number:03d}", REFERENCES["triplet"], status=status, ended=ended)


def ended(tmp_path: Path, *trials: TrialRecord, left: tuple[TrialRecord, ...] = ()) -> Study:
    info = {"schema": 1, "plan": {"losses": ["triplet"]}, "status": "running"}
    (tmp_path / "trials").mkdir()
    study = Study(tmp_path, info, list(trials))
    for each in trials:
        study.write_trial(each)
    _end(study, Listed(left, study.trials))
    return study


def test_what_had_not_ended_is_interrupted_and_so_is_the_study(tmp_path: Path) -> None:
    """Among it a failed trial that was to have a second chance."""
    waiting = trial(2, "failed", None)
    study = ended(tmp_path, trial(0, "failed", 9.0), trial(1, "running", None), waiting)
    assert study.info["status"] == "interrupted"
    written = Study.load(tmp_path).trials
    assert [t.status for t in written] == ["failed", "interrupted", "interrupted"]
    assert written == study.trials


def test_a_study_whose_trials_have_all_ended_is_finished(tmp_path: Path) -> None:
    study = ended(tmp_path, trial(0, "failed", 9.0), trial(1, "finished", 9.0))
    assert study.info["status"] == "finished"


def test_a_study_with_trials_to_come_is_not(tmp_path: Path) -> None:
    to_come = (trial(1, "running", None),)
    study = ended(tmp_path, trial(0, "finished", 9.0), left=to_come)
    assert study.info["status"] == "interrupted"
    assert [one.trial_id for one in study.trials] == ["triplet-000"]


def test_a_study_with_a_trial_to_promote_is_not_finished(tmp_path: Path) -> None:
    info = {"schema": 1, "plan": {"losses": ["triplet"]}, "status": "running"}
    study = Study.create(tmp_path / "s", info)
    plan: dict[str, Any] = {"configurations": 3, "rungs": (0.3333, 1), "seed": 0}
    searches = Searches(["triplet"], records=study.trials, **plan)
    for count, status in ((3, "interrupted"), (1, "finished")):
        for _ in range(count):
            record = searches.ask()
            assert record is not None
            record.add_epoch({"epoch": record.config.epochs, "val_map": 0.5, "seconds": 1.0})
            record.status, record.ended = "finished", 9.0
            study.write_trial(record)
        _end(study, searches)
        assert study.info["status"] == Study.load(study.folder).info["status"] == status


def test_a_range_of_one_of_two_losses_with_a_knob_of_one_name_continues_no_other(
    tmp_path: Path,
) -> None:
    """Triplet's margin and ArcFace's are two rows of the space; ArcFace's was another range."""
    plan = Plan(losses=["triplet", "pml:ArcFaceLoss"], num_samples=1, max_epochs=1)
    space, dataset = plan.space(), dataset_of(plan.fields())
    rows = describe(plan.losses, space)
    assert sum(row["knob"] == "margin" for row in rows) == 2
    study = Study.create(tmp_path / "s", {"plan": plan.fields(), "space": rows, "status": "x"})
    (study.folder / DATA).write_text(json.dumps(dataset.about()))
    assert _continued(plan, study.folder, space, dataset, False).folder == study.folder
    for row in rows:
        if row["knob"] == "margin" and "ArcFace" in row["used by"]:
            row["range"] = "1 to 2 (log)"
    study.write()
    with pytest.raises(StudyError, match=r"the search space differs in margin$"):
        _continued(plan, study.folder, space, dataset, False)


@pytest.fixture
def begun(tmp_path: Path) -> tuple[Plan, Study, Any, Any]:
    plan = Plan(losses=["triplet"], num_samples=1, max_epochs=1)
    space, dataset = plan.space(), dataset_of(plan.fields())
    info = {"plan": plan.fields(), "space": describe(plan.losses, space), "status": "x"}
    study = Study.create(tmp_path / "s", info)
    study.trials.append(trial(0, "finished", 1.0))
    study.write_trial(study.trials[0])
    study.write()
    (study.folder / DATA).write_text(json.dumps(dataset.about()))
    return plan, study, space, dataset


@pytest.mark.parametrize(("listed", "of"), [(True, "given trials"), (False, "a search")])
def test_a_study_is_continued_by_the_kind_of_program_that_began_it(
    listed: bool, of: str, begun: tuple[Plan, Study, Any, Any]
) -> None:
    plan, study, space, dataset = begun
    study.info["listed"] = listed
    study.write()
    _continued(plan, study.folder, space, dataset, listed)
    with pytest.raises(StudyError, match=f"is of {of}.*, which another program of this folder"):
        _continued(plan, study.folder, space, dataset, not listed)


def test_a_search_whose_choices_are_frozen_is_over(begun: tuple[Plan, Study, Any, Any]) -> None:
    plan, study, space, dataset = begun
    (study.folder / "choices.json").write_text("{}")
    with pytest.raises(StudyError, match=r"frozen, so its search is over: compare_losses\.py goes"):
        _continued(plan, study.folder, space, dataset, False)


def test_what_a_folder_says_of_its_data_can_be_lost(begun: tuple[Plan, Study, Any, Any]) -> None:
    plan, study, space, dataset = begun
    (study.folder / DATA).unlink()
    _continued(plan, study.folder, space, dataset, False)
    assert json.loads((study.folder / DATA).read_text()) == dataset.about()
    (study.folder / DATA).unlink()
    other = dataclasses.replace(study.trials[0].config, data_fingerprint="0123")
    study.trials[0].config = other
    study.write_trial(study.trials[0])
    with pytest.raises(StudyError, match="is of other data: fashion_mnist 0123; got fashion_mnist"):
        _continued(plan, study.folder, space, dataset, False)
    assert not (study.folder / DATA).exists()


def test_what_is_trained_on_and_how_many_trials_run_is_said(small_split: Split) -> None:
    plan = Plan(losses=["triplet"], num_samples=1, max_epochs=1, gpus_per_trial=0.25)
    assert _sizes(small_split, 4, plan) == (
        "data: 640 images of 10 classes are trained on, 200 of 10 judge; "
        "trials: up to 4 at a time, each with 1 CPU and 0.25 GPUs"
    )


def test_another_content_of_a_file_that_a_plan_names_continues_no_study(tmp_path: Path) -> None:
    files = {"network": tmp_path / "net.py", "weights": tmp_path / "w.pt"}
    for path in files.values():
        path.write_text("one")
    plan = Plan(
        losses=["triplet"],
        num_samples=1,
        max_epochs=1,
        network=f"{files['network']}:small",
        weights=str(files["weights"]),
    )
    digests = {name: hashlib.sha256(b"one").hexdigest() for name in files}
    assert plan.digests() == digests
    study = Study.create(tmp_path / "s", {"plan": plan.fields(), "files": digests, "status": "x"})
    check_plan(plan, study)
    for name, path in files.items():
        path.write_text("two")
        old, new = (hashlib.sha256(text).hexdigest()[:12] for text in (b"one", b"two"))
        with pytest.raises(StudyError, match=f"of {name} must .*: SHA-256 {old}…; got {new}…$"):
            check_plan(plan, study)
        path.unlink()  # it is missed where it is read
        check_plan(plan, study)
        path.write_text("one")
    files["weights"].write_text("two")
    other = dataclasses.replace(plan, weights="none")  # another plan, not a changed file
    with pytest.raises(StudyError, match=r"weights was .*, is 'none'$"):
        check_plan(other, study)
    del study.info["files"]  # of before they were kept
    files["weights"].write_text("two")
    check_plan(plan, study)


NETWORK = """
from torch import nn

INPUT = {"height": 24, "width": 24, "resize": 28}


class Exact(nn.Module):
    def forward(self, images):
        assert images.shape[2:] == (24, 24), "24 pixels alone"
        return images.flatten(1)


def exact(channels: int) -> nn.Module:
    return Exact()
"""


def test_a_network_is_made_for_what_it_gets_not_for_the_pictures_around_it(
    tmp_path: Path, small_split: Split
) -> None:
    (tmp_path / "net.py").write_text(NETWORK)
    network = f"{tmp_path / 'net.py'}:exact"
    plan = Plan(losses=["triplet"], num_samples=1, max_epochs=1, network=network)
    assert _network(plan, small_split, 24).input.height == 24
    with pytest.raises(StudyError, match="24 pixels alone"):
        _network(plan, small_split, None)
    with pytest.raises(StudyError, match="image_size may not exceed the images' 28 pixels; got 32"):
        _network(plan, small_split, 32)
