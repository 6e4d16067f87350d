"""Large galleries: what a search costs and finds, cells, and a walk through a graph.

As in :mod:`itr_lib.figures`, every function returns a matplotlib figure that :func:`itr_lib.figures.show` displays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator
from scipy.spatial import KDTree

from itr_lib.figures._draw import COLOURS, MATCH, MISS, REFERENCE, as_array, bare

Curve = tuple[Sequence[float], Sequence[float]]
Plane = Float[np.ndarray, "points 2"]
MARKS = "os^Dv"
FEW = 7  # ticks that have room


def measured_curves(
    curves: Mapping[str, Curve],
    xlabel: str,
    ylabel: str,
    title: str = "",
    *,
    log: str = "x",
    reference: Curve | None = None,
) -> Figure:
    """Measurements as marked lines. ``log``: the axes with a log scale, ``"x"`` or ``"xy"``.

    ``reference``: a dashed line to hold them against.

    Raises:
        ValueError: for no curve, or one that has not as many x as y.
    """
    if not curves or any(len(x) != len(y) for x, y in curves.values()):
        raise ValueError("curves must hold at least one curve, each with as many x as y")
    figure, axis = plt.subplots(figsize=(6.8, 3.6))
    for (name, (x, y)), colour, mark in zip(curves.items(), COLOURS, MARKS, strict=False):
        axis.plot(x, y, mark + "-", ms=5, lw=1.8, color=colour, label=name)
    if reference:
        axis.plot(*reference, "--", color=REFERENCE, lw=1.2)
    axis.set(xscale="log" if "x" in log else "linear", yscale="log" if "y" in log else "linear")
    axis.set(xlabel=xlabel, ylabel=ylabel, title=title)
    axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}" if x >= 1 else f"{x:g}"))
    at = sorted({number for x, _ in curves.values() for number in x})
    if len(at) <= FEW:  # all curves are measured at the same few places
        axis.set_xticks(at)
        axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.grid(alpha=0.2)
    if len(curves) > 1:
        axis.legend(frameon=False, fontsize=9)
    return figure


def cells_map(
    points: Plane, centroids: Plane, query: Sequence[float], probed: Sequence[int], title: str = ""
) -> Figure:
    """Points in the plane, the cells of their centroids, and which of the cells a query looks into."""
    points, centroids = as_array(points), as_array(centroids)
    figure, axis = plt.subplots(figsize=(6.2, 4.6))
    low, high = points.min(axis=0) - 0.1, points.max(axis=0) + 0.1
    across, up = (np.linspace(low[i], high[i], 400) for i in (0, 1))
    owner = KDTree(centroids).query(np.stack(np.meshgrid(across, up), axis=-1))[1]
    axis.contourf(across, up, np.isin(owner, probed), levels=[0.5, 1.5], colors=[COLOURS[0]], alpha=0.16)
    for cell in range(len(centroids)):
        axis.contour(across, up, owner == cell, levels=[0.5], colors=[MISS], linewidths=0.7)
    axis.plot(*points.T, ".", ms=3, color=MISS, label="items")
    axis.plot(*centroids.T, "s", ms=5, color=COLOURS[1], label="centroids")
    _query(axis, query)
    axis.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), title=title)
    bare(axis)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return figure


def walk_map(
    points: Plane,
    neighbours: Int[np.ndarray, "points links"],
    query: Sequence[float],
    opened: Sequence[int],
    seen: Sequence[int],
    title: str = "",
) -> Figure:
    """Points in the plane with the links of their graph, and a walk: what it saw, and what it opened in which order."""
    points, links = as_array(points), np.asarray(neighbours)
    figure, axis = plt.subplots(figsize=(6.2, 4.6))
    pairs = np.stack([np.repeat(np.arange(len(points)), links.shape[1]), links.ravel()], axis=1)
    axis.add_collection(LineCollection(points[pairs], colors=MISS, linewidths=0.3, alpha=0.35))
    axis.plot(*points.T, ".", ms=3, color=MISS, label="items")
    axis.plot(*points[list(seen)].T, "o", ms=4, color=COLOURS[1], label=f"seen ({len(seen)})")
    axis.plot(*points[list(opened)].T, "o", ms=6, color=COLOURS[0], label=f"opened ({len(opened)})")
    for place in (0, *range(1, len(opened), max(1, len(opened) // 6))):
        axis.annotate(str(place + 1), points[opened[place]], (4, 4), textcoords="offset points", fontsize=9)
    _query(axis, query)
    axis.set(title=title)
    bare(axis)
    figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    return figure


def _query(axis: Axes, query: Sequence[float]) -> None:
    axis.plot(*as_array(query), "*", ms=15, color=MATCH, mec="white", label="query")
