"""Comparisons that are pooled, against differences by hand and scipy."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from study.judge.pooled import pooled
from study.judge.pooled_tables import markdown
from study.judge.significance import (
    ALPHA,
    GAPS,
    MARGIN,
    POWER,
    equivalence,
    smallest_difference,
    two_way,
)
from study.results.files import StudyError
from study.results.images import DATA
from study.results.studies import Study
from study.results.trials import TrialRecord
from study.search.space import default
from tests.small_comparisons import BY_QUERY, LABELS, MAPS, of_three_splits, write


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    return of_three_splits(tmp_path)


def test_comparisons_of_other_files_of_one_name_are_not_pooled(folders: list[Path]) -> None:
    for folder, digest in zip(folders, ("12ab", "12ab", "34cd"), strict=True):
        study = Study.load(folder)
        study.info["files"] = {"network": digest}
        study.write()
    with pytest.raises(StudyError, match=f"file of network must be the same.*{folders[2]} is"):
        pooled(folders)
    study.info["files"] = {}  # of before it was kept
    study.write()
    assert len(pooled(folders).maps) == 3


def test_the_unit_is_a_comparison(folders: list[Path]) -> None:
    """Means 0.51, 0.71, 0.31 and 0.61, 0.82, 0.40: differences 0.10, 0.11, 0.09."""
    found = pooled(folders)
    assert list(found.maps) == ["smooth_ap", "triplet"]  # the best first
    losses = found.losses.set_index("loss")
    row = losses.loc["triplet"]
    found_of = [row["map"], row["lowest"], row["highest"], row["runs"]]
    assert found_of == pytest.approx([0.51, 0.31, 0.71, 6])
    half = 4.302652730 * 0.2 / math.sqrt(3)  # t of two degrees of freedom, from a table
    assert losses.loc["triplet", "low"] == pytest.approx(0.51 - half)
    spent = losses.loc["triplet", ["trials", "epochs", "seconds"]]
    assert list(spent) == [10 + 20 + 30, 1.25 + 2.5 + 3.75, 360 + 720 + 1080]
    (row,) = found.differences.itertuples()
    assert (row.first, row.second, row.ahead) == ("smooth_ap", "triplet", 3)
    assert row.difference == pytest.approx(0.1)
    test = stats.ttest_rel([0.61, 0.82, 0.40], [0.51, 0.71, 0.31])
    interval = test.confidence_interval(0.95)
    assert (row.p, row.low, row.high) == pytest.approx((test.pvalue, *interval))
    assert row.p_corrected == pytest.approx(test.pvalue) and row.verdict == "shown"
    beside = losses.loc["triplet", ["map_seed", "low_seed", "high_seed"]]
    assert list(beside) == pytest.approx([0.255, 0.255 - half / 2, 0.255 + half / 2])
    page = markdown(found)
    assert (
        "| lowest | highest | in validation | seed protocol | 95 %, seed | runs | search |" in page
    )
    assert "| 0.3100 | 0.7100 | 0.2000 | 0.2550 | 0.0066 to 0.5034 | 6 |" in page
    assert "| 0.2550 | 0.0066 to 0.5034 | 6 | 60 trials, 8 epochs, 0.60 h |" in page


def test_of_common_test_images_queries_and_classes_have_their_say(tmp_path: Path) -> None:
    """The difference of a comparison is that of its maps, less what each class adds."""
    found = pooled([write(tmp_path / str(n), maps) for n, maps in enumerate(MAPS)])
    (row,) = found.differences.itertuples()
    gaps = np.array([0.10, 0.11, 0.09])[:, None] - BY_QUERY[:5].astype(float)
    assert row.difference == pytest.approx(gaps.mean(), abs=1e-7)
    over_queries = stats.ttest_1samp(gaps.mean(0), 0)
    sides = [
        stats.ttest_1samp(gaps.mean(0), bound, alternative=side).pvalue
        for bound, side in ((-MARGIN, "greater"), (MARGIN, "less"))
    ]
    assert row.query_equivalence_p == pytest.approx(max(sides), rel=1e-5)
    assert row.query_p == pytest.approx(over_queries.pvalue, rel=1e-5)
    assert row.p_corrected == pytest.approx(max(row.p, over_queries.pvalue), rel=1e-5)
    both = two_way(gaps, np.array([1, 1, 1, 4, 4]), GAPS)
    assert (row.both_low, row.both_high) == pytest.approx(tuple(both.interval), abs=1e-6)
    assert row.both_low < row.low < row.high < row.both_high
    assert found.classes is not None
    fashion = ["Trouser", "Coat"]
    assert list(found.classes.columns) == fashion
    np.testing.assert_allclose(found.classes.loc["triplet"], [0.51 + 0.04, 0.51 - 0.06], atol=1e-7)
    np.testing.assert_allclose(found.classes.loc["smooth_ap"], [0.61, 0.61], atol=1e-7)
    assert list(found.references["loss"]) == ["triplet"]
    page = markdown(found)
    assert "| mean AP of a class's queries | Trouser | Coat |\n|---|--:|--:|\n" in page
    assert "\n| Triplet | 0.550 | 0.450 |\n" in page
    assert f"| {row.both_low:+.3f} to {row.both_high:+.3f} | 3 of 3 |" in page
    assert "the larger of paired t-tests over comparisons and over queries" in page


def test_the_seed_studys_settings_stand_beside_the_comparisons(tmp_path: Path) -> None:
    """Their runs are of two comparisons of three, by Welch's test; their queries are paired."""
    references = ((0.10, 0.13), (0.11,), ())
    made = [write(tmp_path / str(n), maps, references[n]) for n, maps in enumerate(MAPS)]
    found = pooled(made)
    (row,) = found.references.itertuples()
    assert (row.loss, row.runs, row.epochs) == ("triplet", 3, 100)
    known = [row.map, row.lowest, row.highest, row.map_seed]
    assert known == pytest.approx([0.34 / 3, 0.10, 0.13, 0.17 / 3])
    choices, runs = [0.51, 0.71, 0.31], [0.10, 0.13, 0.11]
    test = stats.ttest_ind(choices, runs, equal_var=False)
    assert row.difference == pytest.approx(0.51 - 0.34 / 3)
    interval = test.confidence_interval(0.95)
    assert (row.p, row.low, row.high) == pytest.approx((test.pvalue, *interval))
    assert row.p_corrected == pytest.approx(2 * test.pvalue) and row.query_p < 1e-6  # and Smooth-AP
    assert row.verdict == "not resolved"
    page = markdown(found)
    assert "| seed protocol | runs | the loss's choices are ahead by | 95 % | corrected" in page
    assert "| Triplet | 0.1133 | 0.1000 | 0.1300 | 0.0567 | 3 × 100 epochs | +0.3967 |" in page
    assert "a paired one over queries, corrected for those that were asked for (Holm)" in page


