"""An inverted file: a gallery sorted into cells, of which a query looks into a few.

J. Sivic, A. Zisserman. *Video Google: a text retrieval approach to object matching in videos.* ICCV 2003.
H. Jégou, M. Douze, C. Schmid. *Product quantization for nearest neighbor search.* IEEE TPAMI 33(1):117-128, 2011.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from itr_lib.search.codes import nearest


def sorted_by_cell(
    vectors: Float[Tensor, "n dim"], centroids: Float[Tensor, "cells dim"]
) -> tuple[Int[Tensor, " n"], Int[Tensor, " cells+1"]]:
    """An order in which each cell's vectors lie together: cell ``c`` is ``order[starts[c] : starts[c + 1]]``.

    A vector belongs to the cell of its nearest centroid.
    """
    own = nearest(vectors, centroids)
    starts = torch.bincount(own, minlength=len(centroids)).cumsum(0)
    return own.argsort(stable=True), torch.cat([starts.new_zeros(1), starts])


def search_cells(
    query: Float[Tensor, " dim"],
    vectors: Float[Tensor, "n dim"],
    starts: Int[Tensor, " cells+1"],
    centroids: Float[Tensor, "cells dim"],
    probes: int,
) -> Int[Tensor, " seen"]:
    """All items of the ``probes`` cells whose centroids have the highest dot products with the query, best first.

    Args:
        vectors: sorted by cell: cell ``c`` holds rows ``starts[c]`` to ``starts[c + 1]``, the last one not included.
        probes: how many cells are looked into; more than there are means all.
    """
    cells = (centroids @ query).topk(min(probes, len(centroids))).indices.tolist()
    edges = starts.tolist()
    spans = [(edges[cell], edges[cell + 1]) for cell in cells]
    rows = torch.cat([torch.arange(*span, device=query.device) for span in spans])
    scores = torch.cat([vectors[start:end] @ query for start, end in spans])
    return rows[scores.argsort(descending=True, stable=True)]
