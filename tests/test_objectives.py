"""Losses against plain loops, a trusted library, exact cases, and known wrong variants."""

from __future__ import annotations

import itertools
import math
from decimal import Decimal, localcontext

import pytest
import torch
import torch.nn.functional as F
from answers_01 import hardest_false_negatives, nce_rows_only, nce_unmasked

from itr_lib.checks.info_nce import info_nce_cases, info_nce_specification
from itr_lib.checks.triplet_hardest import hardest_cases, hardest_specification
from itr_lib.checks.triplet_loop import triplet_cases, triplet_specification
from itr_lib.objectives import (
    cmc_loss,
    consistency_loss,
    info_nce,
    triplet_loss,
    unified_loss,
    unified_queue_loss,
)

OWNERS = torch.tensor([0, 1, 2, 1, 3, 0])
SAME = OWNERS[:, None] == OWNERS[None, :]


def scores(size: int = 6, seed: int = 0) -> torch.Tensor:
    return torch.randn(size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("case", [case.inputs for case in triplet_cases()])
def test_all_negatives_agree_with_plain_loops(case):
    assert abs(triplet_loss(**case, negatives="all") - triplet_specification(**case)) < 1e-9


@pytest.mark.parametrize("case", [case.inputs for case in hardest_cases()])
def test_hardest_negatives_agree_with_plain_loops(case):
    assert abs(triplet_loss(**case) - hardest_specification(**case)) < 1e-9


@pytest.mark.parametrize("case", [case.inputs for case in info_nce_cases()])
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
    assert torch.allclose(info_nce(scores(), temperature=0.07), expected, rtol=0, atol=1e-12)


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


@pytest.mark.parametrize(
    ("loss", "sides"),
    [
        (triplet_loss, 1),
        (info_nce, 1),
        (unified_loss, 1),
        (unified_queue_loss, 3),
        (consistency_loss, 2),
        (cmc_loss, 2),
    ],
)
def test_settings_are_given_by_name(loss, sides):
    """Or a margin becomes another loss's temperature where two losses are exchanged."""
    given = [cosines(4, seed) for seed in range(sides)]
    assert loss(*given).isfinite()
    with pytest.raises(TypeError, match="positional argument"):
        loss(*given, 0.2)


def test_bad_settings():
    with pytest.raises(ValueError, match="negatives is 'hard'"):
        triplet_loss(scores(), negatives="hard")
    with pytest.raises(ValueError, match="temperature is 0"):
        info_nce(scores(), temperature=0)


def test_known_wrong_variants_differ():
    assert not torch.isclose(triplet_loss(scores(), same_image=SAME), hardest_false_negatives(scores(), 0.2, SAME))
    assert not torch.isclose(info_nce(scores(), same_image=SAME), nce_unmasked(scores(), 0.05, SAME))
    assert not torch.isclose(info_nce(scores(), same_image=SAME), nce_rows_only(scores(), 0.05, SAME))


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


# --- USER's unified objective: specifications as METHODS has them, one number at a time ------------------------------


def negatives_specification(values: list[float], mu: float, gamma: float) -> float:
    """``1/mu log(1 + sum e^{mu (S - gamma)})``; up to mu = 90 nothing of it leaves the range of a double."""
    return math.log1p(math.fsum(math.exp(mu * (value - gamma)) for value in values)) / mu


def negatives_in_50_digits(values: list[float], mu: float, gamma: float) -> float:
    """The same for any mu."""
    with localcontext(prec=50):
        total = 1 + sum((Decimal(mu) * (Decimal(value) - Decimal(gamma))).exp() for value in values)
        return float(total.ln() / Decimal(mu))


def positive_specification(value: float) -> float:
    return math.log(1 + max(value, 0.0))


def unified_specification(scores, mu=90.0, gamma=0.5, same_image=None, negatives=negatives_specification) -> float:
    size, table = len(scores), scores.tolist()
    no_negative = [
        [i == j or (same_image is not None and bool(same_image[i, j])) for j in range(size)] for i in range(size)
    ]
    total = 0.0
    for i in range(size):
        total += negatives([table[i][j] for j in range(size) if not no_negative[i][j]], mu, gamma)
        total += negatives([table[j][i] for j in range(size) if not no_negative[j][i]], mu, gamma)
        total -= positive_specification(table[i][i])
    return total / size


def queue_specification(
    queries, positive_keys, queue_keys, mu=90.0, gamma=0.5, negative_mask=None, negatives=negatives_specification
) -> float:
    def dot(first, second):
        return math.fsum(a * b for a, b in zip(first, second, strict=True))

    total = 0.0
    for i, query in enumerate(queries.tolist()):
        keys = [key for k, key in enumerate(queue_keys.tolist()) if negative_mask is None or negative_mask[i, k]]
        total += negatives([dot(query, key) for key in keys], mu, gamma)
        total -= positive_specification(dot(query, positive_keys[i].tolist()))
    return total / len(queries)


def cosines(size: int, seed: int) -> torch.Tensor:
    return 2 * torch.rand(size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 1


def units(rows: int, dim: int, seed: int) -> torch.Tensor:
    return F.normalize(
        torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), dim=1
    )


def coin(*shape: int, seed: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < 0.4


def unified_cases():
    """Sizes 1 to 8; no mask, captions of one image, a lopsided mask, all of one image; sharp and blunt."""
    for size, mu, gamma in itertools.product([1, 2, 5, 8], [1.0, 10.0, 90.0], [0.0, 0.5]):
        owners = torch.arange(size) % 3
        lone_row = coin(size, size, seed=size)
        lone_row[0] = True  # of this query every negative is masked
        for seed, mask in enumerate([None, owners[:, None] == owners, lone_row, torch.ones(size, size).bool()]):
            yield {"scores": cosines(size, 10 * size + seed), "mu": mu, "gamma": gamma, "same_image": mask}


def queue_cases():
    """From no key at all to many; no mask, a random one with a row of no negative, none anywhere."""
    for (batch, keys, dim), mu, gamma in itertools.product(
        [(1, 0, 3), (1, 4, 2), (3, 7, 5), (4, 1, 3), (5, 20, 3)], [1.0, 10.0, 90.0], [0.0, 0.5]
    ):
        some = coin(batch, keys, seed=keys)
        some[0] = False
        for seed, mask in enumerate([None, some, torch.zeros(batch, keys).bool()]):
            given = [units(rows, dim, 7 * seed + place) for place, rows in enumerate([batch, batch, keys])]
            names = ("queries", "positive_keys", "queue_keys")
            yield dict(zip(names, given, strict=True)) | {"mu": mu, "gamma": gamma, "negative_mask": mask}


def off_by(loss, specification, cases) -> float:
    """The largest error over the cases; NaN is as wrong as can be."""
    errors = [abs(float(loss(**case)) - specification(**case)) for case in cases]
    return max(math.inf if math.isnan(error) else error for error in errors)


def test_unified_loss_agrees_with_plain_loops():
    assert off_by(unified_loss, unified_specification, unified_cases()) < 1e-9


def test_unified_queue_loss_agrees_with_plain_loops():
    assert off_by(unified_queue_loss, queue_specification, queue_cases()) < 1e-9


def test_unified_loss_by_hand():
    # e^{mu (S - gamma)} is 1 for the score 0.5 and 3 for the other; positives count log 2 and (below 0) nothing.
    other = 0.5 + math.log(3) / 10
    matrix = torch.tensor([[1.0, 0.5], [other, -0.3]], dtype=torch.float64)
    # Each direction: (log 2 + log 4) / 10 = 0.3 log 2. So (2 * 0.3 log 2 - log 2) / 2.
    assert unified_loss(matrix, mu=10).item() == pytest.approx(-0.2 * math.log(2), abs=1e-12)
    # Where the pair (1, 0) is one picture too, both of its terms are gone: (2 * 0.1 log 2 - log 2) / 2.
    same = torch.tensor([[True, False], [True, True]])
    assert unified_loss(matrix, mu=10, same_image=same).item() == pytest.approx(-0.4 * math.log(2), abs=1e-12)
    assert unified_loss(matrix[1:, 1:]).item() == 0


def test_unified_queue_loss_by_hand():
    queries = torch.eye(2, dtype=torch.float64)
    positives = torch.tensor([[1.0, 0.0], [0.0, -0.5]], dtype=torch.float64)  # products 1 and -0.5
    keys = torch.tensor([[0.5, 0.5 + math.log(3) / 10]], dtype=torch.float64)  # log 2 / 10 and log 4 / 10
    assert unified_queue_loss(queries, positives, keys, mu=10).item() == pytest.approx(-0.35 * math.log(2), abs=1e-12)
    assert unified_queue_loss(queries, positives, keys[:0]).item() == pytest.approx(-0.5 * math.log(2), abs=1e-12)


# --- what people write instead; each must be told from the right one by the very comparisons above -------------------


def unified_variant(
    scores, mu, gamma, same_image, rows=1, columns=1, factor=1.0, positives_stay=False, clamp=True, fill=None,
    reduce=torch.sum, masked=True, one=1.0, batch=torch.mean, outside=False, positive_times=1.0,
):  # fmt: skip
    eye = torch.eye(len(scores), dtype=torch.bool)
    leave = (torch.zeros_like(eye) if positives_stay else eye) | (
        same_image if masked and same_image is not None else eye & False
    )

    def term(table, out):
        grown = (
            (mu * (table - gamma)).exp().masked_fill(out, 0)
            if fill is None
            else (mu * (table.masked_fill(out, fill) - gamma)).exp()
        )
        logged = torch.log(one + grown).sum(1) if outside else torch.log(one + reduce(grown, dim=1))
        return logged / mu

    kept = scores.diagonal().clamp(min=0) if clamp else scores.diagonal()
    return factor * batch(
        rows * term(scores, leave) + columns * term(scores.T, leave.T) - positive_times * torch.log(1 + kept)
    )


def wrong(**settings):
    return lambda scores, mu=90.0, gamma=0.5, same_image=None: unified_variant(
        scores, mu, gamma, same_image, **settings
    )


WRONG_UNIFIED = {
    "positives among the negatives": wrong(positives_stay=True),
    "factor 20 included": wrong(factor=20.0),
    "images alone ask": wrong(columns=0),
    "captions alone ask": wrong(rows=0),
    "images ask twice": wrong(rows=2, columns=0),
    "positive without the clamp": wrong(clamp=False),
    "positive in each direction": wrong(positive_times=2.0),
    "positive missing": wrong(positive_times=0.0),
    "masked scores become 0": wrong(fill=0.0),
    "mask forgotten": wrong(masked=False),
    "mean over the negatives": wrong(reduce=torch.mean),
    "the 1 forgotten": wrong(one=1e-30),
    "the log of each negative": wrong(outside=True),
    "sum over the batch": wrong(batch=torch.sum),
    "mask not turned for the captions": lambda scores, mu=90.0, gamma=0.5, same_image=None: unified_loss(
        scores, mu=mu, gamma=gamma, same_image=None if same_image is None else same_image & same_image.T
    ),
}


def test_the_variants_without_a_mistake_are_right():
    """So that what rejects a wrong variant is its mistake."""
    assert off_by(wrong(), unified_specification, unified_cases()) < 1e-9
    assert off_by(wrong_queue(), queue_specification, queue_cases()) < 1e-9


@pytest.mark.parametrize("mistake", WRONG_UNIFIED)
def test_wrong_unified_losses_are_told_from_it(mistake):
    assert off_by(WRONG_UNIFIED[mistake], unified_specification, unified_cases()) > 1e-3


def queue_variant(
    queries, positive_keys, queue_keys, mu, gamma, negative_mask, factor=1.0, with_positive=False, clamp=True,
    fill=None, reduce=torch.sum, masked=True, turned=False, batch=torch.mean,
):  # fmt: skip
    scores, own = queries @ queue_keys.T, (queries * positive_keys).sum(1)
    out = torch.zeros(scores.shape).bool() if negative_mask is None or not masked else ~negative_mask
    out = ~out if turned else out
    grown = (mu * ((scores if fill is None else scores.masked_fill(out, fill)) - gamma)).exp()
    grown = grown if fill is not None else grown.masked_fill(out, 0)
    if with_positive:
        grown = torch.cat([grown, (mu * (own - gamma)).exp()[:, None]], dim=1)
    kept = own.clamp(min=0) if clamp else own
    return factor * batch(torch.log(1 + reduce(grown, dim=1)) / mu - torch.log(1 + kept))


def wrong_queue(**settings):
    def loss(queries, positive_keys, queue_keys, mu=90.0, gamma=0.5, negative_mask=None):
        return queue_variant(queries, positive_keys, queue_keys, mu, gamma, negative_mask, **settings)

    return loss


WRONG_QUEUE = {
    "the positive among the negatives": wrong_queue(with_positive=True),
    "factor 20 included": wrong_queue(factor=20.0),
    "positive without the clamp": wrong_queue(clamp=False),
    "masked scores become 0": wrong_queue(fill=0.0),
    "mask forgotten": wrong_queue(masked=False),
    "mask turned round": wrong_queue(turned=True),
    "mean over the keys": wrong_queue(reduce=torch.mean),
    "sum over the batch": wrong_queue(batch=torch.sum),
}


@pytest.mark.parametrize("mistake", WRONG_QUEUE)
def test_wrong_queue_losses_are_told_from_it(mistake):
    assert off_by(WRONG_QUEUE[mistake], queue_specification, queue_cases()) > 1e-3


# --- as sharp as can be, in float32 and 16 bits ----------------------------------------------------------------------

SHARP = [90.0, 1e4, 1e6]


def float32_error(loss, mu: float) -> float:
    """Against 50 digits, with cosines up to 1; infinite where value or gradient is not finite."""
    matrix = (1 - cosines(6, 3).abs() * 0.1).float().requires_grad_(True)
    value = loss(matrix, mu=mu)
    value.backward()
    expected = unified_specification(matrix.detach().double(), mu=mu, negatives=negatives_in_50_digits)
    finite = value.isfinite() and matrix.grad.isfinite().all()
    return abs(value.item() - expected) if finite else math.inf


@pytest.mark.parametrize("mu", SHARP)
def test_no_overflow_in_float32(mu):
    assert float32_error(unified_loss, mu) < 1e-6


@pytest.mark.parametrize("mu", SHARP[1:])
def test_a_naive_exp_overflows(mu):
    assert float32_error(wrong(), mu) == math.inf


@pytest.mark.parametrize("mu", SHARP)
def test_no_overflow_in_float32_against_a_queue(mu):
    queries, keys = units(4, 3, 0).float().requires_grad_(True), torch.cat([units(4, 3, 0), units(9, 3, 1)]).float()
    value = unified_queue_loss(queries, keys[:4], keys, mu=mu)
    value.backward()
    given = (queries.detach().double(), keys[:4].double(), keys.double())
    assert abs(value.item() - queue_specification(*given, mu=mu, negatives=negatives_in_50_digits)) < 1e-6
    assert queries.grad.isfinite().all()


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_unified_losses_of_16_bit_numbers_are_computed_in_float32(kind):
    matrix, vectors = cosines(6, 0).to(kind), [units(rows, 4, rows).to(kind) for rows in (3, 3, 300)]
    wide = [some.float() for some in vectors]
    assert unified_loss(matrix).dtype == unified_queue_loss(*vectors).dtype == torch.float32
    assert unified_loss(matrix) == unified_loss(matrix.float())
    assert unified_queue_loss(*vectors) == unified_queue_loss(*wide)
    assert unified_queue_loss(wide[0], vectors[1], vectors[2]) == unified_queue_loss(
        *(v.to(kind).float() for v in wide)
    )
    small = torch.full((600, 600), 0.5, dtype=kind)
    assert torch.allclose(unified_loss(small).double(), unified_loss(small.double()), rtol=1e-5)


# --- gradients -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mu", [1.0, 10.0, 90.0])
def test_gradients_of_the_unified_losses(mu):
    lopsided = coin(5, 5, seed=5)
    lopsided[0] = True
    assert torch.autograd.gradcheck(
        lambda s: unified_loss(s, mu=mu, same_image=lopsided), (cosines(5, 1).requires_grad_(True),)
    )
    vectors = tuple(units(rows, 4, rows).requires_grad_(True) for rows in (3, 3, 7))
    mask = coin(3, 7, seed=1)
    mask[0] = False
    assert torch.autograd.gradcheck(lambda *v: unified_queue_loss(*v, mu=mu, negative_mask=mask), vectors)
    assert torch.autograd.gradcheck(lambda q: unified_queue_loss(q, q * 2, q[:0], mu=mu), vectors[:1])


@pytest.mark.parametrize(("mu", "gamma"), [(1.0, 0.0), (10.0, 0.5), (90.0, 0.5)])
def test_a_negatives_gradient_is_its_share(mu, gamma):
    """``1/B (w_row + w_column)`` with ``w = e_ij / (1 + sum e)``; a positive's ``-1/B 1/(1 + S_ii)`` where above 0."""
    size, matrix = 5, cosines(5, 2).requires_grad_(True)
    unified_loss(matrix, mu=mu, gamma=gamma).backward()
    grown = [[math.exp(mu * (value - gamma)) for value in row] for row in matrix.tolist()]
    for i in range(size):
        row = 1 + sum(grown[i][j] for j in range(size) if j != i)
        for j in range(size):
            column = 1 + sum(grown[k][j] for k in range(size) if k != j)
            own = matrix[i, i].item()
            expected = (grown[i][j] / row + grown[i][j] / column) if i != j else -(own > 0) / (1 + own)
            assert matrix.grad[i, j].item() == pytest.approx(expected / size, abs=1e-12)


# --- properties ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gamma", [0.0, 0.5])
def test_the_limit_is_the_hardest_negative_beyond_gamma(gamma):
    matrix = cosines(6, 4)
    off = matrix.masked_fill(torch.eye(6).bool(), -math.inf)
    hardest = ((off.amax(1) - gamma).relu() + (off.amax(0) - gamma).relu() - matrix.diagonal().relu().log1p()).mean()
    for mu in (10.0, 90.0, 1e4, 1e9):  # never below it, and above by at most log(B) / mu in each direction
        assert hardest - 1e-12 <= unified_loss(matrix, mu=mu, gamma=gamma) <= hardest + 2 * math.log(6) / mu + 1e-12


def test_order_does_not_matter_to_the_unified_losses():
    order = torch.randperm(6, generator=torch.Generator().manual_seed(1))
    matrix = cosines(6, 0)
    expected = unified_loss(matrix, same_image=SAME)
    assert torch.allclose(unified_loss(matrix[order][:, order], same_image=SAME[order][:, order]), expected, atol=1e-12)
    assert torch.allclose(unified_loss(matrix.T, same_image=SAME.T), expected, atol=1e-12)
    queries, positives, keys, mask = units(6, 4, 0), units(6, 4, 1), units(9, 4, 2), coin(6, 9, seed=0)
    turn = torch.randperm(9, generator=torch.Generator().manual_seed(2))
    permuted = unified_queue_loss(queries[order], positives[order], keys[turn], negative_mask=mask[order][:, turn])
    assert torch.allclose(permuted, unified_queue_loss(queries, positives, keys, negative_mask=mask), atol=1e-12)


def test_what_is_masked_has_no_say_and_no_gradient():
    matrix = cosines(6, 0).requires_grad_(True)
    off_diagonal = SAME & ~torch.eye(6, dtype=torch.bool)
    unified_loss(matrix, same_image=SAME).backward()
    assert (matrix.grad[off_diagonal] == 0).all() and (matrix.grad[~SAME] > 0).all()
    far = matrix.detach() + 50 * off_diagonal
    assert unified_loss(far, same_image=SAME) == unified_loss(matrix, same_image=SAME)
    queries, keys = units(3, 4, 0), units(5, 4, 1)
    mask = torch.ones(3, 5).bool()
    mask[:, 1] = False
    without = unified_queue_loss(queries, queries, keys[[0, 2, 3, 4]])
    assert torch.allclose(unified_queue_loss(queries, queries, keys, negative_mask=mask), without, atol=1e-12)


def test_unified_losses_do_not_change_their_inputs():
    matrix, mask = cosines(6, 0), SAME.clone()
    unified_loss(matrix, same_image=mask)
    assert torch.equal(matrix, cosines(6, 0)) and torch.equal(mask, SAME)
    vectors, negative = [units(rows, 4, rows) for rows in (3, 3, 7)], coin(3, 7, seed=0)
    unified_queue_loss(*vectors, negative_mask=negative)
    assert all(torch.equal(some, units(len(some), 4, len(some))) for some in vectors)
    assert torch.equal(negative, coin(3, 7, seed=0))


@pytest.mark.parametrize(
    "bad", [torch.zeros(2, 3), torch.zeros(3), torch.zeros(2, 2, dtype=torch.long), torch.zeros(0, 0)]
)
def test_unified_loss_refuses_bad_scores(bad):
    with pytest.raises(ValueError, match="scores"):
        unified_loss(bad)


@pytest.mark.parametrize("bad", [torch.zeros(2, 2, dtype=torch.bool), torch.zeros(6, 6), torch.zeros(6).bool()])
def test_unified_loss_refuses_a_bad_mask(bad):
    with pytest.raises(ValueError, match="same_image"):
        unified_loss(scores(), same_image=bad)


@pytest.mark.parametrize("mu", [0, -1, math.nan, math.inf, None])
def test_unified_losses_refuse_a_bad_mu(mu):
    with pytest.raises(ValueError, match="mu is"):
        unified_loss(scores(), mu=mu)
    with pytest.raises(ValueError, match="mu is"):
        unified_queue_loss(units(2, 3, 0), units(2, 3, 0), units(4, 3, 0), mu=mu)


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("queries", torch.zeros(2)),
        ("queries", torch.zeros(0, 3)),
        ("queries", torch.zeros(2, 3, dtype=torch.long)),
        ("queries", [[1.0]]),
        ("positive_keys", torch.zeros(3, 3)),
        ("positive_keys", torch.zeros(2, 4)),
        ("positive_keys", torch.zeros(2, 3, dtype=torch.long)),
        ("queue_keys", torch.zeros(4, 2)),
        ("queue_keys", torch.zeros(3)),
        ("queue_keys", torch.zeros(4, 3, dtype=torch.long)),
        ("queue_keys", torch.zeros(4, 3, dtype=torch.float64)),
        ("negative_mask", torch.zeros(2, 3).bool()),
        ("negative_mask", torch.zeros(4, 2).bool()),
        ("negative_mask", torch.zeros(2, 4)),
    ],
)
def test_unified_queue_loss_refuses_bad_inputs(name, bad):
    given = {"queries": torch.zeros(2, 3), "positive_keys": torch.zeros(2, 3), "queue_keys": torch.zeros(4, 3)}
    if name == "queries" and isinstance(bad, torch.Tensor) and bad.shape == (0, 3):
        given["positive_keys"] = bad
    with pytest.raises(ValueError, match=name):
        unified_queue_loss(**given | {name: bad})


