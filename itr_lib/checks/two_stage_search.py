"""``two-stage-search``, lesson 05.

A shortlist by whole vectors, ordered anew by aligned regions, beside loops over items and words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from itr_lib.checks._exact import whole_numbers
from itr_lib.checks._inputs import Copied, mask_first_real, normal
from itr_lib.checks._mistakes import unit
from itr_lib.checks.frame import Exercise
from itr_lib.checks.outcome import Inputs

ALIGNED_ALL = (
    "you aligned items that are not in the shortlist (their regions are NaN here, so it shows): take the shortlist's "
    "rows first, regions[rows] and mask[rows], since the point is to align only K of them"
)
PRODUCTS = {"matmul", "__matmul__", "__rmatmul__", "einsum", "mul", "__mul__", "__rmul__", "multiply", "bmm", "mm"}
PRODUCTS |= {"mv", "dot", "inner", "tensordot", "linear", "cosine_similarity"}


class _Gallery(Copied):
    """Regions that are not to be multiplied where they are NaN; whoever does has aligned more than the shortlist."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        result = super().__torch_function__(func, types, args, kwargs or {})
        if func.__name__ in PRODUCTS and bool(result.as_subclass(Tensor).isnan().any()):
            raise AssertionError(ALIGNED_ALL)
        return result


def search_cases() -> Iterator[Inputs]:
    """Shortlists of one, of some, of more than all; padding that fits better; the best whole with no region that fits.

    In the last case the regions outside the shortlist are NaN.
    """
    shapes = [(10, 4, 3, 6, 0.5), (7, 3, 2, 4, 2.0), (6, 3, 3, 10, 0.5), (5, 2, 1, 1, 1.0), (1, 3, 2, 5, 1.0)]
    for seed, (items, regions, words, shortlist, weight) in enumerate([*shapes, (9, 4, 3, 4, 0.7)]):
        inputs = _search_case(items, regions, words, seed=1000 + 10 * seed)
        if seed == 5:
            best_first = sorted(range(items), key=lambda n: -float(inputs["wholes"][n] @ inputs["query_whole"]))
            inputs["regions"][best_first[shortlist:]] = torch.nan
        yield inputs | {
            "regions": inputs["regions"].as_subclass(_Gallery),
            "shortlist": shortlist,
            "local_weight": weight,
        }


def _search_case(items: int, regions: int, words: int, seed: int) -> Inputs:
    query, wholes = unit(normal(6, seed=seed)), unit(normal(items, 6, seed=seed + 1))
    said = unit(normal(5, seed=seed + 2) + 0.5 * normal(words, 5, seed=seed + 3))
    seen, mask = unit(normal(items, regions, 5, seed=seed + 4)), mask_first_real(items, regions, seed=seed + 5)
    best = int((wholes @ query).argmax())
    seen[best] = unit(0.5 * seen[best] - 2 * said.mean(0))
    mask[best, -1] = False
    seen = torch.where(mask[..., None], seen, 2 * seen)
    return {"query_whole": query, "query_words": said, "wholes": wholes, "regions": seen, "mask": mask}


def search_specification(
    query_whole: Tensor,
    query_words: Tensor,
    wholes: Tensor,
    regions: Tensor,
    mask: Tensor,
    shortlist: int,
    local_weight: float,
) -> Tensor:
    """Item by item the dot product; word by word the best region, for the first items only."""
    whole_scores = [sum((whole * query_whole).tolist()) for whole in wholes]
    order = sorted(range(len(wholes)), key=whole_scores.__getitem__, reverse=True)
    final = {}
    for n in order[:shortlist]:
        real = [region for region, is_real in zip(regions[n].tolist(), mask[n].tolist(), strict=True) if is_real]
        local = 0.0
        for word in query_words.tolist():
            local += max(sum(x * y for x, y in zip(word, region, strict=True)) for region in real)
        final[n] = whole_scores[n] + local_weight * local
    return torch.tensor(sorted(final, key=final.get, reverse=True) + order[shortlist:])


def _best_regions(words: Tensor, regions: Tensor, mask: Tensor, fill: float = -torch.inf) -> Tensor:
    """(items, words): of each word the best region of each item."""
    return torch.einsum("we,nre->nwr", words, regions).masked_fill(~mask[:, None], fill).amax(-1)


def _mrsw(words: Tensor, regions: Tensor, mask: Tensor) -> Tensor:
    return _best_regions(words, regions, mask).sum(1)


def _mwsr(words: Tensor, regions: Tensor, mask: Tensor) -> Tensor:
    return torch.einsum("we,nre->nwr", words, regions).amax(1).masked_fill(~mask, 0).sum(1)


def _mean_region(words: Tensor, regions: Tensor, mask: Tensor) -> Tensor:
    sums = torch.einsum("we,nre->nwr", words, regions).masked_fill(~mask[:, None], 0).sum(2)
    return (sums / mask.sum(1, keepdim=True)).sum(1)


