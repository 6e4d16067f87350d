"""``whole-picture``, lesson 06.

What a pretrained image model returns, to one vector a picture, beside loops over pictures and cells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from itr_lib.checks._inputs import normal, sizes
from itr_lib.checks.frame import Case, Exercise

# pictures, tokens (or rows and columns of a map), dim, whether there is a class token, how many registers
TOKENS = [
    (3, 5, 4, True, 0, ""),
    (2, 10, 3, True, 4, "there are a class token and registers"),
    (3, 9, 4, False, 0, "there is no class token"),
    (2, 7, 5, False, 4, "there are registers, and no class token"),
    (1, 2, 3, True, 0, "there is one picture of one patch"),
    (1, 1, 3, False, 0, "there is one picture of one patch"),
    (4, 17, 4, True, 1, "there are a class token and registers"),
]
MAPS = [(2, (3, 4), 5, ""), (3, (4, 4), 4, ""), (1, (1, 1), 3, "the map is a single cell"), (5, (2, 5), 2, "")]


def whole_cases() -> Iterator[Case]:
    """Tokens of the four kinds of model, and maps that are no squares; brighter on one side."""
    for seed, (pictures, count, dim, class_token, registers, trap) in enumerate(TOKENS):
        pictures, dim, patches = sizes(pictures, dim, count - class_token - registers)
        patches += patches == registers  # else the last `registers` tokens would be the patches
        count = class_token + registers + patches
        output = normal(pictures, count, dim, seed=seed) + torch.arange(count)[:, None] / 2
        yield Case({"output": output, "class_token": class_token, "registers": registers}, trap)
    for seed, (pictures, (rows, columns), dim, trap) in enumerate(MAPS):
        pictures, dim, rows, columns = sizes(pictures, dim, rows, columns)
        output = normal(pictures, dim, rows, columns, seed=50 + seed) + torch.arange(columns)
        yield Case({"output": output, "class_token": False, "registers": 0}, trap or "the output is a map")


def whole_specification(output: Tensor, class_token: bool, registers: int) -> Tensor:
    """Picture by picture: the class token, or the sum of the patches by their number."""
    vectors = []
    for picture in output:
        if picture.ndim == 3:
            places = [(r, c) for r in range(picture.shape[1]) for c in range(picture.shape[2])]
            vectors.append(sum(picture[:, r, c] for r, c in places) / len(places))
        elif class_token:
            vectors.append(picture[0])
        else:
            vectors.append(sum(picture[t] for t in range(registers, len(picture))) / (len(picture) - registers))
    return torch.stack(vectors)


def _mean(patches: Tensor) -> Tensor:
    return patches.mean(dim=1)


def _class(output: Tensor, registers: int, pool: Callable) -> Tensor:
    return output[:, 0]


def _patches(output: Tensor, registers: int, pool: Callable) -> Tensor:
    return pool(output[:, registers:])


def whole(
    output, class_token, registers, pool=_mean, of_map=None, named=_class, unnamed=_patches, last=lambda x: x
):  # fmt: skip
    """One vector a picture, with a step done otherwise; every option is a mistake of the family below."""
    if output.ndim == 4:
        return last(of_map(output) if of_map else pool(output.flatten(2).mT))
    return last((named if class_token else unnamed)(output, registers, pool))


FAMILY: dict[str, dict] = {
    "without a class token your function takes the first patch behind the registers, the corner at the top left: take "
    "the mean over all patches": {"unnamed": lambda x, r, pool: x[:, r]},
    "the top left cell of the map is taken for the picture: take the mean over all cells": {
        "of_map": lambda x: x[:, :, 0, 0]
    },
    "registers take part in the mean: they are no patches, leave out the first `registers` tokens": {
        "unnamed": lambda x, r, pool: pool(x)
    },
    "without a class token your function leaves out one token too many: patches begin at `registers`": {
        "unnamed": lambda x, r, pool: x[:, r + 1 :].sum(1) / max(1, x.shape[1] - r - 1)
    },
    "the registers are taken to stand at the end: they come before the patches": {
        "unnamed": lambda x, r, pool: pool(x[:, : x.shape[1] - r])
    },
    "the mean of the registers is taken: they are no patches": {
        "unnamed": lambda x, r, pool: pool(x[:, :r]) if r else pool(x)
    },
    "with a class token your function takes the mean over all tokens: take the class token, the first one": {
        "named": lambda x, r, pool: pool(x)
    },
    "with a class token your function takes the mean over the patches: take the class token, the first one": {
        "named": lambda x, r, pool: pool(x[:, 1 + r :])
    },
    "with a class token your function takes the mean over all other tokens: take the class token, the first one": {
        "named": lambda x, r, pool: pool(x[:, 1:])
    },
    "the token behind the registers is taken for the class token: that one comes first of all": {
        "named": lambda x, r, pool: x[:, r]
    },
    "the first token is skipped: count from 0, the class token is output[:, 0]": {"named": lambda x, r, pool: x[:, 1]},
    "the last token is taken for the class token: it comes first": {"named": lambda x, r, pool: x[:, -1]},
    "the class token and the mean of the patches are averaged: take the class token alone": {
        "named": lambda x, r, pool: (x[:, 0] + pool(x[:, 1 + r :])) / 2
    },
    "the class token and the mean of the patches are added: take the class token alone": {
        "named": lambda x, r, pool: x[:, 0] + pool(x[:, 1 + r :])
    },
    "the largest number of each channel is taken: take the mean over the patches": {"pool": lambda x: x.amax(1)},
    "the median is taken: take the mean over the patches": {"pool": lambda x: x.median(1).values},
    "this is the sum over the patches: take their mean": {"pool": lambda x: x.sum(1)},
    "the map is pooled by its maximum: take the mean over its cells": {"of_map": lambda x: x.amax((2, 3))},
    "the map is added up: take the mean over its cells": {"of_map": lambda x: x.sum((2, 3))},
    "one row of the map alone is taken: take the mean over all cells": {"of_map": lambda x: x[:, :, 0].mean(-1)},
    "one column of the map alone is taken: take the mean over all cells": {"of_map": lambda x: x[..., 0].mean(-1)},
    "the middle cell of the map is taken for the picture: take the mean over all cells": {
        "of_map": lambda x: x[:, :, x.shape[2] // 2, x.shape[3] // 2]
    },
    "the vectors are brought to length 1: the picture's own vector is asked for": {
        "last": lambda x: F.normalize(x, dim=-1)
    },
    "the mean over the pictures is subtracted: each picture has its own vector": {"last": lambda x: x - x.mean(0)},
}
MISTAKES: dict[str, Callable] = {
    "a map is read as tokens: its axes are (pictures, channels, rows, columns), so take the mean over the last two": (
        lambda output, class_token, registers: (
            output.mean(1).flatten(1) if output.ndim == 4 else whole_specification(output, class_token, registers)
        )
    ),
    "the channels of a map are taken to be its last axis: they are axis 1, so take the mean over axes 2 and 3": (
        lambda output, class_token, registers: (
            output.mean((1, 2)) if output.ndim == 4 else whole_specification(output, class_token, registers)
        )
    ),
    "only the first picture is returned: one vector for each": lambda **inputs: whole_specification(**inputs)[0],
    "the vector is one for all pictures together: each has its own": lambda **inputs: whole_specification(
        **inputs
    ).mean(0),
    "class_token is turned round: it is True where the first token is one": lambda output, class_token, registers: (
        whole_specification(output, output.ndim == 3 and not class_token, registers)
    ),
    "class_token is ignored, and tokens always averaged: where it is True, take output[:, 0]": (
        lambda output, class_token, registers: whole(output, False, registers)
    ),
    "the first token is always taken: without a class token it is a patch, the top left corner of the picture, or a "
    "register, so take the mean over the patches": (
        lambda output, class_token, registers: whole(output, output.ndim == 3, registers)
    ),
}


def _by_hand(output: Tensor, class_token: bool, registers: int) -> str:
    """Which numbers of a case's output make the first of its picture's vector."""
    if class_token:
        return f"the vector of picture 0 is its first token, which begins with {float(output[0, 0, 0]):.4g}"
    is_map = output.ndim == 4
    first = output[0, 0].flatten() if is_map else output[0, registers:, 0]
    return (
        f"picture 0 has {len(first)} {'cells' if is_map else f'patches behind {registers} registers'}, and its vector "
        f"begins with {float(first.mean()):.4g}"
    )


def library_whole(output: Tensor, class_token: bool, registers: int) -> Tensor:
    """The class token where there is one, else the mean of what the picture was cut into."""
    if output.ndim == 4:
        return output.mean(dim=(2, 3))
    return output[:, 0] if class_token else output[:, registers:].mean(dim=1)


EXERCISE = Exercise(
    "whole-picture",
    library=library_whole,
    example=Case(
        {
            "output": torch.tensor([[[9.0, 9.0], [1.0, 2.0], [3.0, 4.0]]], dtype=torch.float64),
            "class_token": False,
            "registers": 1,
        },
        worked=[[2, 3]],
    ),
    cases=whole_cases,
    specification=whole_specification,
    mistakes=MISTAKES,
    family=(whole, FAMILY),
    steps=_by_hand,
)
