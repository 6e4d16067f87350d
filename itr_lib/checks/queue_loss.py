"""``queue-loss``, lesson 04.

The unified loss of queries against a queue, beside loops over its keys; gradients too.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from itr_lib.checks._inputs import normal, owners, unit_vectors
from itr_lib.checks._mistakes import unit
from itr_lib.checks._uto import (
    SHARED_TOGGLES,
    filled,
    negatives_term,
    overflow_explained,
    positives_of,
    total_of,
    weighed,
)
from itr_lib.checks.frame import Case, Exercise, Rehearsal
from itr_lib.checks.outcome import Inputs
from itr_lib.checks.unified_loss import log_one_plus, positive_term
from itr_lib.objectives import unified_queue_loss


def _given(
    ids: tuple[int, ...], queued: tuple[int, ...], mu: float, gamma: float, floor: float, seed: int, low: bool = False
) -> Inputs:
    queued = owners(queued)
    queries, noise = unit_vectors(len(ids), 5, seed=300 + seed), unit_vectors(len(ids), 5, seed=310 + seed)
    positives = unit(queries + 0.4 * noise)
    if low:
        positives[0] = unit(noise[0] - (1.2 + noise[0] @ queries[0]) * queries[0])  # a positive below 0
    return {
        "queries": queries,
        "positive_keys": positives,
        "queue_keys": unit_vectors(len(queued), 5, seed=320 + seed) if queued else torch.zeros(0, 5).double(),
        "image_ids": torch.tensor(ids),
        "queue_ids": torch.tensor(queued, dtype=torch.long),
        "mu": mu,
        "gamma": gamma,
        "floor": floor,
    }


def queue_cases() -> Iterator[Case]:
    """Ids in the queue of the query's own image and of another query's; an empty queue; one key; overflow."""
    yield Case(_given((0, 1, 2, 3), (5, 8, 4, 9, 7, 6, 10), 8.0, 0.1, 0.0, seed=0))
    own = "the queue holds a caption of a query's own picture"
    yield Case(_given((0, 1, 2, 3), (5, 1, 0, 0, 7, 6, 3), 4.0, 0.1, 0.0, seed=4), trap=own)
    yield Case(_given((2, 4), (9, -1, 8), 20.0, 0.5, 0.0, seed=1, low=True), trap="a positive lies below the floor")
    yield Case(_given((2, 4, 5), (9, 2, 8), 6.0, 0.2, -0.9, seed=5, low=True), trap="the floor is below 0")
    yield Case(_given((3,), (3,), 10.0, 0.0, 0.0, seed=2), trap="the queue's only key is of the query's own picture")
    yield Case(_given((1, 0, 5), (), 90.0, 0.5, 0.0, seed=3), trap="the queue is empty")
    close = unit(1 + 0.1 * normal(9, 5, seed=330))
    vectors = {"queries": close[:2], "positive_keys": close[2:4], "queue_keys": close[4:]}
    ids = {"image_ids": torch.tensor([0, 1]), "queue_ids": torch.tensor([1, 2, 3, 4, 5])}
    numbers = {"mu": 128.0, "gamma": 0.0, "floor": 0.0}
    yield Case(vectors | ids | numbers, trap="mu (S - gamma) is above 88, and its exp overflows")


def queue_specification(
    queries: Tensor,
    positive_keys: Tensor,
    queue_keys: Tensor,
    image_ids: Tensor,
    queue_ids: Tensor,
    mu: float,
    gamma: float,
    floor: float,
) -> Tensor:
    """Query by query, over the keys whose image is another one."""
    terms = []
    for query, own, owner in zip(queries, positive_keys, image_ids.tolist(), strict=True):
        others = [key for key, other in zip(queue_keys, queue_ids.tolist(), strict=True) if other != owner]
        exponents = [mu * (query @ key - gamma) for key in others]
        terms.append(log_one_plus(exponents, queries) / mu - positive_term(query @ own, floor))
    return torch.stack(terms).mean()


def queue_loss(
    queries: Tensor,
    positive_keys: Tensor,
    queue_keys: Tensor,
    image_ids: Tensor,
    queue_ids: Tensor,
    mu: float,
    gamma: float,
    floor: float,
) -> Tensor:
    """The library's loss, as the exercise calls it."""
    negative = image_ids[:, None] != queue_ids
    return unified_queue_loss(
        queries, positive_keys, queue_keys, mu=mu, gamma=gamma, negative_mask=negative, floor=floor
    )


