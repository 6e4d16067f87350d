"""``triplet-loop``, lesson 01.

The hinge of every negative in both directions, beside the double loop.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from itr_lib.checks._inputs import random_scores
from itr_lib.checks.frame import Exercise
from itr_lib.checks.outcome import Inputs


def triplet_cases() -> Iterator[Inputs]:
    """Several sizes and margins, a batch of one, a batch without a violation."""
    for seed, (size, margin) in enumerate([(5, 0.2), (3, 0.5), (8, 0.05), (2, 0.3), (1, 0.2)]):
        yield {"scores": random_scores(size, seed), "margin": margin}
    yield {"scores": torch.eye(4, dtype=torch.float64), "margin": 0.2}


def triplet_specification(scores: Tensor, margin: float) -> Tensor:
    """Every negative of every query, in both directions."""
    total = scores.new_zeros(())
    for i in range(len(scores)):
        for j in range(len(scores)):
            if i != j:
                total = total + torch.relu(margin + scores[i, j] - scores[i, i])  # image i asks
                total = total + torch.relu(margin + scores[j, i] - scores[i, i])  # caption i asks
    return total


def _hinge(scores, margin, rows=True, columns=True, diagonal=False, relu=torch.relu, reduce=torch.sum, sign=1.0):
    positive = scores.diagonal()
    keep = torch.ones_like(scores) if diagonal else 1 - torch.eye(len(scores), dtype=scores.dtype, device=scores.device)
    by_row = relu(margin + sign * (scores - positive[:, None])) * keep
    by_column = relu(margin + sign * (scores - positive[None, :])) * keep
    return sum(reduce(cost) for cost, wanted in ((by_row, rows), (by_column, columns)) if wanted)


TRIPLET_MISTAKES = {
    "the rows are counted twice: both terms of query i subtract its own positive, scores[i, i]": (
        lambda scores, margin: 2 * _hinge(scores, margin, columns=False)
    ),
    "the columns are counted twice: both terms of query i subtract its own positive, scores[i, i]": (
        lambda scores, margin: 2 * _hinge(scores, margin, rows=False)
    ),
    "only images ask here (rows): captions ask too, add the columns": lambda scores, margin: _hinge(
        scores, margin, columns=False
    ),
    "only captions ask here (columns): images ask too, add the rows": lambda scores, margin: _hinge(
        scores, margin, rows=False
    ),
    "the positive counts as its own negative: leave out i == j, it adds the margin once a query": (
        lambda scores, margin: _hinge(scores, margin, diagonal=True)
    ),
    "negatives that are far enough away must cost 0, not less: cut each term off with max(0, ...)": (
        lambda scores, margin: _hinge(scores, margin, relu=lambda x: x)
    ),
    "the sign is turned round: a negative costs when margin + negative - positive is above 0": (
        lambda scores, margin: _hinge(scores, margin, sign=-1.0)
    ),
    "this is the mean over all pairs: the loss is a sum": lambda scores, margin: _hinge(
        scores, margin, reduce=torch.mean
    ),
    "this is the sum divided by the batch: the loss is a plain sum": lambda scores, margin: (
        _hinge(scores, margin) / len(scores)
    ),
    "the margin is missing: a negative must stay that far below its positive": lambda scores, margin: _hinge(
        scores, 0.0
    ),
}

EXERCISE = Exercise("triplet-loop", triplet_cases, triplet_specification, TRIPLET_MISTAKES)
