"""The recorded runs: of today's recipes, since a stale one would be shown as if made now; and how they are made."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from data_scripts import record
from itr_lib.data import load_splits
from itr_lib.lessons import recipes
from itr_lib.lessons.recorded import RECORDED


@pytest.fixture
def few(monkeypatch):
    """Forty scenes to train on, thirty to test on; nothing has been trained yet."""
    splits = load_splits("scenes", profile="smoke")
    monkeypatch.setattr(record, "SHORTLISTS", (10,))
    monkeypatch.setattr(record, "TRAINED", {})
    parts = {"train": splits.train.take(np.arange(40)), "test": splits.test.take(np.arange(30)), "probes": {}}
    return dataclasses.replace(splits, **parts)


@pytest.mark.parametrize("path", sorted(RECORDED.glob("*.json")), ids=lambda path: path.stem)
def test_settings_are_those_of_the_recipes(path):
    lesson, _, data = path.stem.partition("-")
    written = json.loads(path.read_text(encoding="utf-8"))
    assert written["data"] == data and written["runs"]
    for run in written["runs"]:
        recipe = record.LESSONS[lesson](written["profile"], data, run["seed"])[run["variant"]]
        assert run["settings"] == repr(recipe), f"{run['variant']}, seed {run['seed']}: record it again"


def test_two_networks_read_as_each_does_alone_and_are_not_trained_twice(few):
    fine = recipes.teran("smoke")
    fine = dataclasses.replace(fine, training=dataclasses.replace(fine.training, epochs=1))
    whole = recipes.one_vector(fine)
    both = record.run((whole, fine), few, "cpu")
    trained = dict(record.TRAINED)
    alone = {"global": record.run(whole, few, "cpu"), "local": record.run(fine, few, "cpu")}
    assert trained == record.TRAINED and len(trained) == 2
    for reading, one in alone.items():
        for metric in ("t2i_r1", "i2t_r10", "rsum"):
            assert both["metrics"][f"{reading}_{metric}"] == one["metrics"][metric]
    assert both["parameters"] == sum(one["parameters"] for one in alone.values())
    assert both["epochs"] == alone["global"]["epochs"] + alone["local"]["epochs"]


def test_branches_are_trained_once_and_stay_as_they_are_under_another_top(few):
    plans = record.lesson05("smoke", "scenes", 0)
    one, other = (record.run(plans[name], few, "cpu")["metrics"] for name in ("TGDT", "without intra"))
    assert len(record.TRAINED) == 1
    assert one["local_rsum"] == other["local_rsum"] and one["structure_gap"] != other["structure_gap"]
