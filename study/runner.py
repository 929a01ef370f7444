"""Runs a study: checks at the door, then Ray Tune, with every result in the study's folder."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import logging
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from ray import tune

from study.progress import Progress, best_table, duration, trial_line
from study.results import Study, StudyError
from study.search import Searches
from study.search_space import describe
from study.tune_adapters import METRIC, HalvingByLoss, Recorder, StudySearcher
from trainables.config import LOSSES
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
    smoke_test: bool = False

    def __post_init__(self) -> None:
        for loss in self.losses:
            if loss not in LOSSES:
                raise StudyError(f"loss must be one of {', '.join(LOSSES)}; got {loss!r}")
        if not self.losses or len(set(self.losses)) < len(self.losses):
            raise StudyError(f"losses must be named once each; got {list(self.losses)}")
        for name, least in (("num_samples", 1), ("max_epochs", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise StudyError(f"{name} must be >= {least}; got {getattr(self, name)}")
        if self.cpus_per_trial <= 0:
            raise StudyError(f"cpus_per_trial must be > 0; got {self.cpus_per_trial}")
        if self.gpus_per_trial is not None and self.gpus_per_trial < 0:
            raise StudyError(f"gpus_per_trial must be >= 0; got {self.gpus_per_trial}")
        if self.max_concurrent is not None and self.max_concurrent < 1:
            raise StudyError(f"max_concurrent must be >= 1; got {self.max_concurrent}")


def run_study(
    plan: Plan, folder: Path, *, address: str | None = None, data_dir: str | None = None
) -> Study:
    """Runs a plan into a new folder; returns the study, whatever became of its trials.

    Raises:
        StudyError, DataError: before any trial starts, when the plan cannot be run.
    """
    if (folder / "study.json").exists():
        raise StudyError(f"{folder} already holds a study; choose another --name")
    split = load_split(data_dir)
    if plan.smoke_test:
        split = slice_of(split, SMOKE_TRAIN, SMOKE_VALIDATION)
    _start_ray(address)
    try:
        plan, concurrent = _fit_to_cluster(plan)
        study = Study.create(folder, _info(plan))
        print(f"study: {folder}", flush=True)
        status = _tune(plan, split, study, concurrent)
        study.info |= {"status": status, "ended": time.time()}
        study.write()
        return study
    finally:
        ray.shutdown()


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
    print(f"\nThe study is {study.info['status']}; it took {duration(seconds)}.")
    print(f"Everything lies in {study.folder} (trials.csv, epochs.csv, best.json)")
    print(f"Next:  python analysis/report.py {study.folder}")
    return 0 if study.info["status"] == "finished" else 130


def _tune(plan: Plan, split: Split, study: Study, concurrent: int) -> str:
    """Runs the trials; the study's status at the end."""
    searches = Searches(
        plan.losses,
        num_samples=plan.num_samples,
        epochs=plan.max_epochs,
        seed=plan.seed,
        storage=JournalStorage(JournalFileBackend(str(study.folder / "search.journal"))),
    )
    total = plan.num_samples * len(plan.losses)
    recorder = Recorder(study, searches, Progress(study, total, concurrent))
    resources = {"cpu": plan.cpus_per_trial, "gpu": plan.gpus_per_trial or 0}
    trainable = tune.with_parameters(RetrievalTrial, split=split)
    scheduler = HalvingByLoss(
        plan.losses,
        max_epochs=plan.max_epochs,
        grace_epochs=GRACE_EPOCHS if plan.early_stopping else plan.max_epochs,
        factor=REDUCTION_FACTOR,
    )
    tuner = tune.Tuner(
        tune.with_resources(trainable, resources),
        tune_config=tune.TuneConfig(
            metric=METRIC,
            mode="max",
            search_alg=StudySearcher(searches, study),
            scheduler=scheduler,
            num_samples=total,
            max_concurrent_trials=concurrent,
            reuse_actors=True,
            trial_name_creator=_trial_name,
            trial_dirname_creator=_trial_name,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(study.folder),
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
    return _end_of(study, total)


def _end_of(study: Study, total: int) -> str:
    """Marks what is still running as interrupted; `finished` if every trial has ended."""
    running = [trial for trial in study.trials if trial.status == "running"]
    for trial in running:
        trial.status, trial.cause = "interrupted", "the study was stopped"
        trial.ended = time.time()
        study.write_trial(trial)
    return "interrupted" if running or len(study.trials) < total else "finished"


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
    logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)  # said below instead
    try:
        context = ray.init(
            address=address,
            runtime_env=environment,
            include_dashboard=None if address else True,
            logging_level=logging.WARNING,
            log_to_driver=False,
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise StudyError(f"Ray cannot be reached at {address}: {error}") from error
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
        "plan": {**dataclasses.asdict(plan), "losses": list(plan.losses)},
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
