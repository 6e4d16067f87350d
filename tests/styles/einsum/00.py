# %% cosine-scores
import torch


def cosine_scores(images, captions):
    dots = torch.einsum("nd,md->nm", images, captions)
    squares = torch.einsum("nd,nd->n", images, images), torch.einsum("md,md->m", captions, captions)
    lengths = torch.einsum("n,m->nm", squares[0].sqrt(), squares[1].sqrt())
    return torch.where(lengths > 0, dots / lengths, torch.zeros_like(dots))


# %% caption-ranks
import torch
import torch.nn.functional as F


def caption_ranks(scores, image_of_caption):
    own = F.one_hot(image_of_caption, len(scores)).T.bool()
    best = torch.where(own, scores, -torch.inf).max(dim=1).values
    return 1 + torch.einsum("nm,nm->n", (scores >= best[:, None]).long(), (~own).long())


# %% image-ranks
import torch
import torch.nn.functional as F


def image_ranks(scores, image_of_caption):
    own = F.one_hot(image_of_caption, len(scores)).to(scores.dtype)
    true = torch.einsum("nm,mn->m", scores, own)
    return torch.einsum("nm->m", (scores >= true).long())


# %% recall-at-k
import torch


def recall_at_k(ranks, k):
    return 100 * torch.einsum("q->", (ranks <= k).double()) / len(ranks)


# %% chance-recall
import torch


def chance_recall(images, captions_per_image, k):
    total = images * captions_per_image
    left = total - torch.arange(min(k, total), dtype=torch.float64)
    return 100 * (1 - ((left - captions_per_image).clamp(min=0) / left).prod())


# %% find-the-flaw
import torch


def find_the_flaw(evaluate):
    captions = torch.arange(12)
    perfect = torch.einsum("ij,j->ij", torch.eye(12), torch.ones(12))
    cases = {
        "misses": (-perfect, captions, 0),
        "folds": (perfect + 2 * perfect.roll(4, dims=1), captions, 0),
        "ties": (0 * perfect, captions, 0),
        "one caption": (torch.tensor([[1.0, 0, 0, 1], [0, 1, 1, 0]]), torch.tensor([0, 0, 1, 1]), 50),
    }
    for flaw, (scores, owner, right) in cases.items():
        if evaluate(scores, owner) != right:
            return flaw
    return "none"


# %% ndcg
import torch


def ndcg(scores, relevance, k):
    k = min(k, scores.shape[1])
    discount = 1 / torch.log2(torch.arange(k, dtype=relevance.dtype) + 2)
    order = scores.topk(k, dim=1).indices
    dcg = torch.einsum("qk,k->q", relevance.take_along_dim(order, dim=1), discount)
    best = torch.einsum("qk,k->q", relevance.topk(k, dim=1).values, discount)
    return (dcg / best).mean()