@pytest.mark.parametrize(
    "changes",
    [
        [{"fold": n} for n in range(3)],
        [{"holdout_classes": [2 * n, 2 * n + 1]} for n in range(3)],
        [{"holdout_classes": [0, 1], "validation_classes": [n, n + 1]} for n in (2, 4, 6)],
    ],
)
def test_settings_of_other_images_are_not_pooled(
    tmp_path: Path, changes: list[dict[str, Any]]
) -> None:
    made = [write(tmp_path / str(n), MAPS[n], (0.1, 0.2), **changes[n]) for n in range(3)]
    found = pooled(made)
    assert found.references.empty and "the seed study's" not in markdown(found)


def test_nothing_is_shown_in_favour_of_a_loss_whose_runs_diverged(tmp_path: Path) -> None:
    """Of three runs that were asked for, triplet has two or three, Smooth-AP three."""
    for n, (few, verdict) in enumerate((("triplet", "shown"), ("smooth_ap", "not resolved"))):
        made = []
        for k in range(3):
            whole = {"triplet": 0.1 * k, "smooth_ap": 0.3 + 0.1 * k + 0.001 * k}
            maps = {
                loss: [value] * (2 if loss == few and not k else 3) for loss, value in whole.items()
            }
            made.append(write(tmp_path / str(10 * n + k), maps, confirm_seeds=3))
        found = pooled(made)
        assert found.lacking == {few: 1}
        (row,) = found.differences.itertuples()
        assert row.p_corrected < 0.05 and row.verdict == verdict
        heading = {"triplet": "Triplet", "smooth_ap": "Smooth-AP"}[few]
        assert f"that did not end well: 1 of {heading}; nothing is" in markdown(found)