def test_a_mask_of_numbers_is_told_what_true_means_in_it():
    with pytest.raises(ValueError, match="same_image holds torch.float32, expected bool with True = also a match"):
        triplet_loss(torch.zeros(2, 2), same_image=torch.zeros(2, 2))
    vectors = torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(4, 3)
    with pytest.raises(ValueError, match="negative_mask holds torch.float32, expected bool with True = a negative"):
        unified_queue_loss(*vectors, negative_mask=torch.zeros(2, 4))


# --- CMC: specifications as METHODS has them -------------------------------------------------------------------------


def consistency_specification(image_scores, text_scores, margin=0.3) -> float:
    v, t, size = image_scores.tolist(), text_scores.tolist(), len(image_scores)
    return math.fsum(max(0.0, max(abs(t[i][j] - v[i][j]) for i in range(size)) - margin) for j in range(size))


def cosine(first: list[float], second: list[float]) -> float:
    lengths = math.sqrt(math.fsum(x * x for x in first)) * math.sqrt(math.fsum(x * x for x in second))
    return math.fsum(a * b for a, b in zip(first, second, strict=True)) / lengths if lengths else 0.0


def cmc_specification(images, captions, margin=0.2, intra_margin=0.3) -> float:
    def table(rows, columns):
        return torch.tensor([[cosine(a, b) for b in columns.tolist()] for a in rows.tolist()], dtype=torch.float64)

    inter, size = table(images, captions), range(len(images))
    total = consistency_specification(table(images, images), table(captions, captions), intra_margin)
    for i in size:
        total += max([0.0] + [margin + float(inter[i, j] - inter[i, i]) for j in size if j != i])
        total += max([0.0] + [margin + float(inter[j, i] - inter[i, i]) for j in size if j != i])
    return total


