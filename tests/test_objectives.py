"""Losses against plain loops, a trusted library, exact cases, and known wrong variants."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from wrong_answers import hardest_false_negatives, nce_rows_only, nce_unmasked

from itr_lib.checks.lesson01 import (
    hardest_cases,
    hardest_specification,
    info_nce_cases,
    info_nce_specification,
    triplet_cases,
    triplet_specification,
)
from itr_lib.objectives import info_nce, triplet_loss

OWNERS = torch.tensor([0, 1, 2, 1, 3, 0])
SAME = OWNERS[:, None] == OWNERS[None, :]


def scores(size: int = 6, seed: int = 0) -> torch.Tensor:
    return torch.randn(size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("case", list(triplet_cases()))
def test_all_negatives_agree_with_plain_loops(case):
    assert abs(triplet_loss(**case, negatives="all") - triplet_specification(**case)) < 1e-9


@pytest.mark.parametrize("case", list(hardest_cases()))
def test_hardest_negatives_agree_with_plain_loops(case):
    assert abs(triplet_loss(**case) - hardest_specification(**case)) < 1e-9


@pytest.mark.parametrize("case", list(info_nce_cases()))
def test_info_nce_agrees_with_plain_loops(case):
    assert abs(info_nce(**case) - info_nce_specification(**case)) < 1e-9


def test_triplet_by_hand():
    matrix = torch.tensor([[0.9, 0.8, 0.1], [0.2, 0.5, 0.6], [0.1, 0.2, 0.7]])
    # Rows: 0.2+0.8-0.9 = 0.1; 0.2+0.6-0.5 = 0.3; none. Columns: none; 0.2+0.8-0.5 = 0.5; 0.2+0.6-0.7 = 0.1.
    assert triplet_loss(matrix).item() == pytest.approx(1.0, abs=1e-6)
    assert triplet_loss(matrix, negatives="all").item() == pytest.approx(1.0, abs=1e-6)
    assert triplet_loss(matrix, margin=0.0).item() == pytest.approx(0.1 + 0.3, abs=1e-6)


def test_info_nce_is_cross_entropy_where_nothing_is_masked():
    matrix, target = scores() / 0.07, torch.arange(6)
    expected = (F.cross_entropy(matrix, target) + F.cross_entropy(matrix.T, target)) / 2
    assert torch.allclose(info_nce(scores(), 0.07), expected, rtol=0, atol=1e-12)


def test_info_nce_of_equal_scores_is_the_log_of_the_candidates():
    assert info_nce(torch.zeros(8, 8)).item() == pytest.approx(torch.log(torch.tensor(8.0)).item(), abs=1e-6)


@pytest.mark.parametrize("loss", [triplet_loss, lambda s, **k: triplet_loss(s, negatives="all", **k), info_nce])
class TestProperties:
    def test_gradient(self, loss):
        matrix = scores().requires_grad_(True)
        assert torch.autograd.gradcheck(lambda s: loss(s, same_image=SAME), (matrix,))

    def test_order_of_the_pairs_does_not_matter(self, loss):
        order = torch.randperm(6, generator=torch.Generator().manual_seed(1))
        permuted = loss(scores()[order][:, order], same_image=SAME[order][:, order])
        assert torch.allclose(loss(scores(), same_image=SAME), permuted, rtol=0, atol=1e-12)

    def test_directions_are_alike(self, loss):
        assert torch.allclose(loss(scores(), same_image=SAME), loss(scores().T, same_image=SAME.T), rtol=0, atol=1e-12)

    def test_the_same_constant_everywhere_changes_nothing(self, loss):
        assert torch.allclose(loss(scores()), loss(scores() + 3), rtol=0, atol=1e-12)

    def test_masked_scores_have_no_say_and_no_gradient(self, loss):
        matrix = scores().requires_grad_(True)
        off_diagonal = SAME & ~torch.eye(6, dtype=torch.bool)
        loss(matrix, same_image=SAME).backward()
        assert (matrix.grad[off_diagonal] == 0).all() and (matrix.grad != 0).any()
        assert loss(scores() + 50 * off_diagonal, same_image=SAME) == loss(scores(), same_image=SAME)

    def test_one_pair_costs_nothing(self, loss):
        assert loss(torch.tensor([[0.3]])) == 0

    def test_input_is_not_changed(self, loss):
        matrix, mask = scores(), SAME.clone()
        loss(matrix, same_image=mask)
        assert torch.equal(matrix, scores()) and torch.equal(mask, SAME)

    @pytest.mark.parametrize("bad", [torch.zeros(2, 3), torch.zeros(3), torch.zeros(2, 2, dtype=torch.long), None])
    def test_bad_scores(self, loss, bad):
        with pytest.raises(ValueError, match="scores"):
            loss(bad)

    @pytest.mark.parametrize("bad", [torch.zeros(2, 2, dtype=torch.bool), torch.zeros(6, 6), torch.zeros(6).bool()])
    def test_bad_mask(self, loss, bad):
        with pytest.raises(ValueError, match="same_image"):
            loss(scores(), same_image=bad)


def test_bad_settings():
    with pytest.raises(ValueError, match="negatives is 'hard'"):
        triplet_loss(scores(), negatives="hard")
    with pytest.raises(ValueError, match="temperature is 0"):
        info_nce(scores(), temperature=0)


def test_known_wrong_variants_differ():
    assert not torch.isclose(triplet_loss(scores(), same_image=SAME), hardest_false_negatives(scores(), 0.2, SAME))
    assert not torch.isclose(info_nce(scores(), 0.05, SAME), nce_unmasked(scores(), 0.05, SAME))
    assert not torch.isclose(info_nce(scores(), 0.05, SAME), nce_rows_only(scores(), 0.05, SAME))


def test_no_overflow_in_float32_at_a_low_temperature():
    matrix = scores().float().requires_grad_(True)
    loss = info_nce(matrix, temperature=1e-3)
    loss.backward()
    assert loss.isfinite() and matrix.grad.isfinite().all()


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("loss", [triplet_loss, lambda s: triplet_loss(s, negatives="all"), info_nce])
def test_16_bit_scores_do_not_overflow_in_the_sum(loss, kind):
    small = torch.zeros(600, 600, dtype=kind)
    assert torch.allclose(loss(small).double(), loss(small.double()), rtol=1e-5)


def test_hardest_negative_alone_gets_gradient():
    matrix = torch.tensor([[0.5, 0.6, 0.4], [0.0, 0.5, 0.0], [0.0, 0.0, 0.5]], requires_grad=True)
    triplet_loss(matrix, margin=0.2).backward()
    assert matrix.grad[0, 1] == 2 and matrix.grad[0, 2] == 1  # (0, 2) is column 2's hardest: 0.2 + 0.4 - 0.5 > 0
    assert matrix.grad[1, 0] == 0
