"""Lesson 05 in einsum, where a product is to be written."""

# %% two-stage-search
import torch


def two_stage_search(query_whole, query_words, wholes, regions, mask, shortlist, local_weight):
    whole_scores = torch.einsum("nd,d->n", wholes, query_whole)
    k = min(shortlist, len(wholes))
    rows = whole_scores.topk(k).indices
    dots = torch.einsum("kre,we->krw", regions[rows], query_words)
    local = torch.where(mask[rows][..., None], dots, -torch.inf).amax(dim=1).sum(dim=1)
    rows = rows[(whole_scores[rows] + local_weight * local).argsort(descending=True)]
    return torch.cat([rows, whole_scores.argsort(descending=True)[k:]])


# %% honest-rank
import torch


def two_stage_ranks(global_scores, local_scores, truth, shortlist, local_weight):
    own = torch.nn.functional.one_hot(truth, global_scores.shape[1]).to(global_scores)
    match = torch.einsum("qn,qn->q", global_scores, own)
    edge = global_scores.topk(min(shortlist, global_scores.shape[1]), dim=1).values[:, -1]
    inside = global_scores >= edge[:, None]
    final = global_scores + local_weight * local_scores
    best = torch.einsum("qn,qn->q", final, own)
    again = (inside & (final > best[:, None])).sum(dim=1)
    outside = (global_scores > match[:, None]).sum(dim=1)
    return torch.where(match >= edge, again, outside) + 1


# %% token-guidance
import torch


def global_vectors(tokens, mask, on_top, detach):
    out = on_top(tokens.detach() if detach else tokens, src_key_padding_mask=mask.logical_not())
    first = out[:, 0]
    return first / torch.einsum("bd,bd->b", first, first).sqrt()[:, None]


# %% cmc
import torch


def cmc(images, captions, pair_loss, margin):
    v, t = (side / torch.einsum("bd,bd->b", side, side).sqrt()[:, None] for side in (images, captions))
    gap = (torch.einsum("id,jd->ij", t, t) - torch.einsum("id,jd->ij", v, v)).abs()
    return pair_loss(torch.einsum("id,jd->ij", v, t)) + (gap.amax(dim=0) - margin).clamp(min=0).sum()


# %% choose-k
import torch


def choose_k(lengths, recall, milliseconds, candidates, budget, tolerated):
    lengths, recall = torch.tensor(lengths), torch.tensor(recall, dtype=torch.float64)
    allowed = (lengths <= candidates) & (torch.tensor(milliseconds, dtype=torch.float64) <= budget)
    if not allowed.any():
        return 0
    enough = recall[allowed].max() - tolerated
    return int(lengths[allowed & (recall >= enough)].min())


# %% pareto-front
import torch


def pareto_front(cost, recall):
    no_worse = (cost[:, None] <= cost) & (recall[:, None] >= recall)
    better = (cost[:, None] < cost) | (recall[:, None] > recall)
    return torch.einsum("ij,ij->j", no_worse.double(), better.double()) == 0
