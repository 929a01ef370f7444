"""Searching a large gallery: seconds and memory, exact beside faiss, as a Markdown table.

    python tests/benchmarks/bench_retrieve.py    # 1,000,000 x 256: 2 GB on the disk

The vectors lie around 10,000 centres. Peak memory is the process's own, without the file's pages
that the system may drop at any time.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import torch

from analysis.gallery.search import Approximate, Neighbours, exact
from trainables.retrieval import unit_length
from trainables.terminal import Parser

CENTRES, BLOCK = 10_000, 50_000


def made(path: Path, count: int, width: int) -> np.ndarray:
    """(count, width) unit vectors in a file."""
    rng = torch.Generator().manual_seed(0)
    centres = torch.randn(CENTRES, width, generator=rng)
    array = np.lib.format.open_memmap(path, "w+", np.float32, (count, width))
    for start in range(0, count, BLOCK):
        rows = torch.randint(CENTRES, (min(BLOCK, count - start),), generator=rng)
        noise = torch.randn(len(rows), width, generator=rng)
        array[start : start + len(rows)] = unit_length(centres[rows] + noise)
    array.flush()
    return np.load(path, mmap_mode="r")


def measured(what: Callable[[], Neighbours]) -> tuple[Neighbours, float, float]:
    """What came of it, seconds, and by how many MiB the process's own memory rose at its peak."""
    process, peak, ended = psutil.Process(), [0], threading.Event()

    def own() -> int:
        found = process.memory_info()
        return int(found.rss - found.shared)

    before = own()

    def watch() -> None:
        while not ended.wait(0.02):
            peak[0] = max(peak[0], own() - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.perf_counter()
    found = what()
    seconds = time.perf_counter() - start
    ended.set()
    watcher.join()
    return found, seconds, peak[0] / 2**20


def main() -> None:
    parser = Parser(description="Seconds and memory of a search in a large gallery.")
    parser.add_argument("--gallery", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--k", type=int, default=50)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        gallery = made(Path(folder) / "gallery.npy", given.gallery, given.width)
        rng = torch.Generator().manual_seed(1)
        rows = []
        start = time.perf_counter()
        lists = Approximate.beside(Path(folder), gallery)
        ready = time.perf_counter() - start
        for asks in (1, 100, 1_000):
            places = torch.randint(len(gallery), (asks,), generator=rng).sort().values
            noise = torch.randn(asks, given.width, generator=rng)
            queries = unit_length(torch.from_numpy(gallery[places.numpy()]) + 0.05 * noise)
            wanted, seconds, memory = measured(lambda q=queries: exact(q, gallery, given.k))
            rows.append((asks, "exact", seconds, memory, 1.0))
            found, seconds, memory = measured(lambda q=queries: lists.nearest(q, given.k))
            pairs = zip(wanted.rows, found.rows, strict=True)
            shared = np.mean([len(set(a) & set(b)) / given.k for a, b in pairs])
            rows.append((asks, "faiss", seconds, memory, shared))
    print(f"gallery {given.gallery:,} x {given.width}, k {given.k}; ", end="")
    print(f"faiss was ready after {ready:.0f} s, recall@10 {lists.recall:.3f} on its own sample\n")
    print("| queries | search | s | MiB more | recall |\n|--:|---|--:|--:|--:|")
    for asks, name, seconds, memory, shared in rows:
        print(f"| {asks:,} | {name} | {seconds:.2f} | {memory:.0f} | {shared:.3f} |")


if __name__ == "__main__":
    main()
