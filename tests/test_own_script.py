"""What the README and the notebook's page show, run as it stands there."""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from study.results.studies import Study
from study.run.cluster import ROOT
from tests.small_data import SmallData, use
from tests.small_studies import VALIDATION, trial, write_study

NOTEBOOK = ROOT / "analysis" / "IN-A-NOTEBOOK.md"


def test_the_notebooks_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    ran = doctest.testfile(str(NOTEBOOK), module_relative=False)
    assert ran.attempted >= 12 and ran.failed == 0


def test_the_notebooks_code_for_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, SmallData(VALIDATION, VALIDATION, VALIDATION))
    write_study(tmp_path / "results" / "study", trial("smooth_ap", 0, [0.6]))
    Image.new("RGB", (90, 70), "white").save(tmp_path / "shoe.jpg")
    monkeypatch.chdir(tmp_path)
    code = re.findall(r"```py\n(.*?)```", NOTEBOOK.read_text(), re.DOTALL)
    names: dict[str, Any] = {"Study": Study}
    exec(code[0], names)
    assert names["embedding"].shape == (1, 256)
    assert names["embedding"].norm().item() == pytest.approx(1)


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
    # A worker's line may come after the script's own.
    (best,) = [line for line in ran.stdout.splitlines() if line.startswith("{")]
    assert "'loss': 'triplet'" in best and "'margin': 0." in best
