"""Answers to the exercises of lesson 02: right ones, other ways to be right, and wrong ones with what each is told."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F

from itr_lib.data.questions import Questions
from itr_lib.encoders import regions as library
from itr_lib.evaluation.pointing import pointing_accuracy
from itr_lib.similarity import TERAN_POOLING, alignment_scores, l2_normalise

# --- box-geometry ----------------------------------------------------------------------------------------------------


def box_right(boxes, width, height):
    return library.box_geometry(boxes / boxes.new_tensor([width, height, width, height]))


def box_in_loops(boxes, width, height):
    result = torch.zeros(len(boxes), 5)
    for i, (x1, y1, x2, y2) in enumerate(boxes):
        result[i, :4] = torch.stack([x1 / width, y1 / height, x2 / width, y2 / height])
        result[i, 4] = (x2 - x1) * (y2 - y1) / (width * height)
    return result


def box_concatenated(boxes, width, height):
    corners = boxes / torch.tensor([width, height] * 2)
    sides = corners[:, 2:] - corners[:, :2]
    return torch.cat([corners, sides.prod(dim=1, keepdim=True)], dim=1)


def box_area_in_pixels(boxes, width, height):
    corners = boxes / torch.tensor([width, height, width, height])
    return torch.cat([corners, ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))[:, None]], dim=1)


def box_corners_in_pixels(boxes, width, height):
    return torch.cat([boxes, box_right(boxes, width, height)[:, 4:]], dim=1)


def box_in_pixels(boxes, width, height):
    return library.box_geometry(boxes)


def box_swapped(boxes, width, height):
    return box_right(boxes, height, width)


def box_centre(boxes, width, height):
    x1, y1, x2, y2, area = box_right(boxes, width, height).T
    return torch.stack([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1, area], 1)


def box_coco(boxes, width, height):
    result = box_right(boxes, width, height)
    result[:, 2:4] = result[:, 2:4] - result[:, :2]
    return result


def box_longer_side(boxes, width, height):
    return library.box_geometry(boxes / max(width, height))


def box_aspect(boxes, width, height):
    x1, y1, x2, y2 = (boxes / torch.tensor([width, height, width, height])).T
    return torch.stack([x1, y1, x2, y2, (x2 - x1) / (y2 - y1)], 1)


def box_inclusive(boxes, width, height):
    x1, y1, x2, y2 = boxes.unbind(1)
    area = (x2 - x1 + 1) * (y2 - y1 + 1) / (width * height)
    return torch.stack([x1 / width, y1 / height, x2 / width, y2 / height, area], 1)


def box_twice(boxes, width, height):
    result = box_right(boxes, width, height)
    return torch.cat([result[:, :4], result[:, 4:] / (width * height)], 1)


def box_six(boxes, width, height):
    x1, y1, x2, y2 = (boxes / torch.tensor([width, height, width, height])).T
    return torch.stack([x1, y1, x2, y2, x2 - x1, y2 - y1], 1)


def box_in_place(boxes, width, height):
    boxes[:, 0::2] /= width
    boxes[:, 1::2] /= height
    return library.box_geometry(boxes)


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


# --- mrsw and poolings -----------------------------------------------------------------------------------------------


def pool_right(alignments, region_mask, word_mask, how):
    """The library's scores take vectors: the rows of a pair's matrix, against the unit vectors, give that matrix."""
    unit = torch.eye(alignments.shape[3], dtype=alignments.dtype)[None]
    rows = []
    for matrices, regions in zip(alignments, region_mask, strict=True):
        pairs = [
            alignment_scores(a[None], unit, regions[None], words[None], **TERAN_POOLING[how])
            for a, words in zip(matrices, word_mask, strict=True)
        ]
        rows.append(torch.cat(pairs, dim=1))
    return torch.cat(rows)


def mrsw_right(alignments, region_mask, word_mask):
    return pool_right(alignments, region_mask, word_mask, "MrSw")


def mrsw(alignments, region_mask, word_mask, fill=-math.inf):
    best = alignments.masked_fill(~region_mask[:, None, :, None], fill).max(dim=2).values
    return best.masked_fill(~word_mask[None], 0).sum(dim=-1)


def mrsw_with(fill):
    return lambda alignments, region_mask, word_mask: mrsw(alignments, region_mask, word_mask, fill)


def mrsw_multiplied(alignments, region_mask, word_mask):
    best = torch.where(region_mask[:, None, :, None], alignments, -1e4).amax(2)
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


def pool(alignments, region_mask, word_mask, how, fill=-math.inf):
    words = mrsw(alignments, region_mask, word_mask, fill)
    regions = mrsw(alignments.permute(1, 0, 3, 2), word_mask, region_mask, fill).T
    names = {"MrSw": words, "MrAVGw": words / word_mask.sum(1), "MwSr": regions, "Symm": words + regions}
    return names[how]


def pool_with(fill):
    return lambda alignments, region_mask, word_mask, how: pool(alignments, region_mask, word_mask, how, fill)


def pool_full_mask(alignments, region_mask, word_mask, how):
    real = region_mask[:, None, :, None] & word_mask[None, :, None, :]
    filled = alignments.masked_fill(~real, -torch.inf)
    words = filled.amax(dim=2).masked_fill(~word_mask[None], 0).sum(dim=-1)
    regions = filled.amax(dim=3).masked_fill(~region_mask[:, None], 0).sum(dim=-1)
    if how == "MrSw":
        return words
    if how == "MrAVGw":
        return words / word_mask.sum(dim=1)
    return regions if how == "MwSr" else words + regions


def pool_but(name, wrong):
    """Right but for one way of pooling: there a function of the right ones and both masks."""

    def answer(alignments, region_mask, word_mask, how):
        def right(how):
            return pool(alignments, region_mask, word_mask, how)

        return wrong(right, region_mask, word_mask) if how == name else right(how)

    return answer


def pool_unmasked(alignments, region_mask, word_mask, how):
    return pool(alignments, torch.ones_like(region_mask), torch.ones_like(word_mask), how)


def pool_mirror_zero_filled(alignments, region_mask, word_mask, how):
    """The mask is right for MrSw, and forgotten to be -inf for the mirror."""
    if how in ("MrSw", "MrAVGw"):
        return pool(alignments, region_mask, word_mask, how)
    return pool(alignments, region_mask, word_mask, how, fill=0)


def pool_infinite(alignments, region_mask, word_mask, how):
    real = region_mask[:, None, :, None] & word_mask[None, :, None, :]
    filled = alignments.masked_fill(~real, -math.inf)
    words, regions = filled.amax(2).sum(-1), filled.amax(3).sum(-1)
    return {"MrSw": words, "MrAVGw": words / word_mask.sum(1), "MwSr": regions, "Symm": words + regions}[how]


def pool_exchanged(alignments, region_mask, word_mask, how):
    return pool(alignments, region_mask, word_mask, {"MrSw": "MwSr", "MwSr": "MrSw"}.get(how, how))


def pool_forgotten(alignments, region_mask, word_mask, how):
    if how in ("MrSw", "MrAVGw", "MwSr"):
        return pool(alignments, region_mask, word_mask, how)


def pool_maximum_unmasked(alignments, region_mask, word_mask, how):
    words = (alignments.amax(2) * word_mask).sum(-1)
    regions = (alignments.amax(3) * region_mask[:, None]).sum(-1)
    return {"MrSw": words, "MrAVGw": words / word_mask.sum(1), "MwSr": regions, "Symm": words + regions}[how]


# --- packed-mrsw -----------------------------------------------------------------------------------------------------


def packed_right(regions, words, lengths):
    padded = torch.nn.utils.rnn.pad_sequence(words.split(lengths), batch_first=True)
    return alignment_scores(regions, padded, None, torch.arange(max(lengths)) < torch.tensor(lengths)[:, None])


def packed_best(regions, words):
    n, r, d = regions.shape
    return (regions.reshape(-1, d) @ words.T).reshape(n, r, -1).amax(dim=1)


def packed_split(regions, words, lengths):
    parts = packed_best(regions, words).split(lengths, dim=1)
    return torch.stack([part.sum(dim=1) for part in parts], dim=1)


def packed_index_add(regions, words, lengths):
    owner = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    zeros = torch.zeros(len(regions), len(lengths), dtype=words.dtype)
    return zeros.index_add(1, owner, packed_best(regions, words))


def packed_cumulative(regions, words, lengths):
    sums = F.pad(packed_best(regions, words).cumsum(dim=1), (1, 0))
    ends = torch.tensor([0, *lengths]).cumsum(0)
    return sums[:, ends].diff(dim=1)


def packed_padded(regions, words, lengths):
    """Padding with zeros is harmless here: all its dot products are 0, and so is their maximum."""
    padded = torch.nn.utils.rnn.pad_sequence(words.split(lengths), batch_first=True)
    return torch.einsum("nrd,mwd->nmrw", regions, padded).amax(2).sum(-1)


def packed_in_loops(regions, words, lengths):
    scores = torch.zeros(len(regions), len(lengths))
    for n, image in enumerate(regions):
        start = 0
        for m, length in enumerate(lengths):
            scores[n, m] = (image @ words[start : start + length].T).max(dim=0).values.sum()
            start += length
    return scores


def packed_owner_matrix(regions, words, lengths):
    owner = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    return packed_best(regions, words) @ F.one_hot(owner, len(lengths)).to(words.dtype)


def packed_mean(regions, words, lengths):
    parts = packed_best(regions, words).split(lengths, dim=1)
    return torch.stack([part.mean(dim=1) for part in parts], dim=1)


def _summed(best, starts, stops):
    return torch.stack([best[:, a:b].sum(dim=1) for a, b in zip(starts, stops, strict=True)], dim=1)


def packed_running_sum(regions, words, lengths):
    return packed_best(regions, words).cumsum(1)[:, np.cumsum(lengths) - 1]


def packed_at_lengths(regions, words, lengths):
    starts = [0, *lengths[:-1]]
    return _summed(packed_best(regions, words), starts, [a + n for a, n in zip(starts, lengths, strict=True)])


def packed_from_zero(regions, words, lengths):
    return _summed(packed_best(regions, words), [0] * len(lengths), lengths)


def packed_chunks(regions, words, lengths):
    parts = packed_best(regions, words).chunk(len(lengths), dim=1)
    return torch.stack([part.sum(dim=1) for part in parts], dim=1)


def packed_dealt(regions, words, lengths):
    owner = torch.arange(len(words)) % len(lengths)
    return packed_best(regions, words) @ F.one_hot(owner, len(lengths)).to(words.dtype)


def packed_short(regions, words, lengths):
    stops = np.cumsum(lengths)
    return _summed(packed_best(regions, words), stops - lengths, stops - 1)


def packed_late(regions, words, lengths):
    stops = np.cumsum(lengths)
    return _summed(packed_best(regions, words), stops - lengths + 1, stops + 1)


def packed_cosine(regions, words, lengths):
    return packed_split(F.normalize(regions, dim=-1), F.normalize(words, dim=-1), lengths)


def packed_mirrored(regions, words, lengths):
    return torch.stack([(regions @ some.T).amax(2).sum(1) for some in words.split(lengths)], dim=1)


def packed_max_of_sums(regions, words, lengths):
    return torch.stack([(regions @ some.T).sum(2).amax(1) for some in words.split(lengths)], dim=1)


def packed_sum_of_all(regions, words, lengths):
    return torch.stack([(regions @ some.T).sum((1, 2)) for some in words.split(lengths)], dim=1)


def packed_over_images(regions, words, lengths):
    best = torch.einsum("nrd,td->nrt", regions, words).amax(0)
    return torch.stack([part.sum(1) for part in best.split(lengths, 1)], 1)


def packed_transposed(regions, words, lengths):
    return packed_split(regions, words, lengths).T


def packed_rows_mixed(regions, words, lengths):
    n, r, d = regions.shape
    best = (regions.reshape(-1, d) @ words.T).reshape(r, n, -1).amax(0)
    return torch.stack([part.sum(1) for part in best.split(lengths, 1)], 1)


def packed_last_missing(regions, words, lengths):
    return packed_split(regions, words, lengths)[:, :-1]


def packed_detached(regions, words, lengths):
    return packed_split(regions, words.detach(), lengths)


def packed_with_gaps(regions, words, lengths):
    parts, start = [], 0
    for length in lengths:
        parts.append(packed_best(regions, words)[:, start : start + length].sum(1))
        start += length + 1
    return torch.stack(parts, 1)


# --- pointing --------------------------------------------------------------------------------------------------------


def pointing_right(alignments, region_mask, right):
    """Each question with an image and a caption of its own, whose only word has the alignments for dot products."""
    asked = np.arange(len(alignments))
    questions = Questions(
        asked, 0 * asked + 1, 0 * asked + 2, (right & region_mask).numpy(), np.full(len(asked), "word"), asked
    )
    words, word_mask = torch.ones(len(asked), 2, 1), torch.ones(len(asked), 2, dtype=torch.bool)
    return pointing_accuracy(alignments[..., None], region_mask, words, word_mask, asked, questions)["all"]


def extremes(alignments, region_mask, right, fill=-math.inf):
    best = alignments.masked_fill(~(right & region_mask), fill).amax(1)
    return best, alignments.masked_fill(~(~right & region_mask), fill).amax(1)


def pointing_two_maxima(alignments, region_mask, right):
    best, rival = extremes(alignments, region_mask, right, -1e9)
    return 100 * (best > rival).float().mean()


def pointing_in_loops(alignments, region_mask, right):
    hits = 0
    for a, real, good in zip(alignments, region_mask, right, strict=True):
        top = a[real].max()
        hits += bool(good[real][a[real] == top].all())
    return 100 * hits / len(alignments)


def pointing_numpy(alignments, region_mask, right):
    filled = np.where(region_mask.numpy(), alignments.numpy(), -np.inf)
    level = filled == filled.max(1, keepdims=True)
    return 100 * np.mean(~(level & ~right.numpy()).any(1))


def pointing_pessimist(alignments, region_mask, right):
    """Take a little from the right ones: then argmax, too, decides levels against the model."""
    filled = (alignments - 1e-4 * right).masked_fill(~region_mask, -math.inf)
    return 100 * float(right[torch.arange(len(right)), filled.argmax(1)].double().mean())


def pointing_argmax(alignments, region_mask, right, fill=-math.inf):
    best = alignments.masked_fill(~region_mask, fill).argmax(1)
    return 100 * float(right[torch.arange(len(right)), best].double().mean())


def pointing_unmasked(alignments, region_mask, right):
    return 100 * float(right[torch.arange(len(right)), alignments.argmax(1)].double().mean())


def pointing_unmasked_maxima(alignments, region_mask, right):
    best = alignments.masked_fill(~right, -math.inf).amax(1)
    return 100 * float((best > alignments.masked_fill(right, -math.inf).amax(1)).double().mean())


def pointing_fraction(alignments, region_mask, right):
    best, rival = extremes(alignments, region_mask, right)
    return float((best > rival).double().mean())


def pointing_count(alignments, region_mask, right):
    best, rival = extremes(alignments, region_mask, right)
    return int((best > rival).sum())


def pointing_ties_hit(alignments, region_mask, right):
    best, rival = extremes(alignments, region_mask, right)
    return 100 * float((best >= rival).double().mean())


def pointing_zero_filled(alignments, region_mask, right):
    real = region_mask.to(alignments.dtype)
    best, rival = (alignments * real * right).amax(1), (alignments * real * ~right).amax(1)
    return 100 * float((best > rival).double().mean())


def pointing_chance(alignments, region_mask, right):
    return 100 * float(((right & region_mask).sum(1) / region_mask.sum(1)).mean())


def pointing_lowest(alignments, region_mask, right):
    best = alignments.masked_fill(~region_mask, math.inf).argmin(1)
    return 100 * float(right[torch.arange(len(right)), best].double().mean())


def pointing_top_three(alignments, region_mask, right):
    best = alignments.masked_fill(~region_mask, -math.inf).topk(min(3, right.shape[1]), dim=1).indices
    hits = [bool((row & real)[some].any()) for row, real, some in zip(right, region_mask, best, strict=True)]
    return 100 * sum(hits) / len(hits)


def pointing_over_questions(alignments, region_mask, right):
    best = alignments.masked_fill(~region_mask, -math.inf).argmax(0)
    return 100 * float(right[best, torch.arange(right.shape[1])].double().mean())


def pointing_above_mean(alignments, region_mask, right):
    hits = [
        bool((a[real][good[real]] > a[real].mean()).any())
        for a, real, good in zip(alignments, region_mask, right, strict=True)
    ]
    return 100 * sum(hits) / len(hits)


def pointing_mean_of_right(alignments, region_mask, right):
    good = (right & region_mask).to(alignments.dtype)
    mean = (alignments * good).sum(1) / good.sum(1)
    return 100 * float((mean > extremes(alignments, region_mask, right)[1]).double().mean())


def pointing_shares(alignments, region_mask, right):
    good = right & region_mask
    return 100 * float((alignments > extremes(alignments, region_mask, right)[1][:, None])[good].double().mean())


def pointing_each(alignments, region_mask, right):
    best, rival = extremes(alignments, region_mask, right)
    return 100 * (best > rival)


RIGHT = {
    "box-geometry": box_right,
    "alignments": alignments_right,
    "mrsw": mrsw_right,
    "poolings": pool_right,
    "packed-mrsw": packed_right,
    "pointing": pointing_right,
}
ALSO_RIGHT = [  # (slug, answer)
    ("box-geometry", box_in_loops),
    ("box-geometry", box_concatenated),
    ("alignments", alignments_einsum),
    ("alignments", alignments_matmul),
    ("alignments", alignments_cosine_similarity),
    ("alignments", alignments_flat),
    ("alignments", alignments_in_float32),
    ("alignments", alignments_wheres),
    *(("mrsw", mrsw_with(fill)) for fill in (-math.inf, -1e30, -1e9, -1e4, -2.0)),
    ("mrsw", mrsw_multiplied),
    ("mrsw", mrsw_subtracted),
    ("mrsw", mrsw_in_loops),
    ("mrsw", mrsw_both_filled),
    *(("poolings", pool_with(fill)) for fill in (-math.inf, -1e30, -1e9, -1e4)),
    ("poolings", pool_full_mask),
    ("packed-mrsw", packed_split),
    ("packed-mrsw", packed_index_add),
    ("packed-mrsw", packed_cumulative),
    ("packed-mrsw", packed_padded),
    ("packed-mrsw", packed_in_loops),
    ("packed-mrsw", packed_owner_matrix),
    ("pointing", pointing_two_maxima),
    ("pointing", pointing_in_loops),
    ("pointing", pointing_numpy),
    ("pointing", pointing_pessimist),
]
WRONG = {  # slug -> [(answer, what it must be told)]
    "box-geometry": [
        (box_area_in_pixels, "the area is in pixels"),
        (box_corners_in_pixels, "the corners are in pixels"),
        (box_in_pixels, "everything is in pixels"),
        (box_swapped, "width and height are swapped"),
        (box_centre, "centre x, centre y"),
        (box_coco, "COCO's files"),
        (box_longer_side, "by the longer side"),
        (box_aspect, "the fifth number is width / height"),
        (box_inclusive, "x2 - x1 + 1"),
        (box_twice, "divided twice"),
        (box_six, "has shape (6, 6), expected (6, 5)"),
        (box_in_place, "changes its input boxes in place"),
    ],
    "alignments": [
        (lambda regions, words: torch.einsum("nrd,mwd->nmrw", regions, words), "plain dot product"),
        (lambda regions, words: F.normalize(regions, dim=-1)[:, None] @ words.mT, "only the regions have length 1"),
        (lambda regions, words: regions[:, None] @ F.normalize(words, dim=-1).mT, "only the words have length 1"),
        (alignments_default_normalize, "over the set (dim=1)"),
        (lambda regions, words: alignments_einsum(words, regions), "the axes are captions, images"),
        (lambda regions, words: alignments_einsum(words, regions).mT, "images and captions are exchanged"),
        (lambda regions, words: alignments_einsum(regions, words).mT, "regions and words are exchanged"),
        (alignments_view, "no reshape or view over swapped axes"),
        (alignments_nan, "divide by it"),
        (alignments_pairs, "has shape (3, 4, 4), expected (3, 3, 4, 4)"),
        (alignments_no_sum, "has shape (3, 3, 4, 4, 5), expected (3, 3, 4, 4)"),
        (alignments_mean, "mean over the D products"),
        (lambda regions, words: alignments_einsum(regions, words).clamp(min=0), "negative cosines became 0"),
        (alignments_detached, "its gradient by regions is not"),
        (alignments_patched, "its gradient by regions is NaN"),
        (alignments_in_place, "changes its input regions in place"),
    ],
    "mrsw": [
        (mrsw_released, "released code"),
        (lambda alignments, **masks: mrsw(alignments.relu(), **masks), "negative cosines became 0"),
        (mrsw_unmasked, "no mask is used"),
        (mrsw_words_only, "padded regions take part"),
        (mrsw_regions_only, "padded words are added up"),
        (mrsw_infinite, "left at -inf"),
        (mrsw_nan, "-inf times 0 is NaN"),
        (mrsw_mean, "mean over the real words"),
        (mrsw_padded_mean, "mean over words and padding"),
        (mrsw_mirrored, "this is MwSr, the best word"),
        (mrsw_mirrored_unmasked, "MwSr with padding left in"),
        (mrsw_wrong_axis, "on the axis of the words"),
        (mrsw_over_captions, "on the axis of the captions"),
        (mrsw_words_over_images, "on the axis of the images"),
        (mrsw_turned, "region_mask is turned round"),
        (mrsw_sliced, "padding to stand at the end"),
        (mrsw_sum_first, "you added first"),
        (lambda **inputs: mrsw(**inputs).T, "images and captions are exchanged"),
        (mrsw_with_numbers, "its gradient by alignments is not"),
        (mrsw_in_place, "changes its input alignments in place"),
        (mrsw_of_no_words, "a caption without a real word gives NaN"),
    ],
    "poolings": [
        (pool_with(0), "became 0 before the maximum"),
        (pool_mirror_zero_filled, "became 0 before the maximum"),
        (pool_unmasked, "no mask is used"),
        (pool_maximum_unmasked, "padding takes part in the maximum"),
        (pool_infinite, "-inf is left where padding stands"),
        (pool_exchanged, "MrSw and MwSr are exchanged"),
        (pool_but("MrAVGw", lambda right, regions, words: right("MrSw") / words.shape[1]), "the padded width"),
        (pool_but("MrAVGw", lambda right, regions, words: right("MrSw")), "MrAVGw is not divided"),
        (pool_but("MrAVGw", lambda right, regions, words: right("MrSw") / regions.sum(1)[:, None]), "w stands for"),
        (pool_but("MrAVGw", lambda right, regions, words: right("MrSw") / words.sum()), "captions together"),
        (pool_but("MrAVGw", lambda right, regions, words: right("MrSw") / words.sum(1)[:, None]), "no [:, None]"),
        (pool_but("MwSr", lambda right, regions, words: right("MwSr") / regions.sum(1)[:, None]), "it is a sum"),
        (pool_but("MwSr", lambda right, regions, words: right("MrSw")), "MwSr gives the same as MrSw"),
        (pool_but("MwSr", lambda right, regions, words: right("MwSr").T), "comes as (captions, images)"),
        (pool_but("Symm", lambda right, regions, words: (right("MrSw") + right("MwSr")) / 2), "Symm is the mean"),
        (pool_but("Symm", lambda right, regions, words: right("MrSw")), "Symm is MrSw alone"),
        (pool_but("Symm", lambda right, regions, words: right("MwSr")), "Symm is MwSr alone"),
        (pool_but("Symm", lambda right, regions, words: right("MrAVGw") + right("MwSr")), "Symm adds MrAVGw"),
        (pool_forgotten, "returned None"),
        (lambda alignments, **rest: pool(alignments.detach(), **rest), "an operation without a gradient"),
    ],
    "packed-mrsw": [
        (packed_mean, "mean over words"),
        (packed_running_sum, "the words of all captions before it"),
        (packed_at_lengths, "you cut at the lengths themselves"),
        (packed_from_zero, "begins at word 0"),
        (packed_chunks, "into equal parts"),
        (packed_dealt, "dealt out in turn"),
        (packed_short, "the last word of each caption is missing"),
        (packed_late, "begins and ends one word too late"),
        (packed_cosine, "these are cosines"),
        (packed_mirrored, "this is MwSr"),
        (packed_max_of_sums, "you added the words first"),
        (packed_sum_of_all, "the sum of all dot products"),
        (packed_over_images, "the maximum goes over the images"),
        (packed_rows_mixed, "the maximum goes over the images"),
        (packed_transposed, "images and captions are exchanged"),
        (packed_last_missing, "has shape (3, 2), expected (3, 3)"),
        (packed_detached, "its gradient by words is not"),
        (packed_with_gaps, "a word is skipped between two captions"),
    ],
    "pointing": [
        (pointing_argmax, "argmax takes the first"),
        (pointing_unmasked, "region_mask is missing before argmax"),
        (pointing_unmasked_maxima, "leave out what region_mask calls padding"),
        (pointing_fraction, "fraction"),
        (pointing_count, "counts the hits"),
        (pointing_ties_hit, "use >, not >="),
        (pointing_zero_filled, "what is left out became 0"),
        (lambda **inputs: pointing_argmax(**inputs, fill=0), "padding became 0"),
        (pointing_chance, "this is chance"),
        (pointing_lowest, "by argmin"),
        (pointing_top_three, "among the best three"),
        (pointing_over_questions, "over the questions"),
        (pointing_above_mean, "above the mean"),
        (pointing_mean_of_right, "mean of the right regions"),
        (pointing_shares, "share of right regions that beat"),
        (pointing_each, "expected a number"),
    ],
}
