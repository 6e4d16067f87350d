"""What a batch and a queue hold, how keys follow, and what came of it.

As in :mod:`itr_lib.figures`, every function returns a matplotlib figure that :func:`itr_lib.figures.show` displays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, NullLocator

from itr_lib.figures._draw import COLOURS, MATCH, REFERENCE, arrow, box, metric_name

QUEUED = COLOURS[0]
EMPTY = "#f4f4f4"
DIRECTIONS = {"t2i_r1": "text to image", "i2t_r1": "image to text"}


def batch_and_queue(
    batch: int = 4, keys: int = 8, own: Sequence[tuple[int, int]] = ((1, 5),), title: str = ""
) -> Figure:
    """The scores of a batch, and the columns that a queue of ``keys`` adds.

    ``own``: (row, key) where a key belongs to the picture of that row, which makes it no negative.
    """
    figure, axis = plt.subplots(figsize=(8.2, 3.3))
    for row in range(batch):
        for column in range(batch):
            colour = MATCH if row == column else "#c9c9c9"
            _cell(axis, column, row, colour, "+" if row == column else "−")
        for key in range(keys):
            masked = (row, key) in own
            _cell(axis, batch + 0.6 + key, row, EMPTY if masked else (*QUEUED, 0.45), "" if masked else "−")
            if masked:
                axis.text(batch + 1.1 + key, row + 0.5, "own", ha="center", va="center", fontsize=8.5, color=REFERENCE)
        axis.text(-0.15, row + 0.5, f"image {row}", ha="right", va="center", fontsize=10.5)
    axis.text(batch / 2, -0.15, "captions of the batch", ha="center", va="bottom", fontsize=10.5)
    axis.text(batch + 0.6 + keys / 2, -0.15, "captions of earlier batches", ha="center", va="bottom", fontsize=10.5)
    counts = f"{batch - 1} negatives a query", f"up to {keys} more, from a queue"
    for middle, text in zip((batch / 2, batch + 0.6 + keys / 2), counts, strict=True):
        axis.text(middle, batch + 0.2, text, ha="center", va="top", fontsize=10.5, color=REFERENCE)
    axis.set(xlim=(-1.4, batch + 0.7 + keys), ylim=(batch + 0.8, -0.7), aspect="equal", title=title)
    axis.axis("off")
    return figure


def ring_diagram(size: int = 8, batches: Sequence[int] = (3, 3, 4), title: str = "") -> Figure:
    """A ring buffer before anything came and after each batch: which key stands where, and where the next one goes."""
    figure, axis = plt.subplots(figsize=(8.0, 0.95 * (len(batches) + 1)))
    slots, came = [None] * size, 0
    for line, new in enumerate([0, *batches]):
        fresh = [(came + turn) % size for turn in range(new)]
        for turn, place in enumerate(fresh):
            slots[place] = came + turn
        came += new
        for place, key in enumerate(slots):
            strong = 0.75 if place in fresh else 0.28
            _cell(axis, place, 1.5 * line, EMPTY if key is None else (*QUEUED, strong), "" if key is None else f"{key}")
        axis.annotate(
            "", (came % size + 0.5, 1.5 * line + 1.02), (came % size + 0.5, 1.5 * line + 1.4),
            arrowprops={"arrowstyle": "-|>", "color": COLOURS[3], "lw": 1.8},
        )  # fmt: skip
        label = "empty" if not line else f"+ {new} keys"
        axis.text(-0.2, 1.5 * line + 0.5, label, ha="right", va="center", fontsize=10.5)
        told = f"{came} came, {min(came, size)} filled"
        axis.text(size + 0.25, 1.5 * line + 0.5, told, ha="left", va="center", fontsize=10.5, color=REFERENCE)
    axis.set(xlim=(-1.5, size + 3.2), ylim=(1.5 * (len(batches) + 1) + 0.05, -0.15), aspect="equal", title=title)
    axis.axis("off")
    return figure


def guide_diagram(title: str = "") -> Figure:
    """The picture's vector, made of its regions or by a CLIP, goes back to each region."""
    figure, axis = plt.subplots(figsize=(8.4, 3.0))
    for place in range(4):
        y = 0.5 + 0.8 * place
        for x, name, colour in (
            (0.4, f"$x_{3 - place}$", COLOURS[7]),
            (6.7, f"$x_{3 - place} + b_{3 - place}\\, g$", COLOURS[0]),
        ):
            box(axis, x, y, name, colour, 0.62 if x < 1 else 1.5)
        arrow(axis, (0.78, y), (2.45, 1.95), 0.9)
        arrow(axis, (4.15, 1.95), (5.85, y), 0.9)
    box(axis, 3.3, 1.95, "one vector $g$\nfor the picture", COLOURS[1], 1.6, 0.85)
    axis.text(1.55, 3.5, "attention $a_r$ (SGE)", ha="center", fontsize=10)
    axis.text(4.95, 3.5, "shares $b_r$", ha="center", fontsize=10)
    box(axis, 3.3, 0.35, "a frozen CLIP (CGE)", COLOURS[2], 1.9)
    arrow(axis, (3.3, 0.66), (3.3, 1.47), 1.4)
    axis.set(xlim=(-0.1, 7.7), ylim=(0, 3.75), title=title)
    axis.axis("off")
    return figure


