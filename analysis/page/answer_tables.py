"""The tables of the answer: mAP of every loss, differences, configurations, what each was given."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from analysis.found.finals import Finals
from analysis.found.knobs import knobs_used, settings
from analysis.found.runs import Results
from analysis.found.scores import score_column, validation
from analysis.found.sources import Source
from analysis.found.words import listed, loss_name, plural, text, words
from analysis.page.answer import p_text
from analysis.page.glossary import scored
from analysis.page.tables import Table
from study.judge.final_tables import protocols_of
from study.judge.significance import ALPHA, MARGIN, POWER, could
from study.results.studies import Study
from study.search.space import is_of_seed_study, reference
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
            one, under = mine.loc[name], f", {name}" if len(results.protocols) > 1 else ""
            row[f"mAP{under}"] = f"{one['map']:.3f}"
            if not np.isnan(one["low"]):
                row[f"95 % over {results.unit}{under}"] = _interval(one, "low", "high")
            if not np.isnan(one["both_low"]):
                both = f"95 % over {results.unit} and classes{under}"
                row[both] = _interval(one, "both_low", "both_high")
            row[f"95 % over queries{under}"] = _interval(one, "query_low", "query_high")
        row["runs"] = str(len(results.of(loss, role)))
        rows.append(row | _validation(source, loss, role))
    for loss in source.study.losses:
        if loss not in results.searches:
            rows.append({"loss": loss_name(loss), "trial": "none that could be chosen"})
    name = validation(source.study.metric)
    meant = scored(name)[name]
    if source.finals is not None:
        meant = "the mean over the confirming runs, of each run's best epoch"
    elif _had_finals(source.study):
        meant = "the mean over the fresh seeds, of each run's best epoch"
    return Table("mAP of each loss", pd.DataFrame(rows).fillna(""), {name: meant})


def differences_table(differences: pd.DataFrame, unit: str) -> Table | None:
    """A row a protocol, of which there may be one, and pair; None for a single loss.

    Args:
        unit: over what the intervals are, beside queries (`Results.unit`).
    """
    if differences.empty:
        return None
    rows, several = [], differences["protocol"].nunique() > 1
    for _, row in differences.iterrows():
        first, second = loss_name(row["first"]), loss_name(row["second"])
        tuning = row["role"] == "tuning"
        cells = {
            "protocol": row["protocol"],
            "difference": f"{first} less {second}",
            "configuration": "chosen less reference" if tuning else row["role"],
            "mAP": f"{row['difference']:+.4f}",
            "verdict": row["verdict"],  # where no narrow window cuts it off
        }
        if not np.isnan(row["seed_low"]):
            cells[f"95 % over {unit}"] = _interval(row, "seed_low", "seed_high", sign="+")
        if not np.isnan(row["both_low"]):
            both = _interval(row, "both_low", "both_high", sign="+")
            cells[f"95 % over {unit} and classes"] = both
        cells["95 % over queries"] = _interval(row, "query_low", "query_high", sign="+")
        if not np.isnan(row["p_corrected"]):
            cells["corrected p"] = _p(row["p_corrected"])
            cells[f"corrected p of not within ±{MARGIN}"] = _p(row["p_alike"])
            cells["P(first above second)"] = f"{row['superiority']:.2f}"
            smallest = np.inf if np.isnan(row["smallest"]) else row["smallest"]
            cells["smallest that could be shown"] = could(smallest)
        rows.append(cells)
    cells = pd.DataFrame(rows).fillna("")
    return Table("Differences in mAP", cells if several else cells.drop(columns="protocol"))


def configurations_table(configs: Mapping[str, TrialConfig], title: str) -> Table:
    """A row a knob that any configuration uses; by loss the chosen one and, on its data, the
    reference."""
    knobs, columns = knobs_used(configs.values()), {}
    for loss, config in configs.items():
        beside = reference(loss, epochs=config.epochs, seed=config.seed)
        beside = beside if is_of_seed_study(config) else None
        for role, one in (("", config), (", reference", beside)):
            if one is not None:
                columns[loss_name(loss) + role] = [text(settings(one).get(knob)) for knob in knobs]
    cells = pd.DataFrame({"knob": [words(knob) for knob in knobs], **columns})
    return Table(title, cells)


def costs_table(finals: Finals) -> Table:
    """A row a loss: what the search and the confirming runs of a comparison took."""
    rows = []
    answer = finals.summary[finals.summary["protocol"] == protocols_of(finals.runs)[0]]
    for loss, part in answer.groupby("loss", sort=False):
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
    protocols = _protocols(results)
    if source.finals is None:
        chose = f"the trial and epoch of its highest {validation(source.study.metric)}"
        if _had_finals(source.study):
            chose = f"the configuration of the highest mean {validation(source.study.metric)} over "
            chose += "fresh seeds: by the first of these runs, at its best epoch"
        return [
            f"Each loss is represented by {chose}. These networks are judged here on the "
            f"{results.described}.",
            protocols,
            "Intervals are Student's t over queries, those of a difference paired by query. They "
            "say how far other queries would move the number, not other training seeds, other "
            "classes or another search; queries share a gallery, so they are too narrow even for "
            "that.",
        ]
    seeds = listed([str(seed) for seed in source.finals.seeds])
    references = source.finals.runs["role"].eq("reference").any()
    beside = ", and each loss's reference configuration," if references else ""
    searches, unit = len(source.finals.choices), results.unit
    repeated = f"The search was made {searches} times. " if searches > 1 else ""
    own = " of its own" if searches > 1 else ""
    paired, drawn, mean = "seed", "runs", "runs"
    if unit == "searches":
        paired, drawn, mean = "search", "searches", "searches, each with the mean of its runs"
    lost = [
        f"{count} of {loss_name(loss)}{', reference' if role == 'reference' else ''}"
        for (loss, role), count in source.finals.left_out.items()
    ]
    left_out = (
        f" Left out are the confirming runs that failed or diverged, {listed(lost)}: nothing is "
        "called shown in favour of what lacks runs."
        if lost
        else ""
    )
    return [
        f"{repeated}{source.finals.rule} Each choice{beside} was then trained anew with "
        f"{plural(len(source.finals.seeds) // searches, 'fresh seed')}{own} ({seeds}"
        f"{_fewer(source.finals.runs)}), and these runs alone were judged on the test images."
        f"{left_out}",
        protocols,
        f"A mAP is the mean over its {mean}; intervals are Student's t over {unit}, over queries "
        f"whose AP is averaged over {unit} (too narrow, as queries share a gallery), and over "
        f"{unit} and classes, both random, for who asks about other classes of this kind. A "
        f"difference is shown if its p is below {ALPHA}: the largest of the p over {unit} (paired "
        f"by {paired}, and Welch's) and over queries, corrected for all pairs (Holm). It is "
        "equivalent if two one-sided tests (TOST, corrected alike) place it within "
        f"±{MARGIN}; else it is not resolved. P(first above second) is over all pairs of their "
        f"{drawn}; the smallest that could be shown is the true difference that this design would "
        f"show with {100 * POWER:.0f} % probability.",
    ]


def _fewer(runs: pd.DataFrame) -> str:
    """How the references were trained, where that is unlike the choices."""
    found = runs.groupby("role").agg(seeds=("seed", "nunique"), epochs=("epochs", "max"))
    if "reference" not in found.index or (found.loc["reference"] == found.loc["chosen"]).all():
        return ""
    seeds, epochs = found.loc["reference"]
    return f"; the references with {seeds:g} of these for {epochs:g} epochs"


def _had_finals(study: Study) -> bool:
    """Whether runs on fresh seeds chose."""
    return any(study.finals(loss) for loss in study.losses)


def _validation(source: Source, loss: str, role: str) -> dict[str, str]:
    """The last cells of a row: how the configuration did in validation, and its trial."""
    metric = source.study.metric
    if source.finals is not None:
        runs, trials = source.finals.runs, source.finals.confirmation.trials_frame()
        mine = runs[(runs["loss"] == loss) & (runs["role"] == role)]["trial_id"]
        scores = trials[trials["trial_id"].isin(mine)][score_column(metric)]
        choices, many = source.finals.choices[0], len(source.finals.choices)
        trial = choices[loss].trial_id + (f", of the first of {many} searches" if many > 1 else "")
        trial = trial if role == "chosen" else "the reference"
        return {validation(metric): f"{scores.mean():.3f}", "trial": trial}
    choice = source.study.best()[loss]
    found = {validation(metric): f"{choice.score:.3f}", "epoch": str(choice.epoch)}
    return found | {"trial": choice.trial_id}


def _p(p: float) -> str:
    return p_text(p).removeprefix("p ").removeprefix("= ")


def _interval(row: pd.Series, low: str, high: str, sign: str = "") -> str:
    return f"{row[low]:{sign}.3f} to {row[high]:{sign}.3f}"


def _protocols(results: Results) -> str:
    """Who asks, among whom is searched, and what a mAP is."""
    ranking = "average precision of the full ranking by squared Euclidean distance"
    if len(results.protocols) == 1:
        return (
            f"There are {_sizes(results, results.first)}; a query, and what is of its group where "
            f"the data has groups, is left out of its own ranking. The mAP is the mean over the "
            f"queries of the {ranking}."
        )
    sizes = "; ".join(f"{name}, {_sizes(results, name)}" for name in results.protocols)
    asking = [judged.queries for judged in results.runs[0].protocols.values()]
    first = all(np.array_equal(queries, np.arange(len(queries))) for queries in asking)
    which = "always the first images, " if first else ""
    others = len(results.metrics.drop(columns=["loss", "map"]).dropna(axis="columns", how="all").T)
    rest = f" The other metrics are those{results.under}." if others else ""
    return (
        f"Protocols: {sizes}; {which}each query left out of its own ranking. "
        f"The mAP of a protocol is the mean over its queries of the {ranking}.{rest}"
    )


def _sizes(results: Results, protocol: str) -> str:
    count, gallery, left_out = results.sizes(protocol)
    note = f" ({left_out:,} without a relevant image left out)" if left_out else ""
    return f"{plural(count, 'query', 'queries')}{note} and a gallery of {gallery:,}"
