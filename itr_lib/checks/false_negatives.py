"""``false-negatives``, lesson 04.

How often a full queue holds a caption of the query's own picture, beside a list that is walked through key by key.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from itr_lib.checks._inputs import generator, longer
from itr_lib.checks.frame import Case, Exercise, Rehearsal
from itr_lib.checks.outcome import Inputs


def _given(rows: list[list[int]], size: int) -> Inputs:
    return {"batches": [torch.tensor(row, dtype=torch.long) for row in rows], "size": size}


def _random(counts: list[int], images: int, size: int, seed: int) -> Inputs:
    g = generator(seed)
    return _given([torch.randint(0, images, (count,), generator=g).tolist() for count in longer(counts)], size)


def negatives_cases() -> Iterator[Case]:
    """Batches of one size and of several, a queue that batches do not divide, one that never fills."""
    yield Case(_random([2] * 12, 9, 4, seed=1))
    yield Case(_random([3] * 10, 12, 5, seed=2), trap="the size is no multiple of the batch")
    yield Case(_random([4, 4, 4, 1, 4, 4, 2, 4, 4, 1], 14, 6, seed=3), trap="batches have different lengths")
    yield Case(_random([3] * 9, 4, 3, seed=8), trap="a picture has several captions in the queue")
    yield Case(_given([[0, 1], [2, 3], [0, 0], [4, 4], [5, 1]], 4), trap="a batch holds two captions of one picture")
    yield Case(_given([[0, 1], [2, 3], [4, 5], [0, 6], [7, 2]], 4), trap="an own caption has just left the queue")
    yield Case(_given([[0, 1], [0, 2], [1, 0]], 8), trap="the queue never fills")
    yield Case(_given([[3, 1], [3, 1], [1, 3]], 1), trap="the queue holds one caption")


def negatives_specification(batches: list[Tensor], size: int) -> float:
    """Query by query, over the last captions that came before its batch."""
    came, hits, asked = [], 0, 0
    for batch in batches:
        for image in batch.tolist():
            if len(came) >= size:
                asked += 1
                hits += any(came[-1 - age] == image for age in range(size))
        came += batch.tolist()
    return 100 * hits / asked if asked else 0.0


def false_negatives(batches: list[Tensor], size: int) -> float:
    """Percent of the queries that meet a caption of their own picture in a full queue; 0 where it never fills."""
    came, found = torch.zeros(0, dtype=torch.long), []
    for batch in batches:
        if len(came) == size:
            found.append(torch.isin(batch, came))
        came = torch.cat([came, batch])[-size:]
    return 100 * float(torch.cat(found).double().mean()) if found else 0.0


def spoiled(
    batches, size, *, first="ask", counts="full", window="", unit="percent", over="queries", what="any", stop=False,
    rounded=False,
):  # fmt: skip
    """The count with one or two of its steps spoiled."""
    came: list[int] = []
    shares: list[list[float]] = []
    for number, batch in enumerate(batches):
        images = batch.tolist()
        before = [
            _queue(came + (images if first == "enqueue" else images[:turn] if first == "one by one" else []), size,
                   window, batches, number)
            for turn in range(len(images))
        ]  # fmt: skip
        asking = list(zip(before, images, strict=True))
        if first == "one by one":
            asking = asking[max(0, size - len(came)) :]
        if asking if first == "one by one" else _ready(counts, len(came), len(images), size, number):
            shares.append(_batch_of(asking, images, what))
            came = [] if over == "emptied" else came
            if stop:
                break
        came += images
    mean = _mean(shares, sum(map(len, batches)), over, unit)
    return float(round(mean)) if rounded else mean


def _ready(counts: str, came: int, new: int, size: int, number: int) -> bool:
    ready = {"full": came >= size, "always": True, "some": came > 0, "late": came > size, "batches": number >= size}
    return ready[counts] if counts in ready else came + new >= size


def _batch_of(asking: list[tuple[list[int], int]], images: list[int], what: str) -> list[float]:
    """What a batch adds: a number a query, or a number a picture, or a key."""
    if what == "once":
        return [float(image in asking[0][0]) for image in set(images)]
    if what == "keys that are asked":
        return [float(key in images) for key in asking[0][0]]
    return [_found(queue, image, images, what) for queue, image in asking]


def _mean(shares: list[list[float]], asked: int, over: str, unit: str) -> float:
    queries = [value for row in shares for value in row]
    if not queries:
        return 0.0
    means = {
        "batches": sum(sum(row) / len(row) for row in shares) / len(shares),
        "all queries": sum(min(row) for row in shares) / len(shares),
        "any query": sum(max(row) for row in shares) / len(shares),
        "all": sum(queries) / asked,
        "last batch": sum(shares[-1]) / len(shares[-1]),
        "per batch": sum(queries) / len(shares),
    }
    mean = means.get(over, sum(queries) / len(queries))
    return {"percent": 100 * mean, "fraction": mean, "count": float(sum(queries)), "honest": 100 - 100 * mean}[unit]


def _queue(before: list[int], size: int, window: str, batches: list[Tensor], number: int) -> list[int]:
    if window == "batches":
        return [image for batch in batches[max(0, number - size) : number] for image in batch.tolist()]
    return {
        "": before[-size:], "all": before, "first": before[:size], "left": before[:-size],
        "short": before[-(size - 1) :], "shorter": before[len(before) - size + 1 :], "long": before[-(size + 1) :],
        "without the newest": before[-size - 1 : -1], "different": list(dict.fromkeys(before[::-1]))[:size],
    }[window]  # fmt: skip


def _found(queue: list[int], image: int, images: list[int], what: str) -> float:
    if what == "keys":
        return float(queue.count(image))
    if what == "several":
        return float(queue.count(image) > 1)
    if what == "share":
        return queue.count(image) / max(1, len(queue))
    if what == "others":
        return float(any(key in images for key in queue))
    return float(image in queue)


NEGATIVES_TOGGLES = {
    "the batch itself is in the queue: every query finds its own caption there; ask first, then add the batch": {
        "first": "enqueue"
    },
    "captions enter one by one, so that a query meets those before it in its own batch: ask with the whole batch, then "
    "add it": {"first": "one by one"},
    "only queries with two or more captions of their picture are counted: one is enough": {"what": "several"},
    "a picture that asks twice in one batch counts once: count the queries": {"what": "once"},
    "the queue is emptied when it was asked: it keeps the last size captions": {"over": "emptied"},
    "the newest caption is missing from the queue: the last size captions, [-size:]": {"window": "without the newest"},
    "these are the captions that have left the queue: it holds the last ones, [-size:]": {"window": "left"},
    "different pictures are counted, not captions: the queue holds the last size captions": {"window": "different"},
    "this is the share of batches whose queries all find one: count the queries": {"over": "all queries"},
    "queries are counted before the queue is full: wait until size captions have come": {"counts": "always"},
    "queries are counted as soon as anything is in the queue: wait until it is full": {"counts": "some"},
    "a queue of exactly size captions is full: >=, not >": {"counts": "late"},
    "the queue counts as full one batch too early: only what came before the batch is in it": {"counts": "enqueued"},
    "the oldest caption is gone one too early: the queue holds the last size captions": {"window": "short"},
    "the oldest caption is gone one too early: the queue has size places, not size - 1": {"window": "shorter"},
    "the oldest caption stays one too long: the queue holds the last size captions": {"window": "long"},
    "nothing ever leaves this queue: it holds the last size captions": {"window": "all"},
    "these are the first captions that came: the queue holds the last ones, [-size:]": {"window": "first"},
    "size counts captions, not batches": {"window": "batches"},
    "this is a fraction: give percent": {"unit": "fraction"},
    "this is a count of queries: divide by how many asked a full queue, and give percent": {"unit": "count"},
    "these are the queries without an own caption: those with one are asked for": {"unit": "honest"},
    "the mean of the batches' shares: a short batch then counts as much as a long one; take all queries together": {
        "over": "batches"
    },
    "this is the share of batches with such a query: count the queries": {"over": "any query"},
    "divided by all queries: only those that met a full queue count, below the line too": {"over": "all"},
    "divided by the number of batches: divide by the number of queries": {"over": "per batch"},
    "only the last batch is counted: collect the queries of all": {"over": "last batch"},
    "only the first batch that met a full queue is counted: is a return inside the loop?": {"stop": True},
    "keys are counted, not queries: whether there is one or several of its own, a query counts once": {"what": "keys"},
    "this is the share of the queue's keys: count the queries that find at least one": {"what": "share"},
    "this is the share of the queue's keys whose picture asks (isin the other way round): count the queries that find "
    "their picture, torch.isin(batch, queue)": {"what": "keys that are asked"},
    "the queue is taken to hold size batches: it holds the last size captions": {
        "window": "batches",
        "counts": "batches",
    },
    "the percentage is rounded: leave it as it is": {"rounded": True},
    "a query counts when the queue holds a caption of any picture in its batch: its own picture alone matters": {
        "what": "others"
    },
}

EXERCISE = Exercise(
    "false-negatives",
    library=false_negatives,
    example=Case(_given([[0, 1], [2, 3], [0, 4], [3, 2]], 4), worked=75.0),
    cases=negatives_cases,
    specification=negatives_specification,
    family=(spoiled, NEGATIVES_TOGGLES),
    rehearsal=Rehearsal(lambda: _random([8] * 320, 4000, 2048, seed=7), calls=70),
)
