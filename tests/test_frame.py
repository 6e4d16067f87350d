"""The frame of the checks: what is run, what is named, what goes on, and what is kept."""

from __future__ import annotations

import importlib
import linecache
import multiprocessing
from pathlib import Path

import numpy as np
import pytest
import torch

from itr_lib import checks
from itr_lib.checks import answers, check, kept_or_library, library
from itr_lib.checks.frame import Case, Exercise, Rehearsal, verify
from itr_lib.checks.wrong import WrongAnswer


def cases():
    g = torch.Generator().manual_seed(0)
    for rows, trap in ((4, ""), (3, ""), (1, "there is one row")):
        yield Case({"x": torch.randn(rows, 5, generator=g, dtype=torch.float64), "scale": 1.7}, trap)
    yield Case({"x": torch.zeros(2, 5, dtype=torch.float64), "scale": 2.0}, "a row is all zeros")


def shares(x, scale=1.0, absolute=True, divide=True, axis=1):
    """The specification of the exercise below, with ways to get it wrong."""
    x = x.abs() if absolute else x
    total = x.sum(axis, keepdim=True)
    return scale * (x / torch.where(total == 0, 1, total) if divide else x)


SUM = Exercise(
    "shares",
    cases,
    lambda x, scale: shares(x, scale),
    {"the scale is forgotten": lambda x, scale: shares(x)},
    gradients=("x",),
    library=lambda x, scale: shares(x, scale),
    example=Case({"x": torch.tensor([[1.0, 3.0]], dtype=torch.float64), "scale": 4.0}),
    family=(
        shares,
        {"signs stay": {"absolute": False}, "the sum is over columns": {"axis": 0}, "no": {"divide": False}},
    ),
)


def told(answer, exercise=SUM):
    with pytest.raises(WrongAnswer) as caught:
        verify(exercise, answer)
    return str(caught.value)


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """The exercise under a name that check knows, and a file for the answers."""
    monkeypatch.setattr(checks, "exercise", lambda slug: SUM)
    monkeypatch.setenv("ITR_ANSWERS", str(tmp_path / "my_answers.py"))
    monkeypatch.setattr(answers, "chosen", {})
    return tmp_path / "my_answers.py"


def written(folder: Path, text: str) -> dict:
    """What a cell of this text defines, with its source known, as a notebook's is."""
    path = folder / f"cell_{abs(hash(text))}.py"
    path.write_text(text)
    linecache.checkcache()
    space = {"__name__": "__main__"}
    exec(compile(text, str(path), "exec"), space)
    vars(importlib.import_module("__main__")).update({k: v for k, v in space.items() if not k.startswith("__")})
    return space


def test_a_right_answer_passes_in_both_precisions_and_counts_its_cases():
    assert verify(SUM, lambda x, scale: shares(x, scale)).cases == 10


def test_one_mistake_and_two_at_once_are_named_only_where_they_explain_all_cases():
    assert "the scale is forgotten" in told(lambda x, scale: x.abs() / x.abs().sum(1, keepdim=True).clamp(min=1e-9))
    assert "two things: signs stay; and the sum is over columns" in told(
        lambda x, scale: shares(x, scale, absolute=False, axis=0)
    )
    half = lambda x, scale: shares(x) if len(x) > 1 else 3 * shares(x, scale)  # noqa: E731
    assert "the scale is forgotten" not in told(half)


