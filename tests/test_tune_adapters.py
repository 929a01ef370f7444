"""The search and the callbacks as Ray Tune calls them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ray.tune.experiment import Trial
from ray.tune.search import Searcher

from study.results.studies import Study
from study.results.trials import TrialRecord
from study.run.exchange import Exchange
from study.run.tune_adapters import Clock, Recorder, StudySearcher, View, loggers
from study.search.searches import Listed, Searches
from tests.configurations import REFERENCES


def recorder(folder: Path, **views: View) -> Recorder:
    """Of a study with one trial of one epoch."""
    plan = {"losses": ["triplet"]}
    study = Study.create(folder, {"plan": plan, "runs": 1, "started": 0.0})
    study.trials.append(TrialRecord("triplet-000", REFERENCES["triplet"], status="finished"))
    study.trials[0].add_epoch({"epoch": 1, "val_map": 0.5, "seconds": 1.0})
    return Recorder(study, Listed([], study.trials), Exchange(study), views)


def fail(*_: object) -> None:
    raise RuntimeError("it cannot be shown")


def test_a_view_that_fails_is_reported_once_and_stops_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[TrialRecord] = []
    made = recorder(tmp_path / "s", gauges=fail, others=seen.append)
    for _ in range(2):
        made.end(made.study.trials[0])
    assert seen == 2 * made.study.trials
    assert Study.load(tmp_path / "s").trials == made.study.trials
    cause = "gauges failed (RuntimeError: it cannot be shown)"
    assert capsys.readouterr().err == f"warning: {cause}; all else goes on\n"


def test_a_table_may_fail_while_a_study_runs_and_a_record_may_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = recorder(tmp_path / "s")
    (trial,) = made.study.trials
    full = tmp_path / "s" / ".trials.csv.partial"
    full.symlink_to("/dev/full")  # the system's own "No space left on device"
    for _ in range(2):
        made.due = 0.0
        made.end(trial)
    assert Study.load(tmp_path / "s").trials == [trial]
    (warning,) = capsys.readouterr().err.splitlines()
    assert "No space left on device" in warning
    with pytest.raises(OSError, match="No space"):
        made.study.write()  # as it is at the end
    full.unlink()
    (tmp_path / "s" / "trials" / ".triplet-000.json.partial").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space"):
        made.end(trial)


def test_tunes_loggers_stop_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    trial = Trial("RetrievalTrial", stub=True)  # has no folder to write to
    made = loggers()
    for logger in made:
        for _ in range(2):
            logger.on_trial_result(1, [trial], trial, {"val_map": 0.5})
    warnings = capsys.readouterr().err.splitlines()
    assert [line.split()[1] for line in warnings] == [type(logger).__name__ for logger in made]


def test_the_clock_tells_how_many_run_and_wait() -> None:
    seen: list[tuple[int, int]] = []
    trials = [Trial("RetrievalTrial", stub=True) for _ in range(4)]
    for trial, status in zip(trials, ("RUNNING", "PENDING", "PENDING", "ERROR"), strict=True):
        trial.status = status
    Clock(lambda *counts: seen.append(counts)).on_step_end(1, trials)
    assert seen == [(1, 2)]


def finish(record: TrialRecord, searches: Searches, score: float) -> None:
    record.add_epoch({"epoch": record.config.epochs, "val_map": score, "seconds": 1.0})
    record.status = "finished"
    searches.tell(record)


def test_tune_is_given_what_was_interrupted_then_what_comes_and_waits_for_what_runs(
    tmp_path: Path,
) -> None:
    """A rung's third trial decides who goes on: until it has ended there is nothing to ask for."""
    info = {"plan": {"losses": ["triplet"]}, "runs": 1, "started": 0.0}
    study = Study.create(tmp_path / "s", info)
    plan: dict[str, Any] = {"configurations": 3, "rungs": (0.3333, 1), "seed": 0}
    searches = Searches(["triplet"], records=study.trials, **plan)
    first = searches.ask()
    assert first is not None
    first.status = "interrupted"
    searcher = StudySearcher(searches, study, Exchange(study))
    given = [searcher.suggest(str(number)) for number in range(3)]
    assert [one["trial_id"] for one in given] == [f"triplet-{n:03d}" for n in range(3)]
    assert [one["epochs"] for one in given] == 3 * [0.3333]
    assert {trial.status for trial in Study.load(study.folder).trials} == {"running"}
    for number, trial in enumerate(list(study.trials)):
        assert searcher.suggest("3") is None  # as one runs, which may let another go on
        finish(trial, searches, number / 10)
    longer = searcher.suggest("3")
    assert (longer["trial_id"], longer["epochs"]) == ("triplet-003", 1)
    assert Study.load(study.folder).trials[3] == study.trials[3]
    assert study.trials[3].follows == "triplet-002"
    assert searcher.suggest("4") is None
    finish(study.trials[3], searches, 0.5)
    assert searcher.suggest("4") == Searcher.FINISHED
