"""Several comparisons of the same losses on other splits or folds: what holds over all of them.

The unit is a comparison: its split of the classes, the searches on it and the seeds that confirmed
their choices are one draw of what is chance, and a loss's mAP is its mean over the runs.
Differences are paired by comparison, as a split that is hard is hard for all losses. Comparisons
that share classes, or test images, are not independent of each other; what they have in common is
in no interval then, and the tables say so.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import numpy as np
import pandas as pd

from study.judge.choices import Frozen
from study.judge.final_tables import protocols_of
from study.judge.final_test import FINALS, is_complete
from study.judge.significance import (
    ALPHA,
    MARGIN,
    POWER,
    equivalence,
    holm,
    mean_interval,
    paired_test,
    smallest_difference,
)
from study.run.results import StudyError, read_json
from trainables.losses import resolve

# What of their plans comparisons must have alike to be pooled.
ALIKE = ("data", "network", "weights", "protocol", "max_epochs", "confirm_epochs", "num_samples",
         "select_by")  # fmt: skip
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
        shared: what of the images the comparisons have in common, in a sentence; or empty.
        differences: a row a pair: `difference`, its interval, `ahead`, in how many comparisons the
            first is above, `p` (paired t), `equivalence_p` (paired TOST), both corrected over the
            pairs (Holm) for the `verdict`, and the `smallest` true difference that would be shown.
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
    runs, plans, frozen = [], [], set()
    for folder in folders:
        if not is_complete(folder):
            raise StudyError(f"comparisons are pooled when their tests are done; {folder} is not")
        table = pd.read_csv(folder / FINALS / "runs.csv").query("role == 'chosen'")
        score = f"map_{protocols_of(table)[0]}"
        found[str(folder.resolve())] = table.groupby("loss")[score].mean()
        runs.append(table)
        plans.append(read_json(folder / "study.json")["plan"])
        frozen.add(json.dumps(Frozen.load(folder).frozen))  # a record has it as its study has
    if len(found) < 2 or len(frozen) < len(folders):
        raise StudyError(f"two comparisons or more must be given, once each; got {len(folders)}")
    for name in ALIKE:
        values = list(dict.fromkeys(json.dumps(plan.get(name)) for plan in plans))
        if len(values) > 1:
            raise StudyError(f"pooled comparisons must have one {name}; got {' and '.join(values)}")
    maps = pd.DataFrame(found).T
    if maps.isna().any(axis=None):
        lacking = maps.isna().any(axis=1).idxmax()
        others = ", ".join(maps.columns[maps.loc[lacking].isna()])
        raise StudyError(f"pooled comparisons must be of the same losses; {lacking} lacks {others}")
    maps = maps[maps.mean().sort_values(ascending=False).index]
    return Pooled(maps, _losses(maps, pd.concat(runs)), _differences(maps), _shared(plans))


def _shared(plans: Sequence[Mapping[str, Any]]) -> str:
    tested = [frozenset(plan.get("holdout_classes") or ()) for plan in plans]
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
    table["p_corrected"], same = holm(table["p"].tolist()), holm(table["equivalence_p"].tolist())
    equal = np.where(np.array(same) < ALPHA, "equivalent", "not resolved")
    table["verdict"] = np.where(table["p_corrected"] < ALPHA, "shown", equal)
    return table


def markdown(found: Pooled) -> str:
    """The tables for a page."""
    named = found.losses.assign(name=found.losses["loss"].map(name_of))
    pairs = found.differences
    if len(pairs):
        pairs = pairs.assign(
            name=pairs["first"].map(name_of) + " − " + pairs["second"].map(name_of)
        )
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


def name_of(loss: str) -> str:
    """As it stands at the beginning of a cell."""
    title = resolve(loss).title
    return title[0].upper() + title[1:]