def recall_against(
    measured: Mapping[float, Sequence[Mapping[str, float]]], xlabel: str, title: str = "", labels: Sequence[str] = ()
) -> Figure:
    """R@1 in both directions against a number of something (log scale): the mean as a line, each run as a dot.

    Where every number has as many runs, a thin line joins the first runs of all, the second ones, and so on: give them
    in the order of their seeds.

    Args:
        measured: number -> the metrics of its runs, a dictionary a run.
        xlabel: what the number counts.
        title: what the figure shows.
        labels: what stands at the ticks instead of the numbers, one each.

    Raises:
        ValueError: for no runs, or labels that are not as many as numbers.
    """
    if not measured or not all(measured.values()):
        raise ValueError("measured is empty or holds a number without a run: expected at least one run each")
    if labels and len(labels) != len(measured):
        raise ValueError(f"{len(labels)} labels for {len(measured)} numbers: expected one each")
    figure, axis = plt.subplots(figsize=(6.4, 3.4))
    at = np.array(sorted(measured), dtype=float)
    for (metric, name), colour, mark in zip(DIRECTIONS.items(), COLOURS, "os", strict=False):
        runs = [[run[metric] for run in measured[number]] for number in sorted(measured)]
        axis.plot(at, [np.mean(values) for values in runs], "-", color=colour, lw=2, label=name)
        if len({len(values) for values in runs}) == 1 < len(runs[0]):
            axis.plot(at, runs, "-", color=colour, lw=0.7, alpha=0.5)
        for number, values in zip(at, runs, strict=True):
            axis.plot([number] * len(values), values, mark, ms=4, color=colour, alpha=0.75, mec="white", mew=0.4)
    axis.set(xscale="log", xlabel=xlabel, ylabel="R@1 (%)", title=title)
    axis.set_xticks(at, labels or [f"{number:g}" for number in at])
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_ylim(bottom=0)
    axis.legend(frameon=False, fontsize=9)
    return figure


def follower_curves(
    steps: Sequence[int] | Int[np.ndarray, " steps"],
    cosines: Mapping[float, Sequence[float]],
    recalls: Mapping[float, Sequence[float]],
    ages: Sequence[int] | Int[np.ndarray, " ages"],
    kept: Mapping[float, Sequence[float]],
    references: Mapping[str, float],
    title: str = "",
) -> Figure:
    """Key encoders of several momenta beside the encoder that they follow.

    Args:
        steps: when the encoders were looked at.
        cosines: momentum -> at each step, the mean cosine of its captions with the encoder's own.
        recalls: momentum -> at each step, R@1 of the encoder's images among its captions (%).
        ages: in steps.
        kept: momentum -> for each age, the mean cosine of its keys of that age with those it makes now.
        references: horizontal lines of the third panel by name.
        title: what the figure shows.
    """
    figure, axes = plt.subplots(1, 3, figsize=(11.4, 3.6))
    panels = ((axes[0], steps, cosines), (axes[1], steps, recalls), (axes[2], ages, kept))
    for axis, at, by_momentum in panels:
        for (momentum, values), colour, style in zip(
            by_momentum.items(), COLOURS, ("-", "--", "-.", ":"), strict=False
        ):
            axis.plot(at, values, style, color=colour, lw=1.8, label=f"momentum {momentum:g}")
        axis.grid(alpha=0.2)
    for (name, value), style in zip(references.items(), ((0, (1, 3)), (0, (4, 3))), strict=False):
        axes[2].axhline(value, color=REFERENCE, ls=style, lw=1.2, label=name)
    axes[0].set(xlabel="training step", ylabel="cosine with the encoder's own")
    axes[1].set(xlabel="training step", ylabel="R@1 among these keys (%)")
    axes[2].set(xlabel="age of a key (steps)", ylabel="cosine with the key made now")
    axes[1].yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes[1].set_ylim(bottom=0)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    if references:
        lines = [line for line in axes[2].lines if line.get_label() in references]
        axes[2].legend(handles=lines, frameon=False, fontsize=9)
    figure.suptitle(title, x=0.01, ha="left")
    return figure


def push_panels(
    scores: Sequence[float],
    single: Mapping[str, Sequence[float]],
    negatives: Sequence[float],
    shares: Mapping[str, Sequence[float]],
    title: str = "",
) -> Figure:
    """How hard a loss pushes: left one negative alone against its score, right many negatives, their shares."""
    figure, axes = plt.subplots(1, 2, figsize=(9.4, 3.4))
    styles = ((0, (1, 1)), "-.", "-", "--")
    for (name, values), style in zip(single.items(), cycle(styles), strict=False):
        axes[0].plot(scores, values, ls=style, label=name)
    for (name, values), mark in zip(shares.items(), cycle("s^ovD"), strict=False):
        axes[1].plot(negatives, values, mark + "-", ms=4, lw=1.2, label=name)
    axes[0].set(xlabel="score of the only negative", ylabel="push", title="one negative")
    axes[1].set(xlabel="score of the negative", ylabel="share of the push", title=f"{len(negatives)} negatives")
    for axis in axes:
        axis.legend(frameon=False, fontsize=9)
    figure.suptitle(title, x=0.01, ha="left")
    return figure


