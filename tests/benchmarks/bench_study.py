"""What a study costs besides training, as Markdown tables.

    python tests/benchmarks/bench_study.py                     # start-up, then 1,000 trials
    python tests/benchmarks/bench_study.py --trials 100 --concurrent 16

First what a trial costs beside training and evaluation, with actors that are reused and with new
ones, in turn. Then trials that do nothing, many at a
time on a simulated machine of that many CPUs: trials a second and the driver's memory over time.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import ray
from ray import tune

from study import cluster, runner
from study.plan import Plan
from study.results import Study
from study.runner import run_study

REUSE = tune.TuneConfig
START = cluster.ray.init


class NoTraining(tune.Trainable):
    """Reports as a trial does, without a network: mAP depends on the trial's learning rate."""

    def setup(self, config: dict[str, Any], split: Any = None) -> None:
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.config, self.epoch = new_config, 0
        return True

    def step(self) -> dict[str, Any]:
        self.epoch += 1
        score = 1 - 1 / (2 + self.epoch) - abs(self.config["lr"] - 1e-3)
        zeros = dict.fromkeys(("train_loss", "val_loss", "seconds", "evaluation_seconds"), 0.0)
        return {
            **zeros,
            "epoch": self.epoch,
            "val_map": max(0.0, score),
            "images_per_second": 0.0,
            "precision": "float32",
            "done": self.epoch >= self.config["epochs"],
        }

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        (Path(checkpoint_dir) / "checkpoint.pt").write_text(str(self.epoch))

    def load_checkpoint(self, checkpoint: Any) -> None:
        self.epoch = int((Path(checkpoint) / "checkpoint.pt").read_text())


def overhead(folder: Path, reuse: bool, trials: int) -> float:
    """Seconds a trial beside its training and evaluation, two at a time, after the first two."""
    runner.tune.TuneConfig = functools.partial(_tune_config, reuse=reuse)
    plan = Plan(losses=["smooth_ap"], num_samples=trials, max_epochs=1, smoke_test=True)
    study = run_study(dataclasses.replace(plan, max_concurrent=2), folder)
    ends = sorted(trial.ended or 0.0 for trial in study.trials)
    later = [trial for trial in study.trials if (trial.ended or 0.0) > ends[1]]
    spent = sum(trial.seconds for trial in later)
    return (2 * ends[-1] - ends[0] - ends[1] - spent) / len(later)


def _tune_config(reuse: bool, **options: Any) -> Any:
    return REUSE(**{**options, "reuse_actors": reuse})


def many_trials(folder: Path, trials: int, concurrent: int) -> pd.DataFrame:
    """Trials ended and the driver's memory in MiB, every five seconds."""
    runner.tune.TuneConfig = REUSE
    runner.RetrievalTrial = NoTraining  # type: ignore[misc, assignment]
    cluster.ray.init = functools.partial(START, num_cpus=concurrent)
    rows: list[dict[str, float]] = []
    finished = threading.Event()

    def watch() -> None:
        start = time.monotonic()
        while not finished.wait(5):
            names = list((folder / "trials").glob("*.json"))
            memory = psutil.Process().memory_info().rss / 2**20
            rows.append({"s": time.monotonic() - start, "started": len(names), "MiB": memory})

    threading.Thread(target=watch, daemon=True).start()
    plan = Plan(losses=["smooth_ap"], num_samples=trials, max_epochs=3, smoke_test=True)
    run_study(plan, folder)
    finished.set()
    cluster.ray.init = START
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description="What a study costs besides training.")
    parser.add_argument("--trials", type=int, default=1_000)
    parser.add_argument("--concurrent", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        waits: dict[bool, list[float]] = {True: [], False: []}
        for turn in range(given.rounds):
            for reuse in (True, False):
                waits[reuse].append(overhead(folder / f"{turn}-{reuse}", reuse, trials=8))
        medians = {reuse: statistics.median(each) for reuse, each in waits.items()}
        table = many_trials(folder / "many", given.trials, given.concurrent)
        study = Study.load(folder / "many")
    print("\n| actors | s a trial beside training | ratio |\n|---|--:|--:|")
    for reuse, name in ((True, "reused"), (False, "new")):
        print(f"| {name} | {medians[reuse]:.2f} | {medians[reuse] / medians[True]:.1f} |")
    ends = [trial.ended for trial in study.trials if trial.ended]
    starts = [trial.started for trial in study.trials if trial.started]
    rate = len(ends) / (max(ends) - min(starts))
    print(f"\n{len(ends)} trials, {given.concurrent} at a time: {rate:.2f} trials/s\n")
    shown = table.iloc[:: max(1, len(table) // 10)]
    print(shown.round(0).astype(int).to_markdown(index=False))


if __name__ == "__main__":
    try:
        main()
    finally:
        ray.shutdown()
