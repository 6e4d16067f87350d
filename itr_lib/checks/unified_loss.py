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
from itr_lib.checks._mistakes import eye
from itr_lib.checks.frame import Case, Exercise, Rehearsal
from itr_lib.checks.outcome import Inputs
from itr_lib.objectives import unified_loss

SMALL = torch.tensor([[0.8, 0.4, 0.6], [0.3, 0.7, 0.1], [0.5, 0.2, 0.9]], dtype=torch.float64)


def batch_of(ids: tuple[int, ...], mu: float, gamma: float, floor: float, seed: int) -> Inputs:
    """Cosines of both signs; the first positive is negative where there are several."""
    scores = 0.9 * torch.tanh(normal(len(ids), len(ids), seed=seed))
    scores.diagonal().abs_().add_(0.05)
    if len(ids) > 1 and seed:
        scores[0, 0] = -0.3
    owner = torch.tensor(ids)
    mask = owner[:, None] == owner
    return {"scores": scores, "mu": mu, "gamma": gamma, "same_image": mask, "floor": floor}


def unified_cases() -> Iterator[Case]:
    """Captions that share an image, one pair, floors, and exponents that overflow, each on its own."""
    yield Case(batch_of((0, 1, 2, 3), 8.0, 0.2, 0.0, seed=0))
    yield Case(batch_of((4, 1, 2), 20.0, 0.5, 0.0, seed=1), trap="a positive lies below the floor")
    yield Case(batch_of((4, 1, 2, 0), 6.0, 0.3, -0.9, seed=2), trap="the floor is below 0")
    yield Case(batch_of((3, 3, 1, 1, 2, 5), 5.0, -0.1, 0.0, seed=3), trap="two captions share a picture")
    yield Case(batch_of((2,), 90.0, 0.5, 0.0, seed=4), trap="the batch has one pair")
    # Exponents that float32 holds exactly, and whose exp it does not hold.
    near_one = 1 - torch.randint(0, 8, (4, 4), generator=generator(9)).double() / 128
    inputs = {"mu": 128.0, "gamma": 0.0, "same_image": torch.eye(4, dtype=torch.bool), "floor": 0.0}
    yield Case({"scores": near_one, **inputs}, trap="mu (S - gamma) is above 88, and its exp overflows")


def unified_specification(scores: Tensor, mu: float, gamma: float, same_image: Tensor, floor: float) -> Tensor:
    """Query by query and negative by negative; exponentials are taken of differences to the largest."""
    terms = []
    for i in range(len(scores)):
        negatives = [j for j in range(len(scores)) if not bool(same_image[i, j])]
        asks_row = log_one_plus([mu * (scores[i, j] - gamma) for j in negatives], scores)
        asks_column = log_one_plus([mu * (scores[j, i] - gamma) for j in negatives], scores)
        terms.append(asks_row / mu + asks_column / mu - positive_term(scores[i, i], floor))
    return torch.stack(terms).mean()


def log_one_plus(exponents: list[Tensor], like: Tensor) -> Tensor:
    """log(1 + sum of e^x)."""
    top = max([0.0, *(float(x.detach()) for x in exponents)])
    return top + torch.log(like.new_tensor(math.exp(-top)) + sum(torch.exp(x - top) for x in exponents))


def positive_term(score: Tensor, floor: float) -> Tensor:
    """log(1 + max(S, floor)) of one score; no gradient below the floor."""
    return torch.log(1 + (score if float(score.detach()) > floor else 0 * score + floor))


# --- one function that makes the known mistakes: each option spoils one step ------------------------------------------


def exponents_of(scores: Tensor, mu: float, gamma: float, form: str) -> Tensor:
    """mu (S - gamma), or what is written in its place."""
    return {
        "": lambda: mu * (scores - gamma),
        "no gamma": lambda: mu * scores,
        "plus gamma": lambda: mu * (scores + gamma),
        "gamma outside": lambda: mu * scores - gamma,
        "divided": lambda: (scores - gamma) / mu,
        "turned": lambda: mu * (gamma - scores),
        "no mu": lambda: scores - gamma,
    }[form]()


def filled(exponents: Tensor, no_negative: Tensor, fill: float | str, at_score: Tensor) -> Tensor:
    """What is no negative out of the way; ``"score"``: as if its score were 0."""
    return torch.where(no_negative, at_score if fill == "score" else torch.full_like(exponents, fill), exponents)


