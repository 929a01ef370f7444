"""What several searches chose, beside the raw records."""

from __future__ import annotations

import json
import math
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as some

from analysis.figures.chosen_figure import chosen_figure
from analysis.found.chosen_knobs import (
    chosen_knobs,
    chosen_table,
    in_outer_tenths,
    is_span,
)
from analysis.found.knobs import searched
from analysis.found.words import loss_name
from analysis.page.chosen import chosen_sections
from analysis.page.pooled_page import pooled_page
from study.judge.choices import CHOICES
from study.judge.comparison import SEARCHES
from study.judge.pooled import pooled
from study.results.studies import Study
from study.search.space import WIDE, describe, knobs_of
from tests.claims import FOLDS, OWN, RECORDS, SPLITS, ends, load
from trainables.knobs import Choice, Span, range_of, shortened
from trainables.losses import resolve

FOLDERS = [RECORDS / name for name in SPLITS]
NUMBERS = some.floats(1e-6, 1e6).map(shortened)
VALUES = some.one_of(NUMBERS, some.integers(0, 512), some.booleans(), some.just(None),
                     some.sampled_from(["mean", "adam"]))  # fmt: skip


@pytest.fixture(scope="module")
def chosen() -> pd.DataFrame:
    return chosen_knobs(FOLDERS)


@given(NUMBERS, NUMBERS, some.booleans())
def test_a_range_is_read_from_its_text(one: float, other: float, log: bool) -> None:
    span = Span(min(one, other), max(one, other), log)
    assert range_of(str(span)) == span


@given(some.lists(VALUES, min_size=1, max_size=5))
def test_choices_are_read_from_their_text(values: list[object]) -> None:
    read = range_of(str(Choice(tuple(values))))
    assert isinstance(read, Choice)
    assert [(type(one), one) for one in read.values] == [(type(one), one) for one in values]


def test_places_are_those_of_the_records(chosen: pd.DataFrame) -> None:
    """Triplet's margin is searched from 0.05 to 1 by its logarithm, its reduction is one of two."""
    frozen = [json.loads((folder / CHOICES).read_text())["choices"] for folder in FOLDERS]
    margins = [each["triplet"]["config"]["loss_args"]["margin"] for each in frozen]
    mine = chosen[(chosen["loss"] == "triplet") & (chosen["knob"] == "margin")]
    assert list(mine["search"]) == list(range(10)) and mine["value"].tolist() == margins
    by_hand = [math.log(margin / 0.05) / math.log(20) for margin in margins]
    assert mine["place"].tolist() == pytest.approx(by_hand)
    reductions = [each["triplet"]["config"]["loss_args"]["reduction"] for each in frozen]
    mine = chosen[(chosen["loss"] == "triplet") & (chosen["knob"] == "reduction")]
    assert mine["place"].tolist() == [{"sum": 0.25, "mean": 0.75}[one] for one in reductions]
    assert not {"batch_size", "optimizer"} & {*chosen["knob"]}  # of which there is one value


def test_what_lies_at_the_ends_is_what_the_slow_count_finds(chosen: pd.DataFrame) -> None:
    found = []
    for (loss, knob), mine in chosen.groupby(["loss", "knob"], sort=False):
        for end, many in zip(("lowest", "highest"), in_outer_tenths(mine), strict=True):
            if is_span(mine["range"].iloc[0]) and many >= 3:
                name = {"lr_factor": "learning rate", "tau": "τ"}.get(str(knob), str(knob))
                title = resolve(str(loss)).title
                found.append(f"{title}'s {name} in the {end} tenth ({many})")
    assert len(found) == 4
    assert sorted(found) == sorted(ends([load(name) for name in SPLITS]))
    figure = chosen_figure(chosen)
    assert figure is not None and "the lowest tenth of triplet's margin (7 of 10)" in figure.caption


def test_the_table_counts_choices_and_has_the_middle_of_numbers(chosen: pd.DataFrame) -> None:
    table = chosen_table(chosen).set_index(["loss", "knob"])
    values = chosen[(chosen["loss"] == "smooth_ap") & (chosen["knob"] == "tau")]["value"]
    row = table.loc[("smooth_ap", "τ")]
    assert row["chosen"] == f"{values.min():.4g} to {values.max():.4g}"
    assert row["median"] == f"{values.sort_values().iloc[4:6].mean():.4g}"
    assert table.loc[("smooth_ap", "numerator"), "chosen"] == "seed (5), paper (5)"


