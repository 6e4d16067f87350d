"""Figures of alignment: what they frame, tick and order is right, and labels keep clear of each other."""

from __future__ import annotations

from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.text import Text
from PIL import Image
from toy import toy_data

from itr_lib.figures import alignment as alignment_figures
from itr_lib.figures import scores as score_figures
from itr_lib.figures.alignment import alignment_heatmap, as_alignment, attention_boxes, word_boxes
from itr_lib.figures.scores import pooling_diagram, tradeoff


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture
def data():
    """Two images of four regions, the last one padded; region r's box begins at r / 10."""
    starts = np.arange(4)[:, None] / 10 + np.zeros((4, 2))
    boxes = np.tile(np.concatenate([starts, starts + 0.3], axis=1), (2, 1, 1)).astype(np.float32)
    mask = np.tile([True, True, True, False], (2, 1))
    return replace(
        toy_data(images=2), boxes=boxes, region_mask=mask, open_picture=lambda row: Image.new("RGB", (100, 50))
    )


def boxes_of(axis, style):
    return [round(p.get_x() / 10) for p in axis.patches if to_hex(p.get_edgecolor()) == to_hex(style["ec"])]


def row_labels(figure):
    return [label.get_text() for label in figure.axes[0].get_yticklabels()]


def test_heatmap_orders_regions_by_the_words_they_win():
    values = torch.tensor([[0.1, 0.2, 0.1], [0.0, 0.9, 0.0], [0.8, 0.0, 0.7], [0.5, 0.0, 0.0], [-1.0, -1.0, -1.0]])
    figure = alignment_heatmap(values, ["a", "b", "c"], "title", most=4)
    assert row_labels(figure) == ["region 2", "region 1", "region 3", "region 0"]
    assert [text.get_text() for text in figure.axes[0].texts] == ["0.80", "0.90", "0.70"]
    assert len(figure.axes[0].patches) == 6  # two strokes a frame
    plain = alignment_heatmap(values, ["a", "b", "c"], winners=False)  # nothing that gives an answer away
    assert not plain.axes[0].patches and row_labels(plain) == [f"region {r}" for r in range(5)]


def test_heatmap_keeps_the_strongest_winners_and_drops_padding():
    values = np.diag([0.1, 0.9, 0.8, 0.7])
    figure = alignment_heatmap(values, list("abcd"), most=3)
    assert row_labels(figure) == ["region 1", "region 2", "region 3"]
    assert len(figure.axes[0].texts) == 3
    padded = np.vstack([np.ones((1, 2)), np.full((2, 2), -np.inf)])
    assert row_labels(alignment_heatmap(padded, ["a", "b"])) == ["region 0"]


def test_best_region_next_two_and_where_the_object_is(data):
    values = np.array([[0.9, 0.1], [0.3, 0.5], [0.2, 0.4], [9.0, 9.0]])  # the padded region would win
    right = [np.array([1, 0, 0, 1], bool), np.array([1, 0, 1, 0], bool)]
    figure = word_boxes(data, 0, ["star", "red"], values, "title", right)
    first, second = figure.axes[:2]
    assert boxes_of(first, alignment_figures.BEST) == [0] and boxes_of(first, alignment_figures.NEXT) == [1, 2]
    assert boxes_of(first, alignment_figures.RIGHT) == []
    assert first.get_title() == "star ✓"
    assert boxes_of(second, alignment_figures.BEST) == [1] and boxes_of(second, alignment_figures.RIGHT) == [2]
    assert second.get_title() == "red ✗"
    assert "0.90" in [text.get_text() for text in first.texts]


def test_a_word_whose_object_has_no_box_says_so(data):
    figure = word_boxes(data, 0, ["star"], np.ones((4, 1)), right=[np.array([0, 0, 0, 1], bool)])
    assert figure.axes[0].get_title() == "star ✗ (no box)"
    assert word_boxes(data, 0, ["star"], np.ones((4, 1))).axes[0].get_title() == "star"


def test_attention_says_how_many_boxes_hold_the_weight(data):
    spread = torch.tensor([0.4, 0.3, 0.25, 0.05])
    figure = attention_boxes(data, 0, "star", {"soft": spread, "hard": np.array([0, 1, 0, 0])})
    titles = [axis.get_title() for axis in figure.axes[:2]]
    assert titles == ["soft\n90 % of the weight on 3 boxes", "hard\n90 % of the weight on 1 box"]
    bars = [bar.get_height() for bar in figure.axes[2].patches]
    assert np.allclose(bars, sorted(bars, reverse=True)) and np.isclose(sum(bars), 1)
    assert [label.get_text() for label in figure.axes[3].get_xticklabels()] == ["1", "", "", ""]


def test_the_diagram_adds_up():
    figure = pooling_diagram()
    texts = [text.get_text() for axis in figure.axes for text in axis.texts]
    assert "sum = 2.1" in texts and "sum = 2.8" in texts
    figure.canvas.draw()


CROWDS = {
    "spread": {f"method {i}": (10.0**i, 10 * i) for i in range(-2, 3)},
    "crowded": {f"a method named {i}": (1 + i / 50, 50 + (i % 3) / 10) for i in range(8)},
    "one": {"alone": (0.5, 50.0)},
}


@pytest.mark.parametrize("name", CROWDS)
def test_labels_touch_neither_each_other_nor_a_dot_nor_the_edge(name):
    figure = tradeoff(CROWDS[name], "title")
    figure.canvas.draw()
    axis = figure.axes[0]
    labels = [text for text in axis.texts if text.get_text()]
    assert [text.get_text() for text in labels] == list(CROWDS[name])
    boxes = [Text.get_window_extent(text) for text in labels]  # without the line of an annotation
    dots = axis.transData.transform([line.get_xydata()[0] for line in axis.lines])
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[i + 1 :])
        assert not any(box.contains(*dot) for dot in dots)
        assert axis.get_window_extent().contains(*box.min) and axis.get_window_extent().contains(*box.max)


def test_more_points_than_room_are_labelled_all_the_same():
    same_place = {f"a method with a long name, number {i}": (1.0, 50.0) for i in range(60)}
    labels = [text for text in tradeoff(same_place).axes[0].texts if text.get_text()]
    assert len(labels) == 60


def test_bad_input_is_named(data):
    ones = np.ones((4, 1))
    for call, message in [
        (lambda: alignment_heatmap(ones, ["a", "b"]), r"\(4, 1\), expected \(regions, words\) = \(4, 2\)"),
        (lambda: alignment_heatmap(np.ones(4), ["a"]), "expected"),
        (lambda: alignment_heatmap(np.full((4, 1), np.nan), ["a"]), "finite"),
        (lambda: word_boxes(data, 0, ["a"], np.ones((3, 1))), r"= \(4, 1\)"),
        (lambda: word_boxes(data, 0, ["a"], ones, right=[np.ones(3, bool)]), "one a word"),
        (lambda: attention_boxes(data, 0, "a", {"soft": np.ones(4)}), "sum to 4.000"),
        (lambda: attention_boxes(data, 0, "a", {"soft": np.ones(3) / 3}), "one a region"),
        (lambda: attention_boxes(data, 0, "a", {}), "at least one"),
        (lambda: tradeoff({"a": (0.0, 1.0)}), "above 0"),
        (lambda: tradeoff({}), "at least one"),
        (lambda: as_alignment(np.ones((4, 0)), []), "expected"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()


def test_the_input_is_left_alone(data):
    values = np.ones((4, 1))
    as_alignment(values, ["a"], data.region_mask[0])
    assert (values == 1).all()
    assert score_figures.LABEL_PLACES[0][:2] == (7, 0)
