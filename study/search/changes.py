"""One's own ranges and fixed values: `--set KNOB=VALUE` and `--space FILE.toml`.

[lr_factor]                # a knob, by its name or by the field that it sets
range = [0.1, 3.0]         # its ends; searched as evenly as before, unless `log` says otherwise
default = 1.0              # what is known to be good: see --from-scratch

[lr]                       # by the field: its own value, not a multiple of what is usual
range = [1e-4, 1e-2]
log = true

[batch_size]
choices = [64, 128]

["pml:ArcFaceLoss.margin"] # of one loss: its own knob, whatever others have of that name
range = [5.0, 50.0]
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from study.results.files import StudyError
from trainables.knobs import Choice, Knob, Range, Span, typed
from trainables.laws import did_you_mean
from trainables.losses import Loss, resolve

Changes = Mapping[str, Mapping[str, Any]]  # by knob: `range` and `log`, or `choices`; `default`
KEYS = ("range", "log", "choices", "default")


def read_space(path: Path) -> dict[str, dict[str, Any]]:
    """The changes that a file asks for.

    Raises:
        StudyError: it cannot be read, or is not as described above.
    """
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        law = "--space must be `wide` or a TOML file"
        raise StudyError(f"{law}; {path} cannot be read: {error}") from error
    for name, change in found.items():
        if not isinstance(change, dict) or not change or set(change) - set(KEYS):
            law = f"a knob of the space {path} must be a table of {', '.join(KEYS)}"
            law += ', that of one loss by ["LOSS.KNOB"], in quotes'
            raise StudyError(f"{law}; got {name} = {change!r}")
        for wrong, law in (
            ({"range", "choices"} <= set(change), "range or choices, not both"),
            ("log" in change and "range" not in change, "log beside a range"),
            (not isinstance(change.get("log", True), bool), "log that is true or false"),
        ):
            if wrong:
                raise StudyError(
                    f"a knob of the space {path} must have {law}; got {name} = {change!r}"
                )
    return found


def only(value: Any) -> dict[str, Any]:
    """The change that leaves a knob one choice."""
    return {"choices": [value]}


def read_setting(text: str) -> tuple[str, dict[str, Any]]:
    """`knob=value`, or `LOSS.knob=value`: the knob, and the change that leaves it one choice."""
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise StudyError(f"--set must be knob=value; got {text!r}")
    return name.strip(), only(typed(value.strip()))


def together(parts: Iterable[tuple[str, Mapping[str, Any]]]) -> dict[str, Mapping[str, Any]]:
    """The changes by knob; StudyError if one is given twice."""
    found: dict[str, Mapping[str, Any]] = {}
    for name, change in parts:
        if name in found:
            law = f"a knob must be given once, by --set or --space; {name} was given"
            raise StudyError(f"{law} {_said(found[name])} and {_said(change)}")
        found[name] = change
    return found


def _said(change: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in change.items())


def of_loss(changes: Changes, loss: Loss) -> Changes:
    """What of the changes a loss hears, by its own names: those for all losses, and before them
    those for it alone, `LOSS.knob`, whatever settings its name has."""
    own = f"{plain(loss)}."
    mine = {name.removeprefix(own): one for name, one in changes.items() if name.startswith(own)}
    return {**{name: one for name, one in changes.items() if "." not in name}, **mine}


def plain(loss: Loss) -> str:
    """A loss's name without its settings."""
    return loss.name.rpartition(":")[0] if loss.settings else loss.name


def changed(knobs: Sequence[Knob], changes: Changes) -> list[Knob]:
    """The knobs as the changes ask, each by its name or by the field that it sets.

    Raises:
        StudyError: a value breaks the law of its knob, or a range is none.
    """
    found = []
    for knob in knobs:
        if knob.name in changes:
            knob = _changed(knob, changes[knob.name])
        elif knob.sets in changes:
            knob = _changed(*_by_field(knob, changes[knob.sets]))
        found.append(knob)
    return found


def _by_field(knob: Knob, change: Mapping[str, Any]) -> tuple[Knob, Mapping[str, Any]]:
    """A knob whose change is of the field's own values, if its own are multiples of something."""
    if knob.per is None:
        return knob, change
    log = isinstance(knob.range, Span) and knob.range.log
    own = knob._replace(name=knob.sets, field="", per=None, range=None, default=math.nan)
    return own, {"log": log, **change}


