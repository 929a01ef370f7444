"""The search's journal: a copy that the search can go on without."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from study.run.journal import Journal


def search(path: Path) -> optuna.Study:
    storage = JournalStorage(Journal(path))
    sampler = optuna.samplers.RandomSampler(seed=0)
    return optuna.create_study(storage=storage, study_name="s", sampler=sampler)


def go_on(study: optuna.Study, trials: int) -> None:
    for _ in range(trials):
        trial = study.ask()
        value = trial.suggest_float("x", 0, 1) + trial.suggest_categorical("y", [1, 2])
        trial.report(value, 1)
        study.tell(trial, value)


def test_the_file_holds_the_search_without_a_symbolic_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))  # as exFAT does

    path = tmp_path / "search.journal"
    path.write_text("of the run before\n")
    with monkeypatch.context() as patched:
        patched.setattr(os, "symlink", refuse)
        study = search(path)
        go_on(study, 3)
    storage = JournalStorage(JournalFileBackend(str(path)))
    assert optuna.load_study(study_name="s", storage=storage).get_trials() == study.get_trials()
    assert len(study.trials) == 3


@pytest.mark.parametrize("good", [0, 2])
def test_a_search_goes_on_without_its_file(
    good: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "search.journal"
    if not good:
        path.mkdir()
    study = search(path)
    go_on(study, good)
    if good:
        path.unlink()
        path.mkdir()
    go_on(study, 3)
    assert [trial.number for trial in study.trials] == list(range(good + 3))
    whole = search(tmp_path / "other.journal")
    go_on(whole, good + 3)
    assert [trial.params for trial in study.trials] == [trial.params for trial in whole.trials]
    (warning,) = capsys.readouterr().err.splitlines()
    assert warning.startswith("warning: search.journal, the search as optuna-dashboard shows it, ")
