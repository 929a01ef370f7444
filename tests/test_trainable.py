"""The adapter to Ray, called as Ray's workers call it."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.test_train import ALL_KINDS, TIMES
from trainables.config import TrialConfig
from trainables.data import Split
from trainables.trainable import RetrievalTrial

pytestmark = pytest.mark.usefixtures("without_ray")


@pytest.fixture
def without_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No Ray that would know of a GPU's share; its folders of trials go where tests' files go."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("ray.tune.trainable.trainable.DEFAULT_STORAGE_PATH", tmp_path)


def adapter(config: dict[str, Any], split: Split) -> RetrievalTrial:
    """One that has been set up, as `tune.with_parameters` does it."""

    class WithImages(RetrievalTrial):
        def setup(self, config: dict[str, Any], _: Split | None = None) -> None:
            super().setup(config, split)

    return WithImages(config)


def asked(config: TrialConfig, name: str) -> dict[str, Any]:
    return {**config.to_dict(), "trial_id": name, "checkpoint": None}


def epochs(trial: RetrievalTrial) -> list[dict[str, Any]]:
    """All that is left of the trial, without what depends on the clock."""
    results = [trial.step()]
    while not results[-1]["done"]:
        results.append(trial.step())
    return [{k: v for k, v in result.items() if k not in TIMES} for result in results]


@pytest.mark.parametrize("before", ALL_KINDS[::2], ids=lambda c: c.loss)
def test_a_trial_does_not_depend_on_what_its_process_did_before(
    before: TrialConfig, smooth_ap_config: TrialConfig, small_split: Split
) -> None:
    mine = asked(smooth_ap_config.replace(shift=1), "smooth_ap-001")
    expected = epochs(adapter(mine, small_split))
    reused = adapter(asked(before.replace(epochs=2, seed=9), "other-000"), small_split)
    epochs(reused)
    np.random.seed(4)  # noqa: NPY002  the state that others use
    torch.rand(17)
    held = weakref.ref(reused.training.learner)
    assert reused.reset_config(mine)
    gc.collect()
    assert held() is None
    assert epochs(reused) == expected
    assert repr(reused) == "trials from other-000 on"
    with pytest.raises(RuntimeError, match="smooth_ap-001 has had its 3 epochs"):
        reused.step()


def test_what_cannot_be_made_fails_in_its_step_which_tune_tries_again(
    smooth_ap_config: TrialConfig, small_split: Split
) -> None:
    trial = adapter(asked(smooth_ap_config, "smooth_ap-000"), small_split)
    assert trial.reset_config(asked(smooth_ap_config.replace(batch_size=641), "smooth_ap-001"))
    with pytest.raises(ValueError, match="got 641"):
        trial.step()


def test_a_divergence_is_a_result(smooth_ap_config: TrialConfig, small_split: Split) -> None:
    trial = adapter(asked(smooth_ap_config.replace(lr=1e30), "smooth_ap-000"), small_split)
    (result,) = epochs(trial)
    assert result["epoch"] == 1
    assert np.isnan(result["val_map"])
    assert "lr=1e+30" in result["diverged"]


@pytest.mark.parametrize(("length", "judged"), [(0.3333, [0.3333]), (1.36, [1, 1.36])])
def test_a_trial_of_any_length_is_done_at_its_end(
    length: float, judged: list[float], smooth_ap_config: TrialConfig, small_split: Split
) -> None:
    config = smooth_ap_config.replace(epochs=length)
    trial = adapter(asked(config, "smooth_ap-000"), small_split)
    results = epochs(trial)
    assert [result["epoch"] for result in results] == judged
    assert [result["done"] for result in results] == [False] * (len(judged) - 1) + [True]
    with pytest.raises(RuntimeError, match=f"smooth_ap-000 has had its {length} epochs"):
        trial.step()
