"""The tables of the answer: mAP of every loss, differences, configurations, what each was given."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from analysis.answer import p_text
from analysis.finals import Finals
from analysis.runs import Results
from analysis.sources import Source
from analysis.style import listed, loss_name, plural, text, words
from analysis.tables import Table
from study.search_space import reference
from trainables.config import KNOB_NAMES, TrialConfig


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
            row[f"95 % over queries, {name}"] = _interval(mine.loc[name], "query_low", "query_high")
        row["runs"] = str(len(results.of(loss, role)))
        rows.append(row | _validation(source, loss, role))
    for loss in source.study.losses:
        if loss not in results.losses:
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
            "difference": f"{first}, chosen less reference" if tuning else f"{first} less {second}",
            "configuration": "" if tuning else row["role"],
            "mAP": f"{row['difference']:+.4f}",
        }
        if not np.isnan(row["seed_low"]):
            cells["95 % over seeds"] = _interval(row, "seed_low", "seed_high", sign="+")
        cells["95 % over queries"] = _interval(row, "query_low", "query_high", sign="+")
        if not np.isnan(row["p_corrected"]):
            cells["corrected p"] = p_text(row["p_corrected"]).removeprefix("p ").removeprefix("= ")
        rows.append(cells | {"shown": "yes" if row["shown"] else "no"})
    return Table("Differences in mAP", pd.DataFrame(rows).fillna(""))


def configurations_table(configs: Mapping[str, TrialConfig]) -> Table:
    """A row a knob that any configuration uses; by loss the chosen one and the reference."""
    knobs = [knob for knob in KNOB_NAMES if knob != "loss"]
    columns = {}
    for loss, config in configs.items():
        beside = reference(loss, epochs=config.epochs, seed=config.seed, precision=config.precision)
        for role, one in (("", config), (", reference", beside)):
            columns[loss_name(loss) + role] = [text(one.to_dict()[knob]) for knob in knobs]
    cells = pd.DataFrame({"knob": [words(knob) for knob in knobs], **columns})
    used = cells.drop(columns="knob").ne("").any(axis=1)
    return Table("The chosen configurations", cells[used])


def costs_table(finals: Finals) -> Table:
    """A row a loss: what the search and the confirming runs of a comparison took."""
    rows = []
    full = finals.summary[finals.summary["protocol"] == "full"]
    for loss, part in full.groupby("loss", sort=False):
        chosen = part[part["role"] == "chosen"].iloc[0]
        rows.append(
            {
                "loss": loss_name(loss),
                "trials": f"{chosen['trials']:,.0f}",
                "epochs": f"{chosen['epochs']:,.0f}",
                "seconds of search": f"{chosen['sweep_seconds']:,.0f}",
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
            "say how far other queries would move the number, not other training seeds or another "
            "search.",
        ]
    seeds = listed([str(seed) for seed in source.finals.seeds])
    return [
        f"{source.finals.rule} Each choice, and each loss's reference configuration, was then "
        f"trained anew with {plural(len(source.finals.seeds), 'fresh seed')} ({seeds}), and these "
        "runs alone were judged on the test images.",
        protocols,
        "A mAP is the mean over its runs; intervals are Student's t over seeds, and over queries "
        "whose AP is averaged over seeds. A difference counts as shown if its p, corrected for "
        "the three pairs (Holm) and the larger of the two over seeds and over queries, is below "
        "0.05.",
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


def _interval(row: pd.Series, low: str, high: str, sign: str = "") -> str:
    return f"{row[low]:{sign}.3f} to {row[high]:{sign}.3f}"


def _sizes(results: Results, protocol: str) -> str:
    count, gallery, left_out = results.sizes(protocol)
    note = f" ({left_out:,} without a relevant image left out)" if left_out else ""
    return f"{plural(count, 'query', 'queries')}{note} and a gallery of {gallery:,}"
