"""Appendix 05a in einsum, where a product is to be written."""

# %% structure-agreement
import torch


def agreement(V, T):
    gap = (T - V).abs().amax(dim=0).mean()
    above = torch.ones_like(V).triu(1)
    pairs = above.sum()
    v = (V - torch.einsum("ij,ij->", V, above) / pairs) * above
    t = (T - torch.einsum("ij,ij->", T, above) / pairs) * above
    length = torch.einsum("ij,ij->", v, v).sqrt() * torch.einsum("ij,ij->", t, t).sqrt()
    r = torch.einsum("ij,ij->", v, t) / length if length > 1e-9 else torch.zeros_like(gap)
    return torch.stack([gap, r])


# %% local-weight
import torch


def choose_weight(weights, global_scores, local_scores, truth):
    w = torch.tensor(sorted(weights), dtype=global_scores.dtype)
    scores = global_scores + torch.einsum("w,qn->wqn", w, local_scores)
    own = scores.gather(2, truth[None, :, None].expand(len(w), -1, 1))
    found = ((scores >= own).sum(dim=2) == 1).sum(dim=1)
    return float(w[(found == found.max()).nonzero()[0, 0]])
