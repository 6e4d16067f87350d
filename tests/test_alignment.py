"""alignment_scores against plain loops from the formulas, finite differences, and variants known to be wrong."""

from __future__ import annotations

import itertools
import math
import weakref

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from itr_lib.similarity import TERAN_POOLING, Alignment, alignment_scores, mrsw_plainly, pool_codes, precision

OPTIONS = list(
    itertools.product(("regions", "words", "both"), ("hard", "soft"), ("sum", "mean", "max", "lse", "softmax"))
)
WIDE = 2**28


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def code_of(fragment, codebook, coding, temperature):
    dots = [dot(fragment, element) for element in codebook]
    if coding == "hard":
        return max(dots)
    weights = [math.exp(d / temperature) for d in dots]
    attended = [
        sum(w * element[k] for w, element in zip(weights, codebook, strict=True)) / sum(weights)
        for k in range(len(fragment))
    ]
    return dot(fragment, attended) / (math.sqrt(dot(attended, attended)) + 1e-8)


def pooled(codes, pooling, beta):
    if pooling == "sum":
        return sum(codes)
    if pooling == "mean":
        return sum(codes) / len(codes)
    if pooling == "max":
        return max(codes)
    weights = [math.exp(c / beta) for c in codes]
    if pooling == "lse":
        return math.log(sum(weights))
    return sum(w * c for w, c in zip(weights, codes, strict=True)) / sum(weights)


def one_pair(regions, words, attend, coding, pooling, temperature, beta):
    if not regions or not words:
        return 0.0
    score = 0.0
    if attend in ("regions", "both"):
        score += pooled([code_of(w, regions, coding, temperature) for w in words], pooling, beta)
    if attend in ("words", "both"):
        score += pooled([code_of(r, words, coding, temperature) for r in regions], pooling, beta)
    return score


def by_loops(regions, words, region_mask, word_mask, attend, coding, pooling, temperature=0.1, beta=0.1):
    images, captions = real_ones(regions, region_mask), real_ones(words, word_mask)
    how = (attend, coding, pooling, temperature, beta)
    return torch.tensor([[one_pair(i, c, *how) for c in captions] for i in images], dtype=torch.float64)


def real_ones(vectors, mask):
    return [row[real].tolist() for row, real in zip(vectors, mask, strict=True)]


def sets(count, width, dim, seed, full=False):
    g = torch.Generator().manual_seed(seed)
    vectors = F.normalize(torch.randn(count, width, dim, generator=g, dtype=torch.float64), dim=-1)
    mask = torch.rand(count, width, generator=g) < 0.6
    if full:
        mask[:] = True
    return vectors, mask


@pytest.fixture
def pair():
    regions, region_mask = sets(4, 5, 6, seed=0)
    words, word_mask = sets(6, 4, 6, seed=1)
    region_mask[1], word_mask[2] = False, False  # an image and a caption that are all padding
    region_mask[2] = torch.tensor([False, False, True, False, False])  # one element, not in front
    regions[~region_mask] = 1e3  # whatever stands in padding
    words[~word_mask] = -1e3
    return regions, words, region_mask, word_mask


@pytest.mark.parametrize(("attend", "coding", "pooling"), OPTIONS)
def test_agrees_with_plain_loops(pair, attend, coding, pooling):
    expected = by_loops(*pair, attend, coding, pooling)
    for budget in (WIDE, 1500, 1):  # one block, a few, one pair of sets at a time
        found = alignment_scores(*pair, attend=attend, coding=coding, pooling=pooling, memory_budget=budget)
        assert torch.allclose(found, expected, rtol=0, atol=1e-9)


def test_mrsw_in_plain_lines_is_the_engine(pair):
    regions, words, region_mask, word_mask = pair
    plainly = [
        [mrsw_plainly(image[0], caption[0], image[1], caption[1]) for caption in zip(words, word_mask, strict=True)]
        for image in zip(regions, region_mask, strict=True)
    ]
    assert torch.allclose(alignment_scores(*pair), torch.tensor(plainly).double(), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("attend", "coding", "pooling"), OPTIONS)
def test_an_alignment_is_the_engine_with_its_options(pair, attend, coding, pooling):
    options = {"attend": attend, "coding": coding, "pooling": pooling, "temperature": 0.3, "beta": 0.2}
    assert torch.equal(Alignment(**options).scores(*pair), alignment_scores(*pair, **options))


def test_the_numbers_of_an_alignment_are_pythons_whatever_came():
    how = Alignment(temperature=np.float32(0.25), beta=1)
    assert (how, type(how.temperature), type(how.beta)) == (Alignment(temperature=0.25, beta=1.0), float, float)


