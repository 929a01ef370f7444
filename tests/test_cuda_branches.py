"""What the project does on a card, where there is none: on tensors that say they lie on one.

Fake tensors have a device and a shape, no numbers: an operation that the host would have to wait
for is refused, and a mode beside them sees each copy between host and card. What torch cannot do
without a card is its backward pass, autocast and the states of the card's generators: the project's
own backward is called by itself, the rest is replaced and what was asked of it is kept.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from ray.tune.execution.placement_groups import PlacementGroupFactory
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    FakeTensorMode,
    unset_fake_temporarily,
)
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from study.results.studies import Study
from study.run.runner import MAX_FAILURES
from tests.benchmarks import bench_gpu
from tests.benchmarks.bench_gpu import BESIDE, FREE, Page, floor, floor_of_loss
from tests.conftest import PATIENCE, synthetic
from tests.test_resume import SMOKE, start
from trainables import train, trainable, trained
from trainables.config import TrialConfig
from trainables.data import LabelledImages, Split
from trainables.judging import judge_torch
from trainables.learner import Learner
from trainables.losses import ranking
from trainables.losses.kernels import by_block
from trainables.networks import Input, seeded
from trainables.train import TrainingRun, resolve_precision
from trainables.trainable import HINT, RetrievalTrial

PAGE = Path(bench_gpu.__file__).with_name("GPU.md")
WATCHING = Path(train.__file__).parents[1] / "study" / "WATCHING.md"
MEMORY = 80 << 30

# What the fakes cannot do, and say.
pytestmark = [
    pytest.mark.filterwarnings("ignore:CUDA is not available"),
    pytest.mark.filterwarnings("ignore:User provided device_type of 'cuda'"),
    pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor"),
]


class Card:
    """In the place of `torch.cuda`; what was asked of it is in `asked`, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[tuple[str, Any]] = []
        self.share, self.current, self.bfloat16 = 1.0, 0, True
        self.index = torch.cuda._utils._get_device_index  # torch's own law on devices
        for name in (
            *("current_device", "get_device_properties", "get_per_process_memory_fraction"),
            *("set_per_process_memory_fraction", "is_bf16_supported", "manual_seed"),
            *("get_rng_state", "set_rng_state", "device"),
        ):
            monkeypatch.setattr(torch.cuda, name, getattr(self, name))
        monkeypatch.setattr(torch.cuda, "Event", lambda: self)

    def current_device(self) -> int:
        return self.current

    def get_device_properties(self, device: Any) -> SimpleNamespace:
        return SimpleNamespace(total_memory=MEMORY)

    def get_per_process_memory_fraction(self, device: Any = None) -> float:
        self.asked.append(("share of", self.index(0 if device is None else device)))
        return self.share

    def set_per_process_memory_fraction(self, share: float, device: Any = None) -> None:
        assert isinstance(share, float) and 0 < share <= 1  # or torch refuses it
        self.asked.append(("bound", share))

    def is_bf16_supported(self, including_emulation: bool = True) -> bool:
        assert not including_emulation
        return self.bfloat16

    def get_rng_state(self, device: Any = "cuda") -> str:
        self.asked.append(("state", None))
        return "as it was"

    def set_rng_state(self, state: Any, device: Any = "cuda") -> None:
        self.asked.append(("restored", state))

    def manual_seed(self, seed: int) -> None:
        self.asked.append(("seeded", seed))

    def device(self, device: Any) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def record(self) -> None:
        self.asked.append(("recorded", None))

    def synchronize(self) -> None:
        self.asked.append(("waited", None))


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Card:
    return Card(monkeypatch)


