"""Answers to the exercises of lesson 03: right ones, other ways to be right, and wrong ones with what each is told."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from itr_lib.similarity import alignment_scores

# --- right: by the library, which knows pairs and no codes: each word becomes a caption ------------------------------


def soft_right(regions, words, region_mask, temperature):
    codes = alignment_scores(
        regions[None], words[:, None], region_mask[None], coding="soft", temperature=temperature, pooling="sum"
    )
    return codes[0]


def hard_right(regions, words, region_mask):
    codes = alignment_scores(regions, words.flatten(0, 1)[:, None], region_mask)
    return codes.unflatten(1, words.shape[:2])


def pool_right(codes, word_mask, how, beta):
    """A code is the score of a region of one number with a word of one number."""
    rows = []
    for image in codes:
        one = torch.ones(1, 1, 1, dtype=codes.dtype, device=codes.device)
        rows.append(alignment_scores(one, image[..., None], None, word_mask, pooling=how, beta=beta)[0])
    return torch.stack(rows)


def backward_right(regions, words, grad):
    regions, words = regions.requires_grad_(True), words.requires_grad_(True)
    codes = alignment_scores(regions[None], words[:, None])[0]
    return torch.cat(torch.autograd.grad(codes @ grad, (regions, words)))


def length_right(weights, gram):
    """Vectors with this Gram matrix: its symmetric square root."""
    values, basis = torch.linalg.eigh(gram)
    root = basis * values.clamp(min=0).sqrt()[:, None]
    return (root.mT @ weights).norm(dim=1)


def effective_right(weights):
    return torch.distributions.Categorical(probs=weights).entropy().exp()


RIGHT = {
    "soft-codes": soft_right,
    "hard-codes": hard_right,
    "pool-codes": pool_right,
    "hard-backward": backward_right,
    "attended-length": length_right,
    "effective-regions": effective_right,
}

# --- other ways to be right ------------------------------------------------------------------------------------------


def soft_by_cosine(regions, words, region_mask, temperature):
    regions = regions[region_mask]
    weights = F.softmax(words @ regions.T / temperature, dim=-1)
    return F.cosine_similarity(weights @ regions, words, dim=1, eps=1e-8)


def hard_in_loops(regions, words, region_mask):
    rows = [
        torch.stack([(image[real] @ caption.T).max(dim=0).values for caption in words])
        for image, real in zip(regions, region_mask, strict=True)
    ]
    return torch.stack(rows)


def hard_by_einsum(regions, words, region_mask):
    dots = torch.einsum("nrd,mwd->nmwr", regions, words)
    return dots.masked_fill(~region_mask[:, None, None], -1e9).max(-1).values


def pool_with_large_numbers(codes, word_mask, how, beta):
    low = torch.where(word_mask, codes, -1e6)
    zero = codes * word_mask
    if how == "max":
        return low.max(-1)[0]
    if how == "lse":
        top = low.max(-1, keepdim=True).values.detach()
        return ((low - top) / beta).exp().sum(-1).log() + top[..., 0] / beta
    if how == "softmax":
        return torch.einsum("nmw,nmw->nm", F.softmax(low / beta, -1), zero)
    return zero.sum(-1) / (word_mask.sum(-1) if how == "mean" else 1)


def backward_by_matrix(regions, words, grad):
    chosen = F.one_hot((words @ regions.T).argmax(1), len(regions)).to(words) * grad[:, None]
    return torch.cat([chosen.T @ words, chosen @ regions])


def backward_in_loops(regions, words, grad):
    by_region, by_word = torch.zeros_like(regions), torch.zeros_like(words)
    for t in range(len(words)):
        r = int((regions @ words[t]).argmax())
        by_region[r] += grad[t] * words[t]
        by_word[t] += grad[t] * regions[r]
    return torch.cat([by_region, by_word])


def length_by_einsum(weights, gram):
    return torch.einsum("nrw,nrs,nsw->nw", weights, gram, weights).clamp(min=0).sqrt()


def effective_with_epsilon(weights):
    return torch.exp(-(weights * torch.log(weights + 1e-12)).sum(-1))


def effective_by_special(weights):
    return torch.special.entr(weights).sum(dim=1).exp()


ALSO_RIGHT = [
    ("soft-codes", soft_by_cosine),
    ("hard-codes", hard_in_loops),
    ("hard-codes", hard_by_einsum),
    ("pool-codes", pool_with_large_numbers),
    ("hard-backward", backward_by_matrix),
    ("hard-backward", backward_in_loops),
    ("attended-length", length_by_einsum),
    ("effective-regions", effective_with_epsilon),
    ("effective-regions", effective_by_special),
    ("effective-regions", lambda weights: 2 ** -torch.xlogy(weights, weights).div(math.log(2)).sum(1)),
]

# --- wrong -----------------------------------------------------------------------------------------------------------


def _soft(weights, regions, words):
    attended = weights @ regions
    return (attended * words).sum(-1) / (attended.norm(dim=-1) + 1e-8)


def soft_ignores_padding(regions, words, region_mask, temperature):
    return _soft(F.softmax(words @ regions.T / temperature, -1), regions, words)


def soft_times_mask(regions, words, region_mask, temperature):
    return _soft(F.softmax(words @ regions.T * region_mask / temperature, -1), regions, words)


def soft_mask_turned(regions, words, region_mask, temperature):
    logits = (words @ regions.T / temperature).masked_fill(region_mask, -1e9)
    return _soft(F.softmax(logits, -1), regions, words)


def soft_over_words(regions, words, region_mask, temperature):
    logits = (words @ regions.T / temperature).masked_fill(~region_mask, -1e9)
    return _soft(F.softmax(logits, 0), regions, words)


def soft_over_words_nan(regions, words, region_mask, temperature):
    dots = (regions @ words.T / temperature).masked_fill(~region_mask[:, None], -torch.inf)
    return _soft(dots.softmax(-1).T, regions, words)


def soft_multiplied(regions, words, region_mask, temperature):
    logits = (words @ regions.T * temperature).masked_fill(~region_mask, -torch.inf)
    return _soft(F.softmax(logits, -1), regions, words)


def soft_without_temperature(regions, words, region_mask, temperature):
    logits = (words @ regions.T).masked_fill(~region_mask, -torch.inf)
    return _soft(F.softmax(logits, -1), regions, words)


def soft_mean_of_alignments(regions, words, region_mask, temperature):
    dots = words @ regions.T
    weights = F.softmax((dots / temperature).masked_fill(~region_mask, -torch.inf), -1)
    return (weights * dots).sum(-1)


def soft_nan(regions, words, region_mask, temperature):
    regions = regions[region_mask]
    attended = F.softmax(words @ regions.T / temperature, -1) @ regions
    return ((attended / attended.norm(dim=-1, keepdim=True)) * words).sum(-1)


def soft_squared(regions, words, region_mask, temperature):
    regions = regions[region_mask]
    attended = F.softmax(words @ regions.T / temperature, -1) @ regions
    return (attended * words).sum(-1) / (attended.pow(2).sum(-1) + 1e-8)


def soft_hard(regions, words, region_mask, temperature):
    return (words @ regions[region_mask].T).max(-1).values


def soft_late_mask(regions, words, region_mask, temperature):
    return _soft(F.softmax(words @ regions.T / temperature, -1) * region_mask, regions, words)


def _dots(regions, words):
    return regions[:, None] @ words[None].mT  # (N, M, R, W)


def hard_zero_padding(regions, words, region_mask):
    return _dots(regions * region_mask[..., None], words).amax(2)


def hard_ignores_padding(regions, words, region_mask):
    return _dots(regions, words).max(dim=2).values


def hard_mask_turned(regions, words, region_mask):
    return _dots(regions, words).masked_fill(region_mask[:, None, :, None], -1e30).amax(2).clamp(min=-torch.inf)


def hard_mask_on_captions(regions, words, region_mask):
    return _dots(regions, words).masked_fill(~region_mask[None, ..., None], -torch.inf).amax(2)


def hard_viewed(regions, words, region_mask):
    (n, r, d), (m, w, _) = regions.shape, words.shape
    dots = (regions.reshape(-1, d) @ words.reshape(-1, d).T).reshape(n, m, r, w)
    return dots.masked_fill(~region_mask[:, None, :, None], -torch.inf).amax(2)


def hard_mean(regions, words, region_mask):
    real = regions * region_mask[..., None]
    return torch.einsum("nd,mwd->nmw", real.sum(1) / region_mask.sum(1, keepdim=True), words)


def hard_sum(regions, words, region_mask):
    return torch.einsum("nrd,mwd->nmw", regions * region_mask[..., None], words)


def hard_over_words(regions, words, region_mask):
    return _dots(regions, words).amax(3)


def hard_pairs(regions, words, region_mask):
    size = min(len(regions), len(words))
    return (regions[:size] @ words[:size].mT).amax(1)


def hard_detached(regions, words, region_mask):
    return hard_right(regions, words.detach(), region_mask)


def hard_absolute(regions, words, region_mask):
    return _dots(regions, words).abs().masked_fill(~region_mask[:, None, :, None], 0).amax(2)


def _pool_other(codes, word_mask, how, beta, **changed):
    return changed[how]() if how in changed else pool_right(codes, word_mask, how, beta)


def pool_zero_filled(codes, word_mask, how, beta):
    codes = codes * word_mask
    return _pool_other(
        codes,
        word_mask,
        how,
        beta,
        max=lambda: codes.amax(-1),
        lse=lambda: (codes / beta).logsumexp(-1),
        softmax=lambda: ((codes / beta).softmax(-1) * codes).sum(-1),
    )


def pool_mean_over_padding(codes, word_mask, how, beta):
    return _pool_other(codes, word_mask, how, beta, mean=lambda: (codes * word_mask).mean(-1))


def pool_ignores_mask(codes, word_mask, how, beta):
    return pool_right(codes, torch.ones_like(word_mask), how, beta)


def pool_mask_turned(codes, word_mask, how, beta):
    filled = codes.masked_fill(word_mask, 0)
    return _pool_other(codes, word_mask, how, beta, sum=lambda: filled.sum(-1))


def pool_infinite_sum(codes, word_mask, how, beta):
    low = codes.masked_fill(~word_mask, -torch.inf)
    return _pool_other(codes, word_mask, how, beta, sum=lambda: low.sum(-1))


def pool_lse_overflows(codes, word_mask, how, beta):
    low = codes.masked_fill(~word_mask, -torch.inf)
    return _pool_other(codes, word_mask, how, beta, lse=lambda: (low / beta).exp().sum(-1).log())


def pool_softmax_overflows(codes, word_mask, how, beta):
    grown = (codes.masked_fill(~word_mask, -torch.inf) / beta).exp()
    weights = grown / grown.sum(-1, keepdim=True)
    return _pool_other(codes, word_mask, how, beta, softmax=lambda: (weights * codes).sum(-1))


def pool_lse_masked_late(codes, word_mask, how, beta):
    return _pool_other(codes, word_mask, how, beta, lse=lambda: ((codes / beta).exp() * word_mask).sum(-1).log())


def pool_softmax_nan(codes, word_mask, how, beta):
    low = torch.where(word_mask, codes, -torch.inf)
    return _pool_other(codes, word_mask, how, beta, softmax=lambda: ((low / beta).softmax(-1) * low).sum(-1))


def pool_weights_alone(codes, word_mask, how, beta):
    low = torch.where(word_mask, codes, -torch.inf)
    return _pool_other(codes, word_mask, how, beta, softmax=lambda: (low / beta).softmax(-1).sum(-1))


def pool_times_beta(codes, word_mask, how, beta):
    return pool_right(codes, word_mask, how, 1 / beta)


def pool_without_beta(codes, word_mask, how, beta):
    return pool_right(codes, word_mask, how, 1.0)


def pool_scaled_back(codes, word_mask, how, beta):
    return pool_right(codes, word_mask, how, beta) * (beta if how == "lse" else 1)


def pool_log_mean(codes, word_mask, how, beta):
    counts = word_mask.sum(-1).to(codes) if how == "lse" else 1.0
    return pool_right(codes, word_mask, how, beta) - torch.as_tensor(counts).log()


def pool_over_captions(codes, word_mask, how, beta):
    return codes.sum(1)


def pool_sum_for_mean(codes, word_mask, how, beta):
    return pool_right(codes, word_mask, "sum" if how == "mean" else how, beta)


def pool_detached(codes, word_mask, how, beta):
    return pool_right(codes.detach(), word_mask, how, beta)


def _winners(regions, words):
    return (words @ regions.T).argmax(1)


def backward_assigns(regions, words, grad):
    by_region = torch.zeros_like(regions)
    for t, r in enumerate(_winners(regions, words)):
        by_region[r] = grad[t] * words[t]
    return torch.cat([by_region, grad[:, None] * regions[_winners(regions, words)]])


def backward_words_first(regions, words, grad):
    chosen = F.one_hot(_winners(regions, words), len(regions)).to(words) * grad[:, None]
    return torch.cat([chosen @ regions, chosen.T @ words])


def backward_without_grad(regions, words, grad):
    return backward_by_matrix(regions, words, torch.ones_like(grad))


def backward_regions_only(regions, words, grad):
    full = backward_by_matrix(regions, words, grad)
    full[len(regions) :] = 0
    return full


def backward_words_only(regions, words, grad):
    full = backward_by_matrix(regions, words, grad)
    full[: len(regions)] = 0
    return full


def backward_of_sum(regions, words, grad):
    ones = grad[:, None] * torch.ones(len(words), len(regions)).to(words)
    return torch.cat([ones.T @ words, ones @ regions])


def backward_best_words(regions, words, grad):
    best = (regions @ words.T).argmax(1)
    chosen = F.one_hot(best, len(words)).to(words) * grad
    return torch.cat([chosen @ words, chosen.T @ regions])


def backward_exchanged(regions, words, grad):
    chosen = F.one_hot(_winners(regions, words), len(regions)).to(words) * grad[:, None]
    return torch.cat([chosen.T @ (regions[_winners(regions, words)]), grad[:, None] * words])


def backward_two_results(regions, words, grad):
    full = backward_by_matrix(regions, words, grad)
    return full[: len(regions)], full[len(regions) :]


def backward_averaged(regions, words, grad):
    chosen = F.one_hot(_winners(regions, words), len(regions)).to(words)
    counts = chosen.sum(0).clamp(min=1)
    return torch.cat([(chosen * grad[:, None]).T @ words / counts[:, None], grad[:, None] * (chosen @ regions)])


def backward_signed(regions, words, grad):
    winners = (words @ regions.T * grad[:, None]).argmax(1)
    chosen = F.one_hot(winners, len(regions)).to(words) * grad[:, None]
    return torch.cat([chosen.T @ words, chosen @ regions])


def length_squared(weights, gram):
    return torch.einsum("nrw,nrs,nsw->nw", weights, gram, weights)


def length_diagonal(weights, gram):
    return torch.einsum("nrw,nrr->nw", weights**2, gram).sqrt()


def length_once(weights, gram):
    return torch.einsum("nrs,nsw->nw", gram, weights).clamp(min=0).sqrt()


def length_one(weights, gram):
    return torch.ones_like(weights[:, 0])


def length_half(weights, gram):
    total = torch.zeros_like(weights[:, 0])
    for r in range(gram.shape[1]):
        for s in range(r, gram.shape[1]):
            total = total + weights[:, r] * weights[:, s] * gram[:, r, s, None]
    return total.clamp(min=0).sqrt()


def length_all_words(weights, gram):
    return (weights.mT @ gram @ weights).clamp(min=0).sqrt()


def length_of_weights(weights, gram):
    return weights.pow(2).sum(1).sqrt()


def effective_nan(weights):
    return (-(weights * weights.log()).sum(-1)).exp()


def effective_entropy(weights):
    return torch.distributions.Categorical(probs=weights).entropy()


def effective_sign(weights):
    return torch.xlogy(weights, weights).sum(1).exp()


def effective_bits(weights):
    return torch.exp(-(weights * (weights + 1e-30).log2()).sum(1))


def effective_two(weights):
    return 2 ** torch.special.entr(weights).sum(1)


def effective_count(weights):
    return (weights > 0).to(weights.dtype).sum(1)


def effective_simpson(weights):
    return 1 / weights.square().sum(1)


def effective_columns(weights):
    return torch.special.entr(weights).sum(0).exp()


def effective_mean(weights):
    return torch.special.entr(weights).sum(1).exp().mean()


WRONG = {
    "soft-codes": [
        (soft_ignores_padding, "padding takes part in the attention"),
        (soft_times_mask, "padding became a logit of 0"),
        (soft_mask_turned, "the mask is turned round"),
        (soft_over_words, "runs over the words"),
        (soft_over_words_nan, "a padded row of -inf becomes NaN"),
        (soft_multiplied, "divided by the temperature, not multiplied"),
        (soft_without_temperature, "temperature is missing"),
        (soft_mean_of_alignments, "attended vector's length is missing"),
        (soft_nan, "you divide by zero"),
        (soft_squared, "squared length"),
        (soft_hard, "this is the maximum"),
        (soft_late_mask, "masked after the softmax"),
    ],
    "hard-codes": [
        (hard_zero_padding, "0 beats a negative one"),
        (hard_ignores_padding, "padding takes part in the maximum"),
        (hard_mask_turned, "the mask is turned round"),
        (hard_mask_on_captions, "laid along the captions"),
        (hard_viewed, "a view does not move axes"),
        (hard_mean, "mean over the regions"),
        (hard_sum, "sum over the regions"),
        (hard_over_words, "has shape (3, 3, 4), expected (3, 3, 5)"),
        (hard_pairs, "has shape (3, 5), expected (3, 3, 5)"),
        (hard_detached, "gradient by words"),
        (hard_absolute, "largest absolute value"),
    ],
    "pool-codes": [
        (pool_zero_filled, "padding became 0"),
        (pool_mean_over_padding, "mean's divisor"),
        (pool_ignores_mask, "word_mask is not used"),
        (pool_mask_turned, "the mask is turned round"),
        (pool_infinite_sum, "sum and mean take -inf"),
        (pool_lse_overflows, "lse: exp overflows"),
        (pool_lse_masked_late, "lse: exp overflows"),
        (pool_softmax_overflows, "softmax: exp overflows"),
        (pool_softmax_nan, "a weight of 0 times -inf is NaN"),
        (pool_weights_alone, "the weights alone"),
        (pool_times_beta, "divided by beta, not multiplied"),
        (pool_without_beta, "beta is missing"),
        (pool_scaled_back, "multiplied by beta again"),
        (pool_log_mean, "log of a mean"),
        (pool_over_captions, "has shape"),
        (pool_sum_for_mean, "mean: this is the sum"),
        (pool_detached, "gradient by codes"),
    ],
    "hard-backward": [
        (backward_assigns, "add them up"),
        (backward_words_first, "the other order"),
        (backward_without_grad, "grad is not used"),
        (backward_regions_only, "the words receive no gradient"),
        (backward_words_only, "the regions receive no gradient"),
        (backward_of_sum, "every region receives a gradient"),
        (backward_best_words, "best word of each region"),
        (backward_exchanged, "the factors are exchanged"),
        (backward_two_results, "returned a tuple"),
        (backward_averaged, "averaged"),
        (backward_signed, "whatever the sign"),
    ],
    "attended-length": [
        (lambda weights, gram: torch.einsum("nrw,nrs,nsw->nw", weights, gram, weights).sqrt(), "clamp(min=0) first"),
        (length_squared, "the squared length"),
        (length_diagonal, "only the diagonal"),
        (length_once, "come in once"),
        (length_one, "which is 1"),
        (length_half, "comes twice in the double sum"),
        (length_all_words, "has shape (2, 3, 3), expected (2, 3)"),
        (length_of_weights, "as if regions were at right angles"),
    ],
    "effective-regions": [
        (effective_nan, "0 times log 0 is NaN"),
        (effective_entropy, "the entropy H itself"),
        (effective_sign, "the sign is turned round"),
        (effective_bits, "has base 2 and the power base e"),
        (effective_two, "has base e and the power base 2"),
        (effective_count, "any weight at all"),
        (effective_simpson, "1 / sum w^2"),
        (effective_columns, "has shape (6,), expected (4,)"),
        (effective_mean, "has shape (), expected (4,)"),
    ],
}
