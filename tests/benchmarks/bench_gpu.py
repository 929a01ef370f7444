"""What a card makes of the project, beside plain torch and its peers, as one Markdown page.

    python tests/benchmarks/bench_gpu.py [--output page.md]         # under ten minutes on one card
    python tests/benchmarks/bench_gpu.py --device cpu --tiny        # all of it in small: for tests
    python tests/benchmarks/bench_gpu.py --floor                    # the tables of GPU.md: no card

Needs neither Ray nor data: pixels are noise, of which speed does not depend. Each part has a share
of `--seconds` and starts nothing that it does not expect to end in it; each figure is printed, and
written to the page, as soon as it is known. Peers that are not installed are left out.

*Step*: the seed study's network. The plain loop is a DataLoader, ReLU before pooling, a Python loop
over the first ten anchors, autograd and unfused Adam on the same device; the project takes all
anchors, and replays its steps but for *one by one*, where it launches each operation by itself.
*Smooth-AP*: forward and backward of 256-d unit embeddings of 10 classes, tau 0.02. *mAP*: 256-d,
10 classes, every row a query. *Trials at once*: as many processes, each bounded to its share of the
card's memory, as the study's trials are. *Pictures*: 256 x 256 in a mapped file, random crops of
224, mirrored; a wait is what a step takes longer than one whose batch is there already.
"""

from __future__ import annotations

import contextlib
import importlib.util
import multiprocessing
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests import oracles
from tests.benchmarks import bench_metrics
from tests.benchmarks.bench_losses import TAU, embeddings, peers
from trainables import train
from trainables.config import TrialConfig
from trainables.data import LabelledImages, Split
from trainables.judging import judge_torch
from trainables.learner import Learner, network_of
from trainables.losses import smooth_ap_loss
from trainables.losses.kernels import by_block
from trainables.retrieval import CHUNK_ELEMENTS
from trainables.terminal import Parser
from trainables.train import TrainingRun

CLASSES, ANCHORS, EPOCHS = 10, 10, 1_000
#: The bars: times the plain loop at batch 64, milliseconds of so many rows, times one trial.
TIMES_PLAIN, MILLISECONDS, BAR_ROWS, TIMES_ONE = 10.0, 50.0, 4_096, 5.0
H100 = {"bytes": 3.35e12, "float32": 67e12, "bfloat16": 989e12}  # a second, of the SXM card
MIB, GIB = 1 << 20, 1 << 30
Row = tuple[object, ...]


class Sizes(NamedTuple):
    """How much is measured."""

    images: int = 54_000
    judged: int = 6_000
    batches: tuple[int, ...] = (64, 256)
    steps: int = 100
    rounds: int = 5
    rows: tuple[int, ...] = (256, 512, 1_024, 2_048, 4_096)
    galleries: tuple[int, ...] = (10_000, 60_000)
    trials: tuple[int, ...] = (1, 4, 8, 16)
    trial_seconds: float = 8.0
    pictures: int = 2_048
    side: int = 256
    crop: int = 224
    network: str = "torchvision:resnet50"
    picture_batch: int = 128


TINY = Sizes(
    images=192,
    judged=60,
    batches=(64,),
    steps=2,
    rounds=1,
    rows=(20, 40),
    galleries=(60, 120),
    trials=(1, 2),
    trial_seconds=0.2,
    pictures=16,
    side=40,
    crop=32,
    network="torchvision:resnet18",
    picture_batch=4,
)


class Page:
    """Lines for the terminal and, if there is one, the file; what is written is not lost."""

    def __init__(self, path: Path | None) -> None:
        self.file = None if path is None else path.open("w", encoding="utf-8")

    def line(self, text: str = "") -> None:
        for stream in filter(None, (sys.stdout, self.file)):
            print(text, file=stream, flush=True)

    def row(self, cells: Row) -> None:
        self.line(f"| {' | '.join(str(cell) for cell in cells)} |")

    def head(self, title: str, *columns: str) -> None:
        self.line(f"\n## {title}\n")
        self.row(columns)
        self.line(f"|---|{'--:|' * (len(columns) - 1)}")


