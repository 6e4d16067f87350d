"""``mrsw``, lesson 02.

The best real region of each real word, added over words, beside loops; gradients too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from itr_lib.checks._inputs import generator, mask_any_real, uniform
from itr_lib.checks.frame import Exercise
from itr_lib.checks.outcome import Inputs


def padded_cases() -> Iterator[Inputs]:
    """Cosines with garbage where padding is; for some words every real one is negative."""
    shapes = [(3, 3, 4, 4), (2, 4, 5, 3), (4, 2, 3, 6), (1, 1, 1, 1), (1, 3, 6, 2)]
    for seed, (n, m, r, w) in enumerate(shapes):
        g = generator(20 + seed)
        regions, words = mask_any_real(n, r, g), mask_any_real(m, w, g)
        if seed == 0:  # square, so that axes may be confused; with and without padding
            regions = torch.tensor([[1, 1, 0, 1], [0, 1, 1, 0], [1, 1, 1, 1]]).bool()
            words = torch.tensor([[1, 0, 1, 1], [1, 1, 1, 1], [0, 1, 0, 0]]).bool()
        yield _padded(regions, words, g)


def _padded(region_mask: Tensor, word_mask: Tensor, g: torch.Generator) -> Inputs:
    (n, r), (m, w) = region_mask.shape, word_mask.shape
    cosines = uniform(n, m, r, w, g=g)
    misfit = torch.rand(n, m, 1, w, generator=g) < 0.4
    cosines = torch.where(misfit, -cosines.abs(), cosines)
    garbage = torch.tensor([5.0, -3.0, 4.0], dtype=torch.float64)[torch.randint(3, (n, m, r, w), generator=g)]
    real = region_mask[:, None, :, None] & word_mask[None, :, None, :]
    return {
        "alignments": torch.where(real, cosines, garbage),
        "region_mask": region_mask,
        "word_mask": word_mask,
    }


def mrsw_cases() -> Iterator[Inputs]:
    """The padded cases; a wrong picture, all of whose cosines are negative; a caption without a word."""
    yield from padded_cases()
    g = generator(30)
    negative = _padded(mask_any_real(2, 5, g), mask_any_real(3, 4, g), g)
    yield negative | {"alignments": -negative["alignments"].abs()}
    words = mask_any_real(3, 4, g)
    words[1] = False
    yield _padded(mask_any_real(2, 5, g), words, g)


def mrsw_specification(alignments: Tensor, region_mask: Tensor, word_mask: Tensor) -> Tensor:
    """Pair by pair, word by word: the best of the real regions, added up over the real words."""
    scores = []
    for n in range(len(region_mask)):
        for m in range(len(word_mask)):
            total = alignments.new_zeros(())
            for w in range(word_mask.shape[1]):
                if word_mask[m, w]:
                    regions = [alignments[n, m, r, w] for r in range(region_mask.shape[1]) if region_mask[n, r]]
                    total = total + max(regions, key=Tensor.item)
            scores.append(total)
    return torch.stack(scores).reshape(len(region_mask), len(word_mask))


def along_regions(region_mask: Tensor) -> Tensor:
    """(N, R) beside (N, M, R, W)."""
    return region_mask[:, None, :, None]


def along_words(word_mask: Tensor) -> Tensor:
    """(M, W) beside (N, M, R, W)."""
    return word_mask[None, :, None, :]


def max_sum(alignments, regions, words, fill=-torch.inf, reduce=torch.sum):
    """MrSw with masks that fit (N, M, R, W) and (N, M, W)."""
    best = alignments.masked_fill(~regions, fill).amax(dim=2)
    return reduce(best.masked_fill(~words, 0), dim=-1)


def sum_max(alignments, regions, words, fill=-torch.inf):
    """MwSr with masks that fit (N, M, R, W) and (N, M, R)."""
    return max_sum(alignments.mT, words.mT if words.ndim == 4 else words, regions, fill)


def _all_sum(alignments, region_mask, word_mask):
    real = along_regions(region_mask) & along_words(word_mask)
    return alignments.masked_fill(~real, 0).sum(dim=(2, 3))


def sum_first(alignments, region_mask, word_mask):
    """The largest of the sums over words."""
    sums = alignments.masked_fill(~along_words(word_mask), 0).sum(dim=3)
    return sums.masked_fill(~region_mask[:, None], -torch.inf).amax(dim=2)


def _first(mask: Tensor) -> Tensor:
    """As many places as are real, but the first ones."""
    return torch.arange(mask.shape[1], device=mask.device) < mask.sum(dim=1, keepdim=True)


def infinite_sum(alignments, region_mask, word_mask, weight=None):
    """MrSw with -inf left at padded words, or with a product that was to remove it."""
    real = along_regions(region_mask) & along_words(word_mask)
    best = alignments.masked_fill(~real, -torch.inf).amax(dim=2)
    return (best if weight is None else best * weight).sum(dim=-1)


def _mrsw_with(words_of=None, regions_of=None, **how) -> Callable:
    """MrSw with other masks: functions of (region_mask, word_mask)."""

    def scores(alignments, region_mask, word_mask):
        regions = regions_of(region_mask, word_mask) if regions_of else along_regions(region_mask)
        words = words_of(region_mask, word_mask) if words_of else word_mask[None]
        return max_sum(alignments, regions, words, **how)

    return scores


def everything(*masks: Tensor) -> Tensor:
    """A mask that leaves out nothing."""
    return torch.ones((), dtype=torch.bool, device=masks[0].device)


MRSW_MISTAKES = {
    "padded regions became 0 before the maximum, and win where every real cosine is negative (as in TERAN's released "
    "code): fill with -inf": _mrsw_with(fill=0.0),
    "negative cosines became 0: a word that fits nowhere lowers the score": lambda alignments, region_mask, word_mask: (
        _mrsw_with(fill=0.0)(alignments.relu(), region_mask, word_mask)
    ),
    "no mask is used: padded regions win the maximum, padded words are added": _mrsw_with(everything, everything),
    "padded regions take part in the maximum: fill them with -inf first": _mrsw_with(regions_of=everything),
    "padded words are added up: set their maximum to 0 before the sum": _mrsw_with(everything),
    "padded words are left at -inf and are added up: before the sum fill them with 0": infinite_sum,
    "-inf times 0 is NaN: set padded words to 0 with masked_fill or torch.where, not by a product": (
        lambda alignments, region_mask, word_mask: infinite_sum(alignments, region_mask, word_mask, word_mask[None])
    ),
    "this is the mean over the real words (MrAVGw): add them up": lambda alignments, region_mask, word_mask: (
        mrsw_specification(alignments, region_mask, word_mask) / word_mask.sum(dim=1)
    ),
    "this is the mean over words and padding: add the words up": _mrsw_with(reduce=torch.mean),
    "this is MwSr, the best word of each region, added over regions: take the maximum over regions (axis 2)": (
        lambda alignments, region_mask, word_mask: sum_max(alignments, region_mask[:, None], along_words(word_mask))
    ),
    "this is MwSr with padding left in: take the maximum over regions (axis 2), add over words, use both masks": (
        lambda alignments, region_mask, word_mask: alignments.amax(dim=3).sum(dim=2)
    ),
    "you added first and took the maximum then: each word takes its own best region, and then words are added": (
        sum_first
    ),
    "you took the maximum over words, too: add the words up": lambda alignments, region_mask, word_mask: (
        alignments.masked_fill(~(along_regions(region_mask) & along_words(word_mask)), -torch.inf).amax(dim=(2, 3))
    ),
    "this is the sum of all cosines: each word takes its best region only": _all_sum,
    "this is the mean over regions, added over words: each word takes its best region": (
        lambda alignments, region_mask, word_mask: (
            _all_sum(alignments, region_mask, word_mask) / region_mask.sum(dim=1)[:, None]
        )
    ),
    "each word takes its worst region here (min): the best is asked for": lambda alignments, region_mask, word_mask: (
        -mrsw_specification(-alignments, region_mask, word_mask)
    ),
    "region_mask stands on the axis of the words: [:, None, :, None] fits (N, M, R, W)": _mrsw_with(
        regions_of=lambda region_mask, word_mask: region_mask[:, None, None, :]
    ),
    "region_mask stands on the axis of the captions: [:, None, :, None] fits (N, M, R, W)": _mrsw_with(
        regions_of=lambda region_mask, word_mask: region_mask[None, :, :, None]
    ),
    "word_mask stands on the axis of the images: after the maximum [None] fits (N, M, W)": _mrsw_with(
        lambda region_mask, word_mask: word_mask[:, None]
    ),
    "region_mask is turned round: masked_fill fills where it is True, so give it ~region_mask": _mrsw_with(
        regions_of=lambda region_mask, word_mask: ~along_regions(region_mask)
    ),
    "word_mask is turned round: masked_fill fills where it is True, so give it ~word_mask": _mrsw_with(
        lambda region_mask, word_mask: ~word_mask[None]
    ),
    "you take padding to stand at the end: here it stands anywhere, so use the masks, not the lengths": _mrsw_with(
        lambda region_mask, word_mask: _first(word_mask)[None],
        lambda region_mask, word_mask: along_regions(_first(region_mask)),
    ),
    "a caption without a real word gives NaN (0 / 0): its score is 0": lambda alignments, region_mask, word_mask: (
        mrsw_specification(alignments, region_mask, word_mask) * word_mask.sum(dim=1) / word_mask.sum(dim=1)
    ),
    "images and captions are exchanged: (N, M) is asked for": lambda alignments, region_mask, word_mask: (
        mrsw_specification(alignments, region_mask, word_mask).T
    ),
}

EXERCISE = Exercise("mrsw", mrsw_cases, mrsw_specification, MRSW_MISTAKES, gradients=("alignments",))
