"""The scheduler as Ray Tune calls it."""

from __future__ import annotations

from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from study.tune_adapters import HalvingByLoss
from trainables.config import REFERENCES


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
