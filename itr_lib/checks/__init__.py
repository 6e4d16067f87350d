"""Checks of the exercises: ``f = check("slug", f)`` in the cell below an exercise.

A check runs an answer on several random shapes and seeds, compares it with a plain-loop specification that shares no
code with the library, and, when they differ, names the likely mistake. The notebook goes on with the function that it
returns: the learner's own where it is right, the library's where it was not attempted.

Under grading (``ITR_GRADING=1``, or nbgrader's ``NBGRADER_EXECUTION``) an exercise that was not attempted fails
instead, and nothing that an answer prints or warns of comes on standard error, for which nbgrader takes all points.
``python -m itr_lib.course grade`` does not rest on these checks: it judges outside the notebook's process.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import importlib
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor

from itr_lib.checks import answers
from itr_lib.checks.frame import Exercise, verify
from itr_lib.checks.outcome import as_tensors, is_float
from itr_lib.checks.pace import EXTRA_SECONDS, extra_seconds
from itr_lib.checks.wrong import WrongAnswer
from itr_lib.desk import panel, record
from itr_lib.desk.front import is_graded

# Lesson by lesson. The check of an exercise is EXERCISE in the module that has its slug for a name.
LESSONS = {
    # where counting begins
    "00": (
        "cosine-scores",
        "caption-ranks",
        "image-ranks",
        "recall-at-k",
        "chance-recall",
        "find-the-flaw",
        "ndcg",
    ),
    # VSE++
    "01": (
        "triplet-loop",
        "unique-batches",
        "triplet-hardest",
        "training-loop",
        "warm-up",
        "info-nce",
        "sorted-pool",
        "twin-choices",
    ),
    # TERAN
    "02": ("alignments", "mrsw", "packed-mrsw", "read-heat-map", "pointing", "block-sizes", "poolings"),
    # CHAN
    "03": (
        "soft-codes",
        "best-regions",
        "pool-codes",
        "regions-used",
        "recall-by-group",
        "hard-backward",
        "attended-length",
    ),  # fmt: skip
    # USER
    "04": (
        "unified-loss",
        "unified-weights",
        "ring-buffer",
        "momentum-step",
        "choose-momentum",
        "queue-loss",
        "false-negatives",
    ),
    # how training begins
    "04a": ("best-constant", "enhance"),
    # TGDT
    "05": ("two-stage-search", "honest-rank", "token-guidance", "cmc", "choose-k", "pareto-front"),
    # what TGDT is made of
    "05a": ("structure-agreement", "local-weight"),
    # photographs
    "06": ("whole-picture", "pool-boxes", "fold-recall", "corrected-recall", "recall-by-cause", "parameter-groups"),
    # search at scale
    "07": ("product-codes", "code-scores", "search-cells", "walk", "machines"),
}


def exercises() -> list[str]:
    """The slugs of all exercises, in the order of the lessons."""
    return [slug for slugs in LESSONS.values() for slug in slugs]


def exercise(slug: str) -> Exercise:
    """The check of an exercise. Raises ``ValueError`` for one that does not exist."""
    if slug not in exercises():
        close = difflib.get_close_matches(slug, exercises(), n=1)
        raise ValueError(f"there is no exercise {slug!r}{f'; did you mean {close[0]!r}?' if close else ''}")
    return importlib.import_module(f"itr_lib.checks.{slug.replace('-', '_')}").EXERCISE


def library(slug: str) -> Callable:
    """The library's answer to an exercise, with the parameters of the stub, to go on with it for now."""
    function = exercise(slug).library
    record.note(exercise=slug, verdict="library")
    return answers.go_on_with(slug, "library", function)


def kept_or_library(slug: str) -> Callable:
    """What this notebook goes on with: as checked here, else the kept answer where it is fast enough; prints which."""
    if slug in answers.chosen:  # measured once: a clock that is read twice may decide twice
        whose, function = answers.chosen[slug]
        print(f"{slug}: {'yours' if whose == 'yours' else 'from the library'}, as above")
        return function
    task = exercise(slug)
    own = answers.load(slug)
    slow = own is not None and extra_seconds(task, own)[1] > EXTRA_SECONDS
    whose = "library" if own is None else "too slow" if slow else "yours"
    told = {"library": "the library's: none of yours is kept", "too slow": "the library's: yours would hold this up"}
    print(f"{slug}: {told.get(whose, f'yours, from {answers.path().name}')}")
    goes_on = task.library if whose != "yours" else own if isinstance(own, type) else giving_tensors(own)
    return answers.go_on_with(slug, whose, goes_on)


