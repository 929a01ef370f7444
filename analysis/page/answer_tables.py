"""The tables of the answer: mAP of every loss, differences, configurations, what each was given."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from analysis.figures.style import listed, loss_name, plural, text, words
from analysis.found.finals import Finals
from analysis.found.knobs import knobs_used, settings
from analysis.found.runs import Results
from analysis.found.sources import Source
from analysis.page.answer import p_text
from analysis.page.tables import Table
from study.judge.significance import ALPHA, MARGIN, POWER
from study.search.space import reference
from trainables.config import TrialConfig


def losses_table(source: Source, results: Results) -> Table:
    """A row a loss and role, the best loss first: its mAP under each protocol."""
    rows = []
    for loss, role in dict.fromkeys((run.loss, run.role) for run in results.runs):
        mine = results.summary[
            (results.summary["loss"] == loss) & (results.summary["role"] == role)
        ].set_index("protocol")
        row = {"loss": loss_name(loss), "configuration": role}
        for name in results.protocols:
            row[f"mAP, {name}"] = f"{mine.loc[name, 'map']:.3f}"
            if not np.isnan(mine.loc[name, "low"]):
                row[f"95 % over seeds, {name}"] = _interval(mine.loc[name], "low", "high")
            if not np.isnan(mine.loc[name, "both_low"]):
                both = _interval(mine.loc[name], "both_low", "both_high")
                row[f"95 % over seeds and classes, {name}"] = both
            row[f"95 % over queries, {name}"] = _interval(mine.loc[name], "query_low", "query_high")
        row["runs"] = str(len(results.of(loss, role)))
        rows.append(row | _validation(source, loss, role))
    for loss in source.study.losses:
        if loss not in results.searches:
            rows.append({"loss": loss_name(loss), "trial": "none that could be chosen"})
    return Table("mAP of each loss", pd.DataFrame(rows).fillna(""))


def differences_table(differences: pd.DataFrame) -> Table | None:
    """A row a protocol and pair; None for a single loss."""
    if differences.empty:
        return None
    rows = []
    for _, row in differences.iterrows():
        first, second = loss_name(row["first"]), loss_name(row["second"])
        tuning = row["role"] == "tuning"
        cells = {
            "protocol": row["protocol"],
            "difference": f"{first} less {second}",
            "configuration": "chosen less reference" if tuning else row["role"],
            "mAP": f"{row['difference']:+.4f}",
        }
        if not np.isnan(row["seed_low"]):
            cells["95 % over seeds"] = _interval(row, "seed_low", "seed_high", sign="+")
        if not np.isnan(row["both_low"]):
            both = _interval(row, "both_low", "both_high", sign="+")
            cells["95 % over seeds and classes"] = both
        cells["95 % over queries"] = _interval(row, "query_low", "query_high", sign="+")
        if not np.isnan(row["p_corrected"]):
            cells["corrected p"] = _p(row["p_corrected"])
            cells[f"p of not within ±{MARGIN}"] = _p(row["equivalence_p"])
            cells["P(first above second)"] = f"{row['superiority']:.2f}"
            cells["smallest that could be shown"] = f"{row['smallest']:.4f}"
        rows.append(cells | {"verdict": row["verdict"]})
    return Table("Differences in mAP", pd.DataFrame(rows).fillna(""))


def configurations_table(configs: Mapping[str, TrialConfig]) -> Table:
    """A row a knob that any configuration uses; by loss the chosen one and the reference."""
    knobs, columns = knobs_used(configs.values()), {}
    for loss, config in configs.items():
        beside = reference(loss, epochs=config.epochs, seed=config.seed, network=config.network)
        for role, one in (("", config), (", reference", beside)):
            if one is not None:
                columns[loss_name(loss) + role] = [text(settings(one).get(knob)) for knob in knobs]
    cells = pd.DataFrame({"knob": [words(knob) for knob in knobs], **columns})
    return Table("The chosen configurations", cells)


def costs_table(finals: Finals) -> Table:
    """A row a loss: what the search and the confirming runs of a comparison took."""
    rows = []
    full = finals.summary[finals.summary["protocol"] == "full"]
    for loss, part in full.groupby("loss", sort=False):
        searched = part[["trials", "epochs", "sweep_seconds"]].sum()
        rows.append(
            {
                "loss": loss_name(loss),
                "trials": f"{searched['trials']:,.0f}",
                "epochs": f"{searched['epochs']:,.0f}",
                "seconds of search": f"{searched['sweep_seconds']:,.0f}",
                "confirming runs": f"{part['runs'].sum():,.0f}",
                "seconds of confirming": f"{part['confirm_seconds'].sum():,.0f}",
            }
        )
    return Table("The budget of each loss", pd.DataFrame(rows))


def rules(source: Source, results: Results) -> list[str]:
    """How the numbers of the answer came about, for a reader who was not there."""
    sizes = "; ".join(f"{name}, {_sizes(results, name)}" for name in results.protocols)
    protocols = (
        f"Protocols: {sizes}; always the first images, each query left out of its own ranking. "
        "The mAP of a protocol is the mean over its queries of the average precision of the full "
        "ranking by squared Euclidean distance."
    )
    if source.finals is None:
        return [
            "Each loss is represented by the trial and epoch of its highest validation mAP. "
            f"These networks are judged here on the {results.described}.",
            protocols,
            "Intervals are Student's t over queries, those of a difference paired by query. They "
            "say how far other queries would move the number, not other training seeds, other "
            "classes or another search; queries share a gallery, so they are too narrow even for "
            "that.",
        ]
    seeds = listed([str(seed) for seed in source.finals.seeds])
    return [
        f"{source.finals.rule} Each choice, and each loss's reference configuration, was then "
        f"trained anew with {plural(len(source.finals.seeds), 'fresh seed')} ({seeds}), and these "
        "runs alone were judged on the test images.",
        protocols,
        "A mAP is the mean over its runs; intervals are Student's t over seeds, over queries "
        "whose AP is averaged over seeds (too narrow, as queries share a gallery), and over seeds "
        "and classes, both random, for who asks about other classes of this kind. A difference is "
        f"shown if its p is below {ALPHA}: the largest of the p over seeds (paired by seed, and "
        "Welch's) and over queries, each corrected for all pairs (Holm). It is equivalent if two "
        f"one-sided tests (TOST, corrected alike) place it within ±{MARGIN}; else it is not "
        "resolved. P(first above second) is over all pairs of their runs; the smallest that could "
        f"be shown is the true difference that this design would show with {100 * POWER:.0f} % "
        "probability.",
    ]


def _validation(source: Source, loss: str, role: str) -> dict[str, str]:
    """The last cells of a row: how the configuration did in validation, and its trial."""
    if source.finals is not None:
        runs = source.finals.runs
        mine = runs[(runs["loss"] == loss) & (runs["role"] == role)]
        trial = source.finals.chosen[loss] if role == "chosen" else "the reference"
        return {"validation mAP": f"{mine['best_val_map'].mean():.3f}", "trial": trial}
    choice = source.study.best()[loss]
    found = {"validation mAP": f"{choice.val_map:.3f}", "epoch": str(choice.epoch)}
    return found | {"trial": choice.trial_id}


def _p(p: float) -> str:
    return p_text(p).removeprefix("p ").removeprefix("= ")


def _interval(row: pd.Series, low: str, high: str, sign: str = "") -> str:
    return f"{row[low]:{sign}.3f} to {row[high]:{sign}.3f}"


def _sizes(results: Results, protocol: str) -> str:
    count, gallery, left_out = results.sizes(protocol)
    note = f" ({left_out:,} without a relevant image left out)" if left_out else ""
    return f"{plural(count, 'query', 'queries')}{note} and a gallery of {gallery:,}"