def test_the_docstrings_example_comes_first():
    assert told(lambda x, scale: 2 * shares(x, scale)).startswith("Wrong already on the docstring's example:")
    wrong_in_general = lambda x, scale: shares(x, scale) if len(x) == 1 else x  # noqa: E731
    assert told(wrong_in_general).startswith("The docstring's example comes out right; something else does not:")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda x, scale: None, "is a return missing"),
        (lambda x, scale: shares(x, scale) if len(x) > 1 else None, "returned None here, and a result elsewhere"),
        (lambda x, scale: x.max(dim=1), "take .values"),
        (lambda x, scale: shares, "brackets of a call"),
        (lambda x, scale: "shares", "returned a str"),
        (lambda x, scale: shares(x, scale).sum(), "shape ()"),
        (lambda x, scale: -shares(x, scale), "a sign is turned round"),
        (lambda x, scale: 2 * shares(x, scale), "twice what is expected"),
        (lambda x, scale: shares(x, scale) / 2, "half of what is expected"),
        (lambda x, scale: shares(x, scale) * len(x[0]), "too large by the factor x.shape[1]"),
        (lambda x, scale: shares(x, scale) / len(x[0]), "too small by the factor x.shape[1]"),
        (lambda x, scale: shares(x, scale) + 1, "too large by 1 everywhere"),
        (lambda x, scale: shares(x, scale) - scale, "too small by scale everywhere"),
        (lambda x, scale: shares(x, scale).exp(), "exponential of what is expected"),
        (lambda x, scale: shares(x, scale).flip(1), "in another order"),
        (lambda x, scale: shares(x, scale) if len(x) > 1 else x, "not where there is one row"),
        (lambda x, scale: shares(x, scale) * x.sum() / x.sum(), "not where a row is all zeros"),
        (lambda x, scale: shares(x, 3.0) ** 2, "does not depend on scale"),
        (lambda x, scale: scale * torch.ones_like(x), "the same number everywhere"),
        (lambda x, scale: x.add_(1), "changes its input x in place"),
        (lambda x, scale: shares(x.detach(), scale), "no gradient by x"),
        (lambda x, scale: shares(x.requires_grad_(False), scale), "switches off the gradient of its input x"),
        (lambda x, scale: shares(x, 1 / scale), "1 / scale"),
        (lambda x, scale: shares(x[:1].expand_as(x), scale), "x[0] is used for all"),
        (lambda x, scale: scale * x.abs().numpy() / np.maximum(x.abs().numpy().sum(1, keepdims=True), 1e-9), "numpy"),
    ],
)
def test_symptoms_are_named(answer, message):
    text = told(answer)
    assert message in text, text


def test_a_list_that_is_changed_is_named():
    lists = Exercise("first", lambda: iter([Case({"items": [3, 1, 2]})]), lambda items: items[0])
    assert verify(lists, lambda items: items[0]).cases == 1
    assert "changes its input items" in told(lambda items: items.pop(0), lists)


def test_arrays_lists_and_shape_one_are_accepted_where_no_gradient_is_asked_for():
    right = Exercise("total", lambda: iter([Case({"x": torch.arange(6.0).view(2, 3)})]), lambda x: x.sum())
    for answer in (lambda x: x.numpy().sum(), lambda x: x.sum().view(1), lambda x: float(x.sum())):
        assert verify(right, answer)
    rows = Exercise("rows", right.cases, lambda x: x.sum(1) > 4, exact=True, index=True)
    for answer in (lambda x: x.numpy().sum(1) > 4, lambda x: [bool(row.sum() > 4) for row in x]):
        assert verify(rows, answer).converted
    assert "torch.bool" in told(lambda x: (x.sum(1) > 4).float(), rows)
    order = Exercise("order", right.cases, lambda x: x[0].argsort(), exact=True, index=True)
    assert "torch.long" in told(lambda x: x[0].argsort().float(), order)
    assert "torch.long" in told(lambda x: x[0].numpy().argsort().astype(float), order)


def test_a_crash_shows_the_learners_line_and_no_frame_of_ours(tmp_path):
    space = written(tmp_path, "def own(x, scale):\n    y = x.abs()\n    return y.reshape(7, 7)\n")
    text = told(space["own"])
    assert "in own, line 3: return y.reshape(7, 7)" in text and "RuntimeError" in text
    assert "itr_lib" not in text and "frame.py" not in text
    error = WrongAnswer("one\ntwo")
    assert error._render_traceback_() == ["one", "two"]
    code = f"    return {' + '.join(['x'] * 60)}"
    lines = WrongAnswer(f"{'long ' * 30}\n{code}")._render_traceback_()
    assert [len(line) <= 100 for line in lines] == [True, True, False] and lines[-1] == code
    assert lines[0].endswith("long") and lines[1].startswith("long")


def test_what_check_returns_and_says(kept, capsys):
    answer = lambda x, scale: shares(x, scale)  # noqa: E731
    assert check("shares", answer) is answer
    assert "goes on with yours" in capsys.readouterr().out

    def own(x, scale):
        raise NotImplementedError("write your answer to shares here")

    assert check("shares", own) is SUM.library
    assert "not attempted yet" in capsys.readouterr().out
    assert library("shares") is SUM.library
    with pytest.raises(WrongAnswer) as caught:
        check("shares", lambda x, scale: x)
    assert str(caught.value).splitlines()[-1].endswith('<lambda> = library("shares")')
    assert str(caught.value).startswith("shares: ")


