"""Ranks of a search in two stages, misses included; how long its shortlist must be; and what none beats in both."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Int, Real
from torch import Tensor

from itr_lib.evaluation.inputs import ROWS_AT_ONCE, Owners, Scores, as_gallery, as_matrix
from itr_lib.evaluation.recall import RetrievalMetrics, metrics_of_ranks
from itr_lib.similarity.precision import wide
from itr_lib.validation import expect_count, expect_finite


def two_stage_metrics(
    global_scores: Scores,
    local_scores: Scores,
    image_of_caption: Owners,
    shortlist: int,
    *,
    local_weight: float = 1.0,
) -> RetrievalMetrics:
    """Metrics of a search in two stages: a shortlist by the global score, then a closer look at that (TGDT, TIP 2023).

    Each query's first ``shortlist`` candidates by global score are ordered anew by ``global + local_weight * local``;
    the others follow in their global order. A true match that is not in the shortlist was missed: it keeps its global
    rank, which is at least ``shortlist + 1``. Of an image's captions the one that ends up first counts.

    Ties go against the model in both stages. Where several candidates are level at the shortlist's edge, the free
    places go to false ones, those first that will score highest, then to true ones, those first that will score
    lowest. So a rank is the worst that any order of equal candidates gives.

    Args:
        global_scores: (N, M), row = image, column = caption; array or tensor.
        local_scores: (N, M), likewise. What is not in a shortlist is not looked at, but must be a number.
        image_of_caption: (M,) ints, the row of each caption's image; every image has at least one caption.
        shortlist: how many candidates the second stage sees, 1 or more; with all of them, the metrics are those of
            ``global_scores + local_weight * local_scores``.
        local_weight: what the local score is multiplied by, in the second stage.

    Raises:
        ValueError: for a NaN in a matrix or in the weighted sum, shapes that do not fit, an image without captions, a
            shortlist that is no whole number of 1 or more, or a weight that is not finite.
    """
    first, owner = as_gallery(global_scores, image_of_caption, "global_scores")
    second = as_matrix("local_scores", local_scores).to(first.device)
    if second.shape != first.shape:
        raise ValueError(
            f"local_scores has shape {tuple(second.shape)}, expected {tuple(first.shape)} as global_scores"
        )
    expect_count("shortlist", shortlist)
    expect_finite("local_weight", local_weight)
    i2t = two_stage_ranks(first, second, _captions_of_images(owner, len(first)), shortlist, local_weight)
    return metrics_of_ranks(i2t, two_stage_ranks(first.T, second.T, owner[:, None], shortlist, local_weight))


def shortest_shortlist(
    lengths: Sequence[int],
    recall: Sequence[float],
    milliseconds: Sequence[float],
    candidates: int,
    budget: float,
    tolerated: float,
) -> int:
    """The shortest shortlist that finds nearly what may be found, from measurements on validation data.

    Args:
        lengths: of shortlists, in any order.
        recall: at each length, in percent.
        milliseconds: of a query, at each length.
        candidates: how many there are; a longer shortlist does not exist.
        budget: what a query may take, in milliseconds.
        tolerated: how many points of recall may be lost against the best that the budget allows.

    Returns:
        One of ``lengths``, or 0 where none of them is allowed: no second stage.
    """
    measured = zip(lengths, recall, milliseconds, strict=True)
    allowed = {length: found for length, found, cost in measured if length <= candidates and cost <= budget}
    enough = max(allowed.values(), default=0.0) - tolerated
    return min((length for length, found in allowed.items() if found >= enough), default=0)


def best_weight(
    weights: Sequence[float],
    global_scores: Real[Tensor, "queries candidates"],
    local_scores: Real[Tensor, "queries candidates"],
    truth: Int[Tensor, " queries"],
) -> float:
    """The weight of the local score with the highest R@1 on validation data; of equally good ones the smallest.

    A query is found where its match, column ``truth``, scores higher than every other candidate by
    ``global + weight * local``; a tie is decided against the model.
    """
    found = {}
    for weight in sorted(weights):
        scores = wide(global_scores) + weight * wide(local_scores)
        own = scores.gather(1, truth[:, None])
        found[weight] = int(((scores >= own).sum(dim=1) == 1).sum())
    return max(found, key=lambda weight: found[weight])


def _captions_of_images(owner: Int[Tensor, " captions"], images: int) -> Int[Tensor, "images most"]:
    """The columns of each image's captions, -1 where it has fewer than another."""
    counts = torch.bincount(owner, minlength=images)
    place = torch.arange(int(counts.max()), device=owner.device)
    columns = owner.argsort(stable=True)[((counts.cumsum(0) - counts)[:, None] + place).clamp(max=len(owner) - 1)]
    return columns.masked_fill(place >= counts[:, None], -1)


