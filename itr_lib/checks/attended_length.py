"""``attended-length``, lesson 03.

The attended vector's length from a Gram matrix, beside the sum over all pairs of regions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from itr_lib.checks._inputs import normal, unit_vectors
from itr_lib.checks.frame import Exercise
from itr_lib.checks.outcome import Inputs


def length_cases() -> Iterator[Inputs]:
    """Weights over some regions and their Gram matrices; as many words as regions and not; one of each."""
    for seed, (images, regions, words) in enumerate([(2, 4, 3), (3, 5, 5), (1, 3, 1), (2, 1, 4)]):
        vectors = unit_vectors(images, regions, 6, seed=170 + seed)
        weights = normal(images, regions, words, seed=180 + seed).softmax(1)
        yield {"weights": weights, "gram": vectors @ vectors.mT}
    opposed = torch.tensor([[[1.0, -1.0], [-1.0, 1.0]]], dtype=torch.float64)
    yield {"weights": torch.full((1, 2, 1), 0.5, dtype=torch.float64), "gram": opposed}
    below = opposed.masked_fill(opposed < 0, -1 - 1e-9)  # as rounding leaves it: the square is a little below 0
    yield {"weights": torch.full((1, 2, 1), 0.5, dtype=torch.float64), "gram": below}


def length_specification(weights: Tensor, gram: Tensor) -> Tensor:
    """Image by image and word by word: the sum over all pairs of regions, then the square root."""
    lengths = []
    for image, products in zip(weights.tolist(), gram.tolist(), strict=True):
        for t in range(len(image[0])):
            a = [row[t] for row in image]
            square = sum(a[r] * a[s] * products[r][s] for r in range(len(a)) for s in range(len(a)))
            lengths.append(math.sqrt(max(square, 0.0)))
    return weights.new_tensor(lengths).view(weights.shape[0], weights.shape[2])


def _square(weights: Tensor, gram: Tensor) -> Tensor:
    return (weights * (gram @ weights)).sum(1).clamp(min=0)


LENGTH_MISTAKES = {
    "a sum that is 0 on paper came out negative, and its root is NaN: clamp(min=0) first": (
        lambda weights, gram: (weights * (gram @ weights)).sum(1).sqrt()
    ),
    "this is the squared length: take the square root": _square,
    "only the diagonal of the Gram matrix is used (or none of it), as if regions were at right angles: all pairs "
    "(r, s) count": (lambda weights, gram: (weights**2 * gram.diagonal(dim1=1, dim2=2)[..., None]).sum(1).sqrt()),
    "the diagonal counts twice: the double sum over r and s has each v_r . v_r once": lambda weights, gram: (
        _square(weights, gram) + (weights**2 * gram.diagonal(dim1=1, dim2=2)[..., None]).sum(1)
    ).sqrt(),
    "the weights come in once: the sum has a_r and a_s": lambda weights, gram: (
        (gram @ weights).sum(1).clamp(min=0).sqrt()
    ),
    "this is the sum of the weights, which is 1: unit vectors that differ add up to something shorter": (
        lambda weights, gram: weights.sum(1)
    ),
    "each pair of different regions comes twice in the double sum, (r, s) and (s, r)": lambda weights, gram: (
        (weights * (gram.triu() @ weights)).sum(1).clamp(min=0).sqrt()
    ),
    "you took the square root of each part: it comes last, after the sum": lambda weights, gram: (
        (weights * (gram @ weights)).clamp(min=0).sqrt().sum(1)
    ),
    "this is the length of G a: the squared length of the attended vector is a . G a": lambda weights, gram: (
        gram @ weights
    ).norm(dim=1),
}

EXERCISE = Exercise("attended-length", length_cases, length_specification, LENGTH_MISTAKES)
