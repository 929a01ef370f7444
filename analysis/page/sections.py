"""The sections of a report, in the order in which a person reads them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pandas as pd

from analysis.figures.class_differences import class_differences_figure
from analysis.figures.class_figures import class_ap_figure, confusion_figures, confusion_rule
from analysis.figures.expected_figure import expected_figure
from analysis.figures.histories import chosen_history, confirmed_history, history_figures
from analysis.figures.knob_figures import knob_figures
from analysis.figures.ladder_figure import ladder_figure
from analysis.figures.pr_curves import pr_figures
from analysis.figures.retrieval_figures import many_figures, rule, side_by_side_figure
from analysis.figures.search_figures import search_figure, seconds_figure
from analysis.figures.timeline_figure import timeline_figure
from analysis.found.finals import Finals, searches
from analysis.found.importance import TOP, Importance, importance
from analysis.found.runs import Results
from analysis.found.scores import validation
from analysis.found.sources import Source
from analysis.found.words import epochs, listed, loss_name, plural
from analysis.page import answer_tables, tables
from analysis.page.answer import answer_figure, tuning_sentence
from analysis.page.chosen import chosen_sections
from analysis.page.page import Section
from analysis.page.tables import Table
from study.judge.comparison import SEARCHES
from study.results.images import about
from study.results.studies import Study
from trainables.reranking import EXPANDED, K1, K2, POWER, WEIGHT
from trainables.terminal import bar


def sections(source: Source) -> list[Section]:
    """All sections; those that need a chosen network are left out while there is none."""
    results = source.results
    makers: list[Callable[[], list[Section]]] = [lambda: data_sections(source)]
    if results is not None:
        makers = [
            lambda: [answer_section(source, results)],
            *makers,
            lambda: retrieval_sections(results, source.finals),
            lambda: image_sections(results),
            lambda: reranking_sections(source),
            lambda: [training_section(source)],
        ]
    makers += [lambda: search_sections(source.study), lambda: fault_sections(source)]
    if source.finals is not None:
        makers += [lambda: chosen_sections([source.study.folder])]
    makers += [lambda: [repeat_section(source)]]
    parts = []
    with bar(len(makers), "drawn", "parts") as shown:
        for make in makers:
            parts += make()
            shown.update()
    return parts


def answer_section(source: Source, results: Results) -> Section:
    """mAP, differences, configurations and budget."""
    gained = tuning_sentence(results, source.differences)
    if source.finals is None:
        choices, searches = source.study.best(), 1
        budget = tables.budget_table(source.study)
    else:
        choices, searches = source.finals.choices[0], len(source.finals.choices)
        budget = answer_tables.costs_table(source.finals)
    configs = {loss: choices[loss].config for loss in results.losses}
    title = "The chosen configurations"
    title += f" of the first of {searches} searches" if searches > 1 else ""
    shown = [
        answer_tables.losses_table(source, results),
        tables.metrics_table(results),
        answer_tables.differences_table(source.differences, results.unit),
        answer_tables.configurations_table(configs, title),
        budget,
    ]
    paragraphs = [gained] * bool(gained) + answer_tables.rules(source, results)
    found = [table for table in shown if table is not None]
    return Section("The answer", paragraphs, found, [answer_figure(results)])


def data_sections(source: Source) -> list[Section]:
    """One's own data, which has a card; none of a data set that is known by its name."""
    facts = about(source.study)
    card = facts.get("card")
    if not card:
        return []
    said = tables.data_text(facts["name"], facts["classes"], source.results)
    return [Section("The data", [said], verbatim=card)]


def retrieval_sections(results: Results, finals: Finals | None) -> list[Section]:
    """Precision over recall, then by class; of a comparison where two losses differ."""
    together, *each = pr_figures(results)
    figures = [together, class_ap_figure(results)]
    if finals is not None:
        by_class = class_differences_figure(
            finals.classes, results.losses[0], results.classes, results.unit
        )
        if by_class is not None:
            figures.append(by_class)
    parts = [Section("Retrieval", figures=figures)]
    if each:
        parts.append(Section("Each loss", figures=each, layout="grid", below=True))
    confusions = confusion_figures(results)
    if confusions:
        layout, said = "grid" if len(confusions) > 1 else "column", confusion_rule(results)
        title = "Which class is taken for which"
        parts.append(Section(title, [said], figures=confusions, layout=layout, below=True))
    return parts


def image_sections(results: Results) -> list[Section]:
    """Queries and their nearest images; or why there are none."""
    if results.pixels is None:
        said = f"The images cannot be shown here: {results.no_pixels}."
        return [Section("Retrieved images", [said])]
    beside = side_by_side_figure(results)
    if beside is None:
        return []
    said = (
        f"A row is a query ({results.described}), and to its right are its nearest images. "
        f"{rule(results)}. "
        "A green border: the same class. A dashed red border with a cross: another class. "
        "At the end of a row: the query's AP over the whole gallery, and how many of the images "
        f"shown are right. {results.of_which_runs}".rstrip()
    )
    folded = (
        "By the same rule among the seed protocol's queries and gallery. Ranks 26 to 50 are below "
        "ranks 1 to 25."
    )
    parts = [Section("Retrieved images", [said], figures=[beside])]
    many = many_figures(results)
    if many:
        parts.append(Section("The 50 nearest", [folded], figures=many, below=True))
    return parts


