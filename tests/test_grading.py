"""Grading: submissions put back on their lesson, hidden cases, and points that a notebook cannot talk its way to."""

from __future__ import annotations

import importlib
import json
import math
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import nbformat
import numpy as np
import pytest
import small_class
import torch
from small_class import ALL, CLASS, LESSON, RIGHT, SOURCE, copy_with

from itr_lib.checks import LESSONS, exercise, exercises
from itr_lib.checks._inputs import drawn_anew, longer, owners, sizes
from itr_lib.checks.frame import _try, _verify_gradients, all_cases, verify
from itr_lib.checks.hidden import hidden, numbers_of, ordinary, seen
from itr_lib.checks.outcome import Outcome, same
from itr_lib.checks.plain import packed, packed_outcome, unpacked, unpacked_outcome
from itr_lib.course.__main__ import main
from itr_lib.course.apart import Limits
from itr_lib.course.build import as_text, make_notebook
from itr_lib.course.grading import Graded, graded, legible
from itr_lib.course.points import Points, as_json, as_junit, table
from itr_lib.course.submission import definitions, lesson_of, read_submission, repaired, tasks

RELEASED = make_notebook(SOURCE, "learner")
QUICK = Limits(cell_seconds=4, total_seconds=60)

# --- what passes from one process to the other


@pytest.mark.parametrize(
    "value",
    [
        None, True, "text", 3, -(2**80), 0.25, math.inf, [1, [2.0, None]], (1, "a"), {"k": {1, 2}}, {},
        torch.arange(6).reshape(2, 3), torch.zeros(0, 4), torch.tensor(1.5, dtype=torch.bfloat16),
        torch.tensor([True, False]), np.float32(0.5), np.int64(7),
    ],
)  # fmt: skip
def test_plain_values_come_as_they_went(value) -> None:
    came = unpacked(json.loads(json.dumps(packed(value))))
    if isinstance(value, torch.Tensor):
        assert came.dtype == value.dtype and torch.equal(came, value)
    else:
        assert came == value


def test_arrays_nan_and_tensors_with_a_graph_pass() -> None:
    array = np.array([[1, 2], [3, 4]])
    assert np.array_equal(unpacked(packed(array)), array)
    assert math.isnan(unpacked(packed(math.nan)))
    assert not unpacked(packed(torch.ones(2, requires_grad=True) * 2)).requires_grad


def test_of_anything_else_only_the_name_of_its_kind_passes() -> None:
    class Sly(torch.Tensor):
        @classmethod
        def __torch_function__(cls, function, types, args=(), kwargs=None):
            return True

    assert type(unpacked(packed(torch.ones(2).as_subclass(Sly)))) is torch.Tensor
    assert type(unpacked(packed(object()))).__name__ == "object"
    assert callable(unpacked(packed(len)))


@pytest.mark.parametrize(
    "data", [[], {}, {"tensor": "", "dtype": "object", "shape": [0]}, {"tensor": "AA==", "dtype": "int8", "shape": [2]}]
)
def test_what_was_not_packed_is_refused(data) -> None:
    with pytest.raises((ValueError, TypeError, KeyError, RuntimeError)):
        unpacked(data)


def test_an_error_keeps_its_name_and_text() -> None:
    outcome = unpacked_outcome(json.loads(json.dumps(packed_outcome(Outcome(error=ZeroDivisionError("by 0"))))))
    assert type(outcome.error) is ZeroDivisionError and str(outcome.error) == "by 0"


# --- hidden cases


@pytest.mark.parametrize("slug", LESSONS["00"])
def test_hidden_cases_are_other_ones_the_same_each_time_and_right_for_the_right_answer(slug: str) -> None:
    shown, one, again, other = (
        [inputs for _, inputs in all_cases(task)]
        for task in (seen(slug), hidden(slug, "a"), hidden(slug, "a"), hidden(slug, "b"))
    )
    assert len(one) == len(again) and all(
        same(list(x.values()), list(y.values())) for x, y in zip(one, again, strict=True)
    )
    assert [list(map(str, x.values())) for x in one] != [list(map(str, x.values())) for x in other]
    assert [list(map(str, x.values())) for x in one] != [list(map(str, x.values())) for x in shown]
    verify(hidden(slug, "a"), exercise(slug).library)


def refused(slug: str, answer, secret: str) -> bool:
    """Whether the hidden cases of a secret turn an answer down; without looking for a diagnosis, which takes longer."""
    with numbers_of(slug, secret):
        task = hidden(slug, secret)
        try:
            if task.properties:
                return not verify(task, answer)
            trials = []
            for case, inputs in all_cases(task):
                trials.append(_try(task, answer, case, inputs))
                if trials[-1].problem(task.index):
                    return True
            if task.gradients:
                _verify_gradients(task, answer, trials)
        except AssertionError:
            return True
    return False


