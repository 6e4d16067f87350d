"""``pool-codes``, lesson 03.

Five poolings of codes over the real words, beside sums and exponentials by hand; gradients too.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from itr_lib.checks._inputs import mask_last_real, normal
from itr_lib.checks.frame import Exercise
from itr_lib.checks.outcome import Inputs


def pool_cases() -> Iterator[Inputs]:
    """Every pooling on codes of both signs with padding anywhere; a small beta, at which exp overflows; one word."""
    for how in ("sum", "mean", "max", "lse", "softmax"):
        for seed, (images, captions, words, beta) in enumerate([(3, 2, 5, 0.1), (1, 4, 3, 0.5), (2, 1, 1, 0.1)]):
            codes = torch.tanh(normal(images, captions, words, seed=110 + seed)) - 0.4 * (seed == 0)
            yield {"codes": codes, "word_mask": mask_last_real(captions, words, 120 + seed), "how": how, "beta": beta}
        codes = 0.9 + 0.02 * normal(2, 2, 4, seed=130)
        yield {"codes": codes, "word_mask": mask_last_real(2, 4, 131), "how": how, "beta": 0.001}


def pool_specification(codes: Tensor, word_mask: Tensor, how: str, beta: float) -> Tensor:
    """The real codes of each pair, pooled; exponentials are taken of differences to the largest."""
    scores = []
    for image in codes:
        for row, real in zip(image, word_mask.tolist(), strict=True):
            kept = [code for code, is_real in zip(row, real, strict=True) if is_real]
            top = max(float(code.detach()) for code in kept)
            grown = [torch.exp((code - top) / beta) for code in kept]
            scores.append(
                {
                    "sum": sum(kept),
                    "mean": sum(kept) / len(kept),
                    "max": torch.stack(kept).max(),
                    "lse": top / beta + torch.log(sum(grown)),
                    "softmax": sum(g * code for g, code in zip(grown, kept, strict=True)) / sum(grown),
                }[how]
            )
    return torch.stack(scores).view(codes.shape[:2])


def _pool(codes, word_mask, how, beta, fill=None, mask=None, divisor=None):
    """Variants of the poolings for the mistakes below; ``fill``: one number for what is not ``mask``."""
    mask = word_mask if mask is None else mask
    off = ~mask.expand_as(codes)
    low = codes.masked_fill(off, -torch.inf if fill is None else fill)
    zero = codes.masked_fill(off, 0 if fill is None else fill)
    if how == "sum":
        return zero.sum(-1)
    if how == "mean":
        return zero.sum(-1) / (mask.sum(-1) if divisor is None else divisor)
    if how == "max":
        return low.amax(-1)
    if how == "lse":
        return (low / beta).logsumexp(-1)
    return ((low / beta).softmax(-1) * zero).sum(-1)


def _only(wanted: str, variant):
    """A variant that is wrong for one pooling."""

    def pooled(codes, word_mask, how, beta):
        if how != wanted:
            return _pool(codes, word_mask, how, beta)
        return variant(codes, word_mask, beta)

    return pooled


def _weights(codes, word_mask, beta):
    return (codes / beta).masked_fill(~word_mask, -torch.inf).softmax(-1)


POOL_MISTAKES = {
    "padding counts in the mean's divisor: divide by the number of real words": (
        _only("mean", lambda codes, word_mask, beta: _pool(codes, word_mask, "mean", beta, divisor=codes.shape[-1]))
    ),
    "padding became 0: it beats a negative code in max, and e^0 counts in lse and softmax; fill with -inf there": (
        lambda codes, word_mask, how, beta: _pool(codes, word_mask, how, beta, fill=0.0)
    ),
    "padding takes part as it came: word_mask is not used": lambda codes, word_mask, how, beta: _pool(
        codes, word_mask, how, beta, mask=torch.ones_like(word_mask)
    ),
    "the mask is turned round: masked_fill fills where it is True, so give it ~word_mask": (
        lambda codes, word_mask, how, beta: _pool(codes, word_mask, how, beta, mask=~word_mask)
    ),
    "sum and mean take -inf for padding: fill with 0 there, and divide the mean by the number of real words": (
        lambda codes, word_mask, how, beta: _pool(
            codes, word_mask, how, beta, fill=-torch.inf if how in ("sum", "mean") else None
        )
    ),
    "softmax: a weight of 0 times -inf is NaN: weigh the codes themselves, not the filled ones": (
        _only(
            "softmax",
            lambda codes, word_mask, beta: (
                _weights(codes, word_mask, beta) * codes.masked_fill(~word_mask, -torch.inf)
            ).sum(-1),
        )
    ),
    "softmax: these are the weights alone, which sum to 1: multiply them by the codes": (
        _only("softmax", lambda codes, word_mask, beta: _weights(codes, word_mask, beta).sum(-1))
    ),
    "codes are divided by beta, not multiplied": lambda codes, word_mask, how, beta: _pool(
        codes, word_mask, how, 1 / beta
    ),
    "beta is missing": lambda codes, word_mask, how, beta: _pool(codes, word_mask, how, 1.0),
    "lse: this is multiplied by beta again: the course's lse is logsumexp(codes / beta), as CHAN's": (
        _only("lse", lambda codes, word_mask, beta: beta * _pool(codes, word_mask, "lse", beta))
    ),
    "lse: this is the log of a mean: do not divide by the number of words": (
        _only(
            "lse",
            lambda codes, word_mask, beta: _pool(codes, word_mask, "lse", beta) - word_mask.sum(-1).to(codes).log(),
        )
    ),
    "sum: this is the mean": _only("sum", lambda codes, word_mask, beta: _pool(codes, word_mask, "mean", beta)),
    "mean: this is the sum": _only("mean", lambda codes, word_mask, beta: _pool(codes, word_mask, "sum", beta)),
}


def pool_explained(inputs: Inputs, result: Tensor, expected: Tensor) -> str | None:
    """Infinity or NaN at a small beta."""
    if inputs["how"] in ("lse", "softmax") and inputs["beta"] < 0.01 and not bool(result.isfinite().all()):
        return f"{inputs['how']}: exp overflows when beta is small: torch.logsumexp and torch.softmax are safe"
    return None


EXERCISE = Exercise("pool-codes", pool_cases, pool_specification, POOL_MISTAKES, ("codes",), pool_explained)
