"""``~`` is the reader's home wherever a path is asked for: no shell expands it in Python, nor in ``--out=~/x``."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from toy import toy_data
from transformers import BertConfig, BertModel, CLIPConfig, CLIPImageProcessorPil, CLIPModel

from data_scripts import extract_features, inspect_karpathy, train_clip
from itr_lib.course import doctor
from itr_lib.course.run import Options
from itr_lib.data import (
    load_entities,
    load_folder,
    load_karpathy,
    load_splits,
    load_tokenizer,
    open_photograph,
    train_tokenizer,
)
from itr_lib.data.cache import cache_folder
from itr_lib.data.photographs.features import read_features
from itr_lib.data.photographs.problems import Problems
from itr_lib.encoders.text import TextConfig, TextEncoder
from itr_lib.guides.clip import file_guides
from itr_lib.lessons import open_lesson, recipes
from itr_lib.lessons.lesson import Lesson
from itr_lib.models import load_model, save_model
from itr_lib.objectives import TripletObjective
from itr_lib.search import TwoStageIndex
from itr_lib.training import TrainConfig, train

NAMES = [f"{number}.jpg" for number in range(4)]
WORDS = ["a", "dog", "runs"]


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home with photographs in ``~/photos``, and another working folder."""
    (tmp_path / "photos" / "images").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("ITR_CACHE", "~/cache")
    monkeypatch.chdir(tmp_path / "elsewhere")
    photos, sentence = tmp_path / "photos", {"raw": " ".join(WORDS), "tokens": WORDS}
    for name in NAMES:
        Image.new("RGB", (60, 40), "red").save(photos / "images" / name)
    images = [
        {"filename": name, "split": split, "sentences": [sentence]}
        for name, split in zip(NAMES, ("train", "train", "val", "test"), strict=True)
    ]
    dog = {"s": 0, "span": [1, 2], "text": "dog", "e": "1", "types": ["animals"]}
    known = {"size": [60, 40], "entities": {"1": {"types": ["animals"], "boxes": [[0, 0, 20, 30]]}}, "phrases": [dog]}
    (photos / "dataset_flickr8k.json").write_text(json.dumps({"dataset": "flickr8k", "images": images}))
    (photos / "entities.json").write_text(json.dumps({"images": dict.fromkeys(NAMES, known)}))
    np.savez(photos / "clip.npz", filenames=NAMES, features=np.ones((4, 8), np.float32))
    return tmp_path


def karpathy():
    return load_karpathy("~/photos/dataset_flickr8k.json", "~/photos/images", "~/photos/clip.npz")["train"].picture(0)


READERS = {
    "load_splits": lambda: load_splits("flickr8k", "~/photos").train.picture(0),
    "load_splits, entities": lambda: load_splits("entities", "~/photos").train.picture(0),
    "load_folder": lambda: load_folder("flickr8k", "~/photos", features="~/photos/clip.npz"),
    "load_karpathy": karpathy,
    "load_entities": lambda: load_entities("~/photos", clip="~/photos/clip.npz", progress=False),
    "read_features": lambda: read_features("~/photos/clip.npz", NAMES, Problems(strict=True)),
    "open_photograph": lambda: open_photograph("~/photos/images/0.jpg"),
    "file_guides": lambda: file_guides(load_folder("flickr8k", "~/photos")["train"], "~/photos/clip.npz"),
    "open_lesson": lambda: open_lesson("00_small", data="flickr8k", root="~/photos", device="cpu"),
}


@pytest.mark.parametrize("name", READERS)
def test_readers(name, home):
    assert READERS[name]() is not None
    assert not (home / "elsewhere" / "~").exists()


def test_an_absent_folder_is_named_as_it_was_looked_for(home):
    with pytest.raises(ValueError, match=str(home / "nowhere")):
        load_folder("flickr8k", "~/nowhere")


def test_the_doctor_looks_at_the_cache_that_is_used(home):
    assert cache_folder() == home / "cache"
    assert doctor.cache().startswith(f"{home / 'cache'}, ") and (home / "cache").is_dir()
    assert doctor.disk().endswith("free") and not (home / "elsewhere" / "~").exists()


def test_a_lessons_metrics_and_the_runners_root(home, monkeypatch, capsys):
    monkeypatch.setenv("ITR_METRICS", "~/metrics")
    Lesson("00_small", "smoke", "cpu", 0, "scenes", "").finish()
    assert json.loads((home / "metrics" / "00_small.json").read_text())["lesson"] == "00_small"
    assert Options(root="~/photos").parameters()["root"] == str(home / "photos")


def test_what_training_writes_and_reads(home):
    data = toy_data(images=20)
    tokenizer = train_tokenizer(data.captions)
    recipe = recipes.vse("smoke")
    model = recipe.build(data, tokenizer)
    settings = TrainConfig(epochs=1, batch_size=10)
    train(model, TripletObjective(), tokenizer, data, data, settings, folder="~/run", progress=False)
    save_model(model, "~/model")
    again = load_model("~/model")
    assert torch.equal(again.regions.embed[0].weight, model.regions.embed[0].weight)
    assert (home / "run" / "training.pt").exists() and (home / "model" / "config.json").exists()


def test_an_index(home):
    index = TwoStageIndex("images")
    index.add(NAMES, torch.eye(4))
    index.save("~/gallery/photos.index")
    assert TwoStageIndex.load("~/gallery/photos.index").ids == NAMES
    assert (home / "gallery" / "photos.index").exists() and not (home / "elsewhere" / "~").exists()


def test_pretrained_folders(home):
    tokenizer = train_tokenizer([" ".join(WORDS)] * 3)
    tokenizer.save_pretrained(home / "words")
    assert load_tokenizer("~/words").get_vocab() == tokenizer.get_vocab()
    bert = BertModel(BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=1))
    bert.save_pretrained(home / "bert")
    assert TextEncoder(TextConfig(pretrained="~/bert"), 4).project.in_features == 8


def test_commands(home, monkeypatch, capsys):
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**small, "vocab_size": 20, "bos_token_id": 0, "eos_token_id": 1}
    vision = {**small, "image_size": 32, "patch_size": 16}
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)).save_pretrained(home / "clip")
    size = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    CLIPImageProcessorPil(**size).save_pretrained(home / "clip")
    (home / "photos" / "clip.npz").unlink()
    command = ["--images=~/photos/images", "--out=~/photos/features", "--model=~/clip", "--device=cpu"]
    assert extract_features.main(command) == 0 and inspect_karpathy.main(["--root=~/photos", "--strict"]) == 0
    assert "2 images, 2 captions, features 1 x 8" in capsys.readouterr().out
    made = []
    monkeypatch.setattr(train_clip, "train_into", lambda folder, *_: made.append(folder))
    monkeypatch.setattr(train_clip, "report", lambda folder: "measured")
    assert train_clip.main(["--out=~/new"]) == 0 and made == [home / "new"]
    assert not (home / "elsewhere" / "~").exists()
