"""Fashion-MNIST: its files, its split, its test images, and who may have them."""

from __future__ import annotations

import gzip
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest

from study.search.space import SPACE, WIDE
from trainables.data import Asked, DataError, LabelledImages, Split, resolve
from trainables.data import fashion_mnist_files as files
from trainables.data.fashion_mnist import class_numbers, hold_out, protocols, stratified_split
from trainables.data.fashion_mnist_files import find_fashion_mnist
from trainables.data.ledger import Reading, entries
from trainables.knobs import Choice

NAMES = [file.name for file in files.FILES.values()]


def load_split(folder: Path | None = None) -> Split:
    return resolve("fashion_mnist", Asked(place=folder)).split()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the real files that a test may damage."""
    source = find_fashion_mnist()
    for path in source.iterdir():
        if path.name.removesuffix(".gz") in NAMES:
            shutil.copy(path, tmp_path)
    return tmp_path


def path_of(folder: Path, name: str) -> Path:
    return next(path for path in folder.iterdir() if path.name.removesuffix(".gz") == name)


def test_the_real_split_is_stratified_and_covers_the_training_images_once() -> None:
    split = load_split()
    assert (len(split.train), len(split.validation)) == (54_000, 6_000)
    assert np.bincount(split.train.labels).tolist() == [5_400] * 10
    assert np.bincount(split.validation.labels).tolist() == [600] * 10
    rows = np.concatenate([split.train.rows, split.validation.rows])
    assert np.sort(rows).tolist() == list(range(60_000))
    images, labels = files.read("train")
    assert split.shape == (1, 28, 28)
    assert split.train.array is split.validation.array
    np.testing.assert_array_equal(split.train.array[:, 0], images)
    both = np.concatenate([split.train.labels, split.validation.labels])
    np.testing.assert_array_equal(both, labels[rows])


def test_the_split_is_fixed_and_shuffled() -> None:
    first, second = load_split(), load_split()
    assert (first.validation.images == second.validation.images).all()
    assert (np.diff(first.validation.labels) != 0).mean() > 0.8  # batches hold many classes
    assert (np.diff(first.train.labels) != 0).mean() > 0.8


def test_stratified_split_keeps_a_tenth_of_unequal_classes() -> None:
    labels = np.repeat([0, 1, 2], [100, 50, 30])
    images = np.arange(180, dtype=np.uint8)[:, None, None, None]
    split = stratified_split(LabelledImages(images, labels))
    assert np.bincount(split.validation.labels).tolist() == [10, 5, 3]
    both = np.concatenate([split.train.images.ravel(), split.validation.images.ravel()])
    assert sorted(both.tolist()) == list(range(180))


def reading(frozen: Path, why: str = "to see") -> Reading:
    return Reading(frozen, why, {"triplet": "loss=triplet, lr=0.1"}, rows=2, commit="abc")


def test_the_test_images_are_read_for_frozen_choices_and_a_reason(tmp_path: Path) -> None:
    frozen = tmp_path / "s" / "best.json"
    with pytest.raises(DataError, match=f"chosen and frozen; there is no {frozen}"):
        resolve("fashion_mnist").test(reading(frozen))
    frozen.parent.mkdir()
    frozen.touch()
    with pytest.raises(DataError, match="for a reason; got an empty one"):
        resolve("fashion_mnist").test(reading(frozen, " "))
    with pytest.raises(DataError, match="does not hold"):
        resolve("fashion_mnist", Asked(place=tmp_path)).test(reading(frozen))
    assert [path.name for path in tmp_path.iterdir()] == ["s"]  # and the ledger has no line


def test_the_test_images_and_protocols(tmp_path: Path) -> None:
    frozen = tmp_path / "s" / "best.json"
    frozen.parent.mkdir()
    frozen.touch()
    test = resolve("fashion_mnist").test(reading(frozen))
    assert test.images.images.shape == (10_000, 1, 28, 28)
    assert np.bincount(test.images.labels).tolist() == [1_000] * 10
    for name, queries, gallery in (("full", 10_000, 10_000), ("seed", 100, 1_000)):
        roles = test.protocols[name]
        assert roles.queries.tolist() == list(range(queries))
        assert roles.gallery.tolist() == list(range(gallery)) and roles.groups is None
    assert list(test.protocols) == ["full", "seed"]  # the first is the answer's
    (line,) = entries(tmp_path / "readings.jsonl")
    assert (line["study"], line["why"]) == ("s", "to see")


def test_test_images_are_shown_beside_what_was_found_alone(tmp_path: Path) -> None:
    found = tmp_path / "s" / "summary.csv"
    with pytest.raises(DataError, match=f"has found; there is no {found}"):
        resolve("fashion_mnist").shown(found)
    found.parent.mkdir()
    found.touch()
    assert len(resolve("fashion_mnist").shown(found).images) == 10_000
    assert [path.name for path in tmp_path.iterdir()] == ["s"]  # no line: nothing is judged


def test_of_few_images_each_protocol_takes_what_there_is() -> None:
    found = {name: (len(r.queries), len(r.gallery)) for name, r in protocols(400).items()}
    assert found == {"full": (400, 400), "seed": (100, 400)}


def test_held_out_classes_are_in_neither_part() -> None:
    """And each validation image that is left asks for all others."""
    split = load_split()
    left = hold_out(split, [5, 7])
    assert np.bincount(left.train.labels, minlength=10).tolist() == [
        0 if label in (5, 7) else 5_400 for label in range(10)
    ]
    kept = split.validation.rows[~np.isin(split.validation.labels, [5, 7])]
    assert left.validation.rows.tolist() == kept.tolist()
    assert left.roles.queries.tolist() == left.roles.gallery.tolist() == list(range(4_800))


def test_classes_that_judge_are_in_validation_alone() -> None:
    split = load_split()
    left = hold_out(split, [5, 7], [0, 9])
    assert np.bincount(left.train.labels, minlength=10).tolist() == [
        0 if label in (0, 5, 7, 9) else 5_400 for label in range(10)
    ]
    assert np.bincount(left.validation.labels).tolist() == [600, *[0] * 8, 600]
    whole = resolve("fashion_mnist", Asked(held_out=("5", "sneaker"), judging=("9", 0)))
    assert (whole.held_out, whole.judging) == ((5, 7), (0, 9))
    assert whole.split().validation.rows.tolist() == left.validation.rows.tolist()
    assert not left.same_classes


@pytest.mark.parametrize(
    ("held_out", "judging", "law"),
    [
        ((), (1, 2), r"2 to 8 beside at least 2 held-out ones; got 2: \[1, 2\], held out \[\]"),
        ((5, 7), (1,), r"2 to 6 beside at least 2 held-out ones; got 1: \[1\], held out \[5, 7\]"),
        ((5, 7), (0, 1, 2, 3, 4, 6, 8), r"2 to 6 beside at least 2 held-out ones; got 7"),
        ((5, 7), (7, 8), r"must not be held out for the test; got \[7\] in both"),
    ],
)
def test_classes_that_judge_are_others(
    held_out: tuple[int, ...], judging: tuple[int, ...], law: str
) -> None:
    with pytest.raises(DataError, match=law):
        resolve("fashion_mnist", Asked(held_out=held_out, judging=judging))


def test_classes_are_given_by_number_or_name() -> None:
    assert class_numbers(["ankle BOOT ", 5, "7"]) == [5, 7, 9]
    with pytest.raises(DataError, match=r"a class must be one of 0 T-shirt/top, .*; got 'boot'"):
        class_numbers(["boot"])
    with pytest.raises(DataError, match="named once each; got 5, sandal"):
        class_numbers([5, "Sandal"])


@pytest.mark.parametrize("held_out", [(5,), tuple(range(9))])
def test_as_many_classes_are_left_as_retrieval_needs(held_out: tuple[int, ...]) -> None:
    law = f"held-out classes must be 2 to 8 of the 10 classes; got {len(held_out)}"
    with pytest.raises(DataError, match=law):
        resolve("fashion_mnist", Asked(held_out=held_out))


@pytest.mark.parametrize(
    "asked", [{"protocol": "closed"}, {"folds": 3}, {"fold": 1}, {"grey": True}], ids=str
)
def test_what_is_of_ones_own_data_is_refused(asked: dict[str, Any]) -> None:
    ((what, value),) = asked.items()
    law = f"{what} is of one's own data: Fashion-MNIST has its own protocols; got {value!r}"
    with pytest.raises(DataError, match=law):
        resolve("fashion_mnist", Asked(**asked))


def test_a_given_folder_is_found_packed_unpacked_or_in_torchvisions_layout(folder: Path) -> None:
    raw = folder / "root" / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for name in NAMES:
        content = path_of(folder, name).read_bytes()
        is_packed = path_of(folder, name).suffix == ".gz"
        (raw / name).write_bytes(gzip.decompress(content) if is_packed else content)
    assert find_fashion_mnist(folder) == folder
    assert find_fashion_mnist(folder / "root") == raw
    assert len(load_split(folder / "root").train) == 54_000


def test_a_missing_file_is_named(folder: Path) -> None:
    path_of(folder, NAMES[1]).unlink()
    with pytest.raises(DataError, match=f"{folder} does not hold {NAMES[1]}"):
        load_split(folder)


def test_a_truncated_file_is_named(folder: Path) -> None:
    path = path_of(folder, NAMES[0])
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(DataError, match=f"{path} cannot be read"):
        load_split(folder)


def test_a_truncated_unpacked_file_is_named(folder: Path) -> None:
    packed = path_of(folder, NAMES[1])
    content = gzip.decompress(packed.read_bytes())
    packed.unlink()
    (folder / NAMES[1]).write_bytes(content[:-1])
    with pytest.raises(DataError, match=f"{NAMES[1]} must hold 60008 bytes unpacked; got 60007"):
        load_split(folder)


def test_a_foreign_file_is_named(folder: Path) -> None:
    path = path_of(folder, NAMES[1])
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[100] ^= 1
    path.write_bytes(gzip.compress(content))
    with pytest.raises(DataError, match=f"{path} is not Fashion-MNIST's {NAMES[1]}: SHA-256"):
        load_split(folder)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_of_two_forms_of_a_file_the_sound_one_is_used(folder: Path, suffix: str) -> None:
    """A damaged one beside it does no harm."""
    name = NAMES[1]
    content = gzip.decompress((folder / f"{name}.gz").read_bytes())
    (folder / name).write_bytes(content)
    (folder / f"{name}{suffix}").write_bytes(content[:1000])
    assert len(load_split(folder).train) == 54_000


def test_two_damaged_forms_are_both_named_with_the_remedy(folder: Path) -> None:
    for suffix in ("", ".gz"):
        (folder / f"{NAMES[1]}{suffix}").write_bytes(b"x")
    with pytest.raises(DataError) as error:
        load_split(folder)
    assert f"{folder / NAMES[1]} must hold" in str(error.value)
    assert f"{folder / NAMES[1]}.gz cannot be read" in str(error.value)
    assert str(error.value).endswith("in its place, or name another folder (--data-dir)")


def test_a_folder_that_may_not_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(folder: Path) -> list[str]:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(files.os, "listdir", forbidden)
    with pytest.raises(DataError, match=f"data folder {tmp_path} cannot be read: Permission den"):
        load_split(tmp_path)


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project's own folder, which is not there yet; the system has none either."""
    monkeypatch.setattr(files, "SYSTEM_FOLDER", tmp_path / "none")
    monkeypatch.setattr(files, "DOWNLOAD_FOLDER", tmp_path / "download")
    return tmp_path / "download" / "FashionMNIST" / "raw"