@pytest.mark.parametrize(
    "option", [{"attend": "MrSw"}, {"coding": "x"}, {"pooling": "x"}, {"beta": 0}, {"temperature": -1}]
)
def test_an_alignment_that_is_none_is_refused_at_once(option):
    with pytest.raises(ValueError, match=f"{next(iter(option))} is"):
        Alignment(**option)


@pytest.mark.parametrize(("attend", "coding", "pooling"), OPTIONS)
def test_gradients_agree_with_finite_differences(pair, attend, coding, pooling):
    regions, words, region_mask, word_mask = (some[:3] for some in pair)
    inputs = [vectors[..., :4].clamp(-1, 1).requires_grad_() for vectors in (regions, words)]

    def scores(r, w, budget):
        how = {"attend": attend, "coding": coding, "pooling": pooling, "memory_budget": budget}
        return alignment_scores(r, w, region_mask, word_mask, **how)

    for budget in (WIDE, 1500):
        assert torch.autograd.gradcheck(lambda r, w, b=budget: scores(r, w, b), inputs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("coding", ["hard", "soft"])
def test_other_temperatures(pair, coding):
    found = alignment_scores(*pair, attend="both", coding=coding, pooling="softmax", temperature=0.7, beta=0.3)
    assert torch.allclose(found, by_loops(*pair, "both", coding, "softmax", 0.7, 0.3), rtol=0, atol=1e-9)


def test_teran_pooling_by_hand():
    # alignments [[0.9, -0.2, 0.1], [0.3, 0.5, -0.4]]: regions down, words across
    regions = torch.eye(2)[None]
    words = torch.tensor([[[0.9, 0.3], [-0.2, 0.5], [0.1, -0.4]]])
    expected = {"MrSw": 0.9 + 0.5 + 0.1, "MrAVGw": 1.5 / 3, "MwSr": 0.9 + 0.5, "Symm": 1.5 + 1.4}
    for name, value in expected.items():
        assert alignment_scores(regions, words, **TERAN_POOLING[name]).item() == pytest.approx(value, abs=1e-6)
    assert set(TERAN_POOLING) == set(expected)


def test_soft_coding_by_hand():
    # two regions alike to the word: attention 1/2 each, attended vector (0.5, 0.5), cosine 0.6 * sqrt(2)
    score = alignment_scores(torch.eye(2)[None], torch.tensor([[[0.6, 0.6]]]), coding="soft")
    assert score.item() == pytest.approx(0.6 * math.sqrt(2), abs=1e-6)


def wrong_padding_as_zero(regions, words, region_mask, word_mask):
    """The released code fills padded alignments with 0 before the max."""
    dots = torch.einsum("nrd,mwd->nmrw", regions, words)
    real = region_mask[:, None, :, None] & word_mask[None, :, None, :]
    return dots.masked_fill(~real, 0).amax(2).sum(-1)


def wrong_padding_multiplied(regions, words, region_mask, word_mask):
    return torch.einsum("nrd,mwd->nmrw", regions, words).amax(2).sum(-1)


def wrong_axis(regions, words, region_mask, word_mask):
    dots = torch.einsum("nrd,mwd->nmrw", regions, words)
    real = region_mask[:, None, :, None] & word_mask[None, :, None, :]
    best = dots.masked_fill(~real, -torch.inf).amax(3)
    return best.masked_fill(best == -torch.inf, 0).sum(-1)


@pytest.mark.parametrize("wrong", [wrong_padding_as_zero, wrong_padding_multiplied, wrong_axis])
def test_the_oracle_tells_known_mistakes(pair, wrong):
    regions, words, region_mask, word_mask = pair
    inputs = (regions.clamp(-1, 1), words.clamp(-1, 1), region_mask, word_mask)
    assert not torch.allclose(wrong(*inputs), by_loops(*inputs, "regions", "hard", "sum"), rtol=0, atol=1e-3)


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.tuples(*[st.integers(1, 6)] * 5),
    budget=st.integers(1, 4000),
    option=st.sampled_from(OPTIONS),
    seed=st.integers(0, 2**16),
)
def test_blocks_change_nothing(sizes, budget, option, seed):
    images, captions, width, length, dim = sizes
    regions, region_mask = sets(images, width, dim, seed)
    words, word_mask = sets(captions, length, dim, seed + 1)
    how = dict(zip(("attend", "coding", "pooling"), option, strict=True))
    whole = alignment_scores(regions, words, region_mask, word_mask, **how)
    assert whole.isfinite().all()
    parts = alignment_scores(regions, words, region_mask, word_mask, **how, memory_budget=budget)
    assert torch.allclose(whole, parts, rtol=0, atol=1e-12)
    # who stands where in a set, or how wide its padding is, says nothing
    order = torch.randperm(width, generator=torch.Generator().manual_seed(seed))
    padded = F.pad(regions[:, order], (0, 0, 0, 2), value=7.0), F.pad(region_mask[:, order], (0, 2))
    moved = alignment_scores(padded[0], words, padded[1], word_mask, **how)
    assert torch.allclose(whole, moved, rtol=0, atol=1e-9)


