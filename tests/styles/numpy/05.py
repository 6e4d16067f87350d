"""Lesson 05 in numpy, where no gradient is asked for; elsewhere in torch, as numpy would be written."""

# %% two-stage-search
import numpy as np


def two_stage_search(query_whole, query_words, wholes, regions, mask, shortlist, local_weight):
    wholes, query_whole = np.asarray(wholes), np.asarray(query_whole)
    scores = wholes @ query_whole
    order = np.argsort(-scores, kind="stable")
    rows, others = order[:shortlist], order[shortlist:]
    dots = np.asarray(regions)[rows] @ np.asarray(query_words).T
    dots = np.where(np.asarray(mask)[rows][:, :, None], dots, -np.inf)
    final = scores[rows] + local_weight * dots.max(axis=1).sum(axis=1)
    return np.concatenate([rows[np.argsort(-final, kind="stable")], others])


# %% honest-rank
import numpy as np


def two_stage_ranks(global_scores, local_scores, truth, shortlist, local_weight):
    whole, local, own = (values.numpy() for values in (global_scores, local_scores, truth))
    queries = np.arange(len(own))
    places = np.argsort(np.argsort(-whole, axis=1), axis=1)
    final = whole + local_weight * local
    inside = places < shortlist
    again = (inside & (final > final[queries, own][:, None])).sum(axis=1)
    return np.where(inside[queries, own], again, places[queries, own]) + 1


# %% token-guidance
import torch


def global_vectors(tokens, mask, on_top, detach):
    tokens = tokens.detach() if detach else tokens
    first = on_top(tokens, src_key_padding_mask=~mask)[:, 0, :]
    return first / torch.sqrt(torch.sum(first**2, axis=1, keepdims=True))


# %% cmc
import torch


def cmc(images, captions, pair_loss, margin):
    v = images / torch.sqrt(torch.sum(images**2, axis=1, keepdims=True) + 1e-12)
    t = captions / torch.sqrt(torch.sum(captions**2, axis=1, keepdims=True) + 1e-12)
    worst = torch.amax(torch.abs(t @ t.T - v @ v.T), axis=0)
    return pair_loss(v @ t.T) + torch.sum(torch.clip(worst - margin, 0, None))


# %% choose-k
import numpy as np


def choose_k(lengths, recall, milliseconds, candidates, budget, tolerated):
    lengths, recall, milliseconds = np.array(lengths), np.array(recall), np.array(milliseconds)
    allowed = (lengths <= candidates) & (milliseconds <= budget)
    if not np.any(allowed):
        return 0
    return np.min(lengths[allowed & (recall >= np.max(recall[allowed]) - tolerated)])


# %% pareto-front
import numpy as np


def pareto_front(cost, recall):
    cost, recall = cost.numpy(), recall.numpy()
    no_worse = (cost[:, None] <= cost) & (recall[:, None] >= recall)
    better = (cost[:, None] < cost) | (recall[:, None] > recall)
    return ~np.any(no_worse & better, axis=0)
