"""Pictures with their captions and boxes, galleries of what was found, and twins side by side.

As in :mod:`itr_lib.figures`, every function returns a matplotlib figure that :func:`itr_lib.figures.show` displays.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from itr_lib.data.dataset import RetrievalData
from itr_lib.figures._draw import COLOURS, MATCH, MISS, OBJECT, REFERENCE, Scores, arrow, as_array, bare, picture


def two_encoders() -> Figure:
    """How a global model scores a pair: two encoders that meet in one cosine."""
    figure, axis = plt.subplots(figsize=(8.6, 2.5))
    lanes = {
        0.74: ("picture", ["regions\n(features, boxes)", "MLP", "pooling"], "image vector $v$", COLOURS[0]),
        0.24: ("“a red star …”", ["word pieces", "BERT", "pooling"], "caption vector $t$", COLOURS[1]),
    }
    for height, (start, boxes, end, colour) in lanes.items():
        names = [start, *boxes, end]
        for place, name in enumerate(names):
            style = {"boxstyle": "round,pad=0.5", "fc": (*colour, 0.18), "ec": colour} if place else None
            axis.text(0.07 + 0.175 * place, height, name, ha="center", va="center", fontsize=9, bbox=style)
            if place:
                arrow(axis, (0.175 * place - 0.035, height), (0.175 * place - 0.005, height))
        arrow(axis, (0.845, height), (0.9, 0.49 + 0.12 * (height - 0.49)))
    axis.text(0.955, 0.49, "cosine\n$s(v, t)$", ha="center", va="center", fontsize=10)
    axis.set(xlim=(0, 1.01), ylim=(0, 1), title="Two encoders that meet only in the last step")
    axis.axis("off")
    return figure


def picture_grid(data: RetrievalData, images: Sequence[int], title: str = "", captions: int = 1) -> Figure:
    """Pictures side by side, each over the first few of its captions."""
    columns = min(4, len(images))
    rows = -(-len(images) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(2.3 * columns, (2.25 + 0.36 * captions) * rows), squeeze=False)
    for axis, image in zip(axes.flat, images, strict=False):
        picture(axis, data, image)
        lines = [textwrap.fill(f"· {caption}", 38) for caption in data.captions_of(image)[:captions]]
        axis.text(0, -0.03, "\n".join(lines), va="top", fontsize=7.5, transform=axis.transAxes)
    for axis in axes.flat[len(images) :]:
        axis.axis("off")
    figure.suptitle(title, x=0.01, ha="left")
    return figure


def boxes_on_picture(data: RetrievalData, image: int, title: str = "", most: int = 36) -> Figure:
    """One picture with its candidate boxes; yellow where the truth says that a box shows an object."""
    figure, axis = plt.subplots(figsize=(3.6, 3.9))
    picture = data.picture(image)
    axis.imshow(picture)
    shown = data.truth.region_object[image] if data.truth is not None else None
    for region in np.flatnonzero(data.region_mask[image])[:most]:
        x1, y1, x2, y2 = data.boxes[image, region].astype(float) * np.tile(picture.size, 2)
        hit = shown is not None and shown[region] >= 0
        axis.add_patch(
            Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, lw=1.4 if hit else 0.7, ec=OBJECT if hit else "white")
        )
    bare(axis)
    axis.set_title(title)
    return figure


def image_gallery(data: RetrievalData, scores: Scores, captions: Sequence[int], title: str = "", k: int = 5) -> Figure:
    """Text to image: for each caption the k best pictures, the true one framed in green."""
    values, k = as_array(scores), min(k, len(data))
    figure, axes = plt.subplots(
        len(captions), k + 1, figsize=(9.6, 1.75 * len(captions) + 0.3), squeeze=False, width_ratios=[1.5] + [1] * k
    )
    for line, caption in zip(axes, captions, strict=True):
        owner = int(data.image_of_caption[caption])
        order = np.lexsort((np.arange(len(data)) == owner, -values[:, caption]))  # of equals the true one last
        rank = int((values[:, caption] >= values[owner, caption]).sum())
        _text(line[0], f"“{data.captions[caption]}”", f"true picture at rank {rank}")
        for axis, image in zip(line[1:], order[:k], strict=True):
            picture(axis, data, int(image), frame=MATCH if image == owner else MISS)
            axis.set_xlabel(f"{values[image, caption]:.3f}", fontsize=8, labelpad=5)
    figure.suptitle(title, x=0.01, ha="left")
    return figure


def found_pictures(data: RetrievalData, rows: Sequence[int], notes: Sequence[str], title: str = "") -> Figure:
    """The pictures that a search returned, best first, each over a note; without a true one, which nobody knows."""
    figure, axes = plt.subplots(1, len(rows), figsize=(2.3 * len(rows), 2.7), squeeze=False)
    for axis, row, note in zip(axes[0], rows, notes, strict=True):
        picture(axis, data, int(row))
        axis.set_xlabel(note, fontsize=8.5, labelpad=5)
    figure.suptitle(title, x=0.01, ha="left")
    return figure


def caption_gallery(data: RetrievalData, scores: Scores, images: Sequence[int], title: str = "", k: int = 5) -> Figure:
    """Image to text: for each picture the k best captions, its own ones in green with a tick."""
    values = as_array(scores)
    figure, axes = plt.subplots(
        len(images), 2, figsize=(9.6, 1.75 * len(images) + 0.3), squeeze=False, width_ratios=[1, 4.2]
    )
    for (left, right), image in zip(axes, images, strict=True):
        picture(left, data, image)
        right.axis("off")
        for place, caption in enumerate(np.argsort(-values[image], kind="stable")[:k]):
            words = textwrap.shorten(data.captions[caption], 118, placeholder=" …")
            own = data.image_of_caption[caption] == image
            right.text(
                0.0,
                0.9 - 0.19 * place,
                f"{'✓' if own else '✗'}  {values[image, caption]:.2f}  {words}",
                color=MATCH if own else "#444444",
                fontsize=8.5,
                va="center",
                transform=right.transAxes,
            )
    figure.suptitle(title, x=0.01, ha="left")
    return figure


def pair_figure(data: RetrievalData, scores: Scores, pair: int, title: str = "") -> Figure:
    """Two twins side by side, over the scores of both captions; ``▸`` marks the picture that a caption prefers.

    Where a caption scores the same with both pictures, neither has the mark.
    """
    values = as_array(scores)
    rows = [2 * pair, 2 * pair + 1]
    figure, axes = plt.subplots(1, 2, figsize=(7.4, 3.5))
    for axis, image in zip(axes, rows, strict=True):
        picture(axis, data, image)
        lines = [
            f"{'▸' if values[image, c] > values[image ^ 1, c] else '·'} {values[image, c]:+.3f}  {data.captions[c]}"
            for c in rows
        ]
        wrapped = [textwrap.fill(line, 52, subsequent_indent="      ") for line in lines]
        axis.text(0, -0.04, "\n".join(wrapped), va="top", fontsize=8, transform=axis.transAxes)
    if any("▸" in text.get_text() for axis in axes for text in axis.texts):
        figure.supxlabel("▸ the picture that the caption prefers", x=0.01, ha="left", fontsize=8, color=REFERENCE)
    figure.suptitle(title, x=0.01, ha="left")
    return figure


def _text(axis: Axes, body: str, note: str) -> None:
    axis.axis("off")
    axis.text(0, 0.62, textwrap.fill(body, 30), fontsize=8.5, va="center", transform=axis.transAxes)
    axis.text(0, 0.1, note, fontsize=8, color=REFERENCE, va="center", transform=axis.transAxes)