def test_none_is_counted_like_any_choice() -> None:
    found = chosen_knobs([RECORDS / name for name in FOLDS])
    table = chosen_table(found).set_index(["loss", "knob"])
    assert table.loc[("triplet", "least cropped share"), "chosen"] == "none (4)"
    for (_, _), row in table.iterrows():
        if not is_span(row["range"]):
            counts = [int(many) for many in re.findall(r"\((\d+)\)", row["chosen"])]
            assert sum(counts) == 4, row["chosen"]


def test_the_further_searches_of_a_comparison_are_searches_like_its_first(tmp_path: Path) -> None:
    first, second = (RECORDS / name for name in OWN[:2])
    shutil.copytree(first, tmp_path / "s")
    shutil.copytree(second, tmp_path / "s" / SEARCHES / "02")
    content = json.loads((first / CHOICES).read_text())
    content["further"] = [json.loads((second / CHOICES).read_text())["choices"]]
    (tmp_path / "s" / CHOICES).write_text(json.dumps(content))
    found, expected = chosen_knobs([tmp_path / "s"]), chosen_knobs([first, second])
    names = ["s, search 1", "s, search 2"]
    assert list(found["study"]) == [names[search] for search in expected["search"]]
    expected["study"] = found["study"]
    pd.testing.assert_frame_equal(found, expected)
    (section,) = chosen_sections([tmp_path / "s"])
    assert section.title == "What was chosen" and len(section.figures) == 1
    shutil.rmtree(tmp_path / "s" / SEARCHES)  # only what is shown lacks it
    assert set(chosen_knobs([tmp_path / "s"])["search"]) == {0}
    assert chosen_sections([tmp_path / "s"]) == []  # of one the report has the configurations


def test_searches_in_other_ranges_have_lines_of_their_own(tmp_path: Path) -> None:
    """Places are those of the range in which a search looked."""
    for name in OWN[:2]:
        shutil.copytree(RECORDS / name, tmp_path / name)
    path = tmp_path / OWN[0] / "study.json"
    info = json.loads(path.read_text())
    (row,) = [row for row in info["space"] if row["knob"] == "tau"]
    row["range"] = "0.0001 to 0.2 (log)"
    path.write_text(json.dumps(info))
    found = chosen_knobs([tmp_path / name for name in OWN[:2]])
    mine = found[found["knob"] == "tau"]
    assert list(mine["range"]) == ["0.0001 to 0.2 (log)", "0.0005 to 0.1 (log)"]
    value = mine["value"].iloc[0]
    assert mine["place"].iloc[0] == pytest.approx(math.log(value / 1e-4) / math.log(2_000))
    assert len(chosen_table(found).query("knob == 'τ'")) == 2
    assert chosen_figure(found) is not None


def test_damaged_records_leave_the_section_out(tmp_path: Path) -> None:
    shutil.copytree(RECORDS / OWN[0], tmp_path / "s")
    path = tmp_path / "s" / "study.json"
    info = json.loads(path.read_text())
    del info["space"]
    path.write_text(json.dumps(info))
    assert chosen_knobs([tmp_path / "s"]).empty


def test_the_page_of_several_comparisons_has_the_section() -> None:
    folders = [RECORDS / name for name in OWN[:2]]
    page = pooled_page(folders, pooled(folders))
    (section,) = [section for section in page.sections if section.title == "What was chosen"]
    assert [figure.name for figure in section.figures] == ["chosen_knobs"]
    losses = {loss_name(loss) for loss in chosen_knobs(folders)["loss"]}
    assert {*section.tables[0].cells["loss"]} == losses and len(losses) == 6


def test_knobs_of_all_of_some_losses_or_of_one_optimizer_are_searched_by_these(
    tmp_path: Path,
) -> None:
    losses = ["triplet", "smooth_ap", "smooth_ap:optimizer=sgd,positives=sum"]
    info = {"schema": 1, "plan": {"losses": losses}, "space": describe(losses, WIDE)}
    study = Study.create(tmp_path / "s", info)
    for loss in losses:
        several = [
            knob
            for knob in knobs_of(loss, WIDE)
            if not (isinstance(knob.range, Choice) and len(knob.range.values) == 1)
        ]
        assert searched(study, loss) == {knob.name: knob.range for knob in several}
    assert "momentum" in searched(study, "triplet") and "tau" not in searched(study, "triplet")