def consistency_cases():
    """Sizes 1 to 8, symmetric as cosines are and not, from no margin to one that forgives most."""
    for size, margin in itertools.product([1, 2, 5, 8], [0.0, 0.3, 0.9]):
        v, t = units(size, 3, size), units(size, 3, size + 1)
        yield {"image_scores": v @ v.T, "text_scores": t @ t.T, "margin": margin}
        yield {"image_scores": cosines(size, size), "text_scores": cosines(size, size + 50), "margin": margin}


def cmc_cases():
    """Sizes 1 to 8, unit vectors and others, one of them zero; both margins moved."""
    for size, margin, intra_margin in itertools.product([1, 2, 5, 8], [0.0, 0.2], [0.0, 0.3]):
        images, captions = units(size, 3, size), units(size, 3, size + 20)
        yield {"images": images, "captions": captions, "margin": margin, "intra_margin": intra_margin}
        longer = images * torch.arange(size)[:, None]  # the first is zero
        yield {"images": longer, "captions": 3 * captions, "margin": margin, "intra_margin": intra_margin}


def test_consistency_agrees_with_plain_loops():
    assert off_by(consistency_loss, consistency_specification, consistency_cases()) < 1e-9


def test_cmc_agrees_with_plain_loops():
    assert off_by(cmc_loss, cmc_specification, cmc_cases()) < 1e-9