def test_a_loss_whose_runs_diverged_is_behind_its_reference_all_the_same(tmp_path: Path) -> None:
    for n, (reference, verdict) in enumerate(((0.9, "shown"), (0.1, "not resolved"))):
        made = []
        for k in range(3):
            maps = {"triplet": [0.5 + 0.001 * k] * (3 if k else 2), "smooth_ap": [0.3] * 3}
            folder = tmp_path / str(10 * n + k)
            asked: dict[str, Any] = {"confirm_seeds": 3, "reference_seeds": 2}
            made.append(write(folder, maps, (reference + 0.001 * k,) * 2, **asked))
        (row,) = pooled(made).references.itertuples()
        assert (row.loss, row.verdict) == ("triplet", verdict) and row.p_corrected < 0.05


def test_that_comparisons_were_computed_in_other_precisions_is_said(tmp_path: Path) -> None:
    made = [write(tmp_path / str(n), maps) for n, maps in enumerate(MAPS)]
    for folder, precision in zip(made, ("bfloat16", "bfloat16", "float32"), strict=True):
        study = Study.load(folder / "confirmation")  # alone, as if a card had searched
        config = default("triplet", epochs=1, seed=0)
        row = {"epoch": 1, "val_map": 0.5, "precision": precision}
        study.write_trial(TrialRecord("triplet-000", config, [row], "finished"))
    said = "They were not all computed alike: in bfloat16 and float32."
    assert said in markdown(pooled(made))
    assert "computed alike" not in markdown(pooled(made[:2]))


def test_nothing_is_shown_in_favour_of_a_reference_whose_runs_diverged(tmp_path: Path) -> None:
    asked: dict[str, Any] = {"confirm_seeds": 3, "reference_seeds": 2}
    maps = {"triplet": [0.5, 0.5, 0.501], "smooth_ap": [0.3] * 3}
    for n, (reference, verdict) in enumerate(((0.9, "not resolved"), (0.1, "shown"))):
        made = []
        for k in range(3):
            found = (reference + 0.001 * k, reference)[: 2 if k else 1]
            made.append(write(tmp_path / str(10 * n + k), maps, found, **asked))
        (row,) = pooled(made).references.itertuples()
        assert (row.runs, row.verdict) == (5, verdict) and row.p_corrected < 0.05


def test_one_run_of_a_setting_is_none(tmp_path: Path) -> None:
    made = [write(tmp_path / str(n), MAPS[n], (0.1,) if n else ()) for n in range(2)]
    assert pooled(made).references.empty


def test_what_few_queries_do_not_show_is_not_equivalent(tmp_path: Path) -> None:
    """The same mAP to 0.0001 in each comparison, by queries that differ by 0.06 either way."""
    alike = [{"triplet": (s,), "smooth_ap": (s + d,)} for s, d in ((0.5, 1e-4), (0.6, -1e-4))]
    found = pooled([write(tmp_path / str(n), maps) for n, maps in enumerate(alike)])
    (row,) = found.differences.itertuples()
    assert row.equivalence_p < ALPHA < row.query_equivalence_p
    assert row.verdict == "not resolved"


