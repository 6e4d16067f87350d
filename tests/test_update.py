"""`make update` and `make reset`: a newer version of a lesson under a learner's answers, and nothing of theirs lost."""

from __future__ import annotations

import copy
import random
import subprocess

import nbformat
import pytest
import toy_course

from itr_lib.course import build as builder
from itr_lib.course import update as updating
from itr_lib.course.build import as_text, bare, holds_answers, make_notebook, read_notebook
from itr_lib.course.merge import merged
from itr_lib.course.source import read_source
from itr_lib.course.update import reset, update
from itr_lib.desk.catalogue import Plan

PROSE = "\n# %% [markdown]\n# About the mean.\n"
OLD = toy_course.HEAD + toy_course.CHECK + toy_course.EXERCISE + PROSE + toy_course.TAIL
NEW = (
    OLD.replace("About the mean.", "About the mean, said better.")
    .replace("\n# %%\nimport json", "\n# %% [markdown]\n# One more.\n\n# %%\nimport json")
    .replace("\n# %%\ndef check", "\n# %% [markdown]\n# An idea before the check.\n\n# %%\ndef check")
)
STUB = NEW.replace('"""1, 3 -> 2"""', '"""1, 3 -> 2; whole numbers too"""')
ANSWER = "def mean_of_two(a, b):\n    return (a + b) / 2  # mine"
NAME = "notebooks/00_small.ipynb"


def notebook(tmp_path, text):
    toy_course.write(tmp_path, text)
    return make_notebook(read_source(tmp_path / "solutions" / "00_small.py"), "learner")


def cell(found, start):
    """The one cell that begins so."""
    (hit,) = [c for c in found.cells if c.source.startswith(start)]
    return hit


def texts(found):
    return [c.source for c in found.cells]


def answered(found):
    """A learner's work: an answer with its output, a setting, a note of their own after the prose."""
    found = copy.deepcopy(found)
    solved = cell(found, "def mean_of_two")
    solved.source, solved.execution_count = ANSWER, 7
    solved.outputs = [nbformat.v4.new_output("stream", text="seen")]
    parameters = cell(found, "import itr_lib")
    parameters.source = parameters.source.replace("seed = 0", "seed = 5")
    place = found.cells.index(cell(found, "About the mean"))
    found.cells.insert(place + 1, nbformat.v4.new_markdown_cell("My note.", id="note-of-mine"))
    return found


# --- one notebook


def test_answers_settings_and_notes_come_along(tmp_path):
    old, new = notebook(tmp_path, OLD), notebook(tmp_path, NEW)
    found, conflicts = merged(answered(old), new)
    assert conflicts == [] and not holds_answers(new) and holds_answers(found)
    wanted = texts(new)
    wanted[texts(new).index(cell(new, "def mean_of_two").source)] = ANSWER
    wanted = [text.replace("seed = 0", "seed = 5") for text in wanted]
    wanted.insert(wanted.index("About the mean, said better.") + 1, "My note.")
    assert texts(found) == wanted
    assert cell(found, ANSWER).outputs[0].text == "seen" and cell(found, ANSWER).execution_count == 7
    assert found.metadata.itr == new.metadata.itr
    nbformat.validate(found)
    assert len({c.id for c in found.cells}) == len(found.cells)
    again, conflicts = merged(found, new)
    assert as_text(again) == as_text(found) and conflicts == []


def test_without_a_change_on_one_side_it_is_the_other(tmp_path):
    old, new = notebook(tmp_path, OLD), notebook(tmp_path, NEW)
    assert as_text(merged(old, new)[0]) == as_text(new)
    assert as_text(merged(answered(old), old)[0]) == as_text(answered(old))


def test_an_answer_stands_where_the_stub_changed_too(tmp_path):
    found, conflicts = merged(answered(notebook(tmp_path, OLD)), notebook(tmp_path, STUB))
    place = texts(found).index(ANSWER)
    assert "whole numbers too" in found.cells[place + 1].source and found.cells[place + 1].cell_type == "markdown"
    assert conflicts == ["mean-of-two-solution: yours stands; the new text, which changed too, is below it"]
    assert found.cells[place].metadata.nbgrader.solution


