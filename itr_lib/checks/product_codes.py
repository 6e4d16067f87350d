"""``product-codes``, lesson 07.

The nearest centroid of each part of each vector, beside loops over vectors, parts and centroids.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from itr_lib.checks._inputs import normal, sizes
from itr_lib.checks._mistakes import unit
from itr_lib.checks.frame import Case, Exercise, Rehearsal
from itr_lib.checks.outcome import Inputs
from itr_lib.search.codes import product_codes

EXAMPLE = Case(
    {
        "vectors": torch.tensor([[1, 0, 0, 1], [0, 1, 4, 4]], dtype=torch.float64),
        "codebooks": torch.tensor([[[1, 0], [0, 1]], [[0, 0], [3, 3]]], dtype=torch.float64),
    },
    worked=[[0, 0], [1, 1]],
)
# vectors, parts, centroids, width of a part, trap
SHAPES = [
    (9, 4, 6, 3, ""),
    (12, 2, 5, 4, ""),
    (1, 3, 4, 2, "there is one vector"),
    (8, 1, 7, 5, "there is one part"),
    (10, 5, 3, 1, "a part is one number"),
    (6, 3, 3, 3, "there are as many centroids as parts"),
    (7, 2, 1, 3, "a codebook has one centroid"),
]


def codes_cases() -> Iterator[Case]:
    """Centroids of any length, so that the nearest has not the highest dot product; one part; one number."""
    for seed, (*shape, trap) in enumerate(SHAPES):
        count, parts, centroids, width = sizes(*shape)
        books = 2 * normal(parts, centroids, width, seed=1600 + seed)
        yield Case({"vectors": normal(count, parts * width, seed=1620 + seed), "codebooks": books}, trap)


def codes_specification(vectors: Tensor, codebooks: Tensor) -> Tensor:
    """Vector by vector, part by part, centroid by centroid."""
    width, codes = codebooks.shape[2], []
    for vector in vectors.tolist():
        own = []
        for m, book in enumerate(codebooks.tolist()):
            part = vector[m * width : (m + 1) * width]
            far = [sum((x - y) ** 2 for x, y in zip(part, centroid, strict=True)) for centroid in book]
            own.append(far.index(min(far)))
        codes.append(own)
    return torch.tensor(codes)


def _cut(vectors: Tensor, parts: int) -> Tensor:
    """(N, d) -> (N, M, d/M)."""
    return vectors.unflatten(1, (parts, -1))


def _euclidean(parts: Tensor, books: Tensor) -> Tensor:
    """(N, M, w), (M, K, w) -> (N, M, K)."""
    return (parts[:, :, None] - books).square().sum(dim=3)


def _dots(parts: Tensor, books: Tensor) -> Tensor:
    return torch.einsum("nmw,mkw->nmk", parts, books)


def codes_with(
    vectors, codebooks, cut=_cut, far=_euclidean, take=lambda far: far.argmin(dim=2), books=lambda books: books,
    arrange=lambda codes: codes,
) -> Tensor:  # fmt: skip
    """The codes, with options to spoil them."""
    return arrange(take(far(cut(vectors, len(codebooks)), books(codebooks))))


TOGGLES: dict[str, dict[str, object]] = {
    "the centroid with the highest dot product is taken, where a long one wins: the nearest by Euclidean distance": {
        "far": lambda parts, books: -_dots(parts, books)
    },
    "the centroid with the lowest dot product is taken: the nearest by Euclidean distance": {"far": _dots},
    "the centroid with the highest cosine is taken, which says nothing of lengths: Euclidean distance": {
        "far": lambda parts, books: -_dots(unit(parts), unit(books))
    },
    "distances are sums of absolute differences (p=1): Euclidean distance squares them": {
        "far": lambda parts, books: (parts[:, :, None] - books).abs().sum(dim=3)
    },
    "the largest difference alone counts as the distance: Euclidean distance sums the squares": {
        "far": lambda parts, books: (parts[:, :, None] - books).abs().amax(dim=3)
    },
    "differences are summed with their signs, where they cancel: square them first": {
        "far": lambda parts, books: (parts[:, :, None] - books).sum(dim=3)
    },
    "differences are summed with their signs, and squared after that: square them first": {
        "far": lambda parts, books: (parts[:, :, None] - books).sum(dim=3).square()
    },
    "the centroids' own lengths are missing in |v|^2 - 2 v c + |c|^2, or count once too often: with them it is a "
    "distance": {"far": lambda parts, books: books.square().sum(dim=2) - _dots(parts, books)},
    "the shortest centroid is taken, whatever the vector is": {
        "far": lambda parts, books: books.square().sum(dim=2).expand(len(parts), -1, -1)
    },
    "the farthest centroid is taken: the nearest, argmin": {"take": lambda far: far.argmax(dim=2)},
    "this is the place of a part, not the number of a centroid: the smallest distance along the centroids": {
        "take": lambda far: far.argmin(dim=1)
    },
    "the vectors compete for each centroid: it is the centroids that compete for each part of a vector, along their "
    "own axis": {"take": lambda far: far.argmin(dim=0)},
    "these are all centroids in their order: the nearest alone, argmin": {"take": lambda far: far.argsort(dim=2)},
    "this is the second nearest centroid: the nearest, argmin": {
        "take": lambda far: far.argsort(dim=2)[:, :, min(1, far.shape[2] - 1)]
    },
    "numbers begin at 1: the first centroid is number 0": {"take": lambda far: far.argmin(dim=2) + 1},
    "these are the distances: the numbers of the nearest centroids are asked for, argmin": {
        "take": lambda far: far.amin(dim=2)
    },
    "these are the distances, with a root: the numbers of the nearest centroids are asked for, argmin": {
        "take": lambda far: far.amin(dim=2).sqrt()
    },
    "these are all distances: the numbers of the nearest centroids are asked for, argmin": {"take": lambda far: far},
    "a part takes every M-th number of a vector: parts lie one behind the other, chunk(M, dim=1)": {
        "cut": lambda vectors, parts: vectors.unflatten(1, (-1, parts)).mT
    },
    "the parts are taken from the back: part 0 is the first numbers of a vector": {
        "cut": lambda vectors, parts: _cut(vectors, parts).flip(1)
    },
    "every part is the first one: cut the vector into all of its parts": {
        "cut": lambda vectors, parts: _cut(vectors, parts)[:, :1].expand(-1, parts, -1)
    },
    "parts overlap, each one number further on: they lie one behind the other, chunk(M, dim=1)": {
        "cut": lambda vectors, parts: vectors.unfold(1, vectors.shape[1] // parts, 1)[:, :parts]
    },
    "vectors are brought to length 1 first: take them as they come": {
        "cut": lambda vectors, parts: _cut(unit(vectors), parts)
    },
    "parts are brought to length 1 first: take them as they come": {
        "cut": lambda vectors, parts: unit(_cut(vectors, parts))
    },
    "every part meets the first codebook: each part has its own": {"books": lambda books: books[:1].expand_as(books)},
    "every part meets the last codebook: each part has its own": {"books": lambda books: books[-1:].expand_as(books)},
    "part 0 meets the last codebook, and so on backwards: part m has codebook m": {
        "books": lambda books: books.flip(0)
    },
    "rows and columns are exchanged: a row a vector, a column a part; stack with dim=1": {
        "arrange": lambda codes: codes.mT
    },
    "all codes lie in one row: (N, M), a row a vector": {"arrange": torch.flatten},
    "the codes of all parts are one after the other in one row: stack them side by side, dim=1": {
        "arrange": lambda codes: codes.mT.flatten()
    },
    "only the first part's codes are returned: those of all parts; does a return stand inside the loop?": {
        "arrange": lambda codes: codes[:, 0]
    },
    "only the last part's codes are returned: those of all parts, stacked": {"arrange": lambda codes: codes[:, -1]},
}


def _whole_centroid(vectors, codebooks):
    """One number for a whole vector: the parts' distances are added up before the smallest is taken."""
    return _euclidean(_cut(vectors, len(codebooks)), codebooks).sum(dim=1).argmin(dim=1)


