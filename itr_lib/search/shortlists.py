"""The first few of very many scores, for a batch of queries at once, as a full stable sort would give them."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

STRIDE = 64  # scores of which only the best is looked at first


def first(
    scores: Float[Tensor, "queries items"], count: int
) -> tuple[Float[Tensor, "queries count"], Int[Tensor, "queries count"]]:
    """Values and rows of the ``count`` highest scores, the highest first; among equal ones the first rows."""
    total = scores.shape[1]
    rows = _near_the_top(scores, count + 1) if total > 4 * STRIDE * count else None
    some = scores if rows is None else scores.gather(1, rows)
    values, found = some.topk(min(count + 1, total), dim=1)
    found = found if rows is None else rows.gather(1, found)
    if tied := _equal_neighbours(values):  # who is in, and in which order, is then a question
        order = scores[tied].sort(dim=1, descending=True, stable=True)
        values[tied], found[tied] = order.values[:, : count + 1], order.indices[:, : count + 1]
    return values[:, :count], found[:, :count]


def best_first(
    values: Float[Tensor, "queries some"], rows: Int[Tensor, "queries some"]
) -> tuple[Float[Tensor, "queries some"], Int[Tensor, "queries some"]]:
    """Both ordered by value, the highest first; among equal ones the first rows."""
    order = torch.from_numpy(np.lexsort((rows.numpy(), -values.numpy())))
    return values.gather(1, order), rows.gather(1, order)


def reorder(
    values: Float[Tensor, "queries some"],
    rows: Int[Tensor, "queries some"],
    aligned: Float[Tensor, "queries shortlist"],
    weight: float,
) -> tuple[Float[Tensor, "queries some"], Int[Tensor, "queries some"]]:
    """The second stage: the shortlist anew by global + weight * alignment; the others stay behind it as they are."""
    shortlist = aligned.shape[1]
    both, again = best_first(values[:, :shortlist] + weight * aligned, rows[:, :shortlist])
    if values.shape[1] == shortlist:
        return both, again
    return torch.cat([both, values[:, shortlist:]], dim=1), torch.cat([again, rows[:, shortlist:]], dim=1)


def _equal_neighbours(values: Float[Tensor, "queries some"]) -> list[int]:
    """Queries with two equal numbers in a row."""
    equal = (values[:, 1:] == values[:, :-1]).numpy()
    return np.flatnonzero(equal.any(axis=1)).tolist()


def _near_the_top(scores: Float[Tensor, "queries items"], count: int) -> Int[Tensor, "queries some"]:
    """Rows among which the ``count`` highest scores are: topk over all takes a dozen times as long as a maximum.

    Every ``total // STRIDE``-th score makes a group; the highest lie in the groups with the highest maxima, and what is
    left over at the end comes with them.
    """
    groups = scores.shape[1] // STRIDE
    best = scores[:, : groups * STRIDE].unflatten(1, (STRIDE, groups)).amax(dim=1).topk(count, dim=1, sorted=False)
    rows = best.indices[:, None] + groups * torch.arange(STRIDE)[:, None]  # (queries, STRIDE, count)
    rest = torch.arange(groups * STRIDE, scores.shape[1])
    return torch.cat([rows.flatten(1), rest.expand(len(scores), -1)], dim=1)
