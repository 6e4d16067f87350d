"""A walk through a graph of neighbours, as HNSW takes one on each of its layers.

Yu. A. Malkov, D. A. Yashunin. *Efficient and robust approximate nearest neighbor search using hierarchical navigable
small world graphs.* IEEE TPAMI 42(4):824-836, 2020, Algorithm 2. HNSW adds sparser layers above, from which the walk
comes down near its goal; here a few long links do that.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

AT_ONCE = 2**12  # rows of a product of all vectors with all


def neighbour_graph(
    vectors: Float[Tensor, "n dim"], near: int, far: int, *, seed: int = 0
) -> Int[Tensor, "n near+far"]:
    """Of each item the ``near`` others with the highest dot products, then ``far`` drawn at random.

    Raises:
        ValueError: for fewer than ``near`` others.
    """
    if not 1 <= near < len(vectors):
        raise ValueError(f"near is {near}, expected 1 to {len(vectors) - 1}: an item's neighbours are other items")
    links = []
    for rows in torch.arange(len(vectors), device=vectors.device).split(AT_ONCE):
        scores = vectors[rows] @ vectors.T
        scores[torch.arange(len(rows)), rows] = -torch.inf
        links.append(scores.topk(near).indices)
    g = torch.Generator().manual_seed(seed)
    anywhere = torch.randint(len(vectors), (len(vectors), far), generator=g).to(vectors.device)
    return torch.cat([torch.cat(links), anywhere], dim=1)


def walk(
    query: Float[Tensor, " dim"],
    vectors: Float[Tensor, "n dim"],
    neighbours: Int[Tensor, "n links"],
    start: int,
    beam: int,
) -> Int[Tensor, " seen"]:
    """All items that a walk from ``start`` sees, best first: those with the highest dot products with the query.

    The *beam* holds the best ``beam`` items seen so far. At each step the best item of the beam whose neighbours were
    not looked at yet is opened: they are seen now. The walk ends when the beam has no such item.

    Raises:
        ValueError: for a beam below 1, or a start that is no row.
    """
    best, _ = _walked(query, vectors, neighbours, start, beam)
    return torch.tensor(best, device=query.device)


def opened_on_the_way(
    query: Float[Tensor, " dim"],
    vectors: Float[Tensor, "n dim"],
    neighbours: Int[Tensor, "n links"],
    start: int,
    beam: int,
) -> list[int]:
    """The items whose neighbours :func:`walk` looks at, in that order: for a picture of it. Raises alike."""
    return _walked(query, vectors, neighbours, start, beam)[1]


def _walked(query: Tensor, vectors: Tensor, neighbours: Tensor, start: int, beam: int) -> tuple[list[int], list[int]]:
    if beam < 1 or not 0 <= start < len(vectors):
        raise ValueError(
            f"beam is {beam} and start {start}, expected 1 or more, and a row from 0 to {len(vectors) - 1}"
        )
    seen, opened = {start: float(vectors[start] @ query)}, {}
    while True:
        best = sorted(seen, key=seen.__getitem__, reverse=True)
        closed = [item for item in best[:beam] if item not in opened]
        if not closed:
            return best, list(opened)
        opened[closed[0]] = True
        new = [item for item in dict.fromkeys(neighbours[closed[0]].tolist()) if item not in seen]
        if new:
            seen.update(zip(new, (vectors[new] @ query).tolist(), strict=True))