def test_other_cells_that_both_changed_are_new_with_the_learners_below(tmp_path):
    mine = answered(notebook(tmp_path, OLD))
    cell(mine, "About the mean.").source = "About the mean, as I see it."
    found, (line,) = merged(mine, notebook(tmp_path, NEW))
    place = texts(found).index("About the mean, said better.")
    assert "About the mean, as I see it." in found.cells[place + 1].source and "the new text stands" in line
    assert texts(found)[place + 2] == "My note."


def test_a_changed_cell_is_told_from_a_new_one_before_it(tmp_path):
    new = NEW.replace("# About the mean,", "# Quite another thing.\n\n# %% [markdown]\n# About the mean,")
    found, conflicts = merged(answered(notebook(tmp_path, OLD)), notebook(tmp_path, new))
    place = texts(found).index("About the mean, said better.")
    assert texts(found)[place - 1 : place + 2 : 2] == ["Quite another thing.", "My note."] and conflicts == []


def test_a_check_that_was_changed_is_the_lessons_and_a_lost_answer_cell_is_back(tmp_path):
    mine = answered(notebook(tmp_path, OLD))
    cell(mine, "mean_of_two = check").source = "mean_of_two = check_my_way(mean_of_two)"
    mine.cells.remove(cell(mine, "def mean_of_two"))
    mine.cells.remove(cell(mine, "About the mean."))  # of no exercise: that it is gone would stand, had it not changed
    found, conflicts = merged(mine, notebook(tmp_path, NEW))
    assert any(line.startswith("mean-of-two-check: the new text stands") for line in conflicts)
    assert any(line.startswith("mean-of-two-solution: you had deleted it, but it is graded") for line in conflicts)
    assert any("you had deleted it, but it has changed" in line for line in conflicts) and len(conflicts) == 3
    assert "check_my_way" in "".join(texts(found))
    found, conflicts = merged(mine, notebook(tmp_path, OLD))
    assert "About the mean." not in texts(found)


def test_what_the_lesson_dropped_stays_where_the_learner_wrote_in_it(tmp_path):
    old, new = notebook(tmp_path, OLD), notebook(tmp_path, NEW.replace(toy_course.EXERCISE, ""))
    found, conflicts = merged(answered(old), new)
    assert ANSWER in texts(found) and "My note." in texts(found)
    assert len(conflicts) == 1 and "mean-of-two-solution: the lesson has dropped it" in conflicts[0]
    assert "nbgrader" not in cell(found, ANSWER).metadata and not [t for t in texts(found) if "### Two" in t]


def test_ids_and_metadata_of_cells_may_be_lost(tmp_path):
    mine = answered(notebook(tmp_path, OLD))
    for number, one in enumerate(mine.cells):
        one.id, one.metadata = f"other-{number}", nbformat.NotebookNode()
    found, conflicts = merged(mine, notebook(tmp_path, NEW))
    assert conflicts == [] or all("deleted" in line for line in conflicts)
    assert cell(found, ANSWER).metadata.nbgrader.solution and "My note." in texts(found)


def test_a_notebook_that_does_not_say_what_it_was_is_refused(tmp_path):
    mine = answered(notebook(tmp_path, OLD))
    del mine.metadata["itr"]
    with pytest.raises(ValueError, match="an editor has dropped"):
        merged(mine, notebook(tmp_path, NEW))


