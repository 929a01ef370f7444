"""Small data that the tests make, and the real Fashion-MNIST."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from trainables.config import TrialConfig
from trainables.data import LabelledImages, Split, resolve

# Seconds after which what a test waits for is taken to have failed, on however busy a machine.
PATIENCE = 3_600

# Else programs that tests start would not hear of one where the tests run in the background.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
torch.set_num_threads(1)  # the tests' tensors are small: more threads only wait for each other


def synthetic(count: int, seed: int, classes: int = 10) -> LabelledImages:
    """Images of 28x28 whose bright square lies where their class says, with noise."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=count)
    images = rng.integers(0, 60, size=(count, 28, 28))
    for image, label in zip(images, labels, strict=True):
        row, column = divmod(int(label), 4)
        image[9 * row : 9 * row + 9, 7 * column : 7 * column + 7] += 150
    return LabelledImages(images[:, None].astype(np.uint8), labels)


def noise(count: int, seed: int) -> LabelledImages:
    """Images that say nothing about their label, so that no network ranks them perfectly."""
    rng = np.random.default_rng(seed)
    images = rng.integers(256, size=(count, 1, 28, 28)).astype(np.uint8)
    return LabelledImages(images, rng.integers(10, size=count))


@pytest.fixture(scope="session")
def small_split() -> Split:
    return Split(synthetic(640, seed=0), synthetic(200, seed=1))


@pytest.fixture(scope="session")
def real_split() -> Split:
    """The first 3,000 and 1,000 images of Fashion-MNIST's split."""
    return resolve("fashion_mnist").split().sliced(3_000, 1_000)


@pytest.fixture
def smooth_ap_config() -> TrialConfig:
    return TrialConfig(
        loss="smooth_ap",
        optimizer="adam",
        lr=3e-3,
        batch_size=64,
        epochs=3,
        schedule="cosine",
        loss_args={"anchors": "all", "tau": 0.01, "numerator": "paper"},
    )


def pytest_configure(config: pytest.Config) -> None:
    """Ray makes its token at its first start: before tests that run side by side make two."""
    if hasattr(config, "workerinput"):
        return
    token = Path.home() / ".ray" / "auth_token"
    with contextlib.suppress(OSError):  # as where there is one; without a home Ray does without
        token.parent.mkdir(exist_ok=True)
        with open(token, "x", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            file.write(secrets.token_hex(32))


def pytest_addoption(parser: pytest.Parser) -> None:
    text = "fail if a test is skipped: for machines that are to have all that tests need"
    parser.addoption("--no-skips", action="store_true", help=text)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if _skipped(session.config) and session.config.getoption("--no-skips"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_unconfigure(config: pytest.Config) -> None:
    """The last line of a run: what was not tested, and how to have it tested."""
    skipped = _skipped(config)
    if skipped:
        refused = ", which --no-skips forbids" if config.getoption("--no-skips") else ""
        why = "; ".join(sorted(set(skipped)))
        print(f"NOT TESTED{refused}: {len(skipped)} tests. {why}")


def _skipped(config: pytest.Config) -> list[str]:
    """The reason of each test that was skipped."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    reports = reporter.stats.get("skipped", []) if reporter else []
    return [str(report.longrepr[2]).removeprefix("Skipped: ") for report in reports]
