"""``best-regions``, lesson 03.

Which real region hard coding chooses for each word, beside loops: the first of the best.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from itr_lib.checks._inputs import generator, mask_any_real, sizes, uniform
from itr_lib.checks.frame import Case, Exercise, Inputs, Rehearsal


def best_library(alignments: Tensor, region_mask: Tensor) -> Tensor:
    """Places of the largest alignments with real regions."""
    return alignments.masked_fill(~region_mask[:, None, :, None], -torch.inf).argmax(dim=2)


EXAMPLE = Case(
    {
        "alignments": torch.tensor([[[[0.3, -0.9], [0.8, -0.2], [0.8, -0.4]]]], dtype=torch.float64),
        "region_mask": torch.ones(1, 3, dtype=torch.bool),
    },
    worked=[[[1, 1]]],
)


def best_cases() -> Iterator[Case]:
    """Alignments without equals, then what goes wrong at the edges; padding anywhere, with garbage in it."""
    for seed, shape in enumerate([(3, 3, 4, 4), (2, 4, 5, 3), (1, 3, 6, 2), (1, 1, 1, 1)]):
        yield Case(_random(sizes(*shape), seed))
    negative = _random((2, 3, 5, 4), 5)
    yield Case(negative | {"alignments": -negative["alignments"].abs()}, "every alignment is negative")
    for seed, size in enumerate((2, 20, 200, 20_000)):
        far = _random((2, 3, 5, 4), 10 + seed)
        below = -size * (1 + far["alignments"].abs())
        yield Case(far | {"alignments": below}, f"no alignment is above {-size}")
        yield Case(far | {"alignments": torch.where(below < -1.5 * size, below, -below)}, "alignments are no cosines")
    first = _random((3, 2, 4, 3), 7, mask=torch.tensor([[0, 0, 1, 1], [0, 1, 1, 1], [0, 1, 0, 1]]).bool())
    yield Case(first, "padding stands before the real regions")
    level = _random((3, 2, 6, 4), 8)
    coarse = (2 * level["alignments"]).round() / 2  # exact in every kind of float
    yield Case(level | {"alignments": coarse}, "two regions are level: the first of them is asked for")


def _random(shape: Sequence[int], seed: int, mask: Tensor | None = None) -> Inputs:
    g = generator(300 + seed)
    mask = mask_any_real(shape[0], shape[2], g) if mask is None else mask
    alignments = uniform(*shape, g=g)
    garbage = torch.where(torch.rand(shape, generator=g) < 0.5, 5.0, -3.0).double()
    return {"alignments": torch.where(mask[:, None, :, None], alignments, garbage), "region_mask": mask}


def best_specification(alignments: Tensor, region_mask: Tensor) -> Tensor:
    """Picture by picture, caption by caption, word by word: the first real region with the largest alignment."""
    places = []
    for image, real in zip(alignments.tolist(), region_mask.tolist(), strict=True):
        for caption in image:
            for t in range(len(caption[0])):
                values = [(row[t], -r) for r, row in enumerate(caption) if real[r]]
                places.append(-max(values)[1])
    shape = (alignments.shape[0], alignments.shape[1], alignments.shape[3])
    return torch.tensor(places, device=alignments.device).view(shape)


def _best(
    alignments, region_mask, fill=-torch.inf, mask=lambda m: m[:, None, :, None], change=lambda A: A,
    pick=lambda A: A.argmax(dim=2), after=lambda places, A: places,
):  # fmt: skip
    """The choice with a step done otherwise; every option is a mistake of the family below."""
    keep, A = mask(region_mask), change(alignments)
    filled = A.masked_fill(~keep, fill)
    return after(pick(filled), filled)


def _last(A: Tensor) -> Tensor:
    return A.shape[2] - 1 - A.flip(2).argmax(dim=2)


def _among_real(alignments, region_mask):
    """Places among the real regions, as if padding were not there."""
    rows = [image[:, real].argmax(dim=1) for image, real in zip(alignments, region_mask, strict=True)]
    return torch.stack(rows)


def _over_pictures(places: Tensor, A: Tensor) -> Tensor:
    """The place in a list of all regions of all pictures."""
    return places + A.shape[2] * torch.arange(len(A), device=A.device)[:, None, None]


FAMILY = {
    "padding takes part as it came: fill it with -torch.inf before the argmax": {
        "mask": lambda m: torch.ones_like(m)[:, None, :, None]
    },
    "the mask is turned round: masked_fill fills where it is True, so give it ~region_mask": {
        "mask": lambda m: ~m[:, None, :, None]
    },
    "the mask is laid along the captions: it belongs to the pictures, axes (N, 1, R, 1)": {
        "mask": lambda m: m[None, :, :, None]
    },
    "the mask is laid along the words: it belongs to the regions, axes (N, 1, R, 1)": {
        "mask": lambda m: m[:, None, None, :]
    },
    "a place is left out only where it is padding in all pictures (any): each picture has a mask of its own": {
        "mask": lambda m: m.any(0)[None, None, :, None]
    },
    "a place is left out wherever it is padding in any picture (all): each picture has a mask of its own": {
        "mask": lambda m: m.all(0)[None, None, :, None]
    },
    "padding became 0 (by a fill, or a product with the mask), and 0 beats a negative alignment: fill it with "
    "-torch.inf": {"fill": 0.0},
    "padding became 1, which no cosine beats: fill it with -torch.inf": {"fill": 1.0},
    "padding became -1: alignments can lie below that; fill it with -torch.inf": {"fill": -1.0},
    "padding became -10: alignments can lie below that; fill it with -torch.inf": {"fill": -10.0},
    "padding became -100: alignments can lie below that; fill it with -torch.inf": {"fill": -100.0},
    "padding became -1000: alignments can lie below that; fill it with -torch.inf": {"fill": -1000.0},
    "padding became plus infinity, which always wins: fill it with -torch.inf": {"fill": torch.inf},
    "real regions are taken to come first: use the mask, not its sum": {
        "mask": lambda m: (torch.arange(m.shape[1], device=m.device) < m.sum(1, keepdim=True))[:, None, :, None]
    },
    "this is the second best region": {"pick": lambda A: A.topk(min(2, A.shape[2]), dim=2).indices[:, :, -1]},
    "this is a mean of places, weighed by a softmax: the place of the best one is asked for": {
        "pick": lambda A: (A.softmax(2) * torch.arange(A.shape[2], device=A.device)[:, None]).sum(2).round().long()
    },
    "this is the worst region (argmin): the best has the largest alignment": {"pick": lambda A: A.argmin(dim=2)},
    "of regions that are level you take the last: the first is asked for, as argmax takes it": {"pick": _last},
    "the argmax runs over the words: each word chooses among the regions, dim 2": {"pick": lambda A: A.argmax(dim=3)},
    "the argmax runs over the captions: each word chooses among the regions, dim 2": {
        "pick": lambda A: A.argmax(dim=1)
    },
    "these are the alignments of the best regions: their places are asked for (argmax, not amax)": {
        "pick": lambda A: A.amax(dim=2)
    },
    "you took the largest absolute value: a region that points away from the word does not fit it": {
        "change": torch.abs
    },
    "negative alignments became 0, so that they are all level: leave them as they are": {"change": torch.relu},
    "these are places in a list of all regions of all pictures: count within the picture, from 0": {
        "after": _over_pictures
    },
    "these are places in a list of all regions and words: each word chooses among the regions, dim 2": {
        "pick": lambda A: A.flatten(2).argmax(2)[..., None].expand(-1, -1, A.shape[3])
    },
    "pictures and captions are exchanged in the result: it is (pictures, captions, words)": {
        "after": lambda places, A: places.transpose(0, 1)
    },
    "the alignments are averaged over the captions first: each caption has its own winners": {
        "change": lambda A: A.mean(1, keepdim=True).expand_as(A)
    },
    "the winners of caption 0 stand for all captions: each caption has its own": {
        "after": lambda places, A: places[:, :1].expand_as(places)
    },
    "the winners of picture 0 stand for all pictures: each picture has its own": {
        "after": lambda places, A: places[:1].expand_as(places)
    },
    "the winner of word 0 stands for all words: each word has its own": {
        "after": lambda places, A: places[..., :1].expand_as(places)
    },
    "regions are counted from 1: count from 0": {"after": lambda places, A: places + 1},
}


def _real_work() -> Inputs:
    """A part of a batch of training."""
    inputs = _random((16, 32, 36, 13), 9)
    return inputs | {"alignments": inputs["alignments"].float()}


def _search_from_zero(alignments, region_mask):
    """A loop that begins with ``best = 0``."""
    filled = alignments.masked_fill(~region_mask[:, None, :, None], -torch.inf)
    return torch.where(filled.amax(dim=2) > 0, filled.argmax(dim=2), 0)


EXERCISE = Exercise(
    "best-regions",
    library=best_library,
    example=EXAMPLE,
    cases=best_cases,
    specification=best_specification,
    mistakes={
        "the search starts at 0, which no negative alignment beats: start at minus infinity": _search_from_zero,
        "these are places among the real regions only: count padded places, too, so that the number is an index": (
            _among_real
        ),
        "the worst real region is taken (argmin, with padding at plus infinity): the best is asked for": (
            lambda alignments, region_mask: _best(
                alignments, region_mask, fill=torch.inf, pick=lambda A: A.argmin(dim=2)
            )
        ),
        "this is a table of zeros and ones (one-hot): give the place of the one": lambda alignments, region_mask: (
            torch.nn.functional.one_hot(best_library(alignments, region_mask), alignments.shape[2]).movedim(3, 2)
        ),
        "the alignments of all words are added up, and one region wins for the whole caption: every word chooses its "
        "own": lambda alignments, region_mask: (
            alignments.masked_fill(~region_mask[:, None, :, None], -torch.inf)
            .sum(dim=3)
            .argmax(dim=2)[..., None]
            .expand(-1, -1, alignments.shape[3])
        ),
        "two things: the mask is turned round, give masked_fill ~region_mask; and the worst region is taken (argmin), "
        "the best is asked for": lambda alignments, region_mask: _best(
            alignments, ~region_mask, fill=torch.inf, pick=lambda A: A.argmin(dim=2)
        ),
        "this is one region a picture and caption: every word chooses its own": lambda alignments, region_mask: (
            alignments.masked_fill(~region_mask[:, None, :, None], -torch.inf)
            .amax(dim=3)
            .argmax(dim=2)[..., None]
            .expand(-1, -1, alignments.shape[3])
        ),
        "of regions that are level you count how many there are: the first one's place is asked for": (
            lambda alignments, region_mask: (
                alignments.masked_fill(~region_mask[:, None, :, None], -torch.inf)
                == alignments.masked_fill(~region_mask[:, None, :, None], -torch.inf).amax(dim=2, keepdim=True)
            ).sum(dim=2)
        ),
    },
    family=(_best, FAMILY),
    exact=True,
    index=True,
    rehearsal=Rehearsal(_real_work, calls=785 * 32),
)
