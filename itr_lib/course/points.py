"""The points of a submission: as a table to read, as JSON, and as JUnit XML, which hosted services show."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from itr_lib.course.apart import Limits
from itr_lib.course.build import REPO, make_notebook
from itr_lib.course.grading import Graded, graded
from itr_lib.course.source import lesson_sources, read_source
from itr_lib.course.submission import lesson_of, read_submission


@dataclass(frozen=True)
class Points:
    """What a submission earned.

    Attributes:
        notebook: its file.
        lesson: the lesson that it answers.
        exercises: one verdict each, in the lesson's order.
        notes: what had to be mended before it could be graded.
    """

    notebook: str
    lesson: str
    exercises: tuple[Graded, ...]
    notes: tuple[str, ...]

    @property
    def earned(self) -> float:
        """The points of all exercises."""
        return sum(one.earned for one in self.exercises)

    @property
    def of(self) -> float:
        """The points that there are."""
        return sum(one.points for one in self.exercises)

    @property
    def percent(self) -> float:
        """The share that was earned, 0 to 100."""
        return 100 * self.earned / self.of


def points(path: Path, *, repo: Path = REPO, secret: str = "", limits: Limits | None = None) -> Points:
    """Grade a file. Raises ``ValueError`` for one that is no notebook, or that answers no lesson of the course."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
    sources = [read_source(one) for one in lesson_sources(repo)]
    if not sources:
        raise ValueError(f"{repo} holds no solutions/NN_name.py: grading needs the whole course, with its sources")
    submission = read_submission(text, path.name)
    source = lesson_of(submission, sources, path.name)
    verdicts, notes = graded(submission, make_notebook(source, "learner"), secret=secret, limits=limits)
    return Points(path.name, source.name, tuple(verdicts), tuple(notes))


def table(result: Points) -> str:
    """A line an exercise, with what is wrong below it, and the sum."""
    width = max(len(one.slug) for one in result.exercises)
    lines = [f"{result.notebook}: lesson {result.lesson}"]
    for one in result.exercises:
        lines.append(f"  {one.slug:{width}s}  {one.earned:4g} of {one.points:g}  {one.verdict}")
        lines += [f"      {line}" for line in _told(one)]
    lines += [f"  mended: {note}" for note in result.notes]
    return "\n".join([*lines, f"  {'sum':{width}s}  {result.earned:4g} of {result.of:g}  {result.percent:.0f} %"])


def _told(one: Graded) -> Sequence[str]:
    return one.told.splitlines() if one.verdict not in ("right", "not attempted") else []


def as_json(result: Points) -> str:
    """All of it as JSON."""
    totals = {"earned": result.earned, "points": result.of, "percent": round(result.percent, 2)}
    return json.dumps(asdict(result) | totals, indent=1)


def as_junit(result: Points) -> str:
    """JUnit XML: a test case an exercise, and a failure where points are missing."""
    failed = [one for one in result.exercises if one.earned < one.points]
    suite = ElementTree.Element(
        "testsuite", name=result.lesson, tests=str(len(result.exercises)), failures=str(len(failed)), errors="0"
    )
    for one in result.exercises:
        case = ElementTree.SubElement(suite, "testcase", classname=result.lesson, name=one.slug)
        if one in failed:
            message = f"{one.earned:g} of {one.points:g} points: {one.verdict}"
            ElementTree.SubElement(case, "failure", message=message).text = one.told
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"