def test_consistency_by_hand():
    images = torch.tensor([[1.0, 0.9, 0.0], [0.9, 1.0, 0.1], [0.0, 0.1, 1.0]], dtype=torch.float64)
    texts = torch.tensor([[1.0, 0.2, 0.1], [0.2, 1.0, 0.5], [0.1, 0.5, 1.0]], dtype=torch.float64)
    # The worst of each pair: 0.7 (with pair 1), 0.7 (with pair 0), 0.4 (with pair 1); beyond 0.3: 0.4 + 0.4 + 0.1.
    assert consistency_loss(images, texts).item() == pytest.approx(0.9, abs=1e-12)
    assert consistency_loss(images, texts, margin=0.0).item() == pytest.approx(1.8, abs=1e-12)
    assert consistency_loss(images, images).item() == 0


def test_cmc_by_hand():
    images = torch.eye(2, dtype=torch.float64)  # two pictures that have nothing in common
    captions = torch.tensor([[0.6, 0.8], [0.0, 1.0]], dtype=torch.float64)  # cosine 0.8 with each other
    # Scores [[0.6, 0], [0.8, 1]]. Rows: none; 0.2 + 0.8 - 1 = 0. Columns: 0.2 + 0.8 - 0.6 = 0.4; none. Intra: 2 * 0.5.
    assert cmc_loss(images, captions).item() == pytest.approx(0.4 + 1.0, abs=1e-12)
    assert cmc_loss(5 * images, 0.1 * captions).item() == pytest.approx(1.4, abs=1e-12)
    assert cmc_loss(images, captions, intra_margin=0.8).item() == pytest.approx(0.4, abs=1e-12)
    assert cmc_loss(images, images).item() == 0


