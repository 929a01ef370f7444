"""Precision over recall of several comparisons together, each one's mean over its runs a draw."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.found.runs import mean_curve
from study.judge.final_files import read_arrays, read_table
from study.judge.final_test import FINALS
from study.judge.pooled import Pooled


def pooled_curves(folders: Sequence[Path], found: Pooled) -> pd.DataFrame:
    """A row a point of a loss's mean curve under the first protocol, as in `pr_table`.

    Of choices `low` to `high` are 95 % over comparisons and `runs` is how many there are of these;
    of references, where `found` has any, over their runs.
    """
    protocol = found.protocols[0]
    tables = [read_table(folder / FINALS, "runs") for folder in folders]
    runs = pd.concat([table.assign(at=n) for n, table in enumerate(tables)])
    known = {"chosen": set(found.maps), "reference": set(found.references["loss"])}
    runs = runs[[row.loss in known[row.role] for row in runs.itertuples()]]
    curves: dict[tuple[str, str], list[np.ndarray]] = {}
    for at, mine in runs.groupby("at"):
        arrays = read_arrays(folders[int(str(at))] / FINALS, mine, ("precision",))
        for (loss, role), each in mine.groupby(["loss", "role"]):
            some = [arrays[f"precision_{protocol}/{trial}"] for trial in each["trial_id"]]
            if role == "chosen":
                some = [np.mean(some, axis=0)]
            curves.setdefault((str(loss), str(role)), []).extend(some)
    scores = {
        "chosen": found.maps.mean(),
        "reference": found.references.set_index("loss").reindex(columns=["map"])["map"],
    }
    parts = []
    for role, losses in known.items():
        for loss in sorted(losses, key=list(found.maps).index):
            drawn = curves[loss, role]
            curve = mean_curve(np.stack(drawn)).rename(columns={"mean": "precision"})
            curve = curve.assign(loss=loss, role=role, protocol=protocol, map=scores[role][loss])
            recall = np.arange(len(curve)) / (len(curve) - 1)
            parts.append(curve.assign(recall=recall, runs=len(drawn)))
    columns = ["loss", "role", "protocol", "recall", "precision", "low", "high", "map", "runs"]
    return pd.concat(parts, ignore_index=True)[columns]
