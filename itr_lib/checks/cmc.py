"""``cmc``, lesson 05.

A loss of the pairs, which is given, and the disagreement of two similarity matrices, beside loops; gradients too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from itr_lib.checks._inputs import generator, normal, sizes
from itr_lib.checks._mistakes import as_it_is, unit
from itr_lib.checks.frame import Case, Exercise, Rehearsal
from itr_lib.checks.outcome import Inputs
from itr_lib.objectives import consistency_loss
from itr_lib.similarity import cosine_scores


def library_cmc(images: Tensor, captions: Tensor, pair_loss: Callable, margin: float) -> Tensor:
    """The library's, with any loss of the pairs."""
    within = cosine_scores(images, images), cosine_scores(captions, captions)
    return pair_loss(cosine_scores(images, captions)) + consistency_loss(*within, margin=margin)


def _hinge(scores: Tensor) -> Tensor:
    """The docstring's loss of the pairs: the hinge of lesson 01, hardest negatives, margin 0.2.

    Caption 0 lies right on its edge, where rounding would decide about the gradient: a millionth takes it off.
    """
    others = scores - 4 * torch.eye(len(scores), dtype=scores.dtype, device=scores.device)
    return sum((0.2 - 1e-6 + others.amax(axis) - scores.diagonal()).relu().sum() for axis in (0, 1))


def _uneven(scores: Tensor) -> Tensor:
    """Not a sensible loss, but one in which no two scores count alike: exchanged or scaled ones show."""
    weights = torch.linspace(-1, 2, scores.numel(), dtype=scores.dtype, device=scores.device).view(scores.shape)
    return (weights * scores * (1 + 0.3 * scores)).sum()


EXAMPLE = Case(
    {
        "images": torch.tensor([[1.0, 0.0], [4.0, 3.0], [0.0, 1.0]], dtype=torch.float64),
        "captions": torch.tensor([[2.0, 0.0], [3.0, 4.0], [-3.0, 4.0]], dtype=torch.float64),
        "pair_loss": _hinge,
        "margin": 0.3,
    },
    worked=0.9,
)
SHAPES = [
    (5, 3, 3.0, 0.3, ""),
    (4, 4, 0.7, 0.1, ""),
    (6, 5, 1.5, 0.25, ""),
    (6, 3, 0.1, 1.2, "nothing disagrees by more than the margin"),
    (1, 4, -3.0, 0.3, "the batch has one pair"),
    (2, 3, 1.0, 0.0, "the margin is 0"),
]


def cmc_cases() -> Iterator[Case]:
    """Vectors of any length, pairs that fit more or less; a margin that nothing exceeds, and one of 0; one pair; two.

    Who disagrees most with whom is not mutual here, so that rows and columns of |T - V| above the diagonal differ.
    """
    for seed, (*shape, noise, margin, trap) in enumerate(SHAPES):
        batch, dim = sizes(*shape)
        images = normal(batch, dim, seed=900 + seed)
        captions = images + noise * normal(batch, dim, seed=910 + seed)
        lengths = 0.5 + 2 * torch.rand(2, batch, 1, generator=generator(470 + seed), dtype=torch.float64)
        sides = {"images": lengths[0] * images, "captions": lengths[1] * captions}
        yield Case(sides | {"pair_loss": _uneven, "margin": margin}, trap)


def cmc_specification(images: Tensor, captions: Tensor, pair_loss: Callable, margin: float) -> Tensor:
    """Pair by pair: the partner on which pictures and captions disagree most, and by how much beyond the margin."""
    v, t = ([row / (row * row).sum().sqrt() for row in rows] for rows in (images, captions))
    total = pair_loss(torch.stack([torch.stack([x @ y for y in t]) for x in v]))
    for j in range(len(v)):
        gaps = [t[i] @ t[j] - v[i] @ v[j] for i in range(len(v))]
        worst = max((gap if float(gap.detach()) > 0 else -gap for gap in gaps), key=lambda gap: float(gap.detach()))
        if float(worst.detach()) > margin:
            total = total + worst - margin
    return total


def _gap(V: Tensor, T: Tensor) -> Tensor:
    return (T - V).abs()


def _largest(gap: Tensor) -> Tensor:
    return gap.amax(0)


def _beyond(worst: Tensor, margin: float) -> Tensor:
    return (worst - margin).relu()


def _add(pairs: Any, intra: Any) -> Any:
    return pairs + intra


def cmc_with(
    images, captions, pair_loss, margin, unit_images=unit, unit_captions=unit, scores=lambda v, t: v @ t.T,
    within=lambda v, t: (v @ v.T, t @ t.T), gap=_gap, worst=_largest, cost=_beyond, total=torch.sum, join=_add,
):  # fmt: skip
    """The loss, with options to spoil it."""
    v, t = unit_images(images), unit_captions(captions)
    V, T = within(v, t)
    return join(pair_loss(scores(v, t)), total(cost(worst(gap(V, T)), margin)))


