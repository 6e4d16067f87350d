"""``mrsw``, lesson 02.

The best real region of each real word, added over words, beside loops; gradients too.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from itr_lib.checks._inputs import generator, mask_any_real, sizes, uniform
from itr_lib.checks.frame import Case, Exercise, Inputs, Rehearsal

SMALL: Inputs = {
    "alignments": torch.tensor([[[[0.9, -0.5, 0.0], [0.1, -0.3, 0.0], [0.0, 0.0, 0.0]]]], dtype=torch.float64),
    "region_mask": torch.tensor([[True, True, False]]),
    "word_mask": torch.tensor([[True, True, False]]),
}


def padded_cases() -> Iterator[Case]:
    """Cosines with garbage where padding is; for some words every real one is negative."""
    everything = torch.ones(3, 4, dtype=torch.bool)
    yield Case(padded(everything, everything[:2], 19))
    regions = torch.tensor([[1, 1, 0, 1], [0, 1, 1, 0], [1, 1, 1, 1]]).bool()
    words = torch.tensor([[1, 0, 1, 1], [1, 1, 1, 1], [0, 1, 0, 0]]).bool()
    yield Case(padded(regions, words, 20))  # square, so that axes may be confused
    for seed, shape in enumerate([(2, 4, 5, 3), (4, 2, 3, 6), (1, 3, 6, 2)], start=21):
        (n, m, r, w), g = sizes(*shape), generator(seed)
        yield Case(padded(mask_any_real(n, r, g), mask_any_real(m, w, g), seed))
    yield Case(padded(everything[:1, :1], everything[:1, :1], 24), "there is one region and one word")


def padded(region_mask: Tensor, word_mask: Tensor, seed: int) -> Inputs:
    """Cosines, some words' all negative, with garbage in padded places."""
    g, (n, r), (m, w) = generator(seed), region_mask.shape, word_mask.shape
    cosines = uniform(n, m, r, w, g=g)
    misfit = torch.rand(n, m, 1, w, generator=g) < 0.4
    cosines = torch.where(misfit, -cosines.abs(), cosines)
    garbage = torch.tensor([5.0, -3.0, 4.0], dtype=torch.float64)[torch.randint(3, (n, m, r, w), generator=g)]
    real = region_mask[:, None, :, None] & word_mask[None, :, None, :]
    return {
        "alignments": torch.where(real, cosines, garbage),
        "region_mask": region_mask,
        "word_mask": word_mask,
    }


def mrsw_cases() -> Iterator[Case]:
    """The padded cases; a wrong picture, all of whose cosines are negative; large numbers; a caption without a word."""
    yield from padded_cases()
    g = generator(30)
    case = padded(mask_any_real(2, 5, g), mask_any_real(3, 4, g), 31)
    below = -case["alignments"].abs()
    yield Case(case | {"alignments": below}, "every alignment is negative, as with a wrong picture")
    real = case["region_mask"][:, None, :, None] & case["word_mask"][None, :, None, :]
    low = torch.where(real, 5000 * (below - 2.5), case["alignments"])
    yield Case(case | {"alignments": low}, "the alignments are no cosines and lie below -10,000")
    words = mask_any_real(3, 4, g)
    words[1] = False
    yield Case(padded(mask_any_real(2, 5, g), words, 32), "a caption has no real word")


def mrsw_specification(alignments: Tensor, region_mask: Tensor, word_mask: Tensor) -> Tensor:
    """Pair by pair, word by word: the best of the real regions, added up over the real words."""
    scores = []
    for n in range(len(region_mask)):
        for m in range(len(word_mask)):
            total = alignments.new_zeros(())
            for w in range(word_mask.shape[1]):
                if word_mask[m, w]:
                    regions = [alignments[n, m, r, w] for r in range(region_mask.shape[1]) if region_mask[n, r]]
                    total = total + max(regions, key=Tensor.item)
            scores.append(total)
    return torch.stack(scores).reshape(len(region_mask), len(word_mask))


