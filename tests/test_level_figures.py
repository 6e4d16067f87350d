"""Figures of lesson 05: what they draw is what they were given."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from itr_lib.figures import two_stage as level_figures


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def title_of(axis) -> str:
    """Wherever the figure style of the lessons, or none, has put it."""
    return axis.get_title("left") or axis.get_title()


def cosines(pairs: int, seed: int) -> torch.Tensor:
    vectors = torch.nn.functional.normalize(torch.randn(pairs, 4, generator=torch.Generator().manual_seed(seed)), dim=1)
    return vectors @ vectors.T


def test_maps_show_both_modalities_and_their_difference_in_one_order():
    V, T = cosines(6, 0), cosines(6, 1)
    figure = level_figures.structure_maps({"one": (V, T), "other": (T, T)}, "title")
    drawn = [axis.images[0].get_array() for axis in figure.axes if axis.images and title_of(axis)]
    assert len(drawn) == 6
    np.testing.assert_allclose(drawn[2], np.abs(drawn[1] - drawn[0]), atol=1e-6)
    np.testing.assert_allclose(drawn[1], drawn[3])  # T in both rows
    assert not drawn[5].any()
    np.testing.assert_allclose(np.sort(drawn[0].ravel()), np.sort(V.numpy().ravel()))
    np.testing.assert_allclose(drawn[0].diagonal(), 1, atol=1e-6)
    figure.canvas.draw()


@pytest.mark.parametrize("structures", [{}, {"a": (np.eye(3), np.eye(4))}])
def test_maps_need_matrices_of_one_size(structures):
    with pytest.raises(ValueError, match="at least one model, and matrices that are all of one size"):
        level_figures.structure_maps(structures)


def test_a_dot_for_each_pair_of_pairs():
    V, T = cosines(5, 2), cosines(5, 3)
    figure = level_figures.structure_scatter({"one": (V, T)}, {"one": "a note"}, "title")
    dots = figure.axes[0].lines[0]
    above = np.triu_indices(5, 1)
    assert sorted(dots.get_xdata()) == sorted(V.numpy()[above]) and sorted(dots.get_ydata()) == sorted(T.numpy()[above])
    assert "a note" in title_of(figure.axes[0])
    few = level_figures.structure_scatter({"one": (V, T)}, {"one": ""}, most=3)
    assert len(few.axes[0].lines[0].get_xdata()) == 3


def test_bars_of_the_readings_that_a_model_has():
    runs = [{"global_t2i_r1": 10.0, "local_t2i_r1": 20.0, "t2i_r1": 30.0}] * 2
    axis = level_figures.reading_bars(
        {"both of them": runs, "one": [{"local_t2i_r1": 50.0}]}, {"one": ["local_"]}
    ).axes[0]
    assert [bar.get_height() for bar in axis.patches] == [10, 20, 30, 50]
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["global", "local", "both"]
    assert [len(line.get_ydata()) for line in axis.lines] == [2, 2, 2, 1]


def test_two_stages_change_the_shortlist_alone():
    texts = [t.get_text() for t in level_figures.two_stage_diagram(items=7, shortlist=3).axes[0].texts]
    numbers = [int(text) for text in texts if text.isdigit()]
    assert numbers[:7] == list(range(7)) and numbers[10:] == [3, 4, 5, 6]
    assert sorted(numbers[7:10]) == [0, 1, 2] and numbers[7:10] != [0, 1, 2]


def test_honest_curves_have_a_panel_a_cutoff():
    figure = level_figures.honest_curves([1, 10], {1: [10, 20], 5: [30, 40]}, {1: [90, 80], 5: [95, 85]})
    assert [title_of(axis) for axis in figure.axes] == ["R@1", "R@5"]
    assert [list(line.get_ydata()) for line in figure.axes[1].lines] == [[95, 85], [30, 40]]


def test_one_panel_of_honest_curves_names_what_it_compares():
    figure = level_figures.honest_curves([1, 10], {1: [10, 20]}, {1: [5, 8]}, names=("with", "without"))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["without", "with"]
    assert figure.axes[0].get_ylabel() == "R@1 (%)"


def test_the_chosen_length_is_marked_where_it_was_measured():
    for chosen, marks in ((10, 1), (0, 0)):
        figure = level_figures.length_choice([1, 10, 90], [20.0, 30.0, 31.0], [0.1, 0.4, 2.0], chosen)
        for axis, height, end in zip(figure.axes, (30.0, 0.4), (31.0, 2.0), strict=True):
            marked = [line for line in axis.lines if line.get_markersize() == 11]
            assert [(*line.get_xdata(), *line.get_ydata()) for line in marked] == [(10, height)] * marks
            assert list(axis.lines[1].get_ydata()) == [end, end]


def test_a_weight_is_compared_with_each_reading_alone():
    figure = level_figures.weight_curve([0.1, 1, 10], [20.0, 30.0, 25.0], {"vector": 10.0, "words": 24.0}, "title")
    lines = {line.get_label(): list(line.get_ydata()) for line in figure.axes[0].lines}
    assert lines == {"both": [20, 30, 25], "vector alone": [10, 10], "words alone": [24, 24]}


def test_the_network_is_drawn():
    figure = level_figures.tgdt_diagram("title")
    figure.canvas.draw()
    assert any("no gradient" in text.get_text() for text in figure.axes[0].texts)
