"""The steps of the plan's last part, with made-up scores; and what they begin with."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest

from study.records import as_good
from study.records.as_good import ADDED, BASES, Step, bases, chosen, climb
from study.run.plan import Plan
from study.search.space import default
from study.tune_smoothap import parser
from tests.claims import OWN, RECORDS
from trainables.config import TrialConfig

PLACES = [RECORDS / name for name in OWN]


def config_of(step: Step) -> TrialConfig:
    """What the program begins with, of a step's options."""
    given = vars(parser().parse_args(step.options()))
    plan = Plan(losses=given["losses"], num_samples=1, max_epochs=given["max_epochs"],
                teacher=given.get("teacher"))  # fmt: skip
    teacher = {"teacher": plan.teacher} if plan.teacher else {}
    return default(plan.losses[0], epochs=plan.max_epochs, seed=0, space=plan.space(), **teacher)


@pytest.mark.parametrize("loss", BASES)
def test_the_bases_are_the_medians_of_what_the_records_chose(loss: str) -> None:
    rows = [
        json.loads((place / "choices.json").read_text())["choices"][loss]["config"]
        for place in PLACES
    ]
    found = chosen(PLACES, loss)
    assert found["lr"] == pytest.approx(np.median([row["lr"] for row in rows]), rel=1e-3)
    decays = Counter(row["weight_decay"] for row in rows)
    assert decays[found["weight_decay"]] == max(decays.values())
    own = {"normalized_softmax": "temperature", "smooth_ap": "tau", "pml:SupConLoss": "temperature"}
    values = [row["loss_args"][own[loss]] for row in rows]
    assert found[own[loss]] == pytest.approx(np.median(values), rel=1e-3)
    assert "batch_size" not in found and "lr_factor" not in found


def test_the_sum_has_its_parts_own_knobs_and_the_shared_ones_of_the_second() -> None:
    *alone, both = bases(PLACES)
    config = config_of(both)
    softmax, smooth_ap, _ = (step.knobs for step in alone)
    assert (config.lr, config.weight_decay) == (softmax["lr"], softmax["weight_decay"])
    assert config.loss_args["tau"] == smooth_ap["tau"]
    assert config.loss_args["temperature"] == softmax["temperature"]
    assert config.loss_args["normalized_softmax_weight"] == 1.0


def test_each_step_is_what_the_program_trains() -> None:
    """With all else as it was; a learning rate goes with the root of its batch."""
    for base in bases(PLACES):
        before = config_of(base)
        assert {name: before.flat()[name] for name in base.knobs} == dict(base.knobs)
        for tried in ADDED:
            for added, changes in tried.items():
                teacher = "x.pt" if "teacher_weight" in changes else ""
                step = base.with_added(added, changes, teacher)
                after = config_of(step)
                asked = {**changes, "epochs": changes.get("epochs", 60)}
                if "batch_size" in changes:
                    grown = (changes["batch_size"] / 256) ** 0.5
                    asked["lr"] = pytest.approx(before.lr * grown, rel=1e-3)
                if added == "half the learning rate":
                    asked["lr"] = pytest.approx(before.lr / 2, rel=1e-3)
                differ = {
                    name
                    for name, value in after.flat().items()
                    if value != before.flat()[name] and name not in ("loss", "teacher")
                }
                assert differ == set(asked) - {"epochs"} | (
                    {"epochs"} if "epochs" in changes else set()
                )
                for name, value in asked.items():
                    assert after.flat()[name] == value, (added, name)


def scores_of(scores: dict[str, float]) -> Iterator[tuple[str, float, bool]]:
    taught = []

    def run(step: Step) -> float:
        seen.append(step)
        return scores.get(step.added, 0.0)

    def teach(step: Step) -> str:
        taught.append(step)
        return "teacher.pt"

    seen: list[Step] = []
    found = list(climb(PLACES, run, teach))
    assert len(taught) == 1
    yield from ((step, score, kept) for step, score, kept in found)


def test_what_helps_is_kept_and_what_follows_is_added_to_it() -> None:
    helps = {"smooth_ap": 0.5, "mirrored": 0.6, "crops of 0.8": 0.59, "240 epochs": 0.71}
    helps |= {"averaging of 0.995": 0.65, "averaging of 0.999": 0.7, "a teacher of weight 30": 0.71}
    found = list(scores_of(helps))
    kept = [step.added for step, _, keep in found if keep]
    assert kept == ["smooth_ap", "mirrored", "averaging of 0.999", "a teacher of weight 30"]
    steps = {step.added: step for step, *_ in found}
    assert steps["averaging of 0.995"].knobs == {
        **steps["mirrored"].knobs, "averaging": 0.995,
    }  # fmt: skip
    last = steps["240 epochs"]
    assert last.epochs == 240 and last.teacher == "teacher.pt"
    assert last.knobs == {
        **steps["smooth_ap"].knobs, "flip": True, "averaging": 0.999, "teacher_weight": 30,
    }  # fmt: skip
    assert len(found) == 4 + sum(map(len, ADDED)) and last.loss == "smooth_ap"


def test_nothing_is_kept_that_does_not_help() -> None:
    kept = [step.added for step, _, keep in scores_of({"pml:SupConLoss": 0.1}) if keep]
    assert kept == ["pml:SupConLoss"]


def test_the_plan_has_these_steps() -> None:
    plan = " ".join((RECORDS / "2026-11-26-plan.md").read_text(encoding="utf-8").split())
    said = (
        "mirrored; shifted by a pixel; a square of 4 pixels erased; crops of 0.8; half the "
        "learning rate; averaging of 0.995, or 0.999; batches of 128, or 512; a teacher "
        "(`study/examples/wide_cnn.py`, 20 epochs with the loss and the augmentation that were "
        "kept) of weight 10, 30, 100; 240 epochs"
    )
    assert said in plan
    names = [name for tried in ADDED for name in tried]
    assert names[:5] == said.split("; ")[:5] and len(names) == 13
    for part in (
        f"--seed {as_good.SEED}",
        f"--max-epochs {as_good.EPOCHS}",
        "from the seed 710,000",
    ):
        assert part in plan
