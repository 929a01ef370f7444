"""Finished comparisons in small: what of their folders is pooled."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from study.judge.choices import Frozen
from study.judge.final_files import TABLES
from study.results.images import DATA
from study.results.studies import Study
from study.run.plan import Plan
from trainables.data.fashion_mnist import CLASSES

# By comparison and loss, the mAPs of two runs.
MAPS: Sequence[Mapping[str, tuple[float, float]]] = (
    {"triplet": (0.50, 0.52), "smooth_ap": (0.60, 0.62)},
    {"triplet": (0.70, 0.72), "smooth_ap": (0.82, 0.82)},
    {"triplet": (0.30, 0.32), "smooth_ap": (0.40, 0.40)},
)


# By how much the AP of a class's queries is above their mean: three queries of one class, two of
# another, and one that has no relevant image.
BY_QUERY = np.array([0.02, 0.06, 0.04, -0.06, -0.06, np.nan], np.float32)
QUERIES, LABELS = [0, 2, 3, 5, 6, 7], [1, 9, 1, 1, 9, 4, 4, 9]


def write(
    folder: Path,
    maps: Mapping[str, Sequence[float]],
    references: Sequence[float] = (0.0,),
    **changes: Any,
) -> Path:
    """What a finished comparison has of its runs; `references` are of triplet."""
    changes = {"seed": 10_000 * int(folder.name), **changes}
    folder.mkdir()
    (folder / DATA).write_text(json.dumps({"name": "fashion_mnist", "classes": CLASSES}))
    plan = Plan(losses=list(maps), num_samples=2, max_epochs=1, **changes)
    Study.create(folder, {"status": "finished", "plan": plan.fields()})
    Study.create(folder / "confirmation", {"status": "finished", "plan": plan.fields()})
    Frozen("a rule", float(folder.name), {}, [1, 2]).write(folder)
    rows = [
        {"trial_id": f"{loss}-{n:03d}", "loss": loss, "role": "chosen", "map_full": value}
        for loss, values in maps.items()
        for n, value in enumerate(values)
    ]
    rows += [
        {"trial_id": f"triplet-{n:03d}", "loss": "triplet", "role": "reference", "map_full": value}
        for n, value in enumerate(references, start=9)
    ]
    (folder / "finals").mkdir()
    table = pd.DataFrame(rows)
    table = table.assign(map_seed=table["map_full"] / 2, epochs=100, search=0)
    table = table.reindex(columns=dict.fromkeys([*table, *TABLES["runs"]]))
    table.to_csv(folder / "finals" / "runs.csv", index=False)
    # The first loss is better at one class than at the other, the second answers all alike.
    answered = {
        f"ap_full/{row['trial_id']}": row["map_full"] + BY_QUERY * (row["loss"] == "triplet")
        for row in rows
    }
    recall = np.arange(101) / 100  # the curve of a run whose mAP is 0.5 is a line from 1 to 0
    answered |= {
        f"precision_full/{row['trial_id']}": row["map_full"] + 0.5 - recall for row in rows
    }
    answered |= {name.replace("full", "seed"): array for name, array in answered.items()}
    where = {"labels": np.array(LABELS)}
    for protocol in ("full", "seed"):
        where |= {f"queries_{protocol}": np.array(QUERIES)}
        where |= {f"gallery_{protocol}": np.arange(len(LABELS))}
    np.savez(folder / "finals" / "queries.npz", **answered, **where)
    number = 1 + int(folder.name)
    summary = [
        {"protocol": protocol, "role": role, "loss": loss, "trials": 10 * number,
         "epochs": 1.25 * number, "sweep_seconds": 360 * number, "val_map": 0.1 * number}
        for protocol in ("full", "seed") for role in ("chosen", "reference") for loss in maps
    ]  # fmt: skip
    costs = pd.DataFrame(summary).reindex(columns=TABLES["summary"])
    costs.to_csv(folder / "finals" / "summary.csv", index=False)
    return folder


def of_three_splits(root: Path) -> list[Path]:
    """Finished comparisons of `MAPS`, each with test classes of its own."""
    held_out = ([0, 1], [2, 3], [4, 5])
    return [write(root / str(n), maps, holdout_classes=held_out[n]) for n, maps in enumerate(MAPS)]
