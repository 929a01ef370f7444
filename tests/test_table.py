"""The one table: what its door fills in, how it sorts, and what it refuses."""

from __future__ import annotations

import pickle
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from trainables.data.errors import DataError
from trainables.data.tables.table import Table


def files(root: Path, *names: str) -> list[str]:
    """Files of as many bytes as their place in the list."""
    for size, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(size))
    return [str(root / name) for name in names]


def table(root: Path, **columns: object) -> Table:
    """Four images of two classes."""
    paths = files(root, "b/1.png", "b/2.png", "a/1.png", "a/2.png")
    given = {"path": paths, "label": ["b", "b", "a", "a"], **columns}
    index = range(2, 6)
    return Table(pd.DataFrame(given, index=index), "a test", file=root / "list.csv")


def arrays(**columns: object) -> Table:
    """Four images of an array data set."""
    return Table(pd.DataFrame({"row": range(4), "label": list("aabb"), **columns}), "an array")


def test_what_is_missing_is_filled_in(tmp_path: Path) -> None:
    data = table(tmp_path)
    assert data.columns == ("path", "label", "split", "is_query", "is_gallery", "sequence", "bytes")
    assert data.rows["split"].tolist() == data.rows["sequence"].tolist() == [""] * 4
    assert data.rows["is_query"].tolist() == data.rows["is_gallery"].tolist() == [True] * 4
    assert data.rows["bytes"].tolist() == [2, 3, 0, 1]
    assert data.boxes is None and len(data) == 4
    assert data.left_out == () and data.notes == ()


def test_rows_are_sorted_by_path_and_classes_by_name(tmp_path: Path) -> None:
    data = table(tmp_path)
    assert data.names == ("a/1.png", "a/2.png", "b/1.png", "b/2.png")
    assert data.rows.index.tolist() == [0, 1, 2, 3]
    assert data.classes == ("a", "b")
    assert data.labels.tolist() == [0, 0, 1, 1] and data.labels.dtype == np.int64


def test_an_array_data_set_is_sorted_by_row() -> None:
    rows = pd.DataFrame({"row": [12, 3, 7], "label": ["x", "y", "x"]})
    data = Table(rows, "an array")
    assert data.rows["row"].tolist() == [3, 7, 12]
    assert data.names == ("row 3", "row 7", "row 12")
    assert data.labels.tolist() == [1, 0, 0]
    assert "bytes" not in data.columns and "path" not in data.columns


def test_classes_may_have_an_order_of_their_own() -> None:
    rows = pd.DataFrame({"row": range(3), "label": ["one", "ten", "two"]})
    data = Table(rows, "an array", classes=["one", "two", "ten"])
    assert data.classes == ("one", "two", "ten") and data.labels.tolist() == [0, 2, 1]
    for classes in (["one", "two"], ["one", "two", "ten", "six"], ["one", "two", "ten", "ten"]):
        with pytest.raises(DataError, match="classes must be the labels, each once; not so '"):
            Table(rows, "an array", classes=classes)


def test_a_table_does_not_change_what_it_was_given_and_travels(tmp_path: Path) -> None:
    rows = pd.DataFrame({"path": files(tmp_path, "b.png", "a.png"), "label": ["b", "a"]})
    before = rows.copy()
    data = Table(rows, "a test")
    pd.testing.assert_frame_equal(rows, before)
    again = pickle.loads(pickle.dumps(data))
    pd.testing.assert_frame_equal(again.rows, data.rows)
    assert again.fingerprint() == data.fingerprint()
    pd.testing.assert_frame_equal(Table(data.rows, "again").rows, data.rows)


def test_the_fingerprint_depends_on_neither_the_place_nor_the_order(tmp_path: Path) -> None:
    data = table(tmp_path / "here")
    moved = table(tmp_path / "there" / "below")
    shuffled = Table(data.rows.sample(frac=1, random_state=1), "a test")
    assert data.fingerprint() == moved.fingerprint() == shuffled.fingerprint()
    assert len(data.fingerprint()) == 64


