"""Losses with some of their knobs fixed: `smooth_ap:numerator=seed` is a loss of its own."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from study.results.files import StudyError
from study.results.studies import Study
from study.results.trials import RECORD, TrialRecord, search_of, trial_name
from study.run.plan import Plan
from study.search.fitted import fitted, rare_positives
from study.search.searches import Searches
from study.search.space import SPACE, WIDE, describe, reference
from tests.test_fitted_space import many
from trainables.config import TrialConfig
from trainables.losses import resolve
from trainables.losses.triplet import triplet_loss

ARMS = ("smooth_ap:numerator=paper", "smooth_ap:numerator=seed", "smooth_ap")


def asked(losses: Any, count: int = 12, **options: Any) -> list[TrialRecord]:
    searches = Searches(losses, configurations=count, rungs=(1,), seed=0, **options)
    return [record for record in iter(searches.ask, None) if record]


def test_it_is_the_loss_with_these_arguments() -> None:
    entry = resolve("triplet:reduction=sum,margin=0.3")
    assert entry.title == "triplet (margin 0.3, reduction sum)"
    assert entry.name == "triplet:margin=0.3,reduction=sum"
    assert entry.reference is None and entry.needs_positives
    assert entry.arguments({}) == {"anchors": "all", "margin": 0.3, "reduction": "sum"}
    rows = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
    rows, labels = rows / rows.norm(dim=1, keepdim=True), torch.arange(9) % 3
    found = entry.build(entry.arguments({}), classes=3, width=4)(rows, labels)
    expected = triplet_loss(rows, labels, margin=0.3, reduction="sum")
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
    assert resolve("pml:SupConLoss:temperature=0.07").settings == {"temperature": 0.07}


def test_each_has_a_search_of_its_own_in_which_it_never_moves() -> None:
    records = asked(ARMS)
    by_loss = {loss: [r.config for r in records if r.loss == loss] for loss in ARMS}
    assert [len(configs) for configs in by_loss.values()] == [12, 12, 12]
    for numerator in ("paper", "seed"):
        mine = by_loss[f"smooth_ap:numerator={numerator}"]
        assert {config.loss_args["numerator"] for config in mine} == {numerator}
        assert len({config.loss_args["tau"] for config in mine}) > 6
    assert len({config.loss_args["numerator"] for config in by_loss["smooth_ap"]}) == 2


def test_a_knob_that_all_trials_share_is_fixed_for_one_loss_alone() -> None:
    records = asked(["triplet:lr=0.02,optimizer=sgd", "triplet"])
    mine = [r.config for r in records if "sgd" in r.loss]
    assert {(c.optimizer, c.lr) for c in mine} == {("sgd", 0.02)}
    assert {c.momentum for c in mine} == {0.9}
    others = [r.config for r in records if r.loss == "triplet"]
    assert {c.optimizer for c in others} == {"adam"} and len({c.lr for c in others}) > 6


def test_the_data_leaves_out_what_the_others_cannot_hold() -> None:
    space, lines = fitted(many(128), ["triplet:batch_size=64", "triplet"], WIDE)
    plain, expected = fitted(many(128), ["triplet"], WIDE)
    assert (space, lines) == (plain, expected) and lines
    with pytest.raises(StudyError, match=r"^triplet:batch_size=1024: .*1024"):
        fitted(many(128), ["triplet:batch_size=1024", "triplet"])
    with pytest.raises(StudyError, match=r"^triplet:erase=100: erase must be"):
        fitted(many(128), ["triplet:erase=100"], WIDE)
    assert not rare_positives(many(512), ["triplet:per_class=4"], SPACE)
    assert rare_positives(many(512), ["triplet"], SPACE)


def test_the_description_says_what_is_fixed() -> None:
    rows = describe(["triplet:margin=0.3", "triplet"])
    found = {(row["range"], row["used by"]) for row in rows if row["knob"] == "margin"}
    assert found == {("0.3", "triplet:margin=0.3"), ("0.05 to 1 (log)", "triplet")}


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("smooth_ap:tau=.01, numerator=seed", "smooth_ap:numerator=seed,tau=0.01"),
        ("smooth_ap:numerator=seed,tau=1e-2", "smooth_ap:numerator=seed,tau=0.01"),
        (' smooth_ap:anchors="all"', "smooth_ap:anchors=all"),
        (
            "triplet:flip=True,per_class=None,margin=1.0",
            "triplet:flip=true,margin=1,per_class=none",
        ),
        ("smooth_ap + triplet", "smooth_ap+triplet"),
    ],
)
def test_a_loss_has_one_name(typed: str, name: str) -> None:
    plan = Plan(losses=[typed], num_samples=1, max_epochs=1)
    assert plan.losses == [name] and resolve(name).name == name
    assert RECORD.fullmatch(f"{trial_name(name, 3)}.json")
    with pytest.raises(StudyError, match="named once each"):
        Plan(losses=[typed, name], num_samples=1, max_epochs=1)
    fields = {"optimizer": "adam", "lr": 0.01, "flip": "flip" in name}
    assert TrialConfig(loss=typed, **fields).loss == name


def test_it_has_no_reference() -> None:
    assert reference("smooth_ap:tau=0.01", epochs=1, seed=0) is None


@pytest.mark.parametrize(
    ("loss", "law"),
    [
        ("smooth_ap:numerator=half", "numerator must be one of paper, seed; got 'half'"),
        ("smooth_ap:numerater=seed", "numerater is no knob of this search; did you mean numerator"),
        ("smooth_ap:numerator", r"may have :knob=value after it; got 'smooth_ap:numerator'"),
        ("smooth_ap:tau=", "must be knob=value, each knob once; got 'tau='"),
        ("smooth_ap:tau=1,tau=2", "each knob once; got 'tau=2'"),
        ("smoth_ap:tau=1", "did you mean smooth_ap"),
        ("smooth_ap:epochs=3", "epochs is no knob"),
        ("smooth_ap:lr_factor=0.5", "lr_factor is relative, so .* must fix lr"),
        ("triplet:optimizer=sgd:margin=0.3", "at its end, after one colon"),
        ("smooth_ap:tau=0.1+triplet", "at its end, after one colon, also those of a sum"),
        ("smooth_ap:tau=0.1+triplet:margin=0.3", "at its end, after one colon"),
    ],
)
def test_wrong_settings_are_refused_at_the_door(loss: str, law: str) -> None:
    with pytest.raises(StudyError, match=law):
        Plan(losses=[loss], num_samples=1, max_epochs=1)


def test_what_the_study_sets_for_all_a_loss_does_not_fix() -> None:
    for changes, more, loss in (
        ({"tau": {"choices": [0.1]}}, {}, "smooth_ap:tau=0.01"),
        ({"lr_factor": {"choices": [1.0]}}, {}, "smooth_ap:lr=0.1"),
        ({}, {"embedding_dim": 64}, "smooth_ap:embedding_dim=32"),
    ):
        with pytest.raises(StudyError, match="which the study sets too"):
            Plan(losses=[loss], num_samples=1, max_epochs=1, changes=changes, **more)


def test_a_knob_of_two_losses_of_a_sum_is_set_by_its_own_name() -> None:
    changes = {"anchors": {"choices": [10]}}
    losses = ["smooth_ap", "smooth_ap+triplet"]
    for heard in ({"lr": {"choices": [0.01]}}, {"tau": {"choices": [0.01]}}):
        Plan(losses=losses, num_samples=1, max_epochs=1, changes=heard)
    with pytest.raises(StudyError, match=r"anchors must be set by .* has smooth_ap_anchors"):
        Plan(losses=losses, num_samples=1, max_epochs=1, changes=changes)
    both = {"smooth_ap_anchors": {"choices": [10]}, "triplet_anchors": {"choices": [10]}}
    Plan(losses=losses, num_samples=1, max_epochs=1, changes={**changes, **both})


def test_a_configuration_is_what_its_loss_says() -> None:
    config = TrialConfig(loss="triplet:optimizer=adam,margin=0.3", optimizer="adam", lr=0.01)
    assert TrialConfig.from_dict(config.to_dict()) == config
    with pytest.raises(ValueError, match="optimizer must be 'adam' for triplet:margin"):
        dataclasses.replace(config, optimizer="sgd", momentum=0.9)
    with pytest.raises(ValueError, match=r"margin must be 0.3 for .*; got 0.4"):
        config.replace(margin=0.4)
    with pytest.raises(ValueError, match="fixes foo, which no configuration has"):
        TrialConfig(loss="triplet:foo=1", optimizer="adam", lr=0.01)


def test_an_unused_knob_cannot_be_fixed() -> None:
    with pytest.raises(StudyError, match=r"momentum must be 0.5 for .*; got None"):
        fitted(many(512), ["triplet:momentum=0.5"], SPACE)


@pytest.mark.parametrize(
    "loss", [*ARMS, "triplet:lr=1e-05,margin=0.3", "smooth_ap+triplet:margin=0.5", "pml:SupConLoss"]
)
def test_its_records_are_read(tmp_path: Path, loss: str) -> None:
    plan = Plan(losses=[loss], num_samples=2, max_epochs=1)
    study = Study.create(tmp_path / "s", {"status": "finished", "plan": plan.fields()})
    study.trials = asked([loss], 2)
    for record in study.trials:
        record.add_epoch({"epoch": 1, "val_map": 0.5, "seconds": 1.0})
        record.status = "finished"
        study.write_trial(record)
    study.write()
    found = Study.load(study.folder)
    assert [trial.loss for trial in found.trials] == [loss] * 2
    assert found.best()[loss].config.loss == loss
    (study.folder / "trials" / f"{trial_name(loss, 1)}.json").unlink()
    with pytest.raises(StudyError, match=r"-001.json is missing, which trials.csv has"):
        Study.load(study.folder)


@given(loss=st.text("ab:._=,-1", min_size=1).filter(lambda t: not t.startswith("-")))
def test_a_trials_name_says_its_loss(loss: str) -> None:
    if ":." not in loss and ".:" not in loss and "::" not in loss:
        name = trial_name(loss, 7)
        assert search_of(name) == loss and ":" not in name


def test_a_loss_of_a_file_is_told_where_losses_lie() -> None:
    with pytest.raises(
        ValueError, match=r"one of your own is a file in trainables/losses \(study/O"
    ):
        resolve("myloss.py:loss")