def _mask(mask: Tensor, how: str) -> Tensor:
    """Another mask of the same sets."""
    first = torch.arange(mask.shape[1], device=mask.device)
    return {
        "real": mask,
        "none": torch.ones_like(mask),
        "turned": ~mask,
        "at the end": first < mask.sum(dim=1, keepdim=True),
        "of set 0": mask[:1].expand_as(mask),
        "not the first": mask & (first > 0),
        "not the last": mask & (first < mask.shape[1] - 1),
    }[how]


def wrong_mrsw(
    alignments: Tensor, region_mask: Tensor, word_mask: Tensor, regions="real", words="real", region_axes="n r",
    word_axes="m w", fill=-torch.inf, lower=None, pick="max", floor=False, left=0.0, reduce="sum", mirrored=False,
    order="max first", transposed=False, empty=None,
) -> Tensor:  # fmt: skip
    """MrSw with all that a learner may change in it."""
    if mirrored:
        alignments, region_mask, word_mask = alignments.permute(1, 0, 3, 2), word_mask, region_mask
        regions, words = words, regions
    real, said = _mask(region_mask, regions), _mask(word_mask, words)
    mixed = region_axes == "m r if it fits"
    region_axes = ("m r" if len(real) == alignments.shape[1] else "n r") if mixed else region_axes
    real = {"n r": real[:, None, :, None], "n w": real[:, None, None, :], "m r": real[None, :, :, None]}[region_axes]
    said = {"m w": said[None], "n w": said[:, None]}[word_axes]
    if order == "sum first":
        sums = alignments.masked_fill(~said[:, :, None], 0).sum(dim=3)
        return sums.masked_fill(~real[..., 0], -torch.inf).amax(dim=2)
    if lower is not None:
        alignments, fill = alignments - lower * ~real, None
    best = _best(alignments, real, fill, pick)
    best = torch.relu(best) if floor else best
    best = best if empty is None else best.masked_fill(best == -torch.inf, empty)
    scores = _added(best, said, left, reduce)
    return scores.T if mirrored != transposed else scores


def _best(alignments: Tensor, real: Tensor, fill: float | None, pick: str) -> Tensor:
    """One number a word from its regions: (N, M, R, W) -> (N, M, W)."""
    if pick in ("mean", "sum", "width"):
        total = alignments.masked_fill(~real, 0).sum(dim=2)
        count = real.expand_as(alignments).sum(dim=2) if pick == "mean" else alignments.shape[2]
        return total if pick == "sum" else total / count
    if pick == "min":
        return alignments.masked_fill(~real, torch.inf).amin(dim=2)
    filled = alignments if fill is None else alignments.masked_fill(~real, fill)
    if pick == "size":
        return alignments.masked_fill(~real, 0).abs().amax(dim=2)
    if pick == "first":
        return filled[:, :, 0]
    if pick == "soft":
        return filled.logsumexp(dim=2)
    return filled.amax(dim=2)


def _added(best: Tensor, said: Tensor, left: float | None, reduce: str) -> Tensor:
    """One number a pair from its words: (N, M, W) -> (N, M). ``left``: what padded words become; None: 0 times them."""
    kept = best * said if left is None else best.masked_fill(~said, left)
    if reduce in ("max", "max or 0"):
        highest = best.masked_fill(~said, -torch.inf).amax(dim=-1)
        return highest if reduce == "max" else highest.masked_fill(~said.any(dim=-1), 0)
    if reduce == "last":
        place = (said * torch.arange(1, best.shape[2] + 1, device=best.device)).amax(dim=-1, keepdim=True) - 1
        return kept.gather(2, place.clamp(min=0).expand(*best.shape[:2], 1))[..., 0]
    if reduce == "images":
        return kept.sum(dim=-1) / len(best)
    total = kept.sum(dim=-1)
    divisor = {"real": said.sum(dim=-1), "at least 1": said.sum(dim=-1).clamp(min=1), "width": best.shape[2]}
    divisor |= {"all words": said.sum()}
    divisor |= {"root": said.sum(dim=-1).clamp(min=1).sqrt(), "sum": 1, "no word": said.any(dim=-1)}
    return total / divisor[reduce]


