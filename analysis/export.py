"""Takes the network of a study along: weights, what a picture becomes, and a card, in one folder.

    python analysis/export.py STUDY --format safetensors|torch|onnx [--loss NAME] [--output DIR]

The network is what the study ended with, of the loss with the highest validation score unless one
is named. The folder (STUDY/export/LOSS-FORMAT by default) is new or empty, and needs nothing of
this project: README.md says what the network is, how good, and under which licence its data, and
has the code that loads it; config.json has the configuration, preprocessing.json and pictures.py
what turns a file into its input. Scaling and unit length are inside the network. What was written
is loaded again and compared; nothing is left if that fails.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":  # run by its path: the packages are in the folder above this file's
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from collections.abc import Sequence

from analysis.exported.folder import export
from analysis.exported.formats import FORMATS, check_installed
from analysis.gallery.networks import chosen
from study.results.studies import Study
from study.results.trials import file_name
from trainables.terminal import Parser, patient_streams


@patient_streams()
def main(argv: Sequence[str] | None = None) -> int:
    """Writes an export; 2 after one line on stderr if that cannot be done, else 0."""
    given = _parser().parse_args(argv)
    try:
        check_installed(given.format)
        study = Study.load(given.study)
        found = chosen(study, given.loss, given.data_dir)
        name = f"{file_name(found.loss)}-{given.format}"
        folder = given.output or study.folder / "export" / name
        said = export(found, given.format, folder, given.data_dir)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(said)
    return 0


def _parser() -> Parser:
    parser = Parser(description="Write a study's network to files that need nothing of it.")
    add = parser.add_argument
    add("study", type=Path, metavar="STUDY", help="a study's folder, or a comparison's")
    add("--format", choices=tuple(FORMATS), required=True, help="of the weights")
    add("--loss", metavar="NAME", help="whose network (default: that of the best validation score)")
    add("--data-dir", type=Path, metavar="DIR", help="where the study's images are")
    add("--output", type=Path, metavar="DIR", help="default: STUDY/export/LOSS-FORMAT")
    return parser


if __name__ == "__main__":
    sys.exit(main())
