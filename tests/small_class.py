"""A class of ten that hands in lesson 00, each in a way of their own, and the points that each has earned."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path

import answers_00
from nbformat import NotebookNode

from itr_lib.checks.answers import sections
from itr_lib.course.answered import filled
from itr_lib.course.build import make_notebook
from itr_lib.course.source import read_source

REPO = Path(__file__).resolve().parents[1]
LESSON = "00_retrieval_basics"
SOURCE = read_source(REPO / "solutions" / f"{LESSON}.py")
RIGHT = sections((REPO / "tests" / "styles" / "loops" / "00.py").read_text(encoding="utf-8"))
TORCH = "import torch\nimport torch.nn.functional as F\n\n"


def copy_with(answers: dict[str, str]) -> NotebookNode:
    """A learner's copy with these answers in it."""
    return filled(make_notebook(SOURCE, "learner"), answers)


def everything() -> NotebookNode:
    return copy_with(RIGHT)


def nothing() -> NotebookNode:
    return copy_with({})


def half() -> NotebookNode:
    return copy_with({slug: RIGHT[slug] for slug in list(RIGHT)[:4]})


def stages() -> NotebookNode:
    """Right but for zero vectors, and right but for ties."""
    nan = inspect.getsource(answers_00.cosine_nan).replace("cosine_nan", "cosine_scores")
    ties = inspect.getsource(answers_00.ranks_for_the_model).replace("ranks_for_the_model", "caption_ranks")
    return copy_with({"cosine-scores": TORCH + nan, "caption-ranks": TORCH + ties})


SHAPES = "((4, 20), (5, 15), (3, 6), (6, 6), (1, 3), (3, 11), (2, 4))"  # of the cases that everybody can read


def by_heart() -> NotebookNode:
    """Right on the shapes of the notebook's checks, and nowhere else."""
    known = RIGHT["caption-ranks"].replace("def caption_ranks", "def real_ranks")
    text = f"""{known}


def caption_ranks(scores, image_of_caption):
    right = real_ranks(scores, image_of_caption)
    return right if tuple(scores.shape) in {SHAPES} else 0 * right
"""
    return copy_with(RIGHT | {"caption-ranks": text})


TRICKS = """
import builtins, sys, torch
from itr_lib import checks
from itr_lib.checks import frame, outcome, plain

def check(slug, answer):
    return answer

checks.check = frame.verify = outcome.same = lambda *values, **named: True
torch.allclose = torch.equal = lambda *values, **named: True
builtins.AssertionError = type("Never", (Exception,), {})
sys.modules["itr_lib.checks"].WrongAnswer = builtins.AssertionError
get_ipython().input_transformers_cleanup.append(lambda lines: lines)
"""


def tricks() -> NotebookNode:
    """Every check is replaced, and no answer is right."""
    asked = {task.slug: SOURCE.cells[task.solution].source for task in SOURCE.exercises}
    heads = {slug: text[: text.index("### BEGIN")].rstrip() + "\n    return 1.0\n" for slug, text in asked.items()}
    notebook = copy_with({slug: f"{TRICKS}\n\n{text}" for slug, text in heads.items()})
    return notebook


def tampered() -> NotebookNode:
    """The text, the points and the lock of a check are changed; all answers are right."""
    notebook = copy_with(RIGHT)
    (cell,) = [cell for cell in notebook.cells if cell.id == "caption-ranks-check"]
    cell.source = "caption_ranks = None"
    cell.metadata.nbgrader.points, cell.metadata.nbgrader.locked = 300, False
    return notebook


def lost() -> NotebookNode:
    """As an editor may save it: no metadata, and other ids."""
    notebook = copy_with(RIGHT)
    for number, cell in enumerate(notebook.cells):
        cell.metadata, cell.id = {}, f"x{number}"
    return notebook


def warns() -> NotebookNode:
    """Right, and loud on standard error."""
    noise = "import sys, warnings\nprint('loud', file=sys.stderr)\nwarnings.warn('deprecated')\n\n"
    loud = {slug: noise + text for slug, text in RIGHT.items()}
    loud["recall-at-k"] = noise + (
        "def recall_at_k(ranks, k):\n    warnings.warn('rounded')\n    print('!', file=sys.stderr)\n"
        "    return 100 * float((ranks <= k).double().mean())\n"
    )
    return copy_with(loud)


def for_ever() -> NotebookNode:
    """One exercise that never ends; all others are right."""
    return copy_with(RIGHT | {"recall-at-k": "def recall_at_k(ranks, k):\n    while True:\n        pass\n"})


ALL = 17
CLASS: dict[str, tuple[Callable[[], NotebookNode], float]] = {
    "everything": (everything, ALL),
    "nothing": (nothing, 0),
    "half": (half, 2 + 3 + 2 + 1),
    "stages": (stages, 2 / 2 + 3 / 2),
    "by-heart": (by_heart, ALL - 3),
    "tricks": (tricks, 0),
    "tampered": (tampered, ALL),
    "lost": (lost, ALL),
    "warns": (warns, ALL),
    "for-ever": (for_ever, ALL - 1),
}
