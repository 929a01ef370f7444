"""What the terminal shows, of studies that the tests make."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from study.run import progress
from study.run.progress import Progress, best_table, summarize
from study.run.results import Study, TrialRecord
from study.search.ladder import Cost
from tests.configurations import REFERENCES


def trial(number: int, status: str, val_map: float) -> TrialRecord:
    record = TrialRecord(f"triplet-{number:03d}", REFERENCES["triplet"], status=status)
    record.add_epoch({"epoch": 1, "val_map": val_map, "seconds": 1.0})
    return record


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """The trials that ended by a fault had the highest mAP."""
    trials = [
        trial(0, "finished", 0.5),
        trial(1, "diverged", 0.9),
        trial(2, "stopped_early", 0.4),
        trial(3, "failed", 0.8),
    ]
    return Study(tmp_path, {"plan": {"losses": ["triplet"]}, "status": "interrupted"}, trials)


def test_only_sound_trials_are_shown_as_the_best(study: Study) -> None:
    shown = [line.split()[0] for line in best_table(study).splitlines()[1:]]
    assert shown == ["triplet-000", "triplet-002"]


def test_an_interrupted_study_has_the_exit_code_of_ctrl_c(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    assert summarize(study, 1.0) == 130
    output = capsys.readouterr().out
    assert "triplet: validation mAP 0.5000 (triplet-000, epoch 1)" in output
    assert "The study is interrupted (1 finished, 1 stopped early, 1 diverged, 1 failed)" in output


def test_the_next_command_is_told_where_the_data_is(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    study.info["status"] = "finished"
    assert summarize(study, 1.0, "/my data") == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("Next:  ")
    assert last.endswith(f"analysis/report.py {study.folder} --data-dir '/my data'")


def test_a_study_that_waits_says_for_what(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    shown = Progress(study, Cost(9, 9), 2, lambda: "it waits for 1 CPU", lines.append)
    monkeypatch.setattr(progress, "STATUS_EVERY", math.inf)
    shown.look(0, 2)
    assert not lines
    monkeypatch.setattr(progress, "STATUS_EVERY", 0.0)
    shown.look(1, 1)
    assert len(lines) == 1
    assert "4 of about 9 trials ended" in lines[0]
    shown.look(0, 2)
    assert len(lines) == 3
    assert lines[2] == "  no trial runs yet: it waits for 1 CPU"
