"""Which configuration is trained longer: successive halving by promotion, one ladder a loss.

A configuration rests at its rung, and goes on to the next when it is among the best third of those
that ended on its own (ASHA: Li et al., MLSys 2020). Of a number that is known beforehand all begin
first, and the lowest rung promotes first: so only the best third goes on, not what was among it
while few had ended, and yet no worker waits for the last one of a rung. Each rung is a run of
its own with a whole schedule, so that a rung shows what the configuration would give, were the run
so long. The best few of the ladder are then trained for all epochs on fresh seeds, which alone
choose between them: the highest of many values is high by luck too.

Everything here is a function of the trials' records, so that a study that is continued decides as
one that was not interrupted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from study.results.trials import SELECTION, TrialRecord
from trainables.knobs import shortened

FACTOR = 3
LEAST_IMAGES = 6_000  # that a trial of the lowest rung is trained on
FINALISTS = 3
FRESH = 1_000  # between the seed of a search and those of its finals


def rungs(max_epochs: float, images: int) -> tuple[float, ...]:
    """The epochs of each rung, the lowest first and `max_epochs` last, each a third of the next.

    Args:
        images: of an epoch; the lowest rung has LEAST_IMAGES of them, if all epochs together do.
    """
    most = math.log(max(max_epochs * images / LEAST_IMAGES, 1), FACTOR)
    found = [shortened(max_epochs / FACTOR**k) for k in range(math.floor(most + 1e-9), -1, -1)]
    return tuple(int(epochs) if epochs == int(epochs) else epochs for epochs in found)


def climbed(rungs: Sequence[float]) -> tuple[float, ...]:
    """The rungs of the search itself: the last one is for those on fresh seeds, if it is not the
    only one."""
    return tuple(rungs[:-1]) or tuple(rungs)


def promotable(trials: Sequence[TrialRecord], rungs: Sequence[float]) -> TrialRecord | None:
    """The trial of one loss that is to be trained for the next rung, from the lowest rung on which
    there is one; None if there is none."""
    gone = {trial.follows for trial in trials}
    for rung in rungs[:-1]:
        ended = ranked([trial for trial in trials if trial.config.epochs == rung])
        # What failed, by a fault of the machine, makes no room for what is not of the best third.
        own = sum(trial.status != "failed" for trial in ended)
        for trial in ended[: min(len(ended) // FACTOR, math.ceil(own / FACTOR))]:
            if trial.trial_id not in gone and trial.is_sound:
                return trial
    return None


def next_rung(trial: TrialRecord, rungs: Sequence[float]) -> float:
    """The epochs of the rung above a trial's own."""
    return min(rung for rung in rungs if rung > trial.config.epochs)


def ranked(trials: Sequence[TrialRecord]) -> list[TrialRecord]:
    """The trials that have ended, the best first, those that ended by a fault last."""
    ended = [trial for trial in trials if trial.has_ended]
    return sorted(ended, key=lambda t: (not t.is_sound, -t.score if t.is_sound else 0, t.number))


def finalists(trials: Sequence[TrialRecord]) -> list[TrialRecord]:
    """The best few of one loss's ladder, from the highest rungs down, each configuration once."""
    gone, found = set[str | None](), list[TrialRecord]()
    climbing = [trial for trial in trials if trial.origin != SELECTION]
    for rung in sorted({trial.config.epochs for trial in climbing}, reverse=True):
        for trial in ranked([t for t in climbing if t.config.epochs == rung]):
            if trial.is_sound and trial.trial_id not in gone and len(found) < FINALISTS:
                found.append(trial)
            gone.add(trial.follows)
    return found


class Cost(NamedTuple):
    """Of a search, or of more: how many trials, their epochs, and those of the longest."""

    trials: int
    epochs: float
    longest: float

    @classmethod
    def of(cls, trials: Sequence[TrialRecord]) -> Cost:
        epochs = [trial.config.epochs for trial in trials]
        return cls(len(trials), sum(epochs), max(epochs, default=0.0))

    @classmethod
    def expected(cls, configurations: int, rungs: Sequence[float], finals: int) -> Cost:
        """Of one loss's search, if halving is exact.

        Args:
            finals: runs on fresh seeds.
        """
        steps = climbed(rungs) if finals else rungs
        counts = [configurations // FACTOR**k for k in range(len(steps))]
        epochs = sum(count * rung for count, rung in zip(counts, steps, strict=True))
        return cls(sum(counts) + finals, epochs + finals * rungs[-1], rungs[-1])

    def times(self, count: int) -> Cost:
        return Cost(count * self.trials, count * self.epochs, self.longest)
