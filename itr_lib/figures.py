"""What a learner looks at. Every function returns a matplotlib figure; :func:`show` displays it with its alt text."""

from __future__ import annotations

import base64
import html
import io
import textwrap
from collections.abc import Mapping, Sequence
from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from IPython.display import display
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from itr_lib.data.dataset import RetrievalData

MATCH, MISS, REFERENCE, OBJECT = "#1a9850", "#c0c0c0", "#555555", "#ffd92f"
RECALLS = ("i2t_r1", "i2t_r5", "i2t_r10", "t2i_r1", "t2i_r5", "t2i_r10", "rsum")
COLOURS = sns.color_palette("colorblind")
Scores = Float[np.ndarray, "images captions"] | Float[torch.Tensor, "images captions"]


def show(figure: Figure, alt: str) -> None:
    """Display a figure once, with a text that says what it shows to someone who cannot see it.

    As an ``<img>`` in HTML, because JupyterLab gives no alt text to a plain image; as PNG or, where that is smaller
    (photographs, textures), as JPEG with full colour resolution.
    """
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", bbox_inches="tight")
    plt.close(figure)
    picture = Image.open(drawn).convert("RGB")
    kind, data = min((_encoded(picture, kind) for kind in ("png", "jpeg")), key=lambda pair: len(pair[1]))
    style = "max-width: 100%; height: auto; background: white"
    source = (
        f'<img alt="{html.escape(alt)}" style="{style}" width="{picture.width}" src="data:image/{kind};base64,{data}">'
    )
    display({"text/html": source, "text/plain": f"[figure: {alt}]"}, raw=True)


def _encoded(picture: Image.Image, kind: str) -> tuple[str, str]:
    settings = {"png": {"optimize": True}, "jpeg": {"quality": 88, "subsampling": 0, "optimize": True}}
    file = io.BytesIO()
    picture.save(file, format=kind, **settings[kind])
    return kind, base64.b64encode(file.getvalue()).decode()


def metrics_table(
    results: Mapping[str, Sequence[Mapping[str, float]]], metrics: Sequence[str] = RECALLS
) -> pd.DataFrame:
    """A row a method, a column a metric; of several runs their mean and, in brackets, lowest to highest."""
    rows = {}
    for name, runs in results.items():
        label = f"{name} ({len(runs)} seeds)" if len(runs) > 1 else name
        rows[label] = [_mean_and_range([run[metric] for run in runs]) for metric in metrics]
    return pd.DataFrame.from_dict(rows, orient="index", columns=[_metric_name(metric, " ") for metric in metrics])


def _mean_and_range(values: Sequence[float]) -> str:
    spread = f" ({min(values):.1f}–{max(values):.1f})" if len(values) > 1 else ""
    return f"{np.mean(values):.1f}{spread}"


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
                _arrow(axis, (0.175 * place - 0.035, height), (0.175 * place - 0.005, height))
        _arrow(axis, (0.845, height), (0.9, 0.49 + 0.12 * (height - 0.49)))
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
        _picture(axis, data, image)
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
    _bare(axis)
    axis.set_title(title)
    return figure


def similarity_heatmap(
    scores: Scores, rows: Sequence[str], columns: Sequence[str], title: str = "", matches: np.ndarray | None = None
) -> Figure:
    """A small score matrix with its numbers; ``matches`` (bool, same shape) are framed."""
    values = _array(scores)
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


def image_gallery(data: RetrievalData, scores: Scores, captions: Sequence[int], title: str = "", k: int = 5) -> Figure:
    """Text to image: for each caption the k best pictures, the true one framed in green."""
    values, k = _array(scores), min(k, len(data))
    figure, axes = plt.subplots(
        len(captions), k + 1, figsize=(9.6, 1.75 * len(captions) + 0.3), squeeze=False, width_ratios=[1.5] + [1] * k
    )
    for line, caption in zip(axes, captions, strict=True):
        owner = int(data.image_of_caption[caption])
        order = np.lexsort((np.arange(len(data)) == owner, -values[:, caption]))  # of equals the true one last
        rank = int((values[:, caption] >= values[owner, caption]).sum())
        _text(line[0], f"“{data.captions[caption]}”", f"true picture at rank {rank}")
        for axis, image in zip(line[1:], order[:k], strict=True):
            _picture(axis, data, int(image), frame=MATCH if image == owner else MISS)
            axis.set_xlabel(f"{values[image, caption]:.3f}", fontsize=8, labelpad=5)
    figure.suptitle(title, x=0.01, ha="left")
    return figure


