# Answers to lesson 03 in numpy, but for soft-codes, pool-codes and attended-length, which must carry a gradient.

# %% soft-codes
import torch
import torch.nn.functional as F


def soft_codes(regions, words, region_mask, temperature):
    kept = regions[region_mask]
    attended = F.softmax(words @ kept.T / temperature, dim=1) @ kept
    return F.cosine_similarity(attended, words, dim=1)


# %% best-regions
import numpy as np


def best_regions(alignments, region_mask):
    real = region_mask.cpu().numpy()[:, None, :, None]
    return np.where(real, alignments.cpu().numpy(), -np.inf).argmax(axis=2)


# %% pool-codes
import torch


def pool_codes(codes, word_mask, how, beta):
    rows = []
    for m, real in enumerate(word_mask):
        kept = codes[:, m, real]
        if how == "mean":
            rows.append(kept.mean(-1))
        elif how == "lse":
            rows.append(torch.logsumexp(kept / beta, -1))
        else:
            rows.append((torch.softmax(kept / beta, -1) * kept).sum(-1))
    return torch.stack(rows, dim=1)


# %% regions-used
import numpy as np


def regions_used(alignments, temperature):
    logits = alignments.numpy() / temperature
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    weights = weights / weights.sum(axis=1, keepdims=True)
    logs = np.log(weights, out=np.zeros_like(weights), where=weights > 0)
    return np.exp(-(weights * logs).sum(axis=1))


# %% recall-by-group
import numpy as np


def recall_by_group(scores, image_of_caption, group):
    S, owner, group = scores.numpy(), image_of_caption.numpy(), group.numpy()
    caption = np.arange(S.shape[1])
    true = S[owner, caption]
    rivals = S.copy()
    rivals[owner, caption] = -np.inf
    hit = true > rivals.max(axis=0)
    return np.array([100.0 * hit[group == g].mean() for g in np.unique(group)])


# %% hard-backward
import numpy as np


def hard_backward(regions, words, winners, grad):
    regions, words, winners, grad = (x.cpu().numpy() for x in (regions, words, winners, grad))
    by_regions = np.zeros_like(regions)
    np.add.at(by_regions, winners, grad[:, None] * words)
    return np.concatenate([by_regions, grad[:, None] * regions[winners]])


# %% attended-length
import torch


def attended_length(weights, gram):
    turned = weights.transpose(1, 2)
    square = (torch.matmul(turned, gram) * turned).sum(-1)
    return torch.where(square > 1e-12, square, torch.full_like(square, 1e-12)).sqrt()
