"""Checks of the exercises: ``check("slug", my_function)`` in the cell below an exercise.

A check runs an answer on several random shapes and seeds, compares it with a plain-loop specification that shares no
code with the library, and, when they differ, names the likely mistake. Graders set the environment variable
``ITR_GRADING=1``: then an exercise that was not attempted fails instead of letting the notebook go on.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable

from itr_lib.checks import lesson00, lesson01, lesson02, lesson03, lesson04, lesson05
from itr_lib.checks.frame import verify

LESSONS = (lesson00, lesson01, lesson02, lesson03, lesson04, lesson05)
EXERCISES = {exercise.slug: exercise for lesson in LESSONS for exercise in lesson.EXERCISES}


def exercises() -> list[str]:
    """The slugs of all exercises, in the order of the lessons."""
    return list(EXERCISES)


def check(slug: str, answer: Callable) -> None:
    """Check an answer to the exercise ``slug``; prints one line when it is right, or not attempted yet.

    Raises:
        AssertionError: when the answer is wrong, with the likely mistake.
        NotImplementedError: when it was not attempted, under grading only.
        ValueError: for an exercise that does not exist.
    """
    if slug not in EXERCISES:
        close = difflib.get_close_matches(slug, EXERCISES, n=1)
        raise ValueError(f"there is no exercise {slug!r}{f'; did you mean {close[0]!r}?' if close else ''}")
    try:
        cases = verify(EXERCISES[slug], answer)
    except NotImplementedError:
        if os.environ.get("ITR_GRADING") == "1":
            raise
        print(f"{slug}: not attempted yet. Help is folded below the task; the notebook goes on with itr_lib's version.")
        return
    print(f"{slug}: the checks in this notebook passed ({cases} cases).")


__all__ = ["check", "exercises"]
