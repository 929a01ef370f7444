"""The record of a comparison."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from study import publish
from study.judge.final_test import read_test, readings
from study.results.studies import Study
from tests.small_studies import trial
from tests.test_final_test import SEEDS, make, reads  # noqa: F401  (the small dataset)
from tests.test_study import ROOT
from trainables.data.ledger import LEDGER, digest, entries


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


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/anna/net.py:small", "net.py:small"),
        ("/home/anna/My Photos", "My Photos"),
        ("python a.py --data '/home/anna/My Photos/x' --name b", "python a.py --data 'x' --name b"),
        ("python a.py --data /home/anna/photos --name b", "python a.py --data photos --name b"),
        ("pml:SupConLoss", "pml:SupConLoss"),
        ("left / right", "left / right"),
        ("/home/anna smith/My Photos/birds", "birds"),
        ("data  /home/anna smith/My Photos/birds, a folder of classes",
         "data  birds, a folder of classes"),
        ("/home/anna/.venv/bin/python study/x.py --data /home/anna/p --loss triplet",
         "python study/x.py --data p --loss triplet"),
        ("x.py --address 10.3.0.7:6379 --loss triplet", "x.py --address ADDRESS --loss triplet"),
        ("x.py --address=gpu-box-3:6379", "x.py --address=ADDRESS"),
        ("--checkpoint-uri s3://acme-private/x --loss a", "--checkpoint-uri s3://… --loss a"),
        ("node ip 10.3.0.7 (gpu-box-3.acme.internal)", "node ip ADDRESS (node-1)"),
        ("gpu-box-3.acme.internal:123", "node-1:123"),
        ("no /home/anna smith/My Photos/birds/a b.png", "no a b.png"),
        ("see https://docs.ray.io/en/latest", "see https://docs.ray.io/en/latest"),
        ("torch 2.15.0, warm-up 0.5", "torch 2.15.0, warm-up 0.5"),
    ],
)  # fmt: skip
def test_what_is_a_machines_own_is_not_published(text: str, expected: str) -> None:
    known = {"gpu-box-3.acme.internal": "node-1", "/home/anna smith/My Photos/birds": "birds"}
    assert publish.scrubbed({"what": [text]}, known) == {"what": [expected]}


def test_the_places_of_a_studys_files_and_its_machines_are_known(tmp_path: Path) -> None:
    plan = {"data": "/home/anna smith/birds", "network": "/nets/mine.py:small", "weights": "none"}
    trials = [trial("triplet", number, [0.5]) for number in range(3)]
    for one in trials:
        one.worker = f"box-{one.number % 2}:7"
    known = publish.private(tmp_path / "c", [Study(tmp_path / "c", {"plan": plan}, trials)])
    assert known == {
        "/home/anna smith/birds": "birds",
        "/nets/mine": "mine",
        "box-0": "node-1",
        "box-1": "node-2",
        str(tmp_path / "c"): "c",
        str(tmp_path): tmp_path.name,
    }


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
