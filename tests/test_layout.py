"""The rooms of the library: who may import whom, and how large a module and a function may be."""

from __future__ import annotations

import ast
import graphlib
import io
import statistics
import tokenize
from pathlib import Path

import pytest

# From the ground up. A module imports from floors below its own, and within its own room; rooms on one floor do not
# know each other.
FLOORS = """
    progress validation parallel files transfer clock
    desk
    data
    encoders
    similarity
    guides momentum
    objectives
    models
    evaluation
    inference checkpoint training_view trained_parts
    training search
    figures
    checks
    lessons
    course
"""
# The same within data/: the door (its __init__) stands on top of it.
DATA_FLOORS = """
    rows unicode cache
    offline
    dataset boxes tokenisation download
    batches archives scenes photographs
    augment load pixels
    questions
"""
# Functions of more than 30 lines of code (docstrings, comments and blank lines do not count, the signature does), and
# why they stay whole.
LONG = {
    "itr_lib.similarity.scores.alignment_scores": "ten arguments, a line each, and a check for each of them",
    "itr_lib.lessons.variants.lesson04": "a variant a line, and there are twenty",
    "itr_lib.training.train": "nine arguments, a line each; the loop itself is short and reads from top to bottom",
}
MODULE, MEDIAN, FUNCTION = 300, (80, 200), 30  # lines: the longest module, the range of the median, a function's code


@pytest.fixture(scope="module")
def library(repo: Path) -> dict[str, str]:
    """Source by module, ``itr_lib.data`` for ``itr_lib/data/__init__.py``."""
    parts = {path: path.relative_to(repo).with_suffix("").parts for path in (repo / "itr_lib").rglob("*.py")}
    return {".".join(p[:-1] if p[-1] == "__init__" else p): path.read_text() for path, p in parts.items()}


def imports(module: str, library: dict[str, str]) -> set[str]:
    """The library's modules that ``module`` names in an import, wherever the import stands in it."""
    is_package = any(other.startswith(f"{module}.") for other in library)
    package = module if is_package else module.rpartition(".")[0]
    found = set()
    for node in ast.walk(ast.parse(library[module])):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            origin = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:  # `from room import module` names the module, `from room import name` the room
                found.add(f"{origin}.{alias.name}" if f"{origin}.{alias.name}" in library else origin)
    return {name for name in found if name.split(".")[0] == "itr_lib"} - {module}


def upward(library: dict[str, str], above: str, floors: str) -> list[str]:
    """Imports among the rooms of the package ``above`` that do not go down, each as ``module -> module``."""
    height = {room: floor for floor, line in enumerate(floors.split("\n")) for room in line.split()}
    height[""] = len(height)  # the package's door

    def room(module: str) -> str | None:
        """The part of a name after ``above``; the door is ""; None for what lies elsewhere."""
        return f"{module}.".removeprefix(f"{above}.").split(".")[0] if f"{module}.".startswith(f"{above}.") else None

    unplaced = {room(module) for module in library if room(module) is not None} - height.keys()
    assert not unplaced, f"{unplaced} of {above} stand on no floor: add them to the list in {Path(__file__).name}"
    wrong = []
    for module in library:
        for other in imports(module, library):
            here, there = room(module), room(other)
            if None not in (here, there) and here != there and height[there] >= height[here]:
                wrong.append(f"{module} -> {other}")
    return sorted(wrong)


def circle(library: dict[str, str]) -> list[str] | None:
    """Modules that import each other in a circle, if there are any."""
    try:
        graphlib.TopologicalSorter({module: imports(module, library) for module in library}).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return None


