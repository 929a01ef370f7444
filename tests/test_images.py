"""Which images a study trains on, is judged on and is tested on, and that they are the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from study.results.files import StudyError
from study.results.images import (
    DATA,
    about,
    check_data,
    classes_of,
    dataset_of,
    fixed_by,
    name_of_test,
    read_test_images,
    show_test_images,
    validation_images,
)
from study.results.studies import Study
from study.results.trials import TrialRecord
from study.run.plan import Plan
from tests.configurations import REFERENCES
from tests.small_pictures import LETTERS, photos
from trainables.data import DataError
from trainables.data.fashion_mnist import CLASSES
from trainables.data.ledger import LEDGER, Reading, entries
from trainables.data.own import OwnData
from trainables.data.pixels.decode import Decoding


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def study(folder: Path, **plan: Any) -> Study:
    """A finished study of one trial, with a file of choices."""
    fields = Plan(losses=["triplet"], num_samples=1, max_epochs=1, **plan).fields()
    study = Study.create(folder, {"status": "finished", "plan": fields})
    dataset = dataset_of(fields)
    fixed = fixed_by(dataset, fields)
    (folder / DATA).write_text(json.dumps(dataset.about()))
    study.trials.append(TrialRecord("triplet-000", REFERENCES["triplet"].replace(**fixed)))
    study.write()
    return study


def test_all_classes(tmp_path: Path) -> None:
    whole = study(tmp_path / "s")
    split, judged = dataset_of(whole.info["plan"]).split(), validation_images(whole)
    assert (len(split.train), len(split.validation)) == (54_000, 6_000)
    np.testing.assert_array_equal(judged.data.images, split.validation.images)
    assert (judged.name, judged.note) == ("validation images", "validation images, not test")
    assert judged.classes == CLASSES and list(judged.protocols) == ["full", "seed"]
    assert len(judged.protocols["full"].queries) == 6_000


def test_held_out_classes_are_not_trained_on_and_are_all_that_is_judged_on(tmp_path: Path) -> None:
    held_out = study(tmp_path / "s", holdout_classes=[5, 7])
    split, judged = dataset_of(held_out.info["plan"]).split(), validation_images(held_out)
    assert np.bincount(split.train.labels).tolist() == [5_400] * 5 + [0, 5_400, 0] + [5_400] * 2
    assert np.bincount(judged.data.labels).tolist() == [0] * 5 + [600, 0, 600]
    assert judged.name == "validation images of Sandal and Sneaker"
    choices = held_out.folder / "best.json"
    reading = Reading(choices, "to see", {}, 1, None)
    for test in (read_test_images(held_out, reading), show_test_images(held_out, choices)):
        assert np.bincount(test.data.labels).tolist() == [0] * 5 + [1_000, 0, 1_000]
        assert (test.name, test.note) == ("test images of Sandal and Sneaker", "")
        assert test.name == name_of_test(held_out)
    assert [line["why"] for line in entries(tmp_path / LEDGER)] == ["to see"]


def test_classes_that_judged_the_search_are_those_that_validate(tmp_path: Path) -> None:
    apart = study(tmp_path / "s", holdout_classes=[5, 7], validation_classes=[0, 9])
    of = {
        name: dataset_of({"holdout_classes": [5, 7], **more})
        for name, more in (
            ("trained", {}),
            ("apart", {"validation_classes": [0, 9]}),
            ("all", {"holdout_classes": []}),
        )
    }
    chose = {name: dataset.validation_chose for name, dataset in of.items()}
    assert chose == {"trained": False, "apart": True, "all": True}
    judged = validation_images(apart)
    assert np.bincount(judged.data.labels).tolist() == [600, *[0] * 8, 600]
    assert judged.name == "validation images of T-shirt/top and Ankle boot"
    reading = Reading(apart.folder / "best.json", "to see", {}, 1, None)
    test = read_test_images(apart, reading)
    assert np.bincount(test.data.labels).tolist() == [0] * 5 + [1_000, 0, 1_000]
    assert test.name == name_of_test(apart) == "test images of Sandal and Sneaker"


def test_a_smoke_test_is_judged_on_what_its_trials_were(tmp_path: Path) -> None:
    small, whole = study(tmp_path / "s", smoke_test=True), study(tmp_path / "w")
    split, judged = dataset_of(small.info["plan"]).split(), validation_images(small)
    assert (len(split.train), len(split.validation)) == (3_000, 1_024)
    np.testing.assert_array_equal(judged.data.images, split.validation.images)
    first = validation_images(whole).data.take(slice(1_024))
    np.testing.assert_array_equal(judged.data.images, first.images)
    test = show_test_images(small, small.folder / "best.json")
    assert len(test.data) == 1_000


def test_validation_images_of_a_study_under_way_say_so(tmp_path: Path) -> None:
    running = study(tmp_path / "s", smoke_test=True)
    running.info["status"] = "interrupted"
    assert validation_images(running).note == (
        "validation images, not test; the study is interrupted"
    )


# --- one's own pictures ---


def test_the_plan_of_ones_own_pictures_is_handed_on(tmp_path: Path) -> None:
    root = photos(tmp_path / "photos")
    plan = Plan(
        losses=["triplet"],
        num_samples=1,
        max_epochs=1,
        data=str(root),
        protocol="held_out",
        folds=2,
        fold=1,
        grey=True,
        image_size=8,
        smoke_test=True,
    ).fields()
    dataset = dataset_of(plan)
    assert isinstance(dataset, OwnData)
    asked = (dataset.place, dataset.protocol, dataset.folds, dataset.fold, dataset.small)
    assert asked == (root, "held_out", 2, 1, True)
    assert dataset.decoding == Decoding(8, 8, 1)
    assert fixed_by(dataset, plan) == {
        "dataset": "photos",
        "data_fingerprint": dataset.fingerprint,
        "image_size": 8,
    }
    moved = root.rename(tmp_path / "moved")
    there = dataset_of(plan, moved)
    assert isinstance(there, OwnData) and there.place == moved
    assert there.fingerprint == dataset.fingerprint


def test_what_the_data_fixes_of_fashion_mnist() -> None:
    """All its images have a size of their own, which the network gets unless the plan says."""
    dataset = dataset_of({})
    fixed = {"dataset": "fashion_mnist", "data_fingerprint": "", "image_size": None}
    assert fixed_by(dataset, {}) == fixed
    assert fixed_by(dataset, {"image_size": 20}) == {**fixed, "image_size": 20}


def test_a_network_that_cannot_be_had_for_ones_own_pictures(tmp_path: Path) -> None:
    fields = {"losses": ["triplet"], "num_samples": 1, "max_epochs": 1}
    root = photos(tmp_path / "photos")
    plan = Plan(**fields, data=str(root), network="torchvision:resnet19").fields()
    with pytest.raises(StudyError, match="got 'torchvision:resnet19'"):
        dataset_of(plan)
    (tmp_path / "own.py").write_text(
        "import torch\n"
        'INPUT = {"height": 6, "width": 8}\n'
        "def flat(height, width):\n"
        "    return torch.nn.Flatten()\n"
    )
    wide = f"{tmp_path}/own.py:flat"
    plan = Plan(**fields, data=str(root), network=wide).fields()
    law = f"a network of one's own pictures must take squares; {wide} takes 6 x 8"
    with pytest.raises(StudyError, match=law):
        dataset_of(plan)
    with pytest.raises(DataError, match="data must be fashion_mnist, or a folder or a CSV; there"):
        dataset_of(plan | {"data": str(tmp_path / "nowhere"), "network": "seed_cnn"})


# --- the same data as before ---


def test_other_data_than_the_trials_were_trained_on_is_refused(tmp_path: Path) -> None:
    root = photos(tmp_path / "photos")
    own = study(tmp_path / "s", data=str(root), image_size=8)
    assert validation_images(own).classes == tuple(LETTERS[:8])
    choices = own.folder / "best.json"
    other = photos(tmp_path / "other", each=5)
    law = f"the study in {own.folder} is of other data: photos [0-9a-f]{{16}}; got other"
    reading = Reading(choices, "to see", {}, 1, None)
    for refused in (
        lambda: validation_images(own, other),
        lambda: read_test_images(own, reading, other),
        lambda: show_test_images(own, choices, other),
    ):
        with pytest.raises(StudyError, match=law):
            refused()
    assert not (tmp_path / LEDGER).exists()


def test_data_is_known_by_its_name_or_by_its_fingerprint(tmp_path: Path) -> None:
    """One's own may be renamed; what is known by its name may not."""
    root = photos(tmp_path / "photos")
    plan = Plan(losses=["triplet"], num_samples=1, max_epochs=1, data=str(root), image_size=8)
    own, fashion = dataset_of(plan.fields()), dataset_of({})
    check_data(own, "photos", own.fingerprint, tmp_path)
    check_data(own, "another name", own.fingerprint, tmp_path)
    check_data(fashion, "fashion_mnist", "", tmp_path)
    for dataset, name, fingerprint, said in (
        (own, "photos", "0123", f"photos 0123; got photos {own.fingerprint}"),
        (own, "fashion_mnist", "", f"fashion_mnist ; got photos {own.fingerprint}"),
        (fashion, "emoji", "", "emoji; got fashion_mnist"),
        (fashion, "photos", own.fingerprint, "photos; got fashion_mnist"),
    ):
        with pytest.raises(StudyError, match=f"in {tmp_path} is of other data: {said}"):
            check_data(dataset, name, fingerprint, tmp_path)


def test_what_a_folder_says_of_its_data_needs_no_data(tmp_path: Path) -> None:
    root = photos(tmp_path / "photos")
    own = study(tmp_path / "s", data=str(root), image_size=8)
    said = dataset_of(own.info["plan"]).about()
    (own.folder / DATA).write_text(json.dumps(said))
    root.rename(tmp_path / "gone")
    assert about(own) == said
    assert classes_of(own) == tuple(LETTERS[:8])
    assert name_of_test(own) == "test images"
    (own.folder / DATA).write_text("{")
    with pytest.raises(StudyError, match=rf"{DATA} cannot be read"):
        about(own)
    (own.folder / DATA).unlink()
    with pytest.raises(StudyError, match=rf"there is no .*{DATA}$"):
        about(own)
