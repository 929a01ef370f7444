"""The laws that arguments are held to, one at a time; an error states the law and the value."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from numbers import Integral, Real
from typing import Any

#: The least and the largest normal number of float32, in which weights and losses are computed.
LEAST, MOST = 2.0**-126, (2 - 2.0**-23) * 2.0**127


def number(name: str, value: Any, law: str, holds: Callable[[Any], bool]) -> float:
    """`value` as a float, once it is a real number that `holds`, and 0 or normal in float32."""
    real = isinstance(value, Real) and not isinstance(value, bool)
    if not (real and abs(value) < float("inf") and holds(value)):
        raise ValueError(f"{name} must be a finite number {law}; got {value!r}")
    if value != 0 and not LEAST <= abs(value) <= MOST:
        law = f"a normal number of float32 ({LEAST:.2g} to {MOST:.2g})"
        raise ValueError(f"{name} must be {law}; got {value!r}")
    return float(value)


def integer(
    name: str, value: Any, least: int, alternative: str = "", *, most: int = 2**31 - 1
) -> int:
    """`value` as an int, once it is an integer from `least` to `most`."""
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not (whole and value >= least):
        law = f"an integer >= {least} {alternative}".rstrip()
        raise ValueError(f"{name} must be {law}; got {value!r}")
    if value > most:
        raise ValueError(f"{name} must be at most {most}; got {value!r}")
    return int(value)


def one_of(name: str, value: Any, allowed: tuple[str, ...]) -> None:
    """Refuses what is not one of the allowed words."""
    if not (isinstance(value, str) and value in allowed):
        raise ValueError(f"{name} must be one of {', '.join(allowed)}; got {value!r}")


def truth(name: str, value: Any) -> None:
    """Refuses what is not True or False."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be True or False; got {value!r}")


def text(name: str, value: Any) -> None:
    """Refuses what is no text."""
    if not isinstance(value, str):
        raise ValueError(f"{name} must be text; got {value!r}")


def did_you_mean(word: str, names: Iterable[str], cutoff: float = 0.6, before: str = "") -> str:
    """`; did you mean ...?` with the name that a word begins or resembles; empty if none.

    Args:
        cutoff: how much it resembles at least, as `difflib` has it.
        before: what the name has before it where it is given.
    """
    names = list(names)
    near = [name for name in names if word.strip("-") and name.startswith(word)]
    near = difflib.get_close_matches(word, near or names, n=1, cutoff=0.0 if near else cutoff)
    return f"; did you mean {before}{near[0]}?" if near else ""
