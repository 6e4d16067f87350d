"""``pointing``, lesson 02.

The percentage of questions whose best region is a right one, beside a count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from itr_lib.checks._inputs import generator, mask_any_real, uniform
from itr_lib.checks.frame import Exercise
from itr_lib.checks.outcome import Inputs


def pointing_cases() -> Iterator[Inputs]:
    """So many questions that each mistake has its own number of hits; few; one; a picture whose regions are all right.

    Alignments are multiples of 1/64, exact in float32, and many are level.
    """
    for seed, (count, width) in enumerate([(997, 7), (7, 9), (9, 4), (1, 1)]):
        g = generator(seed)
        mask = mask_any_real(count, width, g)
        right = torch.rand(count, width, generator=g) < 0.3  # in padded places, too
        right[torch.arange(count), torch.where(mask, torch.rand(count, width, generator=g), -1).argmax(dim=1)] = True
        steps = torch.tensor([4, 64])[torch.randint(2, (count, 1), generator=g)]
        cosines = (steps * uniform(count, width, g=g)).round() / steps
        cosines -= (cosines.abs() + cosines) * (torch.rand(count, 1, generator=g) < 0.3)  # all of a row negative
        garbage = torch.where(torch.rand(count, width, generator=g) < 0.3, 5.0, -3.0)
        yield {"alignments": torch.where(mask, cosines, garbage), "region_mask": mask, "right": right}


def pointing_specification(alignments: Tensor, region_mask: Tensor, right: Tensor) -> float:
    """Question by question: does a right region stand above every wrong one?"""
    hits = 0
    for row, real, good in zip(alignments.tolist(), region_mask.tolist(), right.tolist(), strict=True):
        above = max(value for value, r, g in zip(row, real, good, strict=True) if r and g)
        wrong = [value for value, r, g in zip(row, real, good, strict=True) if r and not g]
        hits += all(above > value for value in wrong)
    return 100.0 * hits / len(alignments)


def _extremes(alignments, region_mask, right, fill=-torch.inf):
    """The best right and the best wrong real region of each question."""
    best = alignments.masked_fill(~(right & region_mask), fill).amax(dim=1)
    return best, alignments.masked_fill(~(~right & region_mask), fill).amax(dim=1)


def _percent(hits: Tensor) -> float:
    return 100 * float(hits.double().mean())


def _at(right: Tensor, place: Tensor) -> Tensor:
    return right.gather(1, place[:, None])[:, 0]


def _argmax_hits(alignments, region_mask, right, fill=-torch.inf):
    return _percent(_at(right, alignments.masked_fill(~region_mask, fill).argmax(dim=1)))


def _over_questions(alignments, region_mask, right):
    place = alignments.masked_fill(~region_mask, -torch.inf).argmax(dim=0)
    return _percent(right.gather(0, place[None])[0])


def _among_best(count: int) -> Callable:
    def hits(alignments, region_mask, right):
        filled = alignments.masked_fill(~region_mask, -torch.inf)
        places = filled.topk(min(count, filled.shape[1]), dim=1).indices
        return _percent((right & region_mask).gather(1, places).any(dim=1))

    return hits


def _means(alignments, region_mask, right, of_right=True):
    """The mean of the right regions against the mean, or the best, of the wrong ones."""
    best = _extremes(alignments, region_mask, right)[1]
    good, bad = right & region_mask, ~right & region_mask
    mean = [alignments.masked_fill(~some, 0).sum(dim=1) / some.sum(dim=1) for some in (good, bad)]
    return _percent(mean[0] > (best if of_right else mean[1].nan_to_num(nan=-torch.inf)))


def _above_mean(alignments, region_mask, right):
    mean = alignments.masked_fill(~region_mask, 0).sum(dim=1, keepdim=True) / region_mask.sum(dim=1, keepdim=True)
    return _percent(((alignments > mean) & right & region_mask).any(dim=1))


def _right_that_win(alignments, region_mask, right):
    best = _extremes(alignments, region_mask, right)[1]
    good = right & region_mask
    return 100 * float(((alignments > best[:, None]) & good).sum() / good.sum())


def _single_best(alignments, region_mask, right):
    filled = alignments.masked_fill(~region_mask, -torch.inf)
    single = (filled == filled.amax(dim=1, keepdim=True)).sum(dim=1) == 1
    return _percent(_at(right, filled.argmax(dim=1)) & single)


def _every_right(alignments, region_mask, right):
    worst = alignments.masked_fill(~(right & region_mask), torch.inf).amin(dim=1)
    return _percent(worst > _extremes(alignments, region_mask, right)[1])


def _compared(compare: Callable, mask: Callable | None = None, fill: float = -torch.inf) -> Callable:
    """Another comparison of the best right and the best wrong region, or with another mask."""

    def hits(alignments, region_mask, right):
        mine = mask(region_mask) if mask else region_mask
        return _percent(compare(*_extremes(alignments, mine, right, fill)))

    return hits


POINTING_MISTAKES = {
    "this is a fraction: give percent, multiply by 100": lambda alignments, region_mask, right: (
        pointing_specification(alignments, region_mask, right) / 100
    ),
    "this counts the hits: divide by the number of questions, times 100": lambda alignments, region_mask, right: (
        pointing_specification(alignments, region_mask, right) * len(alignments) / 100
    ),
    "these are the misses: count the hits": lambda alignments, region_mask, right: (
        100 - pointing_specification(alignments, region_mask, right)
    ),
    "argmax takes the first of regions that are level, so their order decides: a level wrong region makes a miss": (
        _argmax_hits
    ),
    "a wrong region that is level with the best right one makes a miss: use >, not >=": _compared(torch.ge),
    "padding can win: leave out what region_mask calls padding": _compared(torch.gt, torch.ones_like),
    "padding can win, since region_mask is missing before argmax (which also lets the order decide on levels)": (
        lambda alignments, region_mask, right: _percent(_at(right, alignments.argmax(dim=1)))
    ),
    "padding became 0 and wins where all cosines are negative: fill it with -inf (and argmax takes the first of "
    "level regions)": lambda alignments, region_mask, right: _argmax_hits(alignments, region_mask, right, 0.0),
    "what is left out became 0 and wins where cosines are negative: fill it with -inf": _compared(torch.gt, fill=0.0),
    "region_mask is turned round: True is a real region": _compared(torch.gt, torch.logical_not),
    "this is chance, the share of right regions among the real ones: look at the alignments": (
        lambda alignments, region_mask, right: (
            100 * float(((right & region_mask).sum(dim=1) / region_mask.sum(dim=1)).double().mean())
        )
    ),
    "this is the share of right regions that beat all wrong ones: a question has one answer, its best region": (
        _right_that_win
    ),
    "you took the region with the lowest alignment: the best is the highest": lambda alignments, region_mask, right: (
        pointing_specification(-alignments, region_mask, right)
    ),
    "you took the region with the lowest alignment, by argmin: the best is the highest": (
        lambda alignments, region_mask, right: _argmax_hits(-alignments, region_mask, right)
    ),
    "the maximum goes over the questions (axis 0): each question, a row, has its own best region": _over_questions,
    "a right region among the best two is no hit yet: only the best counts": _among_best(2),
    "a right region among the best three is no hit yet: only the best counts": _among_best(3),
    "a right region among the best five is no hit yet: only the best counts": _among_best(5),
    "a right region above the mean is no hit yet: only the best counts": _above_mean,
    "you compared means of right and wrong regions: compare the best of each": (
        lambda alignments, region_mask, right: _means(alignments, region_mask, right, of_right=False)
    ),
    "you took the mean of the right regions: one good one is enough, take the best": _means,
    "you asked every right region to beat the wrong ones: one is enough": _every_right,
    "two right regions that are level are no miss: only a wrong one makes it": _single_best,
    "a padded place that right calls True is no region: combine right with region_mask": (
        lambda alignments, region_mask, right: _percent(
            alignments.masked_fill(~right, -torch.inf).amax(dim=1) > _extremes(alignments, region_mask, right)[1]
        )
    ),
}

EXERCISE = Exercise("pointing", pointing_cases, pointing_specification, POINTING_MISTAKES)
