"""What the terminal shows while a study runs."""

from __future__ import annotations

import time
from collections.abc import Callable

import pandas as pd

from study.results.studies import Choice, Study
from study.results.trials import SELECTION, TrialRecord, title
from study.search.ladder import Cost

STATUS_EVERY = 30.0  # seconds, at the latest
STATUS_APART = 5.0  # seconds, at the least: short trials end faster than one reads
INTERRUPTED = 130  # the exit code after Ctrl-C, by convention


class Progress:
    """A line for each trial that ends and, after it or at least every half minute, one for the
    whole study; five seconds apart.

    Args:
        waits: says what a trial that cannot start waits for.
    """

    def __init__(
        self,
        study: Study,
        total: Cost,
        concurrent: int,
        waits: Callable[[], str] = lambda: "",
        write: Callable[[str], None] = lambda line: print(line, flush=True),
    ) -> None:
        self.study = study
        self.total = total
        self.concurrent = concurrent
        self.waits = waits
        self.write = write
        self.start = self.last = time.monotonic()
        self.told = False

    def __call__(self, record: TrialRecord) -> None:
        """Shows what changed with this record."""
        if record.status != "running":
            self.write(f"  {trial_line(record)}")
            if not self.told or time.monotonic() - self.last >= STATUS_APART:
                self._tell()

    def look(self, running: int, waiting: int) -> None:
        """Shows how things are, and what all trials wait for, if nothing was shown for long."""
        if time.monotonic() - self.last >= STATUS_EVERY:
            self._tell()
            if waiting and not running:
                self.write(f"  no trial runs yet: {self.waits()}")

    def _tell(self) -> None:
        self.last, self.told = time.monotonic(), True
        self.write(self.status_line())

    def status_line(self) -> str:
        ended = sum(trial.has_ended for trial in self.study.trials)
        elapsed = time.monotonic() - self.start
        choices = self.study.best()
        show = _best if len(choices) < 3 else lambda choice: f"{choice.score:.4f}"  # fits a line
        best = "; ".join(f"{loss} {show(c)}" for loss, c in choices.items()) or "none yet"
        return (
            f"[{duration(elapsed)}] {ended} of about {max(self.total.trials, ended)} trials ended "
            f"({counts_line(self.study)}) · "
            f"best {best} · {self._left()}"
        )

    def _left(self) -> str:
        """Time left, as if training an epoch and judging once took as long as so far: short trials
        are judged for as long as long ones; and no less than a longest trial where one is left."""
        rows = [row for trial in self.study.trials for row in trial.epochs]
        done = sum(trial.reached for trial in self.study.trials)
        if not done:
            return "time left: known after the first trial"
        judging = sum(row["evaluation_seconds"] for row in rows)
        training = sum(row["seconds"] for row in rows) - judging
        epochs = max(self.total.epochs - done, 0.0)
        trials = max(self.total.trials - sum(t.has_ended for t in self.study.trials), 0)
        left = epochs * training / done + (epochs + trials) * judging / len(rows)
        shared = left / min(self.concurrent, max(trials, 1))
        whole = self.total.longest * training / done if epochs >= self.total.longest else 0.0
        return f"about {duration(max(shared, whole))} left"


def counts_line(study: Study) -> str:
    """How many trials have each status, as text."""
    counts = study.counts().items()
    return ", ".join(f"{n} {status}" for status, n in counts) or "no trials"


def trial_line(record: TrialRecord) -> str:
    """One ended trial: status, best epoch, time, and the cause if it is a fault."""
    best = record.best
    score = "no epoch"
    if best is not None:
        score = f"{title(record.metric)} {record.score:.4f} at epoch {best['epoch']:.3g}"
    line = (
        f"{record.trial_id}  {record.status:<11}  {score}"
        f"  ({record.reached:.3g} epochs, {_came_by(record)}{duration(record.seconds)})"
    )
    return line if record.status == "finished" else f"{line}  {record.cause}"


def _came_by(record: TrialRecord) -> str:
    """What a promoted trial or one on a fresh seed goes back to."""
    if record.follows is None:
        return ""
    return (
        f"seed {record.config.seed} of {record.follows}, "
        if record.origin == SELECTION
        else (f"after {record.follows}, ")
    )


def duration(seconds: float) -> str:
    """Seconds as `42 s`, `3 m 05 s` or `2 h 07 m`."""
    whole = pd.Timedelta(seconds=round(seconds)).components
    hours = 24 * whole.days + whole.hours
    if hours:
        return f"{hours} h {whole.minutes:02d} m"
    return f"{whole.minutes} m {whole.seconds:02d} s" if whole.minutes else f"{whole.seconds} s"


def _best(choice: Choice) -> str:
    return f"{choice.score:.4f} ({chosen_at(choice)})"


def chosen_at(choice: Choice) -> str:
    """Where the score of a choice was had."""
    over = f", mean of {choice.seeds} fresh seeds" if choice.seeds > 1 else ""
    return f"{choice.trial_id}, epoch {choice.epoch:.3g}{over}"
