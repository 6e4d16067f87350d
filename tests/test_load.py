"""One call for a lesson's data; baselines, recipes and records on it."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
import torch
from toy import toy_data

import itr_lib.data
from itr_lib.data import load_splits, train_tokenizer, unknown_words
from itr_lib.data.photographs.karpathy import hold_out
from itr_lib.data.scenes import graph_relevance, truth_matrix
from itr_lib.data.scenes.background import with_background
from itr_lib.evaluation import (
    baselines,
    ceiling_scores,
    expected_recall,
    kinds_of_miss,
    ndcg,
    pair_accuracy,
    retrieval_metrics,
)
from itr_lib.lessons import recipes
from itr_lib.lessons.recorded import RECORDED, recorded, runs_of


@pytest.fixture(scope="module")
def scenes():
    return load_splits("scenes", profile="smoke")


@pytest.mark.parametrize("name", ["scenes", "flickr8k", "entities"])
def test_a_profile_that_is_none_is_refused_whatever_the_data(name, tmp_path):
    with pytest.raises(ValueError, match="profile is 'quik', expected one of 'smoke', 'quick', 'full'"):
        load_splits(name, str(tmp_path), profile="quik")


def test_the_data_room_lists_what_it_imports_only_when_asked():
    assert set(itr_lib.data.__all__) <= set(dir(itr_lib.data))


def test_scenes_have_probes_and_a_detector(scenes):
    assert set(scenes.probes) == {"swaps", "replaces"} and "detector" in scenes.notes
    assert len({scenes.train.feature_dim, scenes.test.feature_dim, scenes.probes["swaps"].feature_dim}) == 1
    assert not set(scenes.train.truth.scenes) & set(scenes.test.truth.scenes)


def test_a_bag_with_perfect_eyes_sees_replacements_and_no_swaps(scenes):
    assert pair_accuracy(baselines.tag_scores(scenes.probes["swaps"]))["image"] == 50
    assert pair_accuracy(baselines.tag_scores(scenes.probes["replaces"]))["image"] == 100


def test_a_bag_lies_between_chance_and_ceiling(scenes):
    test = scenes.test
    metrics = retrieval_metrics(baselines.tag_scores(test), test.image_of_caption)
    truth = truth_matrix(test.truth.scenes, test.truth.captions)
    ceiling = expected_recall(ceiling_scores(truth), test.image_of_caption)
    chance = expected_recall(np.zeros(truth.shape), test.image_of_caption)
    assert 5 * chance["t2i_r1"] < metrics.t2i_r1 < ceiling["t2i_r1"] <= 100
    assert truth[test.image_of_caption, np.arange(len(test.captions))].all()


def test_scene_graph_relevance_ranks_like_sense(scenes):
    test = scenes.test
    relevance = graph_relevance(test.truth.scenes, test.truth.captions, test.image_of_caption)
    bag = ndcg(baselines.tag_scores(test).T, relevance.T)
    lots = ndcg(np.random.default_rng(0).random(relevance.T.shape), relevance.T)
    assert lots < bag < ndcg(relevance.T, relevance.T) == 1


def test_what_is_wrong_with_the_picture_that_comes_first(scenes):
    test = scenes.test
    kinds = kinds_of_miss(test, test.image_of_caption)
    assert kinds["right"] == 100 and sum(kinds.values()) == 100
    bag = kinds_of_miss(test, np.asarray(baselines.tag_scores(test).argmax(dim=0)))
    assert sum(bag.values()) == pytest.approx(100)
    always_the_first = kinds_of_miss(test, np.zeros(len(test.captions), int))
    assert bag["a part is missing"] < always_the_first["a part is missing"]
    with pytest.raises(ValueError, match="no known scenes"):
        kinds_of_miss(toy_data(images=3), np.zeros(15, int))


def test_words_that_a_tokenizer_never_learnt_are_named():
    tokenizer = train_tokenizer(["a red star", "a red star on the lawn"] * 2)
    assert unknown_words(tokenizer, "A red giraffe, a star, a giraffe on the Lawn!") == ["giraffe"]
    assert unknown_words(tokenizer, "the red star") == unknown_words(tokenizer, "") == []


def test_tags_need_scenes():
    with pytest.raises(ValueError, match="no known scenes"):
        baselines.tag_scores(toy_data(images=3))


def test_neighbours_lend_their_words():
    train, test = toy_data(images=400, concepts=8), toy_data(images=40, split="test", concepts=8)
    metrics = retrieval_metrics(baselines.neighbour_scores(train, test), test.image_of_caption)
    assert metrics.t2i_r10 > 2 * 100 * 10 / 40


@pytest.mark.parametrize("profile", ["smoke", "quick", "full"])
def test_recipes_build_the_same_model_twice(profile, scenes):
    recipe = recipes.vse(profile, seed=3)
    tokenizer = train_tokenizer(scenes.train.captions)
    first, second = recipe.build(scenes.train, tokenizer), recipe.build(scenes.train, tokenizer)
    assert recipe.training.seed == 3
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


def cuts(data):
    """What take() returns, and what it returns of that; rows out of order."""
    cut = data.take(np.array([5, 2, 7, 3]))
    return [data, cut, cut.take(np.array([2, 0])), cut.take([3, 1]).take(np.array([1]))]


def expect_equal_after_pickling(data):
    again = pickle.loads(pickle.dumps(data))
    assert (again.image_ids, again.captions, again.truth is None) == (data.image_ids, data.captions, data.truth is None)
    np.testing.assert_array_equal(again.features, data.features)
    for row in range(len(data)):
        np.testing.assert_array_equal(np.asarray(again.picture(row)), np.asarray(data.picture(row)))


def test_scenes_can_be_pickled_whole_and_cut(scenes):
    few = scenes.test.take(np.arange(10))
    for data in [*cuts(few), with_background(few, 3), *cuts(with_background(few, 3))]:
        expect_equal_after_pickling(data)
    assert cuts(few)[2].image_ids == (few.image_ids[7], few.image_ids[5])
    np.testing.assert_array_equal(np.asarray(cuts(few)[3].picture(0)), np.asarray(few.picture(2)))
    again = pickle.loads(pickle.dumps(scenes))
    assert again.notes == scenes.notes and again.probes["swaps"].captions == scenes.probes["swaps"].captions


def test_photographs_can_be_pickled_whole_and_cut(shared_data):
    splits = load_splits("flickr8k", str(shared_data / "flickr8k"), profile="smoke")
    assert pickle.loads(pickle.dumps(splits)).notes == splits.notes
    held = hold_out(splits.test.take(np.arange(20)), share=0.5)
    for data in [*cuts(held[0]), held[1]]:
        expect_equal_after_pickling(data)


def test_photographs_are_reported_on_images_that_chose_nothing(shared_data):
    splits = load_splits("flickr8k", str(shared_data / "flickr8k"))
    assert (len(splits.train), len(splits.val), len(splits.test)) == (1625, 180, 308)
    assert splits.test.split == "val" and splits.probes == {}
    ids = [set(part.image_ids) for part in (splits.train, splits.val, splits.test)]
    assert not (ids[0] & ids[1] or ids[0] & ids[2] or ids[1] & ids[2])
    assert splits.train.picture(0).mode == "RGB"


def test_records_hold_three_seeds_of_every_variant():
    for path in RECORDED.glob("*.json"):
        record = json.loads(path.read_text())
        lesson, _, data = path.stem.rpartition("-")
        assert recorded(lesson, data) == record and record["command"] and record["versions"]["torch"]
        for variant in {run["variant"] for run in record["runs"]}:
            assert len(runs_of(record, variant)) >= 3
    assert recorded("01_global_embeddings") is not None and recorded("01_global_embeddings", "coco") is None


def test_an_unknown_variant_is_named():
    with pytest.raises(ValueError, match="no run of 'x'"):
        runs_of(recorded("01_global_embeddings"), "x")
