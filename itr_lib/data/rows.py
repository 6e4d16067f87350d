"""Rows of numbers that stay on disk: a batch is read when somebody asks for it, and nothing before.

Flickr30k with 36 regions of 2,048 numbers takes 9 GB in float16. :class:`Rows` looks like that array, and stands for
some of its rows in some order; what is asked for comes as a plain array.
"""

from __future__ import annotations

import functools
import math
import mmap
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from io import BufferedIOBase
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int

CHUNK_BYTES = 2**24  # what a pass over all rows holds at a time
SMALL_BYTES = 2**28  # what is simply read
EXPONENT = np.uint16(0x7C00)  # of a float16: all bits set in NaN and infinity


@runtime_checkable
class Part(Protocol):
    """Some rows in one place: a file that is mapped, a folder of files, or an array in memory."""

    @property
    def shape(self) -> tuple[int, ...]: ...  # noqa: D102  (rows, regions, features)

    @property
    def dtype(self) -> np.dtype: ...  # noqa: D102

    def __getitem__(self, key) -> np.ndarray: ...  # [rows, :width]


class Rows:
    """A lazy array (N, R, D): ``rows[index]`` and ``rows[index, :width]`` are plain arrays, read from disk just then.

    It can be pickled and used after a fork: what travels is where the numbers are. ``np.asarray(rows)`` reads all.

    Args:
        parts: where the numbers are, one behind the other: :func:`map_npy` gives one. Their D must agree; fewer
            regions than the widest are padded with zeros.
        index: which rows of the joined parts these are, in which order and how often; default: all.
        mask: False = padding, to be read as zero whatever stands there; default: what stands there.

    Raises:
        ValueError: the parts do not fit together; later, a file was changed since it was mapped.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        index: Int[np.ndarray, " rows"] | None = None,
        mask: Bool[np.ndarray, "rows regions"] | None = None,
    ):
        shapes = [part.shape for part in parts]
        if not parts or any(len(shape) != 3 or shape[2] != shapes[0][2] for shape in shapes):
            raise ValueError(f"parts have the shapes {shapes}: expected (rows, regions, features), features the same")
        self.parts = tuple(parts)
        self.starts = np.cumsum([0, *(shape[0] for shape in shapes)])
        self.index = np.arange(self.starts[-1]) if index is None else np.asarray(index)
        if len(self.index) and not 0 <= self.index.min() <= self.index.max() < self.starts[-1]:
            raise ValueError(f"index goes from {self.index.min()} to {self.index.max()} in {self.starts[-1]} rows")
        self.shape = (len(self.index), max(shape[1] for shape in shapes), shapes[0][2])
        if mask is not None and mask.shape != self.shape[:2]:
            raise ValueError(f"mask has shape {mask.shape}, expected {self.shape[:2]}")
        self.mask = None if mask is None or mask.all() else mask
        self.dtype = np.result_type(*{float_type(part.dtype) for part in parts})
        self.ndim = 3

    def __len__(self) -> int:
        return len(self.index)

    def __repr__(self) -> str:
        return f"Rows{self.shape} of {self.dtype}, on disk"

    def __getitem__(self, key) -> np.ndarray:
        first, *rest = key if isinstance(key, tuple) else (key,)
        if first is Ellipsis or first is None or np.ndim(first) > 1:
            raise IndexError("Rows want one index of rows first: take these, or np.asarray(rows) for all")
        chosen = np.arange(len(self))[first]
        got = self._read(np.atleast_1d(chosen), self._width(rest[0] if rest else slice(None)))
        if np.ndim(chosen) == 0:
            return got[(0, *rest)]
        plain = isinstance(first, slice) or all(isinstance(other, slice | int) for other in rest)
        return got[(slice(None) if plain else np.arange(len(chosen)), *rest)] if rest else got

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return self[:].astype(dtype or self.dtype, copy=False)

    def take(self, index: Int[np.ndarray, " some"] | Sequence[int]) -> Rows:
        """Some rows, in the order given: still on disk."""
        return Rows(self.parts, self.index[index], None if self.mask is None else self.mask[index])

    def chunks(self) -> Iterator[Float[np.ndarray, "some regions features"]]:
        """All rows in their order, some at a time; what was read does not stay in memory."""
        step = max(1, CHUNK_BYTES * len(self) // max(1, self.nbytes))
        for start in range(0, len(self), step):
            yield self[start : start + step]
            self._forget()

    def _width(self, regions) -> int:
        """How many regions to read, so that an index of regions finds what it wants."""
        leading = isinstance(regions, slice) and regions.start is regions.step is None and (regions.stop or 0) > 0
        return min(regions.stop, self.shape[1]) if leading else self.shape[1]

    def _forget(self) -> None:
        for part in self.parts:
            if isinstance(part, Mapped):
                part.forget()

    @np.errstate(over="ignore")  # float64 that no float32 can hold becomes infinite, which finite_rows tells
    def _read(self, rows: Int[np.ndarray, " some"], width: int) -> Float[np.ndarray, "some width features"]:
        index = self.index[rows]
        which = np.searchsorted(self.starts, index, side="right") - 1
        parts = np.unique(which)
        if len(parts) == 1 and self.parts[parts[0]].shape[1] >= width:
            got = self.parts[parts[0]][index - self.starts[parts[0]], :width].astype(self.dtype, copy=False)
        else:
            got = np.empty((len(rows), width, self.shape[2]), self.dtype)
            for number in parts:
                there = self.parts[number][:, :width]  # nothing is read yet
                got[which == number, there.shape[1] :] = 0
                for place in np.flatnonzero(which == number):  # row by row: each is copied once
                    got[place, : there.shape[1]] = there[index[place] - self.starts[number]]
        if self.mask is not None:
            got[~self.mask[rows, :width]] = 0
        return got

    @property
    def nbytes(self) -> int:
        """What all of it would take in memory."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_if_small(rows: Rows) -> np.ndarray | Rows:
    """An array where it takes up to 256 MB, which is faster; else the rows as they are."""
    return rows[:] if rows.nbytes <= SMALL_BYTES else rows


