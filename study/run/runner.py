"""Runs a study: checks at the door, then Ray Tune, with every result in the study's folder."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from filelock import FileLock, Timeout
from optuna.storages import JournalStorage
from ray import tune

from study.results.files import CHOICES, StudyError, write_atomically
from study.results.images import DATA, about, check_data, dataset_of, fixed_by
from study.results.studies import Study
from study.results.trials import UNFINISHED, TrialRecord
from study.run.cluster import (
    check_place,
    describe_run,
    ending_on_signals,
    fit_to_cluster,
    start_ray,
    waits_for,
)
from study.run.commands import viewer
from study.run.exchange import Exchange, check_store
from study.run.gauges import Gauges
from study.run.journal import Journal
from study.run.plan import Plan
from study.run.progress import Progress, counts_line
from study.run.tune_adapters import (
    Clock,
    Recorder,
    StudySearcher,
    View,
    loggers,
)
from study.search.fitted import broken_law, fitted, rare_positives
from study.search.ladder import Cost
from study.search.searches import Listed, Searches, Source
from study.search.space import Space, describe
from trainables.batches import side_of
from trainables.data import Dataset, Split
from trainables.knobs import Choice
from trainables.networks import Network, check_trainable, resolve
from trainables.teacher import check_teacher, taught
from trainables.trainable import RetrievalTrial
from trainables.unseen import check_weights

JOURNAL = "search.journal"
MAX_FAILURES = 2  # of a worker process; a divergence is a result and is not retried


def run_study(
    plan: Plan,
    folder: Path,
    *,
    resume: bool = False,
    address: str | None = None,
    data_dir: str | None = None,
    trials: Sequence[TrialRecord] | None = None,
) -> Study:
    """Runs a plan into a new folder, or goes on with the study there; returns the study.

    With `trials` these are run instead of a search.

    A study can be continued after any end: finished trials stay as they are, interrupted ones go
    on from their last epoch's checkpoint, then the search goes on. All of that comes from the
    trials' records; of what else a crash may have damaged only trials.csv is read, for the
    names of records that must be there.

    Raises:
        StudyError, DataError: before any trial starts, when the plan cannot be run.
    """
    check_folder(folder, resume)
    check_store(plan.checkpoint_uri)
    check_place(plan, address)
    dataset = dataset_of(plan.fields(), data_dir)
    space, left_out = admitted(plan, dataset, trials or ())
    split, fixed = dataset.split(), {**plan.fixed, **fixed_by(dataset, plan.fields())}
    with only_driver(folder):
        study = _continued(plan, folder, space, dataset, trials is not None) if resume else None
        if plan.teacher is not None:
            split = _taught(split, plan.teacher, dataset, plan.smoke_test)
        start_ray(address)
        try:
            held, concurrent = fit_to_cluster(plan)
            if study is None:
                info = {**describe_run(plan, space), "listed": trials is not None}
                # Before study.json: what has that says of what data it is.
                write_atomically(folder / DATA, json.dumps(dataset.about(), indent=1))
                study = Study.create(folder, info)
            print(f"study: {folder}", flush=True)
            print(_sizes(split, concurrent, held), flush=True)
            print("".join(f"how the data is read: {note}\n" for note in dataset.notes), end="")
            print("".join(f"left out: {files}\n" for files in dataset.passed_over), end="")
            if trials is None:
                said = [*left_out, *rare_positives(split, plan.losses, space, **fixed)]
                print("\n".join(said), end="\n" * bool(said))
                print(f"search: {viewer('optuna-dashboard', str(folder / JOURNAL))}")
            print(f"curves: {viewer('tensorboard', '--logdir', str(folder / 'tune'))}", flush=True)
            study.info |= {"status": "running", "runs": study.info["runs"] + 1}
            study.info |= {"plan": plan.fields(), "listed": trials is not None}
            study.info.setdefault("files", plan.digests())  # of one that was begun without
            study.write()
            _tune(held, split, space, study, concurrent, fixed, trials)
            return study
        finally:
            ray.shutdown()


def admitted(
    plan: Plan, dataset: Dataset, trials: Sequence[TrialRecord] = ()
) -> tuple[Space, list[str]]:
    """The search space that the data holds, and a line for each choice that it does not.

    Raises:
        StudyError, DataError: the plan cannot be carried out with this data, as far as that shows
            before a picture of one's own is read.
    """
    size = dataset.image_size
    if dataset.own_size and plan.image_size is not None:
        law = f"--size is for one's own pictures: those of {dataset.name} stay as large as they are"
        raise StudyError(f"{law}; got {plan.image_size}")
    split, fixed = dataset.outline(), {**plan.fixed, "dataset": dataset.name, "image_size": size}
    entry = _network(plan, split, size)
    asked = plan.space(entry.lr, dataset.changes_of(wide=plan.wide))
    space, left_out = fitted(split, plan.losses, asked, **fixed)
    _check_built(entry, space)
    _check_room(trials, split)
    unseen = None if plan.smoke_test else dataset.name
    try:
        check_weights(split, plan.weights, dataset=unseen)
        if plan.teacher is not None:
            check_teacher(split, plan.teacher, dataset=unseen)
    except ValueError as error:
        raise StudyError(str(error)) from error
    return space, left_out


def _sizes(split: Split, concurrent: int, plan: Plan) -> str:
    """On what trials are trained and judged, and what each of them has, in a line."""
    judges = np.unique(split.validation.labels)
    cpus, gpus = plan.cpus_per_trial, plan.gpus_per_trial
    share = f"{cpus:g} CPU{'s' * (cpus != 1)}"
    share += f" and {gpus:g} GPU{'s' * (gpus != 1)}" if gpus else ""
    return (
        f"data: {len(split.train):,} images of {len(split.trained):,} classes are trained on, "
        f"{len(split.validation):,} of {len(judges):,} judge; "
        f"trials: up to {concurrent} at a time, each with {share}"
    )


def check_folder(folder: Path, resume: bool) -> None:
    """StudyError if a new study would meet an old one, or there is none to continue."""
    exists = (folder / "study.json").exists()
    if exists and not resume:
        raise StudyError(f"{folder} already holds a study; go on with --resume, or choose a --name")
    if resume and not exists:
        raise StudyError(f"there is no study to resume in {folder}: it has no study.json")


@contextlib.contextmanager
def only_driver(folder: Path) -> Iterator[None]:
    """Holds a lock of the operating system, which ends with the process however that ends.

    Within a process it may be taken again; StudyError if another process holds it.
    """
    lock = FileLock(folder / ".lock", is_singleton=True)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise StudyError(f"another program is running the study in {folder}") from error
    except OSError as error:
        raise StudyError(f"the study's folder cannot be used: {error}") from error
    try:
        yield
    finally:
        lock.release()
        if not (folder / "study.json").exists():  # refused at the door: leave nothing behind
            (folder / ".lock").unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # something else lies there: it stays
                folder.rmdir()


def _network(plan: Plan, split: Split, image_size: int | None) -> Network:
    """The network's entry; StudyError if it cannot be had for these images."""
    channels, *size = split.shape
    try:
        side_of(image_size, split)
        return resolve(
            plan.network,
            weights=plan.weights,
            freeze=plan.freeze,
            channels=channels,
            size=(size[0], size[1]) if image_size is None else image_size,
        )
    except ValueError as error:
        raise StudyError(str(error)) from error


