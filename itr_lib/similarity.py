"""Vectors to scores."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from itr_lib.validation import expect_dims, expect_float


def l2_normalise(vectors: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
    """Scale each vector to length 1; a zero vector stays zero, with a finite gradient."""
    # Squares of very small and very large numbers leave the range of a float: bring the largest entry to 1 first.
    largest = vectors.detach().abs().amax(dim=-1, keepdim=True)
    vectors = vectors / torch.where(largest > 0, largest, 1)
    length = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    # Dividing by a tiny epsilon instead would multiply a zero vector's gradient by its inverse.
    return vectors / torch.where(length > 0, length, 1)


def cosine_scores(
    images: Float[Tensor, "images dim"], captions: Float[Tensor, "captions dim"]
) -> Float[Tensor, "images captions"]:
    """Cosine of the angle between every image vector and every caption vector.

    Args:
        images: (N, D), any length; a zero vector scores 0 with everything.
        captions: (M, D), likewise.

    Returns:
        (N, M) scores between -1 and 1, up to rounding.

    Raises:
        ValueError: for other numbers of axes, different D, vectors that are not floats, or two kinds of float.
    """
    expect_dims("images", images, "images", "dim")
    expect_dims("captions", captions, "captions", "dim")
    expect_float("images", images)
    expect_float("captions", captions)
    if images.shape[1] != captions.shape[1]:
        raise ValueError(
            f"captions has vectors of {captions.shape[1]} numbers, expected {images.shape[1]} as in images"
        )
    if (images.dtype, images.device) != (captions.dtype, captions.device):
        raise ValueError(
            f"captions is {captions.dtype} on {captions.device}, expected {images.dtype} on {images.device} as images"
        )
    return l2_normalise(images) @ l2_normalise(captions).T
