"""``unique-batches``, lesson 01.

An epoch in batches that hold no image twice; many answers are right, so properties are checked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import GeneratorType
from typing import Any

import numpy as np

from itr_lib.checks._inputs import drawn, longer
from itr_lib.checks.frame import Case, Exercise, Rehearsal
from itr_lib.checks.outcome import Inputs
from itr_lib.data.batches import epoch_order

# Of pictures that chance brings together in 80 pictures with five captions each, batches of 8: they meet 1.2 times in
# an epoch, and 37 of 100 meet in the next one, too. Fixed company meets five times, and always.
MEETINGS, SHARE = 2.0, 0.65
LARGE = 300  # captions from which on chance can be judged


def batch_cases() -> Iterator[Case]:
    """One to five captions an image, in any order, batches that divide the images and that do not."""
    for seed, (counts, size, trap) in enumerate(
        [
            ([5] * 80, 8, ""),
            ([5] * 12, 4, ""),
            ([1, 5, 2, 3, 4, 5, 1], 3, "images have different numbers of captions"),
            ([2] * 5, 9, "a batch has room for more than all images"),
            ([3] * 10, 7, "the batch size does not divide the images"),
        ]
    ):
        counts = longer(counts)
        owner = np.repeat(np.arange(len(counts)), counts)
        yield Case(_epoch(owner, size, seed), trap)
    mixed = np.random.default_rng(drawn(9)).permutation(np.repeat(np.arange(9), [4, 1, 3, 5, 2, 5, 5, 2, 1]))
    yield Case(_epoch(mixed, 4, 9), "captions of a picture do not stand side by side")


def _epoch(owner: np.ndarray, size: int, seed: int) -> Inputs:
    return {"image_of_caption": owner, "batch_size": size, "rng": np.random.default_rng(drawn(seed))}


def most_batches(owner: np.ndarray, size: int) -> int:
    """The limit that the task states: as many as full batches would be, and one more for each round."""
    return -(-len(owner) // size) + int(np.bincount(owner).max())


def batch_properties(inputs: Inputs, run: Callable[..., Any]) -> None:
    """Every caption once, no picture twice in a batch, batches filled, all chance from rng and nowhere else."""
    batches = _expect_batches(inputs, run())
    again = _expect_batches(inputs, run())
    if [b.tolist() for b in batches] != [b.tolist() for b in again]:
        raise AssertionError("the same rng gave two different epochs: take all chance from rng, none from np.random")
    if len(inputs["image_of_caption"]) >= LARGE:
        others = [_expect_batches(inputs, run(rng=np.random.default_rng(seed))) for seed in (12345, 6, 7)]
        _expect_chance(batches, others, inputs["image_of_caption"])


def _expect_chance(batches: list[np.ndarray], others: list[list[np.ndarray]], owner: np.ndarray) -> None:
    """Who meets whom is decided by rng: in each round anew, and in each epoch."""
    if any({frozenset(b.tolist()) for b in batches} == {frozenset(b.tolist()) for b in other} for other in others):
        raise AssertionError(
            "another rng gave the same batches: shuffle with rng, before you cut the captions into batches"
        )
    met = _meetings(batches, owner)
    if met[met > 0].mean() > MEETINGS:
        raise AssertionError(
            f"the same pictures share a batch again and again: two that meet do so {met[met > 0].mean():.1f} times in "
            "an epoch, by chance it would be 1.2. Shuffle every round for itself, not the images once"
        )
    share = max(float((_meetings(other, owner) > 0)[met > 0].mean()) for other in others)
    if share > SHARE:
        raise AssertionError(
            f"another rng brings the same pictures together: {100 * share:.0f} of 100 pairs that meet in one epoch "
            "meet in the next, by chance it would be 37. Shuffle before you cut, not the finished batches"
        )


def _meetings(batches: list[np.ndarray], owner: np.ndarray) -> np.ndarray:
    """(images, images): in how many batches two pictures stand together; 0 on the diagonal."""
    images = int(owner.max()) + 1
    inside = np.stack([np.bincount(owner[batch], minlength=images) for batch in batches])
    met = inside.T @ inside
    np.fill_diagonal(met, 0)
    return met


def _expect_batches(inputs: Inputs, result: Any) -> list[np.ndarray]:
    owner, size = inputs["image_of_caption"], inputs["batch_size"]
    batches = _expect_lists(result)
    _expect_each_once(np.concatenate(batches), owner)
    for batch in batches:
        if len(batch) > size:
            raise AssertionError(f"a batch holds {len(batch)} captions, more than batch_size = {size}")
        if len(set(owner[batch])) < len(batch):
            raise AssertionError("a batch holds two captions of one picture: each is the other's false negative")
    if max(map(len, batches)) == 1:
        raise AssertionError("every batch holds a single caption: no query has a negative")
    limit = most_batches(owner, size)
    if len(batches) > limit:
        raise AssertionError(
            f"{len(batches)} batches of {len(owner)} captions with batch_size {size}; the task allows {limit}: fill "
            "them, few captions are few negatives"
        )
    return batches


def _expect_lists(result: Any) -> list[np.ndarray]:
    """The batches as arrays, if they are a list of lists of whole numbers."""
    if result is None:
        raise AssertionError("your function returned None: is a return missing at its end?")
    if isinstance(result, GeneratorType | map | filter | zip):
        raise AssertionError(
            "your function returned an iterator, which can be read once: collect the batches in a list"
        )
    if isinstance(result, dict):
        raise AssertionError("your function returned a dict: return a list of batches")
    batches = [np.asarray(batch) for batch in result]
    if not batches:
        raise AssertionError(
            "your list of batches is empty: pictures may have fewer than five captions, batches fewer than batch_size"
        )
    if any(batch.ndim == 0 for batch in batches):
        raise AssertionError("your list holds single captions: cut it into batches, a list of lists")
    if any(batch.ndim != 1 for batch in batches):
        raise AssertionError("a batch is a list of caption numbers: yours holds lists or pairs")
    if any(len(batch) == 0 for batch in batches):
        raise AssertionError("a batch is empty: leave it out")
    if any(batch.dtype.kind == "b" for batch in batches):
        raise AssertionError("your batches are masks: give the numbers of the captions (np.flatnonzero)")
    if any(batch.dtype.kind not in "iu" for batch in batches):
        raise AssertionError("your batches hold no whole numbers, and cannot serve as an index: make them int")
    return batches


def _expect_each_once(drawn: np.ndarray, owner: np.ndarray) -> None:
    images = int(owner.max()) + 1
    if drawn.max() < images < len(owner):
        raise AssertionError(f"no number above {drawn.max()} comes: are these images? Batches hold caption numbers")
    if drawn.min() < 0:
        raise AssertionError(f"a batch names caption {drawn.min()}: a short batch needs no padding, leave it short")
    if drawn.max() >= len(owner):
        raise AssertionError(f"a batch names caption {drawn.max()}, and there are {len(owner)}, counted from 0")
    count = np.bincount(drawn, minlength=len(owner))
    if count.max() > 1:
        raise AssertionError(f"caption {int(count.argmax())} comes {count.max()} times in one epoch, expected once")
    if count.min() == 0:
        per_image = np.bincount(owner[drawn], minlength=images)
        if per_image.max() == 1 and np.bincount(owner).min() == 1 < np.bincount(owner).max():
            raise AssertionError(
                "the rounds end when one picture has no caption left, and others still have some: go on until none has"
            )
        if per_image.max() == 1 and np.bincount(owner).max() > 1:
            raise AssertionError("you drew one caption an image for the whole epoch: go on with the second, third, ...")
        if (per_image == per_image[per_image > 0].min())[np.bincount(owner) > 0].all():
            raise AssertionError(
                f"{(count == 0).sum()} captions never come: rounds go on until no image has a caption left"
            )
        raise AssertionError(f"{(count == 0).sum()} captions never come in this epoch (a last, smaller batch dropped?)")


EXERCISE = Exercise(
    "unique-batches",
    library=lambda image_of_caption, batch_size, rng: list(epoch_order(image_of_caption, batch_size, rng)),
    example=Case(_epoch(np.array([0, 0, 1, 1]), 2, 0)),
    cases=batch_cases,
    properties=batch_properties,
    rehearsal=Rehearsal(lambda: _epoch(np.repeat(np.arange(4000), 5), 128, 0), calls=6),
)
