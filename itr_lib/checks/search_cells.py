"""``search-cells``, lesson 07.

All items of a few cells, best first, beside loops over cells and items.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from itr_lib.checks._inputs import generator, normal, sizes, unit_vectors
from itr_lib.checks.frame import Case, Exercise, Rehearsal
from itr_lib.checks.outcome import Inputs
from itr_lib.search.cells import search_cells

EXAMPLE = Case(
    {
        "query": torch.tensor([1.0, 0.0], dtype=torch.float64),
        "vectors": torch.tensor([[0.0, 1.0], [0.1, 2.0], [0.6, 0.8], [0.8, 0.6], [-1.0, 0.0]], dtype=torch.float64),
        "starts": torch.tensor([0, 2, 4, 5]),
        "centroids": torch.tensor([[0.0, 1.0], [0.7, 0.7], [-1.0, 0.0]], dtype=torch.float64),
        "probes": 2,
    },
    worked=[3, 2, 1, 0],
)
# items, cells, probes, trap
SHAPES = [
    (30, 6, 2, ""),
    (40, 8, 3, ""),
    (25, 5, 1, "one cell is looked into"),
    (12, 4, 9, "there are fewer cells than probes"),
    (20, 5, 5, "there are as many cells as probes"),
    (1, 3, 2, "there is one item"),
    (9, 12, 4, "most cells are empty"),
    (16, 1, 1, "there is one cell"),
]


def cells_cases() -> Iterator[Case]:
    """Items of any length in cells of any size, some empty, the nearest one too; fewer cells than probes."""
    for seed, (*shape, probes, trap) in enumerate(SHAPES):
        items, cells = sizes(*shape)
        yield Case(_inputs(items, cells, probes, seed), trap)
    empty = _inputs(*sizes(14, 6), 1, 90)
    best = int((empty["centroids"] @ empty["query"]).argmax())
    empty["starts"][best + 1 :] -= empty["starts"][best + 1] - empty["starts"][best]
    some = empty["starts"][-1]
    yield Case(empty | {"vectors": empty["vectors"][:some]}, "the only cell that is looked into is empty")
    yield Case(empty | {"vectors": empty["vectors"][:some], "probes": 2}, "the nearest cell is empty")


def _inputs(items: int, cells: int, probes: int, seed: int) -> Inputs:
    """Cells that have nothing to do with their centroids, so that only ``starts`` says what is where."""
    own = torch.randint(cells, (items,), generator=generator(1940 + seed))
    starts = torch.cat([torch.zeros(1, dtype=torch.long), torch.bincount(own, minlength=cells).cumsum(0)])
    return {
        "query": normal(4, seed=1900 + seed),
        "vectors": 2 * normal(items, 4, seed=1920 + seed),
        "starts": starts,
        "centroids": normal(cells, 4, seed=1960 + seed),
        "probes": probes,
    }


def cells_specification(query, vectors, starts, centroids, probes) -> Tensor:
    """Cell by cell, item by item."""

    def dot(vector: Tensor) -> float:
        return sum(x * y for x, y in zip(query.tolist(), vector.tolist(), strict=True))

    nearest = sorted(range(len(centroids)), key=lambda cell: -dot(centroids[cell]))[:probes]
    rows = [row for cell in nearest for row in range(int(starts[cell]), int(starts[cell + 1]))]
    return torch.tensor(sorted(rows, key=lambda row: -dot(vectors[row])), dtype=torch.long)


def _dot(query: Tensor, vectors: Tensor) -> Tensor:
    return vectors @ query


def _nearness(query: Tensor, vectors: Tensor) -> Tensor:
    return -(vectors - query).norm(dim=1)


def _cosines(query: Tensor, vectors: Tensor) -> Tensor:
    return torch.nn.functional.normalize(vectors, dim=1) @ query


def cells_with(
    query, vectors, starts, centroids, probes, near=_dot, score=_dot, count=lambda probes: probes,
    span=lambda starts, cell: (int(starts[cell]), int(starts[cell + 1])), turn=lambda cells: cells,
    give=lambda rows, scores, span: rows[scores.argsort(descending=True, stable=True)],
) -> Tensor:  # fmt: skip
    """The search, with options to spoil it."""
    cells = turn(near(query, centroids).argsort(descending=True, stable=True))[: count(probes)].tolist()
    spans = [span(starts, cell) for cell in cells]
    parts = [torch.arange(min(begin, len(vectors)), min(end, len(vectors))) for begin, end in spans if begin < end]
    rows = torch.cat(parts) if parts else torch.zeros(0, dtype=torch.long)
    return give(rows, score(query, vectors[rows]), spans)


def _local_rows(rows, scores, spans):
    inside = [torch.arange(end - begin) for begin, end in spans]
    return torch.cat(inside)[scores.argsort(descending=True)] if inside else rows


def _cell_by_cell(rows, scores, spans):
    """Each cell sorted on its own."""
    sizes_of, found = [max(0, end - begin) for begin, end in spans], []
    for part, own in zip(rows.split(sizes_of), scores.split(sizes_of), strict=True):
        found.append(part[own.argsort(descending=True)])
    return torch.cat(found) if found else rows


def _order(scores: Tensor) -> Tensor:
    return scores.argsort(descending=True)


TOGGLES: dict[str, dict[str, object]] = {
    "cells are chosen by Euclidean distance: by the dot products of their centroids with the query": {
        "near": _nearness
    },
    "centroids are brought to length 1 first: take them as they come": {"near": _cosines},
    "items are ordered by Euclidean distance: by dot product": {"score": _nearness},
    "items are brought to length 1 first: plain dot products": {"score": _cosines},
    "the cells with the lowest dot products are looked into: the highest": {"turn": lambda cells: cells.flip(0)},
    "the first cells are looked into, whatever the query is: those with the highest dot products": {
        "turn": lambda cells: cells.sort().values
    },
    "these are places that the cells have in an order, not the cells in their order: topk, or one argsort": {
        "turn": lambda cells: cells.argsort()
    },
    "cells are chosen by the size of their dot products, whatever the sign: the highest": {
        "near": lambda query, vectors: (vectors @ query).abs()
    },
    "one cell is looked into, whatever probes says": {"count": lambda probes: 1},
    "one cell too few is looked into": {"count": lambda probes: probes - 1},
    "one cell too many is looked into": {"count": lambda probes: probes + 1},
    "a cell's first item is left out: it holds rows starts[c] to starts[c + 1] - 1": {
        "span": lambda starts, cell: (int(starts[cell]) + 1, int(starts[cell + 1]))
    },
    "a cell's last item is left out: it holds rows starts[c] to starts[c + 1] - 1; arange leaves its end out": {
        "span": lambda starts, cell: (int(starts[cell]), int(starts[cell + 1]) - 1)
    },
    "the first item of the next cell comes along: starts[c + 1] is not included": {
        "span": lambda starts, cell: (int(starts[cell]), int(starts[cell + 1]) + 1)
    },
    "the cell before the chosen one is looked into: cell c begins at starts[c]": {
        "span": lambda starts, cell: (int(starts[max(0, cell - 1)]), int(starts[cell]))
    },
    "the cell behind the chosen one is looked into: cell c begins at starts[c]": {
        "span": lambda starts, cell: (int(starts[cell + 1]), int(starts[min(cell + 2, len(starts) - 1)]))
    },
    "a cell is taken to reach to the end of the gallery: it ends before starts[c + 1]": {
        "span": lambda starts, cell: (int(starts[cell]), int(starts[-1]))
    },
    "starts[c + 1] is taken for the number of items: it is where the next cell begins": {
        "span": lambda starts, cell: (int(starts[cell]), int(starts[cell]) + int(starts[cell + 1]))
    },
    "rows count within each cell: add where the cell begins, starts[c]": {"give": _local_rows},
    "these are places among the candidates: look up there which rows they are, rows[order]": {
        "give": lambda rows, scores, spans: _order(scores)
    },
    "these are the dot products, best first: the rows are asked for": {
        "give": lambda rows, scores, spans: scores.sort(descending=True).values
    },
    "these are the dot products: the rows are asked for, best first": {"give": lambda rows, scores, spans: scores},
    "rows are not ordered by their dot products: best first": {"give": lambda rows, scores, spans: rows},
    "this is worst first: best first, descending": {"give": lambda rows, scores, spans: rows[scores.argsort()]},
    "rows are sorted by number: by dot product, best first": {"give": lambda rows, scores, spans: rows.sort().values},
    "each cell is sorted on its own: sort the candidates of all cells together": {"give": _cell_by_cell},
    "the order is taken once too often (argsort of an argsort): rows[scores.argsort(descending=True)]": {
        "give": lambda rows, scores, spans: rows[_order(scores).argsort()]
    },
    "this is the best row alone: all rows of the cells": {"give": lambda rows, scores, spans: rows[_order(scores)][:1]},
    "this is one row for each cell: all of their rows": {
        "give": lambda rows, scores, spans: rows[_order(scores)][: len(spans)]
    },
}


def _cells_themselves(query, vectors, starts, centroids, probes):
    return (centroids @ query).argsort(descending=True)[:probes]


def _where_they_begin(query, vectors, starts, centroids, probes):
    return starts[_cells_themselves(query, vectors, starts, centroids, probes)]


def _all_items(query, vectors, starts, centroids, probes):
    return _order(vectors @ query)


def _best_items(query, vectors, starts, centroids, probes):
    return _order(vectors @ query)[:probes]


def _one_long_span(query, vectors, starts, centroids, probes):
    """From the first of the chosen cells to the last, with what lies between."""
    cells = _cells_themselves(query, vectors, starts, centroids, probes)
    rows = torch.arange(int(starts[cells.min()]), int(starts[cells.max() + 1]))
    return rows[_order(vectors[rows] @ query)]


def _nearest_centroid_again(query, vectors, starts, centroids, probes):
    """Which cell an item belongs to is worked out anew, and starts is not asked."""
    own = torch.cdist(vectors, centroids).argmin(dim=1)
    rows = torch.isin(own, _cells_themselves(query, vectors, starts, centroids, probes)).nonzero()[:, 0]
    return rows[_order(vectors[rows] @ query)]


def _of_the_best_items(query, vectors, starts, centroids, probes):
    """The cells in which the best items lie."""
    owner = torch.arange(len(centroids)).repeat_interleave(starts.diff())
    cells = owner[_order(vectors @ query)[:probes]]
    rows = torch.isin(owner, cells).nonzero()[:, 0]
    return rows[_order(vectors[rows] @ query)]


def _inside(vectors, starts, centroids, cells):
    owner = torch.arange(len(centroids)).repeat_interleave(starts.diff())
    return torch.isin(owner, cells)


def _others_filled(fill):
    def filled(query, vectors, starts, centroids, probes):
        cells = _cells_themselves(query, vectors, starts, centroids, probes)
        scores = (vectors @ query).masked_fill(~_inside(vectors, starts, centroids, cells), fill)
        return scores.argsort(descending=True, stable=True)

    return filled


def _cut_to_probes(query, vectors, starts, centroids, probes):
    return search_cells(query, vectors, starts, centroids, probes)[:probes]


def _last_cell_alone(query, vectors, starts, centroids, probes):
    cell = _cells_themselves(query, vectors, starts, centroids, probes)[-1]
    rows = torch.arange(int(starts[cell]), int(starts[cell + 1]))
    return rows[_order(vectors[rows] @ query)]


def _vectors_of_the_rows(query, vectors, starts, centroids, probes):
    return vectors[search_cells(query, vectors, starts, centroids, probes)]


CELLS_MISTAKES: dict[str, Callable] = {
    "these are the numbers of the cells: their items' rows are asked for": _cells_themselves,
    "these are the rows where the cells begin: all their rows, starts[c] to starts[c + 1] - 1": _where_they_begin,
    "these are all items: those of the `probes` best cells": _all_items,
    "these are the best `probes` items of all: all items of the `probes` best cells": _best_items,
    "everything from the first chosen cell to the last is looked at: the chosen cells alone": _one_long_span,
    "the cells of the best items are looked into, which nobody knows before looking at all: the cells whose centroids "
    "have the highest dot products": _of_the_best_items,
    "the items of other cells stand at the end: they are left out, since nobody looked at them": _others_filled(
        -torch.inf
    ),
    "the items of other cells count with a dot product of 0: they are left out": _others_filled(0.0),
    "only the best `probes` rows are returned: all rows of the cells": _cut_to_probes,
    "only the last of the chosen cells is looked at: all of them; is something added up, or written over?": (
        _last_cell_alone
    ),
    "these are the items' vectors: their rows are asked for": _vectors_of_the_rows,
    "items are put into cells anew: `starts` says which rows a cell holds": _nearest_centroid_again,
}


def rehearsal() -> Inputs:
    """A hundred thousand items in 316 cells, of which eight are looked into."""
    starts = torch.linspace(0, 100_000, 317).long()
    many = unit_vectors(1000, 64, seed=4).float().repeat(100, 1)
    centroids, query = unit_vectors(316, 64, seed=5).float(), normal(64, seed=6).float()
    return {"query": query, "vectors": many, "starts": starts, "centroids": centroids, "probes": 8}


def _cells_and_rows(query, vectors, starts, centroids, probes) -> str:
    """Which cells, and what is in them."""
    cells = _cells_themselves(query, vectors, starts, centroids, probes).tolist()
    spans = [
        f"cell {cell} holds rows {list(range(int(starts[cell]), int(starts[cell + 1])))[:8]}" for cell in cells[:4]
    ]
    rows = search_cells(query, vectors, starts, centroids, probes).tolist()
    return f"{'; '.join(spans)}; best first that is {rows[:12]}"


EXERCISE = Exercise(
    "search-cells",
    library=search_cells,
    example=EXAMPLE,
    cases=cells_cases,
    specification=cells_specification,
    steps=_cells_and_rows,
    mistakes=CELLS_MISTAKES,
    family=(cells_with, TOGGLES),
    exact=True,
    index=True,
    rehearsal=Rehearsal(rehearsal, calls=3600),
)
