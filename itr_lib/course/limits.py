"""How long a lesson may be, and how each one stands: words, code, cells, imports."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from nbformat import NotebookNode

from itr_lib.course.build import make_notebook
from itr_lib.course.minutes import FOLDED, total_minutes, words
from itr_lib.course.placeholders import with_numbers
from itr_lib.course.solutions import regions
from itr_lib.course.source import Source, lesson_sources, read_source

WORDS = 3200  # of prose, folded help and solutions aside
CODE_LINES = 450  # in the learner's notebook, blank lines too: what a reader scrolls past
CELL_LINES = 25  # of a code cell, solution cells aside
IMPORT_LINES = 8  # of the cell with the imports, and of imports in all
SHORTEST_REPEAT = 3  # lines: a shorter cell may stand in two lessons


@dataclass(frozen=True)
class Measured:
    """One lesson as it stands.

    ``over`` has a sentence for each breach by the name of the limit: ``words``, ``code``, ``cells``, ``imports``,
    ``repeats``, ``checks`` (a check beside the exercises') or ``helps`` (a help that is the whole answer).
    """

    lesson: str
    minutes: int
    words: int
    code: int
    longest: int
    imports: int
    exercises: int
    over: dict[str, list[str]]


def measured(repo: Path) -> list[Measured]:
    """Every lesson and appendix in order. Raises :class:`~itr_lib.course.source.SourceError` like a build."""
    lessons, earlier = [], {}
    for path in lesson_sources(repo):
        source = read_source(path)
        cells = code_cells(source)
        lessons.append(_measure(source, cells, earlier))
        earlier |= {cell: source.name for cell in map(repeatable, cells) if cell and cell not in earlier}
    return lessons


def code_cells(source: Source) -> list[NotebookNode]:
    """The code cells that a learner sees, without the one of the parameters."""
    cells = make_notebook(source, "learner").cells
    return [c for c in cells if c.cell_type == "code" and "parameters" not in c.metadata.get("tags", [])]


def import_lines(cell: NotebookNode) -> int:
    """Lines of a cell's import statements, wherever they stand in it."""
    nodes = [node for node in ast.walk(ast.parse(cell.source)) if isinstance(node, ast.Import | ast.ImportFrom)]
    return sum(node.end_lineno - node.lineno + 1 for node in nodes)


def repeatable(cell: NotebookNode) -> str:
    """A cell as another lesson may not have it: its code without comments; ``""`` for short ones and bare imports."""
    body = ast.parse(cell.source).body
    bare = all(isinstance(node, ast.Import | ast.ImportFrom) for node in body)
    short = sum(bool(line.strip()) for line in cell.source.splitlines()) < SHORTEST_REPEAT
    return "" if bare or short else ast.unparse(body)


def given_away(source: Source) -> list[str]:
    """The exercises one of whose folded helps has every line of the answer in it."""
    starts = [exercise.text for exercise in source.exercises[1:]] + [len(source.cells)]
    found = []
    for exercise, stop in zip(source.exercises, starts, strict=True):
        prose = "\n".join(c.source for c in source.cells[exercise.text : stop] if c.cell_type == "markdown")
        answer = "\n".join(regions(source.cells[exercise.solution].source))
        lines = [_squeezed(line) for line in answer.splitlines() if line.strip() and not line.strip().startswith("#")]
        helps = [_squeezed(text) for text in FOLDED.findall(prose)]
        if any(all(line in text for line in lines) for text in helps):
            found.append(exercise.slug)
    return found


def _squeezed(code: str) -> str:
    return "".join(code.strip().removeprefix("return ").split())


def _name(cell: NotebookNode) -> str:
    return f"{cell.id} ({cell.source.splitlines()[0][:60]!r})"


def _measure(source: Source, cells: list[NotebookNode], earlier: dict[str, str]) -> Measured:
    roles = [cell.id if "nbgrader" in cell.metadata else "" for cell in cells]  # solutions and checks
    lengths = {_name(c): len(c.source.splitlines()) for c, role in zip(cells, roles, strict=True) if not role}
    imports = [0 if role.endswith("-solution") else import_lines(c) for c, role in zip(cells, roles, strict=True)]
    found = Measured(
        lesson=source.name,
        minutes=total_minutes(source),
        words=sum(words(c.source) for c in with_numbers(source).cells if c.cell_type == "markdown"),
        code=sum(len(cell.source.splitlines()) for cell in cells),
        longest=max(lengths.values(), default=0),
        imports=sum(imports),
        exercises=len(source.exercises),
        over={},
    )
    head = next((cell for cell, lines in zip(cells, imports, strict=True) if lines), None)
    head_lines = sum(bool(line.strip()) for line in head.source.splitlines()) if head else 0
    stray = [c for c, role in zip(cells, roles, strict=True) if not role.endswith("-check") and _calls_check(c)]
    breaches = {
        "words": [f"{found.words:,} words of prose"] * (found.words > WORDS),
        "code": [f"{found.code} lines of code in the learner's copy"] * (found.code > CODE_LINES),
        "cells": [f"{name} has {lines} lines" for name, lines in lengths.items() if lines > CELL_LINES],
        "imports": [f"{found.imports} lines of imports, {head_lines} lines in their first cell"]
        * (max(found.imports, head_lines) > IMPORT_LINES),
        "repeats": [f"{_name(c)} stands in {earlier[repeatable(c)]} too" for c in cells if repeatable(c) in earlier],
        "checks": [f"{_name(cell)} calls check" for cell in stray],
        "helps": [f"a help to {slug} is the whole answer" for slug in given_away(source)],
    }
    found.over.update({limit: lines for limit, lines in breaches.items() if lines})
    return found


def _calls_check(cell: NotebookNode) -> bool:
    calls = [node for node in ast.walk(ast.parse(cell.source)) if isinstance(node, ast.Call)]
    return any(isinstance(call.func, ast.Name) and call.func.id == "check" for call in calls)


def table(lessons: Iterable[Measured]) -> str:
    """The lessons as a table, and below it what is over, a line each."""
    row = "{:28} {:>7} {:>6} {:>5} {:>12} {:>8} {:>9}".format
    lines = [row("lesson", "minutes", "words", "code", "longest cell", "imports", "exercises")]
    lines += [row(m.lesson, m.minutes, m.words, m.code, m.longest, m.imports, m.exercises) for m in lessons]
    lines += [row("at most", "", WORDS, CODE_LINES, CELL_LINES, IMPORT_LINES, "")]
    over = [f"{m.lesson}: {line}" for m in lessons for breaches in m.over.values() for line in breaches]
    return "\n".join([*lines, "", *(over or ["every lesson is within its limits"])])
