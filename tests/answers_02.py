"""Answers to the exercises of lesson 02: other ways to be right, and wrong ones with what each is told."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F

from itr_lib.similarity import l2_normalise

# --- alignments ------------------------------------------------------------------------------------------------------


def alignments_right(regions, words):
    return torch.einsum("nrd,mwd->nmrw", l2_normalise(regions), l2_normalise(words))


def alignments_einsum(regions, words):
    return torch.einsum("nrd,mwd->nmrw", F.normalize(regions, dim=-1), F.normalize(words, dim=-1))


def alignments_matmul(regions, words):
    regions = regions / (regions.norm(dim=-1, keepdim=True) + 1e-8)
    words = words / words.norm(dim=-1, keepdim=True).clamp(min=1e-8)
    return regions[:, None] @ words[None].transpose(-1, -2)


def alignments_cosine_similarity(regions, words):
    return F.cosine_similarity(regions[:, None, :, None], words[None, :, None], dim=-1)


def alignments_flat(regions, words):
    (n, r, d), (m, w, _) = regions.shape, words.shape
    flat = F.normalize(regions.reshape(-1, d), dim=1) @ F.normalize(words.reshape(-1, d), dim=1).T
    return flat.reshape(n, r, m, w).transpose(1, 2)


def alignments_in_float32(regions, words):
    result = torch.zeros(len(regions), len(words), regions.shape[1], words.shape[1])
    for n, image in enumerate(regions):
        for m, caption in enumerate(words):
            result[n, m] = F.normalize(image, dim=1) @ F.normalize(caption, dim=1).T
    return result


def alignments_wheres(regions, words):
    def unit(vectors):
        length = vectors.norm(dim=-1, keepdim=True)
        return vectors / torch.where(length == 0, 1.0, length)

    return torch.einsum("nrd,mwd->nmrw", unit(regions), unit(words))


def alignments_nan(regions, words):
    dots = torch.einsum("nrd,mwd->nmrw", regions, words)
    return dots / (regions.norm(dim=2)[:, None, :, None] * words.norm(dim=2)[None, :, None])


def alignments_pairs(regions, words):
    return F.normalize(regions, dim=-1) @ F.normalize(words, dim=-1).mT


def alignments_no_sum(regions, words):
    return F.normalize(regions, dim=-1)[:, None, :, None] * F.normalize(words, dim=-1)[None, :, None]


def alignments_mean(regions, words):
    return alignments_no_sum(regions, words).mean(-1)


def alignments_default_normalize(regions, words):
    """F.normalize without dim normalises axis 1."""
    return torch.einsum("nrd,mwd->nmrw", F.normalize(regions), F.normalize(words))


def alignments_view(regions, words):
    (n, r, d), (m, w, _) = regions.shape, words.shape
    flat = F.normalize(regions, dim=-1).reshape(-1, d) @ F.normalize(words, dim=-1).reshape(-1, d).T
    return flat.view(n, m, r, w)


def alignments_detached(regions, words):
    return alignments_einsum(regions.detach(), words)


def alignments_patched(regions, words):
    return alignments_nan(regions, words).nan_to_num(0)


def alignments_in_place(regions, words):
    regions = regions.detach()
    regions /= regions.norm(dim=-1, keepdim=True).clamp(min=1e-8)
    return alignments_einsum(regions, words)


# --- mrsw ----------------------------------------------------------------------------------------------------------


def mrsw(alignments, region_mask, word_mask, fill=-math.inf):
    best = alignments.masked_fill(~region_mask[:, None, :, None], fill).max(dim=2).values
    return best.masked_fill(~word_mask[None], 0).sum(dim=-1)


def mrsw_with(fill):
    return lambda alignments, region_mask, word_mask: mrsw(alignments, region_mask, word_mask, fill)


def mrsw_multiplied(alignments, region_mask, word_mask):
    best = torch.where(region_mask[:, None, :, None], alignments, -1e9).amax(2)
    return (best * word_mask).sum(-1)


def mrsw_subtracted(alignments, region_mask, word_mask):
    real = region_mask[:, None, :, None].to(alignments.dtype)
    best = (alignments * real - 1e9 * (1 - real)).amax(dim=2)
    return torch.einsum("nmw,mw->nm", best, word_mask.to(best.dtype))


def mrsw_in_loops(alignments, region_mask, word_mask):
    scores = torch.zeros(len(region_mask), len(word_mask))
    for n in range(len(region_mask)):
        for m in range(len(word_mask)):
            real = alignments[n, m][region_mask[n]][:, word_mask[m]]
            scores[n, m] = real.amax(dim=0).sum()
    return scores


def mrsw_both_filled(alignments, region_mask, word_mask):
    real = region_mask[:, None, :, None] & word_mask[None, :, None, :]
    best = alignments.masked_fill(~real, -math.inf).amax(dim=2)
    return torch.where(best == -math.inf, 0, best).sum(-1)


def mrsw_released(alignments, region_mask, word_mask):
    real = region_mask[:, None, :, None] & word_mask[None, :, None, :]
    return alignments.masked_fill(~real, 0).max(dim=2)[0].sum(dim=2)


def mrsw_unmasked(alignments, region_mask, word_mask):
    return alignments.amax(2).sum(-1)


def mrsw_words_only(alignments, region_mask, word_mask):
    return (alignments.amax(2) * word_mask).sum(-1)


def mrsw_regions_only(alignments, region_mask, word_mask):
    return alignments.masked_fill(~region_mask[:, None, :, None], -1e30).amax(2).sum(-1)


def mrsw_mean(alignments, region_mask, word_mask):
    return mrsw(alignments, region_mask, word_mask) / word_mask.sum(1)


def mrsw_padded_mean(alignments, region_mask, word_mask):
    best = alignments.masked_fill(~region_mask[:, None, :, None], -math.inf).amax(2)
    return (best * word_mask).mean(-1)


def mrsw_mirrored(alignments, region_mask, word_mask):
    best = alignments.masked_fill(~word_mask[None, :, None], -math.inf).amax(3)
    return (best * region_mask[:, None]).sum(-1)


def mrsw_mirrored_unmasked(alignments, region_mask, word_mask):
    return alignments.max(-1).values.sum(-1)


def mrsw_infinite(alignments, region_mask, word_mask):
    real = region_mask[:, None, :, None] & word_mask[None, :, None, :]
    return torch.where(real, alignments, -math.inf).amax(2).sum(-1)


def mrsw_nan(alignments, region_mask, word_mask):
    real = region_mask[:, None, :, None] & word_mask[None, :, None, :]
    return (torch.where(real, alignments, -math.inf).amax(2) * word_mask).sum(-1)


def mrsw_wrong_axis(alignments, region_mask, word_mask):
    best = alignments.masked_fill(~region_mask[:, None, None], -math.inf).amax(2)
    return best.masked_fill(~word_mask[None], 0).sum(-1)


def mrsw_over_captions(alignments, region_mask, word_mask):
    best = alignments.masked_fill(~region_mask[..., None], -math.inf).amax(2)
    return best.masked_fill(~word_mask[None], 0).sum(-1)


def mrsw_words_over_images(alignments, region_mask, word_mask):
    best = alignments.masked_fill(~region_mask[:, None, :, None], -math.inf).amax(2)
    return best.masked_fill(~word_mask[:, None], 0).sum(-1)


def mrsw_turned(alignments, region_mask, word_mask):
    return mrsw(alignments, ~region_mask, word_mask)


def mrsw_sliced(alignments, region_mask, word_mask):
    scores = alignments.new_zeros(len(region_mask), len(word_mask))
    for n, r in enumerate(region_mask.sum(1).tolist()):
        for m, w in enumerate(word_mask.sum(1).tolist()):
            scores[n, m] = alignments[n, m, :r, :w].amax(0).sum()
    return scores


def mrsw_sum_first(alignments, region_mask, word_mask):
    sums = (alignments * word_mask[None, :, None]).sum(-1)
    return sums.masked_fill(~region_mask[:, None], -math.inf).amax(-1)


def mrsw_with_numbers(alignments, region_mask, word_mask):
    return torch.tensor(
        [
            [
                sum(max(a[r][w].item() for r in range(len(a)) if real[r]) for w in range(len(a[0])) if said[w])
                for a, said in zip(matrices, word_mask, strict=True)
            ]
            for matrices, real in zip(alignments, region_mask, strict=True)
        ],
        dtype=alignments.dtype,
    )


def mrsw_in_place(alignments, region_mask, word_mask):
    alignments = alignments.detach()
    alignments[~region_mask[:, None, :, None].expand_as(alignments)] = -math.inf
    return alignments.amax(2).masked_fill(~word_mask, 0).sum(-1)


def mrsw_of_no_words(alignments, region_mask, word_mask):
    """Right, until a caption has no word."""
    return mrsw(alignments, region_mask, word_mask) / word_mask.sum(1) * word_mask.sum(1)


def mrsw_first_image_only(alignments, region_mask, word_mask):
    """A return inside the loop."""
    scores = alignments.new_zeros(len(region_mask), len(word_mask))
    for n in range(len(region_mask)):
        best = alignments[n][:, region_mask[n]].amax(dim=1)
        scores[n] = (best * word_mask).sum(dim=1)
        return scores


def mrsw_last_word(alignments, region_mask, word_mask):
    scores = alignments.new_zeros(len(region_mask), len(word_mask))
    for n in range(len(region_mask)):
        for m in range(len(word_mask)):
            for w in word_mask[m].nonzero()[:, 0]:
                scores[n, m] = alignments[n, m, region_mask[n], w].max()
    return scores


def mrsw_largest_begins_at_zero(alignments, region_mask, word_mask):
    scores = alignments.new_zeros(len(region_mask), len(word_mask))
    for n in range(len(region_mask)):
        for m in range(len(word_mask)):
            for w in word_mask[m].nonzero()[:, 0]:
                best = 0
                for r in region_mask[n].nonzero()[:, 0]:
                    best = max(best, alignments[n, m, r, w])
                scores[n, m] += best
    return scores


def mrsw_padded_with_one(alignments, region_mask, word_mask):
    best = alignments.masked_fill(~region_mask[:, None, :, None], -math.inf).amax(2)
    return best.masked_fill(~word_mask[None], 1).sum(-1)


# --- packed-mrsw -----------------------------------------------------------------------------------------------------


def owners(counts):
    return torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))


def best_of(regions, region_counts, words):
    return torch.stack([some.amax(dim=0) for some in (regions @ words.T).split(region_counts)])


def packed_scattered(regions, region_counts, words, word_counts):
    dots = regions @ words.T
    best = dots.new_full((len(region_counts), dots.shape[1]), -math.inf)
    best = best.scatter_reduce(0, owners(region_counts)[:, None].expand_as(dots), dots, "amax")
    return best.new_zeros(len(best), len(word_counts)).index_add(1, owners(word_counts), best)


def packed_cumulative(regions, region_counts, words, word_counts):
    sums = F.pad(best_of(regions, region_counts, words).cumsum(dim=1), (1, 0))
    ends = torch.tensor([0, *word_counts]).cumsum(0)
    return sums[:, ends].diff(dim=1)


def packed_by_padding(regions, region_counts, words, word_counts):
    padded = [
        torch.nn.utils.rnn.pad_sequence(vectors.split(counts), batch_first=True)
        for vectors, counts in ((regions, region_counts), (words, word_counts))
    ]
    masks = [
        torch.arange(vectors.shape[1]) < torch.tensor(counts)[:, None]
        for vectors, counts in zip(padded, (region_counts, word_counts), strict=True)
    ]
    return mrsw(torch.einsum("nrd,mwd->nmrw", *padded), *masks)


def packed_in_loops(regions, region_counts, words, word_counts, start_word=0, step=0):
    scores = torch.zeros(len(region_counts), len(word_counts), dtype=regions.dtype)
    r = 0
    for n, own in enumerate(region_counts):
        t = start_word
        for m, length in enumerate(word_counts):
            dots = regions[r : r + own] @ words[t : t + length].T
            scores[n, m] = dots.max(dim=0).values.sum() if dots.numel() else 0
            t += length + step
        r += own
    return scores


def packed_owner_matrix(regions, region_counts, words, word_counts):
    owner = F.one_hot(owners(word_counts), len(word_counts)).to(words.dtype)
    return best_of(regions, region_counts, words) @ owner


def packed_zeros_first(regions, region_counts, words, word_counts):
    """scatter_reduce begins with what stands in the tensor."""
    dots = regions @ words.T
    best = dots.new_zeros(len(region_counts), dots.shape[1])
    best = best.scatter_reduce(0, owners(region_counts)[:, None].expand_as(dots), dots, "amax")
    return best.new_zeros(len(best), len(word_counts)).index_add(1, owners(word_counts), best)


def packed_hundred(regions, region_counts, words, word_counts):
    dots = regions @ words.T
    best = dots.new_full((len(region_counts), dots.shape[1]), -100.0)
    best = best.scatter_reduce(0, owners(region_counts)[:, None].expand_as(dots), dots, "amax")
    return best.new_zeros(len(best), len(word_counts)).index_add(1, owners(word_counts), best)


def packed_sums(cut_regions, cut_words, reduce=torch.sum):
    """Other places where the sets may lie: counts -> pairs (start, stop)."""

    def scores(regions, region_counts, words, word_counts):
        dots = regions @ words.T
        best = torch.stack([dots[a:b].amax(dim=0) for a, b in cut_regions(region_counts)])
        return torch.stack([reduce(best[:, a:b], dim=1) for a, b in cut_words(word_counts)], dim=1)

    return scores


def right_places(counts):
    stops = np.cumsum(counts).tolist()
    return [(stop - count, stop) for stop, count in zip(stops, counts, strict=True)]


def packed_mean(regions, region_counts, words, word_counts):
    parts = best_of(regions, region_counts, words).split(word_counts, dim=1)
    return torch.stack([part.mean(dim=1) for part in parts], dim=1)


def packed_chunks(regions, region_counts, words, word_counts):
    parts = best_of(regions, region_counts, words).chunk(len(word_counts), dim=1)
    return torch.stack([part.sum(dim=1) for part in parts], dim=1)


def packed_mirrored(regions, region_counts, words, word_counts):
    return packed_cumulative(words, word_counts, regions, region_counts).T


def packed_without_empty(regions, region_counts, words, word_counts):
    return packed_cumulative(regions, region_counts, words, [count for count in word_counts if count])


def packed_reduceat(regions, region_counts, words, word_counts):
    """numpy's reduceat gives an empty caption the word that stands there."""
    best = best_of(regions, region_counts, words)
    starts = np.cumsum([0, *word_counts[:-1]])
    return torch.from_numpy(np.add.reduceat(best.detach().numpy(), np.minimum(starts, best.shape[1] - 1), axis=1))


