"""The explorer: a still where a program runs, a widget where a person is, and the right boxes in both."""

from __future__ import annotations

import re
import sys
from dataclasses import replace

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from PIL import Image
from toy import toy_data

from itr_lib.course.kernels import QUIET
from itr_lib.figures import page
from itr_lib.figures.explorer import WIDGET, explorer, page_of, someone_is_there

module = sys.modules["itr_lib.figures.explorer"]  # whose name in the package is the function's
CELL = """
import sys; sys.path.insert(0, {tests!r})
from test_explorer import align, make_data
from itr_lib.figures.explorer import explorer, someone_is_there
explorer(make_data(), align, title="title")
print(someone_is_there())
"""


def make_data():
    starts = np.arange(4)[:, None] / 10 + np.zeros((4, 2))
    boxes = np.tile(np.concatenate([starts, starts + 0.3], axis=1), (3, 1, 1)).astype(np.float32)
    mask = np.tile([True, True, True, False], (3, 1))
    return replace(
        toy_data(images=3, captions=2), boxes=boxes, region_mask=mask,
        open_picture=lambda row: Image.new("RGB", (80, 40), (60 * row, 0, 0)),
    )  # fmt: skip


def align(image, caption):
    """Word t of any caption aligns best with region (image + t) % 3; padding scores high, and must not win."""
    values = np.full((4, 3), 0.1)
    for t in range(3):
        values[(image + t) % 3, t] = 0.5 + 0.1 * t
    values[3] = 9
    return ["<a>", f"caption{caption}", "red"], values


@pytest.fixture
def shown(monkeypatch):
    bundles = []
    for place in (module, page):
        monkeypatch.setattr(place, "display", lambda bundle, raw: bundles.append(bundle))
    yield bundles
    plt.close("all")


@pytest.fixture
def box(monkeypatch):
    """The widget's title, image chooser, caption chooser and page."""
    boxes, build = [], module._widget
    monkeypatch.setattr(module, "_widget", lambda *args: boxes.append(build(*args)) or boxes[-1])
    explorer(make_data(), align, title="a < b", live=True)
    return boxes[0].children


def test_a_program_gets_a_still_with_a_text(shown):
    explorer(make_data(), align, [2, 0], title="a title")
    (bundle,) = shown
    assert set(bundle) == {"text/html", "text/plain"} and "<style" not in bundle["text/html"]
    assert "picture 2" in bundle["text/plain"] and "caption4: region 0 (0.60)" in bundle["text/plain"]
    assert not plt.get_fignums()


def test_a_person_gets_a_widget_and_a_still_for_later(shown):
    explorer(make_data(), align, live=True)
    rules, still, widget = shown
    assert f'alt="{module.STILL}' in still["text/html"] and f'alt^="{module.STILL}"' in rules["text/html"]
    assert widget[WIDGET]["model_id"] and widget["text/html"] == widget["text/plain"] == ""


def test_choosers_change_the_page(shown, box):
    title, image, caption, page = box
    assert "a &lt; b" in title.value
    assert [value for _, value in caption.options] == [0, 1, 2, 4]  # its own two, then one of each other image
    assert "caption0" in page.value and "red</b> → region 2, alignment 0.70" in page.value
    image.value = 1
    assert [value for _, value in caption.options] == [2, 3, 0, 4] and caption.value == 2
    assert "caption2" in page.value and "red</b> → region 0, alignment 0.70" in page.value
    caption.value = 4
    assert "caption4" in page.value and 'alt="picture 1"' in page.value


def test_the_page_marks_the_best_word_and_its_best_box():
    data = make_data()
    words, values = align(0, 0)
    values = np.where(data.region_mask[0][:, None], values, -np.inf)
    page = page_of(data, 0, words, values, "group", (0.5, 0.7))
    labels = re.findall(r"<label>.*?</label>", page)
    assert len(labels) == 3 and [" checked" in label for label in labels] == [False, False, True]
    assert all('name="group"' in label and "data-lm-suppress-shortcuts" in label for label in labels)
    assert "&lt;a&gt;: region 0, alignment 0.50" in labels[0] and "<a>" not in page
    rects = re.findall(r'<rect x="([\d.]+)".*?stroke="(.*?)"', labels[1])
    assert len(rects) == 6 and rects[-1] == ("0.1000", module.OBJECT)  # the best one is drawn last, on top
    assert "rgb(245,245,245)" in labels[0] and "rgb(255,217,47)" in labels[2]
    assert "<b>1.80</b>" in page and 'height="200"' in page


def test_a_pair_is_aligned_once(shown):
    asked = []
    explorer(make_data(), lambda *pair: asked.append(pair) or align(*pair), live=True)
    assert asked == [(0, 0)]


def test_bad_input_is_named(shown):
    data = make_data()
    for call, message in [
        (lambda: explorer(data, align, []), "at least one row"),
        (lambda: explorer(data, align, [3]), "from 0 to 2"),
        (lambda: explorer(data, lambda i, c: (["a"], np.ones((4, 2)))), r"= \(4, 1\)"),
        (lambda: explorer(replace(data, open_picture=None), align), "without pictures"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()


def test_nobody_is_there_without_a_kernel():
    assert someone_is_there() is False


@pytest.mark.parametrize("answers", [True, False])
def test_who_can_answer_is_there(monkeypatch, answers):
    request = {"content": {"code": "1", "allow_stdin": answers}}
    kernel = type("Kernel", (), {"get_parent": lambda self: request})()
    monkeypatch.setattr("IPython.get_ipython", lambda: type("Shell", (), {"kernel": kernel})())
    assert someone_is_there() is answers


@pytest.mark.slow
def test_an_executed_copy_holds_the_still_and_nothing_on_stderr(monkeypatch, repo):
    """A kernel, for seconds: what nbclient (and so papermill and nbconvert) leaves, even inside a Jupyter kernel."""
    monkeypatch.setenv("JPY_SESSION_NAME", "/some/notebook.ipynb")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL.format(tests=str(repo / "tests")))])
    NotebookClient(notebook, config=QUIET, kernel_name="python3", timeout=120).execute()
    still, printed = notebook.cells[0].outputs
    assert set(still.data) == {"text/html", "text/plain"} and module.STILL in still.data["text/html"]
    assert printed.name == "stdout" and printed.text == "False\n"
    assert "widgets" not in notebook.metadata
