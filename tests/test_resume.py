"""Studies that are killed, damaged or diverge, with a real Ray runtime."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from filelock import FileLock
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from study import tune_smoothap
from study.results.studies import Study
from study.results.trials import TrialRecord
from study.run import plan
from study.run.runner import MAX_FAILURES
from study.search.space import SPACE, Space
from tests.configurations import REFERENCES
from tests.conftest import PATIENCE
from tests.test_study import ROOT, run

# Of the one rung that so few images leave; what climbs and what is trained on fresh seeds is below.
SMOKE = ("--smoke-test", "--final-seeds", "0")
OPTIONS = (*SMOKE, "--loss", "smooth_ap", "--loss", "triplet", "--max-epochs", "3")
# The defaults come first, and diverge.
DIVERGING = """
[optimizer]
choices = ["sgd"]
[batch_size]
choices = [128]
[lr]
range = [1e-4, 1e6]
default = 1e6
"""
LOSING_A_CHECKPOINT = """
import errno, os, sys
import study.run.exchange as exchange
from study import tune_smoothap

kept = []
def to_disk(path):
    kept.append(path)
    if len(kept) > 3:  # a file and two folders for each checkpoint
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

exchange.to_disk = to_disk
sys.exit(tune_smoothap.main())
"""
# Every trial waits after so many epochs until a file is there: the test has all the time it needs.
HOLDING = """
import os, sys, time
from study import tune_smoothap
from study.run import runner
from trainables.trainable import RetrievalTrial

after, release = {after}, {release!r}

class Held(RetrievalTrial):
    def step(self):
        while self.training.epoch == after and not os.path.exists(release):
            time.sleep(0.05)
        return super().step()

runner.RetrievalTrial = Held
"""
RUN = """
sys.exit(tune_smoothap.main())
"""
# The worker of one trial dies whenever it has had an epoch, and leaves its name.
DYING = """
import os, signal, sys
from study import tune_smoothap
from study.run import runner
from trainables.trainable import RetrievalTrial

left = {left!r}

class Dying(RetrievalTrial):
    def step(self):
        if self.trial == "smooth_ap-001" and self.training.epoch == 1:
            with open(left, "a") as file:
                print(os.getpid(), file=file)
            os.kill(os.getpid(), signal.SIGKILL)
        return super().step()

runner.RetrievalTrial = Dying
"""
# The driver dies at its n-th change of what lies in the study's folder.
CRASHING = """
import os, signal, sys
left = [{changes}]

def spy(event, arguments):
    changes = event in ("os.rename", "os.remove", "os.mkdir", "os.link")
    if event == "open" and isinstance(arguments[2], int):
        changes = bool(arguments[2] & (os.O_WRONLY | os.O_RDWR))
    if changes and {folder!r} in str(arguments[0]):
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)

from study import tune_smoothap
from study.search import ladder
ladder.LEAST_IMAGES = {images}
sys.addaudithook(spy)
"""
LOSING_A_NODE = """
import signal, threading
from pathlib import Path
from ray.cluster_utils import Cluster
from study.results.studies import Study
from study.search import space as search_space

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
node = cluster.add_node(num_cpus=1)
folder = Path(sys.argv[1])

def lose_the_node():
    while True:
        time.sleep(0.2)
        try:
            trials = Study.load(folder).trials
        except ValueError:
            continue
        if len(trials) > 1 and all(t.last_checkpoint_epoch >= 1 for t in trials[:2]):
            cluster.remove_node(node, allow_graceful=False)
            print("LOST A NODE", flush=True)
            Path(release).touch()
            return

threading.Thread(target=lose_the_node, daemon=True).start()
before = signal.getsignal(signal.SIGINT)  # ignored in what a shell starts in the background
code = tune_smoothap.main([*sys.argv[2:], "--address", cluster.address])
assert signal.getsignal(signal.SIGINT) is before  # Ctrl-C still works
sys.exit(code)
"""


TUNE = ROOT / "study/tune_smoothap.py"


def start(*arguments: str, code: str | None = None) -> subprocess.Popen:
    """The main job in a process of its own, after this code if there is some."""
    program = (str(TUNE),) if code is None else ("-c", code + RUN)
    command = [sys.executable, *program, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def records(folder: Path) -> dict[str, dict[str, Any]]:
    """Every trial's record as it lies on the disk."""
    paths = (folder / "trials").glob("*.json")
    return {path.stem: json.loads(path.read_text()) for path in paths}