INFINITE = (
    "padded words are left at -inf and are added up, or multiplied by 0, which is NaN: before the sum set them to 0 "
    "with masked_fill or torch.where"
)
TOGGLES = {
    "padded regions became 0 before the maximum, and win where every real alignment is negative (as in TERAN's "
    "released code): fill with -torch.inf": {"fill": 0.0},
    "a padded region became 1 before the maximum, and wins: fill with -torch.inf": {"fill": 1.0},
    **{
        f"a padded region became {value} before the maximum: alignments may be any numbers, and lie lower still; "
        "fill with -torch.inf": {"fill": float(value)}
        for value in (-1, -2, -10, -99, -100, -999, -1000, -9999, -10000)
    },
    **{
        f"{value} is subtracted from padded regions, which may not be enough: fill with -torch.inf": {
            "lower": float(value)
        }
        for value in (1, 10, 100, 1000, 10000)
    },
    "padded regions take part in the maximum: fill them with -torch.inf first": {"regions": "none"},
    "padded words are added up: set their maximum to 0 before the sum": {"words": "none"},
    "region_mask is turned round: masked_fill fills where it is True, so give it ~region_mask": {"regions": "turned"},
    "word_mask is turned round: masked_fill fills where it is True, so give it ~word_mask": {"words": "turned"},
    "you take padded regions to stand at the end: they stand anywhere, so use region_mask itself": {
        "regions": "at the end"
    },
    "you take padded words to stand at the end: they stand anywhere, so use word_mask itself": {"words": "at the end"},
    "the first region is left out: counting starts at 0": {"regions": "not the first"},
    "the first word is left out: counting starts at 0 (and word_mask leaves out [CLS] already)": {
        "words": "not the first"
    },
    "the last region is left out: a range or a slice ends before its stop": {"regions": "not the last"},
    "the last word is left out (word_mask leaves out [SEP] already)": {"words": "not the last"},
    "region_mask stands on the axis of the words: [:, None, :, None] fits (N, M, R, W)": {"region_axes": "n w"},
    "region_mask stands on the axis of the captions: [:, None, :, None] fits (N, M, R, W)": {"region_axes": "m r"},
    "word_mask stands on the axis of the pictures: after the maximum [None] fits (N, M, W)": {"word_axes": "n w"},
    INFINITE: {"left": -torch.inf},
    "caption 0's word_mask is used for all captions: an index does not move on": {"words": "of set 0"},
    "picture 0's region_mask is used for all pictures: an index does not move on": {"regions": "of set 0"},
    "region_mask stands on the axis of the captions wherever it fits there: it goes with the pictures, [:, None, :, "
    "None]": {"region_axes": "m r if it fits"},
    "a padded word counts 1: before the sum fill it with 0": {"left": 1.0},
    "a padded word counts -1: before the sum fill it with 0": {"left": -1.0},
    "this is the mean over the real words (MrAVGw), and NaN for a caption without one: add the words up": {
        "reduce": "real"
    },
    "this is the mean over the real words (MrAVGw): add them up": {"reduce": "at least 1"},
    "this is the mean over words and padding: add the words up": {"reduce": "width"},
    "this is divided by the root of the number of words: add the words up": {"reduce": "root"},
    "this is divided by the number of pictures: add the words up": {"reduce": "images"},
    "this is divided by the words of all captions: add the words up, and divide by nothing": {"reduce": "all words"},
    "a caption without a real word gives NaN or infinity (0 / 0, or a maximum over nothing): its score is 0": {
        "reduce": "no word"
    },
    "you took the maximum over words, too: add the words up": {"reduce": "max"},
    "you took the maximum over words, too, or 0 without any: add the words up": {"reduce": "max or 0"},
    "this is the last word alone: add up with +=, and return after the loop": {"reduce": "last"},
    "this is the sum of all alignments: each word takes its best region only": {"pick": "sum"},
    "this is the mean over regions, added over words: each word takes its best region": {"pick": "mean"},
    "this is the mean over regions and padding, added over words: each word takes its best region": {"pick": "width"},
    "each word takes its worst region here (min): the best is asked for": {"pick": "min"},
    "each word takes the region whose alignment is largest without its sign: no abs": {"pick": "size"},
    "a logsumexp stands in place of the maximum: each word takes its best region": {"pick": "soft"},
    "each word takes the first region: take the maximum over the regions (axis 2)": {"pick": "first"},
    "a word that fits nowhere counts 0, not its best alignment: it must lower the score, so leave negative ones": {
        "floor": True
    },
    "this is MwSr, the best word of each region, added over regions: take the maximum over regions (axis 2)": {
        "mirrored": True
    },
    "this is MwSr, the best word of each region, or 0 without any, added over regions: take the maximum over regions "
    "(axis 2)": {"mirrored": True, "empty": 0.0},
    "you added first and took the maximum then: each word takes its own best region, and then words are added": {
        "order": "sum first"
    },
    "pictures and captions are exchanged: (N, M) is asked for": {"transposed": True},
}


