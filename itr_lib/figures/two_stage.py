"""Two readings of one network: what they share, what they find alike, and what a search in two stages costs and finds.

As in :mod:`itr_lib.figures`, every function returns a matplotlib figure that :func:`itr_lib.figures.show` displays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FormatStrFormatter, NullLocator
from scipy.cluster.hierarchy import leaves_list, linkage

from itr_lib.figures._draw import COLOURS, REFERENCE, arrow, as_array, box

Matrix = Float[np.ndarray, "pairs pairs"] | Float[torch.Tensor, "pairs pairs"]
Runs = Sequence[Mapping[str, float]]

READINGS = {"global_": "global", "local_": "local", "": "both"}
BARRIER = COLOURS[3]


def tgdt_diagram(title: str = "") -> Figure:
    """Two branches; their tokens give the local score, and a transformer on top of them the global one."""
    figure, axis = plt.subplots(figsize=(9.6, 4.1))
    lanes = ((1.3, "whole-image token,\nregions", "image branch", 0), (8.3, "[CLS],\nwords", "caption branch", 1))
    for x, given, branch, colour in lanes:
        box(axis, x, 0.35, given, COLOURS[7], 2.2, 0.62)
        box(axis, x, 1.45, f"{branch}\n(transformer)", COLOURS[colour], 2.2, 0.62)
        box(axis, x, 2.55, "tokens", COLOURS[colour], 2.2, 0.5)
        box(axis, x, 3.95, "top (transformer)", COLOURS[colour], 2.2, 0.5)
        for low, high in ((0.68, 1.12), (1.78, 2.28), (2.82, 3.68)):
            arrow(axis, (x, low), (x, high))
        axis.plot([x - 1.15, x + 1.15], [3.2, 3.2], color=BARRIER, lw=2.6, ls=(0, (3, 1.4)))
        inwards = 1 if x < 4 else -1
        arrow(axis, (x + 1.13 * inwards, 2.55), (x + 2.3 * inwards, 2.55))
        arrow(axis, (x + 1.13 * inwards, 3.95), (x + 2.3 * inwards, 3.95))
    axis.text(4.8, 3.2, "no gradient passes down here (detach)", ha="center", va="center", fontsize=10, color=BARRIER)
    box(axis, 4.8, 2.55, "every region with every word:\nMrSw, the local score", COLOURS[2], 2.4, 0.72)
    box(axis, 4.8, 3.95, "first token with first token:\none dot product, the global score", COLOURS[2], 2.4, 0.72)
    axis.set(xlim=(0, 9.6), ylim=(-0.05, 4.45), title=title)
    axis.axis("off")
    return figure


def structure_maps(structures: Mapping[str, tuple[Matrix, Matrix]], title: str = "") -> Figure:
    """For each model the cosines among pictures (V), among their captions (T), and where the two differ.

    All panels have the pairs in one order, which puts next to each other what all the matrices together call alike.

    Raises:
        ValueError: for no model, or matrices that are not all of one size.
    """
    pairs = {name: tuple(as_array(matrix) for matrix in both) for name, both in structures.items()}
    if not pairs or len({matrix.shape for both in pairs.values() for matrix in both}) != 1:
        raise ValueError("structures must hold at least one model, and matrices that are all of one size")
    order = _alike_together(sum(matrix for both in pairs.values() for matrix in both))
    figure, axes = plt.subplots(len(pairs), 3, figsize=(9.4, 2.95 * len(pairs)), squeeze=False)
    for line, (name, (images, texts)) in zip(axes, pairs.items(), strict=True):
        panels = ((images, "pictures, V"), (texts, "captions, T"), (np.abs(texts - images), "|T − V|"))
        for place, (axis, (values, what)) in enumerate(zip(line, panels, strict=True)):
            scale = {"cmap": "magma", "vmin": 0} if place == 2 else {"cmap": "viridis", "vmin": -0.5}
            drawn = axis.imshow(values[np.ix_(order, order)], vmax=1, **scale)
            axis.set(xticks=[], yticks=[], xlabel="the same pairs", title=what)
            if place:
                figure.colorbar(drawn, ax=axis, label="disagreement" if place == 2 else "cosine", shrink=0.85)
        line[0].set_ylabel(f"{name}\n\npairs of a picture and a caption")
    figure.suptitle(title, x=0.01, ha="left")
    return figure


def structure_scatter(
    structures: Mapping[str, tuple[Matrix, Matrix]],
    notes: Mapping[str, str],
    title: str = "",
    margin: float = 0.3,
    most: int = 4000,
) -> Figure:
    """How alike two captions are against how alike their pictures are, a dot a pair of pairs; ``margin`` is shaded."""
    figure, axes = plt.subplots(1, len(structures), figsize=(4.3 * len(structures), 3.9), squeeze=False, sharey=True)
    for axis, (name, both), colour in zip(axes[0], structures.items(), COLOURS, strict=False):
        images, texts = (as_array(matrix) for matrix in both)
        above = np.triu_indices(len(images), 1)
        some = np.random.default_rng(0).permutation(len(above[0]))[:most]
        ends = np.array([-1.0, 1.0])
        band = {"fc": "#dddddd", "ec": "#8c8c8c", "lw": 0.6, "label": f"within {margin:g}"}
        axis.fill_between(ends, ends - margin, ends + margin, **band)
        axis.plot(images[above][some], texts[above][some], ".", ms=3, alpha=0.4, color=colour, mew=0)
        axis.plot(ends, ends, color=REFERENCE, lw=1)
        axis.set(xlim=ends, ylim=ends, aspect="equal", xlabel="cosine of two pictures, $V_{ij}$")
        axis.set_title(f"{name}\n{notes[name]}", fontsize=10.5)
    axes[0][0].set_ylabel("cosine of their captions, $T_{ij}$")
    axes[0][0].legend(frameon=False, fontsize=9, loc="upper left")
    figure.suptitle(title, x=0.01, ha="left")
    return figure


def reading_bars(
    results: Mapping[str, Runs], readings: Mapping[str, Sequence[str]] | None = None, title: str = "", metric="t2i_r1"
) -> Figure:
    """One metric by each reading of each model: the mean over its runs, and each run as a dot.

    Args:
        results: model -> the metrics of its runs, where ``global_`` and ``local_`` before a name say which reading;
            a model with one reading has none of these.
        readings: model -> which readings it has (keys of ``READINGS``); those not named here have all three.
        title: what the figure shows.
        metric: its name without a reading.
    """
    figure, axis = plt.subplots(figsize=(8.6, 3.6))
    for place, (name, runs) in enumerate(results.items()):
        for turn, (before, label) in enumerate(READINGS.items()):
            if before not in (readings or {}).get(name, READINGS):
                continue
            values = [run[before + metric if before + metric in run else metric] for run in runs]
            at = place + 0.27 * (turn - 1)
            axis.bar(at, np.mean(values), 0.25, color=(*COLOURS[turn], 0.75), ec=COLOURS[turn], label=label)
            axis.plot([at] * len(values), values, "o", ms=2.8, color="black", mew=0)
    handles = dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
    axis.legend(
        handles.values(),
        handles.keys(),
        frameon=False,
        fontsize=9,
        ncols=3,
        loc="upper left",
        bbox_to_anchor=(0, -0.17),
    )
    axis.set_xticks(range(len(results)), [name.replace(" ", "\n", 1) for name in results])
    axis.set(ylabel="text to image R@1 (%)" if metric == "t2i_r1" else metric, title=title)
    return figure


def two_stage_diagram(items: int = 14, shortlist: int = 5, title: str = "") -> Figure:
    """All items by the global score; the first few ordered anew; the others behind them as they were."""
    figure, axis = plt.subplots(figsize=(8.8, 2.7))
    anew = [*np.random.default_rng(3).permutation(shortlist), *range(shortlist, items)]
    rows = ((0.0, list(range(items)), "1. all, by the global score"), (2.1, anew, "2. the first anew"))
    for y, order, label in rows:
        for place, item in enumerate(order):
            strong = 0.65 if item < shortlist else 0.15
            axis.add_patch(Rectangle((place, y), 1, 1, fc=(*COLOURS[0], strong), ec="white", lw=2))
            axis.text(place + 0.5, y + 0.5, f"{item}", ha="center", va="center", fontsize=11)
        axis.text(-0.25, y + 0.5, label, ha="right", va="center", fontsize=10.5)
    for place, item in enumerate(anew):
        arrow(axis, (item + 0.5, 1.05), (place + 0.5, 2.05), 1.2 if item < shortlist else 0.5)
    axis.text(shortlist / 2, -0.15, f"shortlist, K = {shortlist}", ha="center", va="bottom", fontsize=10.5)
    rest = "never aligned, order kept"
    axis.text((shortlist + items) / 2, -0.15, rest, ha="center", va="bottom", fontsize=10.5, color=REFERENCE)
    axis.set(xlim=(-4.9, items + 0.1), ylim=(3.2, -0.75), title=title)
    axis.axis("off")
    return figure


def length_choice(
    lengths: Sequence[int], recall: Sequence[float], milliseconds: Sequence[float], chosen: int, title: str = ""
) -> Figure:
    """R@1 and the time of a query against the length of the shortlist, the chosen length marked.

    The last length is that of the gallery: what it finds and takes is drawn on as a dashed line.
    """
    figure, axes = plt.subplots(1, 2, figsize=(8.8, 3.3))
    for axis, values, label in zip(axes, (recall, milliseconds), ("R@1 (%)", "time of a query (ms)"), strict=True):
        axis.plot(lengths, values, "o-", ms=4, color=COLOURS[0], label="two stages")
        axis.axhline(values[-1], color=REFERENCE, ls="--", lw=1.1, label="everything aligned")
        if chosen in lengths:
            mark = {"ms": 11, "mfc": "none", "mew": 2, "color": BARRIER, "label": f"chosen, K = {chosen}"}
            axis.plot(chosen, values[lengths.index(chosen)], "o", **mark)
        _shortlist_axis(axis, lengths, label)
    axes[1].set_ylim(bottom=0)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    figure.suptitle(title, x=0.01, ha="left")
    return figure


def weight_curve(
    weights: Sequence[float], found: Sequence[float], alone: Mapping[str, float], title: str = ""
) -> Figure:
    """R@1 of global + weight * local against the weight (log scale); what each reading finds ``alone`` lies across."""
    figure, axis = plt.subplots(figsize=(6.4, 3.4))
    axis.plot(weights, found, "o-", ms=4, label="both")
    for (name, value), style in zip(alone.items(), (":", "--"), strict=True):
        axis.axhline(value, color=REFERENCE, ls=style, label=f"{name} alone")
    axis.set(xscale="log", xlabel="weight of the local score, w", ylabel="R@1 (%)", title=title)
    axis.xaxis.set_major_formatter(FormatStrFormatter("%g"))
    axis.legend(frameon=False, fontsize=9)
    return figure


def honest_curves(
    shortlists: Sequence[int],
    honest: Mapping[int, Sequence[float]],
    other: Mapping[int, Sequence[float]],
    title: str = "",
    names: tuple[str, str] = ("a miss keeps its global rank", "a miss counts as a hit"),
) -> Figure:
    """R@K against the length of the shortlist, two ways, the gap between them shaded; keys are cutoffs, a panel each.

    ``names``: of ``honest`` and ``other``, by default two ways to rank what is not in the shortlist.
    """
    width = 6.4 if len(honest) == 1 else 3.7 * len(honest)
    figure, axes = plt.subplots(1, len(honest), figsize=(width, 3.4), squeeze=False, sharey=True)
    for axis, cutoff in zip(axes[0], honest, strict=True):
        axis.fill_between(shortlists, honest[cutoff], other[cutoff], color=BARRIER, alpha=0.15, lw=0)
        axis.plot(shortlists, other[cutoff], "s--", ms=4, color=BARRIER, label=names[1])
        axis.plot(shortlists, honest[cutoff], "o-", ms=4, color=COLOURS[0], label=names[0])
        _shortlist_axis(axis, shortlists, f"R@{cutoff} (%)" if axis is axes[0][0] else "")
        if len(honest) > 1:
            axis.set_title(f"R@{cutoff}")
    figure.legend(
        *axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False, fontsize=9
    )
    figure.suptitle(title, x=0.01, ha="left")
    return figure


def _shortlist_axis(axis: Axes, shortlists: Sequence[int], label: str) -> None:
    axis.set(xscale="log", xlabel="length of the shortlist, K", ylabel=label)
    after = [*shortlists[1:], np.inf]  # where two numbers would touch, the larger one stands
    axis.set_xticks([k for k, larger in zip(shortlists, after, strict=True) if larger > 1.5 * k])
    axis.xaxis.set_major_formatter(FormatStrFormatter("%g"))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.grid(alpha=0.2)


def _alike_together(similarity: Float[np.ndarray, "pairs pairs"]) -> list[int]:
    """The leaves of a clustering of the rows, left to right."""
    return leaves_list(linkage(similarity, "average", optimal_ordering=True)).tolist()
