"""``choose-k``, lesson 05.

The shortest shortlist that loses little, from measurements, beside a walk through the lengths.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from itr_lib.checks._inputs import longer
from itr_lib.checks.frame import Case, Exercise
from itr_lib.evaluation import shortest_shortlist


def _case(lengths, recall, milliseconds, candidates, budget, tolerated, trap="", worked=None) -> Case:
    measured = {"lengths": longer(lengths), "recall": longer(recall), "milliseconds": longer(milliseconds)}
    return Case(measured | {"candidates": candidates, "budget": budget, "tolerated": tolerated}, trap, worked)


EXAMPLE = _case([1, 10, 50, 100], [40.0, 60.0, 62.0, 62.5], [0.25, 0.5, 0.75, 1.5], 1000, 1.0, 2.0, worked=10)
TIMES = [0.25, 0.5, 0.75, 1.0, 1.5, 2.0]
# lengths, recall, milliseconds, candidates, budget, tolerated, trap; numbers that are exact in binary, so that a limit
# that is just met is met
CASES = [
    ([1, 5, 20, 50, 100, 200], [30.0, 50.0, 58.0, 61.0, 61.5, 61.75], TIMES, 1000, 9.0, 0.5, ""),
    ([1, 5, 20, 50, 100, 200], [30.0, 50.0, 58.0, 61.0, 61.5, 62.5], TIMES, 1000, 1.25, 0.5, ""),
    ([10, 20, 40, 80], [50.0, 57.0, 59.5, 60.0], TIMES[:4], 1000, 4.0, 6.0, ""),
    ([10, 20, 40], [50.0, 60.0, 62.0], [0.5, 1.0, 2.0], 100, 2.0, 0.0, "a length costs just the budget"),
    ([10, 20, 40], [59.0, 60.5, 61.0], [0.5, 1.0, 2.0], 100, 3.0, 2.0, "a length loses just what is tolerated"),
    ([5, 10, 20, 50], [52.0, 60.0, 60.0, 60.0], TIMES[:4], 100, 3.0, 0.0, "several lengths find as much"),
    ([5, 10, 20, 50], [52.0, 60.0, 61.5, 59.0], TIMES[:4], 100, 3.0, 1.0, "a longer shortlist finds less"),
    ([5, 10, 20, 50], [52.0, 63.0, 61.5, 64.0], TIMES[:4], 100, 3.0, 1.0, "recall goes up and down"),
    ([100, 10, 50, 20], [61.0, 52.0, 61.0, 60.25], [1.0, 0.25, 0.75, 0.5], 500, 3.0, 1.0, "lengths are in no order"),
    ([10, 20, 40, 80], [50.0, 58.0, 60.0, 64.0], TIMES[:4], 30, 3.0, 1.0, "a length is above the number of candidates"),
    ([10, 20, 30, 80], [50.0, 58.0, 60.0, 60.0], TIMES[:4], 30, 3.0, 0.5, "a length is the number of candidates"),
    ([10, 20, 40], [50.0, 58.0, 60.0], [3.0, 2.0, 4.0], 100, 1.0, 5.0, "nothing fits the budget"),
    ([20, 40], [58.0, 60.0], [0.5, 0.75], 10, 1.0, 5.0, "every length is above the number of candidates"),
    ([50], [61.0], [0.5], 1000, 1.0, 0.0, "there is one length"),
    ([10, 50], [61.0, 62.0], [0.5, 0.75], 1000, math.inf, 0.5, "the budget is infinite"),
    ([10, 20, 40], [59.0, 60.0, 58.0], [0.75, 1.0, 0.5], 100, 0.75, 1.0, "a longer shortlist was faster"),
    ([10, 20, 40], [60.0, 61.0, 61.5], [3.0, 1.0, 1.5], 100, 2.0, 2.0, "a short length is good, and costs too much"),
    ([10, 20, 40], [0.0, 0.0, 0.0], [0.25, 0.5, 1.0], 100, 2.0, 1.0, "nothing is found at any length"),
]


def choose_cases() -> Iterator[Case]:
    """Each limit just met and just missed; lengths in no order, lengths that are not allowed, none that is."""
    for case in CASES:
        yield _case(*case)


def choose_specification(lengths, recall, milliseconds, candidates, budget, tolerated) -> int:
    """The best recall that may be had, and then the shortest length that comes near enough."""
    best = -1.0
    for length, found, cost in zip(lengths, recall, milliseconds, strict=True):
        if length <= candidates and cost <= budget and found > best:
            best = found
    chosen = 0
    for length, found, cost in zip(lengths, recall, milliseconds, strict=True):
        if length <= candidates and cost <= budget and found >= best - tolerated and (chosen == 0 or length < chosen):
            chosen = length
    return chosen


def choose_with(
    lengths, recall, milliseconds, candidates, budget, tolerated,
    fits=lambda length, candidates: length <= candidates, pays=lambda cost, budget: cost <= budget,
    cost=lambda row, rows: row[2],
    near=lambda found, best, tolerated: found >= best - tolerated, best_of_all=False, pick=lambda some: min(some)[0],
    nothing=0, again=lambda rows, allowed: allowed,
):  # fmt: skip
    """The choice, with options to spoil it; ``pick``: of (length, recall, milliseconds, place) those that come near."""
    rows = list(zip(lengths, recall, milliseconds, range(len(lengths)), strict=True))
    allowed = [row for row in rows if fits(row[0], candidates) and pays(cost(row, rows), budget)]
    if not allowed:
        return nothing(rows) if callable(nothing) else nothing
    best = max(row[1] for row in (rows if best_of_all else allowed))
    some = [row for row in again(rows, allowed) if near(row[1], best, tolerated)]
    return pick(some) if some else 0


TOGGLES = {
    "the budget is ignored: a length that costs more than budget is out": {"pays": lambda cost, budget: True},
    "a length that costs just the budget is out here: it may cost that much, <= and not <": {
        "pays": lambda cost, budget: cost < budget
    },
    "the time is multiplied by the length: milliseconds is the time of the whole shortlist, not of one item": {
        "cost": lambda row, rows: row[0] * row[2]
    },
    "the times of shorter ones are added to each time: every measurement stands alone": {
        "cost": lambda row, rows: sum(other[2] for other in rows if other[3] <= row[3])
    },
    "the length itself is compared with the budget: it is the milliseconds that must not exceed it": {
        "cost": lambda row, rows: row[0]
    },
    "the budget is turned round: a length may cost at most budget": {"pays": lambda cost, budget: cost >= budget},
    "a length above the number of candidates is taken: there is no such shortlist, leave it out": {
        "fits": lambda length, candidates: True
    },
    "a shortlist of all candidates is out here: it is allowed, length <= candidates": {
        "fits": lambda length, candidates: length < candidates
    },
    "nothing may be lost here: recall may be tolerated points below the best": {
        "near": lambda found, best, tolerated: found >= best
    },
    "a length that loses just what is tolerated is out here: it may lose that much, >= and not >": {
        "near": lambda found, best, tolerated: found > best - tolerated
    },
    "the loss is taken as a share of the best: tolerated is in points of recall, best - tolerated": {
        "near": lambda found, best, tolerated: found >= best * (1 - tolerated / 100)
    },
    "tolerated is taken as a recall to reach: it is what may be lost, best - tolerated": {
        "near": lambda found, best, tolerated: found >= tolerated
    },
    "tolerated is ignored: this is the shortest that is allowed, however little it finds": {
        "near": lambda found, best, tolerated: True
    },
    "tolerated is added to the best, which nothing reaches: subtract it": {
        "near": lambda found, best, tolerated: found >= best + tolerated
    },
    "the sign is turned round: those are out that come near the best, and those are in that do not": {
        "near": lambda found, best, tolerated: found <= best - tolerated
    },
    "the best recall is that of all lengths, also of those that are out: compare with the best that may be had": {
        "best_of_all": True
    },
    "the best is that of the allowed lengths, but then one is chosen among all: a length that costs more than budget "
    "is out there, too": {"again": lambda rows, allowed: rows},
    "a length that loses just what is tolerated is out here, but for the best itself: it may lose that much, >= and "
    "not >": {"near": lambda found, best, tolerated: found > best - tolerated or found == best},
    "this is the longest that comes near the best: the shortest is asked for": {"pick": lambda some: max(some)[0]},
    "this is the first in the list that comes near the best: the shortest is asked for, and they are in no order": {
        "pick": lambda some: some[0][0]
    },
    "this is the last in the list that comes near the best: the shortest is asked for": {
        "pick": lambda some: some[-1][0]
    },
    "this is the one that finds most: the shortest that loses no more than tolerated is asked for": {
        "pick": lambda some: max(some, key=lambda row: row[1])[0]
    },
    "this is the fastest that comes near the best: the shortest is asked for": {
        "pick": lambda some: min(some, key=lambda row: (row[2], row[0]))[0]
    },
    "this is a place in the list: the length itself is asked for, lengths[place]": {"pick": lambda some: min(some)[3]},
    "this is the recall: the length is asked for": {"pick": lambda some: min(some)[1]},
    "this is the time: the length is asked for": {"pick": lambda some: min(some)[2]},
    "these are all lengths that come near the best: the shortest of them is asked for": {
        "pick": lambda some: [row[0] for row in some]
    },
    "where nothing is allowed your function returns a length all the same: 0 is asked for, no second stage": {
        "nothing": lambda rows: min(rows)[0]
    },
    "where nothing is allowed your function returns the fastest all the same: 0 is asked for, no second stage": {
        "nothing": lambda rows: min(rows, key=lambda row: row[2])[0]
    },
    "where nothing is allowed your function returns the one that finds most: 0 is asked for, no second stage": {
        "nothing": lambda rows: max(rows, key=lambda row: row[1])[0]
    },
    "where nothing is allowed your function returns -1: 0 is asked for, no second stage": {"nothing": -1},
}


def _fails_where_nothing_fits(lengths, recall, milliseconds, candidates, budget, tolerated):
    some = zip(lengths, recall, milliseconds, strict=True)
    allowed = [row for row in some if row[0] <= candidates and row[2] <= budget]
    best = max(row[1] for row in allowed)
    return min(row[0] for row in allowed if row[1] >= best - tolerated)


def _cut_to_the_candidates(lengths, recall, milliseconds, candidates, budget, tolerated):
    cut = [min(length, candidates) for length in lengths]
    return choose_specification(cut, recall, milliseconds, candidates, budget, tolerated)


def _only_the_first(lengths, recall, milliseconds, candidates, budget, tolerated):
    return lengths[0] if lengths[0] <= candidates and milliseconds[0] <= budget else 0


def _returns_at_once(lengths, recall, milliseconds, candidates, budget, tolerated):
    good = lengths[0] <= candidates and milliseconds[0] <= budget and recall[0] >= max(recall) - tolerated
    return lengths[0] if good else 0


def _all_strict(**inputs):
    strict = {"fits": lambda k, n: k < n, "pays": lambda ms, budget: ms < budget}
    return choose_with(**inputs, **strict, near=lambda found, best, tolerated: found > best - tolerated)


def _most_a_time(lengths, recall, milliseconds, candidates, budget, tolerated):
    rows = zip(lengths, recall, milliseconds, strict=True)
    return max(((r / ms, k) for k, r, ms in rows if k <= candidates and ms <= budget), default=(0, 0))[1]


def _stops_where_it_is_near(lengths, recall, milliseconds, candidates, budget, tolerated):
    """Walks up, and stops where the next step gains no more than what is tolerated."""
    chosen = 0
    for i, length in enumerate(lengths):
        if length <= candidates and milliseconds[i] <= budget:
            chosen = length
            if i + 1 < len(lengths) and recall[i + 1] - recall[i] <= tolerated:
                return chosen
    return chosen


def _near_the_last(lengths, recall, milliseconds, candidates, budget, tolerated):
    """Takes the longest for the best."""
    rows = sorted(zip(lengths, recall, milliseconds, strict=True))
    allowed = [row for row in rows if row[0] <= candidates and row[2] <= budget]
    return min((row[0] for row in allowed if row[1] >= allowed[-1][1] - tolerated), default=0)


CHOOSE_MISTAKES: dict[str, Callable] = {
    "your function fails where nothing is allowed, max or min of an empty list: return 0 there": (
        _fails_where_nothing_fits
    ),
    "a length above the number of candidates is cut to that number: it was not measured, leave it out": (
        _cut_to_the_candidates
    ),
    "only the first length is looked at: a return inside the loop?": _only_the_first,
    "the loop ends at the first length, whether it is good or not: return 0 only behind the loop": _returns_at_once,
    "all three limits are strict here: a length may just meet them, <= and >=": _all_strict,
    "this is what finds most for its time: the shortest that loses no more than tolerated is asked for": _most_a_time,
    "each length is compared with the next one: compare it with the best of all that are allowed": (
        _stops_where_it_is_near
    ),
    "the longest is taken for the best: a longer shortlist can find less, take the max": _near_the_last,
}


def _walked_through(lengths, recall, milliseconds, candidates, budget, tolerated) -> str:
    """Which lengths are allowed, and which of them come near the best."""
    rows = zip(lengths, recall, milliseconds, strict=True)
    allowed = sorted((k, found) for k, found, cost in rows if k <= candidates and cost <= budget)
    if not allowed:
        return "no length is allowed, so 0"
    best = max(found for _, found in allowed)
    near = [k for k, found in allowed if found >= best - tolerated]
    return f"{[k for k, _ in allowed]} are allowed, the best recall among them is {best:g}, and {near} come near it"


EXERCISE = Exercise(
    "choose-k",
    library=shortest_shortlist,
    example=EXAMPLE,
    cases=choose_cases,
    specification=choose_specification,
    steps=_walked_through,
    mistakes=CHOOSE_MISTAKES,
    family=(choose_with, TOGGLES),
    exact=True,
)
