"""Files of a study: written as a whole, read with an error of one line."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

CHOICES = "choices.json"  # of a comparison, in the folder of its first search


class StudyError(ValueError):
    """A study that cannot be made, read or continued; the message is one line for the user."""


def write_atomically(path: Path, text: str) -> None:
    """Replaces a file's content as a whole, so that a power cut leaves the old or the new."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    to_disk(partial)
    os.replace(partial, path)
    to_disk(path.parent)


def to_disk(path: Path) -> None:
    """Returns when a file's content, or the names in a folder, would survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; StudyError names a file that is missing or damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise StudyError(f"there is no {path}") from error
    except (OSError, ValueError) as error:
        raise StudyError(f"{path} cannot be read (truncated?): {error}") from error
    if not isinstance(content, dict):
        raise StudyError(f"{path} must hold an object; got {type(content).__name__}")
    return content
