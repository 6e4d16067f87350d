"""Results that take longer than a lesson: runs over several seeds, recorded once, with how they were made."""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from itr_lib.files import write_whole

RECORDED = Path(__file__).parent / "recorded"
FROM_DATA = ("feature_dim", "guide_dim", "vocabulary_size", "mask_token")  # known from the data's name: no settings
# Names that recorded runs still have: of a class, {"Hinge": "TripletObjective"}, and of a field of what is that class
# today, {"TripletObjective.slack": "margin"}. So hours of runs outlive a better name.
RENAMED: dict[str, str] = {}


def recorded(lesson: str, data: str = "scenes") -> dict[str, Any] | None:
    """What ``data_scripts.record`` wrote for a lesson: its ``runs``, and how they were made.

    That is ``command``, ``profile``, ``data``, ``device`` and ``versions``. Each run has ``variant``, ``seed``,
    ``settings`` (:func:`settings_of`), ``metrics`` (test split) and ``epochs`` (its history); later ones say how many
    weights they trained, ``parameters``, and later records on how many ``threads``. None where nothing was recorded for
    this data set.
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


def settings_of(plan: Any) -> Any:
    """A plan (:data:`itr_lib.lessons.variants.Plan`) as JSON keeps it: a dataclass is an object of its ``class``
    and all its fields, defaults too, but for what :data:`FROM_DATA` names; two trainings are a list.
    """
    if isinstance(plan, tuple):
        return [settings_of(part) for part in plan]
    if not is_dataclass(plan):
        return plan
    own = {field.name: settings_of(getattr(plan, field.name)) for field in _settings(plan)}
    return {"class": type(plan).__name__, **own}  # no field can have that name


def same_settings(written: Any, plan: Any) -> bool:
    """Whether settings that :func:`settings_of` once wrote are those of ``plan``.

    Names are read as :data:`RENAMED` says. A field that did not exist yet counts as its default: whoever adds one
    gives it the default that changes nothing. A field that no longer exists is a difference.
    """
    if isinstance(plan, tuple):
        return isinstance(written, list) and len(written) == len(plan) and all(map(same_settings, written, plan))
    if not is_dataclass(plan) or not isinstance(written, dict):
        return written == plan
    name_of_class, own = _as_today(written)
    defaults = {field.name: settings_of(field.default) for field in _settings(plan)}
    read = defaults | own
    return (
        name_of_class == type(plan).__name__
        and read.keys() == defaults.keys()
        and all(same_settings(value, getattr(plan, name)) for name, value in read.items())
    )


def write_record(lesson: str, record: dict[str, Any]) -> Path:
    """Write a lesson's record, all of it or nothing."""
    path = _path(lesson, record["data"])
    path.parent.mkdir(exist_ok=True)
    write_whole(path, json.dumps(record, indent=1) + "\n")
    return path


def _settings(plan: Any) -> list:
    return [field for field in fields(plan) if field.name not in FROM_DATA]


def _as_today(written: dict[str, Any]) -> tuple[str | None, dict[str, Any]]:
    """The class and the fields of a written object, by today's names."""
    name_of_class = RENAMED.get(written.get("class", ""), written.get("class"))
    own = {name: value for name, value in written.items() if name != "class"}
    return name_of_class, {RENAMED.get(f"{name_of_class}.{name}", name): value for name, value in own.items()}


def _path(lesson: str, data: str) -> Path:
    return RECORDED / f"{lesson}-{data}.json"
