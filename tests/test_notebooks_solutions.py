"""Every solutions notebook runs in the smoke profile, cell by cell, through nbval.

A file of its own: `make test` gives each worker a file, so solutions and learner's copies run side by side.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from itr_lib.course.build import UNSTABLE, read_notebook
from itr_lib.course.source import lesson_sources
from itr_lib.course.stable import changed_outputs

REPO = Path(__file__).resolve().parents[1]
LESSONS = [path.stem for path in lesson_sources(REPO)]
each_lesson = pytest.mark.parametrize("lesson", LESSONS or ["no lesson"])


@pytest.mark.slow
@each_lesson
def test_solutions_run_in_smoke_and_their_stable_outputs_are_the_same(repo: Path, tmp_path: Path, lesson: str) -> None:
    """Slow: a kernel, and every cell. nbval compares the outputs of all cells that the builder lets it."""
    path = repo / "solutions" / f"{lesson}.ipynb"
    problems = changed_outputs(path, tmp_path)
    assert not problems, "\n\n".join(problems)
    written = json.loads((tmp_path / f"{lesson}.json").read_text())
    assert written["profile"] == "smoke" and written["metrics"]


@each_lesson
def test_a_lesson_keeps_outputs_that_are_compared(repo: Path, lesson: str) -> None:
    cells = read_notebook(repo / "solutions" / f"{lesson}.ipynb").cells
    assert any(cell.get("outputs") and UNSTABLE not in cell.metadata.tags for cell in cells)
