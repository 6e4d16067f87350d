"""What lesson 06 works on: 29 photographs that may be shown and a model for them, or a reader's own folder.

Beside this file lie the photographs, of COCO 2017 (Lin et al., ECCV 2014), with captions, boxes and licences
(``photographs.json``); what EfficientNet-lite0 (ImageNet) saw in each, a map of 8 x 8 cells (``cells.npz``); and a
small TGDT that learnt from Flickr8k (``model/``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from itr_lib.data.boxes import SHOWN, WHOLE, iou
from itr_lib.data.dataset import RetrievalData
from itr_lib.data.photographs.arrays import load_arrays
from itr_lib.data.photographs.pictures import open_row
from itr_lib.data.questions import Questions, questions_of, token_spans
from itr_lib.data.tokenisation import load_tokenizer
from itr_lib.lessons import recipes
from itr_lib.lessons.lesson import Lesson
from itr_lib.lessons.recorded import recorded
from itr_lib.models import load_model

HERE = Path(__file__).parent
LESSON, RECORDED_ON = "06_real_photographs", "flickr8k"
# How captions name the objects that COCO has a label for, beside the label itself and its plural.
SAID = {
    "person": "man men woman people boy persons skateboarder player baker riders equestrians group family adults",
    "dining table": "table",
    "suitcase": "luggage bags",
    "bird": "canary parakeet seagull",
    "dog": "poodle",
    "laptop": "macbook computer",
    "cell phone": "phone cellphone",
    "tv": "monitors monitor",
    "bicycle": "bike",
    "wine glass": "wine glass",
    "car": "taxi car",
}

Pool = Callable[[Tensor, Tensor], Tensor]  # (H, W, C), (R, 4) -> (R, C)


@dataclass(frozen=True, eq=False)
class Album:
    """Photographs to search. Of a reader's own folder ``data`` is all there is, and ``questions`` where it has boxes.

    Attributes:
        data: the split; of the course's photographs its regions are for :func:`with_regions` to make.
        fits: True = a caption is true of a photograph: of its own and, of the course's photographs, of others, as one
            author of the course judges it.
        cells: what the image network saw, its last map.
        objects: of each photograph the labels and the boxes of its objects.
        questions: phrases and the regions that they speak of.
    """

    data: RetrievalData
    fits: Bool[np.ndarray, "captions images"]
    cells: Float[Tensor, "images height width channels"] | None = None
    objects: tuple[tuple[list[str], Float[np.ndarray, "objects 4"]], ...] = ()
    questions: Questions | None = None


def open_album(lesson: Lesson) -> tuple[Album, nn.Module, PreTrainedTokenizerBase]:
    """What the lesson searches, with a model and its tokenizer.

    On the course's own data these are the 29 photographs and the model that comes with them. From a folder it is the
    test split, and a TGDT that is trained on the training split now. Raises ``ValueError`` as ``lesson.load`` does.
    """
    if lesson.data == "scenes":
        return load_album(), load_model(HERE / "model").to(lesson.device), load_tokenizer(HERE / "model" / "tokenizer")
    splits, tokenizer = lesson.load()
    recipe = recipes.tgdt_on_photographs(lesson.profile, seed=lesson.seed)
    model = recipe.build(splits.train, tokenizer).to(lesson.device)
    lesson.train(model, recipe.objective, recipe.training, label="TGDT")
    own = splits.test.image_of_caption[:, None] == np.arange(len(splits.test))
    return Album(splits.test, own, questions=questions_of(splits, tokenizer)), model.eval(), tokenizer


def load_album() -> Album:
    """The 29 photographs of the course; their one region is the whole picture, the mean of its map."""
    images = json.loads((HERE / "photographs.json").read_text(encoding="utf-8"))["images"]
    names = [image["filename"] for image in images]
    sentences = [(row, sentence) for row, image in enumerate(images) for sentence in image["sentences"]]
    cells = torch.from_numpy(load_arrays(HERE / "cells.npz")["cells"].astype(np.float32))
    owner = np.array([row for row, _ in sentences])
    fits = owner[:, None] == np.arange(len(images))
    for caption, (_, sentence) in enumerate(sentences):
        fits[caption, [names.index(name) for name in sentence.get("fits", ())]] = True
    data = RetrievalData(
        name="photographs",
        split="test",
        image_ids=tuple(names),
        captions=tuple(sentence["raw"] for _, sentence in sentences),
        image_of_caption=owner,
        features=cells.mean(dim=(1, 2))[:, None].numpy(),
        boxes=np.tile(WHOLE, (len(images), 1, 1)),
        region_mask=np.ones((len(images), 1), bool),
        open_picture=partial(open_row, tuple(HERE / "images" / name for name in names)),
    )
    return Album(data, fits, cells, tuple(_objects(image) for image in images))


def _objects(image: dict) -> tuple[list[str], Float[np.ndarray, "objects 4"]]:
    boxes = np.array([thing["box"] for thing in image["objects"]]) / np.tile(image["size"], 2)
    return [thing["label"] for thing in image["objects"]], boxes.clip(0, 1)


def with_regions(
    data: RetrievalData, features: Sequence[Float[Tensor, "_ dim"]], boxes: Sequence[Float[Tensor, "_ 4"]]
) -> RetrievalData:
    """The same photographs with these regions, one matrix of vectors and one of boxes a photograph."""
    most = max(map(len, boxes))
    stacked = np.zeros((len(data), most, features[0].shape[1]), np.float32)
    corners, mask = np.zeros((len(data), most, 4), np.float32), np.zeros((len(data), most), bool)
    for row, (vectors, own) in enumerate(zip(features, boxes, strict=True)):
        stacked[row, : len(own)], corners[row, : len(own)], mask[row, : len(own)] = vectors, own, True
    return replace(data, features=stacked, boxes=corners, region_mask=mask)


def boxed(album: Album, pool: Pool) -> RetrievalData:
    """The photographs with their objects' boxes as regions, each pooled from the map by ``pool``.

    Of a reader's own folder the split as it is.
    """
    if album.cells is None:
        return album.data
    boxes = [torch.from_numpy(corners).float() for _, corners in album.objects]
    return with_regions(album.data, [pool(*pair) for pair in zip(album.cells, boxes, strict=True)], boxes)


def object_questions(album: Album, tokenizer: PreTrainedTokenizerBase) -> Questions | None:
    """For each word of a caption that names a labelled object: which of the boxes show one of that label.

    Kinds are the labels. Of a reader's own folder the questions that it came with, or None.
    """
    if album.cells is None:
        return album.questions
    asked = [
        (caption, match.span(), label, at)
        for caption, text in enumerate(album.data.captions)
        for at, match in enumerate(re.finditer(r"\w+", text.lower()))
        if (label := _label_of(match[0], album.objects[album.data.image_of_caption[caption]][0]))
    ]
    caption, span, label, item = (np.array(column) for column in zip(*asked, strict=True))
    most = max(len(labels) for labels, _ in album.objects)
    right = np.zeros((len(caption), most), bool)
    for row, (own, name) in enumerate(zip(album.data.image_of_caption[caption], label, strict=True)):
        labels, boxes = album.objects[own]
        meant = boxes[[other == name for other in labels]]
        right[row, : len(labels)] = (iou(boxes, meant) >= SHOWN).any(axis=1)
    start, stop, problem = token_spans(tokenizer, album.data.captions, caption, span)
    kept = problem == ""
    return Questions(caption[kept], start[kept], stop[kept], right[kept], label[kept], item[kept])


def _label_of(word: str, labels: Sequence[str]) -> str:
    """The label among those of a photograph that a word names, or ""."""
    for label in dict.fromkeys(labels):
        if word in (label, f"{label}s", f"{label}es", *SAID.get(label, "").split()):
            return label
    return ""


def judged_fits(
    album: Album, judged: str, captions: Int[np.ndarray, " pairs"], images: Int[np.ndarray, " pairs"]
) -> tuple[Bool[Tensor, " pairs"], str]:
    """Which captions are true of which photographs, pair by pair, and who says so.

    ``judged`` has a letter a pair, ``y`` or ``n``; blanks do not count. Where it is empty it is what an author of the
    course judged. Raises ``ValueError`` for another letter or another number of them.
    """
    letters = "".join(judged.lower().split())
    if not letters:
        return torch.from_numpy(
            album.fits[captions, images]
        ), "an author of the course" if album.objects else "nobody yet"
    if set(letters) - set("yn") or len(letters) != len(captions):
        raise ValueError(f"judged is {judged!r}: expected {len(captions)} letters, y or n, one a photograph in order")
    return torch.tensor([letter == "y" for letter in letters]), "you"


def steps(metric: str, variants: Sequence[str]) -> dict[str, list[float]]:
    """The recorded values of a metric, one a seed, of some variants on Flickr8k; {} where nothing was recorded."""
    record = recorded(LESSON, RECORDED_ON) or {"runs": []}
    runs = {name: [r["metrics"] for r in record["runs"] if r["variant"] == name] for name in variants}
    return {name: [float(one[metric]) for one in some] for name, some in runs.items() if some}
