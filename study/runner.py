"""Runs a study: checks at the door, then Ray Tune, with every result in the study's folder."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import logging
import os
import platform
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from filelock import FileLock, Timeout
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from ray import tune

from study.metrics import Gauges
from study.progress import Progress, best_table, counts_line, duration, trial_line
from study.results import Study, StudyError, TrialRecord
from study.search import SEARCHES, Listed, Searches, Source
from study.search_space import describe
from study.tune_adapters import METRIC, HalvingByLoss, Recorder, StudySearcher
from trainables.config import LOSSES, PRECISIONS
from trainables.data import Split, load_split, slice_of
from trainables.trainable import RetrievalTrial

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("ray", "optuna", "torch", "torchvision", "numpy", "pandas", "scipy")
GPU_SHARE = 0.25  # of a card for a trial where Ray sees one: the network is small
GRACE_EPOCHS = 2
REDUCTION_FACTOR = 3
MAX_FAILURES = 2  # of a worker process; a divergence is a result and is not retried
RAY_SETTINGS = {
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths keep their meaning in a worker
    "RAY_AIR_NEW_OUTPUT": "0",  # `study.progress` shows what Tune would
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
SMOKE_TRAIN, SMOKE_VALIDATION = 3_000, 1_000


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a study is asked for.

    Attributes:
        losses: each has a search of its own of `num_samples` trials.
        num_samples: trials for each loss, the reference configuration being the first.
        max_epochs: of a trial; ASHA stops the lower ones earlier if `early_stopping`.
        cpus_per_trial, gpus_per_trial: what a trial occupies; fractions of a GPU are allowed, None
            takes a quarter where Ray sees a GPU.
        max_concurrent: trials at a time; None for as many as the CPUs and GPUs hold.
        seed: of the searches and of every trial.
        precision: of every trial, as in `TrialConfig`.
        search: `tpe`, or `random` to compare with.
        smoke_test: a slice of the data.
    """

    losses: Sequence[str]
    num_samples: int
    max_epochs: int
    cpus_per_trial: float = 1
    gpus_per_trial: float | None = None
    max_concurrent: int | None = None
    seed: int = 0
    early_stopping: bool = True
    precision: str = "auto"
    search: str = "tpe"
    smoke_test: bool = False

    def __post_init__(self) -> None:
        for loss in self.losses:
            if loss not in LOSSES:
                raise StudyError(f"loss must be one of {', '.join(LOSSES)}; got {loss!r}")
        if not self.losses or len(set(self.losses)) < len(self.losses):
            raise StudyError(f"losses must be named once each; got {list(self.losses)}")
        if self.search not in SEARCHES:
            raise StudyError(f"search must be one of {', '.join(SEARCHES)}; got {self.search!r}")
        if self.precision not in PRECISIONS:
            raise StudyError(f"precision must be in {PRECISIONS}; got {self.precision!r}")
        for name, least in (("num_samples", 1), ("max_epochs", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise StudyError(f"{name} must be >= {least}; got {getattr(self, name)}")
        if self.cpus_per_trial <= 0:
            raise StudyError(f"cpus_per_trial must be > 0; got {self.cpus_per_trial}")
        if self.gpus_per_trial is not None and self.gpus_per_trial < 0:
            raise StudyError(f"gpus_per_trial must be >= 0; got {self.gpus_per_trial}")
        if self.max_concurrent is not None and self.max_concurrent < 1:
            raise StudyError(f"max_concurrent must be >= 1; got {self.max_concurrent}")


# What a study that is continued may change: where it runs, and how many trials it is to have.
MAY_CHANGE = ("num_samples", "cpus_per_trial", "gpus_per_trial", "max_concurrent")


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
    trials' records; nothing else that a crash may have damaged is read.

    Raises:
        StudyError, DataError: before any trial starts, when the plan cannot be run.
    """
    check_folder(folder, resume)
    split = load_split(data_dir)
    if plan.smoke_test:
        split = slice_of(split, SMOKE_TRAIN, SMOKE_VALIDATION)
    with _only_driver(folder):
        study = _continued(plan, folder) if resume else None
        _start_ray(address)
        try:
            plan, concurrent = _fit_to_cluster(plan)
            if study is None:
                study = Study.create(folder, _info(plan))
            print(f"study: {folder}", flush=True)
            if trials is None:
                print(f"search: optuna-dashboard {shlex.quote(str(folder / 'search.journal'))}")
            print(f"curves: tensorboard --logdir {shlex.quote(str(folder / 'tune'))}", flush=True)
            study.info |= {"status": "running", "runs": study.info["runs"] + 1}
            study.info["plan"] = _plan_fields(plan)
            study.write()
            study.info |= {
                "status": _tune(plan, split, study, concurrent, trials),
                "ended": time.time(),
            }
            study.write()
            return study
        finally:
            ray.shutdown()


def check_folder(folder: Path, resume: bool) -> None:
    """StudyError if a new study would meet an old one, or there is none to continue."""
    exists = (folder / "study.json").exists()
    if exists and not resume:
        raise StudyError(f"{folder} already holds a study; go on with --resume, or choose a --name")
    if resume and not exists:
        raise StudyError(f"there is no study to resume in {folder}: it has no study.json")


@contextlib.contextmanager
def _only_driver(folder: Path) -> Iterator[None]:
    """Holds a lock of the operating system, which ends with the process however that ends."""
    lock = FileLock(folder / ".lock")
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
            folder.rmdir()


def _continued(plan: Plan, folder: Path) -> Study:
    """The study in the folder, if this plan continues it; StudyError shows what differs."""
    study = Study.load(folder)
    before, now = study.info["plan"], _plan_fields(plan)
    differences = [
        f"{name} was {before[name]!r}, is {now[name]!r}"
        for name in now
        if name not in MAY_CHANGE and before[name] != now[name]
    ]
    if study.info["space"] != describe():
        old = {row["knob"]: row for row in study.info["space"]}
        new = {row["knob"]: row for row in describe()}
        knobs = sorted(name for name in old | new if old.get(name) != new.get(name))
        differences.append(f"the search space differs in {', '.join(knobs)}")
    if plan.num_samples < before["num_samples"]:
        differences.append(f"num_samples was {before['num_samples']}, is {plan.num_samples}")
    if differences:
        raise StudyError(f"this does not continue the study in {folder}: {'; '.join(differences)}")
    print(f"before: {counts_line(study)}", flush=True)
    return study


def _plan_fields(plan: Plan) -> dict[str, Any]:
    return {**dataclasses.asdict(plan), "losses": list(plan.losses)}


def summarize(study: Study, seconds: float) -> int:
    """Prints what came of a study and what to type next; returns the program's exit code."""
    faults = [trial for trial in study.trials if trial.status in ("failed", "diverged")]
    if faults:
        print("\nTrials that did not end well:")
        for trial in faults:
            print(f"  {trial_line(trial)}\n    log: {trial.logs}")
    choices = study.best()
    if not choices:
        print(f"error: none of {len(study.trials)} trials succeeded; see {study.folder}")
        return 1
    print(f"\nBest trials, by validation mAP (best epoch):\n{best_table(study)}\n")
    for loss, choice in choices.items():
        print(
            f"{loss}: validation mAP {choice.val_map:.4f} "
            f"({choice.trial_id}, epoch {choice.epoch})\n  {choice.config.describe()}"
        )
    print(f"\nThe study is {study.info['status']} ({counts_line(study)}); {duration(seconds)}.")
    print(f"Everything lies in {study.folder} (trials.csv, epochs.csv, best.json)")
    if study.info["status"] != "finished":
        print(
            f"Go on:  python {sys.argv[0]} --resume --name {study.folder.name} "
            f"--storage-path {study.folder.parent}"
        )
        return 130
    print(f"Next:  python analysis/report.py {study.folder}")
    return 0


def _tune(
    plan: Plan,
    split: Split,
    study: Study,
    concurrent: int,
    trials: Sequence[TrialRecord] | None,
) -> str:
    """Runs the trials; the study's status at the end."""
    source = _source(plan, study, trials)
    total = plan.num_samples * len(plan.losses) if trials is None else len(trials)
    progress, gauges = Progress(study, total, concurrent), Gauges(study)

    def watch(record: TrialRecord) -> None:
        progress(record)
        gauges(record)

    recorder = Recorder(study, source, watch)
    resources = {"cpu": plan.cpus_per_trial, "gpu": plan.gpus_per_trial or 0}
    trainable = tune.with_parameters(RetrievalTrial, split=split)
    scheduler = HalvingByLoss(
        plan.losses,
        max_epochs=plan.max_epochs,
        grace_epochs=GRACE_EPOCHS if plan.early_stopping else plan.max_epochs,
        factor=REDUCTION_FACTOR,
        records=study.trials,
    )
    for record in study.trials:
        if record.status == "stopped_early" and record.ended is None:
            recorder.end(record)  # ASHA had decided so when the study was interrupted
    trainable = tune.with_resources(trainable, resources)
    trainable.__name__ = trainable.__qualname__ = "RetrievalTrial"  # what the dashboard shows
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            metric=METRIC,
            mode="max",
            search_alg=StudySearcher(source, study),
            scheduler=scheduler,
            num_samples=total,
            max_concurrent_trials=concurrent,
            reuse_actors=True,
            trial_name_creator=_trial_name,
            trial_dirname_creator=_trial_name,
        ),
        run_config=tune.RunConfig(
            # A folder for each run: Tune numbers checkpoints from 0, and its own state is not read.
            name=f"{study.info['runs']:02d}",
            storage_path=str(study.folder / "tune"),
            verbose=0,
            callbacks=[recorder],
            failure_config=tune.FailureConfig(max_failures=MAX_FAILURES),
            checkpoint_config=tune.CheckpointConfig(
                num_to_keep=1,  # the best, and Tune keeps the latest besides
                checkpoint_score_attribute=METRIC,
                checkpoint_score_order="max",
                checkpoint_frequency=1,
            ),
        ),
    )
    tuner.fit()
    study.info["rungs"] = scheduler.rungs()
    return _end_of(study, total)


