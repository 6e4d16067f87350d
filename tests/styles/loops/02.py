# %% alignments
import torch


def alignments(regions, words):
    scores = []
    for image in regions:
        row = []
        for caption in words:
            table = image @ caption.T
            lengths = image.norm(dim=1)[:, None] * caption.norm(dim=1)[None, :]
            row.append(table / torch.where(lengths == 0, 1.0, lengths))
        scores.append(torch.stack(row))
    return torch.stack(scores)


# %% mrsw
import torch


def mrsw(alignments, region_mask, word_mask):
    scores = []
    for n in range(len(region_mask)):
        row = []
        for m in range(len(word_mask)):
            total = alignments.new_zeros(())
            for w in range(word_mask.shape[1]):
                if word_mask[m, w]:
                    best = None
                    for r in range(region_mask.shape[1]):
                        if region_mask[n, r] and (best is None or alignments[n, m, r, w] > best):
                            best = alignments[n, m, r, w]
                    total = total + best
            row.append(total)
        scores.append(torch.stack(row))
    return torch.stack(scores)


# %% packed-mrsw
import torch


def packed_mrsw(regions, region_counts, words, word_counts):
    rows, r = [], 0
    for own_regions in region_counts:
        row, t = [], 0
        for own_words in word_counts:
            total = words.new_zeros(())
            for word in words[t : t + own_words]:
                total = total + (regions[r : r + own_regions] @ word).max()
            row.append(total)
            t += own_words
        rows.append(torch.stack(row))
        r += own_regions
    return torch.stack(rows)


# %% read-heat-map
def read_heat_map(alignment, overlap, floor, gap):
    answer = []
    for column in alignment.T.tolist():
        best = max(column)
        region = column.index(best)
        rivals = 0
        for other, value in enumerate(column):
            if best - value < gap and overlap[region][other] < 0.5:
                rivals += 1
        if best < floor:
            answer.append(-1)
        elif rivals:
            answer.append(-2)
        else:
            answer.append(region)
    return answer


# %% pointing
import math


def pointing(alignments, right):
    hits, chance = 0, 0.0
    for row, good in zip(alignments.tolist(), right.tolist()):
        real = [value > -math.inf for value in row]
        top = max(row)
        hits += all(g for value, g in zip(row, good) if value == top)
        chance += sum(g and is_real for g, is_real in zip(good, real)) / sum(real)
    return {"hits": 100 * hits / len(right), "chance": 100 * chance / len(right)}


# %% block-sizes
def block_sizes(images, captions, regions, words, budget):
    sizes = []
    left = captions
    while left > 0:
        size = 1
        while size < left and 8 * images * regions * words * (size + 1) <= budget:
            size += 1
        sizes.append(size)
        left -= size
    return sizes


# %% poolings
import torch


def pool_alignments(alignments, region_mask, word_mask, how, mrsw):
    if how == "MrSw":
        return mrsw(alignments, region_mask, word_mask)
    if how == "MrAVGw":
        scores = mrsw(alignments, region_mask, word_mask)
        columns = []
        for m in range(len(word_mask)):
            columns.append(scores[:, m] / word_mask[m].sum())
        return torch.stack(columns, dim=1)
    if how == "MwSr":
        turned = alignments.transpose(0, 1).transpose(2, 3)
        return mrsw(turned, word_mask, region_mask).T
    first = pool_alignments(alignments, region_mask, word_mask, "MrSw", mrsw)
    return first + pool_alignments(alignments, region_mask, word_mask, "MwSr", mrsw)
