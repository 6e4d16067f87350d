"""Sets of vectors without their padding, so that none of it is ever multiplied."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import accumulate, groupby
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from itr_lib.transfer import download, upload


class Sets(NamedTuple):
    """Sets of vectors one after the other, the smaller sets first; equally large ones then form a dense block.

    Attributes:
        vectors: the elements of all sets.
        sizes: of each set, ascending, none of them 0.
        starts: the row of each set's first element in ``vectors``.
        places: where each set stood before.
        total: how many sets there were, empty ones included.
    """

    vectors: Float[Tensor, "elements dim"]
    sizes: tuple[int, ...]
    starts: Int[Tensor, " sets"]
    places: Int[Tensor, " sets"]
    total: int

    def blocks(self, limit: int) -> Iterator[Sets]:
        """Runs of sets with at most ``limit`` elements together, but at least one set."""
        start = first = elements = 0
        for i, size in enumerate((*self.sizes, limit + 1)):
            if elements and elements + size > limit:
                vectors, some = self.vectors[start : start + elements], slice(first, i)
                yield Sets(vectors, self.sizes[some], self.starts[some] - start, self.places[some], self.total)
                start, first, elements = start + elements, i, 0
            elements += size

    def each(self, function: Callable[..., Tensor], *tensors: Tensor, dim: int = 0) -> Tensor:
        """Call ``function`` for each run of equally large sets, with axis ``dim`` of the tensors as (sets, size)."""
        results, start = [], 0
        for size, run in groupby(self.sizes):
            count = len(list(run))
            parts = [tensor.narrow(dim, start, count * size).unflatten(dim, (count, size)) for tensor in tensors]
            results.append(function(*parts))
            start += count * size
        return torch.cat(results, dim)


def pack(vectors: Float[Tensor, "sets width dim"], mask: Bool[Tensor, "sets width"] | None = None) -> Sets:
    """The real elements of padded sets; ``mask``: True = a real element, None = all are. Differentiable.

    A mask may be on the CPU where the vectors are not. Which element goes where is worked out there: sizes are numbers
    that the host needs, so it waits for a mask that is on a GPU, once.
    """
    total, width, dim = vectors.shape
    flat = vectors.reshape(total * width, dim)
    (mask,) = download(mask)
    if mask is None or bool(mask.all()):
        filled = total if width else 0
        places = torch.arange(filled, device=vectors.device)
        return Sets(flat, (width,) * filled, places * width, places, total)
    sizes, places = mask.sum(dim=1).sort(stable=True)
    empty = int((sizes == 0).sum())
    places, sizes = places[empty:], tuple(sizes[empty:].tolist())
    which, position = mask[places].nonzero(as_tuple=True)
    starts = torch.tensor([0, *accumulate(sizes)][: len(sizes)], dtype=torch.long)
    elements, starts, places = (
        upload(numbers, vectors.device) for numbers in (places[which] * width + position, starts, places)
    )
    return Sets(flat.index_select(0, elements), sizes, starts, places, total)
