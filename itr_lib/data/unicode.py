"""Text from outside: one spelling of accents, and characters that are none. No torch: worker processes import this."""

from __future__ import annotations

import re
import unicodedata

HALF = re.compile("[\ud800-\udfff]")  # surrogates: a str may hold one alone, and no encoding takes it


def composed(text: str) -> str:
    """Text with its accents composed (NFC): macOS stores file names with "u" and its dots apart, JSON rarely does."""
    return unicodedata.normalize("NFC", text)


def half_character(text: str) -> str | None:
    """The first lone surrogate of a text, spelled out; None where it holds none. ``"\\ud83d"`` is half an emoji."""
    found = HALF.search(text)
    return found and ascii(found.group())
