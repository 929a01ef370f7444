"""Ray as a study finds it: started or joined, measured, and described."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import logging
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray

from study.plan import Plan
from study.results import StudyError
from study.search_space import describe

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("ray", "optuna", "torch", "torchvision", "numpy", "pandas", "scipy")
GPU_SHARE = 0.25  # of a card for a trial where Ray sees one: the network is small
RAY_SETTINGS = {
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths keep their meaning in a worker
    "RAY_AIR_NEW_OUTPUT": "0",  # `study.progress` shows what Tune would
}


def start_ray(address: str | None) -> None:
    """Starts Ray here, or joins the cluster at `address`; StudyError if that cannot be done."""
    if address is not None and address.startswith("ray://"):
        raise StudyError(
            f"a study writes its results from where it runs, which Ray Client does not allow: "
            f"run it on a node of the cluster, or with `ray job submit`; got {address}"
        )
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
    end_in_order_on_sigterm()  # Ray would end the process at once
    url = context.dashboard_url
    if url:
        print(f"dashboard: http://{url}  (if it asks for a token: ray get-auth-token)", flush=True)


def end_in_order_on_sigterm() -> None:
    """A scheduler of jobs ends a program with SIGTERM: end as after Ctrl-C."""
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))


@contextlib.contextmanager
def ending_on_signals() -> Iterator[None]:
    """Lets Tune take the signals, and takes them back: it leaves a handler that does nothing."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def fit_to_cluster(plan: Plan) -> tuple[Plan, int]:
    """The plan with its GPU share decided, and how many trials run at a time.

    Raises:
        StudyError: a trial is to have more than Ray sees.
    """
    cluster = ray.cluster_resources()
    cpus, gpus = cluster.get("CPU", 0.0), cluster.get("GPU", 0.0)
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    node_cpus = max(node.get("CPU", 0.0) for node in nodes)
    node_gpus = max(node.get("GPU", 0.0) for node in nodes)
    share = plan.gpus_per_trial
    if share is None:
        share = GPU_SHARE if gpus else 0.0
    if plan.cpus_per_trial > node_cpus:
        law = f"a trial is to have {plan.cpus_per_trial:g} CPUs"
        raise StudyError(f"{law}; Ray sees {node_cpus:g} on a node")
    if share > node_gpus:
        raise StudyError(f"a trial is to have {share:g} GPUs; Ray sees {node_gpus:g} on a node")
    room = int(cpus // plan.cpus_per_trial)
    if share:
        room = min(room, int(gpus // share))
    concurrent = min(room, plan.max_concurrent or room)
    return dataclasses.replace(plan, gpus_per_trial=share), concurrent


def describe_run(plan: Plan) -> dict[str, Any]:
    """study.json at the start: the plan, the space, and what it runs on."""
    cluster = ray.cluster_resources()
    return {
        "status": "running",
        "runs": 0,
        "plan": plan.fields(),
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
