"""Time the ranking losses, forward and backward, beside dense formulations of them.

    python tests/benchmarks/bench_losses.py

prints Markdown tables: medians in ms of runs interleaved in one process, one thread, 10 classes,
256-d unit embeddings, float32, tau 0.02 in squared distance (0.01 in similarity), margin 0.2; and
peak memory, each in a fresh process. "random": independent directions; "clustered": close to one
centre per class. pytorch-metric-learning (PML) is timed where installed, on the largest balanced
batch, sorted by class, that fits B: its SmoothAPLoss takes no other.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import normalize

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests import oracles
from trainables.losses import smooth_ap_loss, triplet_loss

TAU, MARGIN, CLASSES = 0.02, 0.2, 10
Loss = Callable[[Tensor, Tensor], Tensor]


def embeddings(batch: int, state: str) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(batch)
    labels = torch.arange(batch) % CLASSES
    rows = normalize(torch.randn(batch, 256, generator=generator))
    if state == "clustered":
        centres = normalize(torch.randn(CLASSES, 256, generator=generator))
        rows = normalize(centres[labels] + 0.4 * rows)
    return rows.requires_grad_(), labels


def balanced(loss: Loss) -> Loss:
    """`loss` of the largest part of the batch with equal classes, sorted by class."""

    def sorted_loss(rows: Tensor, labels: Tensor) -> Tensor:
        order = labels[: len(labels) // CLASSES * CLASSES].argsort(stable=True)
        return loss(rows[order], labels[order])

    return sorted_loss


def peers() -> tuple[Loss | None, Loss | None]:
    """PML's smooth AP and triplet losses, or None twice."""
    try:
        from pytorch_metric_learning import distances, losses, reducers
    except ImportError:
        return None, None
    triplet = losses.TripletMarginLoss(
        margin=MARGIN,
        distance=distances.LpDistance(normalize_embeddings=False, power=2),
        reducer=reducers.AvgNonZeroReducer(),
    )
    return balanced(losses.SmoothAPLoss(temperature=TAU / 2)), triplet


def milliseconds(calls: dict[str, Loss], batch: int, state: str, rounds: int) -> dict[str, float]:
    rows, labels = embeddings(batch, state)
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds + 1):
        for name, call in calls.items():
            rows.grad = None
            start = time.perf_counter()
            call(rows, labels).backward()
            times[name].append((time.perf_counter() - start) * 1e3)
    return {name: statistics.median(kept[1:]) for name, kept in times.items()}


def contenders(batch: int) -> dict[str, dict[str, Loss]]:
    """By loss: this project's first, then those whose B x B x B tensors fit a small machine."""
    pml_ap, pml_triplet = peers()
    ap: dict[str, Loss] = {"ours": lambda x, y: smooth_ap_loss(x, y, tau=TAU)}
    triplet: dict[str, Loss] = {"ours": lambda x, y: triplet_loss(x, y, margin=MARGIN)}
    if batch <= 512:
        ap["dense"] = lambda x, y: oracles.dense_smooth_ap(x, y, TAU)
        if pml_ap and pml_triplet:
            ap["PML"], triplet["PML"] = pml_ap, pml_triplet
    few = {
        "ours": lambda x, y: smooth_ap_loss(x, y, tau=TAU, anchors=10),
        "dense": lambda x, y: oracles.dense_smooth_ap(x, y, TAU, 10),
    }
    return {"smooth AP": ap, "triplet": triplet} | ({"AP, 10 anchors": few} if batch == 64 else {})


def peak_mebibytes(name: str, batch: int) -> float:
    """Peak resident memory of a fresh process above its state before the loss."""
    command = [sys.executable, __file__, name, str(batch)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def report_peak(name: str, batch: int) -> None:
    rows, labels = embeddings(batch, "random")
    contenders(64)["AP, 10 anchors"]["ours"](*embeddings(64, "random")).backward()
    before = peak()
    contenders(batch)[name]["ours"](rows, labels).backward()
    print((peak() - before) / 1024)


def peak() -> int:
    """KiB; not getrusage's, which a child process inherits from its parent."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])


def main() -> None:
    print("| loss | B | state | ours, ms | dense, ms | PML, ms | dense / ours | PML / ours |")
    print("|---|--:|---|--:|--:|--:|--:|--:|")
    for batch, rounds in ((64, 41), (128, 15), (256, 7), (512, 3), (1024, 3), (4096, 1)):
        for name, calls in contenders(batch).items():
            for state in ("random", "clustered"):
                found = milliseconds(calls, batch, state, rounds)
                cells = [f"{found[k]:.2f}" if k in found else "" for k in ("ours", "dense", "PML")]
                for key in ("dense", "PML"):
                    cells.append(f"{found[key] / found['ours']:.1f}" if key in found else "")
                print(f"| {name} | {batch} | {state} | {' | '.join(cells)} |", flush=True)
    print("\n| loss | B | peak MiB above imports and embeddings |\n|---|--:|--:|")
    for name in ("smooth AP", "triplet"):
        print(f"| {name} | 4096 | {peak_mebibytes(name, 4096):.0f} |")


if __name__ == "__main__":
    torch.set_num_threads(1)
    report_peak(sys.argv[1], int(sys.argv[2])) if len(sys.argv) > 2 else main()
