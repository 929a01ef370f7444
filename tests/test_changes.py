"""One's own ranges and fixed values, at the door and in what a search asks for."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import optuna
import pytest

from study import tune_smoothap
from study.results.files import StudyError
from study.run import cli
from study.run.plan import Plan
from study.search.changes import Changes, read_setting, read_space
from study.search.searches import Searches
from study.search.space import SPACE, knobs_of
from trainables.knobs import Choice, Span


def asked(changes: Changes, loss: str = "smooth_ap", count: int = 30) -> list[dict[str, Any]]:
    """What a random search of so many trials asks for."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    plan = {"configurations": count, "rungs": (1,), "seed": 0}
    searches = Searches([loss], space=SPACE.changed(changes), **plan)
    return [record.config.flat() for record in iter(searches.ask, None) if record]


def test_a_setting_is_the_only_choice() -> None:
    changes = dict(map(read_setting, ("optimizer=adam", "lr=0.01", "tau=0.003", "flip=true")))
    for config in asked(changes):
        chosen = [config[name] for name in ("optimizer", "lr", "tau", "flip")]
        assert chosen == ["adam", 0.01, 0.003, True]
        assert config["momentum"] is None


@pytest.mark.parametrize(
    ("text", "law"),
    [
        ("[flip]\nlog = true", "log beside a range; got flip"),
        ("[lr_factor]\nrange = [0.1, 1]\nchoices = [0.1]", "range or choices, not both; got lr_f"),
        ('[lr_factor]\nrange = [0.1, 1]\nlog = "no"', "log that is true or false; got lr_factor"),
    ],
)
def test_a_file_says_nothing_that_would_not_be_heard(text: str, law: str, tmp_path: Path) -> None:
    (tmp_path / "space.toml").write_text(text)
    with pytest.raises(StudyError, match=law):
        read_space(tmp_path / "space.toml")


@pytest.mark.parametrize(
    ("fields", "law"),
    [
        ({"changes": {"momentum": {"choices": [0.5]}}}, "momentum is set.*depends on optimizer"),
        ({"losses": ["triplet:head_lr=10"]}, "head_lr is set.*depends on embedding_dim"),
        ({"changes": {"head_lr": {"choices": [2.0]}}}, "head_lr is set, and no configuration uses"),
        (
            {"embedding_dim": 64, "changes": {"embedding_dim": {"choices": [128]}}},
            "embedding_dim must be given once",
        ),
    ],
)
def test_what_no_configuration_uses_is_refused(fields: dict[str, Any], law: str) -> None:
    with pytest.raises(StudyError, match=law):
        Plan(**{"losses": ["triplet"], "num_samples": 1, "max_epochs": 1, **fields})


@pytest.mark.parametrize(
    "fields",
    [
        {"changes": {"momentum": {"choices": [0.5]}, "optimizer": {"choices": ["sgd"]}}},
        {"changes": {"momentum": {"choices": [0.5]}}, "wide": True},
        {
            "losses": ["triplet:optimizer=sgd", "triplet"],
            "changes": {"momentum": {"choices": [0.5]}},
        },
        {"losses": ["triplet:optimizer=sgd,momentum=0.5"]},
        {"losses": ["triplet:head_lr=10"], "embedding_dim": 64},
        {"losses": ["triplet:teacher_weight=5"], "teacher": "x.pt"},
    ],
)
def test_what_some_configuration_uses_is_taken(fields: dict[str, Any]) -> None:
    assert Plan(**{"losses": ["triplet"], "num_samples": 1, "max_epochs": 1, **fields})


