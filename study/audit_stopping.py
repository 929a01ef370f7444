"""How often was early stopping wrong? Trains a sample of the stopped trials to their end.

    python study/audit_stopping.py STUDY [--sample 5] [--sample-seed 0]

Each goes on from its last checkpoint, so that its numbers are those that it would have had. ASHA
was wrong where such a trial ends above the best of its loss. The results lie in STUDY/audit, which
is a study of its own; the audited study stays as it is.
"""

from __future__ import annotations

import dataclasses
import random
import sys
from argparse import SUPPRESS
from pathlib import Path

import pandas as pd
from scipy.stats import binomtest

from study.run.cli import add_machine_options, exit_code
from study.run.commands import going_on
from study.run.plan import Plan
from study.run.progress import INTERRUPTED
from study.run.results import Study, StudyError, TrialRecord, title
from study.run.runner import run_study
from trainables.terminal import Parser, patient_streams


@patient_streams()
def main(arguments: list[str] | None = None) -> int:
    """Runs the audit and prints its table; returns the exit code."""
    text = Parser(
        description="Train a sample of a study's early-stopped trials to their end.",
        argument_default=SUPPRESS,
    )
    text.add_argument("study", type=Path, help="the study's folder")
    text.add_argument("--sample", type=int, default=5, help="how many trials (default: 5)")
    text.add_argument("--sample-seed", type=int, default=0, help="of the draw (default: 0)")
    add_machine_options(text)
    options = vars(text.parse_args(arguments))
    where = {key: options.pop(key, None) for key in ("address", "data_dir")}
    resume = options.pop("resume", False)
    folder = options.pop("study").expanduser().resolve()
    size, seed = options.pop("sample"), options.pop("sample_seed")

    def audit() -> int:
        study = Study.load(folder)
        stopped = draw(study, size, seed)
        before = Study.load(folder / "audit") if resume else study
        plan = Plan(**{**before.info["plan"], **options, "early_stopping": False})
        trials = to_their_end(study, stopped)
        audited = run_study(plan, folder / "audit", resume=resume, trials=trials, **where)
        table = compare(study, stopped, audited)
        rows = table.to_string(index=False, float_format="{:.4f}".format)
        print(f"\n{rows}\n\n{verdict(table)}")
        return 0 if audited.info["status"] == "finished" else INTERRUPTED

    go_on = going_on(str(folder), sample=size, sample_seed=seed, **where)
    return exit_code(audit, folder / "audit", go_on)


def draw(study: Study, size: int, seed: int) -> list[TrialRecord]:
    """A random sample of the trials that ASHA stopped; StudyError if it stopped none."""
    if size < 1:
        raise StudyError(f"--sample must be >= 1; got {size}")
    stopped = [trial for trial in study.trials if trial.status == "stopped_early"]
    if not stopped:
        raise StudyError(f"no trial of {study.folder} was stopped early: nothing to audit")
    return random.Random(seed).sample(stopped, min(size, len(stopped)))


def to_their_end(study: Study, stopped: list[TrialRecord]) -> list[TrialRecord]:
    """Copies that go on from the last checkpoints."""
    copies = [dataclasses.replace(trial, epochs=list(trial.epochs)) for trial in stopped]
    for trial in copies:
        study.go_back(trial)
    return copies


def compare(study: Study, stopped: list[TrialRecord], audited: Study) -> pd.DataFrame:
    """A row a trial that reached its end: what it had when stopped, at its end, and the best."""
    ends = {trial.trial_id: trial for trial in audited.trials if trial.status == "finished"}
    best, name = study.best(), title(study.metric)
    rows = []
    for trial in stopped:
        end = ends.get(trial.trial_id)
        if end is None or end.best is None or trial.best is None:
            continue
        rows.append(
            {
                "trial": trial.trial_id,
                "stopped after": len(trial.epochs),
                f"{name} then": trial.score,
                "epochs": len(end.epochs),
                f"{name} at its end": end.score,
                "best of its loss": best[trial.loss].score,
                "wrong": end.score > best[trial.loss].score,
            }
        )
    return pd.DataFrame(rows)


def verdict(table: pd.DataFrame) -> str:
    """How often ASHA was wrong, with an exact 95 % interval of the share."""
    if table.empty:
        return "no trial reached its end"
    wrong, count = int(table["wrong"].sum()), len(table)
    interval = binomtest(wrong, count).proportion_ci(0.95)
    return (
        f"ASHA would have stopped a better trial than the best in {wrong} of {count} "
        f"(95 % interval of the share: {interval.low:.2f} to {interval.high:.2f})"
    )


if __name__ == "__main__":
    sys.exit(main())
