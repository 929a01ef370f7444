# ruff: noqa: F401, F811 (fixtures of other files)
"""The tables that pages have of records."""

from __future__ import annotations

import itertools
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from study import publish
from study.judge import pages
from study.judge.pooled import pooled
from study.judge.pooled_tables import markdown
from study.results.files import StudyError
from tests.small_comparisons import of_three_splits, write
from tests.test_final_test import SEEDS, make, read_test, reads
from tests.test_publish import comparison, record

README = "before\n<!-- results: none -->\nnothing yet\n<!-- end of results -->\nafter\n"
END = "<!-- end of results -->\n"
ANSWER = "before\n<!-- answer -->\n<!-- end of answer -->\nafter\n"


def test_the_readme_says_what_the_record_says(record: Path) -> None:
    text = pages.with_results(README, [record])
    assert text.startswith(f"before\n<!-- results: {record.name} -->\n| test mAP |")
    assert text.endswith("<!-- end of results -->\nafter\n")
    assert pages.with_results(text, [record]) == text
    summary = pd.read_csv(record / "finals" / "summary.csv")
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|")
    ]
    widths = [len(row) for row in cells]
    chosen = ["Cross-entropy", "Normalised softmax", "Triplet", "Smooth-AP"]
    beside = ["Cross-entropy", "Triplet", "Smooth-AP"]
    assert widths == [8] * (2 + 4 + 3) + [8] * (2 + 6 + 3)
    assert [row[0] for row in cells[2:9]] == [
        *(f"{name}, found by the search" for name in chosen),
        *(f"{name}, reference" for name in beside),
    ]
    full = summary[summary["protocol"] == "full"].set_index(["role", "loss"])
    triplet = full.loc[("chosen", "triplet")]
    assert cells[4][1] == f"{triplet['map']:.4f}"
    assert cells[4][3] == f"{triplet['both_low']:.3f} to {triplet['both_high']:.3f}"
    # One of three runs failed; two trials of one epoch.
    assert cells[4][6:] == ["2 × 1 epochs", "2 trials, 2 epochs, 0.0 h"]
    assert cells[6][6:] == ["3 × 1 of its 100 epochs", "-"]
    first = pd.read_csv(record / "finals" / "differences.csv").iloc[0]
    pairs = [f"{a} − {b}" for a, b in itertools.combinations(chosen, 2)]
    tuned = [f"{name} − {name}, reference" for name in beside]
    assert [row[0] for row in cells[11:]] == [*pairs, *tuned]
    assert cells[11][1] == f"{first['difference']:+.4f}"
    assert cells[11][5:] == [
        f"{first['superiority']:.2f}",
        f"{first['smallest']:.4f}",
        first["verdict"],
    ]
    trained = f"its best by validation mAP trained again on {len(SEEDS)}"
    assert f"2 configurations of at most 1 epochs, {trained}" in text


@pytest.mark.parametrize("text", ["nothing", README + README])
def test_a_readme_has_its_two_markers_once(text: str, record: Path) -> None:
    with pytest.raises(ValueError, match=r"must have one <!-- results: .*; it has those of"):
        pages.with_results(text, [record])


def test_commit_and_processor_stand_beside_the_command(record: Path) -> None:
    path = record / "study.json"
    info = json.loads(path.read_text()) | {"command": "python x", "commit": "0123456789abcdef"}
    for machine, said in (({"processor": "P 1"}, " on P 1"), ({}, "")):
        path.write_text(json.dumps(info | {"machine": machine}))
        text = pages.with_results(README, [record])
        assert f"`python x`, commit 0123456789{said}.\n" in text
    path.write_text(json.dumps(info | {"commit": None, "machine": {}}))
    assert "`python x`.\n" in pages.with_results(README, [record])


def test_readme_and_a_changed_record_do_not_agree(record: Path, tmp_path: Path) -> None:
    """The test above can fail."""
    text = pages.with_results(README, [record])
    changed = tmp_path / "changed" / record.name
    shutil.copytree(record, changed)
    path = changed / "finals" / "summary.csv"
    path.write_text(re.sub(r"0\.\d{4}", "0.1234", path.read_text()))
    assert pages.with_results(text, [changed]) != text
    plan = json.loads((changed / "study.json").read_text())["plan"]
    assert plan["confirm_seeds"] == len(SEEDS)


def test_a_page_has_the_table_of_several_records(tmp_path: Path) -> None:
    folders = of_three_splits(tmp_path)
    name = " ".join(folder.name for folder in folders)
    page = f"before\n<!-- results: {name} -->\nold\n<!-- end of results -->\nafter\n"
    with pytest.raises(StudyError, match="a page must have one"):
        pages.with_results(page.replace(name, "other"), folders)
    found = pages.with_results(page, folders)
    assert markdown(pooled(folders)) in found and "old" not in found
    assert pages.with_results(found, folders) == found


