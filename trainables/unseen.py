"""What a network that was trained before must not have seen: what judges here, or is tested."""

from __future__ import annotations

from pathlib import Path

from trainables.data import Split
from trainables.terminal import few
from trainables.trained import Trained, load_trained, read_checkpoint


def check_unseen(
    split: Split, found: Trained, file: Path | str, what: str, *, dataset: str | None
) -> None:
    """ValueError if a network was trained on images, or classes, of the split's data that are not
    trained on here.

    Args:
        found: a checkpoint of a study, and where it is.
        what: it is to be, in the message.
        dataset: the name of the split's data, as a configuration has it; None where the split has
            but some of the classes that are trained on, so that it may have seen more.
    """
    if found.config.dataset != dataset:
        return
    law = f"{what} of the same data must be trained on no classes but those that are here"
    if isinstance(found.classes, int):
        raise ValueError(f"{law}; {file} is from before it was kept which {found.classes} it saw")
    if more := sorted({*found.classes} - {*split.trained}):
        raise ValueError(f"{law}; {file} was on {len(more)} others: {few(more)}")
    if found.same_classes != split.same_classes:
        kinds = {True: "the same classes judged", False: "other classes judged",
                 None: "from before it was kept who judged"}  # fmt: skip
        law = f"{what} of the same data must be trained under the same protocol"
        raise ValueError(
            f"{law}, or it has seen images that judge here; of {file}: "
            f"{kinds[found.same_classes]}, here: {kinds[split.same_classes]}"
        )


def check_weights(split: Split, weights: str, *, dataset: str | None) -> None:
    """ValueError if weights to begin with are a study's, and saw what `check_unseen` forbids; of
    others' files nothing is known."""
    file = Path(weights).expanduser()
    if not file.is_file():
        return
    try:
        read_checkpoint(file)
    except ValueError:
        return
    check_unseen(split, load_trained(file), file, "weights", dataset=dataset)
