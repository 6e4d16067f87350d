"""The folder for nbgrader: what is handed out, and a class that nbgrader grades."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import nbformat
import pytest
import yaml
from small_class import CLASS, LESSON

from itr_lib.checks import exercises
from itr_lib.course.__main__ import main
from itr_lib.course.build import as_text, make_notebook
from itr_lib.course.classroom import mark_scheme, questions
from itr_lib.course.source import is_appendix, lesson_sources, read_source

needs_nbgrader = pytest.mark.skipif(find_spec("nbgrader") is None, reason="nbgrader is the extra `classroom`")


def test_the_folder_holds_every_lesson_with_its_solutions_and_keeps_roster_and_secret(repo, tmp_path, capsys) -> None:
    folder = tmp_path / "my class"
    assert main(["classroom", str(folder)]) == 0
    assert "wrote " in capsys.readouterr().out
    for path in lesson_sources(repo):
        notebook = nbformat.read(folder / "source" / path.stem / f"{path.stem}.ipynb", as_version=4)
        solutions = [cell for cell in notebook.cells if cell.metadata.get("nbgrader", {}).get("solution")]
        assert (folder / "source" / path.stem / "AGENTS.md").read_text() == (repo / "notebooks/AGENTS.md").read_text()
        assert len(solutions) > 1 and all("### BEGIN SOLUTION" in cell.source for cell in solutions)
    secret = (folder / "secret.txt").read_text()
    (folder / "roster.csv").write_text("id\nme\n")
    assert main(["classroom", str(folder)]) == 0
    assert (folder / "secret.txt").read_text() == secret and len(secret.strip()) == 32
    assert (folder / "roster.csv").read_text() == "id\nme\n"


def asked_in(lesson: str) -> list[dict]:
    return [one for one in questions() if one["lesson"] == lesson]


def test_each_lesson_has_two_questions_with_a_mark_scheme_for_each_point(repo) -> None:
    lessons = [path.stem for path in lesson_sources(repo) if not is_appendix(path.stem)]
    assert [len(asked_in(lesson)) for lesson in lessons] == [2] * len(lessons)
    slugs = [one["slug"] for one in questions()]
    assert len({*slugs, *exercises()}) == len(slugs) + len(exercises())
    for one in questions():
        assert one["marks"].count("1 point:") == one["points"] and "?" in one["text"]
        assert one["marks"].strip() in mark_scheme(questions())


def test_a_file_in_the_folders_place_gets_a_sentence(tmp_path, capsys) -> None:
    (tmp_path / "taken").write_text("")
    assert main(["classroom", str(tmp_path / "taken")]) == 2
    assert "is a file, expected a folder" in capsys.readouterr().err


def test_the_script_lists_its_steps(tmp_path) -> None:
    main(["classroom", str(tmp_path)])
    result = subprocess.run([tmp_path / "week.sh"], capture_output=True, text=True)
    assert result.returncode == 2
    steps = ["roster", "handout", "release", "collect", "grade", "feedback", "points"]
    assert [line.split(":")[0].strip() for line in result.stdout.splitlines()[1:]] == steps


def test_the_workflow_example_grades_and_keeps_the_points(repo) -> None:
    path = repo / "docs" / "classroom-workflow.yml"
    (job,) = yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"].values()
    commands = "\n".join(step.get("run", "") for step in job["steps"])
    assert "itr_lib.course grade" in commands and "--junit" in commands
    assert job["timeout-minutes"] <= 30


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """A course's folder, and a way to call nbgrader in it."""
    folder = tmp_path_factory.mktemp("course")
    main(["classroom", str(folder)])
    repo = str(Path(__file__).resolve().parents[1])
    path = os.pathsep.join([repo, *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"PYTHONPATH": path, "JUPYTER_CONFIG_DIR": str(folder / "none")}

    def nbgrader(*words: str) -> str:
        command = [sys.executable, "-m", "nbgrader", *words]
        result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout + result.stderr

    nbgrader("generate_assignment", LESSON)
    return folder, nbgrader


@needs_nbgrader
@pytest.mark.slow
def test_what_is_handed_out_is_the_learners_copy_and_no_secret(repo, course) -> None:
    """Slow: nbgrader's own process. Before the questions nothing but nbgrader's metadata differs from notebooks/."""
    folder, _ = course
    released = nbformat.read(folder / "release" / LESSON / f"{LESSON}.ipynb", as_version=4)
    copy = make_notebook(read_source(repo / "solutions" / f"{LESSON}.py"), "learner")
    own, added = released.cells[: len(copy.cells)], released.cells[len(copy.cells) :]
    assert [(c.id, c.cell_type, c.source) for c in own] == [(c.id, c.cell_type, c.source) for c in copy.cells]
    slugs = [one["slug"] for one in asked_in(LESSON)]
    assert [c.id for c in added] == [f"{slug}-{part}" for slug in slugs for part in ("question", "answer")]
    assert {c.source for c in added if c.id.endswith("-answer")} == {"*Your answer, in place of this line.*"}
    assert (folder / "release" / LESSON / "AGENTS.md").exists()
    secret = (folder / "secret.txt").read_text().strip()
    text = "".join(path.read_text() for path in (folder / "release").rglob("*") if path.is_file())
    assert secret not in text and "HIDDEN" not in text and "### BEGIN" not in text and "1 point:" not in text


@needs_nbgrader
@pytest.mark.slow
@pytest.mark.timeout(3600)  # beside other programs it has taken more than a quarter of an hour
def test_nbgrader_grades_the_class_to_the_point(course) -> None:
    """Slow: ten submissions, each in a process of its own, through every step that a teacher takes."""
    folder, nbgrader = course
    archive = folder / "downloaded" / LESSON / "archive"
    shutil.rmtree(archive.parent, ignore_errors=True)
    archive.mkdir(parents=True)
    for student, (make, _) in CLASS.items():
        (archive / f"{student}_{LESSON}.ipynb").write_text(as_text(make()), encoding="utf-8")
    (folder / "nbgrader_config.py").write_text(
        (folder / "nbgrader_config.py").read_text().replace("cell_seconds = 60", "cell_seconds = 5")
    )
    log = nbgrader("zip_collect", LESSON) + nbgrader("autograde", LESSON)
    assert "caption-ranks-check was changed: put back" in log and "had lost its metadata" in log
    nbgrader("generate_feedback", LESSON)
    nbgrader("export", "--to", str(folder / "points.csv"))
    rows = list(csv.DictReader((folder / "points.csv").read_text().splitlines()))
    points = {row["student_id"]: float(row["score"]) for row in rows if row["assignment"] == LESSON}
    assert points == {student: earned for student, (_, earned) in CLASS.items()}
    for student in CLASS:
        page = (folder / "feedback" / student / LESSON / f"{LESSON}.html").read_text()
        assert "caption-ranks" in page and "points" in page
