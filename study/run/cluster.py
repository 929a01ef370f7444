"""Ray as a study finds it: started or joined, measured, and described."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import importlib.metadata
import logging
import os
import platform
import secrets
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ray
import torch
from ray._private.grpc_utils import init_grpc_channel
from ray._private.services import canonicalize_bootstrap_address_or_die
from ray._private.utils import get_num_cpus

from study.results.files import StudyError
from study.run.plan import Plan, steps
from study.search.space import Space, describe

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("ray", "optuna", "torch", "torchvision", "numpy", "pandas", "scipy")
GPU_SHARE = 0.25  # of a card for a trial where Ray sees one: the network is small
ANSWER_SECONDS = 30  # within which the head of a cluster must answer; it takes 0.02 when idle
RAY_SETTINGS = {
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths keep their meaning in a worker
    "RAY_AIR_NEW_OUTPUT": "0",  # `study.run.progress` shows what Tune would
}


def start_ray(address: str | None) -> None:
    """Starts Ray here, or joins the cluster at `address`; StudyError if that cannot be done."""
    if address is None:
        have_token()
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
    except (OSError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        law = f"Ray cannot be {'reached at ' + address if address else 'started here'}"
        # It keeps its sockets below the folder for temporary files: a long one is too long.
        remedy = "; set RAY_TMPDIR to a shorter folder" if "AF_UNIX" in str(error) else ""
        raise StudyError(f"{law}: {error}{remedy}") from error
    end_in_order_on_sigterm()  # Ray would end the process at once
    url = context.dashboard_url
    if url:
        print(f"dashboard: http://{url}  (if it asks for a token: ray get-auth-token)", flush=True)


def have_token() -> None:
    """Gives Ray the token of its own cluster where the home folder cannot keep one, as Ray would.

    Then it is in the environment alone, of this process and those that it starts.
    """
    try:
        folder = Path.home() / ".ray"
        folder.mkdir(parents=True, exist_ok=True)
        kept = (folder / "auth_token").exists() or os.access(folder, os.W_OK)
    except (OSError, RuntimeError):  # a user without a home
        kept = False
    if not kept and "RAY_AUTH_TOKEN_PATH" not in os.environ:
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


def check_place(plan: Plan, address: str | None) -> None:
    """StudyError if no trial can run there, as far as that shows before Ray is started."""
    if address is not None:
        check_address(address)
    else:  # as Ray counts them
        _check_node(plan, get_num_cpus(True), torch.cuda.device_count())


def _check_node(plan: Plan, cpus: float, gpus: float) -> None:
    """StudyError if a trial is to have more than the largest node has."""
    for name, share, most in (
        ("CPUs", plan.cpus_per_trial, cpus),
        ("GPUs", plan.gpus_per_trial or 0.0, gpus),
    ):
        if share > most:
            law = f"a trial is to have {share:g} {name}"
            raise StudyError(f"{law}; Ray sees {most:g} on a node")


def check_address(address: str) -> None:
    """StudyError unless the head of a cluster answers at the address: Ray would try for a quarter
    of an hour, and hear no signal meanwhile.

    `auto` is what RAY_ADDRESS says, else the cluster that runs on this machine.
    """
    given = os.environ.get("RAY_ADDRESS") or address if address == "auto" else address
    if "://" in given:
        raise StudyError(
            f"a study writes its results from where it runs, which Ray Client does not allow: "
            f"run it on a node of the cluster, or with `ray job submit`; got {given}"
        )
    try:
        asyncio.run(_answer(canonicalize_bootstrap_address_or_die(given)))
    except TimeoutError as error:
        law = f"--address must be of a cluster's head, which answers in {ANSWER_SECONDS} seconds"
        raise StudyError(f"{law}; none did at {given}") from error
    except (OSError, ValueError, OverflowError) as error:
        raise StudyError(f"Ray cannot be reached at {given}: {error}") from error


async def _answer(address: str) -> None:
    """Returns when a server of Ray's kind (gRPC) answers at `host:port`.

    Raises:
        TimeoutError: something listens there, or a firewall drops what is sent, but none answers.
        OSError: the connection is refused, or there is no such host.
        ValueError, OverflowError: that is no port.
    """
    host, _, port = address.rpartition(":")
    async with asyncio.timeout(ANSWER_SECONDS):
        _, stream = await asyncio.open_connection(host.strip("[]"), int(port))
        stream.close()
        async with init_grpc_channel(address, asynchronous=True) as channel:
            await channel.channel_ready()


def end_in_order_on_sigterm() -> None:
    """A scheduler of jobs ends a program with SIGTERM: end as after Ctrl-C."""

    def end(*_: Any) -> None:
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # started in the background
            raise KeyboardInterrupt
        signal.raise_signal(signal.SIGINT)

    signal.signal(signal.SIGTERM, end)


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
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    node_cpus = max(node.get("CPU", 0.0) for node in nodes)
    node_gpus = max(node.get("GPU", 0.0) for node in nodes)
    share = plan.gpus_per_trial
    if share is None:
        share = GPU_SHARE if node_gpus else 0.0
    _check_node(plan, node_cpus, node_gpus)
    room = sum(places(node, plan.cpus_per_trial, share) for node in nodes)
    if not room:
        law = f"a trial is to have {plan.cpus_per_trial:g} CPUs and {share:g} GPUs"
        raise StudyError(f"{law}; Ray sees no node that has both")
    concurrent = min(room, plan.max_concurrent or room)
    return dataclasses.replace(plan, gpus_per_trial=share), concurrent


def waits_for(needs: Mapping[str, float]) -> str:
    """What a trial that needs so many CPUs and GPUs waits for, and what is free of it now."""
    free, whole = ray.available_resources(), ray.cluster_resources()
    parts = [
        f"{share:g} {name} ({free.get(name, 0.0):g} of {whole.get(name, 0.0):g} free)"
        for name, share in needs.items()
        if share
    ]
    return f"it waits for {' and '.join(parts)} on one node"


def places(node: Mapping[str, float], cpus: float, gpus: float) -> int:
    """How many trials of so many CPUs and GPUs a node holds at a time, counted as Ray does.

    No trial spans nodes, and no share of a GPU spans cards.
    """
    room = steps(node.get("CPU", 0.0)) // steps(cpus)
    if not gpus:
        return room
    cards = int(node.get("GPU", 0.0))
    held = cards * (steps(1) // steps(gpus)) if gpus < 1 else cards // int(gpus)
    return min(room, held)


def describe_run(plan: Plan, space: Space) -> dict[str, Any]:
    """study.json at the start: the plan, the space, and what it runs on."""
    cluster = ray.cluster_resources()
    return {
        "status": "running",
        "runs": 0,
        "plan": plan.fields(),
        "space": describe(plan.losses, space),
        "files": plan.digests(),
        "command": shlex.join(["python", *sys.argv]),
        "started": time.time(),
        "ended": None,
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "commit": _commit(),
        "machine": {
            "python": platform.python_version(),
            "system": platform.platform(),
            **({"processor": processor()} if len(ray.nodes()) == 1 else {}),  # the driver's
            "cpus": cluster.get("CPU", 0.0),
            "gpus": cluster.get("GPU", 0.0),
            "nodes": len(ray.nodes()),
        },
    }


def processor() -> str:
    """The processor's name as Linux has it, else as Python knows it; it may be empty."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def _commit() -> str | None:
    """The commit that runs, with `+` if files differ from it; None outside a checkout."""
    git = ["git", "-C", str(ROOT)]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True)
        changed = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True)
    except OSError:
        return None
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "") or None
