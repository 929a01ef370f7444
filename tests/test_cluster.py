"""Ray as a study finds it: its address, how many trials it holds, and what its nodes need."""

from __future__ import annotations

import ast
import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from study.results.files import StudyError
from study.run import cluster
from study.run.cluster import check_address, have_token, places
from study.run.plan import Plan
from tests.conftest import PATIENCE

ROOT = Path(__file__).parents[1]
AT_HOME = {"publish.py", "pages.py"}  # run from a checkout, not on a cluster
NAMES = {"PIL": "pillow"}  # of what is installed by another name than it is imported by
EXTRAS = {"timm"}  # asked for by who asks for it
OURS = sys.stdlib_module_names | {"study", "trainables"}  # and Python's


def third_party(path: Path) -> set[str]:
    """The packages that a file imports, of neither Python nor the project."""
    modules: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            modules.add(node.module or "")
    return {module.split(".")[0] for module in modules} - OURS


def test_a_node_is_given_all_that_a_study_imports() -> None:
    page = (ROOT / "study" / "WATCHING.md").read_text(encoding="utf-8")
    cluster = yaml.safe_load(page.split("```yaml\n")[1].split("```")[0])
    install = next(line for line in cluster["setup_commands"] if "pip install" in line)
    given = {word.split("[")[0] for word in shlex.split(install)}
    files = [*(ROOT / "study").rglob("*.py"), *(ROOT / "trainables").rglob("*.py")]
    needed = {name for path in files if path.name not in AT_HOME for name in third_party(path)}
    needed = {NAMES.get(name, name) for name in needed - EXTRAS}
    assert {"ray", "torch", "numba", "optuna", "pyarrow", "filelock", "pillow"} <= needed
    assert needed <= given


# Nodes of (CPUs, GPUs), a trial's share of them, and how many at a time: the numbers of placement
# groups of that size that Ray 2.60 grants on such nodes.
HELD = [
    ([(100, 8)], 1, 0.15, 48),
    ([(20, 1)], 1, 0.2, 5),
    ([(20, 1)], 1, 0.1, 10),
    ([(9, 5)], 1, 2, 2),
    ([(1, 0)], 0.1, 0, 10),
    ([(1, 0)], 0.3, 0, 3),
    ([(1, 0)], 0.0058, 0, 175),
    ([(4, 0)], 1.5, 0, 2),
    ([(1, 0), (2, 0)], 0.7, 0, 3),
    ([(8, 0), (1, 4), (64, 2)], 1, 0.25, 9),
]


@pytest.mark.parametrize(("nodes", "cpus", "gpus", "held"), HELD)
def test_trials_are_counted_by_card_and_node(
    nodes: list[tuple[int, int]], cpus: float, gpus: float, held: int
) -> None:
    resources = [{"CPU": float(c), "GPU": float(g)} for c, g in nodes]
    assert sum(places(node, cpus, gpus) for node in resources) == held


def test_a_node_without_cards_or_cpus_holds_no_trial_that_needs_them() -> None:
    assert places({"CPU": 4.0}, 1, 0.25) == 0
    assert places({"GPU": 4.0}, 1, 0.25) == 0


# Asks a cluster of unequal nodes for as many trials at a time as the study would.
GRANTED = """
import ray
from ray.cluster_utils import Cluster
from ray.util import placement_group
from study.run.cluster import fit_to_cluster, start_ray
from study.run.plan import Plan

nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 20, "num_gpus": 2})
nodes.add_node(num_cpus=3, num_gpus=1)
nodes.add_node(num_cpus=5)
start_ray(nodes.address)
for share in (0.15, 0.2, 1.0):
    plan = Plan(losses=["triplet"], num_samples=1, max_epochs=1, gpus_per_trial=share)
    _, concurrent = fit_to_cluster(plan)
    groups = [placement_group([{"CPU": 1, "GPU": share}]) for _ in range(concurrent)]
    ray.get([group.ready() for group in groups])
    print("granted", concurrent, flush=True)
    for group in groups:
        ray.util.remove_placement_group(group)
plan = Plan(losses=["triplet"], num_samples=1, max_epochs=1, cpus_per_trial=4, gpus_per_trial=1)
print("held", fit_to_cluster(plan)[1])
plan = Plan(losses=["triplet"], num_samples=1, max_epochs=1, cpus_per_trial=20, gpus_per_trial=2)
print("held", fit_to_cluster(plan)[1])
"""


