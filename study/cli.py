"""The options that every study takes, and how a program runs a study with them."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from study.results import StudyError
from study.runner import ROOT, Plan, run_study, summarize
from trainables.data import DataError


def add_run_options(text: argparse.ArgumentParser) -> None:
    """Where a study runs, and where its results go."""
    add = text.add_argument
    unset = argparse.SUPPRESS  # keeps "(default: None)" out of the help
    add("--cpus-per-trial", type=float, default=1, help="CPUs that a trial occupies")
    add(
        "--gpus-per-trial",
        type=float,
        help="GPUs that a trial occupies, fractions too (default: 0.25 where Ray sees a GPU)",
        default=unset,
    )
    add(
        "--max-concurrent", type=int, help="trials at a time (default: all that fit)", default=unset
    )
    add(
        "--address",
        help="of a running Ray cluster, or `auto` (default: start Ray on this machine)",
        default=unset,
    )
    add("--storage-path", type=Path, default=ROOT / "results", help="where studies are kept")
    add("--name", help="of the study (default: what it does and the time)", default=unset)
    add("--seed", type=int, default=0, help="of the searches and of every trial")
    add(
        "--data-dir",
        help="holds Fashion-MNIST's files (default: the system's, else downloaded)",
        default=unset,
    )
    add("--smoke-test", action="store_true", help="the real path on a small slice of the data")


def run(options: argparse.Namespace, **plan: Any) -> int:
    """Runs the study of these options and these fields of a `Plan`; returns the exit code."""
    start = time.monotonic()
    given = vars(options)
    try:
        asked = Plan(
            cpus_per_trial=options.cpus_per_trial,
            gpus_per_trial=given.get("gpus_per_trial"),
            max_concurrent=given.get("max_concurrent"),
            seed=options.seed,
            smoke_test=options.smoke_test,
            **plan,
        )
        study = run_study(
            asked,
            _folder(options, "-".join(asked.losses)),
            address=given.get("address"),
            data_dir=given.get("data_dir"),
        )
    except (StudyError, DataError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return summarize(study, time.monotonic() - start)


def _folder(options: argparse.Namespace, kind: str) -> Path:
    """`<storage-path>/<name>`, the name made of the losses and the time if none is given."""
    name = vars(options).get("name") or f"{kind}-{time.strftime('%Y%m%d-%H%M%S')}"
    if Path(name).name != name:
        raise StudyError(f"--name must be a folder's name without a path; got {name!r}")
    return options.storage_path.expanduser().resolve() / name
