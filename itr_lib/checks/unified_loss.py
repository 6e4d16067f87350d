"""``unified-loss``, lesson 04.

USER's unified loss in the batch, beside a loop over queries and their negatives; gradients too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from itr_lib.checks._inputs import generator, normal, owners
from itr_lib.checks._mistakes import eye
from itr_lib.checks._uto import (
    SHARED_TOGGLES,
    filled,
    negatives_term,
    overflow_explained,
    positives_of,
    total_of,
    weighed,
)
from itr_lib.checks.frame import Case, Exercise, Rehearsal
from itr_lib.checks.outcome import Inputs
from itr_lib.objectives import unified_loss

SMALL = torch.tensor([[0.8, 0.4, 0.6], [0.3, 0.7, 0.1], [0.5, 0.2, 0.9]], dtype=torch.float64)


def batch_of(ids: tuple[int, ...], mu: float, gamma: float, floor: float, seed: int) -> Inputs:
    """Cosines of both signs; the first positive is negative where there are several."""
    owner = torch.tensor(owners(ids))
    scores = 0.9 * torch.tanh(normal(len(owner), len(owner), seed=seed))
    scores.diagonal().abs_().add_(0.05)
    if len(ids) > 1 and seed:
        scores[0, 0] = -0.75
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


def spoiled(
    scores, mu, gamma, same_image, floor, *, mask="", asks="both", masked="both", fill=-torch.inf, form="",
    positive="", total="mean", one=1.0, scale="", scaled="", pool="sum", guard="", factor=1.0,
    own_share=1.0, one_of="both",
):  # fmt: skip
    """UTO in the batch with one or two of its steps spoiled."""
    diagonal, nothing = eye(scores), torch.zeros_like(same_image)
    by_mask = {"": same_image, "eye": diagonal, "same but diagonal": same_image & ~diagonal, "none": nothing}
    by_mask |= {"turned": ~same_image, "upper": same_image | nothing.logical_not().tril(), "both": same_image}
    costs, own = [], scores.diagonal()
    if form == "at least the floor":
        scores, form = scores.clamp(min=floor), ""
    for direction in ("rows", "columns"):
        turned = scores if direction == "rows" or asks == "rows twice" else scores.T
        no_negative = by_mask[mask] if masked in ("both", direction) else diagonal
        exponents = filled(turned, mu, gamma, form, no_negative, fill, own)
        factor_of_mu = scaled if direction == "columns" else ""
        beside = one if one_of in ("both", direction) else 0.0
        costs.append(negatives_term(exponents, mu, gamma, ~no_negative, beside, scale or factor_of_mu, pool, guard))
    shares = {"rows": (1, 0), "columns": (0, 1), "mean": (0.5, 0.5), "less": (1, -1)}.get(asks, (1, 1))
    kept = positives_of(scores, floor, "").mean() if positive == "all" else positives_of(own, floor, positive)
    return total_of(shares[0] * costs[0] + shares[1] * costs[1] - weighed(kept, own_share), total, factor)


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
    "the columns are taken off: both directions are added": {"asks": "less"},
    "1/mu is missing in one of the two directions": {"scaled": "none"},
    "the 1 stands in the rows' logarithm, and not in the columns': a 0 beside the exponents in both directions": {
        "one_of": "rows"
    },
    "the 1 stands in the columns' logarithm, and not in the rows': a 0 beside the exponents in both directions": {
        "one_of": "columns"
    },
    "every score is in the positive term: only the diagonal is, scores.diagonal()": {"positive": "all"},
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
