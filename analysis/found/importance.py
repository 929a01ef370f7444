"""How much each knob of a search decided, beside how much it seems to decide by chance alone."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np
import optuna
import pandas as pd
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from scipy import stats

from analysis.found.knobs import NONE, UNUSED, is_choice, is_log
from analysis.found.scores import validation
from analysis.found.words import plural
from study.results.studies import Study
from study.results.trials import TrialRecord
from study.search.space import WIDE, knobs_of

LEAST_TRIALS = 8  # of a loss, below which a ranking of knobs would be noise
TOP = 0.25  # a knob is important that decides whether a trial is in the best quarter
SHUFFLES = 200
LEVEL = 0.95


class Importance(NamedTuple):
    """What is known of the knobs of a study.

    Attributes:
        table: a row a loss and knob: `importance`; its `share` of all importance within the loss;
            `chance`, the level that no knob's importance exceeds in 95 % of the shuffles of the
            scores; how many `trials` there are, and after which `epoch` they are compared.
        lacking: by loss without a row, why.
        metric: of the epochs, by which trials are compared, such as `val_map`.
    """

    table: pd.DataFrame
    lacking: dict[str, str]
    metric: str

    def shown(self, loss: str) -> pd.DataFrame:
        """The knobs of a loss whose importance is above what chance gives, the highest first."""
        mine = self.table[self.table["loss"] == loss]
        return mine[mine["importance"] > mine["chance"]].sort_values("importance", ascending=False)


def importance(study: Study) -> Importance:
    """PED-ANOVA of Optuna over each loss's configurations, with the knobs that only some use.

    They are compared at equal fidelity: by their first trials, those of the first rung, after the
    last epoch that all of these reached. What was promoted was so because it was good, and says
    nothing of what the knobs decide; nor does what was set by hand.
    """
    tables, lacking = [], {}
    for loss in study.losses:
        begun = [t for t in study.trials if t.loss == loss and t.follows is None]
        sound = [t for t in begun if t.is_sound and not t.hand_set]
        lack = _lack(sound)
        if lack:
            lacking[loss] = lack
        else:
            tables.append(_table(loss, sound))
    columns = ["loss", "knob", "importance", "share", "chance", "trials", "epoch"]
    whole = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=columns)
    return Importance(whole, lacking, study.metric)


def chance_levels(shuffled: np.ndarray) -> np.ndarray:
    """The level (knobs,) of each knob that in 95 % of the shuffles no knob exceeds.

    Args:
        shuffled: (shuffles, knobs) importances that shuffled scores gave. Each level has the same
            rank among its knob's own importances, so that each knob has the same chance.
    """
    ranks = stats.rankdata(shuffled, method="min", axis=0).astype(int)
    rank = int(np.quantile(ranks.max(axis=1), LEVEL, method="inverted_cdf"))
    return np.asarray(np.sort(shuffled, axis=0)[rank - 1])


def _lack(sound: list[TrialRecord]) -> str:
    """Why no importance can be given; empty if it can."""
    if len(sound) < LEAST_TRIALS:
        count = plural(len(sound), "drawn configuration")
        return f"{count} of at least {LEAST_TRIALS} ended soundly"
    if len(set(_scores(sound))) == 1:
        same = f"have one and the same {validation(sound[0].metric)}"
        return f"its {len(sound)} sound configurations {same}"
    if not _varied(sound):
        return f"no knob differs between its {len(sound)} sound configurations"
    return ""


def _table(loss: str, trials: list[TrialRecord]) -> pd.DataFrame:
    """The rows of a loss."""
    study, scores, knobs = _study(trials), np.array(_scores(trials)), _varied(trials)
    found = _importances(study, scores, knobs)
    rng = np.random.default_rng(0)
    shuffled = [_importances(study, rng.permutation(scores), knobs) for _ in range(SHUFFLES)]
    level = chance_levels(np.array(shuffled))
    rows: dict[str, Any] = {"loss": loss, "knob": knobs, "importance": found}
    rows |= {"share": found / (found.sum() or 1), "chance": level}
    return pd.DataFrame(rows | {"trials": len(trials), "epoch": _epoch(trials)})


def _importances(study: optuna.Study, scores: np.ndarray, knobs: list[str]) -> np.ndarray:
    """(knobs,) PED-ANOVA's divergences if the trials had these scores."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a knob that few trials use, which the text says too
        found = optuna.importance.get_param_importances(
            study,
            params=knobs,
            evaluator=optuna.importance.PedAnovaImportanceEvaluator(target_quantile=TOP),
            target=lambda trial: -float(scores[trial.number]),  # of a target the lowest are best
            normalize=False,
        )
    return np.array([found[knob] for knob in knobs])


def _study(trials: list[TrialRecord]) -> optuna.Study:
    """The trials as Optuna has them."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize")
    ranges = _ranges(trials)
    for trial, score in zip(trials, _scores(trials), strict=True):
        found = _params(trial)
        mine = {name: ranges[name] for name in found}
        made = optuna.trial.create_trial(params=found, distributions=mine, value=score)
        study.add_trial(made)
    return study


def _params(trial: TrialRecord) -> dict[str, Any]:
    """The values of the knobs as the search had them; of what no search drew, as they are in the
    configuration."""
    chosen = trial.config.flat()
    used = [knob for knob in knobs_of(trial.config.loss, WIDE) if knob.used(chosen)]
    values = trial.knobs or {knob.sets: chosen[knob.sets] for knob in used}
    return {name: NONE if value is None else value for name, value in values.items()}


def _ranges(trials: list[TrialRecord]) -> dict[str, BaseDistribution]:
    """Of each knob what it was searched over, as far as its values tell: those that occur, or all
    numbers between the least and the greatest."""
    chosen = [_params(trial) for trial in trials]
    found: dict[str, BaseDistribution] = {}
    for name in dict.fromkeys(name for one in chosen for name in one):
        values = pd.Series([one[name] for one in chosen if name in one], dtype=object)
        if is_choice(values, name):
            found[name] = CategoricalDistribution(list(dict.fromkeys(values)))
        else:
            found[name] = FloatDistribution(min(values), max(values), log=is_log(values, name))
    return found


def _varied(trials: list[TrialRecord]) -> list[str]:
    """The knobs that have more than one value; to be unused is one."""
    found = [_params(trial) for trial in trials]
    names = dict.fromkeys(name for one in found for name in one)
    return [name for name in names if len({one.get(name, UNUSED) for one in found}) > 1]


def _epoch(trials: list[TrialRecord]) -> float:
    """The last epoch that all trials reached."""
    return min(trial.reached for trial in trials)


def _scores(trials: list[TrialRecord]) -> list[float]:
    place = min(len(trial.epochs) for trial in trials) - 1
    return [trial.epochs[place][trial.metric] for trial in trials]
