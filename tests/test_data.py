from __future__ import annotations

import gzip
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import numpy as np
import pytest

from tests.conftest import synthetic
from trainables import data
from trainables.data import DataError, LabelledImages, Split, fashion_mnist
from trainables.data.ledger import Reading, entries

NAMES = [file.name for file in fashion_mnist.FILES.values()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the real files that a test may damage."""
    source = fashion_mnist.find_fashion_mnist()
    for path in source.iterdir():
        if path.name.removesuffix(".gz") in NAMES:
            shutil.copy(path, tmp_path)
    return tmp_path


def path_of(folder: Path, name: str) -> Path:
    return next(path for path in folder.iterdir() if path.name.removesuffix(".gz") == name)


def test_the_real_split_is_stratified_and_covers_the_training_images_once() -> None:
    split = data.load_split()
    assert (len(split.train), len(split.validation)) == (54_000, 6_000)
    assert np.bincount(split.train.labels).tolist() == [5_400] * 10
    assert np.bincount(split.validation.labels).tolist() == [600] * 10
    whole = np.concatenate([split.train.images, split.validation.images]).reshape(60_000, -1)
    original = data._load("train", None).images.reshape(60_000, -1)
    assert (np.sort(whole.sum(1)) == np.sort(original.sum(1))).all()


def test_the_split_is_fixed_and_shuffled() -> None:
    first, second = data.load_split(), data.load_split()
    assert (first.validation.images == second.validation.images).all()
    assert (np.diff(first.validation.labels) != 0).mean() > 0.8  # batches hold many classes
    assert (np.diff(first.train.labels) != 0).mean() > 0.8


def test_stratified_split_keeps_a_tenth_of_unequal_classes() -> None:
    labels = np.repeat([0, 1, 2], [100, 50, 30])
    images = np.arange(180, dtype=np.uint8)[:, None, None]
    split = data.stratified_split(LabelledImages(images, labels))
    assert np.bincount(split.validation.labels).tolist() == [10, 5, 3]
    both = np.concatenate([split.train.images.ravel(), split.validation.images.ravel()])
    assert sorted(both.tolist()) == list(range(180))


def reading(frozen: Path, why: str = "to see") -> Reading:
    return Reading(frozen, why, {"triplet": "loss=triplet, lr=0.1"}, rows=2, commit="abc")


def test_the_test_images_are_read_for_frozen_choices_and_a_reason(tmp_path: Path) -> None:
    frozen = tmp_path / "s" / "best.json"
    with pytest.raises(data.DataError, match=f"chosen and frozen; there is no {frozen}"):
        data.load_test(reading=reading(frozen))
    frozen.parent.mkdir()
    frozen.touch()
    with pytest.raises(data.DataError, match="for a reason; got an empty one"):
        data.load_test(reading=reading(frozen, " "))
    with pytest.raises(data.DataError, match="does not hold"):
        data.load_test(tmp_path, reading=reading(frozen))
    assert [path.name for path in tmp_path.iterdir()] == ["s"]  # and the ledger has no line


def test_the_test_images_and_protocols(tmp_path: Path) -> None:
    frozen = tmp_path / "s" / "best.json"
    frozen.parent.mkdir()
    frozen.touch()
    test = data.load_test(reading=reading(frozen))
    assert test.images.shape == (10_000, 28, 28)
    assert np.bincount(test.labels).tolist() == [1_000] * 10
    assert data.PROTOCOLS == {"seed": (1_000, 100), "full": (10_000, 10_000)}
    (line,) = entries(tmp_path / "readings.jsonl")
    assert (line["study"], line["why"]) == ("s", "to see")


def test_test_images_are_shown_beside_what_was_found_alone(tmp_path: Path) -> None:
    found = tmp_path / "s" / "summary.csv"
    with pytest.raises(data.DataError, match=f"has found; there is no {found}"):
        data.show_test(found=found)
    found.parent.mkdir()
    found.touch()
    assert len(data.show_test(found=found)) == 10_000
    assert [path.name for path in tmp_path.iterdir()] == ["s"]  # no line: nothing is judged


def test_read_only_images_become_tensors_without_a_copy() -> None:
    part = synthetic(4, seed=0)
    part.images.flags.writeable = False
    images, _ = part.tensors()
    assert images.data_ptr() == part.images.ctypes.data


def test_a_given_folder_is_found_packed_unpacked_or_in_torchvisions_layout(folder: Path) -> None:
    raw = folder / "root" / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for name in NAMES:
        content = path_of(folder, name).read_bytes()
        is_packed = path_of(folder, name).suffix == ".gz"
        (raw / name).write_bytes(gzip.decompress(content) if is_packed else content)
    assert fashion_mnist.find_fashion_mnist(folder) == folder
    assert fashion_mnist.find_fashion_mnist(folder / "root") == raw
    assert len(data.load_split(folder / "root").train) == 54_000


def test_a_missing_file_is_named(folder: Path) -> None:
    path_of(folder, NAMES[1]).unlink()
    with pytest.raises(DataError, match=f"{folder} does not hold {NAMES[1]}"):
        data.load_split(folder)


def test_a_truncated_file_is_named(folder: Path) -> None:
    path = path_of(folder, NAMES[0])
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(DataError, match=f"{path} cannot be read"):
        data.load_split(folder)


def test_a_truncated_unpacked_file_is_named(folder: Path) -> None:
    packed = path_of(folder, NAMES[1])
    content = gzip.decompress(packed.read_bytes())
    packed.unlink()
    (folder / NAMES[1]).write_bytes(content[:-1])
    with pytest.raises(DataError, match=f"{NAMES[1]} must hold 60008 bytes unpacked; got 60007"):
        data.load_split(folder)


def test_a_foreign_file_is_named(folder: Path) -> None:
    path = path_of(folder, NAMES[1])
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[100] ^= 1
    path.write_bytes(gzip.compress(content))
    with pytest.raises(DataError, match=f"{path} is not Fashion-MNIST's {NAMES[1]}: SHA-256"):
        data.load_split(folder)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_of_two_forms_of_a_file_the_sound_one_is_used(folder: Path, suffix: str) -> None:
    """A damaged one beside it does no harm."""
    name = NAMES[1]
    content = gzip.decompress((folder / f"{name}.gz").read_bytes())
    (folder / name).write_bytes(content)
    (folder / f"{name}{suffix}").write_bytes(content[:1000])
    assert len(data.load_split(folder).train) == 54_000


def test_two_damaged_forms_are_both_named_with_the_remedy(folder: Path) -> None:
    for suffix in ("", ".gz"):
        (folder / f"{NAMES[1]}{suffix}").write_bytes(b"x")
    with pytest.raises(DataError) as error:
        data.load_split(folder)
    assert f"{folder / NAMES[1]} must hold" in str(error.value)
    assert f"{folder / NAMES[1]}.gz cannot be read" in str(error.value)
    assert str(error.value).endswith("in its place, or name another folder (--data-dir)")


def test_a_folder_that_may_not_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(folder: Path) -> list[str]:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(fashion_mnist.os, "listdir", forbidden)
    with pytest.raises(DataError, match=f"data folder {tmp_path} cannot be read: Permission den"):
        data.load_split(tmp_path)


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project's own folder, which is not there yet; the system has none either."""
    monkeypatch.setattr(fashion_mnist, "SYSTEM_FOLDER", tmp_path / "none")
    monkeypatch.setattr(fashion_mnist, "DOWNLOAD_FOLDER", tmp_path / "download")
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

    monkeypatch.setattr(fashion_mnist, "_download", download)
    return done


def test_without_data_one_error_names_three_remedies(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(root: Path) -> None:
        raise RuntimeError("no\nnetwork")

    monkeypatch.setattr(fashion_mnist, "_download", download)
    with pytest.raises(DataError, match=r"--data-dir.*dataset-fashion-mnist.*torchvision.*no net"):
        data.load_split()


def test_torchvisions_download_is_the_last_resort(own: Path, downloads: list[Path]) -> None:
    assert fashion_mnist.find_fashion_mnist() == own
    assert fashion_mnist.find_fashion_mnist() == own
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

    monkeypatch.setattr(fashion_mnist, "_download", download)
    with pytest.raises(DataError, match=r"it just failed: .* must hold \d+ bytes unpacked; got 4"):
        data.load_split()
    assert not own.exists()


def test_a_damaged_file_of_the_projects_own_is_fetched_again(
    own: Path, downloads: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    data.load_split()
    damaged = path_of(own, NAMES[0])
    damaged.write_bytes(damaged.read_bytes()[:-1000])
    assert len(data.load_split().train) == 54_000
    assert len(downloads) == 2
    assert f"{damaged} cannot be read" in caplog.text and "fetched again" in caplog.text
    assert len(data.load_split().train) == 54_000
    assert len(downloads) == 2


def test_a_damaged_file_that_cannot_be_fetched_again_is_named(
    own: Path, downloads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(root: Path) -> None:
        raise OSError("no network")

    data.load_split()
    damaged = path_of(own, NAMES[0])
    damaged.write_bytes(b"")
    monkeypatch.setattr(fashion_mnist, "_download", offline)
    with pytest.raises(DataError, match=f"{damaged} .*to fetch it again failed: no network"):
        data.load_split()


def test_of_two_programs_that_find_no_data_one_downloads_and_one_waits(
    own: Path, downloads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first has half a download when the second starts; it ends once the second waits."""
    copy, half, waits = fashion_mnist._download, Event(), Event()

    def download(root: Path) -> None:
        (root / NAMES[0]).write_bytes(b"half")
        half.set()
        assert waits.wait(timeout=60)
        copy(root)

    def warning(text: str, *arguments: object) -> None:
        assert text.startswith("waiting for another program") and not own.exists()
        waits.set()

    monkeypatch.setattr(fashion_mnist, "_download", download)
    monkeypatch.setattr(fashion_mnist.LOGGER, "warning", warning)
    with ThreadPoolExecutor(2) as programs:
        first = programs.submit(data.load_split)
        assert half.wait(timeout=60)
        second = programs.submit(data.load_split)
        assert len(first.result().train) == len(second.result().train) == 54_000
    assert len(downloads) == 1


def test_one_class_is_no_retrieval() -> None:
    part = synthetic(20, seed=0)
    one = LabelledImages(part.images, np.full(20, 3))
    with pytest.raises(DataError, match=r"at least 2 classes; the training labels hold 1: \[3\]"):
        Split(one, part)


def test_labels_must_fit_the_images() -> None:
    with pytest.raises(DataError, match="one label an image: 2 images, labels"):
        LabelledImages(np.zeros((2, 28, 28), np.uint8), np.zeros(3, np.int64))
    with pytest.raises(DataError, match="images must be uint8"):
        LabelledImages(np.zeros((2, 28, 28)), np.zeros(2, np.int64))
