"""Metrics against plain loops, exact cases, properties, and known wrong variants."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from wrong_answers import ranks_for_the_model, ranks_one_to_one

from itr_lib.checks.lesson00 import chance_specification, ndcg_cases, ndcg_specification, rank_cases, rank_specification
from itr_lib.evaluation import (
    caption_ranks,
    ceiling_scores,
    expected_recall,
    image_ranks,
    ndcg,
    pair_accuracy,
    retrieval_metrics,
)

OWNER = np.repeat(np.arange(4), 5)


def loop_image_ranks(scores, owner):
    ranks = []
    for caption, image in enumerate(owner):
        column = [row[caption] for row in scores.tolist()]
        false = [s for i, s in enumerate(column) if i != image]
        ranks.append(1 + sum(s >= column[image] for s in false))
    return np.array(ranks)


@pytest.mark.parametrize("case", list(rank_cases()))
def test_ranks_agree_with_plain_loops(case):
    scores, owner = case["scores"], case["image_of_caption"]
    assert np.array_equal(caption_ranks(scores, owner), rank_specification(scores, owner))
    assert np.array_equal(image_ranks(scores, owner), loop_image_ranks(scores, owner.tolist()))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_ranks_agree_with_plain_loops_on_anything(data):
    counts = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=6))
    owner = np.random.default_rng(data.draw(st.integers(0, 9))).permutation(np.repeat(np.arange(len(counts)), counts))
    values = st.lists(st.integers(-2, 2), min_size=len(counts) * len(owner), max_size=len(counts) * len(owner))
    scores = torch.tensor(data.draw(values), dtype=torch.float64).view(len(counts), len(owner))
    assert np.array_equal(caption_ranks(scores, owner), rank_specification(scores, torch.from_numpy(owner)))
    assert np.array_equal(image_ranks(scores, owner), loop_image_ranks(scores, owner))


def test_metrics_by_hand():
    scores = np.array([[0.9, 0.1, 0.8], [0.7, 0.2, 0.3]])  # captions 0 and 1 belong to image 0, caption 2 to image 1
    metrics = retrieval_metrics(scores, np.array([0, 0, 1]))
    # Image 0 finds caption 0 first; image 1 has its caption behind caption 0. Captions: first, second, second.
    assert (metrics.i2t_r1, metrics.i2t_r5, metrics.i2t_medr, metrics.i2t_meanr) == (50.0, 100.0, 1.5, 1.5)
    assert metrics.t2i_r1 == pytest.approx(100 / 3) and metrics.t2i_medr == 2
    assert metrics.t2i_meanr == pytest.approx(5 / 3)
    assert metrics.rsum == pytest.approx(50 + 100 + 100 + 100 / 3 + 100 + 100)
    assert set(metrics.as_dict()) >= {"i2t_r1", "t2i_r10", "rsum", "t2i_meanr"}


def test_a_collapsed_model_scores_nothing():
    metrics = retrieval_metrics(np.zeros((20, 100)), np.repeat(np.arange(20), 5))
    assert metrics.rsum == 0 and metrics.i2t_medr == 96 and metrics.t2i_medr == 20


def test_known_wrong_variants_differ():
    scores = torch.zeros(4, 20)
    assert not np.array_equal(caption_ranks(scores, OWNER), ranks_for_the_model(scores, torch.from_numpy(OWNER)))
    scores = torch.randn(4, 20, generator=torch.Generator().manual_seed(0))
    assert not np.array_equal(caption_ranks(scores, OWNER), ranks_one_to_one(scores, OWNER))


def test_order_of_images_and_captions_does_not_matter():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(4, 20))
    rows, columns = rng.permutation(4), rng.permutation(20)
    moved = retrieval_metrics(scores[rows][:, columns], np.argsort(rows)[OWNER[columns]])
    assert moved == retrieval_metrics(scores, OWNER)


def test_a_growing_transform_changes_nothing():
    scores = np.random.default_rng(1).normal(size=(4, 20))
    assert retrieval_metrics(np.exp(3 * scores), OWNER) == retrieval_metrics(scores, OWNER)


def test_array_and_tensor_and_many_rows_give_the_same():
    scores = np.random.default_rng(2).normal(size=(600, 700)).astype(np.float32)  # more rows than one block
    owner = np.random.default_rng(3).permutation(np.r_[np.arange(600), np.arange(100)])
    metrics = retrieval_metrics(scores, owner)
    assert metrics == retrieval_metrics(torch.from_numpy(scores), torch.from_numpy(owner))
    assert np.array_equal(
        caption_ranks(scores, owner), rank_specification(torch.from_numpy(scores), torch.from_numpy(owner))
    )


@pytest.mark.parametrize(
    ("scores", "owner", "message"),
    [
        (np.full((2, 2), np.nan), [0, 1], "NaN"),
        (np.zeros((2, 3)), [0, 1], "expected 3 ints"),
        (np.zeros((2, 2)), [0, 2], "outside 0..1"),
        (np.zeros((2, 2)), [0, -1], "outside 0..1"),
        (np.zeros((2, 2)), [0, 0], "gives image 1 no caption"),
        (np.zeros((2, 2)), [0.0, 1.0], "expected 2 ints"),
        (np.zeros(4), [0, 1], "expected a matrix"),
        (np.zeros((0, 3)), [0, 0, 0], "at least one row"),
        (None, [0, 1], "scores is a NoneType"),
        (np.array([["a", "b"]]), [0, 1], "scores is a ndarray of <U1"),
    ],
)
def test_bad_input(scores, owner, message):
    with pytest.raises(ValueError, match=message):
        retrieval_metrics(scores, np.array(owner))


@pytest.mark.filterwarnings("error")
def test_any_layout_and_kind_of_number():
    scores = np.random.default_rng(8).integers(0, 2, (4, 20))
    expected = retrieval_metrics(scores.astype(float), OWNER)
    locked = scores.astype(np.float32)
    locked.flags.writeable = False
    variants = [scores.astype(bool), scores.astype(">f4"), np.asfortranarray(scores), scores[::-1][::-1], locked]
    variants += [torch.from_numpy(scores).bool(), torch.from_numpy(scores).bfloat16(), scores.tolist()]
    assert all(retrieval_metrics(variant, OWNER) == expected for variant in variants)
    assert retrieval_metrics(scores, OWNER.astype(np.uint16)) == expected


@pytest.mark.parametrize(("images", "captions"), [(1000, 5), (7, 3), (3, 1), (2, 5)])
def test_chance_is_the_expected_recall_of_constant_scores(images, captions):
    recalls = expected_recall(np.zeros((images, images * captions)), np.repeat(np.arange(images), captions))
    for k in (1, 5, 10):
        assert recalls[f"i2t_r{k}"] == pytest.approx(chance_specification(images, captions, k), abs=1e-9)
        assert recalls[f"t2i_r{k}"] == pytest.approx(100 * min(1, k / images), abs=1e-9)


def test_expected_recall_is_the_mean_over_tie_breaks():
    rng = np.random.default_rng(4)
    scores = rng.integers(0, 3, size=(4, 20)).astype(float)
    drawn = [
        retrieval_metrics(scores + 0.5 * rng.permutation(scores.size).reshape(scores.shape) / scores.size, OWNER)
        for _ in range(3000)
    ]
    expected = expected_recall(scores, OWNER)
    for metric in ("i2t_r1", "i2t_r5", "t2i_r1"):
        values = np.array([getattr(m, metric) for m in drawn])
        assert abs(values.mean() - expected[metric]) < 4 * values.std() / np.sqrt(len(values)) + 1e-9


def test_without_ties_expected_recall_is_recall():
    scores = np.random.default_rng(5).normal(size=(4, 20))
    recalls, metrics = expected_recall(scores, OWNER), retrieval_metrics(scores, OWNER).as_dict()
    assert all(recalls[name] == pytest.approx(metrics[name]) for name in recalls)


def test_ceiling_by_hand():
    truth = np.array([[True, True, False], [False, True, True]])  # caption 1 is true of both pictures
    recalls = expected_recall(ceiling_scores(truth), np.array([0, 0, 1]))
    assert recalls["i2t_r1"] == 100 and recalls["t2i_r1"] == pytest.approx(100 * (1 + 0.5 + 1) / 3)


@pytest.mark.parametrize("case", list(ndcg_cases()))
def test_ndcg_agrees_with_plain_loops(case):
    assert abs(ndcg(**case) - ndcg_specification(**case)) < 1e-9


def test_ndcg_by_hand_and_at_its_ends():
    relevance = np.array([[3.0, 2.0, 0.0]])
    assert ndcg(relevance, relevance) == 1
    worst = ndcg(-relevance, relevance, k=2)  # order 0, 2 -> (0 + 2 / log2 3) / (3 + 2 / log2 3)
    assert worst == pytest.approx((2 / np.log2(3)) / (3 + 2 / np.log2(3)), abs=1e-12)
    assert ndcg(np.zeros((1, 3)), relevance, k=1) == 0  # a tie goes to the least relevant
    assert ndcg(np.ones((1, 3)), np.zeros((1, 3))) == 0


@pytest.mark.parametrize(
    ("scores", "relevance", "k", "message"),
    [
        (np.zeros((2, 3)), np.zeros((3, 2)), 5, "relevance has shape"),
        (np.zeros((2, 3)), -np.ones((2, 3)), 5, "negative or infinite"),
        (np.zeros((2, 3)), np.ones((2, 3)), 0, "k is 0"),
        (np.full((2, 3), np.nan), np.ones((2, 3)), 5, "NaN"),
    ],
)
def test_ndcg_bad_input(scores, relevance, k, message):
    with pytest.raises(ValueError, match=message):
        ndcg(scores, relevance, k)


def test_pair_accuracy_by_hand():
    scores = np.array([[0.9, 0.1, 0, 0], [0.3, 0.8, 0, 0], [0, 0, 0.5, 0.5], [0, 0, 0.5, 0.5]])
    assert pair_accuracy(scores) == {"image": 75.0, "text": 75.0, "group": 50.0}
    assert pair_accuracy(np.array([[0.5, 0.9], [0.1, 0.2]])) == {"image": 50.0, "text": 50.0, "group": 0.0}


def test_pair_accuracy_of_random_scores_is_chance():
    metrics = pair_accuracy(np.random.default_rng(6).normal(size=(4000, 4000)))
    # Group: own scores above both cross scores; of the 4! orders of four numbers, 4 do that.
    assert abs(metrics["image"] - 50) < 3 and abs(metrics["text"] - 50) < 3 and abs(metrics["group"] - 100 / 6) < 3


@pytest.mark.parametrize("shape", [(3, 3), (2, 4)])
def test_pair_accuracy_bad_input(shape):
    with pytest.raises(ValueError, match="pairs"):
        pair_accuracy(np.zeros(shape))