def _down(scores: Tensor) -> Tensor:
    return scores.argsort(descending=True)


def weighted(whole: Tensor, local: Tensor, weight: float) -> Tensor:
    """The final score of what was aligned."""
    return whole + weight * local


def _then_others(first: Tensor, final: Tensor, others: Tensor) -> Tensor:
    return torch.cat([first[_down(final)], others])


def _search(local=_mrsw, final=weighted, arrange=_then_others, order=_down) -> Callable:
    """Variants of the search."""

    def search(query_whole, query_words, wholes, regions, mask, shortlist, local_weight):
        scores = wholes @ query_whole
        rows = order(scores)
        first, others = rows[:shortlist], rows[shortlist:]
        aligned = local(query_words, regions[first], mask[first])
        return arrange(first, final(scores[first], aligned, local_weight), others)

    return search


def _search_everything(arrange: Callable) -> Callable:
    """Variants that align all items."""

    def search(query_whole, query_words, wholes, regions, mask, shortlist, local_weight):
        scores = wholes @ query_whole
        return arrange(scores, scores + local_weight * _mrsw(query_words, regions, mask), shortlist)

    return search


def _look_back(scores: Tensor, final: Tensor, shortlist: int) -> Tensor:
    rows = _down(scores)
    return _then_others(rows[:shortlist], final[rows[:shortlist]], rows[shortlist:])


def _sorted_together(query_whole, query_words, wholes, regions, mask, shortlist, local_weight):
    scores = wholes @ query_whole
    first = _down(scores)[:shortlist]
    aligned = _mrsw(query_words, regions[first], mask[first])
    return _down(scores.index_add(0, first, (local_weight * aligned).as_subclass(Tensor)))


SEARCH_MISTAKES = {
    "this is the global order: the shortlist is not ordered anew": _search(final=lambda whole, local, weight: whole),
    "the shortlist is ordered by the local score alone: global + local_weight * local": _search(
        final=lambda whole, local, weight: local
    ),
    "local_weight is missing: global + local_weight * local": _search(final=lambda whole, local, weight: whole + local),
    "local_weight stands at the global score: global + local_weight * local": _search(
        final=lambda whole, local, weight: weight * whole + local
    ),
    "padded regions take part in the max: fill what mask says is padding with -torch.inf first": _search(
        local=lambda words, regions, mask: _mrsw(words, regions, torch.ones_like(mask))
    ),
    "padding became a dot product of 0, and wins where no region fits: fill it with -torch.inf": _search(
        local=lambda words, regions, mask: _best_regions(words, regions, mask, 0.0).sum(1)
    ),
    "the best word of each region is summed (MwSr): for each word its best region, summed over the words": _search(
        local=_mwsr
    ),
    "a word scores the mean of the regions: its best one, max": _search(local=_mean_region),
    "this is the mean over the words: their sum is asked for, MrSw": _search(
        local=lambda words, regions, mask: _best_regions(words, regions, mask).mean(1)
    ),
    "only the best word counts: the sum over the words": _search(
        local=lambda words, regions, mask: _best_regions(words, regions, mask).amax(1)
    ),
    "only the shortlist is returned: the other items follow in their global order": _search(
        arrange=lambda first, final, others: first[_down(final)]
    ),
    "the others follow by their place in the gallery: keep their global order": _search(
        arrange=lambda first, final, others: _then_others(first, final, others.sort().values)
    ),
    "the others follow worst first: keep their global order, best first": _search(
        arrange=lambda first, final, others: _then_others(first, final, others.flip(0))
    ),
    "the others come before the shortlist: they follow it": _search(
        arrange=lambda first, final, others: torch.cat([others, first[_down(final)]])
    ),
    "the shortlist is worst first: sort descending": _search(
        arrange=lambda first, final, others: _then_others(first, -final, others)
    ),
    "the shortlist holds the items with the lowest global scores: sort descending": _search(order=torch.argsort),
    "everything is worst first: sort descending": _search(
        arrange=lambda first, final, others: _then_others(first, final, others).flip(0)
    ),
    "these are places within the shortlist: look up there which rows of the gallery they are, rows[order]": _search(
        arrange=lambda first, final, others: torch.cat([_down(final), others])
    ),
    "these are the places that each item gets: the items are asked for, best first": _search(
        arrange=lambda first, final, others: _then_others(first, final, others).argsort()
    ),
    "items of the shortlist are sorted among the others, where a low local score moves them behind what was never "
    "aligned: the shortlist stays in front": _sorted_together,
    "all items are aligned and ordered anew: only the shortlist is, and the others keep their global order": (
        _search_everything(lambda scores, final, shortlist: _down(final))
    ),
    ALIGNED_ALL: _search_everything(_look_back),
}

EXERCISE = Exercise(
    "two-stage-search",
    search_cases,
    mistakes=SEARCH_MISTAKES,
    properties=whole_numbers(search_specification, SEARCH_MISTAKES),
)
