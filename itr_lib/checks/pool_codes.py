"""``pool-codes``, lesson 03.

Three poolings of codes over the real words, beside sums and exponentials by hand; gradients too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from itr_lib import similarity
from itr_lib.checks._inputs import mask_last_real, normal, sizes
from itr_lib.checks.frame import Case, Exercise, Inputs, Rehearsal

HOW = ("mean", "lse", "softmax")


def pool_library(codes: Tensor, word_mask: Tensor, how: str, beta: float) -> Tensor:
    """The library's on codes that padding cannot touch."""
    if how == "mean":
        return codes.masked_fill(~word_mask, 0).sum(dim=-1) / word_mask.sum(dim=-1)
    low = codes.masked_fill(~word_mask, -torch.inf)
    if how == "lse":
        return similarity.pool_codes(low, "lse", beta)
    return ((low / beta).softmax(dim=-1) * codes.masked_fill(~word_mask, 0)).sum(dim=-1)


EXAMPLE = Case(
    {
        "codes": torch.tensor([[[0.9, 0.8, 0.5, -0.1]]], dtype=torch.float64),
        "word_mask": torch.ones(1, 4, dtype=torch.bool),
        "how": "lse",
        "beta": 0.1,
    },
    worked=[[9.327]],
)


def pool_cases() -> Iterator[Case]:
    """Every pooling on codes of both signs with padding anywhere; then what goes wrong at the edges."""
    for how in HOW:
        for seed, (images, captions, words, beta) in enumerate([(3, 2, 5, 0.1), (4, 4, 4, 0.5), (2, 1, 1, 0.1)]):
            codes = torch.tanh(normal(*sizes(images, captions, words), seed=110 + seed)) - 0.4 * (seed == 0)
            yield Case(_inputs(codes, how, beta, 120 + seed), f'how is "{how}"')
        close = (115 + 2 * normal(2, 2, 4, seed=130)).round() / 128  # so that codes / beta are exact in float32, too
        yield Case(_inputs(close, how, 1 / 128, 131), f"beta is so small that codes / beta are above 100 ({how})")
        yield Case(_inputs(close - 1.75, how, 1 / 128, 132), f"codes / beta are below -100 ({how})")
        wide = torch.tensor(
            [[[40.0, -35, 3, 0], [-20, -20.5, -31, -21]], [[-160, -162, -161.5, -160.5], [5, 5, 5.5, 4]]]
        )
        yield Case(
            _inputs(wide.double(), how, 1.0, 133), f"captions differ by far, and some codes lie below -100 ({how})"
        )


def _inputs(codes: Tensor, how: str, beta: float, seed: int) -> Inputs:
    mask = mask_last_real(codes.shape[1], codes.shape[2], seed)
    loud = torch.where(mask, codes, codes.amax() + 2)  # padding that would win, were it let in
    return {"codes": loud, "word_mask": mask, "how": how, "beta": beta}


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
                    "mean": sum(kept) / len(kept),
                    "lse": top / beta + torch.log(sum(grown)),
                    "softmax": sum(g * code for g, code in zip(grown, kept, strict=True)) / sum(grown),
                }[how]
            )
    return torch.stack(scores).view(codes.shape[:2])


def _pool(
    codes, word_mask, how, beta, mask=lambda m: m, mean_fill=0.0, fill=-torch.inf, late_fill=None, weighed=0.0,
    divisor="real", log_sum="safe", after=lambda lse, m, beta: lse, softmax="safe", scale=lambda beta: 1 / beta,
    only=None,
):  # fmt: skip
    """The poolings with a step done otherwise; every option is a mistake of the family below."""
    off, how = ~mask(word_mask).expand_as(codes), only or how
    by = scale(beta)
    low = codes.masked_fill(off, fill if late_fill is None else late_fill / by)
    if how == "mean":
        return _mean(codes if mean_fill is None else codes.masked_fill(off, mean_fill), word_mask, divisor)
    if how == "lse":
        return after(_log_sum(codes, low, by, log_sum), word_mask, beta)
    return _softmax(codes, low, off, by, codes.masked_fill(off, weighed), softmax)


