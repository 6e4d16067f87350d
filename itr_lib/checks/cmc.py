"""``cmc``, lesson 05.

Hinge of the hardest negatives and consistency, beside loops over queries; gradients too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from itr_lib.checks._inputs import generator, normal
from itr_lib.checks._mistakes import as_it_is, unit
from itr_lib.checks.consistency import consistency_by, consistency_specification
from itr_lib.checks.frame import Exercise
from itr_lib.checks.outcome import Inputs


def cmc_cases() -> Iterator[Inputs]:
    """Vectors of any length, pairs that fit more or less; negatives that are all below 0; one pair, a bad one; two."""
    shapes = [(5, 3, 3.0, 0.2, 0.3), (4, 4, 0.7, 0.4, 0.1), (6, 5, 1.5, 0.1, 0.25), (1, 4, -3.0, 0.2, 0.3)]
    for seed, (batch, dim, noise, margin, intra_margin) in enumerate([*shapes, (2, 3, 1.0, 0.6, 0.0)]):
        images = normal(batch, dim, seed=450 + seed)
        captions = images + noise * normal(batch, dim, seed=460 + seed)
        lengths = 0.5 + 2 * torch.rand(2, batch, 1, generator=generator(470 + seed), dtype=torch.float64)
        yield {
            "images": lengths[0] * images,
            "captions": lengths[1] * captions,
            "margin": margin,
            "intra_margin": intra_margin,
        }


def cmc_specification(images: Tensor, captions: Tensor, margin: float, intra_margin: float) -> Tensor:
    """Query by query in both directions, the hardest negative of each; then the disagreement of the two sides."""
    v, t = ([row / (row * row).sum().sqrt() for row in rows] for rows in (images, captions))
    total, pairs = 0 * (images.sum() + captions.sum()), range(len(images))
    for i in pairs:
        for scores in ({j: v[i] @ t[j] for j in pairs}, {j: v[j] @ t[i] for j in pairs}):
            hinges = [margin + score - scores[i] for j, score in scores.items() if j != i]
            hardest = max(hinges, key=lambda hinge: float(hinge.detach()), default=None)
            if hardest is not None and float(hardest.detach()) > 0:
                total = total + hardest
    both = (torch.stack([torch.stack([x @ y for y in side]) for x in side]) for side in (v, t))
    return total + consistency_specification(*both, intra_margin)


def _hinge(
    worst=lambda cost: cost.amax(1), rows=1, columns=1, own=-torch.inf, own_score=None, cut=torch.relu, total=torch.sum
):
    """Variants of the hinge between images and captions; ``own``: the cost that stands for the positive's."""

    def one(scores, margin):
        eye, positives = torch.eye(len(scores), dtype=torch.bool, device=scores.device), scores.diagonal()[:, None]
        others = scores if own_score is None else scores.masked_fill(eye, own_score)
        cost = margin + others - positives
        return total(worst(cut(cost if own is None or own_score is not None else cost.masked_fill(eye, own))))

    return lambda scores, margin: rows * one(scores, margin) + columns * one(scores.T, margin)


HINGE, CONSISTENT = _hinge(), consistency_by()


def _cmc(inter=HINGE, intra=CONSISTENT, unit_images=unit, unit_captions=unit, between="vv tt"):
    """Variants of the whole loss; ``between``: whose cosines the consistency compares."""

    def loss(images, captions, margin, intra_margin):
        sides = {"v": unit_images(images), "t": unit_captions(captions)}
        first, second = (sides[names[0]] @ sides[names[1]].T for names in between.split())
        return inter(sides["v"] @ sides["t"].T, margin) + intra(first, second, intra_margin)

    return loss


def _nothing(*_: Any) -> float:
    return 0.0


def _cmc_margins(of_inter: str, of_intra: str) -> Callable:
    def loss(images, captions, **margins):
        return _cmc()(images, captions, margins[of_inter], margins[of_intra])

    return loss


