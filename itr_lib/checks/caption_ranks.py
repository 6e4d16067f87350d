"""``caption-ranks``, lesson 00.

The rank of each image's best caption, ties counted against the model, beside a loop that counts rivals.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from itr_lib import evaluation
from itr_lib.checks._inputs import generator, sizes
from itr_lib.checks._mistakes import leaning
from itr_lib.checks.frame import Case, Exercise, Rehearsal
from itr_lib.checks.outcome import Inputs

ONCE = (
    "you take one argsort for ranks: it says which caption stands at each place, not at which place a caption stands. "
    "Count instead, or sort the order once more"
)
BY_LOT = (
    "ties are decided by the order in which a sort leaves the data, or halfway: count the false captions that score at "
    "least as much as the best true one"
)
LEVEL = "a false caption scores the same as the best true one"


def gallery(counts: list[int], seed: int) -> Inputs:
    """Scores of images that have so many captions each, in any order."""
    g = generator(seed)
    owner = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    owner = owner[torch.randperm(len(owner), generator=g)]
    scores = torch.randn(len(counts), len(owner), generator=g, dtype=torch.float64)
    return {"scores": scores, "image_of_caption": owner}


def rank_cases() -> Iterator[Case]:
    """One to five captions an image, in any order, with and without ties; a collapsed model."""
    for seed, counts in enumerate([[5, 5, 5, 5], [2, 5, 1, 4, 3], [1, 3, 2], [1] * 6]):
        case = gallery(sizes(*counts), seed)
        yield Case(case)
        yield Case(case | {"scores": 5000 * (case["scores"] - 5)}, "all scores are negative")
        yield Case(case | {"scores": case["scores"].round()}, LEVEL)
    yield Case(gallery([3], 9), "there is one image, so that no caption is false")
    near = gallery([4, 2, 5], 8)
    yield Case(near | {"scores": 0.7 + 1e-4 * near["scores"]}, "scores lie close to each other")
    flat = {"scores": torch.full((4, 20), 0.5, dtype=torch.float64), "image_of_caption": torch.arange(20) // 5}
    yield Case(flat, "all scores are the same")


def rank_specification(scores: Tensor, image_of_caption: Tensor) -> Tensor:
    """One more than the number of false captions that score at least as much as the best true one."""
    ranks = []
    for i in range(len(scores)):
        row = scores[i].tolist()
        best = max(s for s, owner in zip(row, image_of_caption.tolist(), strict=True) if owner == i)
        false = [s for s, owner in zip(row, image_of_caption.tolist(), strict=True) if owner != i]
        ranks.append(1 + sum(s >= best for s in false))
    return torch.tensor(ranks, device=scores.device)


def caption_ranks(scores, image_of_caption, beats=torch.ge, pick=torch.max, start=1, rivals=None, owner=None, sign=1):
    """Ranks with other rules: what beats the best, which own caption counts, who is a rival, who owns what."""
    owner = image_of_caption if owner is None else owner(scores)
    ranks = []
    for i, row in enumerate(sign * scores):
        own = owner == i
        others = row[rivals(own)] if rivals else row[~own]
        ranks.append(start + int(beats(others, pick(row[own])).sum()))
    return torch.tensor(ranks, device=scores.device)


def by_sorting(pick=torch.amin, start=1, sign=1, dim=1, once=False, owner=None) -> Callable:
    """Places in a sorted row (or column), or the order itself where it is not sorted once more; of the own ones one."""

    def ranks(scores, image_of_caption):
        places = (sign * scores).argsort(dim=dim, descending=True)
        places = (places if once else places.argsort(dim=dim)) + start
        owners = image_of_caption if owner is None else owner(scores)
        return torch.stack([pick(row[owners == i]) for i, row in enumerate(places)])

    return ranks


def _best_in_order(scores, image_of_caption, start):
    """What stands in the sorted order at the column of each image's best caption."""
    own = image_of_caption == torch.arange(len(scores), device=scores.device)[:, None]
    best = scores.masked_fill(~own, -torch.inf).argmax(dim=1, keepdim=True)
    return scores.argsort(dim=1, descending=True).gather(1, best)[:, 0] + start


def _everybody(own: Tensor) -> Tensor:
    return torch.ones_like(own)


def _with_own(result: Callable[[Tensor, Tensor], Tensor]) -> Callable:
    """A function of the scores and of whose captions are whose."""
    return lambda scores, image_of_caption: result(
        scores, image_of_caption == torch.arange(len(scores), device=scores.device)[:, None]
    )


def _best_own(scores: Tensor, own: Tensor) -> Tensor:
    return scores.masked_fill(~own, -torch.inf).amax(dim=1, keepdim=True)


def _with_best(best_of: Callable[[Tensor, Tensor], Tensor]) -> Callable:
    """Ranks where the score to beat is another one: a function of the scores and of whose captions are whose."""

    return _with_own(lambda scores, own: 1 + ((scores >= best_of(scores, own)[:, None]) & ~own).sum(dim=1))


