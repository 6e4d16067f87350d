"""``chance-recall``, lesson 00.

R@k of a shuffled gallery, beside a walk down the list, place by place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np

from itr_lib.checks.frame import Case, Exercise
from itr_lib.checks.outcome import Inputs
from itr_lib.evaluation.recall import chance_within

MISSES_IMPOSSIBLE = "k leaves no room to miss"
K_ABOVE = "k is above the number of captions"


def chance_cases() -> Iterator[Case]:
    """Galleries from one image to 1,000 x 5; a k beyond 10 and beyond the images; one that leaves no way to miss."""
    cases = {
        (1000, 5, 1): "",
        (1000, 5, 10): "",
        (10, 5, 5): "",
        (20, 3, 4): "",
        (30, 6, 7): "",
        (100, 1, 1): "there is one caption an image",
        (100, 1, 10): "there is one caption an image",
        (3, 2, 5): MISSES_IMPOSSIBLE,
        (2, 5, 6): MISSES_IMPOSSIBLE,
        (2, 5, 10): "k is the number of captions",
        (10, 5, 10): "k is the number of images",
        (10, 5, 20): "k is above the number of images, and leaves room to miss",
        (100, 5, 25): "k is above 10",
        (2, 1, 1): "k is the number of false captions",
        (3, 2, 4): "k is the number of false captions",
        (2, 5, 25): K_ABOVE,
        (4, 2, 9): K_ABOVE,
        (1, 5, 1): "there is one image",
        (1, 3, 10): K_ABOVE,
    }
    for (images, captions, k), trap in cases.items():
        yield Case({"images": images, "captions_per_image": captions, "k": k}, trap)


def chance_specification(images: int, captions_per_image: int, k: int) -> float:
    """Walk down a shuffled list: the chance of still having missed after k places, place by place."""
    total = images * captions_per_image
    missed = 1.0
    for place in range(min(k, total)):
        missed *= max(total - captions_per_image - place, 0) / (total - place)
    return 100.0 * (1.0 - missed)


def chance(images, captions_per_image, k, own=None, gallery=None, draws=None, percent=100, missed=False, after=float):
    """The share of lists with a hit, with other ideas of the gallery, of what is one's own and of how long a list is.

    ``own``, ``gallery``, ``draws``: functions of (images, captions_per_image, k). A list longer than the gallery is
    cut to it, unless ``draws`` says otherwise.
    """
    given = (images, captions_per_image, k)
    total = gallery(*given) if gallery else images * captions_per_image
    mine = own(*given) if own else captions_per_image
    length = draws(*given) if draws else min(k, total)
    share = math.comb(max(total - mine, 0), length) / math.comb(total, length)
    return after(percent * (share if missed else 1 - share))


FAMILY: dict[str, dict] = {
    "this is a probability: give percent, multiply by 100": {"percent": 1},
    "this is the chance to miss: take it from 100": {"missed": True},
    "a list cannot be longer than the gallery: above all captions k is cut to their number (min), or you divide by 0": {
        "draws": lambda n, c, k: k
    },
    "k is cut to the number of images: a list can hold all captions": {"draws": lambda n, c, k: min(k, n)},
    "k is cut to the captions of one image: a list can hold all captions": {"draws": lambda n, c, k: min(k, c)},
    "k is cut to the number of false captions: with a longer list nothing can be missed": {
        "draws": lambda n, c, k: min(k, n * c - c)
    },
    "your list is one place too short: K places are drawn": {"draws": lambda n, c, k: min(k - 1, n * c)},
    "your list is one place too long: K places are drawn": {"draws": lambda n, c, k: min(k + 1, n * c)},
    "the gallery is taken to hold one caption an image: it holds images * captions_per_image": {
        "gallery": lambda n, c, k: n
    },
    "you assume five captions an image: use captions_per_image": {
        "own": lambda n, c, k: 5,
        "gallery": lambda n, c, k: 5 * n,
    },
    "one caption too few counts as the image's own: all captions_per_image do": {"own": lambda n, c, k: c - 1},
    "one caption too many counts as the image's own: captions_per_image do": {"own": lambda n, c, k: c + 1},
    "you assume that five captions are the image's own: use captions_per_image": {"own": lambda n, c, k: 5},
    "you assume a gallery with five captions an image: use captions_per_image": {"gallery": lambda n, c, k: 5 * n},
    "this is the chance for one caption an image (k / number of captions): any of an image's captions is a hit": {
        "own": lambda n, c, k: 1
    },
    "images and captions_per_image are exchanged: an image owns captions_per_image captions": {
        "own": lambda n, c, k: n
    },
    "the gallery is one too small: the query is an image, and all captions are candidates": {
        "gallery": lambda n, c, k: n * c - 1
    },
    "the other images' captions are taken for the gallery: an image's own captions are in it, too": {
        "gallery": lambda n, c, k: n * c - c
    },
    **{
        f"k is cut to {most}: K can be any number": {"draws": lambda n, c, k, most=most: min(k, most, n * c)}
        for most in (10, 5, 20)
    },
    "the result is rounded or cut to a whole number: give it exactly": {"after": int},
    "the result is rounded to a whole number: give it exactly": {"after": round},
    "the result is rounded to one decimal: give it exactly": {"after": lambda x: round(x, 1)},
    "the result is rounded to two decimals: give it exactly": {"after": lambda x: round(x, 2)},
}


def _exactly_one(images, captions_per_image, k):
    total = images * captions_per_image
    k = min(k, total)
    return 100 * captions_per_image * math.comb(total - captions_per_image, k - 1) / math.comb(total, k)


def _all_of_them(images, captions_per_image, k):
    total = images * captions_per_image
    return 100 * math.comb(min(k, total), captions_per_image) / math.comb(total, captions_per_image)


def _at_place_k(images, captions_per_image, k):
    before = chance_specification(images, captions_per_image, k - 1)
    return chance_specification(images, captions_per_image, k) - before


def _fraction(quotient: Callable[[int, int, int], float]) -> Callable:
    """100 times 1 less a quotient: a function of all captions, the image's own, and the places of the list."""
    return lambda images, captions_per_image, k: (
        100 * (1 - quotient(images * captions_per_image, captions_per_image, min(k, images * captions_per_image)))
    )


