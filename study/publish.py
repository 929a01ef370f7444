"""Publishes a finished comparison: a record to commit, and the README's table of results.

    python study/publish.py results/NAME study/records/2026-12-24-fashion-mnist
    python study/publish.py --readme study/records/2026-12-24-fashion-mnist
    python study/publish.py --readme study/records/2026-12-24-split-*   # what they show together

A record has all that a reader needs to check the numbers and to repeat the study, and no weights,
no logs, and nothing of the machine's names and paths. It is a study's folder like any other.
"""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from study.judge.choices import CHOICES, Frozen
from study.judge.comparison import CONFIRMATION, SEARCHES
from study.judge.final_test import FILES, FINALS, is_complete, readings
from study.judge.images import DATA, about, classes_of
from study.judge.pooled import markdown, pooled
from study.judge.significance import MARGIN, POWER
from study.run.cluster import ROOT
from study.run.plan import Plan
from study.run.results import Study, StudyError, TrialRecord, read_json, write_atomically
from trainables.config import reference
from trainables.data import DataError
from trainables.data.ledger import append, digest, ledger_of
from trainables.losses import resolve
from trainables.metrics import METRICS
from trainables.terminal import Parser, patient_streams

PAGES = (ROOT / "README.md", ROOT / "study" / "records" / "README.md")
BEGIN, END = "<!-- results: {records} -->", "<!-- end of results -->"
RESULTS = re.compile(r"<!-- results: (.*?) -->.*?<!-- end of results -->", re.DOTALL)
QUOTED = re.compile(r"(['\"])/(?:[^'\"/]+/)+")  # the same within quotes, blanks and all
FOLDERS = re.compile(r"(?<![\w.])/(?:[^\s/'\"=,;:]+/)+")  # of an absolute path
TABLE = """\
| test mAP |{% for name in protocols %} {{ name }} protocol | 95 % over seeds |\
{% if loop.first %} over seeds and classes |{% endif %}{% endfor %} runs | search |
|---|{% for name in protocols %}--:|--:|{% if loop.first %}--:|{% endif %}{% endfor %}--:|--:|
{% for row in rows -%}
| {{ row.name }} |{% for one in row.protocols %} {{ one.map }} | {{ one.seeds }} |\
{% if loop.first %} {{ row.both }} |{% endif %}{% endfor %} {{ row.runs }} | {{ row.search }} |
{% endfor %}
| difference, full protocol | mean | 95 % over seeds | over seeds and classes | corrected p \
| P(A > B) | could have shown | verdict |
|---|--:|--:|--:|--:|--:|--:|---|
{% for row in differences -%}
| {{ row.name }} | {{ row.mean }} | {{ row.seeds }} | {{ row.both }} | {{ row.p }} \
| {{ row.superiority }} | {{ row.smallest }} | {{ row.verdict }} |
{% endfor %}
{{ note }}
"""


@patient_streams()
def main(arguments: list[str] | None = None) -> int:
    """Publishes what the arguments name; returns the exit code."""
    text = Parser(description="Publish a finished comparison.")
    text.add_argument("study", type=Path, nargs="?", help="the comparison's folder")
    text.add_argument("record", type=Path, nargs="?", help="the folder to make")
    text.add_argument(
        "--readme",
        type=Path,
        nargs="+",
        metavar="RECORD",
        help="write its table into README; of several, that of all together",
    )
    options = text.parse_args(arguments)
    if (options.readme is None) == (options.record is None):
        text.error("give a STUDY and a RECORD, or --readme RECORD")
    try:
        if options.readme is not None:
            made = {
                page: with_results(content, options.readme)
                for page, content in pages_of(options.readme).items()
            }
            for page, content in made.items():  # all, or none
                write_atomically(page, content)
        else:
            publish(options.study, options.record)
    except (StudyError, DataError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def publish(folder: Path, record: Path) -> None:
    """Makes the record of the comparison in a folder.

    Raises:
        StudyError: the comparison is not finished, its reading is in no ledger, or the record
            exists.
        DataError: a ledger cannot be read or written.
    """
    further = sorted(path.parent for path in folder.glob(f"{SEARCHES}/*/study.json"))
    parts = (".", *(str(path.relative_to(folder)) for path in further), CONFIRMATION)
    studies = {part: Study.load(folder / part) for part in parts}
    if not is_complete(folder):
        raise StudyError(f"a comparison is published when its test is done; {folder} has no result")
    if record.exists():
        raise StudyError(f"{record} exists, and a record is never rewritten")
    lines = [{**scrubbed(line), "study": record.name} for line in readings(folder)]
    if not lines:
        law = "a record's reading of the test images is taken over from the ledger of its study"
        raise StudyError(f"{law}; {ledger_of(folder)} has none of these choices")
    record.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=record.parent) as made:  # all of it, or nothing
        new = Path(made) / "record"
        hosts: dict[str, str] = {}
        for part, study in studies.items():
            trials = [scrubbed_trial(trial, hosts) for trial in study.trials]
            Study(new / part, scrubbed(study.info), trials).write_together()
            write_atomically(new / part / DATA, json.dumps(scrubbed(about(study)), indent=1))
        choices = json.dumps(scrubbed(read_json(folder / CHOICES)), indent=2)
        write_atomically(new / CHOICES, choices)
        lines = [line | {"sha256": digest(new / CHOICES)} for line in lines]
        (new / FINALS).mkdir()
        for name in FILES:
            shutil.copy(folder / FINALS / name, new / FINALS)
        for line in lines:  # first: no record is without its reading
            append(ledger_of(record), line)
        new.rename(record)


