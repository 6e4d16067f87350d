"""Checks of lesson 03: the specifications as plain loops, and the mistakes people make."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from itr_lib.checks.frame import Exercise, Inputs


def _random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _unit(*shape: int, seed: int) -> Tensor:
    vectors = _random(*shape, seed=seed)
    return vectors / vectors.norm(dim=-1, keepdim=True)


def _mask(rows: int, width: int, seed: int) -> Tensor:
    """Some real, some padding anywhere; the first place of the first row is padding where there is more than one."""
    mask = torch.rand(rows, width, generator=torch.Generator().manual_seed(seed)) < 0.6
    mask[:, -1] = True
    mask[0, 0] = width == 1
    return mask


# --- soft-codes ------------------------------------------------------------------------------------------------------


def soft_cases() -> Iterator[Inputs]:
    """Unit vectors with large numbers where padded; one region, one word; a blank picture of zero vectors."""
    for seed, (regions, words, dim, temperature) in enumerate(
        [(5, 4, 6, 0.1), (6, 6, 3, 0.5), (7, 1, 4, 2.0), (1, 3, 5, 0.1)]
    ):
        mask = _mask(1, regions, 40 + seed)[0]
        real = _unit(regions, dim, seed=seed)
        padded = torch.where(mask[:, None], real, 3 * real)
        yield {
            "regions": padded,
            "words": _unit(words, dim, seed=60 + seed),
            "region_mask": mask,
            "temperature": temperature,
        }
    words = _unit(2, 3, seed=7)
    mask = torch.tensor([True, True, False])
    loud = torch.stack([*_unit(2, 3, seed=8), 4 * words.mean(0)])  # padding that would take all the attention
    yield {"regions": loud, "words": words, "region_mask": mask, "temperature": 0.05}
    yield {"regions": torch.zeros(3, 3).double(), "words": words, "region_mask": mask, "temperature": 0.1}


def soft_specification(regions: Tensor, words: Tensor, region_mask: Tensor, temperature: float) -> Tensor:
    """Word by word: attention over the real regions, the vector it makes, the word's dot product over its length."""
    real = [region for region, is_real in zip(regions, region_mask.tolist(), strict=True) if is_real]
    codes = []
    for word in words:
        logits = [float(region @ word) / temperature for region in real]
        grown = [math.exp(logit - max(logits)) for logit in logits]
        attended = sum(g / sum(grown) * region for g, region in zip(grown, real, strict=True))
        codes.append(word @ attended / (math.sqrt(float(attended @ attended)) + 1e-8))
    return torch.stack(codes)


def _soft(regions, words, region_mask, temperature, fill=-torch.inf, mask=None, dim=0, length=True, times=False):
    """Variants of soft coding for the mistakes below."""
    mask = region_mask if mask is None else mask
    dots = regions @ words.T
    logits = (dots * temperature if times else dots / temperature).masked_fill(~mask[:, None], fill)
    attended = logits.softmax(dim=dim).T @ regions
    codes = (attended * words).sum(1)
    return codes / (attended.norm(dim=1) + 1e-8) if length else codes


def _soft_masked_late(regions, words, region_mask, temperature):
    weights = (regions @ words.T / temperature).softmax(0) * region_mask[:, None]
    attended = weights.T @ regions
    return (attended * words).sum(1) / (attended.norm(dim=1) + 1e-8)


def _soft_bare(regions, words, region_mask, temperature):
    weights = (regions @ words.T / temperature).masked_fill(~region_mask[:, None], -torch.inf).softmax(0)
    attended = weights.T @ regions
    return (attended * words).sum(1) / attended.norm(dim=1)


def _soft_squared(regions, words, region_mask, temperature):
    weights = (regions @ words.T / temperature).masked_fill(~region_mask[:, None], -torch.inf).softmax(0)
    attended = weights.T @ regions
    return (attended * words).sum(1) / ((attended**2).sum(1) + 1e-8)


