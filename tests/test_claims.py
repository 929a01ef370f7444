"""What the pages say of the records, beside the numbers that the records' raw files give."""

from __future__ import annotations

import json
import math
import re
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.found.words import capital, listed
from analysis.page.answer_tables import differences_table as differences_cells
from study.judge import pages
from study.judge.choices import Frozen
from study.judge.comparison import CONFIRMATION
from study.judge.final_tables import (
    class_table,
    differences_table,
    protocols_of,
    summary_table,
)
from study.judge.pooled import pooled
from study.results.studies import Study
from study.results.trials import TrialRecord
from tests.test_study import ROOT
from trainables.data.fashion_mnist import CLASSES
from trainables.losses import resolve
from trainables.networks import resolve as network

RECORDS = ROOT / "study" / "records"
PAGE = " ".join((RECORDS / "README.md").read_text(encoding="utf-8").split())
README = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
SHORT, LONG = "2026-11-24-fashion-mnist", "2026-11-24-longer-fashion-mnist"
EVERY = sorted(path.parent.name for path in RECORDS.glob("*/choices.json"))
FOLDS = [name for name in EVERY if "emoji-fold" in name]
BLOCK = re.compile(r"<!-- results: (.*?) -->(.*?)<!-- end of results -->", re.DOTALL)
POOLED = {
    named: block
    for named, block in BLOCK.findall((RECORDS / "README.md").read_text(encoding="utf-8"))
    if " " in named
}


class Record(NamedTuple):
    """A record's raw files, and what follows from them, computed here."""

    sweep: Study
    confirmation: Study
    frozen: Frozen
    runs: pd.DataFrame
    arrays: dict[str, np.ndarray]
    summary: pd.DataFrame
    differences: pd.DataFrame
    classes: pd.DataFrame

    def maps(self, protocol: str, role: str = "chosen") -> pd.Series:
        """The mean mAP of each loss, from the AP of the queries."""
        mine = self.runs[self.runs["role"] == role]
        aps = [float(self.arrays[f"ap_{protocol}/{t}"].astype(float).mean()) for t in mine.trial_id]
        return mine.assign(map=aps).groupby("loss")["map"].mean()

    def chosen(self, loss: str) -> list[str]:
        """The confirming runs of a loss's choice."""
        mine = (self.runs["role"] == "chosen") & (self.runs["loss"] == loss)
        return self.runs[mine]["trial_id"].tolist()

    def gap(
        self, first: str, second: str, role: str = "chosen", protocol: str = "full"
    ) -> pd.Series:
        table = self.differences.set_index(["protocol", "role", "first", "second"])
        return table.loc[(protocol, role, first, second)]

    def by_class(self, first: str, second: str, name: str) -> float:
        """By how much the first is above the second on a class."""
        table, sign = self.classes.set_index(["first", "second", "label"])["difference"], 1
        if (first, second, 0) not in table.index:
            first, second, sign = second, first, -1
        return sign * float(table.loc[(first, second, CLASSES.index(name))])

    @property
    def sampled(self) -> list[TrialRecord]:
        return [trial for trial in self.sweep.trials if not trial.hand_set]


@cache
def load(name: str) -> Record:
    folder = RECORDS / name
    sweep, runs = Study.load(folder), pd.read_csv(folder / "finals" / "runs.csv")
    arrays = dict(np.load(folder / "finals" / "queries.npz"))
    return Record(
        sweep,
        Study.load(folder / CONFIRMATION),
        Frozen.load(folder),
        runs,
        arrays,
        summary_table(runs, arrays, [sweep]),
        differences_table(runs, arrays, sweep.losses),
        class_table(runs, arrays, sweep.losses),
    )


@pytest.fixture(scope="module")
def short() -> Record:
    return load(SHORT)


@pytest.fixture(scope="module")
def long() -> Record:
    return load(LONG)


def says(page: str, *claims: str) -> None:
    for claim in claims:
        assert claim in page, claim


@pytest.fixture(scope="module")
def folds() -> list[Record]:
    return [load(name) for name in FOLDS]


