"""``ndcg``, lesson 00.

Graded gain over log2(rank + 1), by that of the best order, beside a sort and a sum.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from itr_lib import evaluation
from itr_lib.checks._inputs import generator, sizes
from itr_lib.checks.frame import Case, Exercise, Rehearsal
from itr_lib.checks.outcome import Inputs

K_ABOVE = "k is above the number of candidates"


def ranking(queries: int, candidates: int, k: int, seed: int) -> Inputs:
    """Scores without ties, and some relevance in every query."""
    queries, candidates, k = sizes(queries, candidates, k)
    g = generator(seed)
    scores = torch.randn(queries, candidates, generator=g, dtype=torch.float64)
    relevance = torch.rand(queries, candidates, generator=g, dtype=torch.float64) ** 3
    return {"scores": scores, "relevance": relevance, "k": k}


def ndcg_cases() -> Iterator[Case]:
    """Graded relevance, lists longer and shorter than k, one query, few that are relevant at all, scores below 0."""
    yield Case(ranking(4, 8, 3, seed=0))
    yield Case(ranking(5, 30, 10, seed=1))
    yield Case(ranking(6, 6, 4, seed=2))
    yield Case(ranking(1, 7, 5, seed=3), "there is one query")
    yield Case(ranking(3, 6, 6, seed=4), "k is the number of candidates")
    yield Case(ranking(3, 6, 25, seed=5), K_ABOVE)
    few = ranking(4, 12, 5, seed=7)
    few["relevance"] = 3 * few["relevance"] * (few["relevance"] >= few["relevance"].topk(2, dim=1).values[:, 1:])
    yield Case(few, "only two candidates are relevant at all")
    below = ranking(4, 9, 3, seed=8)
    yield Case(below | {"scores": below["scores"] - 9}, "all scores are negative")


def ndcg_specification(scores: Tensor, relevance: Tensor, k: int) -> float:
    """Gain of the model's first k, each over log2(rank + 1), by that of the best order; mean over the queries."""
    values = []
    for row, grades in zip(scores.tolist(), relevance.tolist(), strict=True):
        order = sorted(range(len(row)), key=lambda c: -row[c])
        gained = [grades[c] for c in order[:k]]
        best = sorted(grades, reverse=True)[:k]
        values.append(
            sum(gain / math.log2(rank + 1) for rank, gain in enumerate(gained, start=1))
            / sum(gain / math.log2(rank + 1) for rank, gain in enumerate(best, start=1))
        )
    return sum(values) / len(values)


def explain_ndcg(inputs: Inputs, result: object, expected: float) -> str | None:
    """Where no known mistake explains it: can an NDCG be so large, and to which side does it err?"""
    (queries, candidates), mine = inputs["scores"].shape, float(result)
    first_is_example = (queries, candidates) == (1, 3)
    ordinary = queries > 1 and inputs["k"] < candidates and float(inputs["scores"].max()) > 0
    if not math.isfinite(mine) or not (ordinary or first_is_example):
        return None
    if mine > 1.0001:
        return f"an NDCG cannot exceed 1, and yours is {mine:.4g}: the best order, below the line, gains too little"
    if mine < expected:
        return "yours is too small: the model's order gains too little above the line, or the best one too much below"
    return "yours is too large: the model's order gains too much above the line, or the best one too little below"


def _best(relevance: Tensor, ranked: Tensor, k: int) -> Tensor:
    """The relevance of all candidates, best first."""
    return relevance.sort(dim=1, descending=True).values[:, :k]


