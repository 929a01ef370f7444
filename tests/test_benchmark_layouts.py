"""The four benchmarks, imitated in small: each is known by its own files, and split officially."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from trainables.data.errors import DataError
from trainables.data.protocols import partition
from trainables.data.tables.sources import read_table
from trainables.data.tables.table import Table


def picture(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (2, 2)).save(file)


def counts(table: Table, split: str) -> tuple[int, int]:
    """How many classes and images a part has."""
    rows = table.rows[table.rows["split"] == split]
    return rows["label"].nunique(), len(rows)


def make_cub(root: Path, images: int = 2) -> Path:
    folder = root / "CUB_200_2011"
    paths = [f"{n:03}.Bird_{n}/Bird_{n}_{one}.jpg" for n in range(1, 201) for one in range(images)]
    for path in paths:
        picture(folder / "images" / path)
    lines = [f"{number} {path}" for number, path in enumerate(paths, start=1)]
    (folder / "images.txt").write_text("\n".join(lines) + "\n")
    # The classification split, which has every class in both parts.
    split = [f"{number} {number % 2}" for number in range(1, len(paths) + 1)]
    (folder / "train_test_split.txt").write_text("\n".join(split) + "\n")
    return folder


def make_cars(root: Path, numbers: Sequence[int] = (*range(1, 197), *range(1, 197))) -> Path:
    folder = root / "cars196"
    fields = [("relative_im_path", "O"), ("class", "O"), ("bbox_x1", "O"), ("test", "O")]
    annotations = np.zeros((1, len(numbers)), dtype=fields)
    for place, number in enumerate(numbers):
        path = f"car_ims/{place + 1:06}.jpg"
        picture(folder / path)
        annotations[0, place] = (path, np.uint8(number), np.uint16(1), np.uint8(place % 2))
    names = np.array([[f"Car {number:03} 2012" for number in range(196, 0, -1)]], dtype=object)
    savemat(folder / "cars_annos.mat", {"annotations": annotations, "class_names": names})
    return folder


def make_sop(root: Path) -> Path:
    folder = root / "Stanford_Online_Products"
    number = 0
    for part, items in (("train", range(1, 13)), ("test", range(13, 23))):
        lines = ["image_id class_id super_class_id path"]
        for item in items:
            for one in range(3):
                number += 1
                path = f"chair_final/{1000 + item}_{one}.JPG"
                lines.append(f"{number} {item} 3 {path}")
                picture(folder / path)
        (folder / f"Ebay_{part}.txt").write_text("\n".join(lines) + "\n")
    return folder


def make_inshop(root: Path, sizes: Sequence[str] = ("img",), base: str = "Img") -> Path:
    folder = root / "In-shop Clothes Retrieval Benchmark"
    lines = []
    for item in range(1, 9):
        statuses = ["train"] * 3 if item <= 5 else ["query", "gallery", "gallery"]
        for one, status in enumerate(statuses):
            path = f"WOMEN/Dresses/id_{item:08}/{one:02}_1_front.jpg"
            lines.append(f"img/{path}      id_{item:08}      {status}")
            for size in sizes:
                picture(folder / base / size / path)
    text = f"{len(lines)}\nimage_name item_id evaluation_status\n" + "\n".join(lines) + "\n"
    file = folder / "Eval" / "list_eval_partition.txt"
    file.parent.mkdir()
    file.write_text(text)
    return folder


def test_cub_trains_on_its_first_hundred_classes(tmp_path: Path) -> None:
    table = read_table(make_cub(tmp_path))
    assert counts(table, "train") == counts(table, "test") == (100, 200)
    train = table.rows["label"][table.rows["split"] == "train"]
    assert train.min() == "001.Bird_1" and train.max() == "100.Bird_100"
    assert table.classes[199] == "200.Bird_200"
    assert table.boxes is None


def test_cars_trains_on_its_first_98_classes_by_number_not_by_name(tmp_path: Path) -> None:
    table = read_table(make_cars(tmp_path))
    assert counts(table, "train") == counts(table, "test") == (98, 196)
    # Class 1 is the last name of the alphabet here; the official order is that of the numbers.
    assert table.classes[0] == "Car 196 2012" and table.classes[195] == "Car 001 2012"
    first = table.rows[table.rows["path"].str.endswith("000001.jpg")].iloc[0]
    assert (first["label"], first["split"]) == ("Car 196 2012", "train")
    assert table.boxes is None


def test_stanford_online_products_is_split_as_its_lists_say(tmp_path: Path) -> None:
    table = read_table(make_sop(tmp_path))
    assert counts(table, "train") == (12, 36)
    assert counts(table, "test") == (10, 30)
    assert list(table.classes) == [str(number) for number in range(1, 23)]


def test_in_shop_has_queries_and_a_gallery(tmp_path: Path) -> None:
    table = read_table(make_inshop(tmp_path))
    assert counts(table, "train") == (5, 15)
    assert counts(table, "test") == (3, 9)
    test = partition(table).test
    assert (len(test.queries), len(test.gallery)) == (3, 6)
    assert test.own.tolist() == [-1] * 3


def test_in_shop_says_which_size_it_reads(tmp_path: Path) -> None:
    for number, (sizes, read) in enumerate(
        ((("img", "img_highres"), "img"), (("img_highres",), "img_highres"))
    ):
        root = tmp_path / str(number)
        table = read_table(make_inshop(root, sizes))
        assert {Path(path).parts[-5] for path in table.rows["path"]} == {read}
        assert f"the pictures are those of {read}" in table.notes


def test_in_shop_may_have_its_pictures_beside_the_list(tmp_path: Path) -> None:
    assert len(read_table(make_inshop(tmp_path, base="."))) == 24


MAKERS = [make_cub, make_cars, make_sop, make_inshop]


@pytest.mark.parametrize("make", MAKERS)
def test_the_folder_or_its_parent_is_recognised(
    tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    folder = make(tmp_path)
    table, above = read_table(folder), read_table(tmp_path)
    assert table.source == above.source
    assert table.fingerprint() == above.fingerprint()
    parts = partition(table)
    test = np.flatnonzero(table.rows["split"] == "test")
    assert parts.test.rows.tolist() == test.tolist()
    assert not set(table.labels[test]) & set(table.labels[parts.train])


@pytest.mark.parametrize("make", MAKERS)
def test_a_missing_picture_is_named(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    folder = make(tmp_path)
    gone = sorted(folder.rglob("*.jpg")) or sorted(folder.rglob("*.JPG"))
    gone[3].unlink()
    with pytest.raises(DataError, match=rf"row \d+.*{gone[3].name} does not exist"):
        read_table(folder)


def test_a_damaged_list_is_named_with_its_line(tmp_path: Path) -> None:
    folder = make_cub(tmp_path / "cub", images=1)
    file = folder / "images.txt"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines[:4], "5", *lines[5:]]))
    with pytest.raises(DataError, match=r"images\.txt, line 5: .* image, path; got '5'"):
        read_table(folder)
    file.write_text("\n".join([*lines[:4], "5 birds/a.jpg", *lines[5:]]))
    with pytest.raises(DataError, match=r"line 5: .* from 001 to 200.*got 'birds/a\.jpg'"):
        read_table(folder)


def test_an_unknown_status_is_named_with_its_line(tmp_path: Path) -> None:
    folder = make_inshop(tmp_path)
    file = folder / "Eval" / "list_eval_partition.txt"
    file.write_text(file.read_text().replace("gallery", "galery", 1))
    with pytest.raises(DataError, match=r"line 19: .*train, query, gallery; got 'galery'"):
        read_table(folder)


def test_damaged_annotations_are_one_clear_line(tmp_path: Path) -> None:
    folder = make_cars(tmp_path, range(1, 4))
    file = folder / "cars_annos.mat"
    content = file.read_bytes()
    for damaged in (b"", content[: len(content) // 2], b"no annotations" * 20):
        file.write_bytes(damaged)
        with pytest.raises(DataError, match=r"cars_annos\.mat cannot be read") as caught:
            read_table(folder)
        assert "\n" not in str(caught.value)
