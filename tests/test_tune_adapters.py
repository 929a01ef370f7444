"""The scheduler and the callbacks as Ray Tune calls them."""

from __future__ import annotations

from pathlib import Path

import pytest
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from study.run.exchange import Exchange
from study.run.results import Study, TrialRecord
from study.run.tune_adapters import Clock, HalvingByLoss, Recorder, View, loggers
from study.search.searches import Listed
from tests.configurations import REFERENCES


def asha() -> HalvingByLoss:
    return HalvingByLoss(("triplet", "smooth_ap"), max_epochs=9, grace_epochs=2, factor=3)


def added(scheduler: HalvingByLoss, loss: str, number: int) -> Trial:
    """A trial that the scheduler knows; Tune's own is not run."""
    config = {**REFERENCES[loss].to_dict(), "trial_id": f"{loss}-{number:03d}"}
    trial = Trial("RetrievalTrial", config=config, stub=True)
    scheduler.on_trial_add(None, trial)
    return trial


def decide(scheduler: HalvingByLoss, trial: Trial, epoch: int, val_map: float) -> str:
    return scheduler.on_trial_result(None, trial, {"epoch": epoch, "val_map": val_map})


def test_the_lower_of_a_rung_stop_and_losses_do_not_compete() -> None:
    scheduler = asha()
    trials = [added(scheduler, "triplet", n) for n in range(3)]
    found = [decide(scheduler, t, 2, v) for t, v in zip(trials, (0.8, 0.5, 0.9), strict=True)]
    assert found == [TrialScheduler.CONTINUE, TrialScheduler.STOP, TrialScheduler.CONTINUE]
    other = added(scheduler, "smooth_ap", 0)
    assert decide(scheduler, other, 2, 0.1) == TrialScheduler.CONTINUE
    assert scheduler.rungs()["triplet"][2] == {
        f"triplet-{n:03d}": v for n, v in enumerate((0.8, 0.5, 0.9))
    }


def test_an_epoch_that_is_repeated_after_a_fault_has_the_same_decision() -> None:
    scheduler = asha()
    for number in range(3):
        decide(scheduler, added(scheduler, "triplet", number), 2, 0.8 + number / 100)
    stopped = added(scheduler, "triplet", 3)
    assert decide(scheduler, stopped, 2, 0.1) == TrialScheduler.STOP
    assert decide(scheduler, stopped, 2, 0.1) == TrialScheduler.STOP


def test_the_lower_of_a_rung_are_so_by_the_metric_of_the_study() -> None:
    """mAP ranks the trials the other way round; a continued study fills its rungs by it too."""
    options = {"max_epochs": 9, "grace_epochs": 2, "factor": 3, "metric": "val_recall_at_1"}
    scheduler = HalvingByLoss(("triplet",), **options)
    assert scheduler.set_search_properties("val_recall_at_1", "max")
    assert not scheduler.set_search_properties("val_map", "max")
    rows = [
        {"epoch": 2, "val_map": 1 - recall, "val_recall_at_1": recall} for recall in (0.8, 0.5, 0.9)
    ]
    trials = [added(scheduler, "triplet", number) for number in range(3)]
    found = [
        scheduler.on_trial_result(None, trial, row) for trial, row in zip(trials, rows, strict=True)
    ]
    assert found == [TrialScheduler.CONTINUE, TrialScheduler.STOP, TrialScheduler.CONTINUE]
    records = [
        TrialRecord(f"triplet-{n:03d}", REFERENCES["triplet"], [{**row, "time": float(n)}])
        for n, row in enumerate(rows)
    ]
    continued = HalvingByLoss(("triplet",), **options, records=records)
    assert continued.rungs() == scheduler.rungs()
    assert [record.status for record in records] == ["running", "stopped_early", "running"]


def recorder(folder: Path, **views: View) -> Recorder:
    """Of a study with one trial of one epoch."""
    plan = {"losses": ["triplet"]}
    study = Study.create(folder, {"plan": plan, "runs": 1, "started": 0.0})
    study.trials.append(TrialRecord("triplet-000", REFERENCES["triplet"], status="finished"))
    study.trials[0].add_epoch({"epoch": 1, "val_map": 0.5, "seconds": 1.0})
    return Recorder(study, Listed([]), Exchange(study), views)


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
