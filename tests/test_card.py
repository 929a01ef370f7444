"""The data card, of files that each test makes."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from trainables.data.card import Header, read_card
from trainables.data.protocols import partition
from trainables.data.tables.table import Table


def save(file: Path, mode: str = "L", size: tuple[int, int] = (4, 3), **options: object) -> Path:
    """A picture whose content is its own: of noise that its name seeds."""
    rng = np.random.default_rng(list(file.name.encode()))
    noise = Image.fromarray(rng.integers(0, 256, size[::-1], dtype=np.uint8))
    file.parent.mkdir(parents=True, exist_ok=True)
    noise.convert(mode).save(file, **options)
    return file


def table(files: list[Path], **columns: object) -> Table:
    rows = pd.DataFrame(
        {"path": list(map(str, files)), "label": [file.parent.name for file in files], **columns}
    )
    return Table(rows, "a test's folder", left_out=[("a/.DS_Store", "hidden")], notes=["a note"])


def facts(text: str, name: str) -> list[str]:
    """What the card says under a name."""
    return [line[14:] for line in text.splitlines() if line[:14].strip() == name]


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Eight classes of three pictures."""
    return [save(tmp_path / f"c{n}" / f"{n}{one}.png") for n in range(8) for one in range(3)]


def test_the_card_counts_images_classes_and_what_is_left_out(files: list[Path]) -> None:
    files.append(save(files[0].parents[1] / "single" / "x.png"))
    data = table(files)
    text = read_card(data).text()
    assert facts(text, "images") == ["25 images of 9 classes, 1 to 3 a class, 3 in the middle"]
    assert facts(text, "one image") == ["1 class: single"]
    assert facts(text, "left out") == ["1, hidden: a/.DS_Store"]
    assert facts(text, "note") == ["a note"]
    assert facts(text, "fingerprint") == [data.fingerprint()]
    assert not facts(text, "unreadable") and not facts(text, "repeats")


