"""Configurations drawn without a model: where they lie, and what decides where."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from study.search.draws import SPREAD, evenly, nearby, randomly
from study.search.space import SPACE, WIDE, Pick, Space, knobs_of
from tests.configurations import LOSSES
from trainables.knobs import Choice, Span

DRAWS = (evenly, randomly, nearby)
SPACES = pytest.mark.parametrize("space", [SPACE, WIDE], ids=["core", "wide"])


def values(pick: Pick, loss: str, space: Space = SPACE) -> dict[str, Any]:
    return {knob.name: pick(knob) for knob in knobs_of(loss, space)}


@SPACES
@pytest.mark.parametrize("loss", LOSSES)
def test_any_first_points_fill_the_space_evenly(loss: str, space: Space) -> None:
    """Of 64, each half of each range has 32: so has a Sobol sequence, and no random one."""
    found = [values(evenly(loss, n, 5, space=space), loss, space) for n in range(64)]
    for knob in knobs_of(loss, space):
        mine = [each[knob.name] for each in found]
        if isinstance(knob.range, Span):
            ends = (knob.range.low, knob.range.high)
            middle = stats.gmean(ends) if knob.range.log else np.mean(ends)
            assert sum(value < middle for value in mine) == 32
        elif knob.range is not None and len(knob.range.values) in (2, 4):
            counts = [mine.count(value) for value in knob.range.values]
            assert counts == [64 // len(counts)] * len(counts)


@SPACES
def test_random_ones_are_even_on_the_whole(space: Space) -> None:
    found = [values(randomly("smooth_ap", n, space=space), "smooth_ap", space) for n in range(400)]
    for knob in knobs_of("smooth_ap", space):
        mine = [each[knob.name] for each in found]
        if isinstance(knob.range, Span):
            shares = [knob.range.place(value) for value in mine]
            assert stats.kstest(shares, "uniform").pvalue > 1e-3
        elif knob.range is not None:
            counts = [mine.count(value) for value in knob.range.values]
            assert stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize("loss", LOSSES)
def test_what_is_drawn_nearby_lies_about_the_defaults(loss: str) -> None:
    """As a normal distribution about each default has it, folded at the ends of the range."""
    found = [values(nearby(loss, n), loss) for n in range(400)]
    for knob in knobs_of(loss):
        assert knob.range is not None
        mine, place = [each[knob.name] for each in found], knob.range.place(knob.default)
        assert all(knob.range.holds(value) for value in mine)
        if isinstance(knob.range, Span):
            edges = np.linspace(0, 1, 9)
            counts, _ = np.histogram([knob.range.place(value) for value in mine], edges)
        else:
            edges = np.linspace(0, 1, len(knob.range.values) + 1)
            counts = np.array([mine.count(value) for value in knob.range.values])
        law = stats.norm(place, SPREAD).cdf
        # What lies beyond 0 comes back as its mirror image there, and so at 1.
        expected = 400 * np.diff(law(edges) - law(-edges) - law(2 - edges))
        for count, mean in zip(counts, expected, strict=True):
            low, high = stats.binom(400, mean / 400).interval(0.9999)
            assert low <= count <= high


@pytest.mark.parametrize("default", [1e-3, 1.0])
def test_what_would_leave_a_range_is_folded_back_and_not_heaped_at_its_end(default: float) -> None:
    space = SPACE.changed({"tau": {"range": [1e-3, 1.0], "default": default}})
    (knob,) = [knob for knob in knobs_of("smooth_ap", space) if knob.name == "tau"]
    found = [nearby("smooth_ap", n, space=space)(knob) for n in range(300)]
    away = [abs(np.log(value / default)) / np.log(1e3) for value in found]
    assert stats.kstest(away, stats.halfnorm(scale=SPREAD).cdf).pvalue > 1e-3


@SPACES
@pytest.mark.parametrize("draw", DRAWS)
def test_numbers_alone_decide_what_is_drawn(draw: Callable[..., Pick], space: Space) -> None:
    def drawn(*numbers: int) -> dict[str, Any]:
        return values(draw("triplet", *numbers, space=space), "triplet", space)

    first, again = drawn(7, 5, 0), drawn(7, 5, 0)
    assert first == again
    others = [drawn(8, 5, 0), drawn(7, 6, 0), drawn(7, 5, 1)]
    assert all(other != first for other in others) and others[0] != others[1]


def test_a_knob_is_drawn_as_it_is_whatever_is_asked_before_it() -> None:
    knobs = knobs_of("smooth_ap", WIDE)
    for draw in DRAWS:
        one, other = (draw("smooth_ap", 3, 5, space=WIDE) for _ in range(2))
        forth = {knob.name: one(knob) for knob in knobs}
        back = {knob.name: other(knob) for knob in reversed(knobs)}
        assert forth == back


@pytest.mark.parametrize("ends", [[1.00001, 1.00002], [0.12345, 9.87654], [1e-5, 1.00004]])
@pytest.mark.parametrize("draw", DRAWS)
def test_what_is_drawn_lies_in_a_range_of_many_digits(
    draw: Callable[..., Pick], ends: list[float]
) -> None:
    """Though it is written with four of them."""
    space = SPACE.changed({"tau": {"range": ends}})
    (knob,) = [knob for knob in knobs_of("smooth_ap", space) if knob.name == "tau"]
    assert isinstance(knob.range, Span)
    for number in range(60):
        assert ends[0] <= draw("smooth_ap", number, 5, space=space)(knob) <= ends[1]


def shares(most: float = 1.0) -> st.SearchStrategy[float]:
    return st.floats(0, most, exclude_max=True)


@settings(deadline=None)
@given(st.integers(1, 12), shares())
def test_a_place_among_choices_and_its_value_are_the_same(count: int, share: float) -> None:
    names = Choice(tuple(f"choice {number}" for number in range(count)))
    value = names.at(share)
    place = names.place(value)
    assert names.at(place) == value
    assert abs(place - share) <= 0.5 / count + 1e-9  # the middle of its part
    assert [names.at((n + 0.5) / count) for n in range(count)] == list(names.values)


@settings(deadline=None)
@given(st.floats(1e-6, 1e3), st.floats(1.01, 1e6), shares(), st.booleans())
def test_a_place_in_a_span_and_its_value_are_the_same(
    low: float, ratio: float, share: float, log: bool
) -> None:
    """But for what four digits leave out: a half of the fourth, which is at most 1 in 2,000."""
    span = Span(low, ratio * low, log)
    value = span.at(share)
    assert span.low <= value <= span.high
    assert float(f"{value:.4g}") == value or value in (span.low, span.high)
    width = np.log(ratio) if log else (span.high - span.low) / value
    assert abs(span.place(value) - share) <= 5.1e-4 / width
    assert (span.place(span.low), span.place(span.high)) == (0, pytest.approx(1))
