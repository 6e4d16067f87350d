"""``attended-length``, lesson 03.

The attended vector's length from a Gram matrix, beside the sum over all pairs of regions; gradients too.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from itr_lib.checks._inputs import normal, sizes, unit_vectors
from itr_lib.checks.frame import Case, Exercise, Inputs, Rehearsal


def length_library(weights: Tensor, gram: Tensor) -> Tensor:
    """The library's way: one batched product with the Gram matrices."""
    return (weights * (gram @ weights)).sum(dim=1).clamp(min=0).sqrt()


def _table(*rows) -> Tensor:
    return torch.tensor([rows], dtype=torch.float64)


EXAMPLE = Case(
    {"weights": _table([0.5], [0.3], [0.2]), "gram": _table([1, 0.8, 0], [0.8, 1, 0.6], [0, 0.6, 1])},
    worked=[[0.8319]],
)


def length_cases() -> Iterator[Case]:
    """Attention over some regions and their Gram matrices, as many words as regions and not; then the edges."""
    for seed, (images, regions, words) in enumerate([(2, 4, 3), (3, 5, 5), (1, 3, 1), (2, 1, 4)]):
        yield Case(_inputs(*sizes(images, regions, words), 6, seed))
    loose = _inputs(2, 4, 3, 6, 5)
    scale = torch.tensor([[0.3, 1.7, 2.5], [0.6, 0.1, 1.2]], dtype=torch.float64)
    yield Case(loose | {"weights": loose["weights"] * scale[:, None]}, "the weights do not sum to 1")
    shorter = torch.tensor([0.4, 0.7, 1.9, 0.5], dtype=torch.float64)
    gram = loose["gram"] * shorter[:, None] * shorter
    yield Case(loose | {"gram": gram}, "regions are not of length 1, so that G has other numbers on its diagonal")
    opposed = _table([1, -1], [-1, 1])
    half = torch.full((1, 2, 1), 0.5, dtype=torch.float64)
    yield Case({"weights": half, "gram": opposed}, "the regions cancel each other")
    below = opposed.masked_fill(opposed < 0, -1 - 1e-9)
    yield Case({"weights": half, "gram": below}, "rounding leaves a square a little below 0")


def _inputs(images: int, regions: int, words: int, dim: int, seed: int) -> Inputs:
    vectors = unit_vectors(images, regions, dim, seed=170 + seed)
    return {"weights": normal(images, regions, words, seed=180 + seed).softmax(1), "gram": vectors @ vectors.mT}


def length_specification(weights: Tensor, gram: Tensor) -> Tensor:
    """Image by image and word by word: the sum over all pairs of regions, then the square root."""
    lengths = []
    for image, products in zip(weights, gram, strict=True):
        for t in range(image.shape[1]):
            a, pairs = image[:, t], range(len(image))
            square = sum(a[r] * a[s] * products[r, s] for r in pairs for s in pairs)
            lengths.append(torch.sqrt(square.clamp(min=0)))
    return torch.stack(lengths).view(weights.shape[0], weights.shape[2])


def _length(weights, gram, a=lambda w: w, g=lambda g: g, second=lambda a: a, safe=True, root="last", axis=1):
    """The length with a step done otherwise; every option is a mistake of the family below."""
    weights = a(weights)
    square = second(weights) * (g(gram) @ weights)
    square = {"abs": square.abs(), "relu": square.relu()}.get(root, square)
    if root == "parts":
        return square.clamp(min=0).sqrt().sum(axis)
    square = square.sum(axis) if root != "mean" else square.mean(axis)
    square = square.clamp(min=0) if safe else square
    return square if root == "none" else square**0.25 if root == "twice" else square.sqrt()


def _diagonal(gram: Tensor) -> Tensor:
    return torch.diag_embed(gram.diagonal(dim1=1, dim2=2))


