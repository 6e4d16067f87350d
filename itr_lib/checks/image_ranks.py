"""``image-ranks``, lesson 00.

The rank of each caption's image, ties counted against the model, beside a loop that counts rivals.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from itr_lib import evaluation
from itr_lib.checks.caption_ranks import gallery
from itr_lib.checks.frame import Case, Exercise, Rehearsal
from itr_lib.checks.outcome import Inputs

LEVEL = "a false picture scores the same as the true one"


def image_rank_cases() -> Iterator[Case]:
    """One to five captions an image, in any order, with and without ties; a collapsed model."""
    for seed, counts in enumerate([[5, 5, 5, 5], [2, 5, 1, 4, 3], [1, 3, 2], [1] * 6]):
        case = gallery(counts, 20 + seed)
        yield Case(case)
        yield Case(case | {"scores": case["scores"] - 5}, "all scores are negative")
        yield Case(case | {"scores": case["scores"].round()}, LEVEL)
    yield Case(gallery([3], 29), "there is one image")
    flat = {"scores": torch.full((4, 20), 0.5, dtype=torch.float64), "image_of_caption": torch.arange(20) // 5}
    yield Case(flat, "all scores are the same")


def image_rank_specification(scores: Tensor, image_of_caption: Tensor) -> Tensor:
    """One more than the number of false images that score at least as much as the true one."""
    ranks = []
    for caption, image in enumerate(image_of_caption.tolist()):
        column = [row[caption] for row in scores.tolist()]
        false = [s for i, s in enumerate(column) if i != image]
        ranks.append(1 + sum(s >= column[image] for s in false))
    return torch.tensor(ranks, device=scores.device)


def image_ranks(scores, image_of_caption, beats=torch.ge, start=1, owner=None, sign=1, row=None):
    """Ranks with other rules; ``row``: rivals are captions of the image's row instead of images, all or false ones."""
    owner = image_of_caption if owner is None else owner(scores)
    ranks = []
    for caption, image in enumerate(owner.tolist()):
        candidates = sign * (scores[:, caption] if row is None else scores[image])
        true = torch.arange(len(candidates), device=scores.device) == (image if row is None else caption)
        rivals = ~true & (owner != image) if row == "false" else ~true
        ranks.append(start + int(beats(candidates[rivals], sign * scores[image, caption]).sum()))
    return torch.tensor(ranks, device=scores.device)


def _places(scores: Tensor) -> Tensor:
    return torch.arange(scores.shape[1], device=scores.device)


FAMILY: dict[str, dict] = {
    "ties are decided for the model: a false picture with the same score must stand before yours (>= , not >)": {
        "beats": torch.gt
    },
    "your ranks start from 0: the first place is rank 1": {"start": 0},
    "your ranks are one too large: with >= the true picture counts itself already, so do not add 1": {"start": 2},
    "the order is reversed: a high score is a good one": {"sign": -1},
    "you look along the row, where the rivals are captions: a caption asks, so count along its column (dim=0)": {
        "row": "all"
    },
    "you look along the row, where the rivals are other images' captions: a caption asks, so count along its column "
    "(dim=0)": {"row": "false"},
    "you assume that every image has as many captions, side by side: read image_of_caption": {
        "owner": lambda scores: _places(scores) // max(1, scores.shape[1] // len(scores))
    },
    "you assume that captions lie in blocks of five (c // 5): read image_of_caption": {
        "owner": lambda scores: _places(scores) // 5
    },
    "you assume that caption c belongs to image c: read image_of_caption": {"owner": _places},
    "you assume that captions go round the images in turn (c % N): read image_of_caption": {
        "owner": lambda scores: _places(scores) % len(scores)
    },
    "every caption is held against the score of image 0: read image_of_caption": {
        "owner": lambda scores: _places(scores) * 0
    },
}


def _argsort_of_columns(scores, image_of_caption, start=1):
    order = scores.argsort(dim=0, descending=True)
    return order[image_of_caption, _places(scores)] + start


def explain_image_ranks(inputs: Inputs, result: Tensor, expected: Tensor) -> str | None:
    """What comes of sorting: an order taken for ranks, or tied candidates left in the order of the data."""
    if result.shape != expected.shape or len(expected) < 2:
        return None
    if any(torch.equal(result, _argsort_of_columns(**inputs, start=start)) for start in (0, 1)):
        return (
            "you take one argsort for ranks: it says which picture stands at each place, not at which place a picture "
            "stands. Count instead, or sort the order once more"
        )
    kindest = image_ranks(**inputs, beats=torch.gt)
    for start, told in ((0, ""), (1, ", and your ranks start from 0")):
        if bool(((kindest <= result + start) & (result + start <= expected)).all()):
            return (
                "ties are decided by the order in which a sort leaves the data: count the false pictures that score at "
                f"least as much as the true one{told}"
            )
    return None


MISTAKES = {
    "every rank is 1: the score to beat is that of the caption's own image, not the best of the column": (
        lambda scores, image_of_caption: torch.ones_like(image_of_caption)
    ),
    "this counts the pictures that score less: count those that score at least as much": (
        lambda scores, image_of_caption: (scores < scores[image_of_caption, _places(scores)]).sum(dim=0)
    ),
}

EXERCISE = Exercise(
    "image-ranks",
    library=lambda scores, image_of_caption: torch.from_numpy(evaluation.image_ranks(scores, image_of_caption)),
    example=Case(
        {
            "scores": torch.tensor([[0.9, 0.4, 0.7, 0.7], [0.1, 0.2, 0.3, 0.4]], dtype=torch.float64),
            "image_of_caption": torch.tensor([1, 1, 0, 0]),
        },
        worked=torch.tensor([2, 2, 1, 1]),
    ),
    cases=image_rank_cases,
    specification=image_rank_specification,
    mistakes=MISTAKES,
    family=(image_ranks, FAMILY),
    explain=explain_image_ranks,
    exact=True,
    index=True,
    rehearsal=Rehearsal(lambda: gallery([5] * 200, 30), calls=90),
)
