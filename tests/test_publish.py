"""The record of a comparison, and the README's table that comes from it."""

from __future__ import annotations

import itertools
import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from study import publish
from study.judge.final_test import read_test, readings
from study.run.results import Study
from tests.test_final_test import SEEDS, make, reads  # noqa: F401  (the small dataset)
from tests.test_study import ROOT
from trainables.data.ledger import LEDGER, digest, entries

README = "before\n<!-- results: none -->\nnothing yet\n<!-- end of results -->\nafter\n"


@pytest.fixture
def comparison(tmp_path: Path) -> Path:
    """A finished one; a trial failed, and its cause and the command name paths."""
    sweep, confirmation = make(tmp_path / "here" / "c", failed=("triplet-001",))
    sweep.info["command"] = f"python {ROOT}/study/compare_losses.py --storage-path {tmp_path}/here"
    sweep.write()
    failed = next(trial for trial in confirmation.trials if trial.status == "failed")
    failed.cause = f"OSError: [Errno 28] No space left on device: '{tmp_path}/here/c/x.pt'"
    confirmation.write_trial(failed)
    read_test(sweep, confirmation)
    return tmp_path / "here" / "c"


@pytest.fixture
def record(comparison: Path, tmp_path: Path) -> Path:
    record = tmp_path / "records" / "2026-12-24-fashion-mnist"
    assert publish.main([str(comparison), str(record)]) == 0
    return record


def test_a_record_has_the_results_and_nothing_of_the_machine(
    comparison: Path, record: Path, tmp_path: Path
) -> None:
    files = {str(path.relative_to(record)) for path in record.rglob("*") if path.is_file()}
    tables = {"study.json", "data.json", "trials.jsonl", "trials.csv", "best.json"}
    assert files == (
        tables
        | {"choices.json"}
        | {f"confirmation/{name}" for name in tables}
        | {f"finals/{name}.csv" for name in ("runs", "summary", "differences", "classes")}
        | {"finals/queries.npz"}
    )
    for name in files - {"finals/queries.npz"}:
        text = (record / name).read_text()
        for secret in (str(tmp_path), str(ROOT), "the-host", '.pt"', "/tune/"):
            assert secret not in text, (name, secret)
    for name in ("choices.json", *(f"finals/{p.name}" for p in (comparison / "finals").iterdir())):
        assert (record / name).read_bytes() == (comparison / name).read_bytes()


def test_a_record_brings_its_reading_into_the_ledger_of_the_records(
    comparison: Path, record: Path
) -> None:
    (mine,), (published,) = readings(comparison), entries(record.parent / LEDGER)
    assert mine["study"] == "c"
    assert published == {**mine, "study": record.name}
    assert readings(record) == [published]


