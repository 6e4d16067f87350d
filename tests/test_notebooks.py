"""The real lessons: built from their source, executed from their code, and running, learner's copies too.

The slow tests here start a kernel for each notebook, in the smoke profile. They are worth it: nothing else
shows that every cell of every notebook runs.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from itr_lib.course.build import differences, read_notebook
from itr_lib.course.execute import committed_problems
from itr_lib.course.run import Options, run_lesson, select
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


def test_exercises_are_those_that_have_checks(repo: Path) -> None:
    from itr_lib.checks import exercises

    found = [e.slug for path in lesson_sources(repo) for e in read_source(path).exercises]
    assert sorted(found) == sorted(exercises())


def test_expected_bands_are_bands_of_lessons(repo: Path) -> None:
    from itr_lib.course.bands import load_bands

    for path in sorted((repo / "tests" / "expected").glob("*.json")):
        assert path.stem in ("smoke", "quick", "full")
        for data in json.loads(path.read_text()):
            assert set(load_bands(path, data)) <= set(LESSONS)


@pytest.mark.slow
@each_lesson
def test_solutions_run_in_smoke_and_their_stable_outputs_are_the_same(repo: Path, tmp_path: Path, lesson: str) -> None:
    """Slow: a kernel, and every cell. nbval compares the outputs of cells tagged ``nbval-check-output``."""
    path = repo / "solutions" / f"{lesson}.ipynb"
    notebook = read_notebook(path)
    assert notebook is not None, f"{path.name} is missing: run `make build execute`"
    # nbval passes cells without an execution count without running them
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code"), "run `make execute`"
    copy = shutil.copy(path, tmp_path)  # nbval runs a notebook in its own folder: keep the checkout clean
    command = [sys.executable, "-m", "pytest", "--nbval-lax", "--nbval-cell-timeout=300", "-q", "-c", os.devnull]
    command += ["-p", "no:cacheprovider", "-p", "no:xdist", "--rootdir", str(tmp_path), copy]
    environment = os.environ | {"ITR_PROFILE": "smoke", "ITR_METRICS": str(tmp_path)}
    for name in [name for name in environment if name.startswith("PYTEST_")]:
        environment.pop(name)
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-2000:]
    passed = int(re.search(r"(\d+) passed", result.stdout).group(1))
    assert passed == sum(cell.cell_type == "code" for cell in notebook.cells)
    written = json.loads((tmp_path / f"{lesson}.json").read_text())
    assert written["profile"] == "smoke" and written["metrics"]


@pytest.mark.slow
@each_lesson
def test_a_fresh_learners_copy_runs_and_says_not_attempted(repo: Path, tmp_path: Path, lesson: str) -> None:
    """Slow: a kernel, and every cell, through the runner as `make course` calls it."""
    (path,) = select(Options(lessons=(lesson,), copies="learner"), repo)
    result = run_lesson(path, Options(profile="smoke", device="cpu", copies="learner"), tmp_path, {})
    assert result.status == "passed", "\n".join(result.problems)
    notebook = read_notebook(Path(result.notebook))
    shown = {c.id: "".join(o.get("text", "") for o in c.outputs) for c in notebook.cells if c.cell_type == "code"}
    for exercise in read_source(repo / "solutions" / f"{lesson}.py").exercises:
        assert f"{exercise.slug}: not attempted yet" in shown[f"{exercise.slug}-check"]
    noise = [o.text for c in notebook.cells if c.cell_type == "code" for o in c.outputs if o.get("name") == "stderr"]
    progress = re.compile(r"\r|\d%\|")  # a progress bar is meant to be on stderr
    assert not [text for text in noise if not progress.search(text)]
