"""The commands that a program prints: each can be pasted into the shell that started it."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

from study.run.cluster import ROOT


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
