"""A set of vectors to one vector. In every function ``mask`` is True where a real element stands."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from itr_lib.transfer import upload
from itr_lib.validation import expect_choice, expect_dims, expect_mask

POOLINGS = ("mean", "first", "gpo")


def mean_pool(
    tokens: Float[Tensor, "batch tokens dim"], mask: Bool[Tensor, "batch tokens"]
) -> Float[Tensor, "batch dim"]:
    """Average of the real tokens; zeros for a row that is all padding."""
    _check(tokens, mask)
    return tokens.masked_fill(~mask[..., None], 0).sum(dim=1) / mask.sum(dim=1, keepdim=True).clamp(min=1)


def first_token(
    tokens: Float[Tensor, "batch tokens dim"], mask: Bool[Tensor, "batch tokens"]
) -> Float[Tensor, "batch dim"]:
    """The vector at position 0: ``[CLS]`` of a caption, the whole-picture box of an image; zeros if that is padding."""
    _check(tokens, mask)
    return tokens[:, 0].masked_fill(~mask[:, :1], 0)


class GPO(nn.Module):
    """Generalised pooling operator (Chen et al., CVPR 2021, section 3): learn how much each *rank* counts.

    Every feature dimension is sorted over the set, largest first, and position k of the sorted column gets the
    weight ``theta_k``. Equal weights are mean pooling, ``theta_1 = 1`` is max pooling, and everything between
    can be learnt. The weights come from a BiGRU over sinusoidal codes of the positions, so they adapt to the
    size of the set: the GRU that reads backwards starts at the set's own last element.
    """

    def __init__(self, code_dim: int = 32, hidden: int = 32, temperature: float = 0.1):
        super().__init__()
        self.code_dim, self.temperature = code_dim, temperature
        self.gru = nn.GRU(code_dim, hidden, batch_first=True, bidirectional=True)
        self.score = nn.Linear(hidden, 1, bias=False)

    def weights(self, lengths: Int[Tensor, " batch"], width: int) -> Float[Tensor, "batch width"]:
        """Weights of the sorted positions for sets of these sizes; each row sums to 1, 0 beyond the set's size."""
        # The weights depend on the size alone: run the GRU once per distinct size, not once per set.
        lengths, device = lengths.clamp(min=1), lengths.device
        on_gpu = device.type != "cpu"
        if on_gpu:  # every size there can be, the largest first: the host would wait to know those that occur
            sizes, which = torch.arange(width, 0, -1), width - lengths
        else:
            sizes, which = lengths.unique(return_inverse=True)
        codes = upload(position_codes(width, self.code_dim).to(self.score.weight.dtype), device)
        packed = pack_padded_sequence(codes.expand(len(sizes), -1, -1), sizes, batch_first=True, enforce_sorted=on_gpu)
        states, _ = pad_packed_sequence(self.gru(packed)[0], batch_first=True, total_length=width)
        forward, backward = states.chunk(2, dim=-1)
        scores = self.score((forward + backward) / 2)[..., 0] / self.temperature  # (sizes, width)
        beyond = torch.arange(width, device=device) >= upload(sizes, device)[:, None]
        return scores.masked_fill(beyond, -torch.inf).softmax(dim=-1)[which]

    def forward(
        self, tokens: Float[Tensor, "batch tokens dim"], mask: Bool[Tensor, "batch tokens"]
    ) -> Float[Tensor, "batch dim"]:
        """Weighted sum of each dimension's sorted values; zeros for a row that is all padding."""
        _check(tokens, mask)
        lengths = mask.sum(dim=1)
        # Padding sorts to the end as -inf and must be 0 before it meets its weight of 0: 0 * inf is NaN.
        ordered = tokens.masked_fill(~mask[..., None], -torch.inf).sort(dim=1, descending=True).values
        beyond = torch.arange(tokens.shape[1], device=tokens.device) >= lengths[:, None]
        ordered = ordered.masked_fill(beyond[..., None], 0)
        return torch.einsum("bk,bkd->bd", self.weights(lengths, tokens.shape[1]).to(tokens.dtype), ordered)


def position_codes(length: int, dim: int) -> Float[Tensor, "length dim"]:
    """Sinusoidal position codes (Vaswani et al., NeurIPS 2017, section 3.5)."""
    position = torch.arange(length)[:, None]
    rate = torch.exp(torch.arange(0, dim, 2) * (-math.log(10000.0) / dim))
    codes = torch.zeros(length, dim)
    codes[:, 0::2] = torch.sin(position * rate)
    codes[:, 1::2] = torch.cos(position * rate)
    return codes


class Pooling(nn.Module):
    """One of ``POOLINGS`` by name: ``"mean"``, ``"first"`` (both without parameters) or ``"gpo"``."""

    def __init__(self, name: str):
        super().__init__()
        expect_choice("pooling", name, POOLINGS)
        self.name = name
        self.gpo = GPO() if name == "gpo" else None

    def forward(
        self, tokens: Float[Tensor, "batch tokens dim"], mask: Bool[Tensor, "batch tokens"]
    ) -> Float[Tensor, "batch dim"]:
        """Pool each row's real tokens."""
        if self.gpo is not None:
            return self.gpo(tokens, mask)
        return mean_pool(tokens, mask) if self.name == "mean" else first_token(tokens, mask)


def _check(tokens: Tensor, mask: Tensor) -> None:
    expect_dims("tokens", tokens, "batch", "tokens", "dim")
    expect_mask("mask", mask, tuple(tokens.shape[:2]), "as tokens")
