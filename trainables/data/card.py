"""The data card: what is in a table and its files, and what looks wrong, in a page of text."""

from __future__ import annotations

import hashlib
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from trainables.data.partitions import JudgedRows, Partition, Rows
from trainables.data.tables.table import Table

SHOWN = 5  # of a list that may be long
_READERS = 8  # threads: they wait for the disk more than they count
_Result = TypeVar("_Result")


class Header(NamedTuple):
    """What a picture says of itself: its size as it is shown, in pixels, and how it is stored."""

    width: int
    height: int
    mode: str  # Pillow's: L, RGB, RGBA, P, CMYK, I;16, ...
    turned: bool  # by its EXIF orientation
    frames: int


@dataclass(frozen=True, eq=False)
class Card:
    """What `read_card` finds.

    Attributes:
        headers: by row of the table; none of an array data set, or of a file in `unreadable`.
        unreadable: (path, why) of the files that are no picture.
        repeats: the rows of files of equal content (and box), a group each, of two rows or more.
    """

    table: Table
    partition: Partition | None
    headers: dict[int, Header]
    unreadable: tuple[tuple[str, str], ...]
    repeats: tuple[Rows, ...]

    def text(self) -> str:
        """The card, a fact a line."""
        lines = [*_lines_of_table(self.table), *_lines_of_headers(self.table, self.headers)]
        lines += _lines_of_repeats(self.table, self.repeats, _parts(self.table, self.partition))
        if self.partition is not None:
            lines += _lines_of_partition(self.table, self.partition)
        for why in dict.fromkeys(why for _, why in self.table.left_out):
            paths = [path for path, one in self.table.left_out if one == why]
            lines.append(("left out", f"{len(paths):,}, {why}: {_some(paths)}"))
        lines += [("unreadable", f"{path}: {why}") for path, why in self.unreadable]
        lines += [("note", note) for note in self.table.notes]
        lines.append(("fingerprint", self.table.fingerprint()))
        return "\n".join(f"{name:<12}  {fact}" for name, fact in lines)


def read_card(table: Table, partition: Partition | None = None) -> Card:
    """Reads every picture's header, and the whole of the files that are equally long.

    Pixels are not decoded: a picture that breaks off in the middle shows when they are.
    """
    if "path" not in table.rows:
        return Card(table, partition, {}, (), ())
    paths = table.rows["path"].tolist()
    distinct = list(dict.fromkeys(paths))
    with warnings.catch_warnings():
        # Only its header is read; whoever decodes such a picture has a law of its own.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        found = dict(zip(distinct, _in_threads(_header, distinct), strict=True))
    unreadable = tuple((path, why) for path, why in found.items() if isinstance(why, str))
    headers = {
        row: header for row, path in enumerate(paths) if isinstance(header := found[path], Header)
    }
    return Card(table, partition, headers, unreadable, _repeats(table, sorted(headers)))


def _in_threads(function: Callable[[str], _Result], paths: Sequence[str]) -> list[_Result]:
    with ThreadPoolExecutor(_READERS) as pool:
        return list(pool.map(function, paths))


def _header(path: str) -> Header | str:
    """A picture's header, or why it has none."""
    try:
        if not Path(path).stat().st_size:
            return "is empty"
        with Image.open(path) as image:
            # Pillow would decode a PNG to look for what it has not found in its header.
            known = "exif" in image.info or image.format == "TIFF"
            orientation = image.getexif().get(ExifTags.Base.Orientation, 1) if known else 1
            # Pillow has the size of a TIFF as it is shown, that of others as it is stored.
            sideways = orientation in (5, 6, 7, 8) and image.format != "TIFF"
            width, height = image.size[::-1] if sideways else image.size
            frames = getattr(image, "n_frames", 1)
            return Header(width, height, image.mode, orientation != 1, frames)
    except UnidentifiedImageError:
        return "is no picture of a known format"
    except Exception as error:  # of a decoder, which may raise anything on a damaged file
        return " ".join(str(error).split()) or type(error).__name__


def _repeats(table: Table, rows: Sequence[int]) -> tuple[Rows, ...]:
    """Groups of rows whose files are equal byte by byte, and whose boxes are equal."""
    paths, sizes = table.rows["path"].to_numpy(), table.rows["bytes"].to_numpy()
    boxes = np.zeros((len(table), 0)) if table.boxes is None else table.boxes
    alike: dict[tuple[object, ...], list[int]] = {}
    for row in rows:
        alike.setdefault((sizes[row], *boxes[row].tolist()), []).append(row)
    suspects = [group for group in alike.values() if len(group) > 1]
    read = list(dict.fromkeys(paths[row] for group in suspects for row in group))
    digests = dict(zip(read, _in_threads(_digest, read), strict=True))
    equal: dict[tuple[int, str], list[int]] = {}
    for number, group in enumerate(suspects):
        for row in group:
            equal.setdefault((number, digests[paths[row]]), []).append(row)
    return tuple(np.array(group) for group in equal.values() if len(group) > 1)


