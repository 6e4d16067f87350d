"""How long a lesson may be, and how each one stands: words, code, cells, imports."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path

from nbformat import NotebookNode

from itr_lib.course.build import INSTALL, make_notebook
from itr_lib.course.minutes import FOLDED, total_minutes, words
from itr_lib.course.placeholders import with_numbers
from itr_lib.course.solutions import regions
from itr_lib.course.source import Source, lesson_sources, read_source

WORDS = 3200  # of prose, folded help and solutions aside
CODE_LINES = 450  # in the learner's notebook, blank lines too: what a reader scrolls past
CELL_LINES = 25  # of a code cell, solution cells aside
IMPORT_LINES = 8  # of the cell with the imports, and of imports in all
GIVEN_AWAY, RUN = 2 / 3, 6  # share of an answer's code that a help may tell; characters in a row that count
SHORTEST_REPEAT = 3  # lines: a shorter cell may stand in two lessons


@dataclass(frozen=True)
class Measured:
    """One lesson as it stands.

    ``over`` has a sentence for each breach by the name of the limit: ``words``, ``code``, ``cells``, ``imports``,
    ``repeats``, ``checks`` (a check beside the exercises') or ``helps`` (a help that is the answer).
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
        cells = [c for c in make_notebook(source, "learner").cells if c.cell_type == "code" and c.id != INSTALL]
        lessons.append(_measure(source, cells, earlier))
        earlier |= {cell: source.name for cell in map(repeatable, cells) if cell and cell not in earlier}
    return lessons


def import_lines(cell: NotebookNode) -> int:
    """Lines of a cell's import statements, wherever they stand in it."""
    nodes = [node for node in ast.walk(ast.parse(cell.source)) if isinstance(node, ast.Import | ast.ImportFrom)]
    return sum(node.end_lineno - node.lineno + 1 for node in nodes)


def repeatable(cell: NotebookNode) -> str:
    """A cell as another lesson may not have it: code without comments; ``""`` for short ones, imports, parameters."""
    body = ast.parse(cell.source).body
    bare = _role(cell) == "parameters" or all(isinstance(node, ast.Import | ast.ImportFrom) for node in body)
    short = sum(bool(line.strip()) for line in cell.source.splitlines()) < SHORTEST_REPEAT
    return "" if bare or short else ast.unparse(body)


def given_away(source: Source) -> dict[str, float]:
    """Exercises of which one folded help tells more than :data:`GIVEN_AWAY` of the answer's code, and how much."""
    stops = [*(exercise.text for exercise in source.exercises), len(source.cells)][1:]
    found = {}
    for exercise, stop in zip(source.exercises, stops, strict=False):
        prose = "\n".join(c.source for c in source.cells[exercise.text : stop] if c.cell_type == "markdown")
        answer = "\n".join(regions(source.cells[exercise.solution].source))
        share = max((told(answer, text) for text in FOLDED.findall(prose)), default=0)
        if share > GIVEN_AWAY:
            found[exercise.slug] = share
    return found


def told(answer: str, text: str) -> float:
    """The share of an answer's characters (comments, blanks and ``return`` aside) that a text has in runs, in order."""
    lines = [line.strip().removeprefix("return ") for line in answer.splitlines()]
    code = "".join("".join(line.split()) for line in lines if not line.startswith("#"))
    blocks = SequenceMatcher(None, code, "".join(text.split()), autojunk=False).get_matching_blocks()
    return sum(block.size for block in blocks if block.size >= RUN) / max(len(code), 1)


def _role(cell: NotebookNode) -> str:
    """``"parameters"``, ``"solution"``, ``"check"``, or ``""`` for any other code cell."""
    if "parameters" in cell.metadata.get("tags", []):
        return "parameters"
    marks = cell.metadata.get("nbgrader")
    return "" if marks is None else "solution" if marks["solution"] else "check"


def _name(cell: NotebookNode) -> str:
    return f"{cell.id} ({cell.source.splitlines()[0][:60]!r})"


def _measure(source: Source, cells: list[NotebookNode], earlier: dict[str, str]) -> Measured:
    prose = [cell.source for cell in with_numbers(source).cells if cell.cell_type == "markdown"]
    found = Measured(
        lesson=source.name,
        minutes=total_minutes(source),
        words=sum(map(words, prose)),
        code=sum(map(_lines, cells)),
        longest=max((_lines(cell) for cell in cells if _role(cell) != "solution"), default=0),
        imports=sum(import_lines(cell) for cell in cells if _role(cell) == ""),
        exercises=len(source.exercises),
        over={},
    )
    breaches = {
        "words": [f"{found.words:,} words of prose"] * (found.words > WORDS),
        "code": [f"{found.code} lines of code in the learner's copy"] * (found.code > CODE_LINES),
        "helps": [f"a help to {slug} tells {s:.0%} of the answer's code" for slug, s in given_away(source).items()],
    }
    found.over.update({limit: lines for limit, lines in (breaches | _of_cells(cells, earlier)).items() if lines})
    return found


def _of_cells(cells: list[NotebookNode], earlier: dict[str, str]) -> dict[str, list[str]]:
    """What single code cells break: a sentence each."""
    long = [cell for cell in cells if _role(cell) != "solution" and _lines(cell) > CELL_LINES]
    imports = [cell for cell in cells if _role(cell) == "" and import_lines(cell)]
    head = sum(bool(line.strip()) for line in imports[0].source.splitlines()) if imports else 0
    total = sum(map(import_lines, imports))
    stray = [cell for cell in cells if _role(cell) != "check" and _calls_check(cell)]
    return {
        "cells": [f"{_name(cell)} has {_lines(cell)} lines" for cell in long],
        "imports": [f"{_name(cell)} has {head} lines, imports in all: {total}" for cell in imports[:1]]
        * (max(head, total) > IMPORT_LINES),
        "repeats": [f"{_name(c)} stands in {earlier[repeatable(c)]} too" for c in cells if repeatable(c) in earlier],
        "checks": [f"{_name(cell)} calls check" for cell in stray],
    }


def _lines(cell: NotebookNode) -> int:
    return len(cell.source.splitlines())


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
