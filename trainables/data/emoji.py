"""The data set *emoji by designer*: the class is an emoji, an image is one designer's drawing.

    python -m trainables.data.emoji FOLDER

makes FOLDER/<code points>/<designer>.png from three packages, fetched by the npm client (150 MB).
A class is an emoji without a skin tone that all three have drawn: 1,852 classes of three images,
few images a class as in Stanford Online Products. Backgrounds are transparent. The licences lie
beside the classes, in files.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import io
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from PIL import Image

from trainables.data.errors import DataError

VARIATION = "-fe0f"  # asks for a picture where there is a sign as well: not another emoji
SKIN_TONES = {"1f3fb", "1f3fc", "1f3fd", "1f3fe", "1f3ff"}
ABOUT_LICENCES = ("LICENSE", "README.md", "package.json")
PATIENCE = ("--fetch-retries=1", "--fetch-retry-mintimeout=1000", "--fetch-timeout=60000")


class Package(NamedTuple):
    """One designer's drawings: an npm package, SHA-512 of its archive, where in it they lie."""

    designer: str
    name: str
    version: str
    sha512: str
    folder: str
    licence: str


PACKAGES = (
    Package(
        "google",
        "emoji-datasource-google",
        "16.0.0",
        "ZRexfzs7MVoLnmzZmNsO4TKhnAJp5D++Vm6PpUpH/jEQQlemp3l88CjZ+DoZ2faM9R4QxZkOPJCoT8DlPhfQ3A==",
        "package/img/google/64",
        "Noto Emoji, by Google: Apache License 2.0",
    ),
    Package(
        "twitter",
        "emoji-datasource-twitter",
        "16.0.0",
        "7F+uCuHH+7Qnrc15P5tnbvKkg9E6tlzi4MnT2uW1RlN4pLYTza6cP/dstIfSDMtpjFLWuZewWg8jBbuL2eyELQ==",
        "package/img/twitter/64",
        "Twemoji, by Twitter and its contributors: Creative Commons Attribution 4.0 (CC-BY-4.0)",
    ),
    Package(
        "fluent",
        "@lobehub/fluent-emoji-3d",
        "1.1.0",
        "Wlq2lVStTnr8BDpIJ0pEnTKO4LuDxxqTEhTvRtD1DLRF0me7ogeRQjKoehDHXuVJ2Qaecgl5wRBv60lUAG3h7g==",
        "package/assets",
        "Fluent Emoji, by Microsoft, packed by LobeHub: MIT License",
    ),
)


def make_emoji(folder: Path, packages: tuple[Package, ...] | None = None) -> int:
    """Makes the data set in a new or empty folder, whole or not at all; the number of classes.

    Raises:
        DataError: the folder holds something, or a package cannot be fetched or is another.
        OSError: the folder cannot be written.
    """
    packages = PACKAGES if packages is None else packages
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder} must be a new or an empty folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".emoji-", dir=folder.parent) as temporary:
        made = Path(temporary) / "made"
        drawings = [
            _unpack(package, _fetch(package, Path(temporary)), made) for package in packages
        ]
        classes = set.intersection(*map(set, drawings))
        for code in sorted(classes):
            (made / code).mkdir()
            for package, drawn in zip(packages, drawings, strict=True):
                with Image.open(io.BytesIO(drawn[code])) as image:
                    image.save(made / code / f"{package.designer}.png")
        made.rename(folder)
    return len(classes)


def _fetch(package: Package, folder: Path) -> Path:
    """The package's archive, as npm packs it, checked."""
    what = f"{package.name}@{package.version}"
    target = folder / package.designer
    target.mkdir()
    npm = shutil.which("npm")
    if npm is None:
        raise DataError(f"npm is needed to fetch {what}, and was not found: install Node.js's npm")
    command = [npm, "pack", what, "--ignore-scripts", "--loglevel=error", *PATIENCE]
    done = subprocess.run(command, cwd=target, capture_output=True, text=True)
    archives = list(target.glob("*.tgz"))
    if done.returncode != 0 or len(archives) != 1:
        why = [line for line in done.stderr.splitlines() if "A complete log" not in line]
        raise DataError(f"npm could not fetch {what}: {' '.join(' '.join(why[:3]).split())}")
    found = base64.b64encode(hashlib.sha512(archives[0].read_bytes()).digest()).decode()
    if found != package.sha512:
        law = f"SHA-512 must be {package.sha512[:16]}…"
        raise DataError(f"npm's {what} is not the package it was: {law}; got {found[:16]}…")
    return archives[0]


def _unpack(package: Package, archive: Path, made: Path) -> dict[str, bytes]:
    """The drawings' files by code points; the licence is written into the folder."""
    drawn: dict[str, tuple[str, bytes]] = {}
    notes = [f"{package.licence}\nfrom the npm package {package.name} {package.version}\n"]
    for path, content in _files(archive):
        code = path.stem.lower().replace(VARIATION, "")
        if str(path.parent) == package.folder and not SKIN_TONES & set(code.split("-")):
            # Of two spellings of one emoji the full one counts.
            drawn[code] = max(drawn.get(code, ("", b"")), (path.stem, content), key=_length)
        elif str(path.parent) == "package" and path.name in ABOUT_LICENCES:
            notes.append(f"\n----- {path.name} -----\n{content.decode()}")
    made.mkdir(exist_ok=True)
    (made / f"LICENCE.{package.designer}.txt").write_text("".join(notes))
    return {code: content for code, (_, content) in drawn.items()}


def _length(drawing: tuple[str, bytes]) -> int:
    return len(drawing[0])


def _files(archive: Path) -> Iterator[tuple[PurePosixPath, bytes]]:
    with tarfile.open(archive) as packed:
        for member in packed:
            content = packed.extractfile(member) if member.isfile() else None
            if content is not None:
                yield PurePosixPath(member.name), content.read()


def main() -> int:
    parser = argparse.ArgumentParser(description="Make the data set emoji by designer.")
    parser.add_argument("folder", type=Path, help="new or empty; becomes a folder of classes")
    folder = parser.parse_args().folder
    try:
        classes = make_emoji(folder)
    except (DataError, OSError, tarfile.TarError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{folder}: {classes:,} emoji by {', '.join(package.designer for package in PACKAGES)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
