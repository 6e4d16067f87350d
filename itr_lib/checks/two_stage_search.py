"""``two-stage-search``, lesson 05.

A shortlist by whole vectors, ordered anew by aligned regions, beside loops over items and words.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from itr_lib.checks._inputs import Copied, mask_first_real, normal, sizes
from itr_lib.checks._mistakes import unit
from itr_lib.checks.frame import Case, Exercise, Rehearsal
from itr_lib.checks.outcome import Inputs
from itr_lib.similarity import alignment_scores

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


def library_search(query_whole, query_words, wholes, regions, mask, shortlist: int, local_weight: float) -> Tensor:
    """The library's alignment, for the shortlist's rows."""
    scores = wholes @ query_whole
    order = scores.argsort(descending=True, stable=True)
    rows, others = order[:shortlist], order[shortlist:]
    local = alignment_scores(regions[rows], query_words[None], mask[rows])[:, 0]
    return torch.cat([rows[(scores[rows] + local_weight * local).argsort(descending=True, stable=True)], others])


EXAMPLE = Case(
    {
        "query_whole": torch.tensor([1.0, 0.0], dtype=torch.float64),
        "query_words": torch.tensor([[1.0, 0.0]], dtype=torch.float64),
        "wholes": torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]], dtype=torch.float64),
        "regions": torch.tensor([[[0.0, 1.0]], [[1.0, 0.0]], [[1.0, 0.0]]], dtype=torch.float64),
        "mask": torch.ones(3, 1, dtype=torch.bool),
        "shortlist": 2,
        "local_weight": 2.0,
    },
    worked=[1, 0, 2],
)
SHAPES = [
    (10, 4, 3, 6, 0.5, ""),
    (7, 3, 2, 4, 2.0, ""),
    (6, 3, 3, 10, 0.5, "the shortlist is longer than the gallery"),
    (5, 2, 1, 1, 1.0, "the shortlist holds one item"),
    (1, 3, 2, 5, 1.0, "the gallery holds one picture"),
    (12, 3, 2, 9, 3.0, ""),
    (14, 3, 2, 14, 0.25, "the shortlist is as long as the gallery"),
    (9, 4, 3, 4, 0.7, "what lies outside the shortlist must not be aligned"),
]


def search_cases() -> Iterator[Case]:
    """Shortlists of one, of some, of more than all; padding that fits better; the best whole with no region that fits.

    In the last case the regions outside the shortlist are NaN.
    """
    for seed, (*shape, weight, trap) in enumerate(SHAPES):
        items, regions, words, shortlist = sizes(*shape)
        inputs = _search_case(items, regions, words, seed=1000 + 10 * seed)
        if trap.startswith("what lies outside"):
            best_first = sorted(range(items), key=lambda n: -float(inputs["wholes"][n] @ inputs["query_whole"]))
            inputs["regions"][best_first[shortlist:]] = torch.nan
        gallery = {"regions": inputs["regions"].as_subclass(_Gallery)}
        yield Case(inputs | gallery | {"shortlist": shortlist, "local_weight": weight}, trap)


def _search_case(items: int, regions: int, words: int, seed: int) -> Inputs:
    query, wholes = unit(normal(6, seed=seed)), unit(normal(items, 6, seed=seed + 1))
    said = unit(normal(5, seed=seed + 2) + 0.5 * normal(words, 5, seed=seed + 3))
    seen, mask = unit(normal(items, regions, 5, seed=seed + 4)), mask_first_real(items, regions, seed=seed + 5)
    best = int((wholes @ query).argmax())
    seen[best] = unit(0.5 * seen[best] - 2 * said.mean(0))
    mask[best, -1] = False
    seen = torch.where(mask[..., None], seen, 2 * seen)
    return {"query_whole": query, "query_words": said, "wholes": wholes, "regions": seen, "mask": mask}


def search_specification(query_whole, query_words, wholes, regions, mask, shortlist, local_weight) -> Tensor:
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


def _mrsw(words, regions, mask, fill=-torch.inf, real=lambda mask: mask, pool=lambda best: best.sum(1)) -> Tensor:
    """Of each word the best region of each item, summed; or spoiled in one step or two."""
    aligned = torch.einsum("we,nre->nwr", words, regions).masked_fill(~real(mask)[:, None], fill)
    return pool(aligned.amax(-1))


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


def _rows_of(regions: Tensor, mask: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    return regions[rows], mask[rows]


def search_with(
    query_whole, query_words, wholes, regions, mask, shortlist, local_weight,
    order=_down, size=lambda shortlist: shortlist, take=_rows_of, local=_mrsw, fill=-torch.inf,
    real=lambda mask: mask, pool=lambda best: best.sum(1),
    of_rows=lambda scores, rows: scores[rows], final=weighted, turn=lambda final: final,
    arrange=_then_others,
) -> Tensor:  # fmt: skip
    """The search, with options to spoil it."""
    scores = wholes @ query_whole
    rows = order(scores)
    first, others = rows[: size(shortlist)], rows[size(shortlist) :]
    options = {"fill": fill, "real": real, "pool": pool} if local is _mrsw else {}
    aligned = local(query_words, *take(regions, mask, first), **options)
    return arrange(first, turn(final(of_rows(scores, first), aligned, local_weight)), others)


def _align_all(query_whole, query_words, wholes, regions, mask, shortlist, local_weight) -> tuple[Tensor, Tensor]:
    scores = wholes @ query_whole
    return scores, scores + local_weight * _mrsw(query_words, regions, mask)


def _all_anew(**inputs):
    return _down(_align_all(**inputs)[1])


def _all_anew_with_padding(**inputs):
    return _all_anew(**inputs | {"mask": torch.ones_like(inputs["mask"])})


def _look_back(**inputs):
    scores, final = _align_all(**inputs)
    rows, shortlist = _down(scores), inputs["shortlist"]
    return _then_others(rows[:shortlist], final[rows[:shortlist]], rows[shortlist:])


def _sorted_together(query_whole, query_words, wholes, regions, mask, shortlist, local_weight):
    scores = wholes @ query_whole
    first = _down(scores)[:shortlist]
    aligned = _mrsw(query_words, regions[first], mask[first])
    return _down(scores.index_add(0, first, (local_weight * aligned).as_subclass(Tensor)))


TOGGLES = {
    "this is the global order: the shortlist is not ordered anew": {"final": lambda whole, local, weight: whole},
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
    "padded regions take part in the max: fill what mask says is padding with -torch.inf first": {
        "real": torch.ones_like
    },
    "padding became a dot product of 0, and wins where no region fits: fill it with -torch.inf": {"fill": 0.0},
    "the mask is turned round: it is True at real regions, and padding (~mask) is what is filled": {
        "real": torch.logical_not
    },
    "the best word of each region is summed (MwSr): for each word its best region, summed over the words": {
        "local": _mwsr
    },
    "this is the mean over the regions: each word takes its best region, max": {"local": _mean_region},
    "this is the mean over all regions, padding too: each word takes its best real region, max": {
        "local": lambda words, regions, mask: _mean_region(words, regions, torch.ones_like(mask))
    },
    "this is the sum over the regions: each word takes its best region, max": {
        "local": lambda words, regions, mask: (
            torch.einsum("we,nre->nwr", words, regions).masked_fill(~mask[:, None], 0).sum((1, 2))
        )
    },
    "this is the mean over the words: local is their sum (MrSw)": {"pool": lambda best: best.mean(1)},
    "only the best word counts: the sum over the words": {"pool": lambda best: best.amax(1)},
    "the mask is that of the first pictures, mask[:K]: take that of the shortlist's rows, mask[rows]": {
        "take": lambda regions, mask, rows: (regions[rows], mask[: len(rows)])
    },
    "regions and mask are those of the first pictures, [:K]: take those of the shortlist's rows, [rows]": {
        "take": lambda regions, mask, rows: (regions[: len(rows)], mask[: len(rows)])
    },
    "the global scores are those of the first pictures, [:K]: take those of the shortlist's rows, [rows]": {
        "of_rows": lambda scores, rows: scores[: len(rows)]
    },
    "the shortlist is one too short: order[:shortlist] holds shortlist rows": {"size": lambda k: max(0, k - 1)},
    "the shortlist is one too long: order[:shortlist] holds shortlist rows": {"size": lambda k: k + 1},
    "only the shortlist is returned: the other items follow in their global order": {
        "arrange": lambda first, final, others: first[_down(final)]
    },
    "the others follow by their place in the gallery: keep their global order": {
        "arrange": lambda first, final, others: _then_others(first, final, others.sort().values)
    },
    "the others follow worst first: keep their global order, best first": {
        "arrange": lambda first, final, others: _then_others(first, final, others.flip(0))
    },
    "the others come before the shortlist: they follow it": {
        "arrange": lambda first, final, others: torch.cat([others, first[_down(final)]])
    },
    "the shortlist is worst first: sort descending": {"turn": torch.neg},
    "the shortlist holds the items with the lowest global scores: sort descending": {"order": torch.argsort},
    "these are places that each picture has, not the pictures in their order: one argsort gives the order": {
        "order": lambda scores: _down(scores).argsort()
    },
    "everything is worst first: sort descending": {
        "arrange": lambda first, final, others: _then_others(first, final, others).flip(0)
    },
    "these are places within the shortlist: look up there which rows of the gallery they are, rows[order]": {
        "arrange": lambda first, final, others: torch.cat([_down(final), others])
    },
    "the order of the places is taken once too often (argsort of an argsort): rows[final.argsort(descending=True)]": {
        "arrange": lambda first, final, others: torch.cat([first[_down(final).argsort()], others])
    },
    "these are the places that each item gets: the items are asked for, best first": {
        "arrange": lambda first, final, others: _then_others(first, final, others).argsort()
    },
}

SEARCH_MISTAKES = {
    "items of the shortlist are sorted among the others, where a low local score moves them behind what was never "
    "aligned: the shortlist stays in front": _sorted_together,
    "all items are aligned and ordered anew: only the shortlist is, and the others keep their global order": _all_anew,
    "two things: all items are aligned and ordered anew, where only the shortlist is; and padded regions take part in "
    "the max": _all_anew_with_padding,
    ALIGNED_ALL: _look_back,
}


def rehearsal() -> Inputs:
    """A thousand pictures as the lesson has them."""
    inputs = _search_case(1000, 36, 12, seed=0)
    floats = {name: value.float() if value.is_floating_point() else value for name, value in inputs.items()}
    return floats | {"shortlist": 50, "local_weight": 1.0}


def _both_stages(**inputs) -> str:
    """The order after each."""
    order = _down(inputs["wholes"] @ inputs["query_whole"]).tolist()[: inputs["shortlist"]]
    return (
        f"the shortlist is {order[:8]}, and after its second stage {search_with(**inputs).tolist()[: len(order)][:8]}"
    )


EXERCISE = Exercise(
    "two-stage-search",
    library=library_search,
    example=EXAMPLE,
    cases=search_cases,
    specification=search_specification,
    steps=_both_stages,
    mistakes=SEARCH_MISTAKES,
    family=(search_with, TOGGLES),
    exact=True,
    index=True,
    rehearsal=Rehearsal(rehearsal, calls=450),
)
