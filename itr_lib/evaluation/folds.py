"""COCO's "1K": the mean of five folds of the 5,000 test images, each a search among its own 1,000.

Folds are consecutive images, as the field takes them (VSE++ and after), and each metric is the mean of the folds',
ranks included. A model looks better on 1,000 images than on 5,000: a figure needs its protocol beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from itr_lib.evaluation.inputs import Owners, Scores, as_tensor
from itr_lib.evaluation.recall import RetrievalMetrics, retrieval_metrics
from itr_lib.validation import expect_count

# Rows of a fold's images and captions, and of each of these captions the row of its image within the fold.
Measure = Callable[[Int[Tensor, " images"], Int[Tensor, " captions"], Int[Tensor, " captions"]], RetrievalMetrics]


def fold_metrics(scores: Scores, image_of_caption: Owners, folds: int = 5) -> RetrievalMetrics:
    """The mean over consecutive folds of images; only scores within a fold are looked at.

    Args:
        scores: (N, M), row = image, column = caption; array or tensor.
        image_of_caption: (M,) ints, the row of each caption's image; every image has at least one caption.
        folds: how many; they must divide N. 5 of COCO's 5,000 test images are its 1K protocol.

    Raises:
        ValueError: for folds of different sizes, and as :func:`itr_lib.evaluation.retrieval_metrics`.
    """
    matrix = as_tensor("scores", scores)
    owner = as_tensor("image_of_caption", image_of_caption)
    if matrix.ndim != 2 or matrix.shape[1] != len(owner):
        raise ValueError(f"scores has shape {tuple(matrix.shape)}, expected a column for each of {len(owner)} captions")
    return mean_over_folds(
        len(matrix), owner, folds, lambda rows, columns, own: retrieval_metrics(matrix[rows][:, columns], own)
    )


def mean_over_folds(images: int, image_of_caption: Owners, folds: int, measure: Measure) -> RetrievalMetrics:
    """The mean of what ``measure`` says of each fold: for scores that are made a fold at a time.

    A model with two stages need not hold the scores of all 5,000 images and 25,000 captions::

        mean_over_folds(len(data), data.image_of_caption, 5, lambda rows, columns, own: two_stage_metrics(
            *both_scores(rows, columns), own, shortlist=50))

    Args:
        images: how many there are.
        image_of_caption: (M,) ints, the row of each caption's image.
        folds: how many; they must divide ``images``.
        measure: takes the rows of a fold's images, of its captions, and the row within the fold of each caption's
            image; gives its metrics.

    Raises:
        ValueError: for folds of different sizes.
    """
    expect_count("folds", folds)
    if images % folds:
        raise ValueError(f"{images:,} images do not divide into {folds} folds of one size")
    owner, size = as_tensor("image_of_caption", image_of_caption).long(), images // folds
    if len(owner) and (owner.min() < 0 or owner.max() >= images):
        raise ValueError(f"image_of_caption names a row outside 0..{images - 1}")
    found = []
    for start in range(0, images, size):
        columns = torch.nonzero((owner >= start) & (owner < start + size)).flatten()
        rows = torch.arange(start, start + size, device=owner.device)
        found.append(measure(rows, columns, owner[columns] - start))
    means = {one.name: float(np.mean([getattr(fold, one.name) for fold in found])) for one in fields(RetrievalMetrics)}
    return RetrievalMetrics(**means)
