"""The runs behind lesson 06: what stands for the photographs, which of them train, and what is measured of a run."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from data_scripts import record, record_photographs
from itr_lib.data import RetrievalData, Splits
from itr_lib.lessons.variants import OnPhotographs, lesson06

PLAN = lesson06("smoke", "flickr8k", 0)["EfficientNet"].plan
NAMES = [f"{number:02d}.jpg" for number in range(34)]  # 30 to train, 4 to report on; every third has a CLIP vector


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A small Flickr8k, and the maps of its photographs as if a network had made them."""
    root, work = tmp_path_factory.mktemp("flickr8k"), tmp_path_factory.mktemp("work")
    (root / "images").mkdir()
    made, records = np.random.default_rng(0), []
    for number, name in enumerate(NAMES):
        Image.fromarray(made.integers(0, 255, (30, 40, 3), np.uint8)).save(root / "images" / name)
        sentences = [{"raw": f"Two dogs, number {number}.", "tokens": ["two", "dogs"]}]
        records.append({"filename": name, "split": "train" if number < 30 else "val", "sentences": sentences})
    (root / "dataset_flickr8k.json").write_text(json.dumps({"dataset": "flickr8k", "images": records}))
    np.savez(root / record_photographs.CLIP, filenames=NAMES[::3], features=made.random((12, 5), np.float32))
    np.save(work / "cells.npy", made.random((len(NAMES), 8, 8, 3)).astype(np.float16))
    (work / "names.json").write_text(json.dumps(NAMES))
    record_photographs.make_features(root, work)
    return root, work


def test_a_photograph_is_the_mean_of_its_map_and_of_sixteen_parts_of_it(folders):
    cells = np.load(folders[1] / "cells.npy").astype(float)
    grid = np.load(folders[1] / "grid.npz")
    assert grid["features"].shape == (34, 17, 3) and grid["boxes"][5, 2].tolist() == [0.25, 0, 0.5, 0.25]
    assert np.allclose(grid["features"][7, 0], cells[7].mean(axis=(0, 1)), atol=1e-3)
    assert np.allclose(grid["features"][7, 1 + 4], cells[7, 2:4, :2].mean(axis=(0, 1)), atol=1e-3)
    assert np.load(folders[1] / "hand-made.npz")["features"].shape == (34, 17, 240)


@pytest.mark.parametrize(
    "features, options, sizes, dim",
    [
        ("EfficientNet", {}, (27, 3, 4), 3),
        ("hand-made", {}, (27, 3, 4), 240),
        ("EfficientNet", {"photographs": 9}, (9, 3, 4), 3),
        ("EfficientNet", {"like_clip": True}, (9, 1, 2), 3),
        ("CLIP", {"like_clip": True}, (9, 1, 2), 5),
    ],
)
def test_which_photographs_train_choose_and_report(folders, features, options, sizes, dim):
    splits = record_photographs.splits_for(OnPhotographs(PLAN, features, **options), *folders)
    assert (len(splits.train), len(splits.val), len(splits.test)) == sizes and splits.train.feature_dim == dim
    assert not set(splits.train.image_ids) & set(splits.val.image_ids)
    assert set(splits.test.image_ids) <= set(NAMES[30:])


def test_rows_of_one_group_are_of_the_same_photographs_and_fewer_are_among_more(folders):
    def ids(features, **options):
        return record_photographs.splits_for(OnPhotographs(PLAN, features, **options), *folders).train.image_ids

    assert ids("EfficientNet", like_clip=True) == ids("hand-made", like_clip=True) == ids("CLIP", like_clip=True)
    assert set(ids("EfficientNet", photographs=5)) < set(ids("EfficientNet", photographs=9)) < set(ids("hand-made"))


def test_what_is_measured_on_photographs():
    captions = ("two dogs", "a cat", "a cat behind a dog", "an axolotl", "a dog", "two cats")
    owner = np.array([0, 1, 2, 3, 4, 4])
    shape = {"features": np.zeros((5, 1, 2), np.float32), "boxes": np.zeros((5, 1, 4), np.float32)}
    data = RetrievalData("x", "val", tuple("abcde"), captions, owner, region_mask=np.ones((5, 1), bool), **shape)
    train = RetrievalData(
        "x", "train", tuple("abcde"), ("a cat behind an dog", "two dogs two cats") * 6, np.arange(12) % 5,
        region_mask=np.ones((5, 1), bool), **shape,
    )  # fmt: skip
    scores = torch.eye(5)[:, owner]
    scores[0, 1] = 1.0  # level: a miss
    scores[1, 3] = 2.0
    found = record._on_photographs(scores, Splits(train, train, data))
    assert found["folds5_t2i_r1"] == 100  # each alone in its fold
    assert (found["cause_counting"], found["count_counting"]) == (100, 2)
    assert (found["cause_relations"], found["count_relations"]) == (100, 1)
    assert (found["cause_rare_words"], found["count_rare_words"]) == (0, 1)
    assert (found["cause_none"], found["count_none"]) == (50, 2) and 0 < found["ndcg_rouge"] < 1