@pytest.mark.parametrize("name", EVERY)
def test_a_records_tables_follow_from_its_raw_files(name: str) -> None:
    record, finals = load(name), RECORDS / name / "finals"
    for table in ("summary", "differences", "classes"):
        kept, made = pd.read_csv(finals / f"{table}.csv"), getattr(record, table)
        made = made[kept.columns]  # records of before have fewer
        pd.testing.assert_frame_equal(kept, made, rtol=1e-9, check_dtype=False)
    confirmed = {trial.trial_id: trial for trial in record.confirmation.trials}
    for run in record.runs.itertuples():
        trial = confirmed[run.trial_id]
        assert (run.loss, run.seed) == (trial.config.loss, trial.config.seed)
        assert run.best_val_map == trial.best["val_map"] and run.epochs == len(trial.epochs)
        for protocol in protocols_of(record.runs):
            stored = record.arrays[f"ap_{protocol}/{run.trial_id}"].astype(float).mean()
            assert stored == pytest.approx(getattr(run, f"map_{protocol}"), abs=1e-6)


@pytest.mark.parametrize("name", EVERY)
def test_the_verdict_stands_beside_the_difference(name: str) -> None:
    """A narrow window cuts off what stands last."""
    kept = pd.read_csv(RECORDS / name / "finals" / "differences.csv")
    table = differences_cells(kept)
    assert table is not None and table.cells["verdict"].tolist() == kept["verdict"].tolist()
    columns = list(table.cells)
    assert columns.index("verdict") == columns.index("mAP") + 1 < 5


