# Answers to lesson 03 with einsum.

# %% soft-codes
import torch


def soft_codes(regions, words, region_mask, temperature):
    logits = torch.einsum("rd,wd->wr", regions, words) / temperature
    weights = torch.where(region_mask, logits, float("-inf")).softmax(dim=-1)
    attended = torch.einsum("wr,rd->wd", weights, regions)
    length = torch.einsum("wd,wd->w", attended, attended).clamp(min=1e-24).sqrt()
    return torch.einsum("wd,wd->w", attended, words) / (length + 1e-8)


# %% best-regions
import torch


def best_regions(alignments, region_mask):
    lost = torch.zeros_like(region_mask, dtype=alignments.dtype).masked_fill(~region_mask, float("-inf"))
    ordered = torch.einsum("nmrw->nmwr", alignments)
    return (ordered + lost[:, None, None]).max(dim=-1).indices


# %% pool-codes
import torch


def pool_codes(codes, word_mask, how, beta):
    real = word_mask.to(codes)
    if how == "mean":
        return torch.einsum("nmw,mw->nm", codes, real) / real.sum(dim=1)
    logits = torch.where(word_mask, codes / beta, float("-inf"))
    top = logits.amax(dim=-1, keepdim=True).detach()
    grown = (logits - top).exp()
    total = torch.einsum("nmw->nm", grown)
    if how == "lse":
        return top[..., 0] + total.log()
    return torch.einsum("nmw,nmw->nm", grown, codes) / total


# %% regions-used
import torch


def regions_used(alignments, temperature):
    log_weights = (alignments / temperature).log_softmax(dim=1)
    weights = log_weights.exp()
    return torch.einsum("qr,qr->q", weights, -log_weights.clamp(min=-1e4)).exp()


# %% recall-by-group
import torch
import torch.nn.functional as F


def recall_by_group(scores, image_of_caption, group):
    own = F.one_hot(image_of_caption, len(scores)).T.to(scores)
    true = torch.einsum("nm,nm->m", scores, own)
    hit = (torch.einsum("nm->mn", scores) >= true[:, None]).sum(dim=1) == 1
    member = F.one_hot(group).to(scores)
    return 100 * torch.einsum("m,mg->g", hit.to(scores), member) / member.sum(dim=0)


# %% hard-backward
import torch
import torch.nn.functional as F


def hard_backward(regions, words, winners, grad):
    chosen = F.one_hot(winners, len(regions)).to(words)
    by_regions = torch.einsum("t,tr,td->rd", grad, chosen, words)
    return torch.cat([by_regions, torch.einsum("t,tr,rd->td", grad, chosen, regions)])


# %% attended-length
import torch


def attended_length(weights, gram):
    square = torch.einsum("nrw,nrs,nsw->nw", weights, gram, weights)
    return torch.sqrt(torch.clamp(square, min=1e-12))
