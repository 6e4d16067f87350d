"""The lesson under way: what its one-line calls show, print, return and refuse."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from toy import toy_data

from itr_lib.data.load import Splits
from itr_lib.evaluation import RetrievalMetrics
from itr_lib.lessons import Lesson, recipes, timing
from itr_lib.lessons import compare as comparing
from itr_lib.training import TrainConfig

MADE = {"two": [(0, 10.0), (1, 14.0)], "one": [(0, 50.0)]}
RECORD = {
    "runs": [
        {
            "variant": name,
            "seed": seed,
            "metrics": {"t2i_r1": value, "global_t2i_r1": value / 2, "ndcg_graph": 0.5, "swaps": 60.0},
            "epochs": [{"loss": 2.0}, {"loss": 1.0 + seed}],
        }
        for name, runs in MADE.items()
        for seed, value in reversed(runs)
    ]
}


@pytest.fixture
def shown(monkeypatch):
    """What is displayed, instead of displaying it."""
    out = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw=False: out.append(data))
    monkeypatch.setattr("itr_lib.figures.page.display", lambda data, raw=False: out.append(data))
    return out


@pytest.fixture
def lesson(monkeypatch):
    monkeypatch.setattr(comparing, "recorded", lambda name, data: RECORD if data == "toy" else None)
    monkeypatch.setattr("itr_lib.data.load_splits", splits, raising=False)
    return Lesson("01_toy", "smoke", "cpu", 0, "toy", "")


def splits(name, root, *, profile):
    parts = (toy_data(images, split=part) for images, part in ((60, "train"), (20, "val"), (20, "test")))
    return Splits(*parts, notes="read from a folder")


class Cells(HTMLParser):
    """The cells of a table's rows."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.styles = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.styles.append(dict(attributes).get("style", ""))
        if tag == "tr":
            self.rows.append([])
        if tag in ("th", "td"):
            self.rows[-1].append([])

    def handle_data(self, data):
        self.rows[-1][-1].append(data)


def test_data_and_tokenizer_come_in_one_call(lesson, capsys):
    found, tokenizer = lesson.load()
    assert (found, tokenizer) == (lesson.splits, lesson.tokenizer)
    assert f"images: train 60, val 20, test 20 · {len(tokenizer)} word pieces" in capsys.readouterr().out


@pytest.mark.parametrize("call", ["train", "test", "compare"])
def test_without_data_the_call_that_is_missing_is_named(lesson, call, shown):
    arguments = {
        "train": (None, None, TrainConfig(1)),
        "test": (None,),
        "compare": ({"a": {"t2i_r1": 1.0}}, ["t2i_r1"]),
    }
    with pytest.raises(ValueError, match=r"lesson\.load\(\)"):
        getattr(lesson, call)(*arguments[call])


def test_any_callable_trains_on_the_lessons_data_or_other_data(lesson, capsys):
    found, tokenizer = lesson.load()
    recipe, sizes = recipes.vse("smoke"), []
    model = recipe.build(found.train, tokenizer)

    def loss(model, batch, epoch):
        sizes.append(len(batch.same_image))
        return recipe.objective(model, batch, epoch)

    history = lesson.train(model, loss, TrainConfig(epochs=2, batch_size=20), label="mine")
    steps = len(sizes)
    assert len(history.epochs) == 2 and not model.training and steps == 2 * 9
    best = max(epoch["rsum"] for epoch in history.epochs)
    assert re.search(rf"mine: 2 epochs, \d+ s; best validation rSum {best:.1f}\n", capsys.readouterr().out)
    lesson.train(model, loss, TrainConfig(epochs=1, batch_size=20), data=found.train.take(range(20)))
    assert len(sizes) == steps + 3 and "training: 1 epoch, " in capsys.readouterr().out
    scores, metrics = lesson.test(model)
    assert scores.shape == (20, 60) and scores.device.type == "cpu" and isinstance(metrics, RetrievalMetrics)


def test_a_loss_that_breaks_is_named(lesson):
    found, tokenizer = lesson.load()
    model = recipes.vse("smoke").build(found.train, tokenizer)
    with pytest.raises(FloatingPointError, match="epoch 0, step 0"):
        lesson.train(
            model, lambda model, batch, epoch: torch.log(-next(model.parameters()).abs().sum()), TrainConfig(1)
        )


def test_this_run_stands_beside_recorded_ones(lesson, shown, capsys):
    lesson.load()
    capsys.readouterr()
    mine = {"t2i_r1": 20.0, "swaps": 55.0}
    given = {"yours": mine, "recorded": "two", "global": ("two", "global"), "elsewhere": "02_other/one"}
    lesson.compare(given, ["t2i_r1", "ndcg_graph", "swaps"], title="A title")
    figure, table = shown
    assert "yours" in figure["text/html"].lower() and "A title" in figure["text/html"]
    rows = Cells(table["text/html"]).rows
    assert [row[0][0] for row in rows[1:]] == ["yours", "recorded", "global", "elsewhere", "chance"]
    assert rows[0][1:] == [["text→image R@1"], ["NDCG@25"], ["swapped twins"]]
    assert rows[1] == [["yours", "▸ this run"], ["20.0"], ["–"], ["55.0"]]
    assert rows[2] == [
        ["recorded", "2 seeds"],
        ["12.0", "10.0 to 14.0"],
        ["0.50", "0.50 to 0.50"],
        ["60.0", "60.0 to 60.0"],
    ]
    assert rows[3][1] == ["6.0", "5.0 to 7.0"] and rows[5][1] == ["5.0"] and rows[5][3] == ["50.0"]
    assert "yours (this run): text→image R@1 20.0" in table["text/plain"] and capsys.readouterr().out == ""
    assert not any(
        word in style for style in Cells(table["text/html"]).styles for word in ("black", "white", "background")
    )