def code_lines(function: ast.FunctionDef, source: str) -> int:
    """Lines from ``def`` to the end that hold code: no docstring, its own or an inner one, no comment, no blank."""
    silent = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    lines = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in silent:
            lines |= set(range(token.start[0], token.end[0] + 1))
    lines &= set(range(function.lineno, function.end_lineno + 1))
    for inner in ast.walk(function):
        if isinstance(inner, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(inner) is not None:
            lines -= set(range(inner.body[0].lineno, inner.body[0].end_lineno + 1))
    return len(lines)


def long_functions(library: dict[str, str]) -> dict[str, int]:
    found = {}
    for module, source in library.items():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno >= FUNCTION:
                found[f"{module}.{node.name}"] = code_lines(node, source)
    return {name: length for name, length in found.items() if length > FUNCTION}


# --- the library -----------------------------------------------------------------------------------------------------


def test_no_import_goes_up(library):
    assert upward(library, "itr_lib", FLOORS) == []


def test_no_import_goes_up_within_data(library):
    assert upward(library, "itr_lib.data", DATA_FLOORS) == []


def test_no_modules_import_each_other(library):
    assert circle(library) is None


def test_modules_are_short_enough_to_read(library):
    lines = {module: len(source.splitlines()) for module, source in library.items() if source.strip()}
    assert {module: n for module, n in lines.items() if n > MODULE} == {}
    assert MEDIAN[0] <= statistics.median(lines.values()) <= MEDIAN[1]


def test_long_functions_have_a_reason(library):
    found = long_functions(library)
    assert {name: n for name, n in found.items() if name not in LONG} == {}, "make them shorter, or say why not"
    assert not LONG.keys() - found.keys(), "no longer long: take them off the list"


# --- these tests themselves ------------------------------------------------------------------------------------------

SMALL = {
    "itr_lib": "",
    "itr_lib.validation": "",
    "itr_lib.data": "from .load import load_splits",
    "itr_lib.data.dataset": "import numpy as np",
    "itr_lib.data.load": "from itr_lib.data.dataset import RetrievalData",
    "itr_lib.data.scenes": "",
    "itr_lib.models": "from itr_lib.models import vse",
    "itr_lib.models.vse": "from ..data import load_splits\nfrom itr_lib import validation",
    "itr_lib.training": "import itr_lib.data.load\nfrom itr_lib.models.vse import VSE",
}


def test_a_library_in_order_passes():
    assert upward(SMALL, "itr_lib", FLOORS) == upward(SMALL, "itr_lib.data", DATA_FLOORS) == [] and not circle(SMALL)


@pytest.mark.parametrize(
    "line",
    [
        "from itr_lib.models import build",
        "from itr_lib.models.vse import VSE",
        "from itr_lib import models",
        "import itr_lib.models.vse as vse",
        "from .. import models",
        "from ..models.vse import VSE",
        "def later():\n    from itr_lib.models import build",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from itr_lib.models import build",
    ],
)
def test_a_planted_upward_import_is_caught(line):
    (arrow,) = upward(SMALL | {"itr_lib.data.dataset": line}, "itr_lib", FLOORS)
    assert arrow in ("itr_lib.data.dataset -> itr_lib.models", "itr_lib.data.dataset -> itr_lib.models.vse")


@pytest.mark.parametrize("line", ["from itr_lib.data.load import load_splits", "from ..load import Splits"])
def test_a_planted_upward_import_within_data_is_caught(line):
    planted = SMALL | {"itr_lib.data.scenes": "", "itr_lib.data.scenes.make": line}
    assert upward(planted, "itr_lib.data", DATA_FLOORS) == ["itr_lib.data.scenes.make -> itr_lib.data.load"]
    assert upward(SMALL | {"itr_lib.data.dataset": "from itr_lib.data import load_splits"}, "itr_lib.data", DATA_FLOORS)


def test_rooms_on_one_floor_do_not_know_each_other():
    planted = SMALL | {"itr_lib.search": "from itr_lib.training import train"}
    assert upward(planted, "itr_lib", FLOORS) == ["itr_lib.search -> itr_lib.training"]


def test_a_room_without_a_floor_is_caught():
    with pytest.raises(AssertionError, match="cellar"):
        upward(SMALL | {"itr_lib.cellar": ""}, "itr_lib", FLOORS)


def test_a_circle_within_a_room_is_caught():
    assert circle(SMALL | {"itr_lib.models.chan": "from . import vse", "itr_lib.models.vse": "from .chan import CHAN"})


def test_only_code_counts_as_a_functions_length():
    body = "\n".join(["    # why", "", *(f"    x = {i}" for i in range(29))])
    source = f'def f(\n    x,\n):\n    """Says\n\n    what."""\n{body}\n'
    assert code_lines(ast.parse(source).body[0], source) == 32
    assert long_functions({"m": source}) == {"m.f": 32}
    assert long_functions({"m": source.replace("    x = 0\n    x = 1\n", "")}) == {}
