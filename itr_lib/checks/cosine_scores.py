"""``cosine-scores``, lesson 00.

The cosine of every image with every caption, beside loops over pairs and numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from itr_lib.checks._inputs import generator, sizes
from itr_lib.checks._mistakes import leaning, unit
from itr_lib.checks.frame import Case, Exercise, Rehearsal
from itr_lib.checks.outcome import Inputs
from itr_lib.similarity import cosine_scores

ZERO_IMAGE, ZERO_CAPTION = "an image is a zero vector", "a caption is a zero vector"


def vectors(n: int, m: int, d: int, seed: int) -> dict[str, Tensor]:
    """So many images and captions of d numbers each, none of length 0."""
    g = generator(seed)
    images = 3 * torch.randn(n, d, generator=g, dtype=torch.float64)
    return {"images": images, "captions": torch.randn(m, d, generator=g, dtype=torch.float64)}


def cosine_cases() -> Iterator[Case]:
    """Random shapes, one image against one caption, short vectors, and zero vectors on either side."""
    for seed, shape in enumerate([(3, 5, 4), (7, 2, 3), (4, 4, 8), (4, 4, 4)]):
        yield Case(vectors(*sizes(*shape), seed=seed))
    yield Case(vectors(1, 1, 6, seed=4), "there is one image and one caption")
    for lengths in ((0.2, 0.3), (0.3, 2.0), (0.06, 1.0), (1.0, 0.06)):
        pair = zip(lengths, vectors(3, 4, 5, seed=5).items(), strict=True)
        trap = "vectors are shorter than 0.1" if min(lengths) < 0.1 else "vectors are shorter than 1"
        yield Case({name: length * unit(x) for length, (name, x) in pair}, trap)
    level = torch.tensor([[1.0, -1, 2, -2], [3, 0, 0, -3], [1, 2, 3, 4]], dtype=torch.float64)
    yield Case({"images": level, "captions": level.flip(1)[:2]}, "a vector's numbers add up to 0, though it is not 0")
    for seed, side, trap in ((6, "images", ZERO_IMAGE), (7, "captions", ZERO_CAPTION)):
        zero = vectors(4, 3, 5, seed=seed)
        zero[side][1] = 0
        yield Case(zero, trap)


def cosine_specification(images: Tensor, captions: Tensor) -> Tensor:
    """Dot product over both lengths, pair by pair; a zero vector scores 0."""
    scores = torch.zeros(len(images), len(captions), dtype=images.dtype, device=images.device)
    for i, image in enumerate(images):
        for j, caption in enumerate(captions):
            lengths = math.sqrt(sum(x * x for x in image.tolist())) * math.sqrt(sum(x * x for x in caption.tolist()))
            if lengths > 0:
                scores[i, j] = sum(a * b for a, b in zip(image.tolist(), caption.tolist(), strict=True)) / lengths
    return scores


def _keep(x: Tensor) -> Tensor:
    return x


def _by(length: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Divide the vectors by what ``length`` makes of them, where that is not 0."""

    def divided(x: Tensor) -> Tensor:
        by = length(x)
        return x / torch.where(by != 0, by, 1)

    return divided


def _lengths(x: Tensor) -> Tensor:
    return x.norm(dim=1, keepdim=True)


def cosine(images, captions, image=unit, caption=unit, before=_keep, after=_keep, score=None):
    """Cosines with other ways to divide, to prepare and to finish; or another score of two unit vectors."""
    left, right = image(before(images)), caption(before(captions))
    return after(score(left, right) if score else left @ right.T)


def _pairwise(combine: Callable[[Tensor, Tensor], Tensor]) -> Callable:
    """Dot products divided by something of both lengths, (N, 1) and (1, M)."""

    def scores(images, captions):
        by = combine(_lengths(images), _lengths(captions).T)
        return images @ captions.T / torch.where(by > 0, by, 1)

    return scores


def _ones_for_zero(side: Callable[[Tensor, Tensor], Tensor]) -> Callable:
    """Cosines that are 1 for the zero vectors of a side, or of both."""
    return lambda images, captions: cosine_specification(images, captions).masked_fill(
        side(_lengths(images) == 0, _lengths(captions).T == 0), 1
    )


def _only(rows: slice, columns: slice = slice(None)) -> Callable[[Tensor], Tensor]:
    """Nothing but a part of the scores is filled."""

    def part(scores: Tensor) -> Tensor:
        filled = torch.zeros_like(scores)
        filled[rows, columns] = scores[rows, columns]
        return filled

    return part


def explain_cosines(inputs: Inputs, result: Tensor, expected: Tensor) -> str | None:
    """Where no known mistake explains it: are these cosines at all, and to which side do they err?"""
    zero = (_lengths(inputs["images"]) == 0) | (_lengths(inputs["captions"]).T == 0)
    mine, right = (x[~zero].double() for x in (result, expected))
    if not bool(mine.isfinite().all()) or torch.allclose(mine, right, atol=1e-4):
        return None
    if float(mine.abs().max()) > 1.001:
        return (
            f"a cosine lies between -1 and 1, and yours reach {float(mine[mine.abs().argmax()]):.3g}: the lengths of "
            "the vectors are not divided out"
        )
    filled = bool((mine[right.abs() > 1e-6] != 0).all())  # zeros come of something else than a division
    if filled and (side := leaning(mine.abs(), right.abs())):
        much = {"large": "little", "small": "much"}[side]
        return f"your scores are too {side}, whatever their sign: the vectors are divided by too {much}"
    return None


DIVISIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "not divided by their length": _keep,
    "divided over the batch (dim=0): the length of a vector runs over its own numbers, dim=1": lambda x: unit(x, dim=0),
    "divided by the length of the whole matrix: x.norm(dim=1, keepdim=True) is one length a row": (
        _by(lambda x: x.norm().view(1, 1))
    ),
    "divided by the squared length: take its square root": _by(lambda x: x.square().sum(1, keepdim=True)),
    "divided by the sum of absolute values (the L1 length): the Euclidean one is asked for": (
        _by(lambda x: x.abs().sum(1, keepdim=True))
    ),
    "divided by their sum, not by their length": lambda x: x / x.sum(1, keepdim=True),
    "divided by the sum of their numbers, where it is not 0: by their length": _by(lambda x: x.sum(1, keepdim=True)),
    "divided by their largest number, not by their length": _by(lambda x: x.abs().amax(1, keepdim=True)),
    "divided by the largest number of the whole matrix, not by their length": _by(lambda x: x.abs().max().view(1, 1)),
    "divided by their standard deviation, not by their length": _by(lambda x: x.std(1, keepdim=True)),
    "divided by the longest of all lengths: each vector by its own": lambda x: x / _lengths(x).max(),
    "divided by the mean of all lengths: each vector by its own": lambda x: x / _lengths(x).mean(),
    "divided by max(length, 1), which leaves short vectors as they are": lambda x: x / _lengths(x).clamp(min=1),
    "divided by length + 1, which makes short vectors shorter; where the length is 0, and only there, divide by 1": (
        lambda x: x / (_lengths(x) + 1)
    ),
    "divided by max(length, 0.1), which makes short vectors shorter: 1e-8 is enough to avoid 0 / 0": (
        lambda x: x / _lengths(x).clamp(min=0.1)
    ),
    "divided by length + 0.01, which makes short vectors shorter: 1e-8 is enough to avoid 0 / 0": (
        lambda x: x / (_lengths(x) + 0.01)
    ),
    "divided by a length with a large epsilon: 1e-8 is enough to avoid 0 / 0": lambda x: x / (_lengths(x) + 1e-3),
    "made a softmax, not vectors of length 1": lambda x: x.softmax(dim=1),
    "divided by an epsilon that is 0 in float32, so by zero there: take 1e-12": lambda x: x / _lengths(x).clamp(1e-300),
    "divided by zero: a vector of length 0 must score 0 with everything, not NaN": lambda x: x / _lengths(x),
}
_mean_square = _by(lambda x: x.square().mean(1, keepdim=True).sqrt())
FAMILY: dict[str, dict] = {
    "this is the plain dot product: divide each vector by its length": {"image": _keep, "caption": _keep},
    **{f"the vectors are {what}": {"image": how, "caption": how} for what, how in list(DIVISIONS.items())[1:]},
    **{f"the images are {what}": {"image": how} for what, how in DIVISIONS.items()},
    **{f"the captions are {what}": {"caption": how} for what, how in DIVISIONS.items()},
    "the vectors are divided by the root of the mean square: the length takes the sum of squares": {
        "image": _mean_square,
        "caption": _mean_square,
    },
    "one side is divided by the root of the mean square: the length takes the sum of squares": {"image": _mean_square},
    "the vectors were centred first (a correlation): the cosine takes them as they are": {
        "before": lambda x: x - x.mean(dim=1, keepdim=True)
    },
    "the mean of all numbers was taken off first: the cosine takes the vectors as they are": {
        "before": lambda x: x - x.mean()
    },
    "the mean of each column was taken off first: the cosine takes the vectors as they are": {
        "before": lambda x: x - x.mean(dim=0, keepdim=True)
    },
    "the cosines are divided by the largest of them: leave them as they are": {"after": lambda s: s / s.max()},
    "the cosines are in percent: from -1 to 1 is right": {"after": lambda s: 100 * s},
    **{
        f"the cosines are rounded to {word}: keep them all": {"after": lambda s, n=n: s.round(decimals=n)}
        for n, word in {4: "four decimals", 3: "three decimals", 2: "two decimals", 1: "one decimal"}.items()
    },
    "only as many columns are filled as there are images: a row has a number for each caption, range(len(captions))": {
        "after": lambda s: _only(slice(None), slice(len(s)))(s)
    },
    "the cosines became whole numbers (int, or a dtype of integers): keep the decimals": {"after": torch.trunc},
    "the cosines are rounded to whole numbers: keep the decimals": {"after": torch.round},
    "rows and columns are exchanged: images are the rows, captions the columns": {"after": lambda s: s.T},
    "negative cosines became 0: keep them": {"after": torch.relu},
    "negative numbers of the vectors became 0: keep them": {"before": torch.relu},
    "negative cosines became positive: keep the sign": {"after": torch.abs},
    "the cosines are squared": {"after": torch.square},
    "this is the distance, 1 - cosine: give the cosine itself": {"after": lambda s: 1 - s},
    "the sign is turned: like vectors score 1": {"after": lambda s: -s},
    "the cosines were moved to 0..1: from -1 to 1 is right": {"after": lambda s: (1 + s) / 2},
    "this says whether the cosine is above 0: give the cosine itself": {"after": lambda s: (s > 0).to(s)},
    "only the sign of the cosine is left: give the cosine itself": {"after": torch.sign},
    "a sigmoid was taken at the end: the cosines themselves are asked for": {"after": torch.sigmoid},
    "the exponential was taken at the end: the cosines themselves are asked for": {"after": torch.exp},
    "a softmax over the images was taken at the end: the cosines themselves are asked for": {
        "after": lambda s: s.softmax(dim=0)
    },
    "this is the angle: its cosine is asked for": {"after": lambda s: s.clamp(-1, 1).acos()},
    "a softmax was taken at the end: the cosines themselves are asked for": {"after": lambda s: s.softmax(dim=1)},
    "this is the Euclidean distance of the unit vectors: take their dot product": {"score": torch.cdist},
    "only the first row is filled: is the return inside the loop?": {"after": _only(slice(1))},
    "only the first number is filled: is the return inside the loops?": {"after": _only(slice(1), slice(1))},
    "the last row is missing: a range leaves out its end": {"after": _only(slice(-1))},
    "the last column is missing: a range leaves out its end": {"after": _only(slice(None), slice(-1))},
    "the last row and the last column are missing: a range leaves out its end": {"after": _only(slice(-1), slice(-1))},
    "the products are averaged over the dimensions: add them up": {"score": lambda x, y: x @ y.T / x.shape[1]},
}
MISTAKES = {
    "this is the Euclidean distance: the dot product of two vectors, over both lengths, is asked for": torch.cdist,
    "you divide by the sum of the two lengths: by their product": _pairwise(torch.add),
    "you divide by the mean of the squared lengths: by the product of the lengths": (
        _pairwise(lambda x, y: (x.square() + y.square()) / 2)
    ),
    "you divide by the longer of the two lengths: by their product": _pairwise(torch.maximum),
    "you divide by the square root of the lengths' product: by the product itself": (
        _pairwise(lambda x, y: (x * y).sqrt())
    ),
    "you divide by the lengths' product + 1: where the product is 0, and only there, divide by 1": (
        _pairwise(lambda x, y: x * y + 1)
    ),
    "you divide by max(the lengths' product, 1): where the product is 0, and only there, divide by 1": (
        _pairwise(lambda x, y: (x * y).clamp(min=1))
    ),
    **{
        f"the scores are divided by their own length, {along}: divide each vector by its length, before the product": (
            lambda images, captions, how=how: how(images @ captions.T)
        )
        for along, how in {
            "row by row": unit,
            "row by row, zero by zero, too": lambda s: s / _lengths(s),
            "column by column": lambda s: unit(s, dim=0),
            "all together": lambda s: s / s.norm(),
        }.items()
    },
    "one zero vector makes all scores 0: its own row, or column, alone is 0": lambda images, captions: (
        cosine_specification(images, captions) * bool((_lengths(images) > 0).all() and (_lengths(captions) > 0).all())
    ),
    "one zero vector makes all scores NaN: its own row, or column, alone is 0": lambda images, captions: (
        cosine_specification(images, captions)
        + (0.0 if bool((_lengths(images) > 0).all() and (_lengths(captions) > 0).all()) else math.nan)
    ),
    "a vector whose numbers add up to 0 is taken for a zero vector: its length tells, not its sum": (
        lambda images, captions: cosine_specification(
            *(x.masked_fill(x.sum(dim=1, keepdim=True) == 0, 0) for x in (images, captions))
        )
    ),
    "a zero vector scores 1 here: it must score 0 with everything": _ones_for_zero(torch.logical_or),
    "an image of length 0 scores 1 here: it must score 0 with everything": _ones_for_zero(lambda image, caption: image),
    "a caption of length 0 scores 1 here: it must score 0 with everything": _ones_for_zero(
        lambda image, caption: caption
    ),
}

EXERCISE = Exercise(
    "cosine-scores",
    library=lambda images, captions: cosine_scores(images, captions),
    example=Case(
        {
            "images": torch.tensor([[3.0, 4.0], [0.0, 0.0]], dtype=torch.float64),
            "captions": torch.tensor([[6.0, 8.0], [4.0, -3.0], [1.0, 0.0]], dtype=torch.float64),
        },
        trap="a vector has length 0",
        worked=torch.tensor([[1.0, 0.0, 0.6], [0.0, 0.0, 0.0]]),
    ),
    cases=cosine_cases,
    specification=cosine_specification,
    mistakes=MISTAKES,
    family=(cosine, FAMILY),
    explain=explain_cosines,
    rehearsal=Rehearsal(lambda: vectors(100, 200, 37, seed=9), calls=300),
)
