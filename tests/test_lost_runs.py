# ruff: noqa: F401, F811 (fixtures of other files)
"""Comparisons of which runs are missing: of one loss, or with runs that failed or diverged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis import report
from analysis.figures.class_figures import class_ap_table
from analysis.figures.histories import confirmed_history, history_figures
from analysis.figures.pr_curves import pr_table
from analysis.found.runs import Results
from analysis.found.sources import Source
from analysis.page.answer import answer
from analysis.page.answer_tables import differences_table, losses_table, rules
from analysis.page.sections import fault_sections
from study.compare_losses import tell
from study.judge import comparison, pages
from study.judge.choices import chosen
from study.judge.final_tables import DIFFERENCES
from study.judge.final_tables import differences_table as differences_of
from study.judge.final_test import read_test
from study.judge.other_orders import orders_of_runs
from study.results.files import StudyError
from study.results.studies import Study
from study.run.plan import Plan
from tests.test_final_test import TEST, finals, make, reads, sweeps_of
from trainables.data.ledger import Reading

BOTH = ["triplet", "smooth_ap"]


def read(folder: Path, **changes: Any) -> Source:
    """A comparison whose test was read."""
    sweep, confirmation = make(folder, **changes)
    read_test(sweep, confirmation, others=sweeps_of(folder, Plan(**sweep.info["plan"]))[1:])
    return Source.load(Study.load(folder))


@pytest.mark.parametrize("reference_seeds", [0, 2])
def test_a_comparison_of_one_loss_ends_and_is_reported(
    reference_seeds: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = read(tmp_path / "c", losses=["smooth_ap"], reference_seeds=reference_seeds)
    folder = source.study.folder
    assert list(finals(source.study, "differences")) == DIFFERENCES
    assert len(source.differences) == (2 if reference_seeds else 0)  # under each protocol
    assert tell(folder, 1.0, None) == 0
    assert ("Differences (p" in capsys.readouterr().out) == bool(reference_seeds)
    assert report.main([str(folder), "--output", str(tmp_path / "r")]) == 0
    assert "no other loss was evaluated" in (tmp_path / "r" / "index.html").read_text()
    said = "1 beside references" if reference_seeds else "no pair"
    assert f"corrected within its kind (Holm; {said});" in pages.results(folder)


def test_without_a_run_of_a_choice_the_test_is_not_read(
    tmp_path: Path, reads: list[Reading]
) -> None:
    failed = tuple(f"triplet-{n:03d}" for n in range(3))
    sweep, confirmation = make(tmp_path / "c", failed=failed, losses=["triplet"], reference_seeds=2)
    with pytest.raises(StudyError, match=r"when a run of a choice ended well; none did of 5 in"):
        read_test(sweep, confirmation)
    assert not reads and not (tmp_path / "c" / "finals").exists()


def test_runs_that_are_left_out_are_told_wherever_the_result_is(tmp_path: Path) -> None:
    source = read(tmp_path / "c", failed=("triplet-001",), losses=BOTH, reference_seeds=0)
    assert source.finals is not None and source.results is not None
    assert source.finals.left_out == {("triplet", "chosen"): 1}
    said = "Left out are the confirming runs that failed or diverged, 1 of triplet: nothing is"
    assert said in rules(source, source.results)[0]
    (section,) = fault_sections(source)
    (table,) = section.tables
    assert table.title == "Confirming runs that ended by a fault"
    assert table.cells["trial"].tolist() == ["triplet-001"]
    validated = losses_table(source, source.results).meanings["validation mAP"]
    assert validated == "the mean over the confirming runs, of each run's best epoch"
    text = pages.results(source.study.folder)
    assert "runs that failed or diverged: 1 of Triplet (chosen); nothing is called shown" in text
    whole = read(tmp_path / "d", losses=BOTH, reference_seeds=0)
    assert fault_sections(whole) == [] and whole.results is not None
    assert "Left out" not in rules(whole, whole.results)[0] + pages.results(whole.study.folder)


def test_a_loss_without_a_sound_trial_has_no_choice(tmp_path: Path) -> None:
    sweep, _ = make(tmp_path / "c", losses=BOTH)
    assert set(chosen(sweep)) == set(BOTH)
    for status, again in (("failed", True), ("diverged", False)):
        for trial in sweep.trials:
            trial.status = status if trial.loss == "triplet" else "finished"
        with pytest.raises(StudyError, match="no trial of triplet ended well, so there is") as law:
            chosen(sweep)
        assert ("--resume (with another --gpus-per-trial" in str(law.value)) == again


@pytest.mark.parametrize(("status", "tries"), [("failed", 2), ("diverged", 1)])
def test_what_failed_is_tried_once_more_before_the_choices_are_frozen(
    status: str, tries: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search that lost trials to the machine would be a smaller one, for one loss; what diverged
    would do so again."""
    sweep, _ = make(tmp_path / "c", losses=BOTH)
    plan, asked = Plan(**sweep.info["plan"]), list[bool]()

    def run(*_: Any, resume: bool, **__: Any) -> Study:
        asked.append(resume)
        sweep.trials[-1].status = status if len(asked) == 1 else "finished"
        sweep.write_trial(sweep.trials[-1])
        return sweep

    monkeypatch.setattr(comparison, "run_study", run)
    where = comparison._Where(address=None, data_dir=None)
    found = comparison._sweep(plan, sweep.folder, False, where, False)
    assert asked == [False, True][:tries]
    assert [trial.status for trial in found.trials].count("finished") == (4 if tries == 2 else 3)
    # One that was finished by an earlier version, or still has what failed: until it is frozen.
    sweep.trials[-1].status = status
    sweep.write_trial(sweep.trials[-1])
    for frozen in (True, False):
        asked.clear()
        comparison._sweep(plan, sweep.folder, True, where, frozen)
        assert len(asked) == (0 if frozen or status == "diverged" else 2)


