"""``effective-regions``, lesson 03.

Exp of the attention's entropy, beside a sum of w log w.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from itr_lib.checks._inputs import mask_last_real, normal
from itr_lib.checks.frame import Exercise
from itr_lib.checks.outcome import Inputs


def effective_cases() -> Iterator[Inputs]:
    """Attention of several sharpnesses, padding with weight 0, a single region that has it all, equal shares."""
    for seed, (questions, regions, temperature) in enumerate([(4, 6, 1.0), (3, 3, 0.3), (1, 5, 0.5)]):
        mask = mask_last_real(questions, regions, 190 + seed)
        logits = normal(questions, regions, seed=200 + seed) / temperature
        yield {"weights": logits.masked_fill(~mask, -torch.inf).softmax(1)}
    yield {"weights": torch.tensor([[0, 1, 0, 0], [0.25, 0.25, 0.25, 0.25], [0.5, 0, 0.5, 0]], dtype=torch.float64)}


def effective_specification(weights: Tensor) -> Tensor:
    """Row by row: minus the sum of w log w over what has a weight, then exp."""
    numbers = [math.exp(-sum(w * math.log(w) for w in row if w > 0)) for row in weights.tolist()]
    return weights.new_tensor(numbers)


def _entropy(weights: Tensor, dim: int = 1) -> Tensor:
    return -torch.xlogy(weights, weights).sum(dim)


EFFECTIVE_MISTAKES = {
    "0 times log 0 is NaN: leave out what has no weight, or use torch.xlogy": lambda weights: torch.exp(
        -(weights * weights.log()).sum(1)
    ),
    "this is the entropy H itself: return exp(H), a number of regions": _entropy,
    "the sign is turned round: the entropy is minus the sum of w log w": lambda weights: torch.exp(-_entropy(weights)),
    "the logarithm has base 2 and the power base e: take both of one kind": lambda weights: torch.exp(
        _entropy(weights) / math.log(2)
    ),
    "the logarithm has base e and the power base 2: take both of one kind": lambda weights: 2.0 ** _entropy(weights),
    "this counts the regions with any weight at all, however small": lambda weights: (weights > 0).sum(1).to(weights),
    "this is 1 / sum w^2, another number of regions: here it is exp of the entropy": lambda weights: (
        1 / (weights**2).sum(1)
    ),
    "this is 1 / max w: it knows the largest weight alone": lambda weights: 1 / weights.amax(1),
    "this is the entropy as a share of its largest value, log R: return exp(H)": lambda weights: (
        _entropy(weights) / math.log(weights.shape[1])
    ),
    "this sums over the questions: each row has its own entropy, sum over dim 1": lambda weights: torch.exp(
        _entropy(weights, dim=0)
    ),
    "a mean instead of the sum: the entropy is a sum over the regions": lambda weights: torch.exp(
        _entropy(weights) / weights.shape[1]
    ),
    "weights go in as they are, they sum to 1 already: no softmax": lambda weights: torch.exp(
        _entropy(weights.softmax(1))
    ),
}

EXERCISE = Exercise("effective-regions", effective_cases, effective_specification, EFFECTIVE_MISTAKES)
