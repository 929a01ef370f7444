"""How a program ends, and what it says to do next."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from study import audit_stopping, compare_losses, train_references, tune_smoothap
from study.judge import comparison
from study.results.files import StudyError
from study.results.studies import Study
from study.run.cli import exit_code
from study.run.plan import Plan
from tests.test_study import ROOT, run

EARLY = """
import sys, time
from study import tune_smoothap
from study.run import runner

def start_ray(address):
    print("HERE", flush=True)
    time.sleep(600)

runner.start_ray = start_ray
sys.exit(tune_smoothap.main())
"""


def ignore_interrupts() -> None:
    """As a shell does for what it starts in the background."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def test_programs_wait_for_no_library_that_few_runs_need() -> None:
    """Torchvision alone takes a third of what a study's program needs to begin."""
    rare = ("torchvision", "timm", "pytorch_metric_learning", "sklearn", "torch._dynamo")
    programs = "study.tune_smoothap, study.compare_losses, analysis.report"
    code = f"import sys, {programs}; print([name for name in {rare} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "[]\n", done.stderr


@pytest.mark.parametrize(
    ("stop", "prepare"),
    [(signal.SIGINT, None), (signal.SIGTERM, None), (signal.SIGTERM, ignore_interrupts)],
)
def test_a_signal_before_the_study_began_gets_one_line(
    stop: signal.Signals, prepare: Callable[[], None] | None, tmp_path: Path
) -> None:
    arguments = ("--smoke-test", "--name", "s", "--storage-path", str(tmp_path))
    process = subprocess.Popen(
        [sys.executable, "-c", EARLY, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=prepare,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "HERE\n"
    process.send_signal(stop)
    _, errors = process.communicate()
    assert (process.returncode, errors) == (130, "interrupted before the study began\n")
    assert not list(tmp_path.iterdir())


def raising(error: BaseException) -> Callable[[], int]:
    def job() -> int:
        raise error

    return job


FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("error", "begun", "code", "line"),
    [
        (KeyboardInterrupt(), False, 130, "interrupted before the study began"),
        (KeyboardInterrupt(), True, 130, "interrupted; go on with: GO ON"),
        (SystemExit(1), False, 130, "interrupted before the study began"),
        (PermissionError(13, "Permission denied"), False, 2, "error: [Errno 13] Permission denied"),
        (FULL, True, 1, "error: [Errno 28] No space left on device; mend it, then: GO ON"),
        (OSError(), True, 1, "error: OSError(); mend it, then: GO ON"),
        (StudyError("a law"), True, 2, "error: a law"),
    ],
)
def test_going_on_is_advised_where_there_is_something_to_go_on_with(
    error: BaseException,
    begun: bool,
    code: int,
    line: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if begun:
        (tmp_path / "study.json").touch()
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert exit_code(raising(error), tmp_path, "GO ON") == code
    finally:
        signal.signal(signal.SIGTERM, before)
    assert capsys.readouterr().err == f"{line}\n"


def test_where_ones_own_pictures_are_is_said_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else a folder would be taken for the table that says what is in it."""
    (tmp_path / "labels.csv").write_text("path,label\na.png,a\n")
    options = ["--data", str(tmp_path / "labels.csv"), "--data-dir", str(tmp_path)]
    for check in ([], ["--check"]):
        where = ["--name", "s", "--storage-path", str(tmp_path)]
        assert tune_smoothap.main([*options, *where, *check]) == 2
        said = "--data-dir is for data that a name says, or of a study that is continued; --data"
        assert said in capsys.readouterr().err
    assert not (tmp_path / "s").exists()


def test_a_socket_path_that_is_too_long_is_named_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / ("x" * 90)))
    done = run("--smoke-test", "--name", "s", "--storage-path", str(tmp_path / "results"))
    assert done.returncode == 2, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: Ray cannot be started here: ")
    assert "AF_UNIX path length cannot exceed 107 bytes" in last
    assert last.endswith("; set RAY_TMPDIR to a shorter folder")
    assert not os.path.exists(tmp_path / "results" / "s")


@pytest.mark.parametrize("name", ["", "a\nb", "a\x1bb", "\udcff"])
def test_a_name_that_no_line_could_show_is_refused(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tune_smoothap.main([f"--name={name}", "--storage-path", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(("error: --name must be", "error: --storage-path and --name must"))
    assert error.endswith(f"{name!r}\n" if not name else f"{str(tmp_path / name)!r}\n")
    assert not list(tmp_path.iterdir())


PROGRAMS: dict[str, Callable[[list[str]], int]] = {
    "tune_smoothap.py": tune_smoothap.main,
    "compare_losses.py": compare_losses.main,
    "train_references.py": train_references.main,
}


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize(
    ("owner", "confirm_seeds", "listed", "folder"),
    [
        ("tune_smoothap.py", 0, False, "s"),
        ("compare_losses.py", 2, False, "s"),
        ("compare_losses.py", 2, True, "confirmation"),
        ("train_references.py", 0, True, "s"),
        ("audit_stopping.py", 0, True, "audit"),
        ("audit_stopping.py", 2, True, "audit"),  # of a comparison
    ],
)
def test_a_study_is_gone_on_with_by_the_program_that_began_it(
    owner: str,
    confirm_seeds: int,
    listed: bool,
    folder: str,
    program: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Whatever its losses are: of most the seed study has no settings."""
    plan = Plan(losses=["pml:SupConLoss"], num_samples=1, max_epochs=1, confirm_seeds=confirm_seeds)
    Study.create(tmp_path / folder, {"plan": plan.fields(), "listed": listed, "status": "x"})
    if owner == program:
        return
    words = ["--resume", "--name", folder, "--storage-path", str(tmp_path)]
    assert PROGRAMS[program](words) == 2
    law = f"error: {program} goes on with its own studies; that in {tmp_path / folder} is gone on "
    assert capsys.readouterr().err == f"{law}with by {owner}\n"


def test_a_study_is_audited_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    info = {"plan": Plan(losses=["triplet"], num_samples=1, max_epochs=1).fields(), "status": "x"}
    for folder in (tmp_path, tmp_path / "audit"):
        Study.create(folder, info)
    assert audit_stopping.main([str(tmp_path)]) == 2
    law = f"audited once: --resume goes on with it; for another sample move {tmp_path}/audit away"
    assert law in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--search", "--final-seeds", "--space", "--set", "--network"])
def test_what_does_nothing_for_the_seed_studys_settings_is_no_option(
    option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        train_references.main([option, "1"])
    assert f"{option}: no such option" in capsys.readouterr().err


def test_more_than_can_be_re_ranked_is_refused_before_a_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    large = SimpleNamespace(tested=20_001)
    monkeypatch.setattr(comparison, "dataset_of", lambda *_: large)
    assert compare_losses.main(["--rerank", "--storage-path", str(tmp_path)]) == 2
    law = "--rerank holds all distances at once, of at most 20,000 test images; got 20,001"
    assert law in capsys.readouterr().err and not list(tmp_path.iterdir())
