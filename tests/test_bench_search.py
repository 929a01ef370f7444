"""The replay of searches on curves, on curves whose answer is known; and the recorded ones."""

from __future__ import annotations

import inspect
import itertools
import json
import statistics
from collections.abc import Callable
from statistics import fmean
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest

from study.search.space import SPACE, configured, knobs_of
from tests.benchmarks import bench_from_scratch as real
from tests.benchmarks import bench_search as bench
from tests.benchmarks.record_curves import CURVES, LOSSES, RUNGS, WIDER, configuration

COUNT = 30
PAGE = " ".join((CURVES.parent / "README.md").read_text(encoding="utf-8").split())


def lines(missing: int | None = None) -> list[dict[str, Any]]:
    """Configuration n has the value n / 100 after all epochs, and rungs that rank as that does."""
    return [
        {
            "configuration": number,
            "schedule": "complete",
            "epochs": rung,
            "map": number / 100 * (0.5 + 0.1 * step),
            "core_seconds": 10 * rung,
            "knobs": configuration("smooth_ap", number)[1],
        }
        for number in range(COUNT)
        for step, rung in enumerate(RUNGS, start=1)
        if (number, step) != (missing, 3)
    ]


def curves(missing: int | None = None) -> bench.Curves:
    return bench.Curves("smooth_ap", lines(missing))


@pytest.mark.parametrize("kind", ["random", "tpe"])
def test_promotion_finds_the_best_where_rungs_rank_as_the_end_does(kind: str) -> None:
    table = curves()
    seen = list(bench.promoting(table, 0, kind, configurations=COUNT))
    assert seen[-1].found == pytest.approx((COUNT - 1) / 100)
    halved = 30 * RUNGS[0] + 10 * RUNGS[1] + 3 * RUNGS[2] + RUNGS[3]
    # And the choice's own end, which no rung has seen.
    assert seen[-1].epochs == pytest.approx(halved + RUNGS[-1])
    assert seen[-1].core_seconds == pytest.approx(10 * seen[-1].epochs)
    assert [one.epochs for one in seen] == sorted(one.epochs for one in seen)


def test_promoted_at_once_costs_more_and_finds_as_much() -> None:
    at_once = list(bench.promoting(curves(), 0, configurations=COUNT, search=bench.AtOnce))
    in_order = list(bench.promoting(curves(), 0, configurations=COUNT))
    assert at_once[-1].epochs > in_order[-1].epochs
    assert at_once[-1].found == in_order[-1].found
    # After three configurations one of them is promoted, before a fourth begins.
    lowest = [round((one.epochs - RUNGS[-1]) / RUNGS[0]) for one in at_once[:5]]
    assert lowest == [1, 2, 3, 6, 7]


def test_without_rungs_each_costs_all_epochs() -> None:
    seen = list(bench.whole(curves(), 0, configurations=COUNT))
    assert seen[-1] == pytest.approx((COUNT * 90, COUNT * 9, (COUNT - 1) / 100))


def test_stopping_lets_the_first_go_on_and_compares_with_what_came_before() -> None:
    table = curves()
    seen = list(bench.stopping(table, 3, "random", COUNT))
    order = np.random.default_rng(3)
    free = np.ones(COUNT, bool)
    reached: list[float] = []
    first = None
    for _ in range(COUNT):
        taken = int(order.choice(np.flatnonzero(free)))
        free[taken] = False
        reached.append(float(table.values[taken, 2]))
        first = taken if first is None else first
    assert seen[0].epochs == 9 and first is not None
    assert seen[0].found == pytest.approx(first / 100)
    cheap = sum(b.epochs - a.epochs == 1 for a, b in itertools.pairwise(seen))
    stopped = sum(
        value < np.percentile(reached[: n + 1], 100 * 2 / 3) for n, value in enumerate(reached)
    )
    assert cheap == stopped > 0


def test_a_plain_script_finds_the_same_in_its_own_ranges_at_its_own_cost() -> None:
    table = curves()
    table.__dict__["wider"] = curves()
    default = inspect.signature(optuna.samplers.TPESampler).parameters["n_startup_trials"].default
    ours = list(bench.stopping(table.wider, 0, "tpe", 24, startup=default))
    theirs = list(bench.plain(table, 0))
    assert [(one.found, one.epochs) for one in theirs] == [(one.found, one.epochs) for one in ours]
    assert all(one.core_seconds == pytest.approx(bench.PLAIN * one.epochs) for one in theirs)


def test_a_value_that_is_missing_is_filled_in_from_the_others() -> None:
    table = curves(missing=17)
    assert table.filled == pytest.approx(1 / (COUNT * len(RUNGS)))
    assert table.values[17, 2] == pytest.approx(0.17 * 0.8)
    assert table.costs[17, 2] == pytest.approx(10)


