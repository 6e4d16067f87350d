# Answers to lesson 03 as plain loops.

# %% soft-codes

import torch


def soft_codes(regions, words, region_mask, temperature):
    codes = []
    for word in words:
        logits = []
        for region, real in zip(regions, region_mask):
            if real:
                logits.append((word * region).sum() / temperature)
        top = max(logit.item() for logit in logits)
        weights = [torch.exp(logit - top) for logit in logits]
        total = sum(weights)
        attended = torch.zeros_like(word)
        place = 0
        for region, real in zip(regions, region_mask):
            if real:
                attended = attended + weights[place] / total * region
                place += 1
        codes.append((word * attended).sum() / (attended.norm() + 1e-8))
    return torch.stack(codes)


# %% best-regions
import torch


def best_regions(alignments, region_mask):
    N, M, R, W = alignments.shape
    winners = torch.zeros(N, M, W, dtype=torch.long)
    for n in range(N):
        for m in range(M):
            for t in range(W):
                best = None
                for r in range(R):
                    if region_mask[n, r] and (best is None or alignments[n, m, r, t] > alignments[n, m, best, t]):
                        best = r
                winners[n, m, t] = best
    return winners


# %% pool-codes
import torch


def pool_codes(codes, word_mask, how, beta):
    rows = []
    for picture in codes:
        row = []
        for caption, real in zip(picture, word_mask):
            kept = caption[real]
            if how == "mean":
                row.append(sum(kept) / len(kept))
                continue
            m = max(kept)
            grown = [torch.exp((code - m) / beta) for code in kept]
            if how == "lse":
                row.append(m / beta + torch.log(sum(grown)))
            else:
                row.append(sum(g / sum(grown) * code for g, code in zip(grown, kept)))
        rows.append(torch.stack(row))
    return torch.stack(rows)


# %% regions-used
import math


def regions_used(alignments, temperature):
    numbers = []
    for row in alignments.tolist():
        top = max(row)
        grown = [math.exp((value - top) / temperature) for value in row]
        entropy = 0.0
        for g in grown:
            weight = g / sum(grown)
            if weight > 0:
                entropy -= weight * math.log(weight)
        numbers.append(math.exp(entropy))
    return alignments.new_tensor(numbers)


# %% recall-by-group
def recall_by_group(scores, image_of_caption, group):
    hits, counts = {}, {}
    for t in range(scores.shape[1]):
        owner, g = image_of_caption[t].item(), group[t].item()
        hit = True
        for i in range(scores.shape[0]):
            if i != owner and scores[i, t] >= scores[owner, t]:
                hit = False
        hits[g] = hits.get(g, 0) + hit
        counts[g] = counts.get(g, 0) + 1
    return [100 * hits[g] / counts[g] for g in sorted(counts)]


# %% hard-backward
import torch


def hard_backward(regions, words, winners, grad):
    by_regions, by_words = torch.zeros_like(regions), torch.zeros_like(words)
    for t, r in enumerate(winners.tolist()):
        by_regions[r] += grad[t] * words[t]
        by_words[t] = grad[t] * regions[r]
    return torch.cat([by_regions, by_words])


# %% attended-length
import torch


def attended_length(weights, gram):
    N, R, W = weights.shape
    lengths = torch.zeros(N, W, dtype=weights.dtype, device=weights.device)
    for n in range(N):
        for t in range(W):
            square = 0
            for r in range(R):
                for s in range(R):
                    square = square + weights[n, r, t] * weights[n, s, t] * gram[n, r, s]
            lengths[n, t] = square.clamp(min=0).sqrt()
    return lengths
