"""``unified-loss``, lesson 04.

USER's unified loss in the batch, beside a loop over queries and their negatives; gradients too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from itr_lib.checks._inputs import generator, normal
from itr_lib.checks._mistakes import eye, variant
from itr_lib.checks.frame import Exercise
from itr_lib.checks.outcome import Inputs


def unified_cases() -> Iterator[Inputs]:
    """Cosines of both signs, positives too; captions that share an image; one pair; exponents that overflow."""
    for seed, (ids, mu, gamma) in enumerate(
        [((0, 1, 0, 2, 3), 8.0, 0.2), ((4, 1, 2), 20.0, 0.5), ((3, 3, 1, 1, 2, 5), 5.0, -0.1), ((2,), 90.0, 0.5)]
    ):
        scores = 0.9 * torch.tanh(normal(len(ids), len(ids), seed=seed))
        scores[0, 0], scores[-1, -1] = -0.3, 0.7  # one positive below 0, one above
        owner = torch.tensor(ids)
        yield {"scores": scores, "mu": mu, "gamma": gamma, "same_image": owner[:, None] == owner}
    # Exponents that float32 holds exactly, and whose exp it does not hold.
    near_one = 1 - torch.randint(0, 8, (4, 4), generator=generator(9)).double() / 128
    yield {"scores": near_one, "mu": 128.0, "gamma": 0.0, "same_image": torch.eye(4, dtype=torch.bool)}


def unified_specification(scores: Tensor, mu: float, gamma: float, same_image: Tensor) -> Tensor:
    """Query by query and negative by negative; exponentials are taken of differences to the largest."""
    terms = []
    for i in range(len(scores)):
        negatives = [j for j in range(len(scores)) if not bool(same_image[i, j])]
        asks_row = log_one_plus([mu * (scores[i, j] - gamma) for j in negatives], scores)
        asks_column = log_one_plus([mu * (scores[j, i] - gamma) for j in negatives], scores)
        positive = scores[i, i] if float(scores[i, i].detach()) > 0 else 0 * scores[i, i]
        terms.append(asks_row / mu + asks_column / mu - torch.log(1 + positive))
    return torch.stack(terms).mean()


def log_one_plus(exponents: list[Tensor], like: Tensor) -> Tensor:
    """log(1 + sum of e^x)."""
    top = max([0.0, *(float(x.detach()) for x in exponents)])
    return top + torch.log(like.new_tensor(math.exp(-top)) + sum(torch.exp(x - top) for x in exponents))


def negatives_term(
    scores, mu, gamma, no_negative, one=True, scale=True, fill=-torch.inf, exponents=None, naive=False, mean=False
):
    """Variants of 1/mu log(1 + sum e^...) along the rows."""
    exponents = mu * (scores - gamma) if exponents is None else exponents
    exponents = exponents.masked_fill(no_negative, fill)
    if naive:
        return exponents.exp().sum(1).log1p() / mu
    if mean:
        return (exponents.exp().sum(1) / (~no_negative).sum(1)).log1p() / mu
    if one:
        exponents = torch.cat([torch.zeros_like(exponents[:, :1]), exponents], dim=1)
    return exponents.logsumexp(1) / (mu if scale else 1)


def _unified(scores, mu, gamma, same_image, rows=1.0, columns=1.0, positive=None, total=torch.mean, **changed):
    """Variants of the loss in the batch."""
    no_negative = changed.pop("mask", same_image)
    exponents = changed.pop("exponents", None)
    by_row = negatives_term(scores, mu, gamma, no_negative, exponents=exponents, **changed)
    other = None if exponents is None else exponents.T
    by_column = negatives_term(scores.T, mu, gamma, no_negative.T, exponents=other, **changed)
    kept = scores.diagonal().relu().log1p() if positive is None else positive
    return total(rows * by_row + columns * by_column - kept)


def _each_negative_its_own_log(scores, mu, gamma, same_image):
    costs = nn.functional.softplus(mu * (scores - gamma)).masked_fill(same_image, 0) / mu
    return (costs.sum(1) + costs.sum(0) - scores.diagonal().relu().log1p()).mean()


def overflow_explained(inputs: Inputs, result: Any, expected: Any) -> str | None:
    """Infinity or NaN where the exponents are large."""
    if inputs["mu"] > 100 and not bool(torch.as_tensor(result).isfinite().all()):
        return (
            "exp overflows when mu (S - gamma) is large, and infinity times 0, or over infinity, is NaN: put a 0 "
            "beside the exponents, then logsumexp or softmax"
        )
    return None


UNIFIED_MISTAKES = {
    "exp overflows when mu (S - gamma) is large, at about 88 in float32: the 1 is e^0, one more exponent; put a 0 "
    "beside the exponents and take logsumexp": variant(_unified, naive=True),
    "captions of the same image count as negatives: leave out every pair that same_image marks": variant(
        _unified, mask=lambda given: eye(given["scores"])
    ),
    "the positive is among its own negatives: leave out the diagonal too (same_image is True there)": variant(
        _unified, mask=lambda given: given["same_image"] & ~eye(given["scores"])
    ),
    "what is no negative became an exponent of 0, and e^0 = 1 counts: fill with -torch.inf": variant(
        _unified, fill=0.0
    ),
    "what is no negative became a score of 0, and e^(-mu gamma) counts: fill the exponents with -torch.inf": variant(
        _unified, fill=lambda given: -given["mu"] * given["gamma"]
    ),
    "the mask is turned round: masked_fill fills where it is True, so give it same_image": variant(
        _unified, mask=lambda given: ~given["same_image"]
    ),
    "the 1 inside the logarithm is missing: then negatives far below gamma still push": variant(_unified, one=False),
    "1/mu is missing before the logarithm": variant(_unified, scale=False),
    "gamma is missing: the exponent is mu (S - gamma)": variant(
        _unified, exponents=lambda given: given["mu"] * given["scores"]
    ),
    "gamma is added: the exponent is mu (S - gamma)": variant(
        _unified, exponents=lambda given: given["mu"] * (given["scores"] + given["gamma"])
    ),
    "gamma stands outside mu: the exponent is mu (S - gamma), not mu S - gamma": variant(
        _unified, exponents=lambda given: given["mu"] * given["scores"] - given["gamma"]
    ),
    "the scores are divided by mu: multiply them": variant(
        _unified, exponents=lambda given: (given["scores"] - given["gamma"]) / given["mu"]
    ),
    "a positive below 0 goes into the logarithm as it is: log(1 + [S_ii]+) cuts it off at 0": variant(
        _unified, positive=lambda given: given["scores"].diagonal().log1p()
    ),
    "the positive is added: it has a minus, since a high S_ii is what we want": variant(
        _unified, positive=lambda given: -given["scores"].diagonal().relu().log1p()
    ),
    "the positive's logarithm is missing: log(1 + [S_ii]+)": variant(
        _unified, positive=lambda given: given["scores"].diagonal().relu()
    ),
    "the 1 of the positive is missing: log(1 + [S_ii]+)": variant(
        _unified, positive=lambda given: given["scores"].diagonal().relu().log()
    ),
    "there is no positive term: without - log(1 + [S_ii]+) nothing draws a pair together": variant(
        _unified, positive=0.0
    ),
    "the positive counts twice, once for each direction: in the batch it stands once": variant(
        _unified, positive=lambda given: 2 * given["scores"].diagonal().relu().log1p()
    ),
    "only images ask (rows): add the direction in which captions do (columns, S_ji)": variant(_unified, columns=0.0),
    "only captions ask (columns): add the direction in which images do (rows, S_ij)": variant(_unified, rows=0.0),
    "the two directions are averaged: here they are added": variant(_unified, rows=0.5, columns=0.5),
    "this is the sum over the batch: divide by B": variant(_unified, total=lambda given: torch.sum),
    "each negative has its own logarithm: one for the sum of all": _each_negative_its_own_log,
    "the mean over the negatives instead of their sum": variant(_unified, mean=True),
    "20 times too much: that factor is USER's, outside this function": (
        lambda scores, mu, gamma, same_image: 20 * _unified(scores, mu, gamma, same_image)
    ),
}

EXERCISE = Exercise(
    "unified-loss", unified_cases, unified_specification, UNIFIED_MISTAKES, ("scores",), overflow_explained
)
