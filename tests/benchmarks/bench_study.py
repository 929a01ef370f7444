"""What a study costs besides training, as Markdown tables.

    python tests/benchmarks/bench_study.py                     # start-up, then 1,000 configurations
    python tests/benchmarks/bench_study.py --rounds 0 --trials 300 --concurrent 8

First what a trial costs beside training and evaluation, with actors that are reused and with new
ones, in turn. Then trials that do nothing, many at a time on a simulated machine of that many
CPUs: results a second (a trial of a rung of 27 epochs has 27 of them), the driver's own
core-milliseconds a result, which no other load disturbs, and its memory over time.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import ray
from ray import tune

from study.results.trials import TrialRecord
from study.run import cluster, runner
from study.run.plan import Plan
from study.run.progress import Progress
from study.run.runner import run_study
from trainables.metrics import METRICS
from trainables.terminal import Parser

REUSE = tune.TuneConfig
START = cluster.ray.init
EVERY = 100  # trials


class NoTraining(tune.Trainable):
    """Reports as a trial does, without a network: mAP depends on the trial's learning rate."""

    def setup(self, config: dict[str, Any], split: Any = None) -> None:
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.config, self.epoch = new_config, 0.0
        return True

    def step(self) -> dict[str, Any]:
        self.epoch = min(math.floor(self.epoch) + 1, self.config["epochs"])
        score = 1 - 1 / (2 + self.epoch) - abs(self.config["lr"] - 1e-3)
        zeros = dict.fromkeys(("train_loss", "val_loss", "seconds", "evaluation_seconds"), 0.0)
        return {
            **zeros,
            **{f"val_{name}": max(0.0, score) for name in METRICS},
            "epoch": self.epoch,
            "images_per_second": 0.0,
            "precision": "float32",
            "done": self.epoch >= self.config["epochs"],
        }

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        (Path(checkpoint_dir) / "checkpoint.pt").write_text(str(self.epoch))

    def load_checkpoint(self, checkpoint: Any) -> None:
        self.epoch = float((Path(checkpoint) / "checkpoint.pt").read_text())


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
    """The driver before the first trial and after every hundred: results, seconds, core-ms a result
    and its memory in MiB."""
    rows: list[dict[str, float]] = []

    class Measured(Progress):
        """Counts the trials that end."""

        ended = 0

        def __call__(self, record: TrialRecord) -> None:
            super().__call__(record)
            self.ended += record.status != "running"
            if self.ended >= EVERY * len(rows):
                results = sum(len(trial.epochs) for trial in self.study.trials)
                row = {"ended": self.ended, "results": results, "s": time.monotonic()}
                memory = psutil.Process().memory_info().rss / 2**20
                rows.append({**row, "core-ms": 1e3 * time.process_time(), "MiB": memory})

    runner.Progress = Measured  # type: ignore[misc]
    runner.tune.TuneConfig = REUSE
    runner.RetrievalTrial = NoTraining  # type: ignore[misc, assignment]
    # Without images: their class would bring torch into every worker, 20 GB for 64 of them.
    runner.tune.with_parameters = lambda trainable, **_: trainable
    cluster.ray.init = functools.partial(START, num_cpus=concurrent)
    plan = Plan(
        losses=["smooth_ap"],
        num_samples=trials,
        max_epochs=27,
        final_seeds=2,
        smoke_test=True,
    )
    run_study(plan, folder)
    table = pd.DataFrame(rows)
    table["s"] -= table["s"][0]
    between = table.diff()
    table["results/s"] = between["results"] / between["s"]
    table["core-ms"] = between["core-ms"] / between["results"]
    return table.rename(columns={"core-ms": "core-ms a result"})


def main() -> None:
    parser = Parser(description="What a study costs besides training.")
    parser.add_argument("--trials", type=int, default=1_000)
    parser.add_argument("--concurrent", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=2, help="of the start-up part")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        waits: dict[bool, list[float]] = {True: [], False: []}
        for turn in range(given.rounds):
            for reuse in (True, False):
                waits[reuse].append(overhead(folder / f"{turn}-{reuse}", reuse, trials=8))
        table = many_trials(folder / "many", given.trials, given.concurrent)
    if waits[True]:
        medians = {reuse: statistics.median(each) for reuse, each in waits.items()}
        print("\n| actors | s a trial beside training | ratio |\n|---|--:|--:|")
        for reuse, name in ((True, "reused"), (False, "new")):
            print(f"| {name} | {medians[reuse]:.2f} | {medians[reuse] / medians[True]:.1f} |")
    print(f"\n{given.trials} configurations, {given.concurrent} trials at a time:\n")
    print(table.to_markdown(index=False, floatfmt=(*[".0f"] * 5, ".1f")))


if __name__ == "__main__":
    try:
        main()
    finally:
        ray.shutdown()
