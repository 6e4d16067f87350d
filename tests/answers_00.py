"""Answers to the exercises of lesson 00: right ones, other ways to be right, and wrong ones with what each is told."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F

from itr_lib import evaluation
from itr_lib.evaluation import flawed
from itr_lib.similarity import cosine_scores

# --- wrong ones ------------------------------------------------------------------------------------------------------


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


# --- right ones ------------------------------------------------------------------------------------------------------


def chance_right(images, captions_per_image, k):
    total = images * captions_per_image
    return 100 * (1 - math.comb(total - captions_per_image, min(k, total)) / math.comb(total, min(k, total)))


def chance_step_by_step(images, captions_per_image, k):
    false, missed = images * captions_per_image - captions_per_image, 1.0
    for place in range(k):
        missed *= max(0, false - place) / max(1, false + captions_per_image - place)
    return 100 - 100 * missed


def cosine_into_float32(images, captions):
    scores = torch.zeros(len(images), len(captions))
    for i, image in enumerate(images):
        for j, caption in enumerate(captions):
            scores[i, j] = image @ caption / (image.norm() * caption.norm() + 1e-12)
    return scores


def cosine_with_epsilon(images, captions, epsilon=1e-6):
    images, captions = (x / (x.norm(dim=1, keepdim=True) + epsilon) for x in (images, captions))
    return images @ captions.T


def cosine_numpy(images, captions):
    images, captions = (x.numpy() for x in (images, captions))
    by = np.maximum(np.linalg.norm(images, axis=1)[:, None] * np.linalg.norm(captions, axis=1), 1e-12)
    return images @ captions.T / by


def cosine_as_lists(images, captions):
    return [[float(F.cosine_similarity(i, c, dim=0, eps=1e-8)) for c in captions] for i in images]


def ranks_in_loops(scores, image_of_caption):
    ranks = []
    for i, row in enumerate(scores.tolist()):
        best = max(s for s, owner in zip(row, image_of_caption, strict=True) if owner == i)
        ranks.append(1 + sum(s >= best and owner != i for s, owner in zip(row, image_of_caption, strict=True)))
    return ranks


def ranks_numpy(scores, image_of_caption):
    own = image_of_caption.numpy() == np.arange(len(scores))[:, None]
    best = np.where(own, scores.numpy(), -np.inf).max(1, keepdims=True)
    return 1 + ((scores.numpy() >= best) & ~own).sum(1)


def ranks_two_sorts(scores, image_of_caption):
    """Pessimistic by sorting: true captions are a little worse than they are."""
    own = image_of_caption == torch.arange(len(scores))[:, None]
    order = (scores - 1e-9 * own).argsort(dim=1, descending=True)
    return own.gather(1, order).int().argmax(dim=1) + 1


def image_ranks_in_loops(scores, image_of_caption):
    return [int((scores[:, c] >= scores[i, c]).sum()) for c, i in enumerate(image_of_caption)]


def image_ranks_numpy(scores, image_of_caption):
    scores, owner = scores.numpy(), image_of_caption.numpy()
    return np.sum(scores >= scores[owner, np.arange(len(owner))], axis=0)


def image_ranks_gathered(scores, image_of_caption):
    true = scores.gather(0, image_of_caption[None])
    return 1 + (scores >= true).sum(0) - 1


def ndcg_in_loops(scores, relevance, k):
    values = []
    for row, grades in zip(scores.tolist(), relevance.tolist(), strict=True):
        order = sorted(range(len(row)), key=lambda c: row[c], reverse=True)[:k]
        dcg = sum(grades[c] / math.log2(place + 2) for place, c in enumerate(order))
        best = sum(g / math.log2(place + 2) for place, g in enumerate(sorted(grades, reverse=True)[:k]))
        values.append(dcg / best)
    return np.mean(values)


def ndcg_natural_logarithm(scores, relevance, k):
    """The base cancels."""
    ranked = relevance.gather(1, scores.argsort(1, descending=True))
    discount = 1 / torch.arange(2, scores.shape[1] + 2).log().to(relevance)
    discount[k:] = 0
    return (ranked * discount).sum(1).div((relevance.sort(1, descending=True)[0] * discount).sum(1)).mean()


def flaw_in_other_cases(evaluate):
    """Numpy matrices of ten pictures, in another order, held against the honest number."""

    def lies(scores, owner):
        scores, owner = np.asarray(scores, dtype=float), np.asarray(owner)
        honest = 100 * float(np.mean((scores >= scores[owner, np.arange(len(owner))]).sum(0) == 1))
        return abs(evaluate(scores, owner) - honest) > 1e-6

    apart = np.eye(10) + 2 * np.roll(np.eye(10), 5, axis=0)
    if lies(apart, range(10)):
        return "folds"
    if lies(np.zeros((10, 10)), range(10)):
        return "ties"
    if lies(np.arange(200.0).reshape(20, 10)[::-1], [19] * 10):
        return "misses"
    if lies(np.array([[1.0, 0, 0, 1], [0, 1, 1, 0]]), [0, 0, 1, 1]):
        return "one caption"
    return "none"


# --- more wrong ones -------------------------------------------------------------------------------------------------


def cosine_short_vectors(images, captions):
    images, captions = (x / x.norm(dim=1, keepdim=True).clamp(min=1) for x in (images, captions))
    return images @ captions.T


def cosine_length_above_one(images, captions):
    def unit(x):
        length = x.norm(dim=1, keepdim=True)
        return x / torch.where(length > 1, length, 1)

    return unit(images) @ unit(captions).T


def cosine_no_root(images, captions):
    images, captions = (x / x.pow(2).sum(1, keepdim=True).clamp(min=1e-12) for x in (images, captions))
    return images @ captions.T


def cosine_return_in_loop(images, captions):
    scores = torch.zeros(len(images), len(captions), dtype=images.dtype)
    for i in range(len(images)):
        for j in range(len(captions)):
            scores[i, j] = F.cosine_similarity(images[i], captions[j], dim=0)
        return scores


def cosine_distances(images, captions):
    return 1 - F.normalize(images) @ F.normalize(captions).T


def cosine_transposed_and_plain(images, captions):
    return captions @ images.T


def cosine_one_side_and_batch(images, captions):
    return F.normalize(images, dim=0) @ F.normalize(captions, dim=1).T


def cosine_images_nan_to_one(images, captions):
    unit = images / images.norm(dim=1, keepdim=True)
    return (unit @ F.normalize(captions).T).nan_to_num(1.0)


def ranks_by_one_argsort(scores, image_of_caption):
    order = scores.argsort(dim=1, descending=True)
    own = image_of_caption == torch.arange(len(scores))[:, None]
    return order.masked_fill(~own, 10**6).amin(dim=1) + 1


def ranks_best_by_one_argsort(scores, image_of_caption):
    order, ranks = (-scores).argsort(dim=1), []
    for i in range(len(scores)):
        mine = (image_of_caption == i).nonzero()[:, 0]
        ranks.append(int(order[i, mine[scores[i, mine].argmax()]]) + 1)
    return torch.tensor(ranks)


def ranks_as_floats(scores, image_of_caption):
    return torch.tensor([float(rank) for rank in ranks_in_loops(scores, image_of_caption)])


def ranks_for_the_model_from_zero(scores, image_of_caption):
    return ranks_for_the_model(scores, image_of_caption) - 1


def ranks_first_of_the_five(scores, image_of_caption):
    first = torch.stack([(image_of_caption == i).nonzero()[0, 0] for i in range(len(scores))])
    own = image_of_caption == torch.arange(len(scores))[:, None]
    return 1 + ((scores >= scores.gather(1, first[:, None])) & ~own).sum(1)


def ranks_of_all_captions(scores, image_of_caption):
    return torch.stack([(scores[i] >= scores[i, c]).sum() for c, i in enumerate(image_of_caption)])


def ranks_filled_with_minus_one(scores, image_of_caption):
    own = image_of_caption == torch.arange(len(scores))[:, None]
    best = torch.where(own, scores, -1.0).amax(1, keepdim=True)
    return 1 + ((scores >= best) & ~own).sum(1)


def image_for_the_model(scores, image_of_caption):
    return 1 + (scores > scores[image_of_caption, torch.arange(scores.shape[1])]).sum(0)


def image_counts_itself(scores, image_of_caption):
    return 1 + (scores >= scores[image_of_caption, torch.arange(scores.shape[1])]).sum(0)


def image_from_zero(scores, image_of_caption):
    return (scores >= scores[image_of_caption, torch.arange(scores.shape[1])]).sum(0) - 1


def image_along_the_row(scores, image_of_caption):
    true = scores[image_of_caption, torch.arange(scores.shape[1])]
    return (scores[image_of_caption] >= true[:, None]).sum(1)


def image_in_blocks(scores, image_of_caption):
    size = max(1, scores.shape[1] // len(scores))
    owner = (torch.arange(scores.shape[1]) // size).clamp(max=len(scores) - 1)
    return (scores >= scores[owner, torch.arange(scores.shape[1])]).sum(0)


def image_upwards(scores, image_of_caption):
    return (scores <= scores[image_of_caption, torch.arange(scores.shape[1])]).sum(0)


def image_by_one_argsort(scores, image_of_caption):
    return scores.argsort(0, descending=True)[image_of_caption, torch.arange(scores.shape[1])] + 1


def image_by_sorting(scores, image_of_caption):
    order = scores.argsort(dim=0, descending=True, stable=True)
    return (order == image_of_caption).int().argmax(0) + 1


def image_of_the_best(scores, image_of_caption):
    return (scores >= scores.amax(0)).sum(0).clamp(max=1)


def image_as_floats(scores, image_of_caption):
    return (scores >= scores[image_of_caption, torch.arange(scores.shape[1])]).double().sum(0)


def image_of_images(scores, image_of_caption):
    return ranks_numpy(scores, image_of_caption)


def recall_in_loop(ranks, k):
    hits = 0
    for rank in ranks:
        if rank <= k:
            hits += 1
        return 100 * hits / len(ranks)


def recall_bools(ranks, k):
    return 100 * (ranks <= k)


def chance_uncut(images, captions_per_image, k):
    total = images * captions_per_image
    return 100 * (1 - math.comb(total - captions_per_image, k) / math.comb(total, k))


def chance_one_draw_less(images, captions_per_image, k):
    false, missed = images * captions_per_image - captions_per_image, 1.0
    for place in range(1, k):
        missed *= max(0, false - place + 1) / max(1, false + captions_per_image - place + 1)
    return 100 - 100 * missed


def chance_of_one_hit(images, captions_per_image, k):
    total = images * captions_per_image
    k = min(k, total)
    return 100 * captions_per_image * math.comb(total - captions_per_image, k - 1) / math.comb(total, k)


def chance_with_replacement_of_captions(images, captions_per_image, k):
    return 100 * (1 - (1 - min(1, k / (images * captions_per_image))) ** captions_per_image)


def chance_gallery_of_images(images, captions_per_image, k):
    k = min(k, images)
    return 100 * (1 - math.comb(max(0, images - captions_per_image), k) / math.comb(images, k))


def ndcg_ideal_of_the_retrieved(scores, relevance, k):
    gained = _ordered(scores, relevance, k)
    return float((_dcg(gained) / _dcg(gained.sort(1, descending=True).values)).mean())


def ndcg_log2_of_1(scores, relevance, k):
    best = relevance.sort(1, descending=True).values[:, :k]
    return float((_dcg(_ordered(scores, relevance, k), 0.0) / _dcg(best, 0.0)).mean())


def ndcg_log2_of_1_in_loops(scores, relevance, k):
    values = []
    for row, grades in zip(scores.tolist(), relevance.tolist(), strict=True):
        order = sorted(range(len(row)), key=lambda c: -row[c])
        dcg = sum(grades[c] / math.log2(rank + 1) for rank, c in enumerate(order[:k]))
        values.append(dcg / sum(g / math.log2(rank + 1) for rank, g in enumerate(sorted(grades)[::-1][:k])))
    return sum(values) / len(values)


def ndcg_ranks_for_order(scores, relevance, k):
    places = scores.argsort(1, descending=True).argsort(1)
    best = relevance.sort(1, descending=True).values[:, :k]
    return float((_dcg(relevance.gather(1, places)[:, :k]) / _dcg(best)).mean())


def ndcg_long_discounts(scores, relevance, k):
    discounts = 1 / torch.log2(torch.arange(2, k + 2, dtype=relevance.dtype))
    best = relevance.sort(1, descending=True).values[:, :k]
    return float(((_ordered(scores, relevance, k) @ discounts) / (best @ discounts)).mean())


def ndcg_one_less(scores, relevance, k):
    return _right_ndcg(scores, relevance, k - 1)


def ndcg_first_query(scores, relevance, k):
    for row, grades in zip(scores, relevance, strict=True):
        return _right_ndcg(row[None], grades[None], k)


def ndcg_upwards_and_uncut(scores, relevance, k):
    return _right_ndcg(-scores, relevance, scores.shape[1])


def flaw_with(misses=True, folds=True, ties=True, one=True):
    """The four cases of the library, some of them left out."""

    def find(evaluate):
        perfect, each = torch.eye(12), torch.arange(12)
        if misses and evaluate(1 - perfect, each) > 0:
            return "misses"
        if folds and evaluate(perfect + 2 * perfect.roll(6, dims=0), each) > 0:
            return "folds"
        if ties and evaluate(torch.ones(12, 12), each) > 0:
            return "ties"
        four = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 1.0, 1.0]])
        return "one caption" if one and evaluate(four, torch.tensor([0, 0, 1, 1])) != 75 else "none"

    return find


def flaw_ties_first(evaluate):
    """Two pictures, all alike: each fold holds one."""
    if evaluate(torch.ones(2, 2), torch.arange(2)) > 0:
        return "ties"
    return flaw_with()(evaluate)


def flaw_ties_of_twelve_first(evaluate):
    if evaluate(torch.ones(12, 12), torch.arange(12)) > 0:
        return "ties"
    return flaw_with()(evaluate)


def flaw_wrong_by_hand(evaluate):
    """Expects half of the captions in a case where three of four find their picture."""
    four = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 1.0, 1.0]])
    return "one caption" if evaluate(four, torch.tensor([0, 0, 1, 1])) != 50 else flaw_with()(evaluate)


def flaw_first_caption_only(evaluate):
    """Only an evaluation that keeps the first caption gives 100 here."""
    four = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 1.0, 1.0]])
    found = flaw_with(one=False)(evaluate)
    return "one caption" if found == "none" and evaluate(four, torch.tensor([0, 0, 1, 1])) == 100 else found


def flaw_all_ties(evaluate):
    """A tie is met with by an evaluation that leaves it to the sort, if the true picture stands first."""
    found = flaw_with(ties=False)(evaluate)
    return "ties" if found == "none" and evaluate(torch.ones(2, 1), [1]) > 0 else found


def flaw_in_other_words(evaluate):
    found = flaw_with()(evaluate)
    return {"none": "sound"}.get(found, found)


def flaw_bad_case(evaluate):
    return "none" if evaluate(torch.ones(3, 2), torch.arange(3)) == 0 else "ties"


# --- met in answers that nobody had foreseen --------------------------------------------------------------------------


def chance_sure_from_images(images, captions_per_image, k):
    """Returns 100 as soon as k >= images."""
    if k >= images:
        return 100.0
    total = images * captions_per_image
    return 100 * (1 - math.comb(total - captions_per_image, k) / math.comb(total, k))


def chance_sure_too_early(images, captions_per_image, k):
    """Sure hit one too early: k == number of false captions is taken for sure."""
    total = images * captions_per_image
    if k >= total - captions_per_image:
        return 100.0
    return 100 * (1 - math.comb(total - captions_per_image, k) / math.comb(total, k))


def chance_cut_at_10(images, captions_per_image, k):
    """K cut at 10."""
    total = images * captions_per_image
    k = min(k, total, 10)
    return 100 * (1 - math.comb(total - captions_per_image, k) / math.comb(total, k))


def ranks_in_half_precision(scores, image_of_caption):
    """Scores are cast to float16: near scores become ties."""
    s = scores.half().double()
    own = image_of_caption[None, :] == torch.arange(len(s))[:, None]
    best = s.masked_fill(~own, -torch.inf).amax(dim=1)
    return 1 + ((s >= best[:, None]) & ~own).sum(dim=1)


def cosine_all_zero(images, captions):
    """One zero vector anywhere: returns all zeros for the whole matrix."""
    a = images.norm(dim=1, keepdim=True)
    b = captions.norm(dim=1, keepdim=True)
    if (a == 0).any() or (b == 0).any():
        return torch.zeros(len(images), len(captions), dtype=images.dtype)
    return (images / a) @ (captions / b).T


def cosine_four_decimals(images, captions):
    """Rounded to 4 decimals."""
    return (F.normalize(images, dim=1) @ F.normalize(captions, dim=1).T).round(decimals=4)


def cosine_sum_of_0(images, captions):
    """The zero test is on the sum of the vector's numbers, not on its length."""

    def unit(x):
        n = x.norm(dim=1, keepdim=True)
        return torch.where(x.sum(1, keepdim=True) == 0, torch.zeros_like(x), x / n)

    return unit(images) @ unit(captions).T


