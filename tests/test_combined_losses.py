"""Sums of losses, against the sum of their values and gradients, and in a search and a run."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from study.search.searches import Searches
from trainables.config import TrialConfig
from trainables.data import Split
from trainables.losses import resolve
from trainables.train import TrainingRun

BOTH = "smooth_ap+normalized_softmax"


def rows() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(12, 6, generator=generator, dtype=torch.float64).requires_grad_()


def test_it_is_the_sum_of_its_losses() -> None:
    labels, features = torch.arange(12) % 3, rows()
    entry = resolve("smooth_ap+triplet+normalized_softmax")
    given: dict[str, Any] = {"triplet_weight": 0.3, "normalized_softmax_weight": 2.0, "margin": 0.4}
    loss = entry.build(entry.arguments(given), classes=3, width=6).double()
    parts = [
        resolve(name).build(resolve(name).arguments(own), classes=3, width=6).double()
        for name, own in (("smooth_ap", {}), ("triplet", {"margin": 0.4}))
    ]
    own = resolve("normalized_softmax")
    softmax = own.build(own.arguments({}), classes=3, width=6).double()
    softmax.load_state_dict(loss.losses[2].state_dict())
    found = loss(features, labels)
    values = [part(features, labels) for part in (*parts, softmax)]
    expected = values[0] + 0.3 * values[1] + 2 * values[2]
    assert found.item() == pytest.approx(expected.item(), rel=1e-12)
    mine, theirs = (torch.autograd.grad(x, features)[0] for x in (found, expected))
    torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-12)


def test_knobs_that_two_have_are_known_by_their_loss() -> None:
    names = [knob.name for knob in resolve("smooth_ap+triplet").knobs]
    assert names == [
        *("smooth_ap_anchors", "tau", "numerator", "positives"),
        *("triplet_anchors", "margin", "reduction", "triplet_weight"),
    ]
    settled = resolve("smooth_ap+triplet:triplet_anchors=10,margin=0.3")
    assert settled.settings == {"margin": 0.3, "triplet_anchors": 10}
    assert settled.arguments({})["smooth_ap_anchors"] == "all"


def test_what_a_sum_asks_of_the_data() -> None:
    assert resolve("smooth_ap+triplet").needs_positives
    both = resolve(BOTH)
    assert both.knows_classes and not both.needs_positives
    assert both.title == "Smooth-AP + normalised softmax"


def test_a_loss_of_pytorch_metric_learning_in_a_sum() -> None:
    entry = resolve("pml:SupConLoss+smooth_ap")
    assert {"temperature", "tau", "smooth_ap_weight"} <= {knob.name for knob in entry.knobs}
    loss = entry.build(entry.arguments({}), classes=3, width=6)
    assert loss(rows().float(), torch.arange(12) % 3).isfinite()


@pytest.mark.parametrize(
    ("name", "law"),
    [
        ("smooth_ap+smooth_ap", r"each loss once; got smooth_ap \+ smooth_ap"),
        ("smooth_ap+tripled", "did you mean triplet"),
        ("smooth_ap+", "or a sum of these"),
    ],
)
def test_wrong_sums_are_refused(name: str, law: str) -> None:
    with pytest.raises(ValueError, match=law):
        resolve(name)


def test_it_is_searched_and_trained(small_split: Split) -> None:
    searches = Searches([BOTH], configurations=4, rungs=(1,), seed=0)
    configs = [record.config for record in iter(searches.ask, None) if record]
    assert len({config.loss_args["normalized_softmax_weight"] for config in configs}) > 2
    config = TrialConfig(loss=BOTH, optimizer="adam", lr=3e-3, epochs=2)
    run = TrainingRun(config, small_split)
    first, second = run.train_until(1), run.train_until(2)
    assert second.train_loss < first.train_loss
