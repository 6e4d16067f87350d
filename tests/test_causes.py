"""Recall by cause, and intervals for what few judgements say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from itr_lib.checks import library
from itr_lib.evaluation import CAUSES, corrected_recall, fold_metrics, rare_words, recall_by_cause, wilson_interval
from itr_lib.evaluation.relevance import words_of


@pytest.mark.parametrize(("hits", "total"), [(0, 1), (1, 1), (0, 20), (20, 20), (7, 20), (1, 4), (333, 1000)])
def test_wilsons_interval_is_scipys(hits, total):
    wanted = binomtest(hits, total).proportion_ci(0.95, method="wilson")
    assert wilson_interval(hits, total, 1.959963984540054) == pytest.approx((wanted.low, wanted.high), abs=1e-12)
    assert wilson_interval(hits, total) == pytest.approx((wanted.low, wanted.high), abs=1e-4)


@pytest.mark.parametrize(("hits", "total"), [(-1, 5), (6, 5), (0, 0)])
def test_impossible_counts_are_named(hits, total):
    with pytest.raises(ValueError, match=f"{hits} hits of {total}"):
        wilson_interval(hits, total)


def test_a_share_of_the_misses_is_added_to_the_recall():
    judged = np.array([True] * 5 + [False] * 15)
    low, value, high = corrected_recall(60.0, judged).tolist()
    wanted = binomtest(5, 20).proportion_ci(0.95, method="wilson")
    assert value == pytest.approx(70)
    assert (low, high) == pytest.approx((60 + 40 * wanted.low, 60 + 40 * wanted.high), abs=0.01)
    assert corrected_recall(100, judged).tolist() == [100, 100, 100]
    assert torch.equal(corrected_recall(60.0, torch.tensor(judged)), corrected_recall(60.0, judged))


@pytest.mark.parametrize("fits", [[], [1, 0, 1], [[True, False]]])
def test_judgements_are_truth_values(fits):
    with pytest.raises(ValueError, match="expected one bool for each judged miss"):
        corrected_recall(20.0, np.array(fits))
    with pytest.raises(ValueError, match="expected percent"):
        corrected_recall(120.0, np.array([True]))


def test_each_caption_counts_for_all_of_its_causes():
    captions = ["Two dogs behind a wall.", "A stone wall", "No dog; two cats!", "A man WITHOUT a hat", "Ein Mädchen"]
    hits = np.array([True, True, False, True, False])
    assert recall_by_cause(captions, hits, CAUSES) == {
        "counting": (50.0, 2),
        "negation": (50.0, 2),
        "relations": (100.0, 1),
        "none": (50.0, 2),
    }
    assert recall_by_cause(captions, torch.tensor(hits), {"who": {"mädchen"}, "nobody": {"kraken"}}) == {
        "who": (0.0, 1),
        "none": (75.0, 4),
    }
    assert recall_by_cause(captions, hits, {}) == {"none": (60.0, 5)}
    assert recall_by_cause([], np.zeros(0, bool), CAUSES) == {}


def test_what_does_not_fit_is_named():
    with pytest.raises(ValueError, match=r"hits has shape \(2,\), expected \(1,\)"):
        recall_by_cause(["a dog"], np.array([True, False]), CAUSES)
    with pytest.raises(ValueError, match="a cause is called 'none'"):
        recall_by_cause(["a dog"], np.array([True]), {"none": {"dog"}})


def test_rare_words_are_counted_in_the_training_captions_alone():
    training = ["A dog, a DOG", "a dog and a cat"]
    assert rare_words(["A cat and a kraken", "dog"], training, at_most=1) == {"cat", "and", "kraken"}
    assert rare_words(["A cat and a kraken", "dog"], training, at_most=0) == {"kraken"}
    assert rare_words(["a dog"], training, at_most=3) == {"dog"}


def test_causes_are_words_as_captions_have_them_and_share_none():
    words = [word for some in CAUSES.values() for word in some]
    assert len(words) == len(set(words)) and all(words_of(word) == [word] for word in words)


@pytest.mark.parametrize("folds", [1, 2, 5])
def test_the_folds_of_the_exercise_are_those_of_the_metrics(folds):
    rng = np.random.default_rng(folds)
    owner = rng.permutation(np.repeat(np.arange(20), rng.integers(1, 6, 20)))
    scores = torch.tensor(rng.normal(size=(20, len(owner))).round(1))  # some are level
    wanted = fold_metrics(scores, owner, folds)
    for k in (1, 5, 10):
        found = library("fold-recall")(scores, torch.tensor(owner), folds, k)
        assert found == pytest.approx(getattr(wanted, f"t2i_r{k}"))