# By part and comparison, the mAP of each loss.
EASY = [{"triplet": (0.50 + s,), "smooth_ap": (0.60 + 1.1 * s,)} for s in (0.0, 0.02, -0.02)]
HARD = [{"triplet": (0.20 + s,), "smooth_ap": (0.19 - s,)} for s in (0.0, 0.05, -0.05)]


def test_the_answer_has_a_column_for_each_part_and_what_leads_in_it_in_bold(tmp_path: Path) -> None:
    """Over all queries of the easy part smooth_ap is 0.1 ahead; of the other nothing is shown."""
    made = {
        title: [write(tmp_path / f"{n}{k}", maps, holdout_classes=[k]) for k, maps in enumerate(of)]
        for n, (title, of) in enumerate({"Easy": EASY, "Hard": HARD}.items(), start=1)
    }
    assert pooled(made["Easy"]).differences["verdict"].tolist() == ["shown"]
    assert pooled(made["Hard"]).differences["verdict"].tolist() == ["not resolved"]
    page = "# Title\n" + "".join(
        f"## {title}: three\ntext\n<!-- results: {' '.join(map(str, of))} -->\n"
        f"{END}## One by itself\n<!-- results: one -->\n{END}"
        for title, of in made.items()
    )
    text = pages.with_answer(ANSWER, page)
    assert text.startswith("before\n<!-- answer -->\n| test mAP | Easy | Hard |\n|---|--:|--:|\n")
    rows = "| Smooth-AP | **0.600** | **0.190** |\n| Triplet | 0.500 | **0.200** |\n"
    assert rows in text
    assert (
        "each with its searches and seeds: 3 of Easy (1 of 1 differences shown); "
        "3 of Hard (none of 1 differences shown).\n" in text
    )
    assert text.endswith("<!-- end of answer -->\nafter\n")
    assert pages.with_answer(text, page) == text
    assert pages.with_answer("no markers", page) == "no markers"


def test_parts_that_cannot_stand_in_one_table_are_refused(tmp_path: Path) -> None:
    made = [write(tmp_path / f"1{k}", maps, holdout_classes=[k]) for k, maps in enumerate(EASY)]
    part = pages.Part("Easy", pooled(made))
    with pytest.raises(StudyError, match="a title of its own; got Easy, Easy"):
        pages.answer([part, part])
    few = part.found._replace(maps=part.found.maps[["triplet"]])
    with pytest.raises(StudyError, match=r"of the same losses; not all have smooth_ap, triplet"):
        pages.answer([part, pages.Part("Hard", few)])


def test_all_pages_are_written_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = [write(tmp_path / f"1{k}", maps, holdout_classes=[k]) for k, maps in enumerate(EASY)]
    named = f"<!-- results: {' '.join(folder.name for folder in made)} -->\n"
    readme, page = tmp_path / "README.md", tmp_path / "RECORDS.md"
    readme.write_text(ANSWER)
    page.write_text(f"# Title\n## Easy: three\n{named}{END}")
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    monkeypatch.setattr(pages, "README", readme)
    monkeypatch.setattr(pages, "RECORDS_PAGE", page)
    words = ["--readme", *map(str, made)]
    assert publish.main(words) == 0
    assert markdown(pooled(made)) in page.read_text()
    assert "| Smooth-AP | **0.600** |" in readme.read_text()
    before = readme.read_text(), page.read_text()
    assert publish.main(words[:-1]) == 2  # no page shows two of them
    assert "a page must have one" in capsys.readouterr().err
    assert (readme.read_text(), page.read_text()) == before


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "epochs, its best by validation mAP trained again on 3 fresh"),
        ({"final_seeds": 2}, "its best 2 and the hand-set defaults trained on 2 seeds, and of"),
        (
            {"final_seeds": 1, "from_scratch": True},
            "its best 2 trained on 1 seed, and of these the best by validation mAP trained again",
        ),
    ],
)
def test_a_table_says_how_its_choices_were_made(
    changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    sweep, confirmation = make(tmp_path / "c", **changes)
    read_test(sweep, confirmation)
    assert said in pages.results(sweep.folder)


def test_the_readmes_answer_is_that_of_the_records() -> None:
    text = pages.README.read_text(encoding="utf-8")
    assert pages.ANSWER.search(text)
    assert pages.with_answer(text, pages.RECORDS_PAGE.read_text(encoding="utf-8")) == text
