# %% cosine-scores
import torch


def cosine_scores(images, captions):
    scores = torch.zeros(len(images), len(captions), dtype=images.dtype)
    for i in range(len(images)):
        for j in range(len(captions)):
            lengths = images[i].norm() * captions[j].norm()
            if lengths > 0:
                scores[i, j] = images[i] @ captions[j] / lengths
    return scores


# %% caption-ranks
import torch


def caption_ranks(scores, image_of_caption):
    owner = image_of_caption.tolist()
    ranks = []
    for i, row in enumerate(scores.tolist()):
        best = max(s for s, image in zip(row, owner, strict=True) if image == i)
        rank = 1
        for s, image in zip(row, owner, strict=True):
            if image != i and s >= best:
                rank += 1
        ranks.append(rank)
    return torch.tensor(ranks)


# %% image-ranks
import torch


def image_ranks(scores, image_of_caption):
    columns = scores.T.tolist()
    ranks = []
    for column, image in zip(columns, image_of_caption.tolist(), strict=True):
        rank = 0
        for s in column:
            if s >= column[image]:
                rank += 1
        ranks.append(rank)
    return torch.tensor(ranks)


# %% recall-at-k
def recall_at_k(ranks, k):
    hits = 0
    for rank in ranks:
        if rank <= k:
            hits += 1
    return 100 * hits / len(ranks)


# %% chance-recall
def chance_recall(images, captions_per_image, k):
    total = images * captions_per_image
    missed = 1.0
    for place in range(min(k, total)):
        left = total - place
        missed = missed * max(0, left - captions_per_image) / left
    return 100 * (1 - missed)


# %% find-the-flaw
import torch


def find_the_flaw(evaluate):
    pictures = 11
    last, apart, level = (torch.zeros(pictures, pictures) for _ in range(3))
    for i in range(pictures):
        for j in range(pictures):
            last[i, j] = 0 if i == j else 1
            apart[i, j] = 1 if i == j else 2 if i == (j + 5) % pictures else 0
    owner = torch.tensor(list(range(pictures)))
    if evaluate(last, owner) != 0:
        return "misses"
    if evaluate(apart, owner) != 0:
        return "folds"
    if evaluate(level, owner) != 0:
        return "ties"
    two = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]])
    if abs(evaluate(two, torch.tensor([0, 0, 1])) - 200 / 3) > 0.001:
        return "one caption"
    return "none"


# %% ndcg
import math


def ndcg(scores, relevance, k):
    total = 0.0
    for row, grades in zip(scores.tolist(), relevance.tolist(), strict=True):
        order = sorted(range(len(row)), key=lambda c: row[c], reverse=True)
        best = sorted(grades, reverse=True)
        dcg = ideal = 0.0
        for place in range(min(k, len(row))):
            dcg += grades[order[place]] / math.log2(place + 2)
            ideal += best[place] / math.log2(place + 2)
        total += dcg / ideal
    return total / len(scores)
