"""A teacher: a network that was trained before, which tells a smaller one how alike images are."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from trainables.data import Split
from trainables.trained import embed, network_in, read_checkpoint


def taught(split: Split, teacher: Path | str, *, dataset: str) -> Split:
    """The split with the teacher's embeddings of its training images, each as it is, without
    augmentation.

    Args:
        teacher: a checkpoint, as studies write them.
        dataset: the name of the split's data, as a configuration has it.

    Raises:
        ValueError: there is no such checkpoint, it takes other pictures, or it was trained on
            classes of data of the same name that are not trained on here: it would know those that
            judge, or are tested.
    """
    path = Path(teacher)
    if not path.is_file():
        raise ValueError(f"teacher must be the checkpoint of a trained network; got {teacher}")
    state = read_checkpoint(path)
    config, network = network_in(state, path)
    takes, given = network.input, split.shape
    if takes.channels != given[0] or takes.height > given[1] or takes.width > given[2]:
        law = f"{takes.channels} x {takes.height} x {takes.width}"
        has = " x ".join(map(str, given))
        raise ValueError(f"the teacher {teacher} takes pictures of {law}; those here are {has}")
    more = sorted({*state["classes"]} - {*split.trained})
    if config.dataset == dataset and more:
        law = f"a teacher of the same data must be trained on no other classes than {split.trained}"
        raise ValueError(f"{law}; {teacher} was on {more} too")
    return dataclasses.replace(split, targets=embed(network, split.train).numpy())
