"""The answer: which loss retrieves best, by how much and how sure, as a sentence and a figure."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.figures.style import COLOURS, ReportFigure, draw_mean, name_lines, render
from analysis.found.runs import Results, run_table
from analysis.found.sources import Source
from analysis.found.words import capital, listed, loss_name, plural
from study.judge.significance import POWER
from trainables.config import reference

ROLE_MARKS = {"chosen": "o", "reference": "s"}


class Gap(NamedTuple):
    """By how much one configuration's mAP is above another's, and how sure that is.

    Attributes:
        low, high: 95 %, over seeds or searches if there are several, else over queries.
        p: corrected for the number of pairs; NaN where no test of it was made.
        verdict: `shown`, `equivalent` or `not resolved`.
        smallest: the true difference that the design would have shown with 80 % power; NaN where
            it could have shown none.
    """

    difference: float
    low: float
    high: float
    p: float
    verdict: str
    smallest: float

    @property
    def shown(self) -> bool:
        return self.verdict == "shown"

    def __str__(self) -> str:
        said = f"{self.difference:+.3f} ({_range(self)}"
        return f"{said}{'' if np.isnan(self.p) else ', ' + p_text(self.p)}; {self.verdict})"


def p_text(p: float) -> str:
    """`p = 0.012`, as small as a reader needs it."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def gap_between(differences: pd.DataFrame, first: str, second: str, protocol: str) -> Gap | None:
    """The row of this pair of choices, in whichever order it stands; None if there is none."""
    mine = differences[(differences["protocol"] == protocol) & (differences["role"] == "chosen")]
    for one, other, sign in ((first, second, 1), (second, first, -1)):
        for _, row in mine[(mine["first"] == one) & (mine["second"] == other)].iterrows():
            return _gap(row, sign)
    return None


def answer_of(source: Source) -> str:
    """The answer of a study, or why it has none."""
    if source.results is not None:
        return answer(source.results, source.differences, source.study.losses)
    trials = plural(len(source.study.trials), "trial")
    return f"No loss can be judged: of {trials}, none has an epoch that could be chosen."


def warning_of(source: Source) -> str:
    """Why the numbers are not those of a test; empty if they are."""
    if source.provisional:
        state = f"the study is {source.provisional}"
        return f"Validation images, not test; {state}: all numbers are provisional."
    if source.results is not None and source.results.note:
        return (
            "Validation images, not test: each configuration and its epoch were chosen on these "
            "images, which flatters them."
        )
    return ""


def answer(results: Results, differences: pd.DataFrame, searches: Sequence[str]) -> str:
    """What could not have been shown; then which loss retrieves best, by how much, how surely.

    Args:
        searches: the losses that were asked about; those without a result are named.
    """
    best, *others = results.losses
    where = f"{len(results.labels):,} {results.name}"
    reached = f"mAP {_with_interval(results, best)} on {where}"
    missing = [loss_name(loss) for loss in searches if loss not in results.searches]
    rest = f" There is no result for {listed(missing)}." if missing else ""
    if not others:
        return f"{capital(loss_name(best))} reaches {reached}; no other loss was evaluated.{rest}"
    gaps = {loss: gap_between(differences, best, loss, results.first) for loss in others}
    ahead = listed([f"{gap} above {loss_name(loss)}" for loss, gap in gaps.items()])
    ahead_of_all = all(gap is not None and gap.shown for gap in gaps.values())
    said = "retrieves best" if ahead_of_all else "comes out highest"
    winner = capital(loss_name(best))
    return f"{power_sentence(results, differences)} {winner} {said}: {reached}, {ahead}.{rest}"


def power_sentence(results: Results, differences: pd.DataFrame) -> str:
    """What the design could not have shown: said before what it showed."""
    mine = differences[differences["protocol"] == results.first]
    mine = mine[mine["role"] == "chosen"]
    counts = [len(results.units(loss)) for loss in results.losses]
    least, most = min(counts), max(counts)
    many = f"{least} to {results.counted(most)}" if least < most else results.counted(most)
    if mine["smallest"].isna().all():
        return (
            f"With {many} for each loss, a difference between two losses cannot be "
            "told from the luck of a training seed."
        )
    there_are = mine["smallest"][mine["smallest"] <= 1]  # a mAP is no more; NaN: none at all
    beyond = len(mine) - len(there_are)
    if there_are.empty:
        return f"With {many} for each loss, no possible difference would be shown."
    low, high = f"{there_are.min():.3f}", f"{there_are.max():.3f}"
    bound = low if low == high else f"{low} to {high}, by pair,"
    rest = f"; between {plural(beyond, 'pair')} none could be shown" if beyond else ""
    return (
        f"With {many} for each loss, only true differences in mAP of at least "
        f"{bound} would be shown with {100 * POWER:.0f} % probability{rest}."
    )


