"""As good as it gets: the last part of 2026-11-26-plan.md, step by step, on validation images.

    python study/records/as_good.py results/       # goes on where it was ended

A step is one run, the final of a study of one configuration (`results/good-01`, ...); what it adds
is kept if the best validation mAP of its run is higher than without. The bases have the medians, or
the most frequent, of what their searches on Fashion-MNIST's own classes chose. A learning rate is
kept relative to what is usual for its batch. It ends, also where its hours are spent, with the
command that reads the test images, and with `as_good.csv`: a row an epoch of every run, those of
the lowest rung and of the teacher too, with what was added, to which loss, its validation mAP and
its seconds.
"""

from __future__ import annotations

import math
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
from study.results.files import write_atomically
from study.results.studies import Study
from study.results.trials import TrialRecord
from study.run.cluster import ROOT
from study.run.plan import Plan
from study.search.changes import read_setting
from study.search.space import usual_lr
from trainables.knobs import Choice, range_of, shortened, spelled

RECORDS = sorted((ROOT / "study" / "records").glob("2026-11-26-closed-*"))
BASES = ("normalized_softmax", "smooth_ap", "pml:SupConLoss")
SUM = ("smooth_ap", "normalized_softmax")  # of the second come the knobs that both share
EPOCHS, LONGER, TEACHING = 60, 240, 20
SEED, TEST_SEED = 700_000, 710_000
MOST_HOURS, TRIES = 6.0, 3  # of cores; of a study that a fault ended
OF_THE_PLAN = 10  # comparisons, of which all are waited for
TEACHER = f"{ROOT / 'study' / 'examples' / 'wide_cnn.py'}:wide_cnn"
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


class SpentError(Exception):
    """The core-hours that the plan gives are spent."""


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
    def settings(self) -> list[str]:
        """As `--set` takes them. (In the loss's name they would name files, too long ones.)"""
        return [f"{knob}={spelled(value)}" for knob, value in self.knobs.items()]

    def options(self) -> list[str]:
        """Of the program, but for seeds and sizes."""
        words = ["--loss", self.loss, "--max-epochs", str(self.epochs)]
        words += [word for one in self.settings for word in ("--set", one)]
        beside = {"--teacher": self.teacher, "--network": self.network}
        return words + [word for name, one in beside.items() if one for word in (name, one)]

    def plan(self, **fields: Any) -> Plan:
        """What the program makes of these options, with other fields beside."""
        named: dict[str, Any] = {"teacher": self.teacher, "network": self.network}
        return Plan(
            losses=[self.loss],
            max_epochs=self.epochs,
            changes=dict(map(read_setting, self.settings)),
            **{name: one for name, one in named.items() if one},
            **fields,
        )

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
    configs = [Frozen.load(record).choices[loss].config.flat() for record in records]
    found = {}
    for row in Study.load(records[0]).info["space"]:
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
    """Each step with its score, and whether it was kept; it ends early where the hours are spent.

    Args:
        run: gives the best validation mAP of a step's run, -inf where it diverged.
        teach: trains a teacher with a step's loss and augmentation; gives its checkpoint. Both
            raise SpentError before a run for which no hours are left.
    """
    best, spent = -math.inf, False
    now: Step | None = None
    for tried in (None, *ADDED):
        scores: list[tuple[float, Step]] = []
        try:
            steps = bases(records) if tried is None or now is None else _added(now, tried, teach)
            for step in steps:
                scores.append((run(step), step))
        except SpentError:
            spent = True
        ended = [score for score, _ in scores]
        kept = max(ended, default=best) > best
        if kept:
            best = max(ended)
            now = scores[ended.index(best)][1]
        yield from ((step, score, kept and step is now) for score, step in scores)
        if spent or now is None:
            return


def _added(
    now: Step, tried: Mapping[str, Mapping[str, Any]], teach: Callable[[Step], str]
) -> list[Step]:
    taught = any("teacher_weight" in changes for changes in tried.values())
    teacher = teach(now) if taught else ""
    return [now.with_added(added, changes, teacher) for added, changes in tried.items()]


