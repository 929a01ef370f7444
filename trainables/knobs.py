"""A knob: its law, its default, the range in which a search looks for it, its role and its unit.

Roles as in Google's tuning playbook: a *scientific* knob is what a study asks about, a *nuisance*
knob must be tuned for a comparison to be fair, a *fixed* one is the same for all.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from trainables import laws

Law = Callable[[str, Any], Any]  # of a name and a value: raises ValueError if it is broken


def positive(name: str, value: Any) -> None:
    """A finite number above 0."""
    laws.number(name, value, "> 0", lambda x: x > 0)


def not_negative(name: str, value: Any) -> None:
    """A finite number, 0 or above it."""
    laws.number(name, value, ">= 0", lambda x: x >= 0)


def share(name: str, value: Any) -> None:
    """A number in [0, 1)."""
    laws.number(name, value, "in [0, 1)", lambda x: 0 <= x < 1)


def word(name: str, value: Any) -> None:
    """A text that is not empty."""
    if not (isinstance(value, str) and value):
        raise ValueError(f"{name} must be a word; got {value!r}")


def one_of(*words: str) -> Law:
    """One of these words."""
    return lambda name, value: laws.one_of(name, value, words)


def optional(law: Law) -> Law:
    """None, or what another law asks."""
    return lambda name, value: None if value is None else law(name, value)


def integer(least: int, otherwise: object = ..., *, most: int = 2**31 - 1) -> Law:
    """An integer from `least` to `most`, or another value."""
    text = "" if otherwise is ... else f"or {otherwise!r}"

    def law(name: str, value: Any) -> None:
        if otherwise is ... or (value is not otherwise and value != otherwise):
            laws.integer(name, value, least, text, most=most)

    return law


class Choice(NamedTuple):
    """A range of a few values."""

    values: tuple[Any, ...]

    def holds(self, value: object) -> bool:
        return any(type(value) is type(one) and value == one for one in self.values)

    def at(self, share: float) -> Any:
        """The value so far along the range, from 0 to below 1."""
        return self.values[int(share * len(self.values))]

    def place(self, value: object) -> float:
        """How far along the range a value of it lies: the middle of its part."""
        return (self.values.index(value) + 0.5) / len(self.values)

    def __str__(self) -> str:
        return ", ".join(str(value) for value in self.values)


class Span(NamedTuple):
    """A range of numbers from `low` to `high`, searched evenly, or evenly in its logarithm."""

    low: float
    high: float
    log: bool = False

    def holds(self, value: object) -> bool:
        return isinstance(value, int | float) and self.low <= value <= self.high

    def at(self, share: float) -> float:
        """The value so far along the range, from 0 to below 1, to four digits within it."""
        if self.log:
            value = self.low * (self.high / self.low) ** share
        else:
            value = self.low + share * (self.high - self.low)
        return min(max(shortened(value), self.low), self.high)

    def place(self, value: float) -> float:
        """How far along the range a value of it lies, from 0 to 1."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}" + (" (log)" if self.log else "")


Range = Choice | Span


def range_of(text: str) -> Range:
    """The range of which `str` gives this text, which has the ends of a span to six digits."""
    numbers, log, _ = text.partition(" (log)")
    low, to, high = numbers.partition(" to ")
    if to:
        return Span(float(low), float(high), bool(log))
    return Choice(tuple(map(typed, text.split(", "))))


def shortened(value: float) -> float:
    """To four digits: what a search draws is to be read, and typed again."""
    return float(f"{value:.4g}")


def typed(text: str) -> Any:
    """A knob's value as it is typed: a number, a truth value, `none`, what else JSON knows, or the
    word itself."""
    if text.lower() == "none":
        return None
    text = text.lower() if text.lower() in ("true", "false") else text
    for read in (json.loads, float):  # JSON knows no .5
        try:
            return read(text)
        except ValueError:
            continue
    return text


def spelled(value: Any) -> str:
    """The one way in which a name has a knob's value; `typed` reads it again."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return (
        "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    )


def choice(*values: Any) -> Choice:
    return Choice(values)


def log(low: float, high: float) -> Span:
    return Span(low, high, log=True)


class _Given:
    """Holds whatever is not None; there is nothing in it to be listed."""

    def __contains__(self, value: object) -> bool:
        return value is not None

    def __iter__(self) -> Iterator[Any]:
        return iter(())


GIVEN = _Given()


class Knob(NamedTuple):
    """A knob of a loss, or of all trials.

    Attributes:
        name: of the knob in a search, unique there.
        default: what a search begins with.
        range: in which a search looks for it; None: it stays at its default unless it is set.
        law: of its values, also of those outside the range.
        role: `scientific`, `nuisance` or `fixed`.
        unit: of its values, if they have one.
        field: of the configuration that it sets; empty: its name.
        where: the fields that decide whether it is used, and their values, or GIVEN.
        per: what its values are multiples of, given the fields chosen before it; None: of nothing.
        core: whether a search looks for it unless its space is the wide one or gives it a range.
    """

    name: str
    default: Any
    range: Range | None
    law: Law
    role: str = "nuisance"
    unit: str = ""
    field: str = ""
    where: Mapping[str, tuple[Any, ...] | _Given] = {}
    per: Callable[[Mapping[str, Any]], float] | None = None
    core: bool = True

    @property
    def sets(self) -> str:
        """The field that it sets."""
        return self.field or self.name

    def used(self, chosen: Mapping[str, Any]) -> bool:
        """Whether a configuration with these fields uses it."""
        return all(chosen.get(field) in values for field, values in self.where.items())
