"""``code-scores``, lesson 07.

Dot products with coded vectors, beside building each vector anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from itr_lib.checks._inputs import generator, normal, sizes
from itr_lib.checks.frame import Case, Exercise, Rehearsal
from itr_lib.checks.outcome import Inputs
from itr_lib.search.codes import code_scores

EXAMPLE = Case(
    {
        "query": torch.tensor([1, 2, 3, 4], dtype=torch.float64),
        "codes": torch.tensor([[0, 0], [1, 1]]),
        "codebooks": torch.tensor([[[1, 0], [0, 1]], [[0, 0], [3, 3]]], dtype=torch.float64),
    },
    worked=[1.0, 23.0],
)
BYTES = "codes come as bytes"
# items, parts, centroids, width of a part, trap
SHAPES = [
    (9, 4, 6, 3, ""),
    (12, 2, 5, 4, BYTES),
    (1, 3, 4, 2, "there is one item"),
    (8, 1, 7, 5, "there is one part"),
    (10, 5, 3, 1, "a part is one number"),
    (4, 4, 4, 4, "as many items as parts, centroids and numbers a part"),
    (15, 3, 2, 2, f"{BYTES}, all of them 0 or 1"),
    (7, 2, 200, 3, f"{BYTES}, some above 127"),
]


def scores_cases() -> Iterator[Case]:
    """Codes as whole numbers and as bytes; one item, one part, one number a part."""
    for seed, (*shape, trap) in enumerate(SHAPES):
        items, parts, centroids, width = sizes(*shape)
        codes = torch.randint(centroids, (items, parts), generator=generator(1820 + seed))
        yield Case(
            {
                "query": normal(parts * width, seed=1800 + seed),
                "codes": codes.to(torch.uint8) if trap.startswith(BYTES) else codes,
                "codebooks": normal(parts, centroids, width, seed=1840 + seed),
            },
            trap,
        )


def scores_specification(query: Tensor, codes: Tensor, codebooks: Tensor) -> Tensor:
    """Item by item the vector that its codes stand for, and its dot product."""
    books, scores = codebooks.tolist(), []
    for own in codes.tolist():
        vector = [number for m, code in enumerate(own) for number in books[m][code]]
        scores.append(sum(x * y for x, y in zip(query.tolist(), vector, strict=True)))
    return torch.tensor(scores, dtype=query.dtype)


def _table(query: Tensor, codebooks: Tensor) -> Tensor:
    """(M, K) dot products."""
    return torch.einsum("mw,mkw->mk", query.view(len(codebooks), -1), codebooks)


def _look_up(table: Tensor, codes: Tensor) -> Tensor:
    """(M, K), (N, M) -> (N, M)."""
    return table.T.gather(0, codes) if codes.numel() else codes.to(table.dtype)


def scores_with(
    query, codes, codebooks, ask=lambda query, parts: query, table=_table, look=_look_up,
    pool=lambda each: each.sum(dim=1), books=lambda books: books, read=lambda codes: codes.long(),
) -> Tensor:  # fmt: skip
    """The scores, with options to spoil them."""
    return pool(look(table(ask(query, len(codebooks)), books(codebooks)), read(codes)))


def _distances(query: Tensor, codebooks: Tensor) -> Tensor:
    return (codebooks - query.view(len(codebooks), 1, -1)).square().sum(dim=2)


TOGGLES: dict[str, dict[str, object]] = {
    "these are squared distances: dot products are asked for": {"table": _distances},
    "these are negative squared distances: dot products are asked for": {
        "table": lambda query, books: -_distances(query, books)
    },
    "the table holds the centroids' numbers added up, without the query: its dot products with the query's parts": {
        "table": lambda query, books: books.sum(dim=2)
    },
    "the query's part is taken at random places: part m is the m-th piece of the query, chunk(M)": {
        "ask": lambda query, parts: query.view(-1, parts).T.flatten()
    },
    "the query's parts are taken from the back: part 0 is its first numbers": {
        "ask": lambda query, parts: query.view(parts, -1).flip(0).flatten()
    },
    "every part of the query is its first one: part m meets codebook m": {
        "ask": lambda query, parts: query.view(parts, -1)[:1].expand(parts, -1).flatten()
    },
    "the query is brought to length 1 first: take it as it comes": {
        "ask": lambda query, parts: torch.nn.functional.normalize(query, dim=0)
    },
    "centroids are brought to length 1 first: take them as they come": {
        "books": lambda books: torch.nn.functional.normalize(books, dim=2)
    },
    "every part uses the first codebook: part m has codebook m": {"books": lambda books: books[:1].expand_as(books)},
    "part 0 meets the last codebook, and so on backwards: part m has codebook m": {
        "books": lambda books: books.flip(0)
    },
    "the codes' columns are taken from the back: column m belongs to part m": {
        "read": lambda codes: codes.long().flip(1)
    },
    "codes are read as True and False: bytes are taken for a mask; codes.long() makes numbers of them": {
        "read": lambda codes: codes.bool().long()
    },
    "codes are read as numbers from -128 to 127 (int8): codes.long()": {
        "read": lambda codes: codes.to(torch.int8).long() % 128
    },
    "codes are taken to begin at 1: the first centroid is number 0": {"read": lambda codes: codes.long() - 1},
    "this is the mean over the parts: their sum": {"pool": lambda each: each.mean(dim=1)},
    "this is the largest over the parts: their sum": {"pool": lambda each: each.amax(dim=1)},
    "this is the product over the parts: their sum": {"pool": lambda each: each.prod(dim=1)},
    "only the first part counts: the sum over all; does a return stand inside the loop?": {
        "pool": lambda each: each[:, 0]
    },
    "only the last part counts: the sum over all; is it added up, or written over?": {"pool": lambda each: each[:, -1]},
    "the first part is missing: the sum over all": {"pool": lambda each: each[:, 1:].sum(dim=1)},
    "the last part is missing: the sum over all": {"pool": lambda each: each[:, :-1].sum(dim=1)},
    "these are the parts' numbers, one by one: their sum over the parts": {"pool": lambda each: each},
    "this is the sum over the items: over the parts, dim=1": {"pool": lambda each: each.sum(dim=0)},
    "this is the sum over everything: one number an item": {"pool": torch.sum},
    "look-ups are squared before they are added up: plain dot products": {
        "pool": lambda each: each.square().sum(dim=1)
    },
    "look-ups are added up without their signs: plain dot products": {"pool": lambda each: each.abs().sum(dim=1)},
    "the sign is turned round": {"pool": lambda each: -each.sum(dim=1)},
}


def _codes_themselves(query, codes, codebooks):
    return codes.to(query.dtype) @ query.view(len(codebooks), -1).sum(dim=1)


def _whole_table(query, codes, codebooks):
    return _table(query, codebooks)


def _all_centroids(query, codes, codebooks):
    """The table's rows are added up, and one code picks."""
    return _table(query, codebooks).sum(dim=0)[codes[:, 0].long()]


