"""Fewer tokens an item: those that are most alike become one.

B. Clavié, A. Chaffin, G. Adams. *Reducing the footprint of multi-vector retrieval with minimal performance impact via
token pooling.* arXiv 2409.14683, 2024, merges the tokens of a text so, by hierarchical clustering.
"""

from __future__ import annotations

import torch

from itr_lib.encoders.tokens import Tokens
from itr_lib.similarity import l2_normalise
from itr_lib.validation import expect_count


def merged(tokens: Tokens, keep: int) -> Tokens:
    """Merge the two tokens of an item whose means are most alike, until it has at most ``keep``.

    Args:
        tokens: (n, R, d) and mask (n, R), True = a real token.
        keep: tokens that an item may have.

    Returns:
        (n, keep, d), means of the merged tokens, of length 1; and their mask.

    Raises:
        ValueError: for a ``keep`` that is no whole number of 1 or more.
    """
    expect_count("keep", keep)
    sums, mask = tokens.vectors * tokens.mask[..., None], tokens.mask.clone()
    every = torch.arange(len(sums), device=sums.device)
    for _ in range(sums.shape[1] - keep):
        means = l2_normalise(sums)
        pairs = (mask[:, :, None] & mask[:, None, :]).triu(1)  # each once, none with itself
        alike = (means @ means.mT).masked_fill(~pairs, -torch.inf)
        one, other = torch.unravel_index(alike.flatten(1).argmax(dim=1), alike.shape[1:])
        more = mask.sum(dim=1) > keep
        sums[every, one] += sums[every, other] * more[:, None]
        mask[every, other] &= ~more
        sums = sums * mask[..., None]
    return first_ones(Tokens(l2_normalise(sums), mask), keep)


def first_ones(tokens: Tokens, keep: int) -> Tokens:
    """The first ``keep`` real tokens of each item, without the others. Raises as :func:`merged` does."""
    expect_count("keep", keep)
    order = tokens.mask.int().argsort(dim=1, descending=True, stable=True)[:, :keep]
    vectors = tokens.vectors.gather(1, order[..., None].expand(-1, -1, tokens.vectors.shape[2]))
    return Tokens(vectors, tokens.mask.gather(1, order))
