"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedWriter
from pathlib import Path


@contextmanager
def whole_file(path: Path) -> Iterator[BufferedWriter]:
    """A file to write, which takes its place at the end: whoever dies meanwhile leaves what was there before."""
    partial = path.with_name(f"{path.name}.partial")
    with open(partial, "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def write_whole(path: Path, text: str) -> None:
    """Write a text file, in UTF-8, that is whole or as it was."""
    with whole_file(path) as file:
        file.write(text.encode())
