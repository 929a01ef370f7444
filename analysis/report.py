"""The report of a study: tables, figures, and one page that tells what was found.

    python analysis/report.py STUDY [--data-dir DIR] [--output DIR]

Everything is computed first and written last, so that an error leaves nothing half made. The
output folder (STUDY/report by default) gets index.html, which needs no other file, and each figure
as PNG, SVG and CSV. Takes about a minute for three losses on two cores.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":  # run by its path: the packages are in the folder above this file's
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import argparse
from collections.abc import Mapping, Sequence

import pandas as pd

from analysis import tables
from analysis.evaluation import (
    Evaluation,
    Images,
    ProtocolResult,
    difference,
    evaluate_study,
    load_images,
    map_table,
)
from analysis.histories import history_figures
from analysis.page import Page, Section
from analysis.pr_curves import pr_figures
from analysis.retrieval_figures import retrieval_figures
from analysis.search_figures import search_figure
from analysis.style import listed, loss_name, plural
from study.results import Study, StudyError, write_atomically


def main(argv: Sequence[str] | None = None) -> int:
    """Writes a study's report; 2 after one line on stderr if that cannot be done, else 0."""
    arguments = _parser().parse_args(argv)
    try:
        study = Study.load(arguments.study)
        page, scores = build(study, arguments.data_dir)
        index = write(page, scores, arguments.output or study.folder / "report")
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if not scores.empty:
        print(f"{page.warning or 'mAP on the test images'}\n{_summary(scores)}\n")
    print(f"{page.answer}\n\nreport: {index}")
    return 0


def build(study: Study, data_dir: Path | str | None = None) -> tuple[Page, pd.DataFrame]:
    """The page of a study, and its scores as in `evaluation.map_table` (empty without a choice).

    Raises:
        StudyError: there is no trial at all, or a checkpoint is missing or damaged.
        DataError: the images are missing or damaged.
    """
    if not study.trials:
        raise StudyError(f"{study.folder} has no trial yet: there is nothing to report")
    if not study.best():
        page = Page(_title(study), _no_answer(study), _warning(study), _search(study))
        return page, map_table({})
    images = load_images(study, data_dir)
    evaluations = evaluate_study(study, images)
    sections = [
        *_results(study, evaluations, images),
        *_retrievals(evaluations, images),
        Section("Training histories", figures=history_figures(study)),
        *_search(study),
    ]
    page = Page(_title(study), answer(study, evaluations, images), _warning(study), sections)
    return page, map_table(evaluations)


def write(page: Page, scores: pd.DataFrame, folder: Path) -> Path:
    """Writes the figures, the scores, and last the page; returns where the page is."""
    folder.mkdir(parents=True, exist_ok=True)
    for figure in page.figures:
        figure.write(folder)
    scores.to_csv(folder / "scores.csv", index=False)
    write_atomically(folder / "index.html", page.html())
    return folder / "index.html"


def answer(study: Study, evaluations: Mapping[str, Evaluation], images: Images) -> str:
    """One sentence: which loss retrieves best, by how much, and how sure that is."""
    best, *others = evaluations
    full = evaluations[best].protocols["full"]
    where = f"{full.protocol.gallery:,} {images.name}"
    reached = f"mAP {full.mean_average_precision:.3f} (95 % interval {full.interval}) on {where}"
    missing = [loss_name(loss) for loss in study.losses if loss not in evaluations]
    rest = f" There is no result for {listed(missing)}." if missing else ""
    if not others:
        return f"{loss_name(best)} reaches {reached}; no other loss was evaluated.{rest}"
    gaps = {loss: difference(evaluations[best], evaluations[loss]) for loss in others}
    ahead = [f"{gap:.3f} ({sure}) above {loss_name(loss)}" for loss, (gap, sure) in gaps.items()]
    if gaps[others[0]][1].low > 0:
        return f"{loss_name(best)} retrieves best: {reached}, {listed(ahead)}.{rest}"
    close = f"{loss_name(best)} and {loss_name(others[0])} cannot be told apart"
    return f"{close}: {loss_name(best)} has {reached}, {listed(ahead)}.{rest}"