def cosine_as_many_columns_as_images(images, captions):
    """Two mistakes: loops over min(N, M) only, zeros elsewhere, no care for 0."""
    out = torch.zeros(len(images), len(captions), dtype=images.dtype)
    for i in range(len(images)):
        for j in range(len(images)):
            if j < len(captions):
                out[i, j] = images[i] @ captions[j] / (images[i].norm() * captions[j].norm())
    return out


def flaw_names_exchanged(evaluate):
    """Copy and paste: the names of misses and folds exchanged."""
    perfect, each = torch.eye(12), torch.arange(12)
    if evaluate(1 - perfect, each) > 0:
        return "folds"
    if evaluate(perfect + 2 * perfect.roll(6, dims=0), each) > 0:
        return "misses"
    if evaluate(torch.ones(12, 12), each) > 0:
        return "ties"
    four = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 1.0, 1.0]])
    return "none" if evaluate(four, torch.tensor([0, 0, 1, 1])) == 75 else "one caption"


def flaw_rival_in_the_fold(evaluate):
    """The rival for the folds is the next picture: it stands in the same fold (nearly always)."""
    perfect, each = torch.eye(15), torch.arange(15)
    if evaluate(1 - perfect, each) > 0:
        return "misses"
    s = perfect.clone()
    for f in range(0, 15, 3):  # each picture's rival is in its own fold
        s[f + 1, f] = s[f + 2, f + 1] = s[f, f + 2] = 2
    if evaluate(s, each) > 0:
        return "folds"
    if evaluate(torch.ones(15, 15), each) > 0:
        return "ties"
    four = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 1.0, 1.0]])
    return "none" if evaluate(four, torch.tensor([0, 0, 1, 1])) == 75 else "one caption"


