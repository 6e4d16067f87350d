"""What an encoder hands over when it keeps a vector a region or a word, instead of one for the whole or beside it."""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Bool, Float
from torch import Tensor


class Tokens(NamedTuple):
    """Vectors of several images or captions, padded to one width; mask: True = a real region or word."""

    vectors: Float[Tensor, "batch tokens dim"]
    mask: Bool[Tensor, "batch tokens"]


class GlobalTokens(NamedTuple):
    """One vector for the whole of each image or caption, and its token vectors; mask: True = a real region or word."""

    whole: Float[Tensor, "batch dim"]
    vectors: Float[Tensor, "batch tokens dim"]
    mask: Bool[Tensor, "batch tokens"]

    @property
    def tokens(self) -> Tokens:
        """The token vectors alone."""
        return Tokens(self.vectors, self.mask)


# What an encoder may return: a vector each (batch, dim), tokens each, or both.
Encoded = Tensor | Tokens | GlobalTokens
