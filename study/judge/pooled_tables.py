"""What several comparisons show together, as text that is ready to be read: tables and a note."""

from __future__ import annotations

import pandas as pd

from study.judge.pooled import Pooled
from study.judge.significance import MARGIN, POWER, could
from trainables.losses import resolve

TEXT = ("test mAP", "difference", "verdict", "the seed study's setting")  # columns of no number


def tables(found: Pooled) -> list[pd.DataFrame]:
    """The losses, their differences, then, where there are any, the references and the classes."""
    made = [losses_cells(found), differences_cells(found)]
    if not found.references.empty:
        made.append(references_cells(found))
    if found.classes is not None:
        made.append(classes_cells(found))
    return made


def losses_cells(found: Pooled) -> pd.DataFrame:
    """A row a loss, the best first."""
    rows = []
    for row in found.losses.to_dict("records"):
        cells = {
            "test mAP": heading(row["loss"]),
            f"mean of {len(found.maps)} comparisons": f"{row['map']:.4f}",
            "95 % over these": _range(row["low"], row["high"], ".4f"),
            "lowest": f"{row['lowest']:.4f}",
            "highest": f"{row['highest']:.4f}",
            "in validation": f"{row['val_map']:.4f}",
        }
        for name in found.protocols[1:]:
            cells[f"{name} protocol"] = f"{row[f'map_{name}']:.4f}"
            cells[f"95 %, {name}"] = _range(row[f"low_{name}"], row[f"high_{name}"], ".4f")
        cells["runs"] = str(row["runs"])
        spent = f"{row['trials']:,} trials, {row['epochs']:,.0f} epochs"
        cells["search"] = f"{spent}, {row['seconds'] / 3600:.2f} h"
        rows.append(cells)
    return pd.DataFrame(rows)


def differences_cells(found: Pooled) -> pd.DataFrame:
    """A row a pair of losses."""
    rows, many = [], len(found.maps)
    for row in found.differences.itertuples():
        cells = {
            "difference": f"{heading(row.first)} − {heading(row.second)}",
            "mean": f"{row.difference:+.4f}",
            "95 % over comparisons": _range(row.low, row.high, "+.4f"),
        }
        if found.common:
            both = _range(row.both_low, row.both_high, "+.3f")
            cells["over comparisons and classes"] = both
        cells |= {
            "ahead in": f"{row.ahead} of {many}",
            "corrected p": f"{row.p_corrected:.2g}",
            "could have shown": could(row.smallest),
            "verdict": row.verdict,
            f"p of ±{MARGIN}": f"{row.p_alike:.2g}",
        }
        rows.append(cells)
    return pd.DataFrame(rows)


def references_cells(found: Pooled) -> pd.DataFrame:
    """A row a loss whose reference was trained."""
    rows = []
    for row in found.references.to_dict("records"):
        rows.append(
            {
                "the seed study's setting": heading(row["loss"]),
                "mean of its runs": f"{row['map']:.4f}",
                "lowest": f"{row['lowest']:.4f}",
                "highest": f"{row['highest']:.4f}",
                **{f"{name} protocol": f"{row[f'map_{name}']:.4f}" for name in found.protocols[1:]},
                "runs": f"{row['runs']} × {row['epochs']} epochs",
                "the loss's choices are ahead by": f"{row['difference']:+.4f}",
                "95 %": _range(row["low"], row["high"], "+.4f"),
                "corrected p": f"{row['p_corrected']:.2g}",
                "verdict": row["verdict"],
            }
        )
    return pd.DataFrame(rows)


def classes_cells(found: Pooled) -> pd.DataFrame:
    """A row a loss, a column a class; where not all comparisons test all, how many do."""
    assert found.classes is not None
    head = "mean AP of a class's queries" + ("" if found.common else " where tested")
    cells = found.classes.map("{:.3f}".format)
    cells.insert(0, head, [heading(str(loss)) for loss in cells.index])
    if not found.common:
        cells.loc["comparisons"] = [
            "comparisons",
            *(str(found.tested[n]) for n in cells.columns[1:]),
        ]
    return cells.reset_index(drop=True)


def note(found: Pooled) -> str:
    """How the tables are to be read, and what weakens them."""
    return (
        "The unit is a comparison, with its split, its searches and its seeds; *search* is what "
        "all of them took, in trials, epochs and hours of training. *In validation* is the mean "
        "mAP of the same runs on the images that chose them. "
        f"{_on_differences(found)}{_on_lacking(found)}{_on_references(found)}{found.shared}"
    ).strip()


def _on_differences(found: Pooled) -> str:
    pairs = len(found.differences)
    if not pairs:
        return ""
    both = "the larger of paired t-tests over comparisons and over queries,"
    p = both if found.common else "of a paired t-test,"
    return (
        f"Differences are paired by comparison. p is {p} "
        f"corrected for {'one pair' if pairs == 1 else f'{pairs} pairs'} (Holm); *ahead in*: in "
        "how many the first is above; *could have shown* is the "
        f"true difference that {100 * POWER:.0f} % of such sets of comparisons would show over "
        "comparisons, if they spread as these do (none: there is none so large); *p of "
        f"±{MARGIN}* is that of a difference of {MARGIN} mAP or more (paired TOST, corrected "
        "alike): below 0.05 the two are equivalent within it, also where a difference is shown. "
    )


def markdown(found: Pooled) -> str:
    """The tables and the note for a page."""
    return "".join(f"{_markdown(cells)}\n" for cells in tables(found)) + f"{note(found)}\n"


def heading(loss: str) -> str:
    """A loss's name at the head of a row."""
    return resolve(loss).heading


def _range(low: float, high: float, form: str) -> str:
    return f"{low:{form}} to {high:{form}}"


def _markdown(cells: pd.DataFrame) -> str:
    """A table whose numbers end at the right."""
    heads = [str(head) for head in cells]
    if cells.empty:
        return ""
    sides = ["---" if head in TEXT or not n else "--:" for n, head in enumerate(heads)]
    rows = [" | ".join(row) for row in cells.itertuples(index=False)]
    return "".join(
        f"|{line}|\n"
        for line in (f" {' | '.join(heads)} ", "|".join(sides), *(f" {row} " for row in rows))
    )


def _on_lacking(found: Pooled) -> str:
    if not found.lacking:
        return ""
    runs = ", ".join(f"{n} of {heading(loss)}" for loss, n in found.lacking.items())
    return f"Confirming runs that did not end well: {runs}; nothing is called shown in its favour. "


def _on_references(found: Pooled) -> str:
    if found.references.empty:
        return ""
    return (
        "Of the seed study's settings the unit is a run, without a search, where a choice's is "
        "the mean of a comparison's runs: p is the larger of Welch's test of the comparisons "
        "beside these runs and of a paired one over queries, corrected for "
        "those that were asked for (Holm). "
    )
