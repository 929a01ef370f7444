"""A teacher: a network that was trained before, which tells a smaller one how alike images are."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from trainables.data import Split
from trainables.terminal import few
from trainables.trained import embed, load_trained


def taught(split: Split, teacher: Path | str, *, dataset: str | None) -> Split:
    """The split with the teacher's embeddings of its training images, each as it is, without
    augmentation.

    Args:
        teacher: a checkpoint, as studies write them.
        dataset: the name of the split's data, as a configuration has it; None where the split has
            but some of the classes that are trained on, so that a teacher may have more.

    Raises:
        ValueError: there is no such checkpoint, it takes other pictures, or it was trained on
            classes of data of the same name that are not trained on here: it would know those that
            judge, or are tested.
    """
    path = Path(teacher)
    if not path.is_file():
        raise ValueError(f"teacher must be the checkpoint of a trained network; got {teacher}")
    config, network, _, classes = load_trained(path)
    takes, given = network.input, split.shape
    if takes.channels != given[0] or takes.height > given[1] or takes.width > given[2]:
        law = f"{takes.channels} x {takes.height} x {takes.width}"
        has = " x ".join(map(str, given))
        raise ValueError(f"the teacher {teacher} takes pictures of {law}; those here are {has}")
    if config.dataset == dataset:
        law = "a teacher of the same data must be trained on no classes but those that are here"
        if isinstance(classes, int):
            raise ValueError(f"{law}; {teacher} is from before it was kept which {classes} it saw")
        if more := sorted({*classes} - {*split.trained}):
            raise ValueError(f"{law}; {teacher} was on {len(more)} others: {few(more)}")
    return dataclasses.replace(split, targets=embed(network, split.train).numpy())
