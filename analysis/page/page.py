"""A page from sections: what a report says, as data, and how it becomes one self-contained file."""

from __future__ import annotations

import base64
import gzip
import re
from dataclasses import dataclass, field
from pathlib import Path

import itables.options
import plotly.offline
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from analysis.figures.style import ReportFigure
from analysis.page.tables import Table
from study.results.files import write_atomically

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Section:
    """A part of a page: a title, paragraphs, lines as they are, then figures, then tables.

    Attributes:
        verbatim: lines of text, each of a name that is filled up to 14 letters and a fact, as a
            data card has them; empty for none.
        layout: of the figures, `column` or `grid` (side by side where the page is wide enough).
        below: it belongs to the section before it.
    """

    title: str
    paragraphs: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    figures: list[ReportFigure] = field(default_factory=list)
    layout: str = "column"
    below: bool = False
    verbatim: str = ""

    @property
    def anchor(self) -> str:
        """The section's name in the page's address."""
        return slug(self.title)


@dataclass(frozen=True)
class Page:
    """A report: title, the answers, a warning if one is due, and the sections."""

    title: str
    answers: list[str]
    warning: str
    sections: list[Section]

    @property
    def figures(self) -> list[ReportFigure]:
        return [figure for section in self.sections for figure in section.figures]

    @property
    def tables(self) -> list[Table]:
        return [table for section in self.sections for table in section.tables]

    def html(self) -> str:
        """One file without any reference to another: styles, scripts and figures are inside."""
        moving = any(figure.interactive for figure in self.figures)
        template = environment().get_template("report.html")
        return template.render(
            page=self,
            plotly=packed(plotly.offline.get_plotlyjs()) if moving else "",
            datatables=_encoded("text/javascript", Path(itables.options.dt_bundle).read_bytes()),
        )

    def write(self, folder: Path) -> Path:
        """Writes each figure and table, and last the page; returns where the page is."""
        html = self.html()
        folder.mkdir(parents=True, exist_ok=True)
        for figure in self.figures:
            figure.write(folder)
        for table in self.tables:
            table.cells.to_csv(folder / f"table_{slug(table.title, '_')}.csv", index=False)
        write_atomically(folder / "index.html", html)
        return folder / "index.html"


def environment() -> Environment:
    """Of this folder's templates."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"data_uri": data_uri, "json_data": json_data, "lowered": lowered}
    return made


def slug(title: str, gap: str = "-") -> str:
    """A title as a name in addresses and of files."""
    words = "".join(c if c.isalnum() else " " for c in title.lower()).split()
    return gap.join(words)


def data_uri(figure: ReportFigure) -> str:
    """The figure as the address of an image, in the smallest of its forms."""
    forms = {"svg+xml": figure.svg, "png": figure.png, "webp": figure.webp}
    kind, content = min(
        ((kind, form) for kind, form in forms.items() if form), key=lambda one: len(one[1])
    )
    return _encoded(f"image/{kind}", content)


def packed(script: str) -> str:
    """A script as the browser unpacks it: gzip in base64, the same bytes each time."""
    return base64.b64encode(gzip.compress(script.encode(), mtime=0)).decode("ascii")


def lowered(text: str) -> Markup:
    """A formula whose `_{...}` stand below the line."""
    return Markup(re.sub(r"_\{([^}]*)\}", r"<sub>\1</sub>", str(escape(text))))


def json_data(text: str) -> Markup:
    """JSON as the content of a script element, which no text in it can end."""
    return Markup(text.replace("<", "\\u003c"))


def _encoded(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