@pytest.fixture
def downloads(own: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Where was downloaded to; the download is a copy of the system's files."""
    source, done = Path("/usr/share/datasets/fashion-mnist"), []

    def download(root: Path) -> None:
        done.append(root)
        raw = root / "FashionMNIST" / "raw"
        raw.mkdir(parents=True)
        for name in NAMES:
            shutil.copy(path_of(source, name), raw)

    monkeypatch.setattr(files, "_download", download)
    return done


def test_without_data_one_error_names_three_remedies(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(root: Path) -> None:
        raise RuntimeError("no\nnetwork")

    monkeypatch.setattr(files, "_download", download)
    with pytest.raises(DataError, match=r"--data-dir.*dataset-fashion-mnist.*torchvision.*no net"):
        load_split()


def test_torchvisions_download_is_the_last_resort(own: Path, downloads: list[Path]) -> None:
    assert find_fashion_mnist() == own
    assert find_fashion_mnist() == own
    assert len(downloads) == 1
    assert sorted(path.name.removesuffix(".gz") for path in own.iterdir()) == sorted(NAMES)
    left = {path.name for path in own.parent.parent.iterdir()}
    assert left <= {"FashionMNIST", ".lock"}


def test_a_download_that_is_damaged_comes_to_no_place(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(root: Path) -> None:
        raw = root / "FashionMNIST" / "raw"
        raw.mkdir(parents=True)
        (raw / NAMES[0]).write_bytes(b"half")

    monkeypatch.setattr(files, "_download", download)
    with pytest.raises(DataError, match=r"it just failed: .* must hold \d+ bytes unpacked; got 4"):
        load_split()
    assert not own.exists()


def test_a_damaged_file_of_the_projects_own_is_fetched_again(
    own: Path, downloads: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    load_split()
    damaged = path_of(own, NAMES[0])
    damaged.write_bytes(damaged.read_bytes()[:-1000])
    assert len(load_split().train) == 54_000
    assert len(downloads) == 2
    assert f"{damaged} cannot be read" in caplog.text and "fetched again" in caplog.text
    assert len(load_split().train) == 54_000
    assert len(downloads) == 2


def test_a_damaged_file_that_cannot_be_fetched_again_is_named(
    own: Path, downloads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(root: Path) -> None:
        raise OSError("no network")

    load_split()
    damaged = path_of(own, NAMES[0])
    damaged.write_bytes(b"")
    monkeypatch.setattr(files, "_download", offline)
    with pytest.raises(DataError, match=f"{damaged} .*to fetch it again failed: no network"):
        load_split()


def test_of_two_programs_that_find_no_data_one_downloads_and_one_waits(
    own: Path, downloads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first has half a download when the second starts; it ends once the second waits."""
    copy, half, waits = files._download, Event(), Event()

    def download(root: Path) -> None:
        (root / NAMES[0]).write_bytes(b"half")
        half.set()
        assert waits.wait(timeout=60)
        copy(root)

    def warning(text: str, *arguments: object) -> None:
        assert text.startswith("waiting for another program") and not own.exists()
        waits.set()

    monkeypatch.setattr(files, "_download", download)
    monkeypatch.setattr(files.LOGGER, "warning", warning)
    with ThreadPoolExecutor(2) as programs:
        first = programs.submit(load_split)
        assert half.wait(timeout=60)
        second = programs.submit(load_split)
        assert len(first.result().train) == len(second.result().train) == 54_000
    assert len(downloads) == 1


def test_only_the_core_of_the_space_is_narrowed() -> None:
    dataset = resolve("fashion_mnist")
    core = {knob.name: knob for knob in SPACE.changed(dataset.changes_of(wide=False)).shared}
    wide = {knob.name: knob for knob in WIDE.changed(dataset.changes_of(wide=True)).shared}
    assert core["batch_size"].range == Choice((256,)) and core["batch_size"].default == 256
    assert wide["batch_size"].range == Choice((64, 128, 256, 512, 1024))
