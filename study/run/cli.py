"""The options that every study takes, and how a program runs a study with them."""

from __future__ import annotations

import os
import re
import sys
import time
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from ray.tune import TuneError

from study.results.files import StudyError
from study.results.images import dataset_of
from study.results.studies import Study
from study.run.cluster import ROOT, end_in_order_on_sigterm
from study.run.commands import TUNE, going_on, program_of
from study.run.plan import APART, Plan
from study.run.progress import INTERRUPTED
from study.run.runner import admitted, check_folder, run_study
from study.search.changes import read_setting, read_space, together
from study.search.searches import SEARCHES
from trainables.config import PRECISIONS
from trainables.data import DataError
from trainables.data.names import check_there, known
from trainables.data.protocols import PROTOCOLS
from trainables.metrics import METRICS
from trainables.networks import FREEZES
from trainables.terminal import Parser

FINAL_SEEDS = 2
WIDE = "wide"
LONGEST = 150  # signs of a study's own name before its time: files take 255, some of them bytes
URI_SCHEME = re.compile(r"[a-z][a-z0-9+.-]+:")  # what stands before // in an object store's address


def add_run_options(text: Parser) -> None:
    """What every study takes: its name and place, its seed, and where it runs."""
    add_machine_options(text)
    add = text.add_argument
    add("--storage-path", type=Path, help="where studies are kept (default: results/)")
    add("--name", help="of the study (default: its losses and the time)")
    seeds = (
        "of the searches and of every trial (default: 0; of a fold, after those of the one before)"
    )
    add("--seed", type=int, help=seeds)
    add("--precision", choices=PRECISIONS, help="of the convolutions (default: auto)")
    add("--select-by", choices=tuple(METRICS), help="what chooses, on validation (default: map)")
    add("--check", action="store_true", help="the data's card and what a study would refuse, only")
    add("--smoke-test", action="store_true", help="the real path on a small slice of the data")


def add_search_options(text: Parser) -> None:
    """What a study that searches takes, too: what draws and is drawn, of which data and network."""
    add = text.add_argument
    add("--search", choices=SEARCHES, help=f"draws configurations (default: {SEARCHES[0]})")
    add("--from-scratch", action="store_true", help="without the hand-set defaults as a prior")
    add(
        "--final-seeds", type=int, help=f"fresh seeds that choose (default: {FINAL_SEEDS}; 0: none)"
    )
    add("--data", help="fashion_mnist (default), or one's own: a folder, a CSV, a known benchmark")
    add("--protocol", choices=tuple(PROTOCOLS), help="of one's own data (default: held_out)")
    add("--folds", type=int, help="of the classes that judge meanwhile (default: 4, fewer if few)")
    add("--fold", type=int, help="which of them judges (default: 0)")
    add("--size", type=int, dest="image_size", help="side of one's own pictures for the network")
    add("--grey", action="store_true", help="take one's own pictures without their colours")
    add("--network", help="seed_cnn (default), torchvision:NAME, timm:NAME, file.py:function")
    add("--weights", help="default, none, or a file of the network's weights (default: default)")
    add("--freeze", choices=FREEZES, help="what of the network stays (default: bn if pretrained)")
    add("--teacher", help="a trained network's checkpoint, whose similarities are learnt as well")
    add("--embedding-dim", type=int, help="of a linear head (default: the network's own features)")
    add(
        "--space",
        action="append",
        metavar="wide | FILE.toml",
        help="search the knobs, too, that otherwise stay fixed; or one's own ranges of knobs",
    )
    add(
        "--set",
        action="append",
        dest="settings",
        metavar="KNOB=VALUE",
        help="a knob (of one loss: LOSS.KNOB) that is not searched but has this value; repeat it "
        "for several",
    )


def add_machine_options(text: Parser) -> None:
    """Where trials run, and on which data."""
    add = text.add_argument
    add("--cpus-per-trial", type=float, help="CPUs that a trial occupies (default: 1)")
    add(
        "--gpus-per-trial",
        type=float,
        help="GPUs that a trial occupies, fractions too (default: 0.25 where Ray sees a GPU)",
    )
    add("--max-concurrent", type=int, help="trials at a time (default: all that fit)")
    add(
        "--checkpoint-uri",
        help="an object store's folder through which nodes that share none exchange checkpoints; "
        "none: no more",
    )
    add("--address", help="of a running Ray cluster, or `auto` (default: start Ray here)")
    add("--resume", action="store_true", help="go on with the study of this name")
    add(
        "--data-dir",
        help="where the data's files are now (Fashion-MNIST's default: the system's, else fetched)",
    )


