"""Retrieval without learning: what a score matrix looks like before there is a model to train.

Both baselines compare bags of words, so neither knows which word goes with which.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from scipy import sparse
from torch import Tensor

from itr_lib.data.dataset import RetrievalData
from itr_lib.data.rows import chunks
from itr_lib.data.scenes.lexicon import CANONICAL
from itr_lib.similarity import cosine_scores

ATTRIBUTES = ("shape", "colour", "size", "texture")


def tag_vectors(data: RetrievalData) -> tuple[Float[Tensor, "images tags"], Float[Tensor, "captions tags"]]:
    """Bags of tags, with perfect eyes and no idea of binding: how often each tag is there, and how often it is said.

    A picture is the bag of the names of its objects' attributes and its ground, taken from the scene itself; a
    caption is the bag of the attributes and the ground that it names, synonyms resolved. Both count the same tags.

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
    images, texts = (torch.from_numpy(_counts(bags, names).toarray()) for bags in (pictures, captions))
    return images, texts


def tag_scores(data: RetrievalData) -> Float[Tensor, "images captions"]:
    """Cosines of :func:`tag_vectors`, rounded, so that what is equal on paper is a tie here: many pairs tie."""
    return cosine_scores(*tag_vectors(data)).round(decimals=9)


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
    found_in = np.bincount(counts.indices, minlength=len(names))  # pictures; counts holds no zeros
    rarity = sparse.diags_array(np.log(len(train) / found_in))
    nearest = like.topk(min(neighbours, len(train)), dim=1).indices.numpy()
    rows = np.repeat(np.arange(len(data)), nearest.shape[1])
    borrows = sparse.csr_array((np.ones(nearest.size), (rows, nearest.ravel())), shape=(len(data), len(train)))
    said = _counts([[w for w in caption.lower().split() if w in names] for caption in data.captions], names)
    borrowed = sparse.csr_array(borrows @ counts)
    borrowed.data = np.sqrt(borrowed.data)
    return _sparse_cosine(borrowed @ rarity, said @ rarity)


def _counts(bags: Sequence[Sequence[str]], names: dict[str, int]) -> sparse.csr_array:
    """How often each name is in each bag; sparse, for a vocabulary of words times all captions is mostly zeros."""
    rows = np.repeat(np.arange(len(bags)), [len(bag) for bag in bags])
    columns = [names[name] for bag in bags for name in bag]
    return sparse.csr_array((np.ones(len(columns)), (rows, columns)), shape=(len(bags), len(names)))


def _sparse_cosine(images: sparse.csr_array, captions: sparse.csr_array) -> Float[Tensor, "images captions"]:
    """Cosines of sparse rows; an empty bag scores 0. Rounded, so that what is equal on paper is a tie here."""
    units = [
        sparse.diags_array(1 / np.maximum(np.sqrt(bags.multiply(bags).sum(axis=1)), 1e-12)) @ bags
        for bags in (images, captions)
    ]
    return torch.from_numpy(sparse.csr_array(units[0] @ units[1].T).toarray().round(9))


def _mean_features(data: RetrievalData) -> Float[Tensor, "images features"]:
    data.expect_features()
    total = np.concatenate([some.astype(np.float64).sum(axis=1) for some in chunks(data.features)])
    return torch.from_numpy(total / data.region_mask.sum(axis=1, keepdims=True))
