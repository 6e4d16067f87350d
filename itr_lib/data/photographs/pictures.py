"""Pictures on disk: opened as RGB, with a sentence for a file that is missing, cut short or no picture."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, UnidentifiedImageError

from itr_lib.data.photographs.problems import Problems


def picture_size(path: Path) -> tuple[int, int]:
    """Width and height in pixels, from the header alone."""
    with Image.open(path) as picture:
        return picture.size


def picture_is_there(path: Path, decode: bool, problems: Problems) -> bool:
    """Whether a picture exists and its header (``decode``: all of it) can be read; otherwise a problem."""
    if not path.is_file():
        problems.add("missing picture", path.name, f"Picture {path} does not exist.")
        return False
    try:
        if decode:
            open_photograph(path)
        else:
            picture_size(path)
    except (OSError, ValueError) as error:
        sentence = str(error) if isinstance(error, ValueError) else _unreadable(path, error)
        problems.add("unreadable picture", path.name, sentence)
        return False
    return True


def open_photograph(path: str | Path) -> Image.Image:
    """An RGB picture from disk; ``ValueError`` names a file that is missing, cut short or no picture."""
    path = Path(path).expanduser()
    try:
        with Image.open(path) as picture:
            return picture.convert("RGB")
    except (OSError, SyntaxError) as error:
        raise ValueError(_unreadable(path, error)) from error


def _unreadable(path: Path, error: Exception) -> str:
    reason = "not a picture" if isinstance(error, UnidentifiedImageError) else str(error)
    return f"Picture {path} cannot be read ({reason}): download it again."


def open_row(paths: tuple[Path, ...], row: int) -> Image.Image:
    """The picture of one row: what ``open_picture`` of a data set calls."""
    return open_photograph(paths[row])
