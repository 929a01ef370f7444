"""A folder of classes, or of train, validation and test that hold such folders."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import pandas as pd

from trainables.data.errors import DataError

from .files import (
    HIDDEN,
    NO_PICTURE,
    PARTS,
    PICTURES,
    is_hidden,
    is_picture,
    is_utf8,
    part_of,
    passed_over,
)
from .table import Table

ROLES = {"query": "is_query", "gallery": "is_gallery"}
BESIDE = "lies beside the folders that are read"


def read_folders(root: Path) -> Table:
    """The table of a folder.

    Either `root/class/**`, or `root/{train,val,test}/class/**`, where a part that judges may be
    parted again: `test/{query,gallery}/class/**`. A class is named as its top folder, and searched
    in depth. Hidden files and what is no picture by its name are left out.

    Raises:
        DataError: there is no folder of a class, or it is not clear what a folder is.
    """
    scan = _Scan(root)
    folders = scan.folders(root)
    parts = _parts(root, folders)
    if not parts:
        rows = pd.DataFrame(scan.classes(root, folders), columns=["path", "label"])
        return Table(rows, f"{root}, a folder of classes", left_out=scan.left_out)
    scan.leave_out(folders, [*parts.values()])
    tables = [rows for part, folder in parts.items() for rows in _part(scan, part, folder)]
    source = f"{root}, a folder of {', '.join(one for one in PARTS if one in parts)}"
    return Table(pd.concat(tables, ignore_index=True), source, left_out=scan.left_out)


def read_pictures(root: Path, label: str) -> Table:
    """The table of all pictures below a folder, each with this label.

    Raises:
        DataError: there is none.
    """
    scan = _Scan(root)
    pictures = [str(path) for path in scan.pictures(root)]
    if not pictures:
        raise DataError(f"{root} must hold pictures; got none{scan.unread()}")
    rows = pd.DataFrame({"path": pictures, "label": label})
    return Table(rows, f"{root}, a folder of pictures", left_out=scan.left_out)


def has_own_pictures(root: Path) -> bool:
    """Whether pictures lie in a folder itself, and not only in folders of it."""
    return bool(_Scan(root).entries(root)[1])


def _parts(root: Path, folders: Sequence[Path]) -> dict[str, Path]:
    """The folders of parts; none where the folders are classes, one of which may be of trains."""
    meant = [(part, folder) for folder in folders if (part := part_of(folder.name))]
    parts = dict(meant)
    if len(parts) < len(meant):
        names = ", ".join(folder.name for _, folder in meant)
        raise DataError(f"{root} must have one folder a part; got {names}")
    if len(meant) == len(folders) or ("train" in parts and len(parts) > 1):
        return parts
    if set(parts) <= {"train"}:
        return {}
    names = ", ".join(folder.name for _, folder in meant)
    other = next(folder.name for folder in folders if folder not in parts.values())
    raise DataError(
        f"{root} must hold classes, or train beside validation or test; got {names} beside "
        f"{other}: it is not clear whether {names} is a class"
    )


def _part(scan: _Scan, part: str, folder: Path) -> Iterator[pd.DataFrame]:
    """The rows of a part."""
    folders = scan.folders(folder)
    roles = {ROLES[one.name.lower()]: one for one in folders if one.name.lower() in ROLES}
    if part == "train" or not roles or (len(roles) == 1 and len(folders) > 1):
        rows = pd.DataFrame(scan.classes(folder, folders), columns=["path", "label"])
        yield rows.assign(split=part, is_query=part != "train", is_gallery=part != "train")
        return
    if len(roles) == 1:
        got = ", ".join(one.name for one in folders)
        raise DataError(f"{folder} must have folders query and gallery, or none of them; got {got}")
    scan.leave_out(folders, [*roles.values()])
    for role, one in roles.items():
        rows = pd.DataFrame(scan.classes(one, scan.folders(one)), columns=["path", "label"])
        yield rows.assign(split=part, is_query=role == "is_query", is_gallery=role == "is_gallery")


class _Scan:
    """Goes through folders, and keeps what is left out on the way."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.left_out: list[tuple[str, str]] = []

    def folders(self, folder: Path) -> list[Path]:
        """The folders in one whose files are nobody's: pictures there are left out."""
        folders, pictures = self.entries(folder)
        self.leave_out(pictures)
        if not folders:
            count = len(pictures)
            found = f"none, and {count} picture{'s' * (count > 1)}" if count else "none"
            law = f"{folder} must hold a folder for each class"
            raise DataError(f"{law}; got {found}{self.unread()}")
        return folders

    def unread(self) -> str:
        """What an error says of files that are no pictures by their names; "" if there is none."""
        said = passed_over([one for one in self.left_out if one[1] == NO_PICTURE])
        return f", but {said[0]}; what is read: {' '.join(PICTURES)}" if said else ""

    def leave_out(self, found: Sequence[Path], but: Sequence[Path] = (), why: str = BESIDE) -> None:
        for path in found:
            if path not in but:
                name = str(path.relative_to(self.root))
                self.left_out.append((name.encode("utf-8", "backslashreplace").decode(), why))

    def classes(self, folder: Path, folders: Sequence[Path]) -> list[tuple[str, str]]:
        """(path, label) of the pictures of these classes of a folder."""
        rows = []
        real = Path(os.path.realpath(folder))
        above = {str(real), *map(str, real.parents)}
        for one in folders:
            pictures = list(self.pictures(one, above))
            if not pictures:
                self.leave_out([one], why="is a folder without pictures")
            rows += [(str(picture), one.name) for picture in pictures]
        if not rows:
            law = f"{folder} must hold pictures in folders of classes"
            raise DataError(f"{law}; got none{self.unread()}")
        return rows

    def pictures(self, folder: Path, above: Collection[str] = ()) -> Iterator[Path]:
        """Those in a folder and, in depth, in its folders; `above` are the real ones it lies in."""
        real = os.path.realpath(folder)
        if real in above:
            self.leave_out([folder], why="is a link to a folder that it lies in")
            return
        folders, pictures = self.entries(folder)
        yield from pictures
        for one in folders:
            yield from self.pictures(one, {*above, real})

    def entries(self, folder: Path) -> tuple[list[Path], list[Path]]:
        """The folders and the pictures in a folder, by name."""
        try:
            with os.scandir(folder) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            raise DataError(f"{folder} cannot be read: {error.strerror}") from error
        folders: list[Path] = []
        pictures: list[Path] = []
        for entry in entries:
            if why := _why_not(entry):
                self.leave_out([Path(entry.path)], why=why)
            else:
                (folders if entry.is_dir() else pictures).append(Path(entry.path))
        return folders, pictures


def _why_not(entry: os.DirEntry[str]) -> str:
    """Why a file or folder is not taken; "" if it is."""
    if not is_utf8(entry.name):
        return "has a name that is not UTF-8"
    if is_hidden(entry.name):
        return HIDDEN
    if entry.is_dir():
        return ""
    if not is_picture(entry.name):
        return NO_PICTURE
    return "" if entry.is_file() else "is a link to nothing, or no file"
