"""Records real curves of quasi-random configurations, on which searches are replayed.

    python tests/benchmarks/record_curves.py --loss smooth_ap [--part 0/2]

A line of `tests/benchmarks/curves/<loss>.jsonl` is one configuration at one rung: its value there,
and what it cost since the line before. What is recorded is not trained again, so that this can be
ended at any time and goes on where it was. Processes with the parts 0/2 and 1/2 share the work.

Each rung is a run of its own with a whole schedule (`complete`), which is what a study does; the
first COMPARED configurations, whatever they promise, and the promising ones of the others are taken
to the longest rungs first. Of the first COMPARED there are other schedules too, of each of ENDS
epochs:

    whole      one run with one schedule, a tenth of it warm-up, judged at the rungs
    averaged   the same run's averaged weights (a decay of 0.995 a step)
    stable     one run at a constant rate, of which a copy decays to 0 over the last fifth of each
               rung (warm-up, stable, decay)

With `--before` it is `<loss>-before.jsonl`: fewer configurations, of all knobs that a search once
had, from one epoch on, as it had no lower rung. `<loss>-wider.jsonl` is what a first recording had,
which narrowed the space to what it is: it is not added to.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import math
import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from study.search.draws import evenly
from study.search.space import SPACE, WIDE, Space, configured
from trainables.config import TrialConfig
from trainables.data import Split, resolve
from trainables.metrics import RetrievalResult
from trainables.train import DivergedError, TrainingRun

LOSSES = ("smooth_ap", "triplet", "cross_entropy", "normalized_softmax")
CONFIGURATIONS, COMPARED, ENDS, LONGEST = 200, 12, (1, 3, 9), 9
RUNGS = tuple(LONGEST / 3**k for k in (4, 3, 2, 1, 0))
TAKEN = (1.0, 1.0, 1 / 3, 1 / 9, 1 / 27)  # of the configurations, to a rung, at first
FEW_QUERIES = 1_000
DECAY = 0.2
RECORDED = SPACE.changed(resolve("fashion_mnist").changes_of(wide=False))
# What had ranges that the first recording narrowed, and the warm-up that there was then.
WIDER = {"anchors": {"choices": [10, "all"]}, "tau": {"range": [5e-4, 0.5]}}
# Of these batches none has several images of each class, as there are ten classes.
OLDER = {"warmup": {"choices": [0.0, 0.1], "default": 0.1}, "per_class": {"choices": [None]}}
# And as the space was before there were few knobs.
BEFORE = WIDE.changed(WIDER | OLDER)
CONFIGURATIONS_BEFORE, TAKEN_BEFORE = 60, (0.0, 0.0, 1.0, 1 / 3, 1 / 9)
CURVES = Path(__file__).parent / "curves"
Lines = list[dict[str, Any]]


class Watched(TrainingRun):
    """A training run that keeps how each query was answered."""

    result: RetrievalResult

    def _validate(self) -> tuple[float | None, RetrievalResult]:
        loss, self.result = super()._validate()
        return loss, self.result

    def judge(self, epochs: float) -> dict[str, Any]:
        """Trains to so many epochs; the values there, or that it diverged, and what it cost."""
        start = time.process_time()
        try:
            metrics = self.train_until(epochs)
        except DivergedError:
            return {"map": 0.0, "diverged": True, "core_seconds": time.process_time() - start}
        few = float(self.result.average_precision[:FEW_QUERIES].mean())
        return {
            "map": metrics.val_map,
            "map_of_1000": few,
            "core_seconds": round(time.process_time() - start, 3),
            "evaluation_seconds": round(metrics.evaluation_seconds, 3),
        }

    def bare(self) -> float:
        """The mAP of the weights themselves where averaged ones are judged."""
        average, self.average = self.average, None
        try:
            return float(self._validate()[1].mean_average_precision)
        finally:
            self.average = average


def configuration(
    loss: str, number: int, space: Space = RECORDED
) -> tuple[TrialConfig, dict[str, Any]]:
    """Configuration `number` of the recording, and its knobs."""
    fixed = {"loss": loss, "epochs": LONGEST, "seed": 0}
    return configured(evenly(loss, number, 17, LOSSES.index(loss), space=space), fixed, space)


class Recording:
    """The lines of a loss, of which this process adds those of its part."""

    def __init__(self, loss: str, part: int, parts: int, *, before: bool = False) -> None:
        self.loss, self.path = loss, CURVES / f"{loss}{'-before' if before else ''}.jsonl"
        self.space, self.before = BEFORE if before else RECORDED, before
        self.mine = range(part, CONFIGURATIONS_BEFORE if before else CONFIGURATIONS, parts)
        self.split: Split = resolve("fashion_mnist").split()
        self.path.parent.mkdir(exist_ok=True)
        self.path.touch()
        self.lines: Lines = [json.loads(line) for line in self.path.read_text().splitlines()]

    def value(
        self, number: int, epochs: float, schedule: str = "complete", end: float | None = None
    ) -> float | None:
        """What is recorded of a configuration; `end` is of the schedules that are longer."""
        wanted = (number, epochs, schedule, end)
        for line in self.lines:
            if tuple(map(line.get, ("configuration", "epochs", "schedule", "end"))) == wanted:
                return float(line["map"])
        return None

    def add(
        self,
        number: int,
        epochs: float,
        schedule: str,
        found: dict[str, Any],
        end: float | None = None,
    ) -> None:
        line = {"configuration": number, "schedule": schedule, "epochs": epochs, **found}
        line |= {} if end is None else {"end": end}
        line |= {"precision": self.precision, "processor": processor()}
        if schedule == "complete":
            line |= {"knobs": configuration(self.loss, number, self.space)[1]}
        self.lines.append(line)
        with self.path.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(json.dumps(line) + "\n")

    def run(self, number: int, **changes: Any) -> Watched:
        config, _ = configuration(self.loss, number, self.space)
        run = Watched(config.replace(**changes), self.split)
        self.precision = run.precision
        return run

    def complete(self, number: int, epochs: float) -> None:
        if self.value(number, epochs) is None:
            run = self.run(number, epochs=epochs)
            self.add(number, epochs, "complete", run.judge(epochs))

    def compare(self, number: int, end: float) -> None:
        """The other schedules of a configuration, of so many epochs."""
        rungs = [rung for rung in RUNGS if rung <= end]
        if self.value(number, end, "whole", end) is None:
            run = self.run(number, epochs=end, warmup=0.1, averaging=0.995)
            for rung in rungs:
                found = run.judge(rung)
                self.add(number, rung, "averaged", found, end)
                if "diverged" in found:
                    break
                self.add(number, rung, "whole", {"map": run.bare()}, end)
        if self.value(number, end, "stable", end) is None:
            self.stable(number, rungs)

    def stable(self, number: int, rungs: list[float]) -> None:
        end = rungs[-1]
        trunk = self.run(number, epochs=end, schedule="constant", warmup=0.02)
        for rung in rungs:
            start = time.process_time()
            try:
                trunk.train_until((1 - DECAY) * rung)
            except DivergedError:
                self.add(number, rung, "stable", {"map": 0.0, "diverged": True}, end)
                return
            found = self.decayed(trunk, rung)
            found["core_seconds"] = round(time.process_time() - start, 3)
            self.add(number, rung, "stable", found, end)

    def decayed(self, trunk: Watched, rung: float) -> dict[str, Any]:
        """A copy of a run, whose rate falls to 0 over the rest of the rung."""
        with tempfile.TemporaryDirectory() as folder:
            trunk.save(Path(folder) / "trunk.pt")
            branch = Watched(trunk.config, self.split)
            branch.load(Path(folder) / "trunk.pt")
        begin, end = branch.step, max(branch.step + 1, round(rung * branch.steps_per_epoch))
        rates = [group["initial_lr"] for group in branch.optimizer.param_groups]
        branch.schedule = torch.optim.lr_scheduler.LambdaLR(
            branch.optimizer, lambda step: max(0.0, 1 - step / (end - begin))
        )
        for group, rate in zip(branch.optimizer.param_groups, rates, strict=True):
            group["initial_lr"] = rate
        return branch.judge(rung)

    def compared(self, end: float) -> Iterator[str]:
        for number in [n for n in self.mine if n < COMPARED]:
            self.complete(number, end)
            self.compare(number, end)
            yield f"{number} compared, {end} epochs"

    def ended(self) -> Iterator[str]:
        """The configurations that are compared, whatever they promise, to each rung."""
        for number in [n for n in self.mine if n < COMPARED]:
            for rung in RUNGS:
                self.complete(number, rung)
            yield f"{number} to its end"

    def climbed(self, shares: tuple[float, ...]) -> Iterator[str]:
        """So large a share of the configurations to each rung, the best of the rung below."""
        below = None
        for rung, share in zip(RUNGS, shares, strict=True):
            ranked = [*self.mine]
            if below is not None:
                lower = {number: self.value(number, below) or 0.0 for number in ranked}
                ranked.sort(key=lambda number: -lower[number])
            for number in ranked[: math.ceil(share * len(ranked))]:
                self.complete(number, rung)
                yield f"{number} to {rung:.3g}"
            below = rung

    def stages(self) -> list[Iterator[str]]:
        """All that is to be recorded, in the order in which it is wanted."""
        if self.before:
            return [self.climbed(TAKEN_BEFORE)]
        every = (1.0,) * len(RUNGS)
        short, middle, longest = ENDS
        return [
            self.climbed((*TAKEN[:3], 0.0, 0.0)),
            self.climbed(TAKEN),
            self.compared(middle),
            self.ended(),
            self.compared(short),
            self.compared(longest),
            self.climbed(every),
        ]


def processor() -> str:
    """What the operating system calls the processor."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor()
    return next((x.split(":")[1].strip() for x in text.splitlines() if "model name" in x), "")


def main() -> None:
    parser = argparse.ArgumentParser(description="Record the curves of a loss's configurations.")
    parser.add_argument("--loss", choices=LOSSES, action="append", required=True)
    parser.add_argument("--part", default="0/1", help="of the work, as 0/2 and 1/2")
    parser.add_argument("--before", action="store_true", help="of all knobs that there once were")
    options = parser.parse_args()
    part, parts = map(int, options.part.split("/"))
    torch.set_num_threads(1)
    before = options.before
    stages = [Recording(loss, part, parts, before=before).stages() for loss in options.loss]
    for several in zip(*stages, strict=True):
        for loss, stage in zip(options.loss, several, strict=True):
            for done in stage:
                print(loss, done, flush=True)


if __name__ == "__main__":
    main()
