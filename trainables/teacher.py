"""A teacher: a network that was trained before, which tells a smaller one how alike images are."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from trainables.data import Split
from trainables.trained import embed, load_network, read_checkpoint


def taught(split: Split, teacher: Path | str, *, dataset: str, fingerprint: str) -> Split:
    """The split with the teacher's embeddings of its training images, each as it is, without
    augmentation.

    Args:
        teacher: a checkpoint, as studies write them.
        dataset, fingerprint: of the split's data, as a configuration has them.

    Raises:
        ValueError: there is no such checkpoint, it takes other pictures, or it was trained on other
            classes of the same data, among which those may be that judge.
    """
    path = Path(teacher)
    if not path.is_file():
        raise ValueError(f"teacher must be the checkpoint of a trained network; got {teacher}")
    config, network = load_network(path)
    takes, given = network.input, split.shape
    if takes.channels != given[0] or takes.height > given[1] or takes.width > given[2]:
        law = f"{takes.channels} x {takes.height} x {takes.width}"
        has = " x ".join(map(str, given))
        raise ValueError(f"the teacher {teacher} takes pictures of {law}; those here are {has}")
    same = (config.dataset, config.data_fingerprint) == (dataset, fingerprint)
    classes = read_checkpoint(path)["classes"]
    if same and classes != split.trained:
        law = f"a teacher of the same data must be trained on the same {split.trained} classes"
        raise ValueError(f"{law}; {teacher} was on {classes}")
    return dataclasses.replace(split, targets=embed(network, split.train).numpy())
