r'''Make both notebooks of a lesson from its one source, ``solutions/NN_name.py``.

The source is jupytext's percent format. Cells begin with ``# %%`` (code) or ``# %% [markdown]`` (prose). Code is
plain Python, without magics and shell commands, so that a comment that looks like one stays a comment::

    # %% [markdown] run_minutes=4
    # # Global embeddings
    # **Time** about {{minutes}} minutes. ...

    # %% tags=["parameters"]
    import os
    profile = os.environ.get("ITR_PROFILE", "quick")

What the notebook itself takes to run stands in its first cell; :mod:`itr_lib.course.minutes` works out the rest.
Prose takes numbers from recorded runs, ``{{t2i_r1: VSE++}}``: :mod:`itr_lib.course.placeholders`.

An exercise is a run of cells: its text, its solution, its check, with at least two ``<details>`` of help in
markdown cells before the next exercise::

    # %% [markdown] exercise="triplet-loop" difficulty=2 minutes=8 points=3
    # ### A loss from two loops
    # Write ...
    # <details><summary>First help</summary> ... </details>
    # <details><summary>Second help</summary> ... </details>

    # %% solution="triplet-loop"
    def triplet_loop(scores, margin=0.2):
        """(B, B) -> scalar. Worked number: ..."""
        ### BEGIN SOLUTION
        return ...
        ### END SOLUTION

    # %% check="triplet-loop"
    triplet_loop = check("triplet-loop", triplet_loop)

The builder puts a line with difficulty, minutes and points under the heading of the text, gives solution and
check nbgrader's metadata (schema 3), and in the learner's copy replaces each region between nbgrader's marks
by ``# your code here`` and a ``raise NotImplementedError`` of the same indentation, with the solution folded below
the check, begins the cell of parameters with an import of the library, and puts before it a cell that brings the
library to a machine without it (:mod:`itr_lib.course.published`). Lessons are named ``NN_name``, an appendix
``NNa_name``. A cell tagged ``key-figure`` shows in the report's overview; one tagged ``solutions-only`` stays out of
the learner's copy; the output of one tagged ``nbval-check-output`` must be the same in every run and profile. All other
code cells of solutions may depend on time, data or training: the builder tags them ``nbval-ignore-output``.

Two builds are byte-identical: cell ids come from the slug or the cell's place, the notebook's metadata is
minimal. Outputs of ``solutions/NN_name.ipynb`` are kept while the code they came from (``metadata.itr``) is
the source's code. A learner's copy that holds answers is set aside as ``NN_name.mine.ipynb`` first. What a learner's
desk knows of the lessons, ``itr_lib/desk/catalogue.json``, is written with them.
'''

from __future__ import annotations

import copy
import hashlib
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from itr_lib.course.catalogue import stale_catalogue
from itr_lib.course.minutes import with_minutes
from itr_lib.course.published import address, first_cell
from itr_lib.course.solutions import folded, stub
from itr_lib.course.source import Exercise, Source, SourceError, lesson_sources, read_source

REPO = Path(__file__).resolve().parents[2]
FOLDERS = {"solutions": "solutions", "learner": "notebooks"}
STABLE, UNSTABLE = "nbval-check-output", "nbval-ignore-output"
INSTALL = "cell-install"  # the id of the learner's cell that brings the course, where it is missing
FIRST = "import itr_lib  # before torch, whose threads then leave the cores to other programs while they wait"
METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def build(repo: Path = REPO) -> list[Path]:
    """Write both notebooks of every lesson; returns what was changed. Raises :class:`SourceError`."""
    changed = []
    for path, notebook in built_notebooks(repo).items():
        old = read_notebook(path)
        if path.parent.name == "solutions":
            keep_outputs(notebook, old)
        elif old is not None and holds_answers(old):
            old_path = path.rename(name_aside(path))
            print(f"{relative(path, repo)} holds answers: kept as {old_path.name}")
        text = as_text(notebook)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
            changed.append(path)
    if stale := stale_catalogue(repo):
        path, text = stale
        path.write_text(text, encoding="utf-8")
        changed.append(path)
    return changed