def run(
    options: dict[str, Any],
    *,
    tell: Callable[[Any, float, str | None], int],
    job: Callable[..., Any] = run_study,
    program: str = TUNE,
    title: str | None = None,
    **defaults: Any,
) -> int:
    """Runs or resumes a study; returns the exit code.

    Args:
        options: those that were given, by name.
        tell: prints what the job returned, after so many seconds, with the data's folder or
            None; returns the exit code.
        job: is called as `run_study` is.
        program: which of `study.run.commands` asks; it goes on with its own studies alone.
        title: what the default name begins with; None for the losses.
        defaults: fields of a `Plan` where no option is given; a study that is resumed goes on
            with its own plan instead.
    """
    start = time.monotonic()
    where = {key: options.pop(key, None) for key in ("address", "data_dir")}
    resume = options.pop("resume", False)
    losses = options.get("losses", defaults["losses"])
    title = title or "-".join(re.sub(r"[:/\\]", ".", loss) for loss in losses)
    if len(title) > LONGEST:
        title = f"{len(losses)}-losses" if len(losses) > 1 else title[:LONGEST]
    try:
        folder = _folder(options, resume, title)
        options |= _changes(options.pop("space", ()), options.pop("settings", ()))
    except StudyError as error:
        return refuse(error)

    if options.get("checkpoint_uri") == "none":
        options["checkpoint_uri"] = None
    check = options.pop("check", False)

    def study() -> int:
        check_folder(folder, resume)
        new = {"final_seeds": FINAL_SEEDS, "seed": first_seed(options), **defaults}
        before = _own(folder, program).info["plan"] if resume else new
        plan = Plan(**{**before, **options})
        if where["data_dir"] is not None and not resume and not known(plan.data):
            law = "--data-dir is for data that a name says, or of a study that is continued"
            raise StudyError(f"{law}; --data says where one's own are: {plan.data}")
        if not resume:
            check_there(plan.data)
        if check:
            dataset = dataset_of(plan.fields(), where["data_dir"])
            print(dataset.card())
            print("".join(f"{line}\n" for line in admitted(plan, dataset)[1]), end="")
            return 0
        done = job(plan, folder, resume=resume, **where)
        return tell(done, time.monotonic() - start, where["data_dir"])

    go_on = going_on(name=folder.name, storage_path=folder.parent, **where)
    return exit_code(study, folder, go_on)


def _own(folder: Path, program: str) -> Study:
    """The study in a folder; StudyError if another program goes on with it."""
    study = Study.load(folder)
    if (owner := program_of(study)) != program:
        law = f"{program} goes on with its own studies"
        raise StudyError(f"{law}; that in {folder} is gone on with by {owner}")
    return study


def first_seed(options: Mapping[str, Any]) -> int:
    """That of a fold has no runs in common with the other folds', so that they can be pooled."""
    searches, fold = (options.get(name) or 0 for name in ("search_seeds", "fold"))
    return APART * max(searches, 1) * max(fold, 0)


def _changes(spaces: Sequence[str], settings: Sequence[str]) -> dict[str, Any]:
    """The fields `wide` and `changes` of a plan, from `--space` and `--set`, where given."""
    files = [read_space(Path(space)).items() for space in spaces if space != WIDE]
    found = together([*chain(*files), *map(read_setting, settings)])
    wide = {"wide": True} if WIDE in spaces else {}
    return wide | ({"changes": found} if found else {})


def exit_code(job: Callable[[], int], folder: Path, go_on: str) -> int:
    """A job's exit code; if it did not come to its end, a line says why.

    The line says how to `go_on` if there is something to go on with: a study in the folder.
    """
    end_in_order_on_sigterm()
    try:
        code = job()
    except (StudyError, DataError) as error:
        return refuse(error)
    except (OSError, TuneError) as error:  # a full disk, say: what was written before is whole
        reason = (str(error).strip() or repr(error)).splitlines()[-1]
        if not _begun(folder):
            return refuse(reason)
        print(f"error: {reason}; mend it, then: {go_on}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, SystemExit):  # the latter is Ray's at a SIGTERM while it starts
        code = INTERRUPTED
    if code == INTERRUPTED:
        begun = f"; go on with: {go_on}" if _begun(folder) else " before the study began"
        print(f"interrupted{begun}", file=sys.stderr)
    return code


def _begun(folder: Path) -> bool:
    return os.path.isfile(folder / "study.json")  # unlike Path's, no error if it may not be seen


def refuse(error: ValueError | str) -> int:
    """Says in one line what is wrong; the exit code."""
    print(f"error: {error}", file=sys.stderr)
    return 2


def _folder(options: dict[str, Any], resume: bool, title: str) -> Path:
    """`<storage-path>/<name>`, the name made of the title and the time if none is given."""
    storage = options.pop("storage_path", ROOT / "results")
    if storage.parts and URI_SCHEME.fullmatch(storage.parts[0]):
        uri = f"{storage.parts[0]}//{'/'.join(storage.parts[1:])}"
        law = "--storage-path must be a folder (an object store goes to --checkpoint-uri)"
        raise StudyError(f"{law}; got the URI {uri}")
    storage = storage.expanduser().resolve()
    name = options.pop("name", None)
    if resume and name is None:
        raise StudyError("--resume needs the study's --name")
    if name is None:
        name = f"{title}-{time.strftime('%Y%m%d-%H%M%S')}"
    if not name or Path(name).name != name or name == "..":
        raise StudyError(f"--name must be a folder's name without a path; got {name!r}")
    folder = storage / name
    if {unicodedata.category(sign) for sign in str(folder)} & {"Cc", "Cs"}:
        law = "--storage-path and --name must have no control characters and be valid Unicode"
        raise StudyError(f"{law}; got {str(folder)!r}")
    return folder
