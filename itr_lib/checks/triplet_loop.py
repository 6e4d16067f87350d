"""``triplet-loop``, lesson 01.

The hinge of every negative in both directions, beside the double loop.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from itr_lib.checks._inputs import random_scores
from itr_lib.checks.frame import Case, Exercise
from itr_lib.objectives import triplet_loss

SMALL = torch.tensor([[0.9, 0.8, 0.75], [0.2, 0.5, 0.6], [0.1, 0.2, 0.7]], dtype=torch.float64)


def triplet_cases() -> Iterator[Case]:
    """Several sizes and margins, a batch of one, a batch without a violation, scores of any size."""
    for seed, (size, margin) in enumerate([(5, 0.2), (3, 0.5), (8, 0.05)]):
        yield Case({"scores": random_scores(size, seed), "margin": margin})
    yield Case({"scores": random_scores(2, 3), "margin": 0.3}, "the batch has two pairs")
    yield Case({"scores": random_scores(4, 5) - 2, "margin": 0.2}, "all scores are negative")
    yield Case({"scores": 30 * random_scores(4, 6), "margin": 0.2}, "the scores are far above 1")
    yield Case({"scores": random_scores(4, 7), "margin": 0.0}, "the margin is 0")
    yield Case({"scores": random_scores(1, 4), "margin": 0.2}, "the batch has one pair")
    yield Case({"scores": torch.eye(4, dtype=torch.float64), "margin": 0.2}, "no negative comes close to its positive")


def triplet_specification(scores: Tensor, margin: float) -> Tensor:
    """Every negative of every query, in both directions."""
    total = scores.new_zeros(())
    for i in range(len(scores)):
        for j in range(len(scores)):
            if i != j:
                total = total + torch.relu(margin + scores[i, j] - scores[i, i])  # image i asks
                total = total + torch.relu(margin + scores[j, i] - scores[i, i])  # caption i asks
    return total


def _keep(size: int, pairs: str) -> Tensor:
    """Which (query, candidate) count: all but the diagonal, or what a loop takes that goes another way."""
    i, j = torch.arange(size)[:, None], torch.arange(size)[None, :]
    return {
        "off": i != j, "all": i >= 0 * j, "upper": j > i, "from": j >= i, "lower": j < i, "next": j == (i + 1) % size,
        "query": (i == 0) & (j != 0), "pair": (i == 0) & (j == 1), "queries": (i != j) & (i < size - 1),
        "candidates": (i != j) & (j < size - 1), "short": (i != j) & (i < size - 1) & (j < size - 1),
        "late": (i != j) & (i > 0) & (j > 0), "diagonal": i == j, "last": (i == size - 1) & (j != i),
    }[pairs]  # fmt: skip


def _hinge(
    scores: Tensor,
    margin: float,
    pairs="off",
    rows=1,
    columns=1,
    cut="each",
    inside=True,
    scale=1.0,
    sign=1,
    positive=1,
    over="sum",
) -> Tensor:
    """The loss with all that a learner may change in it."""
    size, own = len(scores), positive * scores.diagonal()[:, None]
    keep = _keep(size, pairs).to(scores.device)
    add, after = (scale * margin, 0.0) if inside else (0.0, margin)
    costs = [add + sign * (scores - own), add + sign * (scores.T - own)]
    hinge = {
        "each": torch.relu,
        "abs": torch.abs,
        "square": lambda x: torch.relu(x) ** 2,
        "low": lambda x: x.clamp(max=0),
    }
    costs = [hinge.get(cut, lambda x: x)(cost) + after for cost in costs]
    joint = torch.relu(costs[0] + costs[1]) if cut == "both" else rows * costs[0] + columns * costs[1]
    total = (joint * keep).sum() if over != "worst" else sum(_worst(c, keep) for c in costs)
    total = torch.relu(total) if cut == "end" else total
    return total / {"queries": size, "all": size**2, "negatives": max(1, size * (size - 1)), "two": 2}.get(over, 1)


def _worst(cost: Tensor, keep: Tensor) -> Tensor:
    return cost.masked_fill(~keep, 0).amax(dim=1).sum()


TOGGLES = {
    "the rows are counted twice: the second term goes down column i, scores[j, i], and both subtract scores[i, i]": {
        "rows": 2, "columns": 0,
    },
    "the columns are counted twice: the first term goes along row i, scores[i, j], and both subtract scores[i, i]": {
        "rows": 0, "columns": 2,
    },
    "only images ask here (rows): captions ask too, add the columns": {"columns": 0},
    "only captions ask here (columns): images ask too, add the rows": {"rows": 0},
    "only j > i is visited: the negatives before i count as well, j != i": {"pairs": "upper"},
    "only j < i is visited: the negatives after i count as well, j != i": {"pairs": "lower"},
    "j starts at i: the positive counts, and the negatives before i do not; take every j != i": {"pairs": "from"},
    "the positive counts as its own negative: leave out i == j, it adds the margin once a query": {"pairs": "all"},
    "only i == j is visited: the negatives are the pairs with i != j": {"pairs": "diagonal"},
    "only query 0 is counted: does a return stand inside the loop over i?": {"pairs": "query"},
    "only the first pair is counted: does a return stand inside the loops?": {"pairs": "pair"},
    "only the last query is counted: add to the total, and start it once, before the loops": {"pairs": "last"},
    "only the next pair is taken as a negative: all others are": {"pairs": "next"},
    "the last query is missing: range(len(scores)) already ends one before len(scores)": {"pairs": "queries"},
    "the last negative of each query is missing: range(len(scores)) already ends one before": {"pairs": "candidates"},
    "the last pair never comes: range(len(scores)) already ends one before len(scores)": {"pairs": "short"},
    "pair 0 never comes: counting starts at 0": {"pairs": "late"},
    "the margin stands outside the bracket: it belongs inside max(0, ...), where it makes near negatives cost": {
        "inside": False,
    },
    "the margin is missing: a negative must stay that far below its positive": {"scale": 0.0},
    "the margin is subtracted: it is added, so that a negative must stay that far below its positive": {"scale": -1.0},
    "the margin is counted twice": {"scale": 2.0},
    "negatives that are far enough away must cost 0, not less: cut each term off with max(0, ...)": {"cut": "none"},
    "you cut off once, after adding up: cut each term off with max(0, ...) for itself": {"cut": "end"},
    "both terms stand in one bracket: each is cut off for itself, max(0, ...) + max(0, ...)": {"cut": "both"},
    "you took min(0, ...): what counts is the shortfall above 0, max(0, ...)": {"cut": "low"},
    "you took the absolute value: a negative that is far enough away costs 0, max(0, ...)": {"cut": "abs"},
    "each shortfall is squared: it counts as it is": {"cut": "square"},
    "the sign is turned round: a negative costs when margin + negative - positive is above 0": {"sign": -1},
    "the positive is not subtracted: a negative costs when it comes near to scores[i, i]": {"positive": 0},
    "the positive is added: subtract it": {"positive": -1},
    "only the worst negative of each query is counted (that comes later): here all of them are": {"over": "worst"},
    "this is the mean over all B x B pairs: the loss is a sum": {"over": "all"},
    "this is the mean over the negatives: the loss is a sum": {"over": "negatives"},
    "this is the sum divided by the batch: the loss is a plain sum": {"over": "queries"},
    "the two directions are averaged: add them": {"over": "two"},
}  # fmt: skip

EXERCISE = Exercise(
    "triplet-loop",
    library=lambda scores, margin: triplet_loss(scores, margin=margin, negatives="all"),
    example=Case({"scores": SMALL, "margin": 0.2}, worked=1.3),
    cases=triplet_cases,
    specification=triplet_specification,
    family=(_hinge, TOGGLES),
)