class Seen(TorchDispatchMode):
    """What a card does: the kernels that it runs, and the copies to it and from it."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels: list[str] = []
        self.copies: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        parts = [p for p in tree_leaves((args, kwargs, out)) if isinstance(p, Tensor)]
        devices = {part.device.type for part in parts}
        name = str(func)
        if name.startswith(("aten._to_copy", "aten.copy_")) and len(devices) > 1:
            free = (kwargs or {}).get("non_blocking") or True in args[2:]
            self.copies.append("queued" if free else "blocking")
        elif "cuda" in devices and not func.is_view and not name.startswith(FREE):
            self.kernels.append(name)
        return out


@contextlib.contextmanager
def pretending(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Inside, what is moved to a card is a fake there. What is drawn on the host is real."""

    def learner(*arguments: Any) -> Learner:
        with unset_fake_temporarily():
            made = Learner(*arguments)
        made.to = lambda device: moved(made, device)  # type: ignore[method-assign,assignment]
        return made

    drawn = train.draw_order

    def order(labels: Tensor, *others: Any) -> Tensor:
        with unset_fake_temporarily():  # the labels that are given are fakes already
            return drawn(torch.arange(len(labels)) % 4, *others)

    draw = train.Augmentation.draw

    def changes(self: Any, *arguments: Any, **named: Any) -> Any:
        with unset_fake_temporarily():
            return draw(self, *arguments, **named)

    monkeypatch.setattr(train, "Learner", learner)
    monkeypatch.setattr(train, "can_replay", lambda *_: False)  # a fake cannot be replayed
    monkeypatch.setattr(train, "draw_order", order)
    monkeypatch.setattr(train.Augmentation, "draw", changes)
    monkeypatch.setattr(train, "seeded", lambda *_: contextlib.nullcontext())
    monkeypatch.setattr(Tensor, "backward", slopes_of_anything)
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield


def moved(module: nn.Module, device: torch.device) -> nn.Module:
    """`Module.to`, which does not take a fake in the place of what is real."""
    for part in module.modules():
        for name, weight in part._parameters.items():
            if weight is not None:
                part._parameters[name] = nn.Parameter(torch.empty_like(weight, device=device))
        for name, kept in part._buffers.items():
            if kept is not None:
                part._buffers[name] = torch.empty_like(kept, device=device)
    return module


LEARNERS: list[nn.Module] = []


def slopes_of_anything(loss: Tensor) -> None:
    """In the place of `backward`: every weight has a slope."""
    assert loss.device.type == "cuda" and loss.requires_grad
    for weight in LEARNERS[-1].parameters():
        weight.grad = torch.empty_like(weight)


def config(**changes: Any) -> TrialConfig:
    plain = {"loss": "smooth_ap", "optimizer": "adam", "lr": 1e-3, "batch_size": 64, "epochs": 1}
    return TrialConfig(**{**plain, **changes})


def colourful() -> Split:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (256, 3, 16, 16), dtype=np.uint8)
    images = LabelledImages(pixels, np.arange(256) % 4)
    return Split(images, images.take(slice(0, 64)))


def run_on(split: Split, asked: TrialConfig) -> TrainingRun:
    run = TrainingRun(asked, split, "cuda")
    LEARNERS.append(run.learner)
    return run


CHANGED = {"flip": True, "shift": 2, "erase": 3}
STEPS: dict[str, tuple[TrialConfig, bool]] = {
    "smooth_ap": (config(), False),
    "triplet": (config(loss="triplet", loss_args={"reduction": "sum"}), False),
    "recall_at_k": (config(loss="recall_at_k"), False),
    "cross_entropy, adamw": (config(loss="cross_entropy", optimizer="adamw"), False),
    "normalized_softmax, changed": (
        config(loss="normalized_softmax", warmup=0.5, schedule="cosine", **CHANGED),
        False,
    ),
    "taught": (config(teacher="teacher.pt", teacher_weight=3.0), False),
    "coloured, by class": (config(jitter=0.3, flip=True, per_class=16, embedding_dim=8), True),
}


