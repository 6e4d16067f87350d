"""``packed-mrsw``, lesson 02.

MrSw of pictures and captions that lie end to end without padding, beside a walk along them; gradients too.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from itr_lib.checks._inputs import generator, sizes
from itr_lib.checks.frame import Case, Exercise, Inputs, Rehearsal
from itr_lib.similarity import alignment_scores, l2_normalise

SMALL: Inputs = {
    "regions": torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]], dtype=torch.float64),
    "region_counts": [2, 1],
    "words": torch.tensor([[0.0, 1.0], [1.0, 0.0], [-0.6, 0.8]], dtype=torch.float64),
    "word_counts": [2, 1],
}


def packed(region_counts: list[int], word_counts: list[int], dim: int, seed: int) -> Inputs:
    """Vectors of many lengths and directions."""
    region_counts, word_counts = sizes(*region_counts), sizes(*word_counts)
    g = generator(seed)
    return {
        "regions": torch.randn(sum(region_counts), dim, generator=g, dtype=torch.float64),
        "region_counts": region_counts,
        "words": torch.randn(sum(word_counts), dim, generator=g, dtype=torch.float64),
        "word_counts": word_counts,
    }


def packed_cases() -> Iterator[Case]:
    """As many pictures as captions, so that axes may be confused, and not; sets of one; a caption without a word."""
    yield Case(packed([2, 4, 3], [3, 1, 2], 4, 40))
    yield Case(packed([5, 1], [2, 4, 1, 1], 3, 41))
    yield Case(packed([1, 3, 2, 2], [4, 2], 6, 42))
    yield Case(packed([3, 3], [4, 4, 4], 5, 43), "all sets are equally large")
    yield Case(packed([4], [5], 2, 44), "there is one picture and one caption")
    far = packed([2, 3], [2, 1, 2], 3, 45)
    opposite = far | {"regions": far["regions"].abs() + 20, "words": -far["words"].abs() - 20}
    yield Case(opposite, "every dot product is far below 0")
    yield Case(packed([2, 3], [2, 0, 3], 4, 46), "a caption has no word")
    yield Case(packed([3, 1, 2], [2, 1, 0], 4, 47), "the last caption has no word")


def packed_specification(regions: Tensor, region_counts: list[int], words: Tensor, word_counts: list[int]) -> Tensor:
    """Picture by picture, caption by caption, counting through regions and words."""
    rows, r = [], 0
    for own_regions in region_counts:
        row, t = [], 0
        for own_words in word_counts:
            total = words.new_zeros(())
            for word in words[t : t + own_words]:
                total = total + max(((region * word).sum() for region in regions[r : r + own_regions]), key=Tensor.item)
            row.append(total)
            t += own_words
        rows.append(torch.stack(row))
        r += own_regions
    return torch.stack(rows)


def _slices(counts: list[int], how: str, others: int = 0) -> list[slice]:
    """Where the sets lie, with all that a learner may mistake in it; ``others``: how many the other side has."""
    total, ends = sum(counts), torch.tensor(counts).cumsum(0).tolist()
    starts = [end - count for end, count in zip(ends, counts, strict=True)]
    pairs = list(enumerate(zip(starts, ends, strict=True)))
    up, down = -(-total // len(counts)), total // len(counts)
    return {
        "right": [slice(a, b) for _, (a, b) in pairs],
        "grow": [slice(0, b) for _, (a, b) in pairs],
        "to the end": [slice(a, None) for _, (a, b) in pairs],
        "from 0": [slice(0, count) for count in counts],
        "lengths": [slice(sum(counts[i - 1 : i]), sum(counts[i - 1 : i]) + count) for i, count in enumerate(counts)],
        "equal": [slice(i * up, (i + 1) * up) for i in range(len(counts))],
        "equal, down": [slice(i * down, (i + 1) * down) for i in range(len(counts))],
        "border": [slice(a + (a > 0), b + 1) for _, (a, b) in pairs],
        "dealt": [slice(i, None, len(counts)) for i in range(len(counts))],
        "short": [slice(a, max(b - 1, a)) for _, (a, b) in pairs],
        "late start": [slice(a + 1, b) for _, (a, b) in pairs],
        "long": [slice(a, b + 1) for _, (a, b) in pairs],
        "early start": [slice(max(a - 1, 0), b) for _, (a, b) in pairs],
        "late": [slice(a + 1, b + 1) for _, (a, b) in pairs],
        "going on": [slice(a + others, b + others) for _, (a, b) in pairs],
        "stale": [slice(a + others, b + others) for _, (a, b) in pairs],
        "overlap": [slice(a - i, b - i) for i, (a, b) in pairs],
        "by one": [slice(i, i + b - a) for i, (a, b) in pairs],
        "gaps": [slice(a + i, b + i) for i, (a, b) in pairs],
        "backwards": [slice(total - b, total - a) for _, (a, b) in pairs],
        "everything": [slice(0, total) for _ in counts],
        "turned": _slices(counts[::-1], "right") if how == "turned" else [],
        "largest": [slice(i, i + max(counts)) for i in range(0, total, max(counts))],
    }[how]


def _packed(
    regions: Tensor, region_counts: list[int], words: Tensor, word_counts: list[int], cut_regions="right",
    cut_words="right", unit="none", start=None, pick="max", reduce="sum", mirrored=False, order="max first",
    transposed=False, padded=False, empty="zero",
) -> Tensor:  # fmt: skip
    """The scores with all that a learner may change in them."""
    regions = l2_normalise(regions) if unit in ("both", "regions") else regions
    words = l2_normalise(words) if unit in ("both", "words") else words
    rows = []
    for picture, mine in enumerate(_slices(region_counts, cut_regions)):
        row, before = [], picture * len(words) if cut_words == "going on" else len(regions)
        for own, count in zip(_slices(word_counts, cut_words, before), word_counts, strict=True):
            if count == 0 and empty != "zero":
                row += [words.new_tensor(-torch.inf)] * (empty == "infinite")
                continue
            dots = regions[mine] @ words[own].T / (regions.shape[1] ** 0.5 if unit == "scaled" else 1)  # of one pair
            begin = 0.0 if padded and len(dots) < max(region_counts) else start
            row.append(_one_pair(dots.T if mirrored else dots, begin, pick, reduce, order))
        rows.append(torch.stack(row))
    scores = torch.stack(rows)
    return scores.T if transposed else scores


def _one_pair(dots: Tensor, start: float | None, pick: str, reduce: str, order: str) -> Tensor:
    """``start``: what a running maximum begins with."""
    if dots.shape[1] == 0:
        return dots.new_tensor(torch.nan if reduce == "mean" else 0)
    if order == "sum first":
        return dots.sum(dim=1).amax()
    best = {"max": dots.amax, "min": dots.amin, "sum": dots.sum, "mean": dots.mean}[pick](dim=0)
    best = best if start is None else best.clamp(min=start)
    if reduce == "last":
        return best[-1]
    return {"sum": best.sum, "mean": best.mean, "mean or 0": best.mean, "max": best.amax}[reduce]()


CUTS = {  # {s}: one of a set's elements, {x}: a set
    "each {x} holds the {s}s of all {x}s before it, too: cut at the cumulative sum on both sides": "grow",
    "each {x} goes on to the very last {s}: cut at the cumulative sum on both sides": "to the end",
    "every {x} begins at {s} 0: begin where the one before it ends": "from 0",
    "you cut the {s}s at the counts themselves: {x} i begins at the sum of all counts before it": "lengths",
    "the {s}s are cut into equal parts: {x} i has {s}_counts[i] of them": "equal",
    "the {s}s are cut into equal parts, and the rest is dropped: {x} i has {s}_counts[i] of them": "equal, down",
    "the first {s} of each {x} but the first goes to the one before it: an end lies before its place": "border",
    "the {s}s are dealt out in turn, as cards are: those of one {x} stand together": "dealt",
    "the last {s} of each {x} is missing: a slice already leaves out its end": "short",
    "the first {s} of each {x} is missing: start at the sum of the counts before it": "late start",
    "each {x} takes the first {s} of the next one, too: a slice ends before its stop": "long",
    "each {x} begins one {s} too early": "early start",
    "every {x} begins and ends one {s} too late": "late",
    "each {x} begins at the last {s} of the one before it: go on by the whole count": "overlap",
    "the start moves on by one {s} from {x} to {x}: go on by the count": "by one",
    "a {s} is skipped between two {x}s: the next one begins where the one before it ends": "gaps",
    "the {s}s are read from the back: {x} 0 comes first": "backwards",
    "the {s}s are not cut at all: each {x} has only its own": "everything",
    "the counts of the {s}s are read from the back: {x} 0 comes first": "turned",
    "every {x} takes as many {s}s as the largest: {x} i has {s}_counts[i] of them": "largest",
}
TOGGLES = {
    "this is the mean over words (MrAVGw), and NaN without any: add them up": {"reduce": "mean"},
    "this is the mean over words (MrAVGw): add them up": {"reduce": "mean or 0"},
    "the padding of smaller pictures is 0 and wins where their dot products are negative: fill it with -torch.inf": {
        "padded": True
    },
    "this is the best word only: add the words up": {"reduce": "max"},
    "this is the last word alone: add up with +=": {"reduce": "last"},
    "each word takes its worst region (min): the best is asked for": {"pick": "min"},
    "this is the sum of all dot products: each word takes its best region only": {"pick": "sum"},
    "this is the mean over regions: each word takes its best region": {"pick": "mean"},
    **{
        f"the maximum begins at {value}, which stands where all dot products are lower: begin with -torch.inf "
        "(scatter_reduce takes what it finds in the tensor for a first value)": {"start": float(value)}
        for value in (0, -1, -10, -100, -1000)
    },
    "the dot products are divided by the root of D, as in attention: use them as they are": {"unit": "scaled"},
    "these are cosines: use the dot products as they are": {"unit": "both"},
    "the words are normalised: use the dot products as they are": {"unit": "words"},
    "the regions are normalised: use the dot products as they are": {"unit": "regions"},
    "this is MwSr, the best word of each region, added over regions: take the maximum over regions": {"mirrored": True},
    "you added the words first and took the maximum then: each word takes its own best region": {"order": "sum first"},
    "pictures and captions are exchanged: (N, M) is asked for": {"transposed": True},
    **{told.format(s="region", x="picture"): {"cut_regions": how} for told, how in CUTS.items()},
    **{told.format(s="word", x="caption"): {"cut_words": how} for told, how in CUTS.items()},
    "the words are read on from where the regions ended: set the start back to 0 for them": {"cut_words": "stale"},
    "the words of each picture are read on from where the one before ended: set the start back to 0 for each": {
        "cut_words": "going on"
    },
    "a caption without a word is left out: it has a column, too, of 0": {"empty": "skipped"},
    "a caption without a word gives NaN or minus infinity: it scores 0": {"empty": "infinite"},
}


def batch_of_the_lesson() -> Inputs:
    """A quarter of the pairs in a batch of the lesson's training."""
    counts = [
        [int(n) for n in torch.randint(low, high, (64,), generator=generator(0))] for low, high in ((20, 37), (7, 20))
    ]
    inputs = packed(*counts, 128, seed=0)
    return inputs | {name: l2_normalise(inputs[name]).float().requires_grad_(True) for name in ("regions", "words")}