def scrubbed(value: Any) -> Any:
    """The value with every absolute path in it cut to its last part, this project's to its own."""
    if isinstance(value, dict):
        return {key: scrubbed(one) for key, one in value.items()}
    if isinstance(value, list):
        return [scrubbed(one) for one in value]
    if isinstance(value, str):
        text = value.replace(f"{ROOT}/", "")
        if text.startswith("/"):  # a path alone, whatever signs are in it
            return text.rstrip("/").rpartition("/")[2]
        return FOLDERS.sub("", QUOTED.sub(r"\1", text))
    return value


def scrubbed_trial(trial: TrialRecord, hosts: dict[str, str]) -> TrialRecord:
    """The record without files; `hosts` collects the machines as node-1, node-2, ..."""
    worker = trial.worker
    if worker is not None:
        host, process = worker.rsplit(":", 1)
        worker = f"{hosts.setdefault(host, f'node-{len(hosts) + 1}')}:{process}"
    fields = {
        name: scrubbed(getattr(trial.config, name)) for name in ("network", "weights", "teacher")
    }
    return dataclasses.replace(
        trial,
        config=trial.config.replace(**fields),
        cause=scrubbed(trial.cause),
        checkpoint=None,
        last_checkpoint=None,
        logs=None,
        worker=worker,
    )


def pages_of(records: Sequence[Path]) -> dict[Path, str]:
    """The pages that show records, and their text: those that name them; if none does, all."""
    texts = {page: page.read_text(encoding="utf-8") for page in PAGES}
    name = _shown_as(records)
    naming = {page: text for page, text in texts.items() if name in RESULTS.findall(text)}
    return naming or texts


def _shown_as(records: Sequence[Path]) -> str:
    """The names of records between the markers of a page."""
    places = [record.resolve() for record in records]
    return " ".join(str(p.relative_to(ROOT) if p.is_relative_to(ROOT) else p.name) for p in places)


def with_results(readme: str, records: Sequence[Path]) -> str:
    """A page's text with the table of a record, or of several together, between its two markers:
    those that name these; of one record, else the only ones.

    Raises:
        StudyError: it has no such markers, or several of other records.
    """
    name = _shown_as(records)
    there = RESULTS.findall(readme)
    only = len(there) == 1 and len(records) == 1
    if not only and there.count(name) != 1:
        law = f"a page must have one {BEGIN.format(records=name)} and, after it, one {END}"
        raise StudyError(f"{law}; it has those of {', '.join(there) or 'no record'}")
    found = results(records[0]) if len(records) == 1 else markdown(pooled(records))
    block = f"{BEGIN.format(records=name)}\n{found}{END}"
    return RESULTS.sub(lambda found: block if only or found[1] == name else found[0], readme)


