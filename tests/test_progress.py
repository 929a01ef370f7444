"""What the terminal shows, of studies that the tests make."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from study.progress import best_table, going_on, summarize
from study.results import Study, TrialRecord
from trainables.config import REFERENCES


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


def test_the_command_to_go_on_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["study/x.py", "--anything"])
    found = going_on("--name", "a b", address="auto", data_dir="/data/fashion mnist")
    expected = "--name 'a b' --address auto --data-dir '/data/fashion mnist'"
    assert found == f"python study/x.py --resume {expected}"
    assert going_on("s", address=None, data_dir=None) == "python study/x.py --resume s"
