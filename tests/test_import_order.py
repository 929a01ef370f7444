"""No import runs back: trainables ← study ← analysis, and below them from room to room."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("trainables", "study", "analysis")
# Each imports of its package only itself and the rooms before it.
ROOMS = (
    ("study.results", "study.search", "study.run", "study.judge"),
    ("analysis.found", "analysis.figures", "analysis.page"),
    ("analysis.found", "analysis.figures", "analysis.gallery", "analysis.exported"),
)


def name_of(file: Path) -> str:
    """A module's name, a package's for its `__init__`."""
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def modules() -> dict[str, Path]:
    found = [file for package in PACKAGES for file in (ROOT / package).rglob("*.py")]
    return {name_of(file): file for file in found}


def source(node: ast.ImportFrom, name: str, file: Path) -> str:
    """What `from ... import` names, in full."""
    if not node.level:
        return node.module or ""
    package = name.split(".") if file.name == "__init__.py" else name.split(".")[:-1]
    above = package[: len(package) - node.level + 1]
    return ".".join([*above, *([node.module] if node.module else [])])


def imports() -> dict[str, set[str]]:
    """By module, those of the project that it names in an import, wherever that stands."""
    known = modules()
    graph: dict[str, set[str]] = {name: set() for name in known}
    for name, file in known.items():
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                named = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                named = [f"{source(node, name, file)}.{alias.name}" for alias in node.names]
            else:
                continue
            for target in named:
                graph[name].add(target if target in known else target.rpartition(".")[0])
        graph[name] &= known.keys()
    return graph


def test_imports_are_found() -> None:
    graph = imports()
    assert {"study.judge.summary", "study.run.cli"} <= graph["study.tune_smoothap"]
    assert "study.results.trials" in graph["study.results.studies"]
    assert "trainables.data.tables.files" in graph["trainables.data.tables.folders"]  # relative
    assert "trainables.learner" in graph["trainables.train"]
    assert "analysis.exported.plain_network" in graph["analysis.exported.formats"]


def test_no_module_imports_what_imports_it() -> None:
    assert [*TopologicalSorter(imports()).static_order()]  # CycleError otherwise


@pytest.mark.parametrize("order", [PACKAGES, *ROOMS])
def test_a_room_imports_the_rooms_before_it_alone(order: tuple[str, ...]) -> None:
    package = order[0].rpartition(".")[0]
    back = []
    for name, targets in imports().items():
        mine = [room for room in order if (name + ".").startswith(room + ".")]
        if not mine:
            continue
        allowed = order[: order.index(mine[0]) + 1]
        back += [
            f"{name} imports {target}"
            for target in sorted(targets)
            if target.startswith(package) and target != package
            if not any((target + ".").startswith(room + ".") for room in allowed)
        ]
    assert back == []


def test_training_knows_no_ray() -> None:
    """What a machine without Ray trains and judges with: all but the adapter."""
    using = [
        name
        for name, file in modules().items()
        if name.startswith("trainables")
        for node in ast.walk(ast.parse(file.read_text()))
        if (isinstance(node, ast.Import) and any(a.name.split(".")[0] == "ray" for a in node.names))
        or (isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "ray")
    ]
    assert {*using} == {"trainables.trainable"}
