"""Pictures on disk: opened upright and as RGB, with a sentence for a file that is missing, cut short or no picture."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.ExifTags import Base

from itr_lib.data.photographs.problems import Problems

LYING = (5, 6, 7, 8)  # EXIF orientations that exchange width and height


def find_file(folder: Path, name: str) -> Path:
    """The file of that name, with accents composed or not; where there is none, what it should be called."""
    spelled = (folder / unicodedata.normalize(form, name) for form in ("NFC", "NFD"))
    return next((path for path in (folder / name, *spelled) if is_file(path)), folder / name)


def is_file(path: Path) -> bool:
    """Whether there is such a file; False, too, for a name that no file can have: too long, or with a zero byte."""
    return os.path.isfile(path)  # Path.is_file raises for these


def picture_size(path: Path) -> tuple[int, int]:
    """Width and height in pixels of the upright picture, from the header alone; errors as :func:`open_photograph`."""
    with _opened(path) as picture:
        lying = picture.getexif().get(Base.Orientation) in LYING
        return picture.size[::-1] if lying else picture.size


def picture_is_there(path: Path, decode: bool, problems: Problems) -> bool:
    """Whether a picture exists and its header (``decode``: all of it) can be read; otherwise a problem."""
    if not is_file(path):
        problems.add("missing picture", path.name, f"Picture {path} does not exist.")
        return False
    try:
        open_photograph(path) if decode else picture_size(path)
    except ValueError as error:
        problems.add("unreadable picture", path.name, str(error))
        return False
    return True


def open_photograph(path: str | Path) -> Image.Image:
    """An RGB picture from disk, turned upright as its EXIF says; 16-bit grey is scaled to 8 bits.

    Raises:
        ValueError: names a file that is missing, cut short, no picture, or too large to be decoded safely.
    """
    with _opened(Path(path).expanduser()) as picture:
        ImageOps.exif_transpose(picture, in_place=True)
        return _eight_bits(picture).convert("RGB")


def _eight_bits(picture: Image.Image) -> Image.Image:
    """Grey of 16 bits in 8: Pillow's own conversion cuts off at 255, which leaves nearly all of it white."""
    if picture.mode == "F":
        raise ValueError("floating point numbers with no known white")
    if picture.mode != "I" and not picture.mode.startswith("I;"):
        return picture
    values = np.asarray(picture).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError("more than 16 bits a pixel")
    return Image.fromarray((values // 256).astype(np.uint8))


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """An open picture; whatever goes wrong with it becomes a sentence."""
    try:
        with Image.open(path) as picture:
            yield picture
    except Exception as error:  # a decoder meets damaged bytes with nearly anything: struct.error, zlib.error, KeyError
        raise ValueError(_unreadable(path, error)) from error


def _unreadable(path: Path, error: Exception) -> str:
    if isinstance(error, Image.DecompressionBombError):
        return f"Picture {path} is too large to be decoded safely ({error}): scale it down, or leave it out."
    reason = "not a picture" if isinstance(error, UnidentifiedImageError) else str(error) or type(error).__name__
    return f"Picture {path} cannot be read ({reason}): download it again, or save it anew as 8-bit RGB."


def open_row(paths: tuple[Path, ...], row: int) -> Image.Image:
    """The picture of one row: what ``open_picture`` of a data set calls."""
    return open_photograph(paths[row])
