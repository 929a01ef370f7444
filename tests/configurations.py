"""The losses that the project has files of, and the seed study's configuration of those it had; a
whole study whose values are made up."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from study.results.studies import Study
from study.results.trials import TrialRecord
from study.search.searches import Searches
from trainables.config import TrialConfig, reference

LOSSES = ("cross_entropy", "normalized_softmax", "triplet", "smooth_ap")
REFERENCES: dict[str, TrialConfig] = {
    loss: found for loss in LOSSES if (found := reference(loss)) is not None
}


def made_up(
    folder: Path,
    *losses: str,
    configurations: int = 81,
    rungs: tuple[float, ...] = (0.1111, 0.3333, 1, 3, 9),
    finals: int = 2,
) -> Study:
    """A finished study, one trial at a time: the learning rate decides most, length and luck the
    rest, and a trial takes 10 s an epoch."""
    trials: list[TrialRecord] = []
    searches = Searches(
        losses, configurations=configurations, rungs=rungs, seed=0, finals=finals, records=trials
    )
    now = 1_700_000_000.0
    while (record := searches.ask()) is not None:
        record.started, record.worker = now, "host:1"
        length, away = record.config.epochs, math.log(record.knobs["lr_factor"] / 0.7)
        luck = np.random.default_rng([record.number, record.config.seed]).normal(0, 0.004)
        for epoch in range(1, math.ceil(length) + 1):
            share = epoch / math.ceil(length)
            now += 10 * length * share / epoch
            score = 0.88 - 0.06 * away**2 - 0.12 / (1 + 3 * length) + luck - 0.1 * (1 - share)
            row = {"epoch": length * share if length < 1 else epoch, "seconds": 10 * length}
            row["seconds"] /= math.ceil(length)
            row |= {"val_map": max(score, 0.1), "train_loss": 1 - score, "val_loss": 1.1 - score}
            record.add_epoch({**row, "evaluation_seconds": 0.1, "images_per_second": 5_400.0})
            record.epochs[-1]["time"] = now
        record.status, record.ended = "finished", now
        searches.tell(record)
    plan = {"losses": list(losses), "num_samples": configurations, "cpus_per_trial": 1}
    return Study(folder, {"status": "finished", "plan": plan}, trials)
