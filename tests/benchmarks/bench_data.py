"""What the pixel cache saves, as one Markdown table.

    python tests/benchmarks/bench_data.py [--quick] [--workers W]

*Epoch*: pictures of 500 x 375 as JPEG, random resized crops of 224, mirrored (and recoloured),
float32, batches of 64. ImageFolder and a DataLoader of W workers that stay, on Pillow's pictures,
against rows of the cache in W threads of one process, a batch each (torch itself takes one).
*Build*: JPEGs of 12 megapixels to 256 x 256 by W threads: Pillow's full decoding and resize
against `load_pixels`, its checks, hashes and writing included. *Memory*: the proportional set size
(PSS, Linux) of processes that have each read all of one cache in batches: above what they had
after their imports (the cache, batches and what works on them), and imports included, which no two
processes share; 2 GB, and less with `--quick`. The variants take turns; medians over rounds,
ratios are medians of a round's ratio.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

sys.path.insert(0, str(Path(__file__).parents[2]))

from trainables.augment import Augmentation, change
from trainables.data.pixels.cache import Decoding, Pixels, load_pixels, open_pixels
from trainables.data.pixels.making import ABOUT, ARRAY
from trainables.networks import Input

BATCH, SIDE, KEPT, LEAST, JITTER = 64, 224, 256, 0.16, 0.2
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
Call = Callable[[], None]


def photographs(folder: Path, count: int, width: int, height: int) -> list[Path]:
    """Soft shapes with a camera's noise, as JPEG; ten of them, copied."""
    rng = np.random.default_rng(0)
    paths = []
    for number in range(count):
        path = folder / f"class_{number % 10}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        if number < 10:
            shapes = rng.integers(0, 256, (height // 25, width // 25, 3), dtype=np.uint8)
            soft = Image.fromarray(shapes).resize((width, height), Image.Resampling.BICUBIC)
            noisy = np.asarray(soft) + rng.normal(0, 4, (height, width, 3))
            Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path, quality=90)
        else:
            shutil.copy(paths[number % 10], path)
        paths.append(path)
    return paths


def loader_epoch(folder: Path, jitter: float, workers: int) -> Call:
    transform = v2.Compose(
        [
            v2.RandomResizedCrop(SIDE, scale=(LEAST, 1.0)),
            v2.RandomHorizontalFlip(),
            *([v2.ColorJitter(jitter, jitter, jitter)] if jitter else []),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )
    loader = DataLoader(
        ImageFolder(str(folder), transform),
        BATCH,
        shuffle=True,
        num_workers=workers,
        persistent_workers=True,
    )

    def epoch() -> None:
        for images, _ in loader:
            assert images.shape[1:] == (3, SIDE, SIDE)

    return epoch


def cache_epoch(pixels: Pixels, jitter: float, workers: int) -> Call:
    images, augmentation = pixels.tensor(), Augmentation(flip=True, crop=LEAST, jitter=jitter)
    generator = torch.Generator().manual_seed(0)
    wants = Input(3, SIDE, SIDE, MEAN, STD)
    buffers = threading.local()  # as a training loop has them: new pages cost more than the work

    def epoch() -> None:
        order = torch.randperm(len(images), generator=generator)
        changes = augmentation.draw(len(order), KEPT, KEPT, generator, size=(SIDE, SIDE))

        def batch(start: int) -> None:
            part = slice(start, start + BATCH)
            if not hasattr(buffers, "rows"):
                buffers.rows = torch.empty(BATCH, 3, KEPT, KEPT, dtype=torch.uint8)
                buffers.floats = torch.empty(BATCH, 3, SIDE, SIDE)
            rows = order[part]
            drawn = torch.index_select(images, 0, rows, out=buffers.rows[: len(rows)])
            changed = change(drawn, changes.take(part))
            wants.scale(changed, out=buffers.floats[: len(rows)])

        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(batch, range(0, len(order), BATCH)))

    return epoch


def plain_build(paths: list[Path], workers: int) -> Call:
    def one(path: Path) -> np.ndarray:
        with Image.open(path) as image:
            side = min(image.size)
            left, top = (image.width - side) // 2, (image.height - side) // 2
            centre = image.convert("RGB").crop((left, top, left + side, top + side))
            return np.asarray(centre.resize((KEPT, KEPT), Image.Resampling.BILINEAR))

    def build() -> None:
        with ThreadPoolExecutor(workers) as pool:
            np.stack(list(pool.map(one, paths)))

    return build


def cache_build(paths: list[Path], folder: Path, workers: int) -> Call:
    def build() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        pictures = [(path, None) for path in paths]
        load_pixels(pictures, Decoding(KEPT, KEPT), folder=folder, workers=workers)

    return build


def seconds(calls: dict[str, Call], rounds: int) -> dict[str, list[float]]:
    """Of each call in each round, in turn; a round before them warms up."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    return {name: measured[1:] for name, measured in times.items()}


def speed_rows(calls: dict[str, Call], rounds: int, pictures: int) -> None:
    times = seconds(calls, rounds)
    first = next(iter(times.values()))
    for name, measured in times.items():
        rate = pictures / statistics.median(measured)
        ratio = statistics.median(f / m for f, m in zip(first, measured, strict=True))
        print(f"| {name} | {rate:.1f} images/s | {ratio:.2f} |", flush=True)


def synthetic_cache(folder: Path, gigabytes: float) -> Path:
    """A cache of one picture, over and over."""
    shape = (int(gigabytes * 1e9) // (3 * KEPT * KEPT), 3, KEPT, KEPT)
    folder.mkdir()
    array = np.lib.format.open_memmap(folder / ARRAY, "w+", np.uint8, shape)
    array[:] = np.random.default_rng(0).integers(0, 256, shape[1:], dtype=np.uint8)
    array.flush()
    about = f'{{"shape": {list(shape)}, "fingerprint": "", "several_frames": 0}}'
    (folder / ABOUT).write_text(about)
    return folder


def read_all(path: Path) -> None:
    """What a measured process does, a step a line: nothing, an epoch, the end."""
    torch.set_num_threads(1)
    few = Pixels(Path(), np.zeros((BATCH, 3, KEPT, KEPT), np.uint8), "", 0)
    cache_epoch(few, 0.0, 1)()  # what the first use of a function takes
    pixels = open_pixels(path)
    for step in (lambda: None, cache_epoch(pixels, 0.0, 1)):  # the map stays meanwhile
        step()
        print("done", flush=True)
        sys.stdin.readline()
        print(proportional(), flush=True)
        sys.stdin.readline()


def proportional() -> int:
    """This process's PSS in KB, its pages shared by n counted as an nth."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def memory(path: Path, processes: int) -> tuple[float, float]:
    """GB of all of them together, all alive: after their imports, and after an epoch each."""
    command = [sys.executable, __file__, "--read", str(path)]
    pipe = subprocess.PIPE
    started = [
        subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(processes)
    ]

    def ask() -> list[str]:
        return [process.stdout.readline() for process in started if process.stdout is not None]

    def tell() -> None:
        for process in started:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()

    totals = []
    for _ in range(2):
        ask()  # until all are done
        tell()
        totals.append(sum(map(int, ask())) * 1024 / 1e9)
        tell()
    for process in started:
        process.communicate()
    return totals[0], totals[1]


def processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def main() -> None:
    parser = argparse.ArgumentParser(description="What the pixel cache saves.")
    parser.add_argument("--quick", action="store_true", help="small data, three rounds")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.read is not None:
        read_all(given.read)
        return
    torch.set_num_threads(1)  # beside each other, not within a call
    rounds, small, large, gigabytes = (3, 256, 4, 0.5) if given.quick else (7, 1_280, 12, 2.0)
    print(f"{processor()}, {os.cpu_count()} cores, {given.workers} used; {rounds} rounds\n")
    print("| what | median | ratio |\n|---|--:|--:|")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        paths = photographs(folder / "small", small, 500, 375)
        pictures = [(path, None) for path in paths]
        pixels = load_pixels(pictures, Decoding(KEPT, KEPT), folder=folder / "cache")
        for what, jitter in (("crop, flip", 0.0), ("crop, flip, jitter", JITTER)):
            epochs = {
                f"epoch, {what}: ImageFolder, DataLoader": loader_epoch(
                    folder / "small", jitter, given.workers
                ),
                f"epoch, {what}: cache": cache_epoch(pixels, jitter, given.workers),
            }
            speed_rows(epochs, rounds, small)
        paths = photographs(folder / "large", large, 4_000, 3_000)
        builds = {
            "build, 12 megapixels: full decoding": plain_build(paths, given.workers),
            "build, 12 megapixels: cache": cache_build(paths, folder / "built", given.workers),
        }
        speed_rows(builds, rounds, large)
        path = synthetic_cache(folder / "synthetic", gigabytes)
        (import_one, one), (import_four, four) = memory(path, 1), memory(path, 4)
        for what, few, many in (
            ("above imports", one - import_one, four - import_four),
            ("imports included", one, four),
        ):
            print(f"| memory, {gigabytes} GB, {what}: one process | {few:.2f} GB | 1.00 |")
            print(f"| memory, {gigabytes} GB, {what}: four | {many:.2f} GB | {many / few:.2f} |")


if __name__ == "__main__":
    main()