def negatives_term(exponents: Tensor, mu: float, left: Tensor, one: float, scale: str, pool: str, guard: str) -> Tensor:
    """1/mu log(1 + sum e^x) along the rows, or what is written in its place; ``left``: the negatives."""
    top = exponents.amax(dim=1) if exponents.shape[1] else exponents.new_zeros(len(exponents))
    if guard == "naive":
        cost = (one + exponents.exp().sum(1)).log()
    elif guard == "lost":  # the largest was taken out and never added back
        cost = (one + (exponents - top.clamp(min=-1e30)[:, None]).exp().sum(1)).log()
    elif guard == "all lost":  # the same, of the exponents with the 0 beside them
        shift = top.clamp(min=0)[:, None]
        cost = (one * (-shift[:, 0]).exp() + (exponents - shift).exp().sum(1)).log()
    elif guard == "the 1 stays":  # the largest is added back, but the 1 was not divided by it
        cost = (one + (exponents - top.clamp(min=-1e30)[:, None]).exp().sum(1)).log() + top.clamp(min=-1e30)
    elif guard == "capped":
        cost = (one + exponents.clamp(max=50).exp().sum(1)).log()
    else:
        if pool == "mean":
            exponents = exponents - left.sum(1, keepdim=True).clamp(min=1).log().to(exponents)
        if pool == "max":
            exponents = top[:, None]
        beside = torch.full_like(exponents[:, :1], math.log(one) if one else -torch.inf)
        cost = torch.cat([beside.expand(-1, 1), exponents], dim=1).logsumexp(1)
        if pool == "each":
            cost = nn.functional.softplus(exponents).sum(1)
    return {"": cost / mu, "none": cost, "times": cost * mu}[scale]


def positives_of(scores: Tensor, floor: float, form: str) -> Tensor:
    """log(1 + max(S, floor)), or what is written in its place."""
    kept = scores.clamp(min=floor)
    return {
        "": lambda: kept.log1p(),
        "bare": lambda: scores.log1p(),
        "at 0": lambda: scores.clamp(min=0).log1p(),
        "capped": lambda: scores.clamp(max=floor).log1p(),
        "plus": lambda: -kept.log1p(),
        "no log": lambda: kept,
        "no 1": lambda: kept.log(),
        "none": lambda: 0 * scores,
        "twice": lambda: 2 * kept.log1p(),
        "log 2": lambda: kept.log1p() / math.log(2),
    }[form]()


