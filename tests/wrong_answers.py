"""Plausible wrong answers to every exercise, as a learner would write them, and what each must be told."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

# --- lesson 00 -------------------------------------------------------------------------------------------------------


def cosine_without_lengths(images, captions):
    return images @ captions.T


def cosine_over_batch(images, captions):
    return F.normalize(images, dim=0) @ F.normalize(captions, dim=0).T


def cosine_nan(images, captions):
    lengths = images.norm(dim=1)[:, None] * captions.norm(dim=1)[None, :]
    return (images @ captions.T) / lengths


def cosine_images_only(images, captions):
    return F.normalize(images, dim=1) @ captions.T


def cosine_captions_only(images, captions):
    return images @ F.normalize(captions, dim=1).T


def cosine_transposed(images, captions):
    return F.normalize(captions, dim=1) @ F.normalize(images, dim=1).T


def cosine_squared(images, captions):
    lengths = (images**2).sum(1)[:, None] * (captions**2).sum(1)[None, :]
    return torch.where(lengths > 0, (images @ captions.T) / lengths, 0)


def cosine_in_place(images, captions):
    images /= images.norm(dim=1, keepdim=True).clamp(min=1e-12)
    return images @ F.normalize(captions, dim=1).T


def cosine_pairs_only(images, captions):
    size = min(len(images), len(captions))
    return F.cosine_similarity(images[:size], captions[:size])


def ranks_by_sorting(scores, image_of_caption):
    ranks = []
    for i, row in enumerate(scores):
        order = row.argsort(descending=True, stable=True)
        hits = (image_of_caption[order] == i).nonzero()[:, 0]
        ranks.append(int(hits[0]) + 1)
    return torch.tensor(ranks)


def ranks_for_the_model(scores, image_of_caption):
    best = torch.stack([row[image_of_caption == i].max() for i, row in enumerate(scores)])
    return 1 + (scores > best[:, None]).sum(1)


def ranks_from_zero(scores, image_of_caption):
    own = image_of_caption[None] == torch.arange(len(scores))[:, None]
    best = scores.masked_fill(~own, -math.inf).amax(1, keepdim=True)
    return ((scores >= best) & ~own).sum(1)


def ranks_of_the_worst(scores, image_of_caption):
    own = image_of_caption[None] == torch.arange(len(scores))[:, None]
    worst = scores.masked_fill(~own, math.inf).amin(1, keepdim=True)
    return 1 + ((scores >= worst) & ~own).sum(1)


def ranks_one_to_one(scores, image_of_caption):
    return torch.stack([(scores[i] >= scores[i, i]).sum() for i in range(len(scores))])


def ranks_in_blocks(scores, image_of_caption):
    own = torch.arange(scores.shape[1])[None] // 5 == torch.arange(len(scores))[:, None]
    best = torch.stack([row[mine].max() for row, mine in zip(scores, own, strict=True)])
    return 1 + ((scores >= best[:, None]) & ~own).sum(1)


def ranks_own_as_rivals(scores, image_of_caption):
    own = image_of_caption[None] == torch.arange(len(scores))[:, None]
    best = scores.masked_fill(~own, -math.inf).amax(1, keepdim=True)
    return 1 + (scores >= best).sum(1)


def ranks_upwards(scores, image_of_caption):
    own = image_of_caption[None] == torch.arange(len(scores))[:, None]
    best = scores.masked_fill(~own, math.inf).amin(1, keepdim=True)
    return 1 + ((scores <= best) & ~own).sum(1)


def ranks_zero_filled(scores, image_of_caption):
    own = image_of_caption[None] == torch.arange(len(scores))[:, None]
    best = (scores * own).max(1).values
    return 1 + ((scores >= best[:, None]) & ~own).sum(1)


def ranks_without_tilde(scores, image_of_caption):
    own = image_of_caption[None] == torch.arange(len(scores))[:, None]
    best = scores.masked_fill(own, -math.inf).max(1).values
    return 1 + ((scores >= best[:, None]) & ~own).sum(1)


def ranks_counting_all(scores, image_of_caption):
    own = image_of_caption[None] == torch.arange(len(scores))[:, None]
    best = scores.masked_fill(~own, -math.inf).max(1).values
    return (scores >= best[:, None]).sum(1)


def cosine_global_norm(images, captions):
    return (images / images.norm()) @ (captions / captions.norm()).T


def cosine_nan_in_float32(images, captions):
    images, captions = (x / x.norm(dim=1, keepdim=True).clamp(min=1e-300) for x in (images, captions))
    return images @ captions.T


def cosine_nan_in_captions(images, captions):
    return F.normalize(images, dim=1) @ (captions / captions.norm(dim=1, keepdim=True)).T


def chance_with_replacement(images, captions_per_image, k):
    return 100 * (1 - (1 - captions_per_image / (images * captions_per_image)) ** k)


def chance_one_caption(images, captions_per_image, k):
    return 100 * min(1, k / (images * captions_per_image))


def chance_of_captions(images, captions_per_image, k):
    return 100 * k / images


def chance_fraction(images, captions_per_image, k):
    total = images * captions_per_image
    return 1 - math.comb(total - captions_per_image, min(k, total)) / math.comb(total, min(k, total))


def chance_missed(images, captions_per_image, k):
    total = images * captions_per_image
    return 100 * math.comb(total - captions_per_image, min(k, total)) / math.comb(total, min(k, total))


def chance_five(images, captions_per_image, k):
    total = images * 5
    return 100 * (1 - math.comb(total - 5, min(k, total)) / math.comb(total, min(k, total)))


def _ordered(scores, relevance, k, descending=True):
    return relevance.gather(1, scores.argsort(1, descending=descending))[:, :k]


def _dcg(gains, shift=1.0):
    return (gains / torch.log2(torch.arange(1, gains.shape[1] + 1) + shift)).sum(1)


def ndcg_plain_dcg(scores, relevance, k):
    return float(_dcg(_ordered(scores, relevance, k)).mean())


def ndcg_no_discount(scores, relevance, k):
    best = relevance.sort(1, descending=True).values[:, :k]
    return float((_ordered(scores, relevance, k).sum(1) / best.sum(1)).mean())


def ndcg_shifted(scores, relevance, k):
    best = relevance.sort(1, descending=True).values[:, :k]
    return float((_dcg(_ordered(scores, relevance, k), 2.0) / _dcg(best, 2.0)).mean())


def ndcg_whole_ideal(scores, relevance, k):
    best = relevance.sort(1, descending=True).values
    return float((_dcg(_ordered(scores, relevance, k)) / _dcg(best)).mean())


def ndcg_upwards(scores, relevance, k):
    best = relevance.sort(1, descending=True).values[:, :k]
    return float((_dcg(_ordered(scores, relevance, k, descending=False)) / _dcg(best)).mean())


def ndcg_exponential(scores, relevance, k):
    return _right_ndcg(scores, 2**relevance - 1, k)


def ndcg_uncut(scores, relevance, k):
    return _right_ndcg(scores, relevance, scores.shape[1])


def _right_ndcg(scores, relevance, k):
    best = relevance.sort(1, descending=True).values[:, :k]
    return float((_dcg(_ordered(scores, relevance, k)) / _dcg(best)).mean())


def ndcg_ratio_of_means(scores, relevance, k):
    best = relevance.sort(1, descending=True).values[:, :k]
    return float(_dcg(_ordered(scores, relevance, k)).mean() / _dcg(best).mean())


def ndcg_summed(scores, relevance, k):
    return _right_ndcg(scores, relevance, k) * len(scores)


def ndcg_float_discounts(scores, relevance, k):
    return float((_ordered(scores, relevance, k) @ torch.ones(min(k, scores.shape[1]))).mean())


WRONG = {
    "cosine-scores": [
        (cosine_without_lengths, "plain dot product"),
        (cosine_over_batch, "normalised over the batch"),
        (cosine_nan, "divide by zero"),
        (cosine_nan_in_captions, "divide the captions by zero"),
        (cosine_nan_in_float32, "you divide by zero"),
        (cosine_global_norm, "length of the whole matrix"),
        (cosine_images_only, "only the images"),
        (cosine_captions_only, "only the captions"),
        (cosine_transposed, "(5, 3), expected (3, 5)"),
        (cosine_squared, "squared length"),
        (cosine_in_place, "changes its input images in place"),
        (cosine_pairs_only, "has shape (3,), expected (3, 5)"),
    ],
    "caption-ranks": [
        (ranks_by_sorting, "ties are decided by the order"),
        (ranks_zero_filled, "0 beats a negative one"),
        (ranks_without_tilde, "give it ~own"),
        (ranks_counting_all, "tie with its best count as rivals"),
        (ranks_for_the_model, "ties are decided for the model"),
        (ranks_from_zero, "start from 0"),
        (ranks_of_the_worst, "worst true caption"),
        (ranks_one_to_one, "one caption an image"),
        (ranks_in_blocks, "blocks of five"),
        (ranks_own_as_rivals, "counted among the rivals"),
        (ranks_upwards, "the order is reversed"),
    ],
    "recall-at-k": [
        (lambda ranks, k: 100 * float((ranks < k).float().mean()), "not < k"),
        (lambda ranks, k: sum(r <= k for r in ranks.tolist()) / len(ranks), "fraction"),
        (lambda ranks, k: sum(r <= k for r in ranks.tolist()), "count of hits"),
        (lambda ranks, k: 100 * sum(r > k for r in ranks.tolist()) / len(ranks), "misses"),
        (lambda ranks, k: 100 * sum(r <= k for r in ranks.tolist()) / len(ranks) / k, "precision"),
        (lambda ranks, k: 100 * sum(r == k for r in ranks.tolist()) / len(ranks), "only rank k itself"),
        (lambda ranks, k: None, "returned None"),
        (lambda ranks, k: {"r": 1.0}, "returned a dict"),
        (lambda ranks, k: ranks.softmax(0), "stopped with NotImplementedError"),
    ],
    "chance-recall": [
        (chance_with_replacement, "with replacement"),
        (chance_one_caption, "one caption an image"),
        (chance_of_captions, "the chance of a caption that looks for its one image"),
        (chance_fraction, "give percent"),
        (chance_missed, "the chance to miss"),
        (chance_five, "you assume five captions"),
    ],
    "ndcg": [
        (ndcg_plain_dcg, "this is DCG"),
        (ndcg_no_discount, "discount is missing"),
        (ndcg_shifted, "one too far"),
        (ndcg_whole_ideal, "best order is not cut"),
        (ndcg_upwards, "sorted upwards"),
        (ndcg_exponential, "exponential gain"),
        (ndcg_uncut, "not cut at k"),
        (ndcg_ratio_of_means, "query by query"),
        (ndcg_summed, "sum over the queries"),
        (ndcg_float_discounts, "Make new tensors of the input's kind"),
    ],
}
