"""How UTO is spoiled: the steps that the loss in the batch, its weights and the loss against a queue have in common.

Each step takes the name of what is written in its place; ``""`` is right.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from itr_lib.checks.outcome import Inputs


def exponents_of(scores: Tensor, mu: float, gamma: float, form: str, own: Tensor | None = None) -> Tensor:
    """mu (S - gamma); ``own``: the positive of each row."""
    return {
        "": lambda: mu * (scores - gamma),
        "no gamma": lambda: mu * scores,
        "plus gamma": lambda: mu * (scores + gamma),
        "gamma outside": lambda: mu * scores - gamma,
        "divided": lambda: (scores - gamma) / mu,
        "turned": lambda: mu * (gamma - scores),
        "no mu": lambda: scores - gamma,
        "exchanged": lambda: gamma * (scores - mu),
        "own": lambda: mu * (scores - own[:, None]),
        "own and gamma": lambda: mu * (scores - own[:, None] - gamma),
        "own plus gamma": lambda: mu * (scores - own[:, None] + gamma),
        "at least 0": lambda: mu * (scores.relu() - gamma),
        "hinge": lambda: mu * (scores - gamma).relu(),
    }[form]()


def filled(
    scores: Tensor, mu: float, gamma: float, form: str, no_negative: Tensor, fill: float | str, own=None
) -> Tensor:
    """The exponents, with what is no negative out of the way; ``"score 0"``: as if its score were 0."""
    exponents = exponents_of(scores, mu, gamma, form, own)
    if isinstance(fill, str):
        at = exponents_of(torch.full_like(scores, float(fill.removeprefix("score "))), mu, gamma, form, own)
    else:
        at = torch.full_like(exponents, fill)
    return torch.where(no_negative, at, exponents)


def negatives_term(
    exponents: Tensor, mu: float, gamma: float, left: Tensor, one: float | str, scale: str, pool: str, guard: str
) -> Tensor:
    """1/mu log(1 + sum e^x) along the rows; ``left``: the negatives."""
    top = exponents.amax(dim=1).clamp(min=-1e30) if exponents.shape[1] else exponents.new_zeros(len(exponents))
    one = math.exp(-mu * gamma) if one == "score" else one
    kept = {"mean": exponents - left.sum(1, keepdim=True).clamp(min=1).log().to(exponents), "max": top[:, None]}
    exponents = kept.get(pool, exponents)
    pooled = {
        "each": lambda: nn.functional.softplus(exponents).sum(1),
        "whole": lambda: nn.functional.softplus(exponents.flatten().logsumexp(0)).expand(len(exponents)),
        "columns": lambda: nn.functional.softplus(exponents.logsumexp(0).mean()).expand(len(exponents)),
        "1 outside": lambda: 1 + exponents.logsumexp(1),
        "log of log": lambda: exponents.logsumexp(1).log1p(),
        "at least 0": lambda: exponents.logsumexp(1).relu(),
        "mean and 1": lambda: _safe(exponents, one) - math.log(exponents.shape[1]),
        "mean with 0": lambda: _safe(exponents, one) - math.log(exponents.shape[1] + 1),
    }
    guarded = {
        "naive": lambda: (one + exponents.exp().sum(1)).log(),
        "no log": lambda: one + exponents.exp().sum(1),
        "lost": lambda: (one + (exponents - top[:, None]).exp().sum(1)).log(),
        "all lost": lambda: (one * (-top.relu()).exp() + (exponents - top.relu()[:, None]).exp().sum(1)).log(),
        "the 1 stays": lambda: (one + (exponents - top[:, None]).exp().sum(1)).log() + top,
        "capped": lambda: (one + exponents.clamp(max=50).exp().sum(1)).log(),
    }
    cost = (pooled.get(pool) or guarded.get(guard) or (lambda: _safe(exponents, one)))()
    return {"": cost / mu, "none": cost, "times": cost * mu, "twice": 2 * cost / mu}[scale]


def _safe(exponents: Tensor, one: float) -> Tensor:
    beside = exponents.new_full((len(exponents), 1), math.log(one) if one else -torch.inf)
    return torch.cat([beside, exponents], dim=1).logsumexp(1)


def positives_of(scores: Tensor, floor: float, form: str) -> Tensor:
    """log(1 + max(S, floor))."""
    kept = scores.clamp(min=floor)
    return {
        "": lambda: kept.log1p(),
        "bare": lambda: scores.log1p(),
        "at 0": lambda: scores.clamp(min=0).log1p(),
        "capped": lambda: scores.clamp(max=floor).log1p(),
        "shifted": lambda: (scores - floor).relu().log1p(),
        "log first": lambda: scores.log1p().clamp(min=floor),
        "mean first": lambda: scores.mean().clamp(min=floor).log1p().expand_as(scores),
        "sum first": lambda: scores.sum().clamp(min=floor).log1p().expand_as(scores),
        "no log": lambda: kept,
        "no 1": lambda: kept.log(),
        "log 2": lambda: kept.log1p() / math.log(2),
        "log 10": lambda: kept.log1p() / math.log(10),
    }[form]()


def weighed(kept: Tensor, own_share: float | str) -> Tensor:
    """The positives' part, times what it counts; ``"B"`` and ``"1/B"``: summed, or averaged once more."""
    return {"B": float(kept.numel()), "1/B": 1 / kept.numel()}.get(own_share, own_share) * kept


