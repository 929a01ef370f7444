"""How every figure looks: one colour a loss, and figures as values that can be saved."""

from __future__ import annotations

import io
import textwrap
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
import plotly.graph_objects as go
import plotly.io
import seaborn as sns
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from analysis.found.words import CUT, cut, loss_name, settle_names, words
from study.results.trials import file_name
from trainables.losses import names, resolve

# First from Okabe and Ito's palette, which readers of every colour vision tell apart.
PALETTE = ("#009E73", "#D55E00", "#8B6F00", "#666666", "#6A3D9A", "#B15928", "#17BECF",
           "#E377C2", "#9ACD32", "#000080", "#A9A9A9", "#8B0000")  # fmt: skip


class Colours(dict[str, str]):
    """By loss, the colour of its entry; one without gets the next of the palette."""

    def __missing__(self, loss: str) -> str:
        self[loss] = PALETTE[(len(self) - OWN) % len(PALETTE)]
        return self[loss]

    def settle(self, losses: Iterable[str]) -> None:
        """Gives these their colours in the order of their names, where they have none yet: the same
        on every page of the same losses."""
        for loss in sorted(losses):
            self[loss]


COLOURS = Colours({name: resolve(name).colour for name in names() if resolve(name).colour})
OWN = len(COLOURS)
# In letters: the longest line above a panel, and what a legend's key takes beside its name.
HEADING, KEY, LETTERS_AN_INCH = 28, 6, 11
RIGHT, WRONG = "#009E73", "#D55E00"
MARKERS = {
    "finished": "o",
    "running": "D",
    "interrupted": "s",
    "diverged": "X",
    "failed": "P",
}
SYMBOLS = {  # the same in Plotly
    "finished": "circle",
    "running": "diamond",
    "interrupted": "square",
    "diverged": "x",
    "failed": "cross",
}
MANY_CLASSES = 25  # of more a figure shows a part
DPI = 150
HEIGHT = 420  # px of a figure that moves, unless it asks for another
_RC: Any = {  # the names of its keys are typed by some versions of matplotlib only
    **sns.axes_style("whitegrid"),
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib: the same figure everywhere
    "font.size": 10,
    "axes.titlesize": 11,
    "legend.fontsize": 9,
    "legend.framealpha": 0.95,
    "svg.fonttype": "path",
    "svg.hashsalt": "report",
    "text.parse_math": False,  # a class may be called $5 or $6
}


@dataclass(frozen=True, eq=False)
class ReportFigure:
    """A figure that is drawn but not yet written. A notebook shows it.

    Attributes:
        figure: matplotlib's, to be changed and drawn anew.
        name: of its files, without a suffix.
        caption: one sentence on what the figure says, with numbers from the data.
        alt: what it shows, for those who cannot see it.
        data: what was drawn, a row a point.
        png, svg: the files' contents.
        webp: the same for the page alone, of pictures, which are large as PNG; else empty.
        width: in CSS pixels, at which its text has the size of the page's.
        interactive: the same as Plotly's JSON, to zoom and to show values under the pointer; empty
            where that would not help.
    """

    figure: Figure
    name: str
    caption: str
    alt: str
    data: pd.DataFrame
    png: bytes
    svg: bytes
    width: int
    interactive: str = ""
    webp: bytes = b""

    @property
    def plotly(self) -> go.Figure | None:
        """The same to zoom into; None where that would not help."""
        return plotly.io.from_json(self.interactive) if self.interactive else None

    def _repr_png_(self) -> bytes:
        return self.png

    def write(self, folder: Path) -> None:
        """Writes `name`.png, .svg and .csv."""
        (folder / f"{self.name}.png").write_bytes(self.png)
        (folder / f"{self.name}.svg").write_bytes(self.svg)
        self.data.to_csv(folder / f"{self.name}.csv", index=False)


def render(
    name: str,
    draw: Callable[[Figure], None],
    *,
    size: tuple[float, float],
    data: pd.DataFrame,
    caption: str,
    alt: str,
    interactive: go.Figure | None = None,
    channels: int = 0,
) -> ReportFigure:
    """Lets `draw` fill a matplotlib figure of `size` (width, height) inches.

    The same data gives the same bytes: no dates and no random identifiers are stored. A letter that
    the font lacks is a box.

    Args:
        channels: of the pictures that it shows; 0 if it shows none.
    """
    with mpl.rc_context(_RC), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        png, svg = io.BytesIO(), io.BytesIO()
        figure.savefig(png, format="png", dpi=DPI, metadata={"Software": None})
        figure.savefig(svg, format="svg", dpi=DPI, metadata={"Date": None})
        webp = io.BytesIO()
        if channels:  # grey ones are smaller without loss
            kept = {"lossless": True} if channels == 1 else {"quality": 90}
            figure.savefig(webp, format="webp", dpi=DPI, pil_kwargs=kept)
    return ReportFigure(
        figure,
        file_name(name),
        caption,
        alt,
        data,
        png.getvalue(),
        svg.getvalue(),
        width=round(size[0] * 96),
        interactive="" if interactive is None else _plain(interactive),
        webp=webp.getvalue(),
    )


