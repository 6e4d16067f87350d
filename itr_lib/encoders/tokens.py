"""What an encoder hands over when it keeps one vector a region or a word instead of one for the whole."""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Bool, Float
from torch import Tensor


class Tokens(NamedTuple):
    """Vectors of several images or captions, padded to one width; mask: True = a real region or word."""

    vectors: Float[Tensor, "batch tokens dim"]
    mask: Bool[Tensor, "batch tokens"]


def words_only(mask: Bool[Tensor, "batch tokens"]) -> Bool[Tensor, "batch tokens"]:
    """The mask without the first and the last real token of each row: ``[CLS]`` and ``[SEP]`` are no words."""
    last = mask.long().cumsum(dim=1) == mask.sum(dim=1, keepdim=True)
    words = mask & ~last
    words[:, 0] = False
    return words