def test_ranges_of_a_file_are_searched_and_begun_within(tmp_path: Path) -> None:
    path = tmp_path / "space.toml"
    path.write_text(
        "[lr]\nrange = [1e-3, 1e-2]\ndefault = 2e-3\n"
        "[optimizer]\nchoices = ['adam']\n"
        "[batch_size]\nchoices = [64, 128]\n[tau]\nrange = [0.001, 0.002]\n"
    )
    changes = read_space(path)
    configs = asked(changes)
    assert all(1e-3 <= config["lr"] <= 1e-2 for config in configs)
    assert {config["batch_size"] for config in configs} == {64, 128}
    assert all(0.001 <= config["tau"] <= 0.002 for config in configs)
    begun = configs[0]
    assert (begun["lr"], begun["batch_size"]) == (2e-3, 64)
    assert begun["tau"] == pytest.approx((0.001 * 0.002) ** 0.5)  # the middle of its logarithm
    knobs = {knob.name: knob.range for knob in knobs_of("smooth_ap", SPACE.changed(changes))}
    assert knobs["lr"] == Span(1e-3, 1e-2, log=True)
    assert knobs["batch_size"] == Choice((64, 128))


@pytest.mark.parametrize(
    ("changes", "law"),
    [
        ({"tua": {"choices": [1.0]}}, "tua is no knob of this search; did you mean tau?"),
        ({"margin": {"choices": [1.0]}}, "margin is no knob of this search"),
        ({"lr": {"choices": [-1.0]}}, "lr must be a finite number > 0; got -1.0"),
        ({"lr_factor": {"choices": [-1.0]}}, "lr_factor must be a finite number > 0; got -1.0"),
        ({"lr": {"range": [1e-2, 1e-3]}}, r"range of lr must be \[low, high\]"),
        ({"lr": {"range": [0, 1e-3]}}, "logarithmic range of lr must begin above 0"),
        ({"lr": {"range": [1e-3, 1e-2], "default": 1.0}}, "default of lr must be in"),
        ({"lr": {"choices": [0.1]}, "lr_factor": {"default": 1.0}}, "lr_factor sets lr: give"),
        ({"batch_size": {"choices": []}}, r"choices of batch_size must be a list; got \[\]"),
        ({"tau": {"range": [0.1, "x"]}}, r"range of tau must be \[low, high\]"),
        (
            {"batch_size": {"choices": [32, 32]}},
            r"choices of batch_size must be different; got \[32",
        ),
        (
            {"batch_size": {"range": [32, 128]}},
            r"batch_size is a whole number, so it must have choices, .*; got \[32, 128\]",
        ),
        ({"anchors": {"range": [1.0, 9.0]}}, "anchors is a whole number, so it must have choices"),
        (
            {"triplet.margin": {"choices": [0.1]}},
            "LOSS.KNOB must begin with a loss of the study, smooth_ap; got triplet.margin",
        ),
        (
            {"smooth_ap.tua": {"choices": [0.1]}},
            "smooth_ap has the knobs anchors, tau, .* of its own; got .*; did you mean tau",
        ),
        ({"smooth_ap.lr": {"choices": [0.1]}}, "smooth_ap has the knobs .*; got smooth_ap.lr"),
        ({"smooth_ap.tau": {"choices": [-1.0]}}, "tau must be a finite number > 0; got -1.0"),
    ],
)
def test_a_change_that_cannot_be_is_refused_at_the_door(changes: Changes, law: str) -> None:
    with pytest.raises(StudyError, match=law):
        Plan(losses=["smooth_ap"], num_samples=1, max_epochs=1, changes=changes)


def test_a_factor_that_is_set_is_of_what_is_usual_at_each_batch_size() -> None:
    configs = asked(dict([read_setting("lr_factor=0.5")]))
    assert {config["batch_size"] for config in configs} == {64, 128, 256, 512, 1024}
    for config in configs:
        usual = 0.015 * (config["batch_size"] / 256) ** 0.5
        assert config["lr"] == pytest.approx(0.5 * usual, rel=1e-3)


