"""The whole comparison with a real Ray runtime: its four steps, and its end in each of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from filelock import FileLock
from scipy import stats

from study import compare_losses
from study.judge import comparison
from study.judge.choices import Frozen
from study.results import images
from study.results.files import StudyError
from study.results.studies import Study
from study.run import runner
from study.run.plan import Plan
from tests.configurations import LOSSES, REFERENCES
from tests.conftest import PATIENCE
from tests.test_resume import epochs_done
from tests.test_study import ROOT
from trainables.data import resolve
from trainables.data.fashion_mnist import SMOKE_VALIDATION
from trainables.data.ledger import LEDGER, entries
from trainables.train import TrainingRun
from trainables.trained import read_checkpoint

SIZE = ("--num-samples", "2", "--max-epochs", "2", "--confirm-seeds", "2")
OPTIONS = ("--smoke-test", "--final-seeds", "1", *SIZE)
SMALL = SMOKE_VALIDATION  # training images

# In every process: what is read of the test split, and whether the choices were frozen then.
SPY = """
import os, sys
def spy(event, arguments):
    if event == "open" and "t10k" in str(arguments[0]) and "READS" in os.environ:
        frozen = os.path.exists(os.environ["CHOICES"])
        with open(os.environ["READS"], "a") as file:
            print(os.getpid(), frozen, file=file)
sys.addaudithook(spy)
"""
COMPARE = f"""
import os, signal, sys
from study import compare_losses
from study.judge import final_test
from study.results import files
from trainables.data import fashion_mnist
fashion_mnist.SMOKE_TRAIN = {SMALL}
def die():
    os.kill(os.getpid(), signal.SIGKILL)
"""
RUN = """
print("driver", os.getpid(), flush=True)
sys.exit(compare_losses.main())
"""
DIE_WHEN_CHOOSING = """
replace = os.replace
def replace_or_die(source, target):
    if str(target).endswith("choices.json"):
        die()
    replace(source, target)
files.os.replace = replace_or_die
"""
DIE_AFTER_AN_EPOCH = """
replace = os.replace
def replace_and_die(source, target):
    replace(source, target)
    if "{part}/trials/" in str(target) and '"val_map":' in open(target).read():
        die()
files.os.replace = replace_and_die
"""
DIE_WHEN_TESTING = """
evaluate, left = final_test.evaluate, [2]
def evaluate_or_die(*arguments):
    left[0] -= 1
    if not left[0]:
        die()
    return evaluate(*arguments)
final_test.evaluate = evaluate_or_die
"""


def start(storage: Path, *options: str, fault: str = "") -> subprocess.Popen:
    """The comparison `c` of few images in a process of its own, with the spy in all of its."""
    (storage / "sitecustomize.py").write_text(SPY)
    paths = os.pathsep.join(filter(None, (str(storage), str(ROOT), os.environ.get("PYTHONPATH"))))
    spied = {"READS": str(storage / "reads"), "CHOICES": str(storage / "c" / "choices.json")}
    return subprocess.Popen(
        [
            *(sys.executable, "-c", COMPARE + fault + RUN, *options),
            *("--name", "c", "--storage-path", str(storage)),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **spied, "PYTHONPATH": paths},
    )


def finals(folder: Path, name: str) -> pd.DataFrame:
    table = pd.read_csv(folder / "finals" / f"{name}.csv")
    return table.drop(columns=[column for column in table if "seconds" in column])


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds a finished comparison, its output, and what its processes read."""
    storage = tmp_path_factory.mktemp("compare")
    process = start(storage, *OPTIONS)
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, output
    (storage / "output").write_text(output)
    return storage


@pytest.fixture
def folder(storage: Path) -> Iterator[Path]:
    """The finished comparison, which a test must leave as it is."""
    files = [p for p in (storage / "c").rglob("*") if p.is_file() and ".lock" not in p.name]
    before = {path: path.read_bytes() for path in files}
    yield storage / "c"
    assert {path: path.read_bytes() for path in files} == before


