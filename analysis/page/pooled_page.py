"""The page of several comparisons together: what they show, how far they agree, what they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.figures.pooled_figures import (
    classes_figure,
    counted,
    differences_figure,
    pooled_maps_figure,
)
from analysis.figures.pr_curves import together_figure
from analysis.found.pooled_curves import pooled_curves
from analysis.found.words import capital, listed, loss_name, plural
from analysis.page.chosen import chosen_sections
from analysis.page.page import Page, Section
from analysis.page.tables import Table
from study.judge.pooled import Pooled
from study.judge.pooled_tables import (
    classes_cells,
    differences_cells,
    losses_cells,
    note,
    references_cells,
)
from study.judge.significance import MARGIN
from study.results.studies import Study

RUNS = {"runs": "trainings that were judged, of all comparisons together"}


def pooled_page(folders: Sequence[Path], found: Pooled) -> Page:
    """The page of the finished comparisons in these folders, which are pooled."""
    studies = [Study.load(folder) for folder in folders]
    names = names_of(folders)
    many = plural(len(folders), "comparison")
    losses = listed([loss_name(loss) for loss in found.maps])
    return Page(
        f"{many} of {losses}, taken together",
        [pooled_answer(found)],
        "",
        [
            answer_section(found),
            retrieval_section(folders, found),
            *chosen_sections(folders),
            Section("The comparisons", tables=comparisons_tables(studies, names, found)),
        ],
    )


def names_of(folders: Sequence[Path]) -> list[str]:
    """The last parts of the folders' paths, as many as tell them apart."""
    paths = [folder.resolve() for folder in folders]
    parts = 1
    while len({path.parts[-parts:] for path in paths}) < len(paths):
        parts += 1
    return ["/".join(path.parts[-parts:]) for path in paths]


def pooled_answer(found: Pooled) -> str:
    """Which losses no other is shown to be ahead of, and of how many differences that is."""
    pairs = found.differences
    many, leading = plural(len(found.maps), "comparison"), found.leading()
    first = found.losses.set_index("loss")["map"]
    scores = listed([f"{loss_name(loss)} ({first[loss]:.3f})" for loss in leading])
    if pairs.empty:
        return f"{capital(scores)} is the test mAP in the mean of {many}; there is no other loss."
    if len(found.pairs("equivalent")) == len(pairs):
        said = f"All losses are equivalent within ±{MARGIN}"
    elif len(leading) == len(first):
        said = "Which loss retrieves best is not resolved: no loss is shown to be ahead of another"
    else:
        said = f"{capital(scores)}: no other loss is shown to be ahead"
    return f"{said}, by test mAP in {many}. {counted(found)}."


def answer_section(found: Pooled) -> Section:
    """mAPs, differences and references."""
    shown = [Table("Test mAP", losses_cells(found), RUNS)]
    if len(found.differences):
        shown.append(Table("Differences in test mAP", differences_cells(found)))
    if len(found.references):
        shown.append(Table("The seed study's settings", references_cells(found), RUNS))
    figures = [pooled_maps_figure(found), differences_figure(found)]
    paragraphs = [note(found).replace("*", "")]
    return Section("The answer", paragraphs, shown, [one for one in figures if one is not None])


def retrieval_section(folders: Sequence[Path], found: Pooled) -> Section:
    """Precision over recall, and the classes."""
    protocol = f"{found.protocols[0]} protocol, " if len(found.protocols) > 1 else ""
    table, over = pooled_curves(folders, found), f"over {plural(len(folders), 'comparison')}"
    over = f"mean and 95 % band {over}" if found.common else f"mean {over}"
    beside = ", of references over their runs" if len(found.references) else ""
    if not found.common:  # bands of splits that are hard for all losses hide the losses
        table = table.assign(low=np.nan, high=np.nan)
    curves = together_figure(
        "pooled_pr_curves",
        table,
        title=f"Retrieval among the test images\n{over}",
        said=f"{protocol}test images; {over}{beside}",
        images="test images",
    )
    figures, shown = [curves, classes_figure(found)], []
    if found.classes is not None:
        shown.append(Table("Mean AP by class", classes_cells(found)))
    return Section("Retrieval", [], shown, [one for one in figures if one is not None])


def comparisons_tables(
    studies: Sequence[Study], names: Sequence[str], found: Pooled
) -> list[Table]:
    """Each comparison's mAPs, and what it was."""
    maps = found.maps.map("{:.4f}".format).rename(columns=loss_name)
    maps.insert(0, "comparison", list(names))
    made = [
        {
            "comparison": name,
            "command": str(study.info.get("command", "")),
            "commit": study.commit or "not recorded",
            "processor": study.processor or "not recorded",
        }
        for name, study in zip(names, studies, strict=True)
    ]
    return [Table("Test mAP of each", maps), Table("How each was made", pd.DataFrame(made))]
