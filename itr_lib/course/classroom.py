"""A folder in which nbgrader hands lessons out, collects and grades them: ``make classroom COURSE=folder``."""

from __future__ import annotations

import secrets
import tomllib
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from itr_lib.course.answered import filled
from itr_lib.course.build import REPO, as_text, make_notebook
from itr_lib.course.source import BEGIN, END, Source, lesson_sources, read_source

CONFIG = '''"""nbgrader's settings for this course. It is read from the folder in which nbgrader is called."""

from pathlib import Path

from itr_lib.course import nbgrader_steps

here = Path(__file__).resolve().parent
c = get_config()  # noqa: F821 - nbgrader gives it
c.CourseDirectory.course_id = "image-text-retrieval"
c.CourseDirectory.root = str(here)
c.CourseDirectory.db_url = f"sqlite:///{here / 'gradebook.db'}"

# Stubs, checks and points are the course's own (itr_lib/course/nbgrader_steps.py says why).
c.GenerateAssignment.preprocessors = nbgrader_steps.HAND_OUT
c.Autograde.sanitize_preprocessors = nbgrader_steps.SANITIZE
c.Autograde.autograde_preprocessors = nbgrader_steps.GRADE
c.Grade.secret = (here / "secret.txt").read_text(encoding="utf-8").strip()
c.Grade.cell_seconds = 60  # of the processor, for one cell or the checks of one exercise
c.Grade.memory_mb = 4096  # for one submission

# downloaded/LESSON/archive/ada_LESSON.ipynb, or ada.zip with LESSON.ipynb in it: a submission of the student "ada".
lesson = r"(?P<file_id>[0-9]{2}[a-z]?_[a-z0-9_]+)"
c.FileNameCollectorPlugin.named_regexp = rf".*[/\\\\](?P<student_id>[^/\\\\]+?)[_/\\\\]{lesson}"

# For `nbgrader validate`, which runs a notebook as learners do.
c.Execute.timeout = 600
c.KernelManager.transport_encryption = "auto"  # else ipykernel warns on standard error
'''
WEEK = """#!/bin/sh
# The commands of a week: ./week.sh STEP LESSON, for example ./week.sh handout 00_retrieval_basics
set -e
cd "$(dirname "$0")"
case "$1" in
roster) nbgrader db student import roster.csv ;;
handout) nbgrader generate_assignment "$2" --force ;;       # then hand out release/LESSON/LESSON.ipynb
release) nbgrader release_assignment "$2" ;;                # on a JupyterHub, through nbgrader's exchange
collect) nbgrader zip_collect "$2" --force ;;               # from downloaded/LESSON/archive
grade) nbgrader autograde "$2" --force ;;
feedback) nbgrader generate_feedback "$2" --force ;;        # then send feedback/STUDENT/LESSON/LESSON.html
points) nbgrader export --to points.csv ;;
*) sed -n 2p "$0"; sed -n 's/^\\([a-z]*\\)) /  \\1: /p' "$0"; exit 2 ;;
esac
"""
ROSTER = """id,first_name,last_name,email
ada,Ada,Lovelace,ada@example.org
blaise,Blaise,Pascal,blaise@example.org
"""


def classroom(folder: Path, repo: Path = REPO) -> list[Path]:
    """Write the course's folder; returns what was written.

    Lessons, settings and the script are written anew; the roster and the secret stay as they are, once there.
    Raises ``ValueError`` where the folder is a file, and what :func:`itr_lib.course.source.read_source` raises.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file, expected a folder, or a name that is free")
    texts = {folder / "nbgrader_config.py": CONFIG, folder / "week.sh": WEEK}
    asked, beside = questions(repo), sorted((repo / "notebooks").glob("*.md"))  # AGENTS.md goes with every lesson
    for path in lesson_sources(repo):
        notebook = assignment(read_source(path), asked)
        texts[folder / "source" / path.stem / f"{path.stem}.ipynb"] = as_text(notebook)
        texts |= {folder / "source" / path.stem / one.name: one.read_text(encoding="utf-8") for one in beside}
    texts[folder / "marks.md"] = mark_scheme(asked)
    kept = {folder / "roster.csv": ROSTER, folder / "secret.txt": secrets.token_hex(16) + "\n"}
    texts |= {path: text for path, text in kept.items() if not path.exists()}
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (folder / "week.sh").chmod(0o755)
    return list(texts)


def questions(repo: Path = REPO) -> list[dict]:
    """The questions that are marked by hand, ``solutions/questions.toml``; none where there is no such file."""
    path = repo / "solutions" / "questions.toml"
    return tomllib.loads(path.read_text(encoding="utf-8"))["question"] if path.exists() else []


def assignment(source: Source, asked: list[dict]) -> NotebookNode:
    """The learner's copy of a lesson with the solutions in it, and the lesson's questions below.

    nbgrader's steps take the solutions out again. An answer that nobody wrote in earns 0 without being looked at.
    """
    notebook = make_notebook(source, "learner")
    notebook = filled(notebook, {one.slug: source.cells[one.solution].source.rstrip() for one in source.exercises})
    for one in asked:
        if one["lesson"] == source.name:
            notebook.cells += _question(one)
    return notebook


def _question(one: dict) -> list[NotebookNode]:
    """A cell that asks, and one to answer in, where the mark scheme stands in the place of a solution."""
    slug, points = one["slug"], one["points"]
    common = {"schema_version": 3, "task": False}
    asks = common | {"grade": False, "grade_id": f"{slug}-question", "locked": True, "solution": False}
    answers = common | {"grade": True, "grade_id": slug, "locked": False, "solution": True, "points": points}
    text = f"### In your own words\n\n**Question · {slug}** · {points} points\n\n{one['text'].strip()}"
    scheme = f"{BEGIN}\n{one['marks'].strip()}\n{END}"
    cell = nbformat.v4.new_markdown_cell
    return [
        cell(text, id=f"{slug}-question", metadata={"nbgrader": asks}),
        cell(scheme, id=f"{slug}-answer", metadata={"nbgrader": answers}),
    ]


def mark_scheme(asked: list[dict]) -> str:
    """What earns points, question by question, for whoever marks."""
    parts = [f"## {one['lesson']}: {one['slug']}\n\n{one['text'].strip()}\n\n{one['marks'].strip()}" for one in asked]
    return "\n\n".join(["# Mark scheme: not for learners", *parts]) + "\n"