def rows(of: dict[str, list[tuple[int, float]]]) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """The table of runs and their queries' APs: by loss, each run's search and mAP."""
    runs, arrays = [], {"labels": np.arange(6) % 2, "queries_full": np.arange(6)}
    near = np.array([0.01, -0.01, 0.005, -0.005, 0.002, -0.002])
    for loss, each in of.items():
        for n, (search, value) in enumerate(each):
            name = f"{loss}-{n:03d}"
            runs.append({"trial_id": name, "loss": loss, "role": "chosen", "search": search,
                         "seed": 1 + n, "map_full": value})  # fmt: skip
            arrays[f"ap_full/{name}"] = value + near * (1 + n)
    return pd.DataFrame(runs), arrays


def sweeps(folder: Path, **plan: Any) -> list[Study]:
    fields = {"losses": BOTH, "num_samples": 2, "max_epochs": 1, "confirm_seeds": 5, **plan}
    whole = Plan(**fields)
    info = {"status": "finished", "plan": whole.fields()}
    return [Study(folder / str(n), info, []) for n in range(whole.search_seeds)]


FAR = {"triplet": [(0, 0.80 + n / 1000) for n in range(5)],
       "smooth_ap": [(0, 0.90 + n / 1000) for n in range(5)]}  # fmt: skip


def test_nothing_is_shown_in_favour_of_a_loss_that_lacks_runs(tmp_path: Path) -> None:
    study = sweeps(tmp_path)
    (whole,) = differences_of(*rows(FAR), study).to_dict("records")
    assert whole["verdict"] == "shown" and whole["shown"]
    for loss, verdict in (("smooth_ap", "not resolved"), ("triplet", "shown")):
        less = {**FAR, loss: FAR[loss][:-1]}
        (row,) = differences_of(*rows(less), study).to_dict("records")
        assert (row["verdict"], row["shown"]) == (verdict, verdict == "shown")


def test_a_pair_of_a_loss_without_runs_counts_in_the_correction(tmp_path: Path) -> None:
    asked = sweeps(tmp_path, losses=[*BOTH, "cross_entropy"])
    (three,) = differences_of(*rows(FAR), asked).to_dict("records")
    (two,) = differences_of(*rows(FAR), sweeps(tmp_path)).to_dict("records")
    assert three["p_corrected"] == pytest.approx(3 * two["p_corrected"])
    assert three["smallest"] > two["smallest"]