def _infinite(alignments: Tensor, region_mask: Tensor, word_mask: Tensor) -> Tensor:
    """One mask for regions and words together, before the maximum: padded words come out of it at -inf."""
    real = region_mask[:, None, :, None] & word_mask[None, :, None, :]
    return alignments.masked_fill(~real, -torch.inf).amax(dim=2).sum(dim=-1)


def _zeroed(alignments: Tensor, region_mask: Tensor, word_mask: Tensor) -> Tensor:
    """As TERAN's released code: zeros wherever a region or a word is padding."""
    real = region_mask[:, None, :, None] & word_mask[None, :, None, :]
    return alignments.masked_fill(~real, 0).amax(dim=2).sum(dim=-1)


def cosines_of_the_lesson() -> Inputs:
    """Of 50 pictures with 20 captions, as many numbers as the lesson's."""
    g = generator(0)
    masks = {"region_mask": mask_any_real(50, 36, g), "word_mask": mask_any_real(20, 21, g)}
    return {"alignments": uniform(50, 20, 36, 21, g=g).float(), **masks}


def library_mrsw(alignments: Tensor, region_mask: Tensor, word_mask: Tensor) -> Tensor:
    """MrSw of alignments that are there already."""
    best = alignments.masked_fill(~region_mask[:, None, :, None], -torch.inf).amax(dim=2)
    return best.masked_fill(~word_mask[None], 0).sum(dim=-1)


def _steps(alignments: Tensor, region_mask: Tensor, word_mask: Tensor) -> str:
    """How the score of picture 0 with caption 0 comes about."""
    best = alignments[0, 0, region_mask[0]][:, word_mask[0]].amax(dim=0)
    summands = " + ".join(f"({value:.4g})" for value in best.tolist()) or "nothing"
    return f"[0, 0] adds up the best real region of each real word, {summands} = {float(best.sum()):.4g}"


EXERCISE = Exercise(
    "mrsw",
    library=library_mrsw,
    example=Case(SMALL, worked=torch.tensor([[0.6]])),
    cases=mrsw_cases,
    specification=mrsw_specification,
    mistakes={
        "no mask is used: padded regions win the maximum, padded words are added": (
            lambda alignments, region_mask, word_mask: alignments.amax(dim=2).sum(dim=-1)
        ),
        "this is MwSr with padding left in: take the maximum over regions (axis 2), add over words, use both masks": (
            lambda alignments, region_mask, word_mask: alignments.amax(dim=3).sum(dim=2)
        ),
        "padded regions became 0 before the maximum, and win where every real alignment is negative (as in TERAN's "
        "released code): fill with -torch.inf": _zeroed,
        INFINITE: _infinite,
    },
    steps=_steps,
    family=(wrong_mrsw, TOGGLES),
    gradients=("alignments",),
    rehearsal=Rehearsal(cosines_of_the_lesson, calls=4000),
)
