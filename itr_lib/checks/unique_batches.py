"""``unique-batches``, lesson 01.

An epoch in batches that hold no image twice; many answers are right, so properties are checked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from itr_lib.checks.frame import Exercise
from itr_lib.checks.outcome import Inputs


def batch_cases() -> Iterator[Inputs]:
    """One to five captions an image, batches that divide the images and that do not."""
    for seed, (counts, size) in enumerate([([5] * 12, 4), ([1, 5, 2, 3, 4, 5, 1], 3), ([2] * 5, 8), ([3] * 10, 7)]):
        owner = np.repeat(np.arange(len(counts)), counts)
        yield {"image_of_caption": owner, "batch_size": size, "rng": np.random.default_rng(seed)}


def batch_properties(inputs: Inputs, run: Callable[..., Any]) -> None:
    """Every caption once, no picture twice in a batch, batches filled, all chance from rng and nowhere else."""
    batches = _expect_batches(inputs, run())
    again = _expect_batches(inputs, run())
    if [b.tolist() for b in batches] != [b.tolist() for b in again]:
        raise AssertionError("the same rng gave two different epochs: take all chance from rng, none from np.random")
    other = _expect_batches(inputs, run(rng=np.random.default_rng(12345)))
    if {frozenset(b.tolist()) for b in batches} == {frozenset(b.tolist()) for b in other}:
        raise AssertionError(
            "another rng gave the same batches: shuffle with rng, before you cut the captions into batches"
        )


def _expect_batches(inputs: Inputs, result: Any) -> list[np.ndarray]:
    owner, size = inputs["image_of_caption"], inputs["batch_size"]
    if result is None:
        raise AssertionError("your function returned None: is a return missing at its end?")
    batches = [np.asarray(batch) for batch in result]
    if not batches or any(batch.ndim != 1 or batch.dtype.kind not in "iu" for batch in batches):
        raise AssertionError("expected a list of batches, each a list of caption numbers")
    _expect_each_once(np.concatenate(batches), owner)
    for batch in batches:
        if len(batch) > size:
            raise AssertionError(f"a batch holds {len(batch)} captions, more than batch_size = {size}")
        if len(set(owner[batch])) < len(batch):
            raise AssertionError("a batch holds two captions of one picture: each is the other's false negative")
    if max(map(len, batches)) == 1:
        raise AssertionError("every batch holds a single caption: no query has a negative")
    rounds = np.bincount(np.bincount(owner))[::-1].cumsum()[::-1][1:]  # how many images have a 1st, 2nd, ... caption
    enough = sum(-(-int(images) // size) for images in rounds)
    if len(batches) > 1.2 * enough:
        raise AssertionError(
            f"{len(batches)} batches where {enough} would do, with batch_size = {size}: fill them, few captions are "
            "few negatives"
        )
    return batches


def _expect_each_once(drawn: np.ndarray, owner: np.ndarray) -> None:
    images = int(owner.max()) + 1
    if drawn.max() < images < len(owner):
        raise AssertionError(f"no number above {drawn.max()} comes: are these images? Batches hold caption numbers")
    if drawn.min() < 0 or drawn.max() >= len(owner):
        raise AssertionError(f"a batch names caption {drawn.max()}, and there are {len(owner)}")
    count = np.bincount(drawn, minlength=len(owner))
    if count.max() > 1:
        raise AssertionError(f"caption {int(count.argmax())} comes {count.max()} times in one epoch, expected once")
    if count.min() == 0:
        per_image = np.bincount(owner[drawn], minlength=images)
        if per_image.max() == 1 and np.bincount(owner).max() > 1:
            raise AssertionError("you drew one caption an image for the whole epoch: go on with the second, third, ...")
        raise AssertionError(f"{(count == 0).sum()} captions never come in this epoch (a last, smaller batch dropped?)")


EXERCISE = Exercise("unique-batches", batch_cases, properties=batch_properties)
