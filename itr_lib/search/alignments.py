"""Queries against items whose tokens lie one after the other: all shortlists of a batch in grouped matrix products.

Queries of equally many tokens go together, so that none is padded. The tokens of their shortlists are copied side by
side, one product meets all of them, and the best of each item follows. Soft codes also need how long each attended
vector is: there each query meets its shortlist in :func:`itr_lib.similarity.alignment_scores`, whose products take the
time and not its calls. Where everybody is aligned, all queries share the items, and nobody is copied.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from itr_lib.similarity import Alignment, pool_codes

BUDGET = 2**23  # bytes that tokens in float32 and their products may fill at once: a few times a core's own cache
TOGETHER = 32  # queries in a product


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
    scores, count = np.zeros(rows.shape, np.float32), rows.shape[1]
    if not len(queries) or not len(kept.tokens):
        return torch.from_numpy(scores)
    everybody = count == len(kept.ends)  # in whatever order
    some = np.arange(count) if everybody else rows.numpy()
    starts = np.where(some > 0, kept.ends[some - 1], 0)
    lengths, code = kept.ends[some] - starts, _hard if alignment.coding == "hard" else _soft
    together = min(TOGETHER, len(sizes)) if everybody else 1
    numbers = max(1, int(lengths.max())) * (queries.shape[1] + together * int(sizes.max()))  # an item
    room = max(1, BUDGET // (4 * numbers))
    wide = min(room, count)
    groups = list(_alike(queries, sizes.numpy(), together if everybody else room // wide))
    for items in (slice(start, start + wide) for start in range(0, count, wide)):
        shared = _taken(kept, starts[items], lengths[items]) if everybody else None
        for asked, words in groups:
            which = items if everybody else (asked, items)
            taken = _taken(kept, starts[which], lengths[which]) if shared is None else shared
            scores[asked, items] = code(alignment, side, words, taken, lengths[which])
    return torch.from_numpy(scores).gather(1, rows) if everybody else torch.from_numpy(scores)


def _alike(
    queries: Float[Tensor, "elements width"], sizes: Int[np.ndarray, " queries"], together: int
) -> Iterator[tuple[Int[np.ndarray, " alike"], Float[Tensor, "alike size width"]]]:
    """Which queries have equally many tokens, at most so many at once, and those; of queries without any, nothing."""
    first = sizes.cumsum() - sizes
    for size in sorted({*sizes.tolist()} - {0}):
        alike = np.flatnonzero(sizes == size)
        for start in range(0, len(alike), together):
            some = alike[start : start + together]
            yield some, torch.from_numpy(queries.numpy()[first[some, None] + np.arange(size)])


def _taken(
    kept: Kept, starts: Int[np.ndarray, "*some"], sizes: Int[np.ndarray, "*some"]
) -> Float[Tensor, "*some longest width"]:
    """Tokens of some items in float32; behind an item's last that one is repeated, and what has none borrows some.

    A view where they are neighbours, equally long, and float32 already.
    """
    if sizes.ndim == 1 and sizes[0] and (sizes == sizes[0]).all():
        where = slice(int(starts[0]), int(starts[0] + sizes.sum()))
        return _floats(kept, lambda part: part[where]).unflatten(0, (len(sizes), -1))
    last = np.maximum(sizes, 1)[..., None] - 1
    elements = np.minimum(starts[..., None] + np.minimum(np.arange(last.max() + 1), last), len(kept.tokens) - 1)
    which = torch.from_numpy(elements.ravel())
    return _floats(kept, lambda part: part.index_select(0, which)).unflatten(0, elements.shape)


def _floats(kept: Kept, take: Callable[[Tensor], Tensor]) -> Float[Tensor, "some width"]:
    tokens = take(kept.tokens).float()
    return tokens if kept.scales is None else tokens * take(kept.scales)[:, None]


def _hard(
    alignment: Alignment,
    side: str,
    words: Float[Tensor, "queries size width"],
    taken: Float[Tensor, "*queries some longest width"],
    sizes: Int[np.ndarray, "*queries some"],
) -> Float[np.ndarray, "queries some"]:
    """The best element of each item for each of the query's, the best of the query's for each element, or both."""
    pool = partial(pool_codes, pooling=alignment.pooling, beta=alignment.beta)
    dots = (words @ taken.flatten(-3, -2).mT).unflatten(2, taken.shape[-3:-1])  # (queries, size, some, longest)
    items, asked = ("regions", "words") if side == "images" else ("words", "regions")
    scores = torch.zeros(len(words), sizes.shape[-1])
    if alignment.attend in (items, "both"):  # a repeated element changes nothing
        scores += pool(dots.amax(dim=3).mT)
    if alignment.attend in (asked, "both"):
        codes = dots.amax(dim=1)  # (queries, some, longest)
        for size in np.unique(sizes[sizes > 0]).tolist():
            same = torch.from_numpy(sizes == size).expand(scores.shape)
            scores[same] += pool(codes[same][:, :size])
    return np.where(sizes > 0, scores.numpy(), 0)


def _soft(
    alignment: Alignment,
    side: str,
    words: Float[Tensor, "queries size width"],
    taken: Float[Tensor, "*queries some longest width"],
    sizes: Int[np.ndarray, "*queries some"],
) -> Float[np.ndarray, "queries some"]:
    """All of them with all items, or each with its own."""
    real = torch.from_numpy(np.arange(taken.shape[-2]) < sizes[..., None])
    each = [(words, taken, real)] if taken.ndim == 3 else zip(words[:, None], taken, real, strict=True)
    if side == "images":
        return torch.cat([alignment.scores(some, asked, mask).T for asked, some, mask in each]).numpy()
    return torch.cat([alignment.scores(asked, some, None, mask) for asked, some, mask in each]).numpy()
