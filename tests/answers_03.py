"""Answers to the exercises of lesson 03: other ways to be right, and wrong ones with what each is told."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F

from itr_lib.similarity import alignment_scores

INF = float("inf")

# --- soft-codes ------------------------------------------------------------------------------------------------------


def _soft(weights, regions, words):
    """From attention (W, R) to codes."""
    attended = weights @ regions
    return (attended * words).sum(-1) / (attended.norm(dim=-1) + 1e-8)


def _logits(regions, words, region_mask, temperature, fill=-INF):
    return (words @ regions.T / temperature).masked_fill(~region_mask, fill)


def soft_by_cosine(regions, words, region_mask, temperature):
    attended = F.softmax(_logits(regions, words, region_mask, temperature), -1) @ regions
    return F.cosine_similarity(attended, words, dim=-1)


def soft_normalised(regions, words, region_mask, temperature):
    attended = F.softmax(_logits(regions, words, region_mask, temperature, -1e9), -1) @ regions
    return (F.normalize(attended, dim=-1) * words).sum(-1)


def soft_with_a_larger_epsilon(regions, words, region_mask, temperature):
    attended = F.softmax(_logits(regions, words, region_mask, temperature), -1) @ regions
    return (attended * words).sum(-1) / (attended.norm(dim=-1) + 1e-6)


def soft_word_by_word(regions, words, region_mask, temperature):
    kept, codes = regions[region_mask], []
    for word in words:
        attended = (kept @ word / temperature).softmax(0) @ kept
        codes.append(attended @ word / attended.norm().clamp(min=1e-8))
    return torch.stack(codes)


def soft_ignores_padding(regions, words, region_mask, temperature):
    return _soft(F.softmax(words @ regions.T / temperature, -1), regions, words)


def soft_times_mask(regions, words, region_mask, temperature):
    return _soft(F.softmax(words @ regions.T * region_mask / temperature, -1), regions, words)


def soft_mask_turned(regions, words, region_mask, temperature):
    return _soft(F.softmax(_logits(regions, words, ~region_mask, temperature), -1), regions, words)


def soft_over_words(regions, words, region_mask, temperature):
    return _soft(F.softmax(_logits(regions, words, region_mask, temperature, -1e9), 0), regions, words)


def soft_over_words_nan(regions, words, region_mask, temperature):
    dots = (regions @ words.T / temperature).masked_fill(~region_mask[:, None], -INF)
    return _soft(dots.softmax(-1).T, regions, words)


def soft_multiplied(regions, words, region_mask, temperature):
    return _soft(F.softmax(_logits(regions, words, region_mask, 1 / temperature), -1), regions, words)


def soft_without_temperature(regions, words, region_mask, temperature):
    return _soft(F.softmax(_logits(regions, words, region_mask, 1.0), -1), regions, words)


def soft_mean_of_alignments(regions, words, region_mask, temperature):
    weights = F.softmax(_logits(regions, words, region_mask, temperature), -1)
    return (weights * (words @ regions.T)).sum(-1)


def soft_nan(regions, words, region_mask, temperature):
    regions = regions[region_mask]
    attended = F.softmax(words @ regions.T / temperature, -1) @ regions
    return ((attended / attended.norm(dim=-1, keepdim=True)) * words).sum(-1)


def soft_squared(regions, words, region_mask, temperature):
    regions = regions[region_mask]
    attended = F.softmax(words @ regions.T / temperature, -1) @ regions
    return (attended * words).sum(-1) / (attended.pow(2).sum(-1) + 1e-8)


def soft_clamped(regions, words, region_mask, temperature):
    attended = F.softmax(_logits(regions, words, region_mask, temperature), -1) @ regions
    return (attended * words).sum(-1) / attended.norm(dim=-1).clamp(min=1)


def soft_hard(regions, words, region_mask, temperature):
    return (words @ regions[region_mask].T).max(-1).values


def soft_late_mask(regions, words, region_mask, temperature):
    return _soft(F.softmax(words @ regions.T / temperature, -1) * region_mask, regions, words)


def soft_exp_by_hand(regions, words, region_mask, temperature):
    grown = _logits(regions, words, region_mask, temperature).exp()
    return _soft(grown / grown.sum(-1, keepdim=True), regions, words)


def soft_filled(value, before=False):
    def codes(regions, words, region_mask, temperature):
        if before:
            logits = (words @ regions.T).masked_fill(~region_mask, value) / temperature
        else:
            logits = _logits(regions, words, region_mask, temperature, value)
        return _soft(logits.softmax(-1), regions, words)

    return codes


def soft_in_numpy(regions, words, region_mask, temperature):
    v, w = regions.detach().numpy()[region_mask.numpy()], words.detach().numpy()
    logits = w @ v.T / temperature
    weights = np.exp(logits - logits.max(1, keepdims=True))
    attended = weights / weights.sum(1, keepdims=True) @ v
    return (attended * w).sum(1) / (np.linalg.norm(attended, axis=1) + 1e-8)


def soft_as_lists(regions, words, region_mask, temperature):
    return torch.tensor(soft_word_by_word(regions, words, region_mask, temperature).tolist())


def soft_detached_weights(regions, words, region_mask, temperature):
    return _soft(F.softmax(_logits(regions, words, region_mask, temperature), -1).detach(), regions, words)


def soft_returns_early(regions, words, region_mask, temperature):
    for word in words:
        return soft_word_by_word(regions, word[None], region_mask, temperature)


def soft_without_mask_and_temperature(regions, words, region_mask, temperature):
    return _soft(F.softmax(words @ regions.T, -1), regions, words)


def soft_over_words_without_length(regions, words, region_mask, temperature):
    weights = (regions @ words.T / temperature).masked_fill(~region_mask[:, None], -INF).softmax(1)
    return ((weights.T @ regions) * words).sum(1)


# --- best-regions ----------------------------------------------------------------------------------------------------


def best_by_max(alignments, region_mask):
    return torch.where(region_mask[:, None, :, None], alignments, -INF).max(dim=2).indices


def best_by_sort(alignments, region_mask):
    filled = alignments.masked_fill(~region_mask[:, None, :, None], -INF)
    return filled.sort(dim=2, descending=True, stable=True).indices[:, :, 0]


def best_in_numpy(alignments, region_mask):
    return np.where(region_mask.numpy()[:, None, :, None], alignments.numpy(), -np.inf).argmax(2)


def best_small_integers(alignments, region_mask):
    return best_by_max(alignments, region_mask).int()


def best_filled(value):
    def places(alignments, region_mask):
        return alignments.masked_fill(~region_mask[:, None, :, None], value).argmax(2)

    return places


def best_ignores_padding(alignments, region_mask):
    return alignments.argmax(dim=2)


def best_mask_turned(alignments, region_mask):
    return alignments.masked_fill(region_mask[:, None, :, None], -INF).argmax(2)


def best_times_mask(alignments, region_mask):
    return (alignments * region_mask[:, None, :, None]).argmax(2)


def best_mask_on_captions(alignments, region_mask):
    return alignments.masked_fill(~region_mask[None, :, :, None], -INF).argmax(2)


def best_values(alignments, region_mask):
    return alignments.masked_fill(~region_mask[:, None, :, None], -INF).amax(2)


def best_pair(alignments, region_mask):
    return alignments.masked_fill(~region_mask[:, None, :, None], -INF).max(2)


def best_last(alignments, region_mask):
    filled = alignments.masked_fill(~region_mask[:, None, :, None], -INF).flip(2)
    return filled.shape[2] - 1 - filled.argmax(2)


def best_worst(alignments, region_mask):
    return alignments.masked_fill(~region_mask[:, None, :, None], INF).argmin(2)


def best_packed(alignments, region_mask):
    return torch.stack([a[:, real].argmax(1) for a, real in zip(alignments, region_mask, strict=True)])


def best_from_one(alignments, region_mask):
    return best_by_max(alignments, region_mask) + 1


def best_over_words(alignments, region_mask):
    return alignments.masked_fill(~region_mask[:, None, :, None], -INF).argmax(3)


def best_absolute(alignments, region_mask):
    return alignments.abs().masked_fill(~region_mask[:, None, :, None], -INF).argmax(2)


def best_as_floats(alignments, region_mask):
    return best_by_max(alignments, region_mask).to(alignments)


def best_loop_from_zero(alignments, region_mask):
    N, M, R, W = alignments.shape
    places = torch.zeros(N, M, W, dtype=torch.long)
    for n in range(N):
        for m in range(M):
            for t in range(W):
                best = 0.0
                for r in range(R):
                    if region_mask[n, r] and alignments[n, m, r, t] > best:
                        best, places[n, m, t] = alignments[n, m, r, t], r
    return places


def best_loop_with_equal(alignments, region_mask):
    N, M, R, W = alignments.shape
    places = torch.zeros(N, M, W, dtype=torch.long)
    for n in range(N):
        for m in range(M):
            for t in range(W):
                best = -INF
                for r in range(R):
                    if region_mask[n, r] and alignments[n, m, r, t] >= best:
                        best, places[n, m, t] = alignments[n, m, r, t], r
    return places


def best_in_place(alignments, region_mask):
    alignments[~region_mask[:, None, :, None].expand_as(alignments)] = -INF
    return alignments.argmax(2)


# --- pool-codes ------------------------------------------------------------------------------------------------------


def pool_right(codes, word_mask, how, beta):
    low, zero = codes.masked_fill(~word_mask, -INF), codes.masked_fill(~word_mask, 0)
    if how == "mean":
        return zero.sum(-1) / word_mask.sum(-1)
    if how == "lse":
        return (low / beta).logsumexp(-1)
    return ((low / beta).softmax(-1) * zero).sum(-1)


def pool_by_the_library(codes, word_mask, how, beta):
    """A code is the score of a region of one number with a word of one number."""
    rows = []
    for image in codes:
        one = torch.ones(1, 1, 1, dtype=codes.dtype, device=codes.device)
        rows.append(alignment_scores(one, image[..., None], None, word_mask, pooling=how, beta=beta)[0])
    return torch.stack(rows)


def pool_with_large_numbers(codes, word_mask, how, beta):
    if how == "mean":
        return (codes * word_mask).sum(-1) / word_mask.sum(-1)
    low = torch.where(word_mask, codes / beta, -1e30)
    return low.logsumexp(-1) if how == "lse" else (low.softmax(-1) * codes).sum(-1)


def pool_by_hand(codes, word_mask, how, beta):
    if how == "mean":
        return codes.masked_fill(~word_mask, 0).sum(-1) / word_mask.sum(-1)
    m = codes.masked_fill(~word_mask, -INF).amax(-1, keepdim=True)
    grown = ((codes - m).masked_fill(~word_mask, -INF) / beta).exp()
    if how == "lse":
        return m[..., 0] / beta + grown.sum(-1).log()
    return (grown * codes).sum(-1) / grown.sum(-1)


def _pool_but(how_wrong, wrong):
    def pooled(codes, word_mask, how, beta):
        if how != how_wrong:
            return pool_right(codes, word_mask, how, beta)
        return wrong(codes, codes.masked_fill(~word_mask, -INF), word_mask, beta)

    return pooled


def pool_zero_filled(codes, word_mask, how, beta):
    codes = codes * word_mask
    if how == "mean":
        return codes.sum(-1) / word_mask.sum(-1)
    return (codes / beta).logsumexp(-1) if how == "lse" else ((codes / beta).softmax(-1) * codes).sum(-1)


def pool_one_filled(codes, word_mask, how, beta):
    codes = torch.where(word_mask, codes, 1.0)
    if how == "mean":
        return codes.sum(-1) / word_mask.sum(-1)
    return (codes / beta).logsumexp(-1) if how == "lse" else ((codes / beta).softmax(-1) * codes).sum(-1)


def pool_filled(value, after=False):
    def pooled(codes, word_mask, how, beta):
        if how == "mean":
            return pool_right(codes, word_mask, how, beta)
        low = (codes / beta).masked_fill(~word_mask, value) if after else codes.masked_fill(~word_mask, value) / beta
        return low.logsumexp(-1) if how == "lse" else (low.softmax(-1) * (codes * word_mask)).sum(-1)

    return pooled


def _by_hand(codes, low, beta, add):
    m = low.amax(-1, keepdim=True)
    return ((low - m) / beta).exp().sum(-1).log() + add(m[..., 0])


def pool_ignores_mask(codes, word_mask, how, beta):
    return pool_right(codes, torch.ones_like(word_mask), how, beta)


def pool_mask_turned(codes, word_mask, how, beta):
    if how == "mean":
        return codes.masked_fill(word_mask, 0).sum(-1) / word_mask.sum(-1)
    low = codes.masked_fill(word_mask, -INF) / beta
    return low.logsumexp(-1) if how == "lse" else (low.softmax(-1) * codes.masked_fill(word_mask, 0)).sum(-1)


def pool_global_maximum(codes, low, word_mask, beta):
    m = low.max()
    return m / beta + ((low - m) / beta).exp().sum(-1).log()


def pool_padded_maximum(codes, low, word_mask, beta):
    m = codes.amax(-1, keepdim=True)
    return m[..., 0] / beta + (((codes - m) / beta).exp() * word_mask).sum(-1).log()


def pool_times_beta(codes, word_mask, how, beta):
    return pool_right(codes, word_mask, how, 1 / beta)


def pool_without_beta(codes, word_mask, how, beta):
    return pool_right(codes, word_mask, how, 1.0)


def pool_over_captions(codes, word_mask, how, beta):
    return codes.sum(1)


def pool_detached(codes, word_mask, how, beta):
    return pool_right(codes.detach(), word_mask, how, beta)


def pool_in_numpy(codes, word_mask, how, beta):
    return pool_right(codes.detach(), word_mask, how, beta).numpy()


def pool_always_lse(codes, word_mask, how, beta):
    return pool_right(codes, word_mask, "lse", beta)


def soft_by_length_of_weights(regions, words, region_mask, temperature):
    A = regions @ words.T
    a = (A / temperature).masked_fill(~region_mask[:, None], -torch.inf).softmax(dim=0)
    return (a * A).sum(dim=0) / (a.norm(dim=0) + 1e-8)


def pool_lse_zeros(codes, word_mask, how, beta):
    zero = codes * word_mask
    if how == "mean":
        return zero.sum(-1) / word_mask.sum(-1)
    if how == "lse":
        return torch.logsumexp(zero / beta, -1)
    return ((codes.masked_fill(~word_mask, -torch.inf) / beta).softmax(-1) * zero).sum(-1)


def pool_softmax_over_words(codes, word_mask, how, beta):
    zero = codes.masked_fill(~word_mask, 0)
    low = codes.masked_fill(~word_mask, -torch.inf)
    n = word_mask.sum(-1)
    if how == "mean":
        out = zero.sum(-1)
    elif how == "lse":
        return torch.logsumexp(low / beta, dim=-1)
    else:
        out = ((low / beta).softmax(-1) * zero).sum(-1)
    return out / n


def used_in_columns(alignments, temperature):
    a = torch.softmax(alignments / temperature, dim=0)
    return torch.exp(-torch.xlogy(a, a).sum(dim=0))


def group_without_last(scores, image_of_caption, group):
    own = scores.gather(0, image_of_caption[None])
    hit = ((scores >= own).sum(0) == 1).float()
    return torch.tensor([100 * hit[group == g].mean() for g in range(int(group.max()))])


def group_own_on_diagonal(scores, image_of_caption, group):
    own = scores.diagonal()[image_of_caption]
    hit = ((scores >= own[None]).sum(0) == 1).float()
    return torch.stack([100 * hit[group == g].mean() for g in range(int(group.max()) + 1)])


def backward_grad_of_winner_for_words(regions, words, winners, grad):
    R, W = len(regions), len(words)
    out = torch.zeros(R + W, regions.shape[1])
    for t in range(W):
        r = winners[t]
        out[r] += grad[t] * words[t]
        out[R + t] = grad[r % W] * regions[r]
    return out


def length_unit_diagonal(weights, gram):
    N, R, W = weights.shape
    sq = (weights**2).sum(1)
    for r in range(R):
        for s in range(r + 1, R):
            sq = sq + 2 * weights[:, r] * weights[:, s] * gram[:, r, s, None]
    return sq.clamp(min=0).sqrt()


POOL_WRONG = [
    (pool_zero_filled, "padding became 0"),
    (pool_one_filled, "padding became 1"),
    (pool_filled(-100.0), "padding became -100 in lse"),
    (pool_filled(-100.0, after=True), "padding became -100 after the division"),
    (pool_filled(-1.0), "padding became -1 in lse"),
    (pool_filled(-10.0), "padding became -10"),
    (pool_ignores_mask, "word_mask is not used"),
    (pool_mask_turned, "the mask is turned round"),
    (_pool_but("mean", lambda codes, low, mask, beta: (codes * mask).mean(-1)), "padding counts in the divisor"),
    (_pool_but("mean", lambda codes, low, mask, beta: (codes * mask).sum(-1)), "this is the sum"),
    (_pool_but("mean", lambda codes, low, mask, beta: low.sum(-1) / mask.sum(-1)), "-inf in the sum"),
    (_pool_but("mean", lambda codes, low, mask, beta: codes.sum(-1) / mask.sum(-1)), "padding takes part in the sum"),
    (_pool_but("lse", lambda codes, low, mask, beta: (low / beta).exp().sum(-1).log()), "lse: exp overflows"),
    (_pool_but("lse", lambda codes, low, mask, beta: ((codes / beta).exp() * mask).sum(-1).log()), "exp overflows"),
    (_pool_but("lse", lambda codes, low, mask, beta: _by_hand(codes, low, beta, lambda m: 0)), "never added back"),
    (_pool_but("lse", lambda codes, low, mask, beta: _by_hand(codes, low, beta, lambda m: m)), "add m / beta"),
    (_pool_but("lse", lambda codes, low, mask, beta: _by_hand(codes, low, beta, lambda m: -m / beta)), "second time"),
    (_pool_but("lse", pool_global_maximum), "one m for the whole batch"),
    (_pool_but("lse", pool_padded_maximum), "taken over padding"),
    (_pool_but("lse", lambda codes, low, mask, beta: beta * (low / beta).logsumexp(-1)), "multiplied by beta again"),
    (_pool_but("lse", lambda codes, low, mask, beta: (low / beta).logsumexp(-1) - mask.sum(-1).log()), "log of a mean"),
    (_pool_but("softmax", lambda codes, low, mask, beta: ((low / beta).softmax(-1) * low).sum(-1)), "-inf is NaN"),
    (_pool_but("softmax", lambda codes, low, mask, beta: (low / beta).softmax(-1).sum(-1)), "the weights alone"),
    (
        _pool_but(
            "softmax",
            lambda codes, low, mask, beta: (
                ((low / beta).exp() * codes).sum(-1) / (low / beta).exp().sum(-1)
            ),
        ),
        "softmax: exp overflows",
    ),
    (_pool_but("softmax", lambda codes, low, mask, beta: ((low / beta).exp() * codes).sum(-1)), "bare exponentials"),
    (_pool_but("softmax", lambda codes, low, mask, beta: low.amax(-1)), "this is the largest code"),
    (pool_times_beta, "divided by beta, not multiplied"),
    (pool_without_beta, "beta is missing"),
    (pool_always_lse, "how is not looked at"),
    (pool_over_captions, "has shape"),
    (pool_detached, "no gradient by codes"),
    (pool_in_numpy, "no gradient by codes"),
        (pool_lse_zeros, 'lse: padding became 0'),
        (pool_softmax_over_words, 'softmax: this is divided by the number of words on top'),
]  # fmt: skip

# --- regions-used ----------------------------------------------------------------------------------------------------


def used_by_categorical(alignments, temperature):
    return torch.distributions.Categorical(logits=alignments.nan_to_num(neginf=-1e9) / temperature).entropy().exp()


def used_by_logsumexp(alignments, temperature):
    """H = log Z - mean logit, without a log of weights."""
    logits = alignments / temperature
    weights = logits.softmax(1)
    return (logits.logsumexp(1) - (weights * logits.masked_fill(weights == 0, 0)).sum(1)).exp()


def used_with_epsilon(alignments, temperature):
    weights = (alignments / temperature).softmax(1)
    return torch.exp(-(weights * torch.log(weights + 1e-12)).sum(1))


def used_in_bits(alignments, temperature):
    weights = (alignments / temperature).softmax(1)
    return 2 ** -torch.xlogy(weights, weights).div(math.log(2)).sum(1)


def _used(change):
    def numbers(alignments, temperature):
        return change((alignments / temperature).softmax(1))

    return numbers


def used_exp_by_hand(alignments, temperature):
    grown = (alignments / temperature).exp()
    weights = grown / grown.sum(1, keepdim=True)
    return torch.special.entr(weights).sum(1).exp()


def used_without_temperature(alignments, temperature):
    return torch.special.entr(alignments.softmax(1)).sum(1).exp()


def used_multiplied(alignments, temperature):
    return torch.special.entr((alignments * temperature).softmax(1)).sum(1).exp()


def used_over_questions(alignments, temperature):
    return torch.special.entr((alignments / temperature).softmax(0)).sum(1).exp()


def used_zero_for_infinity(alignments, temperature):
    filled = alignments.masked_fill(alignments == -INF, 0)
    return torch.special.entr((filled / temperature).softmax(1)).sum(1).exp()


def used_log_softmax(alignments, temperature):
    logs = (alignments / temperature).log_softmax(1)
    return (-(logs.exp() * logs).sum(1)).exp()


def used_sign_of_alignments(alignments, temperature):
    return torch.special.entr((-alignments / temperature).softmax(1)).sum(1).exp()


# --- recall-by-group -------------------------------------------------------------------------------------------------


def _hits(scores, owner, level=False):
    true = scores[owner, torch.arange(len(owner))]
    rivals = scores.clone()
    rivals[owner, torch.arange(len(owner))] = -INF
    return true >= rivals.amax(0) if level else true > rivals.amax(0)


def _averaged(hit, group):
    return torch.stack([100 * hit[group == g].double().mean() for g in range(int(group.max()) + 1)])


def group_by_rank(scores, image_of_caption, group):
    true = scores[image_of_caption, torch.arange(len(group))]
    hit = (scores >= true).sum(0) == 1
    return _averaged(hit, group)


def group_as_a_list(scores, image_of_caption, group):
    hit = _hits(scores, image_of_caption).tolist()
    found = []
    for g in sorted(set(group.tolist())):
        mine = [h for h, other in zip(hit, group.tolist(), strict=True) if other == g]
        found.append(100 * sum(mine) / len(mine))
    return found


def group_in_numpy(scores, image_of_caption, group):
    hit, of = _hits(scores, image_of_caption).numpy(), group.numpy()
    return np.bincount(of, weights=hit) / np.bincount(of) * 100


def group_argmax(scores, image_of_caption, group):
    return _averaged(scores.argmax(0) == image_of_caption, group)


def group_level(scores, image_of_caption, group):
    return _averaged(_hits(scores, image_of_caption, level=True), group)


def group_fraction(scores, image_of_caption, group):
    return _averaged(_hits(scores, image_of_caption), group) / 100


def group_counts(scores, image_of_caption, group):
    return torch.bincount(group, weights=_hits(scores, image_of_caption).double())


def group_over_all(scores, image_of_caption, group):
    return 100 * torch.bincount(group, weights=_hits(scores, image_of_caption).double()) / len(group)


def group_misses(scores, image_of_caption, group):
    return 100 - _averaged(_hits(scores, image_of_caption), group)


def group_own_among_rivals(scores, image_of_caption, group):
    true = scores[image_of_caption, torch.arange(len(group))]
    return _averaged(true > scores.amax(0), group)


def group_zero_filled(scores, image_of_caption, group):
    own = F.one_hot(image_of_caption, len(scores)).T.bool()
    true = scores[image_of_caption, torch.arange(len(group))]
    return _averaged(true > scores.masked_fill(own, 0).amax(0), group)


def group_from_images(scores, image_of_caption, group):
    best = scores.argmax(1)
    hit = image_of_caption[best] == torch.arange(len(scores))
    counts = torch.bincount(group[best], minlength=int(group.max()) + 1)
    return 100 * torch.bincount(group[best], weights=hit.double(), minlength=len(counts)) / counts


def group_in_fives(scores, image_of_caption, group):
    owner = (torch.arange(len(group)) // 5) % len(scores)
    return _averaged(_hits(scores, owner), group)


def group_all_alike(scores, image_of_caption, group):
    hit = _hits(scores, image_of_caption).double()
    return torch.full((int(group.max()) + 1,), 100 * float(hit.mean()))


def group_one_number(scores, image_of_caption, group):
    return 100 * _hits(scores, image_of_caption).double().mean()


def group_two_only(scores, image_of_caption, group):
    hit = _hits(scores, image_of_caption).double()
    return 100 * torch.stack([hit[group == 0].mean(), hit[group == 1].mean()])


def group_reversed(scores, image_of_caption, group):
    return _averaged(_hits(scores, image_of_caption), group).flip(0)


def group_bool_mean(scores, image_of_caption, group):
    return torch.stack([100 * _hits(scores, image_of_caption)[group == g].mean() for g in range(2)])


def group_returns_early(scores, image_of_caption, group):
    hit = _hits(scores, image_of_caption).double()
    for g in range(int(group.max()) + 1):
        return 100 * hit[group == g].mean()


def group_at_two(scores, image_of_caption, group):
    true = scores[image_of_caption, torch.arange(len(group))]
    return _averaged((scores >= true).sum(0) <= 2, group)


# --- hard-backward ---------------------------------------------------------------------------------------------------


def _chosen(regions, winners):
    return F.one_hot(winners, len(regions)).to(regions)


def backward_by_matrix(regions, words, winners, grad):
    chosen = _chosen(regions, winners) * grad[:, None]
    return torch.cat([chosen.T @ words, chosen @ regions])


def backward_by_autograd(regions, words, winners, grad):
    v, w = regions.clone().requires_grad_(True), words.clone().requires_grad_(True)
    codes = (v @ w.T).gather(0, winners[None])[0]
    return torch.cat(torch.autograd.grad(codes @ grad, (v, w)))


def backward_in_loops(regions, words, winners, grad):
    result = torch.zeros(len(regions) + len(words), regions.shape[1])
    for t in range(len(words)):
        result[winners[t]] += grad[t] * words[t]
        result[len(regions) + t] = grad[t] * regions[winners[t]]
    return result


def backward_in_numpy(regions, words, winners, grad):
    by_regions = np.zeros(regions.shape)
    np.add.at(by_regions, winners.numpy(), (grad[:, None] * words).numpy())
    return np.concatenate([by_regions, (grad[:, None] * regions[winners]).numpy()])


def backward_assigns(regions, words, winners, grad):
    by_region = torch.zeros_like(regions)
    for t, r in enumerate(winners):
        by_region[r] = grad[t] * words[t]
    return torch.cat([by_region, grad[:, None] * regions[winners]])


def backward_plus_equals(regions, words, winners, grad):
    by_region = torch.zeros_like(regions)
    by_region[winners] += grad[:, None] * words
    return torch.cat([by_region, grad[:, None] * regions[winners]])


def backward_words_first(regions, words, winners, grad):
    chosen = _chosen(regions, winners) * grad[:, None]
    return torch.cat([chosen @ regions, chosen.T @ words])


def backward_without_grad(regions, words, winners, grad):
    return backward_by_matrix(regions, words, winners, torch.ones_like(grad))


def backward_grad_on_words_only(regions, words, winners, grad):
    return torch.cat([_chosen(regions, winners).T @ words, grad[:, None] * regions[winners]])


def backward_grad_on_regions_only(regions, words, winners, grad):
    chosen = _chosen(regions, winners)
    return torch.cat([(chosen * grad[:, None]).T @ words, regions[winners]])


def backward_regions_only(regions, words, winners, grad):
    full = backward_by_matrix(regions, words, winners, grad)
    full[len(regions) :] = 0
    return full


def backward_words_only(regions, words, winners, grad):
    full = backward_by_matrix(regions, words, winners, grad)
    full[: len(regions)] = 0
    return full


def backward_of_sum(regions, words, winners, grad):
    ones = grad[:, None] * torch.ones(len(words), len(regions)).to(words)
    return torch.cat([ones.T @ words, ones @ regions])


def backward_exchanged(regions, words, winners, grad):
    chosen = _chosen(regions, winners) * grad[:, None]
    return torch.cat([chosen.T @ regions[winners], grad[:, None] * words])


def backward_two_results(regions, words, winners, grad):
    full = backward_by_matrix(regions, words, winners, grad)
    return full[: len(regions)], full[len(regions) :]


def backward_averaged(regions, words, winners, grad):
    chosen = _chosen(regions, winners)
    by_regions = (chosen * grad[:, None]).T @ words / chosen.sum(0).clamp(min=1)[:, None]
    return torch.cat([by_regions, grad[:, None] * (chosen @ regions)])


def backward_own_winners(regions, words, winners, grad):
    return backward_by_matrix(regions, words, (regions @ words.T).argmax(0), grad)


def backward_side_by_side(regions, words, winners, grad):
    full = backward_by_matrix(regions, words, winners, grad)
    return torch.cat([full[: len(regions)], full[len(regions) :]], dim=1)


def backward_only_regions_part(regions, words, winners, grad):
    return backward_by_matrix(regions, words, winners, grad)[: len(regions)]


# --- attended-length -------------------------------------------------------------------------------------------------


def length_by_einsum(weights, gram):
    return torch.einsum("nrw,nrs,nsw->nw", weights, gram, weights).clamp(min=0).sqrt()


def length_with_epsilon(weights, gram):
    return (weights * (gram @ weights)).sum(1).relu().add(1e-12).sqrt()


def length_by_diagonal(weights, gram):
    return (weights.mT @ gram @ weights).diagonal(dim1=1, dim2=2).clamp(min=1e-12).sqrt()


def length_nan(weights, gram):
    return torch.einsum("nrw,nrs,nsw->nw", weights, gram, weights).sqrt()


def length_squared(weights, gram):
    return torch.einsum("nrw,nrs,nsw->nw", weights, gram, weights)


def length_diagonal(weights, gram):
    return torch.einsum("nrw,nrr->nw", weights**2, gram).sqrt()


def length_once(weights, gram):
    return torch.einsum("nrs,nsw->nw", gram, weights).clamp(min=0).sqrt()


def length_one(weights, gram):
    return torch.ones_like(weights[:, 0])


def length_sum(weights, gram):
    return weights.sum(1)


def length_half(weights, gram):
    total = torch.zeros_like(weights[:, 0])
    for r in range(gram.shape[1]):
        for s in range(r, gram.shape[1]):
            total = total + weights[:, r] * weights[:, s] * gram[:, r, s, None]
    return total.clamp(min=0).sqrt()


def length_above(weights, gram):
    total = torch.zeros_like(weights[:, 0])
    for r in range(gram.shape[1]):
        for s in range(r + 1, gram.shape[1]):
            total = total + weights[:, r] * weights[:, s] * gram[:, r, s, None]
    return total.clamp(min=0).sqrt()


def length_without_diagonal(weights, gram):
    total = torch.zeros_like(weights[:, 0])
    for r in range(gram.shape[1]):
        for s in range(gram.shape[1]):
            if r != s:
                total = total + weights[:, r] * weights[:, s] * gram[:, r, s, None]
    return total.clamp(min=0).sqrt()


def length_all_words(weights, gram):
    return (weights.mT @ gram @ weights).clamp(min=0).sqrt()


def length_of_weights(weights, gram):
    return weights.pow(2).sum(1).sqrt()


def length_renormalised(weights, gram):
    return length_by_einsum(weights / weights.sum(1, keepdim=True), gram)


def length_softmaxed(weights, gram):
    return length_by_einsum(weights.softmax(1), gram)


def length_root_first(weights, gram):
    return (weights * (gram @ weights)).clamp(min=0).sqrt().sum(1)


def length_of_product(weights, gram):
    return (gram @ weights).norm(dim=1)


def length_without_gradient(weights, gram):
    with torch.no_grad():
        return length_by_einsum(weights, gram)


def length_in_numpy(weights, gram):
    a, G = weights.detach().numpy(), gram.detach().numpy()
    return np.sqrt(np.maximum(np.einsum("nrw,nrs,nsw->nw", a, G, a), 0))


ALSO_RIGHT = [
    ("soft-codes", soft_by_cosine),
    ("soft-codes", soft_normalised),
    ("soft-codes", soft_with_a_larger_epsilon),
    ("soft-codes", soft_word_by_word),
    ("best-regions", best_by_max),
    ("best-regions", best_by_sort),
    ("best-regions", best_in_numpy),
    ("best-regions", best_small_integers),
    ("pool-codes", pool_by_the_library),
    ("pool-codes", pool_with_large_numbers),
    ("pool-codes", pool_by_hand),
    ("regions-used", used_by_categorical),
    ("regions-used", used_by_logsumexp),
    ("regions-used", used_with_epsilon),
    ("regions-used", used_in_bits),
    ("recall-by-group", group_by_rank),
    ("recall-by-group", group_as_a_list),
    ("recall-by-group", group_in_numpy),
    ("hard-backward", backward_by_matrix),
    ("hard-backward", backward_by_autograd),
    ("hard-backward", backward_in_loops),
    ("hard-backward", backward_in_numpy),
    ("attended-length", length_by_einsum),
    ("attended-length", length_with_epsilon),
    ("attended-length", length_by_diagonal),
]


def soft_length_down_the_words(regions, words, region_mask, temperature):
    A = (regions @ words.T / temperature).masked_fill(~region_mask.view(-1, 1), -torch.inf)
    mix = A.softmax(0).T @ regions
    mix = mix / (mix.norm(dim=0) + 1e-8)
    return (mix * words).sum(1)


def soft_turned_and_no_length(regions, words, region_mask, temperature):
    A = (regions @ words.T / temperature).masked_fill(region_mask.view(-1, 1), -1e9)
    mix = A.softmax(0).T @ regions
    return (mix * words).sum(1)


def soft_mean_over_words(regions, words, region_mask, temperature):
    A = (regions @ words.T / temperature).masked_fill(~region_mask.view(-1, 1), -torch.inf)
    mix = F.normalize(A.softmax(0).T @ regions, dim=1)
    return (mix @ words.T).mean(dim=1)


def soft_over_words_zeroed(regions, words, region_mask, temperature):
    A = regions @ words.T
    A = A.masked_fill(~region_mask[:, None], float("-inf"))
    a = torch.nan_to_num(torch.softmax(A / temperature, dim=1))
    v = a.T @ regions
    return (words * v).sum(-1) / (v.norm(dim=-1) + 1e-8)


def soft_turned_filled(regions, words, region_mask, temperature):
    A = (regions @ words.T / temperature).masked_fill(region_mask[:, None], -1e9)
    v = A.softmax(dim=0).T @ regions
    return (v * words).sum(1) / (v.norm(dim=1) + 1e-8)


def best_of_summed_words(alignments, region_mask):
    N, M, R, W = alignments.shape
    a = alignments.masked_fill(~region_mask[:, None, :, None], -1e6)
    return a.sum(-1).argmax(-1)[..., None].expand(N, M, W)


def best_turned_and_worst(alignments, region_mask):
    a = alignments.masked_fill(region_mask[:, None, :, None], torch.inf)
    return a.argmin(dim=2)


def best_of_caption_0(alignments, region_mask):
    a = alignments.masked_fill(~region_mask[:, None, :, None], -torch.inf)
    return a[:, :1].argmax(2).expand(-1, alignments.shape[1], -1)


def best_with_any_mask(alignments, region_mask):
    a = alignments.masked_fill(~region_mask.any(0)[None, None, :, None], -torch.inf)
    return a.argmax(2)


def used_columns_zeroed(alignments, temperature):
    p = torch.softmax(alignments / temperature, 0)
    return torch.exp(-torch.xlogy(p, p).nan_to_num().sum(1))


def used_log_clamped(alignments, temperature):
    p = (alignments / temperature).softmax(1)
    return (-(p * p.clamp(min=1e-3).log()).sum(1)).exp()


def groups_found_from_images(scores, image_of_caption, group):
    best = scores.argmax(dim=1)
    hit = torch.zeros(scores.shape[1])
    for i, c in enumerate(best):
        if image_of_caption[c] == i:
            hit[c] = 1
    return torch.stack([100 * hit[group == g].mean() for g in range(int(group.max()) + 1)])


def groups_along_the_row(scores, image_of_caption, group):
    own = scores[image_of_caption, torch.arange(scores.shape[1])]
    hit = (own >= scores[image_of_caption].amax(1)).float()
    return torch.stack([100 * hit[group == g].mean() for g in range(int(group.max()) + 1)])


def backward_grad_of_winner(regions, words, winners, grad):
    dr = torch.zeros_like(regions)
    for t in range(len(words)):
        dr[winners[t]] += grad[winners[t] % len(grad)] * words[t]
    dw = torch.stack([grad[winners[t] % len(grad)] * regions[winners[t]] for t in range(len(words))])
    return torch.cat([dr, dw])


def backward_from_regions(regions, words, winners, grad):
    dr = regions.clone().index_add(0, winners, grad[:, None] * words)
    return torch.cat([dr, grad[:, None] * regions[winners]])


def backward_words_by_place(regions, words, winners, grad):
    dr = torch.zeros_like(regions).index_add(0, winners, grad[:, None] * words)
    dw = torch.stack([grad[t] * regions[t % len(regions)] for t in range(len(words))])
    return torch.cat([dr, dw])


def backward_last_and_down(regions, words, winners, grad):
    dr = torch.zeros_like(regions)
    dr[winners] = -grad[:, None] * words
    return torch.cat([dr, -grad[:, None] * regions[winners]])


def backward_mean_grad(regions, words, winners, grad):
    P = F.one_hot(winners, len(regions)).to(words)
    g = grad.mean()
    return torch.cat([P.T @ (words * g), P @ regions * g])


def backward_regions_by_place(regions, words, winners, grad):
    dr = torch.zeros_like(regions)
    for t in range(len(words)):
        dr[t % len(regions)] += grad[t] * words[t]
    return torch.cat([dr, grad[:, None] * regions[winners]])


def backward_last_word_missing(regions, words, winners, grad):
    dr, dw = torch.zeros_like(regions), torch.zeros_like(words)
    for t in range(len(words) - 1):
        dr[winners[t]] += grad[t] * words[t]
        dw[t] = grad[t] * regions[winners[t]]
    return torch.cat([dr, dw])


WRONG = {
    "soft-codes": [
        (soft_ignores_padding, "padding takes part in the attention"),
        (soft_times_mask, "padding became a logit of 0"),
        (soft_filled(1.0), "padding became a logit of 1"),
        (soft_filled(-1.0), "padding became a logit of -1,"),
        (soft_filled(-100.0), "padding became a logit of -100"),
        (soft_filled(-1.0, before=True), "set to -1 before the division"),
        (soft_mask_turned, "the mask is turned round"),
        (soft_over_words, "runs over the words"),
        (soft_over_words_nan, "runs over the words"),
        (soft_multiplied, "divided by the temperature, not multiplied"),
        (soft_without_temperature, "temperature is missing"),
        (soft_mean_of_alignments, "attended vector's length is missing"),
        (soft_nan, "you divide by zero"),
        (soft_squared, "squared length"),
        (soft_clamped, "a length below 1 is taken for 1"),
        (soft_hard, "this is the maximum"),
        (soft_late_mask, "masked after the softmax"),
        (soft_exp_by_hand, "overflows when the temperature is low"),
        (soft_in_numpy, "no gradient by regions"),
        (soft_as_lists, "no gradient by regions"),
        (soft_detached_weights, "gradient by regions is not"),
        (soft_returns_early, "has shape (1,), expected (4,)"),
        (soft_without_mask_and_temperature, "two things: padding takes part in the attention"),
        (soft_over_words_without_length, "two things"),
        (soft_length_down_the_words, "the length is taken down the words"),
        (soft_turned_and_no_length, "the attended vector's length is missing"),
        (soft_mean_over_words, "this is the mean: it belongs to its own word"),
        (soft_over_words_zeroed, "the softmax runs over the words"),
        (soft_turned_filled, "the mask is turned round"),
        (soft_by_length_of_weights, "by the length of the weights"),
    ],
    "best-regions": [
        (best_filled(0.0), "padding became 0"),
        (best_filled(1.0), "padding became 1"),
        (best_filled(-1.0), "padding became -1:"),
        (best_filled(-100.0), "padding became -100:"),
        (best_times_mask, "padding became 0"),
        (best_ignores_padding, "padding takes part"),
        (best_mask_turned, "the mask is turned round"),
        (best_mask_on_captions, "laid along the captions"),
        (best_values, "their places are asked for"),
        (best_pair, "or .indices"),
        (best_last, "you take the last"),
        (best_loop_with_equal, "you take the last"),
        (best_loop_from_zero, "the search starts at 0"),
        (best_worst, "worst real region"),
        (best_packed, "places among the real regions only"),
        (best_from_one, "counted from 1"),
        (best_over_words, "runs over the words"),
        (best_absolute, "largest absolute value"),
        (best_as_floats, "cannot serve as an index"),
        (best_in_place, "changes its input alignments"),
        (best_of_summed_words, "one region wins for the whole caption"),
        (best_turned_and_worst, "the worst region is taken"),
        (best_of_caption_0, "the winners of caption 0 stand for all"),
        (best_with_any_mask, "each picture has a mask of its own"),
    ],
    "pool-codes": POOL_WRONG,
    "regions-used": [
        (_used(lambda w: (-(w * w.log()).sum(1)).exp()), "0 times log 0 is NaN"),
        (used_log_softmax, "0 times minus infinity is NaN"),
        (used_exp_by_hand, "overflows when the temperature is low"),
        (_used(lambda w: torch.special.entr(w).sum(1)), "the entropy H itself"),
        (_used(lambda w: torch.xlogy(w, w).sum(1).exp()), "the sign is turned round"),
        (_used(lambda w: torch.exp(-(w * (w + 1e-30).log2()).sum(1))), "has base 2 and the power base e"),
        (_used(lambda w: 2 ** torch.special.entr(w).sum(1)), "has base e and the power base 2"),
        (_used(lambda w: (w > 0).to(w.dtype).sum(1)), "any weight at all"),
        (_used(lambda w: 1 / w.square().sum(1)), "1 / sum w^2"),
        (_used(lambda w: 1 / w.amax(1)), "1 / max w"),
        (_used(lambda w: torch.special.entr(w).mean(1).exp()), "a mean instead of the sum"),
        (_used(lambda w: torch.special.entr(w).sum(0).exp()), "sums over the questions"),
        (_used(lambda w: torch.special.entr(w).sum(1).exp().mean()), "the mean over all questions"),
        (used_without_temperature, "the temperature is missing"),
        (used_multiplied, "divided by the temperature, not multiplied"),
        (used_over_questions, "the softmax runs over the questions"),
        (used_zero_for_infinity, "became 0, and e^0 counts"),
        (used_sign_of_alignments, "the sign of the alignments"),
        (used_columns_zeroed, "the softmax runs over the questions"),
        (used_log_clamped, "the logarithm is taken of weights that are raised to 0.001"),
        (used_in_columns, "one number for each region"),
    ],
    "recall-by-group": [
        (group_argmax, "argmax takes the first"),
        (group_level, "use >, not >="),
        (group_fraction, "give percent"),
        (group_counts, "these are counts"),
        (group_over_all, "by the number of all captions"),
        (group_misses, "these are the misses"),
        (group_own_among_rivals, "never above itself"),
        (group_zero_filled, "beats scores below 0"),
        (group_from_images, "this is image to text"),
        (group_in_fives, "come in fives"),
        (group_all_alike, "for every group"),
        (group_one_number, "one number"),
        (group_two_only, "has shape (2,), expected (3,)"),
        (group_reversed, "stand in reverse"),
        (group_bool_mean, "RuntimeError: mean()"),
        (group_returns_early, "expected (2,)"),
        (group_at_two, "this is R@2"),
        (groups_found_from_images, "pictures look for captions here"),
        (groups_along_the_row, "the rivals are the captions of its picture's row"),
        (group_without_last, "the last group is missing"),
        (group_own_on_diagonal, "read at [i, i]"),
    ],
    "hard-backward": [
        (backward_assigns, "add them up"),
        (backward_plus_equals, "add them up"),
        (backward_words_first, "the other order"),
        (backward_without_grad, "grad is not used"),
        (backward_grad_on_words_only, "the regions' part lacks grad"),
        (backward_grad_on_regions_only, "the words' part lacks grad"),
        (backward_regions_only, "the words receive no gradient"),
        (backward_words_only, "the regions receive no gradient"),
        (backward_of_sum, "every region receives a gradient"),
        (backward_exchanged, "the factors are exchanged"),
        (backward_two_results, "these are two tensors"),
        (backward_averaged, "averaged"),
        (backward_own_winners, "take those that are given"),
        (backward_side_by_side, "Sizes of tensors must match"),
        (backward_only_regions_part, "has shape (3, 2), expected (5, 2)"),
        (backward_grad_of_winner, "grad is read at the winner's place"),
        (backward_from_regions, "starts from the regions"),
        (backward_words_by_place, "the words' part takes region t"),
        (backward_last_and_down, "both parts have their sign turned round"),
        (backward_mean_grad, "the mean of grad"),
        (backward_regions_by_place, "gives word t to region t"),
        (backward_last_word_missing, "the loop ends one too early"),
        (backward_grad_of_winner_for_words, "the words' part reads grad at the winner's place"),
    ],
    "attended-length": [
        (length_nan, "its root is NaN"),
        (length_squared, "the squared length"),
        (length_diagonal, "only the diagonal"),
        (length_once, "come in once"),
        (length_one, "this is 1 everywhere"),
        (length_sum, "the sum of the weights"),
        (length_half, "you count it once"),
        (length_above, "above the diagonal alone"),
        (length_without_diagonal, "the diagonal is left out"),
        (length_all_words, "each word meets every word"),
        (length_of_weights, "G is not used"),
        (length_renormalised, "a sum of 1 first"),
        (length_softmaxed, "attention already"),
        (length_root_first, "it comes last"),
        (length_of_product, "the length of G a"),
        (length_without_gradient, "no gradient by weights"),
        (length_in_numpy, "no gradient by weights"),
        (length_unit_diagonal, "taken to be 1"),
    ],
}
