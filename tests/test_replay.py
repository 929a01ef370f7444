"""Replayed steps, where there is no card: a graph that runs its step again. What a card makes of
them is in `tests/test_gpu.py`."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.conftest import synthetic
from trainables import replay
from trainables.config import TrialConfig
from trainables.data import Split
from trainables.losses.kernels.by_block import UNREAD
from trainables.networks.seed_cnn import SeedCNN
from trainables.replay import WARM, Replay, can_replay, largest_batch
from trainables.train import EpochMetrics, TrainingRun

WIDE = Path(__file__).parents[1] / "study" / "examples" / "wide_cnn.py"
WATCHING = WIDE.parents[1] / "WATCHING.md"


def config(**changes: Any) -> TrialConfig:
    plain = {"loss": "smooth_ap", "optimizer": "adam", "lr": 1e-3, "batch_size": 64, "epochs": 2}
    return TrialConfig(**{**plain, "precision": "float32", **changes})


RUNS = {
    "smooth_ap": config(schedule="cosine", warmup=0.3),
    "normalized_softmax": config(
        loss="normalized_softmax", averaging=0.9, flip=True, shift=2, weight_decay=1e-3
    ),
    "cross_entropy": config(loss="cross_entropy", optimizer="adamw", loss_lr=3.0),
    "taught": config(loss="triplet", teacher="teacher.pt", teacher_weight=3.0),
}


@pytest.fixture
def split(small_split: Split) -> Split:
    rng = np.random.default_rng(0)
    targets = rng.normal(size=(len(small_split.train), 5)).astype(np.float32)
    targets /= np.linalg.norm(targets, axis=1, keepdims=True)
    return Split(small_split.train, small_split.validation, targets=targets)


class Graphs:
    """In the place of CUDA's: what is captured runs when it is replayed, with the learning rates
    where they were when it was captured."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.captured = self.replayed = 0
        self.rates: list[Any] = []
        monkeypatch.setattr(replay, "warm", self.warm)
        monkeypatch.setattr(replay, "captured", self.capture)

    def warm(self, step: Any, device: torch.device) -> None:
        for _ in range(WARM):
            step()

    def capture(self, step: Any, device: torch.device) -> tuple[Callable[[], None], Tensor]:
        groups = step.func.__self__.optimizer.param_groups
        self.rates, loss = [group["lr"] for group in groups], torch.empty(())
        self.captured += 1

        def again() -> None:
            kept = [group["lr"] for group in groups]
            for group, rate in zip(groups, self.rates, strict=True):
                group["lr"] = rate
            loss.copy_(step())
            for group, lr in zip(groups, kept, strict=True):
                group["lr"] = lr
            self.replayed += 1

        return again, loss


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> Graphs:
    return Graphs(monkeypatch)


def replaying(asked: TrialConfig, split: Split) -> TrainingRun:
    run = TrainingRun(asked, split)
    assert not run.replays  # as it is on a CPU
    run.replays = True
    return run


def numbers(epoch: EpochMetrics) -> list[float]:
    return [epoch.train_loss, epoch.val_loss or 0.0, epoch.val_map]


@pytest.mark.parametrize("name", RUNS)
def test_a_replayed_run_is_the_same_run(name: str, split: Split, graphs: Graphs) -> None:
    """But for its learning rates, which are rounded to float32."""
    run = replaying(RUNS[name], split)
    for epoch, expected in zip(run, TrainingRun(RUNS[name], split), strict=True):
        assert numbers(epoch) == pytest.approx(numbers(expected), rel=1e-4)
    assert (graphs.captured, graphs.replayed) == (1, run.steps) == (1, 20)


