"""What a path holds: folders and lists of real files, good and bad."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image
from torchvision.datasets import ImageFolder

from trainables.data.card import read_card
from trainables.data.errors import DataError
from trainables.data.protocols import partition
from trainables.data.tables.sources import layouts, read_table
from trainables.data.tables.table import Table


def pictures(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (2, 2)).save(path, None if path.suffix else "PNG")


def listed(root: Path, text: str, name: str = "list.csv") -> Path:
    file = root / name
    file.write_bytes(text.encode())
    return file


def found(data: Table, *columns: str) -> list[tuple[object, ...]]:
    """The rows as (name, label, ...)."""
    return list(
        zip(data.names, data.rows["label"], *(data.rows[one] for one in columns), strict=True)
    )


# Folders


def test_a_folder_of_classes_is_as_torchvision_reads_it(tmp_path: Path) -> None:
    pictures(tmp_path, "cat/1.png", "cat/deep/er/2.JPG", "dog/1.jpeg", "Ant/1.bmp", "Ant/2.TIFF")
    pictures(tmp_path, "dog/1.webp", "dog/a/1.pgm", "dog/b/1.Ppm", "dog/b/2.tif")
    (tmp_path / "dog" / "notes.txt").write_text("no picture")
    data, expected = read_table(tmp_path), ImageFolder(str(tmp_path))
    assert list(data.classes) == expected.classes == ["Ant", "cat", "dog"]
    assert sorted(zip(data.rows["path"], data.labels.tolist(), strict=True)) == sorted(
        expected.samples
    )
    assert set(data.rows["split"]) == {""}
    assert data.source == f"{tmp_path}, a folder of classes"


def test_hidden_files_and_folders_are_no_class(tmp_path: Path) -> None:
    pictures(tmp_path, "cat/1.png", "dog/1.png", ".ipynb_checkpoints/1.png", "__MACOSX/cat/1.png")
    pictures(tmp_path, "cat/._1.png", "cat/.hidden/2.png", "dog/@eaDir/1.png")
    for name in (".DS_Store", "cat/Thumbs.db", "dog/desktop.ini"):
        (tmp_path / name).write_bytes(b"\0")
    data = read_table(tmp_path)
    assert found(data) == [("cat/1.png", "cat"), ("dog/1.png", "dog")]
    assert dict(data.left_out) == dict.fromkeys(
        [
            ".DS_Store",
            ".ipynb_checkpoints",
            "__MACOSX",
            "cat/._1.png",
            "cat/.hidden",
            "cat/Thumbs.db",
            "dog/@eaDir",
            "dog/desktop.ini",
        ],
        "is hidden",
    )


def test_what_else_is_left_out_is_said(tmp_path: Path) -> None:
    pictures(tmp_path, "cat/1.png", "dog/1.png", "beside.png")
    (tmp_path / "empty" / "below").mkdir(parents=True)
    (tmp_path / "LICENCE").write_text("a text")
    (tmp_path / "cat" / "2.gif").write_bytes(b"GIF89a")
    (tmp_path / "cat" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    assert dict(read_table(tmp_path).left_out) == {
        "LICENCE": "is no picture by its name",
        "beside.png": "lies beside the folders that are read",
        "cat/2.gif": "is no picture by its name",
        "cat/gone.png": "is a link to nothing, or no file",
        "empty": "is a folder without pictures",
    }


def test_names_that_are_not_utf_8_are_left_out(tmp_path: Path) -> None:
    pictures(tmp_path, "cat/1.png", "dog/1.png")
    try:
        os.rename(tmp_path / "dog" / "1.png", os.fsencode(tmp_path / "dog") + b"/caf\xe9.png")
        os.mkdir(os.fsencode(tmp_path) + b"/caf\xe9")
    except OSError:
        pytest.skip("this file system takes no such name")
    pictures(tmp_path, "dog/2.png")
    data = read_table(tmp_path)
    assert data.names == ("cat/1.png", "dog/2.png")
    why = "has a name that is not UTF-8"
    assert data.left_out == (("caf\\udce9", why), ("dog/caf\\udce9.png", why))


def test_composed_and_decomposed_folders_are_one_class(tmp_path: Path) -> None:
    nfc, nfd = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    pictures(tmp_path, f"{nfc}/1.png", f"{nfd}/2.png", "thé/1.png")
    if len(os.listdir(tmp_path)) < 3:
        pytest.skip("this file system takes them for one")
    data = read_table(tmp_path)
    assert data.classes == (nfc, "thé") and data.labels.tolist() == [0, 0, 1]
    assert data.notes == ("café is spelt in 2 Unicode forms, which are taken for one class",)
    assert all(Path(path).is_file() for path in data.rows["path"])


def test_a_class_is_named_by_its_top_folder(tmp_path: Path) -> None:
    pictures(tmp_path, "birds/cartoon/1.png", "birds/photo/1.png", "insects/cartoon/1.png")
    data = read_table(tmp_path)
    assert found(data) == [
        ("birds/cartoon/1.png", "birds"),
        ("birds/photo/1.png", "birds"),
        ("insects/cartoon/1.png", "insects"),
    ]


def test_files_that_are_no_pictures_inside_are_tabled_and_named_by_the_card(tmp_path: Path) -> None:
    pictures(tmp_path, "cat/1.png", "dog/1.png")
    (tmp_path / "cat" / "empty.jpg").touch()
    (tmp_path / "dog" / "text.jpg").write_text("text")
    data = read_table(tmp_path)
    assert dict(zip(data.names, data.rows["bytes"], strict=True))["cat/empty.jpg"] == 0
    assert [Path(path).name for path, _ in read_card(data).unreadable] == ["empty.jpg", "text.jpg"]


def test_links_to_folders_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    pictures(root, "cat/1.png")
    pictures(elsewhere, "dogs/1.png")
    (root / "dog").symlink_to(elsewhere / "dogs")
    (root / "cat" / "again").symlink_to(root / "cat")
    (root / "cat" / "all").symlink_to(root)
    (elsewhere / "dogs" / "above").symlink_to(root / "dog")
    data = read_table(root)
    assert found(data) == [("cat/1.png", "cat"), ("dog/1.png", "dog")]
    why = "is a link to a folder that it lies in"
    assert dict(data.left_out) == dict.fromkeys(["cat/again", "cat/all", "dog/above"], why)


def test_a_single_class_and_classes_of_one_image_are_the_protocols_matter(tmp_path: Path) -> None:
    pictures(tmp_path, "cat/1.png", "cat/2.png")
    with pytest.raises(DataError, match=r"retrieval needs at least 2 classes; got one, .cat.$"):
        partition(read_table(tmp_path))
    pictures(tmp_path, *(f"c{number}/{one}.png" for number in range(8) for one in range(2)))
    pictures(tmp_path, *(f"alone{number}/1.png" for number in range(8)))
    assert len(partition(read_table(tmp_path)).left_out) == 2


# Folders of parts


def test_parts_are_known_by_the_words_for_them(tmp_path: Path) -> None:
    for number, names in enumerate((("train", "val", "test"), ("Training", "dev", "EVALUATION"))):
        root = tmp_path / str(number)
        train, validation, test = names
        pictures(root, f"{train}/a/1.png", f"{validation}/b/2.png", f"{test}/c/deep/3.png")
        data = read_table(root)
        split = dict(zip(data.rows["label"], data.rows["split"], strict=True))
        assert split == {"a": "train", "b": "validation", "c": "test"}
        assert data.source == f"{root}, a folder of train, validation, test"


def test_queries_and_gallery_have_folders_of_their_own(tmp_path: Path) -> None:
    pictures(tmp_path, "train/a/1.png", "val/b/1.png", "test/Query/c/1.png", "test/gallery/c/2.png")
    pictures(tmp_path, "test/gallery/d/3.png", "test/distractors/e/1.png")
    data = read_table(tmp_path)
    assert found(data, "split", "is_query", "is_gallery") == [
        ("test/Query/c/1.png", "c", "test", True, False),
        ("test/gallery/c/2.png", "c", "test", False, True),
        ("test/gallery/d/3.png", "d", "test", False, True),
        ("train/a/1.png", "a", "train", False, False),
        ("val/b/1.png", "b", "validation", True, True),
    ]
    assert data.left_out == (("test/distractors", "lies beside the folders that are read"),)


def test_a_query_folder_without_a_gallery_is_refused_unless_it_is_a_class(tmp_path: Path) -> None:
    pictures(tmp_path, "train/a/1.png", "test/query/c/1.png")
    with pytest.raises(DataError, match=r"test must have folders query and gallery.* got query"):
        read_table(tmp_path)
    pictures(tmp_path, "test/other/1.png")
    assert set(read_table(tmp_path).rows["label"]) == {"a", "query", "other"}


def test_validation_alone_is_read_as_the_test_set(tmp_path: Path) -> None:
    pictures(tmp_path, "train/a/1.png", "val/b/1.png")
    data = read_table(tmp_path)
    assert data.rows["split"].tolist() == ["train", "test"]
    assert "the 1 of validation are read as the test set" in data.notes[0]


def test_a_class_of_trains_is_a_class(tmp_path: Path) -> None:
    pictures(tmp_path, "bus/1.png", "car/1.png", "train/1.png")
    data = read_table(tmp_path)
    assert data.classes == ("bus", "car", "train") and set(data.rows["split"]) == {""}
    pictures(tmp_path, "test/bus/1.png", "train/train/2.png", "train/bus/2.png")
    parts = read_table(tmp_path)
    assert Counter(parts.rows["split"]) == {"train": 2, "test": 1}
    assert [path for path, _ in parts.left_out] == ["bus", "car", "train/1.png"]


def test_train_alone_is_a_part(tmp_path: Path) -> None:
    pictures(tmp_path, "train/a/1.png", "train/b/1.png")
    data = read_table(tmp_path)
    assert data.classes == ("a", "b") and set(data.rows["split"]) == {"train"}


def test_folders_that_can_be_read_in_two_ways_are_refused(tmp_path: Path) -> None:
    pictures(tmp_path, "cat/1.png", "test/a/1.png")
    with pytest.raises(DataError, match="got test beside cat: it is not clear"):
        read_table(tmp_path)
    twice = tmp_path / "twice"
    pictures(twice, "train/a/1.png", "val/b/1.png", "valid/c/1.png")
    with pytest.raises(DataError, match="one folder a part; got train, val, valid"):
        read_table(twice)


def test_folders_without_classes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"{tmp_path} must hold a folder for each class; got none"):
        read_table(tmp_path)
    pictures(tmp_path, "1.png", "2.png")
    with pytest.raises(DataError, match="a folder for each class; got none, and 2 pictures"):
        read_table(tmp_path)
    (tmp_path / "cat").mkdir()
    with pytest.raises(DataError, match="must hold pictures in folders of classes; got none"):
        read_table(tmp_path)
    pictures(tmp_path / "parts", "train/a/1.png", "test/1.png")
    with pytest.raises(
        DataError, match="test must hold a folder for each class; got none, and 1 picture"
    ):
        read_table(tmp_path / "parts")


# CSV


def test_open_metric_learnings_columns_are_read(tmp_path: Path) -> None:
    pictures(tmp_path, "images/1.png", "images/2.png", "images/3.png", "images/4.png")
    text = (
        ",category,is_gallery,is_query,label,path,split,sequence,x_1,x_2,y_1,y_2\n"
        "0,bird,,,7,images/1.png,train,,,,,\n"
        "1,bird,,,7,images/2.png,train,,,,,\n"
        "2,bird,True,True,10,images/3.png,validation,s1,1.0,5.0,2.0,6.0\n"
        "3,bird,True,False,10,images/4.png,validation,s2,0.0,2.0,0.0,2.0\n"
    )
    data = read_table(listed(tmp_path, text))
    assert found(data, "split", "is_query", "is_gallery", "sequence") == [
        ("1.png", "7", "train", False, False, ""),
        ("2.png", "7", "train", False, False, ""),
        ("3.png", "10", "test", True, True, "s1"),
        ("4.png", "10", "test", False, True, "s2"),
    ]
    assert data.boxes is not None
    assert data.boxes.tolist() == [[-1] * 4, [-1] * 4, [1, 2, 5, 6], [0, 0, 2, 2]]
    assert data.notes[0] == "columns not read: category"
    assert "the 2 of validation are read as the test set" in data.notes[1]
    assert data.source == str(tmp_path / "list.csv")


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize(("comma", "name"), [(",", "a.csv"), (";", "a.CSV"), ("\t", "a.tsv")])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_delimiters_marks_and_line_ends(
    tmp_path: Path, mark: str, comma: str, name: str, ending: str
) -> None:
    pictures(tmp_path, "a,b;c.png", "2.png", "3.png")
    lines = ["Path{0} Label", '"a,b;c.png"{0}NA', "2.png{0}nan", "3.png{0} None "]
    text = mark + ending.join(line.format(comma) for line in lines) + ending
    data = read_table(listed(tmp_path, text, name))
    assert found(data) == [("2.png", "nan"), ("3.png", "None"), ("a,b;c.png", "NA")]


def test_a_folder_with_metadata_is_its_list(tmp_path: Path) -> None:
    pictures(tmp_path, "x/1.png", "x/2.png", "x/3.png")
    listed(tmp_path, "file_name,label\nx/1.png,cat\nx/3.png,dog\n", "metadata.csv")
    assert found(read_table(tmp_path)) == [("1.png", "cat"), ("3.png", "dog")]


def test_paths_are_from_the_files_folder_or_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures(tmp_path, "lists/1.png", "pictures/2.png", "pictures/3.png")
    absolute = tmp_path / "pictures" / "3.png"
    text = f"path,label\n./1.png,a\n../pictures/2.png,b\n{absolute},c\n"
    file = listed(tmp_path / "lists", text)
    data = read_table(file)
    assert found(data) == [("lists/1.png", "a"), ("pictures/2.png", "b"), ("pictures/3.png", "c")]
    assert data.rows["path"].tolist() == [str(tmp_path / name) for name in data.names]
    monkeypatch.chdir(tmp_path / "pictures")
    assert read_table("../lists/list.csv").rows["path"].tolist() == data.rows["path"].tolist()


def test_a_step_up_from_a_link_is_from_where_it_leads(tmp_path: Path) -> None:
    pictures(tmp_path, "far/2.png", "far/deep/1.png", "2.png")
    (tmp_path / "link").symlink_to(tmp_path / "far" / "deep")
    data = read_table(listed(tmp_path, "path,label\nlink/1.png,a\nlink/../2.png,b\n"))
    expected = {str(tmp_path / "link" / "1.png"), str(tmp_path / "far" / "2.png")}
    assert set(data.rows["path"]) == expected


def test_a_path_in_another_unicode_form_is_found(tmp_path: Path) -> None:
    nfc, nfd = (unicodedata.normalize(form, "é/ö") for form in ("NFC", "NFD"))
    pictures(tmp_path, f"{nfd}.png", "a.png")
    data = read_table(listed(tmp_path, f"path,label\n{nfc}.png,x\na.png,y\n"))
    assert all(Path(path).is_file() for path in data.rows["path"])
    assert set(data.rows["label"]) == {"x", "y"}


def test_rows_are_numbered_as_a_spreadsheet_does(tmp_path: Path) -> None:
    pictures(tmp_path, "1.png", "2.png")
    text = 'path,label,remark\n1.png,a,"two\nlines"\n\n,,\n2.png,b,x\nno.png,a,x\n'
    with pytest.raises(DataError, match=r"list\.csv, row 6: .*no\.png does not exist"):
        read_table(listed(tmp_path, text))
    found_rows = read_table(listed(tmp_path, text.replace("no.png,a,x\n", "")))
    assert len(found_rows) == 2


@pytest.mark.parametrize(
    ("text", "law"),
    [
        ("", "must have a column path or file_name or .*; got none"),
        ("path,name\n1.png,a\n", "must have a column label or .*; got path, name"),
        ("label\na\n", "must have a column path or .*; got label"),
        ("path,label\n", "must hold images; got none"),
        ("path,label,Label\n1.png,a,b\n", "must have one column label; got label, Label"),
        ("file_name,image,label\n1.png,1.png,a\n", "one column path; got file_name, image"),
        ("path,label\n1.png,a\n2.png\n", "row 3: .* as many cells as the header, 2; got 1"),
        ("path,label\n1.png,a,b\n", "row 2: .* as many cells as the header, 2; got 3"),
        ('path,label\n1.png,a\n2.png,"b\n', "row 3 cannot be read: unexpected end of data"),
        ("path,label\n1.png,a\n2.png, \n", "row 3: a label must not be empty; got ''"),
        ("path,label\n,a\n", "row 2: path must not be empty; got ''"),
        ("path,label,split\n1.png,a,trian\n", "row 2: split must be one of train, .* got 'trian'"),
        ("path,label,split\n1.png,a,train\n2.png,a,\n", "row 3: a split .* all rows or for none"),
        ("path,label,is_query\n1.png,a,1\n", "must have all of is_query, is_gallery; got is_query"),
        ("path,label,is_query,is_gallery\n1.png,a,x,1\n", "row 2: is_query must be true .* 'x'"),
        ("path,label,is_query,is_gallery\n1.png,a,1,\n", "row 2: is_gallery must be true or false"),
        ("path,label,is_query,is_gallery\n1.png,a,no,0\n", "row 2: .* query, gallery or both"),
        ("path,label,x_1,y_1,x_2,y_2\n1.png,a,l,0,1,1\n", "row 2: x_1 must be a number; got 'l'"),
        ("path,label,x_1,y_1,x_2,y_2\n1.png,a,nan,0,1,1\n", "row 2: x_1 must be a number"),
        ("path,label,x_1,y_1,x_2,y_2\n1.png,a,2,0,1,1\n", "row 2: a box .* of 2, 0, 1, 1"),
        ("path,label,x_1,y_1,x_2,y_2\n1.png,a,,0,1,1\n", "row 2: a box .* of none, 0, 1, 1"),
        ("path,label\n1.png,a\n./1.png,b\n", "row 3: .* once; .*'b' here, .* row 2 too, as 'a'"),
        ("path,label\n.,a\n", "row 2: .* must be a file"),
    ],
)
def test_a_bad_list_is_named_with_its_row(tmp_path: Path, text: str, law: str) -> None:
    pictures(tmp_path, "1.png", "2.png")
    with pytest.raises(DataError, match=rf"list\.csv.*{law}") as caught:
        read_table(listed(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_a_list_that_is_not_utf_8_is_named_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "list.csv"
    file.write_bytes("path,label\n1.png,a\n2.png,café\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"list\.csv must be UTF-8; line 3 is not"):
        read_table(file)


def test_classes_in_train_and_test_are_refused_where_they_are_held_out(tmp_path: Path) -> None:
    names = [f"{number}_{one}.png" for number in range(8) for one in range(4)]
    pictures(tmp_path, *names)
    parts = ["train", "train", "train", "test"] * 8
    rows = [f"{name},{name[0]},{part}\n" for name, part in zip(names, parts, strict=True)]
    data = read_table(listed(tmp_path, "path,label,split\n" + "".join(rows)))
    with pytest.raises(DataError, match=r"list\.csv: .* share 8 classes.*0_0\.png, 0_3\.png"):
        partition(data)


# What a path holds


def test_a_path_that_does_not_exist_or_is_no_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"{tmp_path}/no does not exist"):
        read_table(tmp_path / "no")
    pictures(tmp_path, "1.png")
    with pytest.raises(DataError, match=r"a folder, or a file \.csv or \.tsv; got .*1\.png"):
        read_table(tmp_path / "1.png")


def test_the_known_layouts_are_found_by_themselves() -> None:
    assert {one.inside for one in layouts()} >= {
        "CUB_200_2011",
        "cars196",
        "Stanford_Online_Products",
        "In-shop Clothes Retrieval Benchmark",
    }


def test_a_path_leads_to_one_data_set(tmp_path: Path) -> None:
    for name in ("CUB_200_2011/images.txt", "CUB_200_2011/images/x", "cars196/cars_annos.mat"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(DataError, match=r"one data set; .* holds cars196, CUB_200_2011"):
        read_table(tmp_path)


def test_a_folder_moved_is_the_same_data(tmp_path: Path) -> None:
    pictures(tmp_path, "here/a/1.png", "here/b/1.png")
    before = read_table(tmp_path / "here").fingerprint()
    (tmp_path / "here").rename(tmp_path / "there")
    assert read_table(tmp_path / "there").fingerprint() == before
