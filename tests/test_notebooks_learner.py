"""Every fresh learner's copy runs top to bottom in the smoke profile, and says what is not attempted yet."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from itr_lib.course.build import as_text, make_notebook, read_notebook
from itr_lib.course.run import Options, run_lesson
from itr_lib.course.source import lesson_sources, read_source

REPO = Path(__file__).resolve().parents[1]
LESSONS = [path.stem for path in lesson_sources(REPO)]
each_lesson = pytest.mark.parametrize("lesson", LESSONS or ["no lesson"])


@pytest.mark.slow
@each_lesson
def test_a_fresh_learners_copy_runs_and_says_not_attempted(repo: Path, tmp_path: Path, lesson: str) -> None:
    """Slow: a kernel, and every cell, through the runner as `make course` calls it."""
    source = read_source(repo / "solutions" / f"{lesson}.py")
    path = tmp_path / f"{lesson}.ipynb"  # built afresh: the one in notebooks/ may hold somebody's answers
    path.write_text(as_text(make_notebook(source, "learner")), encoding="utf-8")
    result = run_lesson(path, Options(profile="smoke", device="cpu", copies="learner"), tmp_path / "run", {})
    assert result.status == "no bands", "\n".join(result.problems)  # it ran: its numbers are judged elsewhere
    notebook = read_notebook(Path(result.notebook))
    shown = {c.id: "".join(o.get("text", "") for o in c.outputs) for c in notebook.cells if c.cell_type == "code"}
    for exercise in source.exercises:
        assert f"{exercise.slug}: not attempted yet" in shown[f"{exercise.slug}-check"]
    noise = [o.text for c in notebook.cells if c.cell_type == "code" for o in c.outputs if o.get("name") == "stderr"]
    progress = re.compile(r"\r|\d%\|")  # a progress bar is meant to be on stderr
    assert not [text for text in noise if not progress.search(text)]