def _digest(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_Lines = list[tuple[str, str]]


def _lines_of_table(table: Table) -> _Lines:
    sizes = np.bincount(table.labels, minlength=len(table.classes))
    spread = f"{sizes.min()} to {sizes.max()} a class, {np.median(sizes):g} in the middle"
    classes = _many(len(sizes), "class", "classes")
    lines = [
        ("data", table.source),
        ("images", f"{_many(len(table), 'image')} of {classes}, {spread}"),
    ]
    alone = [table.classes[one] for one in np.flatnonzero(sizes == 1).tolist()]
    if alone:
        lines.append(("one image", f"{_many(len(alone), 'class', 'classes')}: {_some(alone)}"))
    return lines


def _lines_of_headers(table: Table, headers: dict[int, Header]) -> _Lines:
    if not headers:
        return []
    rows = sorted(headers, key=lambda row: headers[row].width * headers[row].height)
    sizes = [f"{headers[row].width} x {headers[row].height}" for row in rows]
    least, most = (f"{sizes[at]} ({table.names[rows[at]]})" for at in (0, -1))
    lines = [
        ("pixels", f"{least} to {most}, {sizes[len(rows) // 2]} in the middle"),
        ("modes", _counted(headers[row].mode for row in rows)),
    ]
    turned = [table.names[row] for row, header in headers.items() if header.turned]
    several = [table.names[row] for row, header in headers.items() if header.frames > 1]
    if turned:
        lines.append(("turned", f"{_many(len(turned), 'image')} by EXIF: {_some(turned)}"))
    if several:
        what = f"{_many(len(several), 'image')} of more than one: {_some(several)}"
        lines.append(("frames", what))
    return lines


def _lines_of_repeats(table: Table, repeats: Sequence[Rows], parts: Sequence[str]) -> _Lines:
    if not repeats:
        return []
    images = sum(len(group) for group in repeats)
    lines = [("repeats", f"{_many(len(repeats), 'picture')} in {images:,} equal files")]
    for what, of in (("classes", table.labels), ("parts", parts)):
        # Of each class or part one row: a blank picture may be there a thousand times.
        firsts = [{of[row]: row for row in group[::-1]}.values() for group in repeats]
        across = [sorted(rows) for rows in firsts if len(rows) > 1]
        if across:
            shown = [
                _some([f"{table.names[row]} {parts[row]}".rstrip() for row in rows], " = ")
                for rows in across
            ]
            several = f"{_many(len(across), 'picture')} in several {what}"
            lines.append(("repeats", f"{several}: {_some(shown, '; ')}"))
    return lines


def _lines_of_partition(table: Table, partition: Partition) -> _Lines:
    classes = _many(len(np.unique(table.labels[partition.train])), "class", "classes")
    lines = [("train", f"{_many(len(partition.train), 'image')} of {classes}")]
    if len(partition.left_out):
        alone = _many(len(partition.left_out), "image")
        lines.append(("train", f"{alone} left out, each the only one of its class there"))
    for name, judged in (("validation", partition.validation), ("test", partition.test)):
        lines.append((name, _roles(table, judged, partition.unanswered[name])))
    return lines


def _roles(table: Table, judged: JudgedRows, unanswered: int) -> str:
    classes = _many(len(np.unique(table.labels[judged.rows])), "class", "classes")
    queries, without = (_many(n, "query", "queries") for n in (len(judged.queries), unanswered))
    roles = f"{queries}, gallery of {_many(len(judged.gallery), 'image')}"
    lost = f", {without} with no relevant image" if unanswered else ""
    return f"{_many(len(judged.rows), 'image')} of {classes}: {roles}{lost}"


def _parts(table: Table, partition: Partition | None) -> list[str]:
    """The part that each row is in, "" for none."""
    if partition is None:
        return table.rows["split"].tolist()
    parts = np.full(len(table), "", dtype=object)
    parts[partition.train] = "train"
    parts[partition.validation.rows] = "validation"
    parts[partition.test.rows] = "test"
    return parts.tolist()


def _many(count: int, one: str, many: str = "") -> str:
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def _some(names: Sequence[str], joint: str = ", ") -> str:
    more = [f"and {len(names) - SHOWN:,} more"] if len(names) > SHOWN else []
    return joint.join([*names[:SHOWN], *more])


def _counted(names: Iterable[str]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in Counter(names).most_common())
