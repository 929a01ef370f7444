"""Emoji by designer, from packages that the tests make and an npm client that hands them out."""

from __future__ import annotations

import base64
import hashlib
import io
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainables.data import emoji
from trainables.data.emoji import Package, make_emoji
from trainables.data.errors import DataError

COLOURS = {"one": (255, 0, 0, 128), "two": (0, 255, 0, 255), "three": (0, 0, 255, 77)}
CODES = {
    "one": ["1f600", "2764-fe0f", "1f44b", "1f44b-1f3fb", "26a7", "26a7-fe0f", "0023-fe0f-20e3"],
    "two": ["1F600", "2764", "1f44b", "1f44b-1f3fb", "26a7", "0023-20e3"],
    "three": ["1f600", "2764-fe0f", "1f44b-1f3fb", "26a7-fe0f", "0023-fe0f-20e3"],
}
CLASSES = ["0023-20e3", "1f600", "26a7", "2764"]
FOLDERS = {"one": "package/img/one/64", "two": "package/img/two/64", "three": "package/assets"}


def drawing(designer: str, shade: int = 0) -> bytes:
    colour = (*COLOURS[designer][:2], shade, COLOURS[designer][3])
    target = io.BytesIO()
    image = Image.new("RGBA", (6, 6), colour)
    image.save(target, "WEBP" if designer == "three" else "PNG", lossless=True)
    return target.getvalue()


def packed(designer: str) -> bytes:
    ending = "webp" if designer == "three" else "png"
    files = {
        f"{FOLDERS[designer]}/{code}.{ending}": drawing(designer, 200 if "-fe0f" in code else 10)
        for code in CODES[designer]
    }
    files["package/LICENSE"] = b"Do as you please.\n"
    files["package/img/sheets/64.png"] = b"no drawing"
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return target.getvalue()


def npm(folder: Path, program: str) -> None:
    (folder / "npm").write_text(f"#!{sys.executable}\nimport sys\n{program}")
    (folder / "npm").chmod(0o755)


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Package, ...]:
    """Three packages, and on the path an `npm pack` that copies them."""
    shop = tmp_path / "shop"
    shop.mkdir()
    made = []
    for designer in COLOURS:
        content = packed(designer)
        (shop / f"{designer}-1.0.0.tgz").write_bytes(content)
        digest = base64.b64encode(hashlib.sha512(content).digest()).decode()
        made.append(Package(designer, designer, "1.0.0", digest, FOLDERS[designer], "Free"))
    copy = f'shutil.copy(f"{shop}/" + sys.argv[2].replace("@", "-") + ".tgz", ".")'
    npm(shop, f'import shutil\nassert sys.argv[1] == "pack"\n{copy}\n')
    monkeypatch.setenv("PATH", str(shop))
    return tuple(made)


def test_a_class_is_what_all_have_drawn(packages: tuple[Package, ...], tmp_path: Path) -> None:
    folder = tmp_path / "new" / "emoji"
    assert make_emoji(folder, packages) == 4
    assert sorted(one.name for one in folder.iterdir() if one.is_dir()) == CLASSES
    for code in CLASSES:
        names = sorted(one.name for one in (folder / code).iterdir())
        assert names == ["one.png", "three.png", "two.png"]
    with Image.open(folder / "1f600" / "one.png") as image:
        assert image.format == "PNG" and (np.asarray(image) == (255, 0, 10, 128)).all()
    with Image.open(folder / "26a7" / "one.png") as image:  # the full spelling
        assert (np.asarray(image) == (255, 0, 200, 128)).all()
    with Image.open(folder / "1f600" / "three.png") as image:
        assert image.format == "PNG" and image.mode == "RGBA"


def test_licences_lie_beside_the_classes(packages: tuple[Package, ...], tmp_path: Path) -> None:
    make_emoji(tmp_path / "emoji", packages)
    text = (tmp_path / "emoji" / "LICENCE.one.txt").read_text()
    assert text.startswith("Free\nfrom the npm package one 1.0.0\n")
    assert text.endswith("----- LICENSE -----\nDo as you please.\n")
    assert len(list((tmp_path / "emoji").glob("LICENCE.*.txt"))) == 3


def test_an_empty_folder_is_taken_and_a_full_one_is_not(
    packages: tuple[Package, ...], tmp_path: Path
) -> None:
    (tmp_path / "emoji").mkdir()
    make_emoji(tmp_path / "emoji", packages)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataError, match="emoji must be a new or an empty folder"):
        make_emoji(tmp_path / "emoji", packages)
    with pytest.raises(DataError, match="npm must be a new or an empty folder"):
        make_emoji(tmp_path / "shop" / "npm", packages)
    assert sorted(tmp_path.rglob("*")) == before


def left(tmp_path: Path) -> list[str]:
    return sorted(one.name for one in tmp_path.iterdir() if one.name != "shop")


def test_another_package_is_refused(packages: tuple[Package, ...], tmp_path: Path) -> None:
    changed = (*packages[:2], packages[2]._replace(sha512="A" * 88))
    law = "npm's three@1.0.0 is not the package it was: SHA-512 must be AAAAAAAAAAAAAAAA…; got"
    with pytest.raises(DataError, match=law):
        make_emoji(tmp_path / "emoji", changed)
    assert left(tmp_path) == []


def test_no_network_is_one_line(packages: tuple[Package, ...], tmp_path: Path) -> None:
    npm(tmp_path / "shop", r"sys.exit('npm error code ENOTFOUND\nnpm error network down')")
    with pytest.raises(DataError) as caught:
        make_emoji(tmp_path / "emoji", packages)
    why = "npm error code ENOTFOUND npm error network down"
    assert str(caught.value) == f"npm could not fetch one@1.0.0: {why}"
    assert left(tmp_path) == []


def test_no_npm_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["emoji", str(tmp_path / "emoji")])
    assert emoji.main() == 2
    assert capsys.readouterr().err == (
        "error: npm is needed to fetch emoji-datasource-google@16.0.0, and was not found: "
        "install Node.js's npm\n"
    )
    assert left(tmp_path) == []


def test_the_command_says_what_it_made(
    packages: tuple[Package, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(emoji, "PACKAGES", packages)
    monkeypatch.setattr(sys, "argv", ["emoji", str(tmp_path / "emoji")])
    assert emoji.main() == 0
    assert capsys.readouterr().out == f"{tmp_path / 'emoji'}: 4 emoji by one, two, three\n"