def _cmc_raw_intra(images, captions, margin, intra_margin):
    inter = _cmc(intra=_nothing)(images, captions, margin, intra_margin)
    return inter + CONSISTENT(images @ images.T, captions @ captions.T, intra_margin)


def _over_batch(vectors: Tensor) -> Tensor:
    return F.normalize(vectors, dim=0)


CMC_MISTAKES = {
    "these are plain dot products: bring images and captions to length 1 first": _cmc(
        unit_images=as_it_is, unit_captions=as_it_is
    ),
    "only the images have length 1 here: normalise the captions, too": _cmc(unit_captions=as_it_is),
    "only the captions have length 1 here: normalise the images, too": _cmc(unit_images=as_it_is),
    "you normalised over the batch (dim=0): each vector has its own length, over the last axis": _cmc(
        unit_images=_over_batch, unit_captions=_over_batch
    ),
    "the consistency compares plain dot products: it takes cosines, as the other part does": _cmc_raw_intra,
    "every negative costs: of each query only the hardest, max": _cmc(inter=_hinge(worst=lambda cost: cost.sum(1))),
    "the mean over the negatives: of each query only the hardest, max": _cmc(
        inter=_hinge(worst=lambda cost: cost.sum(1) / max(1, len(cost) - 1))
    ),
    "one hardest negative for the whole batch: each query has its own": _cmc(
        inter=_hinge(worst=lambda cost: cost.amax())
    ),
    "this is the easiest negative: the hardest is the one with the largest score": _cmc(
        inter=_hinge(worst=lambda cost: cost.amin(1), own=torch.inf)
    ),
    "the positive is among its own negatives, so no query costs less than the margin: take the diagonal out before "
    "the max": _cmc(inter=_hinge(own=None)),
    "the positives became a score of 0, and that is the largest where all others are below 0: fill with -torch.inf": (
        _cmc(inter=_hinge(own_score=0.0))
    ),
    "only images ask (rows): add the direction in which captions do (columns)": _cmc(inter=_hinge(columns=0)),
    "only captions ask (columns): add the direction in which images do (rows)": _cmc(inter=_hinge(rows=0)),
    "images ask twice: the second direction is the max over the other axis": _cmc(inter=_hinge(rows=2, columns=0)),
    "the two directions are averaged: add them": _cmc(inter=_hinge(rows=0.5, columns=0.5)),
    "what is below 0 counts as less than nothing: cut the hinge off at 0, [...]+": _cmc(inter=_hinge(cut=as_it_is)),
    "the consistency of images and captions is left out: add it": _cmc(intra=_nothing),
    "this is the consistency alone: the hinge between images and captions is left out": _cmc(inter=_nothing),
    "the consistency is subtracted: add it, a disagreement is a cost": _cmc(
        intra=lambda V, T, margin: -CONSISTENT(V, T, margin)
    ),
    "the consistency has the margin of the hinge: it has its own, intra_margin": _cmc_margins("margin", "margin"),
    "the hinge has intra_margin: its own is margin": _cmc_margins("intra_margin", "intra_margin"),
    "the two margins are exchanged": _cmc_margins("intra_margin", "margin"),
    "image-image cosines are compared with image-caption cosines: compare them with caption-caption cosines": _cmc(
        between="vv vt"
    ),
    "caption-caption cosines are compared with image-caption cosines: compare them with image-image cosines": _cmc(
        between="tt vt"
    ),
    "the hinge is the mean over the batch: its sum is asked for": _cmc(inter=_hinge(total=torch.mean)),
    "the consistency is the mean over the batch: its sum is asked for": _cmc(intra=consistency_by(total=torch.mean)),
    "this is the mean over the batch: both parts are sums": _cmc(
        inter=_hinge(total=torch.mean), intra=consistency_by(total=torch.mean)
    ),
}

EXERCISE = Exercise("cmc", cmc_cases, cmc_specification, CMC_MISTAKES, gradients=("images", "captions"))
