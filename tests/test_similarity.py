"""Cosine scores against plain Python, exact cases and properties."""

from __future__ import annotations

import pytest
import torch

from itr_lib.checks.cosine_scores import cosine_cases, cosine_specification
from itr_lib.similarity import cosine_scores, l2_normalise


@pytest.mark.parametrize(
    "case", [case.inputs for case in cosine_cases()], ids=lambda case: str(tuple(case["images"].shape))
)
def test_agrees_with_plain_loops(case):
    assert torch.allclose(cosine_scores(**case), cosine_specification(**case), rtol=0, atol=1e-12)


def test_by_hand():
    scores = cosine_scores(torch.tensor([[3.0, 4.0], [0.0, 0.0]]), torch.tensor([[0.0, 2.0], [-6.0, -8.0]]))
    assert torch.allclose(scores, torch.tensor([[0.8, -1.0], [0.0, 0.0]]))


@pytest.mark.parametrize(
    ("kind", "small", "large", "tolerance"),
    [(torch.float64, 1e-200, 1e200, 1e-12), (torch.float32, 1e-30, 1e30, 1e-6), (torch.float16, 1e-3, 1e4, 2e-3)],
)
def test_scale_does_not_matter_however_small_or_large(kind, small, large, tolerance):
    vectors = torch.randn(3, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64).clamp(-3, 3)
    expected = cosine_scores(vectors, vectors)
    scores = cosine_scores((vectors * small).to(kind), (vectors * large).to(kind))
    assert torch.allclose(scores.double(), expected, rtol=0, atol=tolerance)


def test_gradients_are_right_and_finite_at_zero():
    images = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    captions = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(cosine_scores, (images, captions))
    zero = torch.zeros(1, 4, requires_grad=True)
    l2_normalise(zero).sum().backward()
    assert zero.grad.isfinite().all()


@pytest.mark.parametrize(
    ("images", "captions", "message"),
    [
        (torch.zeros(3), torch.zeros(2, 3), "images has shape"),
        (torch.zeros(2, 3), torch.zeros(2, 4), "vectors of 4 numbers, expected 3"),
        (torch.zeros(2, 3, dtype=torch.long), torch.zeros(2, 3), "images holds torch.int64"),
        ([[1.0]], torch.zeros(1, 1), "images is a list"),
        (torch.zeros(2, 0), torch.zeros(3, 0), "vectors of 0 numbers"),
        (torch.zeros(2, 3), torch.zeros(2, 3).half(), "captions is torch.float16 on cpu, expected torch.float32"),
    ],
)
def test_bad_input(images, captions, message):
    with pytest.raises(ValueError, match=message):
        cosine_scores(images, captions)


@pytest.mark.parametrize("kind", [torch.float64, torch.float32, torch.bfloat16])
def test_keeps_the_kind_of_float(kind):
    assert cosine_scores(torch.ones(2, 3, dtype=kind), torch.ones(4, 3, dtype=kind)).dtype == kind
