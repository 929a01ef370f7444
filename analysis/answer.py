"""The answer: which loss retrieves best, by how much and how sure, as a sentence and a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.evaluation import Evaluation, difference
from analysis.runs import Results, run_table
from analysis.style import COLOURS, ReportFigure, listed, loss_name, plural, render

ROLE_MARKS = {"chosen": "o", "reference": "s"}


class Gap(NamedTuple):
    """By how much one configuration's mAP is above another's, and how sure that is.

    Attributes:
        low, high: 95 %, over seeds if there are several, else over queries.
        p: corrected for the number of pairs; NaN where no test of it was made.
        shown: whether the difference is held to be real.
    """

    difference: float
    low: float
    high: float
    p: float
    shown: bool

    def __str__(self) -> str:
        sure = f"{self.low:.3f} to {self.high:.3f}"
        return f"{self.difference:.3f} ({sure}{'' if np.isnan(self.p) else ', ' + p_text(self.p)})"


def p_text(p: float) -> str:
    """`p = 0.012`, as small as a reader needs it."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def query_differences(evaluations: Mapping[str, Evaluation]) -> pd.DataFrame:
    """A row a protocol and pair of a study's losses, paired by query, as `finals` has them.

    With one run a loss nothing is known over seeds; a difference counts as shown where its
    interval over queries excludes 0.
    """
    rows = []
    for first, second in combinations(evaluations, 2):
        for protocol in evaluations[first].protocols:
            gap, sure = difference(evaluations[first], evaluations[second], protocol)
            row: dict[str, object] = {
                "protocol": protocol,
                "role": "chosen",
                "first": first,
                "second": second,
            }
            row |= {"difference": gap, "query_low": sure.low, "query_high": sure.high}
            rows.append(row | {"shown": sure.low > 0 or sure.high < 0})
    table = pd.DataFrame(rows).assign(seed_low=np.nan, seed_high=np.nan, p_corrected=np.nan)
    return table.sort_values("protocol", kind="stable", ignore_index=True) if rows else table


def gap_between(
    differences: pd.DataFrame, first: str, second: str, role: str = "chosen", protocol: str = "full"
) -> Gap | None:
    """The row of this pair, in whichever order it stands; None if there is none."""
    if differences.empty:
        return None
    mine = differences[(differences["protocol"] == protocol) & (differences["role"] == role)]
    for one, other, sign in ((first, second, 1), (second, first, -1)):
        for _, row in mine[(mine["first"] == one) & (mine["second"] == other)].iterrows():
            over = "query" if np.isnan(row["seed_low"]) else "seed"
            low, high = sorted(sign * row[f"{over}_{end}"] for end in ("low", "high"))
            shown = bool(row["shown"])
            return Gap(sign * row["difference"], low, high, row["p_corrected"], shown)
    return None


def answer(results: Results, differences: pd.DataFrame, losses: Sequence[str]) -> str:
    """One sentence: which loss retrieves best, by how much, and how sure that is.

    Args:
        losses: those that were asked about; of these, the ones without a result are named.
    """
    best, *others = results.losses
    where = f"{results.sizes('full')[1]:,} {results.name}"
    reached = f"mAP {_with_interval(results, best)} on {where}"
    missing = [loss_name(loss) for loss in losses if loss not in results.losses]
    rest = f" There is no result for {listed(missing)}." if missing else ""
    if not others:
        return f"{loss_name(best)} reaches {reached}; no other loss was evaluated.{rest}"
    gaps = {loss: gap_between(differences, best, loss) for loss in others}
    ahead = listed([f"{gap} above {loss_name(loss)}" for loss, gap in gaps.items()])
    nearest = gaps[others[0]]
    if nearest is not None and nearest.shown:
        return f"{loss_name(best)} retrieves best: {reached}, {ahead}.{rest}"
    close = f"{loss_name(best)} and {loss_name(others[0])} cannot be told apart"
    return f"{close}: {loss_name(best)} has {reached}, {ahead}.{rest}"


def tuning_sentence(results: Results, differences: pd.DataFrame) -> str:
    """What tuning gained over each loss's reference; empty where there are no references."""
    parts = []
    for loss in results.losses:
        gap = gap_between(differences, loss, loss, role="tuning")
        if gap is not None:
            doubt = "" if gap.shown else ", not shown"
            parts.append(f"{gap.difference:+.3f} for {loss_name(loss)} ({_range(gap)}{doubt})")
    if not parts:
        return ""
    return (
        f"Against the reference configuration, trained alike, the chosen one changes the mAP "
        f"by {listed(parts)}."
    )


