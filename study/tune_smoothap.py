"""The main job: tune losses for image retrieval with Ray Tune and Optuna.

    python study/tune_smoothap.py                          # Smooth-AP, 7 to 25 minutes on 2 cores
    python study/tune_smoothap.py --loss smooth_ap --loss triplet --loss cross_entropy
    python study/tune_smoothap.py --smoke-test             # the whole path in under two minutes
    python study/tune_smoothap.py --address auto           # on a running Ray cluster

Expect a validation mAP above 0.80 from the default.
"""

from __future__ import annotations

import sys
from argparse import SUPPRESS

from study.judge.summary import summarize
from study.run.cli import add_run_options, add_search_options, run
from trainables.losses import names
from trainables.terminal import Parser, patient_streams

# 108 epochs: 2,800 core-seconds without bfloat16, about 800 with it.
NUM_SAMPLES, MAX_EPOCHS = 81, 9
SMOKE_SAMPLES, SMOKE_EPOCHS = 4, 3


def parser() -> Parser:
    """The options of the main job; those that are not given are not in the namespace."""
    text = Parser(
        description="Tune losses for image retrieval on Fashion-MNIST. "
        "The default takes 7 to 25 minutes on two cores, by processor.",
        argument_default=SUPPRESS,
    )
    text.add_argument(
        "--loss",
        action="append",
        dest="losses",
        help=f"a loss to tune: {', '.join(names())}, or pml:NAME; "
        "A+B is a sum, NAME:knob=value one with a knob fixed; repeat it for several "
        "(default: smooth_ap)",
    )
    text.add_argument(
        "--num-samples",
        type=int,
        help="configurations for each loss "
        f"(default: {NUM_SAMPLES}; {SMOKE_SAMPLES} in a smoke test)",
    )
    text.add_argument(
        "--max-epochs",
        type=int,
        help=f"epochs of a trial at most (default: {MAX_EPOCHS}; {SMOKE_EPOCHS} in a smoke test)",
    )
    add_run_options(text)
    add_search_options(text)
    return text


@patient_streams()
def main(arguments: list[str] | None = None) -> int:
    """Runs the study that the arguments describe; returns the exit code."""
    options = vars(parser().parse_args(arguments))
    smoke = options.get("smoke_test", False)
    return run(
        options,
        tell=summarize,
        losses=["smooth_ap"],
        num_samples=SMOKE_SAMPLES if smoke else NUM_SAMPLES,
        max_epochs=SMOKE_EPOCHS if smoke else MAX_EPOCHS,
    )


if __name__ == "__main__":
    sys.exit(main())