def test_all_four_steps(folder: Path, storage: Path) -> None:
    sweep, confirmation = Study.load(folder), Study.load(folder / "confirmation")
    frozen = json.loads((folder / "choices.json").read_text())
    assert sorted(t.trial_id for t in sweep.trials) == [
        f"{loss}-{n:03d}" for loss in sorted(LOSSES) for n in range(4)
    ]  # two configurations, each again on a fresh seed
    assert frozen["seeds"] == [1, 2]
    runs = {trial.trial_id: trial for trial in confirmation.trials}
    assert len(runs) == 2 * (len(LOSSES) + len(REFERENCES))
    for loss in LOSSES:
        trials = [t for t in sweep.trials if t.loss == loss and t.origin == "final" and t.best]
        assert {trial.config.seed for trial in trials} == {1000}
        best = max(trials, key=lambda trial: trial.best["val_map"])  # type: ignore[index]
        row = frozen["choices"][loss]
        assert best.best is not None
        assert (row["trial_id"], row["val_map"]) == (best.trial_id, best.best["val_map"])
        for n, seed in enumerate(frozen["seeds"]):
            assert runs[f"{loss}-{n:03d}"].config == best.config.replace(seed=seed)
            if loss in REFERENCES:
                reference = REFERENCES[loss].replace(seed=seed, epochs=2)
                assert runs[f"{loss}-{n + 2:03d}"].config == reference
    assert all(run.status == "finished" and len(run.epochs) == 2 for run in runs.values())
    assert {trial.config.seed for trial in sweep.trials} == {0, 1000}
    table = pd.read_csv(folder / "finals" / "runs.csv").set_index("trial_id")
    for trial_id, run in runs.items():
        assert run.best is not None
        assert table.loc[trial_id, "best_val_map"] == run.best["val_map"]
        assert table.loc[trial_id, "best_epoch"] == run.best["epoch"]
    output = (storage / "output").read_text()
    assert output.index(frozen["rule"]) < output.index("test mAP") < output.index("corrected")
    assert f"analysis/report.py {folder}" in output


def test_only_the_driver_reads_the_test_files_and_only_for_frozen_choices(
    folder: Path, storage: Path
) -> None:
    """Two files, images and labels, each once; the spy saw them, so it would see others."""
    (driver,) = (
        line.split()[1]
        for line in (storage / "output").read_text().splitlines()
        if line.startswith("driver")
    )
    assert (storage / "reads").read_text().splitlines() == [f"{driver} True"] * 2


def test_a_confirmed_run_gives_its_validation_map_again(folder: Path) -> None:
    split = resolve("fashion_mnist").split().sliced(SMALL, SMOKE_VALIDATION)
    confirmation = Study.load(folder / "confirmation")
    for trial_id in ("smooth_ap-001", "cross_entropy-002"):
        run = next(run for run in confirmation.trials if run.trial_id == trial_id)
        again = [epoch.val_map for epoch in TrainingRun(run.config, split)]
        assert again == [row["val_map"] for row in run.epochs]


def resume(folder: Path, *options: str) -> int:
    where = ("--name", folder.name, "--storage-path", str(folder.parent))
    return compare_losses.main(["--resume", *where, *options])


