"""``block-sizes``, lesson 02.

How many captions can be scored at once, beside a count that takes one caption after the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from itr_lib.checks._inputs import sizes
from itr_lib.checks.frame import Case, Exercise, Inputs

SMALL = {"images": 10, "captions": 25, "regions": 5, "words": 4, "budget": 16_000}


def block_cases() -> Iterator[Case]:
    """Budgets that fit, that do not quite, that hold all, and that hold not even one caption."""
    yield Case({"images": 100, "captions": 500, "regions": 36, "words": 20, "budget": 2**25})
    n, c, r, w = sizes(7, 50, 3, 11)
    yield Case({"images": n, "captions": c, "regions": r, "words": w, "budget": 20_000})
    n, r, w, fitting = sizes(5, 2, 3, 4)
    even = {"images": n, "captions": 3 * fitting, "regions": r, "words": w, "budget": 8 * n * r * w * fitting}
    yield Case(even, "the blocks fit the budget to the byte")
    yield Case(even | {"budget": even["budget"] - 1}, "one byte is missing for another caption")
    yield Case(even | {"captions": 3 * fitting + 1}, "one caption is left over")
    yield Case(even | {"budget": 3 * even["budget"]}, "the budget holds all captions, and not one more")
    yield Case(even | {"budget": 10**9}, "the budget is larger than all captions need")
    yield Case(even | {"budget": 100}, "the budget is too small for a single caption")
    yield Case(even | {"captions": 1, "budget": 300}, "there is one caption")


def block_specification(images: int, captions: int, regions: int, words: int, budget: int) -> Tensor:
    """One caption after the other, into the last block or into a new one."""
    sizes: list[int] = []
    for _ in range(captions):
        if sizes and 2 * 4 * images * (sizes[-1] + 1) * regions * words <= budget:
            sizes[-1] += 1
        else:
            sizes.append(1)
    return torch.tensor(sizes)


def _blocks(
    images: int, captions: int, regions: int, words: int, budget: int, copies=2, width=4.0, without=(), extra=1,
    least=1, most=True, rest="last", per_block=0, turned=False, border=0, none_fits="one",
) -> Tensor:  # fmt: skip
    """The sizes with all that a learner may change in them."""
    images, captions = (captions, images) if turned else (images, captions)
    if rest == "one":
        return torch.tensor([captions])
    parts = {"images": images, "regions": regions, "words": words}
    each = copies * width * extra
    for name, size in parts.items():
        each *= 1 if name in without else size
    budget -= border
    if none_fits == "nothing" and budget < each:
        return torch.tensor([])
    size = budget // each if rest != "rounded up" else -(-budget // each)
    size = round(budget / each) if rest == "rounded" else size
    size = max(least, int(size) + per_block)
    if most:
        size = min(size, captions)
    return torch.tensor(_told(captions, size, rest))


def _told(captions: int, size: int, rest: str) -> list[int] | int:
    """What is said of blocks of a size."""
    whole, left = divmod(captions, size)
    if rest == "even":
        count = -(-captions // size)
        return [captions // count + (i < captions % count) for i in range(count)]
    if rest == "padded":
        return [size] * (whole + (left > 0))
    if rest == "first":
        return [left] * (left > 0) + [size] * whole
    if rest == "count":
        return -(-captions // size)
    if rest == "size":
        return size
    if rest == "stops":
        return [min((i + 1) * size, captions) for i in range(whole + (left > 0))]
    if rest == "starts":
        return [i * size for i in range(whole + (left > 0))]
    if rest == "always":
        return [size] * whole + [left]
    return [size] * whole + ([left] if left and rest != "dropped" else [])


TOGGLES = {
    "half of the memory is counted: the alignments and their masked copy lie in it together, 4 bytes a number each": {
        "copies": 1
    },
    "three tensors are counted: the alignments and their masked copy are two": {"copies": 3},
    "numbers are counted, not bytes: a float32 takes 4 bytes": {"width": 1.0},
    "a number takes 8 bytes here: a float32 takes 4": {"width": 8.0},
    "a number takes 32 bytes here: a float32 takes 32 bits, which are 4 bytes": {"width": 32.0},
    "the pictures are not counted: every picture has a matrix with each caption": {"without": ("images",)},
    "the regions are not counted: a caption takes images x regions x words numbers": {"without": ("regions",)},
    "the words are not counted: a caption takes images x regions x words numbers": {"without": ("words",)},
    "a block that holds nobody: where the budget is too small for one caption, take one all the same": {"least": 0},
    "the captions that are left over are dropped: they make a last, smaller block": {"rest": "dropped"},
    "the last block is as large as the others, so more captions come out than there are": {"rest": "padded"},
    "the last block is as large as the budget allows, even where fewer captions are left: min(size, those left)": {
        "most": False,
        "rest": "padded",
    },
    "only full blocks are told: the captions that are left over make a last, smaller one": {
        "most": False,
        "rest": "dropped",
    },
    "what is left over is added as a last block even where nothing is left, as a 0": {"most": False, "rest": "always"},
    "the smaller block comes last": {"rest": "first"},
    "the captions are spread evenly: fill one block after the other, so that only the last is smaller": {
        "rest": "even"
    },
    "a last block of 0 is added: leave it out where the captions divide evenly": {"rest": "always"},
    "this is the number of blocks: the size of each is asked for, as a list": {"rest": "count"},
    "this is the size of one block: the size of each is asked for, as a list": {"rest": "size"},
    "these are the places where blocks end: their sizes are asked for": {"rest": "stops"},
    "these are the places where blocks begin: their sizes are asked for": {"rest": "starts"},
    "pictures and captions are exchanged: the captions are cut, each with all images": {"turned": True},
    "a block for all captions together: as many as the budget holds": {"rest": "one"},
    "the size is rounded, and does not always fit: round down, //": {"rest": "rounded"},
    "the size is rounded up, and does not fit: round down, //": {"rest": "rounded up"},
    "a caption that fits to the byte is left out: the whole budget may be used, <=, not <": {"border": 1},
    "the list is empty where not even one caption fits: then a block holds one all the same, max(1, ...)": {
        "none_fits": "nothing"
    },
    "one caption too many in each block: it does not fit": {"per_block": 1},
    "one caption too few in each block: <= budget still fits": {"per_block": -1},
}


def _explain(inputs: Inputs, result: Any, expected: Tensor) -> str:
    """What the sizes given would take, or leave out."""
    each = 2 * 4 * inputs["images"] * inputs["regions"] * inputs["words"]
    sizes, fit = [int(size) for size in torch.as_tensor(result).flatten()], max(1, inputs["budget"] // each)
    if sum(sizes) != inputs["captions"]:
        return f"your sizes add up to {sum(sizes)}: there are {inputs['captions']} captions"
    price = f"a caption costs {each:,} bytes (2 x 4 x images x regions x words), so that {fit:,} fit into the budget"
    return f"{price}; your first block holds {sizes[0]:,}"


def library_blocks(images: int, captions: int, regions: int, words: int, budget: int) -> list[int]:
    """Full blocks, and what is left."""
    size = min(captions, max(1, budget // (2 * 4 * images * regions * words)))
    return [min(size, captions - start) for start in range(0, captions, size)]


EXERCISE = Exercise(
    "block-sizes",
    library=library_blocks,
    example=Case(SMALL, worked=torch.tensor([10, 10, 5])),
    cases=block_cases,
    specification=block_specification,
    family=(_blocks, TOGGLES),
    exact=True,
    index=True,
    explain=_explain,
)
