"""Choose an image and a caption, point at a word, and see the regions that it aligns with.

With a person at the notebook this is a widget: two choosers (ipywidgets) and a page of plain HTML that holds the boxes
of all words of the caption, so that pointing at a word asks no kernel. Where nobody is there (papermill, nbclient,
nbconvert, nbval, nbgrader), it is a still figure.

A notebook that a person saves keeps both, because the file outlives the kernel and a widget does not: the still's
style sheet shows the widget where it lives and else the still, never "Error displaying widget".
"""

from __future__ import annotations

import base64
import html
import io
import secrets
import textwrap
from collections.abc import Callable, Sequence
from functools import lru_cache, partial

import ipywidgets as widgets
import numpy as np
import torch
from IPython.display import display
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from itr_lib.data.dataset import RetrievalData
from itr_lib.data.tokenisation import tokenise
from itr_lib.desk.front import someone_is_there
from itr_lib.encoders.tokens import Tokens
from itr_lib.figures._draw import OBJECT, as_it_is
from itr_lib.figures.alignment import Alignment, as_alignment, word_boxes
from itr_lib.figures.page import show

Align = Callable[[int, int], tuple[list[str], Alignment]]
Values = Float[np.ndarray, "regions words"]

dot_products = partial(torch.einsum, "nrd,mwd->nmrw")  # of every picture with every caption

WIDTH = 400  # pixels of a picture on the page
SHOWN = 6  # regions of a word: the best one strong, the others faint
STILL_WORDS = 10
FUNCTION_WORDS = {"a", "an", "the", "of", "on", "in", "at", "with", "and", "is", "are", "to", "there"}
WIDGET = "application/vnd.jupyter.widget-view+json"
STILL = "Explorer, still: "  # how the still's alt text begins, which the style sheet knows it by
# Of all outputs JupyterLab gives only a widget no data-mime-type. The output that holds this hides itself.
STILL_STYLE = f"""<style class="itr-rules">
.jp-OutputArea-child:has(.itr-rules) {{ display: none }}
.jp-OutputArea:has(.itr-explorer) .jp-OutputArea-child:has(img[alt^="{STILL}"]) {{ display: none }}
.jp-OutputArea-child:has(img[alt^="{STILL}"]) + .jp-OutputArea-child:has(
  > .jp-OutputArea-output:not([data-mime-type])):not(:has(.itr-explorer)) {{ display: none }}
</style>"""
PAGE_STYLE = f"""<style>
.itr-page {{ position: relative; padding-left: {WIDTH + 22}px; color: var(--jp-ui-font-color1, inherit);
  line-height: 1.5; min-width: 300px }}
.itr-page > img {{ position: absolute; left: 0; top: 0; width: {WIDTH}px }}
.itr-words {{ padding-top: 50px }}
.itr-words p {{ font-size: 12px; margin: 0 0 4px; color: var(--jp-ui-font-color2, inherit) }}
.itr-page input {{ position: absolute; opacity: 0; width: 1px; height: 1px; margin: 0 }}
.itr-chip {{ display: inline-block; margin: 2px; padding: 1px 8px; border: 2px solid transparent; border-radius: 12px;
  color: #222; font-size: 15px; cursor: pointer }}
.itr-page input:checked + .itr-chip {{ border-color: #222; box-shadow: 0 0 0 1px #fff; font-weight: 600 }}
.itr-page input:focus-visible + .itr-chip {{ outline: 3px solid #0173b2; outline-offset: 2px }}
.itr-look {{ display: none; pointer-events: none }}
.itr-look svg {{ position: absolute; left: 0; top: 0; width: {WIDTH}px; overflow: visible }}
.itr-look i {{ position: absolute; left: {WIDTH + 22}px; top: 0; font-size: 13px; font-style: normal }}
.itr-look b {{ font-size: 16px }}
.itr-page input:checked ~ .itr-look, .itr-page label:hover .itr-look {{ display: contents }}
.itr-words:has(label:hover) label:not(:hover) .itr-look {{ display: none }}
</style>"""