def test_curves_of_before_have_no_lower_rungs_and_knobs_that_not_all_use() -> None:
    found = [
        {**line, "knobs": configuration("smooth_ap", line["configuration"], bench.BEFORE)[1]}
        for line in lines()
        if line["epochs"] >= 1 and (line["epochs"] == 1 or line["configuration"] % 3 == 2)
    ]
    table = bench.Curves("smooth_ap", found, bench.BEFORE)
    assert table.lowest == 2 and table.filled == pytest.approx(2 * 2 / 3 / 3)
    assert np.isnan(table.values[:, :2]).all()
    np.testing.assert_allclose(table.values[:, -1], np.arange(COUNT) / 100)
    used = ["momentum" in knobs for knobs in table.knobs]
    assert 0 < sum(used) < COUNT
    momentum = [k.name for k in knobs_of("smooth_ap", bench.BEFORE)].index("momentum")
    assert {table.places[n][momentum] for n in range(COUNT) if not used[n]} == {0.5}
    seen = list(bench.stopping(table, 0, "random", 24))
    assert max(one.found for one in seen) == seen[-1].found > 0


def best(rung: float, fits: Callable[[dict[str, Any]], bool]) -> float:
    """The highest value of the first recording at a rung, of the knobs that fit."""
    found = map(json.loads, (CURVES / "smooth_ap-wider.jsonl").read_text().splitlines())
    return max(
        line["map"]
        for line in found
        if line["schedule"] == "complete" and line["epochs"] == rung and fits(line["knobs"])
    )


def test_what_is_said_of_the_space_is_what_was_recorded() -> None:
    kinds: dict[str, Callable[[dict[str, Any]], bool]] = {
        "all images are anchors": lambda knobs: knobs["anchors"] == "all",
        "ten anchors": lambda knobs: knobs["anchors"] == 10,
        "τ up to 0.1": lambda knobs: knobs["tau"] <= 0.1,
        "τ above 0.1": lambda knobs: knobs["tau"] > 0.1,
    }
    sizes = (64, 128, 256, 512, 1024)
    for size in sizes:
        kinds[f"batch of {size:,}"] = lambda knobs, size=size: knobs["batch_size"] == size
    table = {kind: [best(rung, fits) for rung in RUNGS] for kind, fits in kinds.items()}
    for kind, values in table.items():
        assert f"| {kind} | {' | '.join(f'{value:.4f}' for value in values)} |" in PAGE
    every, ten, low, high = map(np.array, list(table.values())[:4])
    assert (every > ten).all() and (low > high).all()
    assert (every - ten)[:3].round(2).tolist() == [0.04, 0.04, 0.05]
    assert (low - high)[:3].round(2).tolist() == [0.03, 0.02, 0.04]
    by_size = np.array([table[f"batch of {size:,}"] for size in sizes])
    assert by_size[:, 0].argmax() == 0 and (by_size.argmax(0)[[3, 4]] != 0).all()
    assert (by_size.argmin(0) == 4).all()
    assert np.ptp(by_size[1:4, 4]) < 0.005  # of 128, 256 and 512 at nine epochs


def test_the_pages_correlations_and_replays_are_those_of_the_curves() -> None:
    for row in bench.correlations("smooth_ap"):
        assert row in PAGE
    cells = bench.correlations("smooth_ap-wider")[2].split("|")[3:7]
    first = [cell.split()[0] for cell in cells]
    said = f"first recording's dozen ({', '.join(first[:3])} and {first[3]} with nine epochs)"
    assert said in PAGE
    recorded = bench.Curves.load("smooth_ap")
    assert f"{recorded.filled:.0%}".replace("%", " %") + " of the values are filled in" in PAGE
    highest = float(recorded.values[:, -1].max())
    for name in (*list(bench.ROWS)[:2], bench.SCRIPT, bench.TODAY):
        replays = [list(bench.ROWS[name](recorded, seed)) for seed in range(100)]
        assert bench.row(name, replays, highest, 0.845) in PAGE


def test_the_short_table_of_every_loss_is_that_of_the_curves() -> None:
    for line in bench.of_each(100):
        assert line in PAGE
    alone = real.choices(pd.read_csv(real.KEPT)).set_index(["loss", "space"])["chosen"]
    for loss in set(bench.TARGETS) - {"smooth_ap"}:
        by_hand = alone[loss, "hand-set defaults, half of a run warms up"]
        assert bench.TARGETS[loss] == pytest.approx(by_hand - 0.005, abs=5e-5)
        lines = [x for x in bench._lines(loss) if x["schedule"] == "complete"]
        recorded = [sum(line["epochs"] == rung for line in lines) for rung in RUNGS]
        assert recorded[:2] == [200, 200]
        said = "{} at one epoch, {} at three and {} at nine".format(*recorded[2:])
        assert f"but the promising ones alone were taken further: {said}" in PAGE
        filled = bench.Curves.load(loss).filled
        assert f"so that {filled:.0%}".replace("%", " %") + " of their values are filled in" in PAGE
        assert {x["processor"] for x in lines} == {
            x["processor"] for x in bench._lines("smooth_ap")
        }


