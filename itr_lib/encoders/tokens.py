"""What an encoder hands over when it keeps one vector a region or a word instead of one for the whole."""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Bool, Float
from torch import Tensor


class Tokens(NamedTuple):
    """Vectors of several images or captions, padded to one width; mask: True = a real region or word."""

    vectors: Float[Tensor, "batch tokens dim"]
    mask: Bool[Tensor, "batch tokens"]
