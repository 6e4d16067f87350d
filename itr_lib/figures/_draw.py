"""What the figures share: colours, one arrow, one box, one picture without axes."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import FancyBboxPatch

from itr_lib.data.dataset import RetrievalData

MATCH, MISS, REFERENCE, OBJECT = "#117733", "#8c8c8c", "#555555", "#ffd92f"
RECALLS = ("i2t_r1", "i2t_r5", "i2t_r10", "t2i_r1", "t2i_r5", "t2i_r10", "rsum")
Scores = Float[np.ndarray, "images captions"] | Float[torch.Tensor, "images captions"]
# Told apart on white by those who see red and green, or yellow and blue, alike: tests/test_colours.py.
COLOURS = [
    to_rgb(colour)
    for colour in ("#0173b2", "#c96a00", "#4e2700", "#c2185b", "#9d3bff", "#3b149d", "#890076", "#8c8c8c")
]


def arrow(axis: Axes, start: tuple[float, float], end: tuple[float, float], width: float = 1.2) -> None:
    """From ``start`` to ``end`` in the axis' units; ``width`` in points."""
    axis.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": REFERENCE, "lw": width})


def box(axis: Axes, x: float, y: float, text: str, colour: tuple, width: float, height: float = 0.5) -> None:
    """A rounded box with its middle at (x, y), and a text in it."""
    shape, corner = "round,pad=0.02,rounding_size=0.08", (x - width / 2, y - height / 2)
    axis.add_patch(FancyBboxPatch(corner, width, height, shape, fc=(*colour, 0.2), ec=colour, lw=1.2))
    axis.text(x, y, text, ha="center", va="center", fontsize=10)


def metric_name(metric: str, between: str = "\n") -> str:
    """``"t2i_r1"`` as a reader says it; other names stay."""
    if metric == "rsum":
        return "rSum"
    direction, _, k = metric.partition("_r")
    words = {"i2t": "image→text", "t2i": "text→image"}
    return f"{words[direction]}{between}R@{k}" if k and direction in words else metric


def as_it_is(text: str) -> str:
    """For matplotlib, a text that is data (a caption, a word, a note): its dollar signs enclose no formula."""
    return text.replace("$", r"\$")


def picture(axis: Axes, data: RetrievalData, image: int, frame: str | None = None) -> None:
    """One picture of the data, without axes, in a frame of a colour if one is given."""
    axis.imshow(data.picture(image))
    bare(axis)
    for spine in axis.spines.values():
        spine.set(visible=frame is not None, edgecolor=frame, linewidth=3.5 if frame == MATCH else 1)


def bare(axis: Axes) -> None:
    """No ticks, no spines."""
    axis.set(xticks=[], yticks=[])
    for spine in axis.spines.values():
        spine.set_visible(False)


def as_array(scores: Scores) -> Float[np.ndarray, "images captions"]:
    """Numbers of a tensor, wherever it lies, or of an array."""
    return scores.detach().cpu().float().numpy() if isinstance(scores, torch.Tensor) else np.asarray(scores)
