"""Files by name: which are pictures, which are hidden, where a path leads, what a part means."""

from __future__ import annotations

import os
import stat
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from trainables.data.errors import DataError
from trainables.terminal import few

PICTURES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
PARTS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
HIDDEN, NO_PICTURE = "is hidden", "is no picture by its name"  # why a file is not taken
# What systems put beside people's files without a dot before it, in lower case.
_SYSTEM = {
    "thumbs.db",
    "ehthumbs.db",
    "desktop.ini",
    "__macosx",
    "$recycle.bin",
    "system volume information",
    "lost+found",
    "@eadir",
}


def is_picture(name: str) -> bool:
    """Whether a file's name ends as a picture's does, in whatever case."""
    return name.lower().endswith(PICTURES)


def passed_over(left_out: Sequence[tuple[str, str]]) -> list[str]:
    """(path, why) of what was found and not taken, in a line; none of hidden files alone."""
    names = [name for name, why in left_out if why == NO_PICTURE]
    others = sum(why not in (HIDDEN, NO_PICTURE) for _, why in left_out)
    endings = few(sorted({os.path.splitext(name)[1].lower() or "no ending" for name in names}))
    said = []
    if names:
        many = "files that are no pictures by their names"
        one = "file that is no picture by its name"
        said.append(f"{len(names):,} {one if len(names) == 1 else many} ({endings})")
    if others:
        said.append(f"{others:,} for other reasons (--check says which)")
    return [", and ".join(said)] if said else []


def is_hidden(name: str) -> bool:
    """Whether a file or folder is a system's or a program's, not a person's."""
    return name.startswith(".") or name.lower() in _SYSTEM


def is_utf8(name: str) -> bool:
    """Whether a name that the system gave can be written down."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def part_of(word: str) -> str | None:
    """The part ("train", "validation" or "test") that a word means, in whatever case."""
    return next((part for part, words in PARTS.items() if word.lower() in words), None)


def composed(text: str) -> str:
    """The text in Unicode's form NFC: an accented letter is one sign, however it was typed."""
    return unicodedata.normalize("NFC", text)


def absolute(path: Path | str) -> Path:
    """The path from the root, without `..`; a link to a folder is followed before a `..` only."""
    path = Path(path)
    if ".." in path.parts:
        path = Path(os.path.realpath(path.parent), path.name)
    return Path(os.path.abspath(path))


def on_disk(path: Path) -> Path:
    """The path as the disk spells it, which may hold its accents in another Unicode form.

    A path of which there is no file in any form is returned as it is.
    """
    if os.path.exists(path):
        return path
    found = Path(path.anchor)
    for name in path.parts[1:]:
        forms = (name, composed(name), unicodedata.normalize("NFD", name))
        known = next((form for form in forms if os.path.lexists(found / form)), None)
        if known is None:
            return path
        found /= known
    return found


def size(path: str) -> int:
    """How many bytes a file has.

    Raises:
        DataError: it does not exist, is no file or cannot be reached; the message begins with it.
    """
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(f"{path} does not exist") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if not stat.S_ISREG(found.st_mode):
        raise DataError(f"{path} must be a file; it is none")
    return found.st_size
