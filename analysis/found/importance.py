"""How much each knob of a search decided, beside how much it seems to decide by chance alone."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import optuna
import pandas as pd
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from scipy import stats

from analysis.found.knobs import UNUSED, searched
from analysis.found.scores import validation
from analysis.found.words import plural
from study.results.studies import Study
from study.results.trials import TrialRecord
from trainables.knobs import Choice, Range, Span

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
            tables.append(_table(loss, sound, searched(study, loss)))
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


def _table(loss: str, trials: list[TrialRecord], known: Mapping[str, Range]) -> pd.DataFrame:
    """The rows of a loss, whose ranges are known by knob."""
    study, scores, knobs = _study(trials, known), np.array(_scores(trials)), _varied(trials)
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


def _study(trials: list[TrialRecord], known: Mapping[str, Range]) -> optuna.Study:
    """The trials as Optuna has them."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize")
    ranges = {name: _distribution(trials, name, known.get(name)) for name in _names(trials)}
    for trial, score in zip(trials, _scores(trials), strict=True):
        mine = {name: ranges[name] for name in trial.knobs}
        made = optuna.trial.create_trial(params=trial.knobs, distributions=mine, value=score)
        study.add_trial(made)
    return study


def _distribution(trials: list[TrialRecord], name: str, known: Range | None) -> BaseDistribution:
    """A knob's range, and in it all that was drawn: its ends are written to six digits."""
    drawn = [trial.knobs[name] for trial in trials if name in trial.knobs]
    if isinstance(known, Span):
        low, high = min(known.low, *drawn), max(known.high, *drawn)
        return FloatDistribution(low, high, log=known.log)
    choices = known.values if isinstance(known, Choice) else ()
    return CategoricalDistribution(list(dict.fromkeys([*choices, *drawn])))


def _names(trials: list[TrialRecord]) -> list[str]:
    """The knobs that any trial has."""
    return list(dict.fromkeys(name for trial in trials for name in trial.knobs))


def _varied(trials: list[TrialRecord]) -> list[str]:
    """The knobs that have more than one value; to be unused is one."""
    values = {name: {trial.knobs.get(name, UNUSED) for trial in trials} for name in _names(trials)}
    return [name for name, found in values.items() if len(found) > 1]


def _epoch(trials: list[TrialRecord]) -> float:
    """The last epoch that all trials reached."""
    return min(trial.reached for trial in trials)


def _scores(trials: list[TrialRecord]) -> list[float]:
    place = min(len(trial.epochs) for trial in trials) - 1
    return [trial.epochs[place][trial.metric] for trial in trials]
