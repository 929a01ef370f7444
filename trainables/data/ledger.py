"""The ledger of readings: which configurations met the test images, when and why.

It lies beside the studies, in the folder that holds them: `results/readings.jsonl` for one's own,
`study/records/readings.jsonl` for those that are published. A line a reading, written before it:

    time            seconds since 1970
    study           the study's folder, as seen from the ledger
    commit          of the code that the study ran with, null if unknown
    why             the reason
    configurations  by name, each configuration that met the images
    rows            how many trained networks of these did
    sha256          of the file of the choices, by which a reading is known again
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from trainables.data.errors import DataError

LEDGER = "readings.jsonl"
STUDY = "study.json"  # what every study's folder holds


class Reading(NamedTuple):
    """What is to be said before test images are read.

    Attributes:
        frozen: the file that holds the choices, in the study's folder.
        why: the reason, not empty.
        configurations: by name, each configuration that is to meet the images.
        rows: how many trained networks.
        commit: of the code that the study ran with.
    """

    frozen: Path
    why: str
    configurations: Mapping[str, str]
    rows: int
    commit: str | None

    def check(self) -> None:
        """DataError unless the choices are frozen and a reason is given."""
        law = "the test images are read for configurations that are chosen and frozen"
        if not self.frozen.is_file():
            raise DataError(f"{law}; there is no {self.frozen}")
        if not self.why.strip():
            raise DataError(f"{law}, for a reason; got an empty one")

    def enter(self) -> None:
        """Writes the reading into the ledger; DataError if that cannot be done."""
        ledger = ledger_of(self.frozen.parent)
        line = {
            "time": time.time(),
            "study": name_of(self.frozen.parent),
            "commit": self.commit,
            "why": self.why,
            "configurations": dict(self.configurations),
            "rows": self.rows,
            "sha256": digest(self.frozen),
        }
        append(ledger, line)


def ledger_of(folder: Path) -> Path:
    """The ledger of a study's folder; of a study within a study, the outer one's."""
    folder = folder.resolve()
    while (folder.parent / STUDY).exists():
        folder = folder.parent
    return folder.parent / LEDGER


def name_of(folder: Path) -> str:
    """A study's folder as its ledger names it."""
    return folder.resolve().relative_to(ledger_of(folder).parent).as_posix()


def digest(frozen: Path) -> str:
    """SHA-256 of the file of the choices."""
    return hashlib.sha256(frozen.read_bytes()).hexdigest()


def entries(ledger: Path) -> list[dict[str, Any]]:
    """All lines of a ledger, empty before the first; DataError names a damaged one."""
    if not ledger.exists():
        return []
    try:
        lines = ledger.read_text(encoding="utf-8").splitlines()
        found = [json.loads(line) for line in lines]
        if not all(isinstance(line, dict) and "sha256" in line for line in found):
            raise ValueError("a line is no reading")
    except (OSError, ValueError) as error:
        raise DataError(f"the ledger {ledger} cannot be read: {error}") from error
    return found


def readings(frozen: Path) -> list[dict[str, Any]]:
    """The readings for a file of choices, known by its content; empty if it is not there."""
    if not frozen.is_file():
        return []
    mine = digest(frozen)
    return [line for line in entries(ledger_of(frozen.parent)) if line["sha256"] == mine]


def append(ledger: Path, line: Mapping[str, Any]) -> None:
    """Adds a line, which is on the disk then; DataError if that cannot be done.

    Several programs may do so at once: a line is written by one call, at the end of the file.
    """
    content = (json.dumps(line, ensure_ascii=False) + "\n").encode()
    try:
        handle = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            size = os.fstat(handle).st_size
            written = os.write(handle, content)
            if written < len(content):  # a full disk takes a part, and says nothing
                if os.fstat(handle).st_size == size + written:  # and nobody wrote after it
                    os.ftruncate(handle, size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        law = "a reading of the test images is logged before it happens"
        raise DataError(f"{law}; the ledger cannot be written: {error}") from error
