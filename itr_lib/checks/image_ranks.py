"""``image-ranks``, lesson 00.

The rank of each caption's image, ties counted against the model, beside a loop that counts rivals.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from itr_lib import evaluation
from itr_lib.checks._inputs import sizes
from itr_lib.checks.caption_ranks import gallery, one_sided
from itr_lib.checks.frame import Case, Exercise, Rehearsal
from itr_lib.checks.outcome import Inputs

ONCE = (
    "you take one argsort for ranks: it says which picture stands at each place, not at which place a picture stands. "
    "Count instead, or sort the order once more"
)
BY_LOT = (
    "ties are decided by the order in which a sort leaves the data, or halfway: count the false pictures that score at "
    "least as much as the true one"
)
LEVEL = "a false picture scores the same as the true one"


def image_rank_cases() -> Iterator[Case]:
    """One to five captions an image, in any order, with and without ties; a collapsed model."""
    for seed, counts in enumerate([[5, 5, 5, 5], [2, 5, 1, 4, 3], [1, 3, 2], [1] * 6]):
        case = gallery(sizes(*counts), 20 + seed)
        yield Case(case)
        yield Case(case | {"scores": case["scores"] - 5}, "all scores are negative")
        yield Case(case | {"scores": case["scores"].round()}, LEVEL)
    yield Case(gallery([3], 29), "there is one image")
    near = gallery([4, 2, 5], 28)
    yield Case(near | {"scores": 0.7 + 1e-4 * near["scores"]}, "scores lie close to each other")
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


def image_ranks(scores, image_of_caption, beats=torch.ge, start=1, owner=None, sign=1, row=None, seen=slice(None)):
    """Ranks with other rules; ``row``: rivals are captions of the image's row instead of images, all or false ones."""
    owner = image_of_caption if owner is None else owner(scores)
    ranks = []
    for caption, image in enumerate(owner.tolist()):
        candidates = sign * (scores[:, caption] if row is None else scores[image])
        true = torch.arange(len(candidates), device=scores.device) == (image if row is None else caption)
        rivals = ~true & (owner != image) if row == "false" else ~true
        ranks.append(start + int((rivals & beats(candidates, sign * scores[image, caption]))[seen].sum()))
    return torch.tensor(ranks, device=scores.device)


def _places(scores: Tensor) -> Tensor:
    return torch.arange(scores.shape[1], device=scores.device)


