"""Figures of lesson 01: what they draw is what they were given."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from itr_lib import figures


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def test_a_push_has_a_map_for_the_scores_and_one_for_each_loss_white_at_zero():
    gradients = {"all": torch.eye(3), "hardest": torch.tensor([[0.0, -2, 0], [0, 0, 1], [0, 0, 0]])}
    figure = figures.push_maps(torch.rand(3, 3), gradients, "pushes")
    maps = [axis for axis in figure.axes if axis.images]
    assert [axis.get_title(loc="left") or axis.get_title() for axis in maps] == ["scores", "all", "hardest"]
    assert maps[2].images[0].get_clim() == (-2, 2)
    assert np.array_equal(maps[2].images[0].get_array(), gradients["hardest"].numpy())


def test_a_collapse_shows_loss_and_likeness_of_every_run_the_floor_and_the_switch():
    runs = {"one": [(2.0, 0.1), (0.5, 0.9)], "other": [(3.0, 0.2)]}
    loss, likeness = figures.collapse_curves(runs, floor=0.4, switch=1).axes
    labels = [line.get_label() for line in loss.lines]
    assert labels == ["one", "other", "all vectors the same", "end of the warm-up"]
    assert loss.lines[0].get_ydata().tolist() == [2.0, 0.5] and likeness.lines[0].get_ydata().tolist() == [0.1, 0.9]
    assert loss.get_yscale() == "log" and set(loss.lines[2].get_ydata()) == {0.4}
    assert "end of the warm-up" not in [line.get_label() for line in figures.collapse_curves(runs, 0.4).axes[0].lines]


def test_rank_weights_count_from_zero():
    axis = figures.rank_weights({"mean": torch.full((4,), 0.25)}).axes[0]
    assert axis.lines[0].get_xdata().tolist() == [0, 1, 2, 3] and axis.get_ylim()[0] == 0
