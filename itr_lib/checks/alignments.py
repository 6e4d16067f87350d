"""``alignments``, lesson 02.

The cosine of every region with every word, beside four loops; gradients too.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from itr_lib.checks._inputs import generator, sizes
from itr_lib.checks.frame import Case, Exercise, Inputs, Rehearsal
from itr_lib.similarity import l2_normalise

V = torch.tensor([[[2.0, 0.0], [3.0, 4.0]]], dtype=torch.float64)
W = torch.tensor([[[0.0, 1.0], [1.0, 0.0], [-3.0, 4.0]]], dtype=torch.float64)
WORKED = torch.tensor([[[[0.0, 1.0, -0.6], [0.8, 0.6, 0.28]]]], dtype=torch.float64)


def sets(n: int, m: int, r: int, w: int, dim: int, seed: int, shortest: float = 0.5, spread: float = 3.0) -> Inputs:
    """Vectors in all directions, of lengths between ``shortest`` and ``shortest + spread``."""
    n, m, r, w, dim = sizes(n, m, r, w, dim)
    g = generator(seed)
    made = {}
    for name, shape in (("regions", (n, r)), ("words", (m, w))):
        vectors = l2_normalise(torch.randn(*shape, dim, generator=g, dtype=torch.float64))
        made[name] = vectors * (shortest + spread * torch.rand(*shape, 1, generator=g, dtype=torch.float64))
    return made


def alignments_cases() -> Iterator[Case]:
    """Shapes in which swapped axes show, a set of one, short vectors, and zero vectors.

    What the derivative of a cosine is at a zero vector is anybody's choice (F.normalize gives 1e12, the library 1), so
    where there are zeros all vectors are: then every choice gives 0, unless it gives NaN.
    """
    yield Case(sets(3, 3, 4, 4, 5, seed=0))
    yield Case(sets(2, 4, 5, 3, 6, seed=1))
    yield Case(sets(3, 2, 2, 6, 4, seed=2))
    yield Case(sets(1, 1, 1, 1, 3, seed=3), "there is one picture, one region, one caption and one word")
    yield Case(sets(2, 3, 3, 2, 4, seed=4, shortest=0.1, spread=0.5), "every vector is shorter than 1")
    for short, other in (("regions", "words"), ("words", "regions")):
        case = sets(2, 3, 3, 2, 4, seed=5, shortest=0.055, spread=0.02)
        yield Case(case | {other: 15 * case[other]}, f"the {short} are shorter than 0.1")
    zeros = {"regions": torch.zeros(2, 3, 4, dtype=torch.float64), "words": torch.zeros(3, 2, 4, dtype=torch.float64)}
    yield Case(zeros, "a vector is all zeros, as padding is")


def alignments_specification(regions: Tensor, words: Tensor) -> Tensor:
    """One dot product after the other, each over both lengths."""
    result = []
    for image in regions:
        for caption in words:
            for region in image:
                for word in caption:
                    dot, square = (region * word).sum(), (region * region).sum() * (word * word).sum()
                    result.append(dot / square.sqrt() if square > 0 else 0 * dot)
    return torch.stack(result).reshape(len(regions), len(words), regions.shape[1], words.shape[1])


def _length(vectors: Tensor, over: str, power: str) -> Tensor:
    """What a vector is divided by, with all that a learner may take for its length."""
    axes = {"vector": -1, "set": 1, "batch": 0, "whole set": (1, 2), "everything": (0, 1, 2)}[over]
    size = vectors.abs() if power in ("absolute", "largest") else vectors**2
    if power == "longest":
        return vectors.norm(dim=-1, keepdim=True).amax(dim=1, keepdim=True)
    if power == "half":
        return vectors.norm(dim=-1, keepdim=True).sqrt()
    if power == "largest":
        return size.amax(dim=axes, keepdim=True)
    if power == "mean":
        return size.mean(dim=axes, keepdim=True).sqrt()
    if power == "sum":
        return vectors.sum(dim=axes, keepdim=True)
    total = size.sum(dim=axes, keepdim=True)
    return total.sqrt() if power == "root" else total


def _away_from_0(length: Tensor, zero: str | float) -> Tensor:
    """What is done to a length against a division by 0."""
    if zero == "one more":
        return 1 + length
    if isinstance(zero, str) and zero.startswith("at least"):
        return length.clamp(min=float(zero.split()[-1]))
    return length + zero if isinstance(zero, float) else torch.where(length == 0, 1, length)


def _unit(vectors: Tensor, over: str, power: str, zero: str | float) -> Tensor:
    length = _length(vectors, over, power)
    return vectors / (length if zero == "nan" else _away_from_0(length, zero))


CHANGES = {  # of the cosines, at the end
    "relu": torch.relu,
    "abs": torch.abs,
    "distance": lambda a: 1 - a,
    "square": torch.square,
    "unit": lambda a: (1 + a) / 2,
    "negative": torch.neg,
    "softmax": lambda a: a.softmax(dim=2),
    "angle": lambda a: a.clamp(-1, 1).acos(),
    "words": lambda a: a.softmax(dim=3),
    "straight": lambda a: (2 - 2 * a).clamp(min=0).sqrt(),
}


def _alignments(
    regions: Tensor, words: Tensor, sides="both", over="vector", power="root", zero="safe", axes="nmrw",
    reduce="sum", last="", region_power=None, word_power=None,
) -> Tensor:  # fmt: skip
    """The cosines with all that a learner may change in them."""
    if sides == "centred":
        regions, words = (x - x.mean(dim=-1, keepdim=True) for x in (regions, words))
    if sides in ("sum", "product"):
        one, other = regions.norm(dim=-1)[:, None, :, None], words.norm(dim=-1)[None, :, None]
        lengths = one + other if sides == "sum" else _away_from_0(one * other, zero)
        return torch.einsum("nrd,mwd->nmrw", regions, words) / torch.where(lengths == 0, 1, lengths)
    if sides in ("both", "regions", "centred"):
        regions = _unit(regions, over, region_power or power, zero)
    if sides in ("both", "words", "centred"):
        words = _unit(words, over, word_power or power, zero)
    n, m, r, w = len(regions), len(words), regions.shape[1], words.shape[1]
    if axes == "first few":
        k = min(n, m)
        result = torch.einsum("nrd,nwd->nrw", regions[:k], words[:k])[:, None].expand(-1, m, -1, -1)
    elif axes in ("nrw", "n1rw", "same"):  # crashes, as it should, where there are not as many pictures as captions
        result = torch.einsum("nrd,nwd->nrw", regions, words)
        result = {"nrw": result, "n1rw": result[:, None], "same": result[:, None].expand(-1, m, -1, -1)}[axes]
    elif axes == "viewed":
        result = torch.einsum("nrd,mwd->nrmw", regions, words).reshape(n, m, r, w)
    else:
        result = torch.einsum(f"nrd,mwd->{axes}", regions, words)
    result = result / {"sum": 1, "mean": regions.shape[-1], "root": regions.shape[-1] ** 0.5}[reduce]
    return CHANGES[last](result) if last else result


TOGGLES = {
    "this is the plain dot product: divide by both lengths": {"sides": "none"},
    "only the regions have length 1 here: normalise the words, too": {"sides": "regions"},
    "the product is divided by the sum of both lengths: divide by their product": {"sides": "sum"},
    "a mean is subtracted, which makes it a correlation: leave the vectors as they are": {"sides": "centred"},
    "only the words have length 1 here: normalise the regions, too": {"sides": "words"},
    "a zero vector (padding) has length 0, and you divide by it: F.normalize keeps it zero, so that it scores 0": {
        "zero": "nan"
    },
    "you add 1 to the length before you divide: divide by the length alone, and look out for 0 only": {
        "zero": "one more"
    },
    "vectors shorter than 1 keep their length: a clamp(min=1) is no guard against 0, take 1e-12": {
        "zero": "at least 1"
    },
    "vectors shorter than 0.1 keep too little: an eps of 0.1 is no guard against 0 alone, take 1e-12": {
        "zero": "at least 0.1"
    },
    **{
        f"{value:g} is added to the length against a division by 0, and changes the cosines: take 1e-12": {
            "zero": value
        }
        for value in (0.1, 0.01, 0.001, 0.0001)
    },
    "you normalised over the set (dim=1, F.normalize's default): each vector has its own length, dim=-1": {
        "over": "set"
    },
    "you normalised over the batch (dim=0): each vector has its own length, dim=-1": {"over": "batch"},
    "you divided by one length for the whole set: each vector has its own, norm(dim=-1, keepdim=True)": {
        "over": "whole set"
    },
    "you divided by the length of the whole tensor: each vector has its own, norm(dim=-1, keepdim=True)": {
        "over": "everything"
    },
    "you divided by the squared lengths: take the root": {"power": "square"},
    "you divided by the sum of absolute values: the length is the root of the sum of squares": {"power": "absolute"},
    "you divided by the largest entry: the length is the root of the sum of squares": {"power": "largest"},
    "you divided by the root of the mean square: the length is the root of the sum of squares": {"power": "mean"},
    "you divided by the sum of the entries: the length is the root of the sum of their squares": {"power": "sum"},
    "you divided by the root of the length: divide by the length": {"power": "half"},
    "you divided by the longest vector of the set: each vector has its own length": {"power": "longest"},
    "one side is divided by the root of the mean square: the length is the root of the sum of squares": {
        "word_power": "mean"
    },
    **{
        f"the {side}s are divided by {what}: the length is the root of the sum of squares": {f"{side}_power": power}
        for side in ("region", "word")
        for what, power in {
            "their squared length": "square",
            "the sum of absolute values": "absolute",
            "their largest entry": "largest",
            "the sum of their entries": "sum",
            "the root of their length": "half",
            "the longest of the set": "longest",
        }.items()
    },
    "regions and words are exchanged: the axes are (N, M, R, W) in this order": {"axes": "nmwr"},
    "pictures and captions are exchanged: the axes are (N, M, R, W) in this order": {"axes": "mnrw"},
    "the axes are captions, pictures, words, regions: (N, M, R, W) is asked for": {"axes": "mnwr"},
    "the axes are (N, R, M, W): (N, M, R, W) is asked for, so exchange the middle two": {"axes": "nrmw"},
    "the axes are in another order: no reshape or view over swapped axes, transpose or permute them": {
        "axes": "viewed"
    },
    "picture n meets caption n alone, so an axis is missing: each picture meets every caption": {"axes": "nrw"},
    "picture n meets only caption n here, in an axis of its own: each picture meets every caption": {"axes": "n1rw"},
    "picture n meets only caption n here, everywhere: each picture meets every caption": {"axes": "same"},
    "picture n meets only caption n here, as far as there are as many: each picture meets every caption": {
        "axes": "first few"
    },
    "this is the dot product over the root of D, as in attention: divide by both lengths": {
        "reduce": "root",
        "sides": "none",
    },
    "the cosines are divided by the root of D, as in attention: leave them as they are": {"reduce": "root"},
    "this is the mean over the D products: a dot product is their sum": {"reduce": "mean"},
    "negative cosines became 0: keep them": {"last": "relu"},
    "the cosines have lost their sign: no abs": {"last": "abs"},
    "the cosines are squared: no square at the end": {"last": "square"},
    "the sign is turned round: a cosine is 1 where both point the same way": {"last": "negative"},
    "this is a distance, 1 - cosine: the cosine itself is asked for": {"last": "distance"},
    "the cosines are moved to 0 ... 1: leave them as they are": {"last": "unit"},
    "this is the angle: its cosine is asked for, without acos": {"last": "angle"},
    "this is the distance of the two unit vectors: their cosine is asked for": {"last": "straight"},
    "a softmax runs over the words: the cosines themselves are asked for": {"last": "words"},
    "a softmax runs over the regions: that is attention, lesson 03; the cosines themselves are asked for": {
        "last": "softmax"
    },
}


PRODUCTS = {  # of lengths, kept away from 0; tried alone, not two together
    **{
        f"{value:g} is added to the product of lengths against a division by 0, and changes the cosines: take 1e-12": {
            "sides": "product",
            "zero": value,
        }
        for value in (1.0, 0.1, 0.01, 0.001, 0.0001)
    },
    **{
        f"a product of lengths below {value:g} is raised to it, and the cosine gets too small: take 1e-12": {
            "sides": "product",
            "zero": f"at least {value}",
        }
        for value in (1, 0.1)
    },
}


def _steps(regions: Tensor, words: Tensor) -> str:
    """How the first cosine comes about."""
    region, word = regions[0, 0], words[0, 0]
    lengths, cosine = (
        [float(x.norm()) for x in (region, word)],
        float(alignments_specification(regions, words)[0, 0, 0, 0]),
    )
    return (
        f"region 0 of picture 0 has the length {lengths[0]:.4g}, word 0 of caption 0 the length {lengths[1]:.4g}, and "
        f"their dot product is {float(region @ word):.4g}, so that [0, 0, 0, 0] is {cosine:.4g}"
    )


EXERCISE = Exercise(
    "alignments",
    library=lambda regions, words: torch.einsum("nrd,mwd->nmrw", l2_normalise(regions), l2_normalise(words)),
    example=Case({"regions": V, "words": W}, worked=WORKED),
    cases=alignments_cases,
    specification=alignments_specification,
    steps=_steps,
    mistakes={told: partial(_alignments, **options) for told, options in PRODUCTS.items()},
    family=(_alignments, TOGGLES),
    gradients=("regions", "words"),
    rehearsal=Rehearsal(lambda: {name: v.float() for name, v in sets(100, 20, 36, 21, 128, seed=0).items()}, calls=400),
)
