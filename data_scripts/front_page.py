"""Draw the pictures of the front page: a search by a model that is trained for it, and a thumbnail a lesson.

    python -m data_scripts.front_page                 # all of them
    python -m data_scripts.front_page --only search   # or --only lessons

The model is lesson 02's TERAN in its quick profile: some five minutes on a CPU, and a run that was stopped goes on.
Thumbnails are cut from the figures of the executed lessons in ``solutions/``.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image, ImageChops, ImageOps
from transformers import PreTrainedTokenizerBase

from itr_lib.data import load_splits, train_tokenizer
from itr_lib.data.boxes import iou
from itr_lib.data.dataset import RetrievalData
from itr_lib.data.questions import scene_questions
from itr_lib.encoders.tokens import Tokens
from itr_lib.evaluation.pointing import question_alignments
from itr_lib.figures import MATCH
from itr_lib.inference import encode, rows_of
from itr_lib.lessons import recipes
from itr_lib.training import train

REPO = Path(__file__).resolve().parents[1]
IMAGES = REPO / "docs" / "images"
CAPTION = 4911  # of the test split; one that is easy to read and that the model answers well
KINDS = ("shape", "colour", "texture")  # words that have a look of their own
FOUND = 5
DPI = 150
PEN = ("#c2185b", "#0057b8", "#b35900", "#5e35b1")  # an object's boxes and words; dark enough to read on white
GREY = "#8c8c8c"
THUMBNAIL = (360, 240)
# lesson: how the alt text of its figure begins, and which part of it to show (left, top, right, bottom; 1 = all)
THUMBNAILS = {
    "00_retrieval_basics": ("Text to image: the five best pictures", (0.22, 0.08, 0.69, 0.67)),
    "01_global_embeddings": ("Twins: ", (0.0, 0.08, 1.0, 0.82)),
    "02_fine_grained_alignment": ("Explorer, still: ", (0.4, 0.11, 0.8, 0.52)),
    "03_hard_alignment": ("The softer the coding, the more", (0.03, 0.215, 0.655, 0.69)),
    "04_momentum_queues": ("A row of 8 places", (0.0, 0.1, 0.757, 1.0)),
    "05_tgdt_cmc": ("Two stages find nearly what aligning everything finds", (0.0, 0.0, 1.0, 1.0)),
    "06_real_photographs": ("A few words changed", (0.0, 0.04, 1.0, 0.27)),
    "07_search_at_scale": ("Three of sixteen cells", (0.15, 0.12, 0.85, 0.9)),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw what was asked for into ``docs/images``."""
    parser = argparse.ArgumentParser("python -m data_scripts.front_page", description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=("search", "lessons"))
    parser.add_argument("--caption", type=int, default=CAPTION, help="row of the test caption that asks")
    parser.add_argument("--weights", type=Path, default=REPO / "runs" / "front-page", help="where the training is kept")
    parser.add_argument("--notebooks", type=Path, default=REPO / "solutions", help="where executed lessons lie")
    parser.add_argument("--out", type=Path, default=IMAGES)
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    if options.only != "lessons":
        draw_search(options.caption, options.weights, options.out / "search.png")
    if options.only != "search":
        for lesson, (alt, part) in THUMBNAILS.items():
            picture = thumbnail(options.notebooks / f"{lesson}.ipynb", alt, part)
            picture.save(options.out / f"{lesson[:2]}.png", optimize=True)


def draw_search(caption: int, folder: Path, path: Path) -> None:
    """Train, or take up what was trained; ask with one caption of the test split; draw what came of it."""
    splits = load_splits("scenes", profile="quick")
    tokenizer = train_tokenizer(splits.train.captions)
    recipe = recipes.teran("quick")
    model = recipe.build(splits.train, tokenizer)
    train(model, recipe.objective, tokenizer, splits.train, splits.val, recipe.training, folder=folder)
    images, captions = encode(model, tokenizer, splits.test)
    with torch.no_grad():
        scores = model.scores(images, rows_of(captions, torch.tensor([caption])))[:, 0]
    found = scores.topk(FOUND).indices.tolist()
    pointed = pointed_regions(splits.test, tokenizer, images, captions, caption)
    owner = int(splits.test.image_of_caption[caption])
    print(f"“{splits.test.captions[caption]}”, of picture {owner}, found {found}; words and regions: {pointed}")
    save_small(search_figure(splits.test, caption, pointed, found), path)


def pointed_regions(
    data: RetrievalData, tokenizer: PreTrainedTokenizerBase, images: Tokens, captions: Tokens, caption: int
) -> dict[int, int]:
    """For each word of a caption that has a look (its place among the words) the region it aligns with best."""
    image = int(data.image_of_caption[caption])
    own = np.flatnonzero(data.image_of_caption == image)
    one = data.take(np.array([image]))
    questions = scene_questions(one, tokenizer, KINDS)
    regions, words = rows_of(images, torch.tensor([image])), rows_of(captions, torch.from_numpy(own))
    alignments = question_alignments(*regions, *words, one.image_of_caption, questions)
    asked = own[questions.caption] == caption
    return dict(zip(questions.item[asked].tolist(), alignments[asked].argmax(axis=1).tolist(), strict=True))


