"""Hard and soft alignment: each fragment (a word, say) gets a number, its code, from each codebook (a picture, say).

SCAN (Lee et al., ECCV 2018) codes softly, by attention; CHAN (Pan et al., CVPR 2023) sees both
its way and the maximum as coding. All functions take packed sets and never make a tensor larger than the alignments.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from itr_lib.similarity.packing import Sets
from itr_lib.similarity.precision import wide
from itr_lib.validation import expect_choice, expect_positive

CANCELLED = 1e-3  # share of the summed squares below which a square of a sum is mostly rounding
LENGTHS_AT_ONCE = 64
CODINGS = ("hard", "soft")


def hard_codes(books: Sets, fragments: Float[Tensor, "fragments dim"]) -> Float[Tensor, "books fragments"]:
    """The largest dot product of each fragment with an element of each codebook."""
    if torch.is_grad_enabled() and (books.vectors.requires_grad or fragments.requires_grad):
        return _HardCodes.apply(books.vectors, fragments, books)
    return wide(books.each(lambda dots: dots.amax(dim=1), books.vectors @ fragments.T))


class _HardCodes(torch.autograd.Function):
    """Hard codes that remember who won: only the winner receives a fragment's gradient, 1 / R of the dense work."""

    @staticmethod
    def forward(ctx, vectors: Tensor, fragments: Tensor, books: Sets) -> Float[Tensor, "books fragments"]:
        dots = vectors @ fragments.T
        within = books.each(lambda some: some.max(dim=1).indices, dots)
        winners = within + books.starts[:, None]  # rows of `vectors`
        ctx.save_for_backward(vectors, fragments, winners.int())
        return wide(dots.gather(0, winners))

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Float[Tensor, "books fragments"]) -> tuple[Tensor | None, Tensor | None, None]:
        vectors, fragments, winners = ctx.saved_tensors
        grad, winners = grad.T.flatten(), winners.T.flatten()  # the fragments' numbers ascend
        some = grad.nonzero()[:, 0]  # hinge losses leave most pairs without a gradient
        weight, winner, fragment = grad[some], winners[some].long(), some // (len(grad) // len(fragments))
        to_vectors = to_fragments = None
        if ctx.needs_input_grad[0]:
            order = winner.argsort(stable=True)
            to_vectors = _add_rows(winner[order], fragment[order], weight[order], fragments, len(vectors))
        if ctx.needs_input_grad[1]:
            to_fragments = _add_rows(fragment, winner, weight, vectors, len(fragments))
        return to_vectors, to_fragments, None


def _add_rows(
    into: Int[Tensor, " terms"], row: Int[Tensor, " terms"], weight: Float[Tensor, " terms"], table: Tensor, length: int
) -> Float[Tensor, "length dim"]:
    """``result[into] += weight * table[row]`` for every term; ``into`` is sorted."""
    starts = torch.searchsorted(into, torch.arange(length, device=into.device))  # bincount would wait for a GPU
    return F.embedding_bag(row, wide(table), starts, mode="sum", per_sample_weights=weight).to(table.dtype)


def soft_codes(
    books: Sets, fragments: Float[Tensor, "fragments dim"], temperature: float
) -> Float[Tensor, "books fragments"]:
    """Dot product of each fragment with the vector it attends to in each codebook, over that vector's length."""
    runs: list[tuple[Tensor, Tensor]] = []

    def attend(
        dots: Float[Tensor, "run size fragments"], members: Float[Tensor, "run size dim"]
    ) -> Float[Tensor, "run fragments"]:
        dots = wide(dots)
        weights = (dots / temperature).softmax(dim=1)
        runs.append((weights, wide(members)))
        return (weights * dots).sum(dim=1)

    products = books.each(attend, books.vectors @ fragments.T, books.vectors)
    return products / (_attended_lengths(runs) + 1e-8)


def _attended_lengths(runs: list[tuple[Tensor, Tensor]]) -> Float[Tensor, "books fragments"]:
    """Lengths of the weighted sums of each codebook's members, without making the sums.

    ``|sum_r a_r v_r|^2 = sum_rs a_r (v_r . v_s) a_s``. Where members nearly cancel each other that is all rounding, and
    the few sums concerned are made after all. ``runs``: weights (run, size, fragments) and members (run, size, dim).
    """
    squares, cancelled = [], []
    for weights, members in runs:
        gram = members @ members.mT
        squares.append((weights * (gram @ weights)).sum(dim=1))
        largest = (weights * gram.diagonal(dim1=1, dim2=2)[..., None]).sum(dim=1)
        cancelled.append(squares[-1] < CANCELLED * largest)
    if torch.cat(cancelled).any():  # asked once for all runs: it makes the host wait for a GPU
        squares = [_mended(some, which, *run) for some, which, run in zip(squares, cancelled, runs, strict=True)]
    square = torch.cat(squares)
    # The root of 0 has no finite gradient.
    return torch.where(square > 0, square, 1).sqrt() * (square > 0)


def _mended(
    square: Float[Tensor, "run fragments"],
    cancelled: Bool[Tensor, "run fragments"],
    weights: Float[Tensor, "run size fragments"],
    members: Float[Tensor, "run size dim"],
) -> Float[Tensor, "run fragments"]:
    """The squares of one run, those that cancelled from the sums themselves."""
    run, fragment = cancelled.nonzero(as_tuple=True)
    parts = zip(weights[run, :, fragment].split(LENGTHS_AT_ONCE), run.split(LENGTHS_AT_ONCE), strict=True)
    exact = [(some[:, None] @ members[where]).square().sum(dim=(1, 2)) for some, where in parts]
    return square.index_put((run, fragment), torch.cat(exact))


def pool_codes(codes: Float[Tensor, "*batch codes"], pooling: str, beta: float) -> Float[Tensor, "*batch"]:
    """The codes of a set to its score: ``pooling`` and ``beta`` as in ``alignment_scores``.

    Raises:
        ValueError: for another pooling, or a beta that is not above 0.
    """
    expect_choice("pooling", pooling, CODE_POOLINGS)
    expect_positive("beta", beta)
    return _POOL[pooling](codes, beta)


def _softmax_sum(codes: Float[Tensor, "*batch codes"], beta: float) -> Float[Tensor, "*batch"]:
    return ((codes / beta).softmax(dim=-1) * codes).sum(dim=-1)


_POOL = {
    "sum": lambda codes, beta: codes.sum(dim=-1),
    "mean": lambda codes, beta: codes.mean(dim=-1),
    "max": lambda codes, beta: codes.amax(dim=-1),
    "lse": lambda codes, beta: (codes / beta).logsumexp(dim=-1),
    "softmax": _softmax_sum,
}
CODE_POOLINGS = tuple(_POOL)