def explorer(
    data: RetrievalData,
    align: Align,
    images: Sequence[int] | None = None,
    title: str = "",
    *,
    live: bool | None = None,
) -> None:
    """Display the explorer: a widget for a person, a still figure where a program runs the notebook.

    Args:
        data: a split with pictures.
        align: ``align(image, caption)`` gives the words to show and their (R, W) alignment with the image's regions;
            it is asked for captions of other images too. Called once a pair.
        images: rows to choose from; default the first eight. The still shows the first one with its first caption.
        title: what to look for.
        live: True or False instead of finding out.

    Raises:
        ValueError: for a row that does not exist, data without pictures, or an alignment that does not fit.
    """
    rows = list(range(min(8, len(data)))) if images is None else [int(i) for i in images]
    if not rows or not 0 <= min(rows) <= max(rows) < len(data):
        raise ValueError(f"images is {rows}, expected at least one row from 0 to {len(data) - 1}")
    aligned = lru_cache(maxsize=256)(lambda image, caption: _aligned(data, align, image, caption))
    figure, alt = _still(data, aligned, rows[0], title)
    if not (someone_is_there() if live is None else live):
        show(figure, alt)
        return
    box = _widget(data, aligned, rows, title)
    display({"text/html": STILL_STYLE, "text/plain": ""}, raw=True)
    show(figure, alt)
    # Without trust a front end may not show the widget: it takes the empty HTML, and the still stands alone.
    display({WIDGET: box._repr_mimebundle_()[WIDGET], "text/html": "", "text/plain": ""}, raw=True)


def aligner(
    data: RetrievalData,
    images: Tokens,
    captions: Tokens,
    tokenizer: PreTrainedTokenizerBase,
    cosines: Callable[[Tensor, Tensor], Tensor] = dot_products,
) -> Align:
    """What :func:`explorer` asks, from the tokens of a split's images and captions: word pieces and their cosines.

    Args:
        data: the split that was encoded.
        images, captions: what ``itr_lib.inference.encode`` returned for it.
        tokenizer: the model's own.
        cosines: (N, R, D), (M, W, D) -> (N, M, R, W); by default the dot products of the tokens, unit vectors.
    """
    ids = tokenise(tokenizer, data.captions).ids
    regions, words, real = images.vectors.float().cpu(), captions.vectors.float().cpu(), captions.mask.cpu()

    def align(image: int, caption: int) -> tuple[list[str], Values]:
        places = real[caption].nonzero()[:, 0]
        values = np.full((data.region_mask.shape[1], len(places)), -np.inf, np.float32)
        values[: regions.shape[1]] = cosines(regions[image, None], words[caption, None, places])[0, 0].numpy()
        values[~data.region_mask[image]] = -np.inf
        return tokenizer.convert_ids_to_tokens(ids[caption, places.numpy()]), values

    return align


def _aligned(data: RetrievalData, align: Align, image: int, caption: int) -> tuple[list[str], Values]:
    words, alignment = align(image, caption)
    return list(words), as_alignment(alignment, words, data.region_mask[image])


def _own(data: RetrievalData, image: int) -> list[int]:
    return np.flatnonzero(data.image_of_caption == image).tolist()


def _still(data: RetrievalData, aligned: Align, image: int, title: str) -> tuple[Figure, str]:
    """A figure with the best aligned words of the image's first caption, and its alt text."""
    caption = _own(data, image)[0]
    words, values = aligned(image, caption)
    telling = [t for t, word in enumerate(words) if word not in FUNCTION_WORDS] or list(range(len(words)))
    shown = np.array(sorted(sorted(telling, key=lambda t: -values[:, t].max())[:STILL_WORDS]))
    text = f"“{data.captions[caption]}”"
    figure = word_boxes(
        data,
        image,
        [words[t] for t in shown],
        values[:, shown],
        f"{title}\n{as_it_is(textwrap.fill(text, 105))}".strip(),
    )
    best = ", ".join(f"{words[t]}: region {values[:, t].argmax()} ({values[:, t].max():.2f})" for t in shown)
    return figure, f"{STILL}picture {image} once for each word of {text}, with its best box. {best}."


def _widget(data: RetrievalData, aligned: Align, rows: list[int], title: str) -> widgets.VBox:
    wide = widgets.Layout(width="98%", max_width="900px")
    names = [(f"{row} · {data.image_ids[row]}", row) for row in rows]
    image = widgets.Dropdown(options=names, description="image", layout=wide)
    caption = widgets.Dropdown(options=_caption_choices(data, rows, rows[0]), description="caption", layout=wide)
    page = widgets.HTML()
    name = f"itr-{secrets.token_hex(6)}"  # radio buttons of one name exclude each other, in all open notebooks

    best = aligned(rows[0], _own(data, rows[0])[0])[1].max(axis=0)
    scale = (float(best.min()), float(best.max()))  # one for all captions, so that their colours can be compared

    def redraw(_: object = None) -> None:
        if caption.value is not None:
            page.value = page_of(data, image.value, *aligned(image.value, caption.value), name, scale)

    def other_image(_: object) -> None:
        caption.options = _caption_choices(data, rows, image.value)
        redraw()

    image.observe(other_image, "value")
    caption.observe(redraw, "value")
    redraw()
    head = [widgets.HTML(f"<b>{html.escape(title)}</b>")] if title else []
    box = widgets.VBox([*head, image, caption, page])
    box.add_class("itr-explorer")
    return box