def test_headers_are_of_the_picture_as_it_is_shown(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    turned = save(tmp_path / "a" / "turned.jpg", "RGB", (5, 2), exif=exif)
    tiff = save(tmp_path / "a" / "tiff.tif", "RGB", (5, 2), exif=exif)
    cmyk = save(tmp_path / "a" / "cmyk.jpg", "CMYK", (7, 8))
    palette = save(tmp_path / "b" / "palette.png", "P")
    frames = tmp_path / "b" / "frames.tiff"
    more = [Image.new("L", (1, 1)), Image.new("L", (1, 1))]
    Image.new("L", (1, 1)).save(frames, save_all=True, append_images=more)
    data = table([turned, tiff, cmyk, palette, frames])
    card = read_card(data)
    found = {Path(data.rows["path"][row]).stem: header for row, header in card.headers.items()}
    assert found == {
        "turned": Header(2, 5, "RGB", True, 1),
        "tiff": Header(2, 5, "RGB", True, 1),
        "cmyk": Header(7, 8, "CMYK", False, 1),
        "palette": Header(4, 3, "P", False, 1),
        "frames": Header(1, 1, "L", False, 3),
    }
    text = card.text()
    assert len(facts(text, "turned")) == len(facts(text, "frames")) == 1
    assert facts(text, "turned")[0].startswith("2 images by EXIF: ")
    assert "1 x 1 (" in facts(text, "pixels")[0] and "7 x 8 (" in facts(text, "pixels")[0]
    assert set(facts(text, "modes")[0].split(", ")) == {"RGB 2", "CMYK 1", "P 1", "L 1"}


def test_what_is_no_picture_is_named_with_the_reason(files: list[Path]) -> None:
    folder = files[0].parent
    empty, word, broken = folder / "empty.png", folder / "word.jpg", folder / "broken.png"
    empty.touch()
    word.write_text("a text with a picture's name")
    broken.write_bytes(files[0].read_bytes()[:20])
    card = read_card(table([*files, empty, word, broken]))
    why = {Path(path).name: reason for path, reason in card.unreadable}
    assert set(why) == {"empty.png", "word.jpg", "broken.png"}
    assert why["empty.png"] == "is empty"
    assert why["word.jpg"] == "is no picture of a known format"
    assert len(card.headers) == 24
    assert f"{word}: is no picture of a known format" in facts(card.text(), "unreadable")


def test_a_huge_picture_is_named_before_it_is_decoded(files: list[Path]) -> None:
    huge = files[0].parent / "huge.pgm"
    huge.write_bytes(b"P5 20000 10000 255\n" + bytes(10))
    large = files[0].parent / "large.pgm"
    large.write_bytes(b"P5 10000 10000 255\n" + bytes(10))  # of which Pillow would only warn
    card = read_card(table([*files, huge, large]))
    assert [Path(path).name for path, _ in card.unreadable] == ["huge.pgm"]
    assert "200000000 pixels" in card.unreadable[0][1]


def test_equal_files_are_found_across_classes_and_parts(files: list[Path]) -> None:
    folder = files[0].parents[1]
    data = table(files)
    parts = partition(data)
    names = data.rows["path"]
    copies = [
        (names[parts.test.queries[0]], folder / Path(names[parts.train[0]]).parent.name / "a.png"),
        (names[parts.train[1]], Path(names[parts.train[1]]).parent / "b.png"),
    ]
    for source, copy in copies:
        shutil.copy(source, copy)
    data = table([*files, *(copy for _, copy in copies)])
    parts = partition(data)
    card = read_card(data, parts)
    found = {frozenset(data.rows["path"][group]) for group in card.repeats}
    assert found == {frozenset((str(source), str(copy))) for source, copy in copies}
    said = facts(card.text(), "repeats")
    assert said[0] == "2 pictures in 4 equal files"
    assert said[1].startswith("1 picture in several classes: ")
    assert said[2].startswith("1 picture in several parts: ")
    assert " test" in said[2] and " train" in said[2] and " = " in said[2]


def test_a_picture_that_is_everywhere_takes_a_line(files: list[Path]) -> None:
    for file in files[1:]:
        shutil.copy(files[0], file)
    data = table(files)
    said = facts(read_card(data, partition(data)).text(), "repeats")
    assert said[0] == "1 picture in 24 equal files"
    shown = [f"c{number}/{number}0.png" for number in range(5)]
    assert [name for name in shown if name in said[1]] == shown
    assert said[1].endswith("= and 3 more") and said[2].count(" = ") == 2


def test_two_boxes_of_one_picture_are_no_repeat(files: list[Path]) -> None:
    two = pd.DataFrame(
        {
            "path": [str(files[0])] * 2 + [str(file) for file in files[1:]],
            "label": ["a", *(file.parent.name for file in files)],
            "x_1": 0,
            "y_1": 0,
            "x_2": [1, *[2] * len(files)],
            "y_2": 2,
        }
    )
    assert read_card(Table(two, "boxes")).repeats == ()
    copy = shutil.copy(files[0], files[0].parent / "copy.png")
    three = pd.concat([two, two.iloc[[1]].assign(path=str(copy))], ignore_index=True)
    assert [len(group) for group in read_card(Table(three, "boxes")).repeats] == [2]


def test_the_card_says_who_trains_and_who_judges(files: list[Path]) -> None:
    folder = files[0].parents[1]
    files += [save(folder / f"single{number}" / f"s{number}.png") for number in range(4)]
    data = table(files)
    parts = partition(data)
    text = read_card(data, parts).text()
    assert facts(text, "train")[0] == f"{len(parts.train)} images of 2 classes"
    assert facts(text, "train")[1] == "1 image left out, each the only one of its class there"
    assert facts(text, "validation") == [
        "7 images of 3 classes: 7 queries, gallery of 7 images, 1 query with no relevant image"
    ]
    assert facts(text, "test") == [
        "14 images of 6 classes: 14 queries, gallery of 14 images, 2 queries with no relevant image"
    ]


def test_an_array_data_set_has_a_card_without_headers() -> None:
    rows = pd.DataFrame({"row": range(20), "label": [str(row % 2) for row in range(20)]})
    card = read_card(Table(rows, "an array"))
    assert card.headers == {} and card.unreadable == () and card.repeats == ()
    assert facts(card.text(), "images") == [
        "20 images of 2 classes, 10 to 10 a class, 10 in the middle"
    ]


def test_long_lists_are_cut_short(tmp_path: Path) -> None:
    alone = [save(tmp_path / f"s{number}" / f"{number}.png") for number in range(9)]
    text = read_card(table(alone)).text()
    assert facts(text, "one image") == ["9 classes: s0, s1, s2, s3, s4, and 4 more"]