def test_the_unit_of_repeated_searches_stays_the_search(tmp_path: Path) -> None:
    """A loss whose runs of one search alone ended well has one unit, whatever its seeds say."""
    three = [(n // 5, 0.90 + n / 1000) for n in range(15)]
    left = {"triplet": [(1, 0.80 + n / 1000) for n in range(5)], "smooth_ap": three}
    repeated = sweeps(tmp_path, search_seeds=3)
    (row,) = differences_of(*rows(left), repeated).to_dict("records")
    assert row["verdict"] == "not resolved" and np.isnan(row["seed_p"])
    assert row["difference"] == pytest.approx(0.802 - 0.907)


def test_one_run_has_no_interval_and_is_not_a_nan(tmp_path: Path) -> None:
    failed = ("triplet-001", "triplet-002")
    source = read(tmp_path / "c", failed=failed, losses=BOTH, reference_seeds=0)
    assert source.results is not None
    said = answer(source.results, source.differences, BOTH)
    table = differences_table(source.differences, "seeds")
    assert table is not None
    assert "nan" not in said + " ".join(table.cells.astype(str).to_numpy().ravel())
    assert said.startswith("With 1 to 3 seeds for each loss, a difference between two losses")
    assert (
        " Triplet comes out highest: mAP 0.1" in said and "95 % interval over queries 0.1" in said
    )


def test_a_loss_is_best_where_it_is_shown_to_be_ahead_of_all_others(tmp_path: Path) -> None:
    source = read(tmp_path / "c", losses=[*BOTH, "cross_entropy"], reference_seeds=0)
    assert source.results is not None
    best, *others = source.results.losses
    row = {"protocol": "full", "role": "chosen", "first": best, "difference": 0.02}
    row |= {"seed_low": 0.01, "seed_high": 0.03, "p_corrected": 0.01, "smallest": 0.01}
    for verdicts, said in (
        (("shown", "shown"), "retrieves best"),
        (("shown", "not resolved"), "comes out highest"),
        (("not resolved", "shown"), "comes out highest"),
    ):
        table = pd.DataFrame(
            [{**row, "second": o, "verdict": v} for o, v in zip(others, verdicts, strict=True)]
        )
        assert f" {said}: mAP" in answer(source.results, table, source.study.losses)


@pytest.fixture
def uneven(tmp_path: Path) -> Source:
    """Of two searches of three runs each, the second of smooth_ap has one run."""
    failed = ("smooth_ap-004", "smooth_ap-005")
    return read(tmp_path / "c", failed=failed, losses=BOTH, search_seeds=2, reference_seeds=0)


def test_a_loss_has_one_map_wherever_it_is_told(uneven: Source) -> None:
    results = uneven.results
    assert results is not None
    runs = finals(uneven.study, "runs").query("loss == 'smooth_ap'")
    assert runs["search"].tolist() == [0, 0, 0, 1]
    first, second = runs["map_full"][:3].mean(), runs["map_full"].iloc[3]
    one = pytest.approx((first + second) / 2)
    summary = results.summary.query("loss == 'smooth_ap' and protocol == 'full'").iloc[0]
    curve = pr_table(results).query("loss == 'smooth_ap' and protocol == 'full'").iloc[0]
    metrics = results.metrics.set_index("loss").loc["smooth_ap"]
    by_class = class_ap_table(results).query("loss == 'smooth_ap'")
    assert summary["map"] == one and curve["map"] == one and metrics["map"] == one
    judged = results.mean_of("smooth_ap", "chosen", lambda judged: judged.average_precision)
    assert np.nanmean(judged) == one
    known = ~np.isnan(judged)
    labels = results.query_labels("full")
    for row in by_class.itertuples():
        mine = judged[known & (labels == results.classes.index(row[3]))]
        assert row.ap == pytest.approx(mine.mean())


def test_other_orders_are_averaged_over_searches_too() -> None:
    given = [(0, 0.5, 0.1), (0, 0.7, 0.3), (1, 0.8, 0.0)]
    table = pd.DataFrame(
        [
            {"trial_id": f"a-{n}", "loss": "a", "role": "chosen", "search": search, "order": "o",
             "map": value, "gain": gain, "seconds": 1.0}
            for n, (search, value, gain) in enumerate(given)
        ]
    )  # fmt: skip
    (row,) = orders_of_runs(table).to_dict("records")
    assert (row["map"], row["gain"]) == pytest.approx((0.7, 0.1)) and row["over"] == "searches"


def test_whose_images_are_shown_is_said(uneven: Source) -> None:
    assert uneven.results is not None
    said = "The images found are those of each loss's first run (seed 8)."
    assert uneven.results.of_which_runs == said
    assert uneven.results.pictured("triplet") == uneven.results.of("triplet")[0]


def test_a_loss_that_is_a_reference_alone_has_a_history(tmp_path: Path) -> None:
    failed = tuple(f"triplet-{n:03d}" for n in range(3))
    source = read(tmp_path / "c", failed=failed, losses=BOTH)
    assert source.finals is not None
    figures = history_figures(confirmed_history(source.finals), source.study.metric)
    (mine,) = [figure.caption for figure in figures if figure.name == "history_triplet"]
    assert mine.startswith("triplet, no run of a choice. Its reference, 3 runs in grey: ")


def test_the_p_of_being_alike_is_corrected_as_its_verdict_is(tmp_path: Path) -> None:
    """Over the pairs that were asked for, those of a loss without a run among them."""
    failed = tuple(f"cross_entropy-{n:03d}" for n in range(3))
    source = read(tmp_path / "c", failed=failed, losses=[*BOTH, "cross_entropy"], reference_seeds=0)
    assert source.results is not None
    mine = source.differences.query("protocol == 'full'")
    assert len(mine) == 1 and mine["family"].tolist() == [3]
    table = differences_table(mine, "seeds")
    assert table is not None
    larger = mine[["equivalence_p", "query_equivalence_p"]].max(axis=1).item()
    p = min(3 * larger, 1.0)
    expected = f"{p:.3f}" if p >= 0.001 else "< 0.001"
    assert table.cells["corrected p of not within ±0.005"].tolist() == [expected]
    assert "(Holm; 3 between losses)" in pages.results(source.study.folder)
