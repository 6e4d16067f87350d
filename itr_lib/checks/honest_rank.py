"""``honest-rank``, lesson 05.

The rank of a match after re-ranking a shortlist that may not hold it, beside sorted lists.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from itr_lib.checks._exact import whole_numbers
from itr_lib.checks._inputs import generator, normal
from itr_lib.checks.frame import Exercise
from itr_lib.checks.outcome import Inputs
from itr_lib.checks.two_stage_search import weighted


def ranks_cases() -> Iterator[Inputs]:
    """Matches inside and outside shortlists of one, of some, of more than all; one query, one candidate."""
    for seed, (queries, candidates, shortlist, weight) in enumerate(
        [(7, 9, 4, 0.5), (9, 7, 3, 2.0), (5, 6, 1, 1.0), (4, 5, 8, 0.5), (1, 6, 2, 1.0), (3, 1, 2, 1.0)],
        start=12,
    ):
        scores = normal(2, queries, candidates, seed=seed)
        truth = torch.randint(candidates, (queries,), generator=generator(5000 + seed))
        scores[0, torch.arange(queries), truth] += 0.6
        yield {
            "global_scores": scores[0],
            "local_scores": scores[1],
            "truth": truth,
            "shortlist": shortlist,
            "local_weight": weight,
        }


def ranks_specification(
    global_scores: Tensor, local_scores: Tensor, truth: Tensor, shortlist: int, local_weight: float
) -> Tensor:
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


def _ranks(final=weighted, missed=None, among_all=False, start=1) -> Callable:
    """Variants of the ranks; ``missed``: (global ranks, shortlist, candidates) -> ranks of matches outside."""

    def ranks(global_scores, local_scores, truth, shortlist, local_weight):
        places, scores = _places(global_scores), final(global_scores, local_scores, local_weight)
        ahead = scores > _own(scores, truth)[:, None]
        ahead = ahead if among_all else ahead & (places < shortlist)
        outside = _own(places, truth) + 1
        if missed is not None:
            outside = missed(outside, shortlist, places.shape[1])
        return torch.where(_own(places, truth) < shortlist, ahead.sum(1) + 1, outside) + start - 1

    return ranks


def _missed(value: Callable[[int, int], float]) -> Callable:
    """One and the same rank for all matches outside the shortlist."""
    return _ranks(missed=lambda ranks, shortlist, candidates: torch.full_like(ranks, value(shortlist, candidates)))


def _missed_infinite(**inputs):
    right, outside = ranks_specification(**inputs), _own(_places(inputs["global_scores"]), inputs["truth"])
    return right.double().masked_fill(outside.cpu() >= inputs["shortlist"], torch.inf)


def _missed_dropped(**inputs):
    return ranks_specification(**inputs)[
        (_own(_places(inputs["global_scores"]), inputs["truth"]) < inputs["shortlist"])
    ]


def _from_the_bottom(global_scores, local_scores, truth, shortlist, local_weight):
    return ranks_specification(-global_scores, -local_scores, truth, shortlist, local_weight)


def _ranks_together(global_scores, local_scores, truth, shortlist, local_weight):
    added = (local_weight * local_scores).masked_fill(_places(global_scores) >= shortlist, 0)
    return _own(_places(global_scores + added), truth) + 1


def _ranks_of_the_diagonal(global_scores, local_scores, truth, shortlist, local_weight):
    own = torch.arange(len(truth)) % global_scores.shape[1]
    return ranks_specification(global_scores, local_scores, own, shortlist, local_weight)


def _winners(global_scores, local_scores, truth, shortlist, local_weight):
    final = global_scores + local_weight * local_scores
    return final.masked_fill(_places(global_scores) >= shortlist, -torch.inf).argmax(1)


RANKS_MISTAKES = {
    "a query whose match is not in the shortlist counts as found at once: its rank stayed 0, which is in the first K "
    "for every K; it keeps its global rank": _missed(lambda shortlist, candidates: 0),
    "a query whose match is not in the shortlist counts as found at once: it has rank 1, as if it came first; it "
    "keeps its global rank": _missed(lambda shortlist, candidates: 1),
    "a query whose match is not in the shortlist has rank -1, which is in the first K for every K: it keeps its "
    "global rank": _missed(lambda shortlist, candidates: -1),
    "every match outside the shortlist has rank shortlist + 1: that is the least it can be, it keeps its global "
    "rank": _missed(lambda shortlist, candidates: shortlist + 1),
    "every match outside the shortlist has rank shortlist, as if it had come last inside: it keeps its global rank": (
        _missed(lambda shortlist, candidates: shortlist)
    ),
    "every match outside the shortlist has the last rank: that is more than it deserves, it keeps its global rank": (
        _missed(lambda shortlist, candidates: candidates)
    ),
    "every match outside the shortlist has a rank behind all candidates: it keeps its global rank": _missed(
        lambda shortlist, candidates: candidates + 1
    ),
    "every match outside the shortlist has an infinite rank: it keeps its global rank": _missed_infinite,
    "the shortlist's places count twice where the match is outside: its global rank holds them already": _ranks(
        missed=lambda ranks, shortlist, candidates: ranks + shortlist
    ),
    "queries whose match is not in the shortlist are left out: a rank for every query, theirs is the global one": (
        _missed_dropped
    ),
    "ranks count from 0: the first place has rank 1": _ranks(start=0),
    "the shortlist is ignored, all candidates are ordered anew: outside it the global order stays": (
        lambda global_scores, local_scores, truth, shortlist, local_weight: (
            _own(_places(global_scores + local_weight * local_scores), truth) + 1
        )
    ),
    "the match is compared with the new scores of all candidates: only with those in the shortlist": _ranks(
        among_all=True
    ),
    "these are the global ranks: the shortlist is not ordered anew": (
        lambda global_scores, local_scores, truth, shortlist, local_weight: _own(_places(global_scores), truth) + 1
    ),
    "the shortlist is ordered by the local score alone: global + local_weight * local": _ranks(
        final=lambda whole, local, weight: local
    ),
    "local_weight is missing: global + local_weight * local": _ranks(final=lambda whole, local, weight: whole + local),
    "local_weight stands at the global score: global + local_weight * local": _ranks(
        final=lambda whole, local, weight: weight * whole + local
    ),
    "these are ranks from the bottom: sort descending, the highest score has rank 1": _from_the_bottom,
    "the shortlist is worst first: a match is behind those with a higher score": _ranks(
        final=lambda whole, local, weight: -(whole + weight * local)
    ),
    "candidates of the shortlist are sorted among the others, where a low local score moves them behind: the "
    "shortlist stays in front": _ranks_together,
    "the match of query i is taken to be candidate i: truth says which it is": _ranks_of_the_diagonal,
    "these are the candidates that come first: the rank of each query's match is asked for": _winners,
}

EXERCISE = Exercise(
    "honest-rank",
    ranks_cases,
    mistakes=RANKS_MISTAKES,
    properties=whole_numbers(ranks_specification, RANKS_MISTAKES),
)
