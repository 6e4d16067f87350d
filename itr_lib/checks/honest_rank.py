"""``honest-rank``, lesson 05.

The rank of a match after re-ranking a shortlist that may not hold it, beside sorted lists.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from itr_lib.checks import _ranks
from itr_lib.checks._inputs import generator, normal, sizes
from itr_lib.checks._ranks import own_of, places_of, ranks_specification
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
    for seed, (*shape, weight, trap) in enumerate(SHAPES, start=12):
        queries, candidates, shortlist = sizes(*shape)
        scores = normal(2, queries, candidates, seed=seed)
        truth = torch.randint(candidates, (queries,), generator=generator(5000 + seed))
        scores[0, torch.arange(queries), truth] += 0.6
        inputs = {"global_scores": scores[0], "local_scores": scores[1], "truth": truth}
        yield Case(inputs | {"shortlist": shortlist, "local_weight": weight}, trap)


def ranks_with(
    global_scores, local_scores, truth, shortlist, local_weight,
    final=weighted, missed=lambda ranks, shortlist, candidates: ranks, size=lambda shortlist: shortlist,
    among_all=False, itself=1, start=0,
) -> Tensor:  # fmt: skip
    """The ranks, with options to spoil them; ``missed``: (global ranks, shortlist, candidates) -> ranks outside."""
    places, scores = places_of(global_scores), final(global_scores, local_scores, local_weight)
    ahead = scores > own_of(scores, truth)[:, None]
    ahead = ahead if among_all else ahead & (places < size(shortlist))
    outside = missed(own_of(places, truth) + 1, shortlist, places.shape[1])
    return torch.where(own_of(places, truth) < size(shortlist), ahead.sum(1) + itself, outside) + start


def _all_at(value: Callable[[int, int], float]) -> dict[str, Callable]:
    """One and the same rank for all matches outside the shortlist."""
    return {"missed": lambda ranks, shortlist, candidates: torch.full_like(ranks, value(shortlist, candidates))}


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
    "every match outside the shortlist has an infinite rank: it keeps its global rank": _ranks.missed_infinite,
    "queries whose match is not in the shortlist are left out: a rank for every query, theirs is the global one": (
        _ranks.missed_dropped
    ),
    "the shortlist is ignored, all candidates are ordered anew: outside it the global order stays": (
        lambda global_scores, local_scores, truth, shortlist, local_weight: (
            own_of(places_of(global_scores + local_weight * local_scores), truth) + 1
        )
    ),
    "one argsort is taken for places: it gives the order; the argsort of that gives each candidate's place": _ranks.by(
        _ranks.one_argsort
    ),
    "the shortlist holds the candidates with the lowest global scores: sort descending": _ranks.by(
        lambda scores: scores.argsort(1).argsort(1)
    ),
    "the queries are sorted, not the candidates: a row is a query, sort along dim=1": _ranks.by(
        lambda scores: scores.argsort(0, descending=True).argsort(0)
    ),
    "the new places within the shortlist are taken for candidates: look up there which candidates they are": (
        _ranks.places_for_rows
    ),
    "the new places within the shortlist are taken for candidates, and a match that is not among them comes behind the "
    "shortlist: look up there which candidates they are": _ranks.places_in_front,
    "outside the shortlist candidates are ordered anew, too: a match there keeps its global rank": _ranks.others_anew,
    "the final score decides who is in the shortlist: the global score alone does": _ranks.shortlist_by_final,
    "the smaller of two ranks is taken: which one counts is decided by the shortlist": (
        lambda global_scores, local_scores, truth, shortlist, local_weight: torch.minimum(
            *_ranks.two_ranks(global_scores, local_scores, truth, local_weight)
        )
    ),
    "the rank among all candidates is cut off at shortlist: count only those in the shortlist": _ranks.cut_rank,
    "candidates outside the shortlist got a score of 0 here: there the global rank counts": _ranks.others_at_zero,
    "one argsort is taken for ranks: it gives the order; the argsort of that gives each candidate's place": (
        _ranks.order_for_ranks
    ),
    "inside the shortlist one argsort is taken for ranks: it gives the order; the argsort of that gives the places": (
        _ranks.one_argsort_inside
    ),
    "these are ranks from the bottom: sort descending, the highest score has rank 1": _ranks.from_the_bottom,
    "candidates of the shortlist are sorted among the others, where a low local score moves them behind: the "
    "shortlist stays in front": _ranks.ranks_together,
    "the match of query i is taken to be candidate i: truth says which it is": _ranks.ranks_of_the_diagonal,
    "these are the candidates that come first: the rank of each query's match is asked for": _ranks.winners,
}


def rehearsal() -> Inputs:
    """A tenth of the lesson's captions, and all of its pictures."""
    scores = normal(2, 500, 1000, seed=0).float()
    levels = {"global_scores": scores[0], "local_scores": scores[1]}
    return levels | {"truth": torch.arange(500), "shortlist": 50, "local_weight": 1.0}


def _of_the_first_query(global_scores, local_scores, truth, shortlist, local_weight) -> str:
    """Its order in both stages, and where the match stands."""
    order = global_scores[0].argsort(descending=True)
    final, first = global_scores[0] + local_weight * local_scores[0], order[:shortlist]
    anew = first[final[first].argsort(descending=True)].tolist()
    return (
        f"query 0 has the shortlist {first.tolist()[:6]}, in its new order {anew[:6]}, and behind it "
        f"{order[shortlist:].tolist()[:6]}; its match is {int(truth[0])}"
    )


EXERCISE = Exercise(
    "honest-rank",
    library=library_ranks,
    example=EXAMPLE,
    cases=ranks_cases,
    specification=ranks_specification,
    steps=_of_the_first_query,
    mistakes=RANKS_MISTAKES,
    family=(ranks_with, TOGGLES),
    exact=True,
    rehearsal=Rehearsal(rehearsal, calls=300),
)
