"""The steps of a comparison: sweep, choose, confirm, test. Each goes on from where it was ended."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import pandas as pd

from study.judge.choices import CHOICES, Frozen, chosen, confirming_trials, freeze
from study.judge.final_files import read_arrays, read_table
from study.judge.final_tables import differences_table
from study.judge.final_test import FINALS, is_complete, read_test, was_read
from study.judge.other_orders import MOST
from study.results.files import StudyError
from study.results.images import dataset_of
from study.results.studies import Study
from study.results.trials import TrialRecord
from study.run.cluster import end_in_order_on_sigterm
from study.run.plan import MAY_GROW, Plan
from study.run.progress import chosen_at, trial_line
from study.run.runner import check_files, check_folder, check_plan, only_driver, run_study

CONFIRMATION, SEARCHES = "confirmation", "searches"


class _Where(TypedDict):
    """What every step runs on, as `run_study` takes it."""

    address: str | None
    data_dir: str | None


def compare(
    plan: Plan,
    folder: Path,
    *,
    resume: bool = False,
    reread: str | None = None,
    address: str | None = None,
    data_dir: str | None = None,
) -> Path:
    """Runs a comparison into a new folder, or goes on with the one there; returns the folder.

    Args:
        reread: why a test split that was read is to be read again; None: it is not.

    Raises:
        StudyError, DataError: before any work that the plan, the folder or a frozen choice forbids.
        KeyboardInterrupt: a step was interrupted, and has left all in order.
    """
    _check(plan, folder, resume, reread)
    if plan.rerank and not resume:
        _check_rerank(plan, data_dir)
    where = _Where(address=address, data_dir=data_dir)
    with only_driver(folder):
        sweep, *others = _sweeps(plan, folder, resume, where)
        frozen = freeze(sweep, plan, others=others)
        print(f"\nchosen: {frozen.rule}")
        for choices in (frozen.choices, *frozen.further):
            for loss, choice in choices.items():
                print(f"  {loss}: {choice.score:.4f} ({chosen_at(choice)})")
        print(f"frozen in {folder / CHOICES}\n", flush=True)
        check_files(plan, sweep)
        confirmation = _confirm(plan, frozen, folder / CONFIRMATION, where)
        for run in confirmation.trials:
            if run.status != "finished":
                print(f"left out: {trial_line(run)}")
        check_files(plan, sweep)  # hours later; what judges reads them again
        end_in_order_on_sigterm()
        if reread is not None or not is_complete(folder):
            read_test(
                sweep, confirmation, others=others, reread=reread, resume=resume, data_dir=data_dir
            )
    return folder


def _check(plan: Plan, folder: Path, resume: bool, reread: str | None) -> None:
    check_folder(folder, resume)
    if plan.confirm_seeds < 2:
        raise StudyError(f"a comparison must have confirm_seeds >= 2; got {plan.confirm_seeds}")
    if reread is None:
        return
    if not reread.strip():
        raise StudyError("a second reading of the test split must say why; got an empty reason")
    if not (resume and was_read(folder)):
        law = "--reread-test is for a comparison (--resume) whose test split was read"
        raise StudyError(f"{law}; {folder} has no reading")


def _check_rerank(plan: Plan, data_dir: str | None) -> None:
    """StudyError if the test is known to have more images than can be re-ranked."""
    tested = dataset_of(plan.fields(), data_dir).tested
    if tested is not None and tested > MOST:
        law = f"--rerank holds all distances at once, of at most {MOST:,} test images"
        raise StudyError(f"{law}; got {tested:,}")


def _sweeps(plan: Plan, folder: Path, resume: bool, where: _Where) -> list[Study]:
    """The finished sweeps: the first in the comparison's folder, the others below it."""
    frozen = (folder / CHOICES).exists()
    found = [_sweep(plan, folder, resume, where, frozen)]
    for number, seed in enumerate(plan.seeds()[1:], start=2):
        below = search_folder(folder, number)
        print(f"\nsearch {number} of {plan.search_seeds}, seed {seed}", flush=True)
        check_files(plan, found[0])
        begun = (below / "study.json").exists()
        found.append(_sweep(dataclasses.replace(plan, seed=seed), below, begun, where, frozen))
    return found


