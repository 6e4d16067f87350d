"""A learner's answers as plain Python source: one file, a section for each exercise."""

from __future__ import annotations

import re

HEADER = re.compile(r"^# %% ([a-z0-9]+(?:-[a-z0-9]+)*)[ \t]*$", re.MULTILINE)


def sections(text: str) -> dict[str, str]:
    """The source of each answer by its exercise: from a line ``# %% slug`` up to the next such line.

    What stands before the first of them belongs to no answer; where a slug stands twice, its last section counts.
    """
    _, *parts = HEADER.split(text.replace("\r\n", "\n"))
    return {slug: source.strip("\n") for slug, source in zip(parts[::2], parts[1::2], strict=True)}
