"""The ledger of readings: where it lies, what it holds, and how it is known again."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from trainables.data.errors import DataError
from trainables.data.ledger import LEDGER, Reading, append, entries, ledger_of, name_of, readings

ROOT = Path(__file__).resolve().parent.parent


def study(folder: Path, choices: str = "{}") -> Path:
    """A study's folder with frozen choices; the file of these."""
    folder.mkdir(parents=True)
    (folder / "study.json").write_text("{}")
    (folder / "choices.json").write_text(choices)
    return folder / "choices.json"


def test_one_ledger_lies_beside_the_studies(tmp_path: Path) -> None:
    """That of a study within a study is the outer one's."""
    for name in ("results/a", "results/b", "results/a/confirmation", "results/a/audit"):
        study(tmp_path / name)
        assert ledger_of(tmp_path / name) == tmp_path / "results" / LEDGER
        assert name_of(tmp_path / name) == name.removeprefix("results/")


def test_the_name_of_a_study_is_no_path_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study(tmp_path / "results" / "a")
    monkeypatch.chdir(tmp_path / "results" / "a")
    assert name_of(Path()) == "a" and ledger_of(Path()) == tmp_path / "results" / LEDGER


def test_what_a_line_holds_and_how_it_is_known_again(tmp_path: Path) -> None:
    frozen = study(tmp_path / "a")
    other = study(tmp_path / "b", "[]")
    Reading(frozen, "first", {"triplet": "lr=0.1, τ"}, 5, "abc").enter()
    Reading(other, "second", {}, 1, None).enter()
    Reading(frozen, "third", {}, 5, "abc").enter()
    first, second, third = entries(tmp_path / LEDGER)
    assert first.pop("time") <= second.pop("time") <= third.pop("time")
    assert first == {
        "study": "a",
        "commit": "abc",
        "why": "first",
        "configurations": {"triplet": "lr=0.1, τ"},
        "rows": 5,
        "sha256": "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",  # of {}
    }
    assert [line["why"] for line in readings(frozen)] == ["first", "third"]
    frozen.parent.rename(tmp_path / "renamed")
    assert [line["why"] for line in readings(tmp_path / "renamed/choices.json")] == [
        "first",
        "third",
    ]
    assert readings(tmp_path / "a/choices.json") == []


def test_a_full_disk_leaves_no_half_of_a_line(tmp_path: Path) -> None:
    """A file may take a part of what is written, and say nothing: then nothing was read, either."""
    ledger = tmp_path / LEDGER
    code = """import resource, signal, sys; from pathlib import Path
from trainables.data.errors import DataError; from trainables.data.ledger import append
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
append(Path(sys.argv[1]), {"sha256": "x", "n": 0})
limit = Path(sys.argv[1]).stat().st_size + 50
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try: append(Path(sys.argv[1]), {"sha256": "x", "long": "y" * 300})
except DataError as error: print(error)"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(ledger)], cwd=ROOT, capture_output=True, text=True
    )
    assert "a reading of the test images is logged before it happens" in done.stdout, done.stderr
    assert [line["n"] for line in entries(ledger)] == [0]


def test_programs_that_write_at_once_lose_no_line(tmp_path: Path) -> None:
    code = """import sys; from pathlib import Path; from trainables.data.ledger import append
for n in range(100): append(Path(sys.argv[1]), {"sha256": "x", "n": n, "long": "y" * 3000})"""
    command = [sys.executable, "-c", code, str(tmp_path / LEDGER)]
    programs = [subprocess.Popen(command, cwd=ROOT) for _ in range(3)]
    assert [program.wait() for program in programs] == [0, 0, 0]
    assert sorted(line["n"] for line in entries(tmp_path / LEDGER)) == sorted([*range(100)] * 3)


@pytest.mark.parametrize("text", ['{"sha256": "x"}\n{"sha', "[]\n", "{}\n"])
def test_a_damaged_ledger_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / LEDGER).write_text(text)
    with pytest.raises(DataError, match=f"the ledger {tmp_path / LEDGER} cannot be read"):
        entries(tmp_path / LEDGER)


def test_a_ledger_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / LEDGER).mkdir()
    with pytest.raises(DataError, match=r"logged before it happens; the ledger cannot be written"):
        append(tmp_path / LEDGER, {})


RECORDS = sorted(path.parent for path in (ROOT / "study/records").glob("*/choices.json"))


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.name)
def test_the_ledger_has_the_reading_of_every_published_record(record: Path) -> None:
    """Of its very choices, by its own name and commit, with as many runs as it has."""
    (line,) = readings(record / "choices.json")
    info = json.loads((record / "study.json").read_text())
    frozen = json.loads((record / "choices.json").read_text())["frozen"]
    assert (line["study"], line["commit"]) == (record.name, info["commit"])
    assert line["why"] == "first reading" and line["time"] > frozen
    with (record / "finals/runs.csv").open(newline="") as file:
        runs = list(csv.DictReader(file))
    assert line["rows"] == len(runs)
    assert set(line["configurations"]) == {f"{run['loss']}, {run['role']}" for run in runs}
