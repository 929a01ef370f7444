"""How much the knobs decided, beside what chance gives, at equal epochs; and why not, if not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution

from analysis.figures.knob_figures import knob_figures
from analysis.found.importance import LEAST_TRIALS, chance_levels, importance
from study.results.studies import Study
from study.results.trials import HAND_SET
from study.search.space import knobs_of
from tests.small_studies import INFO, trial
from tests.test_figures import searched
from trainables.knobs import Span


def caption(study: Study) -> str:
    (figure,) = [f for f in knob_figures(study, importance(study)) if f.name == "importance"]
    return figure.caption


def test_the_knob_that_decides_is_named(tmp_path: Path) -> None:
    study = searched(tmp_path, 40)
    found = importance(study)
    assert found.table["share"].sum() == pytest.approx(1)
    assert found.shown("smooth_ap")["knob"].tolist() == ["tau"]
    assert "τ (" in caption(study) and found.lacking == {}


def test_no_knob_is_named_that_shuffled_scores_make_as_important(tmp_path: Path) -> None:
    study = searched(tmp_path, 12)
    scores = np.random.default_rng(1).random(12)
    for record, score in zip(study.trials, scores, strict=True):
        record.epochs[0]["val_map"] = float(score)
    found = importance(study)
    assert found.table["share"].max() > 0.3 and found.shown("smooth_ap").empty
    assert caption(study).startswith("No knob has more importance than shuffled scores give.")


def test_trials_are_compared_after_the_epochs_that_all_had(tmp_path: Path) -> None:
    study = searched(tmp_path, 40)
    before = importance(study).table
    for record in study.trials[::2]:  # whoever went on is the better for it
        later = trial("smooth_ap", 0, [record.epochs[0]["val_map"], 0.9, 0.95])
        record.epochs = later.epochs
    after = importance(study).table
    assert after["epoch"].unique().tolist() == [1]
    assert after.equals(before)


def test_what_was_promoted_says_nothing_of_the_knobs(tmp_path: Path) -> None:
    study = searched(tmp_path, 40)
    before = importance(study).table
    for number in range(40, 60):
        longer = trial("smooth_ap", number, [0.9])
        longer.follows, longer.origin = f"smooth_ap-{number - 40:03d}", "promotion"
        study.trials.append(longer)
    assert importance(study).table.equals(before)


def test_knobs_are_as_the_search_had_them(tmp_path: Path) -> None:
    """The learning rate as a multiple of what is usual, whatever the batch was."""
    study = searched(tmp_path, 40)
    for record in study.trials:
        record.config = record.config.replace(lr=0.01)
    assert importance(study).table["knob"].tolist() == ["lr_factor", "tau"]
    assert importance(study).shown("smooth_ap")["knob"].tolist() == ["tau"]


def test_importance_is_optunas_own(tmp_path: Path) -> None:
    study = searched(tmp_path, 20)
    made = optuna.create_study(direction="maximize")
    taus = [record.config.loss_args["tau"] for record in study.trials]
    known = next(knob.range for knob in knobs_of("smooth_ap") if knob.name == "tau")
    assert isinstance(known, Span) and (known.low, known.high) == (5e-4, 0.1)
    ranges = FloatDistribution(known.low, max(known.high, *taus), log=True)  # all that was drawn
    for tau, record in zip(taus, study.trials, strict=True):
        value = record.epochs[0]["val_map"]
        made.add_trial(optuna.trial.create_trial(
            params={"tau": tau}, distributions={"tau": ranges}, value=value
        ))  # fmt: skip
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=0.25)
    with pytest.warns(optuna.exceptions.ExperimentalWarning):
        found = optuna.importance.get_param_importances(made, evaluator=evaluator, normalize=False)
    table = importance(study).table.set_index("knob")
    assert table.loc["tau", "importance"] == pytest.approx(found["tau"])


def test_numbers_of_ones_own_range_are_no_choices(tmp_path: Path) -> None:
    """Weight decay has four choices; here its range is a line on which the score depends."""
    study = searched(tmp_path, 40)
    own = {"knob": "weight_decay", "range": "1e-06 to 0.01 (log)", "used by": "all"}
    study.info["space"] = [row for row in study.info["space"] if row["knob"] != own["knob"]] + [own]
    rng = np.random.default_rng(2)
    for record in study.trials:
        decay = float(10 ** rng.uniform(-6, -2))
        record.knobs = {"weight_decay": decay, "tau": record.config.loss_args["tau"]}
        record.epochs[0]["val_map"] = 0.8 - 0.1 * abs(np.log10(decay) + 4)
    assert importance(study).shown("smooth_ap")["knob"].tolist() == ["weight_decay"]


def test_what_was_set_by_hand_says_nothing_of_the_knobs(tmp_path: Path) -> None:
    study = searched(tmp_path, 40)
    before = importance(study).table
    for number in range(40, 60):
        good = trial("smooth_ap", number, [0.9])
        good.origin = HAND_SET
        study.trials.append(good)
    assert importance(study).table.equals(before)


def test_in_95_of_100_shuffles_no_knob_is_above_its_level() -> None:
    shuffled = np.random.default_rng(0).random((1000, 5)) * [1, 1, 3, 0, 10]
    levels = chance_levels(shuffled)
    assert (shuffled > levels).any(axis=1).sum() <= 50
    lower = [
        max((v for v in mine if v < level), default=-1)
        for mine, level in zip(shuffled.T, levels, strict=True)
    ]
    assert (shuffled > lower).any(axis=1).sum() > 50  # it is the lowest such level
    apart = (shuffled > levels).sum(axis=0)
    assert len(set(apart[[0, 1, 2, 4]])) == 1 and apart[3] == 0  # the same chance for each


def test_the_cause_is_said_where_there_is_no_importance(tmp_path: Path) -> None:
    few = importance(searched(tmp_path, LEAST_TRIALS - 1))
    assert few.table.empty
    assert few.lacking == {"smooth_ap": "7 drawn configurations of at least 8 ended soundly"}
    equal = searched(tmp_path, 10)
    for record in equal.trials:
        record.epochs[0]["val_map"] = 0.5
    said = "its 10 sound configurations have one and the same validation mAP"
    assert importance(equal).lacking == {"smooth_ap": said}
    other = searched(tmp_path, 10)
    for record in other.trials[:4]:  # of another search space than today's
        record.knobs["tau"] = 5.0
    assert importance(other).lacking == {}
    alike = [trial("triplet", number, [0.1 * number]) for number in range(8)]
    for record in alike:
        record.config = record.config.replace(batch_size=64)
    info = INFO | {"plan": {"losses": ["triplet"], "num_samples": 8}}
    found = importance(Study(tmp_path, info, alike))
    assert found.lacking == {"triplet": "no knob differs between its 8 sound configurations"}
