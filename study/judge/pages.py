"""What the pages show of records: tables in Markdown, between two markers that name the records.

<!-- results: study/records/2026-12-24-fashion-mnist -->    of one; of several, what they show
<!-- end of results -->                                     together

<!-- answer -->                                             each loss's mAP in each part: in all
<!-- end of answer -->                                      those records of the records' page
                                                            that are shown together
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import pandas as pd

from study.judge.choices import Frozen
from study.judge.comparison import CONFIRMATION, differences_of, sweeps_of
from study.judge.final_tables import unit_of
from study.judge.final_test import FINALS
from study.judge.pooled import Pooled, pooled
from study.judge.pooled_tables import markdown
from study.judge.significance import MARGIN, POWER, could
from study.results.files import StudyError
from study.results.images import classes_of
from study.results.studies import Choice, Study
from study.results.trials import GIVEN, HAND_SET
from study.run.cluster import ROOT
from study.run.plan import Plan
from study.search.ladder import FINALISTS
from trainables.config import reference
from trainables.losses import resolve
from trainables.metrics import METRICS

README, RECORDS_PAGE = ROOT / "README.md", ROOT / "study" / "records" / "README.md"
BEGIN, END = "<!-- results: {records} -->", "<!-- end of results -->"
RESULTS = re.compile(r"<!-- results: (.*?) -->.*?<!-- end of results -->", re.DOTALL)
ANSWER = re.compile(r"(?<=<!-- answer -->\n).*?(?=<!-- end of answer -->)", re.DOTALL)
SECTION = re.compile(r"^## ([^:\n]+)(.*?)(?=^## |\Z)", re.DOTALL | re.MULTILINE)
TABLE = """\
| test mAP |{% for name in protocols %} {{ name }} protocol | 95 % over {{ over }} |\
{% if loop.first %} over {{ over }} and classes |{% endif %}{% endfor %} runs | search |
|---|{% for name in protocols %}--:|--:|{% if loop.first %}--:|{% endif %}{% endfor %}--:|--:|
{% for row in rows -%}
| {{ row.name }} |{% for one in row.protocols %} {{ one.map }} | {{ one.seeds }} |\
{% if loop.first %} {{ row.both }} |{% endif %}{% endfor %} {{ row.runs }} | {{ row.search }} |
{% endfor %}
| difference, full protocol | mean | 95 % over {{ over }} | over {{ over }} and classes \
| corrected p \
| P(A > B) | could have shown | verdict |
|---|--:|--:|--:|--:|--:|--:|---|
{% for row in differences -%}
| {{ row.name }} | {{ row.mean }} | {{ row.seeds }} | {{ row.both }} | {{ row.p }} \
| {{ row.superiority }} | {{ row.smallest }} | {{ row.verdict }} |
{% endfor %}
{{ note }}
"""

ANSWERED = """\
| test mAP |{% for part in parts %} {{ part.title }} |{% endfor %}
|---|{% for part in parts %}--:|{% endfor %}
{% for loss, name, row in rows -%}
| {{ name }} |{% for value in row %}\
{% set bold = "**" if loss in parts[loop.index0].found.leading() else "" %} \
{{ bold }}{{ "%.3f" | format(value) }}{{ bold }} |{% endfor %}
{% endfor %}
In bold: no other loss is shown to be ahead. Means over comparisons, each with its searches and \
seeds: {% for part in parts %}{{ part.found.maps | length }} of {{ part.title }} \
({{ part.found.pairs("shown") | length or "none" }} of {{ part.found.differences | length }} \
differences shown)\
{{ "." if loop.last else "; " }}{% endfor %}
"""


def with_records(records: Sequence[Path]) -> dict[Path, str]:
    """The pages that show these records, with their tables, and with the answer that follows.

    Raises:
        StudyError: a page has no markers for them.
    """
    made = {page: with_results(text, records) for page, text in pages_of(records).items()}
    readme, page = (
        made.get(path) or path.read_text(encoding="utf-8") for path in (README, RECORDS_PAGE)
    )
    return {**made, README: with_answer(readme, page)}


def pages_of(records: Sequence[Path]) -> dict[Path, str]:
    """The pages that show records, and their text: those that name them; else the records' own."""
    texts = {page: page.read_text(encoding="utf-8") for page in (README, RECORDS_PAGE)}
    name = _shown_as(records)
    naming = {page: text for page, text in texts.items() if name in RESULTS.findall(text)}
    return naming or {RECORDS_PAGE: texts[RECORDS_PAGE]}


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


