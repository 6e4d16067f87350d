"""``pool-boxes``, lesson 06.

The mean of a map's cells within a box, each by the area that it has there, beside a loop over boxes and cells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from itr_lib.checks._inputs import generator, normal, sizes
from itr_lib.checks.frame import Case, Exercise, Rehearsal
from itr_lib.checks.outcome import Inputs
from itr_lib.encoders.pretrained import pool_boxes as encoder_pool


def random_boxes(count: int, seed: int, smallest: float = 0.05) -> Tensor:
    """(count, 4) corners anywhere in the picture, of sides above ``smallest``; float64."""
    corners = torch.rand(count, 2, 2, generator=generator(seed), dtype=torch.float64).sort(dim=1).values
    low, high = corners[:, 0] * (1 - smallest), corners[:, 1] * (1 - smallest) + smallest
    return torch.cat([low, high], dim=1)


def box_cases() -> Iterator[Case]:
    """Maps that are no squares; boxes on borders of cells, within one cell, of the whole picture, of a line's width."""
    for seed, shape in enumerate([(4, 4, 3, 6), (3, 5, 4, 7), (7, 2, 2, 9)]):
        rows, columns, dim, boxes = sizes(*shape)
        yield Case({"cells": normal(rows, columns, dim, seed=seed), "boxes": random_boxes(boxes, seed)})
    whole = torch.tensor([[0.0, 0.0, 1.0, 1.0]], dtype=torch.float64)
    yield Case({"cells": normal(4, 5, 3, seed=10), "boxes": whole}, "the box is the whole picture")
    borders = torch.tensor([[0.25, 0.5, 0.75, 1.0], [0.0, 0.25, 0.25, 0.75]], dtype=torch.float64)
    yield Case({"cells": normal(4, 4, 3, seed=11), "boxes": borders}, "boxes end at borders of cells")
    tiny = torch.tensor([[0.3, 0.55, 0.35, 0.6], [0.48, 0.48, 0.52, 0.51]], dtype=torch.float64)
    yield Case({"cells": normal(4, 3, 3, seed=12), "boxes": tiny}, "a box is smaller than a cell")
    yield Case({"cells": normal(1, 1, 3, seed=13), "boxes": random_boxes(3, 13)}, "the map is a single cell")
    # centres of cells lie in no box, and in all boxes of the next case in the same places
    slim = torch.tensor([[0.02, 0.0, 0.1, 1.0], [0.0, 0.9, 1.0, 0.98]], dtype=torch.float64)
    yield Case({"cells": normal(4, 4, 2, seed=14), "boxes": slim}, "a box is slimmer than a cell")
    yield Case({"cells": normal(8, 8, 2, seed=15), "boxes": random_boxes(1, 15)}, "there is one box")


def box_specification(cells: Tensor, boxes: Tensor) -> Tensor:
    """Box by box, cell by cell: the area that they share, times the cell; by the area in all."""
    rows, columns, dim = cells.shape
    pooled = []
    for x1, y1, x2, y2 in boxes.tolist():
        total, area = torch.zeros(dim, dtype=torch.float64), 0.0
        for r in range(rows):
            for c in range(columns):
                width = min(x2, (c + 1) / columns) - max(x1, c / columns)
                height = min(y2, (r + 1) / rows) - max(y1, r / rows)
                shared = max(width, 0.0) * max(height, 0.0)
                total, area = total + shared * cells[r, c].double().cpu(), area + shared
        pooled.append(total / area)
    return torch.stack(pooled).to(cells)


def _length(low: Tensor, high: Tensor, count: int) -> Tensor:
    """(boxes, count): how much of each of ``count`` equal parts of 0..1 lies between low and high."""
    edge = torch.arange(count + 1, dtype=low.dtype, device=low.device) / count
    return (torch.minimum(high[:, None], edge[1:]) - torch.maximum(low[:, None], edge[:-1])).clamp(min=0)


def _uncut(low: Tensor, high: Tensor, count: int) -> Tensor:
    edge = torch.arange(count + 1, dtype=low.dtype, device=low.device) / count
    return torch.minimum(high[:, None], edge[1:]) - torch.maximum(low[:, None], edge[:-1])


def _touched(low: Tensor, high: Tensor, count: int) -> Tensor:
    return (_length(low, high, count) > 1e-9).to(low)


def _centres(low: Tensor, high: Tensor, count: int) -> Tensor:
    centre = (torch.arange(count, dtype=low.dtype, device=low.device) + 0.5) / count
    return ((centre >= low[:, None]) & (centre <= high[:, None])).to(low)


