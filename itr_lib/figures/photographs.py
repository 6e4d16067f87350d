"""Figures of lesson 06: what a box takes from a map, answers to sentences, misses to judge, a ladder of results.

As in :mod:`itr_lib.figures`, every function returns a matplotlib figure that :func:`itr_lib.figures.show` displays.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from itr_lib.data.dataset import RetrievalData
from itr_lib.figures._draw import COLOURS, MATCH, OBJECT, REFERENCE, as_it_is, bare, picture


def pooled_cells(
    data: RetrievalData,
    image: int,
    boxes: Mapping[str, Float[np.ndarray, "4"]],
    weights: Sequence[Float[np.ndarray, "height width"]],
    title: str = "",
) -> Figure:
    """A panel a box: the picture under the cells of its map, and in each cell the share that the box takes of it."""
    figure, axes = plt.subplots(1, len(boxes), figsize=(3.6 * len(boxes), 3.3), squeeze=False)
    for axis, (name, box), shares in zip(axes[0], boxes.items(), weights, strict=True):
        shown = data.picture(image)
        axis.imshow(shown, extent=(0, 1, 1, 0), aspect=shown.height / shown.width, alpha=0.75)
        _cells(axis, shares)
        x1, y1, x2, y2 = box
        axis.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, ec=OBJECT, lw=2.4, clip_on=False))
        bare(axis)
        axis.set_title(name, fontsize=10.5)
    figure.suptitle(title, x=0.01, ha="left")
    return figure


def _cells(axis: Axes, shares: Float[np.ndarray, "height width"]) -> None:
    height, width = shares.shape
    for (row, column), share in np.ndenumerate(shares):
        at = (column / width, row / height)
        axis.add_patch(Rectangle(at, 1 / width, 1 / height, fill=False, ec="white", lw=0.6))
        if share > 0.005:
            centre = ((column + 0.5) / width, (row + 0.5) / height)
            ink = {"fc": "white", "ec": "none", "alpha": 0.75, "pad": 0.8}
            axis.text(*centre, f"{100 * share:.0f}", ha="center", va="center", fontsize=7.5, bbox=ink)


def sentence_gallery(
    data: RetrievalData,
    sentences: Sequence[str],
    found: Sequence[Sequence[int]],
    right: Sequence[int],
    title: str = "",
) -> Figure:
    """A row a sentence: the pictures found for it, best first; the one that it should find is framed in green."""
    most = max(map(len, found))
    size = (1.4 * (most + 1.3), 1.02 * len(sentences) + 0.35)
    figure, axes = plt.subplots(len(sentences), most + 1, figsize=size, squeeze=False, width_ratios=[1.3] + [1] * most)
    for line, sentence, rows, meant in zip(axes, sentences, found, right, strict=True):
        line[0].axis("off")
        line[0].text(0, 0.5, as_it_is(textwrap.fill(f"“{sentence}”", 22)), fontsize=8.5, va="center")
        for axis, row in zip(line[1:], rows, strict=True):
            picture(axis, data, int(row), frame=MATCH if row == meant else None)
    figure.suptitle(title, x=0.01, ha="left")
    return figure


def judging_sheet(data: RetrievalData, captions: Sequence[int], found: Sequence[int], title: str = "") -> Figure:
    """Numbered pictures, each over the caption that found it: does it fit?"""
    columns = 5
    lines = -(-len(captions) // columns)
    figure, axes = plt.subplots(lines, columns, figsize=(7.8, 1.8 * lines + 0.3), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for number, (axis, caption, row) in enumerate(zip(axes.flat, captions, found, strict=False), start=1):
        axis.axis("on")
        picture(axis, data, int(row))
        axis.set_title(str(number), fontsize=9, loc="left", pad=2)
        words = textwrap.shorten(data.captions[caption], 78, placeholder=" …")
        axis.text(0, -0.04, as_it_is(textwrap.fill(words, 28)), va="top", fontsize=6.6, transform=axis.transAxes)
    figure.suptitle(title, x=0.01, ha="left")
    return figure


def ladder(
    groups: Mapping[str, Mapping[str, Sequence[float]]], title: str = "", xlabel: str = "text to image R@1 (%)"
) -> Figure:
    """Bars of means, a dot a seed, in groups that each change one thing; the mean is written at its bar.

    Raises:
        ValueError: where no group has a bar.
    """
    bars = [(group, name, values) for group, some in groups.items() for name, values in some.items()]
    if not bars:
        raise ValueError("groups holds no values, expected at least one bar")
    gaps = np.cumsum([at > 0 and bars[at - 1][0] != group for at, (group, *_) in enumerate(bars)])
    places = np.arange(len(bars)) + 1.1 * gaps
    figure, axis = plt.subplots(figsize=(8.2, 0.29 * (places[-1] + 2) + 0.9))
    for place, (group, _, values) in zip(places, bars, strict=True):
        colour = COLOURS[list(groups).index(group) % len(COLOURS)]
        axis.barh(place, np.mean(values), height=0.72, color=(*colour, 0.35), edgecolor=colour)
        axis.plot(values, [place] * len(values), "o", ms=3.5, color=colour)
        axis.text(max(values), place, f"  {np.mean(values):.1f}", va="center", fontsize=9)
    for group in {group: None for group, *_ in bars}:
        first = min(place for place, (other, *_) in zip(places, bars, strict=True) if other == group)
        axis.text(0, first - 0.75, f" {group}", fontsize=9.5, weight="bold", color=REFERENCE, va="center")
    axis.set(yticks=places, yticklabels=[name for _, name, _ in bars], xlabel=xlabel, title=title)
    axis.set_ylim(places[-1] + 0.7, -1.3)
    axis.tick_params(axis="y", length=0)
    axis.margins(x=0.1)
    return figure