def search_folder(folder: Path, number: int) -> Path:
    """Of a comparison, the study's folder of its first search, its second, and so on."""
    return folder if number == 1 else folder / SEARCHES / f"{number:02d}"


def sweeps_of(sweep: Study) -> list[Study]:
    """All searches of a comparison, of which this is the first."""
    further = len(Frozen.load(sweep.folder).further)
    return [sweep, *(Study.load(search_folder(sweep.folder, 2 + n)) for n in range(further))]


def differences_of(sweep: Study) -> pd.DataFrame:
    """What the test of a comparison says of each pair, as `differences_table` has it, from its runs
    and the AP of their queries.

    Raises:
        StudyError: a file is missing or damaged.
    """
    folder = sweep.folder / FINALS
    runs = read_table(folder, "runs")
    return differences_table(runs, read_arrays(folder, runs, ("ap",)), sweeps_of(sweep))


def _sweep(plan: Plan, folder: Path, resume: bool, where: _Where, frozen: bool) -> Study:
    """The finished sweep: what is left of it is run, and what failed until the choices are made.

    Args:
        frozen: whether the choices are made.

    Raises:
        StudyError: a loss has no trial that could be chosen: before any other search begins.
    """
    if resume:
        sweep = Study.load(folder)
        check_plan(plan, sweep)
        if sweep.info["status"] == "finished" and (frozen or not _failed(sweep)):
            before, now = Plan(**sweep.info["plan"]).fields(), plan.fields()
            for name in MAY_GROW:
                if now[name] != before[name]:
                    law = "a sweep that is finished stays as it is"
                    raise StudyError(f"{law}: {name} was {before[name]}, is {now[name]}")
            if sweep.info["plan"].get("data", plan.data) != plan.data:  # it lies elsewhere now
                sweep.info["plan"]["data"] = plan.data
                sweep.write()
            return sweep
    sweep = _run(plan, folder, resume, where)
    chosen(sweep)
    return sweep


def _failed(study: Study) -> int:
    """How many trials ended by a fault of the machine, which may have passed."""
    return sum(trial.status == "failed" for trial in study.trials)


def _run(
    plan: Plan,
    folder: Path,
    resume: bool,
    where: _Where,
    trials: Sequence[TrialRecord] | None = None,
) -> Study:
    """The finished study. What failed is tried once more: no loss is to have a smaller search, or
    fewer runs, for a fault of the machine."""
    study = _finished(run_study(plan, folder, resume=resume, trials=trials, **where))
    if not _failed(study):
        return study
    print(f"\n{_failed(study)} of {len(study.trials)} trials failed: once more", flush=True)
    return _finished(run_study(plan, folder, resume=True, trials=trials, **where))


def _confirm(plan: Plan, frozen: Frozen, folder: Path, where: _Where) -> Study:
    """The finished confirmation: what is left of it is run, and what failed until the test."""
    trials = confirming_trials(plan, frozen)
    plan = dataclasses.replace(
        plan,
        early_stopping=False,
        max_epochs=max(math.ceil(trial.config.epochs) for trial in trials),
        num_samples=max(trial.number for trial in trials) + 1,
    )
    resume = (folder / "study.json").exists()
    if resume:
        confirmation = Study.load(folder)
        check_plan(plan, confirmation)
        asked = {trial.trial_id: trial.config for trial in trials}
        for run in confirmation.trials:
            if asked.get(run.trial_id) != run.config:
                law = f"{folder} must confirm what {CHOICES} chose"
                raise StudyError(f"{law}; {run.trial_id} has another configuration")
        left = _failed(confirmation) and not was_read(folder.parent)
        if confirmation.info["status"] == "finished" and not left:
            return confirmation
    return _run(plan, folder, resume, where, trials)


def _finished(study: Study) -> Study:
    """The study; KeyboardInterrupt if it was interrupted, which Ray Tune took and ended by."""
    if study.info["status"] != "finished":
        raise KeyboardInterrupt
    return study