SOFT_MISTAKES = {
    "a blank picture has zero vectors, and you divide by zero: add 1e-8 to the length": _soft_bare,
    "padding takes part in the attention as it came: fill A with -inf where it is padding, before the softmax": (
        lambda regions, words, region_mask, temperature: _soft(
            regions, words, region_mask, temperature, mask=torch.ones_like(region_mask)
        )
    ),
    "padding became a logit of 0, and e^0 = 1 still attends: fill with -torch.inf": (
        lambda regions, words, region_mask, temperature: _soft(regions, words, region_mask, temperature, fill=0.0)
    ),
    "the mask is turned round: masked_fill fills where it is True, so give it ~region_mask": (
        lambda regions, words, region_mask, temperature: _soft(
            regions, words, region_mask, temperature, mask=~region_mask
        )
    ),
    "the softmax runs over the words: each word spreads its attention over the regions, which are the rows of A": (
        lambda regions, words, region_mask, temperature: _soft(regions, words, region_mask, temperature, -1e9, dim=1)
    ),
    "the softmax runs over the words, and a padded row of -inf becomes NaN: each word spreads its attention over the "
    "regions, which are the rows of A": (
        lambda regions, words, region_mask, temperature: _soft(regions, words, region_mask, temperature, dim=1)
    ),
    "A is divided by the temperature, not multiplied": lambda regions, words, region_mask, temperature: _soft(
        regions, words, region_mask, temperature, times=True
    ),
    "the temperature is missing": lambda regions, words, region_mask, temperature: _soft(
        regions, words, region_mask, 1.0
    ),
    "the attended vector's length is missing: an average of unit vectors is shorter than 1, divide by its length": (
        lambda regions, words, region_mask, temperature: _soft(regions, words, region_mask, temperature, length=False)
    ),
    "you divide by the squared length: take the square root": _soft_squared,
    "this is the maximum, hard coding: the soft code goes through the attended vector": (
        lambda regions, words, region_mask, temperature: (
            (regions @ words.T).masked_fill(~region_mask[:, None], -torch.inf).amax(0)
        )
    ),
    "padding is masked after the softmax, when it has taken the weight: fill A with -inf before": _soft_masked_late,
}

# --- hard-codes ------------------------------------------------------------------------------------------------------


def hard_cases() -> Iterator[Inputs]:
    """As many images as captions and not, padding anywhere, one of each; a word that every region points away from."""
    for seed, (images, regions, captions, words, dim) in enumerate(
        [(3, 4, 3, 5, 6), (2, 5, 4, 3, 4), (1, 3, 1, 2, 3), (4, 1, 2, 1, 5)]
    ):
        mask = _mask(images, regions, 70 + seed)
        vectors = _unit(images, regions, dim, seed=80 + seed)
        yield {
            "regions": torch.where(mask[..., None], vectors, 3 * vectors),
            "words": _unit(captions, words, dim, seed=90 + seed),
            "region_mask": mask,
        }
    away = _unit(2, 3, 4, seed=99)
    mask = torch.tensor([[False, True, True], [True, True, True]])
    yield {"regions": away, "words": -2 * away.mean(dim=1, keepdim=True), "region_mask": mask}


def hard_specification(regions: Tensor, words: Tensor, region_mask: Tensor) -> Tensor:
    """Image by image, caption by caption, word by word: the largest dot product with a real region."""
    scores = []
    for image, real in zip(regions, region_mask.tolist(), strict=True):
        for caption in words:
            for word in caption:
                dots = [region @ word for region, is_real in zip(image, real, strict=True) if is_real]
                scores.append(torch.stack(dots).max())
    return torch.stack(scores).view(len(regions), *words.shape[:2])


def _dots(regions: Tensor, words: Tensor) -> Tensor:
    return torch.einsum("nrd,mwd->nmrw", regions, words)


def _hard(regions, words, region_mask, fill=-torch.inf, mask=None, reduce=torch.amax):
    mask = region_mask if mask is None else mask
    return reduce(_dots(regions, words).masked_fill(~mask[:, None, :, None], fill), 2)


def _hard_viewed(regions, words, region_mask):
    flat = regions.flatten(0, 1) @ words.flatten(0, 1).T
    dots = flat.view(len(regions), len(words), regions.shape[1], words.shape[1])
    return dots.masked_fill(~region_mask[:, None, :, None], -torch.inf).amax(2)


