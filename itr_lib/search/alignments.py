"""One query against items whose tokens lie one after the other.

Hard codes take one matrix product and a pass over it. Soft codes also need how long each attended vector is, so there
the items are padded again for :func:`itr_lib.similarity.alignment_scores`; the tests hold both ways against it.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from itr_lib.similarity import Alignment, pool_codes

BUDGET = 2**22  # bytes that scores, or tokens taken out of the index, may fill at once: what a CPU's cache holds


def align(
    alignment: Alignment,
    side: str,
    query: Float[Tensor, "q width"],
    kept: Float[Tensor, "elements width"],
    ends: Int[np.ndarray, " items"],
    rows: Int[np.ndarray, " some"],
) -> Float[np.ndarray, " some"]:
    """Scores of some items, in ascending rows, as many at once as fit the budget; an empty side scores 0.

    Args:
        side: what the items are, ``"images"`` or ``"captions"``; the query is the other.
        query: its real tokens.
        kept: the real tokens of all items, item after item; in float16 or float32.
        ends: the row of ``kept`` behind each item's last.
        rows: which items.
    """
    starts, ends = np.where(rows > 0, ends[rows - 1], 0), ends[rows]
    scores = np.zeros(len(rows), np.float32)
    if not len(query):
        return scores
    widest = max(1, int((ends - starts).max()))
    at_once = max(1, BUDGET // (4 * widest * (query.shape[1] + len(query))))
    scored = _hard if alignment.coding == "hard" else _soft
    for first in range(0, len(rows), at_once):
        block = slice(first, first + at_once)
        real = np.flatnonzero(ends[block] > starts[block])
        if len(real):
            spans = starts[block][real], ends[block][real]
            scores[first + real] = scored(alignment, side, query, _taken(kept, *spans), spans[1] - spans[0])
    return scores


def _taken(
    kept: Float[Tensor, "elements width"], starts: Int[np.ndarray, " some"], ends: Int[np.ndarray, " some"]
) -> Float[Tensor, "taken width"]:
    """The tokens of some items one after the other, in float32."""
    if ends[-1] - starts[0] == (ends - starts).sum():  # neighbours: no copy
        return kept[starts[0] : ends[-1]].float()
    each = kept.numpy()  # numpy copies slices in half the time of torch's index_select
    spans = zip(starts.tolist(), ends.tolist(), strict=True)
    return torch.from_numpy(np.concatenate([each[first:last] for first, last in spans])).float()


def _hard(
    alignment: Alignment, side: str, query: Tensor, taken: Tensor, sizes: Int[np.ndarray, " some"]
) -> Float[np.ndarray, " some"]:
    """The best element of each item for each of the query's, the best of the query's for each element, or both."""
    # This way round, and numpy's reduceat over the items, took half the time of torch's segment_reduce.
    dots = (query @ taken.T).numpy()  # (q, taken)
    edges, scores = sizes.cumsum() - sizes, np.zeros(len(sizes), np.float32)
    items, asked = ("regions", "words") if side == "images" else ("words", "regions")
    if alignment.attend in (items, "both"):
        scores += _pooled(np.maximum.reduceat(dots, edges, axis=1), alignment)
    if alignment.attend in (asked, "both"):
        codes = dots.max(axis=0)
        if alignment.pooling == "sum":
            return scores + np.add.reduceat(codes, edges)
        for size in np.unique(sizes):
            same = np.flatnonzero(sizes == size)
            scores[same] += _pooled(codes[edges[same] + np.arange(size)[:, None]], alignment)
    return scores


def _pooled(codes: Float[np.ndarray, "codes some"], alignment: Alignment) -> Float[np.ndarray, " some"]:
    if alignment.pooling == "sum":
        return codes.sum(axis=0)
    return pool_codes(torch.from_numpy(codes).T, alignment.pooling, alignment.beta).numpy()


def _soft(
    alignment: Alignment, side: str, query: Tensor, taken: Tensor, sizes: Int[np.ndarray, " some"]
) -> Float[np.ndarray, " some"]:
    place, count = np.arange(sizes.max()), torch.from_numpy(sizes)
    mask = torch.from_numpy(place) < count[:, None]  # (some, widest)
    padded = taken.new_zeros(*mask.shape, taken.shape[1])
    padded[mask] = taken
    if side == "images":
        return alignment.scores(padded, query[None], mask)[:, 0].numpy()
    return alignment.scores(query[None], padded, None, mask)[0].numpy()
