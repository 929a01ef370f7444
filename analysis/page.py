"""A page from sections: what a report says, as data, and how it becomes one self-contained file."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from analysis.style import ReportFigure
from analysis.tables import Table

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Section:
    """A part of a page: a title, paragraphs, then tables, then figures.

    Attributes:
        layout: of the figures, `column` or `grid` (side by side where the page is wide enough).
    """

    title: str
    paragraphs: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    figures: list[ReportFigure] = field(default_factory=list)
    layout: str = "column"

    @property
    def anchor(self) -> str:
        """The section's name in the page's address."""
        return "".join(c if c.isalnum() else "-" for c in self.title.lower())


@dataclass(frozen=True)
class Page:
    """A report: title, the answer in one sentence, a warning if one is due, and the sections."""

    title: str
    answer: str
    warning: str
    sections: list[Section]

    @property
    def figures(self) -> list[ReportFigure]:
        return [figure for section in self.sections for figure in section.figures]

    def html(self) -> str:
        """One file without any reference to another: styles and figures are inside."""
        environment = Environment(
            loader=FileSystemLoader(TEMPLATES),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters["data_uri"] = data_uri
        return environment.get_template("report.html").render(page=self)


def data_uri(figure: ReportFigure) -> str:
    """The figure's SVG as the address of an image: sharp at any size."""
    return f"data:image/svg+xml;base64,{base64.b64encode(figure.svg).decode('ascii')}"
