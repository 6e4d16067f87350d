"""Detected regions to vectors."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from itr_lib.encoders.pooling import mean_pool
from itr_lib.validation import expect_count


def box_geometry(boxes: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 5"]:
    """``(x1, y1, x2, y2, area)`` of boxes given in units of picture width and height (TERAN, section 4.1)."""
    x1, y1, x2, y2 = boxes.unbind(-1)
    return torch.stack([x1, y1, x2, y2, (x2 - x1) * (y2 - y1)], dim=-1)


def transformer(dim: int, layers: int, heads: int, dropout: float, feed_forward: int | None = None) -> nn.Module:
    """A stack of transformer-encoder layers over ``(batch, tokens, dim)``, feed-forward by default 2 ``dim`` wide.

    Of no ``layers`` it returns the tokens as they came. Raises ``ValueError`` where ``heads`` does not divide ``dim``.
    """
    if layers == 0:
        return _AsTheyCame()
    return nn.TransformerEncoder(_layer(dim, heads, dropout, feed_forward), layers, enable_nested_tensor=False)


class _AsTheyCame(nn.Module):
    def forward(self, tokens: Float[Tensor, "batch tokens dim"], src_key_padding_mask: Tensor) -> Tensor:
        return tokens


def _layer(dim: int, heads: int, dropout: float, feed_forward: int | None) -> nn.TransformerEncoderLayer:
    if heads < 1 or dim % heads:
        raise ValueError(f"heads is {heads}, expected a divisor of the width {dim}: each takes an equal part")
    return nn.TransformerEncoderLayer(dim, heads, feed_forward or 2 * dim, dropout, batch_first=True)


class FirstToken(nn.TransformerEncoder):
    """A stack that returns its first token alone, (B, 1, D): the last layer computes nothing for the others."""

    def __init__(self, dim: int, layers: int, heads: int, dropout: float, feed_forward: int | None = None):
        super().__init__(_layer(dim, heads, dropout, feed_forward), layers, enable_nested_tensor=False)

    def forward(
        self,
        src: Float[Tensor, "batch tokens dim"],
        mask: None = None,
        src_key_padding_mask: Bool[Tensor, "batch tokens"] | None = None,
        is_causal: bool | None = None,
    ) -> Float[Tensor, "batch 1 dim"]:
        """One token a sequence; in the mask True = padding, as torch has it. No ``mask`` of who may look at whom.

        Raises:
            ValueError: for a ``mask``, torch's second argument.
        """
        if mask is not None:
            raise ValueError("mask is given, torch's second argument: name the other one, src_key_padding_mask=")
        for layer in self.layers[:-1]:
            src = layer(src, src_key_padding_mask=src_key_padding_mask)
        last, first = self.layers[-1], src[:, :1]
        read, _ = last.self_attn(first, src, src, key_padding_mask=src_key_padding_mask, need_weights=False)
        first = last.norm1(first + last.dropout1(read))
        return last.norm2(first + last.dropout2(last.linear2(last.dropout(last.activation(last.linear1(first))))))


class MeanToken(nn.Module):
    """A stack of no layers that returns the mean of the real tokens, (B, 1, D); called like :class:`FirstToken`."""

    def forward(
        self, src: Float[Tensor, "batch tokens dim"], src_key_padding_mask: Bool[Tensor, "batch tokens"]
    ) -> Float[Tensor, "batch 1 dim"]:
        """The mean over places where the mask is False, as torch has it for what is real."""
        return mean_pool(src, ~src_key_padding_mask)[:, None]


class RegionEncoder(nn.Module):
    """Region features and box geometry through a two-layer perceptron, then (optionally) through a transformer.

    The detector's features say *what* is in a box, the geometry says *where*: without it "left of" cannot be
    learnt (TERAN, Messina et al. 2021, section 4.1). The transformer lets regions see each other. Without
    ``geometry`` one linear layer of the features is all (CHAN, Pan et al. 2023).
    """

    def __init__(
        self,
        feature_dim: int,
        dim: int,
        layers: int = 0,
        heads: int = 4,
        dropout: float = 0.1,
        geometry: bool = True,
    ):
        super().__init__()
        expect_count("feature_dim", feature_dim)
        self.geometry = geometry
        if geometry:
            self.embed = nn.Sequential(nn.Linear(feature_dim + 5, dim), nn.ReLU(), nn.Linear(dim, dim))
        else:
            self.embed = nn.Linear(feature_dim, dim)
        self.attend = transformer(dim, layers, heads, dropout) if layers else None

    def forward(
        self,
        features: Float[Tensor, "batch regions features"],
        boxes: Float[Tensor, "batch regions 4"],
        mask: Bool[Tensor, "batch regions"],
    ) -> Float[Tensor, "batch regions dim"]:
        """One vector a region; padded rows hold numbers without meaning, so keep the mask."""
        tokens = self.embed(torch.cat([features, box_geometry(boxes)], dim=-1) if self.geometry else features)
        return tokens if self.attend is None else self.attend(tokens, src_key_padding_mask=~mask)
