"""What a loss pushes, how a model collapses, and what a pooling listens to: lesson 01's figures of learning.

As in :mod:`itr_lib.figures`, every function returns a matplotlib figure that :func:`itr_lib.figures.show` displays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from itr_lib.figures._draw import COLOURS, REFERENCE, Scores, as_array


def push_maps(scores: Scores, gradients: Mapping[str, Scores], title: str = "") -> Figure:
    """A score matrix beside the gradients of losses: red scores are pushed down, blue ones up."""
    figure, axes = plt.subplots(1, 1 + len(gradients), figsize=(3.2 * (1 + len(gradients)), 3.1))
    for place, (axis, (name, values)) in enumerate(zip(axes, {"scores": scores, **gradients}.items(), strict=True)):
        values = as_array(values)
        limit = max(float(np.abs(values).max()), 1e-9)
        style = {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit} if place else {"cmap": "viridis"}
        image = axis.imshow(values, **style)
        ticks = range(len(values))
        axis.set(title=name, xlabel="caption", ylabel="image", xticks=ticks, yticks=ticks)
        figure.colorbar(image, ax=axis, shrink=0.75, label="gradient" if place else "score")
    figure.suptitle(title, x=0.01, ha="left")
    return figure


def collapse_curves(
    runs: Mapping[str, Sequence[tuple[float, float]]], floor: float, switch: int | None = None, title: str = ""
) -> Figure:
    """Loss, and likeness of different images, against the step.

    Args:
        runs: by name, for each step the loss and the mean cosine of different images of its batch.
        floor: the loss of a model whose vectors are all the same.
        switch: the step at which the warm-up ends, if there is one.
        title: what the figure shows.
    """
    figure, axes = plt.subplots(1, 2, figsize=(9.2, 3.2))
    for (name, steps), colour in zip(runs.items(), cycle(COLOURS), strict=False):
        for axis, values in zip(axes, np.array(steps, float).T, strict=True):
            axis.plot(np.arange(len(values)), values, color=colour, lw=1.2, label=name)
    axes[0].axhline(floor, color=REFERENCE, ls="--", lw=1, label="all vectors the same")
    axes[0].set(yscale="log", xlabel="step", ylabel="loss per pair")
    axes[1].axhline(1, color=REFERENCE, ls="--", lw=1, label="all vectors the same")
    axes[1].set(xlabel="step", ylabel="cosine of different images", ylim=(-0.05, 1.05))
    for axis in axes if switch else ():
        axis.axvline(switch, color=REFERENCE, ls=":", lw=1, label="end of the warm-up")
    axes[0].legend(frameon=False, fontsize=8)
    figure.suptitle(title, x=0.01, ha="left")
    return figure


def rank_weights(weights: Mapping[str, Float[np.ndarray, " ranks"]], title: str = "") -> Figure:
    """What each place of a sorted set counts: a line a pooling."""
    figure, axis = plt.subplots(figsize=(6.4, 3.0))
    for (name, values), colour in zip(weights.items(), cycle(COLOURS), strict=False):
        axis.plot(np.arange(len(values)), as_array(values), "o-", ms=3.5, color=colour, label=name)
    axis.set(xlabel="place of a value in its dimension (0: the largest)", ylabel="weight", title=title)
    axis.set_ylim(bottom=0)
    axis.legend(frameon=False, fontsize=9)
    return figure