def test_a_finished_comparison_is_shown_again_and_not_read_again(
    folder: Path, storage: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing that could train or read is reached.
    monkeypatch.setattr(runner, "dataset_of", None)
    monkeypatch.setattr(images, "resolve", None)
    assert resume(folder) == 0
    out = capsys.readouterr().out
    table = (storage / "output").read_text().split("Test images")[1].split("The comparison")[0]
    assert table in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--seed", "3"), "seed was 0, is 3"),
        (("--confirm-seeds", "3"), "confirm_seeds was 2, is 3"),
        (("--confirm-epochs", "3"), "confirm_epochs was None, is 3"),
        (("--holdout-classes", "1,2"), "holdout_classes was [], is [1, 2]"),
        (("--num-samples", "3"), "a sweep that is finished stays as it is: num_samples was 2, is"),
        (("--final-seeds", "9"), "a sweep that is finished stays as it is: final_seeds was"),
        (("--confirm-seeds", "1"), "a comparison must have confirm_seeds >= 2; got 1"),
        (("--confirm-seeds", "0"), "a comparison must have confirm_seeds >= 2; got 0"),
        (("--confirm-epochs", "0"), "confirm_epochs must be >= 1; got 0"),
        (("--holdout-classes", "5,shoe"), "9 Ankle boot; got 'shoe'"),
        (("--holdout-classes", "5,Sandal"), "must be named once each; got 5, sandal"),
        (("--holdout-classes", "5"), "must be 2 to 8 of the 10 classes; got 1: [5]"),
        (("--holdout-classes", "0,1,2,3,4,5,6,7,8"), "must be 2 to 8 of the 10 classes; got 9"),
        (("--reread-test", " "), "must say why; got an empty reason"),
    ],
)
def test_what_a_finished_comparison_refuses(
    options: tuple[str, ...], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert resume(folder, *options) == 2
    err = capsys.readouterr().err
    assert message in err and err.startswith("error: ") and err.count("\n") == 1


def test_a_new_comparison_has_nothing_to_read_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--name", "c", "--storage-path", str(tmp_path), "--reread-test", "why not")
    assert compare_losses.main([*options]) == 2
    assert "has no reading" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_second_driver_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with FileLock(folder / ".lock"):
        assert resume(folder) == 2
    assert f"another program is running the study in {folder}" in capsys.readouterr().err


def test_choices_that_disagree_with_the_sweep_are_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder / "choices.json"
    before = path.read_text()
    content = json.loads(before)
    content["choices"]["triplet"]["val_map"] = 0.99
    path.write_text(json.dumps(content))
    try:
        assert resume(folder) == 2
    finally:
        path.write_text(before)
    err = capsys.readouterr().err
    assert "is frozen and must agree with the sweep; triplet: " in err and err.count("\n") == 1


def test_killed_in_each_step_it_ends_with_the_same_choices_and_results(
    storage: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "c"
    process = start(tmp_path, *OPTIONS, fault=DIE_AFTER_AN_EPOCH.format(part="c"))
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == -9, output
    assert epochs_done(folder) >= 1

    process = start(tmp_path, "--resume", fault=DIE_WHEN_CHOOSING)
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == -9, output
    assert not (folder / "choices.json").exists()
    assert Study.load(folder).info["status"] == "finished"

    process = start(tmp_path, "--resume", fault=DIE_AFTER_AN_EPOCH.format(part="confirmation"))
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == -9, output
    assert epochs_done(folder / "confirmation") >= 1
    frozen = (folder / "choices.json").read_bytes()
    assert "Best trials" not in output and not (folder / "finals").exists()

    process = start(tmp_path, "--resume", fault=DIE_WHEN_TESTING)
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == -9, output
    assert len(entries(tmp_path / LEDGER)) == 1
    assert not (folder / "finals" / "summary.csv").exists()

    process = start(tmp_path, "--resume")
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, output
    assert (folder / "choices.json").read_bytes() == frozen
    undisturbed = json.loads((storage / "c" / "choices.json").read_text())
    assert json.loads(frozen)["choices"] == undisturbed["choices"]
    reasons = [line["why"] for line in entries(tmp_path / LEDGER)]
    assert reasons == ["first reading", "the reading before was interrupted"]
    for name in ("runs", "summary", "differences"):
        pd.testing.assert_frame_equal(finals(folder, name), finals(storage / "c", name))
    mine, theirs = (np.load(f / "finals" / "queries.npz") for f in (folder, storage / "c"))
    assert mine.files == theirs.files
    for name in mine.files:
        np.testing.assert_array_equal(mine[name], theirs[name])
    assert all(line.endswith("True") for line in (tmp_path / "reads").read_text().splitlines())


def test_a_search_that_is_repeated_is_what_the_intervals_speak_of(tmp_path: Path) -> None:
    two = ("--loss", "triplet", "--loss", "smooth_ap", "--search-seeds", "2")
    size = ("--num-samples", "2", "--max-epochs", "1", "--final-seeds", "0", "--confirm-seeds", "2")
    longer = ("--reference-seeds", "1", "--reference-epochs", "2")
    process = start(tmp_path, "--smoke-test", *size, *two, *longer)
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, output
    folder = tmp_path / "c"
    first, second = Study.load(folder), Study.load(folder / "searches" / "02")
    assert {t.config.seed for t in first.trials} == {0}
    assert {t.config.seed for t in second.trials} == {10_000}
    mine = {t.trial_id: t.config for t in first.trials if not t.hand_set}
    assert all(t.config.replace(seed=0) != mine.get(t.trial_id) for t in second.trials)
    frozen = json.loads((folder / "choices.json").read_text())
    assert frozen["seeds"] == [1, 2, 10_001, 10_002]
    confirmation = {t.trial_id: t for t in Study.load(folder / "confirmation").trials}
    for loss in ("triplet", "smooth_ap"):
        chosen = [study.best()[loss].config for study in (first, second)]
        for number, seed in enumerate(frozen["seeds"]):
            config = confirmation[f"{loss}-{number:03d}"].config
            assert config == chosen[number // 2].replace(seed=seed)
        references = [confirmation[f"{loss}-{number:03d}"].config for number in (4, 5)]
        assert references == [REFERENCES[loss].replace(seed=s, epochs=2) for s in (1, 10_001)]
    assert len(confirmation) == 2 * (4 + 2)
    runs, summary = finals(folder, "runs"), finals(folder, "summary")
    assert runs.groupby("search")["seed"].unique().map(sorted).tolist() == [
        *([1, 2], [10_001, 10_002])
    ]
    row = summary.query("protocol == 'full' and role == 'chosen' and loss == 'triplet'").iloc[0]
    means = (
        runs.query("role == 'chosen' and loss == 'triplet'").groupby("search")["map_full"].mean()
    )
    assert row["map"] == pytest.approx(means.mean())
    beside = runs.query("role == 'reference' and loss == 'triplet'")
    assert beside["search"].tolist() == [0, 1] and set(beside["epochs"]) == {2}
    differences = finals(folder, "differences").query("role == 'tuning' and protocol == 'full'")
    expected = means.mean() - beside["map_full"].mean()
    assert differences.set_index("first").loc["triplet", "difference"] == pytest.approx(expected)
    half = stats.t.ppf(0.975, 1) * means.std(ddof=1) / np.sqrt(2)
    assert row["high"] == pytest.approx(min(1.0, means.mean() + half))
    assert (row["runs"], row["searches"], row["trials"]) == (4, 2, 4)
    where = ("--resume", "--name", "c", "--storage-path", str(tmp_path))
    assert compare_losses.main([*where]) == 0  # and nothing is run again
    assert {t.trial_id: t for t in Study.load(folder / "confirmation").trials} == confirmation


def test_a_search_among_fewer_classes_asks_for_nothing_that_they_cannot_give(
    tmp_path: Path,
) -> None:
    """Of all knobs; five classes are left to train on, and two others judge meanwhile."""
    options = ("--smoke-test", "--num-samples", "7", "--max-epochs", "1", "--confirm-seeds", "2")
    options += ("--final-seeds", "0", "--space", "wide")
    two = ("--loss", "normalized_softmax", "--loss", "smooth_ap")
    apart = ("--holdout-classes", "5,7,9", "--validation-classes", "2,8")
    process = start(tmp_path, *options, *two, *apart)
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, output
    sweep, confirmation = Study.load(tmp_path / "c"), Study.load(tmp_path / "c" / "confirmation")
    assert len(sweep.trials) == 7 * 2
    assert {trial.status for trial in [*sweep.trials, *confirmation.trials]} == {"finished"}
    sizes = {trial.config.batch_size for trial in sweep.trials}
    assert {trial.config.per_class for trial in sweep.trials} == {None} and len(sizes) > 2
    assert sweep.info["plan"]["validation_classes"] == [2, 8]
    assert output.count("left out of the search: per_class 2, 4, 8 (") == 1
    ranges = {row["knob"]: row["range"] for row in sweep.info["space"]}
    assert ranges["per_class"] == "None"
    for choice in sweep.best().values():
        assert choice.checkpoint is not None
        assert len(read_checkpoint(choice.checkpoint)["classes"]) == 5


@pytest.mark.parametrize("changed_after", ["the search", "the confirmation"])
def test_a_file_that_changes_between_two_steps_ends_a_comparison(
    changed_after: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before a test image is read: what judges would be another network than what was trained."""
    code, steps = tmp_path / "net.py", []
    code.write_text("one")
    options = {"losses": ["triplet"], "num_samples": 1, "max_epochs": 1, "confirm_seeds": 2}
    plan = Plan(**options, network=f"{code}:small")
    info = {"schema": 1, "plan": plan.fields(), "files": plan.digests(), "status": "finished"}

    def step(name: str, found: Any) -> Any:
        steps.append(name)
        if name == changed_after:
            code.write_text("two")
        return found

    study = Study.create(tmp_path / "s", info)
    frozen = Frozen("a rule", 0.0, {}, [1, 2])
    monkeypatch.setattr(comparison, "_sweeps", lambda *_: step("the search", [study]))
    monkeypatch.setattr(comparison, "freeze", lambda *_, **__: frozen)
    monkeypatch.setattr(comparison, "_confirm", lambda *_: step("the confirmation", study))
    monkeypatch.setattr(comparison, "read_test", lambda *_, **__: step("the test", None))
    with pytest.raises(StudyError, match=r"the file of network must stay as it was .* SHA-256"):
        comparison.compare(plan, tmp_path / "s", resume=True)
    assert steps == ["the search", "the confirmation"][: steps.index(changed_after) + 1]