def epochs_done(folder: Path) -> int:
    return sum(len(record["epochs"]) for record in records(folder).values())


def wait_for(condition: Callable[[], bool], process: subprocess.Popen) -> None:
    """Returns when the condition holds of what the process does."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)


def assert_optuna_agrees(study: Study) -> None:
    storage = JournalStorage(JournalFileBackend(str(study.folder / "search.journal")))
    for loss in study.losses:
        told = optuna.load_study(study_name=loss, storage=storage).get_trials()
        mine = [trial for trial in study.trials if trial.loss == loss]
        assert [trial.number for trial in told] == [trial.number for trial in mine]
        for trial, record in zip(told, mine, strict=True):
            whole = record.config.epochs == study.info["plan"]["max_epochs"]
            well = TrialState.COMPLETE if whole else TrialState.PRUNED
            assert trial.state == (well if record.status == "finished" else TrialState.FAIL)
            values = {round(1000 * r["epoch"]): r["val_map"] for r in record.epochs}
            assert trial.intermediate_values == values
            if trial.state is TrialState.COMPLETE:
                assert record.best is not None
                assert trial.value == record.best["val_map"]


def assert_climbed(study: Study, rungs: tuple[float, ...], configurations: int) -> None:
    """Each loss has its configurations, and of them, again and again, the best third or more: at
    least those that are among it when all have ended."""
    for loss in study.losses:
        trials = [t for t in study.trials if t.loss == loss and t.origin != "final"]
        assert len([t for t in trials if t.follows is None]) == configurations
        for rung, above in itertools.pairwise(rungs):
            here = sorted((t for t in trials if t.config.epochs == rung), key=lambda t: -t.score)
            promoted = [t.follows for t in trials if t.config.epochs == above]
            assert len(set(promoted)) == len(promoted)
            assert {t.trial_id for t in here[: len(here) // 3]} <= set(promoted)
            assert set(promoted) <= {t.trial_id for t in here}


def assert_continued(before: dict[str, dict[str, Any]], after: dict[str, dict[str, Any]]) -> None:
    """What had ended is as it was; what was running kept the epochs up to its checkpoint."""
    for trial_id, record in before.items():
        if record["status"] not in ("running", "interrupted"):
            assert after[trial_id] == record
        kept = [e for e in record["epochs"] if e["epoch"] <= record["last_checkpoint_epoch"]]
        assert after[trial_id]["epochs"][: len(kept)] == kept


def test_a_driver_killed_five_times_loses_nothing_and_runs_nothing_twice(tmp_path: Path) -> None:
    """With trials that rest, are promoted, and are trained on fresh seeds."""
    folder, dice = tmp_path / "s", random.Random(0)
    where = ("--name", "s", "--storage-path", str(tmp_path))
    arguments: tuple[str, ...] = (*OPTIONS, "--num-samples", "9", "--final-seeds", "1", *where)
    kills = 0
    before: dict[str, dict[str, Any]] = {}
    while kills < 5:
        changes = dice.randint(60, 160)
        code = CRASHING.format(changes=changes, folder=str(folder), images=1_000)
        process = start(*arguments, code=code)
        output, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == -9, output
        kills += 1
        assert_continued(before, records(folder))
        before = records(folder)
        arguments = ("--resume", *where)
    gone = {record["follows"] for record in before.values()}
    assert any(r["status"] == "finished" and name not in gone for name, r in before.items())
    code = CRASHING.format(changes=-1, folder=str(folder), images=1_000)
    process = start(*arguments, code=code)
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, output
    assert "before: " in output
    assert_continued(before, records(folder))
    study = Study.load(folder)
    assert set(study.counts()) == {"finished"}
    assert_climbed(study, (0.3333, 1), 9)
    for loss in study.losses:
        trials = [trial for trial in study.trials if trial.loss == loss]
        assert [trial.number for trial in trials] == list(range(len(trials)))
        assert sorted({trial.config.epochs for trial in trials}) == [0.3333, 1, 3]
        finals = [trial for trial in trials if trial.origin == "final"]
        assert len({trial.follows for trial in finals}) == len(finals) in (3, 4)
        for trial in trials:
            assert trial.reached == trial.config.epochs
            times = [row["time"] for row in trial.epochs]
            assert times == sorted(times)
    assert_optuna_agrees(study)


def test_one_at_a_time_a_killed_study_decides_as_one_that_was_not(tmp_path: Path) -> None:
    found = []
    for name, changes in (("whole", -1), ("killed", 150)):
        where = ("--name", name, "--storage-path", str(tmp_path))
        options = ("--num-samples", "9", "--max-concurrent", "1", "--max-epochs", "3", *where)
        arguments: tuple[str, ...] = ("--smoke-test", "--final-seeds", "1", *options)
        code = CRASHING.format(changes=changes, folder=str(tmp_path / name), images=1_000)
        process = start(*arguments, code=code)
        output, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == (0 if changes < 0 else -9), output
        if changes > 0:
            code = CRASHING.format(changes=-1, folder=str(tmp_path / name), images=1_000)
            process = start("--resume", *where, code=code)
            output, _ = process.communicate(timeout=PATIENCE)
            assert process.returncode == 0, output
        trials = Study.load(tmp_path / name).trials
        found.append([(t.trial_id, t.config, t.origin, t.follows, t.score) for t in trials])
    assert found[0] == found[1]


def test_a_killed_worker_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    """In a study that was continued: what it was continued from is no longer there."""
    folder, where = tmp_path / "s", ("--name", "s", "--storage-path", str(tmp_path))

    def checkpoints() -> int:
        return sum(record["last_checkpoint_epoch"] for record in records(folder).values())

    release = tmp_path / "release"
    options = (*SMOKE, "--num-samples", "1", "--max-epochs", "5", *where)
    process = start(*options, code=HOLDING.format(after=2, release=str(release)))
    wait_for(lambda: checkpoints() == 2, process)
    process.kill()
    process.communicate()
    (first,) = (folder / record["last_checkpoint"] for record in records(folder).values())
    process = start("--resume", *where, code=HOLDING.format(after=4, release=str(release)))
    wait_for(lambda: checkpoints() == 4 and not first.exists(), process)
    killed = records(folder)["smooth_ap-000"]
    pid = int(killed["worker"].rsplit(":", 1)[1])
    os.kill(pid, signal.SIGKILL)
    release.touch()
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, output
    assert_continued({"smooth_ap-000": {**killed, "status": "running"}}, records(folder))
    (trial,) = Study.load(folder).trials
    assert (trial.status, len(trial.epochs)) == ("finished", 5)
    assert trial.worker != killed["worker"]


def test_a_worker_that_keeps_dying_costs_its_trial_and_no_other(tmp_path: Path) -> None:
    """As the out-of-memory killer of the system does it, whenever the trial is tried again."""
    folder = tmp_path / "s"
    process = start(
        *(*SMOKE, "--num-samples", "2", "--max-epochs", "3"),
        *("--name", "s", "--storage-path", str(tmp_path)),
        code=DYING.format(left=str(tmp_path / "left")),
    )
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, output
    assert len(set((tmp_path / "left").read_text().split())) == 1 + MAX_FAILURES
    first, second = Study.load(folder).trials
    assert first.status == "finished"
    assert second.status == "failed"
    assert "died" in second.cause
    assert "Trials that did not end well" in output
    assert_optuna_agrees(Study.load(folder))


def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    where = ("--name", "s", "--storage-path", str(tmp_path))
    full = folder / "trials" / ".smooth_ap-001.json.partial"
    full.parent.mkdir(parents=True)
    full.symlink_to("/dev/full")  # the system's own "No space left on device"
    done = run(*SMOKE, "--num-samples", "3", "--max-epochs", "2", *where)
    assert done.returncode == 1, done.stdout + done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: [Errno 28] No space left on device; mend it, then: ")
    assert last.endswith(f"--resume {' '.join(where)}")
    before = records(folder)
    assert list(before) == ["smooth_ap-000"]
    full.unlink()
    done = run("--resume", *where)
    assert done.returncode == 0, done.stdout + done.stderr
    assert_continued(before, records(folder))
    study = Study.load(folder)
    assert [trial.number for trial in study.trials] == [0, 1, 2]
    assert_optuna_agrees(study)


def test_a_checkpoint_that_cannot_be_kept_stops_the_study_in_one_line(tmp_path: Path) -> None:
    """It could be the best epoch's: going on would leave a finished trial without its network."""
    where = ("--name", "s", "--storage-path", str(tmp_path))
    options = (*SMOKE, "--num-samples", "1", "--max-epochs", "2", *where)
    command = [sys.executable, "-c", LOSING_A_CHECKPOINT, *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("error: OSError: [Errno 28] No space")
    (before,) = records(tmp_path / "s").values()
    assert (before["status"], before["last_checkpoint_epoch"]) == ("interrupted", 1)
    assert_optuna_agrees(Study.load(tmp_path / "s"))
    done = run("--resume", *where)
    assert done.returncode == 0, done.stdout + done.stderr
    study = Study.load(tmp_path / "s")
    assert [trial.status for trial in study.trials] == ["finished"]
    choice = study.best()["smooth_ap"]
    assert choice.checkpoint is not None
    assert torch.load(choice.checkpoint, weights_only=True)["epoch"] == choice.epoch == 2


def test_checkpoints_in_a_store_are_resumed_from_without_it(tmp_path: Path) -> None:
    """The store is a folder's address here; it goes the way of `s3://`."""
    folder, store = tmp_path / "s", tmp_path / "store"
    where = ("--name", "s", "--storage-path", str(tmp_path))
    uri = ("--checkpoint-uri", store.as_uri())
    options = (*SMOKE, "--num-samples", "2", "--max-epochs", "5", *uri, *where)
    process = start(*options, code=HOLDING.format(after=3, release=str(tmp_path / "never")))

    def held() -> bool:
        """Each trial waits, and what no record names any more is deleted."""
        found = records(folder).values()
        waits = [record["last_checkpoint_epoch"] == 3 for record in found]
        named = {record[file] for record in found for file in ("checkpoint", "last_checkpoint")}
        here = {str(path.relative_to(folder)) for path in folder.glob("tune/*/*/*/checkpoint.pt")}
        return waits == [True, True] and here == named

    wait_for(held, process)
    process.kill()
    process.communicate()
    before = records(folder)
    assert list(store.glob("s-*/01/*/checkpoint_*/checkpoint.pt"))
    store.rename(tmp_path / "lost")
    done = run("--resume", *uri, *where)
    assert done.returncode == 0, done.stdout + done.stderr
    assert_continued(before, records(folder))
    study = Study.load(folder)
    assert set(study.counts()) == {"finished"}
    for trial in study.trials:
        named = {trial.checkpoint, trial.last_checkpoint}
        assert all(path is not None and Path(path).is_file() for path in named)
        here = folder.glob(f"tune/*/{trial.trial_id}/*/checkpoint.pt")
        assert {str(path) for path in here} == named
        there = {path.parent.name for path in store.glob(f"s-*/02/{trial.trial_id}/*/*.pt")}
        assert there == {Path(path).parent.name for path in named if path and "/02/" in path}
    best = json.loads((folder / "best.json").read_text())["smooth_ap"]
    assert Path(best["checkpoint"]).is_file()


@pytest.mark.parametrize(
    ("uri", "reason"), [("bucket/studies", "it has no scheme"), ("nope://b", "Unrecognized")]
)
def test_a_store_that_cannot_be_used_is_refused_at_the_door(
    uri: str, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--checkpoint-uri", uri, "--name", "s", "--storage-path", str(tmp_path))
    assert tune_smoothap.main(list(options)) == 2
    error = capsys.readouterr().err
    assert "--checkpoint-uri must be a folder of an object store that can be written" in error
    assert f"got {uri}: {reason}" in error
    assert not list(tmp_path.iterdir())


def test_a_lost_node_costs_no_trial(tmp_path: Path) -> None:
    code = HOLDING.format(after=1, release=str(tmp_path / "release")) + LOSING_A_NODE
    done = subprocess.run(
        [
            *(sys.executable, "-c", code, str(tmp_path / "s"), *SMOKE),
            *("--num-samples", "3", "--max-epochs", "5", "--name", "s"),
            *("--storage-path", str(tmp_path)),
        ],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "LOST A NODE" in done.stdout
    study = Study.load(tmp_path / "s")
    assert len(study.trials) == 3
    assert set(study.counts()) == {"finished"}
    assert_optuna_agrees(study)


@pytest.mark.parametrize(("stop", "code"), [(signal.SIGTERM, 130), (signal.SIGINT, 130)])
def test_a_signal_ends_a_study_in_order(stop: signal.Signals, code: int, tmp_path: Path) -> None:
    folder = tmp_path / "s"
    options = (*OPTIONS, "--num-samples", "99")  # none that will have ended by then
    process = start(*options, "--name", "s", "--storage-path", str(tmp_path))
    wait_for(lambda: epochs_done(folder) >= 2, process)
    process.send_signal(stop)
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == code, output
    study = Study.load(folder)
    assert study.info["status"] == "interrupted"
    assert "running" not in study.counts()
    assert set(study.counts()) <= {"interrupted", "finished"}
    assert_optuna_agrees(study)
    line = next(line for line in output.splitlines() if line.startswith("interrupted; go on with"))
    assert line.endswith(f" {TUNE} --resume --name s --storage-path {tmp_path}")


def diverge(tmp_path: Path, samples: str) -> subprocess.CompletedProcess:
    (tmp_path / "space.toml").write_text(DIVERGING)
    arguments = (*SMOKE, "--loss", "cross_entropy", "--num-samples", samples, "--name", "s")
    space = ("--space", str(tmp_path / "space.toml"))
    return run(*arguments, *space, "--storage-path", str(tmp_path))


def test_a_diverging_trial_does_not_stop_a_study(tmp_path: Path) -> None:
    done = diverge(tmp_path, samples="4")
    assert done.returncode == 0, done.stdout + done.stderr
    study = Study.load(tmp_path / "s")
    first, *others = study.trials
    assert (first.status, first.config.lr) == ("diverged", 1e6)
    assert "loss became" in first.cause
    assert "lr=1000000.0" in first.cause
    assert any(trial.status == "finished" for trial in others)
    assert study.best()["cross_entropy"].trial_id != first.trial_id
    assert "Trials that did not end well" in done.stdout
    assert_optuna_agrees(study)


def test_when_every_trial_fails_the_program_says_so_in_one_line(tmp_path: Path) -> None:
    done = diverge(tmp_path, samples="1")
    assert done.returncode == 1
    assert f"error: none of 1 trials succeeded; see {tmp_path / 's'}" in done.stdout + done.stderr


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    storage = tmp_path_factory.mktemp("ended")
    done = run(
        *(*SMOKE, "--num-samples", "2", "--max-epochs", "1", "--name", "s"),
        *("--storage-path", str(storage)),
    )
    assert done.returncode == 0, done.stderr
    return storage / "s"


def resume(folder: Path, *options: str) -> int:
    where = ("--resume", "--name", folder.name, "--storage-path", str(folder.parent))
    return tune_smoothap.main([*where, *options])


@pytest.mark.parametrize(
    ("options", "difference"),
    [
        (("--seed", "3"), "seed was 0, is 3"),
        (("--loss", "triplet"), "losses was ['smooth_ap'], is ['triplet']"),
        (("--max-epochs", "5"), "max_epochs was 1, is 5"),
        (("--search", "random"), "search was 'quasi-random', is 'random'"),
        (("--precision", "float32"), "precision was 'auto', is 'float32'"),
        (("--num-samples", "1"), "num_samples was 2, is 1"),
        (("--final-seeds", "2"), "final_seeds was 0, is 2"),
        (("--set", "tau=0.1"), "changes was {}, is {'tau': {'choices': [0.1]}}"),
    ],
)
def test_another_plan_is_refused_with_the_difference(
    options: tuple[str, ...], difference: str, ended: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert resume(ended, *options) == 2
    assert capsys.readouterr().err.endswith(f"{difference}\n")


def test_another_search_space_is_refused(
    ended: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    less = Space(tuple(knob for knob in SPACE.shared if knob.name != "weight_decay"))
    monkeypatch.setattr(plan, "SPACE", less)
    assert resume(ended) == 2
    assert "the search space differs in weight_decay" in capsys.readouterr().err


def test_a_second_driver_is_refused(ended: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with FileLock(ended / ".lock"):
        assert resume(ended) == 2
    assert f"another program is running the study in {ended}" in capsys.readouterr().err


def test_nothing_to_resume_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert resume(tmp_path / "none") == 2
    assert "there is no study to resume" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", [0, 1])
def test_a_missing_record_is_named(
    number: int, ended: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = ended / "trials" / f"smooth_ap-{number:03d}.json"
    content = path.read_text()
    path.unlink()
    try:
        assert resume(ended) == 2
        assert f"the record {path.name} is missing" in capsys.readouterr().err
    finally:
        path.write_text(content)


def test_all_but_the_records_can_be_lost(ended: Path) -> None:
    """Tables, Optuna's storage and Tune's state are truncated; a larger search goes on."""
    before = records(ended)
    state = [path for path in (ended / "tune").rglob("*.json") if path.is_file()]
    assert state
    for path in [*state, *ended.glob("*.csv"), ended / "best.json", ended / "search.journal"]:
        path.write_bytes(path.read_bytes()[:20])
    done = run(
        *("--resume", "--num-samples", "3", "--name", "s", "--storage-path", str(ended.parent))
    )
    assert done.returncode == 0, done.stdout + done.stderr
    study = Study.load(ended)
    assert [trial.trial_id for trial in study.trials] == [f"smooth_ap-{n:03d}" for n in range(3)]
    assert_continued(before, records(ended))
    assert_optuna_agrees(study)
    assert set(json.loads((ended / "best.json").read_text())) == {"smooth_ap"}


def test_a_trial_goes_back_to_its_last_readable_checkpoint(tmp_path: Path) -> None:
    study = Study(tmp_path, {"plan": {"losses": ["triplet"]}}, [])
    record = TrialRecord("triplet-000", REFERENCES["triplet"])
    for epoch, score in ((1, 0.3), (2, 0.2), (3, 0.1)):
        path = tmp_path / f"{epoch}.pt"
        torch.save({"epoch": epoch, "config": {}, "network": {}}, path)
        record.add_epoch({"epoch": epoch, "val_map": score, "seconds": 1.0})
        record.add_checkpoint(str(path))
    record.add_epoch({"epoch": 4, "val_map": 0.4, "seconds": 1.0})  # killed before its checkpoint
    study.go_back(record)
    assert [row["epoch"] for row in record.epochs] == [1, 2, 3]
    assert record.last_checkpoint == str(tmp_path / "3.pt")
    torch.save({"epoch": 3}, tmp_path / "3.pt")  # somebody's file, no trial's checkpoint
    study.go_back(record)
    assert [row["epoch"] for row in record.epochs] == [1]  # the best is still there
    assert record.last_checkpoint == str(tmp_path / "1.pt")
    torch.save({"epoch": 3, "config": {}, "network": {}}, tmp_path / "3.pt")
    record.add_epoch({"epoch": 3, "val_map": 0.1, "seconds": 1.0})
    record.add_checkpoint(str(tmp_path / "3.pt"))
    assert record.last_checkpoint == str(tmp_path / "3.pt")
    assert record.checkpoint == str(tmp_path / "1.pt")  # of the best, without which it has none
    (tmp_path / "1.pt").write_bytes(b"")  # cut off before its first byte
    study.go_back(record)
    assert (record.epochs, record.last_checkpoint, record.checkpoint) == ([], None, None)


def test_a_trial_killed_after_its_last_epoch_gets_no_more(ended: Path) -> None:
    path = ended / "trials" / "smooth_ap-000.json"
    before = json.loads(path.read_text())
    path.write_text(json.dumps({**before, "status": "running", "ended": None}))
    assert run("--resume", "--name", "s", "--storage-path", str(ended.parent)).returncode == 0
    after = json.loads(path.read_text())
    assert (after["status"], after["epochs"]) == ("finished", before["epochs"])
    assert_optuna_agrees(Study.load(ended))
