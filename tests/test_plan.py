"""What a study is asked for: its laws, and which other plan continues it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from study.results.files import StudyError
from study.run.cli import FINAL_SEEDS
from study.run.cluster import ROOT
from study.run.plan import Plan
from study.search.space import CORE, SPACE, WIDE, default, describe, knobs_of
from study.tune_smoothap import MAX_EPOCHS, NUM_SAMPLES
from tests.configurations import LOSSES
from tests.conftest import synthetic
from tests.small_data import SmallData, use
from trainables.data import DataError
from trainables.knobs import Choice, Span
from trainables.metrics import METRICS


def plan(**fields: Any) -> Plan:
    return Plan(**{"losses": ["triplet"], "num_samples": 4, "max_epochs": 9, **fields})


@pytest.mark.parametrize("metric", METRICS)
def test_the_metric_is_a_field_of_an_epoch(metric: str) -> None:
    assert plan(select_by=metric).metric == f"val_{metric}"
    assert plan().metric == "val_map"


@pytest.mark.parametrize("metric", ["val_map", "recall_at_3", ""])
def test_trials_are_chosen_by_a_metric_that_every_epoch_has(metric: str) -> None:
    law = f"select_by must be one of map, map_at_r, .*; got {metric!r}"
    with pytest.raises(StudyError, match=law):
        plan(select_by=metric)


def test_a_plan_is_its_fields() -> None:
    fields = {"data": "/photos", "protocol": "closed", "grey": True, "image_size": 64}
    one = plan(**fields, select_by="recall_at_1", folds=2, fold=1)
    assert Plan(**one.fields()) == one and one.differences(one.fields()) == []


@pytest.mark.parametrize(
    ("name", "value", "before"),
    [
        ("select_by", "recall_at_1", "map"),
        ("protocol", "closed", None),
        ("folds", 3, None),
        ("fold", 1, 0),
        ("grey", True, False),
        ("image_size", 64, None),
        ("network", "torchvision:resnet18", "seed_cnn"),
        ("seed", 1, 0),
        ("final_seeds", 3, 0),
        ("search_seeds", 2, 1),
        ("wide", True, False),
        ("from_scratch", True, False),
    ],
)
def test_what_decides_a_studys_numbers_may_not_change(name: str, value: Any, before: Any) -> None:
    expected = [f"{name} was {before!r}, is {value!r}"]
    assert plan(**{name: value}).differences(plan().fields()) == expected


def test_a_study_may_go_on_elsewhere_with_more_trials() -> None:
    """Its data may lie elsewhere too: that is known by its fingerprint."""
    later = plan(data="/there/photos", num_samples=9, max_concurrent=2, cpus_per_trial=3)
    assert later.differences(plan(data="/here/photos").fields()) == []
    fewer = plan(num_samples=3).differences(plan().fields())
    assert fewer == ["num_samples was 4, is 3"]


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        (2, 5, []),
        (2, 2, []),
        (2, 1, ["final_seeds was 2, is 1"]),
        (2, 0, ["final_seeds was 2, is 0"]),
        (0, 2, ["final_seeds was 0, is 2"]),  # its ladder had the last rung
    ],
)
def test_a_study_may_go_on_with_more_final_seeds(
    before: int, now: int, expected: list[str]
) -> None:
    later = plan(final_seeds=now).differences(plan(final_seeds=before).fields())
    assert later == expected


def test_a_plan_from_before_a_field_came_has_its_default() -> None:
    old = plan().fields()
    for name in ("data", "protocol", "folds", "fold", "grey", "image_size", "select_by"):
        del old[name]
    assert plan().differences(old) == []
    assert plan(select_by="map_at_r").differences(old) == ["select_by was 'map', is 'map_at_r'"]


def test_a_path_is_kept_from_the_root_and_a_name_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert plan(data="photos").data == os.path.join(tmp_path, "photos")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert plan(data="~/photos").data == str(tmp_path / "home" / "photos")
    assert plan(data="fashion_mnist").data == plan().data == "fashion_mnist"


@pytest.mark.parametrize(
    ("fields", "law"),
    [
        ({"reference_seeds": -1}, "reference_seeds must be 0 to confirm_seeds, 3; got -1"),
        ({"reference_seeds": 1}, "must be 0, or give at least two runs over all searches; got 1"),
        ({"reference_seeds": 4}, "reference_seeds must be 0 to confirm_seeds, 3; got 4"),
        ({"reference_epochs": 0}, "reference_epochs must be >= 1; got 0"),
        ({"confirm_epochs": 0}, "confirm_epochs must be >= 1; got 0"),
    ],
)
def test_references_are_confirmed_beside_the_choices(fields: dict[str, int], law: str) -> None:
    assert plan(confirm_seeds=3).references == 3
    assert plan(confirm_seeds=3, reference_seeds=1, search_seeds=2).references == 1
    assert plan(confirm_seeds=3, reference_seeds=0).references == 0
    with pytest.raises(StudyError, match=law):
        plan(confirm_seeds=3, **fields)


def test_held_out_classes_are_kept_as_ascending_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    assert plan(holdout_classes=["Sneaker", "1", 0]).holdout_classes == [0, 1, 7]
    both = plan(holdout_classes=["Sneaker", 0], validation_classes=["shirt", 2])
    assert (both.holdout_classes, both.validation_classes) == ([0, 7], [2, 6])
    with pytest.raises(DataError, match="held-out classes must be 2 to 8 of the 10 classes; got 1"):
        plan(holdout_classes=[5])
    part = synthetic(90, seed=0, classes=3)
    use(monkeypatch, SmallData(part, part, part, classes=("a", "b", "c")))
    assert plan(holdout_classes=["C", "a"]).holdout_classes == [0, 2]


@pytest.mark.parametrize(
    ("name", "value", "law"),
    [
        ("image_size", 0, "--size must be an integer >= 4 or None; got 0"),
        ("embedding_dim", 0, "embedding_dim must be an integer >= 1 or None; got 0"),
        ("embedding_dim", 100_000_000, "embedding_dim must be at most 65536; got 100000000"),
    ],
)
def test_a_size_that_no_network_can_have_is_refused(name: str, value: int, law: str) -> None:
    with pytest.raises(StudyError, match=law):
        plan(**{name: value})


def test_a_networks_own_learning_rate_is_what_is_usual() -> None:
    fixed = {"epochs": 1, "seed": 0, "network": "timm:x"}
    assert default("triplet", space=plan().space(1e-4), **fixed).lr == 1e-4
    assert default("triplet", space=plan().space(), **fixed).lr == 1.5e-2
    small = {"batch_size": {"choices": [64]}}
    assert default("triplet", space=plan().space(1e-4, small), **fixed).lr == 5e-5


@pytest.mark.parametrize(
    ("fields", "rungs", "trials", "epochs"),
    [
        # 81 + 27 + 9 + 3, each rung 9 epochs, and 4 configurations twice for 9
        ({"num_samples": 81, "final_seeds": 2}, (0.1111, 0.3333, 1, 3, 9), 128, 36 + 72),
        ({"num_samples": 81, "final_seeds": 2, "from_scratch": True}, None, 126, 36 + 54),
        ({"num_samples": 81}, None, 121, 45),
        ({"num_samples": 2, "final_seeds": 1, "early_stopping": False}, (9,), 4, 4 * 9),
    ],
)
def test_what_a_study_is_expected_to_take(
    fields: dict[str, Any], rungs: tuple[float, ...] | None, trials: int, epochs: float
) -> None:
    one = plan(**fields)
    assert rungs in (None, one.rungs(54_000))
    cost = plan(**fields, losses=["triplet", "smooth_ap"]).cost(one.rungs(54_000))
    assert cost.trials == 2 * trials
    assert cost.epochs == pytest.approx(2 * epochs, rel=1e-3)


def test_seeds_of_searches_finals_and_confirmation_are_apart() -> None:
    one = plan(search_seeds=3, seed=5)
    assert one.seeds() == [5, 10_005, 20_005]
    for name in ("final_seeds", "confirm_seeds"):
        with pytest.raises(StudyError, match=rf"{name} must be in \[0, 1000\); got 1000"):
            plan(**{name: 1000})
    with pytest.raises(StudyError, match=r"seed must be below 2\*\*32, less 10000 for each search"):
        plan(seed=2**32 - 10_000)


def test_files_are_kept_by_their_path_from_the_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("net.py", "w.safetensors"):
        (tmp_path / name).touch()
    made = plan(network="net.py:small", weights="w.safetensors")
    assert made.network == f"{tmp_path}/net.py:small"
    assert made.weights == f"{tmp_path}/w.safetensors"
    assert plan(network="timm:resnet18", weights="none").network == "timm:resnet18"


def test_a_wide_plan_searches_the_knobs_that_otherwise_stay() -> None:
    core = {knob.name for knob in knobs_of("triplet", plan().space())}
    wide = {knob.name for knob in knobs_of("triplet", plan(wide=True).space())}
    assert core == {knob.name for knob in knobs_of("triplet")}
    assert wide == {knob.name for knob in knobs_of("triplet", WIDE)} > core
    crops = {"crop": {"choices": ["none", 0.5]}}
    # One's own come after the data's, and these after what is wide.
    own: dict[str, Any] = {"flip": {"choices": [True]}, "lr": {"range": [1e-3, 1e-2]}}
    space = plan(wide=True, changes=own).space(changes={"flip": {"choices": [False]}, **crops})
    ranges = {knob.name: knob.range for knob in knobs_of("triplet", space)}
    assert set(ranges) == wide - {"lr_factor"} | {"lr", "crop"}
    assert ranges["flip"] == Choice((True,)) and ranges["crop"] == Choice((None, 0.5))
    assert ranges["lr"] == Span(1e-3, 1e-2, log=True)


def test_with_a_fixed_learning_rate_all_trials_have_it_whatever_their_batch() -> None:
    for changes, expected in (
        ({"lr": {"choices": [0.01]}}, {64: 0.01, 256: 0.01, 1024: 0.01}),
        ({"lr_factor": {"choices": [0.5]}}, {64: 3.75e-3, 256: 7.5e-3, 1024: 1.5e-2}),
    ):
        for size, lr in expected.items():
            space = plan(changes={**changes, "batch_size": {"choices": [size]}}).space()
            assert default("triplet", epochs=1, seed=0, space=space).lr == lr


def test_the_page_on_searching_says_what_is_searched_and_what_it_takes() -> None:
    page = (ROOT / "study" / "SEARCHING.md").read_text()
    for row in describe(["smooth_ap"], SPACE)[: len(CORE)]:
        assert f"| `{row['knob']}` | {row['default']} | {row['range']} | all |" in page
    for loss in LOSSES:
        for knob in knobs_of(loss)[len(CORE) :]:
            assert {"tau": "τ"}.get(knob.name, knob.name.replace("_", " ")) in page
    # As the program has it: 81 configurations, 9 epochs, 2 fresh seeds.
    usual = plan(num_samples=NUM_SAMPLES, max_epochs=MAX_EPOCHS, final_seeds=FINAL_SEEDS)
    rungs = usual.rungs(54_000)
    ladder = usual.cost(rungs).epochs - 4 * FINAL_SEEDS * MAX_EPOCHS
    assert round(ladder) == 36 and "The four below the last are 36 epochs" in page
    finals = [count * FINAL_SEEDS * MAX_EPOCHS for count in (3, 4)]
    assert f"the finals {finals[0]} ({finals[1]} with the defaults)" in page
    assert f"draws `--num-samples` configurations ({NUM_SAMPLES} by default)" in page
    assert f"`--final-seeds` fresh seeds ({FINAL_SEEDS})" in page
    counts = [NUM_SAMPLES // 3**k for k in range(4)]
    said = "of {} configurations {} see a third of an epoch, {} a whole one and {} three of"
    assert said.format(*counts) in page