def test_a_record_without_a_reading_in_a_ledger_is_refused(
    comparison: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (comparison.parent / LEDGER).unlink()
    assert publish.main([str(comparison), str(tmp_path / "records" / "r")]) == 2
    assert f"{comparison.parent / LEDGER} has none of these choices" in capsys.readouterr().err
    assert not (tmp_path / "records").exists()


def test_what_others_left_in_the_folder_is_not_published(comparison: Path, tmp_path: Path) -> None:
    for name in ("finals/._queries.npz", "finals/notes.txt", "trials/._triplet-000.json"):
        (comparison / name).write_text(str(tmp_path))
    record = tmp_path / "records" / "r"
    publish.publish(comparison, record)
    assert not [path for path in record.rglob("*") if path.name.startswith(("._", "notes"))]


def test_a_record_is_a_study_with_the_same_numbers(comparison: Path, record: Path) -> None:
    for part in (".", "confirmation"):
        old, new = Study.load(comparison / part), Study.load(record / part)
        assert [t.epochs for t in new.trials] == [t.epochs for t in old.trials]
        assert [t.config for t in new.trials] == [t.config for t in old.trials]
        assert {t.worker for t in new.trials} == {"node-1:123"}
        assert all(t.checkpoint is None and t.logs is None for t in new.trials)
        columns = [c for c in old.trials_frame() if c not in ("worker", "logs", "checkpoint")]
        same = [
            table[columns].drop(columns="cause")
            for table in (old.trials_frame(), new.trials_frame())
        ]
        pd.testing.assert_frame_equal(*same)
    study = Study.load(record)
    assert study.info["command"] == "python study/compare_losses.py --storage-path here"
    (cause,) = (t.cause for t in Study.load(record / "confirmation").trials if t.cause)
    assert cause == "OSError: [Errno 28] No space left on device: 'x.pt'"


def test_a_record_is_made_whole_or_not_at_all(
    comparison: Path, record: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert publish.main([str(comparison), str(record)]) == 2
    assert "exists, and a record is never rewritten" in capsys.readouterr().err
    (comparison / "finals" / "summary.csv").unlink()
    assert publish.main([str(comparison), str(tmp_path / "records" / "other")]) == 2
    assert "is published when its test is done" in capsys.readouterr().err
    assert publish.main([str(tmp_path), str(tmp_path / "records" / "other")]) == 2
    assert "is not a study" in capsys.readouterr().err
    assert sorted(path.name for path in record.parent.iterdir()) == [record.name, LEDGER]


def test_the_readme_says_what_the_record_says(record: Path) -> None:
    text = publish.with_results(README, [record])
    assert text.startswith(f"before\n<!-- results: {record.name} -->\n| test mAP |")
    assert text.endswith("<!-- end of results -->\nafter\n")
    assert publish.with_results(text, [record]) == text
    summary = pd.read_csv(record / "finals" / "summary.csv")
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|")
    ]
    widths = [len(row) for row in cells]
    chosen = ["Cross-entropy", "Normalised softmax", "Triplet", "Smooth-AP"]
    beside = ["Cross-entropy", "Triplet", "Smooth-AP"]
    assert widths == [8] * (2 + 4 + 3) + [8] * (2 + 6 + 3)
    assert [row[0] for row in cells[2:9]] == [
        *(f"{name}, found by the search" for name in chosen),
        *(f"{name}, reference" for name in beside),
    ]
    full = summary[summary["protocol"] == "full"].set_index(["role", "loss"])
    triplet = full.loc[("chosen", "triplet")]
    assert cells[4][1] == f"{triplet['map']:.4f}"
    assert cells[4][3] == f"{triplet['both_low']:.3f} to {triplet['both_high']:.3f}"
    # One of three runs failed; two trials of one epoch.
    assert cells[4][6:] == ["2 × 1 epochs", "2 trials, 2 epochs, 0.0 h"]
    assert cells[6][6:] == ["3 × 1 of its 100 epochs", "-"]
    first = pd.read_csv(record / "finals" / "differences.csv").iloc[0]
    pairs = [f"{a} − {b}" for a, b in itertools.combinations(chosen, 2)]
    tuned = [f"{name} − {name}, reference" for name in beside]
    assert [row[0] for row in cells[11:]] == [*pairs, *tuned]
    assert cells[11][1] == f"{first['difference']:+.4f}"
    assert cells[11][5:] == [
        f"{first['superiority']:.2f}",
        f"{first['smallest']:.4f}",
        first["verdict"],
    ]
    trained = f"its best by validation mAP trained again on {len(SEEDS)}"
    assert f"2 configurations of at most 1 epochs, {trained}" in text


@pytest.mark.parametrize("text", ["nothing", README + README])
def test_a_readme_has_its_two_markers_once(text: str, record: Path) -> None:
    with pytest.raises(ValueError, match=r"must have one <!-- results: .*; it has those of"):
        publish.with_results(text, [record])


def test_readme_and_a_changed_record_do_not_agree(record: Path, tmp_path: Path) -> None:
    """The test above can fail."""
    text = publish.with_results(README, [record])
    changed = tmp_path / "changed" / record.name
    shutil.copytree(record, changed)
    path = changed / "finals" / "summary.csv"
    path.write_text(re.sub(r"0\.\d{4}", "0.1234", path.read_text()))
    assert publish.with_results(text, [changed]) != text
    plan = json.loads((changed / "study.json").read_text())["plan"]
    assert plan["confirm_seeds"] == len(SEEDS)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/anna/net.py:small", "net.py:small"),
        ("/home/anna/My Photos", "My Photos"),
        ("python a.py --data '/home/anna/My Photos/x' --name b", "python a.py --data 'x' --name b"),
        ("python a.py --data /home/anna/photos --name b", "python a.py --data photos --name b"),
        ("pml:SupConLoss", "pml:SupConLoss"),
        ("left / right", "left / right"),
    ],
)
def test_paths_lose_their_folders(text: str, expected: str) -> None:
    assert publish.scrubbed({"what": [text]}) == {"what": [expected]}


def test_a_record_names_no_folder_of_a_network(comparison: Path, tmp_path: Path) -> None:
    """The choices change with it, and the ledger of records has their new digest."""
    for path in [comparison / "choices.json", *comparison.glob("**/trials/*.json")]:
        text = path.read_text().replace('"weights": "default"', '"weights": "/home/anna/w.pt"')
        path.write_text(text)
    ledger = comparison.parent / LEDGER
    line = json.loads(ledger.read_text())
    ledger.write_text(json.dumps(line | {"sha256": digest(comparison / "choices.json")}) + "\n")
    record = tmp_path / "records" / "own"
    assert publish.main([str(comparison), str(record)]) == 0
    assert not [path for path in record.rglob("*.json") if "anna" in path.read_text()]
    assert [reading["study"] for reading in readings(record)] == ["own"]
