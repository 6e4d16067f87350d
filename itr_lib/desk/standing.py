"""Where a learner stands: what is solved, what is to be repeated, what is next."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from itr_lib.desk import kept, record
from itr_lib.desk.catalogue import Plan, Task, course, plan_of

MANY = 4  # wrong tries before the right one, after which an exercise is worth repeating


@dataclass
class Mark:
    """One exercise: wrong tries before it passed, and the last ones in a row; whether it passed; the last verdict."""

    wrong: int = 0
    in_a_row: int = 0
    passed: bool = False
    last: str = ""

    def reason(self, solved: bool) -> str:
        """Why to repeat it; "" where there is no reason."""
        if self.last == "wrong":
            return "right once, wrong at last" if solved else "wrong at last"
        if self.last == "library" and not solved:
            return "the library's was taken"
        return f"{self.wrong} wrong tries" if solved and self.wrong >= MANY else ""


@dataclass(frozen=True)
class Standing:
    """All that is known of a learner's work.

    Attributes:
        solved: slugs of exercises with a right answer, by the record or by the file of kept answers.
        marks: by slug, what the record tells.
        ended: names of lessons that were run to their end.
        latest: the name of the lesson that the learner last worked on, "" for none.
        unread: lines of the record that could not be read.
    """

    solved: frozenset[str] = frozenset()
    marks: dict[str, Mark] = field(default_factory=dict)
    ended: frozenset[str] = frozenset()
    latest: str = ""
    unread: int = 0

    def open(self, plan: Plan) -> list[Task]:
        """The exercises of a lesson that are not solved yet."""
        return [task for task in plan.tasks if task.slug not in self.solved]

    def begun(self, plan: Plan) -> bool:
        """Whether anything of a lesson was done."""
        return plan.name in self.ended or any(t.slug in self.solved or t.slug in self.marks for t in plan.tasks)

    def again(self) -> dict[str, str]:
        """What to repeat, and why, in the order of the course."""
        slugs = [task.slug for plan in course() for task in plan.tasks if task.slug in self.marks]
        reasons = {slug: self.marks[slug].reason(slug in self.solved) for slug in slugs}
        return {slug: reason for slug, reason in reasons.items() if reason}

    def next(self, here: Plan | None = None) -> tuple[Plan, Task] | None:
        """The next exercise: of this lesson, else of the one last worked on, else of the first that has one left.

        Appendices come last. None when all are solved.
        """
        ways = [here, *(plan for plan in course() if plan.name == self.latest)]
        for plan in [*filter(None, ways), *sorted(course(), key=lambda plan: plan.is_appendix)]:
            if left := self.open(plan):
                return plan, left[0]
        return None


def standing(answers: Path) -> Standing:
    """What the record beside a file of kept answers says, and the file itself."""
    events, unread = record.events(answers)
    marks: dict[str, Mark] = {}
    for event in events:
        if "exercise" in event:
            _count(marks.setdefault(event["exercise"], Mark()), event["verdict"])
    solved = {slug for slug, mark in marks.items() if mark.passed}
    solved |= kept.sections(record.text_of(answers)).keys()
    ended = frozenset(event["lesson"] for event in events if "lesson" in event)
    return Standing(frozenset(solved), marks, ended, _lesson_of(events[-1]) if events else "", unread)


def _count(mark: Mark, verdict: str) -> None:
    mark.passed |= verdict in ("passed", "too slow")
    mark.wrong += verdict == "wrong" and not mark.passed
    mark.in_a_row = mark.in_a_row + 1 if verdict == "wrong" else 0
    mark.last = verdict


def _lesson_of(event: dict[str, str]) -> str:
    plan = plan_of(event.get("exercise", ""))
    return plan.name if plan else event.get("lesson", "")


def sums(tasks: Iterable[Task]) -> tuple[int, int, int]:
    """How many exercises these are, their points, and their minutes."""
    tasks = list(tasks)
    return len(tasks), sum(task.points for task in tasks), sum(task.minutes for task in tasks)


def in_lesson(plan: Plan, now: Standing) -> str:
    """``3 of 7 exercises solved, 7 of 19 points``, of one lesson."""
    exercises, points, _ = _shares(plan.tasks, now)
    return f"{exercises} exercises solved, {points} points"


def what_is_next(now: Standing, here: Plan | None = None) -> str:
    """``next: packed-mrsw, 15 minutes``; of another lesson than this with its number; what to say when all is done."""
    following = now.next(here)
    if following is None:
        return "every exercise of the course is solved"
    plan, task = following
    lesson = "" if plan == here else f"lesson {plan.number}, "
    done = f"all of lesson {here.number} is solved; " if here and plan != here else ""
    return f"{done}next: {lesson}{task.slug}, {task.minutes} minutes"


def opening(plan: Plan, now: Standing) -> list[str]:
    """What a lesson opens with: where the learner is in it, in those before it, and what comes next."""
    lines = [f"lesson {plan.number}: {in_lesson(plan, now)}", what_is_next(now, plan)]
    before = [p for p in course() if p.name < plan.name and not p.is_appendix and now.open(p)]
    if before:
        left = ", ".join(f"{p.number} ({len(now.open(p))} of {len(p.tasks)})" for p in before)
        lines.append(f"still open in lessons before it: {left}")
    again = [slug for slug in now.again() if plan_of(slug).name <= plan.name]
    if again:
        lines.append(f"worth repeating: {', '.join(again[-3:])}")
    return lines


def table(now: Standing, folder: str) -> str:
    """All of it, for a terminal. ``folder`` is where the notebooks are, as the learner would write it."""
    rows = [("lesson", "exercises", "points", "minutes", "")]
    rows += [_row(plan, now) for plan in course()]
    everything = [task for plan in course() for task in plan.tasks]
    rows.append(("all", *_shares(everything, now), ""))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = ["  ".join([row[0].ljust(widths[0]), *_right(row, widths), row[4]]).rstrip() for row in rows]
    if again := now.again():
        lines += ["", "worth repeating:", *(f"  {plan_of(s).number} {s}: {why}" for s, why in again.items())]
    lines += ["", what_is_next(now)]
    if following := now.next():
        lines[-1] += f", in {folder}/{following[0].name}.ipynb"
    if now.unread:
        lines.append(f"{now.unread} line{'s' * (now.unread > 1)} of my_progress.jsonl could not be read: passed over")
    return "\n".join(lines)


def _row(plan: Plan, now: Standing) -> tuple[str, ...]:
    left = now.open(plan)
    state = "begun" if now.begun(plan) else ""
    if not left:
        state = "finished" if plan.name in now.ended else "solved; run it to its end"
    title = plan.title.partition(":")[0]
    return (f"{plan.number:4}{title}", *_shares(plan.tasks, now), state)


def _shares(tasks: Iterable[Task], now: Standing) -> list[str]:
    """Solved of all: exercises, points, minutes."""
    tasks = list(tasks)
    done = sums(task for task in tasks if task.slug in now.solved)
    return [f"{part} of {whole}" for part, whole in zip(done, sums(tasks), strict=True)]


def _right(row: tuple[str, ...], widths: list[int]) -> list[str]:
    return [row[column].rjust(widths[column]) for column in (1, 2, 3)]
