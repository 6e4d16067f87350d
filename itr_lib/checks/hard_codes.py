"""``hard-codes``, lesson 03.

Hard coding: each word's largest dot product with a real region, beside loops; gradients too.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from itr_lib.checks._inputs import mask_last_real, unit_vectors
from itr_lib.checks._mistakes import dots
from itr_lib.checks.frame import Exercise
from itr_lib.checks.outcome import Inputs


def hard_cases() -> Iterator[Inputs]:
    """As many images as captions and not, padding anywhere, one of each; a word that every region points away from."""
    for seed, (images, regions, captions, words, dim) in enumerate(
        [(3, 4, 3, 5, 6), (2, 5, 4, 3, 4), (1, 3, 1, 2, 3), (4, 1, 2, 1, 5)]
    ):
        mask = mask_last_real(images, regions, 70 + seed)
        vectors = unit_vectors(images, regions, dim, seed=80 + seed)
        yield {
            "regions": torch.where(mask[..., None], vectors, 3 * vectors),
            "words": unit_vectors(captions, words, dim, seed=90 + seed),
            "region_mask": mask,
        }
    away = unit_vectors(2, 3, 4, seed=99)
    mask = torch.tensor([[False, True, True], [True, True, True]])
    yield {"regions": away, "words": -2 * away.mean(dim=1, keepdim=True), "region_mask": mask}


def hard_specification(regions: Tensor, words: Tensor, region_mask: Tensor) -> Tensor:
    """Image by image, caption by caption, word by word: the largest dot product with a real region."""
    scores = []
    for image, real in zip(regions, region_mask.tolist(), strict=True):
        for caption in words:
            for word in caption:
                dots = [region @ word for region, is_real in zip(image, real, strict=True) if is_real]
                scores.append(torch.stack(dots).max())
    return torch.stack(scores).view(len(regions), *words.shape[:2])


def _hard(regions, words, region_mask, fill=-torch.inf, mask=None, reduce=torch.amax):
    mask = region_mask if mask is None else mask
    return reduce(dots(regions, words).masked_fill(~mask[:, None, :, None], fill), 2)


def _hard_viewed(regions, words, region_mask):
    flat = regions.flatten(0, 1) @ words.flatten(0, 1).T
    dots = flat.view(len(regions), len(words), regions.shape[1], words.shape[1])
    return dots.masked_fill(~region_mask[:, None, :, None], -torch.inf).amax(2)


HARD_MISTAKES = {
    "padding was filled with 0 before the maximum, and 0 beats a negative one: fill with -torch.inf": (
        lambda regions, words, region_mask: _hard(regions, words, region_mask, fill=0.0)
    ),
    "padding takes part in the maximum as it came: fill A with -inf where it is padding": (
        lambda regions, words, region_mask: _hard(regions, words, region_mask, mask=torch.ones_like(region_mask))
    ),
    "the mask is turned round: masked_fill fills where it is True, so give it ~region_mask": (
        lambda regions, words, region_mask: _hard(regions, words, region_mask, mask=~region_mask)
    ),
    "the mask is laid along the captions: it belongs to the images, axes (N, 1, R, 1)": (
        lambda regions, words, region_mask: (
            dots(regions, words).masked_fill(~region_mask[None, :, :, None], -torch.inf).amax(2)
        )
    ),
    "a view does not move axes: the product of the flattened sets has axes (N, R, M, W); transpose, then take the "
    "maximum": _hard_viewed,
    "this is the mean over the regions: hard coding takes the maximum": lambda regions, words, region_mask: (
        _hard(regions, words, region_mask, fill=0.0, reduce=torch.sum) / region_mask.sum(1)[:, None, None]
    ),
    "this is the sum over the regions: hard coding takes the maximum": lambda regions, words, region_mask: _hard(
        regions, words, region_mask, fill=0.0, reduce=torch.sum
    ),
    "you took the largest absolute value: a region that points away from the word does not fit it": (
        lambda regions, words, region_mask: (
            dots(regions, words).abs().masked_fill(~region_mask[:, None, :, None], -torch.inf).amax(2)
        )
    ),
    "this is the smallest alignment: take the largest": lambda regions, words, region_mask: _hard(
        regions, words, region_mask, fill=torch.inf, reduce=torch.amin
    ),
}

EXERCISE = Exercise("hard-codes", hard_cases, hard_specification, HARD_MISTAKES, gradients=("regions", "words"))