WRONG_CONSISTENCY = {
    "mean over the partners": lambda v, t, m: torch.relu((t - v).abs().mean(0) - m).sum(),
    "sum over the partners": lambda v, t, m: torch.relu((t - v).abs().sum(0) - m).sum(),
    "maximum over the other axis": lambda v, t, m: torch.relu((t - v).abs().amax(1) - m).sum(),
    "the diagonal alone": lambda v, t, m: torch.relu((t - v).abs().diagonal() - m).sum(),
    "no absolute value": lambda v, t, m: torch.relu((t - v).amax(0) - m).sum(),
    "images minus texts": lambda v, t, m: torch.relu((v - t).amax(0) - m).sum(),
    "margin added": lambda v, t, m: torch.relu((t - v).abs().amax(0) + m).sum(),
    "no hinge": lambda v, t, m: ((t - v).abs().amax(0) - m).sum(),
    "mean over the pairs": lambda v, t, m: torch.relu((t - v).abs().amax(0) - m).mean(),
    "hinge of each entry": lambda v, t, m: torch.relu((t - v).abs() - m).sum(),
    "one maximum for all": lambda v, t, m: torch.relu((t - v).abs().max() - m),
    "squared": lambda v, t, m: torch.relu((t - v).square().amax(0) - m).sum(),
}

