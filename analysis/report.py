"""The report of a study, of two side by side, or of comparisons together: tables, figures, a page.

    python analysis/report.py STUDY [--data-dir DIR] [--output DIR] [--test WHY] [--rerank]
    python analysis/report.py STUDY_A STUDY_B [--data-dir DIR] [--output DIR] [--test WHY]
    python analysis/report.py --together COMPARISON COMPARISON ... [--output DIR]

STUDY is a study's folder, a comparison's, or a published record. A study is judged on its
validation images; with --test on the test images, which the ledger of readings beside the study
records. With --rerank it is judged in other orders, too. Of a finished comparison its own reading
is shown, with other orders where it was begun with --rerank. With --together finished comparisons
of the same losses (other splits, folds or seeds) are one answer, whose unit is a comparison.
Everything is computed first and written last, so that an error leaves nothing half made. The output
folder (STUDY/report by default; in the folder where you are report-STUDY_A-STUDY_B, or together-
with the first and the last) gets index.html, which needs no other file, and each figure as PNG, SVG
and CSV. Takes about a minute for three losses on two cores.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":  # run by its path: the packages are in the folder above this file's
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from argparse import Namespace
from collections.abc import Sequence

import pandas as pd

from analysis.figures.style import settle
from analysis.found.sources import Source, may_test
from analysis.found.words import listed, loss_name
from analysis.page.answer import answer_of, warning_of
from analysis.page.page import Page
from analysis.page.pooled_page import pooled_page
from analysis.page.sections import sections
from analysis.page.side_by_side import side_by_side
from study.judge.pooled import pooled
from study.results.files import write_atomically
from study.results.studies import Study
from trainables.terminal import Parser, patient_streams


@patient_streams()
def main(argv: Sequence[str] | None = None) -> int:
    """Writes a report; 2 after one line on stderr if that cannot be done, else 0."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if len(arguments.study) > 2 and not arguments.together:
        law = "one study or two, or with --together finished comparisons of the same losses"
        parser.error(f"{law}; got {len(arguments.study)}")
    if arguments.rerank and (len(arguments.study) > 1 or arguments.together):
        parser.error("--rerank is for the report of one study")
    for option, given in (("--test", arguments.test), ("--data-dir", arguments.data_dir)):
        if arguments.together and given is not None:
            parser.error(f"{option} is for a study's own report: --together reads no images")
    try:
        page, scores = _page(arguments)
        folder = arguments.output or _default_output(arguments)
        index = page.write(folder)
        for name, table in scores.items():
            write_atomically(folder / name, table.to_csv(index=False))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("\n\n".join([*([page.warning] if page.warning else []), *page.answers]))
    print(f"\nreport: {index}")
    return 0


def _page(arguments: Namespace) -> tuple[Page, dict[str, pd.DataFrame]]:
    """The page that is asked for, and by its file's name each table of scores."""
    if arguments.together:
        found = pooled(arguments.study)
        settle(found.maps)
        return pooled_page(arguments.study, found), {"scores.csv": found.losses}
    studies = [Study.load(folder) for folder in arguments.study]
    settle({loss for study in studies for loss in study.losses})
    for study in studies if arguments.test is not None else []:
        may_test(study)  # all of them, before the first is
    asked = {"test": arguments.test, "rerank": arguments.rerank}
    sources = [Source.load(study, arguments.data_dir, **asked) for study in studies]
    page = build(sources[0]) if len(sources) == 1 else side_by_side(sources)
    return page, {
        f"scores{place}.csv": source.results.summary
        for source, place in zip(sources, ("", "_b"), strict=False)
        if source.results is not None
    }


def build(source: Source) -> Page:
    """The page of one study."""
    losses = listed([loss_name(loss) for loss in source.study.losses])
    title = f"Image retrieval with {losses}: study {source.name}"
    return Page(title, [answer_of(source)], warning_of(source), sections(source))


def _default_output(arguments: Namespace) -> Path:
    folders = arguments.study
    if len(folders) == 1:
        return folders[0] / "report"
    kind = "together" if arguments.together else "report"
    names = [folder.resolve().name for folder in folders]
    return Path(f"{kind}-{names[0]}-{names[-1]}")


def _parser() -> Parser:
    parser = Parser(
        description="Turn a study, two side by side, or comparisons together, into tables, figures "
        "and one page."
    )
    add = parser.add_argument
    add("study", type=Path, nargs="+", metavar="STUDY", help="a study's folder; two, side by side")
    add("--data-dir", type=Path, metavar="DIR", help="where the images are")
    add(
        "--output",
        type=Path,
        metavar="DIR",
        help="default: STUDY/report; of several, report-A-B here, or together-A-Z",
    )
    why = "judge on the test images; the reason goes to the ledger (default: validation images)"
    add("--rerank", action="store_true", help="add what re-ranking gains and costs")
    add("--test", metavar="WHY", help=why)
    together = "finished comparisons of the same losses as one answer: other splits, folds, seeds"
    add("--together", action="store_true", help=together)
    return parser


if __name__ == "__main__":
    sys.exit(main())
