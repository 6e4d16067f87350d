"""``walk``, lesson 07.

All that a walk with a beam sees in a graph of neighbours, beside a walk by lists.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from itr_lib.checks._inputs import drawn, generator, normal, sizes, unit_vectors
from itr_lib.checks.frame import Case, Exercise, Rehearsal
from itr_lib.checks.outcome import Inputs
from itr_lib.search import graph

EXAMPLE = Case(
    {
        "query": torch.tensor([1.0], dtype=torch.float64),
        "vectors": torch.tensor([[1.0], [2.0], [5.0], [4.0]], dtype=torch.float64),
        "neighbours": torch.tensor([[1], [0], [3], [2]]),
        "start": 0,
        "beam": 2,
    },
    worked=[1, 0],
)
# items, links, start, beam, trap
SHAPES = [
    (40, 3, 0, 3, ""),
    (60, 4, 5, 5, ""),
    (50, 3, 7, 1, "the beam holds one item"),
    (30, 2, 0, 8, ""),
    (12, 3, 2, 40, "the beam is larger than the gallery"),
    (1, 2, 0, 3, "the gallery holds one item, its own neighbour"),
    (45, 4, 11, 2, "the walk does not begin at row 0"),
]


def walk_cases() -> Iterator[Case]:
    """Graphs of near items and of random ones; beams of one, of some, larger than all; a start that is best already."""
    for seed, (*shape, start, beam, trap) in enumerate(SHAPES):
        items, links = sizes(*shape)
        vectors = unit_vectors(items, 4, seed=1700 + seed)
        query = normal(4, seed=1720 + seed)
        neighbours = torch.randint(items, (items, links), generator=generator(1740 + seed))
        if seed % 2 == 0 and items > links:
            neighbours = graph.neighbour_graph(vectors, links - 1, 1, seed=drawn(seed) % 2**31)
        yield Case(_inputs(query, vectors, neighbours, start, beam), trap)
    (items,) = sizes(20)
    line = torch.arange(items).double()[:, None]  # on a line: up is to the right, and each knows the next alone
    after = torch.stack([(torch.arange(items) - 1).clamp(min=0), (torch.arange(items) + 1).clamp(max=items - 1)], 1)
    one = torch.ones(1, dtype=torch.float64)
    yield Case(_inputs(one, line, after, items - 1, 2), "the walk begins at the best item")
    yield Case(_inputs(one, line, after, 0, 1), "the way is long, and every step goes up")
    bumpy = torch.tensor([3.0, 2.0, 6.0, 5.0, 9.0, 1.0], dtype=torch.float64)[:, None]
    chain = torch.tensor([[1], [2], [3], [4], [5], [0]])
    yield Case(_inputs(one, bumpy, chain, 0, 1), "the beam holds one item, and the way leads down at first")
    yield Case(_inputs(one, bumpy, chain, 0, 2), "the way leads down at first, which a beam of two bears")
    yield Case(_inputs(one, -bumpy, chain, 5, 2), "all dot products are negative")


def _inputs(query: Tensor, vectors: Tensor, neighbours: Tensor, start: int, beam: int) -> Inputs:
    return {"query": query, "vectors": vectors, "neighbours": neighbours, "start": start, "beam": beam}


def walk_specification(query, vectors, neighbours, start, beam) -> Tensor:
    """Two lists: what is seen, always in its order, and what is opened."""

    def score(item: int) -> float:
        return sum(x * y for x, y in zip(query.tolist(), vectors[item].tolist(), strict=True))

    seen, opened, going = [start], [], True
    while going:
        going = False
        for item in seen[:beam]:
            if item not in opened:
                opened.append(item)
                for other in neighbours[item].tolist():
                    if other not in seen:
                        seen.append(other)
                seen.sort(key=score, reverse=True)
                going = True
                break
    return torch.tensor(seen)


def _best_closed(order: list[int], opened: list[int], beam: int, scores: dict[int, float]) -> int | None:
    return next((item for item in order[:beam] if item not in opened), None)


def _all_seen(order: list[int], opened: list[int], beam: int) -> list[int]:
    return order


def walk_with(
    query, vectors, neighbours, start, beam,
    score=lambda query, rows: rows @ query, choose=_best_closed, size=lambda beam: beam,
    links=lambda neighbours, item: neighbours[item].tolist(), begin=lambda start: [start],
    joins=lambda scores, new, item, beam: new, give=_all_seen, steps=10**9,
) -> Tensor:  # fmt: skip
    """The walk, with options to spoil it."""
    some = begin(start)
    scores: dict[int, float] = dict(zip(some, score(query, vectors[some]).tolist(), strict=True))
    opened: list[int] = []
    while len(opened) < steps:
        order = sorted(scores, key=scores.__getitem__, reverse=True)
        item = choose(order, opened, size(beam), scores)
        if item is None:
            break
        opened.append(item)
        new = [other for other in dict.fromkeys(links(neighbours, item)) if other not in scores]
        found = dict(zip(new, score(query, vectors[new]).tolist(), strict=True)) if new else {}
        scores |= joins(scores, found, item, beam)
    order = sorted(scores, key=scores.__getitem__, reverse=True)
    return torch.tensor(give(order, opened, beam), dtype=torch.long)


def _worst_closed(order, opened, beam, scores):
    return next((item for item in order[:beam][::-1] if item not in opened), None)


def _oldest_closed(order, opened, beam, scores):
    return next((item for item in scores if item in order[:beam] and item not in opened), None)


def _any_closed(order, opened, beam, scores):
    return next((item for item in order if item not in opened), None)


def _so_many(order, opened, beam, scores):
    return None if len(opened) >= beam else _any_closed(order, opened, beam, scores)


def _better_ones(scores, new, item, beam):
    return {other: value for other, value in new.items() if value > scores[item]}


def _best_one(scores, new, item, beam):
    return dict([max(new.items(), key=lambda pair: pair[1])]) if new else {}


def _into_the_beam(scores, new, item, beam):
    """What is worse than the whole beam is forgotten."""
    worst = sorted(scores.values(), reverse=True)[:beam]
    return new if len(worst) < beam else {other: value for other, value in new.items() if value > worst[-1]}


def _two_links_away(neighbours: Tensor, item: int) -> list[int]:
    near = neighbours[item]
    return [*near.tolist(), *neighbours[near].flatten().tolist()]


TOGGLES: dict[str, dict[str, object]] = {
    "the worst item of the beam is opened first: the best that is not opened yet": {"choose": _worst_closed},
    "items are opened in the order in which they were seen: the best of the beam comes next": {
        "choose": _oldest_closed
    },
    "everything that is seen is opened, so the whole graph is walked through: open what is among the `beam` best": {
        "choose": _any_closed
    },
    "so many items are opened as the beam holds: go on until everything in the beam is opened": {"choose": _so_many},
    "the beam is one item too small": {"size": lambda beam: beam - 1},
    "the beam is one item too large": {"size": lambda beam: beam + 1},
    "the walk ends at the first top, as if the beam held one item: go on from the next of the `beam` best seen": {
        "size": lambda beam: 1
    },
    "the query meets items by Euclidean distance: by dot product": {
        "score": lambda query, rows: -(rows - query).norm(dim=1)
    },
    "the walk goes down: the highest dot products are best": {"score": lambda query, rows: -(rows @ query)},
    "vectors are brought to length 1 first: plain dot products": {
        "score": lambda query, rows: torch.nn.functional.normalize(rows, dim=1) @ query
    },
    "of an opened item's neighbours only those better than itself are seen: all are": {"joins": _better_ones},
    "of an opened item's neighbours only the best is seen: all are": {"joins": _best_one},
    "neighbours that are worse than the whole beam are left out: whatever is looked at is seen, and returned": {
        "joins": _into_the_beam
    },
    "only an opened item's first neighbour is looked at: all of them": {
        "links": lambda neighbours, item: neighbours[item, :1].tolist()
    },
    "the neighbours of an opened item's neighbours are seen, too: only its own are": {"links": _two_links_away},
    "an opened item's last neighbour is left out: all of them": {
        "links": lambda neighbours, item: neighbours[item, :-1].tolist()
    },
    "neighbours are looked for in a column: item i has them in row i": {
        "links": lambda neighbours, item: (neighbours == item).any(1).nonzero()[:, 0].tolist()
    },
    "the walk begins at row 0: at `start`": {"begin": lambda start: [0]},
    "one step is taken: go on until everything in the beam is opened": {"steps": 1},
    "this is the beam alone: all that is seen": {"give": lambda order, opened, beam: order[:beam]},
    "this is the best item alone: all that is seen": {"give": lambda order, opened, beam: order[:1]},
    "these are the opened items, in the order of opening: all that is seen, best first": {
        "give": lambda order, opened, beam: opened
    },
    "these are the opened items: all that is seen": {
        "give": lambda order, opened, beam: [item for item in order if item in opened]
    },
    "these are the items that are not opened: all that is seen": {
        "give": lambda order, opened, beam: [item for item in order if item not in opened]
    },
    "this is worst first: best first": {"give": lambda order, opened, beam: order[::-1]},
    "these are sorted by row: by dot product, best first": {"give": lambda order, opened, beam: sorted(order)},
}


def _in_the_order_of_seeing(**inputs) -> Tensor:
    seen: dict[int, None] = {}

    def note(scores, new, item, beam):
        seen.update(dict.fromkeys([*scores, *new]))
        return new

    walk_with(**inputs, joins=note)
    return torch.tensor(list(seen or {inputs["start"]: None}))


def _climbs(query, vectors, neighbours, start, beam) -> Tensor:
    """From each item to its best neighbour, while that is better; what is returned is the way."""
    scores, way = vectors @ query, [start]
    while True:
        best = max(neighbours[way[-1]].tolist(), key=lambda item: float(scores[item]))
        if scores[best] <= scores[way[-1]]:
            return torch.tensor(way[::-1])
        way.append(best)


def _all_items(query, vectors, neighbours, start, beam) -> Tensor:
    return (vectors @ query).argsort(descending=True)


def _without_the_start(**inputs) -> Tensor:
    rows = walk_with(**inputs)
    return rows[rows != inputs["start"]]


def _scores_of(**inputs) -> Tensor:
    return inputs["vectors"][walk_with(**inputs)] @ inputs["query"]


def _as_many_steps_as_links(**inputs) -> Tensor:
    return walk_with(**inputs, steps=inputs["neighbours"].shape[1])


def _seen_twice(query, vectors, neighbours, start, beam) -> Tensor:
    """A row stands as often as it was looked at."""
    opened = graph.opened_on_the_way(query, vectors, neighbours, start, beam)
    rows = torch.cat([torch.tensor([start]), neighbours[opened].flatten()])
    return rows[(vectors[rows] @ query).argsort(descending=True, stable=True)]


WALK_MISTAKES: dict[str, Callable] = {
    "so many steps are taken as there are links: go on until everything in the beam is opened": _as_many_steps_as_links,
    "rows that were looked at twice stand there twice: each item is seen once": _seen_twice,
    "this is the way of a climb, from the best neighbour to the next: with a beam, the best few seen are all opened, "
    "and all that is seen is returned": _climbs,
    "these are all items of the gallery: those that the walk sees": _all_items,
    "the start is missing: it is seen, too": _without_the_start,
    "these are dot products: the rows are asked for": _scores_of,
    "these come in the order in which they were seen: best first": _in_the_order_of_seeing,
}


def rehearsal() -> Inputs:
    """A walk through two thousand items of the lesson's width."""
    vectors = unit_vectors(2000, 64, seed=7).float()
    return _inputs(normal(64, seed=8).float(), vectors, graph.neighbour_graph(vectors, 12, 4), 0, 40)


def _opened_one_by_one(**inputs) -> str:
    """What is opened, and what that shows."""
    opened = graph.opened_on_the_way(**inputs)
    first = opened[0]
    return (
        f"it opens {opened[:8]} in this order; {first} shows its neighbours {inputs['neighbours'][first].tolist()}; in "
        f"the end it has seen {graph.walk(**inputs).tolist()[:12]}, best first"
    )


EXERCISE = Exercise(
    "walk",
    library=graph.walk,
    example=EXAMPLE,
    cases=walk_cases,
    specification=walk_specification,
    steps=_opened_one_by_one,
    mistakes=WALK_MISTAKES,
    family=(walk_with, TOGGLES),
    exact=True,
    index=True,
    rehearsal=Rehearsal(rehearsal, calls=700),
)
