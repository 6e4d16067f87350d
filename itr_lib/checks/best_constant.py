"""``best-constant``, lesson 04a.

The score that a model which cannot tell pairs apart does best to give them all, beside a walk over the candidates.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from itr_lib.checks._inputs import sizes
from itr_lib.checks.frame import Case, Exercise
from itr_lib.checks.outcome import Inputs


def _given(count: int, negatives: int, mu: float, gamma: float, low: float = 0.0, turned: bool = False) -> Inputs:
    grid = torch.linspace(low, 1, *sizes(count), dtype=torch.float64)
    return {"scores": grid.flip(0) if turned else grid, "negatives": negatives, "mu": mu, "gamma": gamma}


def constant_cases() -> Iterator[Case]:
    """Few negatives and many, small and large mu, candidates in another order, exponents that overflow."""
    yield Case(_given(101, 7, 30.0, 0.5))
    yield Case(_given(51, 2048, 30.0, 0.6), trap="there are 2,048 negatives")
    yield Case(_given(41, 3, 6.0, 0.4), trap="mu is small")
    yield Case(_given(39, 1, 0.5, -0.4, low=-0.9), trap="mu is below 1")
    yield Case(_given(191, 1, 2.0, 0.1, low=-0.9), trap="mu is small")
    yield Case(_given(76, 1, 20.0, 0.3, low=-0.5), trap="some candidates are below 0")
    yield Case(_given(101, 63, 15.0, 0.7, turned=True), trap="the candidates come from high to low")
    yield Case(_given(101, 40, 900.0, 0.2), trap="mu (S - gamma) is above 88, and its exp overflows")
    # then every loss is infinite that takes the exp of the exponent itself, and the first candidate would win
    high = _given(11, 7, 3000.0, 0.0, low=0.5, turned=True)
    yield Case(high, trap="mu (S - gamma) is above 88 at every candidate, and its exp overflows")


def constant_specification(scores: Tensor, negatives: int, mu: float, gamma: float) -> float:
    """Candidate by candidate, the cheapest so far kept."""
    best = None
    for score in scores.tolist():
        x = mu * (score - gamma)
        top = max(0.0, x)
        cost = 2 / mu * (top + math.log(math.exp(-top) + negatives * math.exp(x - top))) - math.log(1 + score)
        if best is None or cost < best[0]:
            best = (cost, score)
    return best[1]


def best_constant(scores: Tensor, negatives: int, mu: float, gamma: float) -> float:
    """The candidate score at which UTO is lowest when every pair has it and every query has ``negatives``."""
    exponents = math.log(negatives) + mu * (scores - gamma)
    loss = 2 / mu * F.softplus(exponents, threshold=50) - scores.log1p()
    return float(scores[loss.argmin()])


def spoiled(
    scores, negatives, mu, gamma, *, sides=2.0, many="inside", form="", one=1.0, scale="", positive="", pick="least",
    give="score",
):  # fmt: skip
    """The choice with one or two of its steps spoiled."""
    x = {
        "": mu * (scores - gamma), "no gamma": mu * scores, "plus": mu * (scores + gamma),
        "outside": mu * scores - gamma, "divided": (scores - gamma) / mu, "turned": mu * (gamma - scores),
        "no mu": scores - gamma,
    }[form]  # fmt: skip
    grown = _times(x, negatives, many, mu)
    beside = torch.full_like(x, math.log(one) if one else -torch.inf)
    cost = one + grown.exp() if pick == "no log" else torch.logaddexp(beside, grown)
    cost = (one + grown.exp()).log() if pick == "naive" else cost
    cost = cost * (negatives if many == "outside" else 1) * {"": 1 / mu, "none": 1.0, "times": mu}[scale]
    kept = {"": scores.log1p(), "none": 0 * scores, "no log": scores, "no 1": scores.log()}[positive]
    loss = sides * cost - kept
    place = int(loss.argmax() if pick == "most" else loss.argmin())
    nearest = scores[(scores - gamma).abs().argmin()]
    threshold = gamma - math.log(negatives) / mu
    return float(
        {"score": scores[place], "place": place, "loss": loss[place], "threshold": threshold, "nearest": nearest}[give]
    )


def _times(x: Tensor, negatives: int, many: str, mu: float) -> Tensor:
    """The exponent of n e^x, or what is written in its place."""
    return {
        "inside": x + math.log(negatives),
        "none": x,
        "outside": x,
        "exponent": x * negatives,
        "pairs": x + 2 * math.log(negatives),
        "times": x * math.log(negatives),
        "log10": x + math.log10(negatives),
        "and own": x + math.log(negatives + 1),
        "in the bracket": x + mu * math.log(negatives),
    }[many]


CONSTANT_TOGGLES = {
    "only one direction is counted, or the positive twice: images ask and captions ask, so 2/mu": {"sides": 1.0},
    "the number of negatives is missing: the sum has n terms, n e^(mu (S - gamma))": {"many": "none"},
    "n stands before the logarithm: the n terms are summed inside it": {"many": "outside"},
    "n stands in the exponent: it multiplies the exponential": {"many": "exponent"},
    "the positive is counted among the negatives: n of them, not n + 1": {"many": "and own"},
    "n counts twice": {"many": "pairs"},
    "ln n multiplies the exponent: n e^x = e^(ln n + x), so it is added": {"many": "times"},
    "the logarithm of n is to base 10: n e^x = e^(ln n + x), with math.log": {"many": "log10"},
    "ln n stands inside the bracket, where mu multiplies it: n e^x = e^(ln n + x), so mu (S - gamma) + ln n": {
        "many": "in the bracket"
    },
    "exp overflows when mu (S - gamma) is large, and of infinite losses the first is taken: log(1 + n e^x) is "
    "softplus(x + ln n), or logaddexp(0, x + ln n)": {"pick": "naive"},
    "the logarithm of the sum is missing": {"pick": "no log"},
    "gamma is missing: the exponent is mu (S - gamma)": {"form": "no gamma"},
    "gamma is added: the exponent is mu (S - gamma)": {"form": "plus"},
    "gamma stands outside mu: the exponent is mu (S - gamma)": {"form": "outside"},
    "the scores are divided by mu: multiply them": {"form": "divided"},
    "the sign in the exponent is turned: it is mu (S - gamma)": {"form": "turned"},
    "mu is missing in the exponent: it is mu (S - gamma)": {"form": "no mu"},
    "the 1 inside the logarithm is missing": {"one": 0.0},
    "1/mu is missing before the logarithm": {"scale": "none"},
    "the logarithm is multiplied by mu: divide it": {"scale": "times"},
    "the positive term - log(1 + S) is missing, or has a plus": {"positive": "none"},
    "the positive's logarithm is missing: log(1 + S)": {"positive": "no log"},
    "the 1 of the positive is missing: log(1 + S)": {"positive": "no 1"},
    "this is the candidate with the highest loss: the lowest is asked for": {"pick": "most"},
    "this is the candidate nearest to gamma: compare the losses of the candidates": {"give": "nearest"},
    "this is a place in the list: return the score that stands there": {"give": "place"},
    "this is the lowest loss: return the score that has it": {"give": "loss"},
    "this is gamma - ln(n) / mu, where n negatives begin to count: the best score lies a little below it; compare the "
    "losses of the candidates": {"give": "threshold"},
}

EXERCISE = Exercise(
    "best-constant",
    library=best_constant,
    example=Case(_given(11, 7, 30.0, 0.5), worked=0.4),
    cases=constant_cases,
    specification=constant_specification,
    family=(spoiled, CONSTANT_TOGGLES),
)