def test_no_mask_means_all_real():
    regions, _ = sets(3, 4, 5, 0)
    words, _ = sets(2, 3, 5, 1)
    full = [torch.ones(vectors.shape[:2], dtype=torch.bool) for vectors in (regions, words)]
    for option in OPTIONS:
        how = dict(zip(("attend", "coding", "pooling"), option, strict=True))
        assert torch.equal(alignment_scores(regions, words, **how), alignment_scores(regions, words, *full, **how))


@pytest.mark.parametrize("shape", [(0, 3), (2, 0)])
def test_nothing_scores_nothing(shape):
    regions = torch.zeros(*shape, 4, requires_grad=True)
    words = torch.ones(3, 2, 4, requires_grad=True)
    for attend in ("regions", "words", "both"):
        scores = alignment_scores(regions, words, attend=attend)
        assert torch.equal(scores, torch.zeros(shape[0], 3))
        scores.sum().backward()
        assert not words.grad.any()


@pytest.mark.parametrize("coding", ["hard", "soft"])
@pytest.mark.parametrize("pooling", ["sum", "lse", "softmax"])
def test_gradients_stay_finite_at_zero_vectors_and_empty_sets(coding, pooling):
    regions = torch.zeros(3, 4, 5, requires_grad=True)
    words = torch.zeros(2, 3, 5, requires_grad=True)
    mask = torch.tensor([[True] * 4, [False] * 4, [True, False, False, False]])
    alignment_scores(regions, words, mask, attend="both", coding=coding, pooling=pooling).sum().backward()
    assert regions.grad.isfinite().all() and words.grad.isfinite().all()


def test_only_the_winner_receives_a_gradient():
    regions = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [0.9, 0.0]]], requires_grad=True)
    words = torch.tensor([[[0.8, 0.1]]], requires_grad=True)
    alignment_scores(regions, words).sum().backward()
    assert torch.equal(regions.grad, torch.tensor([[[0.8, 0.1], [0.0, 0.0], [0.0, 0.0]]]))
    assert torch.equal(words.grad, torch.tensor([[[1.0, 0.0]]]))


