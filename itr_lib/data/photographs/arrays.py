"""Arrays out of numpy's files: the small ones read, the features mapped where they lie; nothing is ever unpickled."""

from __future__ import annotations

import contextlib
import os
import shutil
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from itr_lib.data.cache import cached_folder
from itr_lib.data.rows import CHUNK_BYTES, Mapped, Part, map_npy, read_header

FEATURES = ("features", "x", "feat")  # what the array is called in the files that are about
BOMB_BYTES = 2**30  # of one array, unpacked
UNPACK_BYTES = 2**28  # compressed features from this size on are unpacked into the cache once, then mapped
LOCAL_HEADER = "<4s5H3I2H"  # of a member of a zip archive; the lengths of its name and of what follows are last


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """All arrays of an ``.npz``, or of an ``.npy`` under the name ``features``; ``ValueError`` if unreadable."""
    with _named(path), open(path, "rb") as file:
        if zipfile.is_zipfile(file):
            _expect_no_bomb(zipfile.ZipFile(file).infolist())
        file.seek(0)
        loaded = np.load(file, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            if file.read(1):
                raise ValueError("it goes on after its last number")
            return {"features": loaded}
        with loaded:
            return {key: loaded[key] for key in loaded.files}


def open_arrays(path: Path) -> tuple[dict[str, np.ndarray], Part | None]:
    """The arrays of an ``.npz`` but its features, and these (N, R, D) as a part of :class:`~itr_lib.data.rows.Rows`.

    Features that are stored as they are get mapped in place, compressed and large ones are unpacked into the cache;
    the rest is read. None: an ``.npz`` without features.

    Raises:
        ValueError: the file is damaged, or no ``.npz``.
        OSError: the cache cannot be written to.
    """
    with _named(path), zipfile.ZipFile(path) as opened, np.load(path, allow_pickle=False) as loaded:
        members = {info.filename.removesuffix(".npy"): info for info in opened.infolist()}
        if len(members) < len(opened.infolist()):
            raise ValueError("it holds an array twice")
        _expect_no_bomb(opened.infolist())
        key = next((name for name in FEATURES if name in members), None)
        arrays = {name: loaded[name] for name in members if name != key}
        if key is None:
            return arrays, None
        by_row, info = _is_by_row(opened, members[key]), members[key]
        if by_row and info.compress_type == zipfile.ZIP_STORED:
            return arrays, _mapped(path, info)
        if not by_row or info.file_size < UNPACK_BYTES:  # an array of columns cannot be read row by row
            features = loaded[key]
            return arrays, features[:, None] if features.ndim == 2 else features
    return arrays, _unpacked(path, info)


@contextlib.contextmanager
def _named(path: Path, *let_through: type[Exception]) -> Iterator[None]:
    """Whatever damaged bytes raise becomes a sentence: zlib.error, TokenError, MemoryError, KeyError, OSError."""
    try:
        yield
    except Exception as error:
        if isinstance(error, let_through):
            raise
        raise ValueError(
            f"{path} cannot be read as plain numpy arrays ({error}): it is damaged or holds Python objects;"
            " extract or download it again"
        ) from error


def _is_by_row(opened: zipfile.ZipFile, info: zipfile.ZipInfo) -> bool:
    with opened.open(info) as member:
        shape, by_column, dtype = read_header(member)
    if dtype.kind != "f" or len(shape) not in (2, 3):
        raise ValueError(f"{info.filename} has shape {shape} and type {dtype}: expected floats (N, D) or (N, R, D)")
    return not by_column


def _mapped(path: Path, info: zipfile.ZipInfo) -> Mapped:
    """A member that is stored as it is, where it lies in the archive, held against its checksum."""
    with open(path, "rb") as file:
        file.seek(info.header_offset)
        *_, name, extra = struct.unpack(LOCAL_HEADER, file.read(struct.calcsize(LOCAL_HEADER)))
        begin = file.seek(name + extra, os.SEEK_CUR)
        total, left = 0, info.file_size
        while left and (block := file.read(min(left, CHUNK_BYTES))):
            total, left = zlib.crc32(block, total), left - len(block)
    if left or total != info.CRC:
        raise ValueError(f"the checksum of {info.filename} is another")
    return map_npy(path, begin, info.file_size)


def _unpacked(path: Path, info: zipfile.ZipInfo) -> Mapped:
    """A compressed member as a file in the cache; the same content is unpacked once."""

    def unpack(folder: Path) -> None:
        with (
            _named(path, OSError),
            zipfile.ZipFile(path) as opened,
            opened.open(info) as source,
            open(folder / "features.npy", "xb") as target,
        ):
            shutil.copyfileobj(source, target, CHUNK_BYTES)

    key = f"features-{info.CRC:08x}-{info.file_size}-{info.compress_size}"
    return map_npy(cached_folder(key, unpack) / "features.npy")


def _expect_no_bomb(members: Sequence[zipfile.ZipInfo]) -> None:
    """Zipped features hardly shrink: what does so a hundredfold, and is huge unpacked, was made to fill the memory."""
    for one in members:
        if one.file_size > max(BOMB_BYTES, 100 * one.compress_size):
            raise ValueError(
                f"{one.filename} would take {one.file_size / 2**30:.1f} GB, from {one.compress_size} bytes"
            )