FAMILY: dict[str, dict] = {
    "ties are decided for the model: a false picture with the same score must stand before yours (>= , not >)": {
        "beats": torch.gt
    },
    "your ranks start from 0: the first place is rank 1": {"start": 0},
    "your ranks are one too large: with >= the true picture counts itself already, so do not add 1": {"start": 2},
    "only false pictures with the very same score are counted: count those that score at least as much (>=)": {
        "beats": torch.eq
    },
    "you count the false pictures that score less: count those that score at least as much (>=)": {"beats": torch.lt},
    "the last picture is never looked at: a range leaves out its end": {"seen": slice(None, -1)},
    "picture 0 is never looked at: begin with it": {"seen": slice(1, None)},
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
    """What comes of sorting, whatever the sort does with equals: an order taken for ranks, or ties left to it."""
    if result.shape != expected.shape or result.is_floating_point():
        return None
    if len(inputs["scores"]) > 2 and any(
        torch.equal(result, _argsort_of_columns(**inputs, start=start)) for start in (0, 1)
    ):
        return ONCE
    kindest = image_ranks(**inputs, beats=torch.gt)
    for start, told in ((0, ""), (1, ", and start from 1")):
        if len(inputs["scores"]) > 2 and bool(((kindest <= result + start) & (result + start <= expected)).all()):
            return BY_LOT + told
    low = float(inputs["scores"].max()) < 0
    return None if low or not torch.equal(kindest, expected) else one_sided(result, expected)


def _by_sorting(dim: int, start: int, sign: int = 1) -> Callable:
    """Places in sorted columns (dim=0) or rows."""

    def ranks(scores, image_of_caption):
        places = (sign * scores).argsort(dim=dim, descending=True).argsort(dim=dim)
        return places[image_of_caption, _places(scores)] + start

    return ranks


def _best_of_image(scores, image_of_caption):
    own = image_of_caption == torch.arange(len(scores), device=scores.device)[:, None]
    best = scores.masked_fill(~own, -torch.inf).amax(dim=1)
    return (scores >= best[image_of_caption]).sum(dim=0)


def _halfway(rounded: Callable[[Tensor], Tensor]) -> Callable:
    """Level pictures share the mean of their places, made a whole number or not."""
    return lambda **inputs: rounded((image_ranks(**inputs, beats=torch.gt) + image_rank_specification(**inputs)) / 2)


MISTAKES = {
    **{
        f"level pictures share the mean of their places{more}: the false ones stand before the true one": _halfway(how)
        for more, how in {
            "": torch.clone,
            ", rounded down": lambda x: x.floor().long(),
            ", rounded up": lambda x: x.ceil().long(),
        }.items()
    },
    "scores that lie close to each other become level (half precision, or rounding): compare them as they are": (
        lambda scores, image_of_caption: image_rank_specification(scores.half().double(), image_of_caption)
    ),
    "this is the picture that comes first: the place of the true one is asked for": (
        lambda scores, image_of_caption: scores.argmax(dim=0)
    ),
    "this is the picture that comes first, plus 1: the place of the true one is asked for": (
        lambda scores, image_of_caption: scores.argmax(dim=0) + 1
    ),
    "this says whether the true picture comes first (1 or 0): its place is asked for": (
        lambda scores, image_of_caption: (scores.argmax(dim=0) == image_of_caption).long()
    ),
    "this says whether the true picture comes first (True or False): its rank is asked for": (
        lambda scores, image_of_caption: image_rank_specification(scores, image_of_caption) == 1
    ),
    "the score to beat is the best of the column: it is that of the caption's own image": (
        lambda scores, image_of_caption: (scores >= scores.amax(dim=0)).sum(dim=0)
    ),
    "the score to beat is the best of all captions of the image: it is that of the caption that asks": _best_of_image,
    "the last picture is never looked at, not even where it is the true one: a range leaves out its end": (
        lambda scores, image_of_caption: (scores >= scores[image_of_caption, _places(scores)])[:-1].sum(dim=0)
    ),
    BY_LOT: _by_sorting(0, 1),
    f"{BY_LOT}, and start from 1": _by_sorting(0, 0),
    "the scores have lost their signs (abs): a negative score is a low one": lambda scores, image_of_caption: (
        image_rank_specification(scores.abs(), image_of_caption)
    ),
    "the count is not set back for each caption: begin each anew": lambda **inputs: image_rank_specification(
        **inputs
    ).cumsum(dim=0),
    "the score to beat is the best of the image's whole row: it is that of the caption that asks": (
        lambda scores, image_of_caption: (scores >= scores[image_of_caption].amax(dim=1)).sum(dim=0)
    ),
    "the score to beat is the mean of the column: it is that of the caption's own image": (
        lambda scores, image_of_caption: (scores >= scores.mean(dim=0)).sum(dim=0)
    ),
    "you sort the rows (dim=1): a caption asks, so its column is sorted, dim=0": _by_sorting(1, 1),
    "you sort the rows (dim=1), and start from 0: a caption asks, so its column is sorted, dim=0": _by_sorting(1, 0),
    "you sort upwards: the highest score has rank 1": _by_sorting(0, 1, -1),
    "you sort upwards, and start from 0: the highest score has rank 1": _by_sorting(0, 0, -1),
    **{
        f"{ONCE}{more}": lambda scores, image_of_caption, start=start: _argsort_of_columns(
            scores, image_of_caption, start
        )
        for start, more in ((1, ""), (0, " (and start from 1)"))
    },
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
