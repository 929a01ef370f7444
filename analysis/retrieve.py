"""Searches with the network of a study: the nearest of any pictures in any gallery.

    python analysis/retrieve.py STUDY IMAGE... [--gallery FOLDER|CSV] [-k 50] [--loss NAME]

A picture may have any size, mode and orientation: it is read as those were that the network was
trained on. The gallery is the study's validation images, or a folder or a CSV of pictures; what the
network makes of it is kept beside it and used again. Prints the nearest with their squared
distances, and writes them to the output folder (STUDY/retrieved by default) as neighbours.csv,
neighbours.json and a figure, with borders where classes are known.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":  # run by its path: the packages are in the folder above this file's
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import json
from collections.abc import Sequence

from analysis.found.words import loss_name
from analysis.gallery.neighbours import Found, find
from analysis.gallery.neighbours_figure import neighbours_figure
from analysis.gallery.networks import chosen
from analysis.gallery.pictures import of_files, of_study
from study.results.files import StudyError, write_atomically
from study.results.studies import Study
from study.run.progress import INTERRUPTED
from trainables.reranking import RERANKINGS
from trainables.terminal import Parser, patient_streams

PRINTED = 10  # of the nearest of a picture


@patient_streams()
def main(argv: Sequence[str] | None = None) -> int:
    """Finds and writes; 2 after one line on stderr if that cannot be done, else 0."""
    given = _parser().parse_args(argv)
    try:
        if given.k < 1:
            raise StudyError(f"k must be at least 1; got {given.k}")
        study = Study.load(given.study)
        folder = given.output or study.folder / "retrieved"
        if folder.exists() and not folder.is_dir():
            raise StudyError(f"--output must be a folder; {folder} is a file")
        network = chosen(study, given.loss, given.data_dir)
        if given.gallery is None:
            gallery = of_study(study, given.data_dir)
        else:
            gallery = of_files(given.gallery, network.dataset)
        options = {"rerank": given.rerank, "approximate": given.approximate}
        found = find(given.image, gallery, network, k=given.k, label=given.label, **options)
        _write(found, network.loss, folder)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; what was embedded is kept", file=sys.stderr)
        return INTERRUPTED
    whose = f"{loss_name(network.loss)}, {network.choice.trial_id}"
    print(f"network: {whose}\ngallery: {gallery.title}", *found.news, sep="\n")
    print(f"\n{_printed(found)}\n\nwritten: {folder}")
    return 0


def _printed(found: Found) -> str:
    """The first of each query, a line each."""
    table = found.table()
    shown = table[table["rank"] <= PRINTED]
    parts = [
        f"{query}\n{rows.drop(columns='query').to_string(index=False, float_format='%.4f')}"
        for query, rows in shown.groupby("query", sort=False)
    ]
    return "\n\n".join(parts)


def _write(found: Found, loss: str, folder: Path) -> None:
    table, figure = found.table(), neighbours_figure(found, loss)
    nested = [
        {"query": query, "neighbours": rows.drop(columns="query").to_dict("records")}
        for query, rows in table.groupby("query", sort=False)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "neighbours.json", json.dumps(nested, indent=1))
    figure.write(folder)
    table.to_csv(folder / "neighbours.csv", index=False)  # of all, where the figure shows some


def _parser() -> Parser:
    parser = Parser(description="Find the nearest of pictures in a gallery by a study's network.")
    add = parser.add_argument
    add("study", type=Path, metavar="STUDY", help="a study's folder")
    add("image", type=Path, nargs="+", metavar="IMAGE", help="a picture that asks")
    add("--gallery", type=Path, metavar="FOLDER|CSV", help="default: the study's validation images")
    add("-k", type=int, default=50, help="how many nearest (default: 50)")
    add("--loss", metavar="NAME", help="whose network (default: that of the best validation score)")
    add("--label", default="", metavar="CLASS", help="the class of the pictures that ask")
    add("--rerank", choices=tuple(RERANKINGS), help="orders the nearest anew (default: not)")
    add("--approximate", action="store_true", help="search by faiss, whose recall is printed")
    add("--data-dir", type=Path, metavar="DIR", help="where the study's images are")
    add("--output", type=Path, metavar="DIR", help="default: STUDY/retrieved")
    return parser


if __name__ == "__main__":
    sys.exit(main())
