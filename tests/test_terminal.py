"""What a program takes from its user, and what happens when no one reads what it prints."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from typing import Any

import pytest

from analysis import explore, report, retrieve
from study import audit_stopping, compare_losses, publish, train_references, tune_smoothap
from trainables import terminal
from trainables.data import __main__ as data
from trainables.terminal import BestEffort, Parser

TALK = """
import sys
import time
from trainables.terminal import patient_streams
with patient_streams():
    for line in range(20_000):
        print("τ", line)
    print("done", file=sys.stderr)
"""


def parser() -> Parser:
    made = Parser(prog="p")
    for option in ("--checkpoint-uri", "--gpus-per-trial", "--max-concurrent", "--max-epochs"):
        made.add_argument(option)
    made.add_argument("--loss", choices=("triplet", "smooth_ap"))
    made.add_argument("-k", type=int)
    made.add_argument("rest", nargs="*")
    return made


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--check", "x"], "--check: no such option; did you mean --checkpoint-uri?"),
        (["--max-e=3"], "--max-e: no such option; did you mean --max-epochs?"),
        (["--gpus", "1"], "--gpus: no such option; did you mean --gpus-per-trial?"),
        (["--max_epochs", "3"], "--max_epochs: no such option; did you mean --max-epochs?"),
        (["--wholly-other"], "--wholly-other: no such option"),
        (["-x"], "-x: no such option"),
        (["-h5"], "-h5: no such option; did you mean -h?"),
        (
            ["--loss", "tripplet"],
            "argument --loss: invalid choice: 'tripplet' (choose from 'triplet', 'smooth_ap'); "
            "did you mean triplet?",
        ),
        (
            ["--loss", "contrastive"],
            "argument --loss: invalid choice: 'contrastive' (choose from 'triplet', 'smooth_ap')",
        ),
    ],
)
def test_what_is_mistyped_is_refused_and_the_nearest_named(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        parser().parse_args(words)
    assert capsys.readouterr().err.endswith(f"p: error: {message}\n")


def test_what_is_no_option_is_not_taken_for_one() -> None:
    words = ["--max-epochs", "-3", "--checkpoint-uri=--x", "--loss", "triplet", "-", "--", "--y"]
    found = parser().parse_args(words)
    assert (found.max_epochs, found.checkpoint_uri, found.loss) == ("-3", "--x", "triplet")
    assert found.rest == ["-", "--y"]


def test_a_short_option_may_have_its_value_at_once() -> None:
    assert parser().parse_args(["-k50"]).k == 50


def data_main(words: list[str]) -> int:
    sys.argv[1:] = words
    return data.main()


@pytest.mark.parametrize(
    ("program", "words", "nearest"),
    [
        (tune_smoothap.main, ["--max-e", "3"], "--max-epochs"),
        (compare_losses.main, ["--confirm-e", "3"], "--confirm-epochs"),
        (train_references.main, ["--checkp"], "--checkpoint-uri"),
        (audit_stopping.main, ["STUDY", "--samp", "2"], "--sample"),
        (publish.main, ["--read", "RECORD"], "--readme"),
        (report.main, ["STUDY", "--out", "x"], "--output"),
        (retrieve.main, ["STUDY", "a.jpg", "--galery", "x"], "--gallery"),
        (explore.main, ["STUDY", "--out", "x"], "--output"),
        (data_main, ["--hel"], "--help"),
    ],
)
def test_no_program_guesses_an_abbreviation(
    program: Callable[[list[str]], int],
    words: list[str],
    nearest: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "argv", ["program"])
    with pytest.raises(SystemExit, match="2"):
        program(words)
    assert capsys.readouterr().err.endswith(f": no such option; did you mean {nearest}?\n")


def talk(**streams: Any) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", TALK], text=True, **streams)


def test_a_pipe_without_a_reader_is_reported_once() -> None:
    read, write = os.pipe()
    os.close(read)
    done = talk(stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    warning = "warning: standard output is lost ([Errno 32] Broken pipe); all else goes on\n"
    assert (done.returncode, done.stderr) == (0, f"{warning}done\n")


def test_a_full_disk_is_reported_once() -> None:
    with open("/dev/full", "w") as full:
        done = talk(stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 0
    assert done.stderr.splitlines() == [
        "warning: standard output is lost ([Errno 28] No space left on device); all else goes on",
        "done",
    ]


def test_a_terminal_that_goes_away_ends_nothing() -> None:
    ours, theirs = pty.openpty()
    os.close(ours)
    assert talk(stdout=theirs, stderr=theirs).returncode == 0
    os.close(theirs)


def test_signs_that_a_terminal_lacks_are_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    done = talk(capture_output=True)
    assert (done.returncode, done.stderr) == (0, "done\n")
    assert done.stdout.splitlines()[:2] == [r"\u03c4 0", r"\u03c4 1"]


def test_standard_output_may_be_closed_from_the_start() -> None:
    command = f"{sys.executable} -c '{TALK}' >&-"
    done = subprocess.run(command, shell=True, text=True, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (0, "done\n")


def test_a_best_effort_fails_aloud_once(capsys: pytest.CaptureFixture[str]) -> None:
    attempt, seen = BestEffort("the chart"), []
    attempt(seen.append, 1)
    assert not attempt.failed
    for cause in ("first\nline", "second"):
        attempt(Parser, unknown=cause)
        attempt(int, cause)
    attempt(seen.append, 2)
    assert (seen, attempt.failed) == ([1, 2], True)
    (warning,) = capsys.readouterr().err.splitlines()
    assert warning.startswith("warning: the chart failed (TypeError: ")


def test_a_best_effort_can_be_interrupted() -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        BestEffort("the chart")(interrupted)


def on_a_terminal(monkeypatch: pytest.MonkeyPatch, show: Callable[[], None]) -> str:
    """What is shown on a real terminal, without any patience."""
    monkeypatch.setattr(terminal, "PATIENCE", 0.0)
    theirs, mine = pty.openpty()
    termios.tcsetwinsize(mine, (24, 100))
    with os.fdopen(mine, "w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        show()
        stream.write("that was all")  # or reading would wait where nothing is shown
        stream.flush()
        shown = os.read(theirs, 100_000).decode()
    os.close(theirs)
    return shown


def three_of(count: int) -> None:
    with terminal.bar(count, "embedded") as shown:
        for _ in range(3):
            time.sleep(0.15)
            shown.update(count // 3)


def three_told() -> None:
    tell = terminal.told("decoded")
    for done in (1, 2, 3):
        time.sleep(0.15)
        tell(done, 3)


@pytest.mark.parametrize(
    ("show", "what", "half"),
    [(lambda: three_of(300), "embedded", "200/300"), (three_told, "decoded", "2/3")],
)
def test_a_bar_is_for_terminals(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    show: Callable[[], None],
    what: str,
    half: str,
) -> None:
    shown = on_a_terminal(monkeypatch, show)
    assert what in shown and half in shown
    monkeypatch.undo()
    show()
    assert capsys.readouterr() == ("", "")


def test_what_is_quick_shows_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    def show() -> None:
        monkeypatch.setattr(terminal, "PATIENCE", 2.0)
        three_of(300)

    assert "embedded" not in on_a_terminal(monkeypatch, show)