def check(slug: str, answer: Callable) -> Callable:
    """Check an answer to the exercise ``slug``; says so, and returns the function that the notebook goes on with.

    That is the answer, where it is right (results that were arrays or lists then come as tensors), and the library's
    function where nothing was written yet, or where a right answer would hold up the lesson. Right answers are kept
    (:mod:`itr_lib.checks.answers`). At a notebook the verdict is a panel (:mod:`itr_lib.desk.panel`), else a line.

    Raises:
        WrongAnswer: an ``AssertionError`` with the likely mistake; its last line says how to go on without an answer.
        NotImplementedError: when it was not attempted, under grading only.
        ValueError: for an exercise that does not exist.
    """
    task = exercise(slug)
    try:
        with _quiet_where_graded():
            passed = verify(task, answer)
    except NotImplementedError as error:
        if answers.begun(answer, task.parts):
            raise _not_right(slug, answer, WrongAnswer(answers.still_open(error))) from None
        if is_graded():
            raise
        panel.not_attempted(slug)
        return answers.go_on_with(slug, "library", task.library)
    except WrongAnswer as error:
        raise _not_right(slug, answer, error) from None
    with _quiet_where_graded():
        return _go_on(task, answer, passed.cases, passed.converted)


@contextlib.contextmanager
def _quiet_where_graded() -> Iterator[None]:
    """Under grading nothing comes on standard error; a learner at work sees warnings as ever."""
    if not is_graded():
        yield
        return
    with contextlib.redirect_stderr(sys.stdout), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _not_right(slug: str, answer: object, error: WrongAnswer) -> WrongAnswer:
    """The error that the cell ends in: the whole diagnosis, which a notebook shows as a panel and a line below it."""
    name = getattr(answer, "__name__", slug.replace("-", "_"))
    way_on = f'{name} = library("{slug}")'
    shown = panel.wrong(slug, str(error), error.mistake, way_on)
    told = f"{slug}: {error}\nTo go on with the library's version for now: {way_on}"
    return WrongAnswer(told, error.mistake, f"{slug}: not right yet; the panel above says why" if shown else "")


def _go_on(task: Exercise, answer: Callable, cases: int, converted: bool) -> Callable:
    counted = f"{cases} case{'s' if cases > 1 else ''}"
    kept = answers.keep(task.slug, answer)
    seconds, extra = extra_seconds(task, answer)
    slow = extra > EXTRA_SECONDS
    goes_on = f"The notebook goes on with yours.{kept}"
    if slow:
        goes_on = (
            f"Yours is right, but takes {seconds:.2g} s for what the lesson asks {task.rehearsal.calls:,} times: "
            f"{extra / 60:.0f} minutes more than the library's, which goes on here.{kept}"
        )
    panel.passed(task.slug, "too slow" if slow else "passed", counted, goes_on)
    if slow:
        return answers.go_on_with(task.slug, "too slow", task.library)
    return answers.go_on_with(task.slug, "yours", giving_tensors(answer) if converted else answer)


def giving_tensors(answer: Callable) -> Callable:
    """The same function; its arrays and lists come as tensors, of the kind and on the device of what it was given."""

    @functools.wraps(answer)
    def converted(*values: Any, **named: Any) -> Any:
        result = answer(*values, **named)
        if isinstance(result, Tensor) or not isinstance(as_tensors(result), Tensor):
            return result
        tensors = [value for value in (*values, *named.values()) if isinstance(value, Tensor)]
        made = as_tensors(result).to(tensors[0].device if tensors else "cpu")
        floats = [value.dtype for value in tensors if is_float(value)]
        return made.to(floats[0]) if floats and made.is_floating_point() else made

    return converted


__all__ = ["WrongAnswer", "check", "exercise", "exercises", "kept_or_library", "library"]
