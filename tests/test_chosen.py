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
from analysis.found.chosen_knobs import chosen_knobs, chosen_table, outer, searched
from analysis.page.chosen import chosen_sections
from study.judge.choices import CHOICES
from study.judge.comparison import SEARCHES
from study.results.studies import Study
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
    assert isinstance(read, Choice) and list(read.values) == values


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
        for end, many in zip(("lowest", "highest"), outer(mine), strict=True):
            if " to " in mine["range"].iloc[0] and many >= 3:
                name = {"lr_factor": "learning rate", "tau": "τ"}.get(str(knob), str(knob))
                title = resolve(str(loss)).title
                found.append(f"{title}'s {name} in the {end} tenth ({many})")
    assert len(found) == 4
    assert sorted(found) == sorted(ends([load(name) for name in SPLITS]))
    figure = chosen_figure(chosen)
    assert figure is not None and "triplet's margin (lowest, 7)" in figure.caption


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
    assert table.loc[("triplet", "least cropped share"), "chosen"] == "None (4)"
    for (_, _), row in table.iterrows():
        if " to " not in row["range"]:
            counts = [int(many) for many in re.findall(r"\((\d+)\)", row["chosen"])]
            assert sum(counts) == 4, row["chosen"]


def test_the_further_searches_of_a_comparison_are_searches_like_its_first(tmp_path: Path) -> None:
    first, second = (RECORDS / name for name in OWN[:2])
    shutil.copytree(first, tmp_path / "s")
    shutil.copytree(second, tmp_path / "s" / SEARCHES / "02")
    content = json.loads((first / CHOICES).read_text())
    content["further"] = [json.loads((second / CHOICES).read_text())["choices"]]
    (tmp_path / "s" / CHOICES).write_text(json.dumps(content))
    pd.testing.assert_frame_equal(chosen_knobs([tmp_path / "s"]), chosen_knobs([first, second]))
    (section,) = chosen_sections([tmp_path / "s"])
    assert section.title == "What was chosen" and len(section.figures) == 1
    assert chosen_sections([first]) == []  # of one search the report has the configurations


def test_a_knob_of_some_losses_or_of_one_optimizer_is_searched_by_these(tmp_path: Path) -> None:
    rows = [
        {"knob": "tau", "range": "0.01 to 1 (log)", "used by": "smooth_ap"},
        {"knob": "momentum", "range": "0.0, 0.9", "used by": "sgd"},
        {"knob": "batch_size", "range": "256", "used by": "all"},
        {"knob": "lr_factor", "range": "0.03 to 3 (log)", "used by": "all"},
    ]
    info = {"schema": 1, "plan": {"losses": ["triplet", "smooth_ap"]}, "space": rows}
    study = Study.create(tmp_path / "s", info)
    assert list(searched(study, "triplet")) == ["momentum", "lr_factor"]
    assert list(searched(study, "smooth_ap")) == ["tau", "momentum", "lr_factor"]
