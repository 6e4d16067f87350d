"""Learners' copies in the smoke profile: untouched, and filled in; both run top to bottom and say on whose code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from itr_lib.checks.answers import sections
from itr_lib.course.build import as_text, make_notebook, read_notebook
from itr_lib.course.run import Options, run, run_lesson
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


STYLES = ("loops", "einsum", "numpy")  # tests/styles: each holds an answer to every exercise


@pytest.mark.slow
@each_lesson
def test_an_answered_copy_runs_on_the_learners_code(repo: Path, tmp_path: Path, lesson: str) -> None:
    """Slow: a kernel, and every cell. Its exercises take turns in the three styles; lessons take turns in who begins."""
    number, slugs = lesson.split("_")[0], [e.slug for e in read_source(repo / "solutions" / f"{lesson}.py").exercises]
    texts = [(repo / "tests" / "styles" / style / f"{number}.py").read_text(encoding="utf-8") for style in STYLES]
    styles = [sections(text) for text in texts]
    turns = {slug: (LESSONS.index(lesson) + place) % len(STYLES) for place, slug in enumerate(slugs)}
    answers = tmp_path / "answers.py"
    answers.write_text("".join(f"# %% {slug}\n{styles[turn][slug]}\n\n" for slug, turn in turns.items()))
    options = Options(lessons=(lesson,), profile="smoke", device="cpu", copies="learner", answers=str(answers))
    [result] = run(options, repo, out=tmp_path / "run")
    assert not [line for line in result.problems if "failed" in line or "wrote no" in line], "\n".join(result.problems)
    notebook = read_notebook(Path(result.notebook))
    shown = {c.id: "".join(o.get("text", "") for o in c.outputs) for c in notebook.cells if c.cell_type == "code"}
    for slug in slugs:
        assert f"{slug}: the checks in this notebook passed" in shown[f"{slug}-check"]
    assert list(sections((tmp_path / "run" / "my_answers.py").read_text())) == slugs
    own = [slug for slug in slugs if "The notebook goes on with yours" in shown[f"{slug}-check"]]
    assert f"Ran {', '.join(own)}" in "".join(shown.values())
    assert len(own) >= len(slugs) / 2, "a slow answer gives way to the library's; most are fast"
