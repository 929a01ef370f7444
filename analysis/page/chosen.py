"""What several searches chose, and where that lies in the ranges that they looked in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from analysis.figures.chosen_figure import chosen_figure
from analysis.found.chosen_knobs import chosen_knobs, chosen_table
from analysis.found.words import loss_name
from analysis.page.page import Section
from analysis.page.tables import Table


def chosen_sections(folders: Sequence[Path]) -> list[Section]:
    """Of all searches of these comparisons; none where there are fewer than two, or no choices."""
    table = chosen_knobs(folders)
    figure = chosen_figure(table)
    if figure is None:
        return []
    cells = chosen_table(table)
    cells["loss"] = cells["loss"].map(loss_name)
    shown = [Table("What the searches chose", cells)]
    return [Section("What was chosen", tables=shown, figures=[figure])]
