"""``twin-choices``, lesson 01.

The percentage of captions that choose their picture over its twin, beside a count.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from itr_lib.checks._inputs import random_scores, sizes
from itr_lib.checks.frame import Case, Exercise
from itr_lib.evaluation import pair_accuracy


def twin_cases() -> Iterator[Case]:
    """Pairs of twins, with ties, and a model that sees no difference at all."""
    for seed, pairs in enumerate([6, 1, 3, 20]):
        scores = random_scores(2 * sizes(pairs)[0], 30 + seed)
        yield Case({"scores": scores}, "there is one pair of twins" if pairs == 1 else "")
        yield Case({"scores": (3 * scores).round()}, "some scores tie")
    yield Case({"scores": 0.7 + 1e-4 * random_scores(8, 37)}, "scores lie close to each other")
    yield Case({"scores": random_scores(8, 35) - 2}, "all scores are negative")
    yield Case({"scores": torch.full((4, 4), 0.7, dtype=torch.float64)}, "all scores are equal")


def twin_specification(scores: Tensor) -> float:
    """For each caption: its own picture against the twin's; a tie counts one half."""
    values = scores.tolist()
    points = 0.0
    for caption in range(len(values)):
        twin = caption + 1 if caption % 2 == 0 else caption - 1
        own, other = values[caption][caption], values[twin][caption]
        points += 1.0 if own > other else 0.5 if own == other else 0.0
    return 100.0 * points / len(values)


