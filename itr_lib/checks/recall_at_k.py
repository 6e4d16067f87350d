"""``recall-at-k``, lesson 00.

The percentage of ranks up to k, beside a count.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from itr_lib.checks.frame import Case, Exercise
from itr_lib.checks.outcome import Inputs
from itr_lib.evaluation.inputs import percent


def recall_cases() -> Iterator[Case]:
    """Ranks with repeats, all hits, all misses, one query, shares that are no whole percent; k of any size."""
    traps = {
        (1, 2, 3, 7, 10, 11, 1): "",
        (7, 5, 1, 6, 12, 4): "",
        (2, 2, 5, 5): "",
        (1, 90, 1, 4): "",
        (1,): "there is one query",
        (9,): "there is one query",
        (1, 1, 1): "every query is a hit",
        (30, 40, 11): "no query is a hit",
    }
    for ranks, trap in traps.items():
        for k in (1, 5, 10):
            yield Case({"ranks": torch.tensor(ranks), "k": k}, trap)
    yield Case({"ranks": torch.tensor([1, 3, 2, 5, 4, 3]), "k": 20}, "k is above every rank")
    for k in (2, 3, 7, 12):
        yield Case({"ranks": torch.tensor([1, 8, 3, 2, 11, 6, 4, 15, 7, 12]), "k": k}, "k is not 1, 5 or 10")


def recall_specification(ranks: Tensor, k: int) -> float:
    """Percentage of queries that found a match among the first k."""
    return 100.0 * sum(1 for rank in ranks.tolist() if rank <= k) / len(ranks)


def recall(ranks, k, hits=torch.le, shift=0, percent=100, by=lambda ranks, k: len(ranks), after=float, of=None):
    """A share of ranks, with other ideas of a hit and of what it is a share of."""
    ranks = of(ranks, k) if of else ranks
    share = int(hits(ranks + shift, k).sum()) / (by(ranks, k) if by else 1)
    return after(percent * share)


FAMILY: dict[str, dict] = {
    "rank k itself counts: R@k means rank <= k, not < k": {"hits": torch.lt},
    "this counts the misses: a hit is a rank of at most k": {"hits": torch.gt},
    "this counts ranks of k and more: a hit is a rank of at most k": {"hits": torch.ge},
    "only rank k itself counts as a hit here: every rank up to k does": {"hits": torch.eq},
    "ranks start from 1 here, so a hit is rank <= k; yours takes rank k + 1, too": {"shift": -1},
    "this is a fraction: the field reports percent, multiply by 100": {"percent": 1},
    "this is a count of hits: divide by the number of queries": {"percent": 1, "by": None},
    "this is 100 times the count of hits: divide by the number of queries": {"by": None},
    "you divided by the largest rank: recall divides by the number of queries": {
        "by": lambda ranks, k: int(ranks.max())
    },
    "you divided by the number of queries less 1: divide by all of them": {"by": lambda ranks, k: len(ranks) - 1},
    "you divided by the number of different ranks: divide by the number of queries": {
        "by": lambda ranks, k: len(ranks.unique())
    },
    "you divided by the number of queries plus 1: divide by all of them": {"by": lambda ranks, k: len(ranks) + 1},
    "you divided by the number of queries, at least k: divide by the number of queries": {
        "by": lambda ranks, k: max(len(ranks), k)
    },
    "you divided by the number of queries, at most k: divide by the number of queries": {
        "by": lambda ranks, k: min(len(ranks), k)
    },
    "you divided by the sum of the ranks: divide by the number of queries": {"by": lambda ranks, k: int(ranks.sum())},
    "equal ranks are counted once (unique, or a set): every query counts": {"of": lambda ranks, k: ranks.unique()},
    "only the k largest ranks are looked at: all queries count": {"of": lambda ranks, k: ranks.sort().values[-k:]},
    "only the k smallest ranks are looked at: all queries count": {"of": lambda ranks, k: ranks.sort().values[:k]},
    "the first query is left out: all queries count": {"of": lambda ranks, k: ranks[1:]},
    "the last query is left out: all queries count": {"of": lambda ranks, k: ranks[:-1]},
    "rank 1 is left out: every rank up to k is a hit": {"hits": lambda ranks, k: (ranks > 1) & (ranks <= k)},
    "this is per thousand: give percent": {"percent": 1000},
    "the result is rounded, or divided with //: keep the decimals": {"after": int},
    "the result is rounded: keep the decimals": {"after": round},
    "the result is rounded to one decimal: keep them all": {"after": lambda share: round(share, 1)},
    "the result is rounded to two decimals: keep them all": {"after": lambda share: round(share, 2)},
}


def explain_recall(inputs: Inputs, result: object, expected: float) -> str | None:
    """How many of the queries the answer calls hits, if it is a share at all."""
    ranks, mine = inputs["ranks"], float(result)
    if not math.isfinite(mine):
        return None
    if not 0 <= mine <= 100.01:
        return f"{mine:.4g} is no percentage: it is the hits, divided by the number of queries, times 100"
    hits, right = mine * len(ranks) / 100, round(expected * len(ranks) / 100)
    if abs(hits - round(hits)) > 0.01:
        return f"{mine:.4g} % is no whole number of {len(ranks)} queries: divide the hits by the number of queries"
    return (
        f"yours counts {round(hits)} of {len(ranks)} queries as hits, and {right} have a rank of at most {inputs['k']}"
    )


def _first_k(ranks, k):
    return recall_specification(ranks[:k], k)


def _mean_rank(ranks, k):
    return float(ranks.double().mean())


def _reciprocal(ranks, k):
    return float((1 / ranks.double()).mean())


MISTAKES: dict[str, Callable] = {
    "you divided by k: that is precision; recall divides by the number of queries": lambda ranks, k: recall(
        ranks, k, by=lambda ranks, k: k
    ),
    "you divided by k, and percent is missing: divide by the number of queries, and multiply by 100": lambda ranks, k: (
        recall(ranks, k, by=lambda ranks, k: k, percent=1)
    ),
    "the share is rounded to 0 or 1 before it is multiplied by 100 (round): keep the decimals": lambda ranks, k: (
        100.0 * round(recall(ranks, k, percent=1))
    ),
    "this is 100 where all queries are hits, and 0 elsewhere (all, //, int): the share of the hits is asked for": (
        lambda ranks, k: 100.0 * int(recall(ranks, k, percent=1))
    ),
    "the mean rank is held against k: hold each rank against it, and take the share of the hits": lambda ranks, k: (
        100.0 * bool(ranks.double().mean() <= k)
    ),
    "the number of the query is held against k: hold its rank against it": lambda ranks, k: recall(
        torch.arange(len(ranks)), k
    ),
    "the number of the query, from 1, is held against k: hold its rank against it": lambda ranks, k: recall(
        torch.arange(1, len(ranks) + 1), k
    ),
    "the ranks of the hits are added up: each hit counts 1": lambda ranks, k: (
        100.0 * int(ranks[ranks <= k].sum()) / len(ranks)
    ),
    "each hit counts 1 / rank: each counts 1": lambda ranks, k: 100.0 * float(((ranks <= k) / ranks.double()).mean()),
    "only a k of 1, 5 or 10 is known here, and another is taken for the one below: hold the ranks against k itself": (
        lambda ranks, k: recall(ranks, max(known for known in (1, 5, 10) if known <= k))
    ),
    "you divided by the number of queries less 1, at least 1: divide by all of them": lambda ranks, k: recall(
        ranks, k, by=lambda ranks, k: max(1, len(ranks) - 1)
    ),
    "k is not used": lambda ranks, k: recall(ranks, 5),
    "a rank beyond k counts in part here (k / rank): it is a miss, and counts 0": lambda ranks, k: (
        100 * float((k / ranks.double()).clamp(max=1).mean())
    ),
    "this is the mean of the ranks that are hits: the share of the queries is asked for": lambda ranks, k: float(
        ranks[ranks <= k].double().mean()
    ),
    "you divided by the number of queries and by k: recall divides by the number of queries only": lambda ranks, k: (
        recall(ranks, k) / k
    ),
    "you look at the first k queries: all queries count, each with its rank held against k": _first_k,
    "this is the mean rank: the share of ranks up to k is asked for": _mean_rank,
    "this is the median rank: the share of ranks up to k is asked for": lambda ranks, k: float(ranks.double().median()),
    "this is the mean of 1 / rank: the share of ranks up to k is asked for": _reciprocal,
    "this is 100 or 0, whether any query is a hit: the share of the queries that are one is asked for": (
        lambda ranks, k: 100.0 * bool((ranks <= k).any())
    ),
    "only the first query counts here: is the return inside the loop?": lambda ranks, k: 100.0 * (int(ranks[0]) <= k),
    "the first query's hit is divided by all queries: is the return inside the loop?": lambda ranks, k: (
        100.0 * (int(ranks[0]) <= k) / len(ranks)
    ),
}

EXERCISE = Exercise(
    "recall-at-k",
    library=lambda ranks, k: percent(ranks.cpu().numpy() <= k),
    example=Case({"ranks": torch.tensor([1, 7, 2, 5]), "k": 5}, worked=75.0),
    cases=recall_cases,
    specification=recall_specification,
    mistakes=MISTAKES,
    family=(recall, FAMILY),
    explain=explain_recall,
)