# --- read-heat-map ---------------------------------------------------------------------------------------------------


def heat_in_loops(alignment, overlap, floor, gap):
    answer = []
    for w in range(alignment.shape[1]):
        column = alignment[:, w]
        r = int(column.argmax())
        if column[r] < floor:
            answer.append(-1)
        elif any(column[r] - column[i] < gap and overlap[r, i] < 0.5 for i in range(len(column)) if i != r):
            answer.append(-2)
        else:
            answer.append(r)
    return answer


def heat_numpy(alignment, overlap, floor, gap):
    a, iou = alignment.numpy(), overlap.numpy()
    best, where = a.max(0), a.argmax(0)
    several = ((a > best - gap) & (iou[where].T < 0.5)).any(0)
    return np.where(best < floor, -1, np.where(several, -2, where))


def heat_with(change):
    """The loops with a change: a function of (column, its best region, overlap, floor, gap) that gives the answer."""

    def answer(alignment, overlap, floor, gap):
        columns = [alignment[:, w] for w in range(alignment.shape[1])]
        return torch.tensor([change(column, int(column.argmax()), overlap, floor, gap) for column in columns])

    return answer


def heat_runner_up(column, best, overlap, floor, gap):
    if column[best] < floor:
        return -1
    if len(column) == 1:
        return best
    second = int(column.topk(2).indices[1])
    return -2 if column[best] - column[second] < gap and overlap[best, second] < 0.5 else best