def _mean(zero: Tensor, word_mask: Tensor, divisor: str) -> Tensor:
    real = word_mask.sum(-1).to(zero)
    by = {"real": real, "all": zero.shape[-1], "none": 1.0, "root": real.sqrt(), "more": real + 1, "total": real.sum()}[
        divisor
    ]
    return zero.sum(-1) / by


def _log_sum(codes: Tensor, low: Tensor, by: float, log_sum: str) -> Tensor:
    top = {"safe": low, "unscaled": low, "lost": low, "padded": codes, "everywhere": low, "added": low}.get(log_sum)
    if log_sum in ("largest", "no beta", "late beta", "one more", "unmasked", "zero"):
        m = (low * by).amax(-1)
        return {
            "largest": m, "no beta": low.logsumexp(-1), "late beta": low.logsumexp(-1) * by,
            "one more": m + torch.log1p((low * by - m[..., None]).exp().sum(-1)),
            "unmasked": (codes * by).logsumexp(-1), "zero": low.nan_to_num(neginf=0).mul(by).logsumexp(-1),
        }[log_sum]  # fmt: skip
    if top is None:  # by hand, without taking out the largest
        return (low * by).exp().sum(-1).log()
    top = top.amax() if log_sum == "everywhere" else top.amax(-1, keepdim=True)
    rest = ((low - top) * by).exp().sum(-1).log()
    top = top if log_sum == "everywhere" else top[..., 0]
    return {"lost": rest, "unscaled": top + rest, "added": rest - top * by}.get(log_sum, top * by + rest)


def _softmax(codes: Tensor, low: Tensor, off: Tensor, by: float, values: Tensor, softmax: str) -> Tensor:
    if softmax == "weights":
        return (low * by).softmax(-1).sum(-1)
    if softmax == "largest":
        return (low * by).softmax(-1).amax(-1)
    if softmax == "product":
        return ((low * by).exp() * values).sum(-1)
    others = {
        "no beta": lambda: (low.softmax(-1) * values).sum(-1),
        "mean": lambda: ((low * by).softmax(-1) * values).mean(-1),
        "real mean": lambda: ((low * by).softmax(-1) * values).sum(-1) / (~off).sum(-1),
        "zero": lambda: ((codes.masked_fill(off, 0) * by).softmax(-1) * values).sum(-1),
        "logs": lambda: ((low * by).log_softmax(-1) * values).sum(-1),
        "sigmoid": lambda: ((low * by).sigmoid() * values).sum(-1),
        "times beta": lambda: ((low * by).softmax(-1) * values / by).sum(-1),
        "unmasked": lambda: ((codes * by).softmax(-1) * codes).sum(-1),
    }
    if softmax in others:
        return others[softmax]()
    if softmax == "bare":
        grown = (low * by).exp()
        return (grown * values).sum(-1) / grown.sum(-1)
    if softmax == "late":
        return ((codes * by).softmax(-1) * ~off * values).sum(-1)
    if softmax == "scaled":
        return ((low * by).softmax(-1) * values * by).sum(-1)
    dim = {"safe": -1, "captions": 1, "images": 0}[softmax]
    return ((low * by).softmax(dim) * values).sum(-1)


def _both(value: float) -> dict[str, float]:
    return {"fill": value, "mean_fill": value, "weighed": value}


