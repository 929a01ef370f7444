"""Which rows of a table train, which judge, and from which they retrieve."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from trainables.data.errors import DataError
from trainables.data.images import Roles, Rows, own_places
from trainables.data.tables.table import Table

SEED = 20_201_123  # of partitions alone: no trial's seed moves it


@dataclass(frozen=True, eq=False)
class JudgedRows:
    """The rows of a table that a network is judged on.

    Attributes:
        queries: (Q,) int64 rows of the table, none twice.
        gallery: (G,) int64 rows of the table, none twice, in the order that ranks equal distances.
    """

    queries: Rows
    gallery: Rows

    @cached_property
    def rows(self) -> Rows:
        """The rows to embed, ascending, each once: queries and gallery together."""
        return np.union1d(self.queries, self.gallery)

    @property
    def own(self) -> Rows:
        """(Q,) int64: each query's place in the gallery, -1 for a query that is not in it."""
        return own_places(self.queries, self.gallery)

    def roles(self, table: Table) -> Roles:
        """The roles of the images at `rows`, in that order."""
        queries, gallery = (
            np.searchsorted(self.rows, part) for part in (self.queries, self.gallery)
        )
        names = table.rows["sequence"].to_numpy(dtype=str)[self.rows]
        if not names.any():
            return Roles(queries, gallery)
        groups = np.unique(names, return_inverse=True)[1]
        return Roles(queries, gallery, np.where(names == "", -1, groups))


@dataclass(frozen=True, eq=False)
class Partition:
    """A table under a protocol; every row is in one part, or in none.

    Attributes:
        train: (N,) int64 rows to train on, in an order that the seed fixes.
        validation, test: whom the choices and whom the result are judged on.
        left_out: the rows that would train but are the only one of their class there: no loss of
            pairs can use them, so no loss gets them.
        unanswered: by part, "validation" and "test", how many queries have no relevant gallery row.
    """

    train: Rows
    validation: JudgedRows
    test: JudgedRows
    left_out: Rows
    unanswered: Mapping[str, int]


def parted(table: Table, train: Rows, validation: Rows, test: Rows) -> Partition:
    """The partition of these rows, in the roles that the data gives to the rows it has judge.

    A row that the data gives to training and that is drawn to judge is query and gallery both.

    Args:
        train, validation: in an order that is drawn, which is the gallery's too.
        test: ascending; its gallery is shuffled by a seed that is always the same.

    Raises:
        DataError: a part has fewer than 2 classes, or no query with a relevant row.
    """
    rows = np.bincount(table.labels[train], minlength=len(table.classes))
    alone = rows[table.labels[train]] == 1
    shuffled = test[np.random.default_rng(SEED).permutation(len(test))]
    trains = table.rows["split"].to_numpy(dtype=str) == "train"
    asks = trains | table.rows["is_query"].to_numpy(dtype=bool)
    answers = trains | table.rows["is_gallery"].to_numpy(dtype=bool)
    judged = {
        "validation": JudgedRows(validation[asks[validation]], validation[answers[validation]]),
        "test": JudgedRows(test[asks[test]], shuffled[answers[shuffled]]),
    }
    _check_classes(table, "train", train[~alone], "of two images or more")
    unanswered = {}
    for name, part in judged.items():
        _check_classes(table, name, part.gallery, "in the gallery")
        unanswered[name] = int((part.roles(table).relevant(table.labels[part.rows]) == 0).sum())
        if unanswered[name] == len(part.queries):
            law = "a query must have another image of its class in the gallery"
            raise DataError(f"{table.source}: {law}; of {len(part.queries)} of {name} none has")
    return Partition(train[~alone], **judged, left_out=np.sort(train[alone]), unanswered=unanswered)


def _check_classes(table: Table, part: str, rows: Rows, kind: str) -> None:
    count = len(np.unique(table.labels[rows]))
    if count < 2:
        law = f"retrieval needs at least 2 classes {kind}"
        raise DataError(f"{table.source}: {law}; {part} has {count}")