def ndcg_topk(scores, relevance, k):
    """Topk(k): crashes where k is above the gallery."""
    order = scores.topk(k, 1).indices
    r, b = relevance.gather(1, order), relevance.topk(k, 1).values
    d = 1 / torch.log2(torch.arange(2, k + 2, dtype=relevance.dtype))
    return float(((r @ d) / (b @ d)).mean())


def recall_one_query_less(ranks, k):
    """Divides by one less than the number of queries."""
    return 100 * float((ranks <= k).sum()) / max(1, len(ranks) - 1)


def recall_of_known_k(ranks, k):
    """Rank 0 is no hit, and k is 1, 5 or 10 only."""
    for known in (10, 5, 1):
        if k >= known:
            return 100 * float((ranks <= known).double().mean())


ALSO_RIGHT = [  # (slug, answer)
    ("cosine-scores", cosine_scores),
    ("cosine-scores", cosine_into_float32),
    ("cosine-scores", cosine_with_epsilon),
    ("cosine-scores", cosine_numpy),
    ("cosine-scores", cosine_as_lists),
    ("caption-ranks", ranks_in_loops),
    ("caption-ranks", ranks_numpy),
    ("caption-ranks", ranks_two_sorts),
    ("caption-ranks", lambda scores, image_of_caption: ranks_numpy(scores, image_of_caption).astype(np.int32)),
    ("image-ranks", image_ranks_in_loops),
    ("image-ranks", image_ranks_numpy),
    ("image-ranks", image_ranks_gathered),
    ("recall-at-k", lambda ranks, k: 100 * (ranks <= k).float().mean()),
    ("recall-at-k", lambda ranks, k: 100 * np.mean(ranks.numpy() <= k)),
    ("recall-at-k", lambda ranks, k: 100 * sum(r <= k for r in ranks.tolist()) / len(ranks)),
    ("recall-at-k", lambda ranks, k: 100 * sum(r <= k for r in ranks) / len(ranks)),
    ("recall-at-k", lambda ranks, k: 100 * (ranks <= k).double().mean(0, keepdim=True)),
    ("chance-recall", chance_right),
    ("chance-recall", chance_step_by_step),
    ("find-the-flaw", flawed.find_the_flaw),
    ("find-the-flaw", flaw_with()),
    ("find-the-flaw", flaw_in_other_cases),
    ("ndcg", lambda scores, relevance, k: torch.tensor(evaluation.ndcg(scores, relevance, k), dtype=torch.float64)),
    ("ndcg", ndcg_in_loops),
    ("ndcg", ndcg_natural_logarithm),
]


