"""What the README and the notebook's page show, run as it stands there."""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from study.run.cluster import ROOT

NOTEBOOK = ROOT / "analysis" / "IN-A-NOTEBOOK.md"


def test_the_notebooks_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    ran = doctest.testfile(str(NOTEBOOK), module_relative=False)
    assert ran.attempted >= 12 and ran.failed == 0


def test_the_readmes_own_script(tmp_path: Path) -> None:
    """A real Tuner with another search and another scheduler, of a part of the images."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    script = next(block for block in blocks if "tune.Tuner(" in block)
    assert len([line for line in script.splitlines() if line.strip()]) <= 14  # 5 of them imports
    parts = script.split('resolve("fashion_mnist").split()')
    assert len(parts) == 2
    fewer = 'resolve("fashion_mnist").split().sliced(640, 300)'
    (tmp_path / "own.py").write_text(fewer.join(parts))
    environment = os.environ | {"PYTHONPATH": str(ROOT), "RAY_ADDRESS": "local"}
    ran = subprocess.run(
        [sys.executable, "own.py"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr[-3_000:]
    last = ran.stdout.strip().splitlines()[-1]
    assert "'loss': 'triplet'" in last and "'margin': 0." in last
