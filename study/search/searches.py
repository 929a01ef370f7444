"""One search for each loss, all of equal size: what is trained next.

A loss's next trial is a new configuration, until there are as many as asked; then the promotion of
one that rests (`study.search.ladder`); then the best few on fresh seeds. Optuna's storage
is told everything, for its dashboard, and its samplers model the highest rung that has enough
values if they are asked to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol
from zlib import crc32

import optuna
from optuna.storages import BaseStorage

from study.results.trials import (
    GIVEN,
    HAND_SET,
    PROMOTION,
    SELECTION,
    TrialRecord,
    root,
    trial_name,
)
from study.search import ladder
from study.search.draws import evenly, nearby, randomly, seeded
from study.search.mirror import Mirror
from study.search.models import MODELS, enough, modelling
from study.search.space import SPACE, Pick, Space, configured, default, fixed_of, knobs_of
from trainables.config import TrialConfig
from trainables.knobs import Choice

SEARCHES = ("quasi-random", "random", *MODELS)
EVERY = 3  # of so many configurations one is drawn around the defaults, one without a model
LEAST_SHARE = 2  # as many values as knobs, times this, before a rung is modelled


class Source(Protocol):
    """Where a study's trials come from, and who is told what becomes of them."""

    def ask(self) -> TrialRecord | None: ...

    def has_more(self) -> bool: ...

    def report(self, record: TrialRecord) -> None: ...

    def tell(self, record: TrialRecord) -> None: ...


class Listed:
    """Hands out given trials, and needs to be told nothing: what a study without a search runs.

    Args:
        trials: in this order, without those that are among the records already.
        records: the study's trials, which grow by what is handed out.
    """

    def __init__(self, trials: Sequence[TrialRecord], records: list[TrialRecord]) -> None:
        self.records = records
        known = {record.trial_id for record in records}
        self.left = [trial for trial in trials if trial.trial_id not in known]

    def ask(self) -> TrialRecord | None:
        """The next trial to run; None when all have been handed out."""
        if not self.left:
            return None
        self.records.append(self.left.pop(0))
        return self.records[-1]

    def has_more(self) -> bool:
        """Whether trials are left."""
        return bool(self.left)

    def report(self, record: TrialRecord) -> None:
        """No later trial depends on it."""

    def tell(self, record: TrialRecord) -> None:
        """No later trial depends on it."""