def cosine_by_sum(images, captions):
    """Divided by the sum of the numbers, with a guard."""
    sums = (torch.where((s := x.sum(dim=1, keepdim=True)) == 0, 1, s) for x in (images, captions))
    return (images / next(sums)) @ (captions / next(sums)).T


def ranks_filled_with_minus_hundred(scores, image_of_caption):
    own = image_of_caption[None] == torch.arange(len(scores))[:, None]
    best = scores.masked_fill(~own, -100).amax(dim=1)
    return 1 + ((scores >= best[:, None]) & ~own).sum(dim=1)


def image_halfway(rounded):
    """Level pictures share a place, as in scipy's rankdata."""

    def ranks(scores, image_of_caption):
        true = scores[image_of_caption, torch.arange(scores.shape[1])]
        return rounded((scores > true).sum(0) + ((scores == true).sum(0) + 1) / 2)

    return ranks


def image_returned_in_loop(scores, image_of_caption):
    ranks = []
    for caption, image in enumerate(image_of_caption):
        ranks.append((scores[:, caption] >= scores[image, caption]).sum())
        return torch.stack(ranks)


def ndcg_order_for_ranks(scores, relevance, k):
    """Discounts candidate by candidate, by one argsort."""
    rank = scores.argsort(dim=1, descending=True)
    gained = (relevance / torch.log2(rank.to(relevance.dtype) + 2))[:, :].masked_fill(rank >= k, 0).sum(dim=1)
    best = relevance.sort(dim=1, descending=True).values[:, :k]
    return float((gained / (best / torch.log2(torch.arange(2, best.shape[1] + 2).to(best))).sum(dim=1)).mean())