def seed_lines(
    runs: Mapping[str, Sequence[Mapping[str, float]]], metrics: Sequence[str] = ("t2i_r1", "i2t_r1"), title: str = ""
) -> Figure:
    """A panel a metric, a place a model, and a line a seed: whoever wins must win along the lines.

    Raises ``ValueError`` where the models have different numbers of runs, which no line could join.
    """
    counts = {len(found) for found in runs.values()}
    if len(counts) != 1:
        raise ValueError(f"{sorted(counts)} runs a model: expected as many for each, in the order of their seeds")
    figure, axes = plt.subplots(1, len(metrics), figsize=(4.3 * len(metrics), 3.4), squeeze=False)
    for axis, metric in zip(axes[0], metrics, strict=True):
        for seed in range(max(counts)):
            values = [found[seed][metric] for found in runs.values()]
            axis.plot(range(len(runs)), values, "o-", ms=5, lw=1.5, label=f"seed {seed}")
        axis.set(xlim=(-0.4, len(runs) - 0.6), ylabel=f"{metric_name(metric, ' ')} (%)")
        axis.set_xticks(range(len(runs)), list(runs))
        axis.set_ylim(0, 1.05 * max(run[metric] for found in runs.values() for run in found) or 1)
        axis.grid(axis="y", alpha=0.2)
    axes[0][0].legend(frameon=False, fontsize=9)
    figure.suptitle(title, x=0.01, ha="left")
    return figure


def key_ages(curves: Mapping[str, Mapping[str, Sequence[float]]], title: str = "") -> Figure:
    """Mean cosine with queued keys against their age in steps: a panel for what is compared, a line a run."""
    names = list(next(iter(curves.values())))
    figure, axes = plt.subplots(1, len(names), figsize=(4.7 * len(names), 3.4), sharey=True, squeeze=False)
    for axis, name in zip(axes[0], names, strict=True):
        for (run, by_name), style in zip(curves.items(), cycle(("-", "--", "-.")), strict=False):
            axis.plot(by_name[name], style, lw=1.6, label=run)
        axis.set(xlabel="age of a key (steps)", title=f"with {name}")
        axis.grid(alpha=0.2)
    axes[0][0].set(ylabel="mean cosine")
    axes[0][0].legend(frameon=False, fontsize=9)
    figure.suptitle(title, x=0.01, ha="left")
    return figure


def plateau(curves: Mapping[str, tuple[Sequence[float], float]], title: str = "") -> Figure:
    """A panel a quantity, step by step, with a line at its value for the best constant."""
    figure, axes = plt.subplots(1, len(curves), figsize=(4.7 * len(curves), 3.2), squeeze=False)
    for axis, (name, (values, best)) in zip(axes[0], curves.items(), strict=True):
        axis.plot(np.asarray(values), lw=0.9, color=COLOURS[0], label="each step")
        axis.axhline(best, color=REFERENCE, ls=(0, (1, 3)), lw=1.4, label="best constant")
        axis.set(xlabel="training step", ylabel=name)
        axis.legend(frameon=False, fontsize=9)
    figure.suptitle(title, x=0.01, ha="left")
    return figure


def _cell(axis: Axes, x: float, y: float, colour: object, text: str) -> None:
    axis.add_patch(Rectangle((x, y), 1, 1, fc=colour, ec="white", lw=2))
    ink = "white" if colour == MATCH else "black"
    axis.text(x + 0.5, y + 0.5, text, ha="center", va="center", fontsize=11, color=ink)


def training_curves(histories: Mapping[str, Sequence[Mapping[str, float]]], title: str = "") -> Figure:
    """Training loss and validation R@1 against the epoch, a line a run (``History.epochs``)."""
    figure, axes = plt.subplots(1, 2, figsize=(8.6, 3.2))
    for (name, epochs), colour in zip(histories.items(), cycle(COLOURS), strict=False):
        steps = np.arange(len(epochs))  # counted from 0, as everywhere
        axes[0].plot(steps, [e["loss"] for e in epochs], "o-", ms=3, color=colour, label=name)
        axes[1].plot(steps, [e["t2i_r1"] for e in epochs], "o-", ms=3, color=colour, label=f"{name}, text to image")
        axes[1].plot(steps, [e["i2t_r1"] for e in epochs], "s--", ms=3, color=colour, label=f"{name}, image to text")
    for axis, ylabel in zip(axes, ("training loss per query", "validation R@1 (%)"), strict=True):
        axis.set(xlabel="epoch", ylabel=ylabel)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.legend(frameon=False, fontsize=8)
    axes[0].set_yscale("log")  # the sum over all negatives is many times the hardest one
    axes[1].set_ylim(bottom=0)
    figure.suptitle(title, x=0.01, ha="left")
    return figure