@pytest.mark.parametrize("name", RUNS)
def test_one_that_goes_on_is_the_one_that_was_not_stopped(
    name: str, split: Split, graphs: Graphs, tmp_path: Path
) -> None:
    """To the last digit: no step is another where it is captured anew. So too on one that has
    trained already, whose graph works on what the optimizer had before."""
    whole = replaying(RUNS[name], split)
    first, second = (numbers(epoch) for epoch in whole)
    stopped = replaying(RUNS[name], split)
    assert numbers(stopped.train_epoch()) == first
    stopped.save(tmp_path / "checkpoint.pt")
    fresh = replaying(RUNS[name], split)
    fresh.load(tmp_path / "checkpoint.pt")
    whole.load(tmp_path / "checkpoint.pt")
    for run in (fresh, whole):
        assert numbers(run.train_epoch()) == second
    assert graphs.captured == 4


def test_warming_up_trains_nothing(split: Split, graphs: Graphs) -> None:
    """Neither at first, where the optimizer has no state yet, nor later."""
    run = replaying(config(network=f"{WIDE}:wide_cnn"), split)
    images, labels = torch.zeros(64, 1, 28, 28, dtype=torch.uint8), torch.arange(64) % 3
    run.learner.train()
    for trained in (False, True):
        if trained:
            run._train_step(images, labels)
        weights = [one.clone() for one in run.learner.state_dict().values()]
        states = [
            {name: one.clone() for name, one in state.items()}
            for state in run.optimizer.state.values()
        ]
        Replay(run._step, (images, labels), run.learner, run.optimizer)
        for one, before in zip(run.learner.state_dict().values(), weights, strict=True):
            assert torch.equal(one, before)
        found = list(run.optimizer.state.values())
        assert len(found) == len(list(run.learner.parameters()))
        assert len(states) == (len(found) if trained else 0)
        for state, kept in zip(found, states or [{}] * len(found), strict=True):
            assert set(state) == {"step", "exp_avg", "exp_avg_sq"}
            for name, one in state.items():
                assert torch.equal(one, kept.get(name, torch.zeros_like(one)))
        for group in run.optimizer.param_groups:
            assert isinstance(group["lr"], float) and group["capturable"] is False


def test_inputs_of_training_stay_where_they_are(split: Split, graphs: Graphs) -> None:
    """A graph has their address, and more are judged at a time than trained on."""
    run = replaying(config(), split)
    run.train_until(0.5)
    place = run.buffers["inputs", run.device].data_ptr()
    run.train_epoch()
    assert run.buffers["inputs", run.device].data_ptr() == place
    assert run.buffers["judged inputs", run.device].numel() == 200 * 28 * 28


@pytest.mark.parametrize(
    ("changes", "largest"),
    [
        ({}, UNREAD),
        ({"loss": "triplet"}, UNREAD),
        ({"loss": "recall_at_k"}, UNREAD),
        ({"loss": "cross_entropy"}, math.inf),
        ({"loss": "cross_entropy", "embedding_dim": 16}, math.inf),
        ({"loss": "smooth_ap+normalized_softmax"}, UNREAD),
        ({"loss": "pml:SupConLoss"}, 0),  # looks for its pairs
        ({"loss": "normalized_softmax+pml:SupConLoss"}, 0),
        ({"loss": "smooth_ap+cross_entropy", "embedding_dim": 16}, UNREAD),
        ({"network": f"{WIDE}:wide_cnn"}, 0),  # may do anything
    ],
)
def test_network_and_loss_say_what_can_be_replayed(
    changes: dict[str, Any], largest: float, split: Split
) -> None:
    assert largest_batch(TrainingRun(config(**changes), split).learner) == largest


def test_what_is_made_of_a_network_says_nothing_by_that(split: Split) -> None:
    class WithDropOut(SeedCNN):
        def forward(self, images: Tensor) -> Tensor:
            return torch.dropout(super().forward(images), 0.5, self.training)

    learner = TrainingRun(config(), split).learner
    assert largest_batch(learner) == UNREAD
    learner.network.trunk = WithDropOut()
    assert largest_batch(learner) == 0


