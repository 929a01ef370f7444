"""How often was early stopping wrong? Trains a sample of the configurations that rest to the end.

    python study/audit_stopping.py STUDY [--sample 5] [--sample-seed 0]

A configuration rests that was never among the best third of its rung. Each of the sample is
trained for all epochs, as if it had been promoted to the last rung. The search was wrong where it
ends above the chosen one of its loss. The results lie in STUDY/audit, which is a study of its own;
the audited study stays as it is.
"""

from __future__ import annotations

import random
import sys
from argparse import SUPPRESS
from pathlib import Path

import pandas as pd
from scipy.stats import binomtest

from study.results.files import StudyError
from study.results.studies import Study
from study.results.trials import PROMOTION, TrialRecord, title
from study.run.cli import add_machine_options, exit_code
from study.run.commands import AUDIT, going_on
from study.run.plan import Plan
from study.run.progress import INTERRUPTED
from study.run.runner import check_files, run_study
from trainables.terminal import Parser, patient_streams


@patient_streams()
def main(arguments: list[str] | None = None) -> int:
    """Runs the audit and prints its table; returns the exit code."""
    text = Parser(
        description="Train a sample of the configurations that a study left resting to the end.",
        argument_default=SUPPRESS,
    )
    text.add_argument("study", type=Path, help="the study's folder")
    text.add_argument("--sample", type=int, default=5, help="how many of them (default: 5)")
    text.add_argument("--sample-seed", type=int, default=0, help="of the draw (default: 0)")
    add_machine_options(text)
    options = vars(text.parse_args(arguments))
    where = {key: options.pop(key, None) for key in ("address", "data_dir")}
    resume = options.pop("resume", False)
    folder = options.pop("study").expanduser().resolve()
    size, seed = options.pop("sample"), options.pop("sample_seed")

    def audit() -> int:
        study = Study.load(folder)
        if not resume and (folder / AUDIT / "study.json").exists():
            law = "a study is audited once: --resume goes on with it"
            raise StudyError(f"{law}; for another sample move {folder / AUDIT} away")
        resting = draw(study, size, seed)
        before = Study.load(folder / AUDIT) if resume else study
        plan = Plan(**{**before.info["plan"], **options, "early_stopping": False})
        check_files(plan, study)
        trials = [to_its_end(trial, plan.max_epochs) for trial in resting]
        audited = run_study(plan, folder / AUDIT, resume=resume, trials=trials, **where)
        table = compare(study, resting, audited)
        rows = table.to_string(index=False, float_format="{:.4f}".format)
        print(f"\n{rows}\n\n{verdict(table)}")
        return 0 if audited.info["status"] == "finished" else INTERRUPTED

    go_on = going_on(str(folder), sample=size, sample_seed=seed, **where)
    return exit_code(audit, folder / AUDIT, go_on)


def draw(study: Study, size: int, seed: int) -> list[TrialRecord]:
    """A random sample of the trials that rest; StudyError if there are none."""
    if size < 1:
        raise StudyError(f"--sample must be >= 1; got {size}")
    gone = {trial.follows for trial in study.trials}
    most = max((trial.config.epochs for trial in study.trials), default=0)
    resting = [
        trial
        for trial in study.trials
        if trial.is_sound and trial.config.epochs < most and trial.trial_id not in gone
    ]
    if not resting:
        raise StudyError(f"no configuration of {study.folder} rests: nothing to audit")
    return random.Random(seed).sample(resting, min(size, len(resting)))


def to_its_end(trial: TrialRecord, epochs: float) -> TrialRecord:
    """What a trial would have been, had it been trained for so many epochs."""
    return TrialRecord(
        trial.trial_id,
        trial.config.replace(epochs=epochs),
        metric=trial.metric,
        knobs=trial.knobs,
        origin=PROMOTION,
        follows=trial.trial_id,
    )


def compare(study: Study, resting: list[TrialRecord], audited: Study) -> pd.DataFrame:
    """A row a trial that was trained to the end: its value at its rung, there, and the chosen's."""
    ends = {trial.trial_id: trial for trial in audited.trials if trial.status == "finished"}
    best, name = study.best(), title(study.metric)
    rows = []
    for trial in resting:
        end = ends.get(trial.trial_id)
        if end is None:
            continue
        rows.append(
            {
                "trial": trial.trial_id,
                "rested after": trial.config.epochs,
                f"{name} then": trial.score,
                "epochs": end.config.epochs,
                f"{name} at its end": end.score,
                "chosen of its loss": best[trial.loss].score,
                "wrong": end.score > best[trial.loss].score,
            }
        )
    return pd.DataFrame(rows)


def verdict(table: pd.DataFrame) -> str:
    """How often the search was wrong, with an exact 95 % interval of the share."""
    if table.empty:
        return "no trial reached its end"
    wrong, count = int(table["wrong"].sum()), len(table)
    interval = binomtest(wrong, count).proportion_ci(0.95)
    return (
        f"left resting above the chosen one: {wrong} of {count} "
        f"(95 % interval of the share: {interval.low:.2f} to {interval.high:.2f})"
    )


if __name__ == "__main__":
    sys.exit(main())
