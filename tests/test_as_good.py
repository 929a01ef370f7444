"""The steps of the plan's last part, with made-up scores; and what they begin with."""

from __future__ import annotations

import itertools
import json
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from study.records import as_good
from study.records.as_good import ADDED, BASES, Runs, SpentError, Step, bases, chosen, climb, main
from study.results.studies import SCHEMA, Study
from study.results.trials import SELECTION, TrialRecord, trial_name
from study.run.plan import Plan
from study.search.changes import read_setting
from study.search.space import default
from study.tune_smoothap import parser
from tests.claims import OWN, RECORDS
from trainables.config import TrialConfig

PLACES = [RECORDS / name for name in OWN]


def config_of(step: Step) -> TrialConfig:
    """What the program begins with, of a step's options."""
    given = vars(parser().parse_args(step.options()))
    changes = dict(map(read_setting, given["settings"]))
    plan = Plan(losses=given["losses"], num_samples=1, max_epochs=given["max_epochs"],
                changes=changes, teacher=given.get("teacher"))  # fmt: skip
    assert plan == step.plan(num_samples=1)
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


def scores_of(scores: dict[str, float]) -> Iterator[tuple[Step, float, bool]]:
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


def test_where_the_hours_are_spent_the_best_so_far_is_the_result() -> None:
    """What a group has had counts, though the rest of it has no hours left."""
    scores = {"smooth_ap": 0.5, "mirrored": 0.6, "averaging of 0.995": 0.7}

    def run(step: Step) -> float:
        if step.added == "averaging of 0.999":
            raise SpentError
        return scores.get(step.added, 0.0)

    found = [(step.added, kept) for step, _, kept in climb(PLACES, run, lambda step: "x.pt")]
    assert found[-1] == ("averaging of 0.995", True)
    assert [added for added, kept in found if kept] == [*scores]


def test_what_diverges_is_not_kept_and_stops_nothing() -> None:
    scores = {"pml:SupConLoss": 0.1, "240 epochs": 0.2}
    found = list(climb(PLACES, lambda step: scores.get(step.added, -np.inf), lambda step: "x.pt"))
    assert [step.added for step, _, kept in found if kept] == [*scores]
    assert list(climb(PLACES, lambda step: -np.inf, lambda step: "x.pt"))[-1][2] is False


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that were given, in place of whose runs small studies are written: a
    configuration that was begun, and its final, of as many thousandths as commands before it."""
    commands: list[list[str]] = []

    def program(words: list[str], **_: Any) -> subprocess.CompletedProcess:
        commands.append(words)
        given = vars(parser().parse_args(words[2:]))
        folder = given["storage_path"] / given["name"]
        if "resume" in given:
            study = Study.load(folder)
            for trial in study.trials:
                trial.status, trial.cause = "finished", ""
        else:
            fields = {"losses", "max_epochs", "seed", "num_samples", "final_seeds"}
            beside = {"teacher", "network"}
            plan = Plan(**{name: given[name] for name in fields | beside & set(given)},
                        changes=dict(map(read_setting, given["settings"])))  # fmt: skip
            (loss,) = plan.losses
            config = default(loss, epochs=plan.max_epochs, seed=plan.seed, space=plan.space(),
                             network=plan.network)  # fmt: skip
            first = TrialRecord(trial_name(loss, 0), config.replace(epochs=0.25))
            last = TrialRecord(
                trial_name(loss, 1), config, origin=SELECTION, follows=first.trial_id
            )
            for trial in (first, last):
                row = {"val_map": len(commands) / 1000, "seconds": 36.0}
                trial.add_epoch({"epoch": trial.config.epochs, **row})
                trial.status, trial.checkpoint = "finished", str(folder / "best.pt")
            if len(commands) == 2:
                last.status, last.cause = "failed", "the machine went away"
            study = Study(folder, {"schema": SCHEMA, "plan": plan.fields()}, [first, last])
        study.info["status"] = "finished"
        (folder / "trials").mkdir(parents=True, exist_ok=True)
        for trial in study.trials:
            study.write_trial(trial)
        study.write()
        return subprocess.CompletedProcess(words, 0)

    monkeypatch.setattr(as_good, "OF_THE_PLAN", len(PLACES))
    monkeypatch.setattr(as_good.subprocess, "run", program)
    return commands


def last_command(capsys: pytest.CaptureFixture[str]) -> list[str]:
    hours, command = capsys.readouterr().out.splitlines()[-1].split(" core-hours; then: ")
    return [hours, *command.split()]


def test_all_steps_are_run_once_and_the_last_command_reads_the_test_images(
    asked: list[list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(tmp_path)
    steps = 4 + sum(map(len, ADDED)) + 1  # and the teacher
    again = [words for words in asked if words[-1] == "--resume"]
    assert len(asked) == steps + 1 and [words[3] for words in again] == ["good-02"]
    hours, *command = last_command(capsys)
    assert hours == f"{steps * 72 / 3600:.2f}"
    assert command[:2] == ["python", "study/compare_losses.py"] and "--reference-seeds" in command
    table = pd.read_csv(tmp_path / "as_good.csv")
    assert table["seconds"].sum() == pytest.approx(steps * 72)
    assert table.groupby("study").size().tolist() == [2] * steps
    kept = table[table["kept"].fillna(False).astype(bool)]  # the teacher's is empty
    assert kept["added"].iloc[-1] == "240 epochs" and "--max-epochs 240" in " ".join(command)
    settings = [word for before, word in itertools.pairwise(command) if before == "--set"]
    assert " ".join(settings) == kept["settings"].iloc[-1]
    main(tmp_path)  # nothing is run twice
    assert len(asked) == steps + 1 and last_command(capsys) == [hours, *command]
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "as_good.csv"), table)


def test_a_folder_of_another_step_is_refused(asked: list[list[str]], tmp_path: Path) -> None:
    Runs(tmp_path).run(Step("x", "smooth_ap", {"tau": 0.5}))
    with pytest.raises(SystemExit, match=r"good-01 is of another step: losses was \['smooth_ap'\]"):
        Runs(tmp_path).run(Step("x", "triplet", {"margin": 0.3}))
    with pytest.raises(SystemExit, match="is of another step: changes was"):
        Runs(tmp_path).run(Step("x", "smooth_ap", {"tau": 0.1}))
    assert len(asked) == 1


def test_when_the_hours_are_spent_it_ends_with_its_command(
    asked: list[list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(as_good, "MOST_HOURS", 5.5 * 72 / 3600)
    main(tmp_path)
    assert len({words[3] for words in asked}) == 6  # begun while less was spent
    assert last_command(capsys)[0] == f"{6 * 72 / 3600:.2f}"


def test_no_end_leaves_a_traceback_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(as_good, "OF_THE_PLAN", len(PLACES))
    monkeypatch.setattr(as_good.subprocess, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        main(tmp_path)
    assert not (tmp_path / "as_good.csv").exists()


def test_it_waits_for_all_comparisons(
    asked: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert as_good.RECORDS == PLACES
    monkeypatch.setattr(as_good, "OF_THE_PLAN", 1 + len(PLACES))
    with pytest.raises(SystemExit, match=f"{1 + len(PLACES)} comparisons; {len(PLACES)} are there"):
        main(tmp_path)
    assert not asked


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