class Clock:
    """When a part must have ended."""

    def __init__(self, seconds: float) -> None:
        self.end = time.perf_counter() + seconds

    @property
    def left(self) -> float:
        return self.end - time.perf_counter()

    def repeat(self, call: Callable[[], object], rounds: int, device: str) -> list[float]:
        """Seconds of each of up to so many calls after one that warms up: fewer if time ends."""
        call()
        times: list[float] = []
        while len(times) < rounds and (not times or self.left > times[-1]):
            wait(device)
            start = time.perf_counter()
            call()
            wait(device)
            times.append(time.perf_counter() - start)
        return times


def wait(device: str) -> None:
    """Until the card has done what it was told to."""
    if device != "cpu":
        torch.cuda.synchronize()


def noise(images: int, channels: int = 1, side: int = 28, seed: int = 0) -> LabelledImages:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (images, channels, side, side), dtype=np.uint8)
    return LabelledImages(pixels, rng.permutation(np.arange(images) % CLASSES))


def small_images(sizes: Sizes) -> Split:
    return Split(noise(sizes.images), noise(sizes.judged, seed=1))


def trial(loss: str, batch: int, precision: str = "float32") -> TrialConfig:
    """The seed study's network, for more epochs than are ever trained."""
    config = TrialConfig(loss=loss, optimizer="adam", lr=1e-4, batch_size=batch, epochs=EPOCHS)
    return config.replace(precision=precision)


def steps_of(run: TrainingRun, steps: int) -> None:
    run._train_steps(run.step + steps)


# The plain loop.


class PlainLoop:
    """As one writes it down, on a device."""

    def __init__(self, split: Split, loss: str, batch: int, device: str) -> None:
        torch.manual_seed(0)
        self.loss, self.device = loss, device
        layers = (
            *(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()),
        )
        self.network = nn.Sequential(*layers).to(device)
        self.classifier = nn.Linear(256, CLASSES).to(device)
        weights = [*self.network.parameters(), *self.classifier.parameters()]
        self.optimizer = torch.optim.Adam(weights, lr=1e-4, foreach=False)
        images, labels = map(torch.from_numpy, (split.train.images, split.train.labels))
        data = TensorDataset(images / 127.5 - 1, labels)
        self.loader = DataLoader(data, batch, shuffle=True, drop_last=True)
        self.batches = iter(self.loader)

    def steps(self, count: int) -> None:
        for _ in range(count):
            self.step()

    def step(self) -> float:
        batch = next(self.batches, None)
        if batch is None:
            self.batches = iter(self.loader)
            batch = next(self.batches)
        images, labels = (part.to(self.device) for part in batch)
        loss = self._loss(self.network(images), labels)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def _loss(self, features: Tensor, labels: Tensor) -> Tensor:
        if self.loss == "cross_entropy":
            return nn.functional.cross_entropy(self.classifier(features), labels)
        rows = nn.functional.normalize(features)
        losses = [self._of_anchor(rows, labels, anchor) for anchor in range(ANCHORS)]
        return torch.stack([loss for loss in losses if loss is not None]).mean()

    def _of_anchor(self, rows: Tensor, labels: Tensor, anchor: int) -> Tensor | None:
        distances = 2 - 2 * rows @ rows[anchor]
        positive = labels == labels[anchor]
        positive[anchor] = False
        near, far = distances[positive], distances[labels != labels[anchor]]
        if len(near) == 0 or len(far) == 0:
            return None
        closer = torch.sigmoid((near[:, None] - near) / TAU).sum(1) - 0.5
        wrong = torch.sigmoid((near[:, None] - far) / TAU).sum(1)
        return (wrong / (1 + closer + wrong)).mean()


# The parts: each yields rows, and returns what its bar is held to, if it has one.


def step_part(sizes: Sizes, device: str, clock: Clock) -> Iterator[Row]:
    split = small_images(sizes)
    for batch in sizes.batches:
        for loss in ("smooth_ap", "cross_entropy"):
            plain = PlainLoop(split, loss, batch, device)
            runs = {
                precision: TrainingRun(trial(loss, batch, precision), split, device)
                for precision in ("float32", "bfloat16")
            }
            single = TrainingRun(trial(loss, batch), split, device)
            if single.replays:
                single.replays, runs["float32, one by one"] = False, single
            calls: dict[str, Callable[[int], object]] = {"plain loop": plain.steps}
            for precision, run in runs.items():
                calls[f"project, {precision}"] = partial(steps_of, run)
            first = None
            for name, call in calls.items():
                rounds = clock.repeat(partial(call, sizes.steps), sizes.rounds, device)
                taken = statistics.median(rounds) / sizes.steps
                first = first or taken
                rates = f"{batch / taken:.0f}", f"{first / taken:.2f}"
                yield f"{loss}, batch {batch}: {name}", f"{taken * 1e3:.3f}", *rates


