"""Metrics against plain loops, exact cases, properties, and known wrong variants."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from answers_00 import ranks_for_the_model, ranks_one_to_one
from hypothesis import given, settings
from hypothesis import strategies as st

from itr_lib.checks.caption_ranks import rank_cases, rank_specification
from itr_lib.checks.chance_recall import chance_specification
from itr_lib.checks.choose_k import choose_cases, choose_specification
from itr_lib.checks.local_weight import weight_cases, weight_specification
from itr_lib.checks.ndcg import ndcg_cases, ndcg_specification
from itr_lib.evaluation import (
    best_weight,
    caption_ranks,
    ceiling_scores,
    expected_recall,
    flawed,
    fold_metrics,
    image_ranks,
    mean_over_folds,
    ndcg,
    pair_accuracy,
    retrieval_metrics,
    shortest_shortlist,
    structure_agreement,
    two_stage_metrics,
)

OWNER = np.repeat(np.arange(4), 5)


def loop_image_ranks(scores, owner):
    ranks = []
    for caption, image in enumerate(owner):
        column = [row[caption] for row in scores.tolist()]
        false = [s for i, s in enumerate(column) if i != image]
        ranks.append(1 + sum(s >= column[image] for s in false))
    return np.array(ranks)


@pytest.mark.parametrize("case", [case.inputs for case in rank_cases()])
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
        (torch.eye(2).cfloat(), [0, 1], "scores is a tensor of torch.complex64, expected real numbers"),
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
    variants += [torch.from_numpy(scores).bool(), torch.from_numpy(scores).bfloat16()]
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


@pytest.mark.parametrize("case", [case.inputs for case in ndcg_cases()])
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


@pytest.mark.parametrize("kind", [torch.uint8, torch.int8, torch.float16])
def test_pair_accuracy_compares_and_does_not_subtract(kind):
    limits = torch.finfo(kind) if kind.is_floating_point else torch.iinfo(kind)  # their difference is no such number
    scores = torch.tensor([[limits.min, limits.max], [limits.max, limits.min]]).to(kind)
    assert pair_accuracy(scores) == {"image": 0.0, "text": 0.0, "group": 0.0}
    assert pair_accuracy(scores.flip(0)) == {"image": 100.0, "text": 100.0, "group": 100.0}


def test_pair_accuracy_of_random_scores_is_chance():
    metrics = pair_accuracy(np.random.default_rng(6).normal(size=(4000, 4000)))
    # Group: own scores above both cross scores; of the 4! orders of four numbers, 4 do that.
    assert abs(metrics["image"] - 50) < 3 and abs(metrics["text"] - 50) < 3 and abs(metrics["group"] - 100 / 6) < 3


@pytest.mark.parametrize("shape", [(3, 3), (2, 4)])
def test_pair_accuracy_bad_input(shape):
    with pytest.raises(ValueError, match="pairs"):
        pair_accuracy(np.zeros(shape))


# --- two stages ------------------------------------------------------------------------------------------------------


def rank_in_two_stages(first, final, own, places):
    """The worst rank of the best true match over every shortlist that the global scores allow; plain loops."""
    places = min(places, len(first))
    edge = sorted(first, reverse=True)[places - 1]
    above = [c for c, s in enumerate(first) if s > edge]
    level = [c for c, s in enumerate(first) if s == edge]
    ranks = []
    for some in itertools.combinations(level, places - len(above)):
        shortlist = [*above, *some]
        found = [final[c] for c in shortlist if c in own]
        if found:
            ranks.append(1 + sum(final[c] >= max(found) for c in shortlist if c not in own))
        else:
            best = max(first[c] for c in own)
            ranks.append(1 + sum(s >= best for c, s in enumerate(first) if c not in own))
    return max(ranks)


def two_stage_specification(first, second, owner, shortlist, local_weight=1.0, rank=rank_in_two_stages):
    """Metrics of both directions by :func:`rank_in_two_stages`, or another way to rank."""
    first, final = np.asarray(first), np.asarray(first) + local_weight * np.asarray(second)
    own = [[c for c, image in enumerate(owner) if image == i] for i in range(len(first))]
    i2t = [rank(*(m[i].tolist() for m in (first, final)), own[i], shortlist) for i in range(len(first))]
    t2i = [rank(*(m[:, c].tolist() for m in (first, final)), [owner[c]], shortlist) for c in range(len(owner))]
    expected = {}
    for name, ranks in (("i2t", np.array(i2t)), ("t2i", np.array(t2i))):
        expected |= {f"{name}_r{k}": 100 * float((ranks <= k).mean()) for k in (1, 5, 10)}
        expected |= {f"{name}_medr": float(np.median(ranks)), f"{name}_meanr": float(ranks.mean())}
    return expected | {"rsum": sum(v for name, v in expected.items() if "_r" in name)}


def two_stage_cases():
    """Few and many images, one caption or several, unsorted owners; numbers without ties and small integers."""
    for seed, (images, captions) in enumerate([(1, 1), (1, 3), (4, 1), (3, 2), (5, 3), (12, 2)]):
        rng = np.random.default_rng(seed)
        owner = rng.permutation(np.repeat(np.arange(images), captions))
        for draw in (rng.normal, lambda size, rng=rng: rng.integers(0, 7, size).astype(float)):
            first, second = draw(size=(images, len(owner))), draw(size=(images, len(owner)))
            for shortlist in (1, 2, 3, 5, 100):
                yield {
                    "global_scores": first,
                    "local_scores": second,
                    "image_of_caption": owner,
                    "shortlist": shortlist,
                }


def two_stages_off_by(metrics, rank=rank_in_two_stages, cases=None):
    errors = []
    for case in two_stage_cases() if cases is None else cases:
        expected = two_stage_specification(*case.values(), rank=rank)
        found = metrics(**case)
        errors += [abs(found[name] - expected[name]) for name in expected]
    return max(errors)


def ours(**case):
    return two_stage_metrics(**case).as_dict()


def test_two_stages_agree_with_plain_loops():
    assert two_stages_off_by(ours) < 1e-9


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_two_stages_agree_with_plain_loops_on_anything(data):
    counts = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=4))
    owner = np.random.default_rng(data.draw(st.integers(0, 9))).permutation(np.repeat(np.arange(len(counts)), counts))
    values = st.lists(st.integers(-1, 1), min_size=len(counts) * len(owner), max_size=len(counts) * len(owner))
    first, second = (np.array(data.draw(values), float).reshape(len(counts), -1) for _ in range(2))
    case = (first, second, owner, data.draw(st.integers(1, len(owner) + 1)))
    weight = data.draw(st.sampled_from([1.0, 0.5, 0.0, -1.0]))
    found, expected = (
        two_stage_metrics(*case, local_weight=weight).as_dict(),
        two_stage_specification(*case, local_weight=weight),
    )
    assert found == pytest.approx(expected, abs=1e-9)


def test_two_stages_by_hand():
    owner = np.array([0, 0, 1])
    first = np.array([[0.5, 0.6, 0.7], [0.9, 0.8, 0.1]])
    second = np.array([[0.9, 0.0, 0.1], [0.0, 0.0, 5.0]])
    metrics = two_stage_metrics(first, second, owner, 2)
    # Image 0 looks at captions 2 (0.8) and 1 (0.6): second, though caption 0 (1.4) would be first. Image 1 looks at 0
    # and 1 and misses its caption 2, which would be first by far, and stays third.
    assert (metrics.i2t_r1, metrics.i2t_medr, metrics.i2t_meanr) == (0, 2.5, 2.5)
    # Two images are all of them. Caption 0: 1.4 > 0.9; caption 1: 0.6 < 0.8; caption 2: 5.1 > 0.8.
    assert metrics.t2i_r1 == pytest.approx(200 / 3) and metrics.t2i_meanr == pytest.approx(4 / 3)
    assert two_stage_metrics(first, second, owner, 3).i2t_r1 == 100
    assert two_stage_metrics(first, second, owner, 1).i2t_meanr == 2.5  # caption 1 stays second, caption 2 third
    assert two_stage_metrics(first, second, owner, 2, local_weight=0.0) == retrieval_metrics(first, owner)


def test_ties_at_the_edge_of_the_shortlist_go_against_the_model():
    owner, first = np.array([0, 1, 2, 3]), np.zeros((4, 4))
    second = np.diag([9.0, 9.0, 9.0, 9.0]) + np.array([0.0, 1.0, 2.0, 3.0])
    # All are level: with three places the three false candidates take them, and the true one is missed.
    metrics = two_stage_metrics(first, second, owner, 3)
    assert metrics.rsum == 400 and metrics.i2t_meanr == metrics.t2i_meanr == 4  # R@1 is 0 both ways
    assert two_stage_metrics(first, second, owner, 4).t2i_r1 == 100
    # Caption 0 is surely in; one of 1, 2 and 3 is. The one that beats it is taken.
    first, owner = np.array([[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]), np.array([0, 1, 1, 1])
    second = np.array([[1.0, 0.0, 5.0, 0.0], [0.0] * 4])
    assert two_stage_metrics(first, second, owner, 2).i2t_meanr == (2 + 2) / 2
    second[0, 2] = 0  # now none beats it
    assert two_stage_metrics(first, second, owner, 2).i2t_meanr == (1 + 2) / 2


def test_a_collapsed_model_scores_nothing_in_two_stages():
    owner = np.repeat(np.arange(20), 5)
    for shortlist in (1, 10, 100):
        metrics = two_stage_metrics(np.zeros((20, 100)), np.zeros((20, 100)), owner, shortlist)
        assert metrics == retrieval_metrics(np.zeros((20, 100)), owner) and metrics.rsum == 0


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("weight", [1.0, 0.3, 0.0])
def test_a_shortlist_of_everything_is_the_exhaustive_ranking(ties, weight):
    rng = np.random.default_rng(0)
    owner = rng.permutation(np.repeat(np.arange(30), 3))
    first, second = (rng.normal(size=(30, 90)) for _ in range(2))
    if ties:
        first, second = first.round(), second.round()
    for shortlist in (90, 91, 10**9):
        found = two_stage_metrics(first, second, owner, shortlist, local_weight=weight)
        assert found == retrieval_metrics(first + weight * second, owner)


def test_what_is_outside_the_shortlist_has_no_say():
    rng = np.random.default_rng(1)
    first, owner = rng.normal(size=(8, 16)), rng.permutation(np.repeat(np.arange(8), 2))
    second = rng.normal(size=first.shape)
    in_rows = first >= np.sort(first, axis=1)[:, [-3]]
    in_columns = first >= np.sort(first, axis=0)[[-3]]
    moved = np.where(in_rows | in_columns, second, 1e6 * rng.normal(size=first.shape))
    assert two_stage_metrics(first, moved, owner, 3) == two_stage_metrics(first, second, owner, 3)


def test_order_does_not_matter_in_two_stages():
    rng = np.random.default_rng(2)
    first, second = rng.integers(0, 4, (2, 4, 20)).astype(float)
    rows, columns = rng.permutation(4), rng.permutation(20)
    moved = (m[rows][:, columns] for m in (first, second))
    expected = two_stage_metrics(first, second, OWNER, 6)
    assert two_stage_metrics(*moved, np.argsort(rows)[OWNER[columns]], 6) == expected


def test_many_rows_in_blocks_any_kind_of_number_and_inputs_stay():
    rng = np.random.default_rng(3)
    owner = rng.permutation(np.r_[np.arange(300), np.arange(30)])  # more rows than one block
    first, second = rng.integers(0, 9, (2, 300, 330))
    kept = first.copy(), second.copy()
    expected = two_stage_metrics(first.astype(float), second.astype(float), owner, 20)
    assert np.array_equal(first, kept[0]) and np.array_equal(second, kept[1])
    for kind in (np.int64, np.uint8, np.float32, ">f4"):
        assert two_stage_metrics(first.astype(kind), second.astype(kind), owner, 20) == expected
    tensors = torch.from_numpy(first).bfloat16(), torch.from_numpy(second).half()
    assert two_stage_metrics(*tensors, torch.from_numpy(owner), np.int64(20)) == expected
    assert expected.as_dict() == pytest.approx(
        two_stages_by_sorting(first.astype(float), second.astype(float), owner, 20), abs=1e-9
    )


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("step, weight", [(1e-4, 1.0), (100.0, 1000.0)])
def test_scores_in_16_bits_are_added_in_32(kind, step, weight):
    """In 16 bits the sums would be level, or infinite: all of them misses, since a tie counts against the model."""
    first, second = torch.ones(3, 3).to(kind), (step * (1 + torch.eye(3))).to(kind)
    metrics = two_stage_metrics(first, second, np.arange(3), 3, local_weight=weight)
    assert metrics.i2t_r1 == metrics.t2i_r1 == 100


def two_stages_by_sorting(first, second, owner, places, local_weight=1.0):
    """A second way to the same: order the candidates as the docstring says, cut, order again, look who is where."""

    def rank(first, final, own, places):
        false_first = sorted(
            range(len(first)), key=lambda c: (-first[c], c in own, final[c] if c in own else -final[c])
        )
        near, far = false_first[:places], false_first[places:]
        order = sorted(near, key=lambda c: (-final[c], c in own)) + far
        place = next(p for p, c in enumerate(order) if c in own)
        return 1 + place if place < places else 1 + sum(c not in own for c in order[:place])

    return two_stage_specification(first, second, owner, places, local_weight, rank)


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_two_stages_agree_with_sorted_candidates_on_anything(data):
    """Longer lists and more levels than the loops over every shortlist have time for, ties in both stages."""
    counts = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=8))
    owner = np.array(data.draw(st.permutations(np.repeat(np.arange(len(counts)), counts).tolist())))
    seed, levels = data.draw(st.integers(0, 999)), data.draw(st.integers(1, 6))
    first, second = np.random.default_rng(seed).integers(0, levels, (2, len(counts), len(owner))).astype(float)
    case = (first, second, owner, data.draw(st.integers(1, len(owner) + 1)))
    weight = data.draw(st.sampled_from([1.0, 0.5, 0.0, -1.0]))
    found = two_stage_metrics(*case, local_weight=weight).as_dict()
    assert found == pytest.approx(two_stages_by_sorting(*case, weight), abs=1e-9)


# --- what people write instead ---------------------------------------------------------------------------------------


def variant(miss="global", by="both", ties="against", one_to_one=False):
    """A way to rank by sorting, with one mistake; without any it is right where there are no ties."""

    def rank(first, final, own, places):
        own = own[:1] if one_to_one else own
        last = (lambda c: c in own) if ties == "against" else (lambda c: c not in own)
        order = sorted(range(len(first)), key=lambda c: (-first[c], last(c)))
        near = order[:places]
        if by == "local":
            final = [f - g for f, g in zip(final, first, strict=True)]
        near.sort(key=lambda c: (-final[c], last(c)))
        found = [p for p, c in enumerate(near) if c in own]
        if found:
            return 1 + found[0]
        if miss == "hit":
            return 0
        if miss == "last in the shortlist":
            return len(near)
        if miss == "just behind the shortlist":
            return places + 1
        if miss == "last of all":
            return len(first)
        best = max(first[c] for c in own)
        return 1 + sum(s >= best if ties == "against" else s > best for c, s in enumerate(first) if c not in own)

    return rank


NO_TIES = [case for case in two_stage_cases() if case["global_scores"].max() % 1]

WRONG_TWO_STAGES = {
    "a miss is a hit at every K (the released code)": variant(miss="hit"),
    "a miss is last in the shortlist": variant(miss="last in the shortlist"),
    "a miss is just behind the shortlist": variant(miss="just behind the shortlist"),
    "a miss is last of all": variant(miss="last of all"),
    "ordered by the local score alone": variant(by="local"),
    "one caption an image": variant(one_to_one=True),
    "no second stage": lambda first, final, own, places: rank_in_two_stages(first, first, own, places),
    "no first stage": lambda first, final, own, places: rank_in_two_stages(first, final, own, len(first)),
    "the shortlist is one too long": lambda first, final, own, places: rank_in_two_stages(
        first, final, own, places + 1
    ),
}


def test_the_ranking_without_a_mistake_is_right():
    assert NO_TIES and two_stages_off_by(ours, variant(), NO_TIES) < 1e-9


@pytest.mark.parametrize("mistake", WRONG_TWO_STAGES)
def test_wrong_two_stages_are_told_from_it(mistake):
    assert two_stages_off_by(ours, WRONG_TWO_STAGES[mistake], NO_TIES) > 1e-3


def test_ties_for_the_model_are_told_from_it():
    assert two_stages_off_by(ours, variant(ties="for")) > 1e-3


def test_a_miss_that_counts_as_a_hit_inflates_recall():
    rng = np.random.default_rng(5)
    first, second, owner = *rng.normal(size=(2, 40, 200)), np.repeat(np.arange(40), 5)
    released = two_stage_specification(first, second, owner, 2, rank=variant(miss="hit"))
    assert released["t2i_r1"] > 90 and two_stage_metrics(first, second, owner, 2).t2i_r1 < 10


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"global_scores": np.full((2, 3), np.nan)}, "global_scores holds NaN"),
        ({"local_scores": np.full((2, 3), np.nan)}, "local_scores holds NaN"),
        ({"local_scores": np.zeros((3, 2))}, "local_scores has shape"),
        ({"local_scores": np.zeros(3)}, "local_scores has shape"),
        ({"global_scores": np.zeros((2, 0))}, "global_scores has shape"),
        ({"image_of_caption": [0, 1]}, "a column of global_scores"),
        ({"image_of_caption": [0, 1, 2]}, "the rows of global_scores"),
        ({"image_of_caption": [0, 0, 0]}, "image 1 no caption"),
        ({"shortlist": 0}, "shortlist is 0"),
        ({"shortlist": -1}, "shortlist is -1"),
        ({"shortlist": 1.5}, "shortlist is 1.5"),
        ({"shortlist": None}, "shortlist is None"),
        ({"shortlist": float("inf")}, "shortlist is inf"),
        ({"local_weight": float("nan")}, "local_weight is nan"),
        ({"local_weight": float("inf")}, "local_weight is inf"),
        ({"local_weight": "1"}, "local_weight is '1'"),
        ({"global_scores": np.full((2, 3), np.inf), "local_scores": np.full((2, 3), -np.inf)}, "cancel"),
    ],
)
def test_two_stages_bad_input(change, message):
    given = {"global_scores": np.zeros((2, 3)), "local_scores": np.zeros((2, 3)), "image_of_caption": [0, 0, 1]}
    given = given | {"shortlist": 2} | change
    with pytest.raises(ValueError, match=message):
        two_stage_metrics(**given | {"image_of_caption": np.array(given["image_of_caption"])})


def test_structure_agreement_by_hand_and_against_numpy():
    images = torch.tensor([[1.0, 0.5, 0.0], [0.5, 1.0, 0.2], [0.0, 0.2, 1.0]])
    texts = torch.tensor([[1.0, 0.1, 0.3], [0.1, 1.0, 0.2], [0.3, 0.2, 1.0]])
    found = structure_agreement(images, texts)
    assert found["structure_gap"] == pytest.approx((0.4 + 0.4 + 0.3) / 3, abs=1e-7)
    assert found["structure_correlation"] == pytest.approx(np.corrcoef([0.5, 0.0, 0.2], [0.1, 0.3, 0.2])[0, 1])
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=(40, 40)) for _ in range(2))
    a, b = a + a.T, a + a.T + b + b.T
    pairs = [(a[i, j], b[i, j]) for i in range(40) for j in range(i + 1, 40)]
    found = structure_agreement(a, torch.from_numpy(b))
    assert found["structure_correlation"] == pytest.approx(np.corrcoef(np.array(pairs).T)[0, 1], abs=1e-12)
    assert found["structure_gap"] == pytest.approx(np.mean([max(abs(b[:, j] - a[:, j])) for j in range(40)]), abs=1e-12)
    order = rng.permutation(40)
    again = structure_agreement(a[order][:, order], b[order][:, order])
    assert again == pytest.approx(found, abs=1e-12)


def test_structure_of_a_collapsed_model_and_of_bad_input():
    same = np.full((4, 4), 0.3)
    assert structure_agreement(same, np.eye(4) * 0.1 + same) == {
        "structure_gap": pytest.approx(0.1),
        "structure_correlation": 0.0,
    }
    for bad, says in [
        ((np.eye(2), np.eye(2)), "at least 3 x 3"),
        ((np.eye(3), np.eye(4)), "square matrices of one size"),
        ((np.ones((3, 4)), np.ones((3, 4))), "square"),
        ((np.eye(3), np.where(np.eye(3) > 0, np.nan, 0)), "NaN"),
    ]:
        with pytest.raises(ValueError, match=says):
            structure_agreement(*bad)


def test_the_shortest_shortlist_is_that_of_a_walk_through_the_lengths():
    for case in choose_cases():
        assert shortest_shortlist(**case.inputs) == choose_specification(**case.inputs)


def test_the_best_weight_is_that_of_loops():
    for case in weight_cases():
        assert best_weight(**case.inputs) == weight_specification(**case.inputs)


def test_flawed_evaluations_are_worth_what_their_flaw_is():
    scores = np.array([[3.0, 0.0, 2.0, 2.0], [1.0, 1.0, 2.0, 2.0]])  # captions 0 and 1 are image 0's, 2 and 3 image 1's
    owner = np.array([0, 0, 1, 1])
    assert retrieval_metrics(scores, owner).t2i_r1 == 25
    assert flawed.ties_for_the_model(scores, owner) == 75
    assert flawed.one_caption_each(scores, owner) == 50
    assert flawed.best_of_five_folds(scores, owner) == 100
    assert flawed.misses_as_hits(scores, owner) == 25
    last = np.arange(11.0)[:, None] @ np.ones((1, 11))  # each picture above the one before it
    assert flawed.misses_as_hits(last, np.arange(11)) == pytest.approx(200 / 11)  # the first of them, and the last


def test_a_small_case_finds_each_flaw():
    found = {
        name: flawed.find_the_flaw(getattr(flawed, name))
        for name in ("ties_for_the_model", "one_caption_each", "best_of_five_folds", "misses_as_hits")
    }
    assert list(found.values()) == ["ties", "one caption", "folds", "misses"]
    assert flawed.find_the_flaw(lambda scores, owner: retrieval_metrics(scores, owner).t2i_r1) == "none"


def test_the_mean_of_folds_is_that_of_searches_among_their_own(monkeypatch):
    """COCO's 1K: against five searches cut out by hand; scores between folds change nothing."""
    rng = np.random.default_rng(0)
    owner = np.repeat(np.arange(20), rng.integers(1, 4, 20))
    scores = rng.normal(size=(20, len(owner))) + 2 * (owner == np.arange(20)[:, None])
    folds = []
    for start in range(0, 20, 4):
        own = (owner >= start) & (owner < start + 4)
        folds.append(retrieval_metrics(scores[start : start + 4][:, own], owner[own] - start).as_dict())
    expected = {name: np.mean([fold[name] for fold in folds]) for name in folds[0]}
    apart = np.where(owner // 4 == np.arange(20)[:, None] // 4, scores, np.nan)
    shuffled = rng.permutation(len(owner))
    for matrix, owners in ((scores, owner), (apart, owner), (scores[:, shuffled], owner[shuffled])):
        assert fold_metrics(matrix, owners, 5).as_dict() == pytest.approx(expected)
    assert fold_metrics(scores, owner, 1) == retrieval_metrics(scores, owner)
    assert fold_metrics(scores, owner).t2i_r1 > retrieval_metrics(scores, owner).t2i_r1  # a smaller gallery
    with pytest.raises(ValueError, match="20 images do not divide into 3 folds"):
        fold_metrics(scores, owner, 3)
    with pytest.raises(ValueError, match="scores has shape .20, 3., expected a column for each"):
        fold_metrics(scores[:, :3], owner)


def test_folds_of_two_stages_see_a_block_at_a_time():
    rng = np.random.default_rng(1)
    owner = np.repeat(np.arange(12), 2)
    first, second = rng.normal(size=(2, 12, 24))
    seen = []

    def measure(rows, columns, own):
        seen.append((rows.tolist(), columns.tolist()))
        block = np.ix_(rows, columns)
        return two_stage_metrics(first[block], second[block], own, 2)

    found = mean_over_folds(12, owner, 3, measure)
    by_hand = [
        two_stage_metrics(first[a : a + 4, 2 * a : 2 * a + 8], second[a : a + 4, 2 * a : 2 * a + 8], owner[:8], 2)
        for a in (0, 4, 8)
    ]
    assert found.i2t_r1 == pytest.approx(np.mean([fold.i2t_r1 for fold in by_hand]))
    assert seen == [(list(range(a, a + 4)), list(range(2 * a, 2 * a + 8))) for a in (0, 4, 8)]