FAMILY: dict[str, dict] = {
    "ties are decided for the model: a false caption with the same score must stand before yours (>= , not >)": {
        "beats": torch.gt
    },
    "your ranks start from 0: the first place is rank 1": {"start": 0},
    "your ranks are one too large: the best own caption is counted, too, or 1 is added twice": {"start": 2},
    "you took an image's worst true caption: the best of them counts": {"pick": torch.min},
    "you took the first of the image's captions only: the best of them counts": {"pick": lambda own: own[0]},
    "you took the last of the image's captions only: the best of them counts": {"pick": lambda own: own[-1]},
    "only false captions with the very same score are counted: count those that score at least as much (>=)": {
        "beats": torch.eq
    },
    "you count the false captions that score less: count those that score at least as much (>=)": {"beats": torch.lt},
    "you count the false captions that score at most as much: count those that score at least as much (>=)": {
        "beats": torch.le
    },
    "the last caption is never looked at: a range leaves out its end": {
        "rivals": lambda own: ~own & (torch.arange(len(own), device=own.device) < len(own) - 1)
    },
    "caption 0 is never looked at: begin with it": {
        "rivals": lambda own: ~own & (torch.arange(len(own), device=own.device) > 0)
    },
    "you took the mean score of the image's captions: the best of them counts": {"pick": torch.mean},
    "the true captions are counted among the rivals, the best one itself too: leave them out (& ~own)": {
        "rivals": _everybody
    },
    "an image's own captions that tie with its best count as rivals: leave them out (& ~own)": {
        "rivals": _everybody,
        "start": 0,
    },
    "you count the true captions, not the false ones: the rivals are ~own": {"rivals": lambda own: own},
    "the order is reversed: a high score is a good one": {"sign": -1},
    "you assume that every image has as many captions, side by side: read image_of_caption": {
        "owner": lambda scores: (
            torch.arange(scores.shape[1], device=scores.device) // max(1, scores.shape[1] // len(scores))
        )
    },
    "you assume that captions lie in blocks of five (i // 5): read image_of_caption": {
        "owner": lambda scores: torch.arange(scores.shape[1], device=scores.device) // 5
    },
}
MISTAKES = {
    "scores that lie close to each other become level (half precision, or rounding): compare them as they are": (
        lambda scores, image_of_caption: rank_specification(scores.half().double(), image_of_caption)
    ),
    "you compare with the image's caption i alone, as if caption i were its only one: read image_of_caption": (
        lambda scores, image_of_caption: torch.stack([(row >= row[i]).sum() for i, row in enumerate(scores)])
    ),
    "other images' captions became 0 in your search for the best own score, and 0 beats a negative one: "
    "fill with -torch.inf": _with_best(lambda scores, own: (scores * own).amax(dim=1)),
    **{
        f"other images' captions became {word} in your search for the best own score, which beats what is lower: fill "
        "with -torch.inf": _with_best(lambda scores, own, low=low: scores.masked_fill(~own, low).amax(dim=1))
        for word, low in (("-1, -100 or the like", -1), ("-10,000", -10000))
    },
    "the score to beat is the best of the false captions: masked_fill(mask, ...) fills where the mask is True, so give "
    "it ~own": _with_best(lambda scores, own: scores.masked_fill(own, -torch.inf).amax(dim=1)),
    "own and false captions are exchanged throughout: masked_fill(mask, ...) fills where the mask is True": _with_own(
        lambda scores, own: 1 + ((scores >= _best_own(scores, ~own)) & own).sum(dim=1)
    ),
    "the score to beat is the best of the whole row: only an image's own captions count for it": _with_best(
        lambda scores, own: scores.amax(dim=1)
    ),
    "the best own score is taken along the columns: take the maximum along each row (dim=1)": (
        _with_own(
            lambda scores, own: 1 + ((scores >= scores.masked_fill(~own, -torch.inf).amax(dim=0)) & ~own).sum(dim=1)
        )
    ),
    "scores[own] was cut into equal rows: images can have different numbers of captions": _with_best(
        lambda scores, own: scores[own].reshape(len(scores), -1).amax(dim=1)
    ),
    "this is the number of captions less the rivals: the rank is 1 plus the rivals": lambda scores, image_of_caption: (
        scores.shape[1] - rank_specification(scores, image_of_caption) + 1
    ),
    "all images get the rank of image 0: is the return inside the loop?": lambda scores, image_of_caption: (
        rank_specification(scores, image_of_caption)[:1].expand(len(scores))
    ),
    **{
        f"you sort, and take {what} of an image's captions: the best of their places counts": by_sorting(pick, start)
        for start, more in ((1, ""), (0, ", from 0"))
        for what, pick in {
            f"the worst place{more}": torch.amax,
            f"the sum of the places{more}": torch.sum,
            f"the place of the first{more}": lambda own: own[0],
            f"the place of the last{more}": lambda own: own[-1],
        }.items()
    },
    f"{BY_LOT}": by_sorting(),
    f"{BY_LOT}, and start from 1": by_sorting(start=0),
    "you take the column number of caption i, as if it were image i's only one: read image_of_caption": by_sorting(
        owner=lambda scores: torch.arange(scores.shape[1], device=scores.device)
    ),
    "you sort, and take captions in blocks of five for an image's own: read image_of_caption": by_sorting(
        owner=lambda scores: torch.arange(scores.shape[1], device=scores.device) // 5
    ),
    "this is the column of the best own caption: its rank is asked for": _with_own(
        lambda scores, own: scores.masked_fill(~own, -torch.inf).argmax(dim=1)
    ),
    "this is the column of the best caption of all: the rank of the best own one is asked for": _with_own(
        lambda scores, own: scores.argmax(dim=1)
    ),
    "this says whether the best caption is an own one (1 or 0): its rank is asked for": lambda **inputs: (
        rank_specification(**inputs) == 1
    ).long(),
    "the rivals are false captions *and* score at least as much: & joins the two, | takes either": _with_own(
        lambda scores, own: 1 + ((scores >= _best_own(scores, own)) | ~own).sum(dim=1)
    ),
    "the rivals are false captions *and* score at least as much: & ~own, not ^ own": _with_own(
        lambda scores, own: 1 + ((scores >= _best_own(scores, own)) ^ own).sum(dim=1)
    ),
    "the rivals of all images are counted: an image is held against its own row": lambda scores, image_of_caption: (
        torch.stack(
            [
                1 + (scores[:, image_of_caption != i] >= row[image_of_caption == i].max()).sum()
                for i, row in enumerate(scores)
            ]
        )
    ),
    "the count is not set back for each image: begin each with 1": lambda **inputs: (
        1 + (rank_specification(**inputs) - 1).cumsum(dim=0)
    ),
    "the scores have lost their signs (abs): a negative score is a low one": lambda scores, image_of_caption: (
        rank_specification(scores.abs(), image_of_caption)
    ),
    "you sort upwards: the highest score has rank 1": by_sorting(sign=-1),
    "you sort upwards, and start from 0: the highest score has rank 1": by_sorting(sign=-1, start=0),
    **{f"{ONCE}{more}": by_sorting(start=start, once=True) for start, more in ((1, ""), (0, " (and start from 1)"))},
    **{
        f"{ONCE}{more}": lambda scores, image_of_caption, start=start: _best_in_order(scores, image_of_caption, start)
        for start, more in ((1, "."), (0, "; ranks start from 1."))
    },
    "you sort the columns (dim=0): an image asks, so its row is sorted, dim=1": by_sorting(dim=0),
    "all images are held to one score, the best of the whole matrix: take the maximum along each row (dim=1)": (
        _with_best(lambda scores, own: scores.masked_fill(~own, -torch.inf).amax().expand(len(scores)))
    ),
}