HARD_MISTAKES = {
    "padding was filled with 0 before the maximum, and 0 beats a negative one: fill with -torch.inf": (
        lambda regions, words, region_mask: _hard(regions, words, region_mask, fill=0.0)
    ),
    "padding takes part in the maximum as it came: fill A with -inf where it is padding": (
        lambda regions, words, region_mask: _hard(regions, words, region_mask, mask=torch.ones_like(region_mask))
    ),
    "the mask is turned round: masked_fill fills where it is True, so give it ~region_mask": (
        lambda regions, words, region_mask: _hard(regions, words, region_mask, mask=~region_mask)
    ),
    "the mask is laid along the captions: it belongs to the images, axes (N, 1, R, 1)": (
        lambda regions, words, region_mask: (
            _dots(regions, words).masked_fill(~region_mask[None, :, :, None], -torch.inf).amax(2)
        )
    ),
    "a view does not move axes: the product of the flattened sets has axes (N, R, M, W); transpose, then take the "
    "maximum": _hard_viewed,
    "this is the mean over the regions: hard coding takes the maximum": lambda regions, words, region_mask: (
        _hard(regions, words, region_mask, fill=0.0, reduce=torch.sum) / region_mask.sum(1)[:, None, None]
    ),
    "this is the sum over the regions: hard coding takes the maximum": lambda regions, words, region_mask: _hard(
        regions, words, region_mask, fill=0.0, reduce=torch.sum
    ),
    "you took the largest absolute value: a region that points away from the word does not fit it": (
        lambda regions, words, region_mask: (
            _dots(regions, words).abs().masked_fill(~region_mask[:, None, :, None], -torch.inf).amax(2)
        )
    ),
    "this is the smallest alignment: take the largest": lambda regions, words, region_mask: _hard(
        regions, words, region_mask, fill=torch.inf, reduce=torch.amin
    ),
}

# --- pool-codes ------------------------------------------------------------------------------------------------------


def pool_cases() -> Iterator[Inputs]:
    """Every pooling on codes of both signs with padding anywhere; a small beta, at which exp overflows; one word."""
    for how in ("sum", "mean", "max", "lse", "softmax"):
        for seed, (images, captions, words, beta) in enumerate([(3, 2, 5, 0.1), (1, 4, 3, 0.5), (2, 1, 1, 0.1)]):
            codes = torch.tanh(_random(images, captions, words, seed=110 + seed)) - 0.4 * (seed == 0)
            yield {"codes": codes, "word_mask": _mask(captions, words, 120 + seed), "how": how, "beta": beta}
        codes = 0.9 + 0.02 * _random(2, 2, 4, seed=130)
        yield {"codes": codes, "word_mask": _mask(2, 4, 131), "how": how, "beta": 0.001}


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


# --- hard-backward ---------------------------------------------------------------------------------------------------


def backward_cases() -> Iterator[Inputs]:
    """More words than regions, so that some win a region together; one of each; words that get no gradient."""
    for seed, (regions, words, dim) in enumerate([(4, 6, 5), (5, 5, 5), (1, 3, 4), (3, 1, 2)]):
        grad = _random(words, seed=140 + seed)
        grad[1:2] = 0
        yield {
            "regions": _unit(regions, dim, seed=150 + seed),
            "words": _unit(words, dim, seed=160 + seed),
            "grad": grad,
        }


def backward_specification(regions: Tensor, words: Tensor, grad: Tensor) -> Tensor:
    """Word by word: find the winner, then give it the word and the word it, times the gradient."""
    by_region, by_word = torch.zeros_like(regions), torch.zeros_like(words)
    for t, word in enumerate(words):
        dots = [float(region @ word) for region in regions]
        winner = dots.index(max(dots))
        by_region[winner] = by_region[winner] + grad[t] * word
        by_word[t] = grad[t] * regions[winner]
    return torch.cat([by_region, by_word])


def _backward(regions, words, grad, dots=None, regions_side=True, words_side=True, mean=False):
    dots = regions @ words.T if dots is None else dots
    chosen = torch.nn.functional.one_hot(dots.argmax(0), len(regions)).T.to(regions)  # (R, W)
    if mean:
        chosen = chosen / chosen.sum(1, keepdim=True).clamp(min=1)
    by_region = (chosen * grad) @ words * regions_side
    return torch.cat([by_region, grad[:, None] * regions[dots.argmax(0)] * words_side])


def _backward_overwritten(regions, words, grad):
    winners = (regions @ words.T).argmax(0).tolist()
    by_region = torch.zeros_like(regions)
    for t, winner in enumerate(winners):
        by_region[winner] = grad[t] * words[t]
    return torch.cat([by_region, grad[:, None] * regions[winners]])


def _backward_dense(regions, words, grad):
    """The gradient of a sum over all regions."""
    return torch.cat([(grad @ words).expand_as(regions), grad[:, None] * regions.sum(0)])


def _backward_by_region(regions, words, grad):
    """Each region takes its best word."""
    winners = (regions @ words.T).argmax(1)
    by_word = torch.zeros_like(words).index_add(0, winners, grad[winners][:, None] * regions)
    return torch.cat([grad[winners][:, None] * words[winners], by_word])


