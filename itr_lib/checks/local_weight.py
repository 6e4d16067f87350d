"""``local-weight``, lesson 05a.

The weight with the highest R@1, beside a loop over weights and queries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from itr_lib.checks._inputs import generator, sizes
from itr_lib.checks.frame import Case, Exercise
from itr_lib.evaluation import best_weight

WEIGHTS = [0.0, 0.5, 1.0, 2.0, 4.0]


def _case(weights, whole, local, truth, trap="", worked=None) -> Case:
    levels = {"global_scores": whole, "local_scores": local}
    levels = {name: torch.as_tensor(values, dtype=torch.float64) for name, values in levels.items()}
    return Case({"weights": weights} | levels | {"truth": torch.as_tensor(truth)}, trap, worked)


EXAMPLE = _case([0.0, 1.0, 4.0], [[0.9, 0.5], [0.7, 0.6]], [[0.2, 0.1], [0.0, 0.3]], [0, 1], worked=1.0)


def weight_cases() -> Iterator[Case]:
    """Scores in eighths: sums are exact, so a tie is one. Weights in no order; ties; one weight, one query."""
    for seed, (*shape, weights, trap) in enumerate(
        [
            (9, 5, WEIGHTS, ""),
            (12, 4, WEIGHTS, ""),
            (8, 6, [2.0, 0.5, 4.0, 0.0, 1.0], "the weights are in no order"),
            (10, 3, [4.0, 2.0, 1.0, 0.5], "the weights fall"),
            (1, 4, WEIGHTS, "there is one query"),
            (6, 5, [0.5], "there is one weight"),
        ]
    ):
        queries, candidates = shape = sizes(*shape)
        whole, local = torch.randint(-16, 17, (2, *shape), generator=generator(800 + seed)).double() / 8
        truth = torch.randint(candidates, (queries,), generator=generator(820 + seed))
        local[torch.arange(queries), truth] += 0.625
        yield _case(weights, whole, local, truth, trap)
    for local, own in (([-1.0, 0.0], 0), ([0.0, -1.0], 1)):
        yield _case([0.0, 1.0], [[0.5, 0.5], [0.0, 0.5]], [local, [1.0, 0.0]], [own, 0], "scores are tied")
    yield _case(WEIGHTS[1:], [[0.5, 0.0, 0.25]] * 2, [[0.0, 0.125, 0.0]] * 2, [0, 0], "several weights find as much")
    yield _case([4.0, 0.25, 1.0], [[0.5, 0.0]], [[0.0, 0.0]], [0], "several weights find as much, in no order")
    behind = [[1.0, 0.0, 0.5], [0.0, 1.0, 0.5], [0.0, 1.0, 0.5]]  # a match moves from the third place to the second
    nearer = [[0.0, 0.0, 0.0], [0.625, 0.0, 0.0], [0.625, 0.0, 0.375]]
    trap = "several weights find as much, and one of them has the missed matches further ahead"
    yield _case([0.0, 0.5, 1.0], behind, nearer, [0, 0, 0], trap)
    yield _case(WEIGHTS, [[1.0, 0.0]] * 3, [[0.0, 0.5]] * 3, [0, 0, 0], "the global score alone is best")
    yield _case(WEIGHTS, [[0.0, 1.0]] * 3, [[0.5, 0.0]] * 3, [0, 0, 0], "only a large weight finds anything")
    yield _case([1.0, 0.5, 2.0], [[0.0, 1.0]] * 2, [[0.0, 1.0]] * 2, [0, 0], "no weight finds anything")


def weight_specification(weights, global_scores: Tensor, local_scores: Tensor, truth: Tensor) -> float:
    """Weight by weight, query by query: does the match score higher than all others?"""
    found = {}
    rows = list(zip(global_scores.tolist(), local_scores.tolist(), truth.tolist(), strict=True))
    for weight in weights:
        found[weight] = 0
        for whole, local, own in rows:
            scores = [x + weight * y for x, y in zip(whole, local, strict=True)]
            found[weight] += all(scores[own] > score for place, score in enumerate(scores) if place != own)
    most = max(found.values())
    return min(weight for weight in weights if found[weight] == most)


def _own(scores: Tensor, truth: Tensor) -> Tensor:
    return scores.gather(1, truth[:, None])


def _hits(scores: Tensor, truth: Tensor) -> Tensor:
    return (scores >= _own(scores, truth)).sum(1) == 1


def _smallest_of_the_best(found: dict[float, float]) -> float:
    return min(weight for weight, value in found.items() if value == max(found.values()))


def weight_with(
    weights, global_scores, local_scores, truth, mix=lambda whole, local, weight: whole + weight * local, hits=_hits,
    choose=_smallest_of_the_best, own=lambda truth, scores: truth,
):  # fmt: skip
    """The choice, with options to spoil it."""
    found = {}
    for weight in weights:
        scores = mix(global_scores, local_scores, weight)
        found[weight] = float(hits(scores, own(truth, scores)).double().sum())
    return choose(found)


def _rank(scores: Tensor, truth: Tensor) -> Tensor:
    return (scores >= _own(scores, truth)).sum(1)


def _higher(scores: Tensor, truth: Tensor) -> Tensor:
    return (scores > _own(scores, truth)).sum(1)


TOGGLES: dict[str, dict[str, object]] = {
    "the weight stands at the global score: global + weight * local": {
        "mix": lambda whole, local, weight: weight * whole + local
    },
    "the global score is shared out, (1 - weight) * global: global + weight * local": {
        "mix": lambda whole, local, weight: (1 - weight) * whole + weight * local
    },
    "the local score is subtracted: global + weight * local": {
        "mix": lambda whole, local, weight: whole - weight * local
    },
    "the two scores are multiplied: global + weight * local": {
        "mix": lambda whole, local, weight: whole * (weight * local)
    },
    "the global score is left out: global + weight * local": {"mix": lambda whole, local, weight: weight * local},
    "a tie counts as found: the match must score higher than every other candidate": {
        "hits": lambda scores, truth: _higher(scores, truth) == 0
    },
    "a tie is decided by the order of the candidates (argmax): it goes against the model": {
        "hits": lambda scores, truth: scores.argmax(1) == truth
    },
    "a query counts as found where its match is first or second: R@1 asks for the first place": {
        "hits": lambda scores, truth: (scores >= _own(scores, truth)).sum(1) <= 2
    },
    "this is R@5: R@1 asks for the first place": {"hits": lambda scores, truth: _rank(scores, truth) <= 5},
    "the lowest score counts as found here: the match must score higher than every other candidate": {
        "hits": lambda scores, truth: (scores <= _own(scores, truth)).sum(1) == 1
    },
    "the match of query i is taken to be candidate i: truth says which it is": {
        "own": lambda truth, scores: torch.arange(len(truth), device=truth.device) % scores.shape[1]
    },
    "only the first query counts: all of them; a return inside the loop?": {
        "hits": lambda scores, truth: _hits(scores, truth)[:1]
    },
    "the mean score of the matches decides: R@1 asks how many come first": {"hits": _own},
    "the mean rank decides: R@1 asks how many come first": {"hits": lambda scores, truth: -_higher(scores, truth)},
    "the mean rank decides, with ties against the match: R@1 asks how many come first": {
        "hits": lambda scores, truth: -_rank(scores, truth).double()
    },
    "the mean of 1 / rank decides: R@1 asks how many come first, a second place counts for nothing": {
        "hits": lambda scores, truth: 1 / _rank(scores, truth).double()
    },
    "the mean of 1 / rank decides, with ties for the match: R@1 asks how many come first": {
        "hits": lambda scores, truth: 1 / (1 + _higher(scores, truth).double())
    },
    "the rows and columns are exchanged: a query is a row, and its match competes with the other candidates (argmax "
    "over dim 1)": {"hits": lambda scores, truth: scores.argmax(0)[truth] == torch.arange(len(truth)).to(truth)},
    "a query competes with the other queries for its match: it is the match that competes with the other candidates, "
    "along the row": {"hits": lambda scores, truth: (scores[:, truth] >= _own(scores, truth)[:, 0]).sum(0) == 1},
    "this is the weight with the lowest R@1: the highest is asked for": {
        "choose": lambda found: min(weight for weight, value in found.items() if value == min(found.values()))
    },
    "of equally good weights this is the largest: the smallest is asked for": {
        "choose": lambda found: max(weight for weight, value in found.items() if value == max(found.values()))
    },
    "of equally good weights this is the first in the list: the smallest is asked for": {
        "choose": lambda found: max(found, key=found.get)
    },
    "of equally good weights this is the last in the list: the smallest is asked for": {
        "choose": lambda found: max(reversed(found), key=found.get)
    },
    "this is a place in the list: the weight itself is asked for, weights[place]": {
        "choose": lambda found: list(found).index(_smallest_of_the_best(found))
    },
    "this is the number of queries found: the weight is asked for": {"choose": lambda found: max(found.values())},
    "these are all good weights: the smallest of them is asked for": {
        "choose": lambda found: [weight for weight, value in found.items() if value == max(found.values())]
    },
}


def _first_weight(weights, global_scores, local_scores, truth):
    return weights[0]


def _most_found(**inputs) -> float:
    return weight_with(**inputs, choose=lambda found: max(found.values()))


def _stops_where_it_falls(weights, global_scores, local_scores, truth):
    """Walks through the weights, and stops at the first that finds no more than the one before."""
    best, chosen = -1, weights[0]
    for weight in weights:
        found = int(_hits(global_scores + weight * local_scores, truth).sum())
        if found <= best:
            return chosen
        best, chosen = found, weight
    return chosen


def _better_than_nothing(weights, global_scores, local_scores, truth, chosen=None):
    """The best so far begins with 0 hits, so a weight that finds nothing is never chosen."""
    best = 0
    for weight in sorted(weights):
        found = int(_hits(global_scores + weight * local_scores, truth).sum())
        if found > best:
            best, chosen = found, weight
    return chosen


WEIGHT_MISTAKES: dict[str, Callable] = {
    "this is the first weight, whatever the scores are: a return inside the loop?": _first_weight,
    "this is the smallest weight, whatever the scores are: does a return stand inside the loop, or is no query ever "
    "found, since its match counts itself among those ahead?": lambda weights, **scores: min(weights),
    "this is the largest weight, whatever the scores are: is the best so far kept together with its weight?": (
        lambda weights, **scores: max(weights)
    ),
    "this is the last weight, whatever the scores are: is the best so far kept together with its weight?": (
        lambda weights, **scores: weights[-1]
    ),
    "this is the highest R@1, in percent: the weight that has it is asked for": lambda **inputs: (
        100 * _most_found(**inputs) / len(inputs["truth"])
    ),
    "this is the highest R@1, as a fraction: the weight that has it is asked for": lambda **inputs: (
        _most_found(**inputs) / len(inputs["truth"])
    ),
    "where no weight finds anything, none is chosen: the best so far begins at 0, and 0 is not above it; begin below, "
    "at -1": _better_than_nothing,
    "where no weight finds anything, 0 is chosen: the best so far begins at 0, and 0 is not above it; begin below, at "
    "-1": lambda **inputs: _better_than_nothing(**inputs, chosen=0.0),
    "the search stops at the first weight that finds no more: try all of them": _stops_where_it_falls,
}


def _found_by_each(weights, global_scores, local_scores, truth) -> str:
    """How many matches each weight puts first."""
    found = [int(_hits(global_scores + weight * local_scores, truth).sum()) for weight in weights]
    told = (f"weight {weight:g} finds {hits}" for weight, hits in zip(weights, found, strict=True))
    return f"{', '.join(told)} of {len(truth)}"


EXERCISE = Exercise(
    "local-weight",
    library=best_weight,
    example=EXAMPLE,
    cases=weight_cases,
    specification=weight_specification,
    steps=_found_by_each,
    mistakes=WEIGHT_MISTAKES,
    family=(weight_with, TOGGLES),
    exact=True,
)
