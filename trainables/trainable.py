"""The thin adapter: a training run as Ray Tune sees it."""

from __future__ import annotations

import dataclasses
import math
from functools import cached_property
from pathlib import Path
from typing import Any

import ray
import torch
from ray import tune

from trainables.config import TrialConfig
from trainables.data import Split
from trainables.metrics import METRICS
from trainables.train import DivergedError, TrainingRun

CHECKPOINT = "checkpoint.pt"
OF_A_STUDY = ("trial_id", "checkpoint")  # what a study says to a trial besides its configuration
#: What a trial that a card has no room for is told to take: to train, and to be judged, which takes
#: the same whatever its batch.
HINT = "a smaller batch_size or a larger --gpus-per-trial"
JUDGING_HINT = "a larger --gpus-per-trial"


class RetrievalTrial(tune.Trainable):
    """One step is one epoch; a divergence is a result, so that Ray does not retry it.

    Expects in `config` the fields of a `TrialConfig`, as `TrialConfig.from_dict` takes them. What a
    study adds may be missing in one's own script: `trial_id`, and `checkpoint`, the folder or the
    object store's address from which an interrupted trial goes on. `split` is put into Ray's object
    store once and shared by the trials of a node.
    """

    def setup(self, config: dict[str, Any], split: Split | None = None) -> None:
        assert split is not None
        self.split = split
        self.reset_config(config)
        self.first = self.trial

    def __repr__(self) -> str:
        """The dashboard asks once: an actor that is reused keeps its first trial's name."""
        return f"trials from {self.first} on"

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        # What fails here, Tune does not try again; and two trials are not to be held at once.
        self.asked = new_config
        self.trial = new_config.get("trial_id", self.trial_id)
        vars(self).pop("training", None)
        return True

    @property
    def share(self) -> float:
        """Of a card, as Ray counts it: what the trial may take of its memory."""
        given = self.trial_resources
        return min(1.0, given.required_resources.get("GPU", 1.0) if given else 1.0)

    @cached_property
    def training(self) -> TrainingRun:
        """What was asked for last, made when it is first needed."""
        # Not every process that sees a card has been given a share of it.
        device = "cuda" if torch.cuda.is_available() and ray.get_gpu_ids() else "cpu"
        if device == "cuda":  # Ray's share is bookkeeping: a trial must not take its neighbours'
            torch.cuda.set_per_process_memory_fraction(self.share)
        fields = {name: value for name, value in self.asked.items() if name not in OF_A_STUDY}
        training = TrainingRun(TrialConfig.from_dict(fields), self.split, device)
        if self.asked.get("checkpoint") is not None:
            with tune.Checkpoint(self.asked["checkpoint"]).as_directory() as folder:
                training.load(Path(folder) / CHECKPOINT)
        return training

    def step(self) -> dict[str, Any]:
        try:
            if self.training.epoch >= self.training.config.epochs:
                raise RuntimeError(f"{self.trial} has had its {self.training.epoch} epochs")
            metrics = self.training.train_epoch()
        except torch.OutOfMemoryError as error:  # also where its network or its pixels have no room
            raise RuntimeError(self._no_room(error)) from None
        except DivergedError as error:
            epoch = min(math.floor(self.training.epoch) + 1, self.training.config.epochs)
            print(f"{self.trial}: {error}", flush=True)
            scores = {f"val_{name}": math.nan for name in METRICS}
            return {"epoch": epoch, **scores, "diverged": str(error), "done": True}
        print(f"{self.trial}: {metrics.describe()}", flush=True)
        done = metrics.epoch >= self.training.config.epochs
        return {**dataclasses.asdict(metrics), "done": done}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        self.training.save(Path(checkpoint_dir) / CHECKPOINT)

    def load_checkpoint(self, checkpoint: Any) -> None:
        self.training.load(Path(checkpoint) / CHECKPOINT)

    def _no_room(self, error: torch.OutOfMemoryError) -> str:
        """One line, as a cell of a table has it: torch's first two sentences, and what helps."""
        cause = ". ".join(" ".join(str(error).split()).split(". ")[:2]).rstrip(".")
        run, share = vars(self).get("training"), f"{self.share:g} of a card"
        if run is not None and run.is_judging:
            return f"{cause}, while it was judged, with {share}: take {JUDGING_HINT}"
        size = self.asked.get("batch_size", TrialConfig.batch_size)
        return f"{cause}, with batch_size {size}, {share}: take {HINT}"
