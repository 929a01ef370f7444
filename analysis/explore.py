"""A page to look around in a study's embeddings, without any server.

    python analysis/explore.py STUDY [--loss NAME ...] [--output FILE]

Click a picture to see its nearest with each loss side by side, and walk on from there; filter by
class, begin with the lowest AP; a map of the embeddings in which a point is a picture. All of it
works with the keyboard. The pictures are the study's validation images, the networks those that it
ended with. The page (STUDY/explore.html by default) is one file that asks for no other.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":  # run by its path: the packages are in the folder above this file's
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from collections.abc import Sequence

from analysis.found.words import loss_name, plural
from analysis.gallery.exploration import Exploration, as_json, explore
from analysis.gallery.networks import choices, chosen
from analysis.page.page import environment
from study.results.files import StudyError, write_atomically
from study.results.images import validation_images
from study.results.studies import Study
from trainables.terminal import Parser, patient_streams


@patient_streams()
def main(argv: Sequence[str] | None = None) -> int:
    """Writes the page; 2 after one line on stderr if that cannot be done, else 0."""
    given = _parser().parse_args(argv)
    try:
        study = Study.load(given.study)
        losses = given.loss or list(choices(study)) or [None]
        networks = [chosen(study, loss, given.data_dir) for loss in losses]
        images = validation_images(study, given.data_dir)
        found = explore(images, {loss_name(one.loss): one for one in networks})
        path = given.output or study.folder / "explore.html"
        if path.is_dir():
            raise StudyError(f"--output must be a file; {path} is a folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        name = study.folder.resolve().name
        chose = networks[0].dataset.validation_chose
        write_atomically(path, html(found, f"Look around: study {name}", images.note, chose=chose))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    many = plural(len(found.views), "network")
    print(f"{plural(len(found.names), 'picture')}, {many}: {path}")
    return 0


def html(found: Exploration, title: str, note: str, *, chose: bool = True) -> str:
    """The page, one file without any reference to another.

    Args:
        note: why these are not the test images.
        chose: whether they chose the networks.
    """
    flattered = ", which chose each network: how it does here flatters it" if chose else ""
    count = f"{len(found.names):,} {note}{flattered}."
    if found.left_out:
        count += f" {found.left_out}: AP is over those shown."
    template = environment().get_template("explore.html")
    return template.render(title=title, note=count, data=as_json(found))


def _parser() -> Parser:
    parser = Parser(description="Write a page to look around in a study's embeddings.")
    add = parser.add_argument
    add("study", type=Path, metavar="STUDY", help="a study's folder")
    add("--loss", action="append", metavar="NAME", help="whose network; repeat it (default: all)")
    add("--data-dir", type=Path, metavar="DIR", help="where the study's images are")
    add("--output", type=Path, metavar="FILE", help="default: STUDY/explore.html")
    return parser


if __name__ == "__main__":
    sys.exit(main())
