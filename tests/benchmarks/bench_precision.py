"""What bfloat16 costs in validation mAP, as a Markdown table.

    python tests/benchmarks/bench_precision.py [--loss LOSS ...] [--seeds N] [--epochs E]

The defaults of each loss's search space, trained in float32 and in bfloat16 from the same seeds, a
run a core. The bar: the means over seeds differ by less than 0.005.
"""

from __future__ import annotations

import os
import sys
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from pathlib import Path

import pandas as pd
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from study.search.space import default
from tests.configurations import LOSSES
from trainables.data import resolve
from trainables.terminal import Parser
from trainables.train import TrainingRun

PRECISIONS = ("float32", "bfloat16")


def final_map(loss: str, seed: int, epochs: int, precision: str) -> float:
    """Validation mAP after the last epoch."""
    torch.set_num_threads(1)
    config = default(loss, epochs=epochs, seed=seed, precision=precision)
    *_, last = TrainingRun(config, resolve("fashion_mnist").split())
    return last.val_map


def main() -> None:
    parser = Parser(description="What bfloat16 costs in validation mAP.")
    parser.add_argument("--loss", action="append", choices=LOSSES, dest="losses")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=10)
    given = parser.parse_args()
    keys = list(product(given.losses or LOSSES, range(given.seeds), [given.epochs], PRECISIONS))
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        maps = pool.map(final_map, *zip(*keys, strict=True))
        rows = [(*key, value) for key, value in zip(keys, maps, strict=True)]
    table = pd.DataFrame(rows, columns=["loss", "seed", "epochs", "precision", "mAP"])
    wide = table.pivot(index=["loss", "epochs", "seed"], columns="precision", values="mAP")
    wide["difference"] = wide["bfloat16"] - wide["float32"]
    print(wide.reset_index().to_markdown(index=False, floatfmt=".4f"), "\n")
    means = wide.groupby("loss", sort=False).mean()
    print(means.to_markdown(floatfmt=".4f"))


if __name__ == "__main__":
    main()
