"""What the terminal shows while a study runs and when it has ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pandas as pd

from study.judge.verdict import against_defaults
from study.run.commands import report_command
from study.run.results import SELECTION, SOUND, Choice, Study, TrialRecord, title
from study.search.ladder import Cost
from trainables.config import FIELDS

STATUS_EVERY = 30.0  # seconds, at the latest
STATUS_APART = 5.0  # seconds, at the least: short trials end faster than one reads
TABLE_ROWS = 10
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
        are judged for as long as long ones."""
        rows = [row for trial in self.study.trials for row in trial.epochs]
        done = sum(trial.reached for trial in self.study.trials)
        if not done:
            return "time left: known after the first trial"
        judging = sum(row["evaluation_seconds"] for row in rows)
        training = sum(row["seconds"] for row in rows) - judging
        epochs = max(self.total.epochs - done, 0.0)
        trials = max(self.total.trials - sum(t.has_ended for t in self.study.trials), 0)
        left = epochs * training / done + (epochs + trials) * judging / len(rows)
        return f"about {duration(left / min(self.concurrent, self.total.trials))} left"


def counts_line(study: Study) -> str:
    """How many trials have each status, as text."""
    counts = study.counts().items()
    return ", ".join(f"{n} {status.replace('_', ' ')}" for status, n in counts) or "no trials"


def trial_line(record: TrialRecord) -> str:
    """One ended trial: status, best epoch, time, and the cause if it is a fault."""
    best = record.best
    score = "no epoch"
    if best is not None:
        score = f"{title(record.metric)} {record.score:.4f} at epoch {best['epoch']:.3g}"
    line = (
        f"{record.trial_id}  {record.status.replace('_', ' '):<13}  {score}"
        f"  ({record.reached:.3g} epochs, {_came_by(record)}{duration(record.seconds)})"
    )
    return line if record.status in ("finished", "stopped_early") else f"{line}  {record.cause}"


def _came_by(record: TrialRecord) -> str:
    """What a promoted trial or one on a fresh seed goes back to."""
    if record.follows is None:
        return ""
    return (
        f"seed {record.config.seed} of {record.follows}, "
        if record.origin == SELECTION
        else (f"after {record.follows}, ")
    )


def best_table(study: Study) -> str:
    """The best sound trials of each loss, of the most epochs, with main knobs that differ.

    A knob that a trial does not use is `-`, and `none` a choice.
    """
    table, best = study.trials_frame(), f"best_{study.metric}"
    configs = {trial.trial_id: trial.config.used() for trial in study.trials}
    parts = []
    for loss in study.losses:
        sound = table["status"].isin(SOUND) & table[best].notna()
        rows = table[(table["loss"] == loss) & sound]
        rows = rows.sort_values(["max_epochs", best], ascending=False).head(TABLE_ROWS)
        if rows.empty:
            continue
        shown = rows[["trial_id", "status", best, "best_epoch", "seed", "seconds"]]
        for knob in (*_KNOBS, *_own(configs.values())):
            values = [_cell(configs[trial].get(knob, "-")) for trial in rows["trial_id"]]
            if len(set(values)) > 1:
                shown = shown.assign(**{knob: values})
        parts.append(shown.to_string(index=False, float_format=lambda x: f"{x:.4g}"))
    return "\n\n".join(parts)


_KNOBS = ("optimizer", "lr", "batch_size", "per_class")  # of all trials, those that fit on a line


def _own(configs: Iterable[Mapping[str, Any]]) -> list[str]:
    """The losses' own arguments, which stand after the shared fields."""
    return list(dict.fromkeys(name for one in configs for name in one if name not in FIELDS))


def _cell(value: object) -> str:
    if value is None:
        return "none"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


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


def summarize(study: Study, seconds: float, data_dir: str | None = None) -> int:
    """Prints what came of a study; returns the program's exit code."""
    faults = [trial for trial in study.trials if trial.status in ("failed", "diverged")]
    if faults:
        print("\nTrials that did not end well:")
        for trial in faults:
            print(f"  {trial_line(trial)}\n    log: {trial.logs}")
    choices = study.best()
    if not choices and study.info["status"] == "finished":
        print(f"error: none of {len(study.trials)} trials succeeded; see {study.folder}")
        return 1
    name = f"validation {title(study.metric)}"
    print(f"\nBest trials, by {name} (best epoch):\n{best_table(study)}\n")
    for loss, choice in choices.items():
        print(
            f"{loss}: {name} {choice.score:.4f} ({chosen_at(choice)})\n  {choice.config.describe()}"
        )
        verdict = against_defaults(study, loss)
        if verdict is not None:
            print(f"  {verdict}")
    print(f"\nThe study is {study.info['status']} ({counts_line(study)}); {duration(seconds)}.")
    print(f"Everything lies in {study.folder} (trials.csv, epochs.csv, best.json)")
    if study.info["status"] != "finished":
        return INTERRUPTED
    print(f"Next:  {report_command(study.folder, data_dir)}")
    return 0
