"""Bad records: each gets a sentence; they stop a strict run and are listed by a tolerant one."""

from __future__ import annotations

import codecs
import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Problem:
    """One bad record: its ``cause`` (to group by), its name, and a whole sentence."""

    cause: str
    record: str
    sentence: str

    def __str__(self) -> str:
        return self.sentence


@dataclass
class Problems:
    """Collects what is wrong; with ``strict`` the first one is raised as a ``ValueError``."""

    strict: bool = False
    found: list[Problem] = field(default_factory=list)

    def add(self, cause: str, record: str, sentence: str) -> None:
        """Note one bad record, or raise its sentence."""
        # a name may hold what no encoding takes, half an emoji: it must be printable all the same
        record, sentence = (text.encode("utf-8", "backslashreplace").decode() for text in (record, sentence))
        if self.strict:
            raise ValueError(sentence)
        self.found.append(Problem(cause, record, sentence))

    def leave_out(self, cause: str, record: str, sentence: str) -> None:
        """Note what is left out for what it is, no fault of a file: a strict run goes on."""
        self.found.append(Problem(cause, record, sentence))


def by_cause(problems: Iterable[Problem], names: int = 3) -> list[str]:
    """One line a cause: how many records and the first few names."""
    groups = defaultdict(list)
    for problem in problems:
        groups[problem.cause].append(problem.record)
    lines = []
    for cause, records in groups.items():
        first = ", ".join(records[:names]) + (", ..." if len(records) > names else "")
        lines.append(f"{len(records):,} skipped: {cause} ({first})")
    return lines


def read_json(path: Path):
    """What a JSON file holds, in UTF-8, UTF-16 or UTF-32, with a byte order mark or without (Windows writes these)."""
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON ({error}): it was cut short or is another file") from error


def read_text(path: Path) -> str:
    """A text file in UTF-8, or in UTF-16 with its mark; a byte that is neither comes as half a character.

    So one damaged line stays one damaged line: :func:`itr_lib.data.unicode.half_character` finds it.
    """
    content = path.read_bytes()
    if not content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-8-sig", errors="surrogateescape")
    try:
        return content.decode("utf-16")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-16, as its mark says ({error}): it was cut short") from error


def read_lines(path: Path) -> list[str]:
    """The lines of a text file, as :func:`read_text` reads it; what comes after the last line is no line.

    Only the line feed ends a line, as the field's readers have it: captions hold other signs that Python splits at,
    and a caption split in two would move every caption after it to another picture.
    """
    lines = [line.rstrip("\r") for line in read_text(path).split("\n")]
    while lines and not lines[-1].strip():
        lines.pop()
    return lines
