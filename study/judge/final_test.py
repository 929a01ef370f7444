"""The one reading of the test split: the confirmed runs on the test images, with statistics.

    finals/
        runs.csv          a row a confirmed run: its seed, best epoch, validation and test mAP
        queries.npz       by run, the AP of every query and the mean curve; the nearest images
        summary.csv       a row a protocol, role and loss: mAP with its intervals, and what it cost
        differences.csv   a row a protocol, role and pair: differences, tests and verdict
        classes.csv       a row a pair and class: by how much the first is above
        orders.csv        where other orders were asked for, a row a run and order: its mAP
        orders.npz        by order and run, the AP of every query

A reading is entered in the ledger of all studies (`trainables.data.ledger`) before it happens.
summary.csv is written last: a reading without it was interrupted, and can be completed, which is
entered as a reading of its own.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd

from study.judge.choices import CHOICES, Frozen
from study.judge.evaluation import Evaluation, evaluate, nearest_places, trained_network
from study.judge.final_tables import class_table, differences_table, runs_table, summary_table
from study.judge.other_orders import check_size, orders
from study.results.files import StudyError, write_atomically
from study.results.images import Images, read_test_images
from study.results.studies import Study
from study.results.trials import TrialRecord
from trainables.data.ledger import Reading, entries, ledger_of, name_of
from trainables.data.ledger import readings as readings_for
from trainables.metrics import METRICS
from trainables.terminal import in_a_line

FINALS = "finals"
FIRST = "first reading"
INTERRUPTED = "the reading before was interrupted"
RAW = ("runs.csv", "queries.npz")  # from which the other tables follow
ORDERED = ("orders.npz", "orders.csv")  # where other orders were asked for
NEAREST, NEAREST_OF_SEED = 10, 50  # images a query; the seed study showed 50


def readings(folder: Path) -> list[dict[str, Any]]:
    """The ledger's lines of a comparison's readings of the test split, empty before the first."""
    return readings_for(folder / CHOICES)


def was_read(folder: Path) -> bool:
    """Whether a reading has begun: by the ledger or, should it lie elsewhere, by what is left."""
    return bool(readings(folder)) or (folder / FINALS).exists()


def is_complete(folder: Path) -> bool:
    """Whether the last reading has left its results."""
    return (folder / FINALS / "summary.csv").exists()


def read_test(
    sweep: Study,
    confirmation: Study,
    *,
    others: Sequence[Study] = (),
    reread: str | None = None,
    resume: bool = False,
    data_dir: str | None = None,
) -> None:
    """Reads the test split, evaluates every confirmed run on it and writes finals/.

    Args:
        others: sweeps that repeated the search.
        reread: why it is to be read again; None: it may not have been read.
        resume: a reading that was interrupted is to be completed.

    Raises:
        StudyError: the sweep or its confirmation is not finished, no run of a choice ended well,
            the choices are not frozen or were changed since a reading, a checkpoint is missing, or
            the test split was read.
        DataError: the test images are missing or damaged, or the ledger cannot be written.
    """
    for study in (sweep, *others, confirmation):
        if study.info["status"] != "finished":
            law = "the test split is read when the sweep and its confirmation are finished"
            raise StudyError(f"{law}; {study.folder} is {study.info['status']}")
    frozen = Frozen.load(sweep.folder)
    why = _reason(sweep.folder, reread, resume)
    runs = sorted(
        (run for run in confirmation.trials if run.status == "finished"),
        key=lambda run: run.trial_id,
    )
    if not any(frozen.role(run) == "chosen" for run in runs):
        law = "the test split is read when a run of a choice ended well"
        raise StudyError(f"{law}; none did of {len(confirmation.trials)} in {confirmation.folder}")
    for run in runs:
        trained_network(confirmation.choice(run))  # whatever is missing is missed before a reading
    reading = Reading(
        frozen=sweep.folder / CHOICES,
        why=why,
        configurations=_configurations(runs, frozen),
        rows=len(runs),
        commit=sweep.info.get("commit"),
    )
    test = read_test_images(sweep, reading, data_dir)
    folder = sweep.folder / FINALS
    folder.mkdir(exist_ok=True)
    for name in ("summary.csv", *ORDERED):
        (folder / name).unlink(missing_ok=True)
    arrays, rows = _roles(test), []
    shown: set[tuple[str, str]] = set()
    for run in runs:
        role = frozen.role(run)
        evaluation = evaluate(confirmation.choice(run), test)
        arrays |= _queries(run.trial_id, evaluation)
        if (run.loss, role) not in shown:
            arrays |= _nearest(run.trial_id, evaluation)
            shown.add((run.loss, role))
        rows.append(_row(run, role, frozen.search(run), evaluation))
        scores = ", ".join(f"{name} {rows[-1][f'map_{name}']:.4f}" for name in test.protocols)
        print(f"  {run.trial_id}  {role:<9}  seed {run.config.seed}  test mAP {scores}", flush=True)
    _write_arrays(folder / "queries.npz", arrays)
    if sweep.info["plan"].get("rerank"):
        _write_orders(folder, confirmation, frozen, runs, test)
    table = runs_table(rows)
    write_atomically(folder / "runs.csv", table.to_csv(index=False))
    write_derived(folder, (sweep, *others), table, arrays)  # it is complete then


def _write_orders(
    folder: Path, confirmation: Study, frozen: Frozen, runs: Sequence[TrialRecord], test: Images
) -> None:
    """The same runs in other orders: lines of their own, which stop nothing."""
    arrays, rows = dict[str, np.ndarray](), []
    try:
        check_size(test.data)
        for run in runs:
            evaluation = evaluate(confirmation.choice(run), test)
            plain = next(iter(evaluation.protocols.values())).mean_average_precision
            own: dict[str, Any] = {"trial_id": run.trial_id, "loss": run.config.loss}
            own |= {"role": frozen.role(run), "search": frozen.search(run)}
            for order in orders(evaluation, test.data):
                arrays[f"{order.name}/{run.trial_id}"] = order.average_precision.astype(np.float32)
                found = float(np.nanmean(order.average_precision))
                gain, seconds = found - plain, round(order.seconds, 3)
                rows.append(
                    {**own, "order": order.name, "map": found, "gain": gain, "seconds": seconds}
                )
                print(f"  {run.trial_id}  {order.name}: test mAP {found:.4f}", flush=True)
    except (StudyError, MemoryError) as error:
        print(f"warning: no other orders: {in_a_line(error)}; all else goes on", file=sys.stderr)
        return
    _write_arrays(folder / "orders.npz", arrays)
    write_atomically(folder / "orders.csv", pd.DataFrame(rows).to_csv(index=False))


def _reason(folder: Path, reread: str | None, resume: bool) -> str:
    """Why the test split is read now; StudyError if it may not be."""
    before, ledger = readings(folder), ledger_of(folder)
    if (folder / FINALS).exists() and not before:
        name = name_of(folder)
        if any(line.get("study") == name for line in entries(ledger)):
            raise StudyError(f"{folder / CHOICES} was changed after the test split was read")
    if reread is not None:
        return reread
    if not was_read(folder):
        return FIRST
    if resume and not is_complete(folder):
        return INTERRUPTED
    known = f"{ledger} logs {len(before)} reading{'s' * (len(before) > 1)}"
    left = known if before else f"{folder / FINALS} holds what a reading left"
    raise StudyError(f'the test split is read once; {left}: say why with --reread-test "why"')


def _configurations(runs: Sequence[TrialRecord], frozen: Frozen) -> dict[str, str]:
    """Each configuration that was confirmed, without its seeds, by loss and role."""
    found = {}
    for run in runs:
        knobs = run.config.describe().split(", ")
        said = ", ".join(knob for knob in knobs if not knob.startswith("seed="))
        found[f"{run.config.loss}, {frozen.role(run)}"] = said
    return found


def narrow(values: np.ndarray) -> np.ndarray:
    """The same whole numbers in a small type that holds the least and the greatest of them."""
    least, most = int(values.min(initial=0)), int(values.max(initial=0))
    return values.astype(np.result_type(np.min_scalar_type(least), np.min_scalar_type(most)))


def _roles(images: Images) -> dict[str, np.ndarray]:
    """The labels (N,) of the images; by protocol, which of them are queries, which the gallery."""
    arrays = {"labels": narrow(images.data.labels)}
    for name, roles in images.protocols.items():
        arrays |= {f"queries_{name}": narrow(roles.queries)}
        arrays |= {f"gallery_{name}": narrow(roles.gallery)}
        if roles.groups is not None:
            arrays |= {f"groups_{name}": narrow(roles.groups)}
    return arrays


def _queries(trial_id: str, evaluation: Evaluation) -> dict[str, np.ndarray]:
    arrays = {}
    for name, judged in evaluation.protocols.items():
        arrays[f"ap_{name}/{trial_id}"] = judged.result.average_precision.astype(np.float32)
        arrays[f"precision_{name}/{trial_id}"] = judged.result.precision.astype(np.float32)
    return arrays


def _nearest(trial_id: str, evaluation: Evaluation) -> dict[str, np.ndarray]:
    """The images that are nearest to each query, (Q, k), nearest first."""
    return {
        f"nearest_{name}/{trial_id}": narrow(nearest_images(evaluation, name))
        for name in evaluation.protocols
    }


def nearest_images(evaluation: Evaluation, protocol: str) -> np.ndarray:
    """(Q, k) places of the images that are nearest to each query, nearest first."""
    roles = evaluation.protocols[protocol].roles
    k = min(NEAREST_OF_SEED if protocol == "seed" else NEAREST, roles.ranked)
    if not k:
        return np.empty((len(roles.queries), 0), dtype=np.int64)
    return nearest_places(evaluation.embeddings, roles, k)


def _row(run: TrialRecord, role: str, search: int, evaluation: Evaluation) -> dict[str, Any]:
    scores = {
        f"map_{name}": judged.mean_average_precision
        for name, judged in evaluation.protocols.items()
    }
    first = next(iter(evaluation.protocols.values())).result
    scores |= {name: METRICS[name].mean(first) for name in METRICS if name != "map"}
    return {
        "trial_id": run.trial_id,
        "loss": run.config.loss,
        "role": role,
        "search": search,
        "seed": run.config.seed,
        "epochs": run.reached,
        "best_epoch": evaluation.choice.epoch,
        "best_val_map": evaluation.choice.val_map,
        "seconds": round(run.seconds, 3),
        **scores,
    }


def _write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    content = io.BytesIO()
    np.savez_compressed(content, **cast(dict[str, Any], arrays))
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(content.getvalue())
    os.replace(partial, path)


def write_derived(
    folder: Path, sweeps: Sequence[Study], runs: pd.DataFrame, arrays: Mapping[str, np.ndarray]
) -> None:
    """Writes what follows from the runs and the AP of their queries into finals/."""
    tables = {
        "differences": differences_table(runs, arrays, sweeps),
        "classes": class_table(runs, arrays, sweeps),
        "summary": summary_table(runs, arrays, sweeps),  # last: it says that the others are there
    }
    for name, table in tables.items():
        write_atomically(folder / f"{name}.csv", table.to_csv(index=False))