def caption_gallery(data: RetrievalData, scores: Scores, images: Sequence[int], title: str = "", k: int = 5) -> Figure:
    """Image to text: for each picture the k best captions, its own ones in green with a tick."""
    values = _array(scores)
    figure, axes = plt.subplots(
        len(images), 2, figsize=(9.6, 1.75 * len(images) + 0.3), squeeze=False, width_ratios=[1, 4.2]
    )
    for (left, right), image in zip(axes, images, strict=True):
        _picture(left, data, image)
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
    """Two twins side by side, over the scores of both captions; ``▸`` marks the picture that a caption prefers."""
    values = _array(scores)
    rows = [2 * pair, 2 * pair + 1]
    figure, axes = plt.subplots(1, 2, figsize=(7.4, 3.5))
    for axis, image in zip(axes, rows, strict=True):
        _picture(axis, data, image)
        lines = [
            f"{'▸' if values[image, c] > values[image ^ 1, c] else ' '} {values[image, c]:+.3f}  {data.captions[c]}"
            for c in rows
        ]
        wrapped = [textwrap.fill(line, 52, subsequent_indent="      ") for line in lines]
        axis.text(0, -0.04, "\n".join(wrapped), va="top", fontsize=8, transform=axis.transAxes)
    figure.suptitle(title, x=0.01, ha="left")
    return figure


def training_curves(histories: Mapping[str, Sequence[Mapping[str, float]]], title: str = "") -> Figure:
    """Training loss and validation R@1 against the epoch, a line a run (``History.epochs``)."""
    figure, axes = plt.subplots(1, 2, figsize=(8.6, 3.2))
    for (name, epochs), colour in zip(histories.items(), cycle(COLOURS), strict=False):
        steps = np.arange(1, len(epochs) + 1)
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


def recall_bars(
    results: Mapping[str, Sequence[Mapping[str, float]]],
    references: Mapping[str, Mapping[str, float]] | None = None,
    metrics: Sequence[str] = RECALLS[:-1],
    title: str = "",
) -> Figure:
    """R@K bars, one a method: the mean over its runs, each run as a dot, references (chance, ceiling) as lines."""
    figure, axis = plt.subplots(figsize=(8.6, 3.4))
    width = 0.8 / len(results)
    for place, ((name, runs), colour) in enumerate(zip(results.items(), cycle(COLOURS), strict=False)):
        at = np.arange(len(metrics)) + (place - (len(results) - 1) / 2) * width
        values = np.array([[run[metric] for metric in metrics] for run in runs])
        seeds = f" ({len(runs)} seeds)" if len(runs) > 1 else ""
        axis.bar(at, values.mean(axis=0), 0.92 * width, color=colour, alpha=0.75, label=f"{name}{seeds}")
        if len(runs) > 1:
            axis.plot(np.tile(at, (len(runs), 1)).T, values.T, "o", ms=2.6, color="black", mew=0)
    for (name, values), style in zip((references or {}).items(), cycle(("-", ":", "--")), strict=False):
        for place, metric in enumerate(metrics):
            axis.hlines(
                values[metric], place - 0.45, place + 0.45, REFERENCE, style, lw=1.4, label=name if place == 0 else None
            )
    axis.set_xticks(range(len(metrics)), [_metric_name(metric) for metric in metrics])
    axis.set(ylabel="queries with a hit (%)", ylim=(0, 105), title=title)
    axis.legend(
        frameon=False,
        fontsize=8,
        ncols=min(4, len(results) + len(references or {})),
        loc="upper left",
        bbox_to_anchor=(0, -0.2),
    )
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
        axis.plot(*zip(xy, image_xy[image], strict=True), color="#dddddd", lw=0.6, zorder=1)
    axis.scatter(*caption_xy.T, s=14, color=COLOURS[1], label="captions", zorder=2)
    axis.scatter(*image_xy.T, s=34, color=COLOURS[0], marker="s", label="images", zorder=3)
    axis.set(xlabel="first principal axis", ylabel="second principal axis", title=title)
    axis.legend(frameon=False, fontsize=8)
    return figure


def _metric_name(metric: str, between: str = "\n") -> str:
    if metric == "rsum":
        return "rSum"
    direction, _, k = metric.partition("_r")
    words = {"i2t": "image→text", "t2i": "text→image"}
    return f"{words[direction]}{between}R@{k}" if k and direction in words else metric


def _picture(axis: Axes, data: RetrievalData, image: int, frame: str | None = None) -> None:
    axis.imshow(data.picture(image))
    _bare(axis)
    for spine in axis.spines.values():
        spine.set(visible=frame is not None, edgecolor=frame, linewidth=3.5 if frame == MATCH else 1)


def _bare(axis: Axes) -> None:
    axis.set(xticks=[], yticks=[])
    for spine in axis.spines.values():
        spine.set_visible(False)


def _arrow(axis: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    axis.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": REFERENCE})


def _text(axis: Axes, body: str, note: str) -> None:
    axis.axis("off")
    axis.text(0, 0.62, textwrap.fill(body, 30), fontsize=8.5, va="center", transform=axis.transAxes)
    axis.text(0, 0.1, note, fontsize=8, color=REFERENCE, va="center", transform=axis.transAxes)


def _array(scores: Scores) -> Float[np.ndarray, "images captions"]:
    return scores.detach().cpu().float().numpy() if isinstance(scores, torch.Tensor) else np.asarray(scores)