def answer_figure(results: Results) -> ReportFigure:
    """The mAP of every loss with its interval, the references beside it."""
    table = answer_table(results)
    full = table[table["protocol"] == "full"]
    chosen = full[full["role"] == "chosen"].set_index("loss")["map"]
    values = [f"{chosen[loss]:.3f} for {loss_name(loss)}" for loss in results.losses]
    over = "seeds" if table["over"].eq("seeds").any() else "queries"
    caption = (
        f"mAP under the full protocol: {listed(values)} ({results.described}); "
        f"bars are 95 % intervals over {over}"
        f"{', small dots the single runs' if over == 'seeds' else ''}."
    )
    rows = len(full)
    return render(
        "answer",
        partial(draw_answer, table=table, runs=run_table(results), protocols=results.protocols),
        size=(8.6, 1.3 + 0.42 * rows),
        data=table,
        caption=caption,
        alt="mAP of each loss with its 95 % interval, under each protocol.",
    )


def answer_table(results: Results) -> pd.DataFrame:
    """A row a protocol, loss and role: map, low, high, and what the interval is `over`."""
    order = {loss: number for number, loss in enumerate(results.losses)}
    table = results.summary[results.summary["loss"].isin(order)].copy()
    several = table["low"].notna()
    table["low"] = table["low"].where(several, table["query_low"])
    table["high"] = table["high"].where(several, table["query_high"])
    table["over"] = np.where(several, "seeds", "queries")
    table["place"] = table["loss"].map(order)
    table = table.sort_values(["protocol", "place", "role"], ignore_index=True)
    return table[["protocol", "loss", "role", "map", "low", "high", "over", "runs"]]


def draw_answer(
    figure: Figure, table: pd.DataFrame, runs: pd.DataFrame, protocols: Sequence[str]
) -> None:
    """A panel a protocol, a line a loss and role, the best on top."""
    panels = figure.subplots(1, len(protocols), sharey=True, squeeze=False)[0]
    for axes, protocol in zip(panels, protocols, strict=True):
        mine = table[table["protocol"] == protocol].reset_index(drop=True)
        for line, row in mine.iterrows():
            _draw_line(axes, line, row, runs[runs["protocol"] == protocol])
        several = mine["role"].nunique() > 1
        names = [
            loss_name(row.loss) + (f", {row.role}" if several else "") for row in mine.itertuples()
        ]
        axes.set_yticks(range(len(mine)), names)
        axes.set(xlabel="mAP", title=f"{protocol} protocol", ylim=(len(mine) - 0.5, -0.5))
        axes.grid(axis="y", visible=False)
        axes.margins(x=0.12)


def _draw_line(axes: Axes, line: int, row: pd.Series, runs: pd.DataFrame) -> None:
    colour = COLOURS[row["loss"]]
    mine = runs[(runs["loss"] == row["loss"]) & (runs["role"] == row["role"])]
    if len(mine) > 1:
        axes.plot(mine["map"], [line + 0.22] * len(mine), ".", color=colour, ms=5, alpha=0.8)
    face = colour if row["role"] == "chosen" else "white"
    axes.plot([row["low"], row["high"]], [line, line], color=colour, lw=2.2)
    axes.plot(row["map"], line, ROLE_MARKS[row["role"]], color=colour, mfc=face, ms=8)
    label = f"{row['map']:.3f}"
    axes.annotate(label, (row["map"], line), (0, 7), textcoords="offset points", ha="center")


def _with_interval(results: Results, loss: str) -> str:
    summary = results.summary
    mine = (summary["protocol"] == "full") & (summary["role"] == "chosen")
    row = summary[mine & (summary["loss"] == loss)].iloc[0]
    queries = f"{row['query_low']:.3f} to {row['query_high']:.3f}"
    if np.isnan(row["low"]):
        return f"{row['map']:.3f} (95 % interval over queries {queries})"
    over = plural(int(row["runs"]), "seed")
    seeds = f"95 % interval over {over} {row['low']:.3f} to {row['high']:.3f}"
    return f"{row['map']:.3f} ({seeds}, over queries {queries})"


def _range(gap: Gap) -> str:
    return f"{gap.low:+.3f} to {gap.high:+.3f}"