def heat_any_rival(column, best, overlap, floor, gap):
    close = [i for i in range(len(column)) if i != best and column[best] - column[i] < gap]
    return -1 if column[best] < floor else -2 if close else best


def heat_no_floor(column, best, overlap, floor, gap):
    close = [i for i in range(len(column)) if column[best] - column[i] < gap and overlap[best, i] < 0.5]
    return -2 if close else best


def heat_no_rivals(column, best, overlap, floor, gap):
    return -1 if column[best] < floor else best


def heat_several_first(column, best, overlap, floor, gap):
    close = [i for i in range(len(column)) if column[best] - column[i] < gap and overlap[best, i] < 0.5]
    return -2 if close else -1 if column[best] < floor else best


def heat_share(column, best, overlap, floor, gap):
    close = [i for i in range(len(column)) if column[i] > (1 - gap) * column[best] and overlap[best, i] < 0.5]
    return -1 if column[best] < floor else -2 if close else best


def heat_rivals_above_floor(column, best, overlap, floor, gap):
    close = [i for i in range(len(column)) if column[i] >= floor and overlap[best, i] < 0.5]
    return -1 if column[best] < floor else -2 if close else best


def heat_touching(column, best, overlap, floor, gap):
    close = [i for i in range(len(column)) if column[best] - column[i] < gap and overlap[best, i] == 0]
    return -1 if column[best] < floor else -2 if close else best


def heat_overlap_turned(column, best, overlap, floor, gap):
    close = [i for i in range(len(column)) if i != best and column[best] - column[i] < gap and overlap[best, i] > 0.5]
    return -1 if column[best] < floor else -2 if close else best


def heat_rows(alignment, overlap, floor, gap):
    return heat_numpy_of(alignment.T, overlap, floor, gap)


def heat_numpy_of(alignment, overlap, floor, gap):
    best, where = alignment.max(dim=0)
    several = ((best - alignment < gap) & (overlap[:, where] < 0.5)).any(dim=0)
    return torch.where(best < floor, -1, torch.where(several, -2, where))


# --- pointing --------------------------------------------------------------------------------------------------------


def chance_of(alignments, right):
    real = alignments > -math.inf
    return 100 * ((right & real).sum(1) / real.sum(1)).double().mean()


def extremes(alignments, right, fill=-math.inf):
    real = alignments > -math.inf
    best = alignments.masked_fill(~(right & real), fill).amax(1)
    return best, alignments.masked_fill(~(~right & real), fill).amax(1)


def pointing_two_maxima(alignments, right):
    best, rival = extremes(alignments, right)
    return {"hits": 100 * (best > rival).double().mean(), "chance": chance_of(alignments, right)}


def pointing_in_loops(alignments, right):
    hits, chance = 0, 0.0
    for a, good in zip(alignments, right, strict=True):
        real = a > -math.inf
        hits += bool(good[a == a.max()].all())
        chance += float(good[real].double().mean())
    return {"hits": 100 * hits / len(right), "chance": 100 * chance / len(right)}


def pointing_numpy(alignments, right):
    a, good = alignments.numpy(), right.numpy()
    level, real = a == a.max(1, keepdims=True), np.isfinite(a)
    hits = 100 * np.mean(~(level & ~good).any(1))
    return {"chance": 100 * np.mean((good & real).sum(1) / real.sum(1)), "hits": hits}


def pointing_pessimist(alignments, right):
    """Take a little from the right ones: then argmax, too, decides levels against the model."""
    best = (alignments - 1e-4 * right).argmax(1)
    hits = 100 * float(right[torch.arange(len(right)), best].double().mean())
    return {"hits": hits, "chance": float(chance_of(alignments, right))}


def hits_of(function):
    """Another number of hits, beside the right chance: (alignments, right) -> truth values, or a number."""

    def answer(alignments, right):
        hits = function(alignments, right)
        hits = 100 * float(hits.double().mean()) if isinstance(hits, torch.Tensor) else hits
        return {"hits": hits, "chance": float(chance_of(alignments, right))}

    return answer


def with_chance(function):
    """Another chance, beside the right hits."""

    def answer(alignments, right):
        return {"hits": float(pointing_two_maxima(alignments, right)["hits"]), "chance": function(alignments, right)}

    return answer


def at_best(alignments, right, best):
    return right[torch.arange(len(right)), best]


def every_right_wins(alignments, right):
    good = right & (alignments > -math.inf)
    return alignments.masked_fill(~good, math.inf).amin(1) > extremes(alignments, right)[1]


def shares_that_win(alignments, right):
    good = right & (alignments > -math.inf)
    return (alignments > extremes(alignments, right)[1][:, None])[good]


def above_the_mean(alignments, right):
    hits = [
        bool((a[good & (a > -math.inf)] > a[a > -math.inf].mean()).any())
        for a, good in zip(alignments, right, strict=True)
    ]
    return torch.tensor(hits)


# --- block-sizes -----------------------------------------------------------------------------------------------------


