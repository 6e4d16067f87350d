"""Read a lesson's source, ``solutions/NN_name.py``, and hold it against the conventions.

The conventions are written down in :mod:`itr_lib.course.build`.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import jupytext
from nbformat import NotebookNode

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
ANSWERS = "my_answers.py"  # the passing answers, which the checks keep beside a notebook for later ones
LESSON_NAME = re.compile(r"[0-9]{2}[a-z]?_[a-z0-9_]+")  # 04a_...: an appendix to lesson 04
# By default jupytext takes the comments `# !important`, `# %d of them` and `# ls` for magics that it is to bring back.
# Lessons are plain Python: there are no magics, and a comment stays a comment.
PERCENT = {"extension": ".py", "format_name": "percent", "comment_magics": False}


class SourceError(ValueError):
    """A lesson's source breaks a convention; the message names file and cell."""


@dataclass(frozen=True)
class Exercise:
    """One exercise of a lesson, and the places (counted from 0) of its three cells."""

    slug: str
    difficulty: int
    minutes: int
    points: int
    text: int
    solution: int
    check: int


@dataclass(frozen=True)
class Source:
    """A lesson's cells as jupytext reads them, and its exercises in their order."""

    name: str
    cells: tuple[NotebookNode, ...]
    exercises: tuple[Exercise, ...]

    def exercise_at(self, place: int) -> Exercise | None:
        """The exercise whose text, solution or check is the cell at ``place``."""
        return next((e for e in self.exercises if place in (e.text, e.solution, e.check)), None)


def is_appendix(name: str) -> bool:
    """Whether a lesson's name is an appendix's, ``04a_...``: built and tested like a lesson, run on demand."""
    return name[2:3] != "_"


def lesson_sources(repo: Path) -> list[Path]:
    """The lessons' sources in their order. Raises :class:`SourceError` on a file name that is no lesson's.

    What the checks kept for whoever ran a solved notebook there is passed over.
    """
    paths = sorted(path for path in (repo / "solutions").glob("*.py") if path.name != ANSWERS)
    for path in paths:
        if not LESSON_NAME.fullmatch(path.stem):
            raise SourceError(f"solutions/{path.name}: expected a name like 01_global_embeddings.py")
    return paths


def read_source(path: Path) -> Source:
    """Read one lesson. Raises :class:`SourceError`, naming file and cell, where it breaks a convention."""
    text = path.read_text(encoding="utf-8")
    cells = jupytext.reads(text, fmt=PERCENT).cells
    if not cells:
        raise SourceError(f"solutions/{path.name}: holds no cell; cells begin with '# %%'")
    for place, cell in enumerate(cells):
        if cell.cell_type == "code":
            as_written = f"\n{cell.source}\n" in f"\n{text}\n"  # not so for `# # + a`, from which jupytext takes a mark
            require(as_written, path, place, cell, "jupytext would change a line in it: word it otherwise")
            _check_code(path, place, cell)
    minutes = cells[0].metadata.get("run_minutes", 0)
    right = isinstance(minutes, int) and not isinstance(minutes, bool) and minutes >= 0
    require(right, path, 0, cells[0], f"run_minutes is {minutes!r}, expected a whole number")
    return Source(path.stem, tuple(cells), tuple(_exercises(path, cells)))


def require(condition: object, path: Path, place: int, cell: NotebookNode, message: str) -> None:
    """Raise :class:`SourceError` with file, cell number (from 1) and the cell's first line."""
    if not condition:
        first = next((line for line in cell.source.splitlines() if line.strip()), "empty")
        raise SourceError(f"solutions/{path.name}, cell {place + 1} ({first.strip()[:60]!r}): {message}")


def _check_code(path: Path, place: int, cell: NotebookNode) -> None:
    require(cell.source.strip(), path, place, cell, "the code cell is empty")
    try:
        ast.parse(cell.source)
    except SyntaxError as error:
        message = "lessons are plain Python, without magics and shell commands"
        require(False, path, place, cell, f"is not runnable: {error.msg} in line {error.lineno} ({message})")
    begins, ends = (sum(line.strip() == mark for line in cell.source.splitlines()) for mark in (BEGIN, END))
    marked = begins or ends
    require(
        not marked or "solution" in cell.metadata,
        path,
        place,
        cell,
        f'{BEGIN!r} stands in a cell without solution="slug"',
    )


