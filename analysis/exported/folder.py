"""The folder of an export: whole, checked, or not there at all."""

from __future__ import annotations

import copy
import json
import math
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from analysis.exported.formats import FORMATS, Source
from analysis.exported.model_card import card
from analysis.exported.plain_network import Network
from analysis.exported.preprocessing import READER, described, reader
from analysis.exported.provenance import provenance
from analysis.exported.trunks import plain, recipe
from analysis.gallery.networks import Chosen
from study.results.files import StudyError
from trainables.data.own import OwnData
from trainables.networks import Embedder
from trainables.retrieval import unit_length
from trainables.trained import load_trained

TOLERANCE = 1e-4  # of a number of an embedding of unit length
CHECKED = (1, 5)  # pictures at a time


def export(found: Chosen, name: str, folder: Path, data_dir: Path | None = None) -> str:
    """Writes one network in one format; returns what was written, in a line.

    Raises:
        StudyError: the folder holds something, the network cannot be written in this format, or
            what was written gives other embeddings.
        OSError: the folder cannot be written.
    """
    source = source_of(found)
    with _whole(folder) as made:
        FORMATS[name].write(source, made)
        worst = _difference(found.network, source, name, made)
        facts = provenance(found, data_dir)
        why = facts["validation"].pop("not_measured", None)  # which names folders
        facts |= {"format": name, "installs": _installs(name, source), "largest_difference": worst}
        steps = described(found.dataset, source.wants, source.shape[0])
        texts = {
            "config.json": json.dumps(finite(facts), indent=2, ensure_ascii=False) + "\n",
            "preprocessing.json": json.dumps(steps, indent=2) + "\n",
            READER: reader(found.dataset, source.wants),
            "README.md": card(name, source, finite(facts), steps),
        }
        for file, text in texts.items():
            (made / file).write_text(text, encoding="utf-8")
    notes = ["not compared: no onnxruntime" if worst is None else f"off by {worst:.0e} at most"]
    if why is not None:
        notes.append(f"no interval: {why}")
    return f"exported: {found.choice.trial_id} as {name} ({'; '.join(notes)}): {folder}"


def source_of(found: Chosen) -> Source:
    """A copy of the network, ready to be traced."""
    network, wants = copy.deepcopy(found.network).cpu().eval(), found.network.input
    network.to(memory_format=torch.contiguous_format)
    whole = Network(plain(network.trunk), network.head, wants.mean, wants.std).eval()
    whole.requires_grad_(False)
    channels = found.dataset.decoding.channels if isinstance(found.dataset, OwnData) else 1
    shape = (channels, wants.height, wants.width)
    assert found.choice.checkpoint is not None  # the network was read from it
    origin = load_trained(found.choice.checkpoint).origin
    return Source(whole, found.choice.config.network, wants, shape, found.network.width, origin)


@contextmanager
def _whole(folder: Path) -> Iterator[Path]:
    """A folder beside the one that is asked for, which becomes it if all goes well.

    Raises:
        StudyError: the folder holds something.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise StudyError(
            f"{folder} is there and holds something: remove it, or give another --output"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        yield made
        made.chmod(0o755)  # as any folder: one that is temporary is its maker's alone
        made.replace(folder)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise


@torch.no_grad()
def _difference(network: Embedder, source: Source, name: str, folder: Path) -> float | None:
    """By how much the export's embeddings are off at most; None where it cannot be run here.

    Raises:
        StudyError: by more than `TOLERANCE`.
    """
    embed = FORMATS[name].load(folder)
    if embed is None:
        return None
    generator, found = torch.Generator().manual_seed(0), []
    for count in CHECKED:
        shape = (count, *source.shape)
        pixels = torch.randint(256, shape, generator=generator, dtype=torch.uint8)
        wanted = unit_length(network(network.input.scale(pixels)))
        found.append((embed(pixels.float() / 255) - wanted).abs().max())
    worst = torch.stack(found).max().item()  # NaN if one is
    if not worst <= TOLERANCE:
        law = f"the export's embeddings must be the network's to {TOLERANCE:g}"
        raise StudyError(f"{law}; they are off by {worst:.2g}")
    return worst


def _installs(name: str, source: Source) -> list[str]:
    """What a user needs to load it; numpy and pillow, for files, are beside that."""
    if name == "onnx":
        return ["onnxruntime"]
    if name == "torch":
        return ["torch"]
    return ["torch", "safetensors", *recipe(source.title, source.wants).needs]


def finite(value: Any) -> Any:
    """The same without NaN and infinities, which JSON has not: None."""
    if isinstance(value, dict):
        return {key: finite(one) for key, one in value.items()}
    if isinstance(value, list):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
