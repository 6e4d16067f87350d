"""Hold a lesson's metrics against ``tests/expected/<profile>.json``.

The file maps data set, lesson and metric to a band that comes from several seeds and says how many::

    {"scenes": {"01_global_embeddings": {"t2i_r1": {"low": 40.0, "high": 48.5, "seeds": 3}}}}

A GPU draws other random numbers, and rounds otherwise: for the bands it is one more seed. Where it computes otherwise,
too, as in the profile ``full``, lessons have bands of their own there, under ``"scenes on cuda"``, which come first.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Band:
    """The range a metric is expected in, both ends included, and the number of seeds behind it."""

    low: float
    high: float
    seeds: int

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g} ({self.seeds} seed{'s' * (self.seeds != 1)})"


Bands = dict[str, Band]


def place(data: str, device: str) -> str:
    """Where the bands of a device lie in the file: those of the CPU under the data set's own name."""
    return data if device == "cpu" else f"{data} on {device}"


def load_bands(path: Path, data: str) -> dict[str, Bands]:
    """Bands by lesson and metric for one data set; empty where the file has none.

    Raises ``ValueError`` that names file and entry where one is not ``{"low", "high", "seeds"}``.
    """
    if not path.exists():
        return {}
    try:
        lessons = json.loads(path.read_text(encoding="utf-8")).get(data, {})
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{path.name} is not a JSON object of data sets: {error}") from error
    return {
        lesson: {metric: _band(entry, f"{path.name}: {data}/{lesson}/{metric}") for metric, entry in metrics.items()}
        for lesson, metrics in lessons.items()
    }


def _band(entry: object, where: str) -> Band:
    if not isinstance(entry, dict) or set(entry) != {"low", "high", "seeds"}:
        raise ValueError(f"{where} is {entry!r}, expected low, high and seeds")
    numbers = [entry["low"], entry["high"]]
    if not all(isinstance(n, int | float) and math.isfinite(n) for n in numbers) or numbers[0] > numbers[1]:
        raise ValueError(f"{where} goes from {numbers[0]!r} to {numbers[1]!r}, expected two numbers, low first")
    if not isinstance(entry["seeds"], int) or entry["seeds"] < 1:
        raise ValueError(f"{where} comes from {entry['seeds']!r} seeds, expected a whole number of at least 1")
    return Band(float(numbers[0]), float(numbers[1]), entry["seeds"])


def out_of_band(metrics: dict[str, float], bands: Bands) -> list[str]:
    """One line for each metric outside its band and for each expected one that is missing."""
    lines = []
    for name, band in bands.items():
        if name not in metrics:
            lines.append(f"{name}: missing, expected {band}")
        elif not band.low <= metrics[name] <= band.high:
            lines.append(f"{name}: {metrics[name]:g} is out of band, expected {band}")
    return lines


def unbanded(metrics: dict[str, float], bands: Bands) -> list[str]:
    """The metrics for which nothing is expected."""
    return [name for name in metrics if name not in bands]
