"""What a learner did, a line an event, in ``my_progress.jsonl`` beside the kept answers. It stays on this machine.

``{"at": "2026-03-01T20:15:02", "exercise": "mrsw", "verdict": "wrong"}``: a check found an answer ``passed``,
``too slow`` (right, and slow) or ``wrong``, or the learner went on with the ``library``'s.
``{"at": ..., "lesson": "02_fine_grained_alignment", "verdict": "finished"}``: a lesson was run to its end.
"""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path

import filelock

from itr_lib.desk import kept
from itr_lib.desk.front import someone_is_there


def path(answers: Path) -> Path:
    """The record that belongs to a file of kept answers."""
    return answers.with_name("my_progress.jsonl")


def note(**event: str) -> None:
    """Append an event where a learner is at work; elsewhere, and where nothing can be written, do nothing."""
    if not someone_is_there():
        return
    answers = kept.path()
    line = json.dumps({"at": time.strftime("%Y-%m-%dT%H:%M:%S"), **event}).encode() + b"\n"
    with contextlib.suppress(OSError, filelock.Timeout), kept.lock(answers):
        _append(path(answers), line)


def _append(target: Path, line: bytes) -> None:
    """One write at the end, on a line of its own, whatever an earlier program left unfinished there."""
    with open(target, "a+b") as file:
        if file.tell():
            file.seek(-1, 1)
            line = line if file.read(1) == b"\n" else b"\n" + line
        file.write(line)


def events(answers: Path) -> tuple[list[dict[str, str]], int]:
    """The events of the record, the oldest first, and how many lines could not be read."""
    lines = text_of(path(answers)).splitlines()
    found = [event for line in lines if line.strip() and (event := _event(line))]
    return found, sum(bool(line.strip()) for line in lines) - len(found)


def text_of(file: Path) -> str:
    """A file's text, "" where there is none that can be read: a panel never stands in the way of a check."""
    with contextlib.suppress(OSError):
        return file.read_text(encoding="utf-8", errors="replace")
    return ""


def _event(line: str) -> dict[str, str] | None:
    """What a line says; None where it is no event."""
    with contextlib.suppress(ValueError):
        event = json.loads(line)
        if isinstance(event, dict) and all(isinstance(value, str) for value in event.values()) and "verdict" in event:
            return event
    return None