def search_figure(data: RetrievalData, caption: int, pointed: dict[int, int], found: Sequence[int]) -> Figure:
    """The caption; its picture, with the words on the regions that they align with; the pictures found, in order."""
    owner = int(data.image_of_caption[caption])
    words = [word.text for word in data.truth.captions[caption].words]
    objects = objects_of(data.boxes[owner].astype(float), pointed)
    figure = plt.figure(figsize=(9.2, 5.35), dpi=DPI)
    write_caption(figure, words, objects)
    scene = show_picture(figure, (0.012, 0.02, 0.452, 0.7773), data, owner)
    for place, region in pointed.items():
        draw_box(scene, data.boxes[owner, region], PEN[objects[place]])
    for number in sorted(set(objects.values())):
        places = [place for place in pointed if objects[place] == number]
        name_box(
            scene, data.boxes[owner, [pointed[p] for p in places]], " ".join(words[p] for p in places), PEN[number]
        )
    for rank, image in enumerate(found):
        own = image == owner
        corner = (0.5 + 0.167 * (rank % 3), 0.42 - 0.4 * (rank // 3))
        axis = show_picture(figure, (*corner, 0.155, 0.2665), data, image, *((MATCH, 5) if own else (GREY, 1)))
        axis.set_title(f"{rank + 1}" + ("  ✓" if own else ""), fontsize=16, color=MATCH if own else "black", pad=6)
    figure.text(0.5, 0.775, f"the first {len(found)} of {len(data):,} pictures", fontsize=16, va="center")
    figure.text(0.838, 0.15, "✓ the picture\nit was written\nabout", fontsize=14, va="center", color=MATCH)
    return figure


def objects_of(boxes: Float[np.ndarray, "regions 4"], pointed: dict[int, int]) -> dict[int, int]:
    """A number for each word: words whose regions overlap speak of one object."""
    firsts: list[int] = []
    numbers = {}
    for place, region in pointed.items():
        alike = np.flatnonzero(iou(boxes[[region]], boxes[firsts])[0] > 0.4) if firsts else []
        firsts += [] if len(alike) else [region]
        numbers[place] = int(alike[0]) if len(alike) else len(firsts) - 1
    return numbers


def write_caption(figure: Figure, words: Sequence[str], objects: dict[int, int]) -> None:
    """The sentence over the page; words that point, in the colour of what they point at."""
    x, y = 0.012, 0.945
    for place, word in enumerate(words):
        word = f"{'“' * (place == 0)}{word}{'”' * (place == len(words) - 1)}"
        style = {"color": PEN[objects[place]], "weight": "bold"} if place in objects else {"color": "black"}
        text = figure.text(x, y, word, fontsize=20, va="center", **style)
        width = text.get_window_extent().transformed(figure.transFigure.inverted()).width
        if x + width > 0.99:
            x, y = 0.012, y - 0.08
            text.set_position((x, y))
        x += width + 0.0095


def show_picture(
    figure: Figure, place: tuple[float, ...], data: RetrievalData, image: int, colour: str = GREY, width: float = 1
) -> Axes:
    """A picture in a frame; ``place`` is left, bottom, width, height in shares of the figure."""
    axis = figure.add_axes(place)
    axis.imshow(data.picture(image), extent=(0, 1, 1, 0), interpolation="lanczos")
    axis.set(xticks=[], yticks=[], xlim=(0, 1), ylim=(1, 0))
    for spine in axis.spines.values():
        spine.set(visible=True, color=colour, linewidth=width)
    return axis


def draw_box(axis: Axes, box: Float[np.ndarray, "4"], colour: str) -> None:
    """One region, seen on every ground."""
    x1, y1, x2, y2 = box.astype(float)
    for ink, width in (("white", 5.0), (colour, 2.6)):
        axis.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, ec=ink, lw=width))


def name_box(axis: Axes, boxes: Float[np.ndarray, "some 4"], name: str, colour: str) -> None:
    """The words over their boxes, or under them where there is no room above."""
    (x1, y1), (x2, y2) = boxes[:, :2].min(axis=0).astype(float), boxes[:, 2:].max(axis=0).astype(float)
    above, middle = y1 > 0.12, (x1 + x2) / 2
    side = "center" if 0.25 < middle < 0.75 else "left" if middle <= 0.25 else "right"
    x = {"center": middle, "left": max(x1, 0.02), "right": min(x2, 0.98)}[side]
    label = {"boxstyle": "round,pad=0.2", "fc": colour, "ec": "white", "lw": 1.2}
    y, edge = (y1 - 0.025, "bottom") if above else (y2 + 0.025, "top")
    axis.text(x, y, name, ha=side, va=edge, fontsize=15, color="white", weight="bold", bbox=label)


def save_small(figure: Figure, path: Path) -> None:
    """As a PNG of 256 colours on white, a quarter of the bytes of all colours."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", facecolor="white", dpi=DPI)
    plt.close(figure)
    Image.open(drawn).convert("RGB").quantize(256, kmeans=1, dither=Image.Dither.NONE).save(path, optimize=True)


def thumbnail(notebook: Path, alt: str, part: tuple[float, float, float, float]) -> Image.Image:
    """A part of the figure whose alt text begins like this, on white, all thumbnails of one size.

    Raises ``ValueError`` where the notebook was not executed, or has no such figure.
    """
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    pages = ["".join(out["data"].get("text/html", "")) for c in cells for out in c.get("outputs", ()) if "data" in out]
    for page in pages:
        found = re.match(r'<img alt="([^"]*)".*?base64,([^"]*)"', page)
        if found and found[1].startswith(alt):
            figure = Image.open(io.BytesIO(base64.b64decode(found[2]))).convert("RGB")
            corners = np.array(part) * np.tile(figure.size, 2)
            cut = figure.crop(tuple(corners.round().astype(int)))
            cut = cut.crop(ImageChops.difference(cut, Image.new("RGB", cut.size, "white")).getbbox())
            return ImageOps.pad(cut, THUMBNAIL, Image.Resampling.LANCZOS, color="white").quantize(128, kmeans=1)
    raise ValueError(f"{notebook} has no figure whose alt text begins with {alt!r}: execute it first")


if __name__ == "__main__":
    main()