@pytest.mark.parametrize(
    ("options", "fields"),
    [
        ([], {}),
        (["--space", "wide"], {"wide": True}),
        (["--space", "FILE"], {"changes": {"tau": {"range": [0.1, 0.2]}}}),
        (
            ["--space", "wide", "--space", "FILE", "--set", "lr=0.01", "--set", "flip=true"],
            {
                "wide": True,
                "changes": {
                    "tau": {"range": [0.1, 0.2]},
                    "lr": {"choices": [0.01]},
                    "flip": {"choices": [True]},
                },
            },
        ),
        (
            ["--space", "FILE", "--set", "smooth_ap.numerator=seed"],
            {
                "changes": {
                    "tau": {"range": [0.1, 0.2]},
                    "smooth_ap.numerator": {"choices": ["seed"]},
                }
            },
        ),
    ],
)
def test_the_wide_space_a_file_and_settings_go_together(
    options: list[str], fields: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "space.toml"
    path.write_text("[tau]\nrange = [0.1, 0.2]\n")
    given = [str(path) if option == "FILE" else option for option in options]
    seen: list[Plan] = []
    code = cli.run(
        {**vars(tune_smoothap.parser().parse_args(given)), "storage_path": tmp_path, "name": "s"},
        job=lambda plan, *_, **__: seen.append(plan),
        tell=lambda *_: 0,
        losses=["smooth_ap"],
        num_samples=1,
        max_epochs=1,
    )
    assert code == 0
    plain = Plan(losses=["smooth_ap"], num_samples=1, max_epochs=1, final_seeds=cli.FINAL_SEEDS)
    assert seen == [dataclasses.replace(plain, **fields)]


@pytest.mark.parametrize(
    ("text", "law"),
    [
        ("tau = 3", r'must be a table of range, log, choices, default, .*\["LOSS.KNOB"\].*tau = 3'),
        (
            "[smooth_ap.tau]\nchoices = [1]",
            r'that of one loss by \["LOSS.KNOB"\], in quotes; got s',
        ),
        ("[tau]\nlow = 3", "must be a table"),
        ("[tau", "cannot be read"),
    ],
)
def test_a_file_that_is_no_space_is_named(text: str, law: str, tmp_path: Path) -> None:
    path = tmp_path / "space.toml"
    path.write_text(text)
    with pytest.raises(StudyError, match=law) as error:
        read_space(path)
    assert str(path) in str(error.value)
    with pytest.raises(StudyError, match="cannot be read"):
        read_space(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("a=1", 1), ("a=1e-3", 1e-3), ("a=.5", 0.5), ("a=True", True), ("a=none", None)),
        ("a=all", "all"),
    ],
)
def test_a_setting_is_read_as_what_it_looks_like(text: str, value: object) -> None:
    assert read_setting(text) == ("a", {"choices": [value]})


@pytest.mark.parametrize("text", ["lr", "=3", "lr="])
def test_a_setting_has_a_name_and_a_value(text: str) -> None:
    with pytest.raises(StudyError, match="--set must be knob=value; got"):
        read_setting(text)


def test_a_plan_with_its_changes_comes_back() -> None:
    changes = {"batch_size": {"choices": [64]}}
    plan = Plan(losses=["triplet"], num_samples=1, max_epochs=1, changes=changes)
    assert Plan(**plan.fields()) == plan and plan.differences(plan.fields()) == []
    other = Plan(losses=["triplet"], num_samples=1, max_epochs=1)
    assert "changes was" in other.differences(plan.fields())[0]


MARGINS = ["triplet", "pml:ArcFaceLoss", "smooth_ap"]


def wanted(changes: Changes, losses: list[str]) -> Plan:
    return Plan(losses=losses, num_samples=1, max_epochs=1, changes=changes)


