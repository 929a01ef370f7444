"""The one reading of the test split: the confirmed runs on the test images, with statistics.

    finals/
        runs.csv          a row a confirmed run: its seed, best epoch, validation and test mAP
        queries.npz       by run, the AP of every query and the mean curve; the nearest images
        summary.csv       a row a protocol, role and loss: mAP with its intervals, and what it cost
        differences.csv   a row a protocol, role and pair: paired differences, corrected
        readings.jsonl    a line a reading of the test split

A reading is logged before it happens. summary.csv is written last: a reading without it was
interrupted, and can be completed, which is logged as a reading of its own.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import time
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import torch

from study.choices import CHOICES, Frozen
from study.evaluation import Evaluation, evaluate, trained_network
from study.final_tables import differences_table, runs_table, summary_table
from study.plan import Plan
from study.results import Study, StudyError, TrialRecord, write_atomically
from trainables.data import DATASETS, LabelledImages
from trainables.retrieval import nearest

FINALS = "finals"
FIRST = "first reading"
INTERRUPTED = "the reading before was interrupted"
NEAREST = {"full": 10, "seed": 50}
SMOKE_TEST = 1_000  # test images in a smoke test


def readings(folder: Path) -> list[dict[str, Any]]:
    """The log of a comparison's readings of the test split, empty before the first."""
    log = folder / FINALS / "readings.jsonl"
    if not log.exists():
        return []
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]


def is_complete(folder: Path) -> bool:
    """Whether the last reading has left its results."""
    return bool(readings(folder)) and (folder / FINALS / "summary.csv").exists()


def read_test(
    sweep: Study,
    confirmation: Study,
    *,
    reread: str | None = None,
    resume: bool = False,
    data_dir: str | None = None,
) -> None:
    """Reads the test split, evaluates every confirmed run on it and writes finals/.

    Args:
        reread: why it is to be read again; None: it may not have been read.
        resume: a reading that was interrupted is to be completed.

    Raises:
        StudyError: the sweep or its confirmation is not finished, the choices are not frozen or
            were changed since a reading, a checkpoint is missing, or the test split was read.
        DataError: the test images are missing or damaged.
    """
    for study in (sweep, confirmation):
        if study.info["status"] != "finished":
            law = "the test split is read when the sweep and its confirmation are finished"
            raise StudyError(f"{law}; {study.folder} is {study.info['status']}")
    frozen = Frozen.load(sweep.folder)
    why = _reason(sweep.folder, reread, resume)
    runs = sorted(
        (run for run in confirmation.trials if run.status == "finished"),
        key=lambda run: run.trial_id,
    )
    for run in runs:
        trained_network(confirmation.choice(run))  # whatever is missing is missed before a reading
    folder = sweep.folder / FINALS
    folder.mkdir(exist_ok=True)
    (folder / "summary.csv").unlink(missing_ok=True)
    _log(sweep.folder, why, len(runs))
    test = _test_images(sweep, data_dir)
    arrays, rows = {"labels": test.labels.astype(np.uint8)}, []
    shown: set[tuple[str, str]] = set()
    for run in runs:
        role = frozen.role(run)
        evaluation = evaluate(confirmation.choice(run), test)
        arrays |= _queries(run.trial_id, evaluation)
        if (run.loss, role) not in shown:
            arrays |= _nearest(run.trial_id, evaluation)
            shown.add((run.loss, role))
        rows.append(_row(run, role, evaluation))
        scores = ", ".join(f"{name} {rows[-1][f'map_{name}']:.4f}" for name in NEAREST)
        print(f"  {run.trial_id}  {role:<9}  seed {run.config.seed}  test mAP {scores}", flush=True)
    _write(folder, sweep, runs_table(rows), arrays)


def _reason(folder: Path, reread: str | None, resume: bool) -> str:
    """Why the test split is read now; StudyError if it may not be."""
    before = readings(folder)
    if before and before[-1]["sha256"] != _digest(folder):
        raise StudyError(f"{folder / CHOICES} was changed after the test split was read")
    if reread is not None:
        return reread
    if not before:
        return FIRST
    if resume and not is_complete(folder):
        return INTERRUPTED
    raise StudyError(
        f"the test split is read once; {folder / FINALS} logs {len(before)} "
        f'reading{"s" * (len(before) > 1)}: say why with --reread-test "why"'
    )


def _log(folder: Path, why: str, rows: int) -> None:
    line = {"time": time.time(), "why": why, "sha256": _digest(folder), "rows": rows}
    lines = [json.dumps(entry) for entry in [*readings(folder), line]]
    write_atomically(folder / FINALS / "readings.jsonl", "\n".join(lines) + "\n")


def _digest(folder: Path) -> str:
    return hashlib.sha256((folder / CHOICES).read_bytes()).hexdigest()


def _test_images(sweep: Study, data_dir: str | None) -> LabelledImages:
    (name,) = {choice.config.dataset for choice in Frozen.load(sweep.folder).choices.values()}
    test = DATASETS[name].load_test(data_dir, frozen=sweep.folder / CHOICES)
    plan = Plan(**sweep.info["plan"])
    if plan.holdout_classes:
        test = test.take(np.isin(test.labels, plan.holdout_classes))
    return test.take(slice(SMOKE_TEST)) if plan.smoke_test else test


def _queries(trial_id: str, evaluation: Evaluation) -> dict[str, np.ndarray]:
    arrays = {}
    for name, judged in evaluation.protocols.items():
        arrays[f"ap_{name}/{trial_id}"] = judged.result.average_precision.astype(np.float32)
        arrays[f"precision_{name}/{trial_id}"] = judged.result.precision.astype(np.float32)
    return arrays


def _nearest(trial_id: str, evaluation: Evaluation) -> dict[str, np.ndarray]:
    """The gallery rows that are nearest to each query, (Q, k) uint16, nearest first."""
    arrays = {}
    for name, most in NEAREST.items():
        protocol = evaluation.protocols[name].protocol
        gallery = evaluation.embeddings[: protocol.gallery]
        rows = nearest(
            gallery[: protocol.queries],
            gallery,
            k=min(most, protocol.gallery - 1),
            query_index=torch.arange(protocol.queries),
        )
        arrays[f"nearest_{name}/{trial_id}"] = rows.numpy().astype(np.uint16)
    return arrays


def _row(run: TrialRecord, role: str, evaluation: Evaluation) -> dict[str, Any]:
    scores = {
        f"map_{name}": judged.mean_average_precision
        for name, judged in evaluation.protocols.items()
    }
    return {
        "trial_id": run.trial_id,
        "loss": run.loss,
        "role": role,
        "seed": run.config.seed,
        "epochs": len(run.epochs),
        "best_epoch": evaluation.choice.epoch,
        "best_val_map": evaluation.choice.val_map,
        "seconds": round(run.seconds, 3),
        **scores,
    }


def _write(folder: Path, sweep: Study, runs: pd.DataFrame, arrays: dict[str, np.ndarray]) -> None:
    content = io.BytesIO()
    np.savez_compressed(content, **cast(dict[str, Any], arrays))
    partial = folder / ".queries.npz.partial"
    partial.write_bytes(content.getvalue())
    os.replace(partial, folder / "queries.npz")
    tables = {
        "runs": runs,
        "differences": differences_table(runs, arrays, sweep.losses),
        "summary": summary_table(runs, arrays, sweep),  # last: it says that the others are there
    }
    for name, table in tables.items():
        write_atomically(folder / f"{name}.csv", table.to_csv(index=False))
