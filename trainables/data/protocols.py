"""Who is trained on, who judges, and who is retrieved: the protocols, by name.

`held_out`, the default: no class is in two parts. Half of the classes are for test unless the data
says which; of the others, one of four folds of classes is for validation, as in "A Metric Learning
Reality Check" (Musgrave, Belongie and Lim, 2020). `closed`: every judged class is trained on too.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainables.data.errors import DataError
from trainables.data.partitions import SEED, Partition, Rows, parted
from trainables.data.tables.table import Table
from trainables.terminal import few

FOLDS = 4
TEST_FRACTION = 0.2  # of each class, where the protocol is closed
VALIDATION_FRACTION = 0.1  # of what is left
LEAST = 6  # images of a class of which two are taken: more are left than are taken

Mask = NDArray[np.bool_]
Words = NDArray[np.str_]


class Protocol(NamedTuple):
    """How a protocol draws what the data does not say, and what it does not allow.

    Attributes:
        test: (labels (N,), sequences (N,) as the table has them, seed) -> (N,) True for test.
        validation: (labels and sequences (M,) of the other rows, folds or None, fold, seed) ->
            (M,) True for validation.
        check: raises DataError if the parts that the data names break the protocol's law.
    """

    test: Callable[[Rows, Words, int], Mask]
    validation: Callable[[Rows, Words, int | None, int, int], Mask]
    check: Callable[[Table], None]


def partition(
    table: Table,
    protocol: str = "held_out",
    *,
    folds: int | None = None,
    fold: int = 0,
    seed: int = SEED,
) -> Partition:
    """The table's rows under a protocol; what the data says itself is kept.

    The gallery is shuffled, because equal distances are ranked in its order, from which a table
    sorted by class would profit. A row of training that is drawn for validation is query and
    gallery both.

    Args:
        protocol: a name of `PROTOCOLS`.
        folds: into how many folds the classes that are not for test are dealt, at least 2. Default:
            4, or fewer where a fold would have less than 2 classes. Held-out classes alone.
        fold: which fold is for validation, from 0.
        seed: of what is drawn.

    Raises:
        DataError: the protocol is not known, the data cannot be parted so, a part is empty, has
            fewer than 2 classes or no query with a relevant row, or breaks the protocol's law.
    """
    if protocol not in PROTOCOLS:
        raise DataError(f"a protocol is one of {', '.join(PROTOCOLS)}; got {protocol!r}")
    draw = PROTOCOLS[protocol]
    _check_several(table)
    draw.check(table)
    split, sequences = (table.rows[name].to_numpy(dtype=str) for name in ("split", "sequence"))
    test = split == "test"
    if not test.any():
        test = draw.test(table.labels, sequences, seed)
    rest = np.flatnonzero(~test)
    rest = rest[np.random.default_rng(seed).permutation(len(rest))]
    validation = split[rest] == "validation"
    if not validation.any():
        validation = draw.validation(table.labels[rest], sequences[rest], folds, fold, seed)
    elif folds is not None or fold:
        law = "folds are drawn where the data does not name its validation rows"
        raise DataError(f"{law}; {table.source} names {validation.sum()} images")
    return parted(table, rest[~validation], rest[validation], np.flatnonzero(test))


def _check_several(table: Table) -> None:
    """DataError of a single class names it, and the folder below which classes may lie."""
    if len(table.classes) > 1:
        return
    law = f"{table.source}: retrieval needs at least 2 classes"
    below, hint = sorted({name.partition("/")[0] for name in table.names if "/" in name}), ""
    if len(below) > 1 and table.file is None and not table.rows["split"].any():
        folder = os.path.commonpath([os.path.dirname(path) for path in table.rows["path"]])
        hint = f"; if {few(below, 3)} are classes: --data {folder}"
    raise DataError(f"{law}; got one, {table.classes[0]!r}{hint}")


def folds(labels: Rows, count: int, seed: int = SEED) -> Rows:
    """Deals the classes of labels (N,) into folds: (N,) the number of each row's fold.

    Classes of several rows are dealt first, then those of one, so that each fold has its share of
    both; the first folds have one class more where it does not come out even.
    """
    classes, inverse, rows = np.unique(labels, return_inverse=True, return_counts=True)
    order = np.random.default_rng([seed, count]).permutation(len(classes))
    order = order[np.argsort(rows[order] == 1, kind="stable")]
    dealt = np.empty(len(classes), dtype=np.int64)
    dealt[order] = np.arange(len(classes)) % count
    return dealt[inverse]


def _half_of_classes(labels: Rows, _: Words, seed: int) -> Mask:
    if (usable := _usable(labels)) < 7:
        law = "held-out classes need at least 7 classes of two images or more"
        raise DataError(f"{law}, or a test set that the data names; got {usable}")
    return folds(labels, 2, seed) == 1


def _fold_of_classes(labels: Rows, _: Words, count: int | None, fold: int, seed: int) -> Mask:
    if (usable := _usable(labels)) < 4:
        law = "held-out classes need at least 4 classes of two images or more beside the test set"
        raise DataError(f"{law}; got {usable}")
    count = min(FOLDS, usable // 2) if count is None else count
    if not 2 <= count <= usable // 2:
        law = "folds must be at least 2, of 2 classes or more each"
        raise DataError(f"{law}: 2 to {usable // 2} for {usable} classes; got {count}")
    if not 0 <= fold < count:
        raise DataError(f"a fold must be from 0 to {count - 1}, of {count} folds; got {fold}")
    return folds(labels, count, seed) == fold


def _usable(labels: Rows) -> int:
    """How many classes have two rows or more: those that can train or be found again."""
    return int((np.unique(labels, return_counts=True)[1] > 1).sum())


def _check_disjoint(table: Table) -> None:
    given = _given(table)
    for one, other in (("train", "validation"), ("train", "test"), ("validation", "test")):
        shared = np.intersect1d(table.labels[given[one]], table.labels[given[other]])
        if len(shared):
            row, again = (
                next(row for row in given[part] if table.labels[row] == shared[0])
                for part in (one, other)
            )
            classes = f"{len(shared)} class{'es' if len(shared) > 1 else ''}"
            raise DataError(
                f"{table.source}: held-out classes are in one part alone (the closed protocol "
                f"allows more); {one} and {other} share {classes}, such as "
                f"{table.classes[shared[0]]!r}: {table.names[row]}, {table.names[again]}"
            )


def _fifth_of_each(labels: Rows, sequences: Words, seed: int) -> Mask:
    order = np.random.default_rng([seed, 1]).permutation(len(labels))
    test = np.empty(len(labels), dtype=bool)
    test[order] = _first_of_each(labels[order], sequences[order], TEST_FRACTION)
    return test


def _tenth_of_each(labels: Rows, sequences: Words, count: int | None, fold: int, seed: int) -> Mask:
    if count is not None or fold:
        raise DataError("folds are of the held-out protocol; got some under the closed one")
    return _first_of_each(labels, sequences, VALIDATION_FRACTION)


def _first_of_each(labels: Rows, sequences: Words, fraction: float) -> Mask:
    """Marks this fraction of each class, rounded, the rows that come first: at least two, as one
    has nothing that it could find, and none of a class that is smaller than `LEAST`.

    The rows of a class that are of one sequence count as one and are marked together: its frames
    are nearly the same picture, which would be trained on and judge.
    """
    _, numbers = np.unique(sequences, return_inverse=True)
    alone = sequences == ""
    numbers = np.where(alone, np.arange(len(labels)), len(labels) + numbers)
    _, first, inverse = np.unique(
        labels * (2 * len(labels)) + numbers, return_index=True, return_inverse=True
    )
    firsts = np.unique(first)  # of each sequence, as they come
    marked = np.zeros(len(labels), dtype=bool)
    marked[firsts] = _first_rows(labels[firsts], fraction, "images" if alone.all() else "sequences")
    return marked[first[inverse]]


def _first_rows(labels: Rows, fraction: float, what: str) -> Mask:
    _, inverse, rows = np.unique(labels, return_inverse=True, return_counts=True)
    if rows.max(initial=0) < LEAST:
        law = f"the closed protocol judges classes of 8 {what} or more"
        law += f", or of {LEAST} beside test images that the data names"
        raise DataError(f"{law}; the largest has {rows.max(initial=0)} to draw from")
    order = np.argsort(inverse, kind="stable")
    place = np.empty(len(labels), dtype=np.int64)
    place[order] = np.arange(len(labels)) - np.repeat(np.cumsum(rows) - rows, rows)
    asked = np.where(rows < LEAST, 0, np.rint(fraction * rows).clip(2))
    return place < asked[inverse]


def _check_trained(table: Table) -> None:
    given = _given(table)
    rows = np.bincount(table.labels[given["train"]], minlength=len(table.classes))
    for part in ("validation", "test"):
        for row in given[part]:
            label = table.labels[row]
            if rows[label] < 2:
                raise DataError(
                    f"{table.source}: under the closed protocol every judged class has two "
                    f"training images or more; {table.classes[label]!r} has {rows[label]}, and "
                    f"is judged by {table.names[row]} ({part})"
                )


def _given(table: Table) -> dict[str, Rows]:
    """The rows of each part that the data names."""
    split = table.rows["split"].to_numpy(dtype=str)
    return {part: np.flatnonzero(split == part) for part in ("train", "validation", "test")}


held_out = Protocol(_half_of_classes, _fold_of_classes, _check_disjoint)
closed = Protocol(_fifth_of_each, _tenth_of_each, _check_trained)
PROTOCOLS = {"held_out": held_out, "closed": closed}
