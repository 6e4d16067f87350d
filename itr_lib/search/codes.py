"""Product quantisation: a vector in a few bytes, and dot products with it from a table.

A vector is cut into parts. Each part is replaced by the nearest of 256 *centroids* that were learnt for that part, and
only the centroid's number is kept: a byte. The centroids of all parts are the *codebooks*.

H. Jégou, M. Douze, C. Schmid. *Product quantization for nearest neighbor search.* IEEE TPAMI 33(1):117-128, 2011.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

AT_ONCE = 2**12  # vectors whose products with the centroids fit into a CPU's cache


def k_means(
    vectors: Float[Tensor, "n dim"], count: int, *, seed: int = 0, rounds: int = 10
) -> Float[Tensor, "count dim"]:
    """``count`` centroids of the vectors: Lloyd's rounds from vectors drawn at random.

    A centroid that nobody is nearest to takes the place of a vector drawn anew. Equal input gives equal centroids.

    Raises:
        ValueError: for fewer vectors than centroids.
    """
    if not 1 <= count <= len(vectors):
        raise ValueError(f"{len(vectors)} vectors cannot have {count} centroids: expected 1 to as many as there are")
    g = torch.Generator().manual_seed(seed)
    centroids = vectors[torch.randperm(len(vectors), generator=g)[:count].to(vectors.device)]
    for _ in range(rounds):
        own = nearest(vectors, centroids)
        sums = torch.zeros_like(centroids).index_add_(0, own, vectors)
        members = torch.bincount(own, minlength=count)[:, None]
        anew = vectors[torch.randint(len(vectors), (count,), generator=g).to(vectors.device)]
        centroids = torch.where(members > 0, sums / members.clamp(min=1), anew)
    return centroids


def nearest(vectors: Float[Tensor, "n dim"], centroids: Float[Tensor, "count dim"]) -> Int[Tensor, " n"]:
    """The nearest centroid of each vector by Euclidean distance; of equally near ones the first."""
    half = centroids.square().sum(dim=1) / 2  # |v - c|^2 = |v|^2 - 2 (v c - |c|^2 / 2): |v|^2 decides nothing
    own = torch.empty(len(vectors), dtype=torch.long, device=vectors.device)
    for block, place in zip(vectors.split(AT_ONCE), own.split(AT_ONCE), strict=True):
        place.copy_(torch.addmm(-half, block, centroids.T).max(dim=1).indices)
    return own


def train_codebooks(
    vectors: Float[Tensor, "n dim"], parts: int, *, size: int = 256, seed: int = 0
) -> Float[Tensor, "parts size width"]:
    """``size`` centroids for each of ``parts`` equally wide parts of the vectors.

    Raises:
        ValueError: where the parts do not divide the width, or for fewer vectors than centroids.
    """
    if parts < 1 or vectors.shape[1] % parts:
        raise ValueError(
            f"parts is {parts}, expected a number that divides the width of the vectors, {vectors.shape[1]}"
        )
    return torch.stack([k_means(part, size, seed=seed) for part in vectors.chunk(parts, dim=1)])


def product_codes(
    vectors: Float[Tensor, "n dim"], codebooks: Float[Tensor, "parts size width"]
) -> Int[Tensor, "n parts"]:
    """For each part of each vector the number of its nearest centroid; of equally near ones the first."""
    parts = vectors.chunk(len(codebooks), dim=1)
    return torch.stack([nearest(part, book) for part, book in zip(parts, codebooks, strict=True)], dim=1)


def code_scores(
    query: Float[Tensor, " dim"], codes: Int[Tensor, "n parts"], codebooks: Float[Tensor, "parts size width"]
) -> Float[Tensor, " n"]:
    """Dot products of a query with what the codes stand for, from a table: no vector is built anew.

    The table holds the dot product of each part of the query with each of that part's centroids (the paper's asymmetric
    distance). A score is one number of the table a part, added up.
    """
    table = (codebooks @ query.view(len(codebooks), -1, 1)).squeeze(2)  # (parts, size)
    scores = query.new_zeros(len(codes))
    for part, column in zip(table, codes.T, strict=True):
        scores += part[column.long()]
    return scores