def _caption_choices(data: RetrievalData, rows: list[int], image: int) -> list[tuple[str, int]]:
    own = [(f"own · {data.captions[c]}", c) for c in _own(data, image)]
    others = [(row, _own(data, row)[0]) for row in rows if row != image]
    return own + [(f"of image {row} · {data.captions[c]}", c) for row, c in others]


def page_of(
    data: RetrievalData, image: int, words: Sequence[str], values: Values, name: str, scale: tuple[float, float]
) -> str:
    """The picture and the words of a caption as HTML: point at a word, click it or use the arrow keys.

    ``values`` is (R, W), minus infinity for padding; ``name`` is that of the group of radio buttons; ``scale`` the
    alignments of the palest and of the yellowest word.
    """
    source, height = _picture_source(data, image)
    best = values.max(axis=0)
    first = int(best.argmax())
    shade = np.clip((best - scale[0]) / max(scale[1] - scale[0], 1e-9), 0, 1)
    labels = [
        _word(data, image, word, values[:, t], float(shade[t]), name, height, t == first)
        for t, word in enumerate(words)
    ]
    return (
        f'{PAGE_STYLE}<div class="itr-page" style="min-height:{height + 8}px">'
        f'<img alt="picture {html.escape(data.image_ids[image])}" height="{height}" src="{source}">'
        '<div class="itr-words" role="radiogroup" aria-label="words of the caption">'
        "<p>Point, click, or use Tab and the arrow keys (Space opens a chooser). The yellower, the better aligned.</p>"
        f"{''.join(labels)}</div><p>The words’ best alignments add up to <b>{best.sum():.2f}</b>.</p></div>"
    )


def _word(
    data: RetrievalData, image: int, word: str, values: np.ndarray, shade: float, name: str, height: int, chosen: bool
) -> str:
    """A radio button that shows a word's boxes and what they score while it is chosen or pointed at."""
    order = [int(r) for r in np.argsort(-values, kind="stable") if np.isfinite(values[r])][:SHOWN]
    word, best = html.escape(word), f"region {order[0]}, alignment {values[order[0]]:.2f}"
    others = ", ".join(f"{r} ({values[r]:.2f})" for r in order[1:4])
    boxes = "".join(_rectangle(data.boxes[image, r], place) for place, r in reversed(list(enumerate(order))))
    ground = "rgb({:.0f},{:.0f},{:.0f})".format(*(245 + shade * (np.array([255, 217, 47]) - 245)))
    return (
        f'<label><input type="radio" name="{name}" aria-label="{word}: {best}"{" checked" if chosen else ""}'
        ' data-lm-suppress-shortcuts="true">'  # the arrow keys are JupyterLab's otherwise
        f'<span class="itr-chip" style="background:{ground}">{word}</span><span class="itr-look">'
        f'<svg viewBox="0 0 1 1" preserveAspectRatio="none" style="height:{height}px">{boxes}</svg>'
        f"<i><b>{word}</b> → {best}<br>{f'then regions {others}' if others else ''}</i></span></label>"
    )


def _rectangle(box: Float[np.ndarray, "4"], place: int) -> str:
    """A box, coordinates in [0, 1], in a dark seam; ``place`` 0 is strong, the later the fainter."""
    x1, y1, x2, y2 = (float(v) for v in box)
    at = f'x="{x1:.4f}" y="{y1:.4f}" width="{x2 - x1:.4f}" height="{y2 - y1:.4f}" fill="none"'
    colour, width, opacity = (OBJECT, 3.5, 1) if place == 0 else ("#fff", 1.3, 0.9 - 0.12 * place)
    strokes = (("#222", width + 2), (colour, width))
    return "".join(
        f'<rect {at} stroke="{c}" stroke-width="{w}" opacity="{opacity:.2f}" vector-effect="non-scaling-stroke"/>'
        for c, w in strokes
    )


def _picture_source(data: RetrievalData, image: int) -> tuple[str, int]:
    """The picture as a data address, sharp on dense screens, and its height on the page in pixels."""
    picture = data.picture(image).convert("RGB")
    height = round(WIDTH * picture.height / picture.width)
    picture.thumbnail((2 * WIDTH, 2 * height))
    file = io.BytesIO()
    picture.save(file, format="JPEG", quality=90, subsampling=0)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}", height
