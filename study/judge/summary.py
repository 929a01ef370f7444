"""What the terminal shows when a study has ended."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from study.judge.verdict import against_defaults
from study.results.studies import Study
from study.results.trials import SOUND, title
from study.run.commands import report_command
from study.run.progress import INTERRUPTED, chosen_at, counts_line, duration, trial_line
from trainables.config import FIELDS

TABLE_ROWS = 10
_KNOBS = ("optimizer", "lr", "batch_size", "per_class")  # of all trials, those that fit on a line


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


def _own(configs: Iterable[Mapping[str, Any]]) -> list[str]:
    """The losses' own arguments, which stand after the shared fields."""
    return list(dict.fromkeys(name for one in configs for name in one if name not in FIELDS))


def _cell(value: object) -> str:
    if value is None:
        return "none"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
