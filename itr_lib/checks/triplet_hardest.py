"""``triplet-hardest``, lesson 01.

The hinge of each query's hardest negative, beside lists of its negatives; gradients too.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from itr_lib.checks._inputs import random_scores
from itr_lib.checks._mistakes import eye
from itr_lib.checks.frame import Exercise
from itr_lib.checks.outcome import Inputs


def masked_cases() -> Iterator[Inputs]:
    """Batches with captions of one picture among them, without, and of one pair."""
    for seed, owners in enumerate([[0, 1, 2, 1, 3, 0], [0, 1, 2, 0, 3], [0, 0, 1], [0], [0, 0]]):
        owner = torch.tensor(owners)
        shift = seed % 2  # cosines may be negative, all of them
        yield {"scores": random_scores(len(owners), 10 + seed) - shift, "same_image": owner[:, None] == owner[None, :]}


def hardest_cases() -> Iterator[Inputs]:
    """An easy batch, in which only a positive could cost something; then the masked ones, with a margin."""
    easy = torch.eye(3, dtype=torch.float64)
    yield {"scores": easy, "margin": 0.2, "same_image": easy.bool()}
    for margin, case in zip([0.2, 0.5, 0.1, 0.2, 0.2], masked_cases(), strict=True):
        yield {"scores": case["scores"], "margin": margin, "same_image": case["same_image"]}


def hardest_specification(scores: Tensor, margin: float, same_image: Tensor) -> Tensor:
    """The worst negative of each query, in both directions; captions of the same picture are none."""
    total = scores.new_zeros(())
    for i in range(len(scores)):
        captions = [scores[i, j] for j in range(len(scores)) if not same_image[i, j]]
        images = [scores[j, i] for j in range(len(scores)) if not same_image[j, i]]
        for negatives in (captions, images):
            if negatives:
                total = total + torch.relu(margin + torch.stack(negatives).max() - scores[i, i])
    return total


def _hardest(scores, margin, same_image, mask=None, rows=True, columns=True, pick="max", cut=True):
    """Variants of the loss for the mistakes below; ``mask``: what is no negative."""
    mask = same_image if mask is None else mask
    positive = scores.diagonal()
    total = scores.new_zeros(())
    for cost, dim, wanted in (
        (margin + scores - positive[:, None], 1, rows),
        (margin + scores - positive[None, :], 0, columns),
    ):
        cost = torch.relu(cost) if cut else cost
        filled = cost.masked_fill(mask, 0 if pick != "min" else 1e9)
        worst = {"max": filled.amax, "sum": filled.sum, "min": filled.amin}[pick](dim=dim)
        total = total + (worst.masked_fill(worst > 1e8, 0)).sum() * wanted
    return total


def _hardest_swapped(scores, margin, same_image):
    """The positive of the candidate instead of the query's."""
    positive = scores.diagonal()
    rows = torch.relu(margin + scores - positive[None, :]).masked_fill(same_image, 0)
    columns = torch.relu(margin + scores - positive[:, None]).masked_fill(same_image, 0)
    return rows.amax(dim=1).sum() + columns.amax(dim=0).sum()


HARDEST_MISTAKES = {
    "the positive is that of the candidate: it belongs to the query, a column [:, None] where images ask (rows), "
    "a row [None, :] where captions do": _hardest_swapped,
    "the rows are counted twice: the second term goes down the columns": lambda scores, margin, same_image: (
        2 * _hardest(scores, margin, same_image, columns=False)
    ),
    "this is a mean over all 2B queries: the loss is a plain sum": lambda scores, margin, same_image: (
        hardest_specification(scores, margin, same_image) / (2 * len(scores))
    ),
    "captions of the same picture are pushed away as negatives: use same_image, not the diagonal alone": (
        lambda scores, margin, same_image: _hardest(scores, margin, same_image, mask=eye(scores))
    ),
    "every negative is counted: keep only the worst one of each query (max, not sum)": (
        lambda scores, margin, same_image: _hardest(scores, margin, same_image, pick="sum")
    ),
    "only images ask here (rows): captions ask too, take the maximum of each column as well": (
        lambda scores, margin, same_image: _hardest(scores, margin, same_image, columns=False)
    ),
    "only captions ask here (columns): images ask too, take the maximum of each row as well": (
        lambda scores, margin, same_image: _hardest(scores, margin, same_image, rows=False)
    ),
    "the positive takes part in the maximum: mask the diagonal before you look for the worst": (
        lambda scores, margin, same_image: _hardest(scores, margin, same_image, mask=torch.zeros_like(same_image))
    ),
    "you took the easiest negative (min): the hardest is the one with the highest score": (
        lambda scores, margin, same_image: _hardest(scores, margin, same_image, pick="min")
    ),
    "this is divided by the batch: the loss is a plain sum over queries": (
        lambda scores, margin, same_image: hardest_specification(scores, margin, same_image) / len(scores)
    ),
    "a masked score became 0 before the maximum, so it can win where real scores are lower: fill with -inf, "
    "or mask after the hinge": lambda scores, margin, same_image: sum(
        torch.relu(margin + scores.masked_fill(same_image, 0).amax(dim=dim) - scores.diagonal()).sum() for dim in (0, 1)
    ),
}

EXERCISE = Exercise("triplet-hardest", hardest_cases, hardest_specification, HARDEST_MISTAKES, gradients=("scores",))