WRONG_CMC = {
    "intra-modal part missing": lambda a, b, m, n: inter(unit(a), unit(b), m),
    "inter-modal part missing": lambda a, b, m, n: intra(unit(a), unit(b), n),
    "all negatives": lambda a, b, m, n: inter(unit(a), unit(b), m, "all") + intra(unit(a), unit(b), n),
    "margins exchanged": lambda a, b, m, n: cmc_loss(a, b, margin=n, intra_margin=m),
    "vectors as they are": lambda a, b, m, n: inter(a, b, m) + intra(a, b, n),
    "cross-modal scores on one side": lambda a, b, m, n: (
        inter(unit(a), unit(b), m) + consistency_loss(unit(a) @ unit(a).T, unit(a) @ unit(b).T, margin=n)
    ),
    "mean over the batch": lambda a, b, m, n: cmc_loss(a, b, margin=m, intra_margin=n) / len(a),
}


def inter(images, captions, margin: float, negatives: str = "hardest") -> torch.Tensor:
    return triplet_loss(images @ captions.T, margin=margin, negatives=negatives)


def intra(images, captions, margin: float) -> torch.Tensor:
    return consistency_loss(images @ images.T, captions @ captions.T, margin=margin)


def unit(vectors: torch.Tensor) -> torch.Tensor:
    return F.normalize(vectors, dim=1)