def test_what_promotion_is_said_to_save_is_in_the_short_tables_rows() -> None:
    rows = PAGE.split("**smooth_ap**: ")[1].split("|")
    names = (bench.STOPPING, bench.WHOLE, bench.TODAY)

    def of(loss: str, column: int) -> list[str]:
        """What the rows of a loss have: beside its name 9 columns, each row as wide."""
        start = next(n for n, cell in enumerate(rows) if f"**{loss}**" in cell)
        part = [cell.strip() for cell in rows[start : start + 45]]
        return [part[part.index(name) + column] for name in names]

    fewer = "{:.1f} times fewer core-seconds to the target than stopping ASHA with TPE and"
    for loss, said in (
        ("triplet", f"for triplet it takes {fewer} {{:.1f}} times fewer than whole runs"),
        ("cross_entropy", "for linear cross-entropy {:.1f} and {:.1f} times fewer"),
    ):
        stopping, whole, ours = map(float, of(loss, 7))
        assert said.format(stopping / ours, whole / ours) in PAGE
    stopping, whole, ours = (cell.replace("%", " %") for cell in of("normalized_softmax", 5))
    assert f"{ours} of its replays do beside {stopping} and {whole}." in PAGE
    assert "where 2 % of the configurations" in PAGE and "0.8563, 2% of 200" in PAGE


def test_what_the_page_says_of_the_recordings() -> None:
    def count(lines: list[dict[str, Any]], rung: float) -> int:
        return sum(x["schedule"] == "complete" and x["epochs"] == rung for x in lines)

    recorded, before = (list(bench._lines(f"smooth_ap{kind}")) for kind in ("", "-before"))
    lowest, low, one, three, nine = (count(recorded, rung) for rung in RUNGS)
    assert lowest == low
    said = f"{low} quasi-random configurations at 1/9 and 1/3 of an epoch, {one} at one, {three} at"
    assert f"{said} three and {nine} at nine" in PAGE
    one, three, nine = (count(before, rung) for rung in RUNGS[2:])
    assert f"{one} configurations of all knobs of before" in PAGE
    assert f"{three} of them at three epochs and {nine} at nine" in PAGE
    cells = [cell.split()[0] for cell in bench.queries("smooth_ap")[0].strip("| ").split("|")]
    assert f"does: {cells[0]} at 1/9, {cells[1]} at 1/3, {cells[2]} at one epoch" in PAGE
    rows = [[x.strip() for x in row.split("|")] for row in bench.correlations("smooth_ap")]
    of = {(row[1], row[2]): row for row in rows}
    third = [of[schedule, "3"][4].split()[0] for schedule in ("complete", "whole")]
    assert f"{third[0]} and {third[1]} are not told apart" in PAGE
    ends = {schedule: float(of[schedule, "3"][-2]) for schedule in ("averaged", "whole", "stable")}
    assert max(ends, key=lambda schedule: ends[schedule]) == "whole"  # "no higher value"
    # Fisher's z of the two correlations: 1.96 standard errors apart would be told apart.
    z = np.diff(np.arctanh([float(rho) for rho in third]))[0]
    assert abs(z) < 1.96 * (2 / (12 - 3)) ** 0.5
    assert f"{bench.PLAIN} core-seconds an epoch here" in PAGE


def test_how_many_times_fewer_is_said_of_the_pages_own_rows() -> None:
    cells = {name: PAGE.split(f"| {name} |")[1].split("|") for name in bench.ROWS if name in PAGE}
    ours, before, plain = (cells[n] for n in (bench.TODAY, bench.OF_BEFORE, bench.SCRIPT))
    core, epochs = (float(before[k]) / float(ours[k]) for k in (6, 5))
    said = f"{core:.1f} times fewer core-seconds and {epochs:.1f} times fewer epochs than in the"
    assert f"0.845 takes {said} search before" in PAGE
    assert f"comes to it in {before[4].strip().replace('%', ' %')} of its replays" in PAGE
    core = float(plain[6]) / float(ours[6])
    assert f"{core:.1f} times fewer core-seconds than a plain script" in PAGE
    share = float((bench.Curves.load("smooth_ap").values[:, -1] >= 0.845).mean())
    assert f"{share:.0%}".replace("%", " %") + " of today's configurations" in PAGE