def _over_batch(vectors: Tensor) -> Tensor:
    return F.normalize(vectors, dim=0)


def _square_length(vectors: Tensor) -> Tensor:
    return vectors / vectors.square().sum(-1, keepdim=True)


def _no_diagonal(gap: Tensor) -> Tensor:
    return gap.masked_fill(torch.eye(len(gap), dtype=torch.bool, device=gap.device), torch.inf)


TOGGLES = {
    "these are plain dot products: bring images and captions to length 1 first": {
        "unit_images": as_it_is,
        "unit_captions": as_it_is,
    },
    "only the captions have length 1 here: normalise the images, too": {"unit_images": as_it_is},
    "only the images have length 1 here: normalise the captions, too": {"unit_captions": as_it_is},
    "you normalised over the batch (dim=0): each vector has its own length, over the last axis": {
        "unit_images": _over_batch,
        "unit_captions": _over_batch,
    },
    "you divided by the squared length: the length is the root of the sum of squares": {
        "unit_images": _square_length,
        "unit_captions": _square_length,
    },
    "the scores that pair_loss gets are turned: a row is a picture, a column a caption": {
        "scores": lambda v, t: t @ v.T
    },
    "pair_loss gets the cosines of pictures with pictures: it takes those of pictures with captions": {
        "scores": lambda v, t: v @ v.T
    },
    "pair_loss gets the cosines of captions with captions: it takes those of pictures with captions": {
        "scores": lambda v, t: t @ t.T
    },
    "image-image cosines are compared with image-caption cosines: compare them with caption-caption cosines": {
        "within": lambda v, t: (v @ v.T, v @ t.T)
    },
    "caption-caption cosines are compared with image-caption cosines: compare them with image-image cosines": {
        "within": lambda v, t: (t @ t.T, v @ t.T)
    },
    "image-caption cosines are compared with their own transpose: compare V, pictures with pictures, and T, captions "
    "with captions": {"within": lambda v, t: (v @ t.T, t @ v.T)},
    "distances are compared: V and T are cosines": {"within": lambda v, t: (torch.cdist(v, v), torch.cdist(t, t))},
    "the vectors themselves are compared, picture j with caption j: compare V and T, the cosines within each side": {
        "within": lambda v, t: (v, t)
    },
    "the axes of the vectors are compared, (D, D): V and T are (B, B), a row and a column a pair": {
        "within": lambda v, t: (v.T @ v, t.T @ t)
    },
    "this is the mean over i: of each j only the i counts on which V and T disagree most, max": {
        "worst": lambda gap: gap.mean(0)
    },
    "this is the sum over i: of each j only the i counts on which V and T disagree most, max": {
        "worst": lambda gap: gap.sum(0)
    },
    "every disagreement beyond the margin counts: of each j only the largest, max over i": {"worst": as_it_is},
    "one disagreement counts, the largest of all: each j has its own, max over i, and they are summed": {
        "worst": lambda gap: gap.amax()
    },
    "only pairs with i before j are compared: every i counts for every j": {"worst": lambda gap: gap.triu(1).amax(0)},
    "only pairs with j before i are compared (j < i): every i counts for every j": {
        "worst": lambda gap: gap.tril(-1).amax(0)
    },
    "this is the smallest disagreement with the others: take the largest, max": {
        "worst": lambda gap: _no_diagonal(gap).amin(0) if len(gap) > 1 else gap.amax(0)
    },
    "only the first pair is compared with all others: every j has its worst i; a return inside the loop?": {
        "worst": lambda gap: gap[0].amax(0)
    },
    "this is a soft maximum (logsumexp) over i: of each j only the largest counts, max": {
        "worst": lambda gap: gap.logsumexp(0)
    },
    "this is the length of each column (the root of the sum of squares): of each j only the largest counts, max": {
        "worst": lambda gap: gap.norm(dim=0)
    },
    "only the disagreement of neighbours counts: every i counts for every j": {"worst": lambda gap: gap.diagonal(1)},
    "the absolute value is missing: this counts only where T is above V, |T - V| counts both": {
        "gap": lambda V, T: T - V
    },
    "the absolute value is missing: this counts only where V is above T, |T - V| counts both": {
        "gap": lambda V, T: V - T
    },
    "the difference is squared: |T - V|": {"gap": lambda V, T: (T - V) ** 2},
    "the absolute values are taken before the difference: |T - V|, not |T| - |V|": {
        "gap": lambda V, T: (T.abs() - V.abs()).abs()
    },
    "V and T are added: it is their difference that counts": {"gap": lambda V, T: (T + V).abs()},
    "the margin is missing: a disagreement up to it costs nothing": {"cost": lambda worst, margin: worst},
    "the margin is added: subtract it, a disagreement up to it costs nothing": {
        "cost": lambda worst, margin: (worst + margin).relu()
    },
    "the hinge is turned round: the disagreement less the margin, not the margin less the disagreement": {
        "cost": lambda worst, margin: (margin - worst).relu()
    },
    "what is below the margin counts as less than nothing: the margin stands inside the bracket, and each j is cut "
    "off at 0, [max - margin]+": {"cost": lambda worst, margin: worst - margin},
    "where the margin is exceeded all of the disagreement counts: only what is beyond the margin does": {
        "cost": lambda worst, margin: worst * (worst > margin)
    },
    "what is beyond the margin is only counted: its size is the cost": {
        "cost": lambda worst, margin: (worst > margin).to(worst)
    },
    "the disagreement is multiplied by the margin: subtract it": {"cost": lambda worst, margin: margin * worst},
    "what is beyond the margin is squared: it counts as it is": {
        "cost": lambda worst, margin: (worst - margin).relu() ** 2
    },
    "this is the mean over j: their sum is asked for": {"total": torch.mean},
    "the disagreement counts twice: both matrices are symmetric, so one direction says all": {
        "total": lambda costs: 2 * costs.sum()
    },
    "the disagreement counts one half: add all of it": {"total": lambda costs: 0.5 * costs.sum()},
    "the consistency of pictures and captions is left out, or always 0: add the largest |T - V| of each j (its "
    "smallest is 0, with itself; and the largest of V is 1, as that of T)": {
        "join": lambda pairs, intra: pairs + 0 * intra
    },
    "this is the consistency alone: add pair_loss of the cosines": {"join": lambda pairs, intra: intra + 0 * pairs},
    "the consistency is subtracted: add it, a disagreement is a cost": {"join": lambda pairs, intra: pairs - intra},
    "the two parts are averaged: add them": {"join": lambda pairs, intra: (pairs + intra) / 2},
    "the two parts are multiplied: add them": {"join": lambda pairs, intra: pairs * intra},
    "the larger of the two parts counts: add them": {"join": torch.maximum},
    "pair_loss is turned round: add it as it is": {"join": lambda pairs, intra: intra - pairs},
}