def test_other_test_images_have_classes_where_they_are_tested(tmp_path: Path) -> None:
    """No test over queries, as they are not the same; a class has the mean of its comparisons."""
    held_out, labels = ([1, 4], [4, 5], [5, 1]), ({1: 1, 4: 4}, {1: 4, 4: 5}, {1: 5, 4: 1})
    made = [
        write(tmp_path / str(n), maps, holdout_classes=held_out[n]) for n, maps in enumerate(MAPS)
    ]
    for folder, new in zip(made, labels, strict=True):
        path = folder / "finals" / "queries.npz"
        arrays = dict(np.load(path))
        np.savez(path, **{**arrays, "labels": np.array([new.get(n, n) for n in LABELS])})
    found = pooled(made)
    assert found.differences[["both_low", "query_p"]].isna().all(axis=None)
    assert found.classes is not None
    assert list(found.classes.columns) == ["Trouser", "Coat", "Sandal"]
    # Triplet has 0.04 more of the first class of each comparison, and 0.06 less of the second.
    means = [(0.55 + 0.25) / 2, (0.45 + 0.75) / 2, (0.65 + 0.35) / 2]
    np.testing.assert_allclose(found.classes.loc["triplet"], means, atol=1e-7)
    page = markdown(found)
    assert "| mean AP of a class's queries where tested | Trouser | Coat | Sandal |" in page
    assert "and classes |" not in page and "of a paired t-test" in page


def test_many_classes_are_no_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = [write(tmp_path / str(n), maps) for n, maps in enumerate(MAPS)]
    monkeypatch.setattr("study.judge.pooled.FEW_CLASSES", 1)
    found = pooled(made)
    assert found.classes is None and found.differences["both_low"].notna().all()


def test_two_comparisons_that_differ_could_have_shown_no_difference_that_there_is(
    folders: list[Path],
) -> None:
    """An mAP is 1 at most."""
    found = pooled(folders[:2])
    wide = found.differences.assign(smallest=1.9)
    assert "| none | shown |" in markdown(found._replace(differences=wide))
    assert "| none |" not in markdown(found)


