"""Scores to metrics: what the field reports, with the rules spelled out.

One rule for ties, everywhere in this module: a tie is decided against the model. A model that gives every pair
the same score has found nothing, and must not be paid for the order in which the data happen to lie.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.special import gammaln
from torch import Tensor

from itr_lib.evaluation.inputs import ROWS_AT_ONCE, Owners, Scores, as_gallery, percent

CUTOFFS = (1, 5, 10)


@dataclass(frozen=True)
class RetrievalMetrics:
    """Recall in percent, ranks counted from 1; i2t: an image asks for its captions, t2i: a caption for its image."""

    i2t_r1: float
    i2t_r5: float
    i2t_r10: float
    t2i_r1: float
    t2i_r5: float
    t2i_r10: float
    rsum: float
    i2t_medr: float
    i2t_meanr: float
    t2i_medr: float
    t2i_meanr: float

    def as_dict(self) -> dict[str, float]:
        """The metrics by name."""
        return asdict(self)


def retrieval_metrics(scores: Scores, image_of_caption: Owners) -> RetrievalMetrics:
    """R@1, R@5, R@10, rSum, median and mean rank in both directions.

    The rank of a query is the position of its best-ranked true match (any of an image's captions; the one image
    of a caption), after every false candidate that scores at least as much.

    Args:
        scores: (N, M), row = image, column = caption; array or tensor.
        image_of_caption: (M,) ints, the row of each caption's image; every image has at least one caption.

    Raises:
        ValueError: for a NaN among the scores, shapes that do not fit, or an image without captions.
    """
    scores, owner = as_gallery(scores, image_of_caption)
    return metrics_of_ranks(caption_ranks(scores, owner), image_ranks(scores, owner))


def metrics_of_ranks(i2t: Int[np.ndarray, " images"], t2i: Int[np.ndarray, " captions"]) -> RetrievalMetrics:
    """Metrics from the rank of each image's best caption and of each caption's image, ranks from 1."""
    recalls = {f"i2t_r{k}": percent(i2t <= k) for k in CUTOFFS} | {f"t2i_r{k}": percent(t2i <= k) for k in CUTOFFS}
    return RetrievalMetrics(
        **recalls,
        rsum=sum(recalls.values()),
        i2t_medr=float(np.median(i2t)),
        i2t_meanr=float(i2t.mean()),
        t2i_medr=float(np.median(t2i)),
        t2i_meanr=float(t2i.mean()),
    )


def caption_ranks(scores: Scores, image_of_caption: Owners) -> Int[np.ndarray, " images"]:
    """Rank of each image's best true caption (image-to-text), ties against the model."""
    scores, owner = as_gallery(scores, image_of_caption)
    ranks = [1 + ((rows >= best) & ~own).sum(dim=1) for rows, own, best in _image_queries(scores, owner)]
    return torch.cat(ranks).cpu().numpy()


def image_ranks(scores: Scores, image_of_caption: Owners) -> Int[np.ndarray, " captions"]:
    """Rank of each caption's image (text-to-image), ties against the model."""
    scores, owner = as_gallery(scores, image_of_caption)
    truth = scores[owner, torch.arange(len(owner), device=scores.device)]
    zero = torch.zeros_like(owner)
    # The true image counts itself once, which is the 1 that ranks start from.
    return sum(((rows >= truth).sum(dim=0) for rows in scores.split(ROWS_AT_ONCE)), zero).cpu().numpy()


def expected_recall(scores: Scores, image_of_caption: Owners) -> dict[str, float]:
    """R@K and rSum in percent when ties are broken by lot, as an exact expectation.

    This is no way to grade a model, it is for reference lines: constant scores give chance, and the scores
    ``truth / truth.sum(axis=0)`` of a reader who knows which caption is true of which picture give the ceiling.
    A query with ``a`` false candidates above its best true match, ``t`` false and ``p`` true ones level with it,
    is found within K with probability ``1 - C(t, K - a) / C(t + p, K - a)``.
    """
    scores, owner = as_gallery(scores, image_of_caption)
    i2t = [
        ((rows > best).sum(dim=1), ((rows == best) & ~own).sum(dim=1), ((rows == best) & own).sum(dim=1))
        for rows, own, best in _image_queries(scores, owner)
    ]
    truth = scores[owner, torch.arange(len(owner), device=scores.device)]
    above, level = torch.zeros_like(owner), torch.full_like(owner, -1)  # the true image is level with itself
    for rows in scores.split(ROWS_AT_ONCE):
        above += (rows > truth).sum(dim=0)
        level += (rows == truth).sum(dim=0)
    t2i = (above, level, torch.ones_like(above))
    counts = {"i2t": [torch.cat(column) for column in zip(*i2t, strict=True)], "t2i": t2i}
    recalls = {
        f"{direction}_r{k}": 100 * float(chance_within(k, *(c.cpu().numpy() for c in columns)).mean())
        for direction, columns in counts.items()
        for k in CUTOFFS
    }
    return recalls | {"rsum": sum(recalls.values())}


def ceiling_scores(truth: Bool[np.ndarray, "images captions"]) -> Float[np.ndarray, "images captions"]:
    """Scores of a perfect reader: a caption that is true of n pictures names each of them with weight 1 / n."""
    return truth / np.maximum(truth.sum(axis=0, keepdims=True), 1)


def _image_queries(scores: Tensor, owner: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Blocks of (scores, which captions are the image's own, score of its best own caption)."""
    for start in range(0, len(scores), ROWS_AT_ONCE):
        rows = scores[start : start + ROWS_AT_ONCE]
        own = owner == torch.arange(start, start + len(rows), device=scores.device)[:, None]
        lowest = -torch.inf if rows.is_floating_point() else torch.iinfo(rows.dtype).min
        yield rows, own, rows.masked_fill(~own, lowest).amax(dim=1, keepdim=True)


def chance_within(k: int, above: np.ndarray, level: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Probability that one of ``true`` of the ``level + true`` candidates tied after ``above`` falls within k."""
    places = np.clip(k - above, 0, level + true)
    certain = places > level
    safe = np.where(certain, 0, places)
    log_missed = (
        gammaln(level + 1) - gammaln(level - safe + 1) - gammaln(level + true + 1) + gammaln(level + true - safe + 1)
    )
    return np.where(certain, 1.0, 1 - np.exp(log_missed))
