"""``queue-loss``, lesson 04.

The unified loss of queries against a queue, beside loops over its keys; gradients too.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from itr_lib.checks._inputs import normal, unit_vectors
from itr_lib.checks._mistakes import unit, variant
from itr_lib.checks.frame import Exercise
from itr_lib.checks.outcome import Inputs
from itr_lib.checks.unified_loss import log_one_plus, negatives_term, overflow_explained


def queue_cases() -> Iterator[Inputs]:
    """Ids in the queue of the query's own image and of another query's; an empty queue; one key; overflow."""
    yield _queue_case((0, 1, 2, 3), (5, 1, 0, 0, 7, 6, 3), seed=0) | {"mu": 8.0, "gamma": 0.1}
    yield _queue_case((2, 4), (4, 9, -1, 8), seed=1) | {"mu": 20.0, "gamma": 0.5}
    yield _queue_case((3,), (3,), seed=2) | {"mu": 10.0, "gamma": 0.0}
    yield _queue_case((1, 0, 5), (), seed=3) | {"mu": 90.0, "gamma": 0.5}
    close = unit(1 + 0.1 * normal(9, 5, seed=330))
    vectors = {"queries": close[:2], "positive_keys": close[2:4], "queue_keys": close[4:]}
    ids = {"image_ids": torch.tensor([0, 1]), "queue_ids": torch.tensor([1, 2, 3, 4, 5])}
    yield vectors | ids | {"mu": 128.0, "gamma": 0.0}


def _queue_case(ids: tuple[int, ...], queued: tuple[int, ...], seed: int) -> Inputs:
    queries, positives = unit_vectors(len(ids), 5, seed=300 + seed), unit_vectors(len(ids), 5, seed=310 + seed)
    positives[0] = -queries[0]  # a positive below 0
    positives[1:] = (queries + 0.4 * positives)[1:]
    return {
        "queries": queries,
        "positive_keys": unit(positives),
        "queue_keys": unit_vectors(len(queued), 5, seed=320 + seed) if queued else torch.zeros(0, 5).double(),
        "image_ids": torch.tensor(ids),
        "queue_ids": torch.tensor(queued, dtype=torch.long),
    }


def queue_specification(
    queries: Tensor,
    positive_keys: Tensor,
    queue_keys: Tensor,
    image_ids: Tensor,
    queue_ids: Tensor,
    mu: float,
    gamma: float,
) -> Tensor:
    """Query by query, over the keys whose image is another one."""
    terms = []
    for query, own, owner in zip(queries, positive_keys, image_ids.tolist(), strict=True):
        others = [key for key, other in zip(queue_keys, queue_ids.tolist(), strict=True) if other != owner]
        positive = query @ own
        kept = positive if float(positive.detach()) > 0 else 0 * positive
        exponents = [mu * (query @ key - gamma) for key in others]
        terms.append(log_one_plus(exponents, queries) / mu - torch.log(1 + kept))
    return torch.stack(terms).mean()


def _queue(
    queries,
    positive_keys,
    queue_keys,
    image_ids,
    queue_ids,
    mu,
    gamma,
    mask=None,
    positive=None,
    total=torch.mean,
    **changed,
):
    """Variants of the loss against a queue."""
    no_negative = image_ids[:, None] == queue_ids if mask is None else mask
    negatives = negatives_term(queries @ queue_keys.T, mu, gamma, no_negative, **changed)
    kept = (queries * positive_keys).sum(1).relu().log1p() if positive is None else positive
    return total(negatives - kept)


def _same(given: Inputs) -> Tensor:
    return given["image_ids"][:, None] == given["queue_ids"]


def _positives(given: Inputs) -> Tensor:
    return (given["queries"] * given["positive_keys"]).sum(1)


def _dots(given: Inputs) -> Tensor:
    return given["queries"] @ given["queue_keys"].T


def _queue_positive_matrix(queries, positive_keys, **rest):
    return _queue(queries, positive_keys, **rest, positive=(queries @ positive_keys.T).relu().log1p().mean())


def _queue_with_batch(queries, positive_keys, queue_keys, image_ids, queue_ids, mu, gamma):
    return _queue(
        queries,
        positive_keys,
        torch.cat([queue_keys, positive_keys]),
        image_ids,
        torch.cat([queue_ids, image_ids]),
        mu,
        gamma,
    )


QUEUE_MISTAKES = {
    "exp overflows when mu (S - gamma) is large: put a 0 beside the exponents and take logsumexp": variant(
        _queue, naive=True
    ),
    "captions of the query's own image count as negatives: leave out keys whose queue_ids equal its image_ids": (
        variant(_queue, mask=lambda given: torch.zeros_like(_same(given)))
    ),
    "a key is left out for all queries when its image is anywhere in the batch: compare it with each "
    "query's own image": (variant(_queue, mask=lambda given: _same(given).any(0).expand_as(_same(given)))),
    "the mask is turned round: what must go is where the ids are equal": variant(
        _queue, mask=lambda given: ~_same(given)
    ),
    "what is no negative became an exponent of 0, and e^0 = 1 counts: fill with -torch.inf": variant(_queue, fill=0.0),
    "what is no negative became a score of 0, and e^(-mu gamma) counts: fill the exponents with -torch.inf": variant(
        _queue, fill=lambda given: -given["mu"] * given["gamma"]
    ),
    "the 1 inside the logarithm is missing: with no negative at all the loss would be minus infinity": variant(
        _queue, one=False
    ),
    "1/mu is missing before the logarithm": variant(_queue, scale=False),
    "gamma is missing: the exponent is mu (S - gamma)": variant(
        _queue, exponents=lambda given: given["mu"] * _dots(given)
    ),
    "gamma stands outside mu: the exponent is mu (S - gamma), not mu S - gamma": variant(
        _queue, exponents=lambda given: given["mu"] * _dots(given) - given["gamma"]
    ),
    "a positive below 0 goes into the logarithm as it is: log(1 + [S]+) cuts it off at 0": variant(
        _queue, positive=lambda given: _positives(given).log1p()
    ),
    "the positive is added: it has a minus": variant(_queue, positive=lambda given: -_positives(given).relu().log1p()),
    "the positive's logarithm is missing: log(1 + [S]+)": variant(
        _queue, positive=lambda given: _positives(given).relu()
    ),
    "there is no positive term: without - log(1 + [S]+) nothing draws a pair together": variant(_queue, positive=0.0),
    "every query has every positive key: query i has key i, (queries * positive_keys).sum(1)": _queue_positive_matrix,
    "the other positives of the batch are negatives too: here only the queue's keys are": _queue_with_batch,
    "this is the sum over the batch: divide by B": variant(_queue, total=lambda given: torch.sum),
    "the mean over the keys instead of their sum": variant(_queue, mean=True),
    "this is the loss twice: only one direction is asked for": lambda **given: 2 * _queue(**given),
}

EXERCISE = Exercise("queue-loss", queue_cases, queue_specification, QUEUE_MISTAKES, ("queries",), overflow_explained)
