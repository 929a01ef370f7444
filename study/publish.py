"""Publishes a finished comparison: a record to commit, and the README's table of results.

    python study/publish.py results/NAME study/records/2026-12-24-fashion-mnist
    python study/publish.py --readme study/records/2026-12-24-fashion-mnist

A record has all that a reader needs to check the numbers and to repeat the study, and no weights,
no logs, and nothing of the machine's names and paths. It is a study's folder like any other.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from study.choices import CHOICES
from study.cluster import ROOT
from study.comparison import CONFIRMATION
from study.final_test import FINALS, is_complete
from study.plan import Plan
from study.results import Study, StudyError, TrialRecord, write_atomically
from trainables.data import CLASSES

BEGIN, END = "<!-- results: {record} -->", "<!-- end of results -->"
RESULTS = re.compile(r"<!-- results: .*? -->.*?<!-- end of results -->", re.DOTALL)
FOLDERS = re.compile(r"(?<![\w.])/(?:[^\s/'\"=,;:]+/)+")  # of an absolute path
NAMES = {"cross_entropy": "Cross-entropy", "triplet": "Triplet", "smooth_ap": "Smooth-AP"}
TABLE = """\
| test mAP | full protocol | 95 % over seeds | 95 % over queries | seed protocol | 95 % over seeds \
| runs | trials | epochs | hours |
|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|
{% for row in rows -%}
| {{ row.name }} | {{ row.full }} | {{ row.full_seeds }} | {{ row.full_queries }} \
| {{ row.seed }} | {{ row.seed_seeds }} | {{ row.runs }} | {{ row.trials }} | {{ row.epochs }} \
| {{ row.hours }} |
{% endfor %}
| difference, full protocol | mean | 95 % over seeds | 95 % over queries | corrected p | shown |
|---|--:|--:|--:|--:|---|
{% for row in differences -%}
| {{ row.name }} | {{ row.mean }} | {{ row.seeds }} | {{ row.queries }} | {{ row.p }} \
| {{ row.shown }} |
{% endfor %}
{{ note }}
"""


def main(arguments: list[str] | None = None) -> int:
    """Publishes what the arguments name; returns the exit code."""
    text = argparse.ArgumentParser(description="Publish a finished comparison.")
    text.add_argument("study", type=Path, nargs="?", help="the comparison's folder")
    text.add_argument("record", type=Path, nargs="?", help="the folder to make")
    text.add_argument("--readme", type=Path, metavar="RECORD", help="write its table into README")
    options = text.parse_args(arguments)
    if (options.readme is None) == (options.record is None):
        text.error("give a STUDY and a RECORD, or --readme RECORD")
    try:
        if options.readme is not None:
            readme = ROOT / "README.md"
            content = with_results(readme.read_text(encoding="utf-8"), options.readme)
            write_atomically(readme, content)
        else:
            publish(options.study, options.record)
    except (StudyError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def publish(folder: Path, record: Path) -> None:
    """Makes the record of the comparison in a folder.

    Raises:
        StudyError: the comparison is not finished, or the record exists.
    """
    studies = {part: Study.load(folder / part) for part in (".", CONFIRMATION)}
    if not is_complete(folder):
        raise StudyError(f"a comparison is published when its test is done; {folder} has no result")
    if record.exists():
        raise StudyError(f"{record} exists, and a record is never rewritten")
    record.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=record.parent) as made:  # all of it, or nothing
        new = Path(made) / "record"
        hosts: dict[str, str] = {}
        for part, study in studies.items():
            anonymous = Study.create(new / part, scrubbed(study.info))
            anonymous.trials = [scrubbed_trial(trial, hosts) for trial in study.trials]
            for trial in anonymous.trials:
                anonymous.write_trial(trial)
            anonymous.write()
        shutil.copy(folder / CHOICES, new)
        shutil.copytree(folder / FINALS, new / FINALS)
        new.rename(record)


def scrubbed(value: Any) -> Any:
    """The value with every absolute path in it cut to its last part, this project's to its own."""
    if isinstance(value, dict):
        return {key: scrubbed(one) for key, one in value.items()}
    if isinstance(value, list):
        return [scrubbed(one) for one in value]
    if isinstance(value, str):
        return FOLDERS.sub("", value.replace(f"{ROOT}/", ""))
    return value


