"""A learner's copy filled in: the answers in files of sections, ``# %% slug``, take the place of its stubs."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterable, Mapping
from pathlib import Path

from nbformat import NotebookNode

from itr_lib.course.source import Source
from itr_lib.desk.kept import sections


def read_answers(place: Path, known: Iterable[str]) -> dict[str, str]:
    """Answers by exercise from one file, or from all ``*.py`` of a folder (:func:`itr_lib.desk.kept.sections`).

    Raises ``ValueError`` where there is no file or no answer, for a slug that is not ``known``, and for an exercise
    that is answered in two files.
    """
    files = sorted(place.glob("*.py")) if place.is_dir() else [place]
    if not files or not files[0].is_file():
        raise ValueError(f"answers: {place} is no file, and no folder with files *.py in it")
    answers, known = {}, set(known)
    for file in files:
        found = sections(file.read_text(encoding="utf-8"))
        if unknown := sorted(set(found) - known):
            raise ValueError(f"{file}: there is no exercise {', '.join(unknown)}: expected {', '.join(sorted(known))}")
        if twice := sorted(set(found) & set(answers)):
            raise ValueError(f"{file}: {', '.join(twice)} is answered in another file too")
        answers |= found
    if not answers:
        raise ValueError(f"answers: {place} holds no section that begins with a line `# %% slug`")
    return answers


def slug_to_fill(cell: NotebookNode) -> str | None:
    """The exercise whose answer belongs in a cell of a built notebook; None for any other cell."""
    marks = cell.metadata.get("nbgrader", {})
    return marks.get("grade_id") if marks.get("solution") else None


def filled(notebook: NotebookNode, answers: Mapping[str, str]) -> NotebookNode:
    """The notebook with each answer in place of its stub; an exercise without one stays as it is."""
    notebook = copy.deepcopy(notebook)
    for cell in notebook.cells:
        cell.source = answers.get(slug_to_fill(cell), cell.source)
    return notebook


def solved(sources: Iterable[Source]) -> str:
    """The text of a file of answers with every solution of these lessons, each with its lesson's imports."""
    text = ""
    for source in sources:
        nodes = [node for cell in source.cells if cell.cell_type == "code" for node in ast.parse(cell.source).body]
        lines = dict.fromkeys(ast.unparse(node) for node in nodes if isinstance(node, ast.Import | ast.ImportFrom))
        for exercise in source.exercises:
            text += f"# %% {exercise.slug}\n" + "\n".join([*lines, "", source.cells[exercise.solution].source, "", ""])
    return text
