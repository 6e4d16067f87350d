"""``chance-recall``, lesson 00.

R@k of a shuffled gallery, beside a walk down the list, place by place.
"""

from __future__ import annotations

from collections.abc import Iterator

from itr_lib.checks.frame import Exercise
from itr_lib.checks.outcome import Inputs


def chance_cases() -> Iterator[Inputs]:
    """Galleries from one image to 1,000 x 5, and a k that leaves no way to miss."""
    for images, captions, k in [
        (1000, 5, 1),
        (1000, 5, 10),
        (10, 5, 5),
        (100, 1, 1),
        (100, 1, 10),
        (2, 5, 5),
        (2, 5, 6),
        (1, 5, 1),
        (3, 2, 5),
    ]:
        yield {"images": images, "captions_per_image": captions, "k": k}


def chance_specification(images: int, captions_per_image: int, k: int) -> float:
    """Walk down a shuffled list: the chance of still having missed after k places, place by place."""
    total = images * captions_per_image
    missed = 1.0
    for place in range(min(k, total)):
        missed *= max(total - captions_per_image - place, 0) / (total - place)
    return 100.0 * (1.0 - missed)


CHANCE_MISTAKES = {
    "this is the chance for one caption an image (k / number of captions): any of an image's captions is a hit": (
        lambda images, captions_per_image, k: 100 * min(1.0, k / (images * captions_per_image))
    ),
    "k / number of images is the chance of a caption that looks for its one image, or a sum of chances that overlap: "
    "an image asks here, and it can find two of its captions at once": (
        lambda images, captions_per_image, k: 100 * k / images
    ),
    "you drew with replacement, (1 - p) ** k: a ranking never shows the same caption twice": (
        lambda images, captions_per_image, k: 100 * (1 - (1 - 1 / images) ** k)
    ),
    "you assume five captions an image: use captions_per_image": lambda images, captions_per_image, k: (
        chance_specification(images, 5, k)
    ),
    "this is a probability: give percent, multiply by 100": lambda images, captions_per_image, k: (
        chance_specification(images, captions_per_image, k) / 100
    ),
    "this is the chance to miss: take it from 100": lambda images, captions_per_image, k: (
        100 - chance_specification(images, captions_per_image, k)
    ),
}

EXERCISE = Exercise("chance-recall", chance_cases, chance_specification, CHANCE_MISTAKES)