class Runs:
    """The studies of the steps, in a folder; one that is finished is not run again."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.count, self.rows = folder.resolve(), 0, list[dict[str, Any]]()

    def run(self, step: Step) -> float:
        final = self._final(step)
        return final.score if final.is_sound else -math.inf

    def teach(self, step: Step) -> str:
        knobs = {name: value for name, value in step.knobs.items() if name not in OWN}
        final = self._final(Step("the teacher", step.loss, knobs, TEACHING, network=TEACHER))
        if final.checkpoint is None:
            raise SystemExit(f"the teacher has no checkpoint: {final.cause}")
        return str(final.checkpoint)

    def hours(self) -> float:
        """Of training on one core, so far."""
        studies = [Study.load(path.parent) for path in self.folder.glob("good-*/study.json")]
        return sum(trial.seconds for study in studies for trial in study.trials) / 3600

    def table(self, kept: Mapping[str, bool]) -> pd.DataFrame:
        """A row an epoch of all runs so far; `kept` by what was added."""
        return pd.DataFrame([row | {"kept": kept.get(row["added"])} for row in self.rows])

    def _final(self, step: Step) -> TrialRecord:
        """The run of a step for all its epochs."""
        self.count += 1
        study = self._study(f"good-{self.count:02d}", step)
        for trial in study.trials:
            for row in trial.epochs:
                self.rows.append({"study": study.folder.name, "added": step.added,
                                  "loss": step.loss, "settings": " ".join(step.settings),
                                  "trial": trial.trial_id, "epochs": trial.config.epochs,
                                  "epoch": row["epoch"], "val_map": row["val_map"],
                                  "seconds": row["seconds"]})  # fmt: skip
        return study.trials[-1]  # or the one before it, if that diverged

    def _study(self, name: str, step: Step) -> Study:
        """The finished study of this step; what failed, by a fault of the machine, is tried again.

        Raises:
            SpentError: it is not begun, and no hours are left.
            SystemExit: the folder has another step's study, or it did not come to its end.
        """
        folder, fields = self.folder / name, {"seed": SEED, "num_samples": 1, "final_seeds": 1}
        words = [sys.executable, str(ROOT / "study" / "tune_smoothap.py"), "--name", name]
        words += ["--storage-path", str(self.folder)]
        for _ in range(TRIES):
            begun = (folder / "study.json").exists()
            if begun:
                study = Study.load(folder)
                differences = step.plan(**fields).differences(study.info["plan"])
                if differences:
                    raise SystemExit(f"{folder} is of another step: {'; '.join(differences)}")
                failed = any(trial.status == "failed" for trial in study.trials)
                if study.info["status"] == "finished" and not failed:
                    return study
            elif self.hours() > MOST_HOURS:
                raise SpentError
            given = [f"--{field.replace('_', '-')}={value}" for field, value in fields.items()]
            print(f"{name}: {step.added}", flush=True)
            subprocess.run([*words, *(["--resume"] if begun else [*given, *step.options()])])
        raise SystemExit(f"{folder} did not come to its end")


def main(folder: Path) -> None:
    if len(RECORDS) != OF_THE_PLAN:
        raise SystemExit(f"it begins with {OF_THE_PLAN} comparisons; {len(RECORDS)} are there")
    runs, best, kept = Runs(folder), None, dict[str, bool]()
    try:
        for step, score, keep in climb(RECORDS, runs.run, runs.teach):
            print(f"{step.added}: {score:.4f}{', kept' * keep}", flush=True)
            kept[step.added] = keep
            best = step if keep else best
    finally:
        if runs.rows:
            write_atomically(runs.folder / "as_good.csv", runs.table(kept).to_csv(index=False))
    if best is None:
        raise SystemExit("no step came to its end")
    words = ["python", "study/compare_losses.py", "--seed", str(TEST_SEED), "--num-samples", "1"]
    words += ["--final-seeds", "0", "--confirm-seeds", "5", "--reference-seeds", "0", "--rerank"]
    print(f"{runs.hours():.2f} core-hours; then: {shlex.join([*words, *best.options()])}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
