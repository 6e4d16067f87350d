"""``recall-at-k``, lesson 00.

The percentage of ranks up to k, beside a count.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from itr_lib.checks.frame import Exercise
from itr_lib.checks.outcome import Inputs


def recall_cases() -> Iterator[Inputs]:
    """Ranks with repeats, all hits, all misses, one query."""
    for ranks in ([1, 2, 3, 7, 10, 11, 1], [1], [9], [2, 2, 5, 5], [1, 1, 1], [30, 40, 10]):
        for k in (1, 5, 10):
            yield {"ranks": torch.tensor(ranks), "k": k}


def recall_specification(ranks: Tensor, k: int) -> float:
    """Percentage of queries that found a match among the first k."""
    return 100.0 * sum(1 for rank in ranks.tolist() if rank <= k) / len(ranks)


RECALL_MISTAKES = {
    "rank k itself counts: R@k means rank <= k, not < k": lambda ranks, k: 100 * float((ranks < k).double().mean()),
    "this is a fraction: the field reports percent, multiply by 100": lambda ranks, k: float(
        (ranks <= k).double().mean()
    ),
    "this is a count of hits: divide by the number of queries": lambda ranks, k: float((ranks <= k).sum()),
    "this counts the misses: a hit is a rank of at most k": lambda ranks, k: 100 * float((ranks > k).double().mean()),
    "you divided by k: that is precision; recall divides by the number of queries": lambda ranks, k: (
        100 * float((ranks <= k).double().mean()) / k
    ),
    "only rank k itself counts as a hit here: every rank up to k does": lambda ranks, k: (
        100 * float((ranks == k).double().mean())
    ),
}

EXERCISE = Exercise("recall-at-k", recall_cases, recall_specification, RECALL_MISTAKES)