def _results(study: Study, evaluations: Mapping[str, Evaluation], images: Images) -> list[Section]:
    protocols = next(iter(evaluations.values())).protocols
    sizes = "; ".join(f"{name}, {_sizes(judged)}" for name, judged in protocols.items())
    paragraphs = [
        "Each loss is represented by the trial and epoch of its highest validation mAP. "
        f"These networks are judged here on the {images.described}.",
        f"Protocols: {sizes}; always the first images, each query left out of its own ranking. "
        "The mAP of a protocol is the mean over its queries of the average precision of the full "
        "ranking by squared Euclidean distance.",
        "Intervals are Student's t over queries, those of a difference paired by query. They say "
        "how far other queries would move the number, not other training seeds or another search.",
    ]
    shown = [tables.losses_table(study, evaluations), tables.configurations_table(study)]
    curves = pr_figures(evaluations, images)
    return [
        Section("The losses", paragraphs, shown),
        Section("Precision and recall", figures=curves[:1]),
        Section("Precision and recall of each loss", figures=curves[1:], layout="grid"),
    ]


def _sizes(judged: ProtocolResult) -> str:
    left_out = judged.result.queries_without_relevant
    note = f" ({left_out:,} without a relevant image left out)" if left_out else ""
    queries = plural(judged.protocol.queries, "query", "queries")
    return f"{queries}{note} and a gallery of {judged.protocol.gallery:,}"


def _retrievals(evaluations: Mapping[str, Evaluation], images: Images) -> list[Section]:
    rule = (
        f"A row is a query, the first image of its class ({images.described}), and to its right "
        "are the nearest images. A green border: the same class. A dashed red border with a "
        "cross: another class. At the end of a row: the query's AP over the whole gallery, and "
        "how many of the images shown are right."
    )
    few = retrieval_figures(evaluations, images, "full")
    many = retrieval_figures(evaluations, images, "seed")
    folded = "As above, in the seed protocol's gallery. Ranks 26 to 50 are below ranks 1 to 25."
    return [
        Section("The nearest images", [rule], figures=few),
        Section("The 50 nearest images", [folded], figures=many),
    ]


def _search(study: Study) -> list[Section]:
    trials, same = tables.trials_table(study)
    faults = tables.faults_table(study)
    origin = [tables.origin_table(study), tables.budget_table(study)]
    if len(faults.cells):
        origin.append(faults)
    return [
        Section("The search", figures=[search_figure(study)]),
        Section("Every trial", [same] if same else [], [trials]),
        Section("How it was obtained", tables=origin),
    ]


def _title(study: Study) -> str:
    losses = listed([loss_name(loss) for loss in study.losses])
    return f"Image retrieval with {losses}: study {study.folder.resolve().name}"


def _warning(study: Study) -> str:
    status = study.info.get("status")
    if status == "finished":
        return ""
    return f"Validation images, not test; the study is {status}: all numbers are provisional."


def _no_answer(study: Study) -> str:
    trials = plural(len(study.trials), "trial")
    return f"No loss can be judged: of {trials}, none has an epoch that could be chosen."


def _summary(scores: pd.DataFrame) -> str:
    wide = scores.pivot_table(index="loss", columns="protocol", values="map", sort=False)
    named = wide.rename(index=loss_name).rename_axis(index=None, columns=None)
    return str(named.to_string(float_format="{:.4f}".format))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Turn a study into tables, figures and one page.")
    parser.add_argument("study", type=Path, metavar="STUDY", help="the study's folder")
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help="where the images are")
    parser.add_argument("--output", type=Path, metavar="DIR", help="default: STUDY/report")
    return parser


if __name__ == "__main__":
    sys.exit(main())