def explain_ranks(inputs: Inputs, result: Tensor, expected: Tensor) -> str | None:
    """What comes of sorting, whatever the sort does with equals: an order taken for ranks, or ties left to it."""
    if result.shape != expected.shape or result.is_floating_point():
        return None
    scores, owner = inputs["scores"], inputs["image_of_caption"]
    order = scores.argsort(dim=1, descending=True)
    own = owner == torch.arange(len(scores), device=owner.device)[:, None]
    best = scores.masked_fill(~own, -torch.inf).argmax(dim=1)
    places = (order.masked_fill(~own, scores.shape[1]).amin(dim=1), order.gather(1, best[:, None])[:, 0])
    if len(expected) > 2 and any(torch.equal(result, place + start) for place in places for start in (0, 1)):
        return ONCE
    kindest = caption_ranks(scores, owner, torch.gt)
    for start, told in ((0, ""), (1, ", and start from 1")):
        if len(expected) > 2 and bool(((kindest <= result + start) & (result + start <= expected)).all()):
            return BY_LOT + told
    low = float(inputs["scores"].max()) < 0
    return None if low or not torch.equal(kindest, expected) else one_sided(result, expected)


def one_sided(result: Tensor, expected: Tensor) -> str | None:
    """On a case without ties and traps: to which side do the ranks err?"""
    return {
        "large": "no rank is too small, and some are too large: something is counted that is no rival, or the score to "
        "beat is too low",
        "small": "no rank is too large, and some are too small: rivals are left out, or the score to beat is too high",
    }.get(leaning(result, expected))


EXERCISE = Exercise(
    "caption-ranks",
    library=lambda scores, image_of_caption: torch.from_numpy(evaluation.caption_ranks(scores, image_of_caption)),
    example=Case(
        {
            "scores": torch.tensor([[0.9, 0.4, 0.7, 0.7], [0.1, 0.2, 0.3, 0.4]], dtype=torch.float64),
            "image_of_caption": torch.tensor([1, 1, 0, 0]),
        },
        worked=torch.tensor([2, 3]),
    ),
    cases=rank_cases,
    specification=rank_specification,
    mistakes=MISTAKES,
    family=(caption_ranks, FAMILY),
    explain=explain_ranks,
    exact=True,
    index=True,
    rehearsal=Rehearsal(lambda: gallery([5] * 200, 10), calls=90),
)