def check_losses(changes: Changes, losses: Iterable[str]) -> None:
    """StudyError unless `LOSS.knob` is a loss's own knob, and a name without a loss means the same
    in all of them: margins, say, are squared distances, cosines or degrees."""
    own = {plain(one): resolve(plain(one)).knobs for one in map(resolve, losses)}
    for name in changes:
        loss, dot, knob = name.rpartition(".")
        if dot and loss not in own:
            law = f"LOSS.KNOB must begin with a loss of the study, {', '.join(own)}"
            raise StudyError(f"{law}; got {name}{did_you_mean(loss, own)}")
        known = [one.name for one in own.get(loss, ())]
        if dot and knob not in known:
            law = f"{loss} has the knobs {', '.join(known) or 'none'} of its own"
            raise StudyError(f"{law}; got {name}{did_you_mean(knob, known)}")
        alike = {
            loss: _alike(one)
            for loss, knobs in own.items()
            for one in knobs
            if one.name == name and f"{loss}.{name}" not in changes
        }
        if len(set(alike.values())) > 1:
            said = "; ".join(f"of {loss} {what}" for loss, what in alike.items())
            law = f"{name} is not the same in all losses ({said})"
            ways = " or ".join(f"{loss}.{name}" for loss in alike)
            raise StudyError(f"{law}: give it to one of them, as {ways}")


def _alike(knob: Knob) -> str:
    """What a knob must have in common with another loss's of its name to be set with it."""
    return f"{knob.default} in {knob.range} {knob.unit}".rstrip()


def check_names(changes: Changes, knobs: Sequence[Knob]) -> None:
    """StudyError names what is no knob of the search, and the nearest one."""
    known = dict.fromkeys(name for knob in knobs for name in (knob.name, knob.sets))
    for name in changes:
        if "." not in name and name not in known:
            law = f"{name} is no knob of this search{did_you_mean(name, known)}"
            raise StudyError(f"{law} (known: {', '.join(known)})")
    for knob in knobs:
        if knob.name != knob.sets and {knob.name, knob.sets} <= set(changes):
            raise StudyError(f"{knob.name} sets {knob.sets}: give a range to one of them, not both")


def _changed(knob: Knob, change: Mapping[str, Any]) -> Knob:
    found = _range(knob, change)
    default = change.get("default", knob.default)
    if "default" not in change and not found.holds(default):
        default = found.values[0] if isinstance(found, Choice) else _middle(found)
    ends = found.values if isinstance(found, Choice) else (found.low, found.high)
    try:
        for value in (*ends, default):
            knob.law(knob.name, value)
    except ValueError as error:
        raise StudyError(str(error)) from error
    if not found.holds(default):
        raise StudyError(f"the default of {knob.name} must be in {found}; got {default!r}")
    return knob._replace(range=found, default=default)


def _range(knob: Knob, change: Mapping[str, Any]) -> Range:
    if "choices" in change:
        values = change["choices"]
        if not isinstance(values, list) or not values:
            raise StudyError(f"the choices of {knob.name} must be a list; got {values!r}")
        if any(values.count(value) > 1 for value in values):
            raise StudyError(f"the choices of {knob.name} must be different; got {values!r}")
        return Choice(tuple(None if value == "none" else value for value in values))
    ends = change.get("range")
    if ends is None:
        return knob.range or Choice((change.get("default", knob.default),))
    numbers = isinstance(ends, list) and len(ends) == 2 and all(_is_number(end) for end in ends)
    if not numbers or not ends[0] < ends[1]:
        raise StudyError(f"the range of {knob.name} must be [low, high]; got {ends!r}")
    log = change.get("log", isinstance(knob.range, Span) and knob.range.log)
    if _counts(knob, ends[1]):
        law = f"{knob.name} is a whole number, so it must have choices, a list, and no range"
        raise StudyError(f"{law}; got {ends!r}")
    if log and ends[0] <= 0:
        raise StudyError(f"a logarithmic range of {knob.name} must begin above 0; got {ends!r}")
    return Span(float(ends[0]), float(ends[1]), bool(log))


def _counts(knob: Knob, value: float) -> bool:
    """Whether a knob takes whole numbers alone, as far as one beside this value shows it."""
    whole = round(value) if math.isfinite(value) else 1
    return _holds(knob, whole) and not _holds(knob, float(whole))


def _holds(knob: Knob, value: float) -> bool:
    try:
        knob.law(knob.name, value)
    except ValueError:
        return False
    return True


def _middle(span: Span) -> float:
    return math.sqrt(span.low * span.high) if span.log else (span.low + span.high) / 2


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