def differences(repo: Path = REPO) -> list[str]:
    """One line for each notebook that is not what its source builds (outputs left out); empty: all well."""
    wanted = built_notebooks(repo)
    lines = []
    for path, notebook in wanted.items():
        old = read_notebook(path)
        if old is None:
            lines.append(f"{relative(path, repo)} is missing or unreadable: run `make build`")
        elif path.parent.name == "notebooks" and holds_answers(old):
            lines.append(f"{relative(path, repo)} holds answers: `make build` keeps them as a copy beside it")
        elif as_text(bare(old)) != as_text(bare(notebook)):
            lines.append(f"{relative(path, repo)} differs from solutions/{path.stem}.py: run `make build`")
    for folder in FOLDERS.values():
        for path in sorted((repo / folder).glob("*.ipynb")):
            if path not in wanted and ".mine" not in path.suffixes[:-1]:
                lines.append(f"{relative(path, repo)} has no source solutions/{path.stem}.py: remove it")
    if stale := stale_catalogue(repo):
        lines.append(f"{relative(stale[0], repo)} differs from solutions/*.py: run `make build`")
    return lines


def built_notebooks(repo: Path) -> dict[Path, NotebookNode]:
    """Both notebooks of every lesson, without outputs, by the path where each belongs."""
    paths = lesson_sources(repo)
    if not paths:
        raise SourceError("solutions/ holds no lesson (NN_name.py)")
    notebooks, owner = {}, {}
    for path in paths:
        source = read_source(path)
        for exercise in source.exercises:
            if exercise.slug in owner:
                raise SourceError(
                    f"solutions/{path.name}, cell {exercise.text + 1}: exercise {exercise.slug!r} stands in "
                    f"solutions/{owner[exercise.slug]} too; slugs are unique over the course"
                )
            owner[exercise.slug] = path.name
        for copies, folder in FOLDERS.items():
            notebooks[repo / folder / f"{source.name}.ipynb"] = make_notebook(source, copies)
    return notebooks


def make_notebook(source: Source, copies: str) -> NotebookNode:
    """One notebook of a lesson, without outputs: ``copies`` is ``"solutions"`` or ``"learner"``."""
    source = with_minutes(source)
    cells = [_cell(source, place, copies) for place in range(len(source.cells))]
    if copies == "learner":
        cells = _with_folded_solutions(source, cells)
        cells = [cell for cell in cells if "solutions-only" not in cell.metadata.get("tags", [])]
        first = next((place for place, cell in enumerate(cells) if cell.cell_type == "code"), len(cells))
        cells.insert(first, nbformat.v4.new_code_cell(first_cell(address(REPO)), id=INSTALL))
    notebook = nbformat.v4.new_notebook(cells=cells, metadata=copy.deepcopy(METADATA))
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    if copies == "learner":
        marks = [f"{cell.id} {cell_hash(cell.source)}" for cell in notebook.cells]  # what did a learner change?
        notebook.metadata["itr"] = {"built": cells_hash(notebook), "cells": marks}
    nbformat.validate(notebook)
    return notebook


def _cell(source: Source, place: int, copies: str) -> NotebookNode:
    old, exercise = source.cells[place], source.exercise_at(place)
    text, tags = old.source.rstrip(), list(old.metadata.get("tags", []))
    if copies == "solutions" and old.cell_type == "code" and STABLE not in tags:
        tags.append(UNSTABLE)
    metadata = {"tags": tags} if tags else {}
    cell_id = f"cell-{place:03d}"
    if copies == "learner" and "parameters" in tags:  # the runner's kernels inherit what this import sets
        text = f"{FIRST}\n{text}"
    if exercise:
        role = {exercise.text: "text", exercise.solution: "solution", exercise.check: "check"}[place]
        cell_id = f"{exercise.slug}-{role}"
        if role == "text":
            text = _with_header(text, exercise)
        else:
            metadata["nbgrader"] = _nbgrader(exercise, role)
        if role == "solution" and copies == "learner":
            text = stub(text, exercise.slug)
    new = nbformat.v4.new_code_cell if old.cell_type == "code" else nbformat.v4.new_markdown_cell
    return new(source=text, metadata=metadata, id=cell_id[-64:])


