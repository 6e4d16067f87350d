"""``ndcg``, lesson 00.

Graded gain over log2(rank + 1), by that of the best order, beside a sort and a sum.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from itr_lib.checks._inputs import generator
from itr_lib.checks.frame import Exercise
from itr_lib.checks.outcome import Inputs


def ndcg_cases() -> Iterator[Inputs]:
    """Graded relevance, lists shorter and longer than k, one query."""
    for seed, (queries, candidates, k) in enumerate([(4, 8, 3), (1, 5, 5), (3, 6, 25), (5, 30, 10)]):
        g = generator(seed)
        scores = torch.randn(queries, candidates, generator=g, dtype=torch.float64)
        relevance = torch.rand(queries, candidates, generator=g, dtype=torch.float64) ** 3
        yield {"scores": scores, "relevance": relevance, "k": k}


def ndcg_specification(scores: Tensor, relevance: Tensor, k: int) -> float:
    """Gain of the model's first k, each over log2(rank + 1), by that of the best order; mean over the queries."""
    return _ndcg(scores, relevance, k)


def _ndcg(scores, relevance, k, gain=lambda r: r, discount=lambda rank: math.log2(rank + 1), ideal_k=None, ideal=True):
    values = []
    for row, grades in zip(scores.tolist(), relevance.tolist(), strict=True):
        order = sorted(range(len(row)), key=lambda c: -row[c])
        best = sorted(grades, reverse=True)[: ideal_k or k]
        dcg = sum(gain(grades[c]) / discount(rank) for rank, c in enumerate(order[:k], start=1))
        idcg = sum(gain(g) / discount(rank) for rank, g in enumerate(best, start=1))
        values.append(dcg / idcg if ideal else dcg)
    return sum(values) / len(values)


def _ndcg_of_means(scores, relevance, k):
    ideal = _ndcg(relevance, relevance, k, ideal=False)
    return _ndcg(scores, relevance, k, ideal=False) / ideal


def _ndcg_by_rank_numbers(scores, relevance, k):
    places = scores.argsort(dim=1, descending=True).argsort(dim=1)
    descending = torch.arange(scores.shape[1], 0, -1, device=scores.device, dtype=scores.dtype).expand_as(scores)
    return _ndcg(descending, relevance.gather(1, places), k)


NDCG_MISTAKES = {
    "this is the mean DCG over the mean best DCG: divide query by query, then take the mean": _ndcg_of_means,
    "this is the sum over the queries: take the mean": lambda scores, relevance, k: (
        _ndcg(scores, relevance, k) * len(scores)
    ),
    "you gathered by each candidate's rank number: gather by the order itself, scores.argsort(descending=True)": (
        _ndcg_by_rank_numbers
    ),
    "this is DCG: divide by the DCG of the best order": lambda scores, relevance, k: _ndcg(
        scores, relevance, k, ideal=False
    ),
    "the discount is the natural logarithm: NDCG takes log2(rank + 1)": lambda scores, relevance, k: _ndcg(
        scores, relevance, k, discount=lambda rank: 1 + math.log(rank)
    ),
    "the discount is missing: divide the gain at each rank by log2(rank + 1)": lambda scores, relevance, k: _ndcg(
        scores, relevance, k, discount=lambda rank: 1.0
    ),
    "ranks start from 1, so the first place is divided by log2(2) = 1; yours is one too far": (
        lambda scores, relevance, k: _ndcg(scores, relevance, k, discount=lambda rank: math.log2(rank + 2))
    ),
    "the discount is the rank itself: take log2(rank + 1)": lambda scores, relevance, k: _ndcg(
        scores, relevance, k, discount=float
    ),
    "this is the exponential gain 2^r - 1: with graded relevance between 0 and 1 we use r itself": (
        lambda scores, relevance, k: _ndcg(scores, relevance, k, gain=lambda r: 2**r - 1)
    ),
    "the best order is not cut at k: both sums stop at rank k": lambda scores, relevance, k: _ndcg(
        scores, relevance, k, ideal_k=scores.shape[1]
    ),
    "you sorted upwards: the highest score comes first": lambda scores, relevance, k: _ndcg(-scores, relevance, k),
    "the sums are not cut at k: both stop at rank k": lambda scores, relevance, k: _ndcg(
        scores, relevance, scores.shape[1]
    ),
}

EXERCISE = Exercise("ndcg", ndcg_cases, ndcg_specification, NDCG_MISTAKES)