def test_the_fingerprint_sees_every_change(tmp_path: Path) -> None:
    plain = table(tmp_path)
    box = {"x_1": 0, "y_1": 0, "x_2": 9, "y_2": 9}
    others = [
        table(tmp_path, label=["b", "b", "a", "b"]),
        table(tmp_path, split=["train", "train", "test", "test"]),
        table(tmp_path, is_query=[True, False] * 2, is_gallery=True),
        table(tmp_path, is_query=True, is_gallery=[True, False] * 2),
        table(tmp_path, sequence=["", "", "s", "s"]),
        table(tmp_path, **box),
        table(tmp_path, **{**box, "x_2": 8}),
        Table(plain.rows, "another order", classes=["b", "a"]),
        Table(plain.rows.iloc[:3], "a row less"),
    ]
    (tmp_path / "a" / "1.png").write_bytes(b"longer")
    others.append(Table(plain.rows, "another content"))
    shutil.move(tmp_path / "a" / "1.png", tmp_path / "a" / "0.png")
    renamed = plain.rows.assign(path=plain.rows["path"].str.replace("a/1", "a/0"))
    others.append(Table(renamed, "another name"))
    assert len({one.fingerprint() for one in (plain, *others)}) == 1 + len(others)


def test_two_unicode_forms_of_a_name_are_one_class_with_a_note() -> None:
    name = "café"
    forms = [unicodedata.normalize(form, name) for form in ("NFC", "NFD")]
    assert forms[0] != forms[1]
    data = Table(pd.DataFrame({"row": range(3), "label": [*forms, "thé"]}), "an array")
    assert data.classes == (forms[0], "thé") and data.labels.tolist() == [0, 0, 1]
    assert data.notes == ("café is spelt in 2 Unicode forms, which are taken for one class",)
    once = Table(pd.DataFrame({"row": range(2), "label": [forms[1], "thé"]}), "an array")
    assert once.classes == data.classes and once.notes == ()


def test_boxes_are_whole_pixels_or_none(tmp_path: Path) -> None:
    given = {"x_1": [1, 0, -1, 5], "y_1": [2, 0, -1, 5], "x_2": [3, 1, -1, 6], "y_2": [4, 1, -1, 6]}
    data = table(tmp_path, **given)
    assert data.boxes is not None and data.boxes.dtype == np.int64
    assert data.boxes.tolist() == [[-1] * 4, [5, 5, 6, 6], [1, 2, 3, 4], [0, 0, 1, 1]]
    missing = {
        name: [None if side == -1 else float(side) for side in sides]
        for name, sides in given.items()
    }
    assert table(tmp_path, **missing).fingerprint() == data.fingerprint()


@pytest.mark.parametrize(
    ("box", "got"),
    [
        ((4, 0, 4, 9), "4, 0, 4, 9"),
        ((0, 9, 4, 5), "0, 9, 4, 5"),
        ((-3, 0, 4, 9), "-3, 0, 4, 9"),
        ((0, 0, 4.5, 9), "0, 0, 4.5, 9"),
        ((0, 0, 4, float("inf")), "0, 0, 4, inf"),
        ((0, 0, None, 9), "0, 0, none, 9"),
    ],
)
def test_other_boxes_are_refused(tmp_path: Path, box: tuple[float, ...], got: str) -> None:
    sides = dict(zip(("x_1", "y_1", "x_2", "y_2"), ([0, 0, side, 0] for side in box), strict=True))
    for name, whole in (("x_2", 1), ("y_2", 1)):
        sides[name] = [whole, whole, sides[name][2], whole]
    with pytest.raises(
        DataError, match=rf"list\.csv, row 4: a box .* x_1, y_1, x_2, y_2 of {got}$"
    ):
        table(tmp_path, **sides)


def test_an_image_is_listed_once_or_with_other_boxes(tmp_path: Path) -> None:
    (path,) = files(tmp_path, "a.png")
    twice = pd.DataFrame({"path": [path] * 2, "label": ["cat", "dog"]}, index=[2, 3])
    law = r"l\.csv, row 3: .* once; .*a\.png is 'dog' here, and it is in row 2 too, as 'cat'"
    with pytest.raises(DataError, match=law):
        Table(twice, "a test", file=Path("l.csv"))
    box = {"x_1": [5, 0], "y_1": 0, "x_2": 9, "y_2": 9}
    data = Table(twice.assign(**box), "a test")
    assert data.boxes is not None and data.boxes[:, 0].tolist() == [0, 5]
    assert [data.classes[label] for label in data.labels] == ["dog", "cat"]
    with pytest.raises(DataError, match="listed once"):
        Table(twice.assign(**{**box, "x_1": 5}), "a test")
    with pytest.raises(DataError, match="row 1: an image must be listed once; 4 is 'b'"):
        Table(pd.DataFrame({"row": [4, 4], "label": ["a", "b"]}), "an array")


