"""Trains the seed study's three reference configurations, for their 100 epochs, without a search.

    python study/train_references.py
    python study/train_references.py --max-epochs 10

The results have the same form as any study's, so `analysis/report.py` reads them.
"""

from __future__ import annotations

import sys
from argparse import SUPPRESS
from pathlib import Path
from typing import Any

from study.judge.summary import summarize
from study.results.studies import Study
from study.results.trials import TrialRecord, trial_name
from study.run.cli import add_run_options, run
from study.run.commands import REFERENCES
from study.run.plan import Plan
from study.run.runner import run_study
from study.search.space import reference
from trainables.losses import names, resolve
from trainables.terminal import Parser, patient_streams

SMOKE_EPOCHS = 2


@patient_streams()
def main(arguments: list[str] | None = None) -> int:
    """Trains the references; returns the exit code."""
    text = Parser(
        description="Train the seed study's configuration of each loss.",
        argument_default=SUPPRESS,
    )
    text.add_argument("--max-epochs", type=int, help="epochs of each (default: 100)")
    add_run_options(text)
    options = vars(text.parse_args(arguments))
    epochs = SMOKE_EPOCHS if options.get("smoke_test") else 100
    return run(
        options,
        tell=summarize,
        job=train,
        program=REFERENCES,
        losses=[name for name in names() if resolve(name).reference is not None],
        num_samples=1,
        max_epochs=epochs,
        early_stopping=False,
        final_seeds=0,
    )


def train(plan: Plan, folder: Path, **where: Any) -> Study:
    """Trains them as a study without a search; `where` as `run_study` takes it."""
    trials = []
    for loss in plan.losses:
        config = reference(loss, epochs=plan.max_epochs, seed=plan.seed, precision=plan.precision)
        assert config is not None
        trials.append(TrialRecord(trial_name(loss, 0), config, metric=plan.metric))
    return run_study(plan, folder, trials=trials, **where)


if __name__ == "__main__":
    sys.exit(main())
