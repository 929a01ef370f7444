"""The commands that a program prints: each can be pasted into the shell that started it."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

from study.results.studies import Study
from study.run.cluster import ROOT

AUDIT = "audit"  # the folder, in a study's own, of what was audited of it
TUNE, COMPARE = "tune_smoothap.py", "compare_losses.py"
REFERENCES, AUDITING = "train_references.py", "audit_stopping.py"


def program_of(study: Study) -> str:
    """The program that goes on with a study: of a comparison, of a search or of given trials."""
    listed = study.info.get("listed")
    if listed and study.folder.name == AUDIT:
        return AUDITING
    if study.info["plan"].get("confirm_seeds"):
        return COMPARE
    return REFERENCES if listed else TUNE


def going_on(*words: str, **options: object) -> str:
    """Goes on with what this program does."""
    return command(sys.argv[0], "--resume", *words, **options)


def report_command(folder: Path, data_dir: str | None) -> str:
    """Makes the report of the study in a folder."""
    here = Path() if Path.cwd() == ROOT else ROOT
    return command(here / "analysis" / "report.py", str(folder), data_dir=data_dir)


def command(program: Path | str, *words: str, **options: object) -> str:
    """Runs a program of this project; an option that is None is left out."""
    line = [_python(), str(program), *words]
    for name, value in options.items():
        option = f"--{name.replace('_', '-')}"
        if value is not None and str(value).startswith("-"):  # it would be taken for an option
            line.append(f"{option}={value}")
        elif value is not None:
            line += [option, str(value)]
    return shlex.join(line)


def viewer(package: str, *words: str) -> str:
    """Looks at results with a package's program, which has the package's name."""
    beside = shutil.which(package, path=str(Path(sys.executable).parent))
    program = package if shutil.which(package) else beside
    if program is None:
        return f"{shlex.join([package, *words])}  # first: pip install {package}"
    return shlex.join([program, *words])


def _python() -> str:
    """What the shell calls this Python: `python` where it finds this one by that name."""
    found = shutil.which("python")
    mine = found is not None and Path(found).parent == Path(sys.executable).parent
    return "python" if mine else sys.executable
