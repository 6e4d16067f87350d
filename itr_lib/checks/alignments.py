"""``alignments``, lesson 02.

The cosine of every region with every word, beside four loops; gradients too.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from itr_lib.checks._inputs import generator
from itr_lib.checks._mistakes import dots, unit
from itr_lib.checks.frame import Exercise
from itr_lib.checks.outcome import Inputs


def alignments_cases() -> Iterator[Inputs]:
    """Shapes in which swapped axes show, a set of one, and zero vectors.

    What the derivative of a cosine is at a zero vector is anybody's choice (F.normalize gives 1e12, the library 1), so
    where there are zeros all vectors are: then every choice gives 0, unless it gives NaN.
    """
    shapes = [(3, 3, 4, 4, 5), (2, 4, 5, 3, 6), (3, 2, 2, 6, 4), (1, 1, 1, 1, 3)]
    for seed, (n, m, r, w, dim) in enumerate(shapes):
        g = generator(seed)
        regions, words = (torch.randn(*shape, dim, generator=g, dtype=torch.float64) for shape in ((n, r), (m, w)))
        lengths = [0.5 + 3 * torch.rand(*shape, 1, generator=g, dtype=torch.float64) for shape in ((n, r), (m, w))]
        yield {"regions": regions * lengths[0], "words": words * lengths[1]}
    yield {"regions": torch.zeros(2, 3, 4, dtype=torch.float64), "words": torch.zeros(3, 2, 4, dtype=torch.float64)}


def alignments_specification(regions: Tensor, words: Tensor) -> Tensor:
    """One dot product after the other, each over both lengths."""
    result = []
    for image in regions:
        for caption in words:
            for region in image:
                for word in caption:
                    dot, square = (region * word).sum(), (region * region).sum() * (word * word).sum()
                    result.append(dot / square.sqrt() if square > 0 else 0 * dot)
    return torch.stack(result).reshape(len(regions), len(words), regions.shape[1], words.shape[1])


ALIGNMENTS_MISTAKES = {
    "a zero vector (padding) has length 0, and you divide by it: F.normalize keeps it zero, so that it scores 0": (
        lambda regions, words: dots(
            regions / regions.norm(dim=-1, keepdim=True), words / words.norm(dim=-1, keepdim=True)
        )
    ),
    "this is the plain dot product: divide by both lengths": dots,
    "only the regions have length 1 here: normalise the words, too": lambda regions, words: dots(unit(regions), words),
    "only the words have length 1 here: normalise the regions, too": lambda regions, words: dots(regions, unit(words)),
    "you normalised over the set (dim=1): each vector has its own length, over the last axis": (
        lambda regions, words: dots(F.normalize(regions, dim=1), F.normalize(words, dim=1))
    ),
    "you normalised over the batch (dim=0): each vector has its own length, over the last axis": (
        lambda regions, words: dots(F.normalize(regions, dim=0), F.normalize(words, dim=0))
    ),
    "you divided by one length for the whole set: each vector has its own, norm(dim=-1, keepdim=True)": (
        lambda regions, words: dots(
            regions / regions.norm(dim=(1, 2), keepdim=True), words / words.norm(dim=(1, 2), keepdim=True)
        )
    ),
    "you divided by the length of the whole tensor: each vector has its own, norm(dim=-1, keepdim=True)": (
        lambda regions, words: dots(regions / regions.norm(), words / words.norm())
    ),
    "you divided by the squared lengths: take the root": lambda regions, words: dots(
        regions / (regions**2).sum(-1, keepdim=True), words / (words**2).sum(-1, keepdim=True)
    ),
    "you divided by the sum of absolute values: the length is the root of the sum of squares": (
        lambda regions, words: dots(F.normalize(regions, p=1, dim=-1), F.normalize(words, p=1, dim=-1))
    ),
    "regions and words are exchanged: the last two axes are (N, M, R, W) in this order": lambda regions, words: dots(
        unit(regions), unit(words), "nmwr"
    ),
    "images and captions are exchanged: the first two axes are (N, M, R, W) in this order": (
        lambda regions, words: dots(unit(regions), unit(words), "mnrw")
    ),
    "the axes are captions, images, words, regions: (N, M, R, W) is asked for": lambda regions, words: dots(
        unit(regions), unit(words), "mnwr"
    ),
    "the axes are in another order: image, caption, region, word, so no reshape or view over swapped axes": (
        lambda regions, words: dots(unit(regions), unit(words), "nrmw").reshape(
            len(regions), len(words), regions.shape[1], words.shape[1]
        )
    ),
    "this is the mean over the D products: a dot product is their sum": lambda regions, words: (
        dots(unit(regions), unit(words)) / regions.shape[-1]
    ),
    "image n meets only caption n here, everywhere: each image meets every caption": lambda regions, words: (
        torch.einsum("nrd,nwd->nrw", unit(regions), unit(words))[:, None].expand(-1, len(words), -1, -1)
    ),
    "negative cosines became 0: keep them": lambda regions, words: dots(unit(regions), unit(words)).relu(),
    "this is a distance, 1 - cosine: the cosine itself is asked for": lambda regions, words: (
        1 - dots(unit(regions), unit(words))
    ),
}

EXERCISE = Exercise(
    "alignments",
    alignments_cases,
    alignments_specification,
    ALIGNMENTS_MISTAKES,
    gradients=("regions", "words"),
)