def spoiled(
    queries, positive_keys, queue_keys, image_ids, queue_ids, mu, gamma, floor, *, mask="", own="", keys="",
    fill=-torch.inf, form="", positive="", total="mean", one=1.0, scale="", pool="sum", guard="", factor=1.0,
    own_share=1.0,
):  # fmt: skip
    """UTO against a queue with one or two of its steps spoiled."""
    queue_keys, same = _asked(keys, queries, positive_keys, queue_keys, image_ids, queue_ids)
    no_negative = _left_out(mask, keys, same, queue_ids)
    pairs = (queries * positive_keys).sum(1)
    scores = (positive_keys if own == "of keys" else queries) @ queue_keys.T
    if form == "at least the floor":
        scores, form = scores.clamp(min=floor), ""
    exponents = filled(scores, mu, gamma, form, no_negative, fill, pairs)
    if exponents.shape[1] == 0:
        exponents, no_negative = queries[:, :1] * 0 - torch.inf, torch.ones_like(queries[:, :1], dtype=torch.bool)
    costs = negatives_term(exponents, mu, gamma, ~no_negative, one, scale, pool, guard)
    kept = {
        "matrix": lambda: positives_of(queries @ positive_keys.T, floor, positive).mean(),
        "next": lambda: positives_of((queries * positive_keys.roll(1, 0)).sum(1), floor, positive),
        "mean": lambda: positives_of((queries * positive_keys).mean(1), floor, positive),
    }
    kept = kept.get(own, lambda: positives_of(pairs, floor, positive))()
    return total_of(costs - weighed(kept, own_share), total, factor)


def _asked(keys, queries, positive_keys, queue_keys, image_ids, queue_ids) -> tuple[Tensor, Tensor]:
    """The keys that the queries are held against, and which of them are of a query's own picture."""
    same = image_ids[:, None] == queue_ids
    if keys == "and the batch":
        return torch.cat([queue_keys, positive_keys]), image_ids[:, None] == torch.cat([queue_ids, image_ids])
    if keys == "and the positive":
        others = ~torch.eye(len(queries), dtype=torch.bool, device=same.device)
        return torch.cat([queue_keys, positive_keys]), torch.cat([same, others], dim=1)
    return queue_keys, same


def _left_out(mask: str, keys: str, same: Tensor, queue_ids: Tensor) -> Tensor:
    """(queries, keys): what is no negative."""
    no_negative = {
        "": lambda: same,
        "none": lambda: torch.zeros_like(same),
        "any": lambda: same.any(0).expand_as(same),
        "turned": lambda: ~same,
        "unknown": lambda: same | (queue_ids == -1) if not keys else same,
        "first": lambda: same[:1].expand_as(same),
    }[mask]()
    if keys == "first K":  # as many as are left, but the first ones
        left = (~no_negative).sum(1, keepdim=True)
        return torch.arange(same.shape[1], device=same.device) >= left
    return no_negative


def _mask_by_keys(queries, positive_keys, queue_keys, image_ids, queue_ids, mu, gamma, floor):
    """A mask (K, B), which fits the scores of one query by broadcasting alone."""
    exponents = (mu * (queries @ queue_keys.T - gamma)).masked_fill(queue_ids[:, None] == image_ids, -torch.inf)
    costs = nn.functional.pad(exponents, (1, 0)).logsumexp(1) / mu
    return (costs - positives_of((queries * positive_keys).sum(1), floor, "")).mean()


