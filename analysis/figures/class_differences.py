"""On which classes two losses differ: the pattern behind a difference of their means."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pandas as pd
from matplotlib.figure import Figure

from analysis.figures.style import COLOURS, MANY_CLASSES, ReportFigure, panel_title, render
from analysis.found.words import cut, loss_name, plural

WIDE = 3  # panels side by side
PAIR = ["first", "second"]
PAIRS = 6  # of losses that are shown, those of four: of more the best loss's alone
TOLD = 3  # pairs in the caption
NAMED = 4  # classes that it names for a pair
SHOWN = 20  # classes, where there are many


def class_differences_figure(
    table: pd.DataFrame, best: str, names: Sequence[str], unit: str
) -> ReportFigure | None:
    """From the table `classes` of `finals/`; None where there is no pair of losses.

    Of many classes those on which two of these losses differ most; of many pairs those of the best.

    Args:
        best: loss, by mAP.
        names: of label 0, 1, ...
        unit: over what the intervals are (`Results.unit`).
    """
    if table.empty:
        return None
    named = table.assign(**{"class": [names[label] for label in table["label"]]})
    every, classes, which = named.groupby(PAIR).ngroups, named["class"].nunique(), ""
    shown = named
    if every > PAIRS:
        shown = named[(named[PAIR] == best).any(axis=1)]
        which = f" Of {every} pairs of losses those with {loss_name(best)} are shown."
    pairs = shown.groupby(PAIR, sort=False)
    rows, lines = -(-pairs.ngroups // WIDE), max(1 + _title(*pair).count("\n") for pair, _ in pairs)
    sentences = [sentence for _, pair in pairs if (sentence := pair_sentence(pair))]
    said = "; ".join(sentences[:TOLD])
    if len(sentences) > TOLD:
        said += f"; {plural(len(sentences) - TOLD, 'pair')} more in the figure"
    if classes > MANY_CLASSES:
        most = shown["difference"].abs().groupby(shown["class"]).max()
        extreme = most.sort_values(ascending=False, kind="stable").index[:SHOWN]
        parts = [pair.set_index("class").reindex(extreme).reset_index() for _, pair in pairs]
        shown = pd.concat(parts, ignore_index=True).dropna(subset="difference")
        which += f" Shown are the {SHOWN} of {classes:,} classes on which two losses differ most."
    return render(
        "class_differences",
        partial(draw_class_differences, table=shown),
        size=(
            2.2 + 2.6 * min(WIDE, pairs.ngroups),
            rows * (0.7 + 0.2 * lines + 0.26 * shown["class"].nunique()),
        ),
        data=named,
        caption=f"{said or 'No class'}: where the 95 % interval over {unit} leaves out 0. It is "
        f"not corrected for {pairs.ngroups * classes} comparisons, of which one in twenty would "
        f"leave it out by chance.{which}",
        alt="For each pair of losses, the difference in AP by class with its interval.",
    )


def pair_sentence(pair: pd.DataFrame) -> str:
    """On which classes the first of a pair is above and below, the largest first; or nothing."""
    sure = pair[(pair["seed_low"] > 0) | (pair["seed_high"] < 0)]
    sure = sure.reindex(sure["difference"].abs().sort_values(ascending=False).index).head(NAMED)
    if sure.empty:
        return ""
    first, second = (loss_name(pair[column].iloc[0]) for column in ("first", "second"))
    parts = [f"{row['difference']:+.3f} on {cut(row['class'])}" for _, row in sure.iterrows()]
    return f"{first} less {second} is {', '.join(parts)}"


def _title(first: str, second: str) -> str:
    return f"{panel_title(first)}\n{panel_title(second, 'less ')}"


def draw_class_differences(figure: Figure, table: pd.DataFrame) -> None:
    """A panel a pair, a line a class; right of 0 the first is above."""
    pairs = list(table.groupby(PAIR, sort=False))
    lines = {name: line for line, name in enumerate(table["class"].unique())}
    columns = min(WIDE, len(pairs))
    panels = figure.subplots(
        -(-len(pairs) // columns), columns, sharey=True, sharex=True, squeeze=False
    )
    for axes, ((first, second), pair) in zip(panels.flat, pairs, strict=False):
        for row in pair.rename(columns={"class": "name"}).itertuples():
            line, colour = lines[row.name], COLOURS[first if row.difference > 0 else second]
            axes.plot([row.seed_low, row.seed_high], [line, line], color=colour, lw=2)
            axes.plot(row.difference, line, "o", color=colour, ms=6)
        axes.axvline(0, color="0.3", lw=0.8)
        axes.set_yticks(range(len(lines)), list(map(cut, lines)))
        axes.set_ylim(len(lines) - 0.5, -0.5)
        axes.set(title=_title(first, second), xlabel="difference in AP")
        axes.tick_params(labelbottom=True)  # a figure of many rows is read a row at a time
        axes.grid(axis="y", visible=False)
    for axes in list(panels.flat)[len(pairs) :]:
        axes.set_visible(False)