def passed(lesson: str, secret: str) -> list[tuple[str, str]]:
    wrong = importlib.import_module(f"answers_{lesson}").WRONG.items()
    return [(slug, told) for slug, answers in wrong for one, told in answers if not refused(slug, one, secret)]


def test_hidden_cases_alone_turn_down_every_known_wrong_answer() -> None:
    assert passed("00", "a") == []


@pytest.mark.slow
@pytest.mark.parametrize("secret", ["a", *(pytest.param(one, marks=pytest.mark.nightly) for one in "bc")])
@pytest.mark.parametrize("lesson", LESSONS)
def test_hidden_cases_turn_down_every_known_wrong_answer_whatever_the_secret(lesson: str, secret: str) -> None:
    """Slow: more than a thousand wrong answers. Numbers or shapes that hide a mistake show here."""
    assert passed(lesson, secret) == []


def shapes(inputs: dict) -> tuple:
    """What an answer could know a case by: shapes, lengths, whole numbers."""
    kinds = {torch.Tensor: lambda x: tuple(x.shape), np.ndarray: np.shape, list: len, int: int}
    return tuple(next((of(x) for kind, of in kinds.items() if isinstance(x, kind)), None) for x in inputs.values())


BY_OBJECTS = {"find-the-flaw", "training-loop", "ring-buffer", "momentum-step", "parameter-groups"}


@pytest.mark.parametrize("slug", sorted({*exercises()} - BY_OBJECTS))
def test_an_answer_by_heart_on_the_shapes_of_the_notebook_fails_hidden_cases(slug: str) -> None:
    known, right = {shapes(inputs) for _, inputs in all_cases(seen(slug))}, exercise(slug).library

    def by_heart(*values, **inputs):
        assert not values
        return right(**inputs) if shapes(inputs) in known else "no idea"

    for secret in "abc":
        task = hidden(slug, secret)
        assert refused(slug, by_heart, secret)
        assert shapes(next(all_cases(task))[1]) == shapes(next(all_cases(hidden(slug, secret)))[1])


def test_so_does_one_that_knows_the_objects_by_heart() -> None:
    ring, step = exercise("ring-buffer").library, exercise("momentum-step").library

    def known_queue(size: int, dim: int):
        return ring(size if (size, dim) in {(4, 1), (3, 2), (5, 3), (1, 2), (8, 4)} else 1, dim)

    def known_layers(target, source, momentum):
        if target.layers[0].in_features == 3:
            step(target, source, momentum)

    verify(seen("ring-buffer"), known_queue)
    verify(seen("momentum-step"), known_layers)
    assert refused("ring-buffer", known_queue, "a") and refused("momentum-step", known_layers, "a")
    counts = [
        {tuple(map(len, inputs["batches_of"].__self__.batches)) for _, inputs in all_cases(task)}
        for task in (seen("training-loop"), hidden("training-loop", "a"))
    ]
    assert counts[0] != counts[1]


def test_sizes_are_as_shown_but_for_graders() -> None:
    assert sizes(3, 1, 5, 3) == [3, 1, 5, 3] and owners((4, 1)) == [4, 1] and longer([2, 3]) == [2, 3]
    found = set()
    for number in range(40):
        with drawn_anew(f"s{number}"):
            n, one, m, same_n = sizes(3, 1, 5, 3)
            assert 3 < n <= 6 and one == 1 and 5 < m <= 8 and same_n == n and sizes(3, 1, 5, 3) == [n, 1, m, n]
            assert owners((4, 1))[:2] == [4, 1] and owners((4, 1))[2] == 5 and owners((0, 0)) == [0, 0]
            assert owners(()) == [] and longer([2]) == [2] and longer([2, 3])[:3] == [2, 3, 2]
            found.add((n, m))
    assert len(found) > 5


@pytest.mark.slow
@pytest.mark.parametrize("slug", exercises())
def test_right_answers_of_every_exercise_are_right_on_hidden_cases(slug: str) -> None:
    """Slow: all exercises with three secrets. A case that other numbers make ill-conditioned would show here."""
    for secret in ("a", "b", "c"):
        with numbers_of(slug, secret):
            verify(hidden(slug, secret), exercise(slug).library)


def test_ordinary_cases_have_no_trap_and_no_gradients() -> None:
    half = ordinary(seen("info-nce"))
    assert half.gradients == () and all(not case.trap for case in half.cases())


# --- submissions


def test_an_untouched_copy_needs_no_mending() -> None:
    mended, notes = repaired(make_notebook(SOURCE, "learner"), RELEASED)
    assert notes == [] and as_text(mended) == as_text(RELEASED)
    assert [(task.slug, task.points) for task in tasks(RELEASED)] == [(e.slug, e.points) for e in SOURCE.exercises]


@pytest.mark.parametrize("student", ["everything", "tampered", "lost"])
def test_a_submission_is_put_back_on_its_lesson(student: str) -> None:
    submission = read_submission(as_text(CLASS[student][0]()), "x")
    assert lesson_of(submission, [SOURCE], "x") is SOURCE
    mended, notes = repaired(submission, RELEASED)
    assert as_text(mended) == as_text(copy_with(RIGHT))
    assert bool(notes) == (student != "everything")


