# %% alignments
import torch


def alignments(regions, words):
    lengths = [torch.einsum("sed,sed->se", x, x).clamp(min=1e-24).sqrt() for x in (regions, words)]
    dots = torch.einsum("nrd,mwd->nmrw", regions, words)
    return dots / torch.einsum("nr,mw->nmrw", *lengths)


# %% mrsw
import torch


def mrsw(alignments, region_mask, word_mask):
    best = torch.where(region_mask[:, None, :, None], alignments, -1e9).amax(dim=2)
    return torch.einsum("nmw,mw->nm", best, word_mask.to(best.dtype))


# %% packed-mrsw
import torch


def packed_mrsw(regions, region_counts, words, word_counts):
    def owners(counts):
        counts = torch.tensor(counts, device=regions.device)
        return torch.repeat_interleave(torch.arange(len(counts), device=regions.device), counts)

    dots = torch.einsum("pd,td->pt", regions, words)
    best = dots.new_full((len(region_counts), dots.shape[1]), -torch.inf)
    best = best.scatter_reduce(0, owners(region_counts)[:, None].expand_as(dots), dots, "amax")
    member = torch.nn.functional.one_hot(owners(word_counts), len(word_counts)).to(best.dtype)
    return torch.einsum("nt,tm->nm", best, member)


# %% read-heat-map
import torch


def read_heat_map(alignment, overlap, floor, gap):
    where = alignment.argmax(dim=0)
    chosen = torch.nn.functional.one_hot(where, len(alignment)).to(overlap.dtype)  # (W, R)
    shared = torch.einsum("wb,br->rw", chosen, overlap)
    best = alignment.amax(dim=0)
    several = ((best - gap < alignment) & (shared < 0.5)).any(dim=0)
    return torch.where(best < floor, torch.full_like(where, -1), where.masked_fill(several, -2))


# %% pointing
import torch


def pointing(alignments, right):
    real = (alignments > -torch.inf).double()
    share = torch.einsum("qr,qr->q", real, right.double()) / torch.einsum("qr->q", real)
    best = alignments.masked_fill(~right, -torch.inf).amax(dim=1)
    rival = alignments.masked_fill(right, -torch.inf).amax(dim=1)
    return {"hits": 100 * (best > rival).double().mean(), "chance": 100 * share.mean()}


# %% block-sizes
import torch


def block_sizes(images, captions, regions, words, budget):
    each = 8 * torch.einsum("i,r,w->", *(torch.tensor([x]) for x in (images, regions, words)))
    size = max(1, budget // int(each))
    starts = torch.arange(0, captions, size)
    return (captions - starts).clamp(max=size)


# %% poolings
import torch


def pool_alignments(alignments, region_mask, word_mask, how, mrsw):
    by_word = mrsw(alignments, region_mask, word_mask)
    turned = torch.einsum("nmrw->mnwr", alignments)
    by_region = mrsw(turned, word_mask, region_mask)
    per_word = torch.einsum("nm,m->nm", by_word, 1 / word_mask.sum(dim=1))
    made = {"MrSw": by_word, "MrAVGw": per_word, "MwSr": by_region.T}
    return made[how] if how in made else by_word + by_region.T
