"""What a study is asked for, and which other plan would continue it."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from study.results.files import StudyError
from study.search import ladder
from study.search.changes import Changes, check_losses, check_names, of_loss, only, plain
from study.search.ladder import FINALISTS, FRESH, Cost
from study.search.searches import SEARCHES
from study.search.space import SPACE, WIDE, Space, all_knobs, knobs_of
from trainables import data
from trainables.config import LAWS, PRECISIONS
from trainables.data.names import DEFAULT, placed
from trainables.data.tables.files import absolute
from trainables.knobs import Choice, Knob
from trainables.losses import resolve
from trainables.metrics import METRICS

# What a study that is continued may have more of; a finished one of a comparison stays as it is.
MAY_GROW = ("num_samples", "final_seeds")
# What else it may change: where it runs.
MAY_CHANGE = (
    "cpus_per_trial",
    "gpus_per_trial",
    "max_concurrent",
    "checkpoint_uri",
    "data",  # which is known by its fingerprint, wherever it lies
)


# Squared differences of cosines are small beside most losses.
TEACHER_WEIGHT = {"range": [1.0, 100.0], "log": True}
APART = 10_000  # the seeds of two searches
LEAST_SHARE = 1e-4  # of a CPU or GPU: Ray counts them in whole steps of this


def steps(amount: float) -> int:
    """An amount of CPUs or GPUs in Ray's steps, rounded down as Ray does."""
    return int(amount * 10_000)


def _from_root(name: str, ending: str) -> str:
    """A name as it is, but the path of a file, before what may stand after a colon, absolute."""
    path, colon, rest = name.rpartition(":") if ending else (name, "", "")
    if not path.endswith(ending) or not os.path.isfile(os.path.expanduser(path)):
        return name
    return f"{absolute(os.path.expanduser(path))}{colon}{rest}"


