"""A learner's notebook brought to a newer version of its lesson, cell by cell.

Each cell has three texts: as it was handed out, as the learner has it, and as it is now. Of the first the notebook
itself keeps a mark (``metadata.itr.cells``), which says whether a cell was changed. What only one side changed is taken
from that side. Where both did, an answer stays the learner's, any other cell is the new one, and the text that does not
stand is shown in a cell below it.
"""

from __future__ import annotations

import copy
import difflib
from collections import defaultdict
from collections.abc import Iterator

import nbformat
from nbformat import NotebookNode

from itr_lib.course.build import cell_hash
from itr_lib.course.submission import defined_names, ids, tasks

Marks = dict[str, str]  # by the id of a cell as it was handed out, the mark of its text


def merged(mine: NotebookNode, new: NotebookNode) -> tuple[NotebookNode, list[str]]:
    """The new version with a learner's answers, changes and own cells in it, and a line for each conflict.

    Raises ``ValueError`` where the notebook does not say how it was handed out.
    """
    marks = dict(line.split() for line in mine.metadata.get("itr", {}).get("cells", ()))
    if not marks:
        raise ValueError("an editor has dropped what it says of how it was handed out (metadata.itr)")
    places = _places(mine, marks, new)
    own = {place: cell for cell, place in zip(mine.cells, places, strict=True) if place}
    partner = _partners(marks, own, new)
    further, conflicts = _further(mine, places, partner, marks, {cell.id for cell in new.cells})
    old_of = {there: here for here, there in partner.items()}
    cells = further[None]
    for cell in new.cells:
        old = old_of.get(cell.id)
        cells += _one(cell, own.get(old), marks.get(old), conflicts)
        cells += further[cell.id]
    result = copy.copy(new)
    result.cells, result.metadata = cells, NotebookNode(mine.metadata | new.metadata)
    return result, conflicts


def _places(mine: NotebookNode, marks: Marks, new: NotebookNode) -> list[str | None]:
    """For each of the learner's cells the handed-out cell that it is: by id, else by text, else by what it defines."""
    solutions = {task.name: f"{task.cell.removesuffix('-check')}-solution" for task in tasks(new)}
    by_text = defaultdict(list)
    for place, mark in marks.items():
        by_text[mark].append(place)
    places: list[str | None] = [None] * len(mine.cells)
    ways = (
        ids,
        lambda cell: by_text[cell_hash(cell.source)],
        lambda cell: [solutions[name] for name in defined_names(cell) if name in solutions],
    )
    for way in ways:
        for number, cell in enumerate(mine.cells):
            hits = [place for place in way(cell) if place in marks and place not in places]
            if places[number] is None and hits:
                places[number] = hits[0]
    return places


def _partners(marks: Marks, own: dict[str, NotebookNode], new: NotebookNode) -> Marks:
    """The new cell that each handed-out cell has become: by exercise, else by its text, else the likest where it stood.

    The ids of other cells are numbers, which move when a cell is added before them.
    """
    texts = {cell.id: cell_hash(cell.source) for cell in new.cells}
    partner = {place: place for place in marks if place in texts and not place.startswith("cell-")}
    for place, mark in marks.items():
        free = (i for i, text in texts.items() if text == mark and i not in partner.values())
        if place not in partner and (found := next(free, None)):
            partner[place] = found
    gaps = _gaps(new, set(partner.values()))
    before = None
    for place in marks:
        if place in partner:
            before = partner[place]
        elif place.startswith("cell-") and (gap := gaps[before]):
            text = own[place].source if place in own else ""
            likest = max(range(len(gap)), key=lambda n: _likeness(text, gap[n].source))
            partner[place], gaps[before] = gap[likest].id, gap[likest + 1 :]
    return partner


def _gaps(new: NotebookNode, taken: set[str]) -> dict[str | None, list[NotebookNode]]:
    """The new cells of no exercise that have no partner yet, by the one with a partner that they follow."""
    gaps, before = defaultdict(list), None
    for cell in new.cells:
        if cell.id in taken:
            before = cell.id
        elif cell.id.startswith("cell-"):
            gaps[before].append(cell)
    return gaps


def _likeness(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one.split(), other.split(), autojunk=False).ratio()


def _further(
    mine: NotebookNode, places: list[str | None], partner: Marks, marks: Marks, taken: set[str]
) -> tuple[dict[str | None, list[NotebookNode]], list[str]]:
    """A learner's own cells by the new cell that they follow; with them those whose own cell the lesson has dropped."""
    further, conflicts, last = defaultdict(list), [], None
    for cell, place in zip(mine.cells, places, strict=True):
        if place in partner:
            last = partner[place]
            continue
        if place and cell_hash(cell.source) == marks[place]:
            continue  # dropped there, and never touched here
        if place:
            conflicts.append(f"{place}: the lesson has dropped it, and you had changed it: it stays, as your own")
        cell = copy.deepcopy(cell)
        cell.metadata.pop("nbgrader", None)
        cell.id = next(name for name in _names(str(cell.get("id") or "own")) if name not in taken)
        taken.add(cell.id)
        further[last].append(cell)
    return further, conflicts


def _names(first: str) -> Iterator[str]:
    yield first
    yield from (f"{first[:50]}-own-{number}" for number in range(1, 10_000))


def _one(cell: NotebookNode, own: NotebookNode | None, mark: str | None, conflicts: list[str]) -> list[NotebookNode]:
    """What becomes of one cell of the new version: itself, the learner's, one of them and a note, or nothing."""
    graded = cell.metadata.get("nbgrader", {})
    changed = cell_hash(cell.source) != mark
    if mark is None:  # new in the lesson
        return [cell]
    if own is None:
        if not changed and not graded:
            return []
        why = "it has changed" if changed else "it is graded"
        conflicts.append(f"{cell.id}: you had deleted it, but {why}: it is back")
        return [cell]
    if cell_hash(own.source) in (mark, cell_hash(cell.source)):
        return [_filled(cell, own, cell.source)]
    if not changed and not graded.get("locked"):
        return [_filled(cell, own, own.source)]
    if graded.get("solution"):
        conflicts.append(f"{cell.id}: yours stands; the new text, which changed too, is below it")
        return [_filled(cell, own, own.source), _note(cell, cell.source, "Above is yours. The lesson now begins with:")]
    conflicts.append(f"{cell.id}: the new text stands; yours, which differs, is below it")
    return [_filled(cell, own, cell.source), _note(cell, own.source, "Above is the lesson's new text. Yours was:")]


def _filled(cell: NotebookNode, own: NotebookNode, text: str) -> NotebookNode:
    """A new cell with a text, and with what the learner's shows where the text is the one that was run."""
    cell = copy.deepcopy(cell)
    cell.source, cell.metadata = text, NotebookNode(own.metadata | cell.metadata)
    if cell.cell_type == own.cell_type == "code" and text.strip() == own.source.strip():
        cell.outputs, cell.execution_count = copy.deepcopy(own.outputs), own.execution_count
    return cell


def _note(cell: NotebookNode, text: str, which: str) -> NotebookNode:
    """A cell that shows a text, and runs nothing."""
    kind = "python" if cell.cell_type == "code" else "markdown"
    told = f"**Changed on both sides.** {which} Delete this cell when you have seen to it."
    note = f"{told}\n\n````{kind}\n{text}\n````"
    return nbformat.v4.new_markdown_cell(note, id=f"{cell.id[:50]}-both-{cell_hash(text)[:6]}")
