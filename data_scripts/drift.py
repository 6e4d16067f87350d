"""How far every metric has moved since the last release, in widths of its band.

``tests/expected/released/<version>.json`` holds the values that a release was made with, one a seed, by profile, lesson
and metric; ``python -m data_scripts.release`` writes it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from data_scripts.expect import Values
from itr_lib.course.bands import Band, Bands

RELEASED = Path("tests", "expected", "released")
NOTHING = "–"


@dataclass(frozen=True)
class Drift:
    """One metric: its values now and at the release, one a seed (empty: it was not measured), and its band."""

    lesson: str
    metric: str
    now: Sequence[float]
    then: Sequence[float]
    band: Band | None

    @property
    def move(self) -> float | None:
        """From the mean at the release to the mean now, in widths of the band.

        Infinite where the metric is gone, or left a band of no width; None where there is nothing to compare with.
        """
        if not self.then or (self.now and self.band is None):
            return None
        if not self.now:
            return math.inf
        moved, width = _mean(self.now) - _mean(self.then), self.band.high - self.band.low
        return moved / width if width else math.copysign(math.inf, moved) if moved else 0.0

    @property
    def standing(self) -> str:
        """Where the values now stand: in their band, or not."""
        if not self.now:
            return "gone"
        if self.band is None:
            return "no band"
        return "in band" if self.band.low <= min(self.now) and max(self.now) <= self.band.high else "OUT OF BAND"


def drifts(now: Values, then: Values, bands: Mapping[str, Bands]) -> list[Drift]:
    """Every metric of the lessons in ``now``; the largest move first, what cannot be compared last."""
    found = []
    for lesson, metrics in now.items():
        own, old = bands.get(lesson, {}), then.get(lesson, {})
        for metric in dict.fromkeys([*metrics, *old, *own]):
            values = metrics.get(metric, []), old.get(metric, [])
            found.append(Drift(lesson, metric, *values, own.get(metric)))
    return sorted(found, key=lambda one: (one.move is None, -abs(one.move or 0.0), one.lesson, one.metric))


def drift_table(found: Sequence[Drift]) -> list[list[str]]:
    """The rows of a table, its head first."""
    rows = [["lesson", "metric", "standing", "move in band widths", "now", "at the release", "band"]]
    for one in found:
        move = NOTHING if one.move is None else f"{one.move:+.2f}"
        band = f"{one.band.low:g} to {one.band.high:g}" if one.band else NOTHING
        rows.append([one.lesson, one.metric, one.standing, move, spread(one.now), spread(one.then), band])
    return rows


def spread(values: Sequence[float]) -> str:
    """Mean, lowest and highest of the seeds."""
    if not values:
        return NOTHING
    low, high = min(values), max(values)
    return f"{low:.4g}" if low == high else f"{_mean(values):.4g} ({low:.4g} to {high:.4g})"


def last_release(repo: Path, profile: str) -> tuple[str, Values]:
    """Version and values of the newest release with values of that profile; ("", {}) where there is none.

    Raises ``ValueError`` on a file that is not as a release writes it.
    """
    for path in sorted((repo / RELEASED).glob("*.json"), key=_version, reverse=True):
        try:
            profiles = json.loads(path.read_text(encoding="utf-8"))["profiles"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{RELEASED / path.name} is not as a release writes it: {error!r}") from error
        if profile in profiles:
            return path.stem, profiles[profile]
    return "", {}


def _version(path: Path) -> tuple[int, ...]:
    parts = path.stem.split(".")
    if not all(part.isdecimal() for part in parts):
        raise ValueError(f"{RELEASED / path.name}: expected a name like 0.2.0.json")
    return tuple(map(int, parts))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