def _whole(loss: str) -> list[Knob]:
    """All knobs of a loss, also those that its name fixes."""
    return all_knobs(plain(resolve(loss)))


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a study is asked for.

    Attributes:
        losses: each has a search of its own of `num_samples` trials; one with some of its knobs
            fixed (`smooth_ap:numerator=seed`) is a loss of its own.
        num_samples: configurations for each loss.
        max_epochs: of a trial at most; with `early_stopping` all begin with a part of them, and the
            best third of those that had so many goes on to three times as many.
        final_seeds: on how many fresh seeds the best three configurations of each loss are trained
            for all epochs, which choose between them; 0: the highest value of the search chooses.
        cpus_per_trial, gpus_per_trial: what a trial occupies; fractions of a GPU are allowed, None
            takes a quarter where Ray sees a GPU.
        max_concurrent: trials at a time; None for as many as the CPUs and GPUs hold.
        checkpoint_uri: of an object store's folder through which nodes exchange checkpoints; None
            for the study's own folder, which all of them must see then.
        seed: of the searches and of every trial.
        precision: of every trial, as in `TrialConfig`.
        search: how configurations are drawn, one of `study.search.searches.SEARCHES`.
        from_scratch: without what is known to be good: the defaults, which are a prior otherwise.
        wide: search the knobs that otherwise stay at their defaults, too.
        smoke_test: a slice of the data.
        search_seeds: of a comparison, how often the whole search is made, each time with a seed of
            its own, so that the luck of the search is in its intervals.
        confirm_seeds: of a comparison, on how many fresh seeds each choice is confirmed; 0 for a
            study that is none.
        confirm_epochs: of a confirming run; None for `max_epochs`.
        reference_seeds: on how many of the seeds that confirm each search's choice its loss's
            reference is trained; None: on all, 0: on none.
        reference_epochs: of such a run; None for those of a confirming one.
        rerank: of a comparison, whether its runs are judged in other orders, too (as
            `study.judge.other_orders` has them), by which nothing is chosen or compared.
        network, weights, freeze, embedding_dim: of every trial, as in `TrialConfig`.
        teacher: of every trial, as in `TrialConfig`; its weight is a knob then.
        data: a name of `trainables.data`, or the path of one's own pictures.
        protocol, folds, fold, grey: of these, as `trainables.data.Asked` has them.
        image_size: of one's own pictures, the side, in pixels, of the squares that the network
            gets; None for that which its weights ask for.
        select_by: the metric of `trainables.metrics.METRICS` by which trials are stopped and the
            best is chosen, on the validation images.
        changes: of the space: by knob its range, choices or default (`study.search.changes`).
        holdout_classes: of data that is known by its name; given by number or name, kept as
            ascending numbers. No image of these is trained or validated on, and of the test images
            only theirs are retrieved. Empty: the same classes for all; else at least 2, with at
            least 2 left.
        validation_classes: others, given and kept alike, that are not trained on either and of
            which all validation images are, so that a search is judged on classes that it has not
            seen, as its choice will be. Empty: validation is of the classes that are trained on.

    Raises:
        StudyError, DataError: a field breaks its law; the message states the law and the value.
    """

    losses: Sequence[str]
    num_samples: int
    max_epochs: int
    cpus_per_trial: float = 1
    gpus_per_trial: float | None = None
    max_concurrent: int | None = None
    checkpoint_uri: str | None = None
    seed: int = 0
    early_stopping: bool = True
    final_seeds: int = 0
    precision: str = "auto"
    search: str = SEARCHES[0]
    from_scratch: bool = False
    wide: bool = False
    smoke_test: bool = False
    search_seeds: int = 1
    confirm_seeds: int = 0
    confirm_epochs: int | None = None
    reference_seeds: int | None = None
    reference_epochs: int | None = None
    rerank: bool = False
    holdout_classes: Sequence[int] = ()
    validation_classes: Sequence[int] = ()
    network: str = "seed_cnn"
    weights: str = "default"
    freeze: str | None = None
    embedding_dim: int | None = None
    teacher: str | None = None
    data: str = DEFAULT
    protocol: str | None = None
    folds: int | None = None
    fold: int = 0
    grey: bool = False
    image_size: int | None = None
    select_by: str = "map"
    changes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        try:
            names = [resolve(loss).name for loss in self.losses]
        except ValueError as error:
            raise StudyError(str(error)) from error
        object.__setattr__(self, "losses", names)
        if not self.losses or len(set(self.losses)) < len(self.losses):
            raise StudyError(f"losses must be named once each; got {list(self.losses)}")
        if self.search not in SEARCHES:
            raise StudyError(f"search must be one of {', '.join(SEARCHES)}; got {self.search!r}")
        if self.precision not in PRECISIONS:
            raise StudyError(f"precision must be in {PRECISIONS}; got {self.precision!r}")
        for name, least in (
            ("num_samples", 1),
            ("max_epochs", 1),
            ("seed", 0),
            ("search_seeds", 1),
        ):
            if getattr(self, name) < least:
                raise StudyError(f"{name} must be >= {least}; got {getattr(self, name)}")
        for name in ("final_seeds", "confirm_seeds"):
            if not 0 <= getattr(self, name) < FRESH:
                raise StudyError(f"{name} must be in [0, {FRESH}); got {getattr(self, name)}")
        last = 2**32 - APART * self.search_seeds  # torch's generators use no more of a seed
        if self.seed >= last:
            law = f"seed must be below 2**32, less {APART} for each search"
            raise StudyError(f"{law}; got {self.seed}")
        if self.confirm_seeds == 1:
            raise StudyError(f"a comparison must have confirm_seeds >= 2; got {self.confirm_seeds}")
        for name in ("confirm_epochs", "reference_epochs"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise StudyError(f"{name} must be >= 1; got {value}")
        if not 0 <= self.references <= self.confirm_seeds:
            law = f"reference_seeds must be 0 to confirm_seeds, {self.confirm_seeds}"
            raise StudyError(f"{law}; got {self.reference_seeds}")
        if self.references * self.search_seeds == 1:
            law = "reference_seeds must be 0, or give at least two runs over all searches"
            raise StudyError(f"{law}; got {self.reference_seeds}")
        if not (math.isfinite(self.cpus_per_trial) and self.cpus_per_trial >= LEAST_SHARE):
            law = f"cpus_per_trial must be >= {LEAST_SHARE}, the least that Ray counts"
            raise StudyError(f"{law}; got {self.cpus_per_trial}")
        share = self.gpus_per_trial
        if share and not (LEAST_SHARE <= share <= 1 or (share > 1 and share % 1 == 0)):
            law = f"gpus_per_trial must be 0, in [{LEAST_SHARE}, 1] or a whole number"
            raise StudyError(f"{law}; got {share}")
        if self.max_concurrent is not None and self.max_concurrent < 1:
            raise StudyError(f"max_concurrent must be >= 1; got {self.max_concurrent}")

        if self.select_by not in METRICS:
            law = f"select_by must be one of {', '.join(METRICS)}"
            raise StudyError(f"{law}; got {self.select_by!r}")
        try:
            LAWS["image_size"]("--size", self.image_size)
            LAWS["embedding_dim"]("embedding_dim", self.embedding_dim)
        except ValueError as error:
            raise StudyError(str(error)) from error
        check_names(self.changes, [knob for loss in self.losses for knob in _whole(loss)])
        check_losses(self.changes, self.losses)
        if self.embedding_dim is not None and "embedding_dim" in self.changes:
            law = (
                "embedding_dim must be given once: --embedding-dim, or a range or value of the knob"
            )
            raise StudyError(f"{law}; got {self.embedding_dim} and {self.changes['embedding_dim']}")
        for loss in self.losses:
            self._check_settings(loss)
            self._check_sum(loss)
            knobs_of(loss, self.space())
        self._check_used()
        for name, value in (
            ("data", placed(self.data)),
            ("network", _from_root(self.network, ".py")),
            ("weights", _from_root(self.weights, "")),
            ("teacher", self.teacher and str(absolute(os.path.expanduser(self.teacher)))),
        ):
            object.__setattr__(self, name, value)
        held_out, judging = tuple(self.holdout_classes), tuple(self.validation_classes)
        if held_out or judging:
            found = data.resolve(self.data, data.Asked(held_out=held_out, judging=judging))
            held_out, judging = found.held_out, found.judging
        object.__setattr__(self, "holdout_classes", list(held_out))
        object.__setattr__(self, "validation_classes", list(judging))

    def _check_settings(self, loss: str) -> None:
        """What the name of a loss fixes is a knob, and nothing else sets it."""
        settings, knobs = resolve(loss).settings, _whole(loss)
        check_names({name: only(value) for name, value in settings.items()}, knobs)
        sets = {knob.name: knob.sets for knob in knobs}
        taken = {sets.get(name, name) for name in of_loss(self.changes, resolve(loss))}
        taken |= set() if self.embedding_dim is None else {"embedding_dim"}
        if self.teacher is None and "teacher_weight" in {*settings, *self.changes}:
            raise StudyError("teacher_weight is set, so there must be a teacher; got none")
        for name in settings:
            if sets.get(name, name) != name:
                raise StudyError(f"{name} is relative, so {loss} must fix {sets[name]}")
            if name in taken:
                raise StudyError(f"{loss} fixes {name}, which the study sets too")

    def _check_used(self) -> None:
        """What is set is used by some configuration: of some loss, or of the one that fixes it."""
        space = self.space()
        searches = {loss: all_knobs(loss, space) for loss in self.losses}
        asked: dict[str, list[str]] = {}
        for loss in self.losses:
            for name in of_loss(self.changes, resolve(loss)):
                asked.setdefault(name, []).append(loss)
        for loss in self.losses:
            asked |= {name: [loss] for name in resolve(loss).settings}
        for name, losses in asked.items():
            sets = {
                loss: [knob for knob in searches[loss] if name in (knob.name, knob.sets)]
                for loss in losses
            }
            where = {other for knobs in sets.values() for knob in knobs for other in knob.where}
            used = [
                self._may_use(knob, searches[loss])
                for loss, knobs in sets.items()
                for knob in knobs
            ]
            if used and not any(used):
                law = f"{name} is set, and no configuration uses it"
                raise StudyError(f"{law}: that depends on {', '.join(sorted(where))}")

    def _may_use(self, knob: Knob, knobs: Sequence[Knob]) -> bool:
        """Whether some choice of the other knobs, or the plan itself, asks for a knob."""
        ranges = {one.sets: one.range or Choice((one.default,)) for one in knobs}
        for name, values in knob.where.items():
            found = ranges.get(name, Choice((self.fixed.get(name),)))
            some = found.values if isinstance(found, Choice) else (found.low, found.high)
            if not any(value in values for value in some):
                return False
        return True

    def _check_sum(self, loss: str) -> None:
        """What the study sets for all is heard by a sum, whose knobs may have other names."""
        knobs = _whole(loss)
        mine = of_loss(self.changes, resolve(loss))
        unheard = set(mine) - {name for knob in knobs for name in (knob.name, knob.sets)}
        for knob in resolve(loss).knobs if "+" in loss else ():
            ends = any(knob.name.endswith(f"_{name}") for name in unheard)
            if ends and knob.name not in mine:
                law = (
                    f"{' and '.join(sorted(unheard))} must be set by the names of a sum's own knobs"
                )
                raise StudyError(f"{law}; {loss} has {knob.name}")

    @property
    def references(self) -> int:
        """On how many seeds a loss's reference is trained, for each search."""
        return self.confirm_seeds if self.reference_seeds is None else self.reference_seeds

    @property
    def metric(self) -> str:
        """The field of an epoch by which trials are stopped and chosen."""
        return f"val_{self.select_by}"

    def space(self, lr: float | None = None, changes: Changes | None = None) -> Space:
        """What is searched, as far as the plan says; the data may leave choices out.

        Args:
            lr: the network's own default of Adam's learning rate; None for the space's.
            changes: that the data asks for; the plan's own come after them.
        """
        own = WIDE if self.wide else SPACE
        own = own if lr is None else own.around(lr)
        if self.embedding_dim is not None:
            own = own.changed({"embedding_dim": {"choices": [self.embedding_dim]}})
        if self.teacher is not None:
            own = own.changed({"teacher_weight": TEACHER_WEIGHT})
        return own.changed(changes or {}).changed(self.changes)

    def seeds(self) -> list[int]:
        """Of the searches, each so far from the next that none of their runs has another's."""
        return [self.seed + APART * n for n in range(self.search_seeds)]

    def rungs(self, images: int) -> tuple[float, ...]:
        """The epochs of each rung, the lowest first; `images` are in an epoch."""
        return ladder.rungs(self.max_epochs, images) if self.early_stopping else (self.max_epochs,)

    def cost(self, rungs: Sequence[float]) -> Cost:
        """What all searches are expected to take."""
        finalists = min(FINALISTS + (not self.from_scratch), self.num_samples)
        one = Cost.expected(self.num_samples, rungs, finalists * self.final_seeds)
        return one.times(len(self.losses))

    @property
    def fixed(self) -> dict[str, Any]:
        """The fields that every trial has alike, by their names in `TrialConfig`."""
        names = ("precision", "network", "weights", "freeze", "teacher")
        return {name: getattr(self, name) for name in names}

    def fields(self) -> dict[str, Any]:
        """As study.json has it; `Plan(**fields)` takes it back."""
        return {**dataclasses.asdict(self), "losses": list(self.losses)}

    def digests(self) -> dict[str, str]:
        """By field, the SHA-256 of each file that its fields name (not of what such a file asks for
        in its turn)."""
        code = self.network.rpartition(":")[0]
        named = {
            "network": code if code.endswith(".py") else "",
            "weights": self.weights,
            "teacher": self.teacher or "",
        }
        found = {}
        for name, path in named.items():
            if os.path.isfile(path):
                with open(path, "rb") as file:
                    found[name] = hashlib.file_digest(file, "sha256").hexdigest()
        return found

    def differences(self, before: Mapping[str, Any]) -> list[str]:
        """Why a study with the plan `before` is not continued by this one; empty if it is."""
        now = self.fields()
        before = Plan(**before).fields()  # fields that came later have their defaults
        found = [
            f"{name} was {before[name]!r}, is {now[name]!r}"
            for name in now
            if name not in (*MAY_CHANGE, *MAY_GROW) and before[name] != now[name]
        ]
        for name in MAY_GROW:
            # Without a final seed the ladder has a rung more, so it is another search.
            if now[name] < before[name] or bool(now[name]) != bool(before[name]):
                found.append(f"{name} was {before[name]}, is {now[name]}")
        return found
