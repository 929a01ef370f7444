"""As good as it gets: the last part of 2026-11-26-plan.md, step by step, on validation images.

    python study/records/as_good.py results/       # goes on where it was ended

A step is one run, the final of a study of one configuration (`results/good-01`, ...); what it adds
is kept if the best validation mAP of its run is higher than without. The bases have the medians, or
the most frequent, of what their searches on Fashion-MNIST's own classes chose. A learning rate is
kept relative to what is usual for its batch. It ends with the command that reads the test images,
and with `as_good.csv`, a row an epoch: what was added, to which loss, its validation mAP, seconds.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd

from study.judge.choices import Frozen
from study.results.studies import Study
from study.run.cluster import ROOT
from study.search.space import usual_lr
from trainables.knobs import Choice, range_of, shortened, spelled

RECORDS = sorted((ROOT / "study" / "records").glob("2026-11-26-closed-*"))
BASES = ("normalized_softmax", "smooth_ap", "pml:SupConLoss")
SUM = ("smooth_ap", "normalized_softmax")  # of the second come the knobs that both share
EPOCHS, LONGER, TEACHING = 60, 240, 20
SEED, TEST_SEED = 700_000, 710_000
MOST_HOURS = 6.0  # of cores
TEACHER = "study/examples/wide_cnn.py:wide_cnn"
OWN = ("lr", "batch_size", "averaging")  # of a network: a teacher has its own
#: In this order; of several in a row the best is kept.
ADDED: Sequence[Mapping[str, Mapping[str, Any]]] = (
    {"mirrored": {"flip": True}},
    {"shifted by a pixel": {"shift": 1}},
    {"a square of 4 pixels erased": {"erase": 4}},
    {"crops of 0.8": {"crop": 0.8}},
    {"half the learning rate": {"lr": 0.5}},  # of what it was
    {"averaging of 0.995": {"averaging": 0.995}, "averaging of 0.999": {"averaging": 0.999}},
    {"batches of 128": {"batch_size": 128}, "batches of 512": {"batch_size": 512}},
    {f"a teacher of weight {weight}": {"teacher_weight": weight} for weight in (10, 30, 100)},
    {"240 epochs": {"epochs": LONGER}},
)


@dataclass(frozen=True)
class Step:
    """One run: a loss with all its knobs fixed; `teacher` is the checkpoint of one, if it has."""

    added: str
    loss: str
    knobs: Mapping[str, Any]
    epochs: int = EPOCHS
    teacher: str = ""
    network: str = ""

    @property
    def spec(self) -> str:
        """The loss as `--loss` takes it."""
        return f"{self.loss}:{','.join(f'{k}={spelled(v)}' for k, v in self.knobs.items())}"

    def options(self) -> list[str]:
        """Of the program, but for seeds and sizes."""
        beside = {"--teacher": self.teacher, "--network": self.network}
        words = ["--loss", self.spec, "--max-epochs", str(self.epochs)]
        return words + [word for name, one in beside.items() if one for word in (name, one)]

    def with_added(self, added: str, changes: Mapping[str, Any], teacher: str = "") -> Step:
        knobs, more = dict(self.knobs), dict(changes)
        epochs = more.pop("epochs", self.epochs)
        if "lr" in more:
            more["lr"] = shortened(knobs["lr"] * more["lr"])
        if "batch_size" in more:
            usual = (usual_lr({"optimizer": "adam", "batch_size": one})
                     for one in (more["batch_size"], knobs.get("batch_size", 256)))  # fmt: skip
            now, before = usual
            more["lr"] = shortened(knobs["lr"] * now / before)
        knobs |= more
        return replace(
            self, added=added, knobs=knobs, epochs=epochs, teacher=teacher or self.teacher
        )


def chosen(records: Sequence[Path], loss: str) -> dict[str, Any]:
    """Of the knobs that a loss's searches looked for: the median of their choices, of a few values
    the most frequent (of as frequent ones the first of the range)."""
    studies = [Study.load(record) for record in records]
    configs = [Frozen.load(record).choices[loss].config.flat() for record in records]
    found = {}
    for row in studies[0].info["space"]:
        users, values = row["used by"].split(", "), range_of(row["range"])
        if users != ["all"] and loss not in users:
            continue
        knob = "lr" if row["knob"] == "lr_factor" else row["knob"]
        mine = [config[knob] for config in configs]
        if isinstance(values, Choice):
            many = Counter(mine)
            found[knob] = max(values.values, key=lambda value: many[value])
        else:
            found[knob] = shortened(median(mine))
    return {knob: value for knob, value in found.items() if knob != "batch_size"}  # as it is


def bases(records: Sequence[Path]) -> list[Step]:
    """What is begun with: three losses, and the sum of two."""
    alone = {loss: chosen(records, loss) for loss in BASES}
    steps = [Step(loss, loss, alone[loss]) for loss in BASES]
    both = {**alone[SUM[0]], **alone[SUM[1]], f"{SUM[1]}_weight": 1.0}
    return [*steps, Step("+".join(SUM), "+".join(SUM), both)]


def climb(
    records: Sequence[Path], run: Callable[[Step], float], teach: Callable[[Step], str]
) -> Iterator[tuple[Step, float, bool]]:
    """Each step with its score, and whether it was kept.

    Args:
        run: gives the best validation mAP of a step's run.
        teach: trains a teacher with a step's loss and augmentation; gives its checkpoint.
    """
    scores = [(run(step), step) for step in bases(records)]
    best, now = max(scores, key=lambda one: one[0])
    yield from ((step, score, step is now) for score, step in scores)
    for tried in ADDED:
        teacher = ""
        if any("teacher_weight" in changes for changes in tried.values()):
            teacher = teach(now)
        steps = [now.with_added(added, changes, teacher) for added, changes in tried.items()]
        scores = [(run(step), step) for step in steps]
        highest, step = max(scores, key=lambda one: one[0])
        kept = highest > best
        yield from ((each, score, kept and each is step) for score, each in scores)
        if kept:
            best, now = highest, step


class Runs:
    """The studies of the steps, in a folder; one that is finished is not run again."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.count, self.rows = folder, 0, list[dict[str, Any]]()

    def run(self, step: Step) -> float:
        study = self._study(step)
        (loss,) = study.losses
        ((final,),) = study.finals(loss).values()
        for row in final.epochs:
            self.rows.append({"study": study.folder.name, "added": step.added, "loss": step.spec,
                              "epochs": step.epochs, "epoch": row["epoch"],
                              "val_map": row["val_map"]})  # fmt: skip
        assert final.score is not None
        return final.score

    def teach(self, step: Step) -> str:
        knobs = {name: value for name, value in step.knobs.items() if name not in OWN}
        study = self._study(Step("the teacher", step.loss, knobs, TEACHING, network=TEACHER))
        (choice,) = study.best().values()
        assert choice.checkpoint is not None
        return str(choice.checkpoint)

    def hours(self) -> float:
        """Of training on one core, so far."""
        studies = [Study.load(path.parent) for path in self.folder.glob("good-*/study.json")]
        return sum(trial.seconds for study in studies for trial in study.trials) / 3600

    def _study(self, step: Step) -> Study:
        self.count += 1
        name = f"good-{self.count:02d}"
        words = [sys.executable, str(ROOT / "study" / "tune_smoothap.py"), "--name", name]
        words += ["--storage-path", str(self.folder)]
        begun = (self.folder / name / "study.json").exists()
        if begun and Study.load(self.folder / name).info["status"] == "finished":
            return Study.load(self.folder / name)
        if not begun:
            if self.hours() > MOST_HOURS:
                raise SystemExit(f"{MOST_HOURS:g} core-hours are spent before {step.added}")
            words += ["--seed", str(SEED), "--num-samples", "1", "--final-seeds", "1"]
            words += step.options()
        print(f"{name}: {step.added}", flush=True)
        subprocess.run([*words, *["--resume"] * begun], check=True, cwd=ROOT)
        return Study.load(self.folder / name)


def main(folder: Path) -> None:
    runs, best, kept = Runs(folder), None, dict[str, bool]()
    try:
        for step, score, keep in climb(RECORDS, runs.run, runs.teach):
            print(f"{step.added}: {score:.4f}{', kept' * keep}", flush=True)
            kept[step.added] = keep
            best = step if keep else best
    finally:
        table = pd.DataFrame(runs.rows)
        table["kept"] = table["added"].map(kept)
        table.to_csv(folder / "as_good.csv", index=False)
    assert best is not None
    words = ["python", "study/compare_losses.py", "--seed", str(TEST_SEED), "--num-samples", "1"]
    words += ["--final-seeds", "0", "--confirm-seeds", "5", "--rerank", *best.options()]
    print(f"{runs.hours():.2f} core-hours; then: {shlex.join(words)}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
