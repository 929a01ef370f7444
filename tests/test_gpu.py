"""What a card must give as the CPU does, on each device that is there: the CPU always, a card where
there is one. No test knows what it runs on but by its name, and none needs Ray.

    python -m pytest tests/test_gpu.py

What is compared with is independent of the device: float64 on the CPU, written plainly, or the
same run again. Tolerances are stated where they are used; float32 is that, not TF32.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import resource
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests import oracles
from tests.benchmarks.bench_gpu import GIB, MIB, Meter, noise
from tests.conftest import synthetic
from trainables import train
from trainables.config import TrialConfig
from trainables.data import LabelledImages, Split
from trainables.losses import smooth_ap_loss, triplet_loss
from trainables.losses.kernels import by_block, by_row
from trainables.losses.recall_at_k import recall_at_k_loss
from trainables.metrics import evaluate_retrieval
from trainables.retrieval import nearest, squared_distances, unit_length
from trainables.train import EpochMetrics, TrainingRun
from trainables.trained import embed, load_trained

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
TIMES = ("seconds", "evaluation_seconds", "images_per_second")
LOSS, GRADIENT = 1e-5, 1e-4  # of float32, relative: the loss, and the largest slope
STEPS = 5

pytestmark = pytest.mark.parametrize("device", DEVICES)


def numbers(metrics: EpochMetrics) -> dict[str, Any]:
    """What a run must reproduce: all but the times."""
    return {name: value for name, value in vars(metrics).items() if name not in TIMES}


def batch(rows: int = 96) -> tuple[Tensor, Tensor]:
    """Unit vectors in float64 and labels of unequal classes, two of them of one image."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 7, (rows,), generator=generator)
    labels[:2] = torch.tensor([90, -3])
    vectors = F.normalize(torch.randn(rows, 32, generator=generator, dtype=torch.float64))
    return vectors, labels


def recall_in_float64(rows: Tensor, labels: Tensor) -> Tensor:
    """By the loops of the CPU, which have an oracle of their own."""
    return recall_at_k_loss(rows, labels, tau=0.1)


