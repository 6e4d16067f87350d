"""The real lessons: built from their source, and executed from their code.

test_notebooks_solutions.py and test_notebooks_learner.py run them.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from itr_lib.course.build import differences
from itr_lib.course.execute import committed_problems
from itr_lib.course.source import lesson_sources, read_source

REPO = Path(__file__).resolve().parents[1]
LESSONS = [path.stem for path in lesson_sources(REPO)]
each_lesson = pytest.mark.parametrize("lesson", LESSONS or ["no lesson"])


def test_there_are_lessons() -> None:
    assert LESSONS, "solutions/ holds no lesson: nothing below tests anything"
    assert [name[:2] for name in LESSONS] == [f"{n:02d}" for n in range(len(LESSONS))]


def test_notebooks_are_what_their_sources_build(repo: Path) -> None:
    # A learner's own answers in notebooks/ are no drift: only what the repository holds is judged.
    lines = [line for line in differences(repo) if "holds answers" not in line or not _is_answered(repo, line)]
    assert not lines, "\n".join(lines)


def _is_answered(repo: Path, line: str) -> bool:
    changed = subprocess.run(["git", "diff", "--quiet", "HEAD", "--", line.split()[0]], cwd=repo, capture_output=True)
    return changed.returncode == 1


def test_committed_outputs_come_from_the_code_and_are_clean(repo: Path) -> None:
    problems = committed_problems(repo)
    assert not problems, "\n".join(problems)


@each_lesson
def test_a_lesson_has_at_least_four_exercises_with_their_checks(repo: Path, lesson: str) -> None:
    assert len(read_source(repo / "solutions" / f"{lesson}.py").exercises) >= 4


def test_exercises_are_those_that_have_checks_in_the_order_of_the_lessons(repo: Path) -> None:
    from itr_lib.checks import exercises

    found = [e.slug for path in lesson_sources(repo) for e in read_source(path).exercises]
    assert found == exercises()


def test_expected_bands_are_bands_of_lessons(repo: Path) -> None:
    from itr_lib.course.bands import load_bands

    for path in sorted((repo / "tests" / "expected").glob("*.json")):
        assert path.stem in ("smoke", "quick", "full")
        for data in json.loads(path.read_text()):
            assert set(load_bands(path, data)) <= set(LESSONS)