def test_a_class_in_a_file_joins_in(split: Split, tmp_path: Path) -> None:
    """As the page on watching says."""
    file = tmp_path / "mine.py"
    file.write_text(
        "import math\nfrom torch import nn\n\n"
        "class Mine(nn.Linear):\n    replayed_batch = math.inf\n\n"
        "    def forward(self, images):\n        return super().forward(images.flatten(1))\n\n"
        "def mine(channels):\n    return Mine(channels * 28 * 28, 8)\n"
    )
    run = TrainingRun(config(loss="cross_entropy", network=f"{file}:mine"), split)
    assert largest_batch(run.learner) == math.inf
    assert "`replayed_batch = math.inf`" in WATCHING.read_text(encoding="utf-8")


def test_a_step_that_fails_in_warming_up_has_trained_nothing(
    split: Split, graphs: Graphs, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = replaying(config(), split)
    before = {name: one.clone() for name, one in run.learner.state_dict().items()}
    step, asked = run._step, []

    def fails(*batch: Tensor) -> Tensor:
        asked.append(len(batch))
        if len(asked) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return step(*batch)

    monkeypatch.setattr(run, "_step", fails)
    with pytest.raises(torch.OutOfMemoryError):
        run.train_until(0.5)
    assert run.replay is None and run.step == 0
    assert not all(torch.equal(one, 0 * one) for one in before.values())
    for name, one in run.learner.state_dict().items():
        assert torch.equal(one, before[name])
    for state in run.optimizer.state.values():
        assert all(not one.any() for one in state.values())
    assert all(isinstance(group["lr"], float) for group in run.optimizer.param_groups)


@pytest.mark.parametrize("replays", [True, False])
def test_what_has_no_room_to_be_judged_beside_a_graph_is_judged_without(
    replays: bool, split: Split, graphs: Graphs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once: then it is an error. The graph is made again, and the numbers are as they were."""
    expected = [numbers(epoch) for epoch in replaying(config(), split)]
    run = replaying(config(), split)
    run.replays = replays
    judge, asked = run._validate, []

    def without_room() -> Any:
        asked.append(run.replay)
        if len(asked) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return judge()

    monkeypatch.setattr(run, "_validate", without_room)
    if not replays:
        with pytest.raises(torch.OutOfMemoryError):
            run.train_epoch()
        assert run.is_judging
        return
    assert [numbers(epoch) for epoch in run] == expected
    assert [one is None for one in asked] == [False, True, False]
    assert graphs.captured == 3


def test_why_a_capture_failed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """An end of the capture that fails too would hide it, and with it what helps."""

    @contextlib.contextmanager
    def graph(*_: Any, **__: Any) -> Iterator[None]:
        try:
            yield
        finally:
            raise RuntimeError("operation failed due to a previous error during capture")

    def step(error: type[Exception]) -> Tensor:
        raise error("no room")

    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: None)
    monkeypatch.setattr(torch.cuda, "graph", graph)
    monkeypatch.setattr(torch.cuda, "device", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(replay, "side_stream", lambda _: None)
    card = torch.device("cuda", 0)
    with pytest.raises(torch.OutOfMemoryError, match="no room"):
        replay.captured(partial(step, torch.OutOfMemoryError), card)
    with pytest.raises(RuntimeError, match="during capture"):
        replay.captured(partial(step, ValueError), card)


@pytest.mark.parametrize(
    ("changes", "replays"),
    [
        ({}, True),
        ({"optimizer": "adamw"}, True),
        ({"optimizer": "sgd", "momentum": 0.9}, False),
        ({"batch_size": UNREAD}, True),
        ({"batch_size": UNREAD + 1}, False),
        ({"loss": "cross_entropy", "batch_size": UNREAD + 1}, True),
        ({"loss": "pml:SupConLoss"}, False),
    ],
)
def test_a_card_replays_what_it_can(changes: dict[str, Any], replays: bool) -> None:
    many = Split(synthetic(600, seed=0), synthetic(60, seed=1))
    run = TrainingRun(config(**changes), many)
    assert can_replay(run.config, run.learner, torch.device("cuda")) is replays
    assert not can_replay(run.config, run.learner, torch.device("cpu"))
