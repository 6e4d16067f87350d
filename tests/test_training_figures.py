"""Figures of lesson 04: what they draw is what they were given."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest

from itr_lib.figures import training as training_figures


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def written(axis):
    return [text.get_text() for text in axis.texts]


def test_a_batch_has_its_positives_and_a_queue_its_masked_keys():
    figure = training_figures.batch_and_queue(batch=3, keys=5, own=((0, 1), (2, 4)))
    texts = written(figure.axes[0])
    assert texts.count("+") == 3 and texts.count("own") == 2
    assert texts.count("−") == 3 * 2 + 3 * 5 - 2
    assert "2 negatives a query" in texts and "up to 5 more, from a queue" in texts


def test_a_ring_wraps_round():
    figure = training_figures.ring_diagram(size=4, batches=(3, 3))
    texts = written(figure.axes[0])
    lines = [[t for t in texts if t.isdigit()][:3], [t for t in texts if t.isdigit()][3:]]
    assert lines == [["0", "1", "2"], ["4", "5", "2", "3"]]
    assert "6 came, 4 filled" in texts
    arrows = [text.xyann[0] for text in figure.axes[0].texts if getattr(text, "arrow_patch", None)]
    assert arrows == [0.5, 3.5, 2.5]  # place 0, then 3, then 2 (6 % 4)


def test_recall_against_shows_means_every_run_and_a_line_a_seed():
    runs = {
        2: [{"t2i_r1": 1.0, "i2t_r1": 5.0}, {"t2i_r1": 3.0, "i2t_r1": 7.0}],
        1: [{"t2i_r1": 0.0, "i2t_r1": 4.0}, {"t2i_r1": 2.0, "i2t_r1": 6.0}],
    }
    axis = training_figures.recall_against(runs, "negatives", labels=["one", "two"]).axes[0]
    drawn = [tuple(line.get_ydata()) for line in axis.lines]
    for values in ((1.0, 2.0), (0.0, 1.0), (2.0, 3.0), (0.0, 2.0), (1.0, 3.0), (5.0, 6.0)):
        assert values in drawn, values
    assert [label.get_text() for label in axis.get_xticklabels()] == ["one", "two"]
    runs[1] = runs[1][:1]  # a seed is missing: no lines between runs that do not belong together
    axis = training_figures.recall_against(runs, "negatives").axes[0]
    assert not [line for line in axis.lines if line.get_linewidth() < 1 and line.get_linestyle() == "-"]


@pytest.mark.parametrize("measured", [{}, {1: []}])
def test_recall_against_needs_runs(measured):
    with pytest.raises(ValueError, match="at least one run"):
        training_figures.recall_against(measured, "negatives")


def test_recall_against_needs_a_label_a_number():
    with pytest.raises(ValueError, match="2 labels for 1 numbers"):
        training_figures.recall_against({1: [{"t2i_r1": 1, "i2t_r1": 2}]}, "x", labels=["a", "b"])


def test_followers_have_a_line_each_in_every_panel():
    steps = np.arange(3)
    values = {0.0: [1, 2, 3], 0.9: [4, 5, 6]}
    figure = training_figures.follower_curves(steps, values, values, steps, values, {"two captions": 0.3}, "title")
    assert [len(axis.lines) for axis in figure.axes] == [2, 2, 3]
    assert figure.axes[2].lines[2].get_ydata()[0] == 0.3
    names = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    assert names == ["momentum 0", "momentum 0.9"]
    figure.canvas.draw()


def test_the_guide_is_drawn():
    training_figures.guide_diagram("title").canvas.draw()


def test_seed_lines_join_the_runs_of_one_seed():
    runs = {"none": [{"t2i_r1": 1.0}, {"t2i_r1": 5.0}], "queue": [{"t2i_r1": 2.0}, {"t2i_r1": 6.0}]}
    axis = training_figures.seed_lines(runs, ("t2i_r1",)).axes[0]
    assert [tuple(line.get_ydata()) for line in axis.lines] == [(1.0, 2.0), (5.0, 6.0)]
    with pytest.raises(ValueError, match="as many for each"):
        training_figures.seed_lines(runs | {"queue": runs["queue"][:1]}, ("t2i_r1",))


def titles(axis):
    """Wherever a title stands: that is a matter of style."""
    return {axis.get_title(loc=place) for place in ("left", "center", "right")}


def test_panels_hold_a_line_for_each_of_what_they_were_given():
    push = training_figures.push_panels([0, 1], {"a": [0, 1], "b": [1, 1]}, [0.1, 0.2, 0.3], {"c": [0, 0, 1]})
    assert [len(axis.lines) for axis in push.axes] == [2, 1] and "3 negatives" in titles(push.axes[1])
    ages = training_figures.key_ages(
        {"m 0": {"keys": [1, 0], "pictures": [1, 1]}, "m 1": {"keys": [1, 1], "pictures": [0, 0]}}
    )
    assert [len(axis.lines) for axis in ages.axes] == [2, 2]
    flat = training_figures.plateau({"loss": ([3.0, 2.0, 1.0], 1.5)})
    assert list(flat.axes[0].lines[1].get_ydata()) == [1.5, 1.5]