def _sorted_rows(query, codes, codebooks):
    return scores_with(query, codes, codebooks).argsort(descending=True)


def _as_mask(query, codes, codebooks):
    """What torch makes of a byte as an index."""
    table = _table(query, codebooks)
    return sum(row[column.bool()] for row, column in zip(table, codes.T, strict=True))


def _bytes_at_once(query, codes, codebooks):
    """One look-up for all; bytes are a mask there, of the wrong shape."""
    own = codes.bool() if codes.dtype == torch.uint8 else codes
    return _table(query, codebooks)[torch.arange(len(codebooks)), own].sum(dim=1)


def _bytes_gathered(query, codes, codebooks):
    """gather takes no bytes."""
    return _table(query, codebooks).gather(1, codes.T).sum(dim=0)


SCORES_MISTAKES: dict[str, Callable] = {
    "codes come as bytes here, and torch takes bytes as an index for True and False: codes.long()": _bytes_at_once,
    "codes come as bytes here, and gather asks for whole numbers of 64 bits: codes.long()": _bytes_gathered,
    "this multiplies with the codes themselves: a code is the number of a centroid, so look it up": _codes_themselves,
    "this is the table, (M, K): look up each item's codes in it, and add them up": _whole_table,
    "all parts use the first column of the codes, or the table's rows are added up before the look-up: column m is "
    "looked up in row m of the table": _all_centroids,
    "these are places in an order: the dot products are asked for": _sorted_rows,
    "bytes (torch.uint8) as an index are taken for a mask of True and False: codes.long()": _as_mask,
}


def rehearsal() -> Inputs:
    """A twentieth of the lesson's gallery, in eight parts."""
    codes = torch.randint(256, (5_000, 8), generator=generator(3)).to(torch.uint8)
    return {"query": normal(64, seed=1).float(), "codes": codes, "codebooks": normal(8, 256, 8, seed=2).float()}


def _first_item(query: Tensor, codes: Tensor, codebooks: Tensor) -> str:
    """The first item's look-ups."""
    own = codes[0].tolist()
    numbers = [float(_table(query, codebooks)[m, code]) for m, code in enumerate(own)]
    return (
        f"item 0 has the codes {own}; the table holds {[round(x, 3) for x in numbers]} there, which adds up to "
        f"{sum(numbers):.3f}"
    )


EXERCISE = Exercise(
    "code-scores",
    library=code_scores,
    example=EXAMPLE,
    cases=scores_cases,
    specification=scores_specification,
    steps=_first_item,
    mistakes=SCORES_MISTAKES,
    family=(scores_with, TOGGLES),
    rehearsal=Rehearsal(rehearsal, calls=20 * 600),
)
