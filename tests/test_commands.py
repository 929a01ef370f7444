"""The commands that programs print, pasted into a shell."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from study.run import commands
from study.run.commands import command, going_on, report_command, viewer

ECHO = "import json, sys; print(json.dumps(sys.argv[1:]))"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a space, where the shell finds this Python by the name `python`."""
    folder = tmp_path / "my studies"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
    return folder


def paste(line: str) -> str:
    return subprocess.run(line, shell=True, check=True, capture_output=True, text=True).stdout


def test_a_pasted_command_has_the_words_that_were_meant(here: Path) -> None:
    (here / "an echo.py").write_text(ECHO)
    line = command("an echo.py", "it's", "a b", data_dir="$HOME *", name="--odd", address=None)
    assert line.startswith("python 'an echo.py' ")
    assert json.loads(paste(line)) == ["it's", "a b", "--data-dir", "$HOME *", "--name=--odd"]


def test_going_on_is_the_program_as_it_was_called(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["study/x.py", "--anything"])
    found = going_on(name="a b", address="auto", data_dir="/data/fashion mnist")
    expected = "--name 'a b' --address auto --data-dir '/data/fashion mnist'"
    assert found == f"python study/x.py --resume {expected}"
    assert going_on("s", address=None, data_dir=None) == "python study/x.py --resume s"


def test_the_reports_command_works_from_another_folder(here: Path) -> None:
    line = report_command(here / "a b", "/data")
    root = Path(commands.__file__).parents[2]
    assert line == f"python {root}/analysis/report.py '{here}/a b' --data-dir /data"


def test_it_is_short_in_the_projects_own(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(commands.__file__).parents[2])
    assert report_command(Path("/s"), None) == "python analysis/report.py /s"


def test_another_python_is_called_by_its_path(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the environment's is when it is not activated."""
    monkeypatch.setenv("PATH", "/nowhere")
    assert command("x.py") == f"{sys.executable} x.py"


def test_a_viewer_that_is_missing_is_named_with_what_brings_it(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    assert viewer("tensorboard", "a b") == "tensorboard 'a b'  # first: pip install tensorboard"
    monkeypatch.setattr(shutil, "which", lambda *_, path=None: path and f"{path}/tensorboard")
    assert viewer("tensorboard", "x") == f"{Path(sys.executable).parent}/tensorboard x"
    monkeypatch.setattr(shutil, "which", lambda *_, **__: "/bin/tensorboard")
    assert viewer("tensorboard", "x") == "tensorboard x"