def test_a_search_chooses_among_those_that_have_had_the_most_seeds() -> None:
    runs = [("a", 0.5), ("a", 0.7), ("b", 0.9), ("c", 0.5), ("c", 0.6)]
    fields = {"loss": "l", "space": "s", "search": 0, "origin": "final", "epochs": 1, "seconds": 1}
    trials = pd.DataFrame([{**fields, "follows": name, "map": score} for name, score in runs])
    assert real.choices(trials)["chosen"].tolist() == [pytest.approx(0.6)]


def test_the_pages_real_searches_are_those_that_are_kept() -> None:
    trials = pd.read_csv(real.KEPT)
    finals: dict[tuple[Any, ...], dict[str, list[float]]] = {}
    for row in trials.to_dict("records"):
        search = (row["loss"], row["space"], row["search"])
        if row["origin"] == "final":
            finals.setdefault(search, {}).setdefault(row["follows"], []).append(row["map"])
    chosen = {key: max(fmean(runs) for runs in each.values()) for key, each in finals.items()}
    found = real.choices(trials)
    keys = zip(found["loss"], found["space"], found["search"], strict=True)
    assert dict(zip(keys, found["chosen"], strict=True)) == pytest.approx(chosen)
    for (loss, space), each in found.groupby(["loss", "space"]):
        values = [f"{row.chosen:.4f}" for row in each.sort_values("search").itertuples()]
        seeds = ", ".join(str(seed) for seed in sorted(each["search"]))
        middle = f"{statistics.median(each['chosen']):.4f}" if len(values) > 1 else ""
        row = f"| {loss} | {space} | {seeds} | {', '.join(values)} | {middle} |"
        assert " ".join(row.split()) in PAGE
    least = found.loc[~found["space"].str.startswith("hand-set"), "seconds"].min()
    assert f"90 epochs each; {least:,.0f} core-seconds where least else ran" in PAGE
    mine = found[found["loss"] == "smooth_ap"]
    by_space = mine.set_index(["space", "search"])["chosen"]
    gains = [
        by_space["batches of 256", seed] - by_space["batches of 128 to 512", seed]
        for seed in (0, 2)
    ]
    assert (
        f"seeds, 0 and 2, chose values that are higher by {gains[0]:.4f} and {gains[1]:.4f}" in PAGE
    )
    alone = found.set_index(["loss", "space", "search"])["chosen"].sort_index()
    hand_set, searched = "hand-set defaults", "batches of 256"
    later = ", half of a run warms up"
    for loss, name in (
        ("triplet", "triplet"),
        ("normalized_softmax", "normalised softmax"),
        ("cross_entropy", "linear cross-entropy"),
    ):
        pairs = [
            f"{alone[loss, searched + warm, 0]:.4f} beside {alone[loss, hand_set + warm, 0]:.4f}"
            for warm in (later, "")
        ]
        assert f"{name} {pairs[0]} (before {pairs[1]})" in PAGE
    ours = alone.loc["smooth_ap", searched + later]
    least, beside = ours.min(), alone["smooth_ap", hand_set + later, 0]
    said = f"{statistics.median(ours):.4f} in the median of five, {least:.4f} at least"
    median = statistics.median(alone.loc["smooth_ap", searched])
    before = f"{median:.4f} in the median, on two processors, beside"
    usual = alone["smooth_ap", hand_set, 0]
    assert f"Smooth-AP {said}, beside {beside:.4f} (before {before} {usual:.4f})" in PAGE
    promoted = {
        space: real.promoted(trials[trials["space"] == space]) for space in trials["space"].unique()
    }
    for table in promoted.values():
        for size, row in table.iterrows() if len(table) > 1 else ():
            assert f"| {size:,} | {' | '.join(map(str, row))} |" in PAGE


RECORDED = {path.stem: path for path in sorted(CURVES.glob("*.jsonl"))}


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_configurations_are_those_that_the_space_draws_today(name: str) -> None:
    """Else what is replayed is a search of another space."""
    loss, _, kind = name.partition("-")
    space = {"": bench.RECORDED, "before": bench.BEFORE, "wider": SPACE.changed(WIDER)}[kind]
    assert "smooth_ap" in RECORDED and loss in LOSSES
    found = [json.loads(line) for line in RECORDED[name].read_text().splitlines()]
    assert found
    whole = [line for line in found if line["schedule"] == "complete"]
    for line in whole:
        config, knobs = configuration(loss, line["configuration"], space)
        assert line["knobs"] == knobs
        fixed = {"loss": loss, "epochs": config.epochs, "seed": config.seed}
        again = configured(lambda knob, knobs=knobs: knobs[knob.name], fixed, space)[0]
        assert again == config
        assert 0 <= line["map"] <= 1
    places = [(x["configuration"], x["epochs"], x["schedule"], x.get("end")) for x in found]
    assert len(set(places)) == len(places)