def test_what_is_no_file_is_named_with_its_row(tmp_path: Path) -> None:
    paths = files(tmp_path, "a.png", "b.png")
    (tmp_path / "c.png").mkdir()
    for bad, why in (
        (tmp_path / "no.png", "does not exist"),
        (tmp_path / "a.png" / "x.png", "does not exist"),
        (tmp_path / "c.png", "must be a file"),
        (tmp_path / "a\0.png", "cannot be read"),
    ):
        rows = pd.DataFrame({"path": [*paths, str(bad)], "label": list("abc")})
        with pytest.raises(DataError, match=rf"list, row 2: .* {why}") as caught:
            Table(rows, "list")
        assert "\n" not in str(caught.value)
    rows = pd.DataFrame({"path": ["a.png"], "label": ["a"]})
    with pytest.raises(DataError, match=r"a path must be absolute; got 'a\.png'"):
        Table(rows, "list")


@pytest.mark.parametrize(
    ("columns", "law"),
    [
        ({"label": ["a", "a", "b", " "]}, "row 3: a label must not be empty; got ' '"),
        ({"label": ["a", "a", "b", None]}, "row 3: label must be a text; got "),
        ({"label": [1, 2, 3, 4]}, "row 0: label must be a text; got 1"),
        ({"row": [0, 1, 2, -3]}, "row 3: a row of an array must be .* from 0; got -3"),
        ({"row": [0, 1, 2, 3.5]}, "row 0: a row of an array must be a whole number"),
        ({"split": ["train"] * 3 + ["tset"]}, "row 3: .* train, validation, test.*got 'tset'"),
        ({"split": ["train"] * 3 + [""]}, "row 3: a split .* for all rows or for none; got ''"),
        ({"is_query": True}, "must have all of is_query, is_gallery; got is_query"),
        ({"is_gallery": True}, "must have all of is_query, is_gallery; got is_gallery"),
        ({"is_query": [True, False] * 2, "is_gallery": [True] * 3 + [False]}, "row 3: .* or both"),
        ({"is_query": [True, None] * 2, "is_gallery": True}, "row 1: is_query must be true or f"),
        ({"is_query": "yes", "is_gallery": True}, "row 0: is_query must be true .* got 'yes'"),
        ({"sequence": [1, 2, 3, 4]}, "row 0: sequence must be a text; got 1"),
        ({"x_1": 1, "x_2": 2}, "must have all of x_1, y_1, x_2, y_2; got x_1, x_2"),
        ({"colour": "red"}, "columns are among path, .*; got colour"),
        ({"path": "/a.png"}, "a column path or row, and label; got row, label, path"),
    ],
)
def test_a_broken_law_is_named(columns: dict[str, object], law: str) -> None:
    with pytest.raises(DataError, match=f"^an array.*{law}"):
        arrays(**columns)


def test_a_table_holds_images() -> None:
    with pytest.raises(DataError, match="an array must hold images; got none"):
        Table(pd.DataFrame({"row": [], "label": []}), "an array")
    with pytest.raises(DataError, match="a column path or row, and label; got row"):
        Table(pd.DataFrame({"row": [1]}), "an array")


def test_flags_of_training_rows_are_not_read() -> None:
    split = ["train", "train", "test", "test"]
    data = arrays(
        split=split, is_query=[None, True, True, False], is_gallery=[None, None, False, True]
    )
    assert data.rows["is_query"].tolist() == [False, False, True, False]
    assert data.rows["is_gallery"].tolist() == [False, False, False, True]
    assert data.rows["is_query"].dtype == data.rows["is_gallery"].dtype == bool
    assert arrays(split=split).rows["is_query"].tolist() == [False, False, True, True]


def test_validation_rows_without_test_rows_are_the_test_set() -> None:
    data = arrays(split=["train", "train", "validation", "validation"])
    assert data.rows["split"].tolist() == ["train", "train", "test", "test"]
    (note,) = data.notes
    assert note.startswith("no rows are of test: the 2 of validation are read as the test set")
    both = arrays(split=["train", "train", "validation", "test"])
    assert both.rows["split"].tolist() == ["train", "train", "validation", "test"]
    assert both.notes == ()