def reranking_sections(source: Source) -> list[Section]:
    """What other orders gain and cost, where they were asked for."""
    if source.orders is None or source.results is None:
        return []
    said = (
        "The same embeddings in another order, by what the gallery knows of itself: k-reciprocal "
        f"encoding (Zhong et al., CVPR 2017, with its k1 = {K1}, k2 = {K2}, weight {WEIGHT}) and "
        f"query expansion by the {EXPANDED} nearest (Radenovic et al., PAMI 2019, with its power "
        f"{POWER:g}). With the mirror, an embedding is the mean of a picture's and its mirror "
        "image's, scaled to unit length: twice the work. No setting was tuned here, and nothing "
        "was chosen by these numbers: the judge is the plain order. Seconds are of all queries, "
        "judged; those of the mirror alone are with its embedding."
    )
    return [Section("Re-ranking", [said], [tables.orders_table(source.orders)], below=True)]


def training_section(source: Source) -> Section:
    """The histories of the chosen trial, or of the runs that confirmed the choice."""
    finals = source.finals
    table = chosen_history(source.study) if finals is None else confirmed_history(finals)
    return Section("Training", figures=history_figures(table, source.study.metric))


def search_sections(study: Study) -> list[Section]:
    """How the search went, its knobs and its trials."""
    figures = [search_figure(study)]
    if any(trial.epochs for trial in study.trials):
        figures += [ladder_figure(study), seconds_figure(study)]
    others = expected_figure(study), timeline_figure(study)
    figures += [figure for figure in others if figure is not None]
    said = [*_which_search(study), *tables.verdicts(study)]
    finals = tables.finals_table(study)
    shown = [finals] * bool(len(finals.cells))
    parts = [Section("The search", said, shown, figures)]
    parts.append(knobs_section(study))
    trials, same = tables.trials_table(study)
    parts.append(Section("Every trial", [same] * bool(same), [trials], below=True))
    return parts


def fault_sections(source: Source) -> list[Section]:
    """The trials of the search, and the runs that were to confirm, that ended by a fault."""
    found = [tables.faults_table(source.study, "Trials that ended by a fault")]
    if source.finals is not None:
        title = "Confirming runs that ended by a fault"
        found.append(tables.faults_table(source.finals.confirmation, title))
    shown = [table for table in found if len(table.cells)]
    return [Section("Failures", tables=shown, below=True)] if shown else []


def _which_search(study: Study) -> list[str]:
    """That a comparison shows one of its searches, if it has several."""
    many = searches(study)
    if many == 1:
        return []
    others = f"{SEARCHES}/02" + (f" to {SEARCHES}/{many:02d}" if many > 2 else "")
    return [
        f"Shown is the first of {many} searches, here and below; the others are studies by "
        f"themselves, with reports of their own: {others} in the folder of the first."
    ]


def knobs_section(study: Study) -> Section:
    """What was searched, and what each knob did."""
    found = importance(study)
    space = tables.space_table(study)
    return Section(
        "The knobs",
        importance_text(found),
        [space] * bool(len(space.cells)),
        knob_figures(study, found),
        below=True,
    )


def importance_text(found: Importance) -> list[str]:
    """How importance is measured, where it is; and where it is not, why."""
    said = []
    if len(found.table):
        after = " or ".join(map(epochs, sorted(found.table["epoch"].unique())))
        said.append(
            "Importance says how much a knob decided whether a configuration is among the best "
            f"{TOP:.0%} of its loss (PED-ANOVA), by the {validation(found.metric)} after {after}: "
            "the last that all configurations of the loss reached, so that they are compared as "
            "equals. It says nothing of later epochs. Left out are those that failed or diverged, "
            "and the hand-set ones, which no search drew. A few give some knob a high share by "
            "chance: what shuffled scores give as well says nothing."
        )
    lack = [f"{loss_name(loss)} ({why})" for loss, why in found.lacking.items()]
    return said + ([f"No importance is given for {listed(lack)}."] if lack else [])


def repeat_section(source: Source) -> Section:
    """Command, versions, machine, seeds; and when the choices met the test images, if they did."""
    shown = [tables.origin_table(source.study)]
    if source.finals is None and not source.readings:
        return Section("How to repeat it", tables=shown)
    return Section("How to repeat it", tables=[*shown, record_table(source)])


def record_table(source: Source) -> Table:
    """When the choices were frozen, and each reading of the test images, as the ledger has it."""
    rows = []
    if source.finals is not None:
        frozen = source.finals
        rows.append({"what": "choices frozen", "when": _time(frozen.frozen), "why": frozen.rule})
    for reading in source.readings:
        digest, runs = str(reading["sha256"])[:16], plural(int(reading.get("rows", 0)), "network")
        said = f"{reading.get('why', '')}; {runs}; choices {digest}"
        rows.append({"what": "test read", "when": _time(reading.get("time")), "why": said})
    return Table("The record of the test", pd.DataFrame(rows))


def _time(seconds: float | None) -> str:
    return "" if seconds is None else f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"
