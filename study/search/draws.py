"""Configurations drawn without a model: at random, quasi-randomly, or around the defaults."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.stats import qmc

from study.search.space import SPACE, Pick, Space, knobs_of
from trainables.knobs import Knob

SPREAD = 0.15  # of a range: the standard deviation of what is drawn around the defaults


def seeded(*numbers: int) -> np.random.Generator:
    """A stream of its own for each tuple of numbers."""
    return np.random.default_rng(np.random.SeedSequence(numbers))


def evenly(loss: str, number: int, *seeds: int, space: Space = SPACE) -> Pick:
    """Point `number` of a scrambled Sobol sequence (Owen 1998), a coordinate a knob: any first
    points of it fill the space more evenly than random ones."""
    knobs = knobs_of(loss, space)
    sobol = qmc.Sobol(len(knobs), scramble=True, rng=seeded(*seeds))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that so many are no power of 2
        point = sobol.random(number + 1)[-1]
    return _at({knob.name: share for knob, share in zip(knobs, point, strict=True)})


def randomly(loss: str, *seeds: int, space: Space = SPACE) -> Pick:
    """Each knob evenly over its range, independently."""
    knobs = knobs_of(loss, space)
    shares = seeded(*seeds).random(len(knobs))
    return _at({knob.name: share for knob, share in zip(knobs, shares, strict=True)})


def nearby(loss: str, *seeds: int, space: Space = SPACE) -> Pick:
    """Around the defaults, which are a prior: each knob from a normal distribution about its own
    (Mallik et al., PriorBand, NeurIPS 2023), what leaves the range being folded back into it."""
    knobs = knobs_of(loss, space)
    places = np.array([knob.range.place(knob.default) for knob in knobs if knob.range])
    moved = places + SPREAD * seeded(*seeds).standard_normal(len(knobs))
    folded = 1 - np.abs(1 - np.abs(moved) % 2)
    return _at({knob.name: share for knob, share in zip(knobs, folded, strict=True)})


def _at(shares: Mapping[str, float]) -> Pick:
    below = np.nextafter(1.0, 0.0)

    def pick(knob: Knob) -> Any:
        assert knob.range is not None
        return knob.range.at(float(min(shares[knob.name], below)))

    return pick
