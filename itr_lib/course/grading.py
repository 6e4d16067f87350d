"""Grade a submission: each exercise on the checks of the notebook, and on hidden ones that nobody has seen.

The lesson itself is not run again: it takes minutes, and earns nothing. What the learner wrote is, cell by cell, in a
process of its own (:mod:`itr_lib.course.apart`); of the lesson's cells imports, definitions and plain values are.

All points: the checks of the notebook pass, and the hidden ones. Half of them: the ordinary cases of both come out
right, though an edge case, another kind of number or a gradient does not. Warnings and prints cost nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from nbformat import NotebookNode

from itr_lib.checks.frame import Exercise as Check
from itr_lib.checks.frame import verify
from itr_lib.checks.hidden import hidden, ordinary, seen
from itr_lib.course.apart import Apart, Limits, Room, Stopped
from itr_lib.course.submission import Task, definitions, repaired, tasks

OPEN = "not attempted"
SECRET = "the numbers of whoever sets no secret of their own"


@dataclass(frozen=True)
class Graded:
    """One exercise of a submission.

    Attributes:
        slug: the exercise.
        points: what it is worth.
        earned: what the answer earns.
        verdict: ``"right"``, ``"half right"``, ``"wrong"``, ``"not attempted"`` or ``"stopped"``.
        told: what is wrong, as the check says it; "" where nothing is.
    """

    slug: str
    points: float
    earned: float
    verdict: str
    told: str = ""


def graded(
    submission: NotebookNode, released: NotebookNode, *, secret: str = "", limits: Limits | None = None
) -> tuple[list[Graded], list[str]]:
    """Every exercise of what was handed out, and what was mended in the submission."""
    notebook, notes = repaired(submission, released)
    with Room(limits or Limits()) as room:
        return list(_each(notebook, released, Desk(room), secret or SECRET)), notes


def _each(notebook: NotebookNode, released: NotebookNode, desk: Desk, secret: str) -> Iterator[Graded]:
    asked = {task.cell: task for task in tasks(released)}
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        if task := asked.get(cell.id):
            yield desk.grade(task, secret)
        else:
            whole = cell.metadata.get("nbgrader", {}).get("solution") or cell.id.startswith("own-")
            desk.run(cell.source if whole else definitions(cell.source))


class Desk:
    """The cells that ran, to be run again after the process was stopped; and the verdicts."""

    def __init__(self, room: Room):
        self.room = room
        self.done: list[dict] = []
        self.trouble = ""

    def run(self, source: str) -> None:
        """Run a cell. One that was stopped is not run again; :attr:`trouble` says what the last one stopped with."""
        if not source.strip():
            return
        try:
            self.trouble = str(self._ask(do="cell", source=source).get("error", ""))
            self.done.append({"do": "cell", "source": source})
        except Stopped as error:
            self.trouble = str(error)

    def grade(self, task: Task, secret: str) -> Graded:
        """Judge the answer that the task's name stands for now; the library's goes on where there is none."""
        name = task.name
        try:
            state = self._ask(do="look", name=name).get("state")
            if state == "there":
                result = self._judged(task, secret)
            else:
                told = f"{name} is not defined: {self.trouble}" if state == "missing" and self.trouble else ""
                result = Graded(task.slug, task.points, 0, OPEN, told)
        except Stopped as error:
            result = Graded(task.slug, task.points, 0, "stopped", str(error))
        if result.verdict == OPEN:
            self._go_on(do="library", name=name, slug=task.slug)
        return replace(result, told=legible(result.told))

    def _judged(self, task: Task, secret: str) -> Graded:
        """All points, half of them, or none."""
        result = Graded(task.slug, task.points, task.points, "right")
        checks = (seen(task.slug), ""), (hidden(task.slug, secret), secret)
        try:
            if any([self._check(task.name, whole, whole, key) for whole, key in checks]):
                self._go_on(do="tensors", name=task.name)
            return result
        except NotImplementedError as error:
            result = replace(result, verdict=OPEN, earned=0, told=str(error))
        except AssertionError as error:
            result = replace(result, verdict="wrong", earned=0, told=str(error))
        halves = [(ordinary(whole), whole, key) for whole, key in checks]
        try:
            for half, whole, key in halves:
                if half is None:
                    return result
                self._check(task.name, half, whole, key)
        except (AssertionError, NotImplementedError):
            return result
        return replace(result, verdict="half right", earned=task.points / 2)

    def _check(self, name: str, check: Check, whole: Check, secret: str) -> bool:
        """Raise what a check raises, of the whole or a part; returns whether results came as other than tensors."""
        if check.properties is None:
            try:
                return verify(check, Apart(self._ask, whole, name, secret)).converted
            except (AssertionError, NotImplementedError, Stopped):
                raise
            except Exception as error:  # a process that nobody trusts may send outcomes that no function has
                raise AssertionError(f"what came out cannot be judged ({type(error).__name__}: {error})") from error
        reply = self._ask(do="judge", name=name, slug=check.slug, secret=secret, ordinary=check is not whole)
        if not reply.get("passed"):
            raise AssertionError(str(reply.get("told", "")))
        return False

    def _ask(self, **message) -> dict:
        """Ask, in a process in which all cells have run. Raises :class:`Stopped`."""
        if self.room.process is None:
            for earlier in self.done:
                self.room.new_span()
                self.room.ask(**earlier)
        if message["do"] in ("cell", "look"):  # an exercise's checks share one span, which begins with a look
            self.room.new_span()
        return self.room.ask(**message)

    def _go_on(self, **message) -> None:
        try:
            self._ask(**message)
            self.done.append(message)
        except Stopped as error:
            self.trouble = str(error)


def legible(text: str) -> str:
    """Without the control characters that terminals obey and XML does not know; a learner's error may hold any."""
    return "".join(sign for sign in text if sign.isprintable() or sign in "\n\t")[:3000]