def test_pairs_are_corrected_for_each_other_and_equality_takes_a_test(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    splits = rng.normal(0.5, 0.2, 6)
    made = [
        write(
            tmp_path / str(n),
            {"triplet": [s], "smooth_ap": [s + rng.normal(0, 1e-3)], "cross_entropy": [s - 0.1]},
            holdout_classes=[n, n + 1],
        )
        for n, s in enumerate(splits)
    ]
    table = pooled(made).differences.set_index(["first", "second"])
    verdicts = dict(table["verdict"])
    assert sorted(verdicts.values()) == ["equivalent", "shown", "shown"]
    (equal,) = (pair for pair, verdict in verdicts.items() if verdict == "equivalent")
    assert set(equal) == {"triplet", "smooth_ap"}
    p = sorted(table["p"])
    assert sorted(table["p_corrected"])[0] == pytest.approx(3 * p[0])


def test_a_paired_equivalence_is_two_one_sided_tests() -> None:
    first, second = np.array([0.5, 0.7, 0.3, 0.6]), np.array([0.501, 0.699, 0.302, 0.6])
    gap, margin = first - second, 0.005
    sides = [
        stats.ttest_1samp(gap, -margin, alternative="greater").pvalue,
        stats.ttest_1samp(gap, margin, alternative="less").pvalue,
    ]
    assert equivalence(first, second, margin, paired=True) == pytest.approx(max(sides))


def test_the_smallest_paired_difference_is_shown_as_often_as_it_says() -> None:
    gaps = np.array([-1.0, -0.5, 0.0, 0.5, 1.0]) * 0.01
    step = smallest_difference(gaps, np.zeros(5), paired=True)
    draws = np.random.default_rng(5).normal(step, gaps.std(ddof=1), (20_000, 5))
    p = stats.ttest_1samp(draws, 0, axis=1).pvalue
    assert np.mean(p < ALPHA) == pytest.approx(POWER, abs=0.01)


def test_what_cannot_be_pooled_is_said(folders: list[Path], tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"two comparisons or more .*once each; got 1"):
        pooled(folders[:1])
    with pytest.raises(StudyError, match="once each; got 2"):
        pooled([folders[0], folders[0]])
    copy = shutil.copytree(folders[0], tmp_path / "copy")
    with pytest.raises(StudyError, match="once each; got 3"):
        pooled([*folders[:2], copy])
    longer = write(tmp_path / "8", MAPS[0], confirm_epochs=20)
    with pytest.raises(StudyError, match="must have one confirm_epochs; got None and 20"):
        pooled([*folders, longer])
    scratch = write(tmp_path / "7", MAPS[0], from_scratch=True)
    with pytest.raises(StudyError, match="must have one from_scratch; got True and False"):
        pooled([scratch, *folders])
    other = write(tmp_path / "9", {"triplet": (0.1, 0.2)})
    with pytest.raises(StudyError, match=r"must be of the same losses; .*9 lacks smooth_ap"):
        pooled([*folders, other])
    with pytest.raises(StudyError, match=r"nowhere is not a study: it has no study\.json"):
        pooled([*folders, tmp_path / "nowhere"])
    (other / "finals" / "summary.csv").unlink()
    with pytest.raises(StudyError, match=r"when their tests are done; .*9 is not"):
        pooled([*folders, other])


def test_what_is_a_line_of_its_own_may_differ(tmp_path: Path) -> None:
    made = [write(tmp_path / str(n), maps, rerank=n == 1) for n, maps in enumerate(MAPS)]
    assert len(pooled(made).maps) == 3


def test_comparisons_of_other_data_are_not_pooled(tmp_path: Path) -> None:
    """Whatever the folders of the data are called."""
    made = [write(tmp_path / str(n), maps) for n, maps in enumerate(MAPS)]
    path = made[2] / "finals" / "queries.npz"
    arrays = dict(np.load(path))
    np.savez(path, **{**arrays, "labels": arrays["labels"][::-1]})
    with pytest.raises(StudyError, match=r"must have the same test images; those of .*2 are not"):
        pooled(made)
    (made[2] / DATA).write_text(json.dumps({"name": "photos", "classes": ["cat", "dog"]}))
    with pytest.raises(StudyError, match="must be of the same data; classes of "):
        pooled(made)


def test_what_comparisons_have_in_common_is_said(tmp_path: Path) -> None:
    held_out = {
        "test and training classes": [[0, 1], [1, 2], [2, 3]],
        "training classes": [[0, 1], [2, 3], [4, 5]],
    }
    for n, (common, parts) in enumerate(held_out.items()):
        made = [
            write(tmp_path / str(10 * n + k), MAPS[k], holdout_classes=parts[k]) for k in range(3)
        ]
        assert f"Some have {common} in common:" in markdown(pooled(made))
    parts = (([2, 3], [0, 1, 4, 5, 6]), ([7, 8], [2, 3, 4, 5, 6, 9]))  # train on 7 to 9, 0 and 1
    apart = [
        write(tmp_path / str(50 + n), MAPS[n], holdout_classes=tested, validation_classes=judging)
        for n, (tested, judging) in enumerate(parts)
    ]
    assert "in common" not in markdown(pooled(apart))
    shares = {2: "", 3: "half of what", 4: "most of what", None: "if more than two, half or more"}
    for k, (count, share) in enumerate(shares.items()):  # of K two have (K - 2) / (K - 1) in common
        same = [
            write(tmp_path / str(100 + 10 * k + n), MAPS[n], fold=n, folds=count) for n in range(2)
        ]
        said = markdown(pooled(same))
        assert "All have the same test images" in said and (share in said or not share)
        assert ("So have their folds" in said) == bool(share)
    once = [write(tmp_path / str(70 + n), MAPS[n]) for n in range(3)]
    assert "their folds" not in markdown(pooled(once))


@pytest.mark.parametrize(("seed", "law"), [(10_001, "got 10,001 and 20,000"), (0, "got 0 and 0")])
def test_comparisons_with_seeds_in_common_are_not_pooled(
    tmp_path: Path, seed: int, law: str
) -> None:
    made = [write(tmp_path / str(n), maps) for n, maps in enumerate(MAPS)]
    made[1] = write(tmp_path / "9", MAPS[1], seed=seed)
    with pytest.raises(StudyError, match=f"must be 10,000 apart, .*{law}"):
        pooled(made)
