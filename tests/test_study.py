"""The main job with a real Ray runtime, on the first images of the real data."""

from __future__ import annotations

import gzip
import json
import math
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import optuna
import pandas as pd
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from study import train_references, tune_smoothap
from study.judge.summary import summarize
from study.results.studies import Study
from study.search.space import default
from trainables.data import DataError, resolve
from trainables.data import fashion_mnist_files as files
from trainables.data.fashion_mnist import SMOKE_TRAIN, SMOKE_VALIDATION
from trainables.train import TrainingRun

ROOT = Path(__file__).resolve().parent.parent


def run(*arguments: str, script: str = "study/tune_smoothap.py") -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd="/", env=dict(os.environ))


@dataclass
class Finished:
    study: Study
    output: str


@pytest.fixture(scope="module")
def training_data_only(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real training files beside test files that no one can read."""
    folder = tmp_path_factory.mktemp("data")
    source = files.find_fashion_mnist()
    for file in files.FILES.values():
        path = next(p for p in source.iterdir() if p.name.removesuffix(".gz") == file.name)
        if file.name.startswith("t10k"):
            (folder / path.name).write_bytes(gzip.compress(b"not for a study"))
        else:
            shutil.copy(path, folder)
    with pytest.raises(DataError, match="t10k"):
        files.read("test", folder)
    return folder


@pytest.fixture(scope="module")
def finished(training_data_only: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    storage = tmp_path_factory.mktemp("results")
    done = run(
        *("--smoke-test", "--loss", "smooth_ap", "--loss", "cross_entropy", "--num-samples", "5"),
        *("--max-epochs", "6", "--seed", "5", "--name", "s", "--storage-path", str(storage)),
        *("--final-seeds", "2"),
        *("--data-dir", str(training_data_only)),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return Finished(Study.load(storage / "s"), done.stdout)


SPY = """
import os, sys
def spy(event, arguments):
    if event == "open" and "t10k" in str(arguments[0]):
        os.open(os.environ["READ_THE_TEST_SPLIT"], os.O_CREAT)
sys.addaudithook(spy)
"""


@pytest.mark.parametrize("leaks", [False, True])
def test_no_process_of_a_study_opens_the_test_files(
    leaks: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its spy in every process: the driver's, and those that Ray starts."""
    (tmp_path / "sitecustomize.py").write_text(SPY)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("READ_THE_TEST_SPLIT", str(tmp_path / "read"))
    if leaks:  # the spy would see it
        code = "from trainables.data.fashion_mnist_files import read; read('test')"
        subprocess.run([sys.executable, "-c", code], check=True)
    else:
        arguments = ("--num-samples", "1", "--max-epochs", "1", "--storage-path", str(tmp_path))
        assert run("--smoke-test", *arguments).returncode == 0
    assert (tmp_path / "read").exists() == leaks


def test_each_loss_had_its_ladder_and_then_its_finals(finished: Finished) -> None:
    """Of 5 configurations, the first the defaults: the best of the first 3, at least, goes on."""
    assert finished.study.info["status"] == "finished"
    rungs = (2, 6)
    for loss in ("cross_entropy", "smooth_ap"):
        trials = {t.trial_id: t for t in finished.study.trials if t.loss == loss}
        assert list(trials) == [f"{loss}-{n:03d}" for n in range(len(trials))]
        begun = [t for t in trials.values() if t.follows is None]
        assert [t.origin for t in begun] == [
            *("hand-set", "nearby", "quasi-random", "quasi-random", "nearby")
        ]
        assert begun[0].config == default(loss, epochs=rungs[0], seed=5)
        finals = [t for t in trials.values() if t.origin == "final"]
        best = sorted(begun, key=lambda t: -t.score)[:3]
        expected = {t.trial_id for t in best} | {begun[0].trial_id}
        assert {t.follows for t in finals} == expected
        assert len(trials) == 5 + 2 * len(expected)
        for trial in finals:
            followed = trials[str(trial.follows)].config
            assert trial.config == followed.replace(epochs=rungs[1], seed=trial.config.seed)
        assert {t.config.seed for t in finals} == {1005, 1006}
        for trial in trials.values():
            assert trial.status == "finished"
            assert [row["epoch"] for row in trial.epochs] == [*range(1, trial.config.epochs + 1)]


def test_the_best_checkpoint_gives_the_recorded_map(finished: Finished) -> None:
    split = resolve("fashion_mnist").split().sliced(SMOKE_TRAIN, SMOKE_VALIDATION)
    for choice in finished.study.best().values():
        assert choice.checkpoint is not None
        run = TrainingRun(choice.config, split)
        run.load(choice.checkpoint)
        assert run.epoch == choice.epoch
        (record,) = [t for t in finished.study.trials if t.trial_id == choice.trial_id]
        found = run._validate()[1].mean_average_precision
        assert found == pytest.approx(record.score, abs=1e-6)


def test_optuna_was_told_what_happened(finished: Finished) -> None:
    storage = JournalStorage(JournalFileBackend(str(finished.study.folder / "search.journal")))
    for loss in ("smooth_ap", "cross_entropy"):
        search = optuna.load_study(study_name=loss, storage=storage)
        assert search.metric_names == ["validation mAP"]
        told = search.get_trials()
        records = [trial for trial in finished.study.trials if trial.loss == loss]
        assert len(told) == len(records)
        for trial, record in zip(told, records, strict=True):
            values = {round(1000 * row["epoch"]): row["val_map"] for row in record.epochs}
            assert trial.intermediate_values == values
            assert record.best is not None
            assert trial.params == record.knobs
            if record.config.epochs == 6:
                assert trial.state is TrialState.COMPLETE
                assert trial.value == record.best["val_map"]
            else:
                assert trial.state is TrialState.PRUNED


def test_the_tables_hold_every_trial(finished: Finished) -> None:
    folder = finished.study.folder
    trials = pd.read_csv(folder / "trials.csv")
    assert sorted(trials["trial_id"]) == sorted(t.trial_id for t in finished.study.trials)
    assert trials["tau"].notna().tolist() == (trials["loss"] == "smooth_ap").tolist()
    best = json.loads((folder / "best.json").read_text())
    for loss, choice in best.items():
        finals = trials[(trials["loss"] == loss) & (trials["origin"] == "final")]
        means = finals.groupby("follows")["best_val_map"].mean()
        assert math.isclose(choice["val_map"], means.max())
        (chosen,) = finals.loc[finals["trial_id"] == choice["trial_id"], "follows"]
        assert (chosen, choice["seeds"]) == (means.idxmax(), 2)
    info = json.loads((folder / "study.json").read_text())
    assert info["plan"]["num_samples"] == 5
    assert {"ray", "optuna", "torch"} <= set(info["versions"])
    assert info["machine"]["processor"] in Path("/proc/cpuinfo").read_text()
    assert info["machine"]["processor"].split()  # not of no letter


def test_the_terminal_tells_what_a_user_wants_to_know(finished: Finished) -> None:
    output = finished.output
    assert re.search(r"dashboard: http://127\.0\.0\.1:\d+", output)
    assert "1 of about 26 trials ended" in output
    assert re.search(r"about .* left", output)
    assert "Best trials, by validation mAP" in output
    assert f"Everything lies in {finished.study.folder}" in output
    assert f"{ROOT}/analysis/report.py {finished.study.folder} --data-dir " in output


def test_a_name_that_exists_is_refused_and_nothing_is_lost(
    finished: Finished, training_data_only: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = finished.study.folder
    before = {path: path.read_bytes() for path in folder.glob("*.*")}
    code = tune_smoothap.main(["--name", folder.name, "--storage-path", str(folder.parent)])
    assert code == 2
    assert f"{folder} already holds a study" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in folder.glob("*.*")} == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--num-samples", "0"], "error: num_samples must be >= 1; got 0"),
        (["--max-epochs", "-3"], "error: max_epochs must be >= 1; got -3"),
        (["--seed", "-1"], "error: seed must be >= 0; got -1"),
        (["--cpus-per-trial", "0"], "error: cpus_per_trial must be >= 0.0001, the least"),
        (
            ["--gpus-per-trial", "-1"],
            "error: gpus_per_trial must be 0, in [0.0001, 1] or a whole",
        ),
        (["--gpus-per-trial", "1.5"], "error: gpus_per_trial must be 0, in [0.0001, 1] or a whole"),
        (["--cpus-per-trial", "nan"], "error: cpus_per_trial must be >= 0.0001, the least"),
        (["--seed", str(2**32)], "error: seed must be below 2**32"),
        (["--name", ".."], "error: --name must be a folder's name without a path; got '..'"),
        (["--max-concurrent", "0"], "error: max_concurrent must be >= 1; got 0"),
        (["--name", "a/b"], "error: --name must be a folder's name without a path; got 'a/b'"),
        (["--data-dir", "/nowhere"], "error: data folder /nowhere does not hold train-images"),
        (["--loss", "triplet", "--loss", "triplet"], "error: losses must be named once each"),
        (["--loss", "contrastive"], "error: loss must be one of cross_entropy, "),
        (["--network", "seed_cn"], "error: network must be seed_cnn, "),
        (["--set", "tua=0.1"], "error: tua is no knob of this search; did you mean tau?"),
        (["--set", "tau=0"], "error: tau must be a finite number > 0; got 0"),
        (
            ["--space", "/nowhere.toml"],
            "error: --space must be `wide` or a TOML file; /nowhere.toml cannot",
        ),
    ],
)
def test_wrong_inputs_get_one_line_before_anything_starts(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tune_smoothap.main(["--storage-path", str(tmp_path), *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith(message)
    assert len(error.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_more_gpus_than_ray_sees_are_refused_before_a_study_is_made(tmp_path: Path) -> None:
    done = run("--gpus-per-trial", "1000", "--storage-path", str(tmp_path))
    assert done.returncode == 2
    assert re.search(
        r"^error: a trial is to have 1000 GPUs; Ray sees \d+ on a node$", done.stderr, re.M
    )
    assert not list(tmp_path.iterdir())


def test_the_references_are_a_study_of_one_trial_each(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen = {}
    monkeypatch.setattr(train_references, "run", lambda options, **plan: seen.update(plan) or 0)
    assert train_references.main(["--storage-path", str(tmp_path)]) == 0
    assert seen == {
        "losses": ["cross_entropy", "smooth_ap", "triplet"],
        "num_samples": 1,
        "max_epochs": 100,
        "early_stopping": False,
        "final_seeds": 0,
        "job": train_references.train,
        "program": "train_references.py",
        "tell": summarize,
    }


def test_an_audit_takes_what_rests_to_the_end_that_it_would_have_had(finished: Finished) -> None:
    study = finished.study
    done = run(str(study.folder), "--sample", "1", script="study/audit_stopping.py")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"left resting above the chosen one: [01] of 1", done.stdout)
    (end,) = Study.load(study.folder / "audit").trials
    (rests,) = [trial for trial in study.trials if trial.trial_id == end.trial_id]
    assert rests.trial_id not in {trial.follows for trial in study.trials}
    assert end.config == rests.config.replace(epochs=6)
    split = resolve("fashion_mnist").split().sliced(SMOKE_TRAIN, SMOKE_VALIDATION)
    whole = [metrics.val_map for metrics in TrainingRun(end.config, split)]
    assert [row["val_map"] for row in end.epochs] == whole
    assert Study.load(study.folder).trials == study.trials


def test_an_object_stores_address_is_refused_as_storage(capsys: pytest.CaptureFixture[str]) -> None:
    assert tune_smoothap.main(["--storage-path", "s3://bucket/studies"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: --storage-path must be a folder")
    assert error.endswith("got the URI s3://bucket/studies\n")
