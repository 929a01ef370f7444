"""What the page on clusters says a node needs, and what the packages import."""

from __future__ import annotations

import ast
import shlex
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
AT_HOME = {"publish.py"}  # run from a checkout, not on a cluster
OURS = sys.stdlib_module_names | {"study", "trainables"}  # and Python's


def third_party(path: Path) -> set[str]:
    """The packages that a file imports, of neither Python nor the project."""
    modules: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules.add(node.module or "")
    return {module.split(".")[0] for module in modules} - OURS


def test_a_node_is_given_all_that_a_study_imports() -> None:
    page = (ROOT / "study" / "WATCHING.md").read_text(encoding="utf-8")
    cluster = yaml.safe_load(page.split("```yaml\n")[1].split("```")[0])
    install = next(line for line in cluster["setup_commands"] if "pip install" in line)
    given = {word.split("[")[0] for word in shlex.split(install)}
    files = [*(ROOT / "study").glob("*.py"), *(ROOT / "trainables").glob("*.py")]
    needed = {name for path in files if path.name not in AT_HOME for name in third_party(path)}
    assert {"ray", "torch", "numba"} <= needed
    assert needed <= given
