"""``box-geometry``, lesson 02.

Corners and area of boxes as shares of the picture, beside arithmetic box by box.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from itr_lib.checks._inputs import generator
from itr_lib.checks.frame import Exercise
from itr_lib.checks.outcome import Inputs


def box_cases() -> Iterator[Inputs]:
    """Wide, tall and square pictures, one box, the whole picture."""
    for seed, (count, width, height) in enumerate([(6, 320, 240), (3, 40, 90.0), (1, 500, 375), (4, 64, 64)]):
        g = generator(seed)
        x = (torch.rand(count, 2, generator=g, dtype=torch.float64) * width).sort(dim=1).values
        y = (torch.rand(count, 2, generator=g, dtype=torch.float64) * height).sort(dim=1).values
        boxes = torch.stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1]], dim=1)
        yield {"boxes": boxes, "width": width, "height": height}
    yield {"boxes": torch.tensor([[0, 0, 30, 20]], dtype=torch.float64), "width": 30, "height": 20}


def box_specification(boxes: Tensor, width: float, height: float) -> Tensor:
    """Box by box: x by the width, y by the height, the area by the picture's."""
    rows = []
    for x1, y1, x2, y2 in boxes.tolist():
        area = (x2 - x1) * (y2 - y1) / (width * height)
        rows.append([x1 / width, y1 / height, x2 / width, y2 / height, area])
    return boxes.new_tensor(rows)


def _box(boxes, x, y, area):
    """Corners by ``x`` and ``y``, and whatever is taken for the area, a function of the sides in pixels."""
    x1, y1, x2, y2 = boxes.unbind(-1)
    return torch.stack([x1 / x, y1 / y, x2 / x, y2 / y, area(x2 - x1, y2 - y1)], dim=-1)


def _box_by(pick: Callable) -> Callable:
    """Everything divided by one and the same side."""

    def geometry(boxes, width, height):
        side = pick(width, height)
        return _box(boxes, side, side, lambda w, h: w * h / side**2)

    return geometry


def _box_fifth(area: Callable) -> Callable:
    """Right corners; the fifth number from the relative sides."""
    return lambda boxes, width, height: _box(boxes, width, height, lambda w, h: area(w / width, h / height))


def _box_columns(order: Callable) -> Callable:
    """The right numbers in other columns, or others made of them."""
    return lambda boxes, width, height: torch.stack(
        order(*box_specification(boxes, width, height).unbind(-1)),
        dim=-1,
    )


BOX_MISTAKES = {
    "width and height are swapped: x1 and x2 belong to the width, y1 and y2 to the height": (
        lambda boxes, width, height: _box(boxes, height, width, lambda w, h: w * h / (width * height))
    ),
    "the area is in pixels: divide it by width * height, or compute it from the relative corners": (
        lambda boxes, width, height: _box(boxes, width, height, lambda w, h: w * h)
    ),
    "the area is right, but the corners are in pixels: divide x by the width and y by the height": (
        lambda boxes, width, height: _box(boxes, 1, 1, lambda w, h: w * h / (width * height))
    ),
    "everything is in pixels: divide, so that the whole picture is (0, 0, 1, 1, 1)": (
        lambda boxes, width, height: _box(boxes, 1, 1, lambda w, h: w * h)
    ),
    "everything is divided by the longer side: x belongs to the width, y to the height": _box_by(max),
    "everything is divided by the shorter side: x belongs to the width, y to the height": _box_by(min),
    "the area is divided twice: it is the product of relative sides, or the area in pixels by width * height": (
        lambda boxes, width, height: _box(boxes, width, height, lambda w, h: w * h / (width * height) ** 2)
    ),
    "the sides are taken as x2 - x1 + 1 pixels: coordinates are places, not pixel numbers, so the whole picture "
    "must get area 1": lambda boxes, width, height: _box(
        boxes, width, height, lambda w, h: (w + 1) * (h + 1) / (width * height)
    ),
    "the fifth number is width / height: the area is their product": _box_fifth(lambda w, h: w / h),
    "the fifth number is the sum of the two sides: the area is their product": _box_fifth(lambda w, h: w + h),
    "the fifth number is the root of the area, a length: leave out the root": _box_fifth(lambda w, h: (w * h).sqrt()),
    "the area is x2 * y2, as if the box began in the corner of the picture: the sides are x2 - x1 and y2 - y1": (
        _box_columns(lambda x1, y1, x2, y2, area: (x1, y1, x2, y2, x2 * y2))
    ),
    "this is (centre x, centre y, width, height, area): the corners are asked for": _box_columns(
        lambda x1, y1, x2, y2, area: ((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1, area)
    ),
    "this is (x1, y1, width, height, area), the order of COCO's files: x2 and y2 are asked for": _box_columns(
        lambda x1, y1, x2, y2, area: (x1, y1, x2 - x1, y2 - y1, area)
    ),
    "the columns are (x1, x2, y1, y2, area): keep (x1, y1, x2, y2, area)": _box_columns(
        lambda x1, y1, x2, y2, area: (x1, x2, y1, y2, area)
    ),
    "the area stands first: it comes last": _box_columns(lambda x1, y1, x2, y2, area: (area, x1, y1, x2, y2)),
}

EXERCISE = Exercise("box-geometry", box_cases, box_specification, BOX_MISTAKES)