def tuning_sentence(results: Results, differences: pd.DataFrame) -> str:
    """What was gained over each loss's reference; empty where there are no references."""
    tuned = differences[differences["protocol"] == results.first]
    tuned = tuned[tuned["role"] == "tuning"]
    parts = []
    for _, row in tuned.iterrows():
        gap = _gap(row, 1)
        doubt = "" if gap.shown else f", {gap.verdict}"
        of = loss_name(row["first"])
        beside = "" if row["second"] == row["first"] else f" beside {loss_name(row['second'])}"
        parts.append(f"{gap.difference:+.3f} for {of}{beside} ({_range(gap)}{doubt})")
    if not parts:
        return ""
    summary = results.summary[results.summary["role"] == "reference"]
    epochs = int(summary["confirm_epochs"].max())
    asked = max(found.epochs for loss in summary["loss"] if (found := reference(loss)))
    trained = plural(epochs, "epoch") + (f" of its {asked}" if epochs < asked else "")
    return (
        f"Against the reference configuration, trained for {trained}, the chosen one changes the "
        f"mAP by {listed(parts)}."
    )


def answer_figure(results: Results) -> ReportFigure:
    """The mAP of every loss with its interval, the references beside it."""
    table = answer_table(results)
    first = table[table["protocol"] == results.first]
    chosen = first[first["role"] == "chosen"].set_index("loss")["map"]
    values = [f"{chosen[loss]:.3f} for {loss_name(loss)}" for loss in results.losses]
    over = results.unit if table["over"].eq(results.unit).any() else "queries"
    caption = (
        f"mAP{results.under}: {listed(values)} ({results.described}); "
        f"bars are 95 % intervals over {over}"
        f"{', small dots the single runs' if over != 'queries' else ''}."
    )
    protocols = ", under each protocol" if len(results.protocols) > 1 else ""
    return render(
        "answer",
        partial(draw_answer, table=table, runs=run_table(results), protocols=results.protocols),
        size=(8.6, 1.3 + 0.42 * len(first)),
        data=table,
        caption=caption,
        alt=f"mAP of each loss with its 95 % interval{protocols}.",
    )


def answer_table(results: Results) -> pd.DataFrame:
    """A row a protocol, loss and role: map, low, high, and what the interval is `over`."""
    losses = dict.fromkeys([*results.losses, *(run.loss for run in results.runs)])
    order = {loss: number for number, loss in enumerate(losses)}
    table = results.summary[results.summary["loss"].isin(order)].copy()
    several = table["low"].notna()
    table["low"] = table["low"].where(several, table["query_low"])
    table["high"] = table["high"].where(several, table["query_high"])
    table["over"] = np.where(several, results.unit, "queries")
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
        several, names = mine["role"].nunique() > 1, []
        single = runs[runs["protocol"] == protocol]
        for line, row in enumerate(mine.itertuples()):
            same = (single["loss"] == row.loss) & (single["role"] == row.role)
            draw_mean(
                axes,
                line,
                row.map,
                (row.low, row.high),
                COLOURS[row.loss],
                singles=single.loc[same, "map"].tolist(),
                mark=ROLE_MARKS[row.role],
                full=row.role == "chosen",
            )
            names.append(loss_name(row.loss) + (f", {row.role}" if several else ""))
        name_lines(axes, names, "mAP")
        if len(protocols) > 1:
            axes.set_title(f"{protocol} protocol")


def _with_interval(results: Results, loss: str) -> str:
    summary = results.summary
    mine = (summary["protocol"] == results.first) & (summary["role"] == "chosen")
    row = summary[mine & (summary["loss"] == loss)].iloc[0]
    if np.isnan(row["low"]):
        queries = f"{row['query_low']:.3f} to {row['query_high']:.3f}"
        return f"{row['map']:.3f} (95 % interval over queries {queries})"
    over = results.counted(len(results.units(loss)))
    alone = f"95 % interval over {over} {row['low']:.3f} to {row['high']:.3f}"
    both = f"over {results.unit} and classes {row['both_low']:.3f} to {row['both_high']:.3f}"
    return f"{row['map']:.3f} ({alone}, {both})"


def _gap(row: pd.Series, sign: int) -> Gap:
    over = "query" if np.isnan(row["seed_low"]) else "seed"
    low, high = sorted(sign * row[f"{over}_{end}"] for end in ("low", "high"))
    rest = row["p_corrected"], row["verdict"], row["smallest"]
    return Gap(sign * row["difference"], low, high, *rest)


def _range(gap: Gap) -> str:
    return f"{gap.low:+.3f} to {gap.high:+.3f}"
