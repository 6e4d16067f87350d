"""The file of kept answers: where it is, how it is divided, and how two kernels write beside each other."""

from __future__ import annotations

import os
import re
from pathlib import Path

import filelock

HEADER = re.compile(r"^# %% ([a-z0-9]+(?:-[a-z0-9]+)*)[ \t]*$", re.MULTILINE)


def path() -> Path:
    """The file of kept answers."""
    return Path(os.environ.get("ITR_ANSWERS") or "my_answers.py").expanduser().absolute()


def lock(target: Path) -> filelock.BaseFileLock:
    """What is held while the file, or one beside it, is written."""
    return filelock.FileLock(target.with_name(f".{target.name}.lock"), timeout=10)


def sections(text: str) -> dict[str, str]:
    """The source of each answer by its exercise: ``# %% slug`` at the start of a line, and all up to the next such.

    What stands before the first of them belongs to no answer; where a slug stands twice, its last section counts.
    """
    _, *parts = HEADER.split(text.replace("\r\n", "\n"))
    return {slug: source.strip("\n") for slug, source in zip(parts[::2], parts[1::2], strict=True)}