def spoiled(
    scores, mu, gamma, same_image, floor, *, mask="", asks="both", masked="both", fill=-torch.inf, form="",
    positive="", total="mean", one=1.0, scale="", pool="sum", guard="", factor=1.0,
):  # fmt: skip
    """UTO in the batch with one or two of its steps spoiled."""
    diagonal, nothing = eye(scores), torch.zeros_like(same_image)
    by_mask = {"": same_image, "eye": diagonal, "same but diagonal": same_image & ~diagonal, "none": nothing}
    by_mask |= {"turned": ~same_image, "upper": same_image | nothing.logical_not().tril(), "both": same_image}
    costs = []
    for direction in ("rows", "columns"):
        turned = scores if direction == "rows" or asks == "rows twice" else scores.T
        no_negative = by_mask[mask] if masked in ("both", direction) else diagonal
        exponents = filled(
            exponents_of(turned, mu, gamma, form), no_negative, fill, exponents_of(0 * turned, mu, gamma, form)
        )
        costs.append(negatives_term(exponents, mu, ~no_negative, one, scale, pool, guard))
    rows, columns = costs
    shares = {"rows": (1, 0), "columns": (0, 1), "mean": (0.5, 0.5)}.get(asks, (1, 1))
    terms = shares[0] * rows + shares[1] * columns - positives_of(scores.diagonal(), floor, positive)
    return (
        factor * {"mean": terms.mean, "sum": terms.sum, "first": lambda: terms[0], "last": lambda: terms[-1]}[total]()
    )


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
        "fill": "score"
    },
    "what is no negative became an exponent of 1: fill with -torch.inf": {"fill": 1.0},
    "what is no negative became an exponent of -1, and e^(-1) counts: fill with -torch.inf": {"fill": -1.0},
    "the 1 inside the logarithm is missing: then negatives far below gamma still push": {"one": 0.0},
    "the 1 inside the logarithm stands there twice: a 0 beside the exponents, or log1p, not both": {"one": 2.0},
    "1/mu is missing before the logarithm": {"scale": "none"},
    "the logarithm is multiplied by mu: divide it": {"scale": "times"},
    "gamma is missing: the exponent is mu (S - gamma)": {"form": "no gamma"},
    "gamma is added: the exponent is mu (S - gamma)": {"form": "plus gamma"},
    "gamma stands outside mu: the exponent is mu (S - gamma), not mu S - gamma": {"form": "gamma outside"},
    "the scores are divided by mu: multiply them": {"form": "divided"},
    "the sign in the exponent is turned: it is mu (S - gamma)": {"form": "turned"},
    "mu is missing in the exponent: it is mu (S - gamma)": {"form": "no mu"},
    "each negative has its own logarithm: one for the sum of all": {"pool": "each"},
    "the mean over the negatives instead of their sum": {"pool": "mean"},
    "only the hardest negative counts: the sum runs over all of them": {"pool": "max"},
    "a positive below the floor goes into the logarithm as it is: log(1 + max(S, floor)) cuts it off": {
        "positive": "bare"
    },
    "the positive is cut off at 0: the floor is an argument": {"positive": "at 0"},
    "the positive is cut off from above: clamp(min=floor)": {"positive": "capped"},
    "the positive is added: it has a minus, since a high score of its own is what we want": {"positive": "plus"},
    "the positive's logarithm is missing: log(1 + max(S, floor))": {"positive": "no log"},
    "the 1 of the positive is missing: log(1 + max(S, floor))": {"positive": "no 1"},
    "there is no positive term: without - log(1 + max(S, floor)) nothing draws a pair together": {"positive": "none"},
    "the positive counts twice: it stands once": {"positive": "twice"},
    "the positive's logarithm is to base 2: torch.log is the natural one": {"positive": "log 2"},
    "this is the sum over the batch: divide by B": {"total": "sum"},
    "only the first query counts: is a return inside the loop?": {"total": "first"},
    "only the last query counts: collect the terms of all, then take their mean": {"total": "last"},
    "20 times too much: that factor is the paper's, outside this function": {"factor": 20.0},
    "the loss counts twice": {"factor": 2.0},
    "the loss is halved: the two sides are added, not averaged": {"factor": 0.5},
    "the sign of the loss is turned: training makes a loss small": {"factor": -1.0},
}
UNIFIED_TOGGLES = SHARED_TOGGLES | {
    "captions of the same image count as negatives: leave out every pair that same_image marks": {"mask": "eye"},
    "the positive is among its own negatives: leave out the diagonal too (same_image is True there)": {
        "mask": "same but diagonal"
    },
    "nothing is left out: what same_image marks is no negative, the diagonal included": {"mask": "none"},
    "the mask is turned round: masked_fill fills where it is True, so give it same_image": {"mask": "turned"},
    "only negatives with j above i are counted: every j but i's own counts": {"mask": "upper"},
    "the rows leave out what same_image marks, the columns do not: mask both directions": {"masked": "rows"},
    "the columns leave out what same_image marks, the rows do not: mask both directions": {"masked": "columns"},
    "only images ask (rows): add the direction in which captions do (columns, S_ji)": {"asks": "rows"},
    "only captions ask (columns): add the direction in which images do (rows, S_ij)": {"asks": "columns"},
    "the two directions are averaged: here they are added": {"asks": "mean"},
    "the rows are counted twice: captions ask along the columns, scores.T": {"asks": "rows twice"},
}


def uto_loss(scores: Tensor, mu: float, gamma: float, same_image: Tensor, floor: float) -> Tensor:
    """The library's loss, as the exercise calls it."""
    return unified_loss(scores, mu=mu, gamma=gamma, same_image=same_image, floor=floor)


EXERCISE = Exercise(
    "unified-loss",
    library=uto_loss,
    example=Case(
        {"scores": SMALL, "mu": 10.0, "gamma": 0.5, "same_image": torch.eye(3, dtype=torch.bool), "floor": 0.0}
    ),
    cases=unified_cases,
    specification=unified_specification,
    family=(spoiled, UNIFIED_TOGGLES),
    gradients=("scores",),
    explain=overflow_explained,
    rehearsal=Rehearsal(lambda: batch_of(tuple(range(8)), 30.0, 0.5, -0.9, seed=5), calls=2500),
)
