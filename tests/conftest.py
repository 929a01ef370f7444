"""Small data that the tests make, and the real Fashion-MNIST."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from trainables.config import TrialConfig
from trainables.data import LabelledImages, Split, load_split, slice_of

torch.set_num_threads(1)  # the tests' tensors are small: more threads only wait for each other


def synthetic(count: int, seed: int, classes: int = 10) -> LabelledImages:
    """Images of 28x28 whose bright square lies where their class says, with noise."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=count)
    images = rng.integers(0, 60, size=(count, 28, 28))
    for image, label in zip(images, labels, strict=True):
        row, column = divmod(int(label), 4)
        image[9 * row : 9 * row + 9, 7 * column : 7 * column + 7] += 150
    return LabelledImages(images.astype(np.uint8), labels.astype(np.int64))


@pytest.fixture(scope="session")
def small_split() -> Split:
    return Split(synthetic(640, seed=0), synthetic(200, seed=1))


@pytest.fixture(scope="session")
def real_split() -> Split:
    """The first 3,000 and 1,000 images of Fashion-MNIST's split."""
    return slice_of(load_split(), 3_000, 1_000)


@pytest.fixture
def smooth_ap_config() -> TrialConfig:
    return TrialConfig(
        loss="smooth_ap",
        optimizer="adam",
        lr=3e-3,
        batch_size=64,
        epochs=3,
        schedule="cosine",
        anchors="all",
        tau=0.01,
        numerator="paper",
    )