class Part(NamedTuple):
    """Comparisons that a page shows together, by the heading of their section up to its colon."""

    title: str
    found: Pooled


def parts_of(page: str) -> list[Part]:
    """What a page shows together, from its records."""
    return [
        Part(title, pooled([ROOT / name for name in names.split()]))
        for title, section in SECTION.findall(page)
        for names in RESULTS.findall(section)
        if " " in names
    ]


def with_answer(readme: str, page: str) -> str:
    """The first page's text with the table of what the second shows, where it has markers."""
    return ANSWER.sub(lambda _: answer(parts_of(page)), readme)


def answer(parts: Sequence[Part]) -> str:
    """A row a loss, the highest first in the mean of the parts, and a column a part.

    Raises:
        StudyError: two parts have one title, or they are not of the same losses.
    """
    titles = [part.title for part in parts]
    if len({*titles}) < len(titles):
        raise StudyError(f"each part must have a title of its own; got {', '.join(titles)}")
    maps = pd.DataFrame({part.title: part.found.maps.mean() for part in parts})
    if maps.isna().any(axis=None):
        raise StudyError(f"parts must be of the same losses; not all have {', '.join(maps.index)}")
    maps = maps.loc[maps.mean(axis=1).sort_values(ascending=False).index]
    template = jinja2.Template(
        ANSWERED, undefined=jinja2.StrictUndefined, keep_trailing_newline=True
    )
    return template.render(
        parts=parts,
        rows=[(loss, resolve(str(loss)).heading, list(row)) for loss, row in maps.iterrows()],
    )


