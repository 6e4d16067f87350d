"""``pareto-front``, lesson 05.

The methods that none beats in both cost and recall, beside a comparison of all pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from itr_lib.checks._inputs import generator, sizes
from itr_lib.checks.frame import Case, Exercise
from itr_lib.checks.outcome import Inputs
from itr_lib.evaluation import pareto_front


def _methods(*points: tuple[float, float]) -> Inputs:
    cost, recall = torch.tensor(points, dtype=torch.float64).unbind(1)
    return {"cost": cost.contiguous(), "recall": recall.contiguous()}


EXAMPLE = Case(_methods((1, 30), (2, 50), (3, 40), (3, 50)), worked=[1, 1, 0, 0])


def pareto_cases() -> Iterator[Case]:
    """One method best in both; equal costs, recalls and points, on the front and behind it; one method; all alike."""
    yield Case(_methods((2, 30), (1, 50), (3, 40), (2.5, 45)), "one method is best in both")
    yield Case(_methods((4, 55), (1, 30), (3, 50), (2, 40), (2.5, 35), (3.5, 45)))
    behind = [(3, 50), (1, 30), (8, 70), (3, 55), (7, 20), (7, 20)]
    yield Case(_methods(*behind, (2, 55), (1, 40), (4, 60), (5, 70), (2, 55), (4, 57)), "methods are equal")
    for seed, (methods, kinds) in enumerate([(9, 4), (12, 5), (6, 40), (5, 2)]):
        drawn = torch.randint(kinds, (2, *sizes(methods)), generator=generator(560 + seed)).double()
        trap = "" if kinds == 40 else "methods are equal in cost, in recall or in both"
        yield Case({"cost": 1 + drawn[0] / 4, "recall": 20 + 2 * drawn[1]}, trap)
    yield Case(_methods((2, 10)), "there is one method")
    yield Case(_methods((4, 30), (4, 30), (4, 30)), "all methods are alike")


def pareto_specification(cost: Tensor, recall: Tensor) -> Tensor:
    """Method by method: is there another that is nowhere worse and somewhere better?"""
    points = list(zip(cost.tolist(), recall.tolist(), strict=True))
    kept = []
    for c, r in points:
        kept.append(not any(x <= c and y >= r and (x < c or y > r) for x, y in points))
    return torch.tensor(kept)


def _front(beats: Callable, itself: bool = True) -> Callable:
    """Whoever is beaten by nobody; ``beats``: (cost, recall, cost of the other, recall of the other) -> bool."""

    def front(cost, recall):
        beaten = beats(cost[:, None], recall[:, None], cost, recall)
        if not itself:
            beaten = beaten & ~torch.eye(len(cost), dtype=torch.bool, device=cost.device)
        return ~beaten.any(0)

    return front


def _by_cost(keep: Callable) -> Callable:
    """Through the methods by cost; ``keep``: (recall, recalls of all that came before) -> bool."""

    def front(cost, recall):
        order = cost.argsort(stable=True).tolist()
        recalls = recall[order].tolist()
        kept = torch.zeros(len(cost), dtype=torch.bool)
        for place, method in enumerate(order):
            kept[method] = keep(recalls[place], recalls[:place])
        return kept

    return front


def _first_of_equals(cost, recall):
    points = list(zip(cost.tolist(), recall.tolist(), strict=True))
    first = torch.tensor([point not in points[:i] for i, point in enumerate(points)])
    return pareto_specification(cost, recall) & first


def _turned(cost_sign: int, recall_sign: int) -> Callable:
    return lambda cost, recall: pareto_specification(cost_sign * cost, recall_sign * recall)


def _indices(cost, recall):
    return pareto_specification(cost, recall).nonzero()[:, 0]


def _beats(cost: Tensor, recall: Tensor) -> Tensor:
    """(n, n): i beats j."""
    c, r = cost[:, None], recall[:, None]
    return (c <= cost) & (r >= recall) & ((c < cost) | (r > recall))


def _only_the_first(cost, recall):
    return ~_beats(cost, recall)[:, 0].any()


def _later_only(cost, recall):
    return ~_beats(cost, recall).tril(-1).any(0)


def _earlier_only(cost, recall):
    return ~_beats(cost, recall).triu(1).any(0)


def _one_before(strict: bool) -> Callable:
    """Each method beside the one before it in the list."""

    def front(cost, recall):
        kept = torch.ones(len(cost), dtype=torch.bool)
        for i in range(1, len(cost)):
            beaten = _beats(cost, recall)[i - 1, i] if not strict else True
            kept[i] = not (beaten and (cost[i - 1] <= cost[i] and recall[i - 1] > recall[i] or not strict))
        return kept

    return front


def _beaten_twice(cost, recall):
    return _beats(cost, recall).sum(0) < 2


def _beats_somebody(cost, recall):
    return _beats(cost, recall).any(1)


def _in_the_order_of_cost(cost, recall):
    kept, best = [], -torch.inf
    for found in recall[cost.argsort(stable=True)].tolist():
        kept.append(found > best)
        best = max(best, found)
    return torch.tensor(kept)


def _sorted_by_both(cost, recall):
    points, best, kept = sorted(zip(cost.tolist(), (-recall).tolist(), strict=True)), -torch.inf, []
    for _, negative in points:
        kept.append(-negative > best)
        best = max(best, -negative)
    return torch.tensor(kept)


def _who_is_beaten(cost: Tensor, recall: Tensor) -> str:
    """The small table of who beats whom."""
    beats = _beats(cost, recall)
    told = []
    for j, (c, r) in enumerate(zip(cost.tolist(), recall.tolist(), strict=True)):
        by = beats[:, j].nonzero()[:, 0].tolist()
        told.append(f"{j} (cost {c:g}, recall {r:g}) is beaten by {by[0] if by else 'none'}")
    return "; ".join(told[:6])


PARETO_MISTAKES = {
    "a method stays if it finds more than all before it in the list: that is right only where the list is in the order "
    "of cost; compare all with all": lambda cost, recall: torch.tensor(
        [bool((recall[:i] < recall[i]).all()) for i in range(len(recall))]
    ),
    "the answers stand in the order of cost (at equal cost, the higher recall first), and the second of two equal "
    "points goes: each belongs at its method's place, and both stay": _sorted_by_both,
    "the answers stand in the order of cost: each belongs at its method's place (and equal costs need care)": (
        _in_the_order_of_cost
    ),
    "the answers stand in the order of cost: each belongs at its method's place": lambda cost, recall: (
        pareto_specification(cost, recall)[cost.argsort(stable=True).cpu()]
    ),
    "only the highest recall stays: a cheaper method with less recall can be on the front, too": (
        lambda cost, recall: recall == recall.max()
    ),
    "only the cheapest stay: a method that costs more and finds more is on the front, too": (
        lambda cost, recall: cost == cost.min()
    ),
    "only the ends stay, the cheapest and the one with the highest recall: what lies between can be on the front": (
        lambda cost, recall: pareto_specification(cost, recall) & ((cost == cost.min()) | (recall == recall.max()))
    ),
    "this is the front for low recall: a higher recall is better": _turned(1, -1),
    "this is the front for high cost: a lower cost is better": _turned(-1, 1),
    "this is the front for high cost and low recall: turn both comparisons round, or the axis of any()": _turned(
        -1, -1
    ),
    "True and False are exchanged: True is what stays on the front": lambda cost, recall: (
        ~pareto_specification(cost, recall)
    ),
    "True and False are exchanged, and equal points beat each other: True is what stays, and both of two equals do": (
        lambda cost, recall: ~_front(lambda c, r, x, y: (c <= x) & (r >= y), itself=False)(cost, recall)
    ),
    "a method goes as soon as another is better in one of the two: the other must be no worse in both": _front(
        lambda c, r, cost, recall: (c < cost) | (r > recall)
    ),
    "every method is beaten by itself: one that is no better anywhere does not beat it": _front(
        lambda c, r, cost, recall: (c <= cost) & (r >= recall)
    ),
    "equal points beat each other: to beat, a method must be better in one of the two; both stay": _front(
        lambda c, r, cost, recall: (c <= cost) & (r >= recall), itself=False
    ),
    "of equal points only the first stays: neither beats the other, both stay": _first_of_equals,
    "a method that is equal in one and worse in the other stays: to beat it, better in one and no worse in the other "
    "is enough": _front(lambda c, r, cost, recall: (c < cost) & (r > recall)),
    "a method that costs more for the same recall stays: it is beaten": _front(
        lambda c, r, cost, recall: (c <= cost) & (r > recall)
    ),
    "a method that finds less at the same cost stays: it is beaten": _front(
        lambda c, r, cost, recall: (c < cost) & (r >= recall)
    ),
    "each method is compared only with its neighbour in the order of cost: compare it with all": _by_cost(
        lambda recall, before: not before or recall > before[-1]
    ),
    "in the order of cost, what exceeds the best recall so far stays: at equal cost the order decides then, and the "
    "second of two equal points goes": _by_cost(lambda recall, before: recall > max(before, default=-1)),
    "in the order of cost, what reaches the best recall so far stays: one that costs more for the same recall is "
    "beaten, and at equal cost the order decides": _by_cost(lambda recall, before: recall >= max(before, default=-1)),
    "these are the places of the methods on the front: True or False for every method is asked for": _indices,
    "recall per cost decides here: a method is on the front as long as no other beats it in both": (
        lambda cost, recall: recall / cost == (recall / cost).max()
    ),
    "every method stays: one goes that another beats, no worse in both and better in one": (
        lambda cost, recall: torch.ones_like(cost, dtype=torch.bool)
    ),
    "only the first method is compared with the others: every one is; a return inside the loop?": _only_the_first,
    "each method is compared only with those that stand behind it in the list (j > i): with all": _later_only,
    "each method is compared only with those that stand before it in the list (j < i): with all": _earlier_only,
    "each method is compared only with the one before it in the list: with all": _one_before(strict=False),
    "each method is compared only with the one before it in the list, and only by recall: with all, and at equal "
    "recall the cheaper one beats the other": _one_before(strict=True),
    "beaten by more than one is what goes here: one that beats it is enough": _beaten_twice,
    "who beats somebody stays here: whom nobody beats stays": _beats_somebody,
}

EXERCISE = Exercise(
    "pareto-front",
    library=pareto_front,
    example=EXAMPLE,
    cases=pareto_cases,
    specification=pareto_specification,
    mistakes=PARETO_MISTAKES,
    steps=_who_is_beaten,
    exact=True,
    index=True,
)