def test_no_text_of_a_learner_is_ever_lost(tmp_path):
    """Cells changed, added, moved and deleted at random on both sides."""
    old = notebook(tmp_path, OLD)
    versions = [
        notebook(tmp_path, text) for text in (NEW, STUB, NEW.replace(toy_course.EXERCISE, ""), PROSE.lstrip() + OLD)
    ]
    handed = set(texts(old))
    for seed in range(60):
        rng, mine = random.Random(seed), copy.deepcopy(old)
        for number in range(rng.randrange(1, 8)):
            place = rng.randrange(len(mine.cells))
            what = rng.choice(["change", "add", "delete", "move"])
            if what == "change":
                mine.cells[place].source += f"\n# {seed}-{number}"
            elif what == "add":
                mine.cells.insert(place, nbformat.v4.new_code_cell(f"own = '{seed}-{number}'"))
            elif what == "delete" and len(mine.cells) > 2:
                del mine.cells[place]
            else:
                mine.cells.append(mine.cells.pop(place))
        for new in versions:
            found, _ = merged(mine, new)
            nbformat.validate(found)
            everything = "\n".join(texts(found))
            assert all(text in everything for text in set(texts(mine)) - handed)
            assert len({c.id for c in found.cells}) == len(found.cells)
            graded = [c.source for c in new.cells if c.metadata.get("nbgrader", {}).get("locked")]
            assert [c.source for c in found.cells if c.metadata.get("nbgrader", {}).get("locked")] == graded


# --- a clone


def git(folder, *arguments):
    return subprocess.run(["git", "-C", folder, *arguments], check=True, capture_output=True, text=True).stdout


def publish(course, text, message, **files):
    """Build a version of the course, and commit it."""
    toy_course.write(course, text)
    for name, content in files.items():
        (course / name).write_text(content)
    builder.build(course)
    git(course, "add", "-A")
    git(course, "commit", "-qm", message)


@pytest.fixture
def course(tmp_path, monkeypatch):
    """The course's repository."""
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "A learner")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "learner@example.org")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    folder = tmp_path / "course"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    (folder / ".gitignore").write_text("*.mine*.ipynb\n")
    publish(folder, OLD, "first", library="one", other="a\nb\nc\n")
    return folder


@pytest.fixture
def clone(course, tmp_path):
    """A learner's clone of it, with their work in the lesson."""
    git(tmp_path, "clone", "-q", str(course), "clone")
    work(tmp_path / "clone")
    return tmp_path / "clone"


def work(clone):
    mine = answered(read_notebook(clone / NAME))
    (clone / NAME).write_text(as_text(mine))


def kept(clone):
    return sorted(path.name for path in (clone / "notebooks").glob("*.mine*.ipynb"))


def expect_new_with_answers(clone, course):
    found = read_notebook(clone / NAME)
    assert ANSWER in texts(found) and "My note." in texts(found) and "About the mean, said better." in texts(found)
    assert (clone / "library").read_text() == "two" == git(course, "show", "HEAD:library")
    assert git(clone, "status", "--porcelain").split() == ["M", NAME]
    assert git(course, "rev-parse", "HEAD").strip() in git(clone, "log", "--format=%H")


def test_a_clone_is_brought_to_the_new_version(course, clone):
    before = (clone / NAME).read_text()
    assert update(clone) == ["the course is the newest already"]
    publish(course, NEW, "second", library="two")
    lines = update(clone)
    expect_new_with_answers(clone, course)
    assert kept(clone) == ["00_small.mine.ipynb"]
    assert (clone / "notebooks" / "00_small.mine.ipynb").read_text() == before
    assert "files" in lines[0] and "as it was: notebooks/00_small.mine.ipynb" in lines[1] and "Reload" in lines[-1]
    assert update(clone) == ["the course is the newest already"] and kept(clone) == ["00_small.mine.ipynb"]


def test_a_notebook_that_was_only_run_keeps_what_it_shows(course, clone):
    git(clone, "checkout", "-q", "--", NAME)
    ran = read_notebook(clone / NAME)
    cell(ran, "def mean_of_two").execution_count = 3
    (clone / NAME).write_text(as_text(ran))
    publish(course, NEW, "second", library="two")
    update(clone)
    found = read_notebook(clone / NAME)
    assert as_text(bare(found)) == as_text(bare(read_notebook(course / NAME))) and kept(clone) == []
    assert cell(found, "def mean_of_two").execution_count == 3


