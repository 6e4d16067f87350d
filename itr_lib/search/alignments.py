"""Queries against items whose tokens lie one after the other: all shortlists of a batch in grouped matrix products.

Queries of equally many tokens go together, so that none is padded; the tokens of a query's shortlist are copied side by
side, one product meets all of them, and a pass over it takes the best of each item. Soft codes also need how long each
attended vector is, so there the items are padded again for :func:`itr_lib.similarity.alignment_scores`, query by query;
the tests hold both ways against it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from itr_lib.similarity import Alignment, pool_codes

BUDGET = 2**22  # bytes that scores may fill at once: what a CPU's cache holds
COPIED = 8  # times as much for shortlists, whose tokens are copied: with 2, more blocks took half as long again


class Kept(NamedTuple):
    """The real tokens of all items, item after item; ``ends`` the row behind each item's last.

    ``scales``: what each token is multiplied by, where they are kept as whole numbers.
    """

    tokens: Tensor  # (elements, width) in float32, 16 bits or int8
    ends: Int[np.ndarray, " items"]
    scales: Float[Tensor, " elements"] | None = None


def align(
    alignment: Alignment,
    side: str,
    queries: Float[Tensor, "elements width"],
    sizes: Int[Tensor, " queries"],
    kept: Kept,
    rows: Int[Tensor, "queries some"],
) -> Float[Tensor, "queries some"]:
    """Scores of some items for each query, as many at once as fit the budget; an empty side scores 0.

    Args:
        side: what the items are, ``"images"`` or ``"captions"``; the queries are the other.
        queries: their real tokens, query after query; ``sizes``: how many each has.
        kept: the items.
        rows: which items, a row a query.
    """
    if rows.shape[1] == len(kept.ends):  # everybody, in whatever order: side by side, so that nobody is copied
        every = _aligned(alignment, side, queries, sizes.numpy(), kept, np.arange(len(kept.ends)))
        return torch.from_numpy(every).gather(1, rows)
    return torch.from_numpy(_aligned(alignment, side, queries, sizes.numpy(), kept, rows.numpy()))


def _aligned(
    alignment: Alignment,
    side: str,
    queries: Float[Tensor, "elements width"],
    sizes: Int[np.ndarray, " queries"],
    kept: Kept,
    rows: Int[np.ndarray, "queries some"] | Int[np.ndarray, " some"],
) -> Float[np.ndarray, "queries some"]:
    """The scores; one row of ``rows`` is for all queries, and neighbours."""
    scores = np.zeros((len(sizes), rows.shape[-1]), np.float32)
    starts = np.where(rows > 0, kept.ends[rows - 1], 0)
    lengths, first = kept.ends[rows] - starts, torch.from_numpy(sizes.cumsum() - sizes)
    budget = BUDGET * (COPIED if rows.ndim == 2 else 1)
    room = budget // (4 * max(1, int(lengths.max(initial=0))) * (queries.shape[1] + int(sizes.max(initial=0))))
    for size in np.unique(sizes[sizes > 0]) if len(kept.tokens) else ():
        alike = np.flatnonzero(sizes == size)
        if len(alike) == len(sizes):
            words = queries.unflatten(0, (len(alike), int(size)))  # (alike, size, width)
        else:
            words = queries[first[alike, None] + torch.arange(int(size))]
        for asked, items in _blocks(len(alike), rows.shape[-1], max(1, room)):
            which = (alike[asked], items) if rows.ndim == 2 else (items,)
            if rows.ndim == 2 and asked.stop - asked.start == 1:  # one product, and no batch of one
                which = int(alike[asked.start]), items
            scores[alike[asked], items] = _scored(alignment, side, words[asked], kept, starts[which], lengths[which])
    return scores


def _blocks(queries: int, items: int, room: int) -> list[tuple[slice, slice]]:
    """Cuts of queries and of their items, with at most ``room`` pairs together."""
    wide = min(room, items)
    high = room // wide
    return [
        (slice(q, min(q + high, queries)), slice(i, i + wide))
        for q in range(0, queries, high)
        for i in range(0, items, wide)
    ]


def _scored(
    alignment: Alignment,
    side: str,
    words: Float[Tensor, "queries size width"],
    kept: Kept,
    starts: Int[np.ndarray, "..."],
    sizes: Int[np.ndarray, "..."],
) -> Float[np.ndarray, "queries some"]:
    if alignment.coding == "hard":
        scores = _hard(alignment, side, words, kept, starts, np.maximum(sizes, 1))  # what is empty borrows a token
    else:
        starts, sizes = (np.broadcast_to(part, (len(words), part.shape[-1])) for part in (starts, sizes))
        each = zip(words, starts, sizes, strict=True)
        scores = np.stack([_soft(alignment, side, *one, kept) for one in each])
    return np.where(sizes > 0, scores, 0)


def _taken(
    kept: Kept, starts: Int[np.ndarray, "..."], sizes: Int[np.ndarray, "..."]
) -> tuple[Float[Tensor, "..."], np.ndarray | None]:
    """Tokens of some items in float32, a row of them a query; rows that end early repeat their last token.

    Returns:
        (taken, width), a view where the items are neighbours, or (queries, taken, width); and a mask (queries, taken),
        True = no repetition, None: there is none.
    """
    totals = sizes.sum(axis=-1)
    ends = starts + sizes
    if starts.ndim == 1 and (starts[1:] == ends[:-1]).all() and ends[-1] <= len(kept.tokens):
        return _floats(kept, slice(int(starts[0]), int(starts[0] + totals))), None
    flat = sizes.ravel()
    elements = np.repeat(starts.ravel() - (flat.cumsum() - flat), flat) + np.arange(flat.sum())
    elements, real = np.minimum(elements, len(kept.tokens) - 1), None
    if totals.ndim and (totals != totals[0]).any():
        real = np.arange(totals.max()) < totals[:, None]
        padded = np.repeat(elements[totals.cumsum() - 1, None], real.shape[1], axis=1)
        padded[real] = elements
        elements = padded
    return _floats(kept, torch.from_numpy(elements.ravel())).unflatten(0, (*totals.shape, -1)), real


def _floats(kept: Kept, where: slice | Int[Tensor, " some"]) -> Float[Tensor, "some width"]:
    take = (lambda part: part[where]) if isinstance(where, slice) else (lambda part: part.index_select(0, where))
    tokens = take(kept.tokens).float()
    return tokens if kept.scales is None else tokens * take(kept.scales)[:, None]


def _hard(
    alignment: Alignment,
    side: str,
    words: Float[Tensor, "queries size width"],
    kept: Kept,
    starts: Int[np.ndarray, "..."],
    sizes: Int[np.ndarray, "..."],
) -> Float[np.ndarray, "queries some"]:
    """The best element of each item for each of the query's, the best of the query's for each element, or both."""
    taken, real = _taken(kept, starts, sizes)
    dots = words @ taken.mT  # (queries, size, taken)
    sizes = np.broadcast_to(sizes, (len(words), sizes.shape[-1]))
    items, asked = ("regions", "words") if side == "images" else ("words", "regions")
    scores = np.zeros(sizes.shape, np.float32)
    if alignment.attend in (items, "both"):
        scores += _pooled(_best_elements(dots, sizes), alignment)
    if alignment.attend in (asked, "both"):
        codes = dots.amax(dim=1).numpy()  # (queries, taken)
        scores += _pooled_elements(codes.ravel() if real is None else codes[real], sizes, alignment)
    return scores


def _best_elements(
    dots: Float[Tensor, "queries size taken"], sizes: Int[np.ndarray, "queries some"]
) -> Float[np.ndarray, "queries size some"]:
    """The largest dot product with each item. A repeated last element changes nothing."""
    count, size, taken = dots.shape
    if (sizes == sizes[0, 0]).all():
        return dots.unflatten(2, (-1, int(sizes[0, 0]))).amax(dim=3).numpy()
    edges = (sizes.cumsum(axis=1) - sizes)[:, None] + taken * np.arange(count * size).reshape(count, size, 1)
    return np.maximum.reduceat(dots.numpy().ravel(), edges.ravel()).reshape(edges.shape)


def _pooled_elements(
    codes: Float[np.ndarray, " elements"], sizes: Int[np.ndarray, "queries some"], alignment: Alignment
) -> Float[np.ndarray, "queries some"]:
    """Of each item the pooled codes of its elements, which lie item after item."""
    flat = sizes.ravel()
    edges = flat.cumsum() - flat
    if alignment.pooling == "sum":
        return np.add.reduceat(codes, edges).reshape(sizes.shape)
    scores = np.empty(len(flat), np.float32)
    for size in np.unique(flat):
        same = np.flatnonzero(flat == size)
        scores[same] = _pooled(codes[edges[same] + np.arange(size)[:, None]][None], alignment)[0]
    return scores.reshape(sizes.shape)


def _pooled(codes: Float[np.ndarray, "queries codes some"], alignment: Alignment) -> Float[np.ndarray, "queries some"]:
    if alignment.pooling == "sum":
        return codes.sum(axis=1)
    return pool_codes(torch.from_numpy(codes).mT, alignment.pooling, alignment.beta).numpy()


def _soft(
    alignment: Alignment,
    side: str,
    query: Float[Tensor, "size width"],
    starts: Int[np.ndarray, " some"],
    sizes: Int[np.ndarray, " some"],
    kept: Kept,
) -> Float[np.ndarray, " some"]:
    place = np.arange(sizes.max())
    mask, elements = place < sizes[:, None], np.minimum(starts[:, None] + place, len(kept.tokens) - 1)
    padded = _floats(kept, torch.from_numpy(elements.ravel())).unflatten(0, elements.shape)
    real = torch.from_numpy(mask)
    if side == "images":
        return alignment.scores(padded, query[None], real)[:, 0].numpy()
    return alignment.scores(query[None], padded, None, real)[0].numpy()