LOSSES: dict[str, tuple[Callable[..., Tensor], Callable[..., Tensor]]] = {
    "smooth_ap": (
        lambda x, y: smooth_ap_loss(x, y, tau=0.1),
        lambda x, y: oracles.dense_smooth_ap(x, y, 0.1),
    ),
    "smooth_ap of ten": (
        lambda x, y: smooth_ap_loss(x, y, tau=0.1, anchors=10, numerator="seed"),
        lambda x, y: oracles.dense_smooth_ap(x, y, 0.1, 10, True),
    ),
    "triplet": (
        lambda x, y: triplet_loss(x, y, margin=0.2),
        lambda x, y: oracles.dense_triplet(x, y, 0.2),
    ),
    "triplet, summed": (
        lambda x, y: triplet_loss(x, y, margin=0.2, reduction="sum"),
        lambda x, y: oracles.dense_triplet(x, y, 0.2, mean=False),
    ),
    "recall_at_k": (lambda x, y: recall_at_k_loss(x, y, tau=0.1), recall_in_float64),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_and_gradients_are_those_of_float64(name: str, device: str) -> None:
    """Within 1e-5 of the loss, and 1e-4 of the largest slope."""
    mine, exact = LOSSES[name]
    rows, labels = batch()
    expected = exact(rows.requires_grad_(), labels)
    expected.backward()
    narrow = rows.detach().float().to(device).requires_grad_()
    found = mine(narrow, labels.to(device))
    found.backward()
    assert found.device.type == device and found.dtype == torch.float32
    assert found.item() == pytest.approx(expected.item(), rel=LOSS)
    assert narrow.grad is not None and rows.grad is not None
    largest = float(rows.grad.abs().max())
    assert largest > 0
    assert float((narrow.grad.cpu() - rows.grad).abs().max()) < GRADIENT * largest


@pytest.mark.parametrize("rows", [3, 64, 513])
def test_blocks_and_rows_are_the_same_losses(rows: int, device: str) -> None:
    """The kernels of a card, wherever they run, against the CPU's: 1e-5, of the largest slope."""
    vectors, labels = batch(rows)
    distances = squared_distances(vectors.float(), vectors.float())
    there = distances.to(device), labels.to(device)
    for blocks, loops in (
        (by_block.smooth_ap(*there, 0.1, False), by_row.smooth_ap(distances, labels, 0.1, False)),
        (by_block.triplet(*there, 0.2, True), by_row.triplet(distances, labels, 0.2, True)),
        (
            by_block.recall_at_k(*there, 0.1, (1, 4), 1.0),
            by_row.recall_at_k(distances, labels, 0.1, (1, 4), 1.0),
        ),
    ):
        for found, expected in zip(blocks, loops, strict=True):
            scale = max(float(expected.abs().max()), 1e-6)
            assert float((found.cpu() - expected).abs().max()) <= LOSS * scale


def whole_numbers(count: int) -> tuple[Tensor, Tensor]:
    """Vectors of small whole numbers: squared distances are exact in float32, and many are equal,
    so that rankings can be compared one by one."""
    generator = torch.Generator().manual_seed(1)
    rows = torch.randint(-2, 3, (count, 6), generator=generator)
    return rows, torch.randint(0, 5, (count,), generator=generator)


def test_rankings_are_those_of_the_oracle(device: str) -> None:
    rows, labels = whole_numbers(60)
    own = torch.arange(60)
    found = nearest(rows.float().to(device), rows.float().to(device), k=59, query_index=own)
    lists = rows.tolist()
    expected = [oracles.slow_ranking(lists[i], lists, own=i) for i in range(60)]
    assert found.tolist() == expected
    result = evaluate_retrieval(
        *(rows.float().to(device), labels.to(device)) * 2, query_index=own.to(device)
    )
    marks = labels.tolist()
    for i, ranking in enumerate(expected):
        relevant = [marks[j] == marks[i] for j in ranking]
        average = oracles.slow_average_precision(relevant)
        assert result.average_precision[i] == pytest.approx(average, abs=1e-12)


def test_every_metric_of_many_is_that_of_float64(device: str) -> None:
    """Several chunks, groups and queries without a relevant image: equal to 1e-12."""
    rows, labels = whole_numbers(5_000)
    labels[:3] = torch.arange(100, 103)
    groups = torch.arange(5_000) % 700 - 1
    arguments = {
        "query_index": torch.arange(4_000),
        "query_groups": groups[:4_000],
        "gallery_groups": groups,
    }
    pairs = (rows[:4_000], labels[:4_000], rows, labels)
    expected = evaluate_retrieval(
        *(part.double() if i % 2 == 0 else part for i, part in enumerate(pairs)), **arguments
    )
    placed = [(part.float() if i % 2 == 0 else part).to(device) for i, part in enumerate(pairs)]
    found = evaluate_retrieval(*placed, **arguments)
    assert found.queries_without_relevant == expected.queries_without_relevant == 3
    for name, value in vars(expected).items():
        np.testing.assert_allclose(getattr(found, name), value, rtol=0, atol=1e-12, err_msg=name)


def in_float64(run: TrainingRun, split: Split) -> list[float]:
    """The losses of the first steps of a run, from its weights and on its batches, written plainly:
    in float64, with Adam as its paper has it."""
    trunk = run.learner.network.trunk
    names = [f"conv{i}.{kind}" for i in (1, 2, 3) for kind in ("weight", "bias")]
    weights = [trunk.get_parameter(name).detach().cpu().double() for name in names]
    first, second = ([torch.zeros_like(w) for w in weights] for _ in range(2))
    order = torch.randperm(len(split.train), generator=torch.Generator().manual_seed(0))
    losses = []
    for step, rows in enumerate(order.split(run.config.batch_size)[:STEPS], start=1):
        for weight in weights:
            weight.requires_grad_()
        x = torch.from_numpy(split.train.images[rows.numpy()]).double() / 127.5 - 1
        for place in range(3):
            x = F.conv2d(x, weights[2 * place], weights[2 * place + 1], padding=1).relu()
            x = F.max_pool2d(x, 2) if place < 2 else F.adaptive_avg_pool2d(x, 2).flatten(1)
        loss = oracles.dense_smooth_ap(
            F.normalize(x), torch.from_numpy(split.train.labels)[rows], 0.1
        )
        slopes = torch.autograd.grad(loss, weights)
        losses.append(loss.item())
        for i, slope in enumerate(slopes):
            first[i] = 0.9 * first[i] + 0.1 * slope
            second[i] = 0.999 * second[i] + 0.001 * slope**2
            change = first[i] / (1 - 0.9**step) / ((second[i] / (1 - 0.999**step)).sqrt() + 1e-8)
            weights[i] = (weights[i] - run.config.lr * change).detach()
    return losses


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-4), ("bfloat16", 3e-2)])
def test_steps_are_those_of_a_plain_loop_in_float64(
    precision: str, tolerance: float, device: str, small_split: Split
) -> None:
    """Five of them, each on what the ones before have learned; relative to the loss."""
    run = TrainingRun(config(precision=precision), small_split, device)
    expected = in_float64(run, small_split)
    found = run._train_steps(STEPS)
    assert found.device.type == device
    assert found.tolist() == pytest.approx(expected, rel=tolerance)
    assert expected[-1] < expected[0]


