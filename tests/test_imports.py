"""Imports point one way: no circle between files, and a package uses those below it only."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

from tests.tiny_run import ROOT

# From the bottom up: a package may import those of the lines above its own, and its own files. `__init__`
# names the public classes without importing them, so that `M2SVid.from_pretrained` may call `m2svid.load`.
ORDER = """
__init__
errors
files described parser pages
batch warping video
attention metrics
model
weights
recipes inference data
depth synthetic
comfort
evaluation
sheets
convert
training report
study bench ui
cli
__main__
"""
LEVELS = {package: level for level, line in enumerate(ORDER.split("\n")) for package in line.split()}


def module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


FILES = {module(path): path for folder in ("m2svid", "data_prep") for path in (ROOT / folder).rglob("*.py")}


def imports(path: Path) -> set[str]:
    """The project's modules that a file imports, in functions too, but not those for type checkers alone."""
    found, nodes = set(), [ast.parse(path.read_text())]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        nodes += ast.iter_child_nodes(node)
    return (found & FILES.keys()) - {module(path)}


IMPORTS = {name: imports(path) for name, path in FILES.items()}


def package(name: str) -> str:
    return [*name.split("."), "__init__"][1]


def test_no_circle_between_files():
    TopologicalSorter(IMPORTS).prepare()  # raises CycleError, which names the files


def test_packages_use_those_below_them():
    arrows = {
        (name, other) for name, others in IMPORTS.items() for other in others if "m2svid" in (name + other)
    }
    assert len(arrows) > 300
    inside = {(a, b) for a, b in arrows if a.startswith("m2svid")}
    assert not {(a, b) for a, b in inside if not b.startswith("m2svid")}
    levels = {(a, b): (LEVELS[package(a)], LEVELS[package(b)]) for a, b in inside if package(a) != package(b)}
    assert not {arrow: pair for arrow, pair in levels.items() if pair[0] <= pair[1]}
