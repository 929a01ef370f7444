"""Studies without Ray: records of trials, whose networks have random weights."""

from __future__ import annotations

import json
from pathlib import Path

from study.results.images import DATA
from study.results.studies import Study
from study.results.trials import TrialRecord
from study.search.space import WIDE, describe
from tests.configurations import LOSSES, REFERENCES
from tests.conftest import noise
from trainables.data import Split, resolve
from trainables.train import TrainingRun

VALIDATION, TEST = noise(60, seed=7), noise(90, seed=8)


INFO = {
    "status": "finished",
    "plan": {"losses": list(LOSSES), "num_samples": 2},
    "space": describe(LOSSES, WIDE),
    "command": "python study/tune_smoothap.py --name small",
    "commit": "abc1234",
    "started": 1_700_000_000.0,
    "ended": 1_700_000_600.0,
    "versions": {"torch": "2.15"},
    "machine": {"cpus": 2},
}


def trial(
    loss: str, number: int, maps: list[float], status: str = "finished", cause: str = ""
) -> TrialRecord:
    """A trial with these validation mAPs; its other numbers follow from the epoch."""
    epochs = [
        {
            "epoch": epoch,
            "train_loss": 1 / epoch,
            "val_loss": 1.5 / epoch,
            "val_map": value,
            "seconds": 2.0,
            "evaluation_seconds": 0.5,
            "images_per_second": 100.0,
            "time": 1_700_000_000.0 + 100 * number + 2.5 * epoch,
        }
        for epoch, value in enumerate(maps, start=1)
    ]
    seed = 10 * LOSSES.index(loss) + number  # no two trials start from the same weights
    config = REFERENCES[loss].replace(batch_size=16, epochs=4, seed=seed)
    record = TrialRecord(f"{loss}-{number:03}", config, epochs, status, cause)
    record.started = 1_700_000_000.0 + 100 * number
    record.ended = record.started + 2.5 * len(maps) + 1
    record.worker = f"host:{100 + LOSSES.index(loss)}"
    return record


def write_study(
    folder: Path,
    *trials: TrialRecord,
    status: str = "finished",
    losses: list[str] | None = None,
) -> Study:
    """Of these trials; those with an epoch get a checkpoint of random weights.

    Args:
        losses: that the study was asked to tune. Default: those of the trials.
    """
    plan = INFO["plan"] | {"losses": losses or sorted({trial.loss for trial in trials})}
    study = Study.create(folder, INFO | {"status": status, "plan": plan})
    if not (folder / DATA).exists():
        (folder / DATA).write_text(json.dumps(resolve("fashion_mnist").about()))
    for record in trials:
        if record.epochs:
            path = folder / "tune" / record.trial_id / "best.pt"
            path.parent.mkdir(parents=True)
            save_checkpoint(record, path)
            record.checkpoint = str(path)
        study.write_trial(record)
    return Study.load(folder)


def save_checkpoint(record: TrialRecord, path: Path) -> None:
    """The first weights of a trial's network, as if they were its best epoch's."""
    run = TrainingRun(record.config, Split(VALIDATION, VALIDATION))
    run.epoch = record.best["epoch"] if record.best else 0
    run.save(path)