def _whole_centroid_each(vectors, codebooks):
    return _whole_centroid(vectors, codebooks)[:, None].expand(-1, len(codebooks))


def _rebuilt(vectors, codebooks):
    codes = codes_with(vectors, codebooks)
    return codebooks[torch.arange(len(codebooks)), codes].flatten(1)


def _one_number(vectors, codebooks):
    """Numbers that count through all codebooks."""
    return codes_with(vectors, codebooks) + codebooks.shape[1] * torch.arange(len(codebooks))


CODES_MISTAKES: dict[str, Callable] = {
    "each vector has one number for all its parts: each part has its own, so add up no distances of different parts": (
        _whole_centroid
    ),
    "all parts have the same number: each part has its own, so add up no distances of different parts": (
        _whole_centroid_each
    ),
    "this builds the vectors anew from their centroids: their numbers are asked for": _rebuilt,
    "numbers count on through all codebooks: in each they begin at 0": _one_number,
}


def rehearsal() -> Inputs:
    """Vectors of the lesson's width, in eight parts."""
    return {"vectors": normal(128, 64, seed=1).float(), "codebooks": normal(8, 256, 8, seed=2).float()}


def _first_vector(vectors: Tensor, codebooks: Tensor) -> str:
    """The distances of the first vector's first part."""
    part = vectors[0, : codebooks.shape[2]]
    far = (codebooks[0] - part).square().sum(dim=1)
    return (
        f"part 0 of vector 0 is {[round(x, 2) for x in part.tolist()]}; its squared distances to the first centroids "
        f"of codebook 0 are {[round(x, 2) for x in far.tolist()[:6]]}, so its number is {int(far.argmin())}"
    )


EXERCISE = Exercise(
    "product-codes",
    library=product_codes,
    example=EXAMPLE,
    cases=codes_cases,
    specification=codes_specification,
    steps=_first_vector,
    mistakes=CODES_MISTAKES,
    family=(codes_with, TOGGLES),
    exact=True,
    index=True,
    rehearsal=Rehearsal(rehearsal, calls=2400),
)