def test_further_cells_stay_where_they_were_and_a_lost_one_comes_back() -> None:
    submission = copy_with({})
    places = {cell.id: number for number, cell in enumerate(submission.cells)}
    submission.cells[places["ndcg-solution"]].cell_type = "raw"
    del submission.cells[places["ndcg-check"]]
    submission.cells.insert(places["ndcg-solution"], nbformat.v4.new_code_cell("helper = 1"))
    twin = submission.cells[places["cosine-scores-solution"]].copy()
    submission.cells.insert(places["cosine-scores-solution"] + 1, twin)
    mended, notes = repaired(submission, RELEASED)
    ids = [cell.id for cell in mended.cells]
    assert (
        ids[ids.index("ndcg-solution") - 1] == "own-001" and ids[ids.index("cosine-scores-solution") + 1] == "own-000"
    )
    assert [cell.id for cell in mended.cells if not cell.id.startswith("own")] == [cell.id for cell in RELEASED.cells]
    assert {cell.id: cell.cell_type for cell in mended.cells}["ndcg-solution"] == "code"
    assert "ndcg-check is missing: put back" in notes


def test_of_a_lesson_only_definitions_run() -> None:
    text = "import os\nx = 1\ny = f(2)\n%timeit z\n!ls\nfor i in range(3):\n    print(i)\ndef g():\n    return f(3)\n"
    assert definitions(text) == "import os\nx = 1\ndef g():\n    return f(3)"
    assert definitions("def f(:\n") == ""


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"cells": 3, "nbformat": 4}'])
def test_what_is_no_notebook_or_no_lesson_gets_a_sentence(tmp_path: Path, capsys, text: str) -> None:
    path = tmp_path / "mine.ipynb"
    path.write_text(text)
    assert main(["grade", str(path)]) == 2
    assert "mine.ipynb" in capsys.readouterr().err


# --- points

SOME = Points(
    "ada.ipynb", LESSON,
    (
        Graded("one", 3, 3, "right"), Graded("two", 2, 1, "half right", legible("ties\x1b[0m\ud800 <here>")),
        Graded("three", 1, 0, "not attempted", "x"),
    ),
    ("two-check was changed: put back as it was handed out",),
)  # fmt: skip


def test_points_as_a_table_as_json_and_as_junit() -> None:
    lines = table(SOME).splitlines()
    assert "  two       1 of 2  half right" in lines and lines[-1].split() == ["sum", "4", "of", "6", "67", "%"]
    data = json.loads(as_json(SOME))
    assert (data["earned"], data["points"], data["percent"]) == (4, 6, 66.67)
    suite = ElementTree.fromstring(as_junit(SOME))
    assert (suite.get("tests"), suite.get("failures")) == ("3", "2")
    assert [case.get("name") for case in suite if len(case)] == ["two", "three"]


MIXED = small_class.RIGHT | {
    "image-ranks": "def image_ranks(scores, image_of_caption):\n    while True:\n        pass\n",
    "recall-at-k": 'recall_at_k = library("recall-at-k")',
    "find-the-flaw": 'raise SystemExit("no more")',
}


def test_one_notebook_with_all_kinds_of_trouble(tmp_path: Path) -> None:
    submission = copy_with(MIXED)
    submission.cells.insert(1, nbformat.v4.new_code_cell(small_class.TRICKS))
    verdicts, _ = graded(submission, RELEASED, secret="a", limits=QUICK)
    assert {one.slug: (one.verdict, one.earned) for one in verdicts} == {
        "cosine-scores": ("right", 2), "caption-ranks": ("right", 3), "image-ranks": ("stopped", 0),
        "recall-at-k": ("not attempted", 0), "chance-recall": ("right", 2), "find-the-flaw": ("not attempted", 0),
        "ndcg": ("right", 3),
    }  # fmt: skip
    assert "4 s, the limit" in verdicts[2].told and "SystemExit" in verdicts[5].told


@pytest.mark.slow
@pytest.mark.parametrize("student", CLASS)
def test_a_class_is_graded_to_the_point(tmp_path: Path, capsys, student: str) -> None:
    """Slow: a process for each submission, in which torch is imported."""
    make, points = CLASS[student]
    path, told, junit = tmp_path / f"{student}.ipynb", tmp_path / "points.json", tmp_path / "out" / "junit.xml"
    path.write_text(as_text(make()), encoding="utf-8")
    command = ["grade", str(path), "--json", str(told), "--junit", str(junit), "--seconds", "5", "--secret", "a"]
    assert main([*command, "--threshold", "60"]) == (0 if points >= 0.6 * ALL else 1)
    assert json.loads(told.read_text())["earned"] == points, capsys.readouterr().out
    assert ElementTree.fromstring(junit.read_text()).get("tests") == "7"
