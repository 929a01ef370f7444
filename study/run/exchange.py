"""Where the nodes of a cluster find a study's checkpoints.

A study's folder lies with its driver. If the nodes share no folder, they exchange checkpoints
through an object store; the driver keeps a copy of those that its records name, so that a study
is whole without the store, wherever it is read or continued.
"""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from pyarrow import fs

from study.results.files import StudyError, to_disk
from study.results.studies import Study
from trainables.trainable import CHECKPOINT


class Exchange:
    """The checkpoints of one run of a study, in its folder or in an object store.

    Args:
        uri: of a folder in a store, as `s3://bucket/studies`; None for the study's own folder.
    """

    def __init__(self, study: Study, uri: str | None = None) -> None:
        self.study = study
        self.run = f"{study.info['runs']:02d}"
        self.folder = study.folder / "tune"
        # Studies of one name, and the two of a comparison, may share the store.
        name = f"{study.folder.name}-{study.info['started']:.0f}"
        self.uri = None if uri is None else below(uri, name)
        self.stored: dict[str, tuple[fs.FileSystem, str]] = {}

    @property
    def storage(self) -> str:
        """Tune's storage path."""
        return str(self.folder) if self.uri is None else self.uri

    def keep(self, trial_id: str, checkpoint: Any) -> str:
        """The file that the record of a trial is to name, on the disk; `checkpoint` is Tune's."""
        if self.uri is None:
            kept = Path(checkpoint.path) / CHECKPOINT
        else:
            folder = self.folder / self.run / trial_id / Path(checkpoint.path).name
            kept = Path(checkpoint.to_directory(folder)) / CHECKPOINT
            self.stored[str(kept)] = (checkpoint.filesystem, checkpoint.path)
        for path in (kept, kept.parent, kept.parent.parent):
            to_disk(path)
        return str(kept)

    def give(self, trial_id: str, kept: str | None) -> str | None:
        """The folder from which any node can load a checkpoint that is kept."""
        if kept is None or self.uri is None:
            return None if kept is None else str(Path(kept).parent)
        there = below(self.uri, self.run, "resumed", trial_id)
        store, path = fs.FileSystem.from_uri(there)
        store.create_dir(path)
        fs.copy_files(str(Path(kept).parent), path, destination_filesystem=store)
        return there

    def drop(self, kept: str | None) -> None:
        """Deletes a checkpoint that no record names any more, if it lies in this study."""
        if kept is None or self.folder not in Path(kept).parents:
            return
        shutil.rmtree(Path(kept).parent, ignore_errors=True)
        if kept in self.stored:
            store, path = self.stored.pop(kept)
            with contextlib.suppress(OSError):  # it is only in the way
                store.delete_dir(path)


def below(uri: str, *names: str) -> str:
    """The URI of what lies below a folder of a store; any name will do, and so does `?options`."""
    parts = urlsplit(uri)
    path = "/".join([parts.path.rstrip("/"), *map(quote, names)])
    return parts._replace(path=path).geturl()


def check_store(uri: str | None) -> None:
    """StudyError if nothing can be written to an object store; None is no store."""
    if uri is None:
        return
    try:
        if "://" not in uri:
            raise ValueError("it has no scheme")
        store, path = fs.FileSystem.from_uri(uri)
        store.create_dir(path)
        with store.open_output_stream(f"{path}/.writable") as file:
            file.write(b"a study was here")
        store.delete_file(f"{path}/.writable")
    except (OSError, ValueError) as error:
        law = "--checkpoint-uri must be a folder of an object store that can be written"
        raise StudyError(f"{law}, as s3://bucket/studies; got {uri}: {error}") from error
