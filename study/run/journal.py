"""The search as Optuna stores it, in a file that shows it while it goes on."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from optuna.storages.journal import BaseJournalBackend, JournalFileBackend, JournalFileOpenLock

from trainables.terminal import BestEffort


class Journal(BaseJournalBackend):
    """What Optuna logs, empty at first: it is kept in memory, and the file at `path` is a copy.

    The copy is best effort. It ends where it first fails, as a log with a gap could not be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.logs: list[dict[str, Any]] = []
        self.show = BestEffort(f"{path.name}, the search as optuna-dashboard shows it,")
        self.show(self._begin)

    def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:
        return self.logs[log_number_from:]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        self.logs += json.loads(json.dumps(logs))  # as they would be read from the file
        if not self.show.failed:
            self.show(self.file.append_logs, logs)

    def _begin(self) -> None:
        for old in self.path.parent.glob(f"{self.path.name}*"):
            old.unlink()
        # Optuna's own choice is a lock that needs symbolic links, which some file systems lack.
        self.file = JournalFileBackend(str(self.path), JournalFileOpenLock(str(self.path)))
