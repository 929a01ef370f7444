"""The losses that the project has files of, and the seed study's configuration of those it had."""

from __future__ import annotations

from trainables.config import TrialConfig, reference

LOSSES = ("cross_entropy", "normalized_softmax", "triplet", "smooth_ap")
REFERENCES: dict[str, TrialConfig] = {
    loss: found for loss in LOSSES if (found := reference(loss)) is not None
}
