"""The tables of a final test, from its runs and the AP of their queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from study.choices import ROLES
from study.results import Study
from study.significance import ALPHA, Difference, corrected, difference_of_runs, mean_of_runs

PROTOCOL_NAMES = ("full", "seed")
RUN_COLUMNS = [
    "trial_id",
    "loss",
    "role",
    "seed",
    "epochs",
    "best_epoch",
    "best_val_map",
    "seconds",
    "map_full",
    "map_seed",
]
Runs = dict[int, np.ndarray]  # by seed, the AP of each query


def runs_table(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """A row a confirmed run, by loss, then role, then seed."""
    return pd.DataFrame(rows, columns=RUN_COLUMNS).sort_values("trial_id", ignore_index=True)


def summary_table(
    runs: pd.DataFrame, arrays: Mapping[str, np.ndarray], sweep: Study
) -> pd.DataFrame:
    """A row a protocol, role and loss.

    `map` is the mean over the runs, `low` to `high` its 95 % interval over seeds, `query_low` to
    `query_high` over queries (see `significance`). `runs` is how many are in it, and `val_map` the
    mean of their best validation mAP. `trials`, `epochs` and `sweep_seconds` are what the search
    for the choice trained in all (0 for a reference, which none was made for), `confirm_seconds`
    what the runs took.
    """
    rows = []
    for protocol in PROTOCOL_NAMES:
        for role in ROLES:
            for loss in sweep.losses:
                mine = runs[(runs["loss"] == loss) & (runs["role"] == role)]
                mean = mean_of_runs(_by_seed(runs, arrays, protocol, role, loss))
                searched = [t for t in sweep.trials if t.loss == loss and role == "chosen"]
                rows.append(
                    {
                        "protocol": protocol,
                        "role": role,
                        "loss": loss,
                        "map": mean.mean,
                        "low": mean.seeds.low,
                        "high": mean.seeds.high,
                        "query_low": mean.queries.low,
                        "query_high": mean.queries.high,
                        "runs": len(mine),
                        "trials": len(searched),
                        "epochs": sum(len(trial.epochs) for trial in searched),
                        "sweep_seconds": round(sum(trial.seconds for trial in searched), 3),
                        "confirm_seconds": round(mine["seconds"].sum(), 3),
                        "val_map": mine["best_val_map"].mean(),
                    }
                )
    return pd.DataFrame(rows)


def differences_table(
    runs: pd.DataFrame, arrays: Mapping[str, np.ndarray], losses: Sequence[str]
) -> pd.DataFrame:
    """A row a protocol, role and pair of losses; role `tuning` is a loss's choice less its
    reference, `first` and `second` both naming the loss.

    `p_corrected` is the larger of the seed-based and the query-based p, each corrected over the
    pairs of its protocol and role; `shown` says that it is below 0.05. Both tests are of the same
    mean difference, so they agree in its sign.
    """
    rows = []
    for protocol in PROTOCOL_NAMES:
        of = {
            (role, loss): _by_seed(runs, arrays, protocol, role, loss)
            for role in ROLES
            for loss in losses
        }
        for role in ROLES:
            pairs = list(combinations(losses, 2))
            family = [difference_of_runs(of[role, a], of[role, b]) for a, b in pairs]
            rows += _family(protocol, role, pairs, family)
        family = [difference_of_runs(of["chosen", a], of["reference", a]) for a in losses]
        rows += _family(protocol, "tuning", [(loss, loss) for loss in losses], family)
    return pd.DataFrame(rows)


def _family(
    protocol: str, role: str, pairs: Sequence[tuple[str, str]], family: Sequence[Difference]
) -> list[dict[str, Any]]:
    return [
        {
            "protocol": protocol,
            "role": role,
            "first": first,
            "second": second,
            "difference": found.difference,
            "seed_low": found.seeds.interval.low,
            "seed_high": found.seeds.interval.high,
            "seed_p": found.seeds.p,
            "query_low": found.queries.interval.low,
            "query_high": found.queries.interval.high,
            "query_p": found.queries.p,
            "p_corrected": p,
            "shown": p < ALPHA,
        }
        for (first, second), found, p in zip(pairs, family, corrected(family), strict=True)
    ]


def _by_seed(
    runs: pd.DataFrame, arrays: Mapping[str, np.ndarray], protocol: str, role: str, loss: str
) -> Runs:
    mine = runs[(runs["loss"] == loss) & (runs["role"] == role)]
    return {
        int(seed): arrays[f"ap_{protocol}/{trial_id}"]
        for seed, trial_id in zip(mine["seed"], mine["trial_id"], strict=True)
    }
