"""What the length of the warm-up does to runs of few steps and of many.

    python tests/benchmarks/bench_warmup.py [--loss triplet]

The defaults of a loss at each rung, each a run of its own with a whole schedule: validation mAP
where the learning rate rises over a tenth, three tenths and half of the steps. One seed each.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from study.search.space import default
from tests.benchmarks.record_curves import LONGEST, LOSSES, RUNGS
from trainables.data import resolve
from trainables.train import TrainingRun

SHARES = (0.1, 0.3, 0.5)


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare warm-ups at each rung.")
    parser.add_argument("--loss", choices=LOSSES, action="append")
    options = parser.parse_args()
    torch.set_num_threads(1)
    split = resolve("fashion_mnist").split()
    print(f"| loss | warm-up | {' | '.join(f'{rung:.3g}' for rung in RUNGS)} |")
    print("|---|--:|" + "--:|" * len(RUNGS))
    for loss in options.loss or LOSSES:
        usual = default(loss, epochs=LONGEST, seed=0)
        for share in SHARES:
            values = []
            for rung in RUNGS:
                run = TrainingRun(usual.replace(epochs=rung, warmup=share), split)
                values.append(run.train_until(rung).val_map)
            print(f"| {loss} | {share} | {' | '.join(f'{v:.4f}' for v in values)} |", flush=True)


if __name__ == "__main__":
    main()