class Searches:
    """Asks the search of the loss that has had the fewest epochs, until each has ended.

    What the next trial is depends on the seed and on the records alone: a study that is continued
    goes on as if it had not been interrupted.

    Args:
        configurations: for each loss.
        rungs: the epochs of each, as `ladder.rungs` has them.
        finals: on how many fresh seeds the best few are trained for all epochs; 0: the ladder has
            the last rung too, and its highest value chooses.
        space: what is searched; of the data in use, by `study.search.fitted`.
        metric: the field of an epoch that is to be high.
        from_scratch: without the defaults, which are a prior otherwise: the first configuration, a
            third of the others around them, and one of the finals.
        fixed: of every trial: precision, network, weights and the like.
        records: the study's trials, which grow by what is handed out here.
        storage: Optuna's; it must be empty, and is filled from the records.
    """

    def __init__(
        self,
        losses: Sequence[str],
        *,
        configurations: int,
        rungs: Sequence[float],
        seed: int,
        finals: int = 0,
        kind: str = SEARCHES[0],
        space: Space = SPACE,
        metric: str = "val_map",
        from_scratch: bool = False,
        storage: BaseStorage | None = None,
        records: list[TrialRecord] | None = None,
        **fixed: Any,
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.configurations, self.rungs, self.finals = configurations, tuple(rungs), finals
        self.climbed = ladder.climbed(rungs) if finals else self.rungs
        self.seed, self.kind, self.space, self.metric = seed, kind, space, metric
        self.from_scratch = from_scratch
        self.records = [] if records is None else records
        self.base = {
            loss: default(loss, epochs=rungs[0], seed=seed, space=space, **fixed) for loss in losses
        }
        self.mirror = Mirror(losses, space, metric, rungs[-1], storage)
        for record in sorted(self.records, key=lambda record: record.number):
            self.mirror.add(record)

    def ask(self) -> TrialRecord | None:
        """The next trial to run, which is among the records then; None if there is none now, nor
        ever if none runs."""
        given = {loss: sum(t.config.epochs for t in self.of(loss)) for loss in self.base}
        for loss in sorted(self.base, key=lambda loss: given[loss]):
            record = self._next(loss)
            if record is not None:
                self.records.append(record)
                self.mirror.add(record)
                return record
        return None

    def has_more(self) -> bool:
        """Whether there is a next trial now."""
        return any(self._next(loss) is not None for loss in self.base)

    def of(self, loss: str) -> list[TrialRecord]:
        """The trials of a loss, by number."""
        return [record for record in self.records if record.loss == loss]

    def report(self, record: TrialRecord) -> None:
        """Tells Optuna the last epoch of a trial."""
        self.mirror.report(record)

    def tell(self, record: TrialRecord) -> None:
        """Tells Optuna how a trial ended."""
        self.mirror.tell(record)

    def _next(self, loss: str) -> TrialRecord | None:
        trials = self.of(loss)
        return self._begun(loss, trials) or self._promoted(trials) or self._final(loss, trials)

    def _begun(self, loss: str, trials: Sequence[TrialRecord]) -> TrialRecord | None:
        """The next configuration, at the lowest rung."""
        begun = sum(trial.follows is None for trial in trials)
        if begun >= self.configurations:
            return None
        climbing = [trial for trial in trials if trial.origin != SELECTION]
        config, knobs, origin = self._new(loss, begun, climbing)
        return self._record(len(trials), config, knobs, origin)

    def _promoted(self, trials: Sequence[TrialRecord]) -> TrialRecord | None:
        """The next one that rests, for a rung more."""
        climbing = [trial for trial in trials if trial.origin != SELECTION]
        resting = ladder.promotable(climbing, self.climbed)
        if resting is None:
            return None
        config = resting.config.replace(epochs=ladder.next_rung(resting, self.climbed))
        return self._record(len(trials), config, resting.knobs, PROMOTION, resting.trial_id)

    def _final(self, loss: str, trials: Sequence[TrialRecord]) -> TrialRecord | None:
        """The next run on a fresh seed, when all that climbs has ended: seed by seed, so that each
        has all finalists."""
        climbs = any(not t.has_ended for t in trials if t.origin != SELECTION)
        if climbs or not self.finals:
            return None
        best = ladder.finalists(trials)
        hand_set = [t for t in trials if t.origin == HAND_SET and t.is_sound]
        roots = {root(trial, trials).trial_id for trial in best}
        best += [trial for trial in hand_set if trial.trial_id not in roots]
        had = {(trial.follows, trial.config.seed) for trial in trials if trial.origin == SELECTION}
        for number in range(self.finals):
            seed = self.seed + ladder.FRESH + number
            for trial in best:
                if (trial.trial_id, seed) not in had:
                    config = trial.config.replace(epochs=self.rungs[-1], seed=seed)
                    return self._record(len(trials), config, trial.knobs, SELECTION, trial.trial_id)
        return None

    def _record(
        self,
        number: int,
        config: TrialConfig,
        knobs: Mapping[str, Any],
        origin: str,
        follows: str | None = None,
    ) -> TrialRecord:
        return TrialRecord(
            trial_name(config.loss, number),
            config,
            metric=self.metric,
            knobs=dict(knobs),
            origin=origin,
            follows=follows,
        )

    def _new(
        self, loss: str, number: int, trials: Sequence[TrialRecord]
    ) -> tuple[TrialConfig, dict[str, Any], str]:
        """Configuration `number` of a loss, its knobs, and how it was come by."""
        pick, origin = self._pick(loss, number, trials)
        return (*configured(pick, fixed_of(self.base[loss]), self.space), origin)

    def _pick(self, loss: str, number: int, trials: Sequence[TrialRecord]) -> tuple[Pick, str]:
        place = crc32(loss.encode())  # whatever other losses are beside it
        ranges = [knob.range for knob in knobs_of(loss, self.space)]
        if all(isinstance(one, Choice) and len(one.values) == 1 for one in ranges):
            return (lambda knob: knob.default), GIVEN
        if not self.from_scratch and number == 0:
            return (lambda knob: knob.default), HAND_SET
        if not self.from_scratch and number % EVERY == 1:
            return nearby(loss, self.seed, place, number, space=self.space), "nearby"
        if self.kind == "random":
            return randomly(loss, self.seed, place, number, space=self.space), self.kind
        if self.kind in MODELS and number % EVERY:
            modelled = enough(trials, LEAST_SHARE * len(knobs_of(loss, self.space)))
            if modelled:
                seed = int(seeded(self.seed, place, number).integers(2**31))
                return modelling(self.kind, seed, loss, modelled, self.space), self.kind
        drawn = sum(trial.origin == SEARCHES[0] for trial in trials)  # no point is left out
        return evenly(loss, drawn, self.seed, place, space=self.space), SEARCHES[0]
