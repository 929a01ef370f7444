"""Where Fashion-MNIST is; or what is to be known of one's own pictures before a study.

python -m trainables.data                    # finds, verifies or downloads Fashion-MNIST
python -m trainables.data photos/            # a folder, a CSV or an unpacked benchmark: its card
python -m trainables.data photos/ --folds 4  # with the parts of the first of four folds
"""

from __future__ import annotations

import sys
from pathlib import Path

from trainables.data import Asked, DataError, resolve
from trainables.data import fashion_mnist_files as files
from trainables.data.names import DEFAULT
from trainables.data.protocols import PROTOCOLS
from trainables.terminal import Parser, patient_streams


def parser() -> Parser:
    """The options of the data card."""
    text = Parser(description="Fashion-MNIST's files, or the data card of one's own pictures.")
    add = text.add_argument
    add("path", nargs="?", type=Path, help="a folder or a CSV; none: Fashion-MNIST")
    add("--protocol", choices=tuple(PROTOCOLS), default="held_out", help="(default: held_out)")
    add("--folds", type=int, help="of the classes that judge meanwhile (default: 4, fewer if few)")
    add("--fold", type=int, default=0, help="which of them (default: 0)")
    return text


@patient_streams()
def main(arguments: list[str] | None = None) -> int:
    """Prints what the arguments ask for; returns the exit code."""
    options = parser().parse_args(arguments)
    try:
        if options.path is None or files.holds_files(options.path):
            print(resolve(DEFAULT, Asked(place=options.path)).card())
            return 0
        asked = Asked(protocol=options.protocol, folds=options.folds, fold=options.fold)
        print(resolve(str(options.path), asked).card())
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