@pytest.mark.parametrize(("kind", "nearly", "tolerance"), [(torch.float32, 1e-5, 1e-3), (torch.bfloat16, 1e-2, 0.05)])
def test_regions_that_nearly_cancel_each_other(kind, nearly, tolerance):
    g = torch.Generator().manual_seed(0)
    one = F.normalize(torch.randn(6, 1, 8, generator=g), dim=-1)
    other = F.normalize(nearly * torch.randn(6, 1, 8, generator=g) - one, dim=-1)
    regions = torch.cat([one, other], dim=1).to(kind)
    words = torch.randn(5, 1, 8, generator=g)
    words = F.normalize(words - (words @ one[0].mT) * one[0], dim=-1).to(kind)  # at right angles to the first pair
    full = torch.ones(6, 2, dtype=torch.bool), torch.ones(5, 1, dtype=torch.bool)
    expected = by_loops(regions.double(), words.double(), *full, "regions", "soft", "sum")
    found = alignment_scores(regions, words, coding="soft")
    assert torch.allclose(found.double(), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("coding", ["hard", "soft"])
def test_one_side_may_be_frozen_and_laid_out_in_any_way(pair, side, coding):
    regions, words, *masks = pair
    frozen = [vectors.clamp(-1, 1).mT.contiguous().mT for vectors in (regions, words)]  # strides of another order
    both = [vectors.clone().requires_grad_() for vectors in frozen]
    alignment_scores(*both, *masks, attend="both", coding=coding).sum().backward()
    frozen[side].requires_grad_()
    alignment_scores(*frozen, *masks, attend="both", coding=coding).sum().backward()
    assert torch.allclose(frozen[side].grad, both[side].grad, rtol=0, atol=1e-12) and frozen[1 - side].grad is None


def test_inputs_are_left_alone(pair):
    before = [tensor.clone() for tensor in pair]
    alignment_scores(*pair, attend="both", coding="soft")
    assert all(torch.equal(a, b) for a, b in zip(before, pair, strict=True))


@pytest.mark.parametrize("coding", ["hard", "soft"])
@pytest.mark.parametrize(("kind", "tolerance"), [(torch.float32, 2e-6), (torch.bfloat16, 0.05), (torch.float16, 2e-3)])
def test_other_kinds_of_float(pair, kind, tolerance, coding):
    regions, words, region_mask, word_mask = pair
    exact = by_loops(*pair, "regions", coding, "sum")
    given_ = [vectors.to(kind).requires_grad_() for vectors in (regions, words)]
    found = alignment_scores(*given_, region_mask, word_mask, coding=coding)
    assert found.dtype == torch.float32 and torch.allclose(found.double(), exact, rtol=0, atol=tolerance)
    found.sum().backward()
    assert given_[0].grad.dtype == kind and given_[0].grad.isfinite().all()


class LiveMemory(TorchDispatchMode):
    """Bytes of the tensors that live at the same time, at most; those that were there before do not count."""

    def __init__(self, there):
        super().__init__()
        self.now, self.most, self.seen = 0, 0, {tensor.untyped_storage().data_ptr() for tensor in there}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                if storage.data_ptr() not in self.seen and storage.nbytes():
                    self.seen.add(storage.data_ptr())
                    self.now += storage.nbytes()
                    self.most = max(self.most, self.now)
                    weakref.finalize(storage, self.freed, storage.data_ptr(), storage.nbytes())
        return result

    def freed(self, pointer, size):
        self.seen.discard(pointer)
        self.now -= size


@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize("coding", ["hard", "soft"])
@pytest.mark.parametrize("sizes", [(64, 36, 80, 20), (300, 1, 300, 12), (300, 36, 40, 1), (1500, 36, 1, 20)])
def test_memory_stays_within_the_budget(sizes, coding, gradients):
    images, width, captions, length = sizes
    inputs = [sets(*shape, 8, 0)[0].float() for shape in (sizes[:2], sizes[2:])]
    inputs = [vectors.requires_grad_(gradients) for vectors in inputs]
    most = {}
    for budget in (WIDE, 2**20):
        with LiveMemory(inputs) as memory:
            scores = alignment_scores(*inputs, coding=coding, memory_budget=budget)
            if gradients:
                scores.sum().backward()
        most[budget] = memory.most
    result, given_ = 4 * images * captions, 4 * sum(vectors.numel() for vectors in inputs)
    codes = 4 * images * captions * length
    kept = 2 * codes * (gradients and coding == "hard")  # for the backward pass: a code and a winner each
    assert most[WIDE] > 2**20 + result  # the budget is one that binds
    assert most[2**20] <= 2**20 + result + 3 * given_ * gradients + kept


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"regions": torch.zeros(2, 3)}, "regions has shape"),
        ({"words": torch.zeros(4, 2, 5)}, "vectors of 5 numbers, expected 3"),
        ({"words": torch.zeros(4, 2, 3).double()}, "words is torch.float64"),
        ({"regions": torch.zeros(2, 3, 3, dtype=torch.long)}, "regions holds torch.int64"),
        ({"region_mask": torch.ones(2, 4, dtype=torch.bool)}, "region_mask has shape"),
        ({"region_mask": np.ones((2, 3), bool)}, r"region_mask is a ndarray, expected a tensor of shape \(2, 3\)"),
        ({"word_mask": torch.ones(4, 2)}, "word_mask holds torch.float32"),
        ({"attend": "images"}, "attend is 'images', expected one of 'regions', 'words', 'both'"),
        ({"coding": "harder"}, "coding is 'harder'"),
        ({"pooling": "avg"}, "pooling is 'avg'"),
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"beta": -1.0}, "beta is -1.0"),
        ({"memory_budget": 0}, "memory_budget is 0"),
    ],
)
def test_bad_input(changes, message):
    arguments = {"regions": torch.zeros(2, 3, 3), "words": torch.zeros(4, 2, 3)} | changes
    with pytest.raises(ValueError, match=message):
        alignment_scores(**arguments)


@pytest.mark.parametrize(
    ("pooling", "beta", "message"), [("avg", 0.1, "pooling is 'avg'"), ("lse", 0.0, "beta is 0.0")]
)
def test_a_pooling_that_is_none_is_refused(pooling, beta, message):
    with pytest.raises(ValueError, match=message):
        pool_codes(torch.zeros(2, 3), pooling, beta)


@pytest.mark.parametrize(("half", "expected"), [(0.5, torch.bfloat16), (0.7, torch.float32), (2.0, torch.float32)])
def test_bfloat16_has_to_be_clearly_faster(monkeypatch, half, expected):
    taken = iter([1.0] * 4 + [half] * 4)
    monkeypatch.setattr(precision, "seconds", lambda function: next(taken))
    assert precision.fastest_dtype.__wrapped__("cpu") == expected