def results(record: Path) -> str:
    """The record's table in Markdown: the choices, the references, and their differences."""
    study, confirmation = Study.load(record), Study.load(record / CONFIRMATION)
    summary = pd.read_csv(record / FINALS / "summary.csv")
    differences = pd.read_csv(record / FINALS / "differences.csv")
    plan, runs = Plan(**study.info["plan"]), confirmation.trials
    classes = classes_of(study)
    parts = {"Held out": plan.holdout_classes, "Validation": plan.validation_classes}
    named = {part: ", ".join(classes[n] for n in numbers) for part, numbers in parts.items()}
    images = "".join(f" {part}: {of}." for part, of in named.items() if of)
    note = (
        f"Each search: {plan.num_samples} configurations of at most {plan.max_epochs} epochs, its "
        f"best by validation {METRICS[plan.select_by].title} trained again on {plan.confirm_seeds} "
        f"fresh seeds for {runs[0].config.epochs:g} epochs. {sampled_sentence(study)}{images} "
        f"{_statistics(differences)} `{study.info['command']}`."
    )
    template = jinja2.Template(TABLE, undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    chosen = {
        choice.config.loss: choice.trial_id for choice in Frozen.load(record).choices.values()
    }
    roots = {trial.trial_id: study.root(trial) for trial in study.trials}
    found = {loss: not roots[trial_id].hand_set for loss, trial_id in chosen.items()}
    configurations = summary[["role", "loss"]].drop_duplicates().itertuples(index=False)
    rows = [_row(summary, role, loss, found) for role, loss in configurations]
    shown = differences[(differences["protocol"] == "full") & (differences["role"] != "reference")]
    return template.render(
        protocols=summary["protocol"].unique(),
        rows=rows,
        differences=[_difference(row) for _, row in shown.iterrows()],
        note=note,
    )


def sampled_sentence(study: Study) -> str:
    """What became of the configurations that a search sampled, and whether its choices are of
    these."""
    sampled = [trial for trial in study.trials if trial.follows is None and not trial.hand_set]
    most = study.info["plan"]["max_epochs"]
    whole = {study.root(trial).trial_id for trial in study.trials if trial.reached >= most}
    ended = sum(trial.trial_id in whole for trial in sampled)
    best = {choice.trial_id for choice in study.best().values()}
    by_hand = sum(study.root(t).hand_set for t in study.trials if t.trial_id in best)
    beginning = f"Of {len(sampled)} sampled configurations {ended or 'none'} reached the last epoch"
    if not by_hand:
        return f"{beginning}; none of the {len(best)} choices is a hand-set start."
    return (
        f"{beginning}; {by_hand} of the {len(best)} choices are hand-set starts, which the search "
        "did not improve on."
    )


def _statistics(differences: pd.DataFrame) -> str:
    pairs = ((differences["protocol"] == "full") & (differences["role"] == "chosen")).sum()
    return (
        f"p is the largest over seeds (paired; Welch) and over queries, corrected for {pairs} "
        f"comparisons (Holm); *could have shown* is the true difference that {100 * POWER:.0f} % "
        "of such studies would show over seeds; *not resolved* is neither shown nor equivalent "
        f"within ±{MARGIN} mAP (TOST)."
    )


def _row(summary: pd.DataFrame, role: str, loss: str, found: Mapping[str, bool]) -> dict[str, Any]:
    mine = summary[(summary["role"] == role) & (summary["loss"] == loss)].set_index("protocol")
    full = mine.loc["full"]
    tuned = role == "chosen"
    origin = ("found by the search" if found[loss] else "hand-set start") if tuned else "reference"
    asked = "" if tuned or full["confirm_epochs"] >= _asked(loss) else f" of its {_asked(loss)}"
    search = f"{full['trials']:.0f} trials, {full['epochs']:.0f} epochs"
    return {
        "name": f"{resolve(loss).heading}, {origin}",
        "protocols": [
            {"map": f"{one['map']:.4f}", "seeds": f"{one['low']:.4f} to {one['high']:.4f}"}
            for _, one in mine.iterrows()
        ],
        "both": f"{full['both_low']:.3f} to {full['both_high']:.3f}",
        "runs": f"{full['runs']:.0f} × {full['confirm_epochs']:.0f}{asked} epochs",
        "search": f"{search}, {full['sweep_seconds'] / 3600:.1f} h" if tuned else "-",
    }


def _difference(row: pd.Series) -> dict[str, str]:
    first, second = (resolve(row[column]).heading for column in ("first", "second"))
    beside = ", reference" if row["role"] == "tuning" else ""
    return {
        "name": f"{first} − {second}{beside}",
        "mean": f"{row['difference']:+.4f}",
        "seeds": f"{row['seed_low']:+.4f} to {row['seed_high']:+.4f}",
        "both": f"{row['both_low']:+.3f} to {row['both_high']:+.3f}",
        "p": f"{row['p_corrected']:.2g}",
        "superiority": f"{row['superiority']:.2f}",
        "smallest": f"{row['smallest']:.4f}",
        "verdict": row["verdict"],
    }


def _asked(loss: str) -> float:
    """For how many epochs the seed study trained a loss."""
    found = reference(loss)
    assert found is not None
    return found.epochs


if __name__ == "__main__":
    sys.exit(main())
