"""Which loss retrieves images best? Sweeps each, confirms the choices, tests them once.

    python study/compare_losses.py --num-samples 81 --max-epochs 27
    python study/compare_losses.py --smoke-test            # all four steps in about five minutes
    python study/compare_losses.py --resume --name <name>  # go on after any end

1. sweep: a search for each loss, of equal configurations and rungs; again with --search-seeds;
2. choose: on the validation images alone, by mAP unless --select-by says otherwise;
   choices.json is written once and never changed;
3. confirm: each choice and each reference configuration on fresh seeds, for all epochs;
4. test: the test images are read once, for those runs; a second reading must say why.
"""

from __future__ import annotations

import sys
from argparse import SUPPRESS
from functools import partial
from pathlib import Path

import pandas as pd

from study.judge.comparison import compare, differences_of
from study.judge.final_tables import unit_of
from study.judge.final_test import FINALS
from study.judge.significance import could
from study.results.images import name_of_test
from study.results.studies import Study
from study.run.cli import add_run_options, add_search_options, run
from study.run.commands import COMPARE, report_command
from study.run.progress import duration
from trainables.losses import names
from trainables.terminal import Parser, patient_streams

COMPARED = ("cross_entropy", "normalized_softmax", "triplet", "smooth_ap")
NUM_SAMPLES, MAX_EPOCHS, CONFIRM_SEEDS = 81, 27, 5
SMOKE_SAMPLES, SMOKE_EPOCHS, SMOKE_SEEDS = 3, 2, 2


def parser() -> Parser:
    """The options of a comparison; those that are not given are not in the namespace."""
    text = Parser(
        description="Compare losses: sweep, choose, confirm, test once.",
        argument_default=SUPPRESS,
    )
    add = text.add_argument
    add(
        "--loss",
        action="append",
        dest="losses",
        help=f"a loss to compare: {', '.join(names())}, or pml:NAME; "
        "A+B is a sum, NAME:knob=value one with a knob fixed; repeat it for several "
        f"(default: {', '.join(COMPARED)})",
    )
    add("--num-samples", type=int, help=f"configurations for each loss (default: {NUM_SAMPLES})")
    add("--max-epochs", type=int, help=f"epochs of a trial at most (default: {MAX_EPOCHS})")
    add("--search-seeds", type=int, help="how often the whole search is made (default: 1)")
    add(
        "--confirm-seeds",
        type=int,
        help=f"fresh seeds on which each choice is confirmed, >= 2 (default: {CONFIRM_SEEDS})",
    )
    add("--confirm-epochs", type=int, help="epochs of a confirming run (default: --max-epochs)")
    add(
        "--reference-seeds",
        type=int,
        help="of these seeds, those of each search on which the seed study's settings are trained "
        "(default: all; 0: without them)",
    )
    add("--reference-epochs", type=int, help="of such a run (default: as a confirming run)")
    add(
        "--holdout-classes",
        type=lambda text: text.split(","),
        metavar="CLASS,CLASS,...",
        help="train on the other classes, and retrieve among the test images of these alone",
    )
    add(
        "--validation-classes",
        type=lambda text: text.split(","),
        metavar="CLASS,CLASS,...",
        help="of the others, those that are not trained on either and alone judge the search",
    )
    add("--rerank", action="store_true", help="other orders too: re-ranked, and with the mirror")
    add("--reread-test", metavar="WHY", help="read the test images again; the reason is logged")
    add_run_options(text)
    add_search_options(text)
    return text


@patient_streams()
def main(arguments: list[str] | None = None) -> int:
    """Runs the comparison that the arguments describe; returns the exit code."""
    options = vars(parser().parse_args(arguments))
    smoke = options.get("smoke_test", False)
    return run(
        options,
        job=partial(compare, reread=options.pop("reread_test", None)),
        tell=tell,
        program=COMPARE,
        title="compare",
        losses=list(COMPARED),
        num_samples=SMOKE_SAMPLES if smoke else NUM_SAMPLES,
        max_epochs=SMOKE_EPOCHS if smoke else MAX_EPOCHS,
        confirm_seeds=SMOKE_SEEDS if smoke else CONFIRM_SEEDS,
    )


def tell(folder: Path, seconds: float, data_dir: str | None) -> int:
    """Prints what a comparison found and what to type next; returns the exit code."""
    summary = pd.read_csv(folder / FINALS / "summary.csv")
    study = Study.load(folder)
    differences = differences_of(study)
    columns = ["protocol", "role", "loss", "map", "low", "high", "both_low", "both_high", "runs"]
    print(f"\n{name_of_test(study).capitalize()};", end=" ")
    over = unit_of(summary)
    print(f"mAP with 95 % intervals over {over}, and over {over} and classes:")
    print(_text(summary[columns]))
    if len(differences):  # of a single loss there is none
        columns = ["protocol", "role", "first", "second", "difference", "seed_low", "seed_high"]
        columns += ["p_corrected", "smallest", "verdict"]
        shown = differences["smallest"].map(could, na_action="ignore")
        print("\nDifferences (p corrected; smallest: what could have been shown with 80 % power):")
        print(_text(differences[columns].assign(smallest=shown)))
    print(f"\nThe comparison is finished; {duration(seconds)}. Everything lies in {folder}")
    print(f"Next:  {report_command(folder, data_dir)}")
    return 0


def _text(table: pd.DataFrame) -> str:
    return table.to_string(index=False, na_rep="-", float_format="{:.4f}".format)


if __name__ == "__main__":
    sys.exit(main())