@pytest.mark.parametrize("mistake", WRONG_CONSISTENCY)
def test_wrong_consistency_losses_are_told_from_it(mistake):
    wrong_one = WRONG_CONSISTENCY[mistake]
    cases = list(consistency_cases())
    assert off_by(lambda **c: wrong_one(*c.values()), consistency_specification, cases) > 1e-3


@pytest.mark.parametrize("mistake", WRONG_CMC)
def test_wrong_cmc_losses_are_told_from_it(mistake):
    assert off_by(lambda **c: WRONG_CMC[mistake](*c.values()), cmc_specification, list(cmc_cases())) > 1e-3


def test_gradients_of_cmc():
    images, captions = units(5, 4, 0).requires_grad_(True), units(5, 4, 1).requires_grad_(True)
    tables = cosines(5, 0).requires_grad_(True), cosines(5, 1).requires_grad_(True)
    assert torch.autograd.gradcheck(lambda v, t: consistency_loss(v, t, margin=0.1), tables)
    assert torch.autograd.gradcheck(cmc_loss, (2 * images, captions))
    assert torch.autograd.gradcheck(lambda a, b: cmc_loss(a, b, margin=0.5, intra_margin=0.0), (images, captions))


def test_only_the_worst_partner_gets_gradient():
    images = torch.zeros(3, 3, requires_grad=True)
    texts = torch.tensor([[0.0, 0.5, 0.0], [0.9, 0.0, 0.1], [-0.4, 0.0, 0.2]])
    consistency_loss(images, texts).backward()
    # Columns: 0.9 from row 1, 0.5 from row 0, and 0.2, which is forgiven. V must rise towards T.
    assert torch.equal(images.grad, torch.tensor([[0.0, -1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]))


def test_order_and_exchange_do_not_matter_to_cmc():
    images, captions = units(6, 4, 0), units(6, 4, 1)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(1))
    expected = cmc_loss(images, captions)
    assert torch.allclose(cmc_loss(images[order], captions[order]), expected, rtol=0, atol=1e-12)
    assert torch.allclose(cmc_loss(captions, images), expected, rtol=0, atol=1e-12)
    turned = torch.linalg.qr(cosines(4, 9)).Q  # one rotation for both modalities
    assert torch.allclose(cmc_loss(images @ turned, captions @ turned), expected, rtol=0, atol=1e-12)
    v, t = cosines(6, 2), cosines(6, 3)
    moved = consistency_loss(v[order][:, order], t[order][:, order])
    assert torch.allclose(moved, consistency_loss(v, t), rtol=0, atol=1e-12)
    assert consistency_loss(v, t) == consistency_loss(t, v)


@pytest.mark.parametrize("empty", ["images", "captions", "both"])
def test_zero_vectors_cost_no_nan(empty):
    vectors = {"images": units(4, 3, 0), "captions": units(4, 3, 1)}
    for name in vectors:
        if empty in (name, "both"):
            vectors[name][1:3] = 0
        vectors[name].requires_grad_(True)
    loss = cmc_loss(**vectors)
    loss.backward()
    assert abs(loss.item() - cmc_specification(**vectors)) < 1e-9
    assert all(some.grad.isfinite().all() for some in vectors.values())


