"""Vectors of a gallery larger than the course's data sets, made block by block; and queries that have a match there."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from itr_lib.similarity import l2_normalise
from itr_lib.validation import expect_count

BLOCK = 10_000  # vectors that one generator draws, so that a longer gallery begins with a shorter one
DIM = 64


def made_vectors(count: int, *, dim: int = DIM, seed: int = 0) -> Float[Tensor, "count dim"]:
    """The first ``count`` of an endless gallery of vectors of length 1. Equal seeds give equal galleries.

    As in trained models, a few directions hold most of the variance: along its i-th axis, turned at random, a vector is
    normally distributed with variance 1/i.

    Raises:
        ValueError: for a count or width that is no whole number of 1 or more.
    """
    expect_count("count", count)
    expect_count("dim", dim)
    return torch.cat([_block(i, min(BLOCK, count - i * BLOCK), dim, seed) for i in range(-(-count // BLOCK))])


def made_queries(
    vectors: Float[Tensor, "n dim"], match: Int[Tensor, " queries"], *, blur: float = 1.0, seed: int = 0
) -> Float[Tensor, "queries dim"]:
    """One query for each row in ``match``: its vector plus ``blur`` times another vector of the kind, of length 1."""
    other = _block(-1, len(match), vectors.shape[1], seed).to(vectors.device)
    return l2_normalise(vectors[match] + blur * other)


def _block(place: int, count: int, dim: int, seed: int) -> Float[Tensor, "count dim"]:
    turned = torch.linalg.qr(torch.randn(dim, dim, generator=torch.Generator().manual_seed(dim)))[0]
    g = torch.Generator().manual_seed(10**6 * (seed + 1) + place)
    spread = torch.arange(1, dim + 1).rsqrt()
    return l2_normalise((torch.randn(count, dim, generator=g) * spread) @ turned)
