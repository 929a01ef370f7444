"""What a network that was trained before must not have seen: what judges here, or is tested."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open

from trainables.data import Split
from trainables.terminal import few
from trainables.trained import ORIGIN, Origin, load_trained, read_checkpoint


def check_unseen(
    split: Split, found: Origin, file: Path | str, what: str, *, dataset: str | None
) -> None:
    """ValueError if a network was trained on images, or classes, of the split's data that are not
    trained on here.

    Data is the same by its fingerprint, wherever it lies; what has its name and some of its classes
    is taken for the same, changed since.

    Args:
        found: what is known of the network, which is in this file.
        what: it is to be, in the message.
        dataset: the name of the split's data, as a configuration has it; None where the split has
            but some of the classes that are trained on, so that it may have seen more.
    """
    if dataset is None or not _same_data(split, found, file, what, dataset):
        return
    law = f"{what} of the same data must be trained on no classes but those that are here"
    if isinstance(found.classes, int):
        raise ValueError(f"{law}; {file} is from before it was kept which {found.classes} it saw")
    more: list[int] | list[str] = sorted({*found.classes} - {*split.trained})
    if found.names and split.classes:  # numbers change with the data
        more = sorted({*found.names} - {split.classes[one] for one in split.trained})
    if more:
        raise ValueError(f"{law}; {file} was on {len(more)} others: {few(more)}")
    if found.same_classes != split.same_classes:
        kinds = {True: "the same classes judged", False: "other classes judged",
                 None: "from before it was kept who judged"}  # fmt: skip
        law = f"{what} of the same data must be trained under the same protocol"
        raise ValueError(
            f"{law}, or it has seen images that judge here; of {file}: "
            f"{kinds[found.same_classes]}, here: {kinds[split.same_classes]}"
        )
    if split.same_classes and found.data and split.data and found.data != split.data:
        law = f"{what} of the same classes must be trained on the same images"
        raise ValueError(f"{law}, or it has seen some that judge here; those of {file} were others")


def check_weights(split: Split, weights: str, *, dataset: str | None) -> None:
    """ValueError if weights to begin with are a study's, or exported from one, and saw what
    `check_unseen` forbids; of others' files nothing is known, which is said."""
    file = Path(weights).expanduser()
    if dataset is None or not file.is_file():
        return
    found = _origin(file)
    if found is None:
        print(f"weights {file}: not known is whether they have seen what judges here", flush=True)
    else:
        check_unseen(split, found, file, "weights", dataset=dataset)


def _origin(file: Path) -> Origin | None:
    """Of a study's checkpoint, or of what was exported from one."""
    try:
        with safe_open(file, "pt") as weights:
            said = (weights.metadata() or {}).get(ORIGIN)
        return Origin(**json.loads(said)) if said else None
    except SafetensorError:  # it is no such file
        pass
    try:
        read_checkpoint(file)
    except ValueError:
        return None
    return load_trained(file).origin


def _same_data(split: Split, found: Origin, file: Path | str, what: str, dataset: str) -> bool:
    if found.data and found.data == split.data:
        return True
    if found.dataset != dataset:
        if found.data is None and split.data:
            said = f"is from before it was kept on which images, and of data named {found.dataset}"
            print(f"{what}, {file}, {said}: not known is whether it has seen what judges here")
        return False
    known = found.data and split.data and found.names and split.classes
    return not (known and {*found.names}.isdisjoint(split.classes))