def _backward_swapped_factors(regions, words, grad):
    winners = (regions @ words.T).argmax(0)
    by_region = torch.zeros_like(regions).index_add(0, winners, grad[:, None] * regions[winners])
    return torch.cat([by_region, grad[:, None] * words])


BACKWARD_MISTAKES = {
    "a region that several words choose keeps the gradient of the last one: add them up (index_add does, "
    "an assignment and [winners] += do not)": _backward_overwritten,
    "every region receives a gradient: only the winner of a word does": _backward_dense,
    "you took the best word of each region (argmax along a row): each word has one best region (a column of A)": (
        _backward_by_region
    ),
    "the factors are exchanged: by v_r the derivative of v_r . w_t is w_t, and by w_t it is v_r": (
        _backward_swapped_factors
    ),
    "grad is not used: multiply each word's terms by grad[t]": lambda regions, words, grad: _backward(
        regions, words, torch.ones_like(grad)
    ),
    "the words receive no gradient: word t gets grad[t] times its winner": lambda regions, words, grad: _backward(
        regions, words, grad, words_side=False
    ),
    "the regions receive no gradient: the winner of word t gets grad[t] times the word": (
        lambda regions, words, grad: _backward(regions, words, grad, regions_side=False)
    ),
    "the words' part lacks grad[t]: word t gets grad[t] times its winner": lambda regions, words, grad: torch.cat(
        [
            _backward(regions, words, grad, words_side=False)[: len(regions)],
            _backward(regions, words, torch.ones_like(grad), regions_side=False)[len(regions) :],
        ]
    ),
    "the two parts stand in the other order: first the regions, then the words": lambda regions, words, grad: _backward(
        regions, words, grad
    ).roll(len(words), 0),
    "the gradients of words that chose one region are averaged: add them up": lambda regions, words, grad: _backward(
        regions, words, grad, mean=True
    ),
    "the winner is the largest dot product, not the largest absolute one": lambda regions, words, grad: _backward(
        regions, words, grad, dots=(regions @ words.T).abs()
    ),
    "the winner is the region with the largest A[r, t], whatever the sign of grad[t]": (
        lambda regions, words, grad: _backward(regions, words, grad, dots=regions @ words.T * grad)
    ),
}

# --- attended-length -------------------------------------------------------------------------------------------------


def length_cases() -> Iterator[Inputs]:
    """Weights over some regions and their Gram matrices; as many words as regions and not; one of each."""
    for seed, (images, regions, words) in enumerate([(2, 4, 3), (3, 5, 5), (1, 3, 1), (2, 1, 4)]):
        vectors = _unit(images, regions, 6, seed=170 + seed)
        weights = _random(images, regions, words, seed=180 + seed).softmax(1)
        yield {"weights": weights, "gram": vectors @ vectors.mT}
    opposed = torch.tensor([[[1.0, -1.0], [-1.0, 1.0]]], dtype=torch.float64)
    yield {"weights": torch.full((1, 2, 1), 0.5, dtype=torch.float64), "gram": opposed}
    below = opposed.masked_fill(opposed < 0, -1 - 1e-9)  # as rounding leaves it: the square is a little below 0
    yield {"weights": torch.full((1, 2, 1), 0.5, dtype=torch.float64), "gram": below}


def length_specification(weights: Tensor, gram: Tensor) -> Tensor:
    """Image by image and word by word: the sum over all pairs of regions, then the square root."""
    lengths = []
    for image, products in zip(weights.tolist(), gram.tolist(), strict=True):
        for t in range(len(image[0])):
            a = [row[t] for row in image]
            square = sum(a[r] * a[s] * products[r][s] for r in range(len(a)) for s in range(len(a)))
            lengths.append(math.sqrt(max(square, 0.0)))
    return weights.new_tensor(lengths).view(weights.shape[0], weights.shape[2])


def _square(weights: Tensor, gram: Tensor) -> Tensor:
    return (weights * (gram @ weights)).sum(1).clamp(min=0)


