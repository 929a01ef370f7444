"""One's own pictures as a data set: its parts, its pixels, its fingerprint, its test images."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.small_pictures import LETTERS, photos, picture, shown
from trainables.data import Asked, DataError, LabelledImages, resolve
from trainables.data import own as own_data
from trainables.data.ledger import LEDGER, Reading, entries
from trainables.data.own import OwnData
from trainables.data.pixels.cache import Pixels, default_folder
from trainables.data.pixels.decode import Decoding
from trainables.data.protocols import partition
from trainables.data.tables.sources import read_table
from trainables.networks import Input

WANTS = Input(3, 4, 4, (0.5,) * 3, (0.5,) * 3)


@pytest.fixture(autouse=True)
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return default_folder()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return photos(tmp_path / "photos")


@pytest.fixture
def reading(tmp_path: Path) -> Reading:
    frozen = tmp_path / "s" / "choices.json"
    frozen.parent.mkdir()
    frozen.touch()
    return Reading(frozen, "to see", {"triplet": "loss=triplet"}, 1, None)


def own(data: Path, **asked: Any) -> OwnData:
    dataset = resolve(str(data), Asked(**{"input": WANTS, **asked}))
    assert isinstance(dataset, OwnData)
    return dataset


def cached(folder: Path) -> list[int]:
    """How many pictures each cache holds."""
    return sorted(len(np.load(path, mmap_mode="r")) for path in folder.glob("*/pixels.npy"))


def check_shown(images: LabelledImages, root: Path, rows: np.ndarray) -> None:
    """They are the pictures of these rows of the table, with their labels."""
    table = read_table(root)
    names = [Path(path) for path in table.rows["path"].to_numpy()[rows]]
    expected = [(LETTERS.index(path.parent.name), int(path.stem)) for path in names]
    assert shown(images.images) == expected
    assert images.labels.tolist() == [label for label, _ in expected]


# --- parts and pixels ---


@pytest.mark.parametrize(
    "asked",
    [{}, {"folds": 2, "fold": 1}, {"protocol": "closed"}],
    ids=["default", "fold 1 of 2", "closed"],
)
def test_its_parts_are_those_of_the_protocol(
    root: Path, asked: dict[str, Any], reading: Reading
) -> None:
    photos(root, each=20)
    dataset = own(root, **asked)
    drawn = {"folds": asked.get("folds"), "fold": asked.get("fold", 0)}
    parts = partition(read_table(root), asked.get("protocol", "held_out"), **drawn)
    split, validation, test = dataset.split(), dataset.validation(), dataset.test(reading)
    check_shown(split.train, root, parts.train)
    for images, part in ((validation, parts.validation), (test, parts.test)):
        check_shown(images.images, root, part.rows)
        assert list(images.protocols) == ["full"]
        roles = images.protocols["full"]
        assert part.rows[roles.queries].tolist() == part.queries.tolist()
        assert part.rows[roles.gallery].tolist() == part.gallery.tolist()
        assert roles.groups is None
    assert split.roles.gallery.tolist() == validation.protocols["full"].gallery.tolist()
    np.testing.assert_array_equal(split.validation.images, validation.images.images)
    seen, tested = ({*part.labels.tolist()} for part in (split.train, test.images))
    assert (seen == tested) if "protocol" in asked else not seen & tested


def test_the_parts_of_a_study_share_their_pixels(root: Path, caches: Path) -> None:
    split = own(root).split()
    assert isinstance(split.train.pixels, Pixels)
    assert split.validation.pixels is split.train.pixels
    assert len(split.train) + len(split.validation) == len(split.train.array) == 16
    assert cached(caches) == [16]


def test_queries_galleries_and_sequences_are_as_the_list_says(root: Path, reading: Reading) -> None:
    lines = ["path,label,split,is_query,is_gallery,sequence"]
    for number in range(8):
        for seed in range(4):
            roles = f"test,{seed < 2},{seed != 1},{number}-{seed // 2}"
            given = "train,,," if number < 4 else roles
            lines.append(f"{LETTERS[number]}/{seed}.bmp,{LETTERS[number]},{given}")
    (root / "list.csv").write_text("\n".join(lines) + "\n")
    dataset = own(root / "list.csv")
    assert dataset.name == "list" and dataset.classes == tuple(LETTERS[:8])
    test = dataset.test(reading)
    roles, seen = test.protocols["full"], shown(test.images.images)
    for asked, seeds in ((roles.queries, (0, 1)), (roles.gallery, (0, 2, 3))):
        assert sorted(seen[place] for place in asked) == [
            (number, seed) for number in range(4, 8) for seed in seeds
        ]
    assert roles.groups is not None
    shots = zip(roles.groups.tolist(), seen, strict=True)
    sequences = {(group, number, seed // 2) for group, (number, seed) in shots}
    assert len(sequences) == len({*roles.groups.tolist()}) == 8
    assert roles.ranked == 11  # of 12, without the query's own, or its sequence's only one


def test_boxes_are_cut_out(tmp_path: Path, reading: Reading) -> None:
    """The left half of each picture is of its class, which the box takes."""
    root, lines = tmp_path / "photos", ["path,label,x_1,y_1,x_2,y_2"]
    for number in range(8):
        for seed in range(2):
            path = root / f"{number}-{seed}.bmp"
            picture(path, number, seed, size=(8, 8))
            with Image.open(path) as image:
                pixels = np.array(image)
            pixels[:, 4:] = 0
            Image.fromarray(pixels).save(path)
            lines.append(f"{path.name},{LETTERS[number]},0,0,4,8")
    (root / "list.csv").write_text("\n".join(lines) + "\n")
    dataset = own(root / "list.csv")
    test = dataset.test(reading)
    for images in (dataset.split().train, test.images):
        assert [number for number, _ in shown(images.images)] == images.labels.tolist()


@pytest.mark.parametrize(
    ("wants", "grey", "expected"),
    [
        (WANTS, False, Decoding(4, 4, 3)),
        (WANTS, True, Decoding(4, 4, 1)),
        (Input(1, 4, 4, (0.5,), (0.5,)), False, Decoding(4, 4, 1)),
        (Input(3, 4, 4, (0.5,) * 3, (0.5,) * 3, "bicubic", 5), False, Decoding(5, 5, 3, "bicubic")),
        (Input(3, 4, 6, (0.5,) * 3, (0.5,) * 3, resize=6), False, Decoding(6, 9, 3)),
    ],
    ids=["as it is", "grey", "a grey network", "of which the centre is judged", "no square"],
)
def test_pictures_are_made_for_the_network(
    root: Path, wants: Input, grey: bool, expected: Decoding
) -> None:
    dataset = own(root, input=wants, grey=grey)
    assert dataset.decoding == expected
    assert dataset.split().shape == expected.shape


def test_what_it_asks_of_the_space_follows_its_pictures(root: Path) -> None:
    small, large = own(root), own(root, input=Input(3, 64, 64, (0.5,) * 3, (0.5,) * 3))
    assert small.changes["erase"] == {"choices": [0, 1]}
    assert large.changes["erase"] == {"choices": [0, 16]}
    assert small.changes["shift"] == {"choices": [0]} and not small.own_size


# --- the fingerprint ---


def repainted(part: str) -> Callable[[Path], OwnData]:
    """One picture of a part has another colour, at the same size."""

    def change(root: Path) -> OwnData:
        dataset = own(root)
        rows = dataset.parts.train if part == "train" else getattr(dataset.parts, part).rows
        path = Path(dataset.table.rows["path"][rows[0]])
        picture(path, 11, 11)
        os.utime(path, ns=(1, 1))
        return own(root)

    return change


def renamed(root: Path) -> OwnData:
    (root / "d").rename(root / "dd")
    return own(root)


def fewer(root: Path) -> OwnData:
    (root / "d" / "2.bmp").unlink()
    return own(root)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(repainted("train"), id="a training picture"),
        pytest.param(repainted("validation"), id="a validation picture"),
        pytest.param(repainted("test"), id="a test picture"),
        pytest.param(renamed, id="a class's name"),
        pytest.param(fewer, id="a picture that is gone"),
        pytest.param(lambda root: own(root, protocol="closed"), id="the protocol"),
        pytest.param(lambda root: own(root, folds=2, fold=1), id="the fold"),
        pytest.param(lambda root: own(root, grey=True), id="the colours"),
        pytest.param(lambda root: own(root, small=True), id="the slice"),
        pytest.param(
            lambda root: own(root, input=Input(3, 5, 5, (0.5,) * 3, (0.5,) * 3)), id="the size"
        ),
    ],
)
def test_the_fingerprint_changes_with(root: Path, change: Callable[[Path], OwnData]) -> None:
    photos(root, each=20)
    before = own(root).fingerprint
    assert change(root).fingerprint != before
    assert own(photos(root.parent / "again" / "photos", each=20)).fingerprint == before


def test_the_fingerprint_stays_wherever_the_folder_lies(root: Path, tmp_path: Path) -> None:
    before = own(root).fingerprint
    copy = Path(shutil.copytree(root, tmp_path / "elsewhere" / "another name"))
    assert own(copy).fingerprint == before
    assert own(root, place=copy).fingerprint == before
    for path in root.rglob("*.bmp"):
        os.utime(path, ns=(1, 1))
    assert own(root).fingerprint == before
    shutil.rmtree(tmp_path / "cache")
    assert own(root).fingerprint == before
    other = Input(3, 4, 4, (0.1,) * 3, (0.2,) * 3)  # of the same pixels
    assert own(root, input=other).fingerprint == before


def test_a_table_that_moved_is_found_in_the_folder_to_which_it_did(tmp_path: Path) -> None:
    """The folder is not read as one of classes: that is other data."""
    root = photos(tmp_path / "photos")
    rows = [
        f"{path.relative_to(root)},{path.parent.name},x" for path in sorted(root.rglob("*.bmp"))
    ]
    (root / "labels.csv").write_text("\n".join(["path,label,partition", *rows]) + "\n")
    mine = own(root / "labels.csv")
    assert mine.notes == ("columns not read: partition",)
    moved = Path(shutil.copytree(root, tmp_path / "moved"))
    found = own(root / "labels.csv", place=moved)
    assert found.place == moved / "labels.csv" and found.name == "labels"
    assert found.fingerprint == mine.fingerprint
    (moved / "labels.csv").unlink()
    with pytest.raises(DataError, match=r"moved/labels\.csv"):
        own(root / "labels.csv", place=moved).split()


def test_a_test_picture_that_cannot_be_read_is_named_with_the_fingerprint(root: Path) -> None:
    dataset = own(root)
    path = Path(dataset.table.rows["path"][dataset.parts.test.rows[2]])
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataError, match=f"1 of 16 pictures cannot be read: {path}: "):
        _ = own(root).fingerprint


# --- the test images ---


def test_no_test_pixel_is_kept_before_they_are_read(
    root: Path, caches: Path, reading: Reading
) -> None:
    dataset = own(root)
    _ = dataset.fingerprint, dataset.split(), dataset.validation(), dataset.card(), dataset.about()
    assert cached(caches) == [16]
    dataset.test(reading)
    assert cached(caches) == [16, 16]


def test_the_test_images_are_read_for_frozen_choices_and_a_reason(
    root: Path, caches: Path, reading: Reading, tmp_path: Path
) -> None:
    dataset = own(root)
    with pytest.raises(DataError, match="chosen and frozen; there is no "):
        dataset.test(reading._replace(frozen=tmp_path / "s" / "none"))
    with pytest.raises(DataError, match="for a reason; got an empty one"):
        dataset.test(reading._replace(why=" "))
    shutil.move(root, tmp_path / "gone")
    with pytest.raises(DataError, match=f"{root}"):
        own(tmp_path / "gone", place=root).test(reading)
    assert not (tmp_path / LEDGER).exists() and cached(caches) == []
    own(tmp_path / "gone").test(reading)
    (line,) = entries(tmp_path / LEDGER)
    assert (line["study"], line["why"]) == ("s", "to see")


def test_they_are_shown_beside_what_was_found_alone(
    root: Path, tmp_path: Path, reading: Reading
) -> None:
    dataset = own(root)
    found = tmp_path / "s" / "summary.csv"
    with pytest.raises(DataError, match=f"has found; there is no {found}"):
        dataset.shown(found)
    found.touch()
    images = dataset.shown(found)
    assert not (tmp_path / LEDGER).exists()  # nothing is judged
    read = dataset.test(reading)
    np.testing.assert_array_equal(images.images.images, read.images.images)
    assert images.protocols["full"].gallery.tolist() == read.protocols["full"].gallery.tolist()


def test_test_pictures_that_were_changed_are_refused(root: Path, reading: Reading) -> None:
    """Two of them are interchanged; no size and no time of a file says so."""
    dataset = own(root)
    _ = dataset.fingerprint
    rows = dataset.parts.test.rows
    one, other = (Path(dataset.table.rows["path"][row]) for row in (rows[0], rows[-1]))
    times = [path.stat().st_mtime_ns for path in (one, other)]
    contents = [path.read_bytes() for path in (other, one)]
    for path, content, time in zip((one, other), contents, times, strict=True):
        path.write_bytes(content)
        os.utime(path, ns=(time, time))
    law = f"must be those that were there when the study began; some of {root} were changed"
    with pytest.raises(DataError, match=law):
        dataset.test(reading)


# --- smoke tests, and what is refused ---


def test_a_smoke_test_has_whole_classes(
    root: Path, monkeypatch: pytest.MonkeyPatch, reading: Reading
) -> None:
    photos(root, classes=20, each=10)
    whole, small = own(root).parts, own(root, small=True)
    labels = read_table(root).labels
    assert len(small.split().train) == len(whole.train)  # there are fewer than a smoke test has
    monkeypatch.setattr(own_data, "SMOKE_TRAIN", 1)
    monkeypatch.setattr(own_data, "SMOKE_JUDGED", 41)
    small = own(root, small=True)
    split = small.split()
    train = whole.train[np.isin(labels[whole.train], split.train.labels)]
    check_shown(split.train, root, train)
    assert len({*split.train.labels.tolist()}) == 4 < len({*labels[whole.train].tolist()})
    test = small.test(reading)
    kept = whole.test.rows[np.isin(labels[whole.test.rows], test.images.labels)]
    check_shown(test.images, root, kept)
    assert len({*test.images.labels.tolist()}) == 5 < len({*labels[whole.test.rows].tolist()})
    roles = test.protocols["full"]
    assert kept[roles.gallery].tolist() == [row for row in whole.test.gallery if row in kept]
    assert kept[roles.queries].tolist() == [row for row in whole.test.queries if row in kept]
    again = own(root, small=True).split()
    np.testing.assert_array_equal(again.train.images, split.train.images)


def test_held_out_classes_are_not_given(root: Path) -> None:
    law = "held-out classes of one's own data are drawn, or named by its test split; got 1, cat"
    with pytest.raises(DataError, match=law):
        own(root, held_out=(1, "cat"))


def test_about_is_what_is_told_without_the_data(root: Path) -> None:
    dataset = own(root)
    said = dataset.about()
    assert (said["name"], said["described"]) == ("photos", "")
    assert said["fingerprint"] == dataset.fingerprint
    assert said["classes"] == [*LETTERS[:8]] == list(dataset.classes)
    assert said["card"] == dataset.card()
    assert "32 images of 8 classes" in dataset.card()