def _check_built(entry: Network, space: Space) -> None:
    """StudyError if the network, or its weights, cannot be had and trained with each head that is
    searched."""
    knob = next(knob for knob in space.shared if knob.sets == "embedding_dim")
    heads = knob.range.values if isinstance(knob.range, Choice) else (knob.default,)
    try:
        for head in heads:
            with torch.random.fork_rng(devices=[]):
                check_trainable(entry.title, entry.build(head))
    except ValueError as error:
        raise StudyError(str(error)) from error


def _taught(split: Split, teacher: str, dataset: Dataset, small: bool) -> Split:
    """With what the teacher says of the images, which are a slice in a smoke test; StudyError if it
    cannot teach these."""
    try:
        return taught(split, teacher, dataset=None if small else dataset.name)
    except ValueError as error:
        raise StudyError(str(error)) from error


def _check_room(trials: Sequence[TrialRecord], split: Split) -> None:
    """StudyError if the data does not hold what one of the given trials takes of it."""
    for trial in trials:
        law = broken_law([trial.config], split)
        if law is not None:
            raise StudyError(f"{trial.trial_id} cannot be trained on this data: {law}")


def _check_data(study: Study, dataset: Dataset) -> None:
    """StudyError unless the data is that of the study; what its folder says of it is made anew
    where it is lost."""
    if (study.folder / DATA).exists():
        before = about(study)
        check_data(dataset, before["name"], before["fingerprint"], study.folder)
        return
    for trial in study.trials:
        check_data(dataset, trial.config.dataset, trial.config.data_fingerprint, study.folder)
    write_atomically(study.folder / DATA, json.dumps(dataset.about(), indent=1))


def _continued(plan: Plan, folder: Path, space: Space, dataset: Dataset, listed: bool) -> Study:
    """The study in the folder, if this plan continues it; StudyError shows what differs.

    Args:
        listed: whether given trials are run, and not a search.
    """
    study = Study.load(folder)
    check_plan(plan, study)
    if bool(study.info.get("listed")) != listed:
        kinds = {True: "given trials (references, confirming runs)", False: "a search"}
        law = f"the study in {folder} is of {kinds[not listed]}"
        raise StudyError(f"{law}, which another program of this folder goes on with")
    _check_data(study, dataset)
    if not listed and (folder / CHOICES).exists():
        law = f"the choices of {folder} are frozen, so its search is over"
        raise StudyError(f"{law}: compare_losses.py goes on with it")
    old, new = study.info["space"], describe(plan.losses, space)
    # Losses may have knobs of one name and different ranges: a row each.
    knobs = sorted({row["knob"] for row in [*old, *new] if (row in old) != (row in new)})
    if knobs and not study.info.get("listed"):
        law = f"this does not continue the study in {folder}"
        raise StudyError(f"{law}: the search space differs in {', '.join(knobs)}")
    print(f"before: {counts_line(study)}", flush=True)
    for trial in study.unfinished():
        study.go_back(trial)
    return study


