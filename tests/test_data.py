from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import synthetic
from trainables import data
from trainables.data import DataError, LabelledImages, Split

NAMES = [file.name for file in data._FILES.values()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the real files that a test may damage."""
    source = data.find_fashion_mnist()
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


def test_the_test_images_are_read_for_frozen_choices_alone(tmp_path: Path) -> None:
    with pytest.raises(data.DataError, match=f"chosen and frozen; there is no {tmp_path}/best"):
        data.load_test(frozen=tmp_path / "best.json")


def test_the_test_images_and_protocols(tmp_path: Path) -> None:
    frozen = tmp_path / "best.json"
    frozen.touch()
    test = data.load_test(frozen=frozen)
    assert test.images.shape == (10_000, 28, 28)
    assert np.bincount(test.labels).tolist() == [1_000] * 10
    assert data.PROTOCOLS == {"seed": (1_000, 100), "full": (10_000, 10_000)}


def test_scale_maps_bytes_to_minus_one_to_one() -> None:
    images = torch.tensor([[[0, 255]]], dtype=torch.uint8)
    scaled = data.scale(images)
    assert scaled.shape == (1, 1, 1, 2)
    assert scaled.flatten().tolist() == [-1.0, 1.0]


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
    assert data.find_fashion_mnist(folder) == folder
    assert data.find_fashion_mnist(folder / "root") == raw
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


def test_without_data_one_error_names_three_remedies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "SYSTEM_FOLDER", tmp_path / "none")
    monkeypatch.setattr(data, "DOWNLOAD_FOLDER", tmp_path / "download")
    monkeypatch.setattr(data, "_download", lambda root: "no network")
    with pytest.raises(DataError, match=r"--data-dir.*dataset-fashion-mnist.*torchvision.*no net"):
        data.load_split()


def test_torchvisions_download_is_the_last_resort(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(root: Path) -> None:
        shutil.copytree(folder, root / "FashionMNIST" / "raw")

    monkeypatch.setattr(data, "SYSTEM_FOLDER", tmp_path / "none")
    monkeypatch.setattr(data, "DOWNLOAD_FOLDER", tmp_path / "download")
    monkeypatch.setattr(data, "_download", download)
    assert data.find_fashion_mnist() == tmp_path / "download" / "FashionMNIST" / "raw"


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