def test_ray_grants_what_the_study_counts_on() -> None:
    done = subprocess.run(
        [sys.executable, "-c", GRANTED], capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.split()[0] in ("granted", "held")]
    assert lines == ["granted 15", "granted 13", "granted 3", "held 2", "held 1"]


@pytest.mark.parametrize(
    ("field", "value", "law"),
    [
        ("cpus_per_trial", 0.0, "cpus_per_trial must be >= 0.0001, the least that Ray counts"),
        ("cpus_per_trial", 0.00009, "cpus_per_trial must be >= 0.0001, the least that Ray counts"),
        ("gpus_per_trial", 0.00009, "gpus_per_trial must be 0, in [0.0001, 1] or a whole number"),
        ("gpus_per_trial", 1.5, "gpus_per_trial must be 0, in [0.0001, 1] or a whole number"),
    ],
)
def test_a_share_that_ray_cannot_count_is_refused(field: str, value: float, law: str) -> None:
    plan = {"losses": ["triplet"], "num_samples": 1, "max_epochs": 1}
    with pytest.raises(StudyError) as refused:
        Plan(**{**plan, field: value})
    assert str(refused.value) == f"{law}; got {value}"
    Plan(**{**plan, field: 0.0001})


@pytest.fixture
def taken() -> Iterator[socket.socket]:
    """A port that is taken; nothing listens there yet."""
    with socket.socket() as server:
        server.bind(("", 0))
        yield server


def at(server: socket.socket) -> str:
    return f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("by_environment", [False, True])
def test_an_address_where_nothing_listens_is_refused_at_once(
    by_environment: bool, taken: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = at(taken)
    if by_environment:
        monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(StudyError, match=rf"Ray cannot be reached at {address}: .*111"):
        check_address("auto" if by_environment else address)


def test_what_listens_and_does_not_speak_rays_language_is_refused(
    taken: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "ANSWER_SECONDS", 0.1)
    taken.listen()
    law = "--address must be of a cluster's head, which answers in 0.1 seconds"
    with pytest.raises(StudyError, match=rf"{law}; none did at {at(taken)}"):
        check_address(at(taken))


@pytest.mark.parametrize("address", ["ray://head:10001", "auto"])
def test_ray_client_is_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "ray://head:10001")
    with pytest.raises(StudyError, match=r"Ray Client does not allow.*; got ray://head:10001"):
        check_address(address)


@pytest.mark.parametrize("address", ["head", "127.0.0.1:port", "127.0.0.1:99999"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(StudyError, match=f"Ray cannot be reached at {address}: "):
        check_address(address)


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_heard_while_an_address_is_waited_for(
    stop: signal.Signals, taken: socket.socket, tmp_path: Path
) -> None:
    taken.listen()
    code = "import sys; from study.run import cluster; from study import tune_smoothap; "
    code += f"cluster.ANSWER_SECONDS = {PATIENCE}; sys.exit(tune_smoothap.main())"
    process = subprocess.Popen(
        [
            *(sys.executable, "-c", code, "--address", at(taken)),
            *("--storage-path", str(tmp_path), "--smoke-test"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    connection, _ = taken.accept()
    with connection:
        process.send_signal(stop)
        output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, output
    assert output.splitlines()[-1] == "interrupted before the study began"
    assert not list(tmp_path.iterdir())


def test_a_home_that_cannot_keep_rays_token_gets_one_in_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    have_token()
    assert "RAY_AUTH_TOKEN" not in os.environ  # Ray keeps its own there
    (tmp_path / "file").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "file"))  # not even root can write below a file
    have_token()
    token = os.environ["RAY_AUTH_TOKEN"]
    assert len(token) == 64
    have_token()
    assert os.environ["RAY_AUTH_TOKEN"] == token
    del os.environ["RAY_AUTH_TOKEN"]