FAMILY: dict[str, dict] = {
    "padding takes part as it came: word_mask is not used": {"mask": torch.ones_like, "divisor": "all"},
    "padding takes part in the sums (not in the mean's divisor): set it to 0, and to -inf in lse and softmax": {
        "mask": torch.ones_like
    },
    "the mask is turned round: masked_fill fills where it is True, so give it ~word_mask": {"mask": torch.logical_not},
    "padding became 0 (a fill, or a product with the mask): right for the mean, but e^0 counts in lse and softmax; "
    "fill with -torch.inf there": {"fill": 0.0},
    "padding became 1 everywhere: 0 for the mean, -torch.inf for lse and softmax": _both(1.0),
    "padding became 1 in lse and softmax: fill with -torch.inf there": {"fill": 1.0},
    "padding became -1 in lse and softmax, where it still counts: fill with -torch.inf": {"fill": -1.0},
    "padding became -10 in lse and softmax: codes can lie below that; fill with -torch.inf": {"fill": -10.0},
    "padding became -100 in lse and softmax: codes can lie below that; fill with -torch.inf": {"fill": -100.0},
    "padding became -100 after the division by beta: real codes / beta lie below that; fill with -torch.inf": {
        "late_fill": -100.0
    },
    "padding became -1 after the division by beta: real codes / beta lie below that; fill with -torch.inf": {
        "late_fill": -1.0
    },
    "padding became 1 after the division by beta, and e^1 counts: fill with -torch.inf": {"late_fill": 1.0},
    "mean: padding takes part in the sum: fill it with 0 first": {"mean_fill": None},
    "mean: padding is -inf in the sum: fill it with 0 there": {"mean_fill": -torch.inf},
    "mean: padding is 1 in the sum: fill it with 0 there": {"mean_fill": 1.0},
    "mean: padding counts in the divisor: divide by the number of real words": {"divisor": "all"},
    "mean: this is the sum: divide by the number of real words": {"divisor": "none"},
    "mean: you divide by the root of the number of words: divide by the number": {"divisor": "root"},
    "mean: you divide by the words of all captions: by those of the caption itself": {"divisor": "total"},
    "mean: you divide by one too many: by the number of real words, no more": {"divisor": "more"},
    "lse: exp overflows when beta is small (or all of it becomes 0): take the largest code out first, or use "
    "torch.logsumexp": {"log_sum": "bare"},
    "lse: this is the largest code / beta: log-sum-exp adds up all of them": {"log_sum": "largest"},
    "lse: beta is missing: divide the codes by it first": {"log_sum": "no beta"},
    "lse: the codes are divided by beta before the exponential, not the result after it": {"log_sum": "late beta"},
    "lse: a 1 too much stands under the logarithm (log1p): log is asked for": {"log_sum": "one more"},
    "lse: padding takes part: fill it with -torch.inf first": {"log_sum": "unmasked"},
    "lse: padding became 0 (a fill, or a product with the mask), and e^0 = 1 counts: fill with -torch.inf": {
        "log_sum": "zero"
    },
    "lse: this is divided by the number of words: it is no mean": {
        "after": lambda lse, m, beta: lse / m.sum(-1).to(lse)
    },
    "lse: the largest code is taken out and never added back: add m / beta at the end": {"log_sum": "lost"},
    "lse: what was taken out is m / beta, and you add m: add m / beta": {"log_sum": "unscaled"},
    "lse: the largest code is taken away a second time: add m / beta back": {"log_sum": "added"},
    "lse: m is the largest code of real words: taken over padding, too, all else can become 0": {"log_sum": "padded"},
    "lse: m is the largest code of the pair's own words: with one m for the whole batch, all else can become 0": {
        "log_sum": "everywhere"
    },
    "lse: this is multiplied by beta again: the course's lse is logsumexp(codes / beta), as CHAN's": {
        "after": lambda lse, m, beta: lse * beta
    },
    "lse: this is divided by beta once more: only the codes are": {"after": lambda lse, m, beta: lse / beta},
    "lse: this is the log of a mean: do not divide by the number of words": {
        "after": lambda lse, m, beta: lse - m.sum(-1).to(lse).log()
    },
    "lse: this is the log of a mean over words and padding: do not divide": {
        "after": lambda lse, m, beta: lse - torch.log(torch.tensor(float(m.shape[1])))
    },
    "lse: the logarithm has base 2: take the natural one": {
        "after": lambda lse, m, beta: lse / torch.log(torch.tensor(2.0))
    },
    "lse: the logarithm has base 10: take the natural one": {
        "after": lambda lse, m, beta: lse / torch.log(torch.tensor(10.0))
    },
    "lse: the logarithm is missing": {"after": lambda lse, m, beta: lse.exp()},
    "lse: a minus sign is too much": {"after": lambda lse, m, beta: -lse},
    "codes are divided by beta, not multiplied": {"scale": lambda beta: beta},
    "beta is missing: divide the codes by it": {"scale": lambda beta: 1.0},
    "codes are divided by -beta: the sign is turned round": {"scale": lambda beta: -1 / beta},
    "codes are divided by the square of beta: once is enough": {"scale": lambda beta: beta**-2},
    "softmax: a weight of 0 times -inf is NaN: weigh the codes themselves, not the filled ones": {
        "weighed": -torch.inf
    },
    "softmax: these are the weights alone, which sum to 1: multiply them by the codes": {"softmax": "weights"},
    "softmax: this is the largest weight: multiply the weights by the codes and add up": {"softmax": "largest"},
    "softmax: the weights are bare exponentials: divide them by their sum": {"softmax": "product"},
    "softmax: beta is missing: the weights are softmax(codes / beta)": {"softmax": "no beta"},
    "softmax: this is a mean over the words on top: the weights sum to 1 already, add up": {"softmax": "mean"},
    "softmax: this is divided by the number of words on top: the weights sum to 1 already": {"softmax": "real mean"},
    "softmax: padding became 0 (a fill, or a product with the mask), and e^0 = 1 is a weight: fill with -torch.inf": {
        "softmax": "zero"
    },
    "softmax: these are logs of weights (log_softmax): take softmax": {"softmax": "logs"},
    "softmax: a sigmoid gives weights that do not sum to 1: take softmax": {"softmax": "sigmoid"},
    "softmax: this is multiplied by beta: the weights multiply the codes as they are": {"softmax": "times beta"},
    "softmax: padding takes part: fill it with -torch.inf first": {"softmax": "unmasked"},
    "softmax: exp overflows when beta is small: torch.softmax takes the largest out first": {"softmax": "bare"},
    "softmax: padding is masked after the softmax, when it has taken its share: fill with -inf before": {
        "softmax": "late"
    },
    "softmax: the weights multiply the codes, not the codes / beta": {"softmax": "scaled"},
    "softmax: the weights run over the captions: over a caption's words they must (dim -1)": {"softmax": "captions"},
    "softmax: the weights run over the pictures: over a caption's words they must (dim -1)": {"softmax": "images"},
    "how is not looked at: this is the mean for all three": {"only": "mean"},
    "how is not looked at: this is lse for all three": {"only": "lse"},
    "how is not looked at: this is softmax for all three": {"only": "softmax"},
}


def _largest(codes, word_mask, how, beta):
    low = codes.masked_fill(~word_mask, -torch.inf)
    return low.amax(-1) if how == "softmax" else _pool(codes, word_mask, how, beta)


def _swapped(first: str, second: str) -> Callable:
    """Two of the poolings exchanged."""

    def pooled(codes, word_mask, how, beta):
        return _pool(codes, word_mask, {first: second, second: first}.get(how, how), beta)

    return pooled


EXERCISE = Exercise(
    "pool-codes",
    library=pool_library,
    example=EXAMPLE,
    cases=pool_cases,
    specification=pool_specification,
    mistakes={
        "softmax: this is the largest code: it is a mean of all codes, weighed by softmax(codes / beta)": _largest,
        "lse and softmax are exchanged": _swapped("lse", "softmax"),
        "mean and softmax are exchanged": _swapped("mean", "softmax"),
        "mean and lse are exchanged": _swapped("mean", "lse"),
    },
    family=(_pool, FAMILY),
    gradients=("codes",),
    rehearsal=Rehearsal(lambda: _inputs(normal(32, 32, 13, seed=1).float(), "lse", 0.1, 134), calls=785 * 16),
)
