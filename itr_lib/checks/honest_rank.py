"""``honest-rank``, lesson 05.

The rank of a match after re-ranking a shortlist that may not hold it, beside sorted lists.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from itr_lib.checks._inputs import generator, normal
from itr_lib.checks.frame import Case, Exercise, Rehearsal
from itr_lib.checks.outcome import Inputs
from itr_lib.checks.two_stage_search import weighted
from itr_lib.evaluation.two_stage import two_stage_ranks


def library_ranks(global_scores, local_scores, truth, shortlist: int, local_weight: float) -> Tensor:
    """The library's, which takes several matches a query."""
    return torch.from_numpy(two_stage_ranks(global_scores, local_scores, truth[:, None], shortlist, local_weight))


EXAMPLE = Case(
    {
        "global_scores": torch.tensor([[0.9, 0.5, 0.1]], dtype=torch.float64),
        "local_scores": torch.tensor([[0.0, 1.0, 2.0]], dtype=torch.float64),
        "truth": torch.tensor([2]),
        "shortlist": 2,
        "local_weight": 1.0,
    },
    worked=[3],
)
SHAPES = [
    (7, 9, 4, 0.5, ""),
    (6, 8, 3, 2.0, ""),
    (5, 6, 1, 1.0, "the shortlist holds one candidate"),
    (4, 5, 8, 0.5, "the shortlist is longer than the list of candidates"),
    (1, 6, 2, 1.0, "there is one query"),
    (3, 1, 2, 1.0, "there is one candidate"),
]


def ranks_cases() -> Iterator[Case]:
    """Matches inside and outside shortlists of one, of some, of more than all; one query, one candidate."""
    for seed, (queries, candidates, shortlist, weight, trap) in enumerate(SHAPES, start=12):
        scores = normal(2, queries, candidates, seed=seed)
        truth = torch.randint(candidates, (queries,), generator=generator(5000 + seed))
        scores[0, torch.arange(queries), truth] += 0.6
        inputs = {"global_scores": scores[0], "local_scores": scores[1], "truth": truth}
        yield Case(inputs | {"shortlist": shortlist, "local_weight": weight}, trap)


def ranks_specification(global_scores, local_scores, truth, shortlist: int, local_weight: float) -> Tensor:
    """Query by query: the order of all candidates in both stages, and where the match stands in it."""
    ranks = []
    for whole, local, own in zip(global_scores.tolist(), local_scores.tolist(), truth.tolist(), strict=True):
        final = [x + local_weight * y for x, y in zip(whole, local, strict=True)]
        order = sorted(range(len(whole)), key=whole.__getitem__, reverse=True)
        first = sorted(order[:shortlist], key=final.__getitem__, reverse=True)
        ranks.append((first + order[shortlist:]).index(own) + 1)
    return torch.tensor(ranks)


def _places(scores: Tensor) -> Tensor:
    """(queries, candidates): the place of each, 0 for the best."""
    return scores.argsort(descending=True).argsort(1)


def _own(values: Tensor, truth: Tensor) -> Tensor:
    return values.gather(1, truth[:, None])[:, 0]


def ranks_with(
    global_scores, local_scores, truth, shortlist, local_weight,
    final=weighted, missed=lambda ranks, shortlist, candidates: ranks, size=lambda shortlist: shortlist,
    among_all=False, itself=1, start=0,
) -> Tensor:  # fmt: skip
    """The ranks, with options to spoil them; ``missed``: (global ranks, shortlist, candidates) -> ranks outside."""
    places, scores = _places(global_scores), final(global_scores, local_scores, local_weight)
    ahead = scores > _own(scores, truth)[:, None]
    ahead = ahead if among_all else ahead & (places < size(shortlist))
    outside = missed(_own(places, truth) + 1, shortlist, places.shape[1])
    return torch.where(_own(places, truth) < size(shortlist), ahead.sum(1) + itself, outside) + start


def _all_at(value: Callable[[int, int], float]) -> dict[str, Callable]:
    """One and the same rank for all matches outside the shortlist."""
    return {"missed": lambda ranks, shortlist, candidates: torch.full_like(ranks, value(shortlist, candidates))}


def _missed_infinite(**inputs):
    outside = _own(_places(inputs["global_scores"]), inputs["truth"]) >= inputs["shortlist"]
    return ranks_specification(**inputs).double().masked_fill(outside.cpu(), torch.inf)


def _missed_dropped(**inputs):
    outside = _own(_places(inputs["global_scores"]), inputs["truth"]) >= inputs["shortlist"]
    return ranks_specification(**inputs)[~outside.cpu()]


def _from_the_bottom(global_scores, local_scores, truth, shortlist, local_weight):
    return ranks_specification(-global_scores, -local_scores, truth, shortlist, local_weight)


