"""The tables of a final test, from its runs and the AP of their queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from math import comb
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from study.judge.choices import ROLES
from study.judge.significance import (
    GAPS,
    Difference,
    alike,
    corrected,
    difference_of_runs,
    mean_interval,
    mean_of_runs,
    said,
)
from study.results.studies import Study
from study.results.trials import search_of
from study.run.plan import Plan
from trainables.losses import resolve
from trainables.metrics import METRICS

# `labels` (N,); by protocol `queries_<protocol>` (Q,); `ap_<protocol>/<trial_id>` (Q,)
Arrays = Mapping[str, np.ndarray]
# By seed, the AP of each query; by search, where the search was repeated: the mean over its seeds.
# What is repeated as a whole is what the intervals speak of: the luck of a search is then in them.
Runs = dict[int, np.ndarray]
# fmt: off
DIFFERENCES = ["protocol", "role", "first", "second", "difference", "seed_low", "seed_high",
               "seed_p", "welch_p", "query_low", "query_high", "query_p", "both_low", "both_high",
               "both_p", "equivalence_p", "query_equivalence_p", "superiority", "superiority_low",
               "superiority_high", "wins", "smallest", "family", "p_corrected", "p_alike",
               "verdict", "shown"]
# fmt: on


def runs_table(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """A row a confirmed run, by loss, then role, then seed.

    `map_<protocol>` is of each protocol, the other metrics are of the first.
    """
    return pd.DataFrame(rows).sort_values("trial_id", ignore_index=True)


def protocols_of(runs: pd.DataFrame) -> list[str]:
    """The protocols under which the runs were judged; the first is the answer's."""
    named = [c for c in runs.columns if c.startswith("map_") and c not in METRICS]
    return [column.removeprefix("map_") for column in named]


def unit_of(summary: pd.DataFrame) -> str:
    """What the intervals "over seeds" of a summary are over: `seeds`, or `searches` where the whole
    search was repeated."""
    return "searches" if summary["searches"].max() > 1 else "seeds"


def summary_table(runs: pd.DataFrame, arrays: Arrays, sweeps: Sequence[Study]) -> pd.DataFrame:
    """A row a protocol, role and loss.

    `map` is the mean over the runs, `low` to `high` its 95 % interval over seeds, `query_low` to
    `query_high` over queries, `both_low` to `both_high` over seeds and classes (see
    `significance`). `runs` is how many are in it, and `val_map` the mean of their best validation
    mAP. `searches` is how often the search was made: if more than once, the mean is over the
    searches, each with the mean of its runs, and so are the intervals "over seeds". `trials`,
    `epochs` and `sweep_seconds` are what these trained in all (0 for a reference, for which there
    was none), `confirm_epochs` how long a run was trained and `confirm_seconds` what the runs took.
    """
    rows = []
    for protocol in protocols_of(runs):
        for role in ROLES:
            for search in sweeps[0].losses:
                mine = _of(runs, role, search)
                if mine.empty:
                    continue
                aps = _by_unit(mine, arrays, protocol, sweeps)
                mean = mean_of_runs(aps, query_classes(arrays, protocol))
                trials = [trial for sweep in sweeps for trial in sweep.trials]
                searched = [t for t in trials if t.loss == search and role == "chosen"]
                rows.append(
                    {
                        "protocol": protocol,
                        "role": role,
                        "loss": mine["loss"].iloc[0],
                        "map": mean.mean,
                        "low": mean.seeds.low,
                        "high": mean.seeds.high,
                        "query_low": mean.queries.low,
                        "query_high": mean.queries.high,
                        "both_low": mean.two_way.low,
                        "both_high": mean.two_way.high,
                        "runs": len(mine),
                        "searches": len(sweeps),
                        "trials": len(searched),
                        "epochs": sum(trial.reached for trial in searched),
                        "sweep_seconds": round(sum(trial.seconds for trial in searched), 3),
                        "confirm_epochs": int(mine["epochs"].max()),
                        "confirm_seconds": round(mine["seconds"].sum(), 3),
                        "val_map": mine["best_val_map"].mean(),
                    }
                )
    return pd.DataFrame(rows)


def differences_table(runs: pd.DataFrame, arrays: Arrays, sweeps: Sequence[Study]) -> pd.DataFrame:
    """A row a protocol, role and pair of losses; role `tuning` is a loss's choice, `first`, less
    the reference of the same search, `second`.

    `p_corrected` is the largest of the p over seeds (paired, and Welch's) and over queries,
    corrected over the `family`, how many pairs of its protocol and role were asked for; `p_alike`
    is that of a difference of `MARGIN` or more, corrected alike. `verdict` says what follows (see
    `significance.said`), but nothing is `shown` in favour of a configuration that lacks runs;
    `shown` is whether it is that. `wins` is on how many of the common seeds, or of the repeated
    searches, the first is above.
    """
    rows: list[dict[str, Any]] = []
    few = _lacking(runs, sweeps)
    for protocol in protocols_of(runs):
        for role, (pairs, asked) in _families(runs, sweeps).items():
            both = [[_by_unit(one, arrays, protocol, sweeps) for one in pair] for pair in pairs]
            family = [
                difference_of_runs(a, b, query_classes(arrays, protocol), family=asked)
                for a, b in both
            ]
            wins = [sum(np.nanmean(a[s]) > np.nanmean(b[s]) for s in a if s in b) for a, b in both]
            named = [[one["loss"].iloc[0] for one in pair] for pair in pairs]
            lack = [[_named(one) in few for one in pair] for pair in pairs]
            rows += _family(protocol, role, named, family, wins, lack, asked - len(pairs))
    return pd.DataFrame(rows, columns=DIFFERENCES)


