"""Real searches from scratch: what each chose, and what its rungs let through.

    python study/tune_smoothap.py --from-scratch --seed 3 --name scratch-3
    python tests/benchmarks/bench_from_scratch.py results/scratch-3 --space "batch of 256"
    python tests/benchmarks/bench_from_scratch.py          # the tables, of all that are kept

Their trials are kept in `searches.csv`, without what a study knows beside them. Seconds are those
of the trials, each on one core: core-seconds where nothing else ran.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[2]))

from study.results.studies import Study
from study.results.trials import SELECTION

KEPT = Path(__file__).parent / "searches.csv"
SHOWN = ("batch_size", "lr", "weight_decay", "tau", "numerator", "margin", "temperature")
SEARCH = ["loss", "space", "search"]  # what is one search


def rows_of(study: Study, space: str) -> pd.DataFrame:
    """A row a trial of a finished search."""
    if study.info["status"] != "finished":
        raise SystemExit(f"{study.folder} is {study.info['status']}, not finished")
    table = study.trials_frame().rename(columns={f"best_{study.metric}": "map"})
    kept = ["loss", "trial_id", "origin", "follows", "epochs", "seed", "map", "seconds"]
    found = table[kept + [knob for knob in SHOWN if knob in table]]
    found.insert(1, "space", space)
    found.insert(2, "search", study.info["plan"]["seed"])
    return found.round({"map": 6, "seconds": 1, "epochs": 4})


def choices(trials: pd.DataFrame) -> pd.DataFrame:
    """A row a search: the highest mean over its final seeds, of those that have had the most
    (`Study.best`), and what all its trials cost."""
    rows = []
    for (loss, space, search), each in trials.groupby(SEARCH, sort=False):
        finals = each[each["origin"] == SELECTION]
        by_configuration = finals.groupby("follows")["map"]
        seeds = by_configuration.count()
        means = by_configuration.mean()[seeds == seeds.max()]
        rows.append(
            {
                "loss": loss,
                "space": space,
                "search": search,
                "chosen": means.max(),
                "epochs": each["epochs"].sum(),
                "seconds": each["seconds"].sum(),
            }
        )
    return pd.DataFrame(rows)


def promoted(trials: pd.DataFrame) -> pd.DataFrame:
    """How many trials of each batch size came to each rung: a row a batch size, a column a rung in
    epochs."""
    climbing = trials[trials["origin"] != SELECTION]
    rung = climbing["epochs"].map(lambda epochs: float(f"{epochs:.2g}"))
    return pd.crosstab(climbing["batch_size"], rung)


def main() -> None:
    parser = argparse.ArgumentParser(description="What real searches from scratch chose.")
    parser.add_argument("studies", nargs="*", type=Path, help="finished ones, to be kept")
    parser.add_argument("--space", default="", help="what their space is called")
    options = parser.parse_args()
    if options.studies and not options.space:
        parser.error("--space must say what their space is called")
    kept = [pd.read_csv(KEPT)] if KEPT.exists() else []
    kept += [rows_of(Study.load(folder), options.space) for folder in options.studies]
    trials = pd.concat(kept, ignore_index=True).drop_duplicates([*SEARCH, "trial_id"], keep="last")
    if options.studies:
        trials.to_csv(KEPT, index=False)
    print(choices(trials).to_markdown(index=False, floatfmt=("", "", "", ".4f", ".0f", ".0f")))
    for space, each in trials.groupby("space", sort=False):
        if each["batch_size"].nunique() > 1:
            print(f"\n{space}: trials of a batch size that came to so many epochs\n")
            print(promoted(each).to_markdown())


if __name__ == "__main__":
    main()
