"""Several comparisons of the same losses on other splits or folds: what holds over all of them.

The unit is a comparison: its split of the classes, the searches on it and the seeds that confirmed
their choices are one draw of what is chance, and a loss's mAP is its mean over the runs.
Differences are paired by comparison, as a split that is hard is hard for all losses. Comparisons
that share classes, or test images, are not independent of each other; what they have in common is
in no interval then, and the tables say so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import pandas as pd

from study.judge.choices import Frozen
from study.judge.final_tables import protocols_of
from study.judge.final_test import FINALS, is_complete
from study.judge.significance import (
    MARGIN,
    POWER,
    equivalence,
    holm,
    mean_interval,
    paired_test,
    said,
    smallest_difference,
)
from study.run.plan import MAY_CHANGE, Plan
from study.run.results import StudyError, read_json
from trainables.losses import resolve

# What of their plans comparisons need not have alike to be pooled: splits, seeds and machines.
MAY_DIFFER = {"holdout_classes", "validation_classes", "fold", "seed", "losses", "reference_seeds",
              "reference_epochs", *MAY_CHANGE} - {"data"}  # fmt: skip
TABLE = """\
| test mAP | mean of {{ many }} comparisons | 95 % over these | lowest | highest | runs |
|---|--:|--:|--:|--:|--:|
{% for row in losses -%}
| {{ row.name }} | {{ "%.4f" | format(row.map) }} | {{ "%.4f" | format(row.low) }} to \
{{ "%.4f" | format(row.high) }} | {{ "%.4f" | format(row.lowest) }} | \
{{ "%.4f" | format(row.highest) }} | {{ row.runs }} |
{% endfor %}
| difference | mean | 95 % over comparisons | ahead in | corrected p | could have shown | verdict |
|---|--:|--:|--:|--:|--:|---|
{% for row in differences -%}
| {{ row.name }} | {{ "%+.4f" | format(row.difference) }} | {{ "%+.4f" | format(row.low) }} to \
{{ "%+.4f" | format(row.high) }} | {{ row.ahead }} of {{ many }} | \
{{ "%.2g" | format(row.p_corrected) }} | {{ "%.4f" | format(row.smallest) }} | {{ row.verdict }} |
{% endfor %}
{{ note }}
"""


class Pooled(NamedTuple):
    """What several comparisons found.

    Attributes:
        maps: (comparisons, losses), the mean test mAP of each loss's choices, first protocol.
        losses: a row a loss: `map`, its mean, `low` to `high`, the 95 % interval over comparisons
            (Student's t), `lowest`, `highest`, and `runs`, how many in all.
        differences: a row a pair: `difference`, its interval, `ahead`, in how many comparisons the
            first is above, `p` (paired t), `equivalence_p` (paired TOST), both corrected over the
            pairs (Holm) for the `verdict`, and the `smallest` true difference that would be shown.
        shared: what of the images the comparisons have in common, in a sentence; or empty.
    """

    maps: pd.DataFrame
    losses: pd.DataFrame
    differences: pd.DataFrame
    shared: str


def pooled(folders: Sequence[Path]) -> Pooled:
    """The finished comparisons in these folders, taken together.

    Raises:
        StudyError: there are fewer than two, one comes twice or is not finished, or they are not of
            the same losses, data, network and budget.
    """
    found: dict[str, pd.Series] = {}
    runs, plans, frozen = [], [], set[float]()
    for folder in folders:
        if not is_complete(folder):
            raise StudyError(f"comparisons are pooled when their tests are done; {folder} is not")
        table = pd.read_csv(folder / FINALS / "runs.csv").query("role == 'chosen'")
        score = f"map_{protocols_of(table)[0]}"
        found[str(folder.resolve())] = table.groupby("loss")[score].mean()
        runs.append(table)
        plans.append(Plan(**read_json(folder / "study.json")["plan"]).fields())
        frozen.add(Frozen.load(folder).frozen)  # a record has it as its study has
    if len(found) < 2 or len(frozen) < len(folders):
        raise StudyError(f"two comparisons or more must be given, once each; got {len(folders)}")
    for name, first in plans[0].items():
        others = [plan[name] for plan in plans if plan[name] != first]
        if others and name not in MAY_DIFFER:
            law = f"pooled comparisons must have one {name}"
            raise StudyError(f"{law}; got {first} and {others[0]}")
    maps = pd.DataFrame(found).T
    if maps.isna().any(axis=None):
        lacking = maps.isna().any(axis=1).idxmax()
        absent = ", ".join(maps.columns[maps.loc[lacking].isna()])
        raise StudyError(f"pooled comparisons must be of the same losses; {lacking} lacks {absent}")
    maps = maps[maps.mean().sort_values(ascending=False).index]
    return Pooled(maps, _losses(maps, pd.concat(runs)), _differences(maps), _shared(plans))


def _shared(plans: Sequence[Mapping[str, Any]]) -> str:
    tested = [frozenset(plan["holdout_classes"]) for plan in plans]
    if len(set(tested)) == 1:
        return "All have the same test images: what other images would give is in no interval."
    if any(one & other for one, other in combinations(tested, 2)):
        return "Their test classes overlap: they are not independent, and the intervals too narrow."
    return ""


def _losses(maps: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for loss in maps:
        low, high = mean_interval(maps[loss].to_numpy())
        row = {"loss": loss, "map": maps[loss].mean(), "low": low, "high": high}
        row |= {"lowest": maps[loss].min(), "highest": maps[loss].max()}
        rows.append({**row, "runs": int((runs["loss"] == loss).sum())})
    return pd.DataFrame(rows)


def _differences(maps: pd.DataFrame) -> pd.DataFrame:
    rows, pairs = [], list(combinations(maps, 2))
    for first, second in pairs:
        a, b = maps[first].to_numpy(), maps[second].to_numpy()
        test = paired_test(a, b)
        rows.append(
            {
                "first": first,
                "second": second,
                "difference": float((a - b).mean()),
                "low": test.interval.low,
                "high": test.interval.high,
                "ahead": int((a > b).sum()),
                "p": test.p,
                "equivalence_p": equivalence(a, b, paired=True),
                "smallest": smallest_difference(a, b, family=len(pairs), paired=True),
            }
        )
    table = pd.DataFrame(rows)
    if table.empty:
        return table
    table["p_corrected"] = holm(table["p"].tolist())
    table["verdict"] = said(table["p_corrected"], holm(table["equivalence_p"].tolist()))
    return table


def markdown(found: Pooled) -> str:
    """The tables for a page."""
    heading = {loss: resolve(loss).heading for loss in found.maps}
    named = found.losses.assign(name=found.losses["loss"].map(heading))
    pairs = found.differences
    if len(pairs):
        names = [pairs[column].map(heading) for column in ("first", "second")]
        pairs = pairs.assign(name=names[0] + " − " + names[1])
    many = "one pair" if len(pairs) == 1 else f"{len(pairs)} pairs"
    note = (
        "The unit is a comparison, with its split, its searches and its seeds; differences are "
        f"paired by it. p is of a paired t-test, corrected for {many} (Holm); *could "
        f"have shown* is the true difference that {100 * POWER:.0f} % of such sets of comparisons "
        f"would show; *equivalent* is within ±{MARGIN} mAP (paired TOST, corrected alike). "
        f"{found.shared}"
    ).strip()
    template = jinja2.Template(TABLE, undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    return template.render(
        many=len(found.maps),
        losses=list(named.itertuples()),
        differences=list(pairs.itertuples()),
        note=note,
    )