def check_plan(plan: Plan, study: Study) -> None:
    """StudyError shows why a plan does not continue a study, if it does not: what it asks for is
    not the same, or a file that it names has another content."""
    differences = plan.differences(study.info["plan"])
    if differences:
        law = f"this does not continue the study in {study.folder}"
        raise StudyError(f"{law}: {'; '.join(differences)}")
    check_files(plan, study)


def check_files(plan: Plan, study: Study) -> None:
    """StudyError if a file that the plan names has not the content with which the study was begun;
    one that is gone is missed where it is read."""
    now = plan.digests()
    for name, before in (study.info.get("files") or {}).items():
        if now.get(name) not in (before, None):
            law = f"the file of {name} must stay as it was when {study.folder} was begun"
            raise StudyError(f"{law}: SHA-256 {before[:12]}…; got {now[name][:12]}…")


def _tune(
    plan: Plan,
    split: Split,
    space: Space,
    study: Study,
    concurrent: int,
    fixed: Mapping[str, Any],
    trials: Sequence[TrialRecord] | None,
) -> None:
    """Runs the trials; the study then says how it ended."""
    rungs = plan.rungs(len(split.train))
    source = _source(plan, study, space, rungs, fixed, trials)
    total = plan.cost(rungs) if trials is None else Cost.of(trials)
    needs = {"CPU": plan.cpus_per_trial, "GPU": plan.gpus_per_trial or 0.0}
    progress = Progress(study, total, concurrent, lambda: waits_for(needs))
    exchange = Exchange(study, plan.checkpoint_uri)
    views: dict[str, View] = {
        "the terminal's lines": progress,
        "the gauges for Prometheus": Gauges(study),
    }
    recorder = Recorder(study, source, exchange, views)
    trainable = tune.with_parameters(RetrievalTrial, split=split)
    for record in study.trials:
        if record.status in UNFINISHED and record.reached == record.config.epochs:
            record.status = "finished"
        if record.status == "finished" and record.ended is None:
            recorder.end(record)  # its end had been reached when the study was interrupted
    trainable = tune.with_resources(trainable, needs)
    trainable.__name__ = trainable.__qualname__ = "RetrievalTrial"  # what the dashboard shows
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            metric=plan.metric,
            mode="max",
            search_alg=StudySearcher(source, study, exchange),
            num_samples=-1,  # until the search has no more
            max_concurrent_trials=concurrent,
            reuse_actors=True,
            trial_name_creator=_trial_name,
            trial_dirname_creator=_trial_name,
        ),
        run_config=tune.RunConfig(
            # A folder for each run: Tune numbers checkpoints from 0, and its own state is not read.
            name=exchange.run,
            storage_path=exchange.storage,
            verbose=0,
            callbacks=[recorder, Clock(progress.look), *loggers()],
            failure_config=tune.FailureConfig(max_failures=MAX_FAILURES),
            # The recorder deletes those that are no longer needed: Tune would write the state of
            # the whole study with each that it deletes.
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=1),
        ),
    )
    try:
        with ending_on_signals():
            tuner.fit()
    finally:  # also if a disk is full or a second signal comes while the first is handled
        _end(study, source)


def _source(
    plan: Plan,
    study: Study,
    space: Space,
    rungs: Sequence[float],
    fixed: Mapping[str, Any],
    trials: Sequence[TrialRecord] | None,
) -> Source:
    if trials is not None:
        return Listed(trials, study.trials)
    return Searches(
        plan.losses,
        configurations=plan.num_samples,
        rungs=rungs,
        finals=plan.final_seeds,
        seed=plan.seed,
        kind=plan.search,
        space=space,
        storage=JournalStorage(Journal(study.folder / JOURNAL)),
        records=study.trials,
        metric=plan.metric,
        from_scratch=plan.from_scratch,
        **fixed,
    )


def _end(study: Study, source: Source) -> None:
    """Marks what has not ended as interrupted, and the study as finished if nothing is."""
    stopped = [trial for trial in study.trials if trial.ended is None]
    for trial in stopped:
        trial.status, trial.cause = "interrupted", "the study was stopped"
        study.write_trial(trial)
        source.tell(trial)
    whole = not stopped and not source.has_more()
    study.info |= {"status": "finished" if whole else "interrupted", "ended": time.time()}
    study.write()


def _trial_name(trial: Any) -> str:
    return trial.config["trial_id"]
