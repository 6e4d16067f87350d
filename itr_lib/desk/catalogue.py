"""What the course holds, lesson by lesson: titles, minutes, exercises, their points and their help.

``catalogue.json`` is written by ``make build`` from the sources, so that a learner's copy knows it without them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FILE = Path(__file__).with_name("catalogue.json")


@dataclass(frozen=True)
class Task:
    """One exercise: its slug, what it is worth, and its help as (summary, HTML), in its order."""

    slug: str
    minutes: int
    points: int
    helps: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Plan:
    """One lesson: its file's name without the ending, its title, its minutes in all, and its exercises."""

    name: str
    title: str
    minutes: int
    tasks: tuple[Task, ...]

    @property
    def number(self) -> str:
        """``"02"``, or ``"04a"`` of an appendix."""
        return self.name.partition("_")[0]

    @property
    def is_appendix(self) -> bool:
        """Whether it is one to read on demand, as ``04a``."""
        return not self.number.isdigit()


@cache
def course() -> tuple[Plan, ...]:
    """All lessons in their order, appendices included."""
    plans = json.loads(FILE.read_text(encoding="utf-8"))
    return tuple(Plan(**plan | {"tasks": tuple(map(_task, plan["tasks"]))}) for plan in plans)


def _task(fields: dict) -> Task:
    return Task(**fields | {"helps": tuple((summary, text) for summary, text in fields["helps"])})


def plan_of(slug: str) -> Plan | None:
    """The lesson of an exercise; None for one that no lesson has."""
    return next((plan for plan in course() if any(task.slug == slug for task in plan.tasks)), None)


def named(wanted: str) -> Plan | None:
    """A lesson by its number or name, ``"02"`` or ``"02_fine_grained_alignment"``; None where there is none."""
    return next((plan for plan in course() if wanted in (plan.number, plan.name)), None)