def _margin_from_the_sum(images, captions, pair_loss, margin):
    summed = cmc_with(images, captions, lambda scores: 0, margin, cost=lambda worst, margin: worst)
    return pair_loss(unit(images) @ unit(captions).T) + (summed - margin).relu()


def _pairs_times_batch(images, captions, pair_loss, margin):
    return cmc_with(images, captions, lambda scores: len(scores) * pair_loss(scores), margin)


def _raw_intra(images, captions, pair_loss, margin):
    return cmc_with(images, captions, pair_loss, margin, within=lambda v, t: (images @ images.T, captions @ captions.T))


def _raw_pairs(images, captions, pair_loss, margin):
    return cmc_with(images, captions, pair_loss, margin, scores=lambda v, t: images @ captions.T)


def _pairs_twice(images, captions, pair_loss, margin):
    return cmc_with(images, captions, pair_loss, margin) + pair_loss(unit(captions) @ unit(images).T)


def _mean_over_the_batch(**inputs):
    return cmc_specification(**inputs) / len(inputs["images"])


CMC_MISTAKES = {
    "the margin is subtracted once, from the sum: it stands inside the sum, once for each j": _margin_from_the_sum,
    "the consistency compares plain dot products: it takes cosines, as the other part does": _raw_intra,
    "pair_loss gets plain dot products: it takes cosines, as the other part does": _raw_pairs,
    "pair_loss is added for both directions: it does that itself, give it the cosines once": _pairs_twice,
    "pair_loss is multiplied by the size of the batch: add it as it is": _pairs_times_batch,
    "this is divided by the size of the batch: no mean here, both parts are added as they are": _mean_over_the_batch,
}


def rehearsal() -> Inputs:
    """One training step's batch, without its gradient."""
    images, captions = (unit(normal(128, 128, seed=seed)).float() for seed in (0, 1))
    return {"images": images, "captions": captions, "pair_loss": torch.mean, "margin": 0.3}


EXERCISE = Exercise(
    "cmc",
    library=library_cmc,
    example=EXAMPLE,
    cases=cmc_cases,
    specification=cmc_specification,
    mistakes=CMC_MISTAKES,
    family=(cmc_with, TOGGLES),
    gradients=("images", "captions"),
    rehearsal=Rehearsal(rehearsal, calls=630),
)