def library_packed(regions: Tensor, region_counts: list[int], words: Tensor, word_counts: list[int]) -> Tensor:
    """The library's scores take padded sets and masks."""
    sets = []
    for vectors, counts in ((regions, region_counts), (words, word_counts)):
        padded = torch.nn.utils.rnn.pad_sequence(vectors.split(list(counts)), batch_first=True)
        real = (
            torch.arange(padded.shape[1], device=vectors.device) < torch.tensor(counts, device=vectors.device)[:, None]
        )
        sets.append((padded, real))
    return alignment_scores(sets[0][0], sets[1][0], sets[0][1], sets[1][1])


def _steps(regions: Tensor, region_counts: list[int], words: Tensor, word_counts: list[int]) -> str:
    """How the last score comes about, where all that came before must have been counted rightly."""
    mine, own = (_slices(counts, "right")[-1] for counts in (region_counts, word_counts))
    best = (regions[mine] @ words[own].T).amax(dim=0)
    summands = " + ".join(f"({value:.4g})" for value in best.tolist()) or "nothing"
    return (
        f"the last picture has regions {mine.start} to {mine.stop - 1}, the last caption the words from {own.start} "
        f"on; their score adds up the best dot product of each word, {summands} = {float(best.sum()):.4g}"
    )


EXERCISE = Exercise(
    "packed-mrsw",
    library=library_packed,
    example=Case(SMALL, worked=torch.tensor([[1.8, 0.28], [1.0, 0.8]])),
    cases=packed_cases,
    specification=packed_specification,
    steps=_steps,
    family=(_packed, TOGGLES),
    gradients=("regions", "words"),
    rehearsal=Rehearsal(batch_of_the_lesson, calls=3200),
)
