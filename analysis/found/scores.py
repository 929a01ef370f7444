"""The metric by which a study stops and chooses: its column in tables of trials, and its title."""

from __future__ import annotations

import pandas as pd

from study.results.trials import title

PREFIX = "best_val_"


def score_column(metric: str) -> str:
    """Of a table of trials: the metric, such as `val_map`, at each trial's best epoch."""
    return f"best_{metric}"


def score_of(table: pd.DataFrame) -> str:
    """The score column of a table of trials, which has one."""
    (column,) = [name for name in table.columns if name.startswith(PREFIX)]
    return str(column)


def validation(metric: str) -> str:
    """`validation mAP`, of the metric `val_map` or of its score column."""
    return f"validation {title(metric.removeprefix('best_'))}"
