"""Answers to the exercises of appendix 04a: other ways to be right, and wrong ones with what each is told."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F

# --- other ways to be right ------------------------------------------------------------------------------------------


def enhance_in_loops(regions, mask, guide, sharpness):
    pictures = []
    for x, real, g in zip(regions, mask, guide, strict=True):
        b = torch.zeros_like(x[:, 0])
        b[real] = F.normalize(F.softmax(sharpness * (x[real] @ g), dim=0), dim=0)
        pictures.append(x + torch.outer(b, g))
    return torch.stack(pictures)


def enhance_by_matrices(regions, mask, guide, sharpness):
    products = (regions @ guide[..., None]).squeeze(-1) * sharpness
    b = torch.where(mask, products, -1e9).softmax(-1) * mask
    return regions + (b / b.norm(dim=-1, keepdim=True))[..., None] @ guide[:, None]


def constant_in_a_loop(scores, negatives, mu, gamma):
    best, least = None, math.inf
    for S in scores.tolist():
        x = mu * (S - gamma)
        log_sum = x + math.log(negatives) if x > 50 else math.log1p(negatives * math.exp(x))
        loss = 2 * log_sum / mu - math.log(1 + S)
        if loss < least:
            best, least = S, loss
    return best


def constant_naive(scores, negatives, mu, gamma):
    """Where all overflow, all are infinite, and the first is taken."""
    return scores[(2 / mu * torch.log(1 + negatives * torch.exp(mu * (scores - gamma))) - torch.log1p(scores)).argmin()]


def constant_in_numpy(scores, negatives, mu, gamma):
    S = scores.numpy()
    loss = 2 / mu * np.logaddexp(0, np.log(negatives) + mu * (S - gamma)) - np.log1p(S)
    return S[loss.argmin()]


ALSO_RIGHT = [
    ("best-constant", constant_in_a_loop),
    ("best-constant", constant_in_numpy),
    ("enhance", enhance_in_loops),
    ("enhance", enhance_by_matrices),
]

# --- wrong -----------------------------------------------------------------------------------------------------------


def _shares(regions, mask, guide, sharpness):
    products = sharpness * torch.einsum("nrf,nf->nr", regions, guide)
    return products.masked_fill(~mask, -torch.inf).softmax(1)


def enhance_softmax_only(regions, mask, guide, sharpness):
    return regions + _shares(regions, mask, guide, sharpness)[..., None] * guide[:, None]


def enhance_ignores_padding(regions, mask, guide, sharpness):
    return enhance_by_matrices(regions, torch.ones_like(mask), guide, sharpness)


def enhance_zero_logits(regions, mask, guide, sharpness):
    b = F.normalize((sharpness * (regions @ guide[..., None])[..., 0] * mask).softmax(1), dim=1)
    return regions + b[..., None] * guide[:, None]


def enhance_without_region(regions, mask, guide, sharpness):
    return F.normalize(_shares(regions, mask, guide, sharpness), dim=1)[..., None] * guide[:, None]


def enhance_weighs_regions(regions, mask, guide, sharpness):
    return regions * (1 + F.normalize(_shares(regions, mask, guide, sharpness), dim=1)[..., None])


def enhance_in_full(regions, mask, guide, sharpness):
    return torch.where(mask[..., None], regions + guide[:, None], regions)


def enhance_without_sharpness(regions, mask, guide, sharpness):
    return enhance_in_loops(regions, mask, guide, 1.0)


def enhance_zeroes_padding(regions, mask, guide, sharpness):
    return enhance_in_loops(regions, mask, guide, sharpness).masked_fill(~mask[..., None], 0)


def enhance_unit_result(regions, mask, guide, sharpness):
    return F.normalize(enhance_in_loops(regions, mask, guide, sharpness), dim=2)


def enhance_detached(regions, mask, guide, sharpness):
    return enhance_in_loops(regions, mask, guide.detach(), sharpness)


def enhance_masks_late(regions, mask, guide, sharpness):
    b = F.normalize((sharpness * (regions @ guide[..., None])[..., 0]).softmax(1), dim=1) * mask
    return regions + b[..., None] * guide[:, None]


def enhance_minus_hundred(regions, mask, guide, sharpness):
    products = sharpness * (regions * guide[:, None]).sum(-1)
    b = F.normalize(products.masked_fill(~mask, -100).softmax(1), dim=1)
    return regions + b[..., None] * guide[:, None]


def _cost(scores, negatives, mu, gamma, sides=2):
    return sides / mu * F.softplus(math.log(negatives) + mu * (scores - gamma), threshold=50)


def constant_place(scores, negatives, mu, gamma):
    return int((_cost(scores, negatives, mu, gamma) - scores.log1p()).argmin())


def constant_loss(scores, negatives, mu, gamma):
    return (_cost(scores, negatives, mu, gamma) - scores.log1p()).min()


def constant_one_side(scores, negatives, mu, gamma):
    return float(scores[(_cost(scores, negatives, mu, gamma, sides=1) - scores.log1p()).argmin()])


def constant_one_negative(scores, negatives, mu, gamma):
    return float(scores[(_cost(scores, 1, mu, gamma) - scores.log1p()).argmin()])


def constant_n_outside(scores, negatives, mu, gamma):
    return float(scores[(negatives * _cost(scores, 1, mu, gamma) - scores.log1p()).argmin()])


def constant_highest(scores, negatives, mu, gamma):
    return float(scores[(_cost(scores, negatives, mu, gamma) - scores.log1p()).argmax()])


def constant_without_positive(scores, negatives, mu, gamma):
    return float(scores[_cost(scores, negatives, mu, gamma).argmin()])


def constant_bare_positive(scores, negatives, mu, gamma):
    return float(scores[(_cost(scores, negatives, mu, gamma) - scores).argmin()])


def constant_formula(scores, negatives, mu, gamma):
    return gamma - math.log(negatives) / mu


def constant_without_gamma(scores, negatives, mu, gamma):
    return float(scores[(_cost(scores, negatives, mu, 0.0) - scores.log1p()).argmin()])


def constant_n_in_bracket(scores, negatives, mu, gamma):
    loss = 2 / mu * F.softplus(mu * (scores - gamma + math.log(negatives)), threshold=50) - scores.log1p()
    return float(scores[loss.argmin()])


def enhance_over_pictures(regions, mask, guide, sharpness):
    x = sharpness * torch.einsum("nrf,nf->nr", regions, guide)
    s = x.masked_fill(~mask, -1e9).softmax(0) * mask
    return regions + F.normalize(s, dim=1)[..., None] * guide[:, None]


def enhance_first_guide(regions, mask, guide, sharpness):
    x = sharpness * regions @ guide[0]
    s = x.masked_fill(~mask, -torch.inf).softmax(1)
    return regions + s[..., None] * guide[0]


def enhance_softmax_times_regions(regions, mask, guide, sharpness):
    x = sharpness * (regions * guide[:, None]).sum(-1)
    s = x.masked_fill(~mask, -torch.inf).softmax(1)
    s = s * mask.sum(1, keepdim=True)
    return regions + s[..., None] * guide[:, None]


def enhance_one_length(regions, mask, guide, sharpness):
    x = sharpness * (regions * guide[:, None]).sum(-1)
    s = x.masked_fill(~mask, -torch.inf).softmax(1)
    return regions + (s / s.norm())[..., None] * guide[:, None]


def _shares_of(regions, mask, guide, sharpness):
    products = sharpness * torch.einsum("nrf,nf->nr", regions, guide)
    return F.normalize(products.masked_fill(~mask, -torch.inf).softmax(1), dim=1)


def enhance_gift_times_regions(regions, mask, guide, sharpness):
    b = _shares_of(regions, mask, guide, sharpness)
    return regions + b[..., None] * guide[:, None] * regions.shape[1]


def enhance_guide_times_regions(regions, mask, guide, sharpness):
    b = _shares_of(regions, mask, guide * mask.sum(1, keepdim=True), sharpness)
    return regions + b[..., None] * guide[:, None]


def enhance_summed_shares(regions, mask, guide, sharpness):
    return regions + _shares_of(regions, mask, guide, sharpness).cumsum(1)[..., None] * guide[:, None]


WRONG = {
    "best-constant": [
        (constant_place, "a place in the list"),
        (constant_loss, "the lowest loss"),
        (constant_one_side, "only one direction is counted"),
        (constant_one_negative, "the number of negatives is missing"),
        (constant_n_outside, "n stands before the logarithm"),
        (constant_highest, "the candidate with the highest loss"),
        (constant_without_positive, "the positive term"),
        (constant_bare_positive, "the positive's logarithm is missing"),
        (constant_formula, "where n negatives begin to count"),
        (constant_without_gamma, "gamma is missing"),
        (constant_n_in_bracket, "ln n stands inside the bracket"),
        (constant_naive, "exp overflows when mu (S - gamma) is large"),
    ],
    "enhance": [
        (enhance_softmax_only, "bring it to length 1"),
        (enhance_ignores_padding, "the mask is not used"),
        (enhance_zero_logits, "became a product of 0"),
        (enhance_without_region, "the region itself is missing"),
        (enhance_weighs_regions, "what it receives is the guide"),
        (enhance_in_full, "every region receives g in full"),
        (enhance_without_sharpness, "sharpness is missing"),
        (enhance_zeroes_padding, "stay as they came"),
        (enhance_unit_result, "the result has length 1"),
        (enhance_detached, "gradient by guide"),
        (enhance_minus_hundred, "a product of -100"),
        (enhance_masks_late, "padded regions take part in the softmax"),
        (enhance_over_pictures, "the softmax runs over the pictures"),
        (enhance_first_guide, "the first picture's guide is used for all"),
        (enhance_gift_times_regions, "what is given back is multiplied by the number of all regions"),
        (enhance_guide_times_regions, "the products are multiplied by the number of regions"),
        (enhance_summed_shares, "go through this case by hand: in picture 0"),
        (enhance_softmax_times_regions, "the softmax times the number of regions"),
        (enhance_one_length, "one length for the whole batch"),
    ],
}
