"""The search space as far as the data in use holds it: the same for every loss of a study."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

from study.results.files import StudyError
from study.search.changes import only
from study.search.space import SPACE, Space, all_knobs, default
from trainables.batches import check_room, positives
from trainables.config import TrialConfig
from trainables.data import Split
from trainables.knobs import Choice, Knob
from trainables.losses import resolve

FEW_POSITIVES = 0.5  # for an image of a random batch
WITHOUT = {"per_class": None, "shift": 0, "erase": 0}  # what every size of a batch holds
BY_DATA = ("batch_size", *WITHOUT)  # whose choices data may not hold

Combinations = list[dict[str, Any]]


def fitted(
    split: Split, losses: Sequence[str], whole: Space = SPACE, **fixed: Any
) -> tuple[Space, list[str]]:
    """The space without the choices that the data cannot hold, and a line for each of those.

    A choice stays if each of the losses could be trained with it whatever is chosen of the knobs
    above it, so that no search asks for what must fail.

    Args:
        fixed: the fields of every trial's configuration that are not searched.

    Raises:
        StudyError: a knob has no choice left; the message states the law that its first one broke.
    """
    # Each knob is fitted without those that come after it, or it would be left out for their laws.
    plain = whole.changed({name: only(value) for name, value in WITHOUT.items()})
    try:
        usual = [default(loss, epochs=1, seed=0, space=plain, **fixed) for loss in losses]
    except ValueError as error:
        raise StudyError(str(error)) from error
    for config in usual:
        if config.entry.settings and (law := broken_law([_least(config, plain)], split)):
            raise StudyError(f"{config.loss}: {law}")
    space: list[Knob] = []
    left_out: list[str] = []
    held: Combinations = [{}]
    for knob in whole.shared:
        if knob.sets in BY_DATA and isinstance(knob.range, Choice):
            knob, held, lines = _fitted(knob, held, usual, split)
            left_out += lines
        space.append(knob)
    return dataclasses.replace(whole, shared=tuple(space)), left_out


def _fitted(
    knob: Knob, held: Combinations, usual: Sequence[TrialConfig], split: Split
) -> tuple[Knob, Combinations, list[str]]:
    """The knob with the choices that go with all that is held; what is held then; the others."""
    assert isinstance(knob.range, Choice)
    laws = {
        choice: broken_law(
            (_with(config, {**each, knob.sets: choice}) for config in usual for each in held),
            split,
        )
        for choice in knob.range.values
    }
    stay = [choice for choice, law in laws.items() if law is None]
    if not stay:
        law = next(iter(laws.values())) or ""
        blamed = [name for name in BY_DATA if name in law]
        other = " or ".join(f"--set {name}=VALUE" for name in blamed)
        raise StudyError(f"{law} ({other} gives another)" if other else law)
    gone = {choice: law for choice, law in laws.items() if law is not None}
    names, law = ", ".join(map(str, gone)), next(iter(gone.values()), "")
    lines = [f"left out of the search: {knob.name} {names} ({law})"] if gone else []
    held = [{**combination, knob.sets: choice} for combination in held for choice in stay]
    default = knob.default if knob.default in stay else stay[-1]
    return knob._replace(default=default, range=Choice(tuple(stay))), held, lines


def _with(config: TrialConfig, choices: dict[str, Any]) -> TrialConfig:
    """The configuration with these choices, but for what its loss's name fixes."""
    settings = config.entry.settings
    return config.replace(**{name: one for name, one in choices.items() if name not in settings})


def _least(config: TrialConfig, space: Space) -> TrialConfig:
    """The configuration with the least of each choice by data that its loss does not fix."""
    least = {
        knob.sets: min(knob.range.values, key=lambda value: (value is not None, value or 0))
        for knob in space.shared
        if knob.sets in BY_DATA and isinstance(knob.range, Choice)
    }
    return _with(config, least)


def rare_positives(split: Split, losses: Sequence[str], space: Space, **fixed: Any) -> list[str]:
    """A line for each loss that needs positives, or has a part that does, where random batches of
    its first trial's size hold almost none: less than one for every second image.

    Args:
        fixed: as for `fitted`.
    """
    lines = []
    for loss in losses:
        size = default(loss, epochs=1, seed=0, space=space, **fixed).batch_size
        held = positives(split.train.labels, size)
        random = next(knob for knob in all_knobs(loss, space) if knob.sets == "per_class").range
        asked = random is None or random.holds(None)
        entry = resolve(loss)
        needs = entry.needs_positives or entry.part_needs_positives
        if needs and asked and held < FEW_POSITIVES:
            some = "needs" if entry.needs_positives else "has a part that needs"
            lines.append(
                f"{loss} {some} positives, and a random batch of {size} holds {held:.2g} for "
                "an image: per_class none is a poor choice here (--set per_class=4 leaves it out)"
            )
    return lines


def broken_law(configs: Iterable[TrialConfig], split: Split) -> str | None:
    """The first law by which one of the configurations cannot be trained on the data."""
    try:
        for config in configs:
            check_room(config, split)
    except ValueError as error:
        return str(error)
    return None
