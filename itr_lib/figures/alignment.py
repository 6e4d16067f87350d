"""Pictures of word-region alignment: which region wins a word, and where attention goes.

As in :mod:`itr_lib.figures`, every function returns a matplotlib figure that :func:`itr_lib.figures.show` displays.
An alignment is a matrix ``A[r, t]``, one row a region and one column a word (cosines, as a rule).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.patheffects as outline
import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
import torch
from jaxtyping import Bool, Float, Real
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from itr_lib.data.dataset import RetrievalData
from itr_lib.figures._draw import COLOURS, MATCH, OBJECT, as_array, as_it_is

Alignment = Float[np.ndarray, "regions words"] | Float[torch.Tensor, "regions words"]
Weights = Real[np.ndarray, " regions"] | Real[torch.Tensor, " regions"]

BEST = {"ec": OBJECT, "lw": 2.0, "zorder": 5}
NEXT = {"ec": "white", "lw": 1.0, "zorder": 3}
RIGHT = {"ec": "#56b4e9", "lw": 2.0, "ls": (0, (2.5, 1.2)), "zorder": 4}
MISTAKE = "#b2182b"


def alignment_heatmap(
    alignment: Alignment,
    words: Sequence[str],
    title: str = "",
    *,
    winners: bool = True,
    most: int = 12,
    scale: tuple[float, float] | None = None,
) -> Figure:
    """Regions by words; the region that wins a word is framed and its value written out.

    Regions that win a word come first, in the order of their words, then the best of the others, ``most`` in all.
    Without ``winners`` nothing is framed, and regions keep their own order.
    ``scale``: the alignments of the darkest and of the brightest colour, for maps that are to be compared.

    Raises:
        ValueError: when the alignment is no matrix with a column for each word.
    """
    values = as_alignment(alignment, words)
    rows = _regions_that_matter(values, most)
    rows = rows if winners else sorted(rows)
    figure, axis = plt.subplots(figsize=(min(9.0, 2.6 + 0.52 * len(words)), 1.7 + 0.27 * len(rows)))
    shown = np.where(np.isfinite(values[rows]), values[rows], np.nan)
    low, high = scale or (None, None)
    sns.heatmap(
        shown, ax=axis, cmap="viridis", vmin=low, vmax=high, linewidths=0.6,
        cbar_kws={"label": "alignment (cosine)", "pad": 0.02},
        xticklabels=[as_it_is(word) for word in words], yticklabels=[f"region {r}" for r in rows],
    )  # fmt: skip
    if winners:
        _frame_winners(axis, values, rows, scale)
    axis.tick_params(rotation=0, labelsize=9, length=0)
    if max(map(len, words)) * len(words) > 60:
        plt.setp(axis.get_xticklabels(), rotation=40, ha="right", rotation_mode="anchor")
    figure.suptitle(title, x=0.01, ha="left")  # above the colour bar, too, which a title of the axes runs into
    return figure


def _regions_that_matter(values: Float[np.ndarray, "regions words"], most: int) -> list[int]:
    best = values.max(axis=1)
    winning = list(dict.fromkeys(values.argmax(axis=0).tolist()))
    if len(winning) > most:
        kept = set(sorted(winning, key=lambda r: -best[r])[:most])
        winning = [r for r in winning if r in kept]
    others = [int(r) for r in np.argsort(-best, kind="stable") if r not in winning and np.isfinite(best[r])]
    return winning + others[: most - len(winning)]


def _frame_winners(
    axis: Axes, values: Float[np.ndarray, "regions words"], rows: list[int], scale: tuple[float, float] | None
) -> None:
    finite = values[rows][np.isfinite(values[rows])]
    middle = sum(scale or (finite.min(), finite.max())) / 2
    for word, region in enumerate(values.argmax(axis=0)):
        if region not in rows:
            continue
        place, value = rows.index(region), values[region, word]
        for colour, width in (("black", 4.0), ("white", 1.8)):  # seen on bright cells and on dark ones
            axis.add_patch(Rectangle((word + 0.05, place + 0.06), 0.9, 0.88, fill=False, ec=colour, lw=width))
        ink = "black" if value > middle else "white"
        axis.text(word + 0.5, place + 0.5, f"{value:.2f}", ha="center", va="center", fontsize=8.5, color=ink)


def word_boxes(
    data: RetrievalData,
    image: int,
    words: Sequence[str],
    alignment: Alignment,
    title: str = "",
    right: Sequence[Bool[np.ndarray, " regions"]] | None = None,
) -> Figure:
    """A small picture a word: the best region thick, the next two thin.

    Args:
        data: a split with pictures.
        image: its row.
        words: the words to show (content words, say), one panel each.
        alignment: (R, W), a column for each of ``words``; padded regions take no part.
        title: what the figure shows.
        right: a bool array over the regions for each word, True where a region shows what the word means. Then the
            word gets a tick or a cross, and where the best region is wrong, the best of the right ones is dashed.

    Raises:
        ValueError: for shapes that do not fit.
    """
    values = as_alignment(alignment, words, data.region_mask[image])
    if right is not None and [np.shape(r) for r in right] != [(len(values),)] * len(words):
        raise ValueError(f"right must hold {len(words)} bool arrays over {len(values)} regions, one a word")
    columns, lines = min(len(words), 5), -(-len(words) // 5)
    height = 2.1 * lines + 0.65 + 0.22 * title.count("\n")
    figure, axes = plt.subplots(lines, columns, figsize=(1.74 * max(columns, 3), height), squeeze=False)
    picture = data.picture(image)
    for axis in axes.flat:
        axis.axis("off")
    for place, (axis, word) in enumerate(zip(axes.flat, words, strict=False)):
        axis.imshow(picture)
        truth = None if right is None else np.asarray(right[place], bool) & data.region_mask[image]
        _word_panel(axis, word, values[:, place], _corners(data, image, picture.size), truth)
    _boxes_legend(figure, right is not None)
    figure.suptitle(title, x=0.01, ha="left", fontsize=11.5)
    return figure


def _word_panel(
    axis: Axes, word: str, values: np.ndarray, corners: np.ndarray, truth: Bool[np.ndarray, " regions"] | None
) -> None:
    order = [int(r) for r in np.argsort(-values, kind="stable") if np.isfinite(values[r])][:3]
    for region in order[1:]:
        _box(axis, corners[region], **NEXT)
    _box(axis, corners[order[0]], **BEST)
    mark, colour = "", "black"
    if truth is not None:
        hit = bool(truth[order[0]])
        mark, colour = (" ✓", MATCH) if hit else (" ✗", MISTAKE)
        if truth.any() and not hit:
            _box(axis, corners[np.where(truth, values, -np.inf).argmax()], **RIGHT)
        mark += "" if truth.any() else " (no box)"
    axis.set_title(f"{as_it_is(word)}{mark}", fontsize=11, color=colour, loc="center", pad=4)
    axis.text(0.5, -0.03, f"{values[order[0]]:.2f}", transform=axis.transAxes, ha="center", va="top", fontsize=8.5)


def _boxes_legend(figure: Figure, right: bool) -> None:
    styles = [(BEST, "best region, with its alignment"), (NEXT, "next two")]
    styles += [(RIGHT, "where the word's object is, if another region won")] if right else []
    lines = [
        Line2D([], [], color=s["ec"], lw=s["lw"], ls=s.get("ls", "-"), path_effects=_halo(s["lw"]), label=name)
        for s, name in styles
    ]
    figure.legend(handles=lines, loc="outside lower left", ncols=3, frameon=False, fontsize=9, handlelength=2.6)


def attention_boxes(
    data: RetrievalData, image: int, word: str, weights: Mapping[str, Weights], title: str = ""
) -> Figure:
    """One panel a coding: boxes as strong as their weight for ``word``, over the weights themselves, sorted.

    Args:
        data: a split with pictures.
        image: its row.
        word: the word that attends.
        weights: for each coding (``"soft, τ = 0.1"``, ``"hard"``) its (R,) weights, which sum to 1.
        title: what the figure shows.

    Raises:
        ValueError: for no weights, or some that are negative, do not sum to 1, or have no entry for each region.
    """
    if not weights:
        raise ValueError("weights is empty, expected at least one coding")
    regions = data.region_mask.shape[1]
    arrays = {name: _as_weights(name, w, regions) for name, w in weights.items()}
    size = (min(9.0, 3.0 * max(len(arrays), 2)), 4.4)
    figure, axes = plt.subplots(2, len(arrays), figsize=size, squeeze=False, height_ratios=[3, 1], sharey="row")
    picture = data.picture(image)
    corners = _corners(data, image, picture.size)
    for (name, values), (top, bottom) in zip(arrays.items(), axes.T, strict=True):
        top.imshow(picture, alpha=0.55)  # paler, so that the boxes carry the eye
        _weighted_boxes(top, corners, values)
        needed = int((np.cumsum(-np.sort(-values)) < 0.9 - 1e-9).sum()) + 1
        share = f"90 % of the weight on {needed} box{'es' if needed > 1 else ''}"
        top.set_title(f"{name}\n{share}", fontsize=10.5, loc="center")
        _weight_bars(bottom, values)
    axes[1, 0].set_ylabel("weight")
    axes[1, 0].set_ylim(0, 1.05 * max(values.max() for values in arrays.values()))  # for all panels
    figure.suptitle(title or f"Where “{as_it_is(word)}” looks", x=0.01, ha="left", fontsize=11.5)
    figure.supxlabel(f"regions, by their weight for “{as_it_is(word)}”", fontsize=9.5)
    return figure


def _weighted_boxes(axis: Axes, corners: np.ndarray, values: Real[np.ndarray, " regions"]) -> None:
    for region in np.argsort(values):
        strength = float(values[region] / values.max())
        if strength > 0.02:
            _box(axis, corners[region], ec=COLOURS[3], lw=0.8 + 2.2 * strength, alpha=max(0.25, strength), halo=False)
            x, y, width, height = corners[region]
            axis.add_patch(Rectangle((x, y), width, height, fc=(*COLOURS[3], 0.12 * strength), ec="none"))
    axis.axis("off")


def _weight_bars(axis: Axes, values: Real[np.ndarray, " regions"], most: int = 15) -> None:
    ordered = np.argsort(-values, kind="stable")[:most]
    names = [str(r) if values[r] > 0 else "" for r in ordered]
    axis.bar(range(len(ordered)), values[ordered], tick_label=names, color=COLOURS[3], width=0.8)
    axis.tick_params(axis="x", labelsize=7.5)


def attended_vectors(
    regions: Float[np.ndarray, "regions 2"],
    word: Float[np.ndarray, " 2"],
    temperatures: Sequence[float],
    title: str = "",
) -> Figure:
    """A word and regions on the unit circle, and what the word attends to at each temperature."""
    figure, axis = plt.subplots(figsize=(5.4, 4.4))
    around = np.linspace(-0.5, np.pi / 2, 100)
    axis.plot(np.cos(around), np.sin(around), color="#8c8c8c", lw=1)
    for r, end in enumerate(regions):
        axis.annotate("", end, (0, 0), arrowprops={"arrowstyle": "->", "color": "#555555"})
        axis.text(*(1.06 * end), f"region {r}", va="center")
    axis.annotate("", word, (0, 0), arrowprops={"arrowstyle": "->", "color": COLOURS[0], "lw": 2})
    axis.text(*(1.06 * word), "the word", color=COLOURS[0], va="center")
    for place, tau in enumerate(temperatures):
        weight = np.exp((regions @ word - (regions @ word).max()) / tau)
        attended = weight @ regions / weight.sum()
        axis.plot(*attended, "o", color=COLOURS[place + 1], ms=8, label=f"attended, τ = {tau:g}")
    axis.set(xlim=(-0.05, 1.4), ylim=(-0.4, 1.15), aspect="equal", xlabel="dimension 0", ylabel="dimension 1")
    axis.set_title(title)
    axis.legend(frameon=False, loc="upper right", fontsize=9)
    return figure


def as_alignment(
    alignment: Alignment, words: Sequence[str], mask: Bool[np.ndarray, " regions"] | None = None
) -> Float[np.ndarray, "regions words"]:
    """The alignment as a float array, minus infinity where ``mask`` says that a region is padding.

    Raises:
        ValueError: when it is no matrix (regions, words), or a word has no finite value.
    """
    values = _array(alignment)
    regions = len(values) if mask is None else len(mask)
    if values.ndim != 2 or values.shape != (regions, len(words)) or values.size == 0:
        raise ValueError(f"alignment has shape {values.shape}, expected (regions, words) = ({regions}, {len(words)})")
    padded = np.zeros(regions, bool) if mask is None else ~mask
    values = np.where(padded[:, None] | np.isnan(values), -np.inf, values)
    if not np.isfinite(values.max(axis=0)).all():
        raise ValueError("alignment holds a word without a finite value: every word needs a region")
    return values


def _as_weights(name: str, weights: Weights, regions: int) -> Real[np.ndarray, " regions"]:
    values = _array(weights)
    if values.shape != (regions,):
        raise ValueError(f"weights {name!r} have shape {values.shape}, expected ({regions},), one a region")
    if not (values >= 0).all() or abs(values.sum() - 1) > 1e-3:
        raise ValueError(f"weights {name!r} sum to {values.sum():.3f}, expected numbers from 0 that sum to 1")
    return values


def _array(values: Alignment | Weights) -> np.ndarray:
    return as_array(values).astype(float)


def _corners(data: RetrievalData, image: int, size: tuple[int, int]) -> Float[np.ndarray, "regions 4"]:
    """Boxes in pixels as (x, y, width, height)."""
    x1, y1, x2, y2 = (data.boxes[image].astype(float) * np.tile(size, 2)).T
    return np.stack([x1, y1, x2 - x1, y2 - y1], axis=1)


def _box(axis: Axes, corners: np.ndarray, halo: bool = True, **style: object) -> None:
    x, y, width, height = corners
    effects = _halo(style["lw"]) if halo else None
    axis.add_patch(Rectangle((x, y), width, height, fill=False, clip_on=False, path_effects=effects, **style))


def _halo(width: float) -> list[outline.AbstractPathEffect]:
    """A dark seam around a line, so that it shows on every ground."""
    return [outline.Stroke(linewidth=width + 1.2, foreground="#222222"), outline.Normal()]