def test_a_learner_who_commits_gets_a_merge(course, clone):
    (clone / "diary").write_text("mine")
    git(clone, "add", "-A")
    git(clone, "commit", "-qm", "my answers")
    mine = git(clone, "rev-parse", "HEAD").strip()
    publish(course, NEW, "second", library="two")
    update(clone)
    expect_new_with_answers(clone, course)
    assert mine in git(clone, "log", "--format=%H") and (clone / "diary").read_text() == "mine"
    assert "return (a + b) / 2  # mine" in git(clone, "show", f"{mine}:{NAME}")
    git(clone, "commit", "-qam", "more answers")
    publish(course, NEW.replace("One more.", "And more."), "third")
    update(clone)
    found = read_notebook(clone / NAME)
    assert ANSWER in texts(found) and "And more." in texts(found) and texts(found).count("My note.") == 1


def test_a_fork_follows_the_remote_upstream(course, clone, tmp_path):
    git(tmp_path, "clone", "-q", "--bare", str(course), "fork.git")
    git(clone, "remote", "set-url", "origin", str(tmp_path / "fork.git"))
    publish(course, NEW, "second", library="two")
    assert update(clone) == ["the course is the newest already"]
    git(clone, "remote", "add", "upstream", str(course))
    update(clone)
    expect_new_with_answers(clone, course)


def test_changes_elsewhere_are_left_alone_and_told(course, clone):
    (clone / "other").write_text("mine")
    publish(course, NEW, "second", library="two")
    assert "changed here, and left alone: other" in update(clone)
    assert (clone / "other").read_text() == "mine" and ANSWER in texts(read_notebook(clone / NAME))


@pytest.mark.parametrize("committed", [False, True])
def test_a_file_that_both_changed_stops_it_before_anything(course, clone, committed):
    (clone / "library").write_text("mine")
    if committed:
        git(clone, "commit", "-qam", "mine")
    publish(course, NEW, "second", library="two")
    before = ((clone / NAME).read_text(), git(clone, "rev-parse", "HEAD"), git(clone, "status", "--porcelain"))
    with pytest.raises(ValueError, match=r"changed in the new version: library|in the new version: library"):
        update(clone)
    assert before == ((clone / NAME).read_text(), git(clone, "rev-parse", "HEAD"), git(clone, "status", "--porcelain"))
    assert (clone / "library").read_text() == "mine" and kept(clone) == []


def test_a_file_in_the_way_stops_it_and_the_index_is_as_it_was(course, clone):
    (clone / "brought").write_text("mine, and not in git")
    publish(course, NEW, "second", library="two", brought="theirs")
    before = git(clone, "status", "--porcelain")
    with pytest.raises(ValueError, match="brought"):
        update(clone)
    assert git(clone, "status", "--porcelain") == before and ANSWER in texts(read_notebook(clone / NAME))


@pytest.mark.parametrize("where", ["fetch", "enter", "merge", "copied", "writing"])
def test_stopped_anywhere_the_same_command_goes_on(course, clone, monkeypatch, where):
    publish(course, NEW, "second", library="two")

    def stop(*arguments, **named):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        real = updating.git
        stops = {"fetch": "fetch", "enter": "merge", "merge": "checkout"}.get(where)
        if where == "copied":
            patch.setattr(updating, "merged", stop)
        elif where == "writing":
            patch.setattr(updating, "write_whole", stop)
        elif where == "merge":  # git has done its part, and the lesson is still the old one
            patch.setattr(updating, "_bring", stop)
        else:
            patch.setattr(updating, "git", lambda r, *a, **k: stop() if stops in a else real(r, *a, **k))
        with pytest.raises(KeyboardInterrupt):
            update(clone)
    assert ANSWER in texts(read_notebook(clone / NAME))
    update(clone)
    expect_new_with_answers(clone, course)


def test_a_solved_notebook_that_was_run_is_set_aside(course, clone):
    path = clone / "solutions" / "00_small.ipynb"
    path.write_text(path.read_text().replace('"execution_count": null', '"execution_count": 1'))
    mine = path.read_text()
    publish(course, NEW, "second", library="two")
    assert "solutions/00_small.ipynb: the new version; as it was: solutions/00_small.mine.ipynb" in update(clone)
    expect_new_with_answers(clone, course)
    assert (clone / "solutions" / "00_small.mine.ipynb").read_text() == mine