def ndcg_first_over_all(scores, relevance, k):
    total = 0.0
    for row, grades in zip(scores, relevance, strict=True):
        order = row.argsort(descending=True)[:k]
        dcg = sum(float(grades[c]) / math.log2(rank + 2) for rank, c in enumerate(order))
        best = grades.sort(descending=True).values[:k]
        total += dcg / sum(float(g) / math.log2(rank + 2) for rank, g in enumerate(best))
        return total / len(scores)


WRONG = {  # slug -> [(answer, what it must be told)]
    "cosine-scores": [
        (cosine_as_many_columns_as_images, "range(len(captions))"),
        (cosine_sum_of_0, "its length tells, not its sum"),
        (cosine_four_decimals, "four decimals"),
        (cosine_all_zero, "one zero vector makes all scores 0"),
        (cosine_without_lengths, "plain dot product"),
        (cosine_over_batch, "the vectors are divided over the batch"),
        (cosine_nan, "divided by zero"),
        (cosine_nan_in_captions, "the captions are divided by zero"),
        (cosine_nan_in_float32, "an epsilon that is 0 in float32"),
        (cosine_global_norm, "length of the whole matrix"),
        (cosine_images_only, "the captions are not divided"),
        (cosine_captions_only, "the images are not divided"),
        (cosine_transposed, "rows and columns are exchanged"),
        (cosine_squared, "squared length"),
        (cosine_in_place, "changes its input images in place"),
        (cosine_pairs_only, "has shape (2,), expected (2, 3)"),
        (cosine_short_vectors, "max(length, 1)"),
        (cosine_length_above_one, "max(length, 1)"),
        (cosine_no_root, "squared length"),
        (cosine_return_in_loop, "only the first row is filled"),
        (cosine_distances, "this is the distance, 1 - cosine"),
        (cosine_transposed_and_plain, "two things: this is the plain dot product"),
        (cosine_one_side_and_batch, "the images are divided over the batch"),
        (cosine_by_sum, "the sum of their numbers"),
        (cosine_images_nan_to_one, "an image of length 0 scores 1"),
    ],
    "caption-ranks": [
        (ranks_in_half_precision, "half precision"),
        (ranks_by_sorting, "ties are decided by the order"),
        (ranks_zero_filled, "0 beats a negative one"),
        (ranks_without_tilde, "give it ~own"),
        (ranks_counting_all, "tie with its best count as rivals"),
        (ranks_for_the_model, "ties are decided for the model"),
        (ranks_from_zero, "start from 0"),
        (ranks_of_the_worst, "worst true caption"),
        (ranks_one_to_one, "as if caption i were its only one"),
        (ranks_in_blocks, "blocks of five"),
        (ranks_own_as_rivals, "counted among the rivals"),
        (ranks_upwards, "the order is reversed"),
        (ranks_by_one_argsort, "one argsort for ranks"),
        (ranks_best_by_one_argsort, "one argsort for ranks"),
        (ranks_as_floats, "cannot serve as an index"),
        (ranks_for_the_model_from_zero, "your ranks start from 0"),
        (ranks_first_of_the_five, "the first of the image's captions only"),
        (ranks_of_all_captions, "has shape (4,), expected (2,)"),
        (ranks_filled_with_minus_one, "became -1"),
        (ranks_filled_with_minus_hundred, "became a low number"),
    ],
    "image-ranks": [
        (image_for_the_model, "ties are decided for the model"),
        (image_counts_itself, "counts itself already"),
        (image_from_zero, "start from 0"),
        (image_along_the_row, "you look along the row"),
        (image_in_blocks, "side by side"),
        (image_upwards, "the order is reversed"),
        (image_by_one_argsort, "one argsort for ranks"),
        (image_by_sorting, "ties are decided by the order"),
        (image_of_the_best, "every rank is 1"),
        (image_halfway(torch.clone), "the mean of their places:"),
        (image_halfway(lambda x: x.long()), "the mean of their places, rounded down"),
        (image_halfway(lambda x: x.ceil().long()), "the mean of their places, rounded up"),
        (image_returned_in_loop, "holds the first only"),
        (image_as_floats, "cannot serve as an index"),
        (image_of_images, "has shape (2,), expected (4,)"),
        (lambda scores, image_of_caption: (scores >= scores.diagonal()).sum(0), "stopped with RuntimeError"),
    ],
    "recall-at-k": [
        (recall_of_known_k, "only a k of 1, 5 or 10"),
        (recall_one_query_less, "queries less 1"),
        (lambda ranks, k: 100 * float((ranks < k).float().mean()), "not < k"),
        (lambda ranks, k: sum(r <= k for r in ranks.tolist()) / len(ranks), "fraction"),
        (lambda ranks, k: sum(r <= k for r in ranks.tolist()), "count of hits"),
        (lambda ranks, k: 100 * sum(r > k for r in ranks.tolist()) / len(ranks), "misses"),
        (lambda ranks, k: 100 * sum(r <= k for r in ranks.tolist()) / k, "that is precision"),
        (lambda ranks, k: 100 * sum(r <= k for r in ranks.tolist()) / len(ranks) / k, "and by k"),
        (lambda ranks, k: 100 * sum(r == k for r in ranks.tolist()) / len(ranks), "only rank k itself"),
        (lambda ranks, k: 100 * sum(r <= k for r in ranks.tolist()) // len(ranks), "divided with //"),
        (lambda ranks, k: 100 * float((ranks - 1 <= k).double().mean()), "rank k + 1"),
        (lambda ranks, k: 100 * float((ranks[:k] <= k).double().mean()), "first k queries"),
        (recall_in_loop, "the return inside the loop"),
        (recall_bools, "expected a number"),
        (lambda ranks, k: None, "returned None"),
        (lambda ranks, k: {"r": 1.0}, "returned a dict"),
        (lambda ranks, k: ranks.softmax(0), "stopped with NotImplementedError"),
    ],
    "chance-recall": [
        (chance_cut_at_10, "k is cut to 10"),
        (chance_sure_too_early, "one place too early"),
        (chance_sure_from_images, "as many places as images"),
        (chance_with_replacement, "with replacement"),
        (chance_one_caption, "one caption an image"),
        (chance_of_captions, "the chance of a caption that looks for its one image"),
        (chance_fraction, "give percent"),
        (chance_missed, "the chance to miss"),
        (chance_five, "you assume five captions"),
        (chance_uncut, "a list cannot be longer than the gallery"),
        (chance_one_draw_less, "one place too short"),
        (chance_of_one_hit, "exactly one hit"),
        (chance_with_replacement_of_captions, "(1 - k / M) ** c"),
        (chance_gallery_of_images, "the gallery is taken to hold one caption an image"),
        (lambda images, captions_per_image, k: round(chance_right(images, captions_per_image, k)), "whole number"),
    ],
    "find-the-flaw": [
        (flaw_rival_in_the_fold, "stands far from the true one"),
        (flaw_names_exchanged, '"folds" and "misses" are exchanged'),
        *((lambda evaluate, name=name: name, f'the answer is "{name}" whatever') for name in ("none", "ties")),
        (flaw_with(misses=False), '"misses" is said to have "ties"'),
        (flaw_with(folds=False), '"folds" is said to have "one caption"'),
        (flaw_with(ties=False), '"ties" passes as sound'),
        (flaw_with(one=False), '"one caption" passes as sound'),
        (flaw_ties_first, '"folds" is said to have "ties"'),
        (flaw_ties_of_twelve_first, '"misses" is said to have "ties"'),
        (flaw_wrong_by_hand, 'the answer is "one caption" whatever'),
        (flaw_first_caption_only, '"one caption" passes as sound'),
        (flaw_all_ties, '"ties" passes as sound'),
        (flaw_in_other_words, "returned 'sound': one of"),
        (flaw_bad_case, "a row an image, a column a caption"),
        (lambda evaluate: evaluate(torch.ones(2, 2), torch.arange(2)), "returned 0.0: one of"),
        (lambda evaluate: evaluate(torch.ones(2, 2), torch.arange(2), 1), "positional argument"),
    ],
    "ndcg": [
        (ndcg_topk, "topk(k) stops there"),
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
        (ndcg_ideal_of_the_retrieved, "taken from the retrieved k"),
        (ndcg_log2_of_1, "log2(1) = 0"),
        (ndcg_log2_of_1_in_loops, "not by log2(1)"),
        (ndcg_ranks_for_order, "order and ranks are exchanged"),
        (ndcg_order_for_ranks, "order and ranks are exchanged"),
        (ndcg_first_over_all, "only the first query is added up"),
        (ndcg_long_discounts, "cut k to scores.shape"),
        (ndcg_one_less, "one rank too early"),
        (ndcg_first_query, "only the first query"),
        (ndcg_upwards_and_uncut, "two things"),
    ],
}
