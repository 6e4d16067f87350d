"""``cosine-scores``, lesson 00.

The cosine of every image with every caption, beside loops over pairs and numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from itr_lib.checks._inputs import generator
from itr_lib.checks._mistakes import unit
from itr_lib.checks.frame import Exercise
from itr_lib.checks.outcome import Inputs


def cosine_cases() -> Iterator[Inputs]:
    """Random shapes, one image against one caption, and a zero vector on either side."""
    for seed, (n, m, d) in enumerate([(3, 5, 4), (1, 1, 6), (7, 2, 3), (4, 4, 8)]):
        g = generator(seed)
        images = 3 * torch.randn(n, d, generator=g, dtype=torch.float64)
        captions = torch.randn(m, d, generator=g, dtype=torch.float64)
        yield {"images": images, "captions": captions}
        images[0] = 0
        captions[-1] = 0
        yield {"images": images, "captions": captions}


def cosine_specification(images: Tensor, captions: Tensor) -> Tensor:
    """Dot product over both lengths, pair by pair; a zero vector scores 0."""
    scores = torch.zeros(len(images), len(captions), dtype=images.dtype, device=images.device)
    for i, image in enumerate(images):
        for j, caption in enumerate(captions):
            lengths = math.sqrt(sum(x * x for x in image.tolist())) * math.sqrt(sum(x * x for x in caption.tolist()))
            if lengths > 0:
                scores[i, j] = sum(a * b for a, b in zip(image.tolist(), caption.tolist(), strict=True)) / lengths
    return scores


COSINE_MISTAKES = {
    "every vector is divided by the length of the whole matrix: x.norm(dim=1, keepdim=True) is one length a row": (
        lambda images, captions: (images / images.norm()) @ (captions / captions.norm()).T
    ),
    "you divide the images by zero: a vector of length 0 must score 0 with everything, not NaN": (
        lambda images, captions: (images / images.norm(dim=1, keepdim=True)) @ unit(captions).T
    ),
    "you divide the captions by zero: a vector of length 0 must score 0 with everything, not NaN": (
        lambda images, captions: unit(images) @ (captions / captions.norm(dim=1, keepdim=True)).T
    ),
    "you divide by zero: a vector of length 0 must score 0 with everything, not NaN": lambda images, captions: (
        (images / images.norm(dim=1, keepdim=True)) @ (captions / captions.norm(dim=1, keepdim=True)).T
    ),
    "this is the plain dot product: divide each vector by its length": lambda images, captions: images @ captions.T,
    "only the images are divided by their length; the captions must be too": lambda images, captions: (
        unit(images) @ captions.T
    ),
    "only the captions are divided by their length; the images must be too": lambda images, captions: (
        images @ unit(captions).T
    ),
    "you normalised over the batch (dim=0): the length of a vector runs over its own numbers, dim=1": (
        lambda images, captions: unit(images, dim=0) @ unit(captions, dim=0).T
    ),
    "you divided by the squared length: take its square root": lambda images, captions: (
        (images / images.square().sum(1, keepdim=True).clamp(min=1e-30))
        @ (captions / captions.square().sum(1, keepdim=True).clamp(min=1e-30)).T
    ),
    "you divided by the sum of absolute values (the L1 length); cosine needs the Euclidean one": (
        lambda images, captions: (
            (images / images.abs().sum(1, keepdim=True).clamp(min=1e-30))
            @ (captions / captions.abs().sum(1, keepdim=True).clamp(min=1e-30)).T
        )
    ),
    "rows and columns are exchanged: images are the rows, captions the columns": lambda images, captions: (
        unit(captions) @ unit(images).T
    ),
}

EXERCISE = Exercise("cosine-scores", cosine_cases, cosine_specification, COSINE_MISTAKES)
