"""The panels of the desk, as HTML without scripts: a sign and a word for what colour says, help to unfold by keyboard.

Text takes the notebook's own colours, so that it can be read in light and dark; only the bar at the left is coloured,
in tones that stand out on white and on black.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from itr_lib.desk import front, kept, record
from itr_lib.desk.catalogue import named, plan_of
from itr_lib.desk.standing import in_lesson, opening, standing, what_is_next

SIGNS = {"passed": ("✓", "#1b8a4b"), "wrong": ("✗", "#c8553d"), "open": ("○", "#7a7a7a"), "place": ("▸", "#3f7fbf")}
SHADE = "rgba(128, 128, 128, 0.09)"  # over the page's own ground, light or dark
BOX = (
    "border-left: 4px solid {bar}; background: " + SHADE + "; color: var(--jp-content-font-color1, inherit); "
    "padding: 0.35em 0.9em; margin: 0.2em 0; max-width: 60em; line-height: 1.45"
)
CODE = "font-family: var(--jp-code-font-family, monospace); white-space: pre-wrap; font-size: 0.92em; margin: 0.2em 0"


def panel(tone: str, title: str, parts: Sequence[str]) -> str:
    """A box with a sign, a title and parts that are HTML already; empty ones are left out."""
    sign, bar = SIGNS[tone]
    inside = "".join(f"<div>{part}</div>" for part in parts if part)
    head = f'<div><b><span aria-hidden="true">{sign}</span> {escape(title)}</b></div>'
    return f'<div role="group" aria-label="{escape(title)}" style="{BOX.format(bar=bar)}">{head}{inside}</div>'


def passed(slug: str, verdict: str, cases: str, goes_on: str) -> None:
    """Show that an answer is right, and note it; ``verdict`` is ``"passed"`` or, of a slow one, ``"too slow"``."""
    record.note(exercise=slug, verdict=verdict)
    title = f"{slug}: the checks in this notebook passed"
    parts = [escape(f"{cases}. {goes_on}")]
    front.show(f"{title} ({cases}). {goes_on}", lambda: panel("passed", title, [*parts, _place(slug)]))


def not_attempted(slug: str) -> None:
    """Show that nothing was written yet; that is not noted."""
    title = f"{slug}: not attempted yet"
    told = "Help is folded below the task; the notebook goes on with itr_lib's version."
    front.show(f"{title}. {told}", lambda: panel("open", title, [escape(told)]))


def wrong(slug: str, told: str, mistake: str, way_on: str) -> bool:
    """Show what is wrong, and note it; False where nobody is there, and nothing is shown.

    Args:
        slug: the exercise.
        told: the whole diagnosis.
        mistake: the part of it that names the mistake, "" for its first line.
        way_on: the line of code with which the learner can go on for now.
    """
    if not front.someone_is_there():
        return False
    record.note(exercise=slug, verdict="wrong")
    before, mistake, after = told.partition(mistake or told.partition("\n")[0])
    parts = [
        escape(before.strip()),
        f"<strong>{_lines(mistake)}</strong>",
        f'<div style="{CODE}">{escape(after.strip())}</div>' if after.strip() else "",
        _next_help(slug),
        f"Nothing goes on from here yet. With the library's for now: <code>{escape(way_on)}</code>",
    ]
    return front.show(told, lambda: panel("wrong", f"{slug}: not right yet", parts))


def open_lesson(name: str) -> None:
    """Show where the learner is in a lesson and what is next, where there is a learner."""
    if (plan := named(name)) and front.someone_is_there():
        _show_place(opening(plan, standing(kept.path())))


def finish_lesson(name: str) -> None:
    """Note that a lesson was run to its end, and show what is next, where there is a learner."""
    record.note(lesson=name, verdict="finished")
    if (plan := named(name)) and front.someone_is_there():
        now = standing(kept.path())
        _show_place([f"the end of lesson {plan.number}: {in_lesson(plan, now)}", what_is_next(now, plan)])


def _show_place(told: list[str]) -> None:
    title, *lines = told
    front.show("\n".join(told), lambda: panel("place", title, [escape(line) for line in lines]))


def _place(slug: str) -> str:
    """How far the learner is in the exercise's lesson."""
    plan = plan_of(slug)
    if plan is None:
        return ""
    now = standing(kept.path())
    return f"<small>{escape(f'lesson {plan.number}: {in_lesson(plan, now)}; {what_is_next(now, plan)}')}</small>"


def _next_help(slug: str) -> str:
    """The help that comes next, folded: the first one after one wrong try, the second after two."""
    plan = plan_of(slug)
    if plan is None:
        return ""
    helps = next(task.helps for task in plan.tasks if task.slug == slug)
    mark = standing(kept.path()).marks.get(slug)
    summary, text = helps[min(mark.in_a_row if mark else 1, len(helps)) - 1]
    return f"<details><summary>{summary}</summary>{text}</details>"


def _lines(text: str) -> str:
    """A mistake's lines; those that are code stay as they are."""
    return "<br>".join(
        f'<code style="white-space: pre-wrap">{escape(line)}</code>' if line.startswith(" ") else escape(line)
        for line in text.splitlines()
    )
