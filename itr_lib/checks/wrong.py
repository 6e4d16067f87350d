"""What a learner sees when an answer is wrong: the diagnosis and, after a crash, their own line. No library frame."""

from __future__ import annotations

import linecache
import sysconfig
import textwrap
import traceback
from pathlib import Path

WIDTH = 100  # characters, of a cell's output in JupyterLab on a laptop
_FOREIGN = tuple(
    str(Path(folder).resolve())
    for folder in (Path(__file__).parents[1], *map(sysconfig.get_path, ("stdlib", "platlib", "purelib")))
)


class WrongAnswer(AssertionError):
    """An answer that is not right yet; its text is the diagnosis, and ends in how to go on without it.

    Attributes:
        mistake: the part of the text that names the mistake; "" for its first line.
        shown: what stands in place of the text where a panel has shown it already.
    """

    def __init__(self, text: str, mistake: str = "", shown: str = ""):
        super().__init__(text)
        self.mistake, self.shown = mistake, shown

    def _render_traceback_(self) -> list[str]:
        """IPython shows these lines in place of a traceback, whose frames would all be the check's own."""
        return [line for text in (self.shown or str(self)).splitlines() for line in _wrapped(text)]


def _wrapped(text: str) -> list[str]:
    """Lines that fit a notebook, which would break them within a word; a line of code stays as it is."""
    return [text] if text.startswith(" ") else textwrap.wrap(text, WIDTH, break_long_words=False)


def own_line(error: BaseException) -> str:
    """Where an error left the learner's code: ``in mrsw, line 4: best = alignments.max(2)``; empty if not there."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not _foreign(frame.filename)]
    if not frames:
        return ""
    last = frames[-1]
    text = (last.line or linecache.getline(last.filename, last.lineno or 0)).strip()
    return f"in {last.name}, line {last.lineno}" + (f": {text}" if text else "")


def _foreign(filename: str) -> bool:
    """Python's own, an installed package's or this library's. A notebook's cell has a file of its own elsewhere."""
    return filename.startswith("<frozen") or str(Path(filename).resolve()).startswith(_FOREIGN)