def _ranks_together(global_scores, local_scores, truth, shortlist, local_weight):
    added = (local_weight * local_scores).masked_fill(_places(global_scores) >= shortlist, 0)
    return _own(_places(global_scores + added), truth) + 1


def _ranks_of_the_diagonal(global_scores, local_scores, truth, shortlist, local_weight):
    own = torch.arange(len(truth)) % global_scores.shape[1]
    return ranks_specification(global_scores, local_scores, own, shortlist, local_weight)


def _winners(global_scores, local_scores, truth, shortlist, local_weight):
    final = weighted(global_scores, local_scores, local_weight)
    return final.masked_fill(_places(global_scores) >= shortlist, -torch.inf).argmax(1)


def _one_argsort(scores: Tensor) -> Tensor:
    return scores.argsort(1, descending=True)


def _order_for_ranks(global_scores, local_scores, truth, shortlist, local_weight):
    final = weighted(global_scores, local_scores, local_weight)
    lifted = torch.where(_places(global_scores) < shortlist, 1e3 + final, global_scores)
    return _own(_one_argsort(lifted), truth) + 1


def _places_for_rows(global_scores, local_scores, truth, shortlist, local_weight):
    """The new order of the shortlist as places in it, not looked up."""
    order = global_scores.argsort(1, descending=True)
    first = order[:, :shortlist]
    places = weighted(global_scores, local_scores, local_weight).gather(1, first).argsort(1, descending=True)
    here = torch.cat([places, order[:, shortlist:]], 1) == truth[:, None]
    return torch.where(here.any(1), here.double().argmax(1) + 1, 0)


def _two_ranks(global_scores, local_scores, truth, weight):
    return (
        _own(_places(scores), truth) + 1 for scores in (global_scores, weighted(global_scores, local_scores, weight))
    )


def _cut_rank(global_scores, local_scores, truth, shortlist, local_weight):
    first, again = _two_ranks(global_scores, local_scores, truth, local_weight)
    return torch.where(first <= shortlist, again.clamp(max=shortlist), first)


def _others_at_zero(global_scores, local_scores, truth, shortlist, local_weight):
    final = weighted(global_scores, local_scores, local_weight).masked_fill(_places(global_scores) >= shortlist, 0)
    return (final > _own(final, truth)[:, None]).sum(1) + 1


def _by(place: Callable[[Tensor], Tensor]) -> Callable:
    """Places of another kind, in place of the global ones."""

    def ranks(global_scores, local_scores, truth, shortlist, local_weight):
        places, final = place(global_scores), weighted(global_scores, local_scores, local_weight)
        ahead = ((final > _own(final, truth)[:, None]) & (places < shortlist)).sum(1) + 1
        return torch.where(_own(places, truth) < shortlist, ahead, _own(places, truth) + 1)

    return ranks


def _one_argsort_inside(global_scores, local_scores, truth, shortlist, local_weight):
    order = global_scores.argsort(1, descending=True)[:, :shortlist]
    final = weighted(global_scores, local_scores, local_weight).gather(1, order)
    here = order == truth[:, None]
    inside = (final.argsort(1, descending=True) * here).sum(1) + 1
    return torch.where(here.any(1), inside, _own(_places(global_scores), truth) + 1)


