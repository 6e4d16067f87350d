"""Pictures as rows of numbers, for a model that looks at them itself: decoded when a batch asks for them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
from jaxtyping import Int, UInt8
from PIL.Image import Image

from itr_lib.data.boxes import WHOLE
from itr_lib.data.dataset import RetrievalData
from itr_lib.data.rows import Rows
from itr_lib.data.scenes.worker import usable_cores

KEPT_BYTES = 2**31  # of a split's pictures that stay in memory: 10,922 of 256 x 256 pixels; more are decoded every time


def with_pixels(data: RetrievalData, size: tuple[int, int], resample: int) -> RetrievalData:
    """The same data with one region an image, all of the picture, whose features are its pixels.

    These are :class:`~itr_lib.data.rows.Rows` of numbers from 0 to 255, row by row, red, green and blue of a pixel
    together. What was known of other regions (labels, truth) is left out.

    Args:
        data: with pictures; its features, if any, are not read.
        size: height and width that every picture is squashed to, as a whole.
        resample: how, one of Pillow's ``Resampling``.

    Raises:
        ValueError: the data came without pictures; later, one that cannot be decoded.
    """
    if data.open_picture is None:
        data.picture(0)  # says what is missing
    squashed = Squashed(data.open_picture, len(data), size, resample)
    return replace(
        data,
        features=Rows([squashed]),
        boxes=np.tile(WHOLE, (len(data), 1, 1)),
        region_mask=np.ones((len(data), 1), bool),
        truth=None,
        region_labels=None,
    )


class Squashed:
    """All of each picture at one size, (pictures, 1, height * width * 3) bytes: a part of :class:`Rows`.

    Threads decode the pictures of a batch at once; where all of them have room they are decoded once.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, open_picture: Callable[[int], Image], count: int, size: tuple[int, int], resample: int):
        self.open_picture, self.size, self.resample = open_picture, size, resample
        self.shape = (count, 1, 3 * size[0] * size[1])
        self.kept: dict[int, UInt8[np.ndarray, " bytes"]] | None = {} if count * self.shape[2] <= KEPT_BYTES else None

    def __getitem__(self, key: tuple[Int[np.ndarray, " rows"], slice]) -> UInt8[np.ndarray, "rows regions bytes"]:
        rows, regions = key
        with ThreadPoolExecutor(usable_cores()) as threads:
            squares = list(threads.map(self._square, rows.tolist()))
        return np.stack(squares)[:, None][:, regions]

    def _square(self, row: int) -> UInt8[np.ndarray, " bytes"]:
        if self.kept is not None and row in self.kept:
            return self.kept[row]
        height, width = self.size
        square = np.asarray(self.open_picture(row).resize((width, height), self.resample)).reshape(-1)
        if self.kept is not None:
            self.kept[row] = square
        return square