def info_nce(queries, positive_keys, queue_keys, image_ids, queue_ids, mu, gamma, floor):
    """The loss of lesson 01 against a queue."""
    own, others = (queries * positive_keys).sum(1, keepdim=True), queries @ queue_keys.T
    others = others.masked_fill(image_ids[:, None] == queue_ids, -torch.inf)
    return -(mu * torch.cat([own, others], dim=1)).log_softmax(1)[:, 0].mean()


def _over_queries(queries, positive_keys, queue_keys, image_ids, queue_ids, mu, gamma, floor):
    exponents = mu * (queries @ queue_keys.T - gamma)
    exponents = exponents.masked_fill(image_ids[:, None] == queue_ids, -torch.inf)
    costs = nn.functional.softplus(exponents.logsumexp(0)) / mu
    return costs.mean() - positives_of((queries * positive_keys).sum(1), floor, "").mean()


QUEUE_TOGGLES = SHARED_TOGGLES | {
    "captions of the query's own image count as negatives: leave out keys whose queue_ids equal its image_ids": {
        "mask": "none"
    },
    "a key is left out for all queries when its image is anywhere in the batch: compare it with each query's own "
    "image": {"mask": "any"},
    "the mask is turned round: what must go is where the ids are equal": {"mask": "turned"},
    "every query leaves out what the first one does: the mask has a row a query, (B, K)": {"mask": "first"},
    "keys of unknown image (-1) are left out: they are negatives like any other": {"mask": "unknown"},
    "as many keys are left out as should be, but not those: the mask was cut to the first ones; index with the mask "
    "itself": {"keys": "first K"},
    "the other positives of the batch are negatives too: here only the queue's keys are": {"keys": "and the batch"},
    "the query's own positive is among its negatives: only the queue's keys are": {"keys": "and the positive"},
    "every query has every positive key: query i has key i, (queries * positive_keys).sum(dim=1)": {"own": "matrix"},
    "the positive keys are shifted by one: query i has key i": {"own": "next"},
    "the numbers of a pair are averaged: a dot product is their sum": {"own": "mean"},
    "the positive keys ask the queue: the queries do, queries @ queue_keys.T": {"own": "of keys"},
}


def _rehearsal() -> Inputs:
    """A step of the lesson: eight queries against a full queue."""
    given = _given(tuple(range(8)), tuple(range(100, 356)) * 8, 30.0, 0.5, -0.9, seed=6)
    sizes = {"queries": 8, "positive_keys": 8, "queue_keys": 2048}
    wide = {name: unit_vectors(count, 128, seed=340 + count).float() for name, count in sizes.items()}
    return given | wide


EXERCISE = Exercise(
    "queue-loss",
    library=queue_loss,
    example=Case(
        {
            "queries": torch.tensor([[1.0, 0.0]], dtype=torch.float64),
            "positive_keys": torch.tensor([[0.6, 0.8]], dtype=torch.float64),
            "queue_keys": torch.tensor([[0.8, 0.6], [0.0, 1.0]], dtype=torch.float64),
            "image_ids": torch.tensor([3]),
            "queue_ids": torch.tensor([3, 4]),
            "mu": 10.0,
            "gamma": 0.5,
            "floor": 0.0,
        }
    ),
    cases=queue_cases,
    specification=queue_specification,
    mistakes={
        "this is InfoNCE, with mu for 1 / temperature: UTO holds negatives against gamma": info_nce,
        "the sum runs over the queries, one for each key: it runs over the keys of each query, dim=1": _over_queries,
        "the mask has a row a key, (K, B): it needs a row a query, image_ids[:, None] == queue_ids": _mask_by_keys,
    },
    family=(spoiled, QUEUE_TOGGLES),
    gradients=("queries",),
    explain=overflow_explained,
    rehearsal=Rehearsal(_rehearsal, calls=5000),
)
