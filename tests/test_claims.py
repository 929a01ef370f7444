"""What the pages say of the records, beside the numbers that the records' raw files give."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest
from scipy import stats

from analysis.page.answer_tables import differences_table as differences_cells
from study.judge import pages
from study.judge.final_tables import (
    protocols_of,
)
from study.run.cluster import ROOT
from tests.claims import (
    EVERY,
    FOLDS,
    OWN,
    PAGE,
    POOLED,
    README,
    RECORDS,
    SPLITS,
    Record,
    early,
    load,
    says,
    slow_rows,
    slow_verdicts,
)
from trainables.losses import resolve


@pytest.fixture(scope="module")
def folds() -> list[Record]:
    return [load(name) for name in FOLDS]


@pytest.fixture(scope="module")
def splits() -> list[Record]:
    return [load(name) for name in SPLITS]


@pytest.mark.parametrize("name", EVERY)
def test_a_records_tables_follow_from_its_raw_files(name: str) -> None:
    record, finals = load(name), RECORDS / name / "finals"
    for table in ("summary", "differences", "classes"):
        kept, made = pd.read_csv(finals / f"{table}.csv"), getattr(record, table)
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
    table = differences_cells(kept, "seeds")
    assert table is not None and table.cells["verdict"].tolist() == kept["verdict"].tolist()
    columns = list(table.cells)
    assert columns.index("verdict") == columns.index("mAP") + 1 < 5


@pytest.mark.parametrize("page", [RECORDS / "README.md", ROOT / "README.md"])
def test_the_pages_have_the_records_tables(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = re.findall(r"<!-- results: (.*?) -->", text)
    assert named or page.parent == ROOT
    for records in named:
        places = [ROOT / record for record in records.split()]
        assert pages.with_results(text, places) == text


def test_every_record_stands_on_the_records_page() -> None:
    text = (RECORDS / "README.md").read_text(encoding="utf-8")
    named = " ".join(re.findall(r"<!-- results: (.*?) -->", text)).split()
    assert EVERY and set(named) == {f"study/records/{name}" for name in EVERY}


@pytest.mark.parametrize("named", POOLED)
def test_the_differences_of_several_records_follow_from_their_queries(named: str) -> None:
    records = [load(Path(place).name) for place in named.split()]
    rows = [line.strip("| ").split(" | ") for line in POOLED[named].splitlines()]
    there = {row[0]: row[1:] for row in rows if "−" in row[0]}
    found = slow_rows(records)
    assert len(there) == len(found) == 15
    for (a, b), slow in found.items():
        cells = there[f"{resolve(a).heading} − {resolve(b).heading}"]
        assert cells[:2] == [f"{slow.difference:+.4f}", f"{slow.low:+.4f} to {slow.high:+.4f}"]
        *_, ahead, p, _, verdict, alike = cells
        assert ahead == f"{slow.ahead} of {len(records)}"
        assert (p, verdict, alike) == (f"{slow.p:.2g}", slow.verdict, f"{slow.alike:.2g}")


@pytest.mark.parametrize("named", POOLED)
def test_the_maps_of_several_records_follow_from_their_queries(named: str) -> None:
    records = [load(Path(place).name) for place in named.split()]
    rows = [line.strip("| ").split(" | ") for line in POOLED[named].splitlines()]
    maps = pd.DataFrame([record.maps("full") for record in records])
    runs = pd.concat([record.runs.assign(of=k) for k, record in enumerate(records)])
    runs = runs[runs["role"] == "chosen"]
    validation = runs.groupby(["of", "loss"])["best_val_map"].mean().groupby("loss").mean()
    for loss in maps:
        heading, mine = resolve(str(loss)).heading, maps[loss]
        (cells,) = [row[1:] for row in rows if row[0] == heading and "trials" in row[-1]]
        low, high = stats.t.interval(0.95, len(mine) - 1, mine.mean(), stats.sem(mine))
        assert cells[:5] == [
            f"{mine.mean():.4f}", f"{max(low, 0):.4f} to {min(high, 1):.4f}",
            f"{mine.min():.4f}", f"{mine.max():.4f}", f"{validation[loss]:.4f}",
        ]  # fmt: skip


def test_how_far_a_best_epoch_is_above_the_last(folds: list[Record], splits: list[Record]) -> None:
    own = [load(name) for name in OWN]
    gaps = [
        early(records, loss)[1]
        for records in (folds, splits, own)
        for loss in records[0].frozen.choices
    ]
    judging = (ROOT / "study" / "JUDGING.md").read_text(encoding="utf-8")
    says(judging, f"the best epoch lies {min(gaps):.4f} to {max(gaps):.4f} mAP above the last")


def test_how_much_of_the_plan_is_done_and_what_its_parts_do_not_agree_in(
    folds: list[Record], splits: list[Record]
) -> None:
    emoji, fashion = slow_verdicts(folds), slow_verdicts(splits)
    assert len(splits) == 10 and len(folds) == 4
    assert len(OWN) == 10
    says(PAGE, "the emoji, the ten splits of Fashion-MNIST's classes and the ten comparisons")
    says(
        README, "Its three parts are done: the emoji, ten splits of Fashion-MNIST's classes and ten"
    )
    behind = {verdict for (_, second), (_, verdict) in emoji.items() if second == "cross_entropy"}
    assert behind == {"shown"} and not [a for a, _ in emoji if a == "cross_entropy"]
    assert [a for a, _ in fashion].count("cross_entropy") == 5
    assert {verdict for _, verdict in fashion.values()} == {"not resolved"}
    says(README, "behind all others on the emoji, shown, is the highest on Fashion-MNIST's unseen")
    says(README, "where nothing is resolved")


def test_no_page_claims_more_than_was_shown() -> None:
    for page in (PAGE, README, (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")):
        assert not re.search(r"no difference|nothing was set after|tuned losses lie", page, re.I)


def test_each_part_says_for_whom_it_holds() -> None:
    text = (RECORDS / "README.md").read_text(encoding="utf-8")
    parts = [part for part in text.split("\n## ") if re.search(r"<!-- results: \S+ study", part)]
    assert len(parts) == 3
    for part in parts:
        assert (
            "\n- **For whom it holds**: " in part and "\n- **Ranges may be too narrow**: " in part
        )
