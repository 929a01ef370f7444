"""A study's own pictures as a gallery, and what figures of neighbours show of files."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.typing import NDArray

from analysis.exported.provenance import _licences
from analysis.gallery.neighbours import Found, find
from analysis.gallery.neighbours_figure import LOADED, draw_neighbours, told_apart
from analysis.gallery.networks import chosen
from analysis.gallery.pictures import Gallery, Loaded, of_study
from study.results.images import validation_images
from tests.test_export import OWN_NETWORK, own_study


def test_a_picture_of_the_study_is_left_out_of_its_own_ranking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And has its class; also where the data was moved."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "mine.py").write_text(OWN_NETWORK)
    study = own_study(tmp_path / "study", f"{tmp_path}/mine.py:tiny", 24)
    images = validation_images(study)
    moved = tmp_path / "elsewhere" / "photos"
    for folder in (None, moved):
        if folder is not None:
            shutil.move(tmp_path / "photos", folder)
        gallery = of_study(study, folder)
        assert gallery.paths is not None and gallery.labels is not None
        for name, path in zip(gallery.names, gallery.paths, strict=True):
            assert Path(path) == (folder or tmp_path / "photos") / name
        asks, every = Path(gallery.paths[3]), len(gallery)
        found = find([asks], gallery, chosen(study, data_dir=folder), k=every)
        assert sorted(found.places[0]) == [place for place in range(every) if place != 3]
        assert found.query_labels == (gallery.labels[3],)
        assert set(gallery.names) <= set(images.names)


def test_files_of_one_name_are_told_apart() -> None:
    paths = ["/x/dog/1.jpg", "/x/cat/1.jpg", "/x/cat/2.jpg", "/y/cat/1.jpg"]
    assert told_apart(paths) == ["dog/1.jpg", "x/cat/1.jpg", "2.jpg", "y/cat/1.jpg"]
    assert told_apart(["cat/1.jpg", "a/cat/1.jpg"]) == ["cat/1.jpg", "a/cat/1.jpg"]
    long = [f"/photos/a folder of a name that is {way} long/1.jpg" for way in ("very", "much")]
    assert len(set(told_apart(long))) == 2


def test_pictures_are_shrunk_as_they_are_loaded() -> None:
    asked: list[int] = []

    def load(places: NDArray[np.int64]) -> Loaded:
        asked.append(len(places))
        return Loaded(np.zeros((len(places), 3, 200, 100), np.uint8), places, {})

    names = tuple(map(str, range(100)))
    gallery = Gallery("many", names, None, names, Path("index"), None, load)
    found = Found(
        ("a", "b"),
        ("", ""),
        np.zeros((2, 3, 200, 100), np.uint8),
        gallery,
        np.arange(100).reshape(2, 50),
        np.zeros((2, 50), np.float32),
        100,
        (),
    )
    figure = Figure()
    draw_neighbours(figure, found, 10, ["a", "b"], "title")
    assert asked == [LOADED, 100 - LOADED]
    (shown,) = figure.axes[0].images
    assert shown.get_array() is not None


class Folder:
    """Data that lies somewhere."""

    def __init__(self, place: Path) -> None:
        self.place = place


def test_a_folder_of_licences_is_none_and_what_cannot_be_read_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "LICENSES").mkdir()
    (tmp_path / "LICENCE.txt").write_text("CC BY 4.0\n")
    (tmp_path / "LICENSE").write_text("MIT\n")
    whole = Path.open

    def refused(path: Path, *args: object, **named: object) -> object:
        if path.name == "LICENSE":
            raise PermissionError(13, "Permission denied")
        return whole(path, *args, **named)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", refused)
    said = ["LICENCE.txt: CC BY 4.0", "LICENSE: cannot be read (Permission denied)"]
    assert _licences(Folder(tmp_path)) == said  # type: ignore[arg-type]
