"""``enhance``, lesson 04.

Regions that receive their share of a guide, beside shares picture by picture; gradients too.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from itr_lib.checks._inputs import mask_last_real, normal, unit_vectors
from itr_lib.checks._mistakes import variant
from itr_lib.checks.frame import Exercise
from itr_lib.checks.outcome import Inputs


def enhance_cases() -> Iterator[Inputs]:
    """Regions of several lengths, padding anywhere with large numbers in it, one region, one picture."""
    for seed, (images, regions, dim, sharpness) in enumerate(
        [(3, 5, 4, 1.5), (2, 4, 6, 0.5), (1, 3, 3, 8.0), (2, 1, 4, 1.0)]
    ):
        mask = mask_last_real(images, regions, seed=340 + seed)
        vectors = normal(images, regions, dim, seed=350 + seed)
        yield {
            "regions": torch.where(mask[..., None], vectors, 3 * vectors),
            "mask": mask,
            "guide": unit_vectors(images, dim, seed=360 + seed),
            "sharpness": sharpness,
        }


def enhance_specification(regions: Tensor, mask: Tensor, guide: Tensor, sharpness: float) -> Tensor:
    """Picture by picture: shares of the real regions, brought to length 1, then each gets its share of the guide."""
    rows = []
    for vectors, real, whole in zip(regions, mask.tolist(), guide, strict=True):
        logits = [sharpness * (vector @ whole) for vector, is_real in zip(vectors, real, strict=True) if is_real]
        top = max(float(logit.detach()) for logit in logits)
        grown = [torch.exp(logit - top) for logit in logits]
        length = torch.sqrt(sum(g * g for g in grown))  # the softmax's own divisor falls out
        shares = iter([g / length for g in grown])
        rows += [
            vector + next(shares) * whole if is_real else vector for vector, is_real in zip(vectors, real, strict=True)
        ]
    return torch.stack(rows).view(regions.shape)


def _enhance(
    regions,
    mask,
    guide,
    sharpness,
    fill=-torch.inf,
    length=2.0,
    dim=1,
    products=None,
    residual=1.0,
    late=False,
    give=None,
):
    """Variants of giving the guide back."""
    products = sharpness * torch.einsum("nrf,nf->nr", regions, guide) if products is None else products
    share = products.masked_fill(~mask, fill).softmax(dim)
    share = share if late else share.masked_fill(~mask, 0)
    if length:
        share = share / share.norm(p=length, dim=1, keepdim=True).clamp(min=1e-12)
    return residual * regions + share[..., None] * (guide[:, None] if give is None else give)


ENHANCE_MISTAKES = {
    "b is the softmax as it is: bring it to length 1, b / |b|": variant(_enhance, length=None),
    "padded regions take part in the softmax: fill their products with -torch.inf first": lambda **given: torch.where(
        given["mask"][..., None],
        _enhance(**{**given, "mask": torch.ones_like(given["mask"])}),
        given["regions"],
    ),
    "the mask is not used: padded regions take part in the softmax, and receive a share": lambda **given: _enhance(
        **{**given, "mask": torch.ones_like(given["mask"])}
    ),
    "padding became a product of 0, and e^0 = 1 is a share: fill with -torch.inf": variant(
        _enhance, fill=0.0, late=True
    ),
    "padded regions were set to 0: they stay as they came": lambda **given: (
        _enhance(**given) * given["mask"][..., None]
    ),
    "the region itself is missing: x_r + b_r g, not b_r g alone": variant(_enhance, residual=0.0),
    "each region is given back its own share of itself, b_r x_r: what it receives is the guide g": variant(
        _enhance, give=lambda given: given["regions"]
    ),
    "every region receives g in full: times b_r": lambda **given: (
        given["regions"] + given["mask"][..., None] * given["guide"][:, None]
    ),
    "the regions are multiplied by b_r before g is added: x_r + b_r g": lambda **given: (
        _enhance(**given, residual=0.0) + (_enhance(**given, residual=0.0, give=1.0)[..., :1]) * given["regions"]
    ),
    "sharpness is missing: it multiplies the products": lambda **given: _enhance(**{**given, "sharpness": 1.0}),
    "the products are divided by sharpness: multiply them": lambda **given: _enhance(
        **{**given, "sharpness": 1 / given["sharpness"]}
    ),
    "the softmax runs over the pictures: each picture shares among its own regions, dim 1": variant(
        _enhance, dim=0, fill=-1e30
    ),
    "b has length 1 before the softmax: the softmax comes first": lambda **given: _enhance(
        **given,
        length=None,
        products=nn.functional.normalize(
            (given["sharpness"] * torch.einsum("nrf,nf->nr", given["regions"], given["guide"])).masked_fill(
                ~given["mask"], 0
            ),
            dim=1,
        ),
    ),
    "the products are of unit vectors: x_r . g takes the regions as they are": lambda **given: _enhance(
        **given,
        products=given["sharpness"]
        * torch.einsum("nrf,nf->nr", nn.functional.normalize(given["regions"], dim=-1), given["guide"]),
    ),
    "the result has length 1: leave it as it is": lambda **given: nn.functional.normalize(_enhance(**given), dim=-1),
}

EXERCISE = Exercise("enhance", enhance_cases, enhance_specification, ENHANCE_MISTAKES, gradients=("regions", "guide"))
