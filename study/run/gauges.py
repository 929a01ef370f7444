"""What a study exports for Prometheus, through the metrics port of the node that runs it."""

from __future__ import annotations

import math
import time
from functools import cached_property
from urllib.parse import quote

from ray.util.metrics import Gauge

from study.results.studies import Study
from study.results.trials import STATUSES, TrialRecord

STUDY_EVERY = 1.0  # seconds, and when a trial ends: it takes a look at every trial
LAST_EPOCH = {  # field of an epoch: gauge and what it says
    "val_map": ("study_validation_map", "Validation mAP of a trial's last epoch"),
    "train_loss": ("study_training_loss", "Training loss of a trial's last epoch"),
    "val_loss": ("study_validation_loss", "Validation loss of a trial's last epoch"),
    "images_per_second": ("study_images_per_second", "Training speed of a trial's last epoch"),
}


class Gauges:
    """Sets the gauges that changed with a record; Ray exposes each as `ray_<name>`."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self.due = 0.0  # when the gauges of the whole study are set again

    def __call__(self, record: TrialRecord) -> None:
        """Exports what changed with this record; the first time, what was there before too."""
        for changed in [record] if self.due else self.study.trials:
            tags = {"loss": changed.loss, "trial": changed.trial_id}
            for field, gauge in self.last_epoch.items():
                if changed.epochs:
                    gauge.set(changed.epochs[-1][field], tags)
        if record.status == "running" and time.monotonic() < self.due:
            return
        self.due = time.monotonic() + STUDY_EVERY
        best = self.study.best()
        for loss in self.study.losses:  # NaN, which is not exposed, if no trial is sound
            self.best.set(best[loss].val_map if loss in best else math.nan, {"loss": loss})
        counts = self.study.counts()
        for status in STATUSES:  # a status that no trial has any more falls to 0
            self.trials.set(counts.get(status, 0), {"status": status})

    @cached_property
    def last_epoch(self) -> dict[str, Gauge]:
        """By field of an epoch."""
        return {
            field: self._gauge(name, text, "loss", "trial")
            for field, (name, text) in LAST_EPOCH.items()
        }

    @cached_property
    def best(self) -> Gauge:
        return self._gauge("study_best_validation_map", "Of the loss's trials so far", "loss")

    @cached_property
    def trials(self) -> Gauge:
        return self._gauge("study_trials", "How many trials have this status", "status")

    def _gauge(self, name: str, text: str, *tags: str) -> Gauge:
        gauge = Gauge(name, text, tag_keys=("study", *tags))
        study = self.study.folder.name
        # Ray refuses other letters in a tag: `étude` is `%C3%A9tude` there.
        gauge.set_default_tags({"study": study if study.isascii() else quote(study, safe=" ")})
        return gauge
