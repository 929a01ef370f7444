"""The laws of a table's columns: what is missing is filled in, what breaks a law is named."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import pandas as pd

from trainables.data.errors import DataError

from .files import PARTS, composed, size

ROLES = ("is_query", "is_gallery")
BOX = ("x_1", "y_1", "x_2", "y_2")
KNOWN = ("path", "row", "label", "split", *ROLES, "sequence", *BOX, "bytes")


def checked(
    rows: pd.DataFrame, source: str, classes: Sequence[str] = ()
) -> tuple[pd.DataFrame, list[str]]:
    """The rows with all columns, in the given order, and notes on how they are read.

    Args:
        rows: as for `Table`.
        source: what errors name before the row.
        classes: as for `Table`.

    Raises:
        DataError: a row, or the set of columns, breaks a law.
    """
    laws = _Laws(rows, source)
    laws.columns()
    notes = [*laws.labels(classes), *laws.splits()]
    laws.roles()
    laws.sequences()
    laws.boxes()
    laws.keys()
    return laws.rows[[name for name in KNOWN if name in laws.rows]], notes


class _Laws:
    """A copy of the rows, numbered from 0, that becomes what the laws ask for."""

    def __init__(self, rows: pd.DataFrame, source: str) -> None:
        self.numbers = list(rows.index)
        self.rows = rows.reset_index(drop=True)
        self.source = source

    def fail(self, place: int, why: str) -> DataError:
        """The error of the row at this place."""
        return DataError(f"{self.source}, row {self.numbers[place]}: {why}")

    def check(self, kept: pd.Series, law: str, name: str) -> None:
        """Raises the error of the first row that does not keep a law of a column."""
        if not kept.all():
            place = int((~kept).to_numpy().argmax())
            raise self.fail(place, f"{law}; got {self.rows[name].tolist()[place]!r}")

    def columns(self) -> None:
        given = set(self.rows.columns)
        law = "a table has a column path or row, and label"
        if "label" not in given or len(given & {"path", "row"}) != 1:
            raise DataError(f"{self.source}: {law}; got {', '.join(map(str, self.rows.columns))}")
        if unknown := [str(name) for name in self.rows.columns if name not in KNOWN]:
            law = f"a table's columns are among {', '.join(KNOWN)}"
            raise DataError(f"{self.source}: {law}; got {', '.join(unknown)}")
        for group in (ROLES, BOX):
            if 0 < len(given & set(group)) < len(group):
                got = ", ".join(name for name in group if name in given)
                raise DataError(f"{self.source} must have all of {', '.join(group)}; got {got}")
        if self.rows.empty:
            raise DataError(f"{self.source} must hold images; got none")

    def words(self, name: str) -> list[str]:
        """A column of text."""
        texts = self.rows[name].map(lambda value: isinstance(value, str))
        self.check(texts, f"{name} must be a text", name)
        return list(self.rows[name])

    def labels(self, classes: Sequence[str]) -> list[str]:
        given = self.words("label")
        self.check(self.rows["label"].str.strip() != "", "a label must not be empty", "label")
        self.rows["label"] = [composed(label) for label in given]
        spellings: dict[str, set[str]] = defaultdict(set)
        for label in given:
            spellings[composed(label)].add(label)
        if classes:
            names = [composed(name) for name in classes]
            if sorted(names) != sorted(spellings):
                odd = sorted({*names} ^ {*spellings}) or [n for n in names if names.count(n) > 1]
                law = "classes must be the labels, each once"
                raise DataError(f"{self.source}: {law}; not so {odd[0]!r}")
        return [
            f"{label} is spelt in {len(forms)} Unicode forms, which are taken for one class"
            for label, forms in sorted(spellings.items())
            if len(forms) > 1
        ]

    def splits(self) -> list[str]:
        if "split" not in self.rows:
            self.rows["split"] = ""
        self.words("split")
        split = self.rows["split"]
        law = f"a split must be one of {', '.join(PARTS)}, or empty for all rows"
        self.check(split.isin(["", *PARTS]), law, "split")
        if (split != "").any():
            self.check(split != "", "a split must be given for all rows or for none", "split")
        judges = split == "validation"
        if judges.any() and not (split == "test").any():
            self.rows["split"] = split.where(~judges, "test")
            count = f"the {judges.sum():,} of validation are read as the test set"
            return [f"no rows are of test: {count}, and validation is drawn from the rest"]
        return []

    def roles(self) -> None:
        judges = self.rows["split"] != "train"
        for name in ROLES:
            given = self.rows.get(name, judges)
            truths = given.map(lambda value: isinstance(value, bool | np.bool_))
            self.check(truths | ~judges, f"{name} must be true or false", name)
            self.rows[name] = np.where(judges, given, False).astype(bool)
        kept = self.rows[ROLES[0]] | self.rows[ROLES[1]] | ~judges
        law = "an image that judges must be query, gallery or both"
        self.check(kept, law, ROLES[0])

    def sequences(self) -> None:
        if "sequence" not in self.rows:
            self.rows["sequence"] = ""
        self.words("sequence")

    def boxes(self) -> None:
        if BOX[0] not in self.rows:
            return
        sides = self.rows[list(BOX)].apply(pd.to_numeric).fillna(-1).to_numpy(dtype=float)
        none = (sides == -1).all(axis=1)
        right = (sides == np.floor(sides)).all(axis=1) & (sides[:, :2] >= 0).all(axis=1)
        right &= (sides[:, :2] < sides[:, 2:]).all(axis=1) & np.isfinite(sides).all(axis=1)
        if not (none | right).all():
            place = int((none | right).argmin())
            law = "a box must be whole pixels, 0 <= x_1 < x_2 and 0 <= y_1 < y_2"
            got = ", ".join("none" if side == -1 else f"{side:g}" for side in sides[place])
            raise self.fail(place, f"{law}; got {', '.join(BOX)} of {got}")
        self.rows[list(BOX)] = sides.astype(np.int64)

    def keys(self) -> None:
        if "row" in self.rows:
            whole = self.rows["row"].map(lambda row: isinstance(row, int | np.integer) and row >= 0)
            self.check(whole, "a row of an array must be a whole number from 0", "row")
            self.rows = self.rows.drop(columns="bytes", errors="ignore")
        else:
            self.words("path")
            self.check(self.rows["path"].map(os.path.isabs), "a path must be absolute", "path")
        self.once()
        if "path" in self.rows:
            self.rows["bytes"] = self.sizes()

    def once(self) -> None:
        """An image may be there twice with different boxes alone."""
        name = "row" if "row" in self.rows else "path"
        seen: dict[tuple[object, ...], int] = {}
        keys = self.rows[[name, *(side for side in BOX if side in self.rows)]]
        for place, key in enumerate(keys.itertuples(index=False, name=None)):
            first = seen.setdefault(key, place)
            if first != place:
                labels = [self.rows["label"].iloc[one] for one in (place, first)]
                again = f"it is in row {self.numbers[first]} too"
                raise self.fail(
                    place,
                    f"an image must be listed once; {key[0]} is {labels[0]!r} here, and {again}, "
                    f"as {labels[1]!r}",
                )

    def sizes(self) -> list[int]:
        """The files' sizes, each measured once."""
        known: dict[str, int] = {}
        for place, path in enumerate(self.rows["path"]):
            if path not in known:
                try:
                    known[path] = size(path)
                except DataError as error:
                    raise self.fail(place, str(error)) from error
        return [known[path] for path in self.rows["path"]]