def config(**changes: Any) -> TrialConfig:
    plain = TrialConfig(
        loss="smooth_ap",
        optimizer="adam",
        lr=1e-3,
        batch_size=64,
        epochs=2,
        loss_args={"anchors": "all", "tau": 0.1, "numerator": "paper"},
    )
    return plain.replace(**{"precision": "float32", **changes})


CONFIGS = {
    "smooth_ap": config(schedule="cosine", warmup=0.2),
    "recall_at_k": config(loss="recall_at_k", loss_args={}, precision="auto"),
    "triplet": config(loss="triplet", loss_args={}, weight_decay=1e-3),
    "triplet, sgd": config(loss="triplet", loss_args={}, optimizer="sgd", momentum=0.9),
    "cross_entropy": config(
        loss="cross_entropy", loss_args={}, optimizer="adamw", embedding_dim=16, loss_lr=2.0
    ),
    "a sum, taught": config(
        loss="smooth_ap+normalized_softmax",
        loss_args={},
        **{"batch_size": 256, "teacher": "teacher.pt", "teacher_weight": 3.0},
    ),
    "normalized_softmax": config(
        loss="normalized_softmax",
        loss_args={},
        **{"averaging": 0.9, "flip": True, "shift": 2, "erase": 4, "per_class": 8},
    ),
}


def taught(split: Split) -> Split:
    """With a teacher's embeddings, which those without a teacher leave alone."""
    rows = torch.randn(len(split.train), 5, generator=torch.Generator().manual_seed(0))
    return dataclasses.replace(split, targets=F.normalize(rows).numpy())


@pytest.mark.parametrize("name", CONFIGS)
def test_a_run_repeats_and_goes_on_from_its_checkpoint(
    name: str, device: str, small_split: Split, tmp_path: Path
) -> None:
    """To the last digit, whatever else the process has drawn meanwhile; so too on a run that has
    trained already."""
    small_split = taught(small_split)
    first = TrainingRun(CONFIGS[name], small_split, device)
    whole = [numbers(epoch) for epoch in first]
    stopped = TrainingRun(CONFIGS[name], small_split, device)
    assert numbers(stopped.train_epoch()) == whole[0]
    stopped.save(tmp_path / "checkpoint.pt")
    torch.rand(3, device=device)
    again = TrainingRun(CONFIGS[name], small_split, device)
    again.load(tmp_path / "checkpoint.pt")
    assert [numbers(epoch) for epoch in again] == whole[1:]
    first.load(tmp_path / "checkpoint.pt")
    assert [numbers(epoch) for epoch in first] == whole[1:]
    assert whole[1]["val_map"] > 0.2  # random rankings of ten classes give about 0.1


@pytest.mark.parametrize("name", CONFIGS)
def test_replayed_steps_are_those_launched_one_by_one(
    name: str, device: str, small_split: Split
) -> None:
    """Two epochs, judged after each: losses within 1e-4, as learning rates are rounded to
    float32."""
    small_split = taught(small_split)
    mine, plain = (TrainingRun(CONFIGS[name], small_split, device) for _ in range(2))
    assert mine.replays is (device == "cuda" and CONFIGS[name].optimizer != "sgd")
    plain.replays = False
    for found, expected in zip(mine, plain, strict=True):
        assert found.train_loss == pytest.approx(expected.train_loss, rel=1e-4)
        assert found.val_map == pytest.approx(expected.val_map, abs=1e-3)
    assert (mine.replay is not None) is mine.replays


