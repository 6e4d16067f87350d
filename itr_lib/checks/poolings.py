"""``poolings``, lesson 02.

MrSw, MrAVGw, MwSr and Symm, beside the loops of mrsw with its sides exchanged; gradients too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from itr_lib.checks.frame import Exercise
from itr_lib.checks.mrsw import (
    along_regions,
    along_words,
    everything,
    infinite_sum,
    max_sum,
    mrsw_specification,
    padded_cases,
    sum_first,
    sum_max,
)
from itr_lib.checks.outcome import Inputs


def pool_cases() -> Iterator[Inputs]:
    """The padded cases in all four ways; in each of them images and captions keep something real."""
    for case in padded_cases():
        for how in ("MrSw", "MrAVGw", "MwSr", "Symm"):
            yield case | {"how": how}


def pool_specification(alignments: Tensor, region_mask: Tensor, word_mask: Tensor, how: str) -> Tensor:
    """MrSw as it is; MwSr is the same with both sides exchanged."""
    by_word = mrsw_specification(alignments, region_mask, word_mask)
    if how == "MrSw":
        return by_word
    if how == "MrAVGw":
        return torch.stack([by_word[:, m] / sum(real) for m, real in enumerate(word_mask.tolist())], dim=1)
    by_region = mrsw_specification(alignments.permute(1, 0, 3, 2), word_mask, region_mask).T
    return by_region if how == "MwSr" else by_word + by_region


def _pool_with(by_word: Callable, by_region: Callable) -> Callable:
    """The four poolings from other makers of MrSw and MwSr."""

    def pool(alignments, region_mask, word_mask, how):
        first, second = (make(alignments, region_mask, word_mask) for make in (by_word, by_region))
        return {"MrSw": first, "MrAVGw": first / word_mask.sum(dim=1), "MwSr": second, "Symm": first + second}[how]

    return pool


def _pool_masked(fill=-torch.inf, before=None, after=None) -> Callable:
    """Both sums with one change on both sides: other masks before the maximum or after it."""

    def by_word(alignments, region_mask, word_mask):
        some = before(region_mask) if before else along_regions(region_mask)
        return max_sum(alignments, some, after(word_mask) if after else word_mask[None], fill)

    def by_region(alignments, region_mask, word_mask):
        some = before(word_mask) if before else along_words(word_mask)
        return sum_max(alignments, after(region_mask) if after else region_mask[:, None], some, fill)

    return _pool_with(by_word, by_region)


def _pool_infinite(alignments, region_mask, word_mask):
    return infinite_sum(alignments.permute(1, 0, 3, 2), word_mask, region_mask).T


def _only(name: str, wrong: Callable[[Callable, Tensor, Tensor], Tensor]) -> Callable:
    """Wrong in one way of pooling: there made of the right ones, by name, and both masks."""

    def pool(alignments, region_mask, word_mask, how):
        def right(how):
            return pool_specification(alignments, region_mask, word_mask, how)

        return wrong(right, region_mask, word_mask) if how == name else right(how)

    return pool


def _pool_exchanged(alignments, region_mask, word_mask, how):
    names = {"MrSw": "MwSr", "MwSr": "MrSw"}
    return pool_specification(alignments, region_mask, word_mask, names.get(how, how))


def _pool_sum_first(alignments, region_mask, word_mask):
    return sum_first(alignments.permute(1, 0, 3, 2), word_mask, region_mask).T


POOL_MISTAKES = {
    "padding became 0 before the maximum, and wins where every real cosine is negative: fill with -inf": _pool_masked(
        fill=0.0
    ),
    "no mask is used: padding wins the maximum and is added up": _pool_masked(before=everything, after=everything),
    "padding takes part in the maximum: fill it with -inf first": _pool_masked(before=everything),
    "what padded words or regions found is added up: set it to 0 before the sum": _pool_masked(after=everything),
    "-inf is left where padding stands, and is added up: after the maximum fill it with 0": _pool_with(
        infinite_sum, _pool_infinite
    ),
    "MwSr gives the same as MrSw: it takes the maximum over words and adds over regions": _only(
        "MwSr", lambda right, *_: right("MrSw")
    ),
    "MrSw and MwSr are exchanged: MrSw takes the maximum over regions and adds over words": _pool_exchanged,
    "you added first and took the maximum then: the name is read from the left, first the maximum": _pool_with(
        sum_first, _pool_sum_first
    ),
    "MrSw is divided by the number of words: that is MrAVGw": _only("MrSw", lambda right, *_: right("MrAVGw")),
    "MrAVGw is not divided: it is MrSw over the number of real words": _only("MrAVGw", lambda right, *_: right("MrSw")),
    "MrAVGw is divided by the padded width: count the real words, word_mask.sum(dim=1)": _only(
        "MrAVGw", lambda right, region_mask, word_mask: right("MrSw") / word_mask.shape[1]
    ),
    "MrAVGw is divided by the number of regions: w stands for words": _only(
        "MrAVGw", lambda right, region_mask, word_mask: right("MrSw") / region_mask.sum(dim=1)[:, None]
    ),
    "MrAVGw is divided by the words of all captions together: each caption has its own number": _only(
        "MrAVGw", lambda right, region_mask, word_mask: right("MrSw") / word_mask.sum()
    ),
    "in MrAVGw the numbers of words stand along the images: they belong to the columns, so no [:, None]": _only(
        "MrAVGw", lambda right, region_mask, word_mask: right("MrSw") / word_mask.sum(dim=1)[:, None]
    ),
    "MwSr is divided by the number of regions: it is a sum": _only(
        "MwSr", lambda right, region_mask, word_mask: right("MwSr") / region_mask.sum(dim=1)[:, None]
    ),
    "MwSr is divided by the number of words: it is a sum over regions": _only(
        "MwSr", lambda right, region_mask, word_mask: right("MwSr") / word_mask.sum(dim=1)
    ),
    "MwSr comes as (captions, images): (N, M) is asked for": _only("MwSr", lambda right, *_: right("MwSr").T),
    "Symm is the mean of MrSw and MwSr: add the two": _only("Symm", lambda right, *_: right("Symm") / 2),
    "Symm is MrSw alone: add MwSr": _only("Symm", lambda right, *_: right("MrSw")),
    "Symm is MwSr alone: add MrSw": _only("Symm", lambda right, *_: right("MwSr")),
    "Symm adds MrAVGw and MwSr: both parts are sums": _only("Symm", lambda right, *_: right("MrAVGw") + right("MwSr")),
    "Symm is the larger of MrSw and MwSr: add the two": _only(
        "Symm", lambda right, *_: torch.maximum(right("MrSw"), right("MwSr"))
    ),
    "Symm is the product of MrSw and MwSr: add the two": _only("Symm", lambda right, *_: right("MrSw") * right("MwSr")),
}

EXERCISE = Exercise("poolings", pool_cases, pool_specification, POOL_MISTAKES, gradients=("alignments",))