def scrubbed_trial(trial: TrialRecord, hosts: dict[str, str]) -> TrialRecord:
    """The record without files; `hosts` collects the machines as node-1, node-2, ..."""
    worker = trial.worker
    if worker is not None:
        host, process = worker.rsplit(":", 1)
        worker = f"{hosts.setdefault(host, f'node-{len(hosts) + 1}')}:{process}"
    return dataclasses.replace(
        trial,
        cause=scrubbed(trial.cause),
        checkpoint=None,
        last_checkpoint=None,
        logs=None,
        worker=worker,
    )


def with_results(readme: str, record: Path) -> str:
    """The README's text with the record's table between its two markers.

    Raises:
        StudyError: it has not the two markers, once.
    """
    if len(RESULTS.findall(readme)) != 1:
        law = f"README.md must have one {BEGIN.format(record='...')} and, after it, one {END}"
        raise StudyError(f"{law}; got {len(RESULTS.findall(readme))}")
    absolute = record.resolve()
    name = absolute.relative_to(ROOT) if absolute.is_relative_to(ROOT) else absolute.name
    block = f"{BEGIN.format(record=name)}\n{results(record)}{END}"
    return RESULTS.sub(lambda _: block, readme)


def results(record: Path) -> str:
    """The record's table in Markdown: three choices, three references, and their differences."""
    study, confirmation = Study.load(record), Study.load(record / CONFIRMATION)
    summary = pd.read_csv(record / FINALS / "summary.csv")
    differences = pd.read_csv(record / FINALS / "differences.csv")
    plan, runs = Plan(**study.info["plan"]), confirmation.trials
    held_out = plan.holdout_classes
    images = f" Held out: {', '.join(CLASSES[n] for n in held_out)}." if held_out else ""
    note = (
        f"Each loss: {plan.num_samples} trials of at most {plan.max_epochs} epochs, its best "
        f"by validation mAP trained again on {plan.confirm_seeds} fresh seeds for "
        f"{runs[0].config.epochs} epochs.{images} Trials, epochs and hours are those of the "
        f"search; p is corrected for three comparisons; `{study.info['command']}`."
    )
    template = jinja2.Template(TABLE, undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    rows = [_row(summary, role, loss) for role in ("chosen", "reference") for loss in study.losses]
    shown = differences[(differences["protocol"] == "full") & (differences["role"] != "reference")]
    return template.render(
        rows=rows, differences=[_difference(row) for _, row in shown.iterrows()], note=note
    )


def _row(summary: pd.DataFrame, role: str, loss: str) -> dict[str, str]:
    mine = summary[(summary["role"] == role) & (summary["loss"] == loss)].set_index("protocol")
    full, seed = mine.loc["full"], mine.loc["seed"]
    tuned = role == "chosen"
    return {
        "name": f"{NAMES[loss]}, {'tuned' if tuned else 'reference'}",
        "full": f"{full['map']:.4f}",
        "full_seeds": f"{full['low']:.4f} to {full['high']:.4f}",
        "full_queries": f"{full['query_low']:.4f} to {full['query_high']:.4f}",
        "seed": f"{seed['map']:.4f}",
        "seed_seeds": f"{seed['low']:.4f} to {seed['high']:.4f}",
        "runs": f"{full['runs']:.0f}",
        "trials": f"{full['trials']:.0f}" if tuned else "-",
        "epochs": f"{full['epochs']:.0f}" if tuned else "-",
        "hours": f"{full['sweep_seconds'] / 3600:.1f}" if tuned else "-",
    }


def _difference(row: pd.Series) -> dict[str, str]:
    first, second = NAMES[row["first"]], NAMES[row["second"]]
    tuning = row["role"] == "tuning"
    return {
        "name": f"{first}, tuned − reference" if tuning else f"{first} − {second}, tuned",
        "mean": f"{row['difference']:+.4f}",
        "seeds": f"{row['seed_low']:+.4f} to {row['seed_high']:+.4f}",
        "queries": f"{row['query_low']:+.4f} to {row['query_high']:+.4f}",
        "p": f"{row['p_corrected']:.2g}",
        "shown": "yes" if row["shown"] else "no difference shown",
    }


if __name__ == "__main__":
    sys.exit(main())
