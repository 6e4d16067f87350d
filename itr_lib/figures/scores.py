"""How an alignment matrix becomes a score, and what a score costs.

As in :mod:`itr_lib.figures`, every function returns a matplotlib figure that :func:`itr_lib.figures.show` displays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle, pairwise

import matplotlib.patheffects as outline
import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
import torch
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Annotation, Text
from matplotlib.ticker import FormatStrFormatter, NullFormatter
from matplotlib.transforms import Bbox

from itr_lib.figures._draw import COLOURS, RECALLS, REFERENCE, Scores, arrow, as_array, metric_name

LABEL_PLACES = [  # points from the dot, and how the text hangs there: near ones first
    (distance * x, distance * y, ("right", "center", "left")[x + 1], ("top", "center", "bottom")[y + 1])
    for distance in (7, 16, 28, 42, 58)
    for x, y in ((1, 0), (1, 1), (1, -1), (0, 1), (0, -1), (-1, 1), (-1, -1), (-1, 0))
]


def pooling_diagram() -> Figure:
    """How an alignment matrix becomes a score: max over regions, sum over words, and the mirror."""
    words = ["star", "ring", "left"]
    values = np.array([[0.9, 0.3, 0.1], [0.2, 0.8, 0.2], [0.1, 0.2, 0.4], [0.3, 0.7, 0.3]])
    figure, axes = plt.subplots(1, 2, figsize=(9.0, 4.5), width_ratios=[5, 7.4])
    for axis, along, colour in ((axes[0], 0, COLOURS[0]), (axes[1], 1, COLOURS[3])):
        _matrix_cells(axis, values, words, along, colour)
        _pooled_cells(axis, values.max(axis=along), along, colour)
        axis.set(xlim=(-1.5, 3.5 if along == 0 else 5.9), ylim=(7.4, -0.75), aspect="equal")
        axis.axis("off")
    axes[0].set_title("MrSw: every word takes its best region", fontsize=12.5)
    axes[1].set_title("MwSr: every region takes its best word", fontsize=12.5)
    axes[0].text(1.5, 6.95, r"$S = \sum_t \; \max_r \; A_{rt}$", ha="center", va="center", fontsize=15)
    axes[1].text(2.4, 5.25, r"$S = \sum_r \; \max_t \; A_{rt}$", ha="center", va="center", fontsize=15)
    return figure


def _matrix_cells(axis: Axes, values: np.ndarray, words: Sequence[str], along: int, colour: tuple) -> None:
    winners = values == values.max(axis=along, keepdims=True)
    for (row, column), value in np.ndenumerate(values):
        won = winners[row, column]
        axis.add_patch(Rectangle((column, row), 1, 1, fc=(*colour, 0.45) if won else "#f4f4f4", ec="white", lw=2))
        weight = "bold" if won else "normal"
        axis.text(column + 0.5, row + 0.5, f"{value:.1f}", ha="center", va="center", fontsize=14, weight=weight)
    for column, word in enumerate(words):
        axis.text(column + 0.5, -0.15, word, ha="center", va="bottom", fontsize=13, style="italic")
    for row in range(len(values)):
        axis.text(-0.15, row + 0.5, f"region {row}", ha="right", va="center", fontsize=12)


def _pooled_cells(axis: Axes, best: np.ndarray, along: int, colour: tuple) -> None:
    total = f"sum = {best.sum():.1f}"
    for place, value in enumerate(best):
        x, y = (place, 4.75) if along == 0 else (3.75, place)
        start, end = ((x + 0.5, 4.05), (x + 0.5, 4.7)) if along == 0 else ((3.05, y + 0.5), (3.7, y + 0.5))
        arrow(axis, start, end, 1.6)
        axis.add_patch(Rectangle((x, y), 1, 1, fc=(*colour, 0.45), ec="white", lw=2))
        axis.text(x + 0.5, y + 0.5, f"{value:.1f}", ha="center", va="center", fontsize=14, weight="bold")
    if along == 0:
        axis.text(-0.15, 4.4, "max", ha="right", va="center", fontsize=13, color=REFERENCE)
        axis.text(1.5, 5.85, total, ha="center", va="top", fontsize=14, weight="bold", color=colour)
    else:
        axis.text(3.4, -0.15, "max", ha="center", va="bottom", fontsize=13, color=REFERENCE)
        axis.text(4.95, 2.0, total, ha="left", va="center", fontsize=14, weight="bold", color=colour)


def tradeoff(
    points: Mapping[str, tuple[float, float]],
    title: str = "",
    xlabel: str = "seconds",
    ylabel: str = "recall (%)",
    front: Sequence[str] = (),
) -> Figure:
    """What a method costs (log scale) against what it finds: a labelled dot a method, labels kept apart.

    A line joins the methods of ``front``, in the order of their costs.

    Raises:
        ValueError: for no points, a cost that is not above zero, or a name on the front that is no point.
    """
    if unknown := set(front) - set(points):
        raise ValueError(f"front names {sorted(unknown)}, expected some of {list(points)}")
    if not points or min(cost for cost, _ in points.values()) <= 0:
        raise ValueError("points must hold at least one (cost, recall), each cost above 0 for a log scale")
    figure, axis = plt.subplots(figsize=(7.2, 4.2))
    places = np.array(list(points.values()), float)
    for (x, y), colour in zip(places, cycle(COLOURS), strict=False):
        axis.plot(x, y, "o", ms=8, color=colour, mec="white", mew=0.8)
    line = np.array(sorted(points[name] for name in front)).reshape(-1, 2)
    if front:
        axis.plot(*line.T, "--", color=REFERENCE, lw=1.2, zorder=0)
    axis.set(xscale="log", xlabel=xlabel, ylabel=ylabel, title=title)
    axis.margins(0.16)
    axis.xaxis.set_major_formatter(FormatStrFormatter("%g"))
    low, high = axis.get_xlim()
    axis.xaxis.set_minor_formatter(FormatStrFormatter("%g") if high < 5 * low else NullFormatter())
    axis.grid(alpha=0.25)
    figure.canvas.draw()  # settles the layout: labels are placed in pixels
    figure.set_layout_engine("none")
    _place_labels(axis, places, list(points), line)
    return figure


def background_curves(
    counts: Sequence[int],
    measured: Mapping[str, Float[np.ndarray, "counts panels"]],
    labels: Sequence[str],
    title: str = "",
) -> Figure:
    """A panel a measurement against the number of background boxes.

    Args:
        counts: background boxes a picture.
        measured: by coding, what was measured at each count, one column a panel; ``"evenly"`` is drawn as a reference.
        labels: what each panel shows, two or more. What is no recall (``R@``) begins at 0.
        title: what the figure shows.
    """
    alike = all("R@" in label for label in labels)
    figure, axes = plt.subplots(1, len(labels), figsize=(3.3 * len(labels), 3.7), sharey=alike)
    for place, (axis, label) in enumerate(zip(axes, labels, strict=True)):
        for name, values in measured.items():
            style = {"color": REFERENCE, "ls": ":"} if name == "evenly" else {}
            axis.plot(counts, values[:, place], marker="o", ms=4, label=name, **style)
        axis.set(xlabel="background boxes a picture", ylabel=label, xticks=counts)
        if "R@" not in label:
            axis.set_ylim(bottom=0)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower left", ncols=len(measured), frameon=False)
    figure.suptitle(title, x=0.01, ha="left")
    return figure


def _place_labels(
    axis: Axes, places: Float[np.ndarray, "points 2"], names: Sequence[str], line: Float[np.ndarray, "corners 2"]
) -> None:
    """Each label goes to the nearest spot that touches no dot, no earlier label, no edge, and not the line."""
    taken = [Bbox.from_extents(x - 7, y - 7, x + 7, y + 7) for x, y in axis.transData.transform(places)]
    for start, end in pairwise(axis.transData.transform(line)):
        taken += [Bbox.from_extents(x, y, x, y) for x, y in np.linspace(start, end, 200)]
    inside = axis.get_window_extent()
    for name, place in zip(names, places, strict=True):
        for offset in LABEL_PLACES:
            label = _label(axis, name, place, offset)
            box = _extent(label)
            if (
                not any(box.overlaps(other) for other in taken)
                and inside.contains(*box.min)
                and inside.contains(*box.max)
            ):
                break
            label.remove()
        else:  # no room anywhere: the nearest spot is as good as any
            label = _label(axis, name, place, LABEL_PLACES[0])
        taken.append(_extent(label))


def _label(axis: Axes, name: str, place: np.ndarray, offset: tuple[float, float, str, str]) -> Annotation:
    x, y, ha, va = offset
    far = max(abs(x), abs(y)) > 10  # then a line says whose label it is
    line = {"arrowstyle": "-", "color": "#8c8c8c", "lw": 0.8, "shrinkA": 0, "shrinkB": 4} if far else None
    text = {"textcoords": "offset points", "ha": ha, "va": va, "fontsize": 9.5, "arrowprops": line}
    halo = [outline.withStroke(linewidth=3, foreground="white")]
    return axis.annotate(name, place, (x, y), path_effects=halo, **text)


def _extent(label: Annotation) -> Bbox:
    """Where the text stands, in pixels, without the line that an annotation may have."""
    label.update_positions(label.figure.canvas.get_renderer())
    return Text.get_window_extent(label).padded(1)


def similarity_heatmap(
    scores: Scores, rows: Sequence[str], columns: Sequence[str], title: str = "", matches: np.ndarray | None = None
) -> Figure:
    """A small score matrix with its numbers; ``matches`` (bool, same shape) are framed."""
    values = as_array(scores)
    figure, axis = plt.subplots(figsize=(1.6 + 0.85 * values.shape[1], 1.4 + 0.5 * values.shape[0]))
    sns.heatmap(
        values,
        ax=axis,
        annot=values.size <= 120,
        fmt=".2f",
        cmap="viridis",
        xticklabels=list(columns),
        yticklabels=list(rows),
        cbar_kws={"label": "score (cosine)"},
    )
    for i, j in np.argwhere(matches) if matches is not None else []:
        for colour, width in (("black", 4.5), ("white", 2.0)):  # seen on bright cells and on dark ones
            axis.add_patch(Rectangle((j + 0.05, i + 0.05), 0.9, 0.9, fill=False, ec=colour, lw=width))
    axis.tick_params(axis="x", rotation=0, labelsize=8)
    axis.tick_params(axis="y", rotation=0)
    axis.set_title(title)
    return figure


def recall_bars(
    results: Mapping[str, Sequence[Mapping[str, float]]],
    references: Mapping[str, Mapping[str, float]] | None = None,
    metrics: Sequence[str] = RECALLS[:-1],
    title: str = "",
    names: Sequence[str] = (),
) -> Figure:
    """Bars of percentages, one a method: the mean over its runs, each run as a dot, references as lines.

    A metric that a run or a reference lacks has no bar, dot or line. ``names``: what stands under the metrics' bars.
    """
    figure, axis = plt.subplots(figsize=(8.6, 3.4))
    width = 0.8 / len(results)
    for place, ((name, runs), colour) in enumerate(zip(results.items(), cycle(COLOURS), strict=False)):
        at = np.arange(len(metrics)) + (place - (len(results) - 1) / 2) * width
        values = np.array([[run.get(metric, np.nan) for metric in metrics] for run in runs])
        seeds = f" ({len(runs)} seeds)" if len(runs) > 1 else ""
        axis.bar(at, values.mean(axis=0), 0.92 * width, color=(*colour, 0.75), ec=colour, label=f"{name}{seeds}")
        if len(runs) > 1:
            axis.plot(np.tile(at, (len(runs), 1)).T, values.T, "o", ms=2.6, color="black", mew=0)
    for (name, found), style in zip((references or {}).items(), cycle(("-", ":", "--")), strict=False):
        at = [place for place, metric in enumerate(metrics) if metric in found]
        left, right = np.array(at) - 0.45, np.array(at) + 0.45
        axis.hlines([found[metrics[place]] for place in at], left, right, REFERENCE, style, lw=1.4, label=name)
    axis.set_xticks(range(len(metrics)), names or [metric_name(metric) for metric in metrics])
    unit = "queries with a hit (%)" if all("_r" in metric for metric in metrics) else "%"
    axis.set(ylabel=unit, ylim=(0, 105), title=title)
    columns = min(4, len(results) + len(references or {}))
    axis.legend(frameon=False, fontsize=8, ncols=columns, loc="upper left", bbox_to_anchor=(0, -0.2))
    return figure


def embedding_map(
    images: Float[torch.Tensor, "images dim"],
    captions: Float[torch.Tensor, "captions dim"],
    image_of_caption: Int[np.ndarray, " captions"],
    title: str = "",
) -> Figure:
    """Two principal axes of images and captions together; a thin line joins each caption to its image."""
    points = torch.cat([images, captions]).detach().cpu().double()
    points = points - points.mean(dim=0)
    axes_2d = torch.linalg.svd(points, full_matrices=False).Vh[:2]
    # An axis has no sign of its own: fix it, so that two runs draw the same map.
    axes_2d = axes_2d * axes_2d.gather(1, axes_2d.abs().argmax(dim=1, keepdim=True)).sign()
    image_xy, caption_xy = (points @ axes_2d.T).numpy()[: len(images)], (points @ axes_2d.T).numpy()[len(images) :]
    figure, axis = plt.subplots(figsize=(5.6, 4.4))
    for xy, image in zip(caption_xy, image_of_caption, strict=True):
        axis.plot(*zip(xy, image_xy[image], strict=True), color="#8c8c8c", lw=0.4, zorder=1)
    axis.scatter(*caption_xy.T, s=14, color=COLOURS[1], label="captions", zorder=2)
    axis.scatter(*image_xy.T, s=34, color=COLOURS[0], marker="s", label="images", zorder=3)
    axis.set(xlabel="first principal axis", ylabel="second principal axis", title=title)
    axis.legend(frameon=False, fontsize=8)
    return figure