def _rounded(lower: Callable, upper: Callable, at_least: bool = False) -> Callable:
    """Whole cells between two rounded borders."""

    def share(low: Tensor, high: Tensor, count: int) -> Tensor:
        place = torch.arange(count, device=low.device)
        first, stop = lower(low * count)[:, None], upper(high * count)[:, None]
        stop = torch.maximum(stop, first + 1) if at_least else stop
        return ((place >= first) & (place < stop)).to(low)

    return share


def _middle(low: Tensor, high: Tensor, count: int) -> Tensor:
    """The one cell in which the middle of a box lies."""
    place = ((low + high) / 2 * count).long().clamp(max=count - 1)
    return torch.nn.functional.one_hot(place, count).to(low)


def _between(low: Tensor, high: Tensor, count: int) -> Tensor:
    """Cells that lie within the box as a whole."""
    return (_length(low, high, count) > 1 / count - 1e-9).to(low)


def pooled(
    cells, boxes, along=_length, order=(0, 1, 2, 3), corners=lambda box: box,
    divide=lambda weights, boxes: weights.sum((1, 2)), join=lambda y, x: y[:, :, None] * x[:, None],
    pool=lambda weights, cells: torch.einsum("rhw,hwc->rc", weights, cells),
) -> Tensor:  # fmt: skip
    """The pooling, with options to spoil it; every one is a mistake of the family below."""
    x1, y1, x2, y2 = corners(boxes)[:, list(order)].T
    rows, columns = cells.shape[:2]
    weights = join(along(y1, y2, rows), along(x1, x2, columns))
    if divide is None:
        return pool(weights, cells)
    return pool(weights, cells) / divide(weights, boxes)[:, None]


def _area(boxes: Tensor) -> Tensor:
    return (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)


def _of_whole_cells(weights: Tensor, cells: Tensor) -> Tensor:
    return torch.einsum("rhw,hwc->rc", (weights > 1e-9).to(cells), cells)


def _largest(weights: Tensor, cells: Tensor) -> Tensor:
    inside = (weights > 1e-9)[..., None]
    return cells[None].masked_fill(~inside, -torch.inf).amax((1, 2)) * weights.sum((1, 2))[:, None]


FAMILY: dict[str, dict] = {
    "x and y are exchanged: x1, x2 go along the columns (axis 1 of cells), y1, y2 along the rows (axis 0)": {
        "order": (1, 0, 3, 2)
    },
    "a box is read as x1, x2, y1, y2: it is x1, y1, x2, y2": {"order": (0, 2, 1, 3)},
    "a box is read as x, y, width, height: the last two are its other corner": {
        "corners": lambda box: torch.cat([box[:, :2], box[:, :2] + box[:, 2:]], 1)
    },
    "every cell that a box touches counts alike (borders are rounded outwards): weigh it by the area in the box": {
        "along": _touched
    },
    "cells count whose middle lies in the box (or borders are rounded to whole cells): a small box holds none, 0 / 0, "
    "and parts of cells count by their area": {"along": _centres},
    "only cells that lie in the box as a whole count: parts of cells count by their area": {"along": _between},
    "both borders are rounded down to whole cells, which leaves small boxes empty: weigh each cell by its area in the "
    "box": {"along": _rounded(torch.floor, torch.floor)},
    "borders are rounded down to whole cells, with at least one: weigh each cell by its area in the box": {
        "along": _rounded(torch.floor, torch.floor, at_least=True)
    },
    "borders are rounded to the nearest whole cell, with at least one: weigh each cell by its area in the box": {
        "along": _rounded(torch.round, torch.round, at_least=True)
    },
    "borders are rounded inwards, ceil and floor, to whole cells: weigh each cell by its area in the box": {
        "along": _rounded(torch.ceil, torch.floor)
    },
    "only the cell in the middle of the box is taken: weigh every cell by its area in the box": {"along": _middle},
    "overlaps below 0 are not cut off: two of them make a positive area far outside of the box; clamp(min=0)": {
        "along": _uncut
    },
    "width and height of the overlap are added: an area is their product": {
        "join": lambda y, x: (y[:, :, None] + x[:, None]) * ((y > 0)[:, :, None] & (x > 0)[:, None])
    },
    "only the overlap along x counts: the area is that along x times that along y": {
        "join": lambda y, x: torch.ones_like(y)[:, :, None] * x[:, None]
    },
    "only the overlap along y counts: the area is that along x times that along y": {
        "join": lambda y, x: y[:, :, None] * torch.ones_like(x)[:, None]
    },
    "this is the sum by area: divide by the area of the box, so that the weights add up to 1": {"divide": None},
    "you divide by the number of cells that the box touches: divide by the sum of the weights": {
        "divide": lambda weights, boxes: (weights > 1e-9).sum((1, 2))
    },
    "you divide by the number of all cells: divide by the sum of the weights": {
        "divide": lambda weights, boxes: torch.full_like(boxes[:, 0], weights[0].numel())
    },
    "you divide by the largest weight: divide by the sum of the weights": {
        "divide": lambda weights, boxes: weights.amax((1, 2))
    },
    "you divide by the length of the weights: divide by their sum": {
        "divide": lambda weights, boxes: weights.square().sum((1, 2)).sqrt()
    },
    "you divide by the weights of all boxes together: each box has its own sum": {
        "divide": lambda weights, boxes: weights.sum().expand(len(boxes))
    },
    "the cells are added up without their weights, and divided by the area": {"pool": _of_whole_cells},
    "the largest number of each channel is taken: take the mean by area": {"pool": _largest},
    "a guard of 1e-3 or so is added to the area, which makes small boxes weak: no box is empty here": {
        "divide": lambda weights, boxes: weights.sum((1, 2)) + 1e-3
    },
}