def ndcg(
    scores,
    relevance,
    k,
    gain=None,
    discount=lambda rank: 1 / torch.log2(rank + 1),
    cut=lambda k, n: k,
    start=0,
    along=lambda scores, relevance: relevance.gather(1, scores.argsort(dim=1, descending=True)),
    best=_best,
    best_discount=None,
    over=torch.div,
    mean=torch.mean,
):
    """NDCG with other gains, discounts, cuts, rankings and best orders, another quotient and another mean."""
    relevance = gain(relevance) if gain else relevance
    k = cut(k, scores.shape[1])
    ranked = along(scores, relevance)[:, start:k].to(relevance)
    dcg, ideal = (
        gains @ how(torch.arange(1.0, gains.shape[1] + 1).to(relevance))
        for gains, how in (
            (ranked, discount),
            (best(relevance, ranked, k)[:, start:].to(relevance), best_discount or discount),
        )
    )
    return float(mean(over(dcg, ideal)))


def _by_rank_numbers(scores, relevance):
    return relevance.gather(1, scores.argsort(dim=1, descending=True).argsort(dim=1))


FAMILY: dict[str, dict] = {
    "the best order is taken from the retrieved k only: sort the relevance of all candidates, then cut": {
        "best": lambda relevance, ranked, k: ranked.sort(dim=1, descending=True).values
    },
    "the best order is not cut at k: both sums stop at rank k": {
        "best": lambda relevance, ranked, k: _best(relevance, ranked, relevance.shape[1])
    },
    "the best order is cut before it is sorted: sort all candidates first": {
        "best": lambda relevance, ranked, k: relevance[:, :k].sort(dim=1, descending=True).values
    },
    "the best order is sorted upwards: the most relevant comes first": {
        "best": lambda relevance, ranked, k: relevance.sort(dim=1).values[:, :k]
    },
    "the best order is sorted upwards, and its last k taken: the most relevant comes first": {
        "best": lambda relevance, ranked, k: relevance.sort(dim=1).values[:, -k:]
    },
    "the best order is not sorted: it is the relevance as it comes": {
        "best": lambda relevance, ranked, k: relevance[:, :k]
    },
    "the best order holds places, not relevance: argsort gives places, sort(...).values the relevance": {
        "best": lambda relevance, ranked, k: relevance.argsort(dim=1, descending=True)[:, :k]
    },
    "the best order is taken to be all 1: it is the relevance itself, best first": {
        "best": lambda relevance, ranked, k: torch.ones_like(relevance[:, :k])
    },
    "the best DCG has no discount: both sums divide by log2(rank + 1)": {"best_discount": torch.ones_like},
    "the best order is sorted over the queries (dim=0): each query sorts its own candidates, dim=1": {
        "best": lambda relevance, ranked, k: relevance.sort(dim=0, descending=True).values[:, :k]
    },
    "the best DCG is only the highest relevance: it is a discounted sum, too": {
        "best": lambda relevance, ranked, k: relevance.sort(dim=1, descending=True).values[:, :1]
    },
    "all queries are divided by the largest of the best DCGs: each by its own": {
        "over": lambda dcg, ideal: dcg / ideal.max()
    },
    "all queries are divided by the best DCG of query 0: each by its own": {"over": lambda dcg, ideal: dcg / ideal[0]},
    "the best DCG is taken off: divide by it": {"over": lambda dcg, ideal: dcg - ideal},
    "this is 1 - NDCG: give NDCG itself": {"over": lambda dcg, ideal: 1 - dcg / ideal},
    "this is in percent: from 0 to 1 is right": {"over": lambda dcg, ideal: 100 * dcg / ideal},
    "the two sums take logarithms of different bases: natural in the best one": {
        "best_discount": lambda rank: 1 / torch.log(rank + 1)
    },
    "the two sums take logarithms of different bases: natural in the model's": {
        "discount": lambda rank: 1 / torch.log(rank + 1),
        "best_discount": lambda rank: 1 / torch.log2(rank + 1),
    },
    "the two sums take logarithms of different bases: 10 in one of them": {
        "discount": lambda rank: 1 / torch.log10(rank + 1),
        "best_discount": lambda rank: 1 / torch.log2(rank + 1),
    },
    "the model's sum has no discount: both divide by log2(rank + 1)": {
        "discount": torch.ones_like,
        "best_discount": lambda rank: 1 / torch.log2(rank + 1),
    },
    "this is DCG: divide by the DCG of the best order": {"over": lambda dcg, ideal: dcg},
    "this is the DCG of the best order: divide the model's by it": {"over": lambda dcg, ideal: ideal},
    "the quotient is upside down: the model's DCG by the best one": {"over": lambda dcg, ideal: ideal / dcg},
    "this is the mean DCG over the mean best DCG: divide query by query, then take the mean": {
        "over": lambda dcg, ideal: dcg.mean() / ideal.mean()
    },
    "this is the sum over the queries: take the mean": {"mean": torch.sum},
    "only the first query counts here: is the return inside the loop?": {"mean": lambda values: values.flatten()[0]},
    "only the first query is added up: is the return inside the loop?": {"mean": lambda v: v.flatten()[0] / v.numel()},
    "only the last query counts here: add the queries up, then take the mean": {
        "mean": lambda values: values.flatten()[-1]
    },
    "this is the best of the queries: take the mean": {"mean": torch.max},
    "this is the worst of the queries: take the mean": {"mean": torch.min},
    "the mean is rounded to two decimals: keep them all": {"mean": lambda values: values.mean().round(decimals=2)},
    "the mean is rounded to three decimals: keep them all": {"mean": lambda values: values.mean().round(decimals=3)},
    "this is the median over the queries: take the mean": {"mean": torch.median},
    "order and ranks are exchanged: one argsort says who stands at each place, and relevance is gathered by it; an "
    "argsort of that gives each candidate its rank, by which it is discounted": {"along": _by_rank_numbers},
    "you sorted upwards: the highest score comes first": {
        "along": lambda scores, relevance: relevance.gather(1, scores.argsort(dim=1))
    },
    "all queries are read in the order of query 0: each in its own": {
        "along": lambda scores, relevance: relevance[:, scores[0].argsort(descending=True)]
    },
    "the scores are not used: read the relevance in the order of the scores": {
        "along": lambda scores, relevance: relevance
    },
    "you add up scores, not relevance: gather the relevance in the order of the scores": {
        "along": lambda scores, relevance: scores.sort(dim=1, descending=True).values
    },
    "you add up the places of the candidates: gather the relevance at these places": {
        "along": lambda scores, relevance: scores.argsort(dim=1, descending=True)
    },
    "the discount is missing: divide the gain at each rank by log2(rank + 1)": {"discount": torch.ones_like},
    "the first place is divided by log2(1) = 0: divide rank 1 by log2(2), rank 2 by log2(3), ...": {
        "discount": lambda rank: 1 / torch.log2(rank)
    },
    "ranks start from 1, so the first place is divided by log2(2) = 1; yours is one too far": {
        "discount": lambda rank: 1 / torch.log2(rank + 2)
    },
    "ranks 1 and 2 both count in full here (the formula of 2002): divide by log2(rank + 1)": {
        "discount": lambda rank: 1 / torch.log2(rank).clamp(min=1)
    },
    "the discount is 1 + log(rank): take log2(rank + 1)": {"discount": lambda rank: 1 / (1 + torch.log(rank))},
    "the discount is 1 + log(rank + 1): take log2(rank + 1)": {"discount": lambda rank: 1 / (1 + torch.log(rank + 1))},
    "the discount is 1 + log2(rank): take log2(rank + 1)": {"discount": lambda rank: 1 / (1 + torch.log2(rank))},
    "the discount is the rank itself: take log2(rank + 1)": {"discount": lambda rank: 1 / rank},
    "the discount is rank + 1, without the logarithm: take log2(rank + 1)": {"discount": lambda rank: 1 / (rank + 1)},
    "the discount is the square root of the rank: take log2(rank + 1)": {"discount": lambda rank: rank**-0.5},
    "the discount is the square of log2(rank + 1): take it as it is": {
        "discount": lambda rank: torch.log2(rank + 1) ** -2
    },
    "the discounts stand the wrong way round: the first place counts most": {
        "discount": lambda rank: (1 / torch.log2(rank + 1)).flip(0)
    },
    "you multiply by log2(rank + 1): divide by it": {"discount": lambda rank: torch.log2(rank + 1)},
    "this is the exponential gain 2^r - 1: with graded relevance between 0 and 1 we use r itself": {
        "gain": lambda r: 2**r - 1
    },
    "the gain is 2^r: we use the relevance itself": {"gain": lambda r: 2**r},
    "relevance became yes or no: it is graded, so add the relevance itself": {"gain": lambda r: (r > 0).to(r)},
    "the sums are not cut at k: both stop at rank k": {"cut": lambda k, n: n},
    "the sums stop one rank too early: rank k still counts": {"cut": lambda k, n: k - 1},
    "the last place is left out: a range stops before its end": {"cut": lambda k, n: min(k, n) - 1},
    "the first place is left out: the sums begin at rank 1": {"start": 1},
    "the sums stop one rank too late: rank k is the last that counts": {"cut": lambda k, n: k + 1},
}