LENGTH_MISTAKES = {
    "a sum that is 0 on paper came out negative, and its root is NaN: clamp(min=0) first": (
        lambda weights, gram: (weights * (gram @ weights)).sum(1).sqrt()
    ),
    "this is the squared length: take the square root": _square,
    "only the diagonal of the Gram matrix is used (or none of it), as if regions were at right angles: all pairs "
    "(r, s) count": (lambda weights, gram: (weights**2 * gram.diagonal(dim1=1, dim2=2)[..., None]).sum(1).sqrt()),
    "the diagonal counts twice: the double sum over r and s has each v_r . v_r once": lambda weights, gram: (
        _square(weights, gram) + (weights**2 * gram.diagonal(dim1=1, dim2=2)[..., None]).sum(1)
    ).sqrt(),
    "the weights come in once: the sum has a_r and a_s": lambda weights, gram: (
        (gram @ weights).sum(1).clamp(min=0).sqrt()
    ),
    "this is the sum of the weights, which is 1: unit vectors that differ add up to something shorter": (
        lambda weights, gram: weights.sum(1)
    ),
    "each pair of different regions comes twice in the double sum, (r, s) and (s, r)": lambda weights, gram: (
        (weights * (gram.triu() @ weights)).sum(1).clamp(min=0).sqrt()
    ),
    "you took the square root of each part: it comes last, after the sum": lambda weights, gram: (
        (weights * (gram @ weights)).clamp(min=0).sqrt().sum(1)
    ),
    "this is the length of G a: the squared length of the attended vector is a . G a": lambda weights, gram: (
        gram @ weights
    ).norm(dim=1),
}

# --- effective-regions -----------------------------------------------------------------------------------------------


def effective_cases() -> Iterator[Inputs]:
    """Attention of several sharpnesses, padding with weight 0, a single region that has it all, equal shares."""
    for seed, (questions, regions, temperature) in enumerate([(4, 6, 1.0), (3, 3, 0.3), (1, 5, 0.5)]):
        mask = _mask(questions, regions, 190 + seed)
        logits = _random(questions, regions, seed=200 + seed) / temperature
        yield {"weights": logits.masked_fill(~mask, -torch.inf).softmax(1)}
    yield {"weights": torch.tensor([[0, 1, 0, 0], [0.25, 0.25, 0.25, 0.25], [0.5, 0, 0.5, 0]], dtype=torch.float64)}


def effective_specification(weights: Tensor) -> Tensor:
    """Row by row: minus the sum of w log w over what has a weight, then exp."""
    numbers = [math.exp(-sum(w * math.log(w) for w in row if w > 0)) for row in weights.tolist()]
    return weights.new_tensor(numbers)


def _entropy(weights: Tensor, dim: int = 1) -> Tensor:
    return -torch.xlogy(weights, weights).sum(dim)


EFFECTIVE_MISTAKES = {
    "0 times log 0 is NaN: leave out what has no weight, or use torch.xlogy": lambda weights: torch.exp(
        -(weights * weights.log()).sum(1)
    ),
    "this is the entropy H itself: return exp(H), a number of regions": _entropy,
    "the sign is turned round: the entropy is minus the sum of w log w": lambda weights: torch.exp(-_entropy(weights)),
    "the logarithm has base 2 and the power base e: take both of one kind": lambda weights: torch.exp(
        _entropy(weights) / math.log(2)
    ),
    "the logarithm has base e and the power base 2: take both of one kind": lambda weights: 2.0 ** _entropy(weights),
    "this counts the regions with any weight at all, however small": lambda weights: (weights > 0).sum(1).to(weights),
    "this is 1 / sum w^2, another number of regions: here it is exp of the entropy": lambda weights: (
        1 / (weights**2).sum(1)
    ),
    "this is 1 / max w: it knows the largest weight alone": lambda weights: 1 / weights.amax(1),
    "this is the entropy as a share of its largest value, log R: return exp(H)": lambda weights: (
        _entropy(weights) / math.log(weights.shape[1])
    ),
    "this sums over the questions: each row has its own entropy, sum over dim 1": lambda weights: torch.exp(
        _entropy(weights, dim=0)
    ),
    "a mean instead of the sum: the entropy is a sum over the regions": lambda weights: torch.exp(
        _entropy(weights) / weights.shape[1]
    ),
    "weights go in as they are, they sum to 1 already: no softmax": lambda weights: torch.exp(
        _entropy(weights.softmax(1))
    ),
}

EXERCISES = (
    Exercise("soft-codes", soft_cases, soft_specification, SOFT_MISTAKES),
    Exercise("hard-codes", hard_cases, hard_specification, HARD_MISTAKES, gradients=("regions", "words")),
    Exercise("pool-codes", pool_cases, pool_specification, POOL_MISTAKES, ("codes",), pool_explained),
    Exercise("hard-backward", backward_cases, backward_specification, BACKWARD_MISTAKES),
    Exercise("attended-length", length_cases, length_specification, LENGTH_MISTAKES),
    Exercise("effective-regions", effective_cases, effective_specification, EFFECTIVE_MISTAKES),
)
