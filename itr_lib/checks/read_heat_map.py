"""``read-heat-map``, lesson 02.

What each word of a heat map points to, beside a reader who goes through it word by word and box by box.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from itr_lib.checks._inputs import generator, longer
from itr_lib.checks.frame import Case, Exercise, Inputs, Rehearsal

NOWHERE, SEVERAL, SAME_PLACE = -1, -2, 0.5

# Boxes 0 and 1 lie on one star, box 2 on a square, box 3 on the ground. Words: star, square, shape, hexagon.
SMALL: Inputs = {
    "alignment": torch.tensor(
        [[0.8, 0.1, 0.5, 0.1], [0.75, 0.0, 0.3, 0.2], [0.1, 0.6, 0.45, 0.1], [0.0, 0.1, 0.0, 0.15]],
        dtype=torch.float64,
    ),
    "overlap": torch.tensor(
        [[1.0, 0.7, 0.0, 0.1], [0.7, 1.0, 0.0, 0.1], [0.0, 0.0, 1.0, 0.1], [0.1, 0.1, 0.1, 1.0]], dtype=torch.float64
    ),
    "floor": 0.3,
    "gap": 0.1,
}


def heat_map(
    places: list[int], best: list[list[float]], seed: int, padded: int = 0, floor: float = 0.3, gap: float = 0.1
) -> Inputs:
    """A heat map of boxes that lie on ``places``; ``best[w][p]`` is what the best box on place p has for word w.

    Further boxes of a place have up to 0.05 less, so that they lie within the gap; boxes of other places overlap a
    little. All boxes are shuffled, and ``padded`` ones mixed in.
    """
    g = generator(seed)
    boxes = len(places)
    place = torch.tensor(places)
    alignment = torch.tensor(longer(best), dtype=torch.float64).T[place]  # (R, W)
    seen: set[int] = set()
    for row, spot in enumerate(places):
        lower = 0.0 if spot not in seen else 0.01 + 0.04 * torch.rand(1, generator=g, dtype=torch.float64)
        alignment[row] -= lower
        seen.add(spot)
    same = place[:, None] == place[None, :]
    noise = torch.rand(boxes, boxes, generator=g, dtype=torch.float64)
    overlap = torch.where(same, 0.6 + 0.3 * (noise + noise.T) / 2, 0.4 * (noise + noise.T) / 2)
    overlap.fill_diagonal_(1)
    alignment = torch.cat([alignment, alignment.new_full((padded, alignment.shape[1]), -torch.inf)])
    overlap = torch.nn.functional.pad(overlap, (0, padded, 0, padded))
    order = torch.randperm(boxes + padded, generator=g)
    return {"alignment": alignment[order], "overlap": overlap[order][:, order], "floor": floor, "gap": gap}


def heat_map_cases() -> Iterator[Case]:
    """Words that point, point to two places, and point nowhere; and what makes one look like the other."""
    clear = [[0.8, 0.1, 0.2], [0.1, 0.7, 0.3], [0.2, 0.3, 0.9], [0.6, 0.2, 0.1]]
    yield Case(heat_map([0, 1, 2], clear, seed=0))
    yield Case(heat_map([0, 1, 2], [[0.8, 0.75, 0.1], [0.1, 0.2, 0.25], [0.4, 0.2, 0.1]], seed=1))
    yield Case(heat_map([0, 1], [[0.8, 0.75], [0.7, 0.1], [0.32, 0.27]], seed=11))
    duplicates = "several boxes lie on one thing"
    yield Case(heat_map([0, 0, 1, 1, 1, 2], clear[:3], seed=2), duplicates)
    yield Case(
        heat_map([0, 0, 0, 1], [[0.8, 0.1], [0.1, 0.6], [0.05, 0.2], [0.5, 0.1], [0.1, 0.9]], seed=3), duplicates
    )
    third = [[0.8, 0.72, 0.1], [0.72, 0.8, 0.1], [0.1, 0.2, 0.8]]
    told = "the runner-up lies on the same thing, and a box elsewhere comes close after it"
    yield Case(heat_map([0, 0, 1, 1, 2], third, seed=4), told)
    yield Case(heat_map([0, 0, 0, 0, 1, 2], third, seed=12), told)
    low = [[0.25, 0.2, 0.1], [-0.6, -0.9, -0.7], [0.1, 0.28, 0.27], [0.1, 0.9, 0.2]]
    yield Case(heat_map([0, 1, 2, 2], low, seed=5), "no box reaches the floor, and two come close to each other")
    negative = [[-0.9, -0.5, -0.8], [-0.7, -0.75, -0.2]]
    yield Case(heat_map([0, 1, 2], negative, seed=6, floor=-0.6), "every alignment is negative")
    yield Case(heat_map([0, 1, 1, 2], clear[:3], seed=7, padded=3), "some boxes are padding, at minus infinity")
    yield Case(heat_map([0], [[0.9], [0.1], [0.5]], seed=8), "the picture has one box")
    wide = [[0.8, 0.55, 0.1], [0.1, 0.5, 0.75], [0.9, 0.1, 0.52]]
    yield Case(heat_map([0, 1, 2], wide, seed=9, floor=0.5, gap=0.3), "floor and gap are other numbers")
    yield from border_cases()
    yield Case(heat_map([0, 1, 2, 2], [[0.05, 0.02, 0.11], [0.2, 0.01, 0.1], [0.01, 0.0, 0.02]], 10, 1, 0.08, 0.05))


def border_cases() -> Iterator[Case]:
    """Numbers that are equal to a limit, in powers of two, so that no rounding decides; and rivals of each other."""

    def case(columns: list[list[float]], overlap: list[list[float]], trap: str) -> Case:
        values = {"alignment": columns, "overlap": overlap}
        tensors = {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}
        return Case({**tensors, "floor": 0.5, "gap": 0.25}, trap)

    apart, half = [[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.5], [0.5, 1.0]]
    yield case([[0.5, 0.125, 0.75], [0.0, 0.5, 0.25]], apart, "the best entry is equal to the floor")
    yield case([[0.75, 0.25, 0.625], [0.5, 0.5, 0.875]], apart, "another box is just gap below the best")
    yield case([[0.75, 0.75], [0.625, 0.875]], half, "two boxes overlap by just 0.5")
    mixed = [[1.0, 0.0, 0.625], [0.0, 1.0, 0.0], [0.625, 0.0, 1.0]]
    yield case(
        [[0.75, 0.5], [0.6875, 0.0], [0.625, 0.25]], mixed, "one rival lies elsewhere, another on the same thing"
    )
    chain = [[1.0, 0.625, 0.625], [0.625, 1.0, 0.25], [0.625, 0.25, 1.0]]
    yield case([[0.75, 0.625], [0.6875, 0.0], [0.625, 0.5]], chain, "two boxes overlap the best, and not each other")


def heat_map_specification(alignment: Tensor, overlap: Tensor, floor: float, gap: float) -> Tensor:
    """Word by word: the best box; is it bright enough; does another place come close?"""
    answers = []
    for word in range(alignment.shape[1]):
        column = alignment[:, word].tolist()
        best = column.index(max(column))
        close = [box for box, value in enumerate(column) if column[best] - value < gap]
        elsewhere = [box for box in close if overlap[best, box] < SAME_PLACE]
        answers.append(NOWHERE if column[best] < floor else SEVERAL if elsewhere else best)
    return torch.tensor(answers)


def _read(
    alignment: Tensor, overlap: Tensor, floor: float, gap: float, axis="words", pick="max", floored=True,
    size=False, rivals="all", same="half", near="below best", first="floor", marks=(NOWHERE, SEVERAL), shift=0,
    level=None, dark_at=False,
) -> Tensor:  # fmt: skip
    """The reading with all that a learner may change in it."""
    if axis == "boxes" and alignment.shape[0] != alignment.shape[1]:
        raise IndexError("rows do not fit the overlaps")
    values = alignment.T if axis == "boxes" else alignment
    filled = values.nan_to_num(neginf=torch.inf) if pick == "min" else values
    values = values.abs() if size else values
    best = (filled.argmin(dim=0) if pick == "min" else values.argmax(dim=0)).tolist()
    if marks == "values":
        read = heat_map_specification(alignment, overlap, floor, gap)
        return torch.where(read < 0, read, alignment.amax(dim=0))
    answers = []
    for column, place in zip(values.T.tolist(), best, strict=True):
        several = _several(column, place, overlap, gap, rivals, same, near, floor)
        limit = floor if level is None else level
        dark = floored and (column[place] < limit or (dark_at and column[place] == limit))
        if first == "several":
            answer = marks[1] if several else marks[0] if dark else place + shift
        else:
            answer = marks[0] if dark else marks[1] if several else place + shift
        answers.append(answer)
    return torch.tensor(answers)


def _several(
    column: list[float], best: int, overlap: Tensor, gap: float, rivals: str, same: str, near: str, floor: float,
) -> bool:  # fmt: skip
    """Whether a second place comes close to the best one."""
    top = column[best]
    if rivals == "none":
        return False
    order = sorted(range(len(column)), key=lambda box: -column[box])
    some = {"all": order, "runner-up": order[1:2], "others": [b for b in order if b != best], "third": order[1:3]}[
        rivals
    ]
    close, apart = _closeness(gap, top, floor)[near], _elsewhere(overlap, best).get(same)
    near_by = [box for box in some if close(column[box])]
    if same == "each other":
        return any(overlap[one, other] < SAME_PLACE for one in near_by for other in near_by)
    if same == "every":
        others = [box for box in near_by if box != best]
        return bool(others) and all(overlap[best, box] < SAME_PLACE for box in others)
    return any(apart(box) for box in near_by)


def _closeness(gap: float, top: float, floor: float) -> dict[str, Callable[[float], bool]]:
    """When a value counts as near the best one."""
    return {
        "below best": lambda value: top - value < gap,
        "at gap": lambda value: top - value <= gap,
        "above floor": lambda value: value >= floor,
        "floor too": lambda value: top - value < gap and value >= floor,
        "above gap": lambda value: value > gap,
        "share": lambda value: value > (1 - gap) * top,
        "turned": lambda value: top - value > gap,
        "square": lambda value: abs(top - value) < gap * top,
        "any": lambda value: True,
    }


def _elsewhere(overlap: Tensor, best: int) -> dict[str, Callable[[int], bool]]:
    """When a box counts as lying on another place."""
    return {
        "half": lambda box: overlap[best, box] < SAME_PLACE,
        "at half": lambda box: overlap[best, box] <= SAME_PLACE,
        "ignored": lambda box: True,
        "touching": lambda box: overlap[best, box] == 0 and box != best,
        "turned": lambda box: overlap[best, box] >= SAME_PLACE,
        "turned, strictly": lambda box: overlap[best, box] > SAME_PLACE,
        "box 0": lambda box: overlap[0, box] < SAME_PLACE,
    }


TOGGLES = {
    "you read the rows, what each box points to: read the columns, what each word points to (argmax over axis 0)": {
        "axis": "boxes"
    },
    "you took the darkest box of each word: the brightest is asked for (argmax)": {"pick": "min"},
    "you took the largest alignment without its sign: no abs": {"size": True},
    "a word whose best box is below the floor points nowhere: -1": {"floored": False},
    "a word points nowhere where its best alignment is below floor, which is an argument, not 0": {"level": 0.0},
    "a word points nowhere where its best alignment is below floor, which is an argument, not 0.5": {"level": 0.5},
    "a word points nowhere where its best alignment is below floor, which is an argument, not 0.3": {"level": 0.3},
    "a best entry that is equal to the floor is not below it: <, not <=": {"dark_at": True},
    "a box that is just gap below the best does not come closer than gap: <, not <=": {"near": "at gap"},
    "an overlap of just 0.5 is not less than 0.5: <, not <=": {"same": "at half"},
    "the rivals are compared with each other: only their overlap with the best box counts, overlap[best]": {
        "same": "each other"
    },
    "all rivals must lie elsewhere for you: one of them is enough (any, not all)": {"same": "every"},
    "a second place that comes close is not looked for: then the answer is -2": {"rivals": "none"},
    "you look at the runner-up alone, which may lie on the same thing: every box within the gap counts": {
        "rivals": "runner-up"
    },
    "you look at the best three boxes alone: every box within the gap counts": {"rivals": "third"},
    "overlap is not used, and the best box is a rival of its own: only a box elsewhere makes a word ambiguous": {
        "same": "ignored"
    },
    "overlap is not used: a second box on the same thing (overlap of 0.5 or more) makes no word ambiguous": {
        "same": "ignored",
        "rivals": "others",
    },
    "boxes that merely touch count as one thing: below an overlap of 0.5 they are two": {"same": "touching"},
    "overlap is turned round: a large one says that both boxes lie on one thing": {
        "same": "turned",
        "rivals": "others",
    },
    "overlap is turned round: more than 0.5 says that both boxes lie on one thing": {
        "same": "turned, strictly",
        "rivals": "others",
    },
    "you took the overlaps of box 0: those of the word's best box are asked for, overlap[best]": {"same": "box 0"},
    "every box above the floor counts as a rival: only those within gap of the best do": {"near": "above floor"},
    "a rival below the floor does not count for you: within gap of the best it does": {"near": "floor too"},
    "gap is compared with the alignment itself: compare it with the distance from the best": {"near": "above gap"},
    "gap is taken as a share of the best alignment: it is a difference, best - other < gap": {"near": "share"},
    "the distance is turned round: a rival comes closer than gap, best - other < gap": {"near": "turned"},
    "gap is not used: only boxes within gap of the best are rivals": {"near": "any"},
    "you ask for a second place first: a word below the floor points nowhere (-1), whoever comes close": {
        "first": "several"
    },
    "-1 and -2 are exchanged: -1 is nowhere, -2 is two places": {"marks": (SEVERAL, NOWHERE)},
    "-1 is given for both: two places are -2": {"marks": (NOWHERE, NOWHERE)},
    "-2 is given for both: nowhere is -1": {"marks": (SEVERAL, SEVERAL)},
    "0 stands for nowhere, but it is a box: nowhere is -1": {"marks": (0, SEVERAL)},
    "the best alignments are given back: the numbers of their boxes are asked for (argmax)": {"marks": "values"},
    "the boxes are counted from 1: count from 0": {"shift": 1},
}


def _explain(inputs: Inputs, result: Any, expected: Tensor) -> str:
    """The first word that is read in another way, and what its column holds."""
    word = int((torch.as_tensor(result) != expected).nonzero()[0])
    column, right = inputs["alignment"][:, word], int(expected[word])
    best = int(column.argmax())
    told = {
        NOWHERE: f"points nowhere: its best entry, {column[best]:.2f}, is below the floor of {inputs['floor']:g}",
        SEVERAL: f"is ambiguous: elsewhere than its best region {best} another comes closer than {inputs['gap']:g}",
    }
    return f"word {word} {told.get(right, f'points to region {right}, its best, and no region elsewhere comes close')}"


def read_heat_map(alignment: Tensor, overlap: Tensor, floor: float, gap: float) -> Tensor:
    """All words at once."""
    best, where = alignment.max(dim=0)  # (W,)
    close = best - alignment < gap  # (R, W)
    elsewhere = overlap[:, where] < SAME_PLACE
    answer = where.masked_fill((close & elsewhere).any(dim=0), SEVERAL)
    return answer.masked_fill(best < floor, NOWHERE)


EXERCISE = Exercise(
    "read-heat-map",
    library=read_heat_map,
    example=Case(SMALL, worked=torch.tensor([0, 2, -2, -1])),
    cases=heat_map_cases,
    specification=heat_map_specification,
    family=(_read, TOGGLES),
    exact=True,
    index=True,
    explain=_explain,
    rehearsal=Rehearsal(lambda: heat_map(list(range(30)), [[0.1] * 30] * 14, 0, padded=6), calls=2000),
)
