"""What is only shown does not end a study: whole runs, with a real Ray runtime."""

from __future__ import annotations

import os
import pty
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from study.results.studies import Study
from tests.test_study import ROOT

SHOWN_FAILS = """
import sys
from optuna.storages.journal import JournalFileBackend
from ray.tune.logger import TBXLoggerCallback
from study import tune_smoothap
from study.run import gauges as metrics
from study.run.progress import Progress

def fail(*_, **__):
    raise RuntimeError("no")

JournalFileBackend.append_logs = TBXLoggerCallback.log_trial_result = fail
metrics.Gauge = Progress.status_line = fail
sys.exit(tune_smoothap.main())
"""
TAKEN = """
import sys
import ray
from ray.cluster_utils import Cluster
from study import tune_smoothap
from study.run import progress
from study.run.tune_adapters import Clock

@ray.remote(num_cpus=1)
class Taker:
    def ready(self):
        return True

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
ray.init(cluster.address, namespace="other", log_to_driver=False)
ray.get(Taker.options(name="taker", lifetime="detached").remote().ready.remote())
ray.shutdown()
progress.STATUS_EVERY = 0.0
look = progress.Progress.look

def look_and_free(self, running, waiting):
    look(self, running, waiting)
    if waiting and not running:
        try:
            ray.kill(ray.get_actor("taker", namespace="other"))
        except ValueError:  # it is gone
            progress.STATUS_EVERY = 30.0

progress.Progress.look = look_and_free
sys.exit(tune_smoothap.main([*sys.argv[1:], "--address", cluster.address]))
"""


def options(folder: Path, trials: int) -> list[str]:
    where = ["--name", folder.name, "--storage-path", str(folder.parent)]
    small = ["--num-samples", str(trials), "--max-epochs", "1", "--final-seeds", "0"]
    return ["--smoke-test", *small, *where]


def test_nothing_that_is_shown_ends_a_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the first line no one reads; and neither the terminal nor gauges know the name's é."""
    folder = tmp_path / "my étude"
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    program = shlex.join([sys.executable, "-c", SHOWN_FAILS, *options(folder, 2)])
    command = ["bash", "-o", "pipefail", "-c", f"{program} | head -1"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    warnings = [line for line in done.stderr.splitlines() if line.startswith("warning: ")]
    said = (
        "search.journal, the search",
        "TBXLoggerCallback",
        "the gauges for Prometheus",
        "the terminal's lines",
        "the line that says how the study is",
        "standard output is lost",
    )
    for what in said:
        assert sum(line.startswith(f"warning: {what}") for line in warnings) <= 1, done.stderr
    for what in (*said[:4], said[-1]):
        assert any(line.startswith(f"warning: {what}") for line in warnings), done.stderr
    study = Study.load(folder)
    assert [trial.status for trial in study.trials] == ["finished", "finished"]
    assert study.info["status"] == "finished"


def test_gauges_and_folders_take_any_name(tmp_path: Path) -> None:
    folder = tmp_path / "étude – 3 τ"
    command = [sys.executable, str(ROOT / "study/tune_smoothap.py"), *options(folder, 1)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning: " not in done.stderr
    assert Study.load(folder).info["status"] == "finished"


def test_a_study_outlives_its_terminal(tmp_path: Path) -> None:
    """That of `nohup`, or of a session that is cut off."""
    ours, theirs = pty.openpty()
    command = [sys.executable, str(ROOT / "study/tune_smoothap.py"), *options(tmp_path / "s", 1)]
    process = subprocess.Popen(command, stdout=theirs, stderr=theirs)
    os.close(theirs)
    assert os.read(ours, 1)
    os.close(ours)
    assert process.wait() == 0
    assert Study.load(tmp_path / "s").info["status"] == "finished"


def test_a_study_says_what_it_waits_for(tmp_path: Path) -> None:
    command = [sys.executable, "-c", TAKEN, *options(tmp_path / "s", 1)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "  no trial runs yet: it waits for 1 CPU (0 of 1 free) on one node\n" in done.stdout
    assert Study.load(tmp_path / "s").info["status"] == "finished"