def _with_folded_solutions(source: Source, cells: list[NotebookNode]) -> list[NotebookNode]:
    """The cells with one more after each check: the solution, to be unfolded."""
    extended = []
    for place, cell in enumerate(cells):
        extended.append(cell)
        exercise = source.exercise_at(place)
        if exercise and exercise.check == place:
            text = folded(source.cells[exercise.solution].source)
            extended.append(nbformat.v4.new_markdown_cell(text, id=f"{exercise.slug}-folded"[-64:]))
    return extended


def _with_header(text: str, exercise: Exercise) -> str:
    dots = "●" * exercise.difficulty + "○" * (5 - exercise.difficulty)
    minutes, points = (
        f"{n} {word}{'s' * (n != 1)}" for n, word in [(exercise.minutes, "minute"), (exercise.points, "point")]
    )
    header = f"**Exercise · {exercise.slug}** · difficulty {dots} · {minutes} · {points}"
    first, _, rest = text.partition("\n")
    parts = [first, header, rest] if first.startswith("#") else [header, text]
    return "\n\n".join(part.strip("\n") for part in parts if part.strip())


def _nbgrader(exercise: Exercise, role: str) -> dict:
    check = role == "check"
    metadata = {
        "grade": check,
        "grade_id": f"{exercise.slug}-check" if check else exercise.slug,
        "locked": check,
        "schema_version": 3,
        "solution": not check,
        "task": False,
    }
    return metadata | ({"points": exercise.points} if check else {})


def keep_outputs(notebook: NotebookNode, old: NotebookNode | None) -> None:
    """Give ``notebook`` the outputs of ``old`` where they came from the same code; change it in place."""
    executed = (old or {}).get("metadata", {}).get("itr", {})
    if executed.get("executed_from") != code_hash(notebook):
        return
    cells = [[c for c in nb.cells if c.cell_type == "code"] for nb in (notebook, old)]
    if [c.source for c in cells[0]] != [c.source for c in cells[1]]:
        return
    for new, before in zip(*cells, strict=True):
        new.outputs, new.execution_count = before.outputs, before.execution_count
    notebook.metadata["itr"] = executed


def code_hash(notebook: NotebookNode) -> str:
    """SHA-256 of a notebook's code cells: what its outputs came from."""
    return _hash(cell.source for cell in notebook.cells if cell.cell_type == "code")


def cells_hash(notebook: NotebookNode) -> str:
    """SHA-256 of all cells' sources: changed as soon as a learner writes something."""
    return _hash(cell.source for cell in notebook.cells)


def cell_hash(text: str) -> str:
    """A short mark of one cell's text, without the blanks around it."""
    return _hash([text.strip()])[:12]


def _hash(texts) -> str:
    return hashlib.sha256("\x00".join(texts).encode()).hexdigest()


def holds_answers(notebook: NotebookNode) -> bool:
    """Whether a learner's copy was written in since it was built."""
    return notebook.metadata.get("itr", {}).get("built") != cells_hash(notebook)


def bare(notebook: NotebookNode) -> NotebookNode:
    """The notebook without what running it leaves behind: outputs, counts, execution hash."""
    notebook = copy.deepcopy(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
            cell.metadata.pop("execution", None)
    notebook.metadata = {key: notebook.metadata[key] for key in METADATA if key in notebook.metadata}
    notebook.metadata["language_info"] = {"name": notebook.metadata.get("language_info", {}).get("name")}
    return notebook


def as_text(notebook: NotebookNode) -> str:
    """A notebook as the text of its file, the same for the same notebook."""
    return nbformat.writes(notebook, version=nbformat.NO_CONVERT).rstrip("\n") + "\n"


def read_notebook(path: Path) -> NotebookNode | None:
    """A notebook from disk; None where there is none or it cannot be read."""
    try:
        return nbformat.read(path, as_version=4)
    except (OSError, ValueError, nbformat.ValidationError):
        return None


def relative(path: Path, repo: Path) -> str:
    """A path as a reader of the repository would write it."""
    return path.relative_to(repo).as_posix() if path.is_relative_to(repo) else str(path)


def name_aside(path: Path) -> Path:
    """Where a notebook with a learner's work in it is kept, beside its own place: a name that is free."""
    names = [f"{path.stem}.mine.ipynb", *(f"{path.stem}.mine.{n}.ipynb" for n in range(2, 1000))]
    return next(path.with_name(name) for name in names if not path.with_name(name).exists())
