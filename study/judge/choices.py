"""What a comparison chose, by which rule, and the runs that confirm it.

`choices.json` is written once, before anything reads the test split, and never again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from study.run.plan import Plan
from study.run.results import (
    Choice,
    Study,
    StudyError,
    TrialRecord,
    read_json,
    trial_name,
    write_atomically,
)
from study.search.space import FIXED, is_of_seed_study, reference
from trainables.config import TrialConfig
from trainables.metrics import METRICS

SCHEMA = 1
CHOICES = "choices.json"
ROLES = ("chosen", "reference")
AT_LARGE = ("epochs", "seed")  # of a confirming run, its own


@dataclass(frozen=True)
class Rule:
    """How a finished sweep's trials become one choice a loss, said in one sentence."""

    sentence: str
    choose: Callable[[Study], dict[str, Choice]]


def highest(metric: str) -> Rule:
    """The rule by a metric of `trainables.metrics.METRICS`."""
    return Rule(
        "Of each loss, the trial that did not fail or diverge whose best epoch has the highest "
        f"{METRICS[metric].title} on the validation images; no test image is seen.",
        Study.best,
    )


@dataclass(frozen=True)
class Frozen:
    """The content of choices.json; the choices are without a checkpoint.

    Attributes:
        rule: the sentence of the rule that chose.
        frozen: when, in seconds since 1970.
        choices: by loss.
        seeds: of the runs that confirm; the sweep's own is not among them.
    """

    rule: str
    frozen: float
    choices: dict[str, Choice]
    seeds: list[int]

    @classmethod
    def load(cls, folder: Path) -> Frozen:
        """Of the comparison in this folder; StudyError if there are none, or they are damaged."""
        path = folder / CHOICES
        content = read_json(path)
        if content.get("schema") != SCHEMA:
            raise StudyError(f"{path} must have schema {SCHEMA}; got {content.get('schema')!r}")
        try:
            choices = {
                loss: Choice(
                    row["trial_id"],
                    TrialConfig.from_dict(row["config"]),
                    row["val_map"],
                    row["epoch"],
                    None,
                    row.get("score", row["val_map"]),
                )
                for loss, row in content["choices"].items()
            }
            return cls(content["rule"], content["frozen"], choices, content["seeds"])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise StudyError(f"{path} does not hold choices: {error!r}") from error

    def write(self, folder: Path) -> None:
        choices = {
            loss: {
                "trial_id": choice.trial_id,
                "val_map": choice.val_map,
                "score": choice.score,
                "epoch": choice.epoch,
                "config": choice.config.to_dict(),
            }
            for loss, choice in self.choices.items()
        }
        content = {
            "schema": SCHEMA,
            "rule": self.rule,
            "frozen": self.frozen,
            "choices": choices,
            "seeds": self.seeds,
        }
        write_atomically(folder / CHOICES, json.dumps(content, indent=2))

    def role(self, run: TrialRecord) -> str:
        """Whether a confirming run is of the loss's choice or of its reference."""
        return ROLES[run.number // len(self.seeds)]


def freeze(sweep: Study, plan: Plan, rule: Rule | None = None) -> Frozen:
    """The choices of a finished sweep: written now, or read back if they were.

    Raises:
        StudyError: a loss has no trial to choose, or what was written is not what the sweep's
            records say.
    """
    rule = rule or highest(plan.select_by)
    choices = {
        loss: choice._replace(checkpoint=None) for loss, choice in rule.choose(sweep).items()
    }
    for loss in sweep.losses:
        if loss not in choices:
            raise StudyError(f"no trial of {loss} ended well, so there is none to choose")
    seeds = [plan.seed + n for n in range(1, plan.confirm_seeds + 1)]
    if not (sweep.folder / CHOICES).exists():
        Frozen(rule.sentence, time.time(), choices, seeds).write(sweep.folder)
    frozen = Frozen.load(sweep.folder)
    for name, written, found in (
        *((loss, frozen.choices.get(loss), choice) for loss, choice in choices.items()),
        ("seeds", frozen.seeds, seeds),
        ("rule", frozen.rule, rule.sentence),
    ):
        if written != found:
            law = f"{sweep.folder / CHOICES} is frozen and must agree with the sweep"
            raise StudyError(f"{law}; {name}: {_short(written)} there, {_short(found)} here")
    return frozen


def confirming_trials(plan: Plan, frozen: Frozen) -> list[TrialRecord]:
    """Each choice, then each loss's reference if it has one, once for every seed;
    `<loss>-<number>` counts them."""
    epochs = plan.confirm_epochs or plan.max_epochs
    trials = []
    for loss, choice in frozen.choices.items():
        configs = [choice.config.replace(epochs=epochs, seed=seed) for seed in frozen.seeds]
        beside = [_reference(choice.config, epochs, seed) for seed in frozen.seeds]
        configs += [config for config in beside if config is not None]
        trials += [
            TrialRecord(trial_name(loss, n), config, metric=plan.metric)
            for n, config in enumerate(configs)
        ]
    return sorted(trials, key=lambda trial: trial.number)  # the losses in turn, as in a sweep


def _reference(config: TrialConfig, epochs: int, seed: int) -> TrialConfig | None:
    """The seed study's configuration of a loss, on its data with its network alone."""
    if not is_of_seed_study(config):
        return None
    fixed = {name: getattr(config, name) for name in FIXED if name not in ("loss", *AT_LARGE)}
    return reference(config.loss, epochs=epochs, seed=seed, **fixed)


def _short(value: object) -> str:
    if isinstance(value, Choice):
        return f"{value.trial_id} at epoch {value.epoch}, {value.score}"
    return str(value)
