"""Retrieval without learning: what a score matrix looks like before there is a model to train.

Both baselines compare bags of words, so neither knows which word goes with which.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from itr_lib.data.dataset import RetrievalData
from itr_lib.data.lexicon import CANONICAL
from itr_lib.similarity import cosine_scores

ATTRIBUTES = ("shape", "colour", "size", "texture")


def tag_scores(data: RetrievalData) -> Float[Tensor, "images captions"]:
    """How many of a caption's words name something in the scene, with perfect eyes and no idea of binding.

    A picture is the bag of the names of its objects' attributes and its ground, taken from the scene itself; a
    caption is the bag of the attributes and the ground that it names, synonyms resolved. The score is their cosine:
    many pairs tie.

    Raises:
        ValueError: for data without known scenes.
    """
    if data.truth is None:
        raise ValueError(f"{data.name!r} has no known scenes to take tags from")
    pictures = [
        [scene.ground, *(v for o in scene.objects for v in (o.shape, o.colour, o.size, o.texture))]
        for scene in data.truth.scenes
    ]
    captions = [
        [CANONICAL[word.text][1] for word in caption.words if word.kind in ATTRIBUTES]
        + ([caption.meaning.ground] if caption.meaning.ground else [])
        for caption in data.truth.captions
    ]
    names = {name: column for column, name in enumerate(sorted({n for bag in pictures + captions for n in bag}))}
    return cosine_scores(_counts(pictures, names), _counts(captions, names))


def neighbour_scores(
    train: RetrievalData, data: RetrievalData, neighbours: int = 10
) -> Float[Tensor, "images captions"]:
    """A picture borrows the words of the training pictures that look most like it (by the mean of its features).

    Words are weighted by their rarity among the training captions (inverse document frequency).
    """
    like = cosine_scores(_mean_features(data), _mean_features(train))
    bags = [" ".join(train.captions_of(i)).lower().split() for i in range(len(train))]
    names = {name: column for column, name in enumerate(sorted({word for bag in bags for word in bag}))}
    counts = _counts(bags, names)
    rarity = torch.log(len(train) / (counts > 0).sum(dim=0))
    borrowed = torch.stack([counts[row].sum(dim=0) for row in like.topk(min(neighbours, len(train)), dim=1).indices])
    said = _counts([[w for w in caption.lower().split() if w in names] for caption in data.captions], names)
    return cosine_scores(borrowed.sqrt() * rarity, said * rarity)


def _counts(bags: Sequence[Sequence[str]], names: dict[str, int]) -> Float[Tensor, "bags names"]:
    counts = np.zeros((len(bags), len(names)), np.float64)
    for row, bag in enumerate(bags):
        np.add.at(counts[row], [names[name] for name in bag], 1)
    return torch.from_numpy(counts)


def _mean_features(data: RetrievalData) -> Float[Tensor, "images features"]:
    total = data.features.astype(np.float64).sum(axis=1)
    return torch.from_numpy(total / data.region_mask.sum(axis=1, keepdims=True))
