"""The files of `finals/`, what a comparison found: read with the columns that their readers need.

`differences.csv` is for other programs: what runs say of a difference is computed from the AP of
their queries wherever it is told, by one set of tests, whichever version judged the comparison.

`queries.npz` holds what `study.judge.final_tables` calls arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from study.judge.final_tables import protocols_of
from study.results.files import StudyError

# fmt: off
TABLES = {
    "runs": ["trial_id", "loss", "role", "search", "seed", "epochs", "best_epoch", "best_val_map",
             "seconds"],
    "summary": ["protocol", "role", "loss", "map", "low", "high", "query_low", "query_high",
                "both_low", "both_high", "runs", "trials", "epochs", "sweep_seconds",
                "confirm_epochs", "confirm_seconds", "val_map"],
    "classes": ["first", "second", "label", "difference", "seed_low", "seed_high"],
    "orders": ["trial_id", "loss", "role", "search", "order", "map", "gain", "seconds"],
}
# fmt: on


def read_table(folder: Path, name: str) -> pd.DataFrame:
    """The table of this name, one of `TABLES`; StudyError if it is damaged or lacks a column."""
    path = folder / f"{name}.csv"
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise StudyError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    missing = [column for column in TABLES[name] if column not in table]
    if name == "runs" and not protocols_of(table):
        missing.append("map_<protocol>")
    if missing:
        raise StudyError(f"{path} must have the columns {', '.join(missing)}")
    return table


def read_arrays(folder: Path, runs: pd.DataFrame, kinds: Sequence[str]) -> dict[str, np.ndarray]:
    """`labels`, who asks and what is searched, and what there is of these runs.

    Args:
        kinds: of arrays of runs, `ap` and others, which must be there.

    Raises:
        StudyError: the archive is damaged, or lacks one.
    """
    path = folder / "queries.npz"
    wanted = ["labels"]
    for protocol in protocols_of(runs):
        wanted += [f"queries_{protocol}", f"gallery_{protocol}"]
        wanted += [f"{kind}_{protocol}/{trial}" for trial in runs["trial_id"] for kind in kinds]
    try:
        with path.open("rb") as file, np.load(file) as stored:  # numpy leaves a damaged one open
            missing = [name for name in wanted if name not in stored]
            arrays = {} if missing else {name: stored[name] for name in stored}
    except Exception as error:  # a damaged archive raises what its damage brings
        raise StudyError(f"{path} cannot be read (truncated?): {error}") from error
    if missing:
        raise StudyError(f"{path} must hold {missing[0]}")
    return arrays