def test_what_git_cannot_do_is_said(clone, tmp_path):
    git(clone, "remote", "set-url", "origin", str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="git fetch: .*nowhere"):
        update(clone)
    git(clone, "remote", "remove", "origin")
    with pytest.raises(ValueError, match=r"git remote add upstream|FROM=FOLDER"):
        update(clone)
    with pytest.raises(ValueError, match="is no clone of the course"):
        update(clone / "notebooks")


# --- a folder


def test_lessons_of_a_folder(course, clone, tmp_path):
    publish(course, NEW, "second", library="two")
    before = git(clone, "rev-parse", "HEAD")
    assert any("brought to the new version with your work" in line for line in update(clone, course))
    found = read_notebook(clone / NAME)
    assert ANSWER in texts(found) and "About the mean, said better." in texts(found)
    assert git(clone, "rev-parse", "HEAD") == before and kept(clone) == ["00_small.mine.ipynb"]
    assert update(clone, course / "notebooks") == [f"the lessons are those of {course / 'notebooks'} already"]
    (clone / NAME).unlink()
    assert update(clone, course)[0] == f"{NAME}: new"
    with pytest.raises(ValueError, match="holds no lesson"):
        update(clone, tmp_path / "clone" / "solutions" / "nothing")
    work(course)
    with pytest.raises(ValueError, match="it holds answers"):
        update(clone, course)


def test_a_notebook_that_cannot_be_merged_is_left_as_it_is(course, clone):
    publish(course, NEW, "second", library="two")
    (clone / NAME).write_text("{}")
    assert any("cannot be read: left as it is" in line for line in update(clone, course))
    mine = answered(make_notebook(read_source(course / "solutions" / "00_small.py"), "learner"))  # of a newer version
    del mine.metadata["itr"]
    (clone / NAME).write_text(as_text(mine))
    assert any("`make reset LESSON=00_small`" in line for line in update(clone, course))
    assert (clone / NAME).read_text() == as_text(mine)


# --- back to the beginning


def test_reset_gives_the_lesson_back_and_keeps_the_old_one(clone, monkeypatch):
    monkeypatch.setattr(updating, "named", lambda wanted: Plan("00_small", "Small", 1, ()) if wanted == "00" else None)
    (clone / "notebooks" / "my_answers.py").write_text("# %% mean-of-two\n")
    mine = (clone / NAME).read_text()
    handed = git(clone, "show", f"HEAD:{NAME}")
    lines = reset(clone, "00")
    assert (clone / NAME).read_text() == handed and kept(clone) == ["00_small.mine.ipynb"]
    assert (clone / "notebooks" / "00_small.mine.ipynb").read_text() == mine
    assert "the old one is notebooks/00_small.mine.ipynb" in lines
    assert (clone / "notebooks" / "my_answers.py").read_text() == "# %% mean-of-two\n"
    assert "nothing to do" in reset(clone, "00")[0] and kept(clone) == ["00_small.mine.ipynb"]
    (clone / NAME).unlink()
    reset(clone, "00")
    assert (clone / NAME).read_text() == handed
    with pytest.raises(ValueError, match=r"no lesson '77': expected one of 00, 01, "):
        reset(clone, "77")


def test_reset_without_sources_takes_the_last_version_that_nobody_wrote_in(clone, monkeypatch):
    monkeypatch.setattr(updating, "named", lambda wanted: Plan("00_small", "Small", 1, ()))
    handed = git(clone, "show", f"HEAD:{NAME}")
    git(clone, "commit", "-qam", "my answers")
    (clone / "solutions" / "00_small.py").unlink()
    reset(clone, "00")
    assert (clone / NAME).read_text() == handed
    git(clone, "checkout", "-q", "--orphan", "alone")
    work(clone)
    git(clone, "add", "-A")
    git(clone, "commit", "-qm", "mine")
    with pytest.raises(ValueError, match="neither its source is here"):
        reset(clone, "00")
