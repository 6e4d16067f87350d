"""Results that take longer than a lesson: runs over several seeds, recorded once, with how they were made."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

RECORDED = Path(__file__).parent / "recorded"


def recorded(lesson: str, data: str = "scenes") -> dict[str, Any] | None:
    """What ``data_scripts.record`` wrote for a lesson: ``command``, ``versions``, ``profile``, ``data`` and ``runs``.

    Each run has ``variant``, ``seed``, ``settings``, ``metrics`` (test split) and ``epochs`` (its history).
    None where nothing was recorded for this data set.
    """
    path = _path(lesson, data)
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def runs_of(record: dict[str, Any], variant: str) -> list[dict[str, float]]:
    """The metrics of one variant, a dictionary a seed. Raises ``ValueError`` for a variant that was not run."""
    runs = [run["metrics"] for run in record["runs"] if run["variant"] == variant]
    if not runs:
        raise ValueError(
            f"no run of {variant!r} in the record: it has {sorted({r['variant'] for r in record['runs']})}"
        )
    return runs


def write_record(lesson: str, record: dict[str, Any]) -> Path:
    """Write a lesson's record, all of it or nothing."""
    path = _path(lesson, record["data"])
    path.parent.mkdir(exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    os.replace(part, path)
    return path


def _path(lesson: str, data: str) -> Path:
    return RECORDED / f"{lesson}-{data}.json"