def test_a_checkpoint_gives_a_network_for_any_device(
    device: str, small_split: Split, tmp_path: Path
) -> None:
    """Its embeddings, in float64 on the CPU, are those that the run judged by: mAP within 1e-4."""
    run = TrainingRun(config(epochs=1), small_split, device)
    found = run.train_epoch()
    run.save(tmp_path / "checkpoint.pt")
    network = load_trained(tmp_path / "checkpoint.pt").network
    assert next(network.parameters()).device.type == "cpu"
    images = torch.from_numpy(small_split.validation.images)
    exact = network.double()(network.input.scale(images, torch.float64))
    rows = unit_length(exact.detach())
    labels = small_split.validation.labels
    expected = evaluate_retrieval(rows, labels, rows, labels, query_index=torch.arange(len(rows)))
    assert found.val_map == pytest.approx(expected.mean_average_precision, abs=1e-4)
    embedded = embed(network.float(), small_split.validation)  # on a card where there is one
    assert embedded.device.type == "cpu"
    torch.testing.assert_close(embedded.double(), rows, rtol=0, atol=1e-5)


@pytest.mark.parametrize("resident", ["nothing", "validation"])
def test_it_does_not_matter_where_the_pixels_are(
    resident: str, device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a mapped file, read in rows that are not in order, or on the device: the same numbers."""
    images, judged = synthetic(640, seed=0), synthetic(200, seed=1)
    expected = [numbers(epoch) for epoch in TrainingRun(config(), Split(images, judged), device)]
    turned = np.arange(640)[::-1].copy()
    np.save(tmp_path / "pixels.npy", images.array[turned])
    mapped = np.load(tmp_path / "pixels.npy", mmap_mode="r")
    share = 0.0
    if resident == "validation" and device == "cuda":
        share = judged.array.nbytes / torch.cuda.get_device_properties(0).total_memory
    monkeypatch.setattr(train, "RESIDENT_SHARE", share * 1.001)
    run = TrainingRun(
        config(), Split(LabelledImages(mapped, images.labels, turned), judged), device
    )
    assert run.pixels.device.type == "cpu"
    assert run.val_pixels.device.type == (device if resident == "validation" else "cpu")
    assert [numbers(epoch) for epoch in run] == expected


def test_the_loss_of_many_rows_takes_bounded_memory(device: str) -> None:
    """Of 1,024 rows under 600 MiB, two blocks and more, where 1,024 cubed in float32 is 4 GiB."""
    rows, labels = (part.to(device) for part in batch(1_024))
    rows = rows.float()
    distances = squared_distances(rows, rows)
    with Meter() as meter:
        by_block.smooth_ap(distances, labels, 0.1, False)
    peak = meter.peak
    if device == "cuda":  # as torch counts it, to the page
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        by_block.smooth_ap(distances, labels, 0.1, False)
        peak = torch.cuda.max_memory_allocated() - before
    assert 16 * MIB < peak < 600 * MIB


def bounded(device: str, loss: dict[str, Any]) -> tuple[str, float]:
    """In a process that may take a gibibyte more: what a trial says that needs more, and the score
    of one after it that fits."""
    torch.set_num_threads(1)
    small, large = (Split(noise(n), noise(60, seed=1)) for n in (256, 24_000))
    if device == "cuda":
        whole = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(GIB / whole)
    else:
        TrainingRun(config(epochs=1), small).train_epoch()  # what it loads at first
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + GIB
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    said = "it had room"
    try:
        TrainingRun(config(batch_size=24_000, epochs=1, **loss), large, device).train_epoch()
    except (RuntimeError, MemoryError) as error:  # torch.OutOfMemoryError is a RuntimeError
        said = f"{type(error).__name__}: {error}"
    return said, TrainingRun(config(epochs=1), small, device).train_epoch().val_map


@pytest.mark.parametrize("loss", ["smooth_ap", "cross_entropy"])
def test_a_trial_that_needs_more_than_its_share_fails_and_the_next_goes_on(
    loss: str, device: str
) -> None:
    """One whose step would be replayed, too."""
    asked = {} if loss == "smooth_ap" else {"loss": loss, "loss_args": {}}
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        said, score = pool.submit(bounded, device, asked).result()
    assert "memory" in said and (device == "cpu" or said.startswith("OutOfMemoryError: CUDA"))
    assert 0 < score < 1