def test_one_pair_costs_nothing_in_cmc():
    assert cmc_loss(units(1, 3, 0), units(1, 3, 1)).item() == 0


def test_cmc_does_not_change_its_inputs():
    images, captions, v, t = 2 * units(4, 3, 0), units(4, 3, 1), cosines(4, 0), cosines(4, 1)
    cmc_loss(images, captions), consistency_loss(v, t)
    assert torch.equal(images, 2 * units(4, 3, 0)) and torch.equal(captions, units(4, 3, 1))
    assert torch.equal(v, cosines(4, 0)) and torch.equal(t, cosines(4, 1))


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_cmc_of_16_bit_numbers_is_computed_in_float32(kind):
    images, captions = units(6, 4, 0).to(kind), units(6, 4, 1).to(kind)
    assert cmc_loss(images, captions).dtype == torch.float32
    assert cmc_loss(images, captions) == cmc_loss(images.float(), captions.float())
    v, t = cosines(6, 0).to(kind), cosines(6, 1).to(kind)
    assert consistency_loss(v, t) == consistency_loss(v.float(), t.float())
    assert consistency_loss(torch.zeros(700, 700, dtype=kind), torch.full((700, 700), 200.0, dtype=kind)).isfinite()


@pytest.mark.parametrize(
    ("loss", "name", "bad"),
    [
        (consistency_loss, "image_scores", torch.zeros(2, 3)),
        (consistency_loss, "image_scores", torch.zeros(3)),
        (consistency_loss, "image_scores", torch.zeros(2, 2, dtype=torch.long)),
        (consistency_loss, "image_scores", None),
        (consistency_loss, "text_scores", torch.zeros(3, 3)),
        (consistency_loss, "text_scores", torch.zeros(2, 2, dtype=torch.float64)),
        (cmc_loss, "images", torch.zeros(2)),
        (cmc_loss, "images", torch.zeros(2, 3, dtype=torch.long)),
        (cmc_loss, "images", [[1.0]]),
        (cmc_loss, "captions", torch.zeros(3, 3)),
        (cmc_loss, "captions", torch.zeros(2, 4)),
        (cmc_loss, "captions", torch.zeros(2, 3, dtype=torch.float64)),
        (cmc_loss, "captions", None),
    ],
)
def test_cmc_refuses_bad_inputs(loss, name, bad):
    names = ("image_scores", "text_scores") if loss is consistency_loss else ("images", "captions")
    given = dict.fromkeys(names, torch.zeros(2, 2 + (loss is cmc_loss)))
    with pytest.raises(ValueError, match=name):
        loss(**given | {name: bad})


def test_an_empty_batch_is_refused():
    with pytest.raises(ValueError, match="image_scores is empty"):
        consistency_loss(torch.zeros(0, 0), torch.zeros(0, 0))
    with pytest.raises(ValueError, match="images is empty"):
        cmc_loss(torch.zeros(0, 3), torch.zeros(0, 3))


@pytest.mark.parametrize("floor", [0.0, -0.3, -0.9])
def test_the_floor_of_unified_positives(floor):
    matrix = 2 * torch.rand(5, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64) - 1
    clamped = matrix.diagonal().clamp(min=floor).log1p().mean()
    without = unified_loss(matrix, mu=30.0) + matrix.diagonal().clamp(min=0).log1p().mean()
    assert abs(unified_loss(matrix, mu=30.0, floor=floor) - (without - clamped)) < 1e-12
    queries, positives, queue = units(3, 4, 0).double(), units(3, 4, 1).double(), units(6, 4, 2).double()
    own = (queries * positives).sum(dim=1)
    without = unified_queue_loss(queries, positives, queue, mu=30.0) + own.clamp(min=0).log1p().mean()
    found = unified_queue_loss(queries, positives, queue, mu=30.0, floor=floor)
    assert abs(found - (without - own.clamp(min=floor).log1p().mean())) < 1e-12


def test_a_model_whose_scores_are_all_negative_starts_only_with_a_low_floor():
    negative = torch.full((4, 4), -0.2).requires_grad_(True)
    stuck = torch.autograd.grad(unified_loss(negative), negative)[0]
    assert stuck.abs().max() < 1e-20  # negatives: e^-63
    starts = torch.autograd.grad(unified_loss(negative, floor=-0.9), negative)[0]
    assert torch.allclose(starts.diagonal(), torch.tensor(-1 / 0.8 / 4))


@pytest.mark.parametrize("floor", [-1.0, -2.0, math.nan])
def test_unified_losses_refuse_a_bad_floor(floor):
    with pytest.raises(ValueError, match="floor"):
        unified_loss(scores(), floor=floor)
    with pytest.raises(ValueError, match="floor"):
        unified_queue_loss(units(2, 3, 0), units(2, 3, 0), units(4, 3, 0), floor=floor)