def _in_pixels(cells: Tensor, boxes: Tensor) -> Tensor:
    """Boxes taken for numbers of cells: all of them lie in the first."""
    return pooled(cells, boxes / boxes.new_tensor([*cells.shape[1::-1]] * 2))


def _all_cells(cells: Tensor, boxes: Tensor) -> Tensor:
    return cells.mean((0, 1)).expand(len(boxes), -1)


def _in_squares(cells: Tensor, boxes: Tensor) -> Tensor:
    """One number of parts for both axes."""
    rows, columns, _ = cells.shape
    x, y = (_length(boxes[:, i], boxes[:, i + 2], columns) for i in (0, 1))
    if rows > columns:
        raise IndexError
    weights = y[:, :rows, None] * x[:, None]
    return torch.einsum("rhw,hwc->rc", weights, cells) / weights.sum((1, 2))[:, None]


MISTAKES: dict[str, Callable] = {
    "boxes are taken to be in cells: they are shares of the picture's width and height, from 0 to 1": _in_pixels,
    "every box gets the mean of all cells: those within the box count": _all_cells,
    "rows and columns are cut into equally many parts: y goes by cells.shape[0], x by cells.shape[1]": _in_squares,
    "the first box is used for all: each has its own vector": lambda cells, boxes: box_specification(
        cells, boxes[:1]
    ).expand(len(boxes), -1),
}


def _of_the_first(cells: Tensor, boxes: Tensor) -> str:
    """The weights of a case's first box."""
    x1, y1, x2, y2 = boxes[:1].T
    x, y = (_length(low, high, count)[0] for low, high, count in ((x1, x2, cells.shape[1]), (y1, y2, cells.shape[0])))
    told = [f"{name} {[round(float(v), 4) for v in part]}" for name, part in (("columns", x), ("rows", y))]
    return f"the first box, {[round(v, 4) for v in boxes[0].tolist()]}, covers of the {told[0]} and of the {told[1]}"


def library_pool(cells: Tensor, boxes: Tensor) -> Tensor:
    """The library's, which pools features on their way to disk: arrays, not tensors."""
    return torch.from_numpy(encoder_pool(cells.cpu().numpy(), boxes.cpu().numpy())).to(cells)


def rehearsal() -> Inputs:
    """A map as EfficientNet-lite0 gives it, and 36 boxes."""
    return {"cells": normal(8, 8, 1280, seed=0).float(), "boxes": random_boxes(36, 0).float()}


EXERCISE = Exercise(
    "pool-boxes",
    library=library_pool,
    example=Case(
        {
            "cells": torch.tensor([[[0.0], [4.0]]], dtype=torch.float64),
            "boxes": torch.tensor([[0.25, 0.0, 1.0, 1.0]], dtype=torch.float64),
        },
        worked=[[2.6667]],
    ),
    cases=box_cases,
    specification=box_specification,
    mistakes=MISTAKES,
    family=(pooled, FAMILY),
    steps=_of_the_first,
    rehearsal=Rehearsal(rehearsal, calls=30),
)
