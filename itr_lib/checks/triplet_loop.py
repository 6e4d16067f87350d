"""``triplet-loop``, lesson 01.

The hinge of every negative in both directions, beside the double loop.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from itr_lib.checks._inputs import random_scores, sizes
from itr_lib.checks.frame import Case, Exercise
from itr_lib.objectives import triplet_loss

SMALL = torch.tensor([[0.9, 0.8, 0.75], [0.2, 0.5, 0.6], [0.1, 0.2, 0.7]], dtype=torch.float64)


def triplet_cases() -> Iterator[Case]:
    """Several sizes and margins, a batch of one, a batch without a violation, scores of any size."""
    for seed, (size, margin) in enumerate([(5, 0.2), (3, 0.5), (8, 0.05)]):
        yield Case({"scores": random_scores(*sizes(size), seed), "margin": margin})
    yield Case({"scores": random_scores(2, 3), "margin": 0.3}, "the batch has two pairs")
    yield Case({"scores": random_scores(*sizes(4), 5) - 2, "margin": 0.2}, "all scores are negative")
    yield Case({"scores": 30 * random_scores(4, 6), "margin": 0.2}, "the scores are far above 1")
    yield Case({"scores": random_scores(4, 7), "margin": 0.0}, "the margin is 0")
    level = (4 * random_scores(*sizes(6), 8)).round() / 4
    yield Case({"scores": level, "margin": 0.2}, "a negative scores just what its positive does")
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
    scores: Tensor, margin: float, pairs="off", rows=1, columns=1, cut="each", inside=True, scale=1.0, sign=1,
    positive=1, over="sum", uncut=None, lacks=None, diagonal=None,
    turned=None,
) -> Tensor:  # fmt: skip
    """The loss with all that a learner may change in it."""
    size, own = len(scores), positive * scores.diagonal()[:, None]
    keep = _keep(size, pairs).to(scores.device)
    add, after = (scale * margin, 0.0) if inside else (0.0, margin)
    costs = [add + sign * (scores - own), add + sign * (scores.T - own)]  # (query, candidate)
    costs = [costs[k] - margin if lacks == k else costs[k] for k in (0, 1)]
    costs = [2 * margin - costs[k] if turned == k else costs[k] for k in (0, 1)]
    if cut in ("both", "larger"):
        joint = costs[0] + costs[1] if cut == "both" else torch.maximum(*costs)
        costs = [torch.relu(joint), 0 * joint]
    else:
        costs = [_cut(cost, "none" if uncut == k else cut, margin) + after for k, cost in enumerate(costs)]
    keeps = [keep | (torch.eye(size, device=keep.device) > 0) if diagonal == k else keep for k in (0, 1)]
    parts = [_worst(c, k) if over == "worst" else (c * k).sum() for c, k in zip(costs, keeps, strict=True)]
    total = rows * parts[0] + columns * parts[1]
    total = torch.relu(total) if cut == "end" else total
    if over == "costs, 0 too" and size == 1:
        raise ZeroDivisionError
    violations = sum(int(((c > 0) & k).sum()) for c, k in zip(costs, keeps, strict=True))
    known = {"queries": size, "all": size**2, "negatives": size * (size - 1), "two": 2, "violations": violations,
             "costs": 2 * size * (size - 1), "costs, 0 too": 2 * size * (size - 1)}  # fmt: skip
    return total / max(1, known.get(over, 1))


def _cut(cost: Tensor, how: str, margin: float) -> Tensor:
    """The hinge, or what a learner may take for it."""
    return {
        "each": torch.relu, "abs": torch.abs, "square": lambda x: torch.relu(x) ** 2,
        "low": lambda x: x.clamp(max=0), "soft": F.softplus,
        "step": lambda x: (x > 0).to(x.dtype), "won": lambda x: x * (x > margin),
    }.get(how, lambda x: x)(cost)  # fmt: skip


def _worst(cost: Tensor, keep: Tensor) -> Tensor:
    return cost.masked_fill(~keep, 0).amax(dim=1).sum()


def _last_cost(scores: Tensor, margin: float, only_positive: bool = True, ask: str = "both") -> Tensor:
    """``total = cost`` where ``total += cost`` was meant: the last one stays."""
    total = scores.new_zeros(())
    for i in range(len(scores)):
        for j in range(len(scores)):
            asking = {"images": [scores[i, j]], "both": [scores[i, j], scores[j, i]]}[ask]
            for negative in asking if i != j else ():
                cost = margin + negative - scores[i, i]
                total = cost if cost > 0 else total if only_positive else torch.zeros_like(cost)
    return total


def _steps(scores: Tensor, margin: float) -> str:
    """What each query of a case pays."""
    own, off = scores.diagonal(), ~torch.eye(len(scores), dtype=torch.bool)
    images = (torch.relu(margin + scores - own[:, None]) * off).sum(dim=1)
    captions = (torch.relu(margin + scores - own[None, :]) * off).sum(dim=0)
    return f"the images that ask cost {rounded(images)}, the captions {rounded(captions)}"


def rounded(values: Tensor) -> list[float]:
    """Numbers to read."""
    return [round(value, 4) for value in values.tolist()]


MISTAKES = {
    "only the last cost is kept: add to the total, +=": _last_cost,
    "only the last pair is kept, and only images ask: add to the total, +=, in both directions": (
        lambda scores, margin: _last_cost(scores, margin, False, ask="images")
    ),
    "negatives that score just what the positive does are left out: they cost the margin; compare places, i != j": (
        lambda scores, margin: sum(
            (torch.relu(margin + table - own) * (table != own)).sum()
            for table, own in ((scores, scores.diagonal()[:, None]), (scores.T, scores.diagonal()[:, None]))
        )
    ),
    "only the last pair is kept: add to the total, +=": lambda scores, margin: _last_cost(scores, margin, False),
}
TOGGLES = {
    "only images ask here (rows): captions ask too, add the columns": {"columns": 0},
    "only captions ask here (columns): images ask too, add the rows": {"rows": 0},
    "this is the sum divided by the batch: the loss is a plain sum": {"over": "queries"},
    "the rows are counted twice: the second term goes down column i, scores[j, i], and both subtract scores[i, i]": {
        "rows": 2, "columns": 0,
    },
    "the columns are counted twice: the first term goes along row i, scores[i, j], and both subtract scores[i, i]": {
        "rows": 0, "columns": 2,
    },
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
    "the margin stands outside the bracket, margin + max(0, ...) or max(margin, ...): inside max(0, ...) it makes near "
    "negatives cost": {
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
    "the shortfall is rounded off (softplus): the hinge is max(0, ...)": {"cut": "soft"},
    "violations are counted: add up by how much they fall short": {"cut": "step"},
    "a negative costs only once it has beaten its positive: it costs as soon as it comes closer than the margin": {
        "cut": "won",
    },
    "only the larger of the two terms is counted: add both": {"cut": "larger"},
    "in the first term the sign is turned round: margin + negative - positive": {"turned": 0},
    "in the second term the sign is turned round: margin + negative - positive": {"turned": 1},
    "the first term is not cut off at 0: max(0, ...) for both": {"uncut": 0},
    "the second term is not cut off at 0: max(0, ...) for both": {"uncut": 1},
    "the first term lacks the margin": {"lacks": 0},
    "the second term lacks the margin": {"lacks": 1},
    "in one direction the positive counts as its own negative: leave out i == j in both": {"diagonal": 0},
    "this is the mean over the negatives that cost something: the loss is a plain sum": {"over": "violations"},
    "each shortfall is squared: it counts as it is": {"cut": "square"},
    "the sign is turned round: a negative costs when margin + negative - positive is above 0": {"sign": -1},
    "the positive is not subtracted: a negative costs when it comes near to scores[i, i]": {"positive": 0},
    "the positive is added: subtract it": {"positive": -1},
    "only the worst negative of each query is counted (that comes later): here all of them are": {"over": "worst"},
    "this is the mean over all B x B pairs: the loss is a sum": {"over": "all"},
    "this is the mean over the negatives: the loss is a sum": {"over": "negatives"},
    "this is the mean over all costs, 2 x B x (B - 1): the loss is a sum": {"over": "costs"},
    "this is the mean over all costs, 2 x B x (B - 1), and 0 / 0 with one pair: the loss is a sum": {
        "over": "costs, 0 too",
    },
    "the two directions are averaged: add them": {"over": "two"},
}  # fmt: skip

EXERCISE = Exercise(
    "triplet-loop",
    library=lambda scores, margin: triplet_loss(scores, margin=margin, negatives="all"),
    example=Case({"scores": SMALL, "margin": 0.2}, worked=1.3),
    cases=triplet_cases,
    specification=triplet_specification,
    mistakes=MISTAKES,
    steps=_steps,
    family=(_hinge, TOGGLES),
)
