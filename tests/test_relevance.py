"""Relevance from words: the numbers of rouge-score, pair by pair, and TERAN's way to put five captions together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from rouge_score import rouge_scorer, tokenize
from toy import toy_data

from itr_lib.data.scenes.make import load_scenes
from itr_lib.evaluation import relevance
from itr_lib.evaluation.relevance import rouge_relevance, words_of

AWKWARD = [
    "", "...!?", "A man, a plan, a canal: PANAMA", "It's a dog's life - isn't it?", "naive cafe, 3.5 km; x_1",
    "the the the the", "the", "Istanbul STRASSE", "a\tb\nc", "mother-in-law's 2nd-hand",
]  # fmt: skip


@pytest.fixture(scope="module")
def scorer():
    return rouge_scorer.RougeScorer(["rougeL"], use_stemmer=False)


def with_captions(captions, owner):
    data = toy_data(images=max(owner) + 1, captions=1)
    return replace(data, captions=tuple(captions), image_of_caption=np.array(owner))


def specification(scorer, data, queries, beta):
    """The definition in plain loops over rouge-score's own precision and recall."""
    table = np.zeros((len(queries), len(data)))
    for row, query in enumerate(queries):
        for image in range(len(data)):
            scores = [scorer.score(r, data.captions[query])["rougeL"] for r in data.captions_of(image)]
            p, r = max(s.precision for s in scores), max(s.recall for s in scores)
            table[row, image] = (1 + beta**2) * p * r / (r + beta**2 * p) if p and r else 0
    return table


def test_words_are_those_of_rouge_score():
    for text in AWKWARD:
        assert words_of(text) == tokenize.tokenize(text, None)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Ein Mädchen läuft.", "ein mädchen läuft"),
        ("Ein Ma\u0308dchen la\u0308uft", "ein mädchen läuft"),  # as macOS spells it
        ("Die STRASSE, die Straße", "die strasse die strasse"),
        ("Ένας σκύλος τρέχει", "ένασ σκύλοσ τρέχει"),
        ("Собака бежит", "собака бежит"),
        ("एक हिन्दी कुत्ता", "एक हिन्दी कुत्ता"),  # vowels are marks, not letters
        ("كلب يجري", "كلب يجري"),
        ("می\u200cخواهم", "میخواهم"),  # a joiner inside a word
        ("两只狗在跑。", "两 只 狗 在 跑"),
        ("イヌがいる", "イ ヌ が い る"),
        ("สุนัข", "สุ นั ข"),
        ("개가 달린다", "개가 달린다"),
        ("dog’s “café”, ½ €", "dog s café 1 2"),
    ],
)
def test_words_of_other_scripts(text, words):
    assert words_of(text) == words.split()


def test_captions_in_other_scripts_are_relevant_to_their_like():
    data = with_captions(
        ["两只狗在跑", "狗在草地上跑", "Ένας σκύλος", "σκύλος", "ein Mädchen", "ein Madchen"], range(6)
    )
    got = rouge_relevance(data, beta=1)
    assert (got.diagonal() == 1).all() and got[0, 1] == pytest.approx(2 * 3 / 11) and got[2, 3] == pytest.approx(2 / 3)
    assert got[0, 2] == 0 and got[4, 5] == 0.5  # "ein" alone, not "m" and "dchen"


def test_one_caption_an_image_is_the_f_measure_of_rouge_score(scorer):
    data = with_captions(AWKWARD, range(len(AWKWARD)))
    truth = [[scorer.score(r, q)["rougeL"].fmeasure for r in AWKWARD] for q in AWKWARD]
    assert np.allclose(rouge_relevance(data, beta=1), truth, rtol=0, atol=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_random_captions_agree_with_the_loops(scorer, seed):
    """Few words, so that subsequences are long and tangled; owners out of order, some with one caption only."""
    rng = np.random.default_rng(seed)
    words = ["a", "B", "c!", "the", "Dog", "2", "dog.", "-"]
    captions = [" ".join(rng.choice(words, rng.integers(0, 25))) for _ in range(40)]
    owner = rng.permutation(np.concatenate([np.arange(9), rng.integers(0, 9, 31)]))
    data = with_captions(captions, owner.tolist())
    queries = rng.permutation(40)[:15]
    got = rouge_relevance(data, queries, beta=0.7)
    assert np.allclose(got, specification(scorer, data, queries, 0.7), rtol=0, atol=1e-9)


def test_captions_of_scenes_agree_with_the_loops(scorer, monkeypatch):
    data = load_scenes("smoke").test.take(np.arange(12))
    monkeypatch.setattr(relevance, "PAIRS_AT_ONCE", 7 * len(data.captions))  # several blocks, the last one short
    queries = np.arange(0, len(data.captions), 3)
    got = rouge_relevance(data, queries)
    assert np.allclose(got, specification(scorer, data, queries, 1.2), rtol=0, atol=1e-9)
    assert np.array_equal(rouge_relevance(data)[queries], got)


def test_own_image_has_one_and_is_best():
    data = load_scenes("smoke").test
    got = rouge_relevance(data)
    assert got.shape == (len(data.captions), len(data)) and got.min() >= 0 and got.max() == 1
    assert (got[np.arange(len(got)), data.image_of_caption] == 1).all()


def test_best_precision_and_best_recall_may_come_from_two_captions():
    data = with_captions(["a b c d", "a b x y z v w u", "d"], [0, 1, 1])
    assert rouge_relevance(data, [0], beta=1)[0, 1] == pytest.approx(2 * 0.5 * 1 / 1.5)


def test_a_large_vocabulary_is_compared_exactly():
    """More words than the characters before the surrogates, which no codec takes: they are only numbers here."""
    words = [f"w{i}" for i in range(60_000)]
    data = with_captions([" ".join(words), "w55500 w55501", "w55500 w57000 w55501"], [0, 1, 2])
    assert np.allclose(rouge_relevance(data, [1], beta=1)[0, 1:], [1, 0.8])


def test_a_bar_shows_on_standard_output_when_it_takes_long(monkeypatch, capsys):
    data = toy_data(images=4)
    rouge_relevance(data)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(relevance, "PAIRS_WORTH_A_BAR", 0)
    rouge_relevance(data)
    out, err = capsys.readouterr()
    assert "ROUGE-L" in out and not err


@pytest.mark.parametrize(
    ("captions", "beta", "message"),
    [([600], 1.2, "outside"), ([-1], 1.2, "outside"), ([0.5], 1.2, "list of caption rows"), ([[1]], 1.2, "shape"),
     ([0], 0.0, "beta"), ([0], float("nan"), "beta")],
)  # fmt: skip
def test_bad_input_is_named(captions, beta, message):
    with pytest.raises(ValueError, match=message):
        rouge_relevance(toy_data(), captions, beta=beta)


def test_no_queries_give_an_empty_table():
    assert rouge_relevance(toy_data(images=4), []).shape == (0, 4)
