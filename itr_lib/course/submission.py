"""A submission put back on the lesson that was handed out: what belongs where, whatever happened to its metadata.

Editors drop what they do not know: VS Code and Colab lose nbgrader's metadata or a cell's id, learners copy, delete and
turn cells. A cell is known by its metadata, else by its id, else by its text, else by the function that it defines.
"""

from __future__ import annotations

import ast
import copy
import itertools
import re
import warnings
from collections import defaultdict
from dataclasses import dataclass

import nbformat
from IPython.core.inputtransformer2 import TransformerManager
from nbformat import NotebookNode

from itr_lib.course.source import Source

CHECKED = re.compile(r"""\bcheck\(\s*["']([a-z0-9-]+)["']""")


@dataclass(frozen=True)
class Task:
    """One exercise of a notebook that was handed out.

    Attributes:
        slug: its name in the course.
        name: the function or class that it asks for.
        points: what it is worth.
        cell: the id of its check.
    """

    slug: str
    name: str
    points: float
    cell: str


def tasks(released: NotebookNode) -> list[Task]:
    """The exercises of a notebook as it was handed out, in their order: its locked cells ``f = check("slug", f)``."""
    found = []
    for cell in released.cells:
        marks, slugs = cell.metadata.get("nbgrader", {}), CHECKED.findall(cell.source)
        if marks.get("grade") and marks.get("locked") and cell.cell_type == "code" and slugs:
            name = ast.parse(cell.source).body[0].targets[0].id
            found.append(Task(slugs[0], name, marks["points"], cell.id))
    return found


def read_submission(text: str, name: str) -> NotebookNode:
    """A notebook from its file's text. Raises ``ValueError``, naming it, for what is none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # nbformat's, about ids that are missing
            notebook = nbformat.reads(text, as_version=4)
        return notebook if all("source" in cell for cell in notebook.cells) else nbformat.v4.new_notebook()
    except Exception as error:  # nbformat raises what json, jsonschema and its own converters do
        raise ValueError(f"{name} is no notebook: {type(error).__name__}: {str(error)[:200]}") from None


def lesson_of(submission: NotebookNode, sources: list[Source], name: str) -> Source:
    """The lesson that a submission answers. Raises ``ValueError`` where none of its exercises is in it."""
    keys = {key for cell in submission.cells for key in [*_marks(cell), *CHECKED.findall(cell.source)]}
    found = {
        source.name: sum(
            bool(keys & {e.slug, f"{e.slug}-check", f"{e.slug}-solution", f"{e.slug}-text"}) for e in source.exercises
        )
        for source in sources
    }
    best = max(sources, key=lambda source: found[source.name])
    if not found[best.name]:
        raise ValueError(f"{name} holds no exercise of a lesson: expected one of {', '.join(found)}")
    return best


def repaired(submission: NotebookNode, released: NotebookNode) -> tuple[NotebookNode, list[str]]:
    """What was handed out with the learner's texts and further cells in place, and what had to be mended.

    Checks stand as they were handed out. A further cell has no metadata, and follows the cell that it followed.
    """
    own, extra, last, notes, numbers = {}, defaultdict(list), None, [], itertools.count()
    for cell, place in zip(submission.cells, _places(submission, released), strict=True):
        if place is None:
            extra[last].append(_further(cell, next(numbers)))
        else:
            own[place], last = cell, place
    cells = extra[None]
    for cell in released.cells:
        cells += [_restored(cell, own.get(cell.id), notes), *extra[cell.id]]
    mended = copy.copy(released)
    mended.cells = cells
    return mended, notes


def _places(submission: NotebookNode, released: NotebookNode) -> list[str | None]:
    """For each cell of a submission the id of the released cell that it is; each of those at most once."""
    editable = _solutions(released)
    ways = (
        (_grade_ids, [(_grade_id(cell), cell.id) for cell in released.cells]),
        (ids, [(cell.id, cell.id) for cell in released.cells]),
        (_text, [(cell.source.strip(), cell.id) for cell in released.cells]),
        (defined_names, list(editable.items())),
    )
    places: list[str | None] = [None] * len(submission.cells)
    for keys, pairs in ways:
        free = defaultdict(list)
        for key, place in pairs:
            if key and place not in places:
                free[key].append(place)
        for number, cell in enumerate(submission.cells):
            hits = [key for key in keys(cell) if free.get(key)]
            if places[number] is None and hits:
                places[number] = free[hits[0]].pop(0)
    return places


def _solutions(released: NotebookNode) -> dict[str, str]:
    """The cell in which each name that a check asks for is to be written."""
    asked = {task.name for task in tasks(released)}
    cells = [cell for cell in released.cells if cell.metadata.get("nbgrader", {}).get("solution")]
    return {name: cell.id for cell in cells for name in defined_names(cell) if name in asked}


def _grade_id(cell: NotebookNode) -> str:
    marks = cell.metadata.get("nbgrader")
    return str(marks.get("grade_id") or "") if isinstance(marks, dict) else ""


def _grade_ids(cell: NotebookNode) -> list[str]:
    return [_grade_id(cell)]


def ids(cell: NotebookNode) -> list[str]:
    """The ids that a cell may have: its own, or the one that Colab keeps among its metadata."""
    return [str(cell.get("id")), str(cell.metadata.get("id"))]


def _marks(cell: NotebookNode) -> list[str]:
    return _grade_ids(cell) + ids(cell)


def _text(cell: NotebookNode) -> list[str]:
    return [cell.source.strip()]


def defined_names(cell: NotebookNode) -> list[str]:
    """The functions and classes that a cell defines."""
    return [node.name for node in _statements(cell.source) if isinstance(node, ast.FunctionDef | ast.ClassDef)]


def _statements(text: str) -> list[ast.stmt]:
    """A cell's statements, magics and shell commands included; none where it is not runnable."""
    try:
        return ast.parse(TransformerManager().transform_cell(text)).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []


def _further(cell: NotebookNode, number: int) -> NotebookNode:
    new = {"code": nbformat.v4.new_code_cell, "raw": nbformat.v4.new_raw_cell}
    return new.get(cell.cell_type, nbformat.v4.new_markdown_cell)(source=cell.source, id=f"own-{number:03d}")


def _restored(cell: NotebookNode, own: NotebookNode | None, notes: list[str]) -> NotebookNode:
    """A released cell with the learner's text in it, where it is one that they may write in."""
    if own is None:
        if _grade_id(cell):
            notes.append(f"{cell.id} is missing: put back")
        return cell
    if _grade_id(cell) and _grade_id(own) != _grade_id(cell):
        notes.append(f"{cell.id} had lost its metadata: put back")
    if cell.metadata.get("nbgrader", {}).get("locked"):
        if own.source.strip() != cell.source.strip():
            notes.append(f"{cell.id} was changed: put back as it was handed out")
        return cell
    cell = copy.deepcopy(cell)
    cell.source = own.source
    return cell


def definitions(text: str) -> str:
    """What later cells may need of a cell that is not run: imports, functions, classes, and values without a call."""
    kinds = ast.Import | ast.ImportFrom | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    kept = [node for node in _statements(text) if isinstance(node, kinds) or _is_plain_value(node)]
    return "\n".join(map(ast.unparse, kept))


def _is_plain_value(node: ast.stmt) -> bool:
    costly = ast.Call | ast.Await | ast.BinOp | ast.ListComp | ast.DictComp | ast.SetComp
    return isinstance(node, ast.Assign | ast.AnnAssign) and not any(isinstance(n, costly) for n in ast.walk(node))
