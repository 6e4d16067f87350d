"""The instructor's guide: tables that are the lessons', commands that do what it says, a page for assistants."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
from pathlib import Path

import nbformat
import pytest

from data_scripts import syllabus
from itr_lib.course.classroom import WEEK
from itr_lib.course.minutes import total_minutes
from itr_lib.course.source import lesson_sources, read_source

REPO = Path(__file__).resolve().parents[1]
GUIDE = (REPO / "docs" / "TEACHING.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
SOURCES = {path.stem.split("_")[0]: read_source(path) for path in lesson_sources(REPO)}


@pytest.mark.parametrize("count", syllabus.PLANS)
def test_a_plan_has_its_weeks_and_every_lesson_once_and_what_a_lesson_needs_before_it(count: int) -> None:
    plan = syllabus.PLANS[count]
    names = [name for week in plan for name in week]
    assert len(plan) == count and len(names) == len(set(names))
    main = {number for number in SOURCES if number.isdigit()}
    assert main <= {name.split(".")[0] for name in names} <= set(SOURCES)
    for place, name in enumerate(names):
        needed = re.findall(r"\b\d\d[a-z]?\b", syllabus.needs(SOURCES[name.split(".")[0]]))
        assert set(needed) <= {earlier.split(".")[0] for earlier in names[:place]}, name


def test_halves_add_up_to_the_lesson() -> None:
    for number, source in SOURCES.items():
        halves = syllabus.portion(f"{number}.1"), syllabus.portion(f"{number}.2")
        assert sum(half.minutes for half in halves) == total_minutes(source)
        assert sum(half.points for half in halves) == sum(exercise.points for exercise in source.exercises)
        assert all(half.minutes > 0 for half in halves)


def test_the_points_of_sections_are_those_of_the_exercises_under_their_headings() -> None:
    assert syllabus.points_of_sections(SOURCES["00"])[0] == 0
    counted, heading = {}, ""
    for cell in SOURCES["00"].cells:  # by the text alone
        if cell.cell_type == "markdown":
            heading = re.findall(r"^## .*$", cell.source, re.MULTILINE)[-1:] or heading
            counted[str(heading)] = counted.get(str(heading), 0) + int(cell.metadata.get("points", 0))
    assert [n for n in syllabus.points_of_sections(SOURCES["00"]) if n] == [n for n in counted.values() if n]


def test_the_steps_of_the_week_are_those_of_the_script() -> None:
    steps = set(re.findall(r"\./week\.sh ([a-z]+)", GUIDE))
    assert steps == set(re.findall(r"^([a-z]+)\)", WEEK, re.MULTILINE))


def test_what_is_handed_out_has_no_solutions_and_asks_assistants_for_hints(tmp_path: Path) -> None:
    (line,) = [block for block in BLOCKS if block.startswith("git archive")]
    if subprocess.run(["git", "rev-parse", "HEAD"], cwd=REPO, capture_output=True).returncode:
        pytest.skip("this is no checkout of git")
    subprocess.run(line.replace("course.tar.gz", str(tmp_path / "x.tar.gz")), shell=True, cwd=REPO, check=True)
    with tarfile.open(tmp_path / "x.tar.gz") as archive:
        names = set(archive.getnames())
    assert {"course/AGENTS.md", "course/notebooks/AGENTS.md", "course/itr_lib/checks/frame.py"} <= names
    assert not [name for name in names if name.startswith(("course/solutions", "course/tests"))]


def test_folded_solutions_are_taken_out_for_an_examination(tmp_path: Path) -> None:
    (line,) = [block for block in BLOCKS if "-folded" in block]
    code = re.search(r"python -c '(.*)' course", line, re.DOTALL)[1]
    copy = tmp_path / "00.ipynb"
    copy.write_bytes((REPO / "notebooks" / "00_retrieval_basics.ipynb").read_bytes())
    before = nbformat.read(copy, 4).cells
    subprocess.run([sys.executable, "-c", code, str(copy)], check=True)
    after = nbformat.read(copy, 4).cells
    assert len(before) - len(after) == len(SOURCES["00"].exercises)
    assert not [cell for cell in after if "<summary>Solution" in cell.source]
    assert [cell.id for cell in before if "<summary>Solution" not in cell.source] == [cell.id for cell in after]


def test_the_page_for_assistants_speaks_of_what_learners_copies_have() -> None:
    text = (REPO / "notebooks" / "AGENTS.md").read_text(encoding="utf-8")
    copies = [path.read_text(encoding="utf-8") for path in (REPO / "notebooks").glob("0*.ipynb")]
    assert "# your code here" in text and all("# your code here" in copy for copy in copies)
    for folder in re.findall(r"`([a-z_]+/)`", text):
        assert (REPO / folder).is_dir()


def test_the_example_of_an_adapted_exercise_is_one(monkeypatch) -> None:
    from itr_lib.checks import recall_at_k
    from itr_lib.checks.frame import verify

    (mistake,) = re.findall(r"`\"(k stops at 10[^`]*),`", GUIDE)
    told, wrong = mistake.split('": ', 1)
    monkeypatch.setitem(recall_at_k.EXERCISE.mistakes, told, eval(wrong, vars(recall_at_k)))
    (answer,) = re.findall(r"`\((lambda ranks[^`]*), \"k stops at 10 here\"\),`", GUIDE)
    with pytest.raises(AssertionError, match="k stops at 10 here"):
        verify(recall_at_k.EXERCISE, eval(answer))
