# %% alignments
import torch


def alignments(regions, words):  # gradients are asked for, so numpy's way of writing, in torch
    regions = regions / (torch.linalg.norm(regions, axis=-1, keepdims=True) + 1e-9)
    words = words / (torch.linalg.norm(words, axis=-1, keepdims=True) + 1e-9)
    return regions[:, None, :, :] @ torch.swapaxes(words, 1, 2)[None]


# %% mrsw
import torch


def mrsw(alignments, region_mask, word_mask):
    real = region_mask[:, None, :, None]
    best = torch.max(torch.where(real, alignments, -torch.inf), axis=2).values
    return torch.sum(torch.where(word_mask[None], best, 0.0), axis=-1)


# %% packed-mrsw
import numpy as np
import torch


def packed_mrsw(regions, region_counts, words, word_counts):
    dots = regions @ words.T
    region_edges = np.cumsum([0, *region_counts])
    word_edges = np.cumsum([0, *word_counts])
    best = torch.vstack([dots[a:b].max(0).values for a, b in zip(region_edges[:-1], region_edges[1:])])
    running = torch.cumsum(torch.hstack([torch.zeros_like(best[:, :1]), best]), axis=1)
    return running[:, word_edges[1:]] - running[:, word_edges[:-1]]


# %% read-heat-map
import numpy as np


def read_heat_map(alignment, overlap, floor, gap):
    values, overlap = np.asarray(alignment), np.asarray(overlap)
    best, where = values.max(axis=0), values.argmax(axis=0)
    several = ((best - values < gap) & (overlap[:, where] < 0.5)).any(axis=0)
    return np.select([best < floor, several], [-1, -2], where)


# %% pointing
import numpy as np


def pointing(alignments, right):
    values, right = np.asarray(alignments), np.asarray(right)
    real = np.isfinite(values)
    level = values == values.max(axis=1, keepdims=True)
    hits = ~np.any(level & ~right, axis=1)
    share = np.sum(right & real, axis=1) / np.sum(real, axis=1)
    return {"hits": 100 * np.mean(hits), "chance": 100 * np.mean(share)}


# %% block-sizes
import numpy as np


def block_sizes(images, captions, regions, words, budget):
    size = np.clip(budget // (2 * 4 * images * regions * words), 1, captions)
    return np.diff(np.append(np.arange(0, captions, size), captions))


# %% poolings
import numpy as np


def pool_alignments(alignments, region_mask, word_mask, how, mrsw):
    words = mrsw(alignments, region_mask, word_mask)
    counts = np.sum(np.asarray(word_mask.cpu()), axis=1).tolist()
    if how == "MrAVGw":
        return words / words.new_tensor(counts)
    regions = mrsw(alignments.permute(1, 0, 3, 2), word_mask, region_mask).T
    return {"MrSw": words, "MwSr": regions, "Symm": words + regions}[how]
