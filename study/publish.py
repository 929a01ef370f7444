"""Publishes a finished comparison: a record to commit, and its table in the pages.

    python study/publish.py results/NAME study/records/2026-12-24-fashion-mnist
    python study/publish.py --readme study/records/2026-12-24-fashion-mnist
    python study/publish.py --readme study/records/2026-12-24-split-*   # what they show together

A record has all that a reader needs to check the numbers and to repeat the study, and no weights,
no logs, and nothing of the machine's names and paths. It is a study's folder like any other.
"""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from study.judge.choices import CHOICES
from study.judge.comparison import CONFIRMATION, SEARCHES
from study.judge.final_files import read_arrays, read_table
from study.judge.final_test import FINALS, ORDERED, RAW, is_complete, readings, write_derived
from study.judge.pages import with_records
from study.results.files import StudyError, read_json, write_atomically
from study.results.images import DATA, about
from study.results.studies import Study
from study.results.trials import TrialRecord
from study.run.cluster import ROOT
from trainables.data import DataError
from trainables.data.ledger import append, digest, ledger_of
from trainables.terminal import Parser, patient_streams

QUOTED = re.compile(r"(['\"])/(?:[^'\"/]+/)+")  # the same within quotes, blanks and all
FOLDERS = re.compile(r"(?<![\w./])/(?:[^\s/'\"=,;:]+/)+")  # of an absolute path
ALONE = re.compile(r"/(?!.*\s[-/])")  # a path and nothing after it, whatever signs are in it
STORE = re.compile(r"\b(?!https?:)([a-z][a-z0-9+.-]+)://[^\s'\"]+")  # an object store's folder
CLUSTER = re.compile(r"(?<=--address[ =])\S+")
IP = re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b")
OF_FILES = ("data", "network", "weights", "teacher")  # what of a plan may be a path


@patient_streams()
def main(arguments: list[str] | None = None) -> int:
    """Publishes what the arguments name; returns the exit code."""
    text = Parser(description="Publish a finished comparison.")
    text.add_argument("study", type=Path, nargs="?", help="the comparison's folder")
    text.add_argument("record", type=Path, nargs="?", help="the folder to make")
    text.add_argument(
        "--readme",
        type=Path,
        nargs="+",
        metavar="RECORD",
        help="write its table into the pages; of several, that of all together",
    )
    options = text.parse_args(arguments)
    if (options.readme is None) == (options.record is None):
        text.error("give a STUDY and a RECORD, or --readme RECORD")
    try:
        if options.readme is not None:
            for page, content in with_records(options.readme).items():  # all, or none
                write_atomically(page, content)
        else:
            publish(options.study, options.record)
    except (StudyError, DataError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def publish(folder: Path, record: Path) -> None:
    """Makes the record of the comparison in a folder.

    Raises:
        StudyError: the comparison is not finished, its reading is in no ledger, or the record
            exists.
        DataError: a ledger cannot be read or written.
    """
    Study.load(folder)  # or it says that there is none
    if not is_complete(folder):
        raise StudyError(f"a comparison is published when its test is done; {folder} has no result")
    further = sorted(path.parent for path in folder.glob(f"{SEARCHES}/*/study.json"))
    searches = [str(path.relative_to(folder)) for path in further]
    parts = (".", *searches, CONFIRMATION)
    studies = {part: Study.load(folder / part) for part in parts}
    if record.exists():
        raise StudyError(f"{record} exists, and a record is never rewritten")
    known = private(folder, list(studies.values()))
    lines = [{**scrubbed(line, known), "study": record.name} for line in readings(folder)]
    if not lines:
        law = "a record's reading of the test images is taken over from the ledger of its study"
        raise StudyError(f"{law}; {ledger_of(folder)} has none of these choices")
    record.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=record.parent) as made:  # all of it, or nothing
        new = Path(made) / "record"
        for part, study in studies.items():
            trials = [scrubbed_trial(trial, known) for trial in study.trials]
            Study(new / part, scrubbed(study.info, known), trials).write_together()
            said = json.dumps(scrubbed(about(study), known), indent=1)
            write_atomically(new / part / DATA, said)
        choices = json.dumps(scrubbed(read_json(folder / CHOICES), known), indent=2)
        write_atomically(new / CHOICES, choices)
        lines = [line | {"sha256": digest(new / CHOICES)} for line in lines]
        (new / FINALS).mkdir()
        for name in (*RAW, *ORDERED):
            if name in RAW or (folder / FINALS / name).exists():
                shutil.copy(folder / FINALS / name, new / FINALS)
        runs = read_table(new / FINALS, "runs")
        arrays = read_arrays(new / FINALS, runs, ("ap",))
        write_derived(new / FINALS, [studies[part] for part in (".", *searches)], runs, arrays)
        for line in lines:  # first: no record is without its reading
            append(ledger_of(record), line)
        new.rename(record)


def private(folder: Path, studies: Sequence[Study]) -> dict[str, str]:
    """What is known to be this machine's own in a comparison, and what stands for it: paths their
    last part, machines node-1, node-2, ..."""
    named = [str(study.info["plan"].get(name) or "") for study in studies for name in OF_FILES]
    files = [Path(text.split(".py:")[0]) for text in named if "/" in text]
    here = folder.absolute()
    paths = [here, here.parent, *files, *(path.absolute() for path in files)]
    workers = [trial.worker for study in studies for trial in study.trials if trial.worker]
    hosts = dict.fromkeys(worker.rpartition(":")[0] for worker in workers)
    nodes = {host: f"node-{number}" for number, host in enumerate(hosts, start=1)}
    return {str(path): path.name for path in paths} | nodes


def scrubbed(value: Any, known: Mapping[str, str]) -> Any:
    """The value with every absolute path in it cut to its last part, this project's to its own, and
    without addresses.

    Args:
        known: by text, what stands for it wherever it stands by itself.
    """
    if isinstance(value, dict):
        return {key: scrubbed(one, known) for key, one in value.items()}
    if isinstance(value, list):
        return [scrubbed(one, known) for one in value]
    if isinstance(value, str):
        text = value.replace(f"{ROOT}/", "")
        for own in sorted(known, key=len, reverse=True):
            itself = rf"(?<![\w.-]){re.escape(own)}"
            text = re.sub(itself + "/", "", text) if "/" in own else text
            text = re.sub(rf"{itself}(?![\w-])", known[own], text)
        if ALONE.match(text):
            return text.rstrip("/").rpartition("/")[2]
        text = STORE.sub(r"\1://…", CLUSTER.sub("ADDRESS", text))
        return IP.sub("ADDRESS", FOLDERS.sub("", QUOTED.sub(r"\1", text)))
    return value


def scrubbed_trial(trial: TrialRecord, known: Mapping[str, str]) -> TrialRecord:
    """The record without files."""
    fields = {
        name: scrubbed(getattr(trial.config, name), known)
        for name in ("network", "weights", "teacher")
    }
    return dataclasses.replace(
        trial,
        config=trial.config.replace(**fields),
        cause=scrubbed(trial.cause, known),
        checkpoint=None,
        last_checkpoint=None,
        logs=None,
        worker=scrubbed(trial.worker, known),
    )


if __name__ == "__main__":
    sys.exit(main())