def test_a_range_for_one_loss_is_heard_by_it_alone() -> None:
    """By whatever settings it has, and before what is for all."""
    losses = ["triplet", "triplet:reduction=sum", "pml:ArcFaceLoss", "smooth_ap+triplet"]
    space = wanted(
        {
            "pml:ArcFaceLoss.margin": {"range": [10.0, 30.0]},
            "triplet.margin": {"choices": [0.3]},
            "smooth_ap+triplet.margin": {"choices": [0.4]},
        },
        losses,
    ).space()
    found = {
        loss: next(knob.range for knob in knobs_of(loss, space) if knob.name == "margin")
        for loss in losses
    }
    assert found == {
        "triplet": Choice((0.3,)),
        "triplet:reduction=sum": Choice((0.3,)),
        "pml:ArcFaceLoss": Span(10, 30, log=True),
        "smooth_ap+triplet": Choice((0.4,)),
    }
    both = {
        "label_smoothing": {"choices": [0.1]},
        "cross_entropy.label_smoothing": {"default": 0.0},
    }
    space = wanted(both, ["cross_entropy", "normalized_softmax"]).space()
    ends = [knobs_of(one, space)[-1].range for one in ("cross_entropy", "normalized_softmax")]
    assert ends == [Choice((0.0, 0.05, 0.1)), Choice((0.1,))]


@pytest.mark.parametrize(
    ("name", "losses", "law"),
    [
        (
            "margin",
            MARGINS,
            r"margin is not the same in all losses \(of triplet 0.2 in 0.05 to 1 \(log\) of "
            r"squared distance; of pml:ArcFaceLoss 28.6 in 5 to 50 \(log\) degrees\): give it to "
            "one of them, as triplet.margin or pml:ArcFaceLoss.margin",
        ),
        ("alpha", ["pml:ProxyAnchorLoss", "pml:MultiSimilarityLoss"], "alpha is not the same"),
        ("tau", ["recall_at_k", "smooth_ap:numerator=seed"], "as recall_at_k.tau or smooth_ap.tau"),
    ],
)
def test_a_name_that_means_something_else_in_each_loss_is_refused(
    name: str, losses: list[str], law: str
) -> None:
    with pytest.raises(StudyError, match=law):
        wanted({name: {"choices": [0.5]}}, losses)
    alone = {f"{losses[0]}.{name}": {"choices": [0.5]}}
    assert wanted(alone, losses) and wanted({name: {"choices": [0.5]}, **alone}, losses)


@pytest.mark.parametrize(
    ("name", "losses"),
    [
        ("margin", ["triplet", "triplet:reduction=sum", "smooth_ap"]),
        ("label_smoothing", ["cross_entropy", "normalized_softmax"]),
        ("anchors", ["smooth_ap", "triplet", "recall_at_k"]),
        ("lr_factor", MARGINS),
    ],
)
def test_what_is_alike_in_all_losses_is_set_for_all(name: str, losses: list[str]) -> None:
    assert wanted({name: {"choices": [1 if name == "anchors" else 0.1]}}, losses)


def test_what_a_loss_fixes_is_not_set_for_it_besides() -> None:
    with pytest.raises(StudyError, match=r"triplet:margin=0.3 fixes margin, which the study sets"):
        wanted({"triplet.margin": {"choices": [0.2]}}, ["triplet:margin=0.3"])
    wanted({"pml:ArcFaceLoss.margin": {"choices": [20]}}, ["triplet:margin=0.3", "pml:ArcFaceLoss"])


@pytest.mark.parametrize(
    "options",
    [
        ["--set", "tau=0.1", "--set", "tau=0.2"],
        ["--space", "FILE", "--set", "tau=0.2"],
        ["--space", "FILE", "--space", "FILE"],
    ],
)
def test_a_knob_that_is_given_twice_is_refused(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "space.toml"
    path.write_text("[tau]\nchoices = [0.1]\n")
    given = [str(path) if option == "FILE" else option for option in options]
    assert tune_smoothap.main([*given, "--storage-path", str(tmp_path)]) == 2
    law = r"error: a knob must be given once, by --set or --space; tau was given choices \[0.1"
    assert re.match(law, capsys.readouterr().err)
