"""What a comparison chose, by which rule, and the runs that confirm it.

`choices.json` is written once, before anything reads the test split, and never again.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from study.results.files import CHOICES, StudyError, read_json, write_atomically
from study.results.studies import Choice, Study
from study.results.trials import TrialRecord, trial_name
from study.run.plan import Plan
from study.search.space import FIXED, is_of_seed_study, reference
from trainables.config import TrialConfig
from trainables.metrics import METRICS

SCHEMA = 1
ROLES = ("chosen", "reference")
AT_LARGE = ("epochs", "seed")  # of a confirming run, its own


def rule_by(metric: str) -> str:
    """How a finished sweep's trials become one choice a loss (`Study.best`), by a metric of
    `trainables.metrics.METRICS`."""
    return (
        "Of each loss, the best configurations of the search are trained on fresh seeds, and that "
        f"of the highest mean {METRICS[metric].title} on the validation images is chosen; without "
        "fresh seeds, the highest value of the most epochs. No test image is seen."
    )


@dataclass(frozen=True)
class Frozen:
    """The content of choices.json; the choices are without a checkpoint.

    Attributes:
        rule: the sentence of the rule that chose.
        frozen: when, in seconds since 1970.
        choices: by loss, of the first search.
        seeds: of the runs that confirm, those of the first search's choices first; those of the
            sweeps are not among them.
        further: by loss, what the other searches chose, if the whole search was repeated.
        references: on how many seeds of each search a loss's reference is trained; None: on all.
    """

    rule: str
    frozen: float
    choices: dict[str, Choice]
    seeds: list[int]
    further: list[dict[str, Choice]] = field(default_factory=list)
    references: int | None = None

    @classmethod
    def load(cls, folder: Path) -> Frozen:
        """Of the comparison in this folder; StudyError if there are none, or they are damaged."""
        path = folder / CHOICES
        content = read_json(path)
        if content.get("schema") != SCHEMA:
            raise StudyError(f"{path} must have schema {SCHEMA}; got {content.get('schema')!r}")
        try:
            choices, *further = (
                {loss: _read(row) for loss, row in each.items()}
                for each in (content["choices"], *content["further"])
            )
            said = content["rule"], content["frozen"], choices, content["seeds"], further
            return cls(*said, content["references"])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise StudyError(f"{path} does not hold choices: {error!r}") from error

    def write(self, folder: Path) -> None:
        content = {
            "schema": SCHEMA,
            "rule": self.rule,
            "frozen": self.frozen,
            "choices": _written(self.choices),
            "further": [_written(each) for each in self.further],
            "seeds": self.seeds,
            "references": self.references,
        }
        write_atomically(folder / CHOICES, json.dumps(content, indent=2))

    def role(self, run: TrialRecord) -> str:
        """Whether a confirming run is of the loss's choice or of its reference."""
        return ROLES[run.number // len(self.seeds)]

    def left_out(self, confirmation: Study) -> Counter[tuple[str, str]]:
        """By loss and role, how many confirming runs did not end well."""
        lost = [run for run in confirmation.trials if run.status != "finished"]
        return Counter((run.config.loss, self.role(run)) for run in lost)

    def search(self, run: TrialRecord) -> int:
        """Of the choice of which search a confirming run is, from 0; its reference goes with it."""
        each = len(self.seeds) // (1 + len(self.further))
        if self.role(run) == "reference":
            each = each if self.references is None else self.references
        return run.number % len(self.seeds) // each


def _written(choices: Mapping[str, Choice]) -> dict[str, dict[str, Any]]:
    """By loss, as choices.json has them: which checkpoint is not theirs to say."""
    found = {loss: choice.to_dict() for loss, choice in choices.items()}
    for row in found.values():
        del row["checkpoint"]
    return found


def _read(row: Mapping[str, Any]) -> Choice:
    config = TrialConfig.from_dict(row["config"])
    own = {name: row[name] for name in ("trial_id", "val_map", "epoch", "score", "seeds")}
    return Choice(**own, config=config, checkpoint=None)


def freeze(sweep: Study, plan: Plan, *, others: Sequence[Study] = ()) -> Frozen:
    """The choices of a finished sweep: written now, or read back if they were.

    Args:
        others: sweeps that repeated the search.

    Raises:
        StudyError: a loss has no trial to choose, or what was written is not what the sweep's
            records say.
    """
    rule = rule_by(plan.select_by)
    choices, *further = map(chosen, (sweep, *others))
    seeds = [seed + n for seed in plan.seeds() for n in range(1, plan.confirm_seeds + 1)]
    if not (sweep.folder / CHOICES).exists():
        said = rule, time.time(), choices, seeds, further
        Frozen(*said, plan.reference_seeds).write(sweep.folder)
    frozen = Frozen.load(sweep.folder)
    for name, written, found in (
        *((loss, frozen.choices.get(loss), choice) for loss, choice in choices.items()),
        ("those of the other searches", frozen.further, further),
        ("seeds", frozen.seeds, seeds),
        ("seeds of a reference", frozen.references, plan.reference_seeds),
        ("rule", frozen.rule, rule),
    ):
        if written != found:
            law = f"{sweep.folder / CHOICES} is frozen and must agree with the sweep"
            raise StudyError(f"{law}; {name}: {_short(written)} there, {_short(found)} here")
    return frozen


def chosen(sweep: Study) -> dict[str, Choice]:
    """By loss, without checkpoints; StudyError if a loss has none."""
    found = {loss: choice._replace(checkpoint=None) for loss, choice in sweep.best().items()}
    for loss in sweep.losses:
        if loss not in found:
            law = f"no trial of {loss} ended well, so there is none to choose"
            remedy = "; --resume (with another --gpus-per-trial, say) runs again those that failed"
            failed = any(t.status == "failed" for t in sweep.trials if t.loss == loss)
            raise StudyError(f"{law}{remedy * failed}")
    return found


def confirming_trials(plan: Plan, frozen: Frozen) -> list[TrialRecord]:
    """Each search's choice on its own seeds, then each loss's reference if it has one, on the first
    of them; `<loss>-<number>` counts them."""
    epochs = plan.confirm_epochs or plan.max_epochs
    longer = plan.reference_epochs or epochs
    trials = []
    for loss, choice in frozen.choices.items():
        chosen = [choice.config, *(each[loss].config for each in frozen.further)]
        each = len(frozen.seeds) // len(chosen)
        configs = [
            chosen[n // each].replace(epochs=epochs, seed=seed)
            for n, seed in enumerate(frozen.seeds)
        ]
        first = [seed for n, seed in enumerate(frozen.seeds) if n % each < plan.references]
        beside = [_reference(choice.config, longer, seed) for seed in first]
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
        return f"{value.trial_id} at epoch {value.epoch:g}, {value.score}"
    return str(value)
