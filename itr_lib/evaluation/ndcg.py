"""Graded relevance: a list is better when what is more to the point stands further up."""

from __future__ import annotations

import torch
from jaxtyping import Float, Real
from torch import Tensor

from itr_lib.evaluation.inputs import ROWS_AT_ONCE, Scores, as_matrix, in_float64
from itr_lib.validation import expect_count


def ndcg(scores: Scores, relevance: Scores, k: int = 25) -> float:
    """Normalised discounted cumulative gain at k, mean over the queries, linear gain (Järvelin & Kekäläinen 2002).

    ``DCG = sum_r relevance(r) / log2(r + 1)`` over ranks r = 1..k, divided by the DCG of the best order. Among
    equal scores the least relevant candidate stands first. A query with no relevant candidate scores 0.

    Args:
        scores: (Q, C), row = query, column = candidate.
        relevance: (Q, C) graded relevance, 0 or more.
        k: how far down the list to look; more than C means all of it.

    Raises:
        ValueError: for shapes that differ, negative or NaN relevance, NaN scores, or k < 1.
    """
    scores, relevance = as_matrix("scores", scores), as_matrix("relevance", relevance)
    if scores.shape != relevance.shape:
        raise ValueError(f"relevance has shape {tuple(relevance.shape)}, expected {tuple(scores.shape)} as scores")
    if (relevance < 0).any() or relevance.isinf().any():
        raise ValueError("relevance holds a negative or infinite number, expected grades of 0 or more")
    expect_count("k", k)
    blocks = zip(scores.split(ROWS_AT_ONCE), relevance.split(ROWS_AT_ONCE), strict=True)
    blocks = ((rows, in_float64(grades.to(rows.device))) for rows, grades in blocks)
    return float(torch.cat([_ndcg_rows(rows.to(grades.device), grades, k) for rows, grades in blocks]).mean())


def _ndcg_rows(
    scores: Real[Tensor, "queries candidates"], relevance: Float[Tensor, "queries candidates"], k: int
) -> Float[Tensor, " queries"]:
    worst_first = relevance.argsort(dim=1, stable=True)
    order = scores.gather(1, worst_first).argsort(dim=1, descending=True, stable=True)[:, :k]
    gained = relevance.gather(1, worst_first.gather(1, order))
    best = relevance.topk(min(k, relevance.shape[1]), dim=1).values
    discount = 1 / torch.arange(2, best.shape[1] + 2, device=best.device, dtype=best.dtype).log2()
    ideal = best @ discount
    return gained @ discount / torch.where(ideal > 0, ideal, 1)
