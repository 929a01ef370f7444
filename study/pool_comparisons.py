"""What several comparisons of the same losses show together: other splits, other folds.

    python study/pool_comparisons.py results/split-0 results/split-1 results/split-2

Prints two tables in Markdown: each loss's test mAP over the comparisons, and the differences.
"""

from __future__ import annotations

import sys
from pathlib import Path

from study.judge.pooled import markdown, pooled
from study.results.files import StudyError
from trainables.terminal import Parser, patient_streams


@patient_streams()
def main(arguments: list[str] | None = None) -> int:
    """Prints the tables; returns the exit code."""
    text = Parser(description="Pool several finished comparisons of the same losses.")
    text.add_argument("studies", type=Path, nargs="+", metavar="STUDY", help="their folders")
    options = text.parse_args(arguments)
    try:
        print(markdown(pooled(options.studies)), end="")
    except (StudyError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
