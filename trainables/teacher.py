"""A teacher: a network that was trained before, which tells a smaller one how alike images are."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from trainables.data import Split
from trainables.trained import Trained, embed, load_trained
from trainables.unseen import check_unseen


def taught(split: Split, teacher: Path | str, *, dataset: str | None) -> Split:
    """The split with the teacher's embeddings of its training images, each as it is, without
    augmentation; `check_teacher` says what of it is refused."""
    network = check_teacher(split, teacher, dataset=dataset).network
    return dataclasses.replace(split, targets=embed(network, split.train).numpy())


def check_teacher(split: Split, teacher: Path | str, *, dataset: str | None) -> Trained:
    """What the teacher's checkpoint holds, once it can teach a split, of which no pixel is read.

    Args:
        teacher: a checkpoint, as studies write them.
        dataset: the name of the split's data, as a configuration has it; None where the split has
            but some of the classes that are trained on, so that a teacher may have more.

    Raises:
        ValueError: there is no such checkpoint, it takes other pictures than these (of another
            number of channels, or so large or small that it would see a part of them), or it was
            trained on images of the same data that are not trained on here: it would know those
            that judge, or are tested.
    """
    path = Path(teacher)
    if not path.is_file():
        raise ValueError(f"teacher must be the checkpoint of a trained network; got {teacher}")
    found = load_trained(path)
    takes, size = found.network.input, split.shape[1:]
    whole = size in ((takes.height, takes.width), (takes.resize, takes.resize))
    if found.shape[0] != split.shape[0] or not whole:
        law = " x ".join(map(str, found.shape))
        has = " x ".join(map(str, split.shape))
        raise ValueError(f"the teacher {teacher} takes pictures of {law}; those here are {has}")
    check_unseen(split, found.origin, teacher, "a teacher", dataset=dataset)
    return found
