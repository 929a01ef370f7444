"""Speed and peak memory of mAP: `evaluate_retrieval` against its peers, as a Markdown table.

    python tests/benchmarks/bench_metrics.py [--queries Q] [--gallery G] [--threads T] [--rounds R]

Needs torchmetrics, pytorch-metric-learning and faiss-cpu; a peer that cannot be imported is left
out. Every run is a fresh process; the methods take turns, so that each round is a set of pairs.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[2]))

from trainables.metrics import evaluate_retrieval
from trainables.retrieval import distance_chunks
from trainables.terminal import Parser

CLASSES, DIMENSIONS = 10, 256


def problem(queries: int, gallery: int) -> tuple[Tensor, Tensor, Tensor]:
    """Unit vectors (G, 256) in 10 overlapping clusters, labels (G,), the rows that are queries."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, CLASSES, (gallery,), generator=generator)
    centres = torch.randn(CLASSES, DIMENSIONS, generator=generator)
    noise = torch.randn(gallery, DIMENSIONS, generator=generator)
    vectors = torch.nn.functional.normalize(centres[labels] + 4 * noise)
    return vectors, labels, torch.arange(queries)


def ours(x: Tensor, labels: Tensor, own: Tensor) -> float:
    result = evaluate_retrieval(x[: len(own)], labels[: len(own)], x, labels, query_index=own)
    return result.mean_average_precision


def argsort(x: Tensor, labels: Tensor, own: Tensor) -> float:
    """The plain way: argsort each chunk of distances, gather relevance, average precision."""
    ranks = torch.arange(1, len(x) + 1)
    averages = []
    for rows, distances in distance_chunks(x[: len(own)], x, own):
        relevant = labels[own[rows], None] == labels
        relevant.scatter_(1, own[rows, None], False)
        hits = relevant.gather(1, distances.argsort(dim=1)).float()
        precision = hits.cumsum(1) / ranks
        averages.append((precision * hits).sum(1) / hits.sum(1))
    return float(torch.cat(averages).mean())


def torchmetrics_class(x: Tensor, labels: Tensor, own: Tensor) -> float:
    """RetrievalMAP, one update for each chunk; scores are positive, since it needs that."""
    from torchmetrics.retrieval import RetrievalMAP

    metric = RetrievalMAP(empty_target_action="skip")
    for rows, distances in distance_chunks(x[: len(own)], x, own):
        relevant = labels[own[rows], None] == labels
        keep = torch.ones_like(relevant).scatter_(1, own[rows, None], False)
        query = own[rows, None].expand_as(relevant)
        metric.update(8 - distances[keep], relevant[keep], indexes=query[keep])
    return float(metric.compute())


def torchmetrics_function(x: Tensor, labels: Tensor, own: Tensor) -> float:
    """retrieval_average_precision, the function under RetrievalMAP, without its bookkeeping."""
    from torchmetrics.functional.retrieval import retrieval_average_precision

    total = 0.0
    for rows, distances in distance_chunks(x[: len(own)], x, own):
        relevant = labels[own[rows], None] == labels
        relevant.scatter_(1, own[rows, None], False)
        for row, target in zip(distances, relevant, strict=True):
            total += float(retrieval_average_precision((8 - row).clamp_min(1e-6), target))
    return total / len(own)


def metric_learning(x: Tensor, labels: Tensor, own: Tensor) -> float:
    """AccuracyCalculator over the whole gallery (its default k is only the largest class)."""
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator

    calculator = AccuracyCalculator(include=("mean_average_precision",), k=len(x) - 1)
    queries = slice(0, len(own))
    accuracy = calculator.get_accuracy(
        x[queries], labels[queries], x, labels, ref_includes_query=True
    )
    return float(accuracy["mean_average_precision"])


METHODS: dict[str, tuple[Callable[[Tensor, Tensor, Tensor], float], str]] = {
    "evaluate_retrieval": (ours, "torch"),
    "chunked torch argsort": (argsort, "torch"),
    "torchmetrics RetrievalMAP": (torchmetrics_class, "torchmetrics"),
    "torchmetrics function, row by row": (torchmetrics_function, "torchmetrics"),
    "pytorch-metric-learning": (metric_learning, "pytorch_metric_learning"),
}


def child(method: str, queries: int, gallery: int, threads: int) -> None:
    """Warm up on 100 queries, time one method once; print seconds, peak MB and mAP as JSON."""
    torch.set_num_threads(threads)
    run = METHODS[method][0]
    vectors, labels, own = problem(queries, gallery)
    run(vectors, labels, own[:100])
    start = time.perf_counter()
    value = run(vectors, labels, own)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "peak": peak, "map": value}))


def main() -> None:
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--gallery", type=int, default=10_000)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=list(METHODS))
    parser.add_argument("--child", choices=METHODS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        return child(given.child, given.queries, given.gallery, given.threads)
    names = [name for name in given.methods if importlib.util.find_spec(METHODS[name][1])]
    size = [f"--{key}={getattr(given, key)}" for key in ("queries", "gallery", "threads")]
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for _ in range(given.rounds):
        for name in names:
            command = [sys.executable, __file__, *size, "--child", name]
            runs[name].append(json.loads(subprocess.check_output(command).splitlines()[-1]))
    print(f"{given.queries} queries, gallery of {given.gallery}, {given.threads} threads\n")
    print("| method | median s | times evaluate_retrieval | process peak MB | mAP |")
    print("| --- | --- | --- | --- | --- |")
    first = runs[names[0]]
    for name, mine in runs.items():
        seconds = statistics.median(r["seconds"] for r in mine)
        ratio = statistics.median(
            r["seconds"] / f["seconds"] for r, f in zip(mine, first, strict=True)
        )
        peak = max(r["peak"] for r in mine)
        print(f"| {name} | {seconds:.2f} | {ratio:.1f} | {peak:.0f} | {mine[0]['map']:.6f} |")


if __name__ == "__main__":
    main()