def pareto_front(cost: Real[Tensor, " n"], recall: Real[Tensor, " n"]) -> Bool[Tensor, " n"]:
    """The Pareto front: True for each method that no other beats, no worse in both and better in one of them."""
    as_cheap, cheaper = cost[:, None] <= cost, cost[:, None] < cost
    finds_as_much, finds_more = recall[:, None] >= recall, recall[:, None] > recall
    beats = as_cheap & finds_as_much & (cheaper | finds_more)
    return ~beats.any(dim=0)


def two_stage_ranks(
    first: Real[Tensor, "queries candidates"],
    second: Real[Tensor, "queries candidates"],
    own: Int[Tensor, "queries most"],
    shortlist: int,
    weight: float,
) -> Int[np.ndarray, " queries"]:
    """Rank of each query's best true match, in blocks; ``own``: the columns of its true matches, -1 = none."""
    places = min(shortlist, first.shape[1])
    ranks = []
    for start in range(0, len(first), ROWS_AT_ONCE):
        block = slice(start, start + ROWS_AT_ONCE)
        # In 16 bits most sums would be ties, and large ones infinite; whole numbers are added in the widest float.
        rows, local = (wide(s[block]) if s.is_floating_point() else s[block].double() for s in (first, second))
        final = rows + weight * local
        if final.isnan().any():
            raise ValueError("global_scores + local_weight * local_scores is NaN: infinite numbers cancel out")
        ranks.append(_rank_in_stages(rows, final, own[block], places))
    return torch.cat(ranks).cpu().numpy()


def _rank_in_stages(
    first: Real[Tensor, "queries candidates"],
    final: Real[Tensor, "queries candidates"],
    own: Int[Tensor, "queries most"],
    places: int,
) -> Int[Tensor, " queries"]:
    """Counts instead of sorting: false candidates are all of them less the query's own, which are few."""
    real, own = own >= 0, own.clamp(min=0)
    own_first = first.gather(1, own).masked_fill(~real, -torch.inf)
    own_final = final.gather(1, own).masked_fill(~real, -torch.inf)
    edge = first.topk(places, dim=1, sorted=False).values.amin(dim=1, keepdim=True)  # the score of the last place
    above, level = first > edge, first == edge
    own_above, own_level = real & (own_first > edge), real & (own_first == edge)
    free = places - _count(above)  # places for those level with the edge: at least one
    admitted = (free - _count(level) + _count(own_level)).clamp(min=0)  # true ones among these
    worst_first = own_final.masked_fill(~own_level, torch.inf).sort(dim=1).values
    admits = torch.arange(own.shape[1], device=own.device) < torch.minimum(admitted, _count(own_level))
    inside = torch.cat([own_final.masked_fill(~own_above, -torch.inf), worst_first.masked_fill(~admits, -torch.inf)], 1)
    best = inside.amax(dim=1, keepdim=True)
    wins, own_wins = final >= best, own_final >= best
    ahead = _count(wins & above) - _count(own_wins & own_above)
    ahead_level = _count(wins & level) - _count(own_wins & own_level)
    found = own_above.any(dim=1, keepdim=True) | admits.any(dim=1, keepdim=True)
    best_first = own_first.amax(dim=1, keepdim=True)
    missed = _count(first >= best_first) - _count(real & (own_first >= best_first))
    return 1 + torch.where(found, ahead + torch.minimum(free, ahead_level), missed).squeeze(1)


def _count(some: Bool[Tensor, "queries candidates"]) -> Int[Tensor, "queries 1"]:
    return some.sum(dim=1, keepdim=True)
