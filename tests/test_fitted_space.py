"""The search space of data that does not hold all of it, against what can be drawn of that data."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import optuna
import pytest
import torch

from study.results.files import StudyError
from study.search import fitted as fitted_space
from study.search.fitted import fitted, rare_positives
from study.search.searches import Searches
from study.search.space import WIDE, Space, default, describe
from tests.configurations import LOSSES
from tests.conftest import synthetic
from trainables.batches import draw_order
from trainables.data import LabelledImages, Split
from trainables.data.fashion_mnist import hold_out
from trainables.knobs import Choice

WHOLE = Split(synthetic(4_000, seed=0), synthetic(2_000, seed=1))


def choices(space: Space, name: str) -> tuple:
    (knob,) = [knob for knob in space.shared if knob.name == name]
    assert isinstance(knob.range, Choice)
    return knob.range.values


def many(classes: int) -> Split:
    """So many classes of three images each."""
    labels = np.arange(classes).repeat(3)
    images = np.zeros((len(labels), 1, 28, 28), np.uint8)
    return Split(LabelledImages(images, labels), LabelledImages(images, labels))


def test_data_that_holds_it_leaves_the_space_as_it_is() -> None:
    assert fitted(many(512), LOSSES, WIDE) == (WIDE, [])


@pytest.mark.parametrize(
    ("split", "left"),
    [
        (WHOLE, {"per_class": (None,)}),  # 1,024 images are 128 classes of eight
        (many(511), {"per_class": (None, 4, 8)}),  # 1,024 images are 512 classes of two
        (many(128), {"batch_size": (64, 128, 256), "per_class": (None, 2, 4, 8)}),
        (many(127), {"batch_size": (64, 128, 256), "per_class": (None, 4, 8)}),
        (
            Split(WHOLE.train.take(slice(64)), WHOLE.validation),
            {"batch_size": (64,), "per_class": (None, 8)},
        ),
    ],
)
def test_what_the_data_cannot_hold_is_left_out(split: Split, left: dict[str, tuple]) -> None:
    space, lines = fitted(split, LOSSES, WIDE)
    gone = 0
    for knob, whole in zip(space.shared, WIDE.shared, strict=True):
        if knob.name in left:
            assert choices(space, knob.name) == left[knob.name]
            assert knob.range is not None and knob.range.holds(knob.default)
            gone += len(choices(WIDE, knob.name)) > len(left[knob.name])
        else:
            assert knob == whole
    assert len(lines) == gone


def test_the_line_states_the_law_and_the_value_and_the_description_follows() -> None:
    space, lines = fitted(hold_out(WHOLE, [5, 7, 9]), LOSSES, WIDE)
    (line,) = lines
    assert line.startswith("left out of the search: per_class 2, 4, 8 (") and "7 classes" in line
    row, whole = (
        next(row for row in describe(LOSSES, knobs) if row["knob"] == "per_class")
        for knobs in (space, WIDE)
    )
    assert (whole["range"], row["range"]) == ("None, 2, 4, 8", "None")
    assert describe(LOSSES, fitted(many(512), LOSSES)[0]) == describe(LOSSES)
    assert describe(LOSSES, fitted(many(512), LOSSES, WIDE)[0]) == describe(LOSSES, WIDE)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("kind", ["quasi-random", "tpe", "random"])
def test_a_search_asks_for_nothing_that_the_data_cannot_hold(loss: str, kind: str) -> None:
    split = Split(WHOLE.train.take(slice(64)), WHOLE.validation)
    space, _ = fitted(split, LOSSES, WIDE)
    plan = {"configurations": 40, "rungs": (1,), "seed": 0, "kind": kind, "space": space}
    searches, configs = Searches([loss], **plan), []
    while (record := searches.ask()) is not None:
        record.add_epoch({"epoch": 1, "val_map": 0.5, "seconds": 1.0})
        record.status = "finished"
        searches.report(record)
        searches.tell(record)
        configs.append(record.config)
    assert len(configs) == 40 and configs[0] == default(loss, epochs=1, seed=0, space=space)
    assert {config.per_class for config in configs} == {None, 8}
    labels = torch.from_numpy(split.train.labels)
    for config in configs:
        assert config.batch_size <= len(split.train)
        assert len(draw_order(labels, config, torch.Generator())) > 0


def test_a_knob_without_a_choice_is_refused_with_its_law() -> None:
    law = r"^batch_size may not exceed the 63 training images; got 64 \(--set batch_size=VALUE"
    with pytest.raises(StudyError, match=law):
        fitted(Split(WHOLE.train.take(slice(63)), WHOLE.validation), LOSSES)


def test_images_smaller_than_what_is_blanked_of_them() -> None:
    small = [LabelledImages(p.images[:, :, :4], p.labels) for p in (WHOLE.train, WHOLE.validation)]
    space, lines = fitted(Split(*small), LOSSES, WIDE)
    assert choices(space, "erase") == (0,)
    law = "left out of the search: erase 4 (erase must be below the images' 4 pixels; got 4)"
    assert law in lines


def test_the_law_that_a_given_trial_breaks_is_told() -> None:
    config = default("triplet", epochs=1, seed=0).replace(batch_size=64, per_class=8)
    assert fitted_space.broken_law([config], WHOLE) is None
    law = fitted_space.broken_law([config], hold_out(WHOLE, [0, 1, 2]))
    assert law is not None and "7 classes" in law


def test_searches_that_differ_in_space_differ_in_what_they_ask() -> None:
    """The same place in a search, its seed and its history: only the range is another."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space, _ = fitted(hold_out(WHOLE, [5, 7, 9]), LOSSES, WIDE)
    asked = [
        [record.config.per_class for record in iter(search.ask, None) if record]
        for search in (
            Searches(["smooth_ap"], configurations=20, rungs=(1,), seed=0, space=knobs)
            for knobs in (WIDE, space)
        )
    ]
    assert 8 in asked[0] and set(asked[1]) == {None}


