"""The recorded runs behind the lessons are of today's recipes: a stale one would be shown as if it were made now."""

from __future__ import annotations

import json

import pytest

from data_scripts.record import LESSONS
from itr_lib.course.recorded import RECORDED


@pytest.mark.parametrize("path", sorted(RECORDED.glob("*.json")), ids=lambda path: path.stem)
def test_settings_are_those_of_the_recipes(path):
    lesson, _, data = path.stem.partition("-")
    record = json.loads(path.read_text(encoding="utf-8"))
    assert record["data"] == data and record["runs"]
    for run in record["runs"]:
        recipe = LESSONS[lesson](record["profile"], data, run["seed"])[run["variant"]]
        assert run["settings"] == repr(recipe), f"{run['variant']}, seed {run['seed']}: record it again"
