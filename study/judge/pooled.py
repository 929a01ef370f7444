"""Several comparisons of the same losses on other splits or folds: what holds over all of them.

The unit is a comparison: its split of the classes, the searches on it and the seeds that confirmed
their choices are one draw of what is chance, and a loss's mAP is its mean over the runs.
Differences are paired by comparison, as a split that is hard is hard for all losses. Comparisons
that share classes, or test images, are not independent of each other; what they have in common is
not in their interval then, and the tables say so. Where all have the same test images, the queries
and their classes are looked at as in one comparison: a test over queries, and an interval over
comparisons and classes both.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import combinations, pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from study.judge.choices import ROLES, Frozen
from study.judge.comparison import CONFIRMATION
from study.judge.final_files import read_arrays, read_table
from study.judge.final_tables import protocols_of, query_classes
from study.judge.final_test import FINALS, is_complete
from study.judge.significance import (
    GAPS,
    NO_TEST,
    equivalence,
    holm,
    mean_interval,
    paired_test,
    said,
    smallest_difference,
    two_way,
    welch_test,
)
from study.results.files import StudyError
from study.results.images import classes_of
from study.results.studies import Study
from study.run.plan import APART, MAY_CHANGE, Plan
from trainables.losses import resolve

# What of their plans comparisons need not have alike to be pooled: splits, seeds and machines.
MAY_DIFFER = {"holdout_classes", "validation_classes", "fold", "seed", "losses", "reference_seeds",
              "reference_epochs", "rerank", *MAY_CHANGE} - {"data"}  # fmt: skip
FEW_CLASSES = 20  # a table has a column for each of so many
NO_REFERENCES = pd.DataFrame(columns=["loss"])


class Pooled(NamedTuple):
    """What several comparisons found.

    Attributes:
        maps: (comparisons, losses), the mean test mAP of each loss's choices, first protocol.
        losses: a row a loss: `map`, its mean, `low` to `high`, the 95 % interval over comparisons
            (Student's t), `lowest`, `highest`; of a further protocol `map_` and so on with its
            name; in all `runs`, the mean `val_map` of the epochs
            at which they were judged, and of the searches `trials`, `epochs` and `seconds` (of
            training, on the CPUs of a trial).
        differences: a row a pair: `difference`, its interval, `ahead`, in how many comparisons the
            first is above, and of paired t-tests `p`, of paired TOST `equivalence_p`; the same over
            queries, each averaged over the comparisons: `query_p` and `query_equivalence_p`;
            `both_low` to `both_high` over comparisons and classes. These are NaN without common
            test images. `p_corrected` is the larger of the p that are known, corrected over the
            pairs (Holm), and `p_alike` that of TOST's; both give the `verdict`, which is not
            `shown` in favour of a loss that lacks runs; `smallest` is the true difference that
            would be shown over comparisons.
        references: a row a loss whose reference was trained twice or more, the best first, on the
            same images in all comparisons: `map`, the mean over its `runs` of `epochs`, `lowest`,
            `highest`, `map_` with the name of a further protocol, and by how much the loss's
            choices are ahead, as in `differences` but by Welch's test of the comparisons beside
            these runs.
        classes: (losses, classes), the mean AP of each class's queries, by its name, over the
            comparisons that test it; None of more than `FEW_CLASSES`.
        tested: by class's name, how many comparisons test it.
        protocols: the first one, and those beside it.
        common: whether all comparisons have the same test images.
        shared: what of the images the comparisons have in common, and in what precisions they were
            computed if in several, as sentences; or empty.
        lacking: by loss, how many of its confirming runs did not end well, as diverged; of a loss
            with none it says nothing.
    """

    maps: pd.DataFrame
    losses: pd.DataFrame
    differences: pd.DataFrame
    references: pd.DataFrame
    classes: pd.DataFrame | None
    tested: Mapping[str, int]
    protocols: Sequence[str]
    common: bool
    shared: str
    lacking: Mapping[str, int]

    def leading(self) -> list[str]:
        """The losses that no other is shown to be ahead of, the best first."""
        behind = {*self.pairs("shown")["second"]}
        return [loss for loss in self.maps if loss not in behind]

    def pairs(self, verdict: str) -> pd.DataFrame:
        """The differences with this verdict; of a shown one the first loss is the one ahead."""
        if self.differences.empty:
            return pd.DataFrame(columns=["first", "second"])
        return self.differences[self.differences["verdict"] == verdict]


class Queries(NamedTuple):
    """How one comparison's queries were answered.

    Attributes:
        answered: by loss (Q,), the AP in the mean of its runs; of repeated searches, of these.
        classes: (Q,) of the queries.
    """

    answered: Mapping[str, np.ndarray]
    classes: np.ndarray

    def by_class(self) -> pd.DataFrame:
        """(classes, losses), the mean AP of each class's queries."""
        return pd.DataFrame(self.answered).groupby(self.classes).mean()


def pooled(folders: Sequence[Path]) -> Pooled:
    """The finished comparisons in these folders, taken together.

    Raises:
        StudyError: there are fewer than two, one comes twice or is not finished, they are not of
            the same losses, data, network and budget, or runs of two may have the same seed.
    """
    plans = _plans(folders)
    runs: dict[str, pd.DataFrame] = {}
    beside: dict[str, pd.DataFrame] = {}
    costs = []
    for folder in folders:
        table, name = read_table(folder / FINALS, "runs"), str(folder.resolve())
        runs[name], beside[name] = (table[table["role"] == role] for role in ROLES)
        costs.append(read_table(folder / FINALS, "summary").query("role == 'chosen'"))
    protocols = protocols_of(table)
    maps = _maps(runs, protocols[0])
    if maps.isna().any(axis=None):
        where = maps.isna().any(axis=1).idxmax()
        absent = ", ".join(maps.columns[maps.loc[where].isna()])
        raise StudyError(f"pooled comparisons must be of the same losses; {where} lacks {absent}")
    maps = maps[maps.mean().sort_values(ascending=False).index]
    studies = [Study.load(folder) for folder in folders]
    names = _classes(folders, studies)
    queries = [_queries(*each, list(maps)) for each in zip(folders, runs.values(), strict=True)]
    common = len({frozenset(plan.holdout_classes) for plan in plans}) == 1
    for folder, asked in zip(folders, queries, strict=True):
        if common and not np.array_equal(asked.classes, queries[0].classes):
            law = "pooled comparisons that hold out the same classes must have the same test images"
            raise StudyError(f"{law}; those of {folder} are not those of {folders[0]}")
    alike = common and len({(frozenset(p.validation_classes), p.fold) for p in plans}) == 1
    asked_for = sum(plan.confirm_seeds * plan.search_seeds for plan in plans)
    many = pd.concat(list(runs.values())).groupby("loss").size()
    lacking = {str(loss): asked_for - int(many[loss]) for loss in maps if many[loss] < asked_for}
    references = sum(plan.references * plan.search_seeds for plan in plans)
    confirmed = [Study.load(folder / CONFIRMATION) for folder in folders]
    return Pooled(
        maps,
        _losses(maps, runs, protocols[1:], pd.concat(costs)),
        _differences(maps, queries if common else [], lacking),
        _references(maps, queries, beside, lacking, references) if alike else NO_REFERENCES,
        _by_class(queries, names),
        _tested(queries, names),
        protocols,
        common,
        f"{_shared(plans, len(names))}{_unlike([*studies, *confirmed])}".strip(),
        lacking,
    )


def _plans(folders: Sequence[Path]) -> list[Plan]:
    """The comparisons' plans, of which each is finished and none shares what it must not."""
    plans, frozen, files = [], set[float](), dict[str, str]()
    for folder in folders:
        study = Study.load(folder)
        for name, digest in (study.info.get("files") or {}).items():
            if files.setdefault(name, digest) != digest:
                law = f"the file of {name} must be the same in pooled comparisons"
                raise StudyError(f"{law}; that of {folder} is another")
        if not is_complete(folder):
            raise StudyError(f"comparisons are pooled when their tests are done; {folder} is not")
        try:
            plans.append(Plan(**study.info["plan"]))
        except (KeyError, TypeError) as error:
            raise StudyError(f"{folder / 'study.json'} has no plan: {error!r}") from error
        frozen.add(Frozen.load(folder).frozen)  # a record has it as its study has
    if len(folders) < 2 or len(frozen) < len(folders):
        raise StudyError(f"two comparisons or more must be given, once each; got {len(folders)}")
    fields = [plan.fields() for plan in plans]
    for name, first in fields[0].items():
        others = [mine[name] for mine in fields if mine[name] != first]
        if others and name not in MAY_DIFFER:
            law = f"pooled comparisons must have one {name}"
            raise StudyError(f"{law}; got {first} and {others[0]}")
    for one, other in pairwise(sorted(seed for plan in plans for seed in plan.seeds())):
        if other - one < APART:
            law = f"the seeds of pooled comparisons must be {APART:,} apart, else their runs have"
            raise StudyError(f"{law} initial weights in common; got {one:,} and {other:,}")
    return plans


def _classes(folders: Sequence[Path], studies: Sequence[Study]) -> Sequence[str]:
    """The name of label 0, 1, ... of the data, which all must have."""
    data = [classes_of(study) for study in studies]
    if len(set(data)) > 1:
        law = "pooled comparisons must be of the same data"
        raise StudyError(f"{law}; classes of {folders[0]} are not those of all others")
    return data[0]


def _queries(folder: Path, runs: pd.DataFrame, losses: Sequence[str]) -> Queries:
    protocol = protocols_of(runs)[0]
    answered: dict[str, np.ndarray] = {}
    arrays = read_arrays(folder / FINALS, runs, ("ap",))
    for loss in losses:
        each = []
        for _, mine in runs[runs["loss"] == loss].groupby("search")["trial_id"]:
            found = np.stack([arrays[f"ap_{protocol}/{trial_id}"] for trial_id in mine])
            each.append(found.mean(0, dtype=np.float64))
        answered[loss] = np.mean(each, axis=0)
    classes = query_classes(arrays, protocol)
    some = ~np.isnan(answered[losses[0]])  # the others have no relevant image
    return Queries({loss: found[some] for loss, found in answered.items()}, classes[some])


def _by_class(queries: Sequence[Queries], names: Sequence[str]) -> pd.DataFrame | None:
    found = pd.concat([one.by_class() for one in queries]).groupby(level=0).mean()
    if len(found) > FEW_CLASSES:
        return None
    return found.rename(index=lambda label: names[label]).T


def _tested(queries: Sequence[Queries], names: Sequence[str]) -> dict[str, int]:
    several = pd.Series(np.concatenate([np.unique(one.classes) for one in queries])).value_counts()
    return {names[label]: int(count) for label, count in several.items()}


def _shared(plans: Sequence[Plan], classes: int) -> str:
    tested = [frozenset(plan.holdout_classes) for plan in plans]
    if len(set(tested)) == 1:
        folds = _folds(plans) if len({plan.fold for plan in plans}) > 1 else ""
        return f"All have the same test images: what other data would give is in no test.{folds}"
    judging = [frozenset(plan.validation_classes) for plan in plans]
    trained = [
        frozenset(range(classes)) - one - other for one, other in zip(tested, judging, strict=True)
    ]
    common = [
        what
        for what, sets in (("test", tested), ("training", trained))
        if any(one & other for one, other in combinations(sets, 2))
    ]
    if not common:
        return ""
    said = " and ".join(common)
    law = "they are not independent, and the intervals probably too narrow"
    return f"Some have {said} classes in common: {law}."


def _folds(plans: Sequence[Plan]) -> str:
    """How much of what they train on the folds of K have in common, (K - 2) / (K - 1), in a
    sentence; or empty."""
    counts = {plan.folds for plan in plans}
    if counts == {2}:
        return ""
    if None in counts:  # the default, which the number of classes decides
        return " So have their folds, if more than two, half or more of what they train on."
    return f" So have their folds {'half' if counts == {3} else 'most'} of what they train on."


def _unlike(studies: Sequence[Study]) -> str:
    """In what precisions their epochs were computed, if in several, in a sentence; or empty."""
    found = {
        str(row["precision"])
        for study in studies
        for trial in study.trials
        for row in trial.epochs
        if "precision" in row
    }
    if len(found) < 2:
        return ""
    return f" They were not all computed alike: in {' and '.join(sorted(found))}."


def _maps(runs: Mapping[str, pd.DataFrame], protocol: str) -> pd.DataFrame:
    """(comparisons, losses), the mean over the runs; of repeated searches, over these."""
    score, means = f"map_{protocol}", {}
    for name, one in runs.items():
        searches = one.groupby(["loss", "search"])[score].mean()
        means[name] = searches.groupby("loss").mean()
    return pd.DataFrame(means).T


def _losses(
    maps: pd.DataFrame,
    runs: Mapping[str, pd.DataFrame],
    others: Sequence[str],
    costs: pd.DataFrame,
) -> pd.DataFrame:
    many = pd.concat(list(runs.values())).groupby("loss").size()
    searched = costs[costs["protocol"] == costs["protocol"].iloc[0]].groupby("loss")
    cost = searched[["trials", "epochs", "sweep_seconds"]].sum()
    validation = searched["val_map"].mean()
    beside = {name: _maps(runs, name) for name in others}
    rows = []
    for loss in maps:
        low, high = mean_interval(maps[loss].to_numpy())
        row = {"loss": loss, "map": maps[loss].mean(), "low": low, "high": high}
        row |= {"lowest": maps[loss].min(), "highest": maps[loss].max()}
        for name, table in beside.items():
            low, high = mean_interval(table[loss].to_numpy())
            row |= {f"map_{name}": table[loss].mean(), f"low_{name}": low, f"high_{name}": high}
        trials, epochs, seconds = cost.loc[loss]
        row |= {"trials": int(trials), "epochs": epochs, "seconds": seconds}
        row |= {"val_map": validation[loss]}
        rows.append({**row, "runs": int(many[loss])})
    return pd.DataFrame(rows)


def _differences(
    maps: pd.DataFrame, common: Sequence[Queries], lacking: Collection[str]
) -> pd.DataFrame:
    """`common`: each comparison's queries, where all have the same."""
    rows, pairs = [], list(combinations(maps, 2))
    for first, second in pairs:
        a, b = maps[first].to_numpy(), maps[second].to_numpy()
        test, over_queries, both, alike = paired_test(a, b), NO_TEST, NO_TEST, np.nan
        if common:
            gap = np.stack([one.answered[first] - one.answered[second] for one in common])
            means, none = gap.mean(0), np.zeros(gap.shape[1])
            over_queries, alike = paired_test(means, none), equivalence(means, none, paired=True)
            both = two_way(gap, common[0].classes, GAPS)
        rows.append(
            {
                "first": first,
                "second": second,
                "difference": float((a - b).mean()),
                "low": test.interval.low,
                "high": test.interval.high,
                "ahead": int((a > b).sum()),
                "both_low": both.interval.low,
                "both_high": both.interval.high,
                "p": test.p,
                "query_p": over_queries.p,
                "equivalence_p": equivalence(a, b, paired=True),
                "query_equivalence_p": alike,
                "smallest": smallest_difference(a, b, family=len(pairs), paired=True),
            }
        )
    return _said(pd.DataFrame(rows), lacking) if rows else pd.DataFrame()


def _references(
    maps: pd.DataFrame,
    asked: Sequence[Queries],
    runs: Mapping[str, pd.DataFrame],
    lacking: Collection[str],
    asked_for: int,
) -> pd.DataFrame:
    """The unit is a run here: on the same images, without a search, only its seed is chance.

    Args:
        asked_for: how many runs each reference was to have.
    """
    every = pd.concat([one.assign(folder=folder) for folder, one in runs.items()])
    rows = []
    for loss, mine in every.groupby("loss"):
        if len(mine) < 2 or loss not in maps:
            continue
        protocol, *others = protocols_of(mine)
        reference, choices = mine[f"map_{protocol}"].to_numpy(), maps[loss].to_numpy()
        test = welch_test(choices, reference)
        ours = np.mean([one.answered[str(loss)] for one in asked], axis=0)
        theirs = _answered(mine, protocol)
        rows.append(
            {
                "loss": loss,
                "map": reference.mean(),
                "lowest": reference.min(),
                "highest": reference.max(),
                **{f"map_{name}": mine[f"map_{name}"].mean() for name in others},
                "runs": len(mine),
                "epochs": int(mine["epochs"].max()),
                "difference": float(choices.mean() - reference.mean()),
                "low": test.interval.low,
                "high": test.interval.high,
                "p": test.p,
                "query_p": paired_test(ours, theirs).p,
                "equivalence_p": equivalence(choices, reference),
                "query_equivalence_p": equivalence(ours, theirs, paired=True),
            }
        )
    if not rows:
        return NO_REFERENCES
    few = [row["loss"] for row in rows if row["runs"] < asked_for]
    untold = sum(resolve(str(loss)).reference is not None for loss in maps) - len(rows)
    table = pd.DataFrame(rows).sort_values("map", ascending=False, ignore_index=True)
    return _said(table, lacking, few, max(untold, 0))


def _answered(runs: pd.DataFrame, protocol: str) -> np.ndarray:
    """(Q,), the mean AP of each query over runs, without those that have no relevant image."""
    each = []
    for folder, mine in runs.groupby("folder"):
        arrays = read_arrays(Path(str(folder)) / FINALS, mine, ("ap",))
        each += [arrays[f"ap_{protocol}/{trial_id}"] for trial_id in mine["trial_id"]]
    mean = np.stack(each).mean(0, dtype=np.float64)
    return mean[~np.isnan(mean)]


def _said(
    table: pd.DataFrame,
    lacking: Collection[str] = (),
    few: Collection[str] = (),
    untold: int = 0,
) -> pd.DataFrame:
    """With the corrected p and the verdict of each row.

    Args:
        lacking: the losses whose choices lack runs: nothing is shown in favour of these.
        few: those whose references do: nothing is shown in favour of these.
        untold: of how many more comparisons, which were asked for, nothing is known.
    """
    largest = {}
    for name, over in (("p_corrected", "p"), ("p_alike", "equivalence_p")):
        p = np.fmax(table[over], table[f"query_{over}"]).tolist()
        largest[name] = holm([*p, *[np.nan] * untold])[: len(p)]
    verdict = said(largest["p_corrected"], largest["p_alike"])
    first = table["first"] if "first" in table else table["loss"]
    kept = [
        "not resolved" if one == "shown" and loss in (lacking if gap > 0 else few) else one
        for one, gap, loss in zip(verdict, table["difference"], first, strict=True)
    ]
    return table.assign(**largest, verdict=kept)