def results(record: Path) -> str:
    """The record's table in Markdown: the choices, the references, and their differences."""
    frozen, confirmation = Frozen.load(record), Study.load(record / CONFIRMATION)
    chosen = [frozen.choices, *frozen.further]
    study = Study.load(record)
    sweeps = sweeps_of(study)
    summary = pd.read_csv(record / FINALS / "summary.csv")
    differences = differences_of(study)
    plan, runs = Plan(**study.info["plan"]), confirmation.trials
    classes = classes_of(study)
    held = {"Held out": plan.holdout_classes, "Validation": plan.validation_classes}
    named = {part: ", ".join(classes[n] for n in numbers) for part, numbers in held.items()}
    images = "".join(f" {part}: {of}." for part, of in named.items() if of)
    over = unit_of(summary)
    note = (
        f"{f'Searches: {len(sweeps)} of each loss. ' if len(sweeps) > 1 else ''}"
        f"Each search: {plan.num_samples} configurations of at most {plan.max_epochs} epochs, "
        f"{_finals(plan)} trained again on {plan.confirm_seeds} "
        f"fresh seeds for {runs[0].config.epochs:g} epochs. {sampled_sentence(sweeps)}{images} "
        f"{_left_out(confirmation, frozen)}{_statistics(differences, over)} "
        f"`{study.info['command']}`{_made(study)}."
    )
    template = jinja2.Template(TABLE, undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    origins = _origins(sweeps, chosen)
    configurations = summary[["role", "loss"]].drop_duplicates().itertuples(index=False)
    rows = [_row(summary, role, loss, origins) for role, loss in configurations]
    shown = differences[(differences["protocol"] == "full") & (differences["role"] != "reference")]
    return template.render(
        over=over,
        protocols=summary["protocol"].unique(),
        rows=rows,
        differences=[_difference(row) for _, row in shown.iterrows()],
        note=note,
    )


def _made(study: Study) -> str:
    """By which commit, and on what processor where the record says it."""
    on = f" on {study.processor}" if study.processor else ""
    return f", commit {study.commit}{on}" if study.commit else on


def _finals(plan: Plan) -> str:
    """How a search's choice was made."""
    metric = f"validation {METRICS[plan.select_by].title}"
    if not plan.final_seeds:
        return f"its best by {metric}"
    best = f"its best {min(FINALISTS, plan.num_samples)}"
    beside = "" if plan.from_scratch else " and the hand-set defaults"
    seeds = f"{plan.final_seeds} seed{'s' * (plan.final_seeds > 1)}"
    return f"{best}{beside} trained on {seeds}, and of these the best by {metric}"


def sampled_sentence(sweeps: Sequence[Study]) -> str:
    """What became of the configurations that a loss's searches sampled, and whether their choices
    are of these."""
    sampled = ended = choices = by_hand = 0
    begun = [trial for study in sweeps for trial in study.trials if trial.follows is None]
    if begun and all(trial.origin == GIVEN for trial in begun):
        return "Nothing was searched: all knobs were given."
    for study in sweeps:
        drawn = [
            trial
            for trial in study.trials
            if trial.follows is None and trial.origin not in (HAND_SET, GIVEN)
        ]
        most = study.info["plan"]["max_epochs"]
        whole = {study.root(trial).trial_id for trial in study.trials if trial.reached >= most}
        best = {choice.trial_id for choice in study.best().values()}
        sampled += len(drawn)
        ended += sum(trial.trial_id in whole for trial in drawn)
        choices += len(best)
        by_hand += sum(study.root(t).hand_set for t in study.trials if t.trial_id in best)
    beginning = f"Of {sampled} sampled configurations {ended or 'none'} reached the last epoch"
    if not by_hand:
        return f"{beginning}; none of the {choices} choices is a hand-set start."
    return (
        f"{beginning}; {by_hand} of the {choices} choices are hand-set starts, which the search "
        "did not improve on."
    )


def _origins(sweeps: Sequence[Study], chosen: Sequence[Mapping[str, Choice]]) -> dict[str, str]:
    """By loss, how many of its searches chose what they had found."""
    origins: dict[str, list[str]] = {}
    for study, choices in zip(sweeps, chosen, strict=True):
        trials = {trial.trial_id: trial for trial in study.trials}
        for choice in choices.values():
            origin = study.root(trials[choice.trial_id]).origin
            origins.setdefault(choice.config.loss, []).append(origin)
    return {loss: _origin(found) for loss, found in origins.items()}


def _origin(origins: Sequence[str]) -> str:
    """Of a loss's choices, of each search one."""
    if {*origins} == {GIVEN}:
        return "as given"
    found = sum(origin != HAND_SET for origin in origins)
    if not found:
        return "hand-set start"
    if len(origins) == 1:
        return "found by the search"
    many = f"{found} of {len(origins)}" if found < len(origins) else f"{found}"
    return f"found by {many} searches"


def _left_out(confirmation: Study, frozen: Frozen) -> str:
    """Which confirming runs did not end well, in a sentence; or empty."""
    each = frozen.left_out(confirmation)
    if not each:
        return ""
    said = [f"{n} of {resolve(loss).heading} ({role})" for (loss, role), n in each.items()]
    return (
        f"Left out are confirming runs that failed or diverged: {', '.join(said)}; nothing is "
        "called shown in favour of what lacks runs. "
    )


def _statistics(differences: pd.DataFrame, over: str) -> str:
    families = differences[differences["protocol"] == "full"].groupby("role")["family"].first()
    kinds = {"chosen": "between losses", "tuning": "beside references"}
    pairs = [f"{families[role]} {kind}" for role, kind in kinds.items() if role in families]
    return (
        f"p is the largest over {over} (paired; Welch) and over queries, corrected within its kind "
        f"(Holm; {', '.join(pairs) or 'no pair'}); *could have shown* is the true difference that "
        f"{100 * POWER:.0f} % of such studies would show over {over}; *not resolved* is neither "
        "shown nor equivalent "
        f"within ±{MARGIN} mAP (TOST)."
    )


def _row(summary: pd.DataFrame, role: str, loss: str, origins: Mapping[str, str]) -> dict[str, Any]:
    mine = summary[(summary["role"] == role) & (summary["loss"] == loss)].set_index("protocol")
    full = mine.loc["full"]
    tuned = role == "chosen"
    origin = origins[loss] if tuned else "reference"
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
        "smallest": could(row["smallest"]),
        "verdict": row["verdict"],
    }


def _asked(loss: str) -> float:
    """For how many epochs the seed study trained a loss."""
    found = reference(loss)
    assert found is not None
    return found.epochs