def _source(plan: Plan, study: Study, trials: Sequence[TrialRecord] | None) -> Source:
    if trials is not None:
        known = {trial.trial_id for trial in study.trials}
        return Listed([trial for trial in trials if trial.trial_id not in known])
    return Searches(
        plan.losses,
        num_samples=plan.num_samples,
        epochs=plan.max_epochs,
        precision=plan.precision,
        seed=plan.seed,
        kind=plan.search,
        storage=_fresh_journal(study.folder / "search.journal"),
        records=study.trials,
    )


def _end_of(study: Study, total: int) -> str:
    """Marks what is still running as interrupted; `finished` if every trial has ended."""
    running = [trial for trial in study.trials if trial.status == "running"]
    for trial in running:
        trial.status, trial.cause = "interrupted", "the study was stopped"
        study.write_trial(trial)
    return "interrupted" if running or len(study.trials) < total else "finished"


def _fresh_journal(path: Path) -> JournalStorage:
    """Optuna's storage, empty: the searches fill it from the trials' records."""
    for old in path.parent.glob(f"{path.name}*"):
        old.unlink()
    return JournalStorage(JournalFileBackend(str(path)))


def _trial_name(trial: Any) -> str:
    return trial.config["trial_id"]


def _start_ray(address: str | None) -> None:
    # Workers find the packages wherever the program was started from.
    paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    environment: dict[str, Any] = {"env_vars": {"PYTHONPATH": paths}}
    if address is not None:
        packages = [str(ROOT / name) for name in ("trainables", "study")]
        environment = {"py_modules": packages}
    for name, value in RAY_SETTINGS.items():
        os.environ.setdefault(name, value)
    # What these would say is said here in the study's own words.
    for name in ("ray._private.authentication", "ray.tune.tune"):
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        context = ray.init(
            address=address or "local",  # or Ray would join a cluster that happens to run here
            runtime_env=environment,
            include_dashboard=None if address else True,
            logging_level=logging.WARNING,
            log_to_driver=False,
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise StudyError(f"Ray cannot be reached at {address}: {error}") from error
    # A scheduler of jobs ends a program with SIGTERM: end as after Ctrl-C, with all in order. Ray
    # would end the process at once.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    url = context.dashboard_url
    if url:
        print(f"dashboard: http://{url}  (if it asks for a token: ray get-auth-token)", flush=True)


def _fit_to_cluster(plan: Plan) -> tuple[Plan, int]:
    """The plan with its GPU share decided, and how many trials run at a time."""
    cluster = ray.cluster_resources()
    cpus, gpus = cluster.get("CPU", 0.0), cluster.get("GPU", 0.0)
    share = plan.gpus_per_trial
    if share is None:
        share = GPU_SHARE if gpus else 0.0
    if plan.cpus_per_trial > cpus:
        raise StudyError(f"a trial is to have {plan.cpus_per_trial:g} CPUs; Ray sees {cpus:g}")
    if share > gpus:
        raise StudyError(f"a trial is to have {share:g} GPUs; Ray sees {gpus:g}")
    room = int(cpus // plan.cpus_per_trial)
    if share:
        room = min(room, int(gpus // share))
    concurrent = min(room, plan.max_concurrent or room)
    return dataclasses.replace(plan, gpus_per_trial=share), concurrent


def _info(plan: Plan) -> dict[str, Any]:
    """study.json at the start: the plan, the space, and what it runs on."""
    cluster = ray.cluster_resources()
    return {
        "status": "running",
        "runs": 0,
        "plan": _plan_fields(plan),
        "space": describe(),
        "command": " ".join(["python", *sys.argv]),
        "started": time.time(),
        "ended": None,
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "commit": _commit(),
        "machine": {
            "python": platform.python_version(),
            "system": platform.platform(),
            "cpus": cluster.get("CPU", 0.0),
            "gpus": cluster.get("GPU", 0.0),
            "nodes": len(ray.nodes()),
        },
    }


def _commit() -> str | None:
    """The commit that runs, with `+` if files differ from it; None outside a checkout."""
    git = ["git", "-C", str(ROOT)]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True)
        changed = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True)
    except OSError:
        return None
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "") or None