def draw_mean(
    axes: Axes,
    line: int,
    mean: float,
    ends: Sequence[float],
    colour: str,
    *,
    singles: Sequence[float] = (),
    mark: str = "o",
    full: bool = True,
    form: str = ".3f",
) -> None:
    """A mean on its line with its number above: a bar from end to end, small dots for the singles.

    Args:
        axes: numbers run along x, lines down y.
        full: whether the mark is filled.
        form: of the number.
    """
    if len(singles) > 1:
        axes.plot(singles, [line + 0.22] * len(singles), ".", color=colour, ms=5, alpha=0.8)
    axes.plot(ends, [line, line], color=colour, lw=2.2)
    axes.plot(mean, line, mark, color=colour, mfc=colour if full else "white", ms=8)
    said = f"{round(mean, 3) + 0.0:{form}}"  # no "-0.000"
    axes.annotate(said, (mean, line), (0, 7), textcoords="offset points", ha="center")


def name_lines(axes: Axes, names: Sequence[str], title: str) -> None:
    """Names the lines of `draw_mean`, the first on top, and says what runs along x."""
    axes.set_yticks(range(len(names)), list(map(short_name, names)))
    axes.set(xlabel=title, ylim=(len(names) - 0.5, -0.6))
    axes.grid(axis="y", visible=False)
    axes.margins(x=0.12)


def legend_columns(keys: Sequence[Artist], inches: float) -> int:
    """How many keys stand side by side in a legend as wide as a figure of so many inches."""
    longest = max(len(line) for key in keys for line in str(key.get_label()).split("\n"))
    return max(1, min(len(keys), int(inches * LETTERS_AN_INCH / (longest + KEY))))


def add_legend(figure: Figure, keys: Sequence[Artist], most: int = 100) -> None:
    """A legend above the panels, of at most so many columns; the figure grows by its height."""
    columns = min(most, legend_columns(keys, figure.get_figwidth()))
    lines = max(str(key.get_label()).count("\n") + 1 for key in keys)
    rows = -(-len(keys) // columns)
    figure.set_figheight(figure.get_figheight() + 0.1 + rows * (0.15 * lines + 0.06))
    figure.legend(handles=keys, loc="outside upper left", ncols=columns)


def settle(losses: Iterable[str]) -> None:
    """Gives the losses of a page their colours and names."""
    every = list(losses)
    COLOURS.settle(every)
    settle_names(every)


def short_name(name: str) -> str:
    """A loss's name in a figure: on two lines at most, a long one without its middle."""
    return "\n".join(textwrap.wrap(cut(name, CUT), HEADING + 4))


def panel_title(loss: str, before: str = "") -> str:
    """A loss's name above a panel: a long one on several lines."""
    return "\n".join(textwrap.wrap(f"{before}{cut(loss_name(loss), 4 * HEADING)}", HEADING))


def loss_keys(losses: Iterable[str]) -> list[Artist]:
    """The lines of a legend that say which colour is which loss."""
    shown = [loss for loss in COLOURS if loss in set(losses)]
    return [Patch(color=COLOURS[loss], label=short_name(loss_name(loss))) for loss in shown]


def status_keys(statuses: Iterable[str]) -> list[Artist]:
    """The lines of a legend that say which marker is which status."""
    grey: dict[str, Any] = {"color": "0.4", "ls": "", "ms": 7, "mec": "white"}
    shown = [status for status in MARKERS if status in set(statuses)]
    return [Line2D([], [], marker=MARKERS[s], label=f"trial {words(s)}", **grey) for s in shown]


def add_loss_keys(figure: go.Figure, losses: Iterable[str]) -> None:
    """`loss_keys` of a figure that moves."""
    for loss in [loss for loss in COLOURS if loss in set(losses)]:
        _add_key(figure, loss_name(loss), {"color": COLOURS[loss], "symbol": "square", "size": 11})


def add_status_keys(figure: go.Figure, statuses: Iterable[str]) -> None:
    """`status_keys` of a figure that moves."""
    for status in [status for status in SYMBOLS if status in set(statuses)]:
        marker = {"color": "#808080", "symbol": SYMBOLS[status], "size": 9}
        _add_key(figure, f"trial {words(status)}", marker)


def _add_key(figure: go.Figure, name: str, marker: dict[str, Any]) -> None:
    """A line of the legend that belongs to no trace alone."""
    figure.add_scatter(x=[None], y=[None], mode="markers", marker=marker, name=name)


def _plain(figure: go.Figure) -> str:
    """Without Plotly's own look: the page gives it the colours of its theme.

    The legend lies above the plot, and above the titles of its panels, in a margin that grows with
    it. It explains and does not switch: what it shows may be a part of each of several traces.
    """
    titles = 26 if figure.layout.annotations else 4  # px, of the panels
    top, bottom = 10 + titles, 50
    inside = (figure.layout.height or HEIGHT) - top - bottom
    legend = {"orientation": "h", "x": 0, "y": 1 + titles / inside, "yanchor": "bottom"}
    figure.update_layout(
        template="none",
        margin={"l": 60, "r": 10, "t": top, "b": bottom},
        legend=legend | {"title": "", "itemclick": False, "itemdoubleclick": False},
        font={"family": "system-ui, sans-serif", "size": 13},
        hovermode="closest",
        height=figure.layout.height or HEIGHT,
    )
    return str(figure.to_json())