def epoch_part(sizes: Sizes, device: str, clock: Clock) -> Iterator[Row]:
    split, batch = small_images(sizes), sizes.batches[0]
    plain = PlainLoop(split, "smooth_ap", batch, device)
    (taken,) = clock.repeat(partial(plain.steps, sizes.images // batch), 1, device)
    yield "plain loop, without judging", f"{taken:.2f}", "", f"{sizes.images / taken:.0f}"
    for precision in ("float32", "bfloat16"):
        run = TrainingRun(trial("smooth_ap", batch, precision), split, device)
        run.train_epoch()
        epoch = run.train_epoch()
        trained = epoch.seconds - epoch.evaluation_seconds
        cells = f"{trained:.2f}", f"{epoch.evaluation_seconds:.2f}"
        yield f"project, {precision}", *cells, f"{epoch.images_per_second:.0f}"


def loss_part(sizes: Sizes, device: str, clock: Clock) -> Iterator[Row]:
    peer, _ = peers()
    calls = {
        "ours": (partial(smooth_ap_loss, tau=TAU), 0),
        "dense": (partial(oracles.dense_smooth_ap, tau=TAU), 24),
        "PML": (peer, 36),  # bytes a triple, as measured
    }
    before = dict.fromkeys(calls, 0.0)
    for count in sizes.rows:
        for name, (loss, each) in calls.items():
            if loss is None:
                continue
            if each * count**3 > 0.8 * room(device):
                yield count, name, f"needs {each * count**3 / GIB:.0f} GiB", ""
            elif 20 * before[name] > clock.left:  # twice the rows, eight times the work, twice
                yield count, name, "no time left", ""
            else:
                rows, labels = (part.detach().to(device) for part in embeddings(count, "random"))
                call = partial(backward, loss, rows.requires_grad_(), labels, device)
                forget(device)
                before[name] = statistics.median(clock.repeat(call, sizes.rounds, device))
                yield count, name, f"{before[name] * 1e3:.2f}", f"{peak(device):.0f}"


def backward(loss: Callable[..., Tensor], rows: Tensor, labels: Tensor, device: str) -> None:
    rows.grad = None
    with torch.device(device):  # what a peer makes without saying where
        loss(rows, labels).backward()


def map_part(sizes: Sizes, device: str, clock: Clock) -> Iterator[Row]:
    before = dict.fromkeys(bench_metrics.METHODS, 0.0)
    left_out = {"pytorch-metric-learning"}  # needs faiss for cards, and ranks on the CPU without
    for count in sizes.galleries:
        problem = [part.to(device) for part in bench_metrics.problem(count, count)]
        for name, (method, module) in bench_metrics.METHODS.items():
            if name in left_out or importlib.util.find_spec(module) is None:
                continue
            # RetrievalMAP keeps score, target and query of every pair, and copies them to sort.
            needs = 50 * count**2 if name == "torchmetrics RetrievalMAP" else 0
            if needs > 0.8 * room(device):
                yield count, name, f"needs {needs / GIB:.0f} GiB", "", ""
            elif 80 * before[name] > clock.left:
                yield count, name, "no time left", "", ""
            else:
                forget(device)
                found: list[float] = []
                call = partial(ranked, method, problem, device, found)
                before[name] = statistics.median(clock.repeat(call, 1, device))
                cells = f"{before[name]:.3f}", f"{peak(device):.0f}"
                yield count, name, *cells, f"{found[-1]:.6f}"


def ranked(method: Callable[..., float], problem: list[Tensor], device: str, found: list) -> None:
    with torch.device(device):
        found.append(method(*problem))


def trials_part(sizes: Sizes, device: str, clock: Clock) -> Iterator[Row]:
    one = None
    for count in sizes.trials:
        if clock.left < sizes.trial_seconds + 5:
            yield count, "no time left", "", ""
            continue
        rates = at_once(count, sizes, device, clock.left)
        if len(rates) < count:
            yield count, f"{count - len(rates)} did not end", "", ""
            continue
        one = one or sum(rates)
        yield count, f"{sum(rates):.0f}", f"{sum(rates) / one:.2f}", f"{min(rates):.0f}"


def at_once(count: int, sizes: Sizes, device: str, seconds: float) -> list[float]:
    """Images/s of each of so many trials that train at the same time, a process each."""
    context = multiprocessing.get_context("spawn")  # a card is not shared across a fork
    answers, ready = context.Queue(), context.Barrier(count)
    arguments = (sizes, device, count, ready, answers)
    trials = [context.Process(target=one_trial, args=(*arguments, i)) for i in range(count)]
    for process in trials:
        process.start()
    end, rates = time.perf_counter() + seconds, []
    while len(rates) < count and time.perf_counter() < end:
        if not answers.empty():
            rates.append(answers.get())
        elif any(process.exitcode for process in trials):  # the others would wait for it
            break
        else:
            time.sleep(0.02)
    for process in trials:
        process.join(max(0.1, end - time.perf_counter()) if len(rates) == count else 0.1)
        if process.is_alive():
            process.kill()
            process.join()
    return rates


def one_trial(sizes: Sizes, device: str, count: int, ready: Any, answers: Any, number: int) -> None:
    """Trains for so many seconds once all are ready; tells how many images a second."""
    torch.set_num_threads(1)
    if device != "cpu":
        torch.cuda.set_per_process_memory_fraction(1 / count)
    config = trial("smooth_ap", sizes.batches[0], "auto").replace(seed=number)
    run = TrainingRun(config, small_images(sizes), device)
    steps_of(run, sizes.steps)
    wait(device)
    ready.wait()
    start, first = time.perf_counter(), run.step
    while time.perf_counter() - start < sizes.trial_seconds:
        steps_of(run, 10)
        wait(device)  # or the queue of the card would be what is counted
    images = (run.step - first) * config.batch_size
    answers.put(images / (time.perf_counter() - start))


def pictures_part(sizes: Sizes, device: str, clock: Clock) -> Iterator[Row]:
    before = train.RESIDENT_SHARE
    with tempfile.TemporaryDirectory() as folder:
        split = mapped_pictures(Path(folder) / "pixels.npy", sizes)
        for place, share in (("in the mapped file", 0.0), ("on the device", 1.0)):
            train.RESIDENT_SHARE = share
            try:
                run = TrainingRun(picture_trial(sizes), split, device)
            finally:
                train.RESIDENT_SHARE = before
            steps = max(2, sizes.steps // 10)
            whole = statistics.median(clock.repeat(partial(steps_of, run, steps), 3, device))
            there = statistics.median(clock.repeat(partial(without_data, run, steps), 3, device))
            images = steps * sizes.picture_batch
            waits = f"{max(0.0, 1 - there / whole):.0%}"
            yield place, f"{images / whole:.0f}", f"{images / there:.0f}", waits


def picture_trial(sizes: Sizes) -> TrialConfig:
    return TrialConfig(
        loss="smooth_ap",
        optimizer="adam",
        lr=1e-4,
        epochs=EPOCHS,
        batch_size=sizes.picture_batch,
        network=sizes.network,
        weights="none",
        embedding_dim=512,
        image_size=sizes.crop,
        crop=0.16,
        flip=True,
    )


def mapped_pictures(path: Path, sizes: Sizes) -> Split:
    images = noise(sizes.pictures, 3, sizes.side)
    np.save(path, images.array)
    pixels = np.load(path, mmap_mode="r")
    whole = LabelledImages(pixels, images.labels)
    return Split(whole, whole.take(slice(0, sizes.pictures // 2)))


def without_data(run: TrainingRun, steps: int) -> None:
    """The same steps on one batch that lies on the device, scaled to its size already."""
    shape = (run.config.batch_size, *run.shape)
    batch = torch.zeros(shape, dtype=torch.uint8, device=run.device)
    change, train.change = train.change, lambda images, _: images
    run._batch = lambda *_: batch  # type: ignore[method-assign]
    try:
        steps_of(run, steps)
    finally:
        train.change = change
        del run._batch


def room(device: str) -> float:
    """Bytes of the device."""
    if device == "cpu":
        return 4 * GIB
    return float(torch.cuda.get_device_properties(device).total_memory)


def forget(device: str) -> None:
    if device != "cpu":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak(device: str) -> float:
    """MiB that tensors have taken on the card at most; NaN on a CPU."""
    return float("nan") if device == "cpu" else torch.cuda.max_memory_allocated() / MIB


class Part(NamedTuple):
    """What is measured, in which share of the time, and the bar that it is held to, if any."""

    title: str
    columns: tuple[str, ...]
    share: float
    measure: Callable[[Sizes, str, Clock], Iterator[Row]]
    bar: Callable[[list[Row]], str] | None = None


def of_plain(rows: list[Row]) -> str:
    """The better precision at batch 64."""
    mine = [
        float(str(row[3])) for row in rows if str(row[0]).startswith("smooth_ap, batch 64: project")
    ]
    return verdict(max(mine), TIMES_PLAIN, "times the plain loop at batch 64")


def of_loss(rows: list[Row]) -> str:
    mine = [row for row in rows if row[1] == "ours"]
    rows, taken = mine[-1][0], str(mine[-1][2])
    if rows != BAR_ROWS or not taken[0].isdigit():
        return f"Smooth-AP of {BAR_ROWS} rows: not measured"
    met = "met" if float(taken) < MILLISECONDS else "missed"
    return f"Smooth-AP of {rows} rows in {taken} ms; bar: under {MILLISECONDS:g} ms: {met}"


def of_trials(rows: list[Row]) -> str:
    ratios = [float(str(row[2])) for row in rows if row[2]]
    if not ratios:
        return "trials at once: not measured"
    return verdict(max(ratios), TIMES_ONE, "times one trial's images/s")


def verdict(found: float, bar: float, what: str) -> str:
    return f"{found:.2f} {what}; bar: {bar:g}: {'met' if found >= bar else 'missed'}"


PARTS = (
    Part(
        "Step", ("network of the seed", "ms", "images/s", "times plain"), 0.2, step_part, of_plain
    ),
    Part(
        "Epoch, batch 64", ("Smooth-AP", "training, s", "judging, s", "images/s"), 0.1, epoch_part
    ),
    Part("Smooth-AP", ("rows", "loss", "ms", "peak MiB"), 0.15, loss_part, of_loss),
    Part("mAP", ("queries = gallery", "method", "s", "peak MiB", "mAP"), 0.15, map_part),
    Part(
        "Trials at once",
        ("trials", "images/s", "times one", "slowest"),
        0.25,
        trials_part,
        of_trials,
    ),
    Part(
        "Pictures",
        ("pixels", "images/s", "images/s, batch there already", "waits for data"),
        0.15,
        pictures_part,
    ),
)


def measure(page: Page, part: Part, sizes: Sizes, device: str, seconds: float) -> list[Row]:
    """The rows of a part, each shown when it is known; what fails is shown as such."""
    page.head(part.title, *part.columns)
    rows: list[Row] = []
    try:
        for row in part.measure(sizes, device, Clock(seconds)):
            page.row(row)
            rows.append(row)
    except Exception as error:  # the other parts are not to be lost
        page.line(f"\n**failed**: {type(error).__name__}: {' '.join(str(error).split())[:300]}")
        raise Failed from error
    finally:
        forget(device)
    return rows


class Failed(Exception):
    """A part, which has said why."""


def machine(device: str) -> str:
    card = platform.processor() or platform.machine()
    if device != "cpu":
        card = f"{torch.cuda.get_device_name()}, {room(device) / GIB:.0f} GiB"
    return f"{card}; torch {torch.__version__}; Python {platform.python_version()}"


def bench(page: Page, sizes: Sizes, device: str, seconds: float) -> int:
    """How many parts failed; 0 also where a bar is missed, which the page says."""
    start, bars, failed, shares = time.perf_counter(), [], 0, 1.0
    page.line(f"# On {machine(device)}")
    for part in PARTS:
        left = seconds - (time.perf_counter() - start)
        try:  # what one part leaves of its time, the others have
            rows = measure(page, part, sizes, device, left * part.share / shares)
            if part.bar is not None:
                bars.append(part.bar(rows))
        except Failed:
            failed += 1
        shares -= part.share
    page.line("\n## Bars\n")
    for bar in bars:
        page.line(f"- {bar}")
    page.line(f"\n{time.perf_counter() - start:.0f} s in all.")
    return failed


# The floor, without a card: what one step reads, writes, computes and launches.

#: What allocates, looks or reads, and launches nothing.
FREE = (
    *("aten.empty", "aten.new_empty", "aten.detach", "aten.lift_fresh", "aten._reshape_alias"),
    *("aten._local_scalar_dense", "prim.", "profiler."),
)
#: Launches of a step beside forward and backward: the batch is gathered and scaled (by a copy, a
#: quotient and a difference); Adam is two, its count and its one pass.
BESIDE = 6
LAUNCH = (2.5e-6, 5e-6)  # seconds of the host, at the best and usually
REPLAYED = 1e-6  # seconds between kernels of a graph
CONTEXT = 0.5  # GiB of a process on a card, before any tensor
CARD = 80  # GiB
SPECIAL = 16 * 132 * 1.755e9  # exponentials or reciprocals a second


class Meter(TorchDispatchMode):
    """Counts what operations on a device would cost, as eager torch makes them.

    Attributes:
        launches: operations that start a kernel, one each; `convolution_backward` starts one for
            each gradient, three at the most.
        bytes: of what they read and write, each tensor once an operation.
        peak: bytes of all that lived at a time, of what was made within.
    """

    def __init__(self) -> None:
        super().__init__()
        self.launches, self.bytes, self.peak = 0, 0, 0
        self._living: dict[int, tuple[Any, int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func.is_view:
            return out
        made = [part for part in tree_leaves(out) if isinstance(part, Tensor)]
        taken = [part for part in tree_leaves((args, kwargs)) if isinstance(part, Tensor)]
        if (taken or made) and not str(func).startswith(FREE):
            self.bytes += sum({id(part): part.nbytes for part in (*taken, *made)}.values())
            self.launches += len(made) if "convolution_backward" in str(func) else 1
        self._live(made)
        return out

    def _live(self, made: list[Tensor]) -> None:
        for part in made:
            storage = part.untyped_storage()
            self._living[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
        self._living = {k: v for k, v in self._living.items() if not v[0].expired()}
        self.peak = max(self.peak, sum(size for _, size in self._living.values()))


class Floor(NamedTuple):
    """Of a step without the optimizer's, forward and backward, in float32."""

    flops: int
    bytes: int
    launches: int
    peak: int


def floor(loss: str, batch: int) -> Floor:
    """Worked out on tensors without numbers, as on a card."""
    config = trial(loss, batch)
    learner = Learner(config, network_of(config, channels=1, size=(28, 28)), CLASSES).to("meta")
    images = torch.empty(batch, 1, 28, 28, device="meta")
    labels = torch.empty(batch, dtype=torch.long, device="meta")
    counter = FlopCounterMode(display=False, custom_mapping={torch.ops.aten.addmm_: of_addmm})
    with without_numbers(batch), counter as flops, Meter() as meter:
        learner(learner.network(images), labels).backward()
    return Floor(flops.get_total_flops(), meter.bytes, meter.launches, meter.peak)


def of_addmm(_: Any, x: Sequence[int], y: Sequence[int], *__: Any, **___: Any) -> int:
    """Of a product (N, D) x (D, M) that is added in place, which torch does not count."""
    return 2 * x[0] * x[1] * y[1]


class Nothing:
    """In the place of autocast, which knows no tensors without numbers."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def without_numbers(rows: int) -> Iterator[None]:
    """Without what needs them: autocast, and reading the largest of the classes, equal ones."""
    before, torch.autocast = torch.autocast, Nothing  # type: ignore[misc,assignment]
    largest, by_block._largest = by_block._largest, lambda _: -(-rows // CLASSES)
    try:
        yield
    finally:
        torch.autocast, by_block._largest = before, largest  # type: ignore[misc]


def floor_of_loss(rows: int) -> Floor:
    """Of Smooth-AP alone, forward and backward."""
    embedded = torch.empty(rows, 256, device="meta", requires_grad=True)
    labels = torch.empty(rows, dtype=torch.long, device="meta")
    with without_numbers(rows), Meter() as meter:
        smooth_ap_loss(embedded, labels, tau=TAU).backward()
    return Floor(0, meter.bytes, meter.launches, meter.peak)


def floor_of_judging(gallery: int) -> Floor:
    """Of one chunk of rankings, once its distances are there."""
    distances = torch.empty(CHUNK_ELEMENTS // gallery, gallery, device="meta")
    mine, theirs = (torch.empty(n, dtype=torch.long, device="meta") for n in distances.shape)
    with Meter() as meter:
        judge_torch(distances, mine, theirs)
    return Floor(0, meter.bytes, meter.launches, meter.peak + distances.nbytes)


def step_row(loss: str, batch: int) -> Row:
    found = floor(loss, batch)
    launches = found.launches + BESIDE
    computed, moved = found.flops / H100["float32"], found.bytes / H100["bytes"]
    least, usual = (launches * each for each in LAUNCH)
    graph = max(computed, moved) + launches * REPLAYED
    took = (computed, moved, least, usual, graph)
    counts = f"{found.flops / 1e9:.2f}", f"{found.bytes / 1e6:.0f}", launches
    return f"{loss}, {batch}", *counts, *(f"{seconds * 1e6:.0f}" for seconds in took)


def loss_row(rows: int) -> Row:
    found, same = floor_of_loss(rows), rows / CLASSES
    pairs = rows * same * rows  # of each positive, the anchor among them, and all samples
    cells = f"{found.bytes / 1e9:.1f}", found.launches, f"{found.bytes / H100['bytes'] * 1e3:.2f}"
    fused = 4 * pairs / SPECIAL  # an exponential and a reciprocal, forward and again backward
    return rows, *cells, f"{pairs / 1e6:.0f}", f"{fused * 1e3:.3f}", f"{found.peak / MIB:.0f}"


def memory_row(batch: int) -> Row:
    """Of a trial with Smooth-AP; float32, Adam, all images resident."""
    step, judging = floor("smooth_ap", batch).peak, floor_of_judging(6_000).peak
    pixels = 60_000 * 28 * 28
    whole = CONTEXT * GIB + pixels + max(step, judging)
    cells = (f"{part / MIB:.0f}" for part in (step, judging, pixels, whole))
    return batch, *cells, int(CARD * GIB // whole)


def floor_tables(page: Page, rows: tuple[int, ...]) -> None:
    """What GPU.md has."""
    columns = "GFLOP", "MB", "launches", "computing, µs", "moving, µs"
    page.head("A step", "loss, batch", *columns, "launching, µs", "usually, µs", "in a graph, µs")
    for loss in ("smooth_ap", "triplet", "cross_entropy"):
        for batch in (64, 256, 1_024):
            page.row(step_row(loss, batch))
    columns = "GB", "launches", "moving, ms", "million pairs", "fused, ms", "peak MiB"
    page.head("Smooth-AP alone, ten classes", "rows", *columns)
    for count in rows:
        page.row(loss_row(count))
    columns = "step, MiB", "judging, MiB", "pixels, MiB", "in all, MiB", f"trials in {CARD} GiB"
    page.head("Memory of a trial", "batch", *columns)
    for batch in (64, 256, 1_024):
        page.row(memory_row(batch))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = Parser(description="What a card makes of the project, as a Markdown page.")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--tiny", action="store_true", help="all of it in small")
    parser.add_argument("--seconds", type=float, default=540.0, help="for all (540)")
    parser.add_argument("--output", type=Path, help="a file for the page, besides the terminal")
    parser.add_argument("--floor", action="store_true", help="work out GPU.md's tables, no more")
    given = parser.parse_args(arguments)
    page = Page(given.output)
    if given.device == "cpu":
        torch.set_num_threads(1)  # what is tiny is slower on more
    if given.floor:
        floor_tables(page, (256, 1_024) if given.tiny else (256, 1_024, 4_096))
        return 0
    if given.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no card here: --device cpu --tiny tries everything without one")
    return int(bench(page, TINY if given.tiny else Sizes(), given.device, given.seconds) > 0)


if __name__ == "__main__":
    sys.exit(main())