def _exercises(path: Path, cells: list[NotebookNode]) -> list[Exercise]:
    """Every exercise with its solution and check, in order; each rule that is broken raises."""
    starts = [place for place, cell in enumerate(cells) if "exercise" in cell.metadata]
    found, used = [], set()
    for start, stop in pairwise([*starts, len(cells)]):
        exercise = _one_exercise(path, cells, start, stop)
        require(
            exercise.slug not in {e.slug for e in found},
            path,
            start,
            cells[start],
            f"exercise {exercise.slug!r} stands here twice",
        )
        found.append(exercise)
        used |= {exercise.solution, exercise.check}
    for place, cell in enumerate(cells):
        for kind in ("solution", "check"):
            require(
                kind not in cell.metadata or place in used,
                path,
                place,
                cell,
                f'{kind}="{cell.metadata.get(kind)}" follows no markdown cell with that exercise',
            )
    return found


def _one_exercise(path: Path, cells: list[NotebookNode], start: int, stop: int) -> Exercise:
    cell = cells[start]
    slug = str(cell.metadata["exercise"])
    require(cell.cell_type == "markdown", path, start, cell, f"exercise={slug!r} must be a markdown cell")
    require(SLUG.fullmatch(slug), path, start, cell, f"slug {slug!r} must be lower-case words joined by '-'")
    numbers = [_whole_number(path, start, cell, key) for key in ("difficulty", "minutes", "points")]
    require(numbers[0] <= 5, path, start, cell, f"difficulty is {numbers[0]}, expected 1 to 5")
    places = {}
    for kind in ("solution", "check"):
        hits = [p for p in range(start, stop) if cells[p].metadata.get(kind) == slug]
        problem = f'exercise {slug!r} has {len(hits)} cells {kind}="{slug}" before the next exercise, expected 1'
        require(len(hits) == 1, path, start, cell, problem)
        require(cells[hits[0]].cell_type == "code", path, hits[0], cells[hits[0]], f"{kind} must be a code cell")
        places[kind] = hits[0]
    require(places["solution"] < places["check"], path, start, cell, "the check stands before the solution")
    helps = sum(c.source.count("<details") for c in cells[start:stop] if c.cell_type == "markdown")
    require(
        helps >= 2,
        path,
        start,
        cell,
        f"exercise {slug!r} offers {helps} folded <details>, expected at least 2 layers of help",
    )
    _check_region(path, places["solution"], cells[places["solution"]])
    _check_call(path, cells, places, slug)
    return Exercise(slug, *numbers, text=start, **places)


def _whole_number(path: Path, place: int, cell: NotebookNode, key: str) -> int:
    value = cell.metadata.get(key)
    right = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    require(right, path, place, cell, f"{key} is {value!r}, expected a whole number of at least 1")
    return value


def _check_region(path: Path, place: int, cell: NotebookNode) -> None:
    marks = [line.strip() for line in cell.source.splitlines() if line.strip() in (BEGIN, END)]
    right = marks and marks == [BEGIN, END] * (len(marks) // 2)
    require(right, path, place, cell, f"expected {BEGIN!r} and then {END!r}, found {marks}")


def _check_call(path: Path, cells: list[NotebookNode], places: dict[str, int], slug: str) -> None:
    """The check cell is one statement, ``name = check("slug", name)``, of a name that the solution defines.

    Nothing else stands there, for nbgrader reads a last value as points.
    """
    solution, cell = (cells[places[kind]] for kind in ("solution", "check"))
    defined = [n.name for n in ast.parse(solution.source).body if isinstance(n, ast.FunctionDef | ast.ClassDef)]
    wanted = {ast.dump(ast.parse(f'{name} = check("{slug}", {name})')) for name in defined}
    require(
        ast.dump(ast.parse(cell.source)) in wanted,
        path,
        places["check"],
        cell,
        f'expected exactly one statement, name = check("{slug}", name), with the name of a function or class that the '
        f"solution defines: {', '.join(defined) or 'it defines none'}",
    )
