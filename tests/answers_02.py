"""Answers to the exercises of lesson 02: right ones, other ways to be right, and wrong ones with what each is told."""

from __future__ import annotations

RIGHT = {}
ALSO_RIGHT = []  # (slug, answer)
WRONG = {}  # slug -> [(answer, what it must be told)]
