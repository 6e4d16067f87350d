"""``soft-codes``, lesson 03.

Soft coding of words over an image's regions, beside a softmax word by word.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from itr_lib.checks._inputs import mask_last_real, unit_vectors
from itr_lib.checks.frame import Exercise
from itr_lib.checks.outcome import Inputs


def soft_cases() -> Iterator[Inputs]:
    """Unit vectors with large numbers where padded; one region, one word; a blank picture of zero vectors."""
    for seed, (regions, words, dim, temperature) in enumerate(
        [(5, 4, 6, 0.1), (6, 6, 3, 0.5), (7, 1, 4, 2.0), (1, 3, 5, 0.1)]
    ):
        mask = mask_last_real(1, regions, 40 + seed)[0]
        real = unit_vectors(regions, dim, seed=seed)
        padded = torch.where(mask[:, None], real, 3 * real)
        yield {
            "regions": padded,
            "words": unit_vectors(words, dim, seed=60 + seed),
            "region_mask": mask,
            "temperature": temperature,
        }
    words = unit_vectors(2, 3, seed=7)
    mask = torch.tensor([True, True, False])
    loud = torch.stack([*unit_vectors(2, 3, seed=8), 4 * words.mean(0)])  # padding that would take all the attention
    yield {"regions": loud, "words": words, "region_mask": mask, "temperature": 0.05}
    yield {"regions": torch.zeros(3, 3).double(), "words": words, "region_mask": mask, "temperature": 0.1}


def soft_specification(regions: Tensor, words: Tensor, region_mask: Tensor, temperature: float) -> Tensor:
    """Word by word: attention over the real regions, the vector it makes, the word's dot product over its length."""
    real = [region for region, is_real in zip(regions, region_mask.tolist(), strict=True) if is_real]
    codes = []
    for word in words:
        logits = [float(region @ word) / temperature for region in real]
        grown = [math.exp(logit - max(logits)) for logit in logits]
        attended = sum(g / sum(grown) * region for g, region in zip(grown, real, strict=True))
        codes.append(word @ attended / (math.sqrt(float(attended @ attended)) + 1e-8))
    return torch.stack(codes)


def _soft(regions, words, region_mask, temperature, fill=-torch.inf, mask=None, dim=0, length=True, times=False):
    """Variants of soft coding for the mistakes below."""
    mask = region_mask if mask is None else mask
    dots = regions @ words.T
    logits = (dots * temperature if times else dots / temperature).masked_fill(~mask[:, None], fill)
    attended = logits.softmax(dim=dim).T @ regions
    codes = (attended * words).sum(1)
    return codes / (attended.norm(dim=1) + 1e-8) if length else codes


def _soft_masked_late(regions, words, region_mask, temperature):
    weights = (regions @ words.T / temperature).softmax(0) * region_mask[:, None]
    attended = weights.T @ regions
    return (attended * words).sum(1) / (attended.norm(dim=1) + 1e-8)


def _soft_bare(regions, words, region_mask, temperature):
    weights = (regions @ words.T / temperature).masked_fill(~region_mask[:, None], -torch.inf).softmax(0)
    attended = weights.T @ regions
    return (attended * words).sum(1) / attended.norm(dim=1)


def _soft_squared(regions, words, region_mask, temperature):
    weights = (regions @ words.T / temperature).masked_fill(~region_mask[:, None], -torch.inf).softmax(0)
    attended = weights.T @ regions
    return (attended * words).sum(1) / ((attended**2).sum(1) + 1e-8)


SOFT_MISTAKES = {
    "a blank picture has zero vectors, and you divide by zero: add 1e-8 to the length": _soft_bare,
    "padding takes part in the attention as it came: fill A with -inf where it is padding, before the softmax": (
        lambda regions, words, region_mask, temperature: _soft(
            regions, words, region_mask, temperature, mask=torch.ones_like(region_mask)
        )
    ),
    "padding became a logit of 0, and e^0 = 1 still attends: fill with -torch.inf": (
        lambda regions, words, region_mask, temperature: _soft(regions, words, region_mask, temperature, fill=0.0)
    ),
    "the mask is turned round: masked_fill fills where it is True, so give it ~region_mask": (
        lambda regions, words, region_mask, temperature: _soft(
            regions, words, region_mask, temperature, mask=~region_mask
        )
    ),
    "the softmax runs over the words: each word spreads its attention over the regions, which are the rows of A": (
        lambda regions, words, region_mask, temperature: _soft(regions, words, region_mask, temperature, -1e9, dim=1)
    ),
    "the softmax runs over the words, and a padded row of -inf becomes NaN: each word spreads its attention over the "
    "regions, which are the rows of A": (
        lambda regions, words, region_mask, temperature: _soft(regions, words, region_mask, temperature, dim=1)
    ),
    "A is divided by the temperature, not multiplied": lambda regions, words, region_mask, temperature: _soft(
        regions, words, region_mask, temperature, times=True
    ),
    "the temperature is missing": lambda regions, words, region_mask, temperature: _soft(
        regions, words, region_mask, 1.0
    ),
    "the attended vector's length is missing: an average of unit vectors is shorter than 1, divide by its length": (
        lambda regions, words, region_mask, temperature: _soft(regions, words, region_mask, temperature, length=False)
    ),
    "you divide by the squared length: take the square root": _soft_squared,
    "this is the maximum, hard coding: the soft code goes through the attended vector": (
        lambda regions, words, region_mask, temperature: (
            (regions @ words.T).masked_fill(~region_mask[:, None], -torch.inf).amax(0)
        )
    ),
    "padding is masked after the softmax, when it has taken the weight: fill A with -inf before": _soft_masked_late,
}

EXERCISE = Exercise("soft-codes", soft_cases, soft_specification, SOFT_MISTAKES)
