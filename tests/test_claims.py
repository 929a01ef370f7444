"""What the pages say of the records, beside the numbers that the records' raw files give."""

from __future__ import annotations

import json
import re
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest

from analysis.page.answer_tables import differences_table as differences_cells
from study import publish
from study.judge.choices import Frozen
from study.judge.comparison import CONFIRMATION
from study.judge.final_tables import (
    class_table,
    differences_table,
    protocols_of,
    summary_table,
)
from study.run.results import Study, TrialRecord
from tests.test_study import ROOT
from trainables.data.fashion_mnist import CLASSES

RECORDS = ROOT / "study" / "records"
PAGE = " ".join((RECORDS / "README.md").read_text(encoding="utf-8").split())
README = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
EMOJI = "2026-11-25-emoji"
SHORT, LONG = "2026-11-24-fashion-mnist", "2026-11-24-longer-fashion-mnist"
EVERY = sorted(path.parent.name for path in RECORDS.glob("*/choices.json"))


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
def emoji() -> Record:
    return load(EMOJI)


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
        assert publish.with_results(text, places) == text


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
        f"below {smallest[0]:.4f} to {smallest[-1]:.4f}, by pair",
        f"have p from {equal[0]:.3f} to {equal[-1]:.3f}",
        f"above Smooth-AP on {long.gap('normalized_softmax', 'smooth_ap')['wins']} of 5 seeds",
    )
    says(
        README,
        f"within {spreads[0]:.4f} of each other",
        f"below {smallest[0]:.4f} to {smallest[-1]:.4f}",
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


def test_what_the_emoji_say(emoji: Record) -> None:
    """Smooth-AP is ahead of all three; of what its lead is, and beside which search."""
    others = ("pml:SupConLoss", "triplet", "normalized_softmax")
    gaps = []
    for loss in others:
        pair = ("smooth_ap", loss) if loss == "pml:SupConLoss" else (loss, "smooth_ap")
        row = emoji.gap(*pair)
        assert row["verdict"] == "shown"
        gaps.append(abs(row["difference"]))
    first, second, third = gaps
    says(
        PAGE,
        f"by {first:.3f} of supervised contrastive, {second:.3f} of triplet and {third:.3f} of "
        "normalised softmax",
    )
    says(README, f"Smooth-AP is ahead of supervised contrastive by {first:.3f}")
    maps = emoji.maps("full")
    found = emoji.runs[emoji.runs["loss"] == "smooth_ap"]["recall_at_1"]
    says(PAGE, f"R@1 is {found.mean():.3f} in the mean of three seeds, {found.max():.3f} at best")
    says(README, f"mAP {maps['smooth_ap']:.3f}", f"R@1 {found.mean():.3f}")
    labels = emoji.arrays["labels"]
    says(README, f"among {len(np.unique(labels))} classes that it never saw")
    says(README, f"its ten nearest of {len(emoji.arrays['gallery_full']):,} test images")
    assert set(np.unique(labels, return_counts=True)[1]) == {3}  # "two of them can be right"
    softmax = [t for t in emoji.sweep.trials if t.loss == "normalized_softmax"]
    assert {t.config.loss_lr for t in softmax} == {1.0, 10.0}
    says(PAGE, "tried at 1 and 10 times the network's (100 was in the range too)")
    whole = [t for t in emoji.sampled if len(t.epochs) == t.config.epochs]
    chosen = emoji.frozen.choices["pml:SupConLoss"].trial_id
    assert [trial.trial_id for trial in whole] == [chosen]
    says(PAGE, f"Of the {len(emoji.sampled)} sampled trials one reached the last epoch")
    chosen_rows = emoji.summary[emoji.summary["role"] == "chosen"].set_index("loss")
    lower = chosen_rows["val_map"] - chosen_rows["map"]
    says(PAGE, f"mAP is {lower.min():.3f} to {lower.max():.3f} lower than in validation")
    epochs = chosen_rows["epochs"]
    rest = epochs.drop("smooth_ap")
    said = f"Smooth-AP {epochs['smooth_ap']} epochs, and the others {rest.min()} to {rest.max()}"
    says(PAGE, said)
    card = json.loads((RECORDS / EMOJI / "data.json").read_text())["card"]
    for fact in ("1,852 classes", "694 classes", "232 classes", "926 classes"):
        assert fact in card
        number = fact.split()[0]
        assert number in PAGE


def test_no_page_claims_more_than_was_shown() -> None:
    for page in (PAGE, README, (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")):
        assert not re.search(r"no difference|nothing was set after|tuned losses lie", page, re.I)