def _first_by_log2_of_1(scores, relevance, k):
    raise ZeroDivisionError


def _as_long_as_k(scores, relevance, k):
    """Discounts for k places, however many candidates there are."""
    if k > scores.shape[1]:
        raise RuntimeError
    return ndcg_specification(scores, relevance, k)


MISTAKES: dict[str, Callable] = {
    "a division by zero: rank 1 is divided by log2(2), not by log2(1), which is 0": _first_by_log2_of_1,
    "k can be above the number of candidates: topk(k) stops there, and k discounts are more than the list has; cut k "
    "to scores.shape[1]": _as_long_as_k,
    "you sort over the queries (dim=0): each query sorts its own candidates, dim=1": lambda scores, relevance, k: ndcg(
        scores.T, relevance.T, k
    ),
    "the sum over the queries is divided by k: divide by the number of queries": lambda scores, relevance, k: (
        ndcg(scores, relevance, k, mean=torch.sum) / k
    ),
    "the best order holds scores, not relevance: it is the relevance, best first": lambda scores, relevance, k: ndcg(
        scores, relevance, k, best=lambda r, ranked, k: scores.sort(dim=1, descending=True).values[:, :k]
    ),
    "the best order is cut to the k that the scores retrieve, and left in their order: that is the model's own DCG": (
        lambda scores, relevance, k: ndcg(scores, relevance, k, best=lambda r, ranked, k: ranked)
    ),
    "scores and relevance are exchanged: the scores decide the order, the relevance is what is gained": (
        lambda scores, relevance, k: ndcg(relevance, scores, k)
    ),
    "the first k candidates are taken before sorting: sort all of them, then cut": lambda scores, relevance, k: ndcg(
        scores[:, :k], relevance[:, :k], k
    ),
    "this is the share of the relevance that the first k hold, without discounts: divide each by log2(rank + 1), and "
    "by the best DCG": lambda scores, relevance, k: ndcg(
        scores,
        relevance,
        k,
        discount=torch.ones_like,
        best=lambda r, ranked, k: _best(r, ranked, r.shape[1]),
    ),
}

EXERCISE = Exercise(
    "ndcg",
    library=lambda scores, relevance, k: evaluation.ndcg(scores, relevance, k),
    example=Case(
        {
            "scores": torch.tensor([[3.0, 2.0, 1.0]], dtype=torch.float64),
            "relevance": torch.tensor([[3.0, 0.0, 2.0]], dtype=torch.float64),
            "k": 3,
        },
        worked=0.9386,
    ),
    cases=ndcg_cases,
    specification=ndcg_specification,
    mistakes=MISTAKES,
    family=(ndcg, FAMILY),
    explain=explain_ndcg,
    rehearsal=Rehearsal(lambda: ranking(500, 1000, 25, seed=9), calls=20),
)