def class_table(runs: pd.DataFrame, arrays: Arrays, sweeps: Sequence[Study]) -> pd.DataFrame:
    """A row a pair of chosen losses and a class, first protocol: by how much `first` is above in
    the mean AP of the class's queries, with its 95 % interval over seeds, paired."""
    rows = []
    answer = protocols_of(runs)[0]
    for pair in _families(runs, sweeps)["chosen"].pairs:
        first, second = (_by_unit(one, arrays, answer, sweeps) for one in pair)
        common = [seed for seed in first if seed in second]
        classes = query_classes(arrays, answer)
        if not common:
            continue
        # A query without a relevant image has no AP, and so has a class of none but these.
        judged = ~np.isnan(first[common[0]])
        gaps = np.stack([(first[s] - second[s])[judged] for s in common]).astype(np.float64)
        by_class = pd.DataFrame(gaps.T).groupby(classes[judged]).mean()
        names = {"first": pair[0]["loss"].iloc[0], "second": pair[1]["loss"].iloc[0]}
        for label, mean in zip(by_class.index, by_class.to_numpy(), strict=True):
            low, high = mean_interval(mean, GAPS)
            gap = {"difference": mean.mean(), "seed_low": low, "seed_high": high}
            rows.append({**names, "label": int(label), **gap})
    columns = ["first", "second", "label", "difference", "seed_low", "seed_high"]
    return pd.DataFrame(rows, columns=columns)


class _Family(NamedTuple):
    """The pairs of runs that are compared and corrected together, and how many were asked for."""

    pairs: list[tuple[pd.DataFrame, pd.DataFrame]]
    asked: int


def _families(runs: pd.DataFrame, sweeps: Sequence[Study]) -> dict[str, _Family]:
    """By role; a loss of which no run ended well is in no pair, and was asked about."""
    losses = sweeps[0].losses
    of = {
        role: {name: mine for name in losses if len(mine := _of(runs, role, name))}
        for role in ROLES
    }
    known = [name for name in losses if name in of["reference"] or _had_reference(name, runs)]
    asked = {"chosen": losses, "reference": known}
    families = {
        role: _Family(list(combinations(of[role].values(), 2)), comb(len(asked[role]), 2))
        for role in ROLES
    }
    tuned = [(of["chosen"][s], of["reference"][s]) for s in of["chosen"] if s in of["reference"]]
    return {**families, "tuning": _Family(tuned, len(known))}


def _had_reference(loss: str, runs: pd.DataFrame) -> bool:
    """Whether a reference of a loss was asked for: where any was, that of each that has one."""
    return bool((runs["role"] == "reference").any()) and resolve(loss).reference is not None


def _lacking(runs: pd.DataFrame, sweeps: Sequence[Study]) -> set[tuple[str, str]]:
    """The roles and losses of which a run did not end well."""
    plan = Plan(**sweeps[0].info["plan"])
    asked = {"chosen": plan.confirm_seeds, "reference": plan.references}
    many = runs.groupby(["role", "loss"]).size()
    return {(role, loss) for (role, loss), n in many.items() if n < asked[role] * len(sweeps)}


def _named(runs: pd.DataFrame) -> tuple[str, str]:
    return runs["role"].iloc[0], runs["loss"].iloc[0]


def _family(
    protocol: str,
    role: str,
    named: Sequence[Sequence[str]],
    family: Sequence[Difference],
    wins: Sequence[int],
    lack: Sequence[Sequence[bool]],
    untold: int,
) -> list[dict[str, Any]]:
    """The rows of the pairs that are corrected together.

    Args:
        lack: whether the first, and the second, of each pair lacks runs.
        untold: of how many more pairs, which were asked for, nothing is known.
    """
    p, same = corrected(family, untold), alike(family, untold)
    kept = [
        "not resolved" if verdict == "shown" and few[found.difference < 0] else verdict
        for verdict, found, few in zip(said(p, same), family, lack, strict=True)
    ]
    rows = zip(named, family, wins, p, same, kept, strict=True)
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
            "welch_p": found.welch.p,
            "query_low": found.queries.interval.low,
            "query_high": found.queries.interval.high,
            "query_p": found.queries.p,
            "both_low": found.two_way.interval.low,
            "both_high": found.two_way.interval.high,
            "both_p": found.two_way.p,
            "equivalence_p": found.equivalence,
            "query_equivalence_p": found.query_equivalence,
            "superiority": found.superiority,
            "superiority_low": found.superiority_interval.low,
            "superiority_high": found.superiority_interval.high,
            "wins": won,
            "smallest": found.smallest,
            "family": len(family) + untold,
            "p_corrected": different,
            "p_alike": equal,
            "verdict": verdict,
            "shown": verdict == "shown",
        }
        for (first, second), found, won, different, equal, verdict in rows
    ]


def _of(runs: pd.DataFrame, role: str, search: str) -> pd.DataFrame:
    """The runs of this role that came of a search; its name is what their trial ids begin with."""
    named = runs["trial_id"].map(search_of) == search
    return runs[named & (runs["role"] == role)]


def _by_unit(runs: pd.DataFrame, arrays: Arrays, protocol: str, sweeps: Sequence[Study]) -> Runs:
    by_run = {trial_id: arrays[f"ap_{protocol}/{trial_id}"] for trial_id in runs["trial_id"]}
    return {
        int(unit): np.mean([by_run[trial_id] for trial_id in mine], axis=0)
        for unit, mine in runs.groupby("search" if len(sweeps) > 1 else "seed")["trial_id"]
    }


def query_classes(arrays: Arrays, protocol: str) -> np.ndarray:
    """(Q,) of the queries."""
    return arrays["labels"][arrays[f"queries_{protocol}"]]