def total_of(terms: Tensor, total: str, factor: float) -> Tensor:
    """The mean over the queries."""
    totals = {"mean": terms.mean, "sum": terms.sum, "first": lambda: terms[0], "last": lambda: terms[-1]}
    totals["mean of mean"] = lambda: terms.mean() / len(terms)
    return factor * totals[total]()


def overflow_explained(inputs: Inputs, result: Any, expected: Any) -> str | None:
    """Infinity or NaN where the exponents are large."""
    if inputs["mu"] > 100 and not bool(torch.as_tensor(result).isfinite().all()):
        return (
            "exp overflows when mu (S - gamma) is large, and infinity times 0, or over infinity, is NaN: put a 0 "
            "beside the exponents, then logsumexp or softmax"
        )
    return None


# What is wrong in the exponents, the sum and the positives reads the same in the batch and against a queue.
SHARED_TOGGLES = {
    "exp overflows when mu (S - gamma) is large, at about 88 in float32: the 1 is e^0, one more exponent; put a 0 "
    "beside the exponents and take logsumexp": {"guard": "naive"},
    "the largest exponent was taken out, and is not added back after the logarithm": {"guard": "lost"},
    "the largest of the exponents and the 0 was taken out, and is not added back after the logarithm": {
        "guard": "all lost"
    },
    "the largest exponent was taken out of the sum, but not of the 1: the 1 becomes e^(-largest); let logsumexp do "
    "both": {"guard": "the 1 stays"},
    "the exponents are cut off at the top: then the hardest negatives cost no more; use logsumexp": {"guard": "capped"},
    "what is no negative became an exponent of 0, and e^0 = 1 counts: fill with -torch.inf": {"fill": 0.0},
    "what is no negative became a score of 0, and e^(-mu gamma) counts: fill the exponents with -torch.inf": {
        "fill": "score 0"
    },
    "what is no negative became a score of -1, and e^(-mu (1 + gamma)) counts: fill the exponents with -torch.inf": {
        "fill": "score -1"
    },
    "what is no negative became an exponent of 1: fill with -torch.inf": {"fill": 1.0},
    "what is no negative became an exponent of -1, and e^(-1) counts: fill with -torch.inf": {"fill": -1.0},
    "the 1 inside the logarithm is missing: then negatives far below gamma still push": {"one": 0.0},
    "the 1 inside the logarithm stands there twice: a 0 beside the exponents, or log1p, not both": {"one": 2.0},
    "the 1 became e: the number beside the exponents is 0, since e^0 = 1": {"one": math.e},
    "the 1 became e^(-mu gamma): the 0 stands beside the exponents, not beside the scores": {"one": "score"},
    "1/mu is missing before the logarithm": {"scale": "none"},
    "the negatives' part counts twice": {"scale": "twice"},
    "the logarithm is multiplied by mu: divide it": {"scale": "times"},
    "gamma is missing: the exponent is mu (S - gamma)": {"form": "no gamma"},
    "gamma is added: the exponent is mu (S - gamma)": {"form": "plus gamma"},
    "gamma stands outside mu: the exponent is mu (S - gamma), not mu S - gamma": {"form": "gamma outside"},
    "the scores are divided by mu: multiply them": {"form": "divided"},
    "the sign in the exponent is turned: it is mu (S - gamma)": {"form": "turned"},
    "mu is missing in the exponent: it is mu (S - gamma)": {"form": "no mu"},
    "mu and gamma are exchanged: the exponent is mu (S - gamma)": {"form": "exchanged"},
    "negatives are held against the query's positive: UTO holds them against gamma alone, mu (S_ij - gamma)": {
        "form": "own"
    },
    "the positive is in the exponent: UTO holds negatives against gamma alone, mu (S_ij - gamma)": {
        "form": "own and gamma"
    },
    "this is a margin against the positive: UTO holds negatives against gamma alone, mu (S_ij - gamma)": {
        "form": "own plus gamma"
    },
    "negative scores were set to 0: a negative below 0 has a lower exponent": {"form": "at least 0"},
    "differences below gamma were set to 0, and e^0 = 1 counts: no relu in the exponent": {"form": "hinge"},
    "each negative has its own logarithm: one for the sum of all": {"pool": "each"},
    "the mean over the negatives instead of their sum": {"pool": "mean"},
    "the mean over all keys, the 1 included, instead of the sum": {"pool": "mean and 1"},
    "the mean over all exponents and the 0 beside them instead of their sum": {"pool": "mean with 0"},
    "one sum for the whole matrix: each query has its own, along its row": {"pool": "whole"},
    "the sum runs over the queries: it runs over the negatives of each, along its row": {"pool": "columns"},
    "the 1 stands outside the logarithm: log(1 + sum), so one more exponent, 0": {"pool": "1 outside"},
    "this is a logarithm of a logarithm: logsumexp has the log in it; put a 0 beside the exponents for the 1": {
        "pool": "log of log"
    },
    "this is max(0, log of the sum): log(1 + sum) is softer; put a 0 beside the exponents": {"pool": "at least 0"},
    "the logarithm of the sum is missing": {"guard": "no log"},
    "only the hardest negative counts: the sum runs over all of them": {"pool": "max"},
    "a positive below the floor goes into the logarithm as it is: log(1 + max(S, floor)) cuts it off": {
        "positive": "bare"
    },
    "the positive is cut off at 0: the floor is an argument": {"positive": "at 0"},
    "the positive is cut off from above: clamp(min=floor)": {"positive": "capped"},
    "the floor is applied after the logarithm: max(S, floor) comes first, then log(1 + ...)": {"positive": "log first"},
    "the scores of negatives are cut off at the floor, too: it belongs to the positive alone": {
        "form": "at least the floor"
    },
    "the floor is taken off and not added back: max(S, floor), clamp(min=floor)": {"positive": "shifted"},
    "the logarithm of the mean positive: the mean of the logarithms is asked for": {"positive": "mean first"},
    "the positives were added up before the logarithm: each query has its own": {"positive": "sum first"},
    "the positive is added: it has a minus, since a high score of its own is what we want": {"own_share": -1.0},
    "the positive's logarithm is missing: log(1 + max(S, floor))": {"positive": "no log"},
    "the 1 of the positive is missing: log(1 + max(S, floor))": {"positive": "no 1"},
    "there is no positive term: without - log(1 + max(S, floor)) nothing draws a pair together": {"own_share": 0.0},
    "the positive counts twice: it stands once": {"own_share": 2.0},
    "the positives are summed, the negatives averaged: the mean over the B queries is that of both": {"own_share": "B"},
    "the negatives are summed, the positives averaged: the mean over the B queries is that of both": {
        "own_share": "1/B",
        "total": "sum",
    },
    "the positive counts half: it stands once": {"own_share": 0.5},
    "the positive's logarithm is to base 10: torch.log is the natural one": {"positive": "log 10"},
    "the positive's logarithm is to base 2: torch.log is the natural one": {"positive": "log 2"},
    "this is the sum over the batch: divide by B": {"total": "sum"},
    "the mean is divided by B once more": {"total": "mean of mean"},
    "only the first query counts: is a return inside the loop?": {"total": "first"},
    "only the last query counts: collect the terms of all, then take their mean": {"total": "last"},
    "20 times too much: that factor is the paper's, outside this function": {"factor": 20.0},
    "the loss counts twice": {"factor": 2.0},
    "the loss is halved: the two sides are added, not averaged": {"factor": 0.5},
    "the sign of the loss is turned: training makes a loss small": {"factor": -1.0},
}