def _twin(
    scores, asks="caption", tie=0.5, rival="twin", who="all", over="captions", give=100, turned=False, near=0.0
) -> float:
    """The percentage with all that a learner may change in it."""
    size = len(scores)
    j = torch.arange(size, device=scores.device)
    table = scores.T if asks == "image" else scores
    own, other = table.diagonal(), _rival(table, j, rival)
    gap = (other - own if turned else own - other).cpu()
    gap = gap.masked_fill(gap.abs() < near, 0)
    points = (gap > 0).double() + tie * (gap == 0).double()
    first, second = points[::2], points[1::2]
    kept = {
        "all": points, "first": first, "second": second, "both": torch.minimum(first, second),
        "either": torch.maximum(first, second), "product": first * second, "one": points[:1], "pair": points[:2],
    }[who]  # fmt: skip
    return give * float(kept.sum()) / {"captions": len(kept), "pairs": size // 2, "one": 1, "cells": size**2}[over]


def _rival(table: Tensor, j: Tensor, rival: str) -> Tensor:
    size = len(j)
    if rival in ("best", "mean"):
        others = table.masked_fill(torch.eye(size, dtype=torch.bool, device=table.device), -torch.inf)
        return others.amax(dim=0) if rival == "best" else (table.sum(dim=0) - table.diagonal()) / (size - 1)
    row = {"twin": j ^ 1, "next": (j + 1) % size, "previous": (j - 1) % size, "half": (j + size // 2) % size,
           "mirror": size - 1 - j, "first": 0 * j}[rival]  # fmt: skip
    return table[row, j]


def _both_sides(scores: Tensor) -> float:
    """Captions and pictures choose, and both count."""
    return (_twin(scores) + _twin(scores, asks="image")) / 2


def _cross(scores: Tensor) -> float:
    """The first caption asks about pictures, the picture about captions: the same row for both captions."""
    j = torch.arange(0, len(scores), 2, device=scores.device)
    first, second = scores[j, j] - scores[j, j + 1], scores[j + 1, j + 1] - scores[j, j + 1]
    gap = torch.cat([first, second])
    return 100 * float(((gap > 0).double() + 0.5 * (gap == 0).double()).mean())


def _copied(scores: Tensor, tie: float) -> float:
    """The second caption of a pair is asked about the first one's column."""
    j = torch.arange(0, len(scores), 2, device=scores.device)
    gap = torch.cat([scores[j, j] - scores[j + 1, j], scores[j + 1, j + 1] - scores[j + 1, j]])
    return 100 * float(((gap > 0).double() + tie * (gap == 0).double()).mean())


def _own_scores(scores: Tensor, tie: float) -> float:
    """Both captions with their own pictures, compared with each other."""
    gap = scores.diagonal() - scores.diagonal()[torch.arange(len(scores), device=scores.device) ^ 1]
    return 100 * float(((gap > 0).double() + tie * (gap == 0).double()).mean())


def _sums(scores: Tensor) -> float:
    """Matching against exchanged pairs: one answer a pair of twins."""
    own = scores.diagonal()
    other = scores[torch.arange(len(scores)) ^ 1, torch.arange(len(scores))]
    gap = (own - other)[::2] + (own - other)[1::2]
    return 100 * float(((gap > 0).double() + 0.5 * (gap == 0).double()).mean())


def _recall(scores: Tensor) -> float:
    return 100 * float((scores.argmax(dim=0).cpu() == torch.arange(len(scores))).double().mean())


def _every_second(scores: Tensor) -> float:
    """Pairs (0, 1), (1, 2), (2, 3), ... instead of (0, 1), (2, 3), ..."""
    k = torch.arange(len(scores) // 2, device=scores.device)
    gap = torch.cat([scores[k, k] - scores[k + 1, k], scores[k + 1, k + 1] - scores[k, k + 1]])
    return 100 * float(((gap > 0).double() + 0.5 * (gap == 0).double()).mean())


def _mean_gap(scores: Tensor) -> float:
    j = torch.arange(len(scores), device=scores.device)
    return 100 * float((scores[j, j] - scores[j ^ 1, j]).mean())


def _steps(scores: Tensor) -> str:
    """Who chooses what."""
    values = scores.tolist()
    pairs = [(values[j][j], values[j ^ 1][j]) for j in range(min(4, len(values)))]
    told = ", ".join(f"caption {j}: own {own:.3g}, twin {twin:.3g}" for j, (own, twin) in enumerate(pairs))
    return f"{told}{', ...' if len(values) > 4 else ''}"


MISTAKES = {
    "this is the mean difference of the scores: count who is higher": _mean_gap,
    "the percentage is rounded: leave it as it is": lambda scores: round(_twin(scores)),
    "the percentage is rounded, and a tie counts nothing: a tie counts one half": lambda scores: round(
        _twin(scores, tie=0.0)
    ),
    "pair k is (2k, 2k + 1), not (k, k + 1): go on by two": _every_second,
    "this is R@1, the best of all pictures by argmax: only the picture and its twin compete": _recall,
    "captions and pictures are both asked here: only captions are, each between two pictures (a column)": _both_sides,
    "both captions of a pair are compared with the same place: caption j has scores[j, j] and scores[j ^ 1, j]": _cross,
    **{
        f"the second caption of a pair is compared with the first one's column{more}: it has scores[2k, 2k + 1]": (
            lambda scores, tie=tie: _copied(scores, tie)
        )
        for tie, more in ((0.5, ""), (0.0, ", and ties count nothing"), (1.0, ", and ties count whole"))
    },
    **{
        f"the scores of two captions with their own pictures are compared{more}: compare two pictures for one "
        "caption": lambda scores, tie=tie: _own_scores(scores, tie)
        for tie, more in ((0.5, ""), (0.0, ", and ties count nothing"), (1.0, ", and ties count whole"))
    },
    "each pair of twins gets one answer here, from its sums: every caption answers for itself": _sums,
}
TOGGLES = {
    "you compared two captions for one picture (a row): here the caption asks, so compare two pictures (a column)": {
        "asks": "image",
    },
    "a tie counts one half: who sees no difference can do no better than guess": {"tie": 0.0},
    "a tie counts one half, not a whole: a model that sees nothing would be perfect": {"tie": 1.0},
    "a tie counts one half: not a quarter": {"tie": 0.25},
    "a tie counts half a caption, not half a percent": {"tie": 0.005},
    **{
        f"scores that differ by less than {near} count as a tie: only equal ones do": {"near": near}
        for near in (0.1, 0.05, 0.01, 0.001)
    },
    "you compared with all other pictures (that is R@1): only the twin competes": {"rival": "best"},
    "you compared with the mean of the other pictures: only the twin competes": {"rival": "mean"},
    "this is a fraction: give percent, multiply by 100": {"give": 1},
    "you multiplied by 100 twice": {"give": 10_000},
    "the twin of picture 2k + 1 is 2k, not the next one: pairs are (0, 1), (2, 3), ...": {"rival": "next"},
    "the twin of picture 2k is 2k + 1, not the one before: pairs are (0, 1), (2, 3), ...": {"rival": "previous"},
    "the twin stands beside its picture, not half the matrix away: pairs are (0, 1), (2, 3), ...": {"rival": "half"},
    "the twin stands beside its picture, not at the other end: pairs are (0, 1), (2, 3), ...": {"rival": "mirror"},
    "all captions are compared with picture 0: the twin of picture j is j ^ 1": {"rival": "first"},
    "only the first caption of each pair is asked: both are": {"who": "first"},
    "only the second caption of each pair is asked: both are": {"who": "second"},
    "a pair counts only where both captions are right: each caption counts for itself": {"who": "both"},
    "a pair counts as right where one caption is: each caption counts for itself": {"who": "either"},
    "the points of a pair are multiplied: each caption counts for itself": {"who": "product"},
    "only caption 0 is asked: does a return stand inside the loop?": {"who": "one"},
    "only the first pair is asked: does a return stand inside the loop?": {"who": "pair"},
    "this is divided by the number of pairs: there are two captions a pair": {"over": "pairs"},
    "this is divided by all scores: divide by the number of captions": {"over": "cells"},
    "this is a sum: divide by the number of captions": {"over": "one"},
    "this is a count: give percent of the captions": {"over": "one", "give": 1},
    "this is the share of wrong choices: the own picture must score higher than its twin": {"turned": True},
}  # fmt: skip

EXERCISE = Exercise(
    "twin-choices",
    library=lambda scores: pair_accuracy(scores)["image"],
    example=Case({"scores": torch.tensor([[0.9, 0.1], [0.3, 0.8]], dtype=torch.float64)}, worked=100.0),
    cases=twin_cases,
    specification=twin_specification,
    steps=_steps,
    mistakes=MISTAKES,
    family=(_twin, TOGGLES),
    exact=True,
)
