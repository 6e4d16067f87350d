"""What goes onto the page: a figure with its alt text, a table of runs."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import display
from matplotlib.figure import Figure
from PIL import Image

from itr_lib.figures._draw import RECALLS, metric_name
from itr_lib.figures.alt_text import alt_text


def show(figure: Figure, alt: str = "") -> None:
    """Display a figure once, with a text that says what it shows to someone who cannot see it.

    Without ``alt`` that text is :func:`itr_lib.figures.alt_text.alt_text`, read off titles, axes and data. Give one
    where these do not say what matters: of pictures, and of diagrams whose point is how things hang together.

    As an ``<img>`` in HTML, because JupyterLab gives no alt text to a plain image; as PNG or, where that is smaller
    (photographs, textures), as JPEG with full colour resolution.
    """
    alt = alt or alt_text(figure)
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
    return pd.DataFrame.from_dict(rows, orient="index", columns=[metric_name(metric, " ") for metric in metrics])


def _mean_and_range(values: Sequence[float]) -> str:
    spread = f" ({min(values):.1f}–{max(values):.1f})" if len(values) > 1 else ""
    return f"{np.mean(values):.1f}{spread}"
