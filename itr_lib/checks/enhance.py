"""``enhance``, lesson 04a.

Regions that receive their share of a guide, beside shares picture by picture; gradients too.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from itr_lib.checks._inputs import mask_last_real, normal, sizes, unit_vectors
from itr_lib.checks.frame import Case, Exercise
from itr_lib.checks.outcome import Inputs
from itr_lib.models.user import enhance


def _given(images: int, regions: int, dim: int, sharpness: float, seed: int, padding: bool = True) -> Inputs:
    mask = mask_last_real(images, regions, seed=340 + seed)
    vectors = normal(images, regions, dim, seed=350 + seed)
    return {
        "regions": torch.where(mask[..., None], vectors, 3 * vectors),
        "mask": mask if padding else torch.ones_like(mask),
        "guide": unit_vectors(images, dim, seed=360 + seed),
        "sharpness": sharpness,
    }


def enhance_cases() -> Iterator[Case]:
    """Padding anywhere with large numbers in it, one region, one picture, products far below -100."""
    yield Case(_given(*sizes(3, 4, 5), 1.5, seed=0, padding=False))
    yield Case(_given(*sizes(3, 5, 4), 1.5, seed=4), trap="some regions are padding")
    yield Case(_given(2, 4, 6, 0.5, seed=1), trap="sharpness is below 1, and some regions are padding")
    yield Case(_given(1, 3, 3, 8.0, seed=2), trap="there is one picture")
    yield Case(_given(2, 1, 4, 1.0, seed=3), trap="a picture has one region")
    low = _given(2, 5, 4, 1.0, seed=4)
    low["guide"] = torch.eye(4, dtype=torch.float64)[:2]  # so that float32 holds the products exactly
    far = (4 * low["regions"]).round() / 4 - 200 * low["guide"][:, None]
    low["regions"] = torch.where(low["mask"][..., None], far, low["regions"])
    yield Case(low, trap="all products are far below -100")


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


def spoiled(
    regions, mask, guide, sharpness, *, fill=-torch.inf, before=True, after=True, length=2.0, over="regions", scale="",
    units="", give="guide", keep="region", order="", unit_result=False, turned=False, times="",
):  # fmt: skip
    """The step with one or two of its parts spoiled."""
    unit = F.normalize
    asked = unit(regions, dim=-1) if "regions" in units else regions
    guide = guide[:1].expand_as(guide) if units == "first guide" else guide
    asking = guide.sum(0, keepdim=True).expand_as(guide) if units == "all guides" else guide
    products = torch.einsum("nrf,nf->nr", asked, asking)
    products = {
        "": sharpness * products, "none": products, "over": products / sharpness, "outside": products,
        "real": sharpness * mask.sum(1, keepdim=True) * products, "all": sharpness * mask.shape[1] * products,
    }[scale]  # fmt: skip
    if order == "length first":
        products = unit(products.masked_fill(~mask, 0), dim=1)
    mask = ~mask if turned else mask
    logits = products.masked_fill(~mask, fill) if before else products
    share = _shared(logits, mask, over)
    share = _brought_to_length(share, length)
    share = share.masked_fill(~mask, 0) if after else share
    share = sharpness * share if scale == "outside" else share
    if give == "in full":
        share = mask.to(share)
    share = share * {"": 1, "real": mask.sum(1, keepdim=True), "all": mask.shape[1]}[times]
    result = _kept(regions, share, keep) + share[..., None] * _given_back(regions, share, guide, give)
    return F.normalize(result, dim=-1) if unit_result else result


def _shared(logits: Tensor, mask: Tensor, over: str) -> Tensor:
    if over == "sigmoid":
        return logits.sigmoid()
    if over == "none":
        return logits.masked_fill(~mask, 0)
    if over == "pictures, bare":
        return logits.softmax(0)
    share = logits.nan_to_num(neginf=-1e30).softmax(0 if over == "pictures" else 1)
    return share.masked_fill(~mask, 0) if over == "pictures" else share


def _brought_to_length(share: Tensor, length: float | str | None) -> Tensor:
    return {
        None: share,
        2.0: F.normalize(share, dim=1),
        "pictures": F.normalize(share, dim=0),
        "largest": share / share.amax(1, keepdim=True).clamp(min=1e-12),
        "square": share / (share * share).sum(1, keepdim=True).clamp(min=1e-12),
        "root": share.sqrt(),
        "whole": share / share.norm().clamp(min=1e-12),
    }[length]


def _kept(regions: Tensor, share: Tensor, keep: str) -> Tensor:
    kept = {"region": regions, "none": 0 * regions, "shared": (1 + share[..., None]) * regions, "less": -regions}
    return share[..., None] * regions if keep == "weighed" else kept[keep]


def _given_back(regions: Tensor, share: Tensor, guide: Tensor, give: str) -> Tensor:
    return {
        "guide": guide[:, None],
        "in full": guide[:, None],
        "itself": regions,
        "one": torch.ones_like(regions),
        "less": -guide[:, None],
        "product": regions * guide[:, None],
        "sum": torch.einsum("nr,nrf->nf", share, regions)[:, None] / share[..., None].clamp(min=1e-300),
    }[give]


ENHANCE_TOGGLES = {
    "b is the softmax as it is, which sums to 1: bring it to length 1, where the squares sum to 1": {"length": None},
    "b has length 1 over the pictures: over the regions of each, dim=1": {"length": "pictures"},
    "padded regions take part in the softmax: fill their products with -torch.inf first": {"before": False},
    "the mask is not used: padded regions take part in the softmax, and receive a share": {
        "before": False,
        "after": False,
    },
    "padding became a product of 0, and e^0 = 1 is a share: fill with -torch.inf": {"fill": 0.0, "after": False},
    "padding became a product of 0, and takes part in the softmax: fill with -torch.inf": {"fill": 0.0},
    "padding became a product of -1, and takes part in the softmax: fill with -torch.inf": {
        "fill": -1.0,
        "after": False,
    },
    "padding became a product of -100, which is above real ones: fill with -torch.inf": {
        "fill": -100.0,
        "after": False,
    },
    "the region itself is missing: x_r + b_r g, not b_r g alone": {"keep": "none"},
    "the regions come with a minus: x_r + b_r g": {"keep": "less"},
    "each region is given back its own share of itself, b_r x_r: what it receives is the guide g": {"give": "itself"},
    "every region receives g in full: times b_r": {"give": "in full"},
    "b_r is added to every number of the region: it comes times g": {"give": "one"},
    "the regions are multiplied by b_r before g is added: x_r + b_r g": {"keep": "weighed"},
    "the regions are multiplied by 1 + b_r before g is added: x_r + b_r g": {"keep": "shared"},
    "g is taken off: x_r + b_r g": {"give": "less"},
    "the regions are multiplied by g: what is added is b_r g": {"give": "product"},
    "every region receives the weighed sum of the regions: what it receives is b_r g": {"give": "sum"},
    "b is the softmax times the number of regions: divide it by its length, the root of the sum of squares": {
        "length": None, "times": "real"
    },
    "b is the softmax times the number of all regions, padding too: divide it by its length, the root of the sum of "
    "squares": {"length": None, "times": "all"},
    "what is given back is multiplied by the number of regions: it is b_r g": {"times": "real"},
    "what is given back is multiplied by the number of all regions, padding too: it is b_r g": {"times": "all"},
    "b is divided by one length for the whole batch: each picture's shares have a length of their own, dim=1": {
        "length": "whole"
    },
    "b is divided by its largest share: by its length, the root of the sum of squares": {"length": "largest"},
    "b is divided by the sum of squares: by the root of it": {"length": "square"},
    "b is the root of the shares: divide the shares by their length": {"length": "root"},
    "the mask is turned round: it is True where a region is real, so fill where it is not, ~mask": {"turned": True},
    "the guides of all pictures are added up: each picture has its own, nrf,nf->nr": {"units": "all guides"},
    "the first picture's guide is used for all: each picture has its own, nrf,nf->nr": {"units": "first guide"},
    "sharpness multiplies what is given: it multiplies the products, before the softmax": {"scale": "outside"},
    "sharpness is missing: it multiplies the products": {"scale": "none"},
    "the products are multiplied by the number of regions (or the guide is, before them): sharpness x_r . g": {
        "scale": "real"
    },
    "the products are multiplied by the number of all regions, padding too (or the guide is, before them): sharpness "
    "x_r . g": {"scale": "all"},
    "the products are divided by sharpness: multiply them": {"scale": "over"},
    "the softmax runs over the pictures: each picture shares among its own regions, dim=1": {"over": "pictures"},
    "the softmax runs over the pictures, and is NaN at a place that is padding in all of them: each picture shares "
    "among its own regions, dim=1": {"over": "pictures, bare", "after": False},
    "this is a sigmoid for each region: softmax shares among the regions of a picture": {"over": "sigmoid"},
    "the softmax is missing": {"over": "none"},
    "b has length 1 before the softmax: the softmax comes first": {"order": "length first", "length": None},
    "the products are of unit vectors: x_r . g takes the regions as they are": {"units": "regions"},
    "the result has length 1: leave it as it is": {"unit_result": True},
}  # fmt: skip


def zeroed(regions: Tensor, mask: Tensor, guide: Tensor, sharpness: float) -> Tensor:
    """Padding set to 0."""
    return spoiled(regions, mask, guide, sharpness) * mask[..., None]


def _of_the_first_picture(regions, mask, guide, sharpness) -> str:
    """Its shares, before and after they are brought to length 1."""
    products = sharpness * regions[0] @ guide[0]
    shares = products.masked_fill(~mask[0], -torch.inf).softmax(0)
    s, b = ([round(x, 4) for x in values.tolist()] for values in (shares, F.normalize(shares, dim=0)))
    return f"in picture 0 the softmax gives {s}, at length 1 {b}; each is multiplied by g, and added to its region"


EXERCISE = Exercise(
    "enhance",
    library=enhance,
    example=Case(
        {
            "regions": torch.tensor([[[1.0, 0.0], [0.0, 1.0]]], dtype=torch.float64),
            "mask": torch.tensor([[True, True]]),
            "guide": torch.tensor([[1.0, 0.0]], dtype=torch.float64),
            "sharpness": 1.0,
        }
    ),
    cases=enhance_cases,
    specification=enhance_specification,
    steps=_of_the_first_picture,
    mistakes={"padded regions were set to 0: they stay as they came": zeroed},
    family=(spoiled, ENHANCE_TOGGLES),
    gradients=("regions", "guide"),
)