def blocks_in_loops(images, captions, regions, words, budget):
    each, sizes = 8 * images * regions * words, []
    while captions > 0:
        size = max(1, min(captions, budget // each))
        sizes.append(size)
        captions -= size
    return sizes


def blocks_numpy(images, captions, regions, words, budget):
    size = max(1, budget // (8 * images * regions * words))
    edges = np.append(np.arange(0, captions, size), captions)
    return np.diff(edges)


def blocks_of(each, size=lambda budget, each: max(1, budget // each)):
    """Another price of a caption, or another size: cut as it should be."""

    def answer(images, captions, regions, words, budget):
        step = int(min(captions, size(budget, each(images, regions, words))))
        return [min(step, captions - start) for start in range(0, captions, step)]

    return answer


def price(images, regions, words):
    return 8 * images * regions * words


def blocks_cut(cut):
    """The right size, cut in another way: (captions, size) -> sizes."""

    def answer(images, captions, regions, words, budget):
        return cut(captions, min(captions, max(1, budget // price(images, regions, words))))

    return answer


# --- poolings --------------------------------------------------------------------------------------------------------


def mirror(alignments, region_mask, word_mask, mrsw):
    return mrsw(alignments.permute(1, 0, 3, 2), word_mask, region_mask).T


def pool(alignments, region_mask, word_mask, how, mrsw):
    words = mrsw(alignments, region_mask, word_mask)
    regions = mirror(alignments, region_mask, word_mask, mrsw)
    names = {"MrSw": words, "MrAVGw": words / word_mask.sum(1), "MwSr": regions, "Symm": words + regions}
    return names[how]


def pool_by_itself(alignments, region_mask, word_mask, how, mrsw):
    real = region_mask[:, None, :, None] & word_mask[None, :, None, :]
    filled = alignments.masked_fill(~real, -torch.inf)
    words = filled.amax(dim=2).masked_fill(~word_mask[None], 0).sum(dim=-1)
    regions = filled.amax(dim=3).masked_fill(~region_mask[:, None], 0).sum(dim=-1)
    if how == "MrSw":
        return words
    if how == "MrAVGw":
        return words / word_mask.sum(dim=1)
    return regions if how == "MwSr" else words + regions


def pool_with(fill):
    """With an mrsw of one's own that fills padding with another number."""

    def answer(alignments, region_mask, word_mask, how, mrsw):
        return pool(alignments, region_mask, word_mask, how, globals()["mrsw_with"](fill))

    return answer


def pool_but(name, wrong):
    """Right but for one way of pooling: there a function of the right ones and both masks."""

    def answer(alignments, region_mask, word_mask, how, mrsw):
        def right(how):
            return pool(alignments, region_mask, word_mask, how, mrsw)

        return wrong(right, region_mask, word_mask) if how == name else right(how)

    return answer


def pool_mirrored_by(mirror):
    """Another way to make MwSr, in Symm too."""

    def answer(alignments, region_mask, word_mask, how, mrsw):
        words = mrsw(alignments, region_mask, word_mask)
        if how == "MrSw":
            return words
        if how == "MrAVGw":
            return words / word_mask.sum(dim=1)
        regions = mirror(alignments, region_mask, word_mask, mrsw)
        return regions if how == "MwSr" else words + regions

    return answer


def pool_unmasked(alignments, region_mask, word_mask, how, mrsw):
    return pool(alignments, torch.ones_like(region_mask), torch.ones_like(word_mask), how, mrsw)


def pool_infinite(alignments, region_mask, word_mask, how, mrsw):
    real = region_mask[:, None, :, None] & word_mask[None, :, None, :]
    filled = alignments.masked_fill(~real, -math.inf)
    words, regions = filled.amax(2).sum(-1), filled.amax(3).sum(-1)
    return {"MrSw": words, "MrAVGw": words / word_mask.sum(1), "MwSr": regions, "Symm": words + regions}[how]


def pool_exchanged(alignments, region_mask, word_mask, how, mrsw):
    names = {"MrSw": "MwSr", "MwSr": "MrSw"}
    return pool(alignments, region_mask, word_mask, names.get(how, how), mrsw)


def pool_forgotten(alignments, region_mask, word_mask, how, mrsw):
    if how in ("MrSw", "MrAVGw", "MwSr"):
        return pool(alignments, region_mask, word_mask, how, mrsw)


def pool_maximum_unmasked(alignments, region_mask, word_mask, how, mrsw):
    words = (alignments.amax(2) * word_mask).sum(-1)
    regions = (alignments.amax(3) * region_mask[:, None]).sum(-1)
    return {"MrSw": words, "MrAVGw": words / word_mask.sum(1), "MwSr": regions, "Symm": words + regions}[how]


# --- met in answers that nobody had foreseen --------------------------------------------------------------------------


def alignments_first_few(regions, words):
    """Picture i only with caption i (n used twice)."""
    a, b = F.normalize(regions, dim=-1), F.normalize(words, dim=-1)
    k = min(len(a), len(b))
    own = torch.einsum("nrd,nwd->nrw", a[:k], b[:k])
    return own[:, None].expand(-1, len(words), -1, -1)


def alignments_by_longest(regions, words):
    """Normalised by the longest vector of each set."""
    a = regions / regions.norm(dim=-1).amax(dim=1)[:, None, None].clamp(min=1e-9)
    b = words / words.norm(dim=-1).amax(dim=1)[:, None, None].clamp(min=1e-9)
    return torch.einsum("nrd,mwd->nmrw", a, b)


def alignments_two_lengths(regions, words):
    """Two mistakes: divides by the square root of the length, words by sum of absolute values."""
    a = regions / regions.norm(dim=-1, keepdim=True).sqrt().clamp(min=1e-9)
    b = words / words.abs().sum(dim=-1, keepdim=True).clamp(min=1e-9)
    return torch.einsum("nrd,mwd->nmrw", a, b)


def alignments_scaled(regions, words):
    """Scaled dot product: divided by sqrt(D) instead of the lengths."""
    return torch.einsum("nrd,mwd->nmrw", regions, words) / math.sqrt(regions.shape[-1])


def alignments_eps_of_a_tenth(regions, words):
    """F.normalize with eps 0.1: short vectors score too low."""
    return torch.einsum("nrd,mwd->nmrw", F.normalize(regions, dim=-1, eps=0.1), F.normalize(words, dim=-1, eps=0.1))


def blocks_below_budget(images, captions, regions, words, budget):
    """Strictly less than the budget."""
    size = max(1, (budget - 1) // (8 * images * regions * words))
    full, left = divmod(captions, size)
    return [size] * full + [left] * (left > 0)


def blocks_nothing(images, captions, regions, words, budget):
    """Where not even one fits: an empty list."""
    size = budget // (8 * images * regions * words)
    if size == 0:
        return []
    full, left = divmod(captions, size)
    return [size] * full + [left] * (left > 0)


def mrsw_mirrored_masked(alignments, region_mask, word_mask):
    """MwSr: max over words, sum over regions."""
    best = alignments.masked_fill(~word_mask[None, :, None, :], -torch.inf).amax(dim=3)
    best = best.masked_fill(best == -torch.inf, 0)
    return best.masked_fill(~region_mask[:, None], 0).sum(-1)


def mrsw_sum_of_regions_max_of_words(alignments, region_mask, word_mask):
    """Max over the last axis (words), then sum over regions with the word mask forced: axes exchanged, sum over max."""
    best = alignments.masked_fill(~region_mask[:, None, :, None], 0).sum(dim=2)
    return best.masked_fill(~word_mask[None], -torch.inf).amax(-1).nan_to_num(neginf=0)


def mrsw_mean_and_first_mask(alignments, region_mask, word_mask):
    """Two mistakes: mean of the real regions instead of max, word mask of caption 0 for all."""
    m = region_mask[:, None, :, None]
    mean = alignments.masked_fill(~m, 0).sum(2) / m.sum(2)
    return mean.masked_fill(~word_mask[0], 0).sum(-1)


def mrsw_at_minus_10000(alignments, region_mask, word_mask):
    """Filled with -1e4."""
    best = alignments.masked_fill(~region_mask[:, None, :, None], -1e4).amax(dim=2)
    return best.masked_fill(~word_mask[None], 0).sum(-1)


def mrsw_masks_mixed(alignments, region_mask, word_mask):
    """Only pairs on the diagonal are right: region_mask of picture m for caption m (masks' axes mixed)."""
    best = (
        alignments.masked_fill(~region_mask[None, :, :, None], -torch.inf).amax(dim=2)
        if len(region_mask) == alignments.shape[1]
        else alignments.masked_fill(~region_mask[:, None, :, None], -torch.inf).amax(dim=2)
    )
    return best.masked_fill(~word_mask[None], 0).sum(-1)


def packed_mean_guarded(regions, region_counts, words, word_counts):
    """Mean of a caption's words."""
    best = torch.stack([s.amax(0) for s in (regions @ words.T).split(list(region_counts))])
    return torch.stack([s.sum(1) / max(1, s.shape[1]) for s in best.split(list(word_counts), dim=1)], 1)


def packed_equal_parts(regions, region_counts, words, word_counts):
    """Assumes equal counts: reshape."""
    n, m = len(region_counts), len(word_counts)
    r, w = len(regions) // n, len(words) // m
    dots = (regions[: n * r] @ words[: m * w].T).reshape(n, r, m, w)
    return dots.amax(1).sum(-1)


def packed_padded_with_0(regions, region_counts, words, word_counts):
    """Pads the pieces with 0 and takes the maximum over it."""
    from torch.nn.utils.rnn import pad_sequence

    v = pad_sequence(regions.split(list(region_counts)), batch_first=True)
    best = torch.einsum("nrd,td->nrt", v, words).amax(1)
    return torch.stack([s.sum(1) for s in best.split(list(word_counts), dim=1)], 1)


def packed_at_the_border(regions, region_counts, words, word_counts):
    """Captions without a word are given the last caption's score (index_add by searchsorted on ends, left)."""
    best = torch.stack([s.amax(0) for s in (regions @ words.T).split(list(region_counts))])
    ends = torch.tensor(np.cumsum(word_counts))
    of = torch.searchsorted(ends, torch.arange(len(words)))
    return torch.zeros(len(best), len(word_counts), dtype=best.dtype).index_add(1, of, best)


def pointing_by_column(alignments, right):
    """Hits by column: the best question of each region."""
    real = alignments > -torch.inf
    level = alignments == alignments.amax(0, keepdim=True)
    hits = ~(level & ~right).any(0)
    chance = (right & real).sum(1) / real.sum(1)
    return {"hits": 100 * hits.double().mean(), "chance": 100 * chance.double().mean()}


def pointing_without_unanswered(alignments, right):
    """Questions without a right region are left out of the mean."""
    real = alignments > -torch.inf
    ask = (right & real).any(1)
    level = alignments == alignments.amax(1, keepdim=True)
    hits = ~(level & ~right).any(1)
    chance = (right & real).sum(1) / real.sum(1)
    return {"hits": 100 * hits[ask].double().mean(), "chance": 100 * chance[ask].double().mean()}


def pointing_near_ties(alignments, right):
    """Near ties (0.01) are misses too."""
    real = alignments > -torch.inf
    level = alignments > alignments.amax(1, keepdim=True) - 0.01
    hits = ~(level & ~right).any(1)
    chance = (right & real).sum(1) / real.sum(1)
    return {"hits": 100 * hits.double().mean(), "chance": 100 * chance.double().mean()}


def pointing_level_share(alignments, right):
    """Hits weighted: share of right ones among the level regions (half a hit)."""
    real = alignments > -torch.inf
    level = alignments == alignments.amax(1, keepdim=True)
    hits = (level & right).sum(1) / level.sum(1)
    chance = (right & real).sum(1) / real.sum(1)
    return {"hits": 100 * hits.double().mean(), "chance": 100 * chance.double().mean()}


def pool_product_unmasked(alignments, region_mask, word_mask, how, mrsw):
    """Two mistakes: Symm multiplies, MwSr without masks (all true)."""
    by_word = mrsw(alignments, region_mask, word_mask)
    if how == "MrSw":
        return by_word
    if how == "MrAVGw":
        return by_word / word_mask.sum(1)
    by_region = mrsw(alignments.permute(1, 0, 3, 2), torch.ones_like(word_mask), torch.ones_like(region_mask)).T
    return by_region if how == "MwSr" else by_word * by_region


def pool_worst_words(alignments, region_mask, word_mask, how, mrsw):
    """MwSr: negated twice wrong: 'max over words' as mrsw of the negative."""
    by_word = mrsw(alignments, region_mask, word_mask)
    if how == "MrSw":
        return by_word
    if how == "MrAVGw":
        return by_word / word_mask.sum(1)
    by_region = -mrsw(-alignments.permute(1, 0, 3, 2), word_mask, region_mask).T
    return by_region if how == "MwSr" else by_word + by_region


def heat_dark_at_floor(alignment, overlap, floor, gap):
    """<= floor."""
    best, where = alignment.max(0)
    rivals = (best - alignment < gap) & (overlap[:, where] < 0.5)
    return torch.where(best <= floor, -1, torch.where(rivals.any(0), -2, where))


def heat_at_gap(alignment, overlap, floor, gap):
    """<= gap."""
    best, where = alignment.max(0)
    rivals = (best - alignment <= gap) & (overlap[:, where] < 0.5)
    return torch.where(best < floor, -1, torch.where(rivals.any(0), -2, where))


def heat_both_borders(alignment, overlap, floor, gap):
    """Two mistakes: <= gap and overlap threshold compares <= 0.5."""
    best, where = alignment.max(0)
    rivals = (best - alignment <= gap) & (overlap[:, where] <= 0.5)
    return torch.where(best < floor, -1, torch.where(rivals.any(0), -2, where))


def heat_at_half(alignment, overlap, floor, gap):
    """Overlap <= 0.5 (a rival at exactly 0.5)."""
    best, where = alignment.max(0)
    rivals = (best - alignment < gap) & (overlap[:, where] <= 0.5)
    return torch.where(best < floor, -1, torch.where(rivals.any(0), -2, where))


def heat_rivals_of_each_other(alignment, overlap, floor, gap):
    """Rivals among each other: any two regions within the gap of the best that overlap little (not with the best)."""
    out = []
    for t in range(alignment.shape[1]):
        col = alignment[:, t]
        k = int(col.argmax())
        near = [r for r in range(len(col)) if col[k] - col[r] < gap]
        if col[k] < floor:
            out.append(-1)
        elif any(overlap[a, b] < 0.5 for a in near for b in near):
            out.append(-2)
        else:
            out.append(k)
    return torch.tensor(out)


def heat_all_elsewhere(alignment, overlap, floor, gap):
    """All rivals must stand apart (all instead of any)."""
    out = []
    for t in range(alignment.shape[1]):
        col = alignment[:, t]
        k = int(col.argmax())
        near = [r for r in range(len(col)) if r != k and col[k] - col[r] < gap]
        if col[k] < floor:
            out.append(-1)
        elif near and all(overlap[k, r] < 0.5 for r in near):
            out.append(-2)
        else:
            out.append(k)
    return torch.tensor(out)


ALSO_RIGHT = [  # (slug, answer)
    ("alignments", alignments_einsum),
    ("alignments", alignments_right),
    ("alignments", alignments_matmul),
    ("alignments", alignments_cosine_similarity),
    ("alignments", alignments_flat),
    ("alignments", alignments_in_float32),
    ("alignments", alignments_wheres),
    *(("mrsw", mrsw_with(fill)) for fill in (-math.inf, -1e30, -1e9, -1e5)),
    ("mrsw", mrsw_multiplied),
    ("mrsw", mrsw_subtracted),
    ("mrsw", mrsw_in_loops),
    ("mrsw", mrsw_both_filled),
    ("packed-mrsw", packed_scattered),
    ("packed-mrsw", packed_cumulative),
    ("packed-mrsw", packed_by_padding),
    ("packed-mrsw", packed_in_loops),
    ("packed-mrsw", packed_owner_matrix),
    ("read-heat-map", heat_in_loops),
    ("read-heat-map", heat_numpy),
    ("read-heat-map", heat_numpy_of),
    ("pointing", pointing_two_maxima),
    ("pointing", pointing_in_loops),
    ("pointing", pointing_numpy),
    ("pointing", pointing_pessimist),
    ("block-sizes", blocks_in_loops),
    ("block-sizes", blocks_numpy),
    ("block-sizes", blocks_of(price)),
    ("poolings", pool),
    ("poolings", pool_by_itself),
    *(("poolings", pool_with(fill)) for fill in (-math.inf, -1e9)),
]


def alignments_over_product(guarded):
    """Dot products over the product of both lengths, which something is done to."""

    def cosines(regions, words):
        lengths = [x.square().sum(-1).clamp(min=1e-24).sqrt() for x in (regions, words)]
        product = guarded(torch.einsum("nr,mw->nmrw", *lengths))
        return torch.einsum("nrd,mwd->nmrw", regions, words) / product

    return cosines


def packed_words_read_on(regions, region_counts, words, word_counts):
    """The place in the regions is not set back before it counts through the words."""
    dots, best, at = regions @ words.T, [], 0
    for count in region_counts:
        best.append(dots[at : at + count].amax(0))
        at += count
    best, columns = torch.stack(best), []
    for count in word_counts:
        columns.append(best[:, at : at + count].sum(1))
        at += count
    return torch.stack(columns, dim=1)


def packed_pictures_read_on(regions, region_counts, words, word_counts):
    """The place in the words is not set back for the next picture."""
    rows, t = [], 0
    for some in regions.split(list(region_counts)):
        best, row = (some @ words.T).amax(0), []
        for count in word_counts:
            row.append(best[t : t + count].sum())
            t += count
        rows.append(torch.stack(row))
    return torch.stack(rows)


def packed_stepping(step):
    """The start moves on by something else than the count."""

    def places(counts):
        starts = [sum(map(step, counts[:i])) for i in range(len(counts))]
        return [(start, start + count) for start, count in zip(starts, counts, strict=True)]

    return packed_sums(places, right_places)


def heat_values(alignment, overlap, floor, gap):
    read = heat_numpy_of(alignment=alignment, overlap=overlap, floor=floor, gap=gap)
    return torch.where(read < 0, read, alignment.amax(dim=0))


def blocks_without_minimum(cut):
    """One that does not cut a block to the captions there are."""
    return lambda images, captions, regions, words, budget: cut(
        captions, max(1, budget // (8 * images * regions * words))
    )


def pool_named(names):
    """The names stand for others."""
    return lambda how, **rest: pool(how=names[("MrSw", "MrAVGw", "MwSr", "Symm").index(how)], **rest)


WRONG = {  # slug -> [(answer, what it must be told)]
    "alignments": [
        (alignments_eps_of_a_tenth, "shorter than 0.1"),
        (alignments_scaled, "over the root of D"),
        (alignments_two_lengths, "two things"),
        (alignments_by_longest, "longest vector of the set"),
        (alignments_first_few, "as far as there are as many"),
        (lambda regions, words: torch.einsum("nrd,mwd->nmrw", regions, words), "plain dot product"),
        (lambda regions, words: F.normalize(regions, dim=-1)[:, None] @ words.mT, "only the regions have length 1"),
        (lambda regions, words: regions[:, None] @ F.normalize(words, dim=-1).mT, "only the words have length 1"),
        (alignments_default_normalize, "over the set (dim=1"),
        (lambda regions, words: alignments_einsum(words, regions), "the axes are captions, pictures"),
        (lambda regions, words: alignments_einsum(words, regions).mT, "pictures and captions are exchanged"),
        (lambda regions, words: alignments_einsum(regions, words).mT, "regions and words are exchanged"),
        (lambda regions, words: alignments_einsum(regions, words).transpose(1, 2), "(N, R, M, W)"),
        (alignments_view, "no reshape or view over swapped axes"),
        (alignments_nan, "divide by it"),
        (alignments_pairs, "picture n meets caption n alone"),
        (alignments_over_product(lambda product: product + 0.01), "0.01 is added to the product"),
        (alignments_over_product(lambda product: product.clamp(min=0.1)), "below 0.1 is raised to it"),
        (
            lambda regions, words: (F.normalize(regions, dim=-1) @ F.normalize(words, dim=-1).mT)[:, None],
            "in an axis of its own",
        ),
        (alignments_no_sum, "has shape (1, 1, 2, 3, 2), expected (1, 1, 2, 3)"),
        (alignments_mean, "mean over the D products"),
        (lambda regions, words: alignments_einsum(regions, words).clamp(min=0), "negative cosines became 0"),
        (lambda regions, words: alignments_einsum(regions, words).abs(), "lost their sign"),
        (lambda regions, words: 1 - alignments_einsum(regions, words), "a distance"),
        (alignments_detached, "its gradient by regions is not"),
        (alignments_patched, "its gradient by regions is NaN"),
        (alignments_in_place, "changes its input regions in place"),
        (
            lambda regions, words: torch.einsum(
                "nrd,mwd->nmrw", *(x / x.norm(dim=-1, keepdim=True).clamp(min=1) for x in (regions, words))
            ),
            "shorter than 1",
        ),
        (
            lambda regions, words: F.normalize(regions, dim=1)[:, None] @ words.mT,
            "two things: only the regions have length 1 here",
        ),
    ],
    "mrsw": [
        (mrsw_masks_mixed, "wherever it fits there"),
        (mrsw_at_minus_10000, "became -10000"),
        (mrsw_mean_and_first_mask, "two things"),
        (mrsw_sum_of_regions_max_of_words, "two things"),
        (mrsw_mirrored_masked, "this is MwSr"),
        (mrsw_released, "released code"),
        (mrsw_with(0), "released code"),
        (mrsw_with(-2.0), "a padded region became -2"),
        (mrsw_with(-100), "a padded region became -100"),
        (mrsw_with(1), "a padded region became 1"),
        (lambda alignments, **masks: mrsw(alignments.relu(), **masks), "a word that fits nowhere counts 0"),
        (mrsw_largest_begins_at_zero, "a word that fits nowhere counts 0"),
        (mrsw_unmasked, "no mask is used"),
        (mrsw_words_only, "padded regions take part"),
        (mrsw_regions_only, "padded words are added up"),
        (mrsw_infinite, "left at -inf"),
        (mrsw_nan, "which is NaN"),
        (mrsw_padded_with_one, "a padded word counts 1"),
        (mrsw_mean, "mean over the real words"),
        (mrsw_padded_mean, "mean over words and padding"),
        (mrsw_mirrored, "this is MwSr, the best word"),
        (mrsw_mirrored_unmasked, "MwSr with padding left in"),
        (mrsw_wrong_axis, "on the axis of the words"),
        (mrsw_over_captions, "on the axis of the captions"),
        (mrsw_words_over_images, "on the axis of the pictures"),
        (mrsw_turned, "region_mask is turned round"),
        (lambda word_mask, **rest: mrsw(word_mask=~word_mask, **rest), "word_mask is turned round"),
        (
            lambda alignments, region_mask, word_mask: mrsw(alignments, ~region_mask, ~word_mask),
            "two things: region_mask is turned round",
        ),
        (mrsw_sliced, "stand at the end"),
        (mrsw_sum_first, "you added first"),
        (mrsw_first_image_only, "only the first row is right"),
        (mrsw_last_word, "this is the last word alone"),
        (lambda **inputs: mrsw(**inputs).T, "pictures and captions are exchanged"),
        (lambda **inputs: -mrsw(**inputs), "negative of what is expected"),
        (mrsw_with_numbers, "no gradient by alignments"),
        (mrsw_in_place, "changes its input alignments in place"),
        (mrsw_of_no_words, "a caption without a real word gives NaN"),
    ],
    "packed-mrsw": [
        (packed_at_the_border, "goes to the one before it"),
        (packed_padded_with_0, "padding of smaller pictures is 0"),
        (packed_equal_parts, "cut into equal parts"),
        (packed_mean_guarded, "this is the mean over words"),
        (packed_mean, "mean over words"),
        (packed_sums(right_places, lambda counts: [(0, stop) for _, stop in right_places(counts)]), "before it, too"),
        (packed_sums(lambda counts: [(0, stop) for _, stop in right_places(counts)], right_places), "all pictures"),
        (packed_sums(right_places, lambda counts: [(0, count) for count in counts]), "every caption begins at word 0"),
        (packed_sums(lambda counts: [(0, n) for n in counts], right_places), "every picture begins at region 0"),
        (packed_chunks, "into equal parts"),
        (
            packed_sums(right_places, lambda counts: [(a, b - 1) for a, b in right_places(counts)]),
            "the last word of each caption is missing",
        ),
        (
            packed_sums(right_places, lambda counts: [(a + 1, b + 1) for a, b in right_places(counts)]),
            "begins and ends one word too late",
        ),
        (
            packed_sums(lambda counts: [(a, b + 1) for a, b in right_places(counts)], right_places),
            "takes the first region of the next one",
        ),
        (
            packed_sums(lambda counts: [(0, sum(counts)) for _ in counts], right_places),
            "the regions are not cut at all",
        ),
        (packed_zeros_first, "the maximum begins at 0"),
        (packed_hundred, "the maximum begins at -100"),
        (
            lambda regions, words, **counts: packed_scattered(
                F.normalize(regions, dim=-1), words=F.normalize(words, dim=-1), **counts
            ),
            "these are cosines",
        ),
        (packed_mirrored, "this is MwSr"),
        (lambda **inputs: packed_cumulative(**inputs).T, "pictures and captions are exchanged"),
        (lambda **inputs: packed_cumulative(**inputs)[:, :-1], "has shape (2, 1), expected (2, 2)"),
        (lambda words, **rest: packed_cumulative(words=words.detach(), **rest), "its gradient by words is not"),
        (lambda **inputs: packed_in_loops(**inputs, step=1), "a word is skipped between two captions"),
        (lambda **inputs: packed_in_loops(**inputs, start_word=1), "begins and ends one word too late"),
        (packed_without_empty, "without a word is left out"),
        (packed_words_read_on, "where the regions ended"),
        (packed_pictures_read_on, "where the one before ended"),
        (packed_stepping(lambda count: count - 1), "at the last region of the one before it"),
        (packed_stepping(lambda count: 1), "moves on by one region"),
        (packed_reduceat, "not where a caption has no word"),
        (lambda **inputs: packed_cumulative(**inputs).sum(), "has shape (), expected (2, 2)"),
    ],
    "read-heat-map": [
        (heat_all_elsewhere, "any, not all"),
        (heat_rivals_of_each_other, "compared with each other"),
        (heat_at_half, "just 0.5"),
        (heat_both_borders, "two things"),
        (heat_at_gap, "just gap below"),
        (heat_dark_at_floor, "equal to the floor"),
        (heat_with(heat_runner_up), "you look at the runner-up alone"),
        (heat_with(heat_any_rival), "overlap is not used"),
        (heat_with(heat_no_floor), "points nowhere: -1"),
        (heat_with(heat_no_rivals), "is not looked for"),
        (heat_with(heat_several_first), "you ask for a second place first"),
        (heat_with(heat_share), "a share of the best alignment"),
        (heat_with(heat_rivals_above_floor), "only those within gap"),
        (heat_with(heat_touching), "merely touch"),
        (heat_with(heat_overlap_turned), "overlap is turned round"),
        (heat_rows, "you read the rows"),
        (lambda alignment, **rest: heat_numpy_of(alignment.abs(), **rest), "no abs"),
        (lambda floor, **rest: heat_numpy_of(floor=0.5, **rest), "not 0.5"),
        (lambda **inputs: heat_numpy_of(**inputs).double(), "cannot serve as an index"),
        (lambda **inputs: torch.where(heat_numpy_of(**inputs) == -1, 0, heat_numpy_of(**inputs)), "0 stands for"),
        (lambda **inputs: heat_numpy_of(**inputs).clamp(max=0), "word 1 points to region 2"),
        (lambda **inputs: -3 - heat_numpy_of(**inputs).clamp(max=-1), "word 0 points to region 0"),
        (lambda **inputs: heat_in_loops(**inputs)[:1], "holds the first only"),
        (lambda **inputs: heat_in_loops(**inputs)[1:], "the first is missing"),
        (lambda **inputs: [*heat_in_loops(**inputs), 0], "one too many at its end"),
        (heat_values, "the best alignments are given back"),
    ],
    "pointing": [
        (pointing_level_share, "the share that is right"),
        (pointing_near_ties, "chance is right, hits is not"),
        (pointing_without_unanswered, "left out: they count"),
        (pointing_by_column, "for each region"),
        (hits_of(lambda a, right: at_best(a, right, a.argmax(1))), "argmax takes the first"),
        (hits_of(lambda a, right: at_best(a, right, a.argmin(1))), "padding's minus infinity"),
        (hits_of(lambda a, right: torch.ge(*extremes(a, right))), "use >, not >="),
        (hits_of(lambda a, right: torch.gt(*extremes(a, right, 0.0))), "what is left out became 0"),
        (hits_of(lambda a, right: float(torch.gt(*extremes(a, right)).double().mean())), "hits is a fraction"),
        (hits_of(lambda a, right: int(torch.gt(*extremes(a, right)).sum())), "hits counts the questions"),
        (hits_of(lambda a, right: torch.le(*extremes(a, right))), "hits counts the misses"),
        (hits_of(every_right_wins), "every right region to beat"),
        (hits_of(shares_that_win), "share of right regions that beat"),
        (hits_of(above_the_mean), "above the mean"),
        (hits_of(lambda a, right: ~((a == a.amax(0)) & ~right).any(1)), "own best region, dim=1"),
        (
            hits_of(lambda a, right: ((a == a.amax(1, keepdim=True)) == (right & (a > -math.inf))).all(1)),
            "to be level with the best",
        ),
        (hits_of(lambda a, right: right[a.argmax(0), torch.arange(right.shape[1])]), "over the questions"),
        (with_chance(lambda a, right: float(chance_of(a, right)) / 100), "chance is a fraction"),
        (with_chance(lambda a, right: 100 * float(right.double().mean())), "chance counts padding"),
        (with_chance(lambda a, right: 100.0 / right.shape[1]), "chance is 1 over the width"),
        (
            with_chance(lambda a, right: 100 * float((1 / (a > -math.inf).sum(1)).mean())),
            "chance is 1 over the number of regions",
        ),
        (
            with_chance(lambda a, right: 100 * float((right & (a > -math.inf)).sum() / (a > -math.inf).sum())),
            "a ratio of sums",
        ),
        (with_chance(lambda a, right: 42.0), "hits is right, chance is not"),
        (hits_of(lambda a, right: 42.0), "chance is right, hits is not"),
        (lambda alignments, right: {"hits": 1.0, "chance": 2.0}, "neither hits nor chance"),
        (lambda alignments, right: 50.0, 'returned a float, expected {"hits"'),
        (lambda alignments, right: {"hit": 1.0}, "the names in your result are hit"),
        (
            lambda alignments, right: {
                "hits": at_best(alignments, right, alignments.argmax(1)).double().mean(),
                "chance": chance_of(alignments, right),
            },
            "two things: hits is a fraction",
        ),
        (lambda alignments, right: {"hits": [1.0, 2.0], "chance": 3.0}, "hits is no number"),
    ],
    "block-sizes": [
        (blocks_nothing, "the list is empty"),
        (blocks_below_budget, "fits to the byte"),
        (blocks_of(lambda n, r, w: 4 * n * r * w), "half of the memory is counted"),
        (blocks_of(lambda n, r, w: 2 * n * r * w), "not bytes"),
        (blocks_of(lambda n, r, w: n * r * w), "two things"),
        (blocks_of(lambda n, r, w: 16 * n * r * w), "takes 8 bytes here"),
        (blocks_of(lambda n, r, w: 8 * r * w), "the pictures are not counted"),
        (blocks_of(lambda n, r, w: 8 * n * w), "the regions are not counted"),
        (blocks_of(lambda n, r, w: 8 * n * r), "the words are not counted"),
        (blocks_of(price, lambda budget, each: -(-budget // each)), "rounded up"),
        (blocks_of(price, lambda budget, each: budget // each + 1), "one caption too many"),
        (blocks_of(price, lambda budget, each: max(1, budget // each - 1)), "one caption too few"),
        (
            lambda images, captions, regions, words, budget: [
                min(budget // price(images, regions, words), captions - start)
                for start in range(0, captions, budget // price(images, regions, words))
            ],
            "too small for a single caption",
        ),
        (blocks_cut(lambda captions, size: [size] * (captions // size)), "dropped"),
        (blocks_cut(lambda captions, size: [size] * -(-captions // size)), "as large as the others"),
        (blocks_cut(lambda captions, size: [size] * (captions // size) + [captions % size]), "a last block of 0"),
        (blocks_without_minimum(lambda n, size: [size] * (n // size)), "only full blocks are told"),
        (blocks_without_minimum(lambda n, size: [size] * -(-n // size)), "min(size, those left)"),
        (blocks_without_minimum(lambda n, size: [size] * (n // size) + [n % size]), "even where nothing is left"),
        (blocks_cut(lambda captions, size: -(-captions // size)), "the number of blocks"),
        (blocks_cut(lambda captions, size: size), "the size of one block"),
        (blocks_cut(lambda captions, size: list(range(0, captions, size))), "where blocks begin"),
        (
            blocks_cut(lambda captions, size: [len(p) for p in np.array_split(range(captions), -(-captions // size))]),
            "spread evenly",
        ),
        (lambda **inputs: [float(size) for size in blocks_in_loops(**inputs)], "cannot serve as an index"),
    ],
    "poolings": [
        (pool_worst_words, "each region's worst word"),
        (pool_product_unmasked, "two things"),
        (pool_with(0), "became 0 before the maximum"),
        (pool_unmasked, "no mask is used"),
        (pool_maximum_unmasked, "padding takes part in the maximum"),
        (pool_infinite, "minus infinity is left where padding stands"),
        (pool_exchanged, "MrSw and MwSr are exchanged"),
        (pool_but("MrAVGw", lambda right, regions, words: right("MrSw") / words.shape[1]), "the padded width"),
        (pool_but("MrAVGw", lambda right, regions, words: right("MrSw")), "MrAVGw is not divided"),
        (pool_but("MrAVGw", lambda right, regions, words: right("MrSw") / regions.sum(1)[:, None]), "w stands for"),
        (pool_but("MrAVGw", lambda right, regions, words: right("MrSw") / words.sum()), "captions together"),
        (pool_but("MrAVGw", lambda right, regions, words: right("MrSw") / words.sum(1)[:, None]), "no [:, None]"),
        (
            pool_but("MwSr", lambda right, regions, words: right("MwSr") / regions.sum(1)[:, None]),
            "it is a sum (Symm has it right)",
        ),
        (pool_but("MwSr", lambda right, regions, words: right("MrSw")), "adds over regions (Symm has it right)"),
        (pool_named(("Symm",) * 4), "every name gives Symm"),
        (pool_named(("MrSw", "MwSr", "MrAVGw", "Symm")), "MrAVGw and MwSr are exchanged"),
        (pool_mirrored_by(lambda a, r, w, mrsw: mrsw(a, r, w)), "MwSr gives the same as MrSw"),
        (pool_mirrored_by(lambda a, r, w, mrsw: mrsw(a.permute(1, 0, 3, 2), w, r)), "comes as (captions, pictures)"),
        (pool_mirrored_by(lambda a, r, w, mrsw: mrsw(a.mT, w, r)), "regions and words alone"),
        (pool_mirrored_by(lambda a, r, w, mrsw: mrsw(a, w, r).T), "but not the alignments"),
        (pool_mirrored_by(lambda a, r, w, mrsw: mrsw(a.permute(1, 0, 3, 2), r, w).T), "the masks are to be exchanged"),
        (pool_but("Symm", lambda right, regions, words: (right("MrSw") + right("MwSr")) / 2), "Symm is the mean"),
        (pool_but("Symm", lambda right, regions, words: right("MrSw")), "Symm is MrSw alone"),
        (pool_but("Symm", lambda right, regions, words: right("MwSr")), "Symm is MwSr alone"),
        (pool_but("Symm", lambda right, regions, words: right("MrAVGw") + right("MwSr")), "Symm adds MrAVGw"),
        (pool_forgotten, "returned None"),
        (
            lambda alignments, **rest: pool(alignments.detach(), **rest),
            "no gradient by alignments",
        ),
    ],
}
