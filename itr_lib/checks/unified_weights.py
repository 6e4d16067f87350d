"""``unified-weights``, lesson 04.

The weights with which negatives push in the unified loss, beside exponentials row by row.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from itr_lib.checks._mistakes import eye, variant
from itr_lib.checks.frame import Exercise
from itr_lib.checks.unified_loss import overflow_explained, unified_cases


def weights_specification(scores: Tensor, mu: float, gamma: float, same_image: Tensor) -> Tensor:
    """Row by row: each exponential over 1 plus the sum of all, as differences to the largest exponent."""
    result = torch.zeros_like(scores)
    for i in range(len(scores)):
        exponents = {j: mu * (float(scores[i, j]) - gamma) for j in range(len(scores)) if not bool(same_image[i, j])}
        top = max([0.0, *exponents.values()])
        total = math.exp(-top) + sum(math.exp(x - top) for x in exponents.values())
        for j, x in exponents.items():
            result[i, j] = math.exp(x - top) / total
    return result


def _weights(scores, mu, gamma, same_image, one=True, dim=1, fill=-torch.inf, exponents=None):
    exponents = mu * (scores - gamma) if exponents is None else exponents
    exponents = exponents.masked_fill(same_image, fill)
    if dim == 0:
        return _weights(scores.T, mu, gamma, same_image.T).T
    if one:
        exponents = torch.cat([torch.zeros_like(exponents[:, :1]), exponents], dim=1)
    return exponents.softmax(1)[:, int(one) :]


def _weights_naive(scores, mu, gamma, same_image):
    grown = (mu * (scores - gamma)).masked_fill(same_image, -torch.inf).exp()
    return grown / (1 + grown.sum(1, keepdim=True))


WEIGHTS_MISTAKES = {
    "exp overflows and infinity over infinity is NaN: put a 0 beside the exponents, then softmax": _weights_naive,
    "the 1 is missing below the line: these weights sum to 1, however far below gamma all negatives are": variant(
        _weights, one=False
    ),
    "what is no negative gets a weight: fill its exponent with -torch.inf, the diagonal included": (
        lambda scores, mu, gamma, same_image: _weights(scores, mu, gamma, torch.zeros_like(same_image))
    ),
    "captions of the same image get a weight: leave out every pair that same_image marks": (
        lambda scores, mu, gamma, same_image: _weights(scores, mu, gamma, eye(scores))
    ),
    "what is no negative became an exponent of 0, and e^0 = 1 has a weight: fill with -torch.inf": variant(
        _weights, fill=0.0
    ),
    "what is no negative still counts below the line: fill before you sum": lambda scores, mu, gamma, same_image: (
        _weights(scores, mu, gamma, torch.zeros_like(same_image)).masked_fill(same_image, 0)
    ),
    "these are the weights along the columns, where captions ask: each row sums over its own j": variant(
        _weights, dim=0
    ),
    "gamma is missing: it decides how the exponents compare with the 1": variant(
        _weights, exponents=lambda given: given["mu"] * given["scores"]
    ),
    "gamma stands outside mu: the exponent is mu (S - gamma)": variant(
        _weights, exponents=lambda given: given["mu"] * given["scores"] - given["gamma"]
    ),
    "mu times too much: 1/mu in the loss takes back the mu of the exponent": (
        lambda scores, mu, gamma, same_image: mu * _weights(scores, mu, gamma, same_image)
    ),
    "divided by mu: 1/mu in the loss only takes back the mu of the exponent": (
        lambda scores, mu, gamma, same_image: _weights(scores, mu, gamma, same_image) / mu
    ),
    "divided by B: the mean over the queries is left out here": lambda scores, mu, gamma, same_image: (
        _weights(scores, mu, gamma, same_image) / len(scores)
    ),
    "each negative is weighed alone, against the 1: below the line stands the sum over all of the row": (
        lambda scores, mu, gamma, same_image: (mu * (scores - gamma)).sigmoid().masked_fill(same_image, 0)
    ),
    "both directions added: only the rows are asked for": lambda scores, mu, gamma, same_image: (
        _weights(scores, mu, gamma, same_image) + _weights(scores, mu, gamma, same_image, dim=0)
    ),
}

EXERCISE = Exercise("unified-weights", unified_cases, weights_specification, WEIGHTS_MISTAKES, (), overflow_explained)