TOGGLES = {
    "a query whose match is not in the shortlist counts as found at once: its rank stayed 0, which is in the first K "
    "for every K; it keeps its global rank": _all_at(lambda shortlist, candidates: 0),
    "a query whose match is not in the shortlist counts as found at once: it has rank 1, as if it came first; it "
    "keeps its global rank": _all_at(lambda shortlist, candidates: 1),
    "a query whose match is not in the shortlist has rank -1, which is in the first K for every K: it keeps its "
    "global rank": _all_at(lambda shortlist, candidates: -1),
    "every match outside the shortlist has rank shortlist + 1: that is the least it can be, it keeps its global "
    "rank": _all_at(lambda shortlist, candidates: shortlist + 1),
    "every match outside the shortlist has rank shortlist, as if it had come last inside: it keeps its global rank": (
        _all_at(lambda shortlist, candidates: shortlist)
    ),
    "every match outside the shortlist has the last rank: that is more than it deserves; its global rank counts": (
        _all_at(lambda shortlist, candidates: candidates)
    ),
    "every match outside the shortlist has a rank behind all candidates: it keeps its global rank": _all_at(
        lambda shortlist, candidates: candidates + 1
    ),
    "the shortlist's places count twice outside: the global rank holds them already": {
        "missed": lambda ranks, shortlist, candidates: ranks + shortlist
    },
    "a match outside the shortlist has its place among the others: its global rank counts the shortlist, too": {
        "missed": lambda ranks, shortlist, candidates: ranks - shortlist
    },
    "outside the shortlist ranks count from 0: the first place has rank 1": {
        "missed": lambda ranks, shortlist, candidates: ranks - 1
    },
    "outside the shortlist ranks are one too large: the global rank is one more than the place": {
        "missed": lambda ranks, shortlist, candidates: ranks + 1
    },
    "inside the shortlist ranks count from 0: the first place has rank 1": {"itself": 0},
    "inside the shortlist the match counts itself as one that is ahead: count only higher scores, > and not >=": {
        "itself": 2
    },
    "ranks count from 0: the first place has rank 1": {"start": -1},
    "ranks are one too large everywhere: the match counts itself, or 1 is added twice": {"start": 1},
    "the match is compared with the new scores of all candidates: only with those in the shortlist": {
        "among_all": True
    },
    "the shortlist is one too short: it holds the places from 0 to shortlist - 1, place < shortlist": {
        "size": lambda shortlist: shortlist - 1
    },
    "the shortlist is one too long: it holds the places from 0 to shortlist - 1, place < shortlist": {
        "size": lambda shortlist: shortlist + 1
    },
    "the shortlist is ordered by the local score alone: global + local_weight * local": {
        "final": lambda whole, local, weight: local
    },
    "local_weight is missing: global + local_weight * local": {"final": lambda whole, local, weight: whole + local},
    "local_weight stands at the global score: global + local_weight * local": {
        "final": lambda whole, local, weight: weight * whole + local
    },
    "the local score is subtracted: global + local_weight * local": {
        "final": lambda whole, local, weight: whole - weight * local
    },
    "these are the global ranks: the shortlist is not ordered anew": {"final": lambda whole, local, weight: whole},
    "the shortlist is worst first: a match is behind those with a higher score": {
        "final": lambda whole, local, weight: -(whole + weight * local)
    },
}

RANKS_MISTAKES = {
    "every match outside the shortlist has an infinite rank: it keeps its global rank": _missed_infinite,
    "queries whose match is not in the shortlist are left out: a rank for every query, theirs is the global one": (
        _missed_dropped
    ),
    "the shortlist is ignored, all candidates are ordered anew: outside it the global order stays": (
        lambda global_scores, local_scores, truth, shortlist, local_weight: (
            _own(_places(global_scores + local_weight * local_scores), truth) + 1
        )
    ),
    "one argsort is taken for places: it gives the order; the argsort of that gives each candidate's place": _by(
        _one_argsort
    ),
    "the shortlist holds the candidates with the lowest global scores: sort descending": _by(
        lambda scores: scores.argsort(1).argsort(1)
    ),
    "the queries are sorted, not the candidates: a row is a query, sort along dim=1": _by(
        lambda scores: scores.argsort(0, descending=True).argsort(0)
    ),
    "the new places within the shortlist are taken for candidates: look up there which candidates they are": (
        _places_for_rows
    ),
    "the smaller of two ranks is taken: which one counts is decided by the shortlist": (
        lambda global_scores, local_scores, truth, shortlist, local_weight: torch.minimum(
            *_two_ranks(global_scores, local_scores, truth, local_weight)
        )
    ),
    "the rank among all candidates is cut off at shortlist: count only those in the shortlist": _cut_rank,
    "candidates outside the shortlist got a score of 0 here: there the global rank counts": _others_at_zero,
    "one argsort is taken for ranks: it gives the order; the argsort of that gives each candidate's place": (
        _order_for_ranks
    ),
    "inside the shortlist one argsort is taken for ranks: it gives the order; the argsort of that gives the places": (
        _one_argsort_inside
    ),
    "these are ranks from the bottom: sort descending, the highest score has rank 1": _from_the_bottom,
    "candidates of the shortlist are sorted among the others, where a low local score moves them behind: the "
    "shortlist stays in front": _ranks_together,
    "the match of query i is taken to be candidate i: truth says which it is": _ranks_of_the_diagonal,
    "these are the candidates that come first: the rank of each query's match is asked for": _winners,
}


def rehearsal() -> Inputs:
    """A tenth of the lesson's captions, and all of its pictures."""
    scores = normal(2, 500, 1000, seed=0).float()
    levels = {"global_scores": scores[0], "local_scores": scores[1]}
    return levels | {"truth": torch.arange(500), "shortlist": 50, "local_weight": 1.0}


EXERCISE = Exercise(
    "honest-rank",
    library=library_ranks,
    example=EXAMPLE,
    cases=ranks_cases,
    specification=ranks_specification,
    mistakes=RANKS_MISTAKES,
    family=(ranks_with, TOGGLES),
    exact=True,
    rehearsal=Rehearsal(rehearsal, calls=300),
)
