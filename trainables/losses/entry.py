"""What a study knows of a loss: its name, its knobs, its module, and what it asks of the data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from trainables.knobs import Knob, choice, spelled
from trainables.laws import did_you_mean


class Arguments(Mapping[str, Any]):
    """A loss's own arguments by name: a mapping that cannot be changed, and is equal by value."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = dict(values)

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __hash__(self) -> int:
        return hash(frozenset(self._values.items()))

    def __repr__(self) -> str:
        return repr(self._values)


NONE = Arguments({})


@dataclass(frozen=True, kw_only=True, eq=False)
class Loss:
    """An entry: to add a loss is to write a file with one as `LOSS`.

    Attributes:
        name: by which it is asked for.
        title: as readers know it, in the middle of a sentence.
        source: the paper, or where its code comes from.
        make: the module (features (B, D), labels (B,)) → a scalar that backpropagates. Features are
            as the network gives them, not of unit length; labels are class numbers from 0. Called
            with `classes` (of the training images), `width` (D) and the knobs by name.
        knobs: its own arguments.
        needs_positives: a batch in which no class comes twice gives it nothing to learn.
        part_needs_positives: of a sum: such a batch gives one of its parts nothing to learn.
        knows_classes: it has weights of its own for each training class, so that it is not defined
            on images of others.
        reference: of the seed study: the fields of its `TrialConfig`; None if it had none.
        colour: in figures; empty for the next of the palette.
        settings: the knobs, its own and others of a configuration, that have these values in every
            configuration of it: of a name as `smooth_ap:numerator=seed`.
    """

    name: str
    title: str
    source: str
    make: Callable[..., nn.Module]
    knobs: tuple[Knob, ...] = ()
    needs_positives: bool = False
    part_needs_positives: bool = False
    knows_classes: bool = False
    reference: Mapping[str, Any] | None = None
    colour: str = ""
    settings: Mapping[str, Any] = NONE

    @property
    def heading(self) -> str:
        """Its title at the beginning of a sentence or of a cell."""
        return self.title[0].upper() + self.title[1:]

    def arguments(self, given: Mapping[str, Any]) -> Arguments:
        """All its arguments in the order of its knobs: those given, else the defaults.

        Raises:
            ValueError: there is no such knob, or a value breaks its law.
        """
        known = {knob.name: knob for knob in self.knobs}
        for name in given:
            if name not in known:
                law = f"{self.name} has the knobs {', '.join(known) or 'none'}"
                raise ValueError(f"{law}; got {name!r}{did_you_mean(name, known)}")
        values = {name: given.get(name, knob.default) for name, knob in known.items()}
        for name, value in values.items():
            known[name].law(name, value)
        return Arguments(values)

    def with_settings(self, settings: Mapping[str, Any]) -> Loss:
        """The same with these knobs fixed, as an entry of its own.

        Raises:
            ValueError: a value breaks the law of its knob.
        """
        knobs = []
        for knob in self.knobs:
            if knob.name in settings:
                value = settings[knob.name]
                knob.law(knob.name, value)
                knob = knob._replace(default=value, range=choice(value), core=True)
            knobs.append(knob)
        said = {knob: spelled(settings[knob]) for knob in sorted(settings)}
        return replace(
            self,
            name=f"{self.name}:{','.join(f'{knob}={value}' for knob, value in said.items())}",
            title=f"{self.title} ({', '.join(f'{knob} {value}' for knob, value in said.items())})",
            knobs=tuple(knobs),
            reference=None,
            colour="",
            settings=Arguments(settings),
        )

    def build(self, arguments: Mapping[str, Any], *, classes: int, width: int) -> nn.Module:
        """Its module, with fresh weights if it has any."""
        return self.make(classes=classes, width=width, **arguments)
