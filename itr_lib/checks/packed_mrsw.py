"""``packed-mrsw``, lesson 02.

MrSw of captions that lie end to end without padding, beside a walk along them; gradients too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from itr_lib.checks._inputs import generator
from itr_lib.checks._mistakes import unit
from itr_lib.checks.frame import Exercise
from itr_lib.checks.outcome import Inputs


def packed_cases() -> Iterator[Inputs]:
    """As many images as regions, so that axes may be confused; captions of one word, one caption, one region."""
    shapes = [(3, 3, 4, [3, 1, 2]), (2, 5, 3, [2, 4, 1, 1]), (4, 1, 6, [1, 1, 1]), (1, 4, 2, [5]), (2, 3, 5, [4, 4])]
    for seed, (n, r, dim, lengths) in enumerate(shapes):
        g = generator(40 + seed)
        regions = torch.randn(n, r, dim, generator=g, dtype=torch.float64)
        words = torch.randn(sum(lengths), dim, generator=g, dtype=torch.float64)
        yield {"regions": regions, "words": words, "lengths": lengths}


def packed_specification(regions: Tensor, words: Tensor, lengths: list[int]) -> Tensor:
    """Image by image, caption by caption, counting through the words."""
    rows = []
    for image in regions:
        row, t = [], 0
        for length in lengths:
            total = words.new_zeros(())
            for word in words[t : t + length]:
                total = total + max(((region * word).sum() for region in image), key=Tensor.item)
            row.append(total)
            t += length
        rows.append(torch.stack(row))
    return torch.stack(rows)


def _best_regions(regions: Tensor, words: Tensor) -> Tensor:
    return torch.einsum("nrd,td->nrt", regions, words).amax(dim=1)


def _packed(cut: Callable, reduce: Callable = torch.sum) -> Callable:
    """Other ways to cut the T columns into captions: lengths -> slices."""

    def scores(regions, words, lengths):
        best = _best_regions(regions, words)
        return torch.stack([reduce(best[:, place], dim=1) for place in cut(lengths)], dim=1)

    return scores


def _slices(lengths, first=0, last=0):
    ends = torch.tensor(lengths).cumsum(0).tolist()
    return [slice(max(end - length + first, 0), end + last) for end, length in zip(ends, lengths, strict=True)]


def _equal_slices(lengths):
    size = -(-sum(lengths) // len(lengths))
    return [slice(i * size, (i + 1) * size) for i in range(len(lengths))]


def _packed_sides(regions, words, lengths, pool):
    """Each caption's matrix (N, R, its words) pooled for itself."""
    return torch.stack([pool(regions @ some.T) for some in words.split(lengths)], dim=1)


def _packed_mixed(regions, words, lengths):
    n, r, dim = regions.shape
    best = (regions.reshape(-1, dim) @ words.T).reshape(r, n, -1).amax(dim=0)
    return torch.stack([some.sum(dim=1) for some in best.split(lengths, dim=1)], dim=1)


PACKED_MISTAKES = {
    "this is the mean over words (MrAVGw): add them up": _packed(_slices, torch.mean),
    "this is the best word only: add the words up": _packed(_slices, torch.amax),
    "each caption holds the words of all captions before it, too: cut at the cumulative sum on both sides": _packed(
        lambda lengths: [slice(0, place.stop) for place in _slices(lengths)]
    ),
    "each caption goes on to the very last word: cut at the cumulative sum on both sides": _packed(
        lambda lengths: [slice(place.start, None) for place in _slices(lengths)]
    ),
    "every caption begins at word 0: begin where the one before it ends": _packed(
        lambda lengths: [slice(0, length) for length in lengths]
    ),
    "you cut at the lengths themselves: caption m begins at the sum of all lengths before it": _packed(
        lambda lengths: [slice(sum(lengths[m - 1 : m]), sum(lengths[m - 1 : m]) + n) for m, n in enumerate(lengths)]
    ),
    "the words are cut into equal parts: caption m has lengths[m] of them": _packed(_equal_slices),
    "the words are dealt out in turn, word t to caption t % M: caption m's words stand together": _packed(
        lambda lengths: [slice(m, None, len(lengths)) for m in range(len(lengths))]
    ),
    "the last word of each caption is missing: a slice already leaves out its end": _packed(
        lambda lengths: _slices(lengths, last=-1)
    ),
    "the first word of each caption is missing: start at the sum of the lengths before it": _packed(
        lambda lengths: _slices(lengths, first=1)
    ),
    "each caption takes the first word of the next one, too: a slice ends before its stop": _packed(
        lambda lengths: _slices(lengths, last=1)
    ),
    "each caption begins one word too early": _packed(lambda lengths: _slices(lengths, first=-1)),
    "every caption begins and ends one word too late": _packed(lambda lengths: _slices(lengths, first=1, last=1)),
    "a word is skipped between two captions: the next one begins where the one before it ends": _packed(
        lambda lengths: [slice(place.start + m, place.stop + m) for m, place in enumerate(_slices(lengths))]
    ),
    "these are cosines: use the dot products as they are": lambda regions, words, lengths: packed_specification(
        unit(regions), unit(words), lengths
    ),
    "the words are normalised: use the dot products as they are": lambda regions, words, lengths: packed_specification(
        regions, unit(words), lengths
    ),
    "the regions are normalised: use the dot products as they are": lambda regions, words, lengths: (
        packed_specification(unit(regions), words, lengths)
    ),
    "this is MwSr, the best word of each region, added over regions: take the maximum over regions": (
        lambda regions, words, lengths: _packed_sides(regions, words, lengths, lambda a: a.amax(dim=2).sum(dim=1))
    ),
    "you added the words first and took the maximum then: each word takes its own best region": (
        lambda regions, words, lengths: _packed_sides(regions, words, lengths, lambda a: a.sum(dim=2).amax(dim=1))
    ),
    "this is the sum of all dot products: each word takes its best region only": (
        lambda regions, words, lengths: _packed_sides(regions, words, lengths, lambda a: a.sum(dim=(1, 2)))
    ),
    "the maximum goes over the images (or the rows are read as (R, N)): in (N, R, T) the regions are on axis 1": (
        _packed_mixed
    ),
    "negative maxima became 0: use the dot products as they are": lambda regions, words, lengths: packed_specification(
        F.pad(regions, (0, 0, 0, 1)), words, lengths
    ),
    "images and captions are exchanged: (N, M) is asked for": lambda regions, words, lengths: (
        packed_specification(regions, words, lengths).T
    ),
}

EXERCISE = Exercise("packed-mrsw", packed_cases, packed_specification, PACKED_MISTAKES, gradients=("regions", "words"))
