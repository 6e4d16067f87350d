"""``sorted-pool``, lesson 01.

Pooling with a weight for each place in the order of size, beside a sort; gradients too.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from itr_lib.checks._inputs import generator
from itr_lib.checks.frame import Exercise
from itr_lib.checks.outcome import Inputs


def pool_cases() -> Iterator[Inputs]:
    """Sets of different sizes with negative numbers, padding anywhere, a set of one."""
    for seed, (batch, width, dim) in enumerate([(3, 5, 4), (1, 4, 3), (4, 7, 2), (2, 1, 3)]):
        g = generator(seed)
        tokens = torch.randn(batch, width, dim, generator=g, dtype=torch.float64) - 1.5
        mask = torch.rand(batch, width, generator=g) < 0.6
        mask[:, -1] = True
        weights = torch.rand(batch, width, generator=g, dtype=torch.float64)
        order = torch.arange(width)[None, :]
        weights = weights * (order < mask.sum(1, keepdim=True))
        yield {"tokens": tokens, "mask": mask, "weights": weights / weights.sum(1, keepdim=True)}


def pool_specification(tokens: Tensor, mask: Tensor, weights: Tensor) -> Tensor:
    """Sort each dimension's real values downwards, then add them up with the weights of their places."""
    rows = []
    for row, real, theta in zip(tokens, mask, weights, strict=True):
        columns = []
        for d in range(tokens.shape[2]):
            values = sorted((row[k, d] for k in range(len(row)) if real[k]), key=Tensor.item, reverse=True)
            columns.append(sum(theta[k] * value for k, value in enumerate(values)))
        rows.append(torch.stack(columns))
    return torch.stack(rows)


def _pool(tokens, mask, weights, fill=-1e30, descending=True, sort=True, whole=False):
    filled = tokens.masked_fill(~mask[..., None], fill)
    if whole:
        order = filled.sum(-1).argsort(dim=1, descending=True)
        ordered = filled.gather(1, order[..., None].expand_as(filled))
    else:
        ordered = filled.sort(dim=1, descending=descending).values if sort else filled
    ordered = ordered.masked_fill(ordered.abs() > 1e29, 0)
    return (ordered * weights[..., None]).sum(1)


def _pool_filled(tokens, mask, weights, descending=True, after=None, fill_where=None):
    filled = tokens.masked_fill(~mask[..., None] if fill_where is None else fill_where[..., None], -1e30)
    ordered = filled.sort(dim=1, descending=descending).values
    gone = ordered == -1e30 if after is None else ~after[..., None]
    return (ordered.masked_fill(gone, 0) * weights[..., None]).sum(1)


POOL_MISTAKES = {
    "padding was filled with -inf and then sorted upwards, so it stands first: sort with descending=True": (
        lambda tokens, mask, weights: _pool_filled(tokens, mask, weights, descending=False)
    ),
    "the mask is turned round: masked_fill fills where it is True, so give it ~mask": (
        lambda tokens, mask, weights: _pool_filled(tokens, mask, weights, fill_where=mask)
    ),
    "after the sort padding stands last, and your mask of the old places no longer fits": (
        lambda tokens, mask, weights: _pool_filled(tokens, mask, weights, after=mask)
    ),
    "you sorted along the features (dim=-1): each dimension is sorted over the set, dim=1": (
        lambda tokens, mask, weights: (
            tokens.masked_fill(~mask[..., None], 0).sort(dim=-1, descending=True).values * weights[..., None]
        ).sum(1)
    ),
    "padding took part in the sort as 0, and stands before the negative values: fill it with -inf first": (
        lambda tokens, mask, weights: _pool(tokens, mask, weights, fill=0.0)
    ),
    "padding took part as it came: fill it with -inf before the sort": lambda tokens, mask, weights: _pool(
        tokens, torch.ones_like(mask), weights
    ),
    "you sorted upwards: the first weight belongs to the largest value": lambda tokens, mask, weights: _pool(
        tokens, mask, weights, fill=1e30, descending=False
    ),
    "nothing is sorted here: weight k belongs to the k-th largest value, not to token k": (
        lambda tokens, mask, weights: _pool(tokens, mask, weights, sort=False)
    ),
    "you sorted whole tokens: each dimension is sorted for itself": lambda tokens, mask, weights: _pool(
        tokens, mask, weights, whole=True
    ),
    "this is mean pooling: use the weights": lambda tokens, mask, weights: (
        tokens.masked_fill(~mask[..., None], 0).sum(1) / mask.sum(1, keepdim=True)
    ),
    "this is max pooling: use the weights": lambda tokens, mask, weights: tokens.masked_fill(
        ~mask[..., None], -1e30
    ).amax(1),
    "-inf times a weight of 0 is NaN: after the sort set to 0 what is -inf (padding stands last now, your mask no "
    "longer fits)": lambda tokens, mask, weights: (
        tokens.masked_fill(~mask[..., None], -torch.inf).sort(dim=1, descending=True).values * weights[..., None]
    ).sum(1),
}

EXERCISE = Exercise("sorted-pool", pool_cases, pool_specification, POOL_MISTAKES, gradients=("tokens",))