def test_partly_written_is_not_not_attempted(kept, tmp_path, monkeypatch):
    text = 'def own(x, scale):\n    """Doc."""\n    x = x.abs()\n    raise NotImplementedError("write here")\n'
    with pytest.raises(WrongAnswer, match="partly written"):
        check("shares", written(tmp_path, text)["own"])
    two = "class Own:\n    def __call__(self): raise NotImplementedError\n    def b(self): raise NotImplementedError\n"
    assert not answers.begun(written(tmp_path, two)["Own"], parts=2)
    assert answers.begun(
        written(tmp_path, two.replace("b(self): raise NotImplementedError", "b(self): return 1"))["Own"], 2
    )


def test_slow_right_answers_are_praised_and_the_librarys_goes_on(kept, capsys, monkeypatch):
    import dataclasses
    import time

    task = dataclasses.replace(SUM, rehearsal=Rehearsal(lambda: {"x": torch.ones(2, 2), "scale": 1.0}, calls=3000))
    monkeypatch.setattr(checks, "exercise", lambda slug: task)

    def slow(x, scale):
        began = time.process_time()
        while time.process_time() < began + 0.03:
            pass
        return shares(x, scale)

    assert check("shares", slow) is SUM.library
    out = capsys.readouterr().out
    assert "Yours is right, but" in out and "minutes more than the library's" in out
    assert answers.chosen == {"shares": ("too slow", SUM.library)}
    assert "yours is right but slow" in answers.whose_code_ran()
    monkeypatch.setattr(checks, "extra_seconds", lambda *_: (0.0, 0.0))  # a clock read twice could decide twice
    assert kept_or_library("shares") is SUM.library
    assert "as above" in capsys.readouterr().out


def test_kept_answers_are_plain_source_that_stands_alone(kept, tmp_path, capsys):
    text = """import torch
import torch.nn.functional as F
from math import sqrt
EPSILON = 1e-9
table = torch.ones(2)
def total(x, axis):
    return sqrt(1.0) * x.abs().sum(axis, keepdim=True).clamp(min=EPSILON)
def own(x, scale):
    table = total(x, 1)
    return scale * F.relu(x.abs()) / table
def leaning(x, scale):
    return scale * x.abs() / x.abs().sum(1, keepdim=True).clamp(min=EPSILON) * table[0]
"""
    space = written(tmp_path, text)
    check("shares", space["own"])
    source = kept.read_text()
    assert "# %% shares\n" in source and "EPSILON = 1e-09" in source and "from math import sqrt" in source
    assert "def total(x, axis):" in source and "table = torch" not in source
    loaded = answers.load("shares")
    x = torch.randn(3, 4)
    assert torch.equal(loaded(x, 2.0), space["own"](x, 2.0))
    assert kept_or_library("shares") is space["own"]
    answers.chosen.clear()  # in another notebook
    assert torch.equal(kept_or_library("shares")(x, 2.0), loaded(x, 2.0))
    assert "yours, from my_answers.py" in capsys.readouterr().out
    check("shares", space["leaning"])
    assert "Not kept for later lessons: it uses table" in capsys.readouterr().out
    assert "leaning" not in kept.read_text()


def test_a_class_of_a_notebook_is_kept_too(tmp_path):
    text = "import torch\nclass Ring:\n    size = 3\n    def put(self, x):\n        return torch.as_tensor(x)\n"
    assert answers.standalone(written(tmp_path, text)["Ring"]).splitlines()[-2:] == text.splitlines()[-2:]


def test_a_kept_section_that_does_not_run_is_named(kept):
    kept.write_text("# %% shares\nimport nothing_of_that_name\ndef own(x): return x\n")
    with pytest.raises(ValueError, match="the section shares of my_answers.py does not run: ModuleNotFoundError"):
        kept_or_library("shares")
    kept.write_text("# %% other\nx = 1\n")
    assert answers.load("shares") is None


def _keep(path, number):
    import os

    os.environ["ITR_ANSWERS"] = str(path)
    answers.keep(f"slug-{number}", _keep)


def test_two_notebooks_may_keep_answers_at_once(tmp_path):
    path = tmp_path / "my_answers.py"
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_keep, args=(path, number)) for number in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert set(answers.sections(path.read_text())) == {f"slug-{number}" for number in range(2)}
    assert not list(tmp_path.glob("*.partial"))
