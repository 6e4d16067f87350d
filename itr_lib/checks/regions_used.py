"""``regions-used``, lesson 03.

On how many regions a softmax really looks: exp of its entropy, beside a sum of w log w.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from itr_lib.checks._inputs import generator, mask_last_real, sizes, uniform
from itr_lib.checks.frame import Case, Exercise, Inputs, Rehearsal

NEVER = -torch.inf


def used_library(alignments: Tensor, temperature: float) -> Tensor:
    """Softmax, entropy, exp; 0 log 0 is 0."""
    weights = (alignments / temperature).softmax(dim=1)
    return (-torch.xlogy(weights, weights).sum(dim=1)).exp()


EXAMPLE = Case(
    {
        "alignments": torch.tensor([[0.5] * 4, [0.9, 0.7, 0.7, NEVER]], dtype=torch.float64),
        "temperature": 0.1,
    },
    worked=[4, 1.946],
)


def used_cases() -> Iterator[Case]:
    """Alignments at several temperatures; then padding, low temperatures, a single region."""
    for seed, (questions, regions, temperature) in enumerate([(4, 6, 0.5), (3, 3, 1.7), (1, 5, 0.3), (5, 2, 0.8)]):
        alignments = uniform(*sizes(questions, regions), g=generator(200 + seed))
        yield Case({"alignments": alignments, "temperature": temperature})
    yield Case(_padded(4, 6, 5) | {"temperature": 0.2}, "a place is no region, -inf")
    yield Case(_padded(4, 6, 6) | {"temperature": 0.003}, "the temperature is 0.003 and nearly all weights become 0")
    steps = (115 + 3 * uniform(3, 5, g=generator(207))).round() / 128  # exact in float32, too
    yield Case(
        {"alignments": steps, "temperature": 1 / 128}, "the temperature is so low that e^(A / temperature) overflows"
    )
    level = torch.tensor([[0.9, 0.9, 0.2, NEVER], [0.4, -0.4, 0.4, 0.4]], dtype=torch.float64)
    yield Case({"alignments": level, "temperature": 0.003}, "several regions are level at a temperature of 0.003")


def _padded(questions: int, regions: int, seed: int) -> Inputs:
    mask = mask_last_real(questions, regions, 190 + seed)
    return {"alignments": uniform(questions, regions, g=generator(220 + seed)).masked_fill(~mask, NEVER)}


def used_specification(alignments: Tensor, temperature: float) -> Tensor:
    """Row by row: a softmax by hand, minus the sum of w log w over what has a weight, then exp."""
    numbers = []
    for row in alignments.tolist():
        grown = [math.exp((value - max(row)) / temperature) for value in row]
        weights = [g / sum(grown) for g in grown]
        numbers.append(math.exp(-sum(w * math.log(w) for w in weights if w > 0)))
    return alignments.new_tensor(numbers)


def _entropy(weights: Tensor, base: float = math.e, dim: int = 1) -> Tensor:
    return -torch.xlogy(weights, weights).sum(dim) / math.log(base)


def _used(
    alignments, temperature, change=lambda A: A, by=lambda tau: 1 / tau, softmax=torch.softmax, axis=1,
    entropy=_entropy, power=lambda H, R: H.exp(),
):  # fmt: skip
    """The number of regions with a step done otherwise; every option is a mistake of the family below."""
    weights = softmax(change(alignments) * by(temperature), dim=axis)
    return power(entropy(weights), alignments.shape[1])


def _by_hand(logits: Tensor, dim: int) -> Tensor:
    return logits.exp() / logits.exp().sum(dim, keepdim=True)


def _bare(weights: Tensor) -> Tensor:
    return -(weights * weights.log()).sum(1)


def _nothing(H: Tensor, regions: int) -> Tensor:
    return H


def _number(count: Callable[[Tensor], Tensor]) -> dict:
    """Another number of the weights in place of exp of the entropy."""
    return {"entropy": count, "power": _nothing}


FAMILY: dict[str, dict] = {
    "0 times minus infinity is NaN where there is no region: leave it out, or use torch.xlogy on the weights": {
        "softmax": torch.log_softmax,
        "entropy": lambda logs: -(logs.exp() * logs).sum(1),
    },
    "0 times log 0 is NaN: leave out what has no weight, or use torch.xlogy": {"entropy": _bare},
    "e^(A / temperature) overflows when the temperature is low: torch.softmax takes the largest out first": {
        "softmax": _by_hand
    },
    "this is the entropy H itself: return exp(H), a number of regions": {"power": _nothing},
    "the sign is turned round: the entropy is minus the sum of w log w": {"power": lambda H, R: (-H).exp()},
    "this is minus the sum of w log w with the sign turned round: return exp(H)": {"power": lambda H, R: -H},
    "the logarithm has base 2 and the power base e: take both of one kind": {"entropy": lambda w: _entropy(w, 2)},
    "the logarithm has base 10 and the power base e: take both of one kind": {"entropy": lambda w: _entropy(w, 10)},
    "the logarithm has base e and the power base 2: take both of one kind": {"power": lambda H, R: 2.0**H},
    "this is 2 to the entropy plus 1: return exp(H)": {"power": lambda H, R: H.exp() + 1},
    "this is the number of regions as a share of all: return exp(H)": {"power": lambda H, R: H.exp() / R},
    "this is the entropy as a share of its largest value, log R: return exp(H)": {
        "power": lambda H, R: H / math.log(R)
    },
    "a mean instead of the sum: the entropy is a sum over the regions": {"power": lambda H, R: (H / R).exp()},
    "this counts the regions with any weight at all, however small": _number(lambda w: (w > 0).sum(1).to(w)),
    "this counts the regions with a weight of 1 % or more: the entropy has no such border": _number(
        lambda w: (w > 0.01).sum(1).to(w)
    ),
    "this counts the regions with more than an equal share: the entropy has no such border": _number(
        lambda w: (w > 1 / w.shape[1]).sum(1).to(w)
    ),
    "this counts the regions that hold 90 % of the weight: the entropy has no such border": _number(
        lambda w: ((w.sort(1, descending=True).values.cumsum(1) < 0.9).sum(1) + 1).to(w)
    ),
    "weights below 0.001 are raised to it: they count as they are": {"entropy": lambda w: _entropy(w.clamp(min=1e-3))},
    "weights below 0.01 are raised to it: they count as they are": {"entropy": lambda w: _entropy(w.clamp(min=1e-2))},
    "the epsilon inside the logarithm is too large: leave out weights of 0, or use torch.xlogy": {
        "entropy": lambda w: -(w * (w + 1e-2).log()).sum(1)
    },
    "this is the mean place of the attention: return exp(H)": _number(
        lambda w: (w * torch.arange(1, w.shape[1] + 1, device=w.device)).sum(1)
    ),
    "exp comes before the sum: exp of the whole entropy is asked for": _number(
        lambda w: (-torch.xlogy(w, w)).exp().sum(1)
    ),
    "this is 1 / sum w^2, another number of regions: here it is exp of the entropy": _number(
        lambda w: 1 / (w**2).sum(1)
    ),
    "this is 1 over the root of sum w^2: here it is exp of the entropy": _number(lambda w: 1 / w.norm(dim=1)),
    "this is 1 / max w: it knows the largest weight alone": _number(lambda w: 1 / w.amax(1)),
    "this is exp of the sum of logs: each log is weighed by its w": {"entropy": lambda w: -w.log().sum(1)},
    "this is the sum of the weights, which is 1: return exp of their entropy": _number(lambda w: w.sum(1)),
    "the temperature is missing: divide by it before the softmax": {"by": lambda tau: 1.0},
    "the alignments are divided by the temperature, not multiplied": {"by": lambda tau: tau},
    "the alignments are divided by the temperature twice": {"by": lambda tau: tau**-2},
    "the sign of the alignments is turned round: the largest gets the most": {"by": lambda tau: -1 / tau},
    "the softmax runs over the questions: each row has its own, over dim 1": {"axis": 0},
    "the softmax runs over the questions, and NaN became 0: each row has its own, over dim 1": {
        "softmax": lambda logits, dim: logits.softmax(0).nan_to_num()
    },
    "the logarithm is taken of weights that are raised to 0.001: leave out weights of 0, or use torch.xlogy": {
        "entropy": lambda w: -(w * w.clamp(min=1e-3).log()).sum(1)
    },
    "the logarithm is taken of weights that are raised to 0.01: leave out weights of 0, or use torch.xlogy": {
        "entropy": lambda w: -(w * w.clamp(min=1e-2).log()).sum(1)
    },
    "the softmax is missing: weights are softmax(A / temperature)": {"softmax": lambda logits, dim: logits},
    "the weights do not sum to 1: a softmax, not the bare exponentials": {"softmax": lambda logits, dim: logits.exp()},
    "the softmax is taken twice": {"softmax": lambda logits, dim: logits.softmax(dim).softmax(dim)},
    "a sigmoid is no attention: its weights do not sum to 1; take a softmax": {
        "softmax": lambda logits, dim: logits.sigmoid()
    },
    "the minus infinity of what is no region became 0, and e^0 counts: leave it to the softmax": {
        "change": lambda A: A.masked_fill(A.isinf(), 0)
    },
    "the minus infinity of what is no region became -1, and e^-1 counts: leave it to the softmax": {
        "change": lambda A: A.masked_fill(A.isinf(), -1)
    },
    "negative alignments became 0: leave them as they are": {"change": torch.relu},
    "alignments have lost their signs: leave them as they are": {
        "change": lambda A: torch.where(A.isinf(), A, A.abs())
    },
}


def _columns(alignments, temperature):
    return _entropy((alignments / temperature).softmax(dim=1), dim=0).exp()


def _all_in_columns(alignments, temperature):
    return _entropy((alignments / temperature).softmax(dim=0), dim=0).exp()


def _mean(alignments, temperature):
    return used_library(alignments, temperature).mean()


def _whole_columns(alignments, temperature):
    return used_library(alignments[:, alignments.isfinite().all(0)], temperature)


EXERCISE = Exercise(
    "regions-used",
    library=used_library,
    example=EXAMPLE,
    cases=used_cases,
    specification=used_specification,
    mistakes={
        "a place that is no region in one row is left out of all rows: each row has its own": _whole_columns,
        "this sums over the questions: each row has its own entropy, sum over dim 1": _columns,
        "softmax and entropy run over the questions, and there is one number for each region: each row has its own, "
        "over dim 1": _all_in_columns,
        "this is the mean over all questions: each row has a number of its own": _mean,
    },
    family=(_used, FAMILY),
    rehearsal=Rehearsal(lambda: {"alignments": uniform(5000, 68, g=generator(1)), "temperature": 0.1}, calls=8),
)