def test_losses_that_need_positives_are_told_where_batches_hold_almost_none() -> None:
    """Of 1,000 images of 500 classes an image has one other of 999; a batch has 255 of these."""
    labels = np.arange(1_000) // 2
    images = LabelledImages(np.zeros((1_000, 1, 4, 4), np.uint8), labels)
    pairs = Split(images, images)

    def told(losses: Sequence[str], *sizes: int) -> list[str]:
        return rare_positives(pairs, losses, WIDE.changed({"batch_size": {"choices": [*sizes]}}))

    lines = told(LOSSES, 256)
    assert [line.split()[0] for line in lines] == ["triplet", "smooth_ap"]
    assert "a random batch of 256 holds 0.26 for an image" in lines[0]  # 255 / 999
    assert told(LOSSES, 1_000) == []  # 1: all of them
    assert "a random batch of 500 holds 0.5 for an" in told(["triplet"], 500)[0]  # 499 / 999
    assert told(["triplet"], 501) == []  # 500 / 999
    both = "smooth_ap+normalized_softmax"
    assert told([both], 256)[0].startswith(f"{both} has a part that needs positives, and a random")
    assert told(["cross_entropy+normalized_softmax"], 256) == []
    by_class = WIDE.changed({"per_class": {"choices": [2, 4]}})
    assert rare_positives(pairs, LOSSES, by_class) == []  # no batch is random


@pytest.mark.parametrize(
    ("large", "expected"),
    [
        (90, None),  # 3 x 90 / 100 x 89 / 99 = 2.4
        (5, "0.0061"),  # 3 x 5 / 100 x 4 / 99
    ],
)
def test_classes_count_by_their_images(large: int, expected: str | None) -> None:
    """Of 100 images so many are of one class, the others alone in theirs; a batch has four."""
    labels = np.arange(100).clip(min=large - 1)
    images = LabelledImages(np.zeros((100, 1, 4, 4), np.uint8), labels)
    four = WIDE.changed({"batch_size": {"choices": [4]}, "per_class": {"choices": [None, 2]}})
    lines = rare_positives(Split(images, images), ["smooth_ap"], four)
    assert len(lines) == (expected is not None)
    assert expected is None or f"holds {expected} for an image" in lines[0]


@pytest.mark.parametrize("size", [50, 30])
def test_a_batch_that_the_usual_images_of_a_class_do_not_divide_has_others(size: int) -> None:
    asked = {"batch_size": {"choices": [size]}, "per_class": {"default": 4}}
    space, _ = fitted(many(40), LOSSES, WIDE.changed(asked))
    (knob,) = [knob for knob in space.shared if knob.name == "per_class"]
    assert knob.default == 2 and choices(space, "per_class") == (None, 2)
    assert all(default(loss, epochs=1, seed=0, space=space).per_class == 2 for loss in LOSSES)


def test_what_the_network_gets_decides_what_may_be_blanked_of_it() -> None:
    wide = WIDE.changed({"erase": {"choices": [0, 20]}})
    assert choices(fitted(many(40), LOSSES, wide)[0], "erase") == (0, 20)
    assert choices(fitted(many(40), LOSSES, wide, image_size=20)[0], "erase") == (0,)


@pytest.mark.parametrize(
    ("settings", "law"),
    [
        (
            {"erase": 28},
            r"^erase must be below the images' 28 pixels; got 28 \(--set erase=VALUE gives another",
        ),
        (
            {"batch_size": 16, "per_class": 3},
            r"^per_class must divide batch_size 16; got 3 "
            r"\(--set batch_size=VALUE or --set per_class=VALUE gives another\)$",
        ),
        ({"shift": 30, "erase": 4}, r"^shift must be below .* got 30 \(--set shift=VALUE"),
    ],
)
def test_a_law_that_is_broken_is_of_the_knob_that_breaks_it(
    settings: dict[str, int], law: str
) -> None:
    space = WIDE.changed({name: {"choices": [value]} for name, value in settings.items()})
    with pytest.raises(StudyError, match=law):
        fitted(WHOLE, ["triplet", "smooth_ap:tau=0.01"], space)


def test_what_no_knob_mends_blames_none() -> None:
    labels = np.arange(100)
    alone = Split(LabelledImages(np.zeros((100, 1, 28, 28), np.uint8), labels), WHOLE.validation)
    law = "^triplet needs 2 training images of one class; got 1 of each$"
    with pytest.raises(StudyError, match=law):
        fitted(alone, ["triplet"])
