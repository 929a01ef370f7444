"""What the terminal shows, of studies that the tests make."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from study.judge.summary import best_table, summarize
from study.results.studies import Study
from study.results.trials import HAND_SET, PROMOTION, SELECTION, TrialRecord
from study.run import progress
from study.run.progress import Progress, trial_line
from study.search.ladder import Cost
from tests.configurations import REFERENCES


def trial(number: int, status: str, val_map: float) -> TrialRecord:
    record = TrialRecord(f"triplet-{number:03d}", REFERENCES["triplet"], status=status)
    seconds = {"seconds": 1.0, "evaluation_seconds": 0.25}
    record.add_epoch({"epoch": 1, "val_map": val_map, **seconds})
    return record


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """The trials that ended by a fault had the highest mAP."""
    trials = [
        trial(0, "finished", 0.5),
        trial(1, "diverged", 0.9),
        trial(2, "finished", 0.4),
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
    assert "The study is interrupted (2 finished, 1 diverged, 1 failed)" in output


def test_the_next_command_is_told_where_the_data_is(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    study.info["status"] = "finished"
    assert summarize(study, 1.0, "/my data") == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("Next:  ")
    assert last.endswith(f"analysis/report.py {study.folder} --data-dir '/my data'")


@pytest.mark.parametrize(("places", "left"), [(1, 81), (4, 20), (8, 10), (100, 10)])
def test_more_places_than_trials_are_no_help(places: int, left: int, tmp_path: Path) -> None:
    """Eight of nine trials are left, of nine epochs of a second each; judging an epoch took 1/9
    more. A hundred places take no less than eight."""
    done = TrialRecord("triplet-000", REFERENCES["triplet"], status="finished", ended=1.0)
    for epoch in range(1, 10):
        row = {"epoch": epoch, "val_map": 0.5, "seconds": 1.0 + (epoch == 9)}
        done.add_epoch(row | {"evaluation_seconds": float(epoch == 9)})
    study = Study(tmp_path, {"plan": {"losses": ["triplet"]}, "status": "running"}, [done])
    shown = Progress(study, Cost(9, 81.0, 9.0), places, lambda: "")
    assert f"about {progress.duration(left)} left" in shown.status_line()


def test_a_study_that_waits_says_for_what(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    shown = Progress(study, Cost(9, 9, 1.0), 2, lambda: "it waits for 1 CPU", lines.append)
    monkeypatch.setattr(progress, "STATUS_EVERY", math.inf)
    shown.look(0, 2)
    assert not lines
    monkeypatch.setattr(progress, "STATUS_EVERY", 0.0)
    shown.look(1, 1)
    assert len(lines) == 1
    assert "4 of about 9 trials ended" in lines[0]
    # Five epochs of 0.75 s, and ten times 0.25 s of judging, two at a time.
    assert lines[0].endswith("about 3 s left")
    shown.look(0, 2)
    assert len(lines) == 3
    assert lines[2] == "  no trial runs yet: it waits for 1 CPU"


def test_lines_of_the_study_are_five_seconds_apart(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first trial that ends has one, and each trial a line of its own."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    lines: list[str] = []
    shown = Progress(study, Cost(9, 9, 1.0), 2, write=lines.append)
    for now[0] in (101.0, 102.0, 105.9, 106.0, 110.0):
        shown(study.trials[0])
    of_the_study = [" of about 9 trials ended" in line for line in lines]
    assert of_the_study == [False, True, False, False, False, True, False]


@pytest.fixture
def climbed(study: Study) -> Study:
    """Of two configurations the defaults are worse, on one of two rungs and on two fresh seeds."""
    found: list[TrialRecord] = []
    for number, (epochs, seed, score, origin, follows) in enumerate(
        (
            (0.3333, 0, 0.9, HAND_SET, None),
            (0.3333, 0, 0.95, "quasi-random", None),
            (1, 0, 0.8, PROMOTION, "triplet-001"),
            *((9, 1_000 + n, 0.7 + 0.02 * n, SELECTION, "triplet-002") for n in range(2)),
            *((9, 1_000 + n, 0.6 + 0.03 * n, SELECTION, "triplet-000") for n in range(2)),
        )
    ):
        record = trial(number, "finished", score)
        record.config = record.config.replace(epochs=epochs, seed=seed)
        record.epochs[0]["epoch"] = epochs
        record.origin, record.follows = origin, follows
        found.append(record)
    study.trials[:], study.info["status"] = found, "finished"
    return study


def test_a_line_says_how_long_a_trial_was_and_what_it_goes_back_to(climbed: Study) -> None:
    lines = [" ".join(trial_line(climbed.trials[number]).split()) for number in (1, 2, 4)]
    assert lines == [
        "triplet-001 finished mAP 0.9500 at epoch 0.333 (0.333 epochs, 1 s)",
        "triplet-002 finished mAP 0.8000 at epoch 1 (1 epochs, after triplet-001, 1 s)",
        "triplet-004 finished mAP 0.7200 at epoch 9 (9 epochs, seed 1001 of triplet-002, 1 s)",
    ]


def test_the_longest_trials_are_the_best(climbed: Study) -> None:
    """However high the values of shorter ones."""
    shown = [line.split()[0] for line in best_table(climbed).splitlines()[1:]]
    assert shown == [f"triplet-{n:03d}" for n in (4, 3, 6, 5, 2, 1, 0)]


def test_what_came_of_a_study_is_the_mean_of_fresh_seeds_and_what_it_is_above(
    climbed: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    assert summarize(climbed, 1.0) == 0
    output = capsys.readouterr().out
    assert (
        "triplet: validation mAP 0.7100 (triplet-003, epoch 9, mean of 2 fresh seeds)\n" in output
    )
    # By each seed it is above the defaults, by 0.1 and 0.09.
    assert "  it is above the hand-set defaults: +0.0950 (95 % interval +0.0315 to " in output
