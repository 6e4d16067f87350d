"""The recorded runs: of today's recipes, since a stale one would be shown as if made now; and how they are made."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from data_scripts import record
from itr_lib.data import load_splits
from itr_lib.encoders.text import TextConfig
from itr_lib.lessons import recipes
from itr_lib.lessons import recorded as recorded_runs
from itr_lib.lessons.recorded import RECORDED, same_settings, settings_of
from itr_lib.lessons.variants import LESSONS, lesson05


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
        plan = LESSONS[lesson](written["profile"], data, run["seed"])[run["variant"]]
        assert same_settings(run["settings"], plan), f"{run['variant']}, seed {run['seed']}: record it again"


def as_written(plan):
    return json.loads(json.dumps(settings_of(plan)))


@pytest.mark.parametrize("lesson", LESSONS)
def test_each_variant_has_settings_of_its_own_that_outlive_json(lesson):
    plans = [*LESSONS[lesson]("quick", "scenes", 0).values(), *LESSONS[lesson]("quick", "scenes", 1).values()]
    for row, plan in enumerate(plans):
        assert [same_settings(as_written(plan), other) for other in plans] == [row == at for at in range(len(plans))]


def test_settings_say_all_that_the_data_do_not():
    recipe = recipes.vse("smoke", seed=7)
    known = dataclasses.replace(recipe.model, feature_dim=70, text=TextConfig(900, hidden=32, layers=1, mask_token=4))
    written = as_written(recipe)
    assert written == as_written(dataclasses.replace(recipe, model=known))
    assert written["model"]["text"] == {
        "class": "TextConfig", "hidden": 32, "layers": 1, "heads": 4, "dropout": 0.1, "kind": "bert",
        "pretrained": None, "first_layers": None,
    }  # fmt: skip
    assert written["objective"] == {
        "class": "TripletObjective", "margin": 0.2, "warmup_epochs": 1, "mask_same_image": True,
    }  # fmt: skip
    assert (written["model"]["class"], written["training"]["seed"]) == ("VSEConfig", 7)


@dataclasses.dataclass(frozen=True)
class Hinge:
    margin: float
    warmup: int = 1


@dataclasses.dataclass(frozen=True)
class Layer:
    width: int
    loss: Hinge


WRITTEN = {"class": "Layer", "width": 3, "loss": {"class": "Hinge", "margin": 0.2, "warmup": 1}}


def test_a_changed_value_makes_a_run_stale():
    assert settings_of(Layer(3, Hinge(0.2))) == WRITTEN and same_settings(WRITTEN, Layer(3, Hinge(0.2)))
    for other in (
        Layer(4, Hinge(0.2)),
        Layer(3, Hinge(0.3)),
        Layer(3, Hinge(0.2, 2)),
        Hinge(0.2),
        (Layer(3, Hinge(0.2)),),
    ):
        assert not same_settings(WRITTEN, other)


def test_a_default_that_changed_makes_a_run_stale():
    Changed = dataclasses.make_dataclass("Hinge", [("margin", float), ("warmup", int, 2)], frozen=True)
    assert not same_settings(WRITTEN, Layer(3, Changed(0.2))) and same_settings(WRITTEN, Layer(3, Changed(0.2, 1)))


def test_a_field_that_came_later_counts_as_its_default():
    later = [("margin", float), ("warmup", int, 1), ("power", float, 1.0), ("inner", Hinge, Hinge(0.1))]
    Later = dataclasses.make_dataclass("Hinge", later, frozen=True)
    assert same_settings(WRITTEN, Layer(3, Later(0.2)))
    assert not same_settings(WRITTEN, Layer(3, Later(0.2, power=2.0)))
    assert not same_settings(WRITTEN, Layer(3, Later(0.2, inner=Hinge(0.3))))
    Required = dataclasses.make_dataclass("Hinge", [("margin", float), ("power", float), ("warmup", int, 1)])
    assert not same_settings(WRITTEN, Layer(3, Required(0.2, 1.0)))


def test_a_field_or_class_with_a_new_name_is_read_by_the_table_of_names(monkeypatch):
    Renamed = dataclasses.make_dataclass("Triplet", [("slack", float), ("warmup", int, 1)], frozen=True)
    assert not same_settings(WRITTEN, Layer(3, Renamed(0.2)))
    monkeypatch.setattr(recorded_runs, "RENAMED", {"Hinge": "Triplet", "Triplet.margin": "slack"})
    assert same_settings(WRITTEN, Layer(3, Renamed(0.2))) and not same_settings(WRITTEN, Layer(3, Renamed(0.3)))


def test_a_field_that_is_gone_makes_a_run_stale():
    Fewer = dataclasses.make_dataclass("Hinge", [("margin", float)], frozen=True)
    assert not same_settings(WRITTEN, Layer(3, Fewer(0.2)))


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
    plans = lesson05("smoke", "scenes", 0)
    one, other = (record.run(plans[name], few, "cpu")["metrics"] for name in ("TGDT", "without intra"))
    assert len(record.TRAINED) == 1
    assert one["local_rsum"] == other["local_rsum"] and one["structure_gap"] != other["structure_gap"]


def test_the_command_runs_what_is_missing_and_what_is_stale(few, monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(record, "RECORDED", tmp_path)
    monkeypatch.setattr(recorded_runs, "RECORDED", tmp_path)
    monkeypatch.setattr(record, "load_splits", lambda *_, **__: few)
    monkeypatch.setattr(record, "run", lambda plan, *_: seen.append(plan) or {"metrics": {"rsum": 1.0}, "epochs": []})
    command = ["--lesson", "01_global_embeddings", "--profile", "smoke", "--seeds", "1", "--variants", "InfoNCE"]
    record.main(command)
    record.main(command)
    assert seen == [LESSONS["01_global_embeddings"]("smoke", "scenes", 1)["InfoNCE"]]
    path = tmp_path / "01_global_embeddings-scenes.json"
    written = path.read_text()
    path.write_text(written.replace('"temperature": 0.05', '"temperature": 0.07'))
    record.main(command)
    assert len(seen) == 2 and path.read_text() == written
    record.main([*command[:-1], "mean pooling"])
    runs = json.loads(path.read_text())["runs"]
    assert [(run["variant"], run["seed"]) for run in runs] == [("InfoNCE", 1), ("mean pooling", 1)]
    with pytest.raises(SystemExit):
        record.main([*command[:-1], "no such variant"])
    with pytest.raises(SystemExit, match="was made on device cpu"):
        record.main([*command, "--device", "cuda"])
