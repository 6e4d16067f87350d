"""Presets and changes to them: files that can be read, settings that are checked, sentences for those that are none."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest

from data_scripts import settings
from data_scripts.settings import (
    OBJECTIVES,
    PRESETS,
    as_toml,
    changed,
    differences,
    read_preset,
    recipe_of,
    tables_of,
)
from itr_lib.encoders.text import TextConfig
from itr_lib.models import MODELS
from itr_lib.models.vse import VSEConfig
from itr_lib.objectives import InfoNCEObjective, TripletObjective
from itr_lib.training import TrainConfig

FILES = sorted(PRESETS.glob("*.toml"))
BERT_BASE = TextConfig(pretrained="bert-base-uncased")


def small(*settings: str):
    tables = read_preset("vse", "small", "flickr8k")
    for setting in settings:
        tables = changed(tables, setting)
    return recipe_of(tables)


def test_precision_is_resolved_for_the_machine_before_anything_is_written(monkeypatch):
    faster = {"cpu": "float32", "cuda": "bfloat16"}
    monkeypatch.setattr(settings, "faster_precision", faster.__getitem__)
    for model in ("vse", "teran", "tgdt"):
        tables = read_preset(model, "small", "flickr8k")
        assert tables["training"]["precision"] == "auto"
        for device, precision in faster.items():
            recipe = recipe_of(tables, device)
            assert recipe.training.precision == tables_of(recipe)["training"]["precision"] == precision
    fixed = changed(tables, "training.precision=bfloat16")
    assert recipe_of(fixed, "cpu").training.precision == "bfloat16"  # who asks for one gets it
    with pytest.raises(ValueError, match="precision"):
        TrainConfig(epochs=1, precision="auto")


def test_each_model_has_two_presets():
    assert {file.name for file in FILES} == {
        f"{model}.{preset}.toml" for model in MODELS for preset in ("small", "paper")
    }


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_preset_says_what_each_of_its_values_comes_from(file: Path):
    model, preset = file.stem.split(".")
    for data in ("flickr8k", "flickr30k", "coco"):
        recipe = recipe_of(read_preset(model, preset, data))
        assert type(recipe.model) is type(MODELS[model][1])
    lines = [line for line in file.read_text().splitlines() if "=" in line and not line.startswith(("#", "name"))]
    assert lines and all(" # " in line for line in lines if "hidden" not in line and "layers = 2" not in line)


@pytest.mark.parametrize("model", MODELS)
def test_the_papers_presets_have_the_papers_sizes(model: str):
    text = dataclasses.replace(BERT_BASE, first_layers=6 if model in ("teran", "tgdt") else None)
    assert recipe_of(read_preset(model, "paper", "flickr30k")).model == dataclasses.replace(MODELS[model][2], text=text)


@pytest.mark.parametrize(
    "model, data, epochs, batch, decays_after",
    [
        ("vse", "coco", 25, 128, 15),
        ("teran", "flickr30k", 30, 30, 20),
        ("teran", "coco", 30, 40, 20),
        ("chan", "flickr30k", 25, 128, 15),
        ("user", "flickr30k", 20, 128, 10),
        ("user", "coco", 25, 128, 15),
        ("tgdt", "flickr30k", 60, 30, 20),
        ("tgdt", "coco", 60, 40, 20),
    ],
)
def test_the_papers_presets_train_as_long_as_the_released_configurations(model, data, epochs, batch, decays_after):
    training = recipe_of(read_preset(model, "paper", data)).training
    assert (training.epochs, training.batch_size) == (epochs, batch)
    steps = 1000  # of an epoch
    factors = [training.learning_rate_factor(epoch * steps, steps) for epoch in range(1, epochs)]
    assert factors.index(0.1) + 1 == decays_after and set(factors) == {1.0, 0.1}


def test_a_table_for_one_data_set_changes_only_that():
    first, second = (tables_of(recipe_of(read_preset("user", "paper", data))) for data in ("flickr30k", "coco"))
    assert {line.split(" is ")[0] for line in differences(first, second)} == {
        "model.queue_size",
        "objective.batch_weight",
        "training.epochs",
        "training.decay_after",
    }


def test_changes_are_typed():
    recipe = small("training.batch_size=64", "model.dropout=0", "training.unique_images=false", "text.pretrained=12")
    assert recipe.training.batch_size == 64 and recipe.training.unique_images is False
    assert recipe.model.dropout == 0.0 and isinstance(recipe.model.dropout, float)
    assert recipe.model.text.pretrained == "12", "a name stays a name, whatever it looks like"
    assert small("text.pretrained=x", "text.pretrained=none").model.text.pretrained is None
    assert small("training.learning_rate=3e-4").training.learning_rate == 3e-4


def test_another_objective_brings_its_own_defaults():
    assert small("objective.temperature=0.1").objective == InfoNCEObjective(temperature=0.1)
    assert small("objective.name=triplet").objective == TripletObjective()
    assert small("objective.name=triplet", "objective.margin=0.3").objective == TripletObjective(margin=0.3)


@pytest.mark.parametrize(
    "setting, sentence",
    [
        ("training.batchsize=64", "training.batchsize is no setting of TrainConfig: did you mean 'batch_size'?"),
        ("trainig.batch_size=64", "'trainig' is no table: did you mean 'training'?"),
        ("objective.margin=0.2", "objective.margin is no setting of InfoNCEObjective: expected one of temperature"),
        ("objective.name=infonce", "objective.name is 'infonce', expected one of triplet, info_nce"),
        ("objective.name=two_level", "needs a model with two readings"),
        ("training.batch_size=many", "training.batch_size is 'many', expected a whole number"),
        ("training.batch_size=64.5", "training.batch_size is 64.5, expected a whole number"),
        ("training.batch_size=1", "batch_size is 1, expected 2 or more"),
        ("training.epochs=0", "epochs is 0, expected a whole number of 1 or more"),
        ("training.learning_rate=fast", "training.learning_rate is 'fast', expected a number"),
        ("training.unique_images=1", "training.unique_images is 1, expected true or false"),
        ("text.first_layers=true", "text.first_layers is True, expected a whole number or none"),
        ("text.kind=lstm", "kind is 'lstm'"),
        ("model.feature_dim=8", "model.feature_dim is no setting"),
        ("text.vocabulary_size=8", "text.vocabulary_size is no setting"),
        ("model.name=chan", "model.name is no setting"),
        ("training.epochs", "changes nothing: expected TABLE.NAME=VALUE"),
        ("epochs=3", "changes nothing: expected TABLE.NAME=VALUE"),
        ("training.=3", "changes nothing"),
    ],
)
def test_what_is_no_setting_gets_a_sentence(setting: str, sentence: str):
    with pytest.raises(ValueError) as caught:
        small(setting)
    assert sentence in str(caught.value)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("preset", ["small", "paper"])
def test_what_was_resolved_is_a_preset_itself(model: str, preset: str, tmp_path: Path):
    recipe = recipe_of(read_preset(model, preset, "coco"))
    path = tmp_path / "settings.toml"
    path.write_text(as_toml(tables_of(recipe) | {"data": {"name": 'a "name"'}}))
    assert recipe_of(read_preset(model, str(path), "coco")) == recipe


def test_every_setting_is_written_and_read_again(tmp_path: Path):
    for name in OBJECTIVES:
        tables = {"model": {"name": "tgdt"}, "text": {}, "objective": {"name": name}, "training": {"epochs": 3}}
        written = tables_of(recipe_of(tables))
        (tmp_path / "one.toml").write_text(as_toml(written))
        again = read_preset("tgdt", str(tmp_path / "one.toml"), "scenes")
        assert again == written and recipe_of(again).objective == OBJECTIVES[name]()
        assert written["training"].keys() == {field.name for field in dataclasses.fields(TrainConfig)}
    assert math.isclose(recipe_of(again).training.weight_decay, 1e-4)


def test_differences_are_named():
    first, second = ({"training": {"epochs": n, "seed": 0}} for n in (3, 4))
    assert differences(first, first) == []
    assert differences(first, second) == ["training.epochs is 3 there and 4 here"]
    assert differences(first, {"training": {"epochs": 3}}) == ["training.seed is 0 there and None here"]


@pytest.mark.parametrize(
    "text, sentence",
    [
        ("[model", "is no preset with the tables model, text, objective, training"),
        ('[model]\nname = "vse"', "is no preset with the tables"),
        ('[model]\nname = "chan"\n[text]\n[objective]\n[training]', "is a preset of 'chan', and the model is 'vse'"),
        ("model = 3\n[text]\n[objective]\n[training]", "is no preset with the tables"),
        ("[model]\n[text]\n[objective]\n[training]", "is no preset with the tables"),
    ],
)
def test_a_file_that_is_no_preset_gets_a_sentence(text: str, sentence: str, tmp_path: Path):
    (tmp_path / "bad.toml").write_text(text)
    with pytest.raises(ValueError, match=sentence):
        read_preset("vse", str(tmp_path / "bad.toml"), "scenes")


def test_a_preset_that_is_not_there_gets_a_sentence():
    with pytest.raises(ValueError, match="preset is 'large', expected one of .'paper', 'small'. for vse, or a file"):
        read_preset("vse", "large", "scenes")
    with pytest.raises(ValueError, match="training.epochs must be set"):
        recipe_of({"model": {"name": "vse"}, "text": {}, "objective": {"name": "triplet"}, "training": {}})


def test_a_model_that_is_described_as_it_is():
    recipe = small("model.dim=32", "text.pretrained=none", "text.hidden=64")
    assert recipe.model == VSEConfig(dim=32, pooling="mean", text=TextConfig(hidden=64))