def test_without_bars_the_table_has_the_title(lesson, shown):
    lesson.load()
    lesson.compare({"a": "one"}, ["t2i_r1"], title="<A> title", bars=False)
    lesson.compare({"a": "one"}, ["ndcg_graph"])  # nothing that could be a bar
    assert len(shown) == 2 and "&lt;A&gt; title</caption>" in shown[0]["text/html"] and "<img" not in str(shown)


def test_what_is_not_recorded_for_these_data_is_left_out(lesson, shown, capsys):
    lesson.load()
    lesson.data = "other"
    capsys.readouterr()
    lesson.compare({"yours": {"t2i_r1": 3.0}, "theirs": "two", "more": "one"}, ["t2i_r1"], bars=False)
    assert capsys.readouterr().out == "Not recorded for other, and left out: theirs, more.\n"
    assert [row[0][0] for row in Cells(shown[0]["text/html"]).rows[1:]] == ["yours", "chance"]
    lesson.compare({"theirs": "two"}, ["t2i_r1"])
    assert len(shown) == 1 and lesson.runs("two") == lesson.recorded("two", "t2i_r1") == []


def test_a_perfect_reader_where_the_truth_is_known(lesson, shown, monkeypatch):
    lesson.load()
    true = np.eye(20, dtype=bool).repeat(3, axis=1)
    true[0, 3:6] = True  # captions of picture 1 are true of picture 0, too
    known = type("Truth", (), {"scenes": None, "captions": None})()
    test = replace(lesson.splits.test, truth=known)
    lesson.splits = replace(lesson.splits, test=test)
    monkeypatch.setattr("itr_lib.data.scenes.truth_matrix", lambda scenes, captions: true)
    found = lesson.references()
    assert found["ceiling"]["t2i_r1"] == pytest.approx(97.5) and found["ceiling"]["i2t_r1"] == pytest.approx(100)
    assert found["chance"]["t2i_r1"] == pytest.approx(5) and found["chance"]["swaps"] == 50
    assert lesson.references() is found


@pytest.mark.parametrize(
    ("results", "metrics", "message"),
    [
        ({"a": "three"}, ["t2i_r1"], "'three' is recorded for 01_toy and toy: known are 'one', 'two'"),
        ({"a": "02_other/three"}, ["t2i_r1"], "'three' is recorded for 02_other"),
        ({"a": "one"}, ["r1"], "'r1': these rows have global_t2i_r1, loss"),
        ({"a": "one"}, [], "metrics names nothing"),
        ({"a": ("one", "local")}, ["t2i_r1"], "'one' has no reading 'local'"),
        ({"a": 3.0}, ["t2i_r1"], "'a' is a float, expected metrics of this run"),
    ],
)
def test_what_cannot_be_compared_is_named(lesson, shown, results, metrics, message):
    lesson.load()
    with pytest.raises(ValueError, match=message):
        lesson.compare(results, metrics)
    assert not shown


def test_recorded_values_in_the_order_of_their_seeds(lesson):
    assert lesson.recorded("two", "t2i_r1") == [10.0, 14.0] and lesson.recorded("two", "loss") == [1.0, 2.0]
    with pytest.raises(ValueError, match="'two' has no metric 'r1': recorded are global_t2i_r1, loss"):
        lesson.recorded("two", "r1")
    with pytest.raises(ValueError, match="known are 'one', 'two'"):
        lesson.recorded("three", "t2i_r1")


def test_said_shown_and_told_the_time(lesson, shown, capsys):
    lesson.say("**12.3** %")
    figure, axis = plt.subplots()
    axis.plot([1, 2], [3, 4], label="a line")
    lesson.show(figure)
    lesson.show(plt.figure(), alt="a sketch")
    lesson.clock()
    assert shown[0] == {"text/markdown": "**12.3** %", "text/plain": "**12.3** %"}
    assert shown[1]["text/plain"] == "[figure: A line from 3 to 4.]" and 'alt="a sketch"' in shown[2]["text/html"]
    assert capsys.readouterr().out == "00:00 since the start\n" and not plt.get_fignums()


def test_a_lesson_opens_without_torch_and_plots():
    code = "import sys, itr_lib.lessons; assert not {'torch', 'transformers', 'matplotlib'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_bill_has_a_row_a_way():
    ways = {"sum": lambda x, y: (x * y).sum(dim=1), "product": lambda x, y: x @ y.T}
    inputs = torch.ones(2**10, 64), torch.ones(2**10, 64)
    told = timing.bill(ways, inputs, repeats=1)
    assert list(told.index) == ["sum", "product"] and list(told.columns)[0] == "forward (ms)"
    assert list(timing.bill(ways, inputs, unit=1.0, repeats=1).columns) == ["forward", "and backward", "kept (MiB)"]
    assert not inputs[0].requires_grad


def test_queries_are_timed_one_by_one(lesson):
    splits, tokenizer = lesson.load()
    asked, model = [], recipes.vse("smoke").build(splits.train, tokenizer)
    model.scores = lambda images, captions: asked.append(captions) or images @ captions.T
    cost = timing.query_milliseconds({"one": model}, tokenizer, splits.test, queries=7)
    assert cost["one"] > 0 and [len(caption) for caption in asked] == [1] * (5 + 7)  # five of them warm up
    assert torch.equal(asked[0], asked[5]) and not torch.equal(asked[5], asked[-1])
