"""What comes of honest-rank's search when a step is done otherwise: whole ways to go wrong, beside its plain loops."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from itr_lib.checks.two_stage_search import weighted


def ranks_specification(global_scores, local_scores, truth, shortlist: int, local_weight: float) -> Tensor:
    """Query by query: the order of all candidates in both stages, and where the match stands in it."""
    ranks = []
    for whole, local, own in zip(global_scores.tolist(), local_scores.tolist(), truth.tolist(), strict=True):
        final = [x + local_weight * y for x, y in zip(whole, local, strict=True)]
        order = sorted(range(len(whole)), key=whole.__getitem__, reverse=True)
        first = sorted(order[:shortlist], key=final.__getitem__, reverse=True)
        ranks.append((first + order[shortlist:]).index(own) + 1)
    return torch.tensor(ranks)


def places_of(scores: Tensor) -> Tensor:
    """(queries, candidates): the place of each, 0 for the best."""
    return scores.argsort(descending=True).argsort(1)


def own_of(values: Tensor, truth: Tensor) -> Tensor:
    return values.gather(1, truth[:, None])[:, 0]


def missed_infinite(**inputs):
    outside = own_of(places_of(inputs["global_scores"]), inputs["truth"]) >= inputs["shortlist"]
    return ranks_specification(**inputs).double().masked_fill(outside.cpu(), torch.inf)


def missed_dropped(**inputs):
    outside = own_of(places_of(inputs["global_scores"]), inputs["truth"]) >= inputs["shortlist"]
    return ranks_specification(**inputs)[~outside.cpu()]


def from_the_bottom(global_scores, local_scores, truth, shortlist, local_weight):
    return ranks_specification(-global_scores, -local_scores, truth, shortlist, local_weight)


def ranks_together(global_scores, local_scores, truth, shortlist, local_weight):
    added = (local_weight * local_scores).masked_fill(places_of(global_scores) >= shortlist, 0)
    return own_of(places_of(global_scores + added), truth) + 1


def ranks_of_the_diagonal(global_scores, local_scores, truth, shortlist, local_weight):
    own = torch.arange(len(truth)) % global_scores.shape[1]
    return ranks_specification(global_scores, local_scores, own, shortlist, local_weight)


def winners(global_scores, local_scores, truth, shortlist, local_weight):
    final = weighted(global_scores, local_scores, local_weight)
    return final.masked_fill(places_of(global_scores) >= shortlist, -torch.inf).argmax(1)


def one_argsort(scores: Tensor) -> Tensor:
    return scores.argsort(1, descending=True)


def order_for_ranks(global_scores, local_scores, truth, shortlist, local_weight):
    final = weighted(global_scores, local_scores, local_weight)
    lifted = torch.where(places_of(global_scores) < shortlist, 1e3 + final, global_scores)
    return own_of(one_argsort(lifted), truth) + 1


def places_for_rows(global_scores, local_scores, truth, shortlist, local_weight):
    """The new order of the shortlist as places in it, not looked up."""
    order = global_scores.argsort(1, descending=True)
    first = order[:, :shortlist]
    places = weighted(global_scores, local_scores, local_weight).gather(1, first).argsort(1, descending=True)
    here = torch.cat([places, order[:, shortlist:]], 1) == truth[:, None]
    return torch.where(here.any(1), here.double().argmax(1) + 1, 0)


def two_ranks(global_scores, local_scores, truth, weight):
    return (
        own_of(places_of(scores), truth) + 1
        for scores in (global_scores, weighted(global_scores, local_scores, weight))
    )


def cut_rank(global_scores, local_scores, truth, shortlist, local_weight):
    first, again = two_ranks(global_scores, local_scores, truth, local_weight)
    return torch.where(first <= shortlist, again.clamp(max=shortlist), first)


def others_at_zero(global_scores, local_scores, truth, shortlist, local_weight):
    final = weighted(global_scores, local_scores, local_weight).masked_fill(places_of(global_scores) >= shortlist, 0)
    return (final > own_of(final, truth)[:, None]).sum(1) + 1


def by(place: Callable[[Tensor], Tensor]) -> Callable:
    """Places of another kind, in place of the global ones."""

    def ranks(global_scores, local_scores, truth, shortlist, local_weight):
        places, final = place(global_scores), weighted(global_scores, local_scores, local_weight)
        ahead = ((final > own_of(final, truth)[:, None]) & (places < shortlist)).sum(1) + 1
        return torch.where(own_of(places, truth) < shortlist, ahead, own_of(places, truth) + 1)

    return ranks


def one_argsort_inside(global_scores, local_scores, truth, shortlist, local_weight):
    order = global_scores.argsort(1, descending=True)[:, :shortlist]
    final = weighted(global_scores, local_scores, local_weight).gather(1, order)
    here = order == truth[:, None]
    inside = (final.argsort(1, descending=True) * here).sum(1) + 1
    return torch.where(here.any(1), inside, own_of(places_of(global_scores), truth) + 1)


def others_anew(global_scores, local_scores, truth, shortlist, local_weight):
    """Outside the shortlist the rest is ordered by the final score, too."""
    final, inside = weighted(global_scores, local_scores, local_weight), places_of(global_scores) < shortlist
    ahead = final > own_of(final, truth)[:, None]
    here, rest = (inside & ahead).sum(1) + 1, shortlist + (~inside & ahead).sum(1) + 1
    return torch.where(own_of(inside, truth), here, rest)


def shortlist_by_final(global_scores, local_scores, truth, shortlist, local_weight):
    first, again = two_ranks(global_scores, local_scores, truth, local_weight)
    return torch.where(again <= shortlist, again, first)


def places_in_front(global_scores, local_scores, truth, shortlist, local_weight):
    """Places within the shortlist stand for candidates; a match that then stands nowhere comes behind the shortlist."""
    ranks = places_for_rows(global_scores, local_scores, truth, shortlist, local_weight)
    return torch.where(ranks == 0, shortlist + 1, ranks)