MISTAKES = {
    "each word meets all words, added up: a word has only its own weights, a . G a": lambda weights, gram: (
        (weights.mT @ gram @ weights).sum(2).clamp(min=0).sqrt()
    ),
    "this is the sum of G a: multiply it by a once more, add up, and take the root": lambda weights, gram: (
        gram @ weights
    ).sum(1),
    "this is the length of G a: the squared length of the attended vector is a . G a": lambda weights, gram: (
        gram @ weights
    ).norm(dim=1),
    "this is 1 everywhere: unit vectors that differ add up to something shorter": lambda weights, gram: torch.ones_like(
        weights[:, 0]
    ),
    "this is the sum of the weights: unit vectors that differ add up to something shorter": lambda weights, gram: (
        weights.sum(1)
    ),
    "each word meets every word here, (N, W, W): take the diagonal, or multiply entry by entry and sum over dim 1": (
        lambda weights, gram: (weights.mT @ gram @ weights).clamp(min=0).sqrt()
    ),
    "this is the mean of G, weighed by its rows alone: a comes in from both sides, a . G a": lambda weights, gram: (
        gram.mean(dim=2, keepdim=True) * weights
    ).sum(1),
}
FAMILY: dict[str, dict] = {
    "a sum that is 0 on paper came out negative, and its root is NaN: clamp(min=0) first": {"safe": False},
    "this is the squared length: take the square root": {"root": "none"},
    "the square root is taken twice": {"root": "twice"},
    "you took the square root of each part: it comes last, after the sum": {"root": "parts"},
    "each part has lost its sign before the sum: negative parts shorten the vector": {"root": "abs"},
    "negative parts became 0 before the sum: clamp the sum, not its parts": {"root": "relu"},
    "this is a mean over the regions before the root: add them up": {"root": "mean"},
    "only the diagonal of the Gram matrix is used (or none of it), as if regions were at right angles: all pairs "
    "(r, s) count": {"g": _diagonal},
    "G is not used, as if regions were at right angles and of length 1: all pairs (r, s) count": {
        "g": lambda gram: torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device).expand_as(gram)
    },
    "the diagonal of the Gram matrix is taken to be 1: regions may have any length, so use what stands there": {
        "g": lambda gram: gram - _diagonal(gram) + torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device)
    },
    "the diagonal counts twice: the double sum over r and s has each v_r . v_r once": {
        "g": lambda gram: gram + _diagonal(gram)
    },
    "each pair of different regions comes twice in the double sum, (r, s) and (s, r); you count it once": {
        "g": torch.triu
    },
    "the diagonal is left out: the double sum over r and s has each v_r . v_r once": {
        "g": lambda gram: gram - _diagonal(gram)
    },
    "you count each pair above the diagonal alone: (r, s), (s, r) and (r, r) all belong to the sum": {
        "g": lambda gram: gram.triu(1)
    },
    "the Gram matrix is squared: its numbers are the dot products themselves": {"g": torch.square},
    "the Gram matrix has lost its signs: regions that point apart shorten the sum": {"g": torch.abs},
    "negative dot products became 0: regions that point apart shorten the sum": {"g": torch.relu},
    "the weights come in once: the sum has a_r and a_s": {"second": torch.ones_like},
    "the weights are squared on one side: the sum has a_r and a_s, each once": {"second": torch.square},
    "the weights are brought to a sum of 1 first: take them as they are": {"a": lambda w: w / w.sum(1, keepdim=True)},
    "a softmax is taken of the weights: they are attention already": {"a": lambda w: w.softmax(1)},
    "the weights are brought to length 1 first: take them as they are": {
        "a": lambda w: w / w.norm(dim=1, keepdim=True)
    },
    "the sum runs over the words: each word's own column is added up, over the regions (dim 1)": {"axis": 2},
    "the sum runs over the pictures: each word's own column is added up, over the regions (dim 1)": {"axis": 0},
}


def _real_work() -> Inputs:
    """A part of a batch."""
    return {name: value.float() for name, value in _inputs(2, 36, 26, 64, 9).items()}


EXERCISE = Exercise(
    "attended-length",
    library=length_library,
    example=EXAMPLE,
    cases=length_cases,
    specification=length_specification,
    mistakes=MISTAKES,
    gradients=("weights", "gram"),
    family=(_length, FAMILY),
    rehearsal=Rehearsal(_real_work, calls=16 * 32 * 32),
)