def take_rows(features: np.ndarray | Rows, index: Int[np.ndarray, " some"] | Sequence[int]) -> np.ndarray | Rows:
    """Some rows of an array; of :class:`Rows` without reading them."""
    return features.take(index) if isinstance(features, Rows) else features[index]


def chunks(features: np.ndarray | Rows) -> Iterator[np.ndarray]:
    """The rows in pieces that fit into memory; an array, which is there already, in one."""
    return features.chunks() if isinstance(features, Rows) else iter([features])


def finite_rows(rows: Rows) -> Bool[np.ndarray, " rows"]:
    """Which rows hold neither NaN nor infinity where they are not padding."""
    return np.concatenate([is_finite(chunk) for chunk in rows.chunks()])


def float_type(dtype: np.dtype) -> type[np.float16] | type[np.float32]:
    """What floats of a file become: float16 stays, all else is float32, in this machine's byte order."""
    return np.float16 if dtype.itemsize == 2 else np.float32


def is_finite(numbers: Float[np.ndarray, "rows *_"]) -> Bool[np.ndarray, " rows"]:
    """Which rows hold neither NaN nor infinity, nor what float32 cannot hold."""
    with np.errstate(over="ignore"):
        numbers = numbers.astype(float_type(numbers.dtype), copy=False)
    if numbers.dtype == np.float16:  # numpy's own takes 15 times as long
        finite = (np.ascontiguousarray(numbers).view(np.uint16) & EXPONENT) != EXPONENT
    else:
        finite = np.isfinite(numbers)
    return finite.reshape(len(numbers), -1).all(axis=1)


@dataclass(frozen=True)
class Mapped:
    """An array (rows, regions, features) inside a file, mapped into memory when it is first read."""

    path: Path
    dtype: np.dtype
    shape: tuple[int, int, int]
    offset: int
    stamp: tuple[int, int] = field(repr=False)

    def __getitem__(self, key) -> np.ndarray:
        expect_unchanged(self.path, self.stamp)
        return self._opened[1][key]

    @functools.cached_property
    def _opened(self) -> tuple[mmap.mmap, np.ndarray]:
        with open(self.path, "rb") as file:
            opened = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        numbers = np.frombuffer(opened, self.dtype, math.prod(self.shape), self.offset)
        return opened, numbers.reshape(self.shape)

    def __getstate__(self) -> dict:
        return {name: value for name, value in self.__dict__.items() if name != "_opened"}

    def forget(self) -> None:
        """Give back the memory of what was read; it is read again when it is asked for."""
        if "_opened" in self.__dict__ and hasattr(mmap, "MADV_DONTNEED"):
            self._opened[0].madvise(mmap.MADV_DONTNEED)


def map_npy(path: str | Path, offset: int = 0, size: int | None = None) -> Mapped:
    """The floats of an ``.npy`` file, (N, D) or (N, R, D), as a part of :class:`Rows`; (N, D) has one region.

    ``offset`` and ``size``: where in the file it begins and how many bytes it has, inside of an ``.npz``, say.

    Raises ``ValueError`` for what is no such array, is cut short or goes on after its last number.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            stamp = stamp_of(path)
            file.seek(offset)
            shape, by_column, dtype = read_header(file)
            begin = file.tell()
        if dtype.kind != "f" or by_column or len(shape) not in (2, 3) or 0 in shape:
            order = "column by column" if by_column else "row by row"
            raise ValueError(f"shape {shape}, type {dtype}, {order}: expected floats (N, D) or (N, R, D), row by row")
        there = (stamp[0] - offset if size is None else size) - (begin - offset)
        needed = math.prod(shape) * dtype.itemsize
        if there != needed:
            raise ValueError(f"{there:,} bytes of numbers, where shape {shape} needs {needed:,}")
    except Exception as error:  # a damaged header raises nearly anything: SyntaxError, TokenError, UnicodeDecodeError
        raise ValueError(f"{path} cannot be mapped as plain numbers ({error}): extract or download it again") from error
    return Mapped(path, dtype, shape if len(shape) == 3 else (shape[0], 1, shape[1]), begin, stamp)


def read_header(file: BufferedIOBase) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether it is stored column by column, and type of an ``.npy``; the file then stands at its numbers."""
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(file)
    return np.lib.format.read_array_header_2_0(file)


def stamp_of(path: Path) -> tuple[int, int]:
    """Size and time of a file: what changes when it is written anew."""
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns


def expect_unchanged(path: Path, stamp: tuple[int, int]) -> None:
    """Raise ``ValueError`` for a file that is not what it was: numbers that were checked are no longer there."""
    try:
        now = stamp_of(path)
    except OSError as error:
        raise ValueError(f"{path} cannot be read any more ({error.strerror}): load the data again") from error
    if now != stamp:
        raise ValueError(f"{path} was changed since it was loaded: load the data again")