@pytest.mark.parametrize("page", [RECORDS / "README.md", ROOT / "README.md"])
def test_the_pages_have_the_records_tables(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = re.findall(r"<!-- results: (.*?) -->", text)
    assert named
    for records in named:
        places = [ROOT / record for record in records.split()]
        assert pages.with_results(text, places) == text


def test_every_record_stands_on_the_records_page() -> None:
    text = (RECORDS / "README.md").read_text(encoding="utf-8")
    named = " ".join(re.findall(r"<!-- results: (.*?) -->", text)).split()
    assert EVERY and set(named) == {f"study/records/{name}" for name in EVERY}


def test_which_loss_is_not_resolved(long: Record) -> None:
    spreads = [np.ptp(long.maps(protocol)) for protocol in ("full", "seed")]
    pairs = [
        long.gap(*pair) for pair in combinations(("normalized_softmax", "triplet", "smooth_ap"), 2)
    ]
    smallest = sorted(pair["smallest"] for pair in pairs)
    equal = sorted(pair["equivalence_p"] for pair in pairs)
    assert {pair["verdict"] for pair in pairs} == {"not resolved"}
    says(
        PAGE,
        f"within {spreads[0]:.4f} of each other on the full protocol",
        f"within {spreads[1]:.4f} on the seed protocol",
        f"of {smallest[0]:.4f} to {smallest[-1]:.4f}, by pair",
        f"have p from {equal[0]:.3f} to {equal[-1]:.3f}",
        f"above Smooth-AP on {long.gap('normalized_softmax', 'smooth_ap')['wins']} of 5 seeds",
    )
    says(
        README,
        f"within {spreads[0]:.4f} of each other",
        f"of {smallest[0]:.4f} to {smallest[-1]:.4f}, by pair",
    )


def test_seeds_pair_little(short: Record, long: Record) -> None:
    found = []
    for record in (short, long):
        chosen = record.runs[record.runs["role"] == "chosen"]
        table = chosen.pivot(index="seed", columns="loss", values="map_full").corr().to_numpy()
        found += list(table[np.triu_indices(3, 1)])
    says(PAGE, f"correlations from {min(found):.2f} to {max(found):.2f}")


def test_the_pattern_by_class(long: Record) -> None:
    ahead = {
        name: long.by_class("triplet", "normalized_softmax", name)
        for name in ("Shirt", "Coat", "T-shirt/top")
    }
    both = long.gap("normalized_softmax", "triplet")
    said = [f"{name} ({gap:+.3f})" for name, gap in ahead.items()]
    says(PAGE, f"is ahead on {said[0]} and behind on {said[1]} and {said[2]}")
    says(PAGE, f"{both['both_low']:.3f} to {both['both_high']:+.3f}")


@pytest.mark.parametrize("name", [SHORT, LONG])
def test_what_the_search_found(name: str) -> None:
    record = load(name)
    ended = [t for t in record.sampled if len(t.epochs) == t.config.epochs]
    hand_set = {t.trial_id for t in record.sweep.trials if t.hand_set}
    chosen = [c.trial_id in hand_set for c in record.frozen.choices.values()]
    says(
        PAGE,
        f"Of {len(record.sampled)} sampled trials {len(ended) or 'none'} reached the last epoch",
    )
    if name == LONG:
        assert all(chosen)
        says(README, "All three are hand-set starts: of 15 sampled trials none reached the last")
        assert (len(record.sampled), len(ended)) == (15, 0)
    else:
        (found,) = [c for c in record.frozen.choices.values() if c.trial_id not in hand_set]
        assert found.config.loss == "smooth_ap" and sum(chosen) == 2


def test_beside_the_seed_studys_settings(long: Record) -> None:
    gaps = [
        long.gap(first, second, "tuning")["difference"]
        for first, second in (
            ("normalized_softmax", "cross_entropy"),
            ("triplet", "triplet"),
            ("smooth_ap", "smooth_ap"),
        )
    ]
    linear = [t for t in long.sampled if t.config.loss == "cross_entropy"]
    assert all(t.status == "stopped_early" for t in linear)
    best = max(t.best["val_map"] for t in linear)
    says(PAGE, f"the choices gain {gaps[0]:.3f} (normalised softmax", f"{gaps[1]:.3f} (triplet)")
    says(PAGE, f"{gaps[2]:.3f} (Smooth-AP)", f"the best of them at {best:.3f}")
    assert {len(t.epochs) for t in long.confirmation.trials} == {20}
    says(PAGE, "trained for 20 of their 100 epochs")


def test_the_seed_studys_verdict(long: Record) -> None:
    full = long.gap("triplet", "smooth_ap", "reference")
    says(PAGE, f"triplet is {full['difference']:.3f} ahead, shown")
    assert full["verdict"] == "shown"
    assert long.gap("triplet", "smooth_ap", "reference", "seed")["verdict"] == "not resolved"
    for protocol in ("full", "seed"):
        assert long.gap("triplet", "smooth_ap", "chosen", protocol)["verdict"] == "not resolved"


def test_the_budget_decides(short: Record, long: Record) -> None:
    gaps = [short.gap("normalized_softmax", other) for other in ("triplet", "smooth_ap")]
    assert {gap["verdict"] for gap in gaps} == {"shown"}
    first, second = (gap["difference"] for gap in gaps)
    says(PAGE, f"ahead of triplet by {first:.4f} and of Smooth-AP by {second:.4f}")
    assert long.maps("full").min() > short.maps("full").max()
    low, high = long.maps("seed").min(), short.maps("seed").max()
    assert low < high
    says(PAGE, f"({low:.4f} at 20, {high:.4f} at 12)")


def test_what_is_not_resolved_by_either(short: Record, long: Record) -> None:
    both = [*short.sweep.trials, *long.sweep.trials]
    ended = [t for t in both if t.loss == "smooth_ap" and len(t.epochs) == t.config.epochs]
    taus = [t.config.loss_args["tau"] for t in ended]
    says(PAGE, f"have τ from {min(taus):.4f} to {max(taus):.3f}")
    mine = [t for t in long.sweep.trials if t.loss == "smooth_ap"]
    second = sorted(mine, key=lambda t: -t.best["val_map"])[1]
    says(
        PAGE,
        f"has τ {second.config.loss_args['tau']:.3f} ({second.best['val_map']:.3f} after 6 epochs)",
    )
    assert len(second.epochs) == 6
    sampled = [t for t in ended if not t.hand_set]
    seeds = [t.best["val_map"] for t in sampled if t.config.loss_args["numerator"] == "seed"]
    papers = sorted(
        t.best["val_map"] for t in sampled if t.config.loss_args["numerator"] == "paper"
    )
    beside = f"beside two with the paper's ({papers[0]:.3f} and {papers[1]:.3f})"
    says(PAGE, f"({seeds[0]:.3f}), {beside}")
    assert (len(seeds), len(papers)) == (1, 2)
    sampled = [*short.sampled, *long.sampled]
    sgd = [t for t in sampled if t.config.optimizer == "sgd"]
    says(PAGE, f"{len(sgd)} of the {len(sampled)} sampled trials had SGD")
    assert all(len(t.epochs) < t.config.epochs for t in sgd)
    full = "protocol == 'full' and role == 'chosen'"
    chosen = [record.summary.query(full) for record in (short, long)]
    lower = pd.concat([table["val_map"] - table["map"] for table in chosen])
    says(PAGE, f"lie {lower.min():.3f} to {lower.max():.3f} lower than in validation")


def slow_holm(p: list[float]) -> list[float]:
    found, worst = [0.0] * len(p), 0.0
    for rank, place in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        worst = max(worst, min(1.0, p[place] * (len(p) - rank)))
        found[place] = worst
    return found


def slow_verdicts(records: list[Record]) -> dict[tuple[str, str], tuple[float, str]]:
    """By pair of losses, the higher first, the mean difference and what the plan calls it."""
    maps = pd.DataFrame([record.maps("full") for record in records])
    maps = maps[maps.mean().sort_values(ascending=False).index]
    first = records[0].sweep.info["plan"]
    common = all(
        record.sweep.info["plan"]["holdout_classes"] == first["holdout_classes"]
        for record in records
    )
    pairs, kinds = list(combinations(maps, 2)), [maps]
    if common:
        answered = {
            loss: np.mean(
                [
                    record.arrays[f"ap_full/{trial}"].astype(float)
                    for record in records
                    for trial in record.chosen(loss)
                ],
                axis=0,
            )
            for loss in maps
        }
        kinds.append(pd.DataFrame(answered))
    shown, alike = [], []
    for values in kinds:
        gaps = [values[a] - values[b] for a, b in pairs]
        shown.append(slow_holm([stats.ttest_1samp(gap, 0).pvalue for gap in gaps]))
        sides = [
            [
                stats.ttest_1samp(gap, bound, alternative=side).pvalue
                for bound, side in ((-0.005, "greater"), (0.005, "less"))
            ]
            for gap in gaps
        ]
        alike.append(slow_holm([max(both) for both in sides]))
    said = [
        "shown" if max(p) < 0.05 else "equivalent" if max(q) < 0.05 else "not resolved"
        for p, q in zip(zip(*shown, strict=True), zip(*alike, strict=True), strict=True)
    ]
    means = [float((maps[a] - maps[b]).mean()) for a, b in pairs]
    return dict(zip(pairs, zip(means, said, strict=True), strict=True))


@pytest.mark.parametrize("named", POOLED)
def test_the_verdicts_of_several_records_follow_from_their_queries(named: str) -> None:
    records = [load(Path(place).name) for place in named.split()]
    rows = [line.strip("| ").split(" | ") for line in POOLED[named].splitlines()]
    there = {row[0]: (row[1], row[-1]) for row in rows if "−" in row[0]}
    by_hand = {
        f"{resolve(a).heading} − {resolve(b).heading}": (f"{difference:+.4f}", verdict)
        for (a, b), (difference, verdict) in slow_verdicts(records).items()
    }
    assert there == by_hand and by_hand


def emoji_claims(folds: list[Record]) -> list[str]:
    """What is written of the emoji, made of the records' raw values."""
    verdicts = slow_verdicts(folds)
    maps = pd.DataFrame([record.maps("full") for record in folds])
    means = maps.mean()
    order = list(means.sort_values(ascending=False).index)
    first, last = order[:3], order[3:]
    apart = [verdicts[a, b] for a in first for b in last]
    assert [verdict for _, verdict in apart] == ["shown"] * 9
    among = [verdicts[pair] for pair in combinations(first, 2)]
    assert [verdict for _, verdict in among] == ["not resolved"] * 3
    table = pooled([RECORDS / name for name in FOLDS]).differences
    close = table[table["first"].isin(first) & table["second"].isin(first)]["smallest"]
    a, b, c = last
    assert (maps[a] > maps[b]).all()  # "in all four folds"
    assert [verdicts[pair][1] for pair in ((a, b), (a, c), (b, c))] == [
        "not resolved", "shown", "shown",
    ]  # fmt: skip
    names = {loss: resolve(loss).title for loss in order}
    leading, others = (listed([names[loss] for loss in part]) for part in (first, last))
    runs = pd.concat([record.runs for record in folds])
    recalls = runs.groupby("loss")["recall_at_1"].mean()
    summary = pd.concat([record.summary for record in folds])
    drop = summary["val_map"] - summary["map"]
    seconds = summary.groupby("loss")["sweep_seconds"].sum()
    hours = (seconds.sum() + summary["confirm_seconds"].sum()) / 3600
    late = pd.concat([record.runs.assign(fold=k) for k, record in enumerate(folds)])
    late = late[(late["loss"] == "cross_entropy") & (late["fold"] > 0)]["best_epoch"]
    linear = [t for t in folds[1].confirmation.trials if t.loss == "cross_entropy"]
    guessed = float(np.mean([trial.epochs[-1]["train_loss"] for trial in linear]))
    assert (summary["trials"] == 114).all() and (summary["epochs"] == 648).all()
    gaps = [difference for difference, _ in apart]
    return [
        f"**{capital(leading)} are ahead of {others}, shown**",
        f"all nine differences, of {min(gaps):.3f} to {max(gaps):.3f}",
        f"lie within {max(d for d, _ in among):.4f} of each other in the mean of the folds, and a "
        f"true difference of {close.min():.3f} to {close.max():.3f}, by pair, would have been "
        "shown in four of five such sets of folds",
        f"{capital(names[a])} and {names[b]} are ahead of {names[c]}, shown; {names[a]}'s lead "
        f"over {names[b]}, {verdicts[a, b][0]:.3f} and in all four folds, is not resolved",
        f"R@1 is {', '.join(f'{recalls[loss]:.3f}' for loss in order)}, in the table's order",
        f"mAP is {drop.min():.3f} to {drop.max():.3f} lower than in validation",
        f"114 trials and 648 epochs for each loss and fold, {seconds.min():,.0f} "
        f"({names[seconds.idxmin()]}) to {seconds.max():,.0f} ({names[seconds.idxmax()]}) seconds "
        f"of training on one core a loss over the four searches, {hours:.1f} core-hours in all "
        "with the confirming runs",
        f"in folds 1 to 3, {(late <= 3).sum()} of its {len(late)} confirming runs are best within "
        "their first three epochs",
        f"in fold 1 its training loss ends at {guessed:.2f}, where guessing among 694 classes has "
        f"{math.log(694):.2f}",
        *(
            chosen_from(folds, loss, knob)
            for loss, knob in (
                ("pml:SupConLoss", "temperature"),
                ("triplet", "margin"),
                ("normalized_softmax", "temperature"),
            )
        ),
    ]


def chosen_from(folds: list[Record], loss: str, knob: str) -> str:
    """Where the choices of a knob lie in its range."""
    (span,) = [one.range for one in resolve(loss).knobs if one.name == knob]
    values = [record.frozen.choices[loss].config.loss_args[knob] for record in folds]
    one = "one" if loss != "pml:SupConLoss" else "a range"
    return f"from {min(values):.3f} to {max(values):.3f} in {one} of {span.low:g} to {span.high:g}"


def test_what_the_emoji_say(folds: list[Record]) -> None:
    for claim in emoji_claims(folds):
        says(PAGE, claim)
    labels = folds[0].arrays["labels"]
    assert set(np.unique(labels, return_counts=True)[1]) == {3}  # "two of them can be right"
    classes, images = len(np.unique(labels)), len(folds[0].arrays["gallery_full"])
    says(
        README,
        f"{classes} classes that the network never saw",
        f"ten nearest of {images:,} test images",
    )
    means = pd.DataFrame([record.maps("full") for record in folds]).mean()
    means = means.sort_values(ascending=False)
    said = "; ".join(f"{resolve(loss).title} {value:.3f}" for loss, value in means.items())
    first, last = (
        listed([resolve(loss).title for loss in part]) for part in np.split(means.index, 2)
    )
    says(README, f"(mAP: {said})", f"four folds, {first} are ahead of {last}, [shown](study")
    weights = sum(weight.numel() for weight in network("seed_cnn", channels=3).build().parameters())
    says(README, f"a network of {weights:,} weights")
    says(PAGE, f"({weights:,} with three channels)")
    card = json.loads((RECORDS / FOLDS[0] / "data.json").read_text())["card"]
    for fact in ("1,852 classes", "694 classes", "232 classes", "926 classes"):
        assert fact in card
        says(PAGE, fact.split()[0])
    assert "6 pictures in several classes" in card and "5 pictures in several parts" in card


NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def test_how_much_of_the_plan_is_done_and_what_its_parts_do_not_agree_in(
    folds: list[Record],
) -> None:
    splits = [load(name) for name in EVERY if "held-out-split" in name]
    done = f"{NUMBERS[len(splits)]} of ten splits"
    says(PAGE, f"the emoji are done, and {done}", f"of which {done} are done")
    says(README, f"{done} of Fashion-MNIST so far")
    emoji, fashion = slow_verdicts(folds), slow_verdicts(splits)
    behind = {verdict for (_, second), (_, verdict) in emoji.items() if second == "cross_entropy"}
    assert behind == {"shown"} and not [a for a, _ in emoji if a == "cross_entropy"]
    assert [a for a, _ in fashion].count("cross_entropy") == 5
    assert {verdict for _, verdict in fashion.values()} == {"not resolved"}
    says(
        README, "behind all others on the emoji, shown, is the highest on these splits in the mean"
    )
    says(README, "where nothing is resolved so far")


def test_no_page_claims_more_than_was_shown() -> None:
    for page in (PAGE, README, (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")):
        assert not re.search(r"no difference|nothing was set after|tuned losses lie", page, re.I)
