"""``caption-ranks``, lesson 00.

The rank of each image's best caption, ties counted against the model, beside a loop that counts rivals.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from itr_lib.checks._inputs import generator
from itr_lib.checks.frame import Exercise
from itr_lib.checks.outcome import Inputs


def rank_cases() -> Iterator[Inputs]:
    """One to five captions an image, in any order, with and without ties; a collapsed model."""
    for seed, counts in enumerate([[5, 5, 5, 5], [1, 3, 2], [1], [2, 5, 1, 4, 3], [1, 1, 1, 1, 1, 1]]):
        g = generator(seed)
        owner = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
        owner = owner[torch.randperm(len(owner), generator=g)]
        scores = torch.randn(len(counts), len(owner), generator=g, dtype=torch.float64)
        yield {"scores": scores, "image_of_caption": owner}
        yield {"scores": scores - 5, "image_of_caption": owner}  # cosines can all be negative
        yield {"scores": scores.round(), "image_of_caption": owner}
    yield {"scores": torch.full((4, 20), 0.5, dtype=torch.float64), "image_of_caption": torch.arange(20) // 5}


def rank_specification(scores: Tensor, image_of_caption: Tensor) -> Tensor:
    """One more than the number of false captions that score at least as much as the best true one."""
    ranks = []
    for i in range(len(scores)):
        row = scores[i].tolist()
        best = max(s for s, owner in zip(row, image_of_caption.tolist(), strict=True) if owner == i)
        false = [s for s, owner in zip(row, image_of_caption.tolist(), strict=True) if owner != i]
        ranks.append(1 + sum(s >= best for s in false))
    return torch.tensor(ranks, device=scores.device)


def _ranks(scores, image_of_caption, beats, pick, start=1, count_own=False, exchanged=False):
    ranks = []
    for i, row in enumerate(scores):
        own = image_of_caption == i
        best = pick(row[~own if exchanged else own])
        rivals = row if count_own else row[~own]
        ranks.append(start + int(beats(rivals, best).sum()))
    return torch.tensor(ranks, device=scores.device)


def _ranks_zero_filled(scores, image_of_caption):
    own = image_of_caption == torch.arange(len(scores), device=scores.device)[:, None]
    best = (scores * own).amax(dim=1, keepdim=True)
    return 1 + ((scores >= best) & ~own).sum(dim=1)


def explain_ranks(inputs: Inputs, result: Tensor, expected: Tensor) -> str | None:
    """A sort leaves tied candidates in the order of the data, somewhere between the best and the worst case."""
    kindest = _ranks(inputs["scores"], inputs["image_of_caption"], torch.gt, torch.max)
    if bool(((kindest <= result) & (result <= expected)).all()):
        return (
            "ties are decided by the order in which a sort leaves the data: count the false captions that score at "
            "least as much as the best true one"
        )
    return None


RANK_MISTAKES = {
    "ties are decided for the model: a false caption with the same score must stand before yours (>= , not >)": (
        lambda scores, image_of_caption: _ranks(scores, image_of_caption, torch.gt, torch.max)
    ),
    "your ranks start from 0: the first place is rank 1": lambda scores, image_of_caption: _ranks(
        scores, image_of_caption, torch.ge, torch.max, start=0
    ),
    "you took an image's worst true caption: the best-ranked of the five counts": lambda scores, image_of_caption: (
        _ranks(scores, image_of_caption, torch.ge, torch.min)
    ),
    "the true captions are counted among the rivals: an image's own captions do not push each other down": (
        lambda scores, image_of_caption: _ranks(scores, image_of_caption, torch.ge, torch.max, count_own=True)
    ),
    "you assume one caption an image, caption i for image i: read image_of_caption": lambda scores, image_of_caption: (
        torch.stack([(row >= row[i]).sum() for i, row in enumerate(scores)])
    ),
    "you assume that captions lie in blocks of five (i // 5): read image_of_caption": lambda scores, image_of_caption: (
        _ranks(scores, torch.arange(scores.shape[1], device=scores.device) // 5, torch.ge, torch.max)
    ),
    "the order is reversed: a high score is a good one": lambda scores, image_of_caption: _ranks(
        -scores, image_of_caption, torch.ge, torch.max
    ),
    "an image's own captions that tie with its best count as rivals: leave them out (& ~own)": (
        lambda scores, image_of_caption: _ranks(scores, image_of_caption, torch.ge, torch.max, start=0, count_own=True)
    ),
    "other images' captions became 0 in your search for the best own score, and 0 beats a negative one: "
    "fill with -torch.inf": lambda scores, image_of_caption: _ranks_zero_filled(scores, image_of_caption),
    "own and other captions are exchanged: masked_fill(mask, ...) fills where the mask is True, so give it ~own": (
        lambda scores, image_of_caption: _ranks(scores, image_of_caption, torch.ge, torch.max, exchanged=True)
    ),
    "you took the first of the image's captions only: the best of them counts": lambda scores, image_of_caption: _ranks(
        scores, image_of_caption, torch.ge, lambda own: own[0]
    ),
}

EXERCISE = Exercise("caption-ranks", rank_cases, rank_specification, RANK_MISTAKES, explain=explain_ranks)
