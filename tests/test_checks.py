"""Every check accepts right answers and turns down known wrong ones, each with its own diagnosis."""

from __future__ import annotations

import ast
import importlib
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from itr_lib import checks
from itr_lib.checks import LESSONS, check, exercise, exercises, library
from itr_lib.checks.frame import all_cases
from itr_lib.checks.outcome import as_kind, double, run
from itr_lib.course.build import stub
from itr_lib.course.source import lesson_sources, read_source

pytestmark = pytest.mark.filterwarnings("error")  # nbgrader scores 0 for anything on stderr
REPO = Path(__file__).resolve().parents[1]
ANSWERS = [importlib.import_module(f"answers_{lesson}") for lesson in LESSONS]
ALSO_RIGHT = [pair for answers in ANSWERS for pair in answers.ALSO_RIGHT]
WRONG = {slug: wrong for answers in ANSWERS for slug, wrong in answers.WRONG.items()}
FILES = sorted(Path(checks.__file__).parent.rglob("*.py"))
SHARED = {"__init__", "_inputs", "_loop_log", "_mistakes", "_ranks", "_rings", "_uto", "answers", "as_if", "frame"}
SHARED |= {"device", "hidden", "outcome", "pace", "plain", "symptoms", "trial", "wrong"}
GENERIC = "your result differs from what is expected"


@pytest.fixture(autouse=True)
def _kept_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setenv("ITR_ANSWERS", str(tmp_path / "my_answers.py"))


def test_every_exercise_has_the_file_of_its_name_and_every_file_an_exercise():
    found = {path.stem for path in FILES} - SHARED
    assert found == {slug.replace("-", "_") for slug in exercises()}
    assert [exercise(slug).slug for slug in exercises()] == exercises()
    assert len(exercises()) >= 40


def test_the_file_of_a_check_is_read_in_one_sitting():
    lines = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert {name: count for name, count in lines.items() if count > 300} == {}


@pytest.mark.parametrize("slug", exercises())
def test_accepts_the_librarys_answer(slug, capsys):
    check(slug, exercise(slug).library)
    out, err = capsys.readouterr()
    assert out.startswith(f"{slug}: the checks in this notebook passed") and err == ""


@pytest.mark.parametrize(("slug", "answer"), ALSO_RIGHT)
def test_accepts_other_ways_to_be_right(slug, answer, capsys):
    check(slug, answer)
    assert "passed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("slug", "answer", "told"),
    [
        pytest.param(slug, f, told, id=f"{slug}-{i}")
        for slug, wrong in WRONG.items()
        for i, (f, told) in enumerate(wrong)
    ],
)
def test_names_the_mistake(slug, answer, told):
    with pytest.raises(AssertionError) as caught:
        check(slug, answer)
    assert told in str(caught.value)
    assert GENERIC not in str(caught.value)


def test_at_least_eight_wrong_answers_for_every_exercise():
    assert set(WRONG) == set(exercises())
    assert {slug: len(wrong) for slug, wrong in WRONG.items() if len(wrong) < 8} == {}


@pytest.mark.parametrize("slug", exercises())
def test_each_mistake_is_caught_as_itself(slug):
    """The built-in variants are wrong somewhere and recognised by their own message."""
    task = exercise(slug)
    function, toggles = task.family or (None, {})
    family = {
        told: lambda options=options, **inputs: function(**inputs, **options) for told, options in toggles.items()
    }
    for message, mistake in (task.mistakes | family).items():
        with pytest.raises(AssertionError) as caught:
            check(slug, mistake)
        assert message in str(caught.value) or "gradient" in str(caught.value), (message, str(caught.value))


@pytest.mark.parametrize("slug", exercises())
def test_the_first_case_is_the_docstrings_example(slug):
    task = exercise(slug)
    assert task.example is not None, "a beginner is to see one small case fail before the large ones"
    first, inputs = next(iter(all_cases(task)))
    assert first is task.example
    if task.example.worked is not None:
        came = double(as_kind(run(task.library, inputs).value, task.example.worked))
        assert np.allclose(came, double(task.example.worked), rtol=0, atol=6e-4)


def namespaces():
    """The cells of every lesson that learners write, as stubs, and what their imports give them."""
    for path in lesson_sources(REPO):
        source = read_source(path)
        known = {}
        for cell in source.cells:
            imports = cell.cell_type == "code" and [
                node for node in ast.parse(cell.source).body if isinstance(node, ast.Import | ast.ImportFrom)
            ]
            if imports and len(imports) > 2:
                exec(compile(ast.Module(imports, []), path.name, "exec"), known)
        for task in source.exercises:
            yield task.slug, source.cells[task.solution].source, source.cells[task.check].source, known


@pytest.mark.parametrize(("slug", "cell", "call", "known"), [pytest.param(*n, id=n[0]) for n in namespaces()])
def test_a_stub_is_not_attempted_and_the_library_goes_on(slug, cell, call, known, tmp_path, capsys, monkeypatch):
    name = ast.parse(call).body[0].targets[0].id
    path = tmp_path / "cell.py"
    path.write_text(stub(cell, slug))
    space = dict(known)
    exec(compile(path.read_text(), str(path), "exec"), space)
    assert check(slug, space[name]) is exercise(slug).library
    assert capsys.readouterr().out.startswith(f"{slug}: not attempted yet")
    for grader in ({"ITR_GRADING": "1"}, {"NBGRADER_EXECUTION": "autograde"}):
        with monkeypatch.context() as patch:
            for variable, value in grader.items():
                patch.setenv(variable, value)
            with pytest.raises(NotImplementedError):
                check(slug, space[name])


def loud_recall(ranks, k):
    warnings.warn("rounded", stacklevel=1)
    print("loud", file=sys.stderr)
    return 100 * float((ranks <= k).double().mean())


def test_under_grading_nothing_comes_on_standard_error(capsys, monkeypatch):
    monkeypatch.setenv("NBGRADER_EXECUTION", "autograde")
    check("recall-at-k", loud_recall)
    said = capsys.readouterr()
    assert said.err == "" and "passed" in said.out and "loud" in said.out


def test_unknown_exercise_and_forgotten_function():
    with pytest.raises(ValueError, match="did you mean 'info-nce'"):
        check("info-nec", lambda: None)
    with pytest.raises(ValueError, match="no exercise 'nothing'"):
        library("nothing")
    with pytest.raises(AssertionError, match="without calling it"):
        check("info-nce", 3.0)


def test_checks_leave_numpy_generators_alone():
    state = np.random.get_state()[1].copy()
    check("unique-batches", exercise("unique-batches").library)
    assert np.array_equal(state, np.random.get_state()[1])