def _sure_from(least: Callable[[int, int], int]) -> Callable:
    """A hit that is taken for sure from a k on that still leaves room to miss."""
    return lambda images, captions_per_image, k: (
        100.0 if k >= least(images, captions_per_image) else chance_specification(images, captions_per_image, k)
    )


def _quietly_zero(images, captions_per_image, k):
    return 0.0 if k > images * captions_per_image else chance_specification(images, captions_per_image, k)


def explain_chance(inputs: Inputs, result: object, expected: float) -> str | None:
    """A simulation, or a formula that is right for large galleries."""
    mine = float(result)
    if not math.isfinite(mine) or inputs["k"] >= inputs["images"] * inputs["captions_per_image"]:
        return None
    if not -1e-6 <= mine <= 100.0001:
        return (
            f"{mine:.4g} is no percentage: 100 times (1 less the share of lists without a hit) lies between 0 and 100"
        )
    if abs(mine - expected) < 0.1 * expected:
        return "yours comes near, but not exactly: no simulation, no approximation, no rounding; math.comb is exact"
    if mine < expected:
        return "yours is too small: some lists that hold one of the image's captions, or several, are not counted"
    return "yours is too large: lists without a hit are counted, or lists with two hits twice"


MISTAKES: dict[str, Callable] = {
    "the counts are divided with //, which makes 0 of their quotient: divide with /": lambda **inputs: (
        100.0 * (1 - (chance_specification(**inputs) == 0))
    ),
    "math.perm and math.comb do not go together: comb above and below the line": _fraction(
        lambda total, own, k: math.perm(total - own, k) / math.comb(total, k)
    ),
    "the quotient is upside down: the lists without a hit stand above the line": _fraction(
        lambda total, own, k: math.comb(total, k) / math.comb(total - own, k)
    ),
    "own captions and places are mixed: choose k places of all captions, above the line of the false ones": _fraction(
        lambda total, own, k: math.comb(total - k, own) / math.comb(total, k)
    ),
    "below the line stand the ways to choose k of all captions: C(M, k)": _fraction(
        lambda total, own, k: math.comb(total - own, k) / math.comb(total, own)
    ),
    "the list stays as long as it was: after a false caption one candidate less is left, below the line, too": (
        lambda images, captions_per_image, k: (
            100
            * (1 - math.prod(max(0.0, 1 - (captions_per_image + j) / images / captions_per_image) for j in range(k)))
        )
    ),
    "the false captions stay as many as they were: after one of them, one less is left, above the line, too": _fraction(
        lambda total, own, k: math.prod((total - own) / (total - j) for j in range(k))
    ),
    "the quotient must be multiplied by 100, too, before it is taken from 100": lambda **inputs: (
        100 - (100 - chance_specification(**inputs)) / 100
    ),
    "with a k above the number of captions nothing is missed: 100, not 0": _quietly_zero,
    "a hit is taken for sure with as many places as images: the false captions can fill them; it is sure once k is "
    "above the number of false captions": _sure_from(lambda n, c: n),
    "a hit is taken for sure one place too early: with k equal to the number of false captions all of them can stand "
    "first; above it nothing is missed": _sure_from(lambda n, c: n * c - c),
    "these are k chances added, each with all the image's captions: they overlap, and can exceed 100": (
        lambda images, captions_per_image, k: 100 * k * captions_per_image / images
    ),
    "this is k / number of captions, and can be above 100: any of an image's captions is a hit, and it can find two of "
    "them at once": lambda images, captions_per_image, k: 100 * k / (images * captions_per_image),
    "k / number of images is the chance of a caption that looks for its one image, or a sum of chances that overlap: "
    "an image asks here, and it can find two of its captions at once": (
        lambda images, captions_per_image, k: 100 * k / images
    ),
    "k / number of images, at most 1, is the chance of a caption that looks for its one image, or a sum of chances "
    "that overlap: an image asks here, and it can find two of its captions at once": (
        lambda images, captions_per_image, k: 100 * min(1.0, k / images)
    ),
    "you drew with replacement, (1 - p) ** k: a ranking never shows the same caption twice": (
        lambda images, captions_per_image, k: 100 * (1 - (1 - 1 / images) ** k)
    ),
    "you drew with replacement, (1 - p) ** k, where p is for one caption only: a ranking never shows a caption twice, "
    "and any of the image's own is a hit": lambda images, captions_per_image, k: (
        100 * (1 - (1 - 1 / (images * captions_per_image)) ** k)
    ),
    "you drew with replacement, (1 - k / M) ** c: a ranking never shows the same caption twice": (
        lambda images, captions_per_image, k: (
            100 * (1 - (1 - min(1.0, k / (images * captions_per_image))) ** captions_per_image)
        )
    ),
    "this is the chance of exactly one hit in k: two hits are a hit, too": _exactly_one,
    "this is the chance to find all of the image's captions: one of them is enough": _all_of_them,
    "this is the mean number of hits in the list (or a sum of chances): that at least one is in it is asked for": (
        lambda images, captions_per_image, k: 100 * min(k, images * captions_per_image) / images
    ),
    "this is the chance of at least two hits: one is enough": lambda **inputs: (
        chance_specification(**inputs) - _exactly_one(**inputs)
    ),
    "this is the chance that the first hit comes at place k: at k or before is asked for": _at_place_k,
    "this is the chance of a hit at one place, whatever k is: k places are drawn": (
        lambda images, captions_per_image, k: 100 / images
    ),
}


def _library(images: int, captions_per_image: int, k: int) -> float:
    own = np.array(captions_per_image)
    return 100 * float(chance_within(k, np.array(0), images * captions_per_image - own, own))


EXERCISE = Exercise(
    "chance-recall",
    library=_library,
    example=Case({"images": 1000, "captions_per_image": 5, "k": 1}, worked=0.1),
    cases=chance_cases,
    specification=chance_specification,
    mistakes=MISTAKES,
    family=(chance, FAMILY),
    explain=explain_chance,
)
