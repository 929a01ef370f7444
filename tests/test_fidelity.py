"""A run judged within an epoch: where it stands, and that judging and resuming there change
nothing."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from trainables.config import TrialConfig
from trainables.data import Split
from trainables.train import TrainingRun

STEPS = 640 // 64  # an epoch


def config(**changes: object) -> TrialConfig:
    fields = {"batch_size": 64, "epochs": 2, "flip": True, "shift": 1, "schedule": "cosine"}
    return TrialConfig(
        **{"loss": "smooth_ap", "optimizer": "adam", "lr": 3e-3, **fields, **changes}  # type: ignore[arg-type]
    )


def weights(run: TrainingRun) -> torch.Tensor:
    return torch.cat([weight.detach().flatten() for weight in run.learner.parameters()])


@pytest.mark.parametrize(
    ("epoch", "steps"), [(2, 20), (1, 10), (1 / 3, 3), (0.25, 2), (0.01, 1), (1.36, 14)]
)
def test_a_run_is_judged_after_whole_steps(epoch: float, steps: int, small_split: Split) -> None:
    run = TrainingRun(config(), small_split)
    assert run.train_until(epoch).epoch == epoch
    assert (run.step, run.steps) == (steps, 2 * STEPS)


def test_a_run_is_judged_where_it_is_asked_to_be(small_split: Split) -> None:
    run = TrainingRun(config(), small_split)
    metrics = run.train_until(1 / 3)
    assert (metrics.epoch, run.step) == (1 / 3, 3)
    assert [(m.epoch, run.step) for m in run] == [(1, STEPS), (2, 2 * STEPS)]


@pytest.mark.parametrize("averaging", [0.0, 0.9])
def test_to_be_judged_within_an_epoch_changes_no_number(
    averaging: float, small_split: Split
) -> None:
    plain, judged = (TrainingRun(config(averaging=averaging), small_split) for _ in range(2))
    for level in (0.1, 1 / 3, 1, 1.7):
        judged.train_until(level)
    ends = [[m.val_map for m in run][-1] for run in (plain, judged)]
    assert ends[0] == ends[1]
    assert torch.equal(weights(plain), weights(judged))


@pytest.mark.parametrize("level", [0.3, 1.0, 1.5])
@pytest.mark.parametrize("averaging", [0.0, 0.9])
def test_a_run_that_goes_on_from_within_an_epoch_repeats_itself(
    level: float, averaging: float, small_split: Split, tmp_path: Path
) -> None:
    whole, first, second = (TrainingRun(config(averaging=averaging), small_split) for _ in range(3))
    for run in (whole, first):
        run.train_until(level)
    first.save(tmp_path / "c.pt")
    second.load(tmp_path / "c.pt")
    assert (second.epoch, second.step) == (level, whole.step)
    assert [m.val_map for m in whole] == [m.val_map for m in second]
    assert torch.equal(weights(whole), weights(second))


@pytest.mark.parametrize("epoch", [0.0, 0.5, 2.5])
def test_a_run_does_not_go_back_nor_beyond_its_end(epoch: float, small_split: Split) -> None:
    run = TrainingRun(config(), small_split)
    run.train_until(0.5)
    with pytest.raises(ValueError, match=r"has had 0.5 of 2 epochs goes on to one between; got"):
        run.train_until(epoch)


@pytest.mark.parametrize(
    ("epochs", "judged", "steps"),
    [
        (0.3333, [0.3333], 3),
        (0.01, [0.01], 1),  # at least one step
        (0.7, [0.7], 7),
        (1, [1], 10),
        (1.04, [1.04], 10),  # no step lies between 1 and this
        (1.36, [1, 1.36], 14),
        (2.5, [1, 2, 2.5], 25),
    ],
)
@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_a_run_of_any_length_is_whole(
    epochs: float, judged: list[float], steps: int, schedule: str, small_split: Split
) -> None:
    """Its schedule is of so many steps, as that of a run of whole epochs is; it is judged at its
    end, and after each epoch before it."""
    run = TrainingRun(config(epochs=epochs, schedule=schedule, warmup=0.0), small_split)
    rates: list[float] = []

    def note(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        rates.append(optimizer.param_groups[0]["lr"])

    run.optimizer.register_step_pre_hook(note)
    found = list(run)
    assert [metrics.epoch for metrics in found] == judged
    assert run.step == run.steps == len(rates) == steps
    falling = [3e-3 * (1 + math.cos(math.pi * n / steps)) / 2 for n in range(steps)]
    assert rates == pytest.approx(falling if schedule == "cosine" else [3e-3] * steps)


def test_a_run_of_a_part_of_an_epoch_is_the_beginning_of_a_longer_one(small_split: Split) -> None:
    """If the learning rate stays: the images come in the same order."""
    short, longer = (
        TrainingRun(config(epochs=epochs, schedule="constant"), small_split) for epochs in (0.3, 2)
    )
    assert list(short)[-1].val_map == longer.train_until(0.3).val_map
    assert torch.equal(weights(short), weights(longer))


@pytest.mark.parametrize("epochs", [0.3333, 1.36])
def test_a_run_of_any_length_goes_on_from_its_checkpoint(
    epochs: float, small_split: Split, tmp_path: Path
) -> None:
    whole, first, second = (TrainingRun(config(epochs=epochs), small_split) for _ in range(3))
    expected = [metrics.val_map for metrics in whole]
    done = [first.train_epoch().val_map]
    first.save(tmp_path / "c.pt")
    second.load(tmp_path / "c.pt")
    assert done + [metrics.val_map for metrics in second] == expected
    assert second.epoch == epochs
    assert torch.equal(weights(whole), weights(second))
