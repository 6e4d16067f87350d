"""The minutes that a lesson claims: worked out from its source, in all and section by section."""

from __future__ import annotations

import re
from dataclasses import replace

from nbformat import NotebookNode

from itr_lib.course.placeholders import MINUTES, with_numbers
from itr_lib.course.solutions import around
from itr_lib.course.source import Source

WORDS_A_MINUTE, LINES_A_MINUTE = 180, 25
FOLDED = re.compile(r"<details(?:(?!<details).)*?</details>", re.DOTALL)  # an innermost one


def words(text: str) -> int:
    """Words of a markdown cell that stand there unfolded; tags, and tokens without a letter or digit, are none."""
    while FOLDED.search(text):
        text = FOLDED.sub(" ", text)
    return sum(bool(re.search(r"\w", word)) for word in re.sub(r"<[a-z/!][^>]*>", " ", text).split())


def section_minutes(source: Source) -> list[float]:
    """Minutes of the opening, then of each section (it begins with ``##``): words, code, exercises.

    Folded help and solution regions take no time of their own: an exercise's minutes have them.
    """
    minutes = [0.0]
    for place, cell in enumerate(with_numbers(source).cells):
        if "solutions-only" in cell.metadata.get("tags", []):
            continue
        if cell.cell_type == "code":
            lines = [line for line in around(cell.source).splitlines() if line.strip()]
            minutes[-1] += len(lines) / LINES_A_MINUTE
        else:
            before, *sections = parts(cell.source)
            minutes[-1] += words(before) / WORDS_A_MINUTE
            minutes += [words(section) / WORDS_A_MINUTE for section in sections]
        exercise = source.exercise_at(place)
        if exercise and exercise.text == place:
            minutes[-1] += exercise.minutes
    return minutes


def total_minutes(source: Source) -> int:
    """A lesson's minutes, with those in which the notebook runs, to the nearest 5."""
    total = sum(section_minutes(source)) + source.cells[0].metadata.get("run_minutes", 0)
    return 5 * round(total / 5)


def with_minutes(source: Source) -> Source:
    """A lesson with all its numbers: those from the record, ``{{minutes}}``, and a line under each ``##``.

    The line says where the section begins and how long it takes; a section of less than a minute has none.
    """
    minutes, total = section_minutes(source), total_minutes(source)
    starts = [sum(minutes[:place]) for place in range(len(minutes))]
    lines = iter([_line(start, own, total) for start, own in zip(starts, minutes, strict=True)][1:])
    cells = []
    for cell in with_numbers(source).cells:
        if cell.cell_type == "markdown" and "solutions-only" not in cell.metadata.get("tags", []):
            cell = _timed(cell, lines, total)
        cells.append(cell)
    return replace(source, cells=tuple(cells))


def parts(text: str) -> list[str]:
    """A markdown cell cut before each heading ``##``; the first part is what stands before the first of them."""
    found, fenced = [""], False
    for line in text.splitlines(keepends=True):
        fenced ^= line.lstrip().startswith("```")
        if line.startswith("## ") and not fenced:
            found.append("")
        found[-1] += line
    return found


def _line(start: float, minutes: float, total: int) -> str:
    if minutes < 1:
        return ""
    many = "s" if round(minutes) != 1 else ""
    return f"*minute {min(round(start), total)} of {total} · about {round(minutes)} minute{many}*"


def _timed(cell: NotebookNode, lines, total: int) -> NotebookNode:
    before, *sections = parts(cell.source)
    text = before
    for section in sections:
        heading, _, rest = section.partition("\n")
        line = next(lines)
        text += f"{heading}\n\n{line}\n\n{rest.lstrip()}" if line else section
    return NotebookNode(cell | {"source": text.rstrip().replace(MINUTES, str(total))})
