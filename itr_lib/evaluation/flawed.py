"""Evaluations that are wrong on purpose: lesson 00 looks at what each flaw is worth, and at how to find it.

All of them give R@1 from text to image, in percent. Nothing in the library counts with them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from itr_lib.evaluation.inputs import Owners, Scores, as_gallery, percent
from itr_lib.evaluation.recall import image_ranks

FOLDS, SHORTLIST = 5, 10


def ties_for_the_model(scores: Scores, image_of_caption: Owners) -> float:
    """A false picture with the same score stands behind the true one: whoever sees no difference is right."""
    scores, owner = as_gallery(scores, image_of_caption)
    return percent((scores > _truth(scores, owner)).sum(dim=0).cpu().numpy() == 0)


def one_caption_each(scores: Scores, image_of_caption: Owners) -> float:
    """Only the first caption of each image asks, as if there were one."""
    scores, owner = as_gallery(scores, image_of_caption)
    first = np.unique(owner.cpu().numpy(), return_index=True)[1]
    return percent(image_ranks(scores, owner)[first] == 1)


def best_of_five_folds(scores: Scores, image_of_caption: Owners) -> float:
    """The images are cut into five folds, each a gallery of its own, and the best fold is reported."""
    scores, owner = as_gallery(scores, image_of_caption)
    recalls = []
    for rows in torch.arange(len(scores)).tensor_split(FOLDS):
        if len(rows):
            columns = torch.isin(owner, rows.to(owner.device))
            ranks = image_ranks(scores[rows][:, columns], owner[columns] - rows[0])
            recalls.append(percent(ranks == 1))
    return max(recalls)


def misses_as_hits(scores: Scores, image_of_caption: Owners) -> float:
    """Only the ten best pictures are looked at, and one that is not among them keeps the rank 0 it began with."""
    ranks = image_ranks(scores, image_of_caption)
    return percent(np.where(ranks > SHORTLIST, 0, ranks) <= 1)


def _truth(scores: Tensor, owner: Tensor) -> Tensor:
    return scores[owner, torch.arange(len(owner), device=scores.device)]


def find_the_flaw(evaluate: Callable[[Tensor, Tensor], float]) -> str:
    """Which of these flaws an evaluation has, by cases small enough to know the answer without it.

    Args:
        evaluate: scores (N, M) and image_of_caption (M,) -> R@1 from text to image, in percent.

    Returns:
        ``"ties"``, ``"one caption"``, ``"folds"``, ``"misses"``, or ``"none"``.
    """
    perfect, each = torch.eye(12), torch.arange(12)
    if evaluate(1 - perfect, each) > 0:  # every true picture comes last, at rank 12
        return "misses"
    if evaluate(perfect + 2 * perfect.roll(6, dims=0), each) > 0:  # the rival of each is 6 pictures away
        return "folds"
    if evaluate(torch.ones(12, 12), each) > 0:
        return "ties"
    four = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 1.0, 1.0]])  # captions 0 and 1 are image 0's; 1 is wrong
    return "none" if evaluate(four, torch.tensor([0, 0, 1, 1])) == 75 else "one caption"