@pytest.mark.parametrize("name", STEPS)
def test_a_step_neither_reads_from_the_card_nor_waits_for_a_copy(
    name: str, card: Card, small_split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it needs of the host, rows, labels and changes, went there when the epoch was drawn:
    from then on the host only puts operations into the card's queue."""
    asked, colour = STEPS[name]
    with pretending(monkeypatch):
        split = colourful() if colour else small_split
        if asked.teacher:
            split = dataclasses.replace(split, targets=np.ones((len(split.train), 5), np.float32))
        run = run_on(split, asked)
        run._train_steps(1)
        with Seen() as seen:
            losses = run._train_steps(4)
        assert losses.shape == (3,) and losses.device.type == "cuda"
        assert run.pixels.device.type == run.val_pixels.device.type == "cuda"
        assert {w.device.type for w in run.learner.parameters()} == {"cuda"}
    assert len(seen.kernels) > 3 * 20
    assert seen.copies == []


def test_a_step_with_averaged_weights_waits_once_for_torch(
    card: Card, small_split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`AveragedModel` counts on the host, and copies the count to the card at each step."""
    with pretending(monkeypatch):
        run = run_on(small_split, config(averaging=0.9))
        run._train_steps(2)
        with Seen() as seen:
            run._train_steps(5)
    assert seen.copies == ["blocking"] * 3


def test_what_the_host_is_told_is_refused(card: Card) -> None:
    """Else nothing above could fail."""
    with FakeTensorMode(), Seen() as seen:
        there = torch.empty(3, device="cuda")
        with pytest.raises(DataDependentOutputException):
            there.sum().item()
        torch.ones(3).to("cuda")
        torch.ones(3).to("cuda", non_blocking=True)
        there.new_tensor([1.0, 2.0])
    assert seen.copies[:2] == ["blocking", "queued"] and "blocking" in seen.copies[2:]


def test_pixels_in_memory_are_gathered_while_the_card_computes(
    card: Card, small_split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copy from the pinned buffer is queued. Before that is written over the host waits for the
    last copy, which lies before the step that the card is at, and for nothing else."""
    card.share = 1e-9
    pinned: list[bool] = []
    empty = torch.empty

    def counted(*shape: Any, pin_memory: bool = False, **named: Any) -> Tensor:
        pinned.append(pin_memory)
        return empty(*shape, **named)

    with pretending(monkeypatch):
        monkeypatch.setattr(torch, "empty", counted)
        run = run_on(small_split, config())
        assert run.pixels.device.type == "cpu"
        run._train_steps(1)
        del card.asked[:]
        with Seen() as seen:
            run._train_steps(4)
    assert seen.copies == ["queued"] * 3
    assert card.asked == [("waited", None), ("recorded", None)] * 3
    assert pinned.count(True) == 1


def test_a_batch_of_pixels_elsewhere_has_a_buffer_of_its_own(
    card: Card, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training pixels may have no room on the card where those of validation have."""
    images, judged = synthetic(640, seed=0), synthetic(200, seed=1)
    card.share = 5 * judged.array.nbytes / MEMORY
    with pretending(monkeypatch):
        monkeypatch.setattr(train.TrainingRun, "_buffer", unpinned(train.TrainingRun._buffer))
        run = run_on(Split(images, judged), config())
        assert (run.pixels.device.type, run.val_pixels.device.type) == ("cpu", "cuda")
        rows = torch.arange(64)
        for _ in range(2):
            for pixels in (run.pixels, run.val_pixels):
                batch = run._batch(pixels, rows.to(pixels.device))
                assert batch.device.type == "cuda" and batch.shape == (64, 1, 28, 28)


def unpinned(buffer: Any) -> Any:
    """Memory cannot be pinned without a card."""

    def without(*arguments: Any, pinned: bool = False) -> Tensor:
        return buffer(*arguments)

    return without


@pytest.mark.parametrize(("device", "number"), [("cuda", 3), ("cuda:1", 1)])
def test_a_quarter_of_a_trials_share_holds_its_pixels(device: str, number: int, card: Card) -> None:
    """torch takes a card's share by the number alone: `cuda` is the current one."""
    images = synthetic(100, seed=0)
    for bytes_of_share, place in ((4.001, "cuda"), (3.999, "cpu")):
        card.share, card.current = bytes_of_share * images.array.nbytes / MEMORY, 3
        with FakeTensorMode(allow_non_fake_inputs=True):
            assert train._resident(images, torch.device(device)).device.type == place
    assert card.asked == [("share of", number)] * 2


def test_auto_is_bfloat16_where_a_card_has_it(card: Card) -> None:
    assert resolve_precision("auto", torch.device("cuda")) == "bfloat16"
    card.bfloat16 = False
    assert resolve_precision("auto", torch.device("cuda")) == "float32"


def test_float32_is_that_on_a_card(
    card: Card, small_split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the same numbers come again."""
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", False)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    with pretending(monkeypatch):
        run_on(small_split, config())
    assert torch.backends.cudnn.deterministic and not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32


@pytest.mark.parametrize("fails", [False, True])
def test_a_cards_generator_is_seeded_and_restored(fails: bool, card: Card) -> None:
    """By the same draw as the host's. Its state lies on the host: neither waits for the card."""
    generator = torch.Generator().manual_seed(5)
    draw = int(torch.randint(2**63 - 1, (), generator=torch.Generator().manual_seed(5)))
    before = torch.get_rng_state()
    with contextlib.suppress(KeyError), seeded(generator, "cuda"):
        assert torch.initial_seed() == draw
        if fails:
            raise KeyError
    assert card.asked == [("state", None), ("seeded", draw), ("restored", "as it was")]
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", ["smooth_ap", "recall_at_k", "triplet"])
@pytest.mark.parametrize("anchors", [12, 4])
def test_a_ranking_loss_reads_no_value_backward_either(name: str, anchors: int) -> None:
    """Its slopes are there from the forward pass: what is left is three products."""
    arguments: dict[str, Any] = {
        "smooth_ap": {"tau": 0.1, "seed": False},
        "recall_at_k": {"tau": 0.1, "ks": (1, 4), "tau_k": 1.0},
        "triplet": {"margin": 0.1, "mean": True},
    }
    with FakeTensorMode(), torch.no_grad(), Seen() as seen:
        rows = torch.empty(12, 5, device="cuda")
        labels = torch.empty(12, dtype=torch.long, device="cuda")
        distances = torch.empty(anchors, 12, device="cuda")
        _, slopes = getattr(by_block, name)(distances, labels, **arguments[name])
        context = SimpleNamespace(saved_tensors=(rows, slopes))
        slope = torch.empty((), device="cuda")
        mine, *others = ranking._RankingLoss.backward(context, slope)
    assert mine.shape == rows.shape and mine.device.type == "cuda"
    assert others == [None] * 3
    assert seen.copies == []


def test_judging_on_a_card_copies_labels_there_and_reads_no_value() -> None:
    """Two copies a chunk, of 8 bytes an image; the results stay there until the last chunk."""
    with FakeTensorMode(), Seen() as seen:
        distances = torch.empty(6, 50, device="cuda")
        labels = torch.empty(56, dtype=torch.long)
        judged = judge_torch(distances, labels[:6], labels[6:])
    assert {part.device.type for part in judged} == {"cuda"}
    assert [tuple(part.shape) for part in judged] == [(6,)] * 4 + [(6, 101)]
    assert seen.copies == ["blocking"] * 2


def test_pixels_are_scaled_by_channel_on_a_card() -> None:
    wants = Input(3, 4, 4, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    with FakeTensorMode():
        scaled = wants.scale(torch.empty(2, 1, 4, 4, dtype=torch.uint8, device="cuda"))
    assert scaled.shape == (2, 3, 4, 4) and scaled.device.type == "cuda"


class Network:
    """In the place of one: says where it was moved, and gives ones for pictures that are there."""

    input = Input(1, 28, 28, mean=(0.5,), std=(0.5,))

    def __init__(self) -> None:
        self.moved: list[str] = []

    def eval(self) -> Network:
        return self

    def to(self, device: str) -> Network:
        self.moved.append(device)
        return self

    def __call__(self, pictures: Tensor) -> Tensor:
        assert pictures.device.type == self.moved[-1]
        return pictures.new_ones(len(pictures), 4)


@pytest.mark.parametrize("there", [False, True])
def test_pictures_are_embedded_on_a_card_if_there_is_one(
    there: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    network: Any = Network()
    with FakeTensorMode(allow_non_fake_inputs=True):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
        found = trained._features(network, torch.zeros(5, 1, 30, 30, dtype=torch.uint8))
    assert network.moved == ["cuda" if there else "cpu"]
    assert found.device.type == "cpu" and found.shape == (5, 4)


class Asked(RetrievalTrial):
    """The adapter without Ray's own set-up; `resources` are what Ray gave it."""

    def __init__(self, asked: TrialConfig, resources: dict[str, float] | None) -> None:
        self.resources = resources
        self.split = self._trial_info = None  # type: ignore[assignment]
        self.reset_config({**asked.to_dict(), "trial_id": "smooth_ap-000", "checkpoint": None})

    @property
    def trial_resources(self) -> PlacementGroupFactory | None:
        return None if self.resources is None else PlacementGroupFactory([self.resources])


@pytest.mark.parametrize(
    ("there", "given", "resources", "expected"),
    [
        (True, [0], {"CPU": 1.0, "GPU": 0.25}, [("bound", 0.25), ("made on", "cuda")]),
        (True, [0, 1], {"CPU": 1.0, "GPU": 2.0}, [("bound", 1.0), ("made on", "cuda")]),
        (True, [0], None, [("bound", 1.0), ("made on", "cuda")]),
        (True, [], {"CPU": 1.0}, [("made on", "cpu")]),
        (False, [0], {"CPU": 1.0, "GPU": 1.0}, [("made on", "cpu")]),
    ],
)
def test_a_trial_is_bounded_to_its_share_before_it_takes_any(
    there: bool,
    given: list[int],
    resources: dict[str, float] | None,
    expected: list[tuple[str, Any]],
    card: Card,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A trial that was given no card takes none, though its process may see one."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    monkeypatch.setattr("ray.get_gpu_ids", lambda: given)
    monkeypatch.setattr(
        trainable, "TrainingRun", lambda *arguments: card.asked.append(("made on", arguments[2]))
    )
    assert Asked(config(), resources).training is None
    assert card.asked == expected


# As torch says it, cut where a process's numbers follow.
FULL = (
    "CUDA out of memory. Tried to allocate 19.14 GiB. GPU 0 has a total capacity of 79.19 GiB of "
    "which 1.02 GiB is free.\nIf reserved but unallocated memory is large try setting ..."
)


@pytest.mark.parametrize("where", ["made", "trained", "judged"])
def test_a_card_without_room_is_one_line_with_what_helps(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> Any:
        raise torch.OutOfMemoryError(FULL)

    judged = where == "judged"
    run = SimpleNamespace(epoch=0, config=config(), train_epoch=full, is_judging=judged)
    monkeypatch.setattr(trainable, "TrainingRun", full if where == "made" else lambda *_: run)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    had = f"with batch_size 64, 0.25 of a card: take {HINT}"
    if judged:  # which takes the same of any batch
        had = "while it was judged, with 0.25 of a card: take a larger --gpus-per-trial"
    expected = f"CUDA out of memory. Tried to allocate 19.14 GiB, {had}"
    with pytest.raises(RuntimeError, match=f"^{re.escape(expected)}$"):
        Asked(config(), {"CPU": 1.0, "GPU": 0.25}).step()


def test_a_run_knows_whether_it_is_judged(
    small_split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = TrainingRun(config(), small_split)
    asked: list[bool] = []
    steps, judge = run._train_steps, run._validate
    monkeypatch.setattr(run, "_train_steps", lambda n: (asked.append(run.is_judging), steps(n))[1])
    monkeypatch.setattr(run, "_validate", lambda: (asked.append(run.is_judging), judge())[1])
    run.train_until(0.1)
    run.train_until(0.2)
    assert asked == [False, True] * 2


NO_ROOM = f"""
import sys
import torch
from study import tune_smoothap
from study.run import runner
from trainables.train import TrainingRun
from trainables.trainable import RetrievalTrial

class Full(TrainingRun):
    def train_epoch(self):
        raise torch.OutOfMemoryError({FULL!r})

class Trial(RetrievalTrial):
    def step(self):
        if self.trial == "smooth_ap-001":
            from trainables import trainable
            trainable.TrainingRun = Full
        return super().step()

runner.RetrievalTrial = Trial
"""


def test_a_trial_without_room_is_failed_with_its_cause_and_the_study_goes_on(
    tmp_path: Path,
) -> None:
    process = start(
        *(*SMOKE, "--num-samples", "3", "--max-epochs", "1"),
        *("--name", "s", "--storage-path", str(tmp_path)),
        code=NO_ROOM,
    )
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, output
    study = Study.load(tmp_path / "s")
    assert study.info["status"] == "finished"
    status = {trial.trial_id: trial.status for trial in study.trials}
    assert status.pop("smooth_ap-001") == "failed"
    assert status and "failed" not in status.values()
    (cause,) = (trial.cause for trial in study.trials if trial.trial_id == "smooth_ap-001")
    assert cause.startswith("RuntimeError: CUDA out of memory. Tried to allocate 19.14 GiB, with")
    assert cause.endswith(f"take {HINT}")
    assert cause in output


def test_the_page_on_watching_has_the_hint() -> None:
    text = " ".join(WATCHING.read_text(encoding="utf-8").split())
    assert f"Tried to allocate 19.14 GiB, with batch_size 64, 0.25 of a card: take {HINT}`" in text
    assert "three times in all" in text and MAX_FAILURES == 2


# The benchmark, and its page's numbers.


def test_the_whole_benchmark_runs_in_small(tmp_path: Path) -> None:
    """Without Ray, which no machine with a card need have."""
    page = tmp_path / "page.md"
    code = (
        "import sys; sys.modules['ray'] = None\n"
        "from tests.benchmarks.bench_gpu import main\n"
        f"sys.exit(main(['--device', 'cpu', '--tiny', '--output', {str(page)!r}]))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        cwd=Path(train.__file__).parents[1],
    )
    assert done.returncode == 0, done.stdout + done.stderr
    text = page.read_text(encoding="utf-8")
    assert text == done.stdout
    for part in bench_gpu.PARTS:
        rows = table(text, part.title)
        assert len(rows) >= 2 and {len(row) for row in rows} == {len(part.columns)}
    assert text.count("bar: ") == 2 and "Smooth-AP of 4096 rows: not measured" in text
    (first, second) = ({row[4] for row in table(text, "mAP") if row[0] == n} for n in ("60", "120"))
    assert len(first) == len(second) == 1  # all methods measure the same


def test_a_part_that_fails_takes_no_other_with_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def one(*_: Any) -> Iterator[bench_gpu.Row]:
        yield "a", 1
        raise RuntimeError("no\nroom")

    def other(*_: Any) -> Iterator[bench_gpu.Row]:
        yield "b", 2

    parts = tuple(bench_gpu.Part(each.__name__, ("x", "y"), 0.5, each) for each in (one, other))
    monkeypatch.setattr(bench_gpu, "PARTS", parts)
    assert bench_gpu.bench(Page(None), bench_gpu.TINY, "cpu", 1.0) == 1
    text = capsys.readouterr().out
    assert table(text, "one") == [["a", "1"]] and table(text, "other") == [["b", "2"]]
    assert "**failed**: RuntimeError: no room" in text


def test_no_time_is_said_and_nothing_is_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    over = bench_gpu.Clock(-1.0)
    monkeypatch.setattr(bench_gpu, "at_once", None)  # would fail if called
    rows = list(bench_gpu.trials_part(bench_gpu.TINY, "cpu", over))
    assert [row[1] for row in rows] == ["no time left"] * 2
    calls: list[int] = []
    assert len(over.repeat(lambda: calls.append(1), 5, "cpu")) == 1
    assert len(calls) == 2  # one warms up, one is measured


def test_bars_are_met_from_their_number_on() -> None:
    plain = [("smooth_ap, batch 64: project, float32", "1", "1", "9.99")]
    beside = ("smooth_ap, batch 64: plain loop", "1", "1", "99")  # which is no project's
    assert "bar: 10: missed" in bench_gpu.of_plain([beside, *plain])
    assert "bar: 10: missed" in bench_gpu.of_plain(plain)
    plain.append(("smooth_ap, batch 64: project, bfloat16", "1", "1", "10.00"))
    assert "bar: 10: met" in bench_gpu.of_plain(plain)
    for taken, said in (("49.99", "met"), ("50.00", "missed"), ("no time left", "not measured")):
        assert said in bench_gpu.of_loss([(4_096, "ours", taken, ""), (4_096, "PML", "1", "")])
    assert "met" in bench_gpu.of_trials([(1, "2", "1.00", "2"), (4, "10", "5.00", "2")])


def table(text: str, title: str) -> list[list[str]]:
    """The rows below a heading that begins so."""
    part = text.split(f"\n## {title}")[1].split("\n## ")[0]
    lines = [line for line in part.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]


def test_the_page_says_what_is_worked_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench_gpu.main(["--floor", "--tiny"]) == 0
    printed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len(printed) >= 20
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    assert [line for line in printed if line not in lines] == []


def test_what_the_page_says_of_its_tables_is_theirs() -> None:
    text = PAGE.read_text(encoding="utf-8")
    said = " ".join(text.split())
    step = {row[0]: row for row in table(text, "A step")}["smooth_ap, 64"]
    launches, moving, least, usual, graph = (int(step[i]) for i in (3, 5, 6, 7, 8))
    assert f"works for {moving} µs of the {least} to {usual} that the host needs" in said
    gains = f"{least / graph:.1f} to {usual / graph:.1f}"
    assert f"from {least} to {usual} µs to about {graph}, {gains} times as fast" in said
    assert f"of which a step has {launches}: {launches * 2e-3:.1f} ms of the card" in said
    assert f"{least // moving} to {usual // moving} fill it" in said
    largest = {row[0]: row for row in table(text, "Smooth-AP\n")}["4096"]
    moved, milliseconds, fused = float(largest[1]), float(largest[3]), float(largest[5])
    assert f"{moved / 1e3:.2f} TB are moved, {milliseconds:.0f} ms at the least" in said
    assert milliseconds > bench_gpu.MILLISECONDS > fused
    assert f"and {largest[2]} launches take as long again" in said
    assert f"one fused kernel (Triton): {fused:.1f} ms of special functions" in said
    memory = {row[-1] for row in table(text, "Memory of a trial")}
    assert memory == {"63"} and "would let 63 share a card" in said
    chunk = bench_gpu.floor_of_judging(60_000)
    seconds = chunk.bytes / bench_gpu.H100["bytes"]
    assert f"read and write {chunk.bytes / 1e9:.1f} GB, {seconds * 1e3:.1f} ms at the least" in said
    assert (
        f"in {chunk.launches} launches; 60,000 x 60,000 are 215 chunks, {215 * seconds:.2f} s"
        in said
    )


def test_what_was_measured_says_what_its_tables_do() -> None:
    rows = table(PAGE.read_text(encoding="utf-8"), "Measured")
    steps = {row[0]: [float(cell) for cell in row[1:]] for row in rows if "batch" in row[0]}
    assert len(steps) == 4
    for plain, single, half, _, times in steps.values():
        assert times == pytest.approx(plain / min(single, half), abs=0.1)
    _, _, half, one_by_one, times = steps["Smooth-AP, batch 64"]
    assert times > bench_gpu.TIMES_PLAIN  # "is met"
    watching = " ".join(WATCHING.read_text(encoding="utf-8").split())
    said = f"{half:.1f} ms at batch 64 where launching its operations one by one takes "
    assert f"{said}{one_by_one:.1f}" in watching
    alone = {row[0]: row for row in rows if row[0].isdigit()}
    quicker = {n for n, row in alone.items() if row[2] and float(row[2]) < float(row[1])}
    assert quicker == {"256"}  # "up to 256 rows the dense tensors are quicker"
    assert float(alone["4096"][1]) > bench_gpu.MILLISECONDS  # "is missed"


def test_the_largest_row_is_what_the_others_say_it_is() -> None:
    """It takes a minute to work out; its work grows with the cube, within 5 %."""
    text = PAGE.read_text(encoding="utf-8")
    rows = {int(row[0]): row for row in table(text, "Smooth-AP\n")}
    assert float(rows[4_096][1]) == pytest.approx(64 * float(rows[1_024][1]), rel=0.05)
    gigabytes, milliseconds = float(rows[4_096][1]), float(rows[4_096][3])
    assert milliseconds == pytest.approx(gigabytes / 3.35, rel=0.01)
    assert float(rows[4_096][4]) == pytest.approx(64 * float(rows[1_024][4]), rel=0.01)


def test_operations_are_those_of_three_convolutions_and_the_loss() -> None:
    """A multiply-add is two; the first convolution has no slopes by the picture."""
    first, second, third = 28**2 * 9 * 32, 14**2 * 9 * 32 * 32, 7**2 * 9 * 32 * 64
    pooled, logits = 4 * 7**2 * 64, 256 * 10
    image = 2 * (2 * first + 3 * (second + third) + 2 * pooled + 3 * logits)
    assert floor("cross_entropy", 64).flops == 64 * image
    ranked = 2 * 64 * 64 * 256 * 3  # distances, and both products backward
    found = floor("smooth_ap", 64).flops
    assert found == 64 * (image - 6 * logits) + ranked


def test_the_plain_loop_launches_as_much_as_the_page_says() -> None:
    loop = bench_gpu.PlainLoop(
        Split(bench_gpu.noise(128), bench_gpu.noise(8)), "smooth_ap", 64, "cpu"
    )
    loop.step()
    with bench_gpu.Meter() as meter:
        loop.step()
    assert meter.launches == pytest.approx(610, abs=25)
    assert "about 610" in " ".join(PAGE.read_text(encoding="utf-8").split())


def test_bytes_of_a_loss_are_at_least_those_of_its_pairs() -> None:
    """Two lists of all rows for each row of a row's list, in float32: made, and made again."""
    rows = 256
    assert floor_of_loss(rows).bytes > 2 * 2 * 4 * rows**3


def test_a_step_launches_what_the_page_counts(
    card: Card, small_split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forward and what is beside it, counted on the way that a card goes. Two more are none of a
    step's: losses are stacked at the end, and without numbers features are taken for the input,
    and copied."""
    with pretending(monkeypatch):
        run = run_on(small_split, config())
        run._train_steps(1)
        with Seen() as seen:
            run._train_steps(2)
    assert len(seen.kernels) - floor_forward() == BESIDE + 2


def floor_forward() -> int:
    """Launches of the forward pass alone."""
    learner = Learner(config(), bench_gpu.network_of(config(), channels=1, size=(28, 28)), 10).to(
        "meta"
    )
    images = torch.empty(64, 1, 28, 28, device="meta")
    labels = torch.empty(64, dtype=torch.long, device="meta")
    with bench_gpu.without_numbers(64), bench_gpu.Meter() as meter:
        learner(learner.network(images), labels)
    return meter.launches
