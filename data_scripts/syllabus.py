"""What docs/TEACHING.md says of minutes, points and prerequisites, worked out from the lessons' own sources.

``python -m data_scripts.results`` writes it, with the other tables; a test fails where the page differs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from itr_lib.course.build import REPO
from itr_lib.course.classroom import questions
from itr_lib.course.minutes import parts, section_minutes, total_minutes
from itr_lib.course.source import Source, lesson_sources, read_source

PROJECT = "a project of the class: own photographs, or a place on the leaderboard"
# What a week has: lessons by number, "01.2" for the second half of a lesson that takes two weeks.
PLANS: dict[int, Sequence[Sequence[str]]] = {
    4: [("00", "01"), ("02", "03"), ("04", "05"), ("06", "07")],
    8: [("00",), ("01",), ("02",), ("03",), ("04",), ("05",), ("06",), ("07",)],
    12: [
        ("00",), ("01.1",), ("01.2",), ("02.1",), ("02.2",), ("03",), ("04",), ("04a",),
        ("05", "05a"), ("06",), ("07",), (),
    ],
}  # fmt: skip


@dataclass(frozen=True)
class Portion:
    """A lesson or half of one: its number, which sections, minutes, points of its exercises, what it needs."""

    lesson: str
    sections: str
    minutes: int
    points: int
    needs: str


def lessons() -> list[Sequence[str]]:
    """All lessons."""
    rows = [["lesson", "minutes", "exercises", "points", "by hand", "you need"]]
    for source in _sources().values():
        points, hand = sum(e.points for e in source.exercises), sum(one["points"] for one in _asked(source.name))
        counts = [total_minutes(source), len(source.exercises), points, hand or "–"]
        rows.append([f"[{_title(source)}](../notebooks/{source.name}.ipynb)", *map(str, counts), needs(source)])
    return rows


def weeks(count: int) -> list[Sequence[str]]:
    """A course of so many weeks."""
    rows = [["week", "lessons", "minutes", "points", "by hand", "you need"]]
    for number, names in enumerate(PLANS[count], start=1):
        some = [portion(name) for name in names]
        told = "; ".join(one.lesson + one.sections for one in some) or PROJECT
        hand = sum(
            q["points"] for one in some if not one.sections.startswith(", the first") for q in _asked(one.lesson)
        )
        numbers = [sum(one.minutes for one in some), sum(one.points for one in some), hand]
        needed = "; ".join(dict.fromkeys(one.needs for one in some))
        rows.append([str(number), told, *(str(n) if n else "–" for n in numbers), needed or "–"])
    return rows


def by_hand() -> list[Sequence[str]]:
    """The questions that people mark."""
    rows = [["cell", "lesson", "points", "asks"]]
    return rows + [
        [f"`{q['slug']}-answer`", q["lesson"].split("_")[0], str(q["points"]), _first_sentence(q["text"])]
        for q in questions()
    ]


def portion(name: str) -> Portion:
    """``"01"``, or a half: ``"01.1"`` ends with the section that is nearest to half of the lesson's minutes."""
    number, _, half = name.partition(".")
    source = _sources()[number]
    points, minutes = points_of_sections(source), section_minutes(source)
    if not half:
        return Portion(number, "", total_minutes(source), sum(points), needs(source))
    cut = min(range(2, len(minutes)), key=lambda place: abs(sum(minutes[:place]) - sum(minutes) / 2))
    first = 5 * round(sum(minutes[:cut]) / 5)
    if half == "1":
        return Portion(number, f", the first {cut - 1} sections", first, sum(points[:cut]), needs(source))
    return Portion(number, ", the rest", total_minutes(source) - first, sum(points[cut:]), "its first half")


def points_of_sections(source: Source) -> list[int]:
    """The points of the exercises in the opening, and in each section."""
    points = [0]
    for place, cell in enumerate(source.cells):
        if cell.cell_type == "markdown":
            points += [0] * (len(parts(cell.source)) - 1)
        points[-1] += sum(exercise.points for exercise in source.exercises if exercise.text == place)
    return points


def needs(source: Source) -> str:
    """What the lesson's opening says that a learner needs."""
    return re.search(r"\*\*You need\*\* ([^.;]*)", source.cells[0].source)[1]


@cache
def _sources() -> dict[str, Source]:
    return {path.stem.split("_")[0]: read_source(path) for path in lesson_sources(REPO)}


def _asked(lesson: str) -> Iterable[dict]:
    return [one for one in questions() if one["lesson"].split("_")[0] == lesson.split("_")[0]]


def _title(source: Source) -> str:
    return re.match(r"# ([^:\n]*)", source.cells[0].source)[1]


def _first_sentence(text: str) -> str:
    return re.match(r".*?[.?](?=\s|$)", " ".join(text.split()))[0]
