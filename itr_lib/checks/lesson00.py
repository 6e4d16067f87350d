"""Checks of lesson 00: the specifications as plain loops, and the mistakes people make."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from itr_lib.checks.frame import Exercise, Inputs


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- cosine-scores ---------------------------------------------------------------------------------------------------


def cosine_cases() -> Iterator[Inputs]:
    """Random shapes, one image against one caption, and a zero vector on either side."""
    for seed, (n, m, d) in enumerate([(3, 5, 4), (1, 1, 6), (7, 2, 3), (4, 4, 8)]):
        g = _generator(seed)
        images = 3 * torch.randn(n, d, generator=g, dtype=torch.float64)
        captions = torch.randn(m, d, generator=g, dtype=torch.float64)
        yield {"images": images, "captions": captions}
        images[0] = 0
        captions[-1] = 0
        yield {"images": images, "captions": captions}


def cosine_specification(images: Tensor, captions: Tensor) -> Tensor:
    """Dot product over both lengths, pair by pair; a zero vector scores 0."""
    scores = torch.zeros(len(images), len(captions), dtype=images.dtype, device=images.device)
    for i, image in enumerate(images):
        for j, caption in enumerate(captions):
            lengths = math.sqrt(sum(x * x for x in image.tolist())) * math.sqrt(sum(x * x for x in caption.tolist()))
            if lengths > 0:
                scores[i, j] = sum(a * b for a, b in zip(image.tolist(), caption.tolist(), strict=True)) / lengths
    return scores


def _unit(x: Tensor, dim: int = 1) -> Tensor:
    return x / x.norm(dim=dim, keepdim=True).clamp(min=1e-300)


COSINE_MISTAKES = {
    "every vector is divided by the length of the whole matrix: x.norm(dim=1, keepdim=True) is one length a row": (
        lambda images, captions: (images / images.norm()) @ (captions / captions.norm()).T
    ),
    "you divide the images by zero: a vector of length 0 must score 0 with everything, not NaN": (
        lambda images, captions: (images / images.norm(dim=1, keepdim=True)) @ _unit(captions).T
    ),
    "you divide the captions by zero: a vector of length 0 must score 0 with everything, not NaN": (
        lambda images, captions: _unit(images) @ (captions / captions.norm(dim=1, keepdim=True)).T
    ),
    "you divide by zero: a vector of length 0 must score 0 with everything, not NaN": lambda images, captions: (
        (images / images.norm(dim=1, keepdim=True)) @ (captions / captions.norm(dim=1, keepdim=True)).T
    ),
    "this is the plain dot product: divide each vector by its length": lambda images, captions: images @ captions.T,
    "only the images are divided by their length; the captions must be too": lambda images, captions: (
        _unit(images) @ captions.T
    ),
    "only the captions are divided by their length; the images must be too": lambda images, captions: (
        images @ _unit(captions).T
    ),
    "you normalised over the batch (dim=0): the length of a vector runs over its own numbers, dim=1": (
        lambda images, captions: _unit(images, 0) @ _unit(captions, 0).T
    ),
    "you divided by the squared length: take its square root": lambda images, captions: (
        (images / images.square().sum(1, keepdim=True).clamp(min=1e-300))
        @ (captions / captions.square().sum(1, keepdim=True).clamp(min=1e-300)).T
    ),
    "you divided by the sum of absolute values (the L1 length); cosine needs the Euclidean one": (
        lambda images, captions: (
            (images / images.abs().sum(1, keepdim=True).clamp(min=1e-300))
            @ (captions / captions.abs().sum(1, keepdim=True).clamp(min=1e-300)).T
        )
    ),
    "rows and columns are exchanged: images are the rows, captions the columns": lambda images, captions: (
        _unit(captions) @ _unit(images).T
    ),
}

# --- caption-ranks ---------------------------------------------------------------------------------------------------


def rank_cases() -> Iterator[Inputs]:
    """One to five captions an image, in any order, with and without ties; a collapsed model."""
    for seed, counts in enumerate([[5, 5, 5, 5], [1, 3, 2], [1], [2, 5, 1, 4, 3], [1, 1, 1, 1, 1, 1]]):
        g = _generator(seed)
        owner = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
        owner = owner[torch.randperm(len(owner), generator=g)]
        scores = torch.randn(len(counts), len(owner), generator=g, dtype=torch.float64)
        yield {"scores": scores, "image_of_caption": owner}
        yield {"scores": scores - 5, "image_of_caption": owner}  # cosines can all be negative
        yield {"scores": scores.round(), "image_of_caption": owner}
    yield {"scores": torch.full((4, 20), 0.5, dtype=torch.float64), "image_of_caption": torch.arange(20) // 5}


def rank_specification(scores: Tensor, image_of_caption: Tensor) -> Tensor:
    """One more than the number of false captions that score at least as much as the best true one."""
    ranks = []
    for i in range(len(scores)):
        row = scores[i].tolist()
        best = max(s for s, owner in zip(row, image_of_caption.tolist(), strict=True) if owner == i)
        false = [s for s, owner in zip(row, image_of_caption.tolist(), strict=True) if owner != i]
        ranks.append(1 + sum(s >= best for s in false))
    return torch.tensor(ranks, device=scores.device)


def _ranks(scores, image_of_caption, beats, pick, start=1, count_own=False, exchanged=False):
    ranks = []
    for i, row in enumerate(scores):
        own = image_of_caption == i
        best = pick(row[~own if exchanged else own])
        rivals = row if count_own else row[~own]
        ranks.append(start + int(beats(rivals, best).sum()))
    return torch.tensor(ranks, device=scores.device)


def _ranks_zero_filled(scores, image_of_caption):
    own = image_of_caption == torch.arange(len(scores), device=scores.device)[:, None]
    best = (scores * own).amax(dim=1, keepdim=True)
    return 1 + ((scores >= best) & ~own).sum(dim=1)


def explain_ranks(inputs: Inputs, result: Tensor, expected: Tensor) -> str | None:
    """A sort leaves tied candidates in the order of the data, somewhere between the best and the worst case."""
    kindest = _ranks(inputs["scores"], inputs["image_of_caption"], torch.gt, torch.max)
    if bool(((kindest <= result) & (result <= expected)).all()):
        return (
            "ties are decided by the order in which a sort leaves the data: count the false captions that score at "
            "least as much as the best true one"
        )
    return None


RANK_MISTAKES = {
    "ties are decided for the model: a false caption with the same score must stand before yours (>= , not >)": (
        lambda scores, image_of_caption: _ranks(scores, image_of_caption, torch.gt, torch.max)
    ),
    "your ranks start from 0: the first place is rank 1": lambda scores, image_of_caption: _ranks(
        scores, image_of_caption, torch.ge, torch.max, start=0
    ),
    "you took an image's worst true caption: the best-ranked of the five counts": lambda scores, image_of_caption: (
        _ranks(scores, image_of_caption, torch.ge, torch.min)
    ),
    "the true captions are counted among the rivals: an image's own captions do not push each other down": (
        lambda scores, image_of_caption: _ranks(scores, image_of_caption, torch.ge, torch.max, count_own=True)
    ),
    "you assume one caption an image, caption i for image i: read image_of_caption": lambda scores, image_of_caption: (
        torch.stack([(row >= row[i]).sum() for i, row in enumerate(scores)])
    ),
    "you assume that captions lie in blocks of five (i // 5): read image_of_caption": lambda scores, image_of_caption: (
        _ranks(scores, torch.arange(scores.shape[1], device=scores.device) // 5, torch.ge, torch.max)
    ),
    "the order is reversed: a high score is a good one": lambda scores, image_of_caption: _ranks(
        -scores, image_of_caption, torch.ge, torch.max
    ),
    "an image's own captions that tie with its best count as rivals: leave them out (& ~own)": (
        lambda scores, image_of_caption: _ranks(scores, image_of_caption, torch.ge, torch.max, start=0, count_own=True)
    ),
    "other images' captions became 0 in your search for the best own score, and 0 beats a negative one: "
    "fill with -torch.inf": lambda scores, image_of_caption: _ranks_zero_filled(scores, image_of_caption),
    "own and other captions are exchanged: masked_fill(mask, ...) fills where the mask is True, so give it ~own": (
        lambda scores, image_of_caption: _ranks(scores, image_of_caption, torch.ge, torch.max, exchanged=True)
    ),
    "you took the first of the image's captions only: the best of them counts": lambda scores, image_of_caption: _ranks(
        scores, image_of_caption, torch.ge, lambda own: own[0]
    ),
}

# --- recall-at-k -----------------------------------------------------------------------------------------------------


def recall_cases() -> Iterator[Inputs]:
    """Ranks with repeats, all hits, all misses, one query."""
    for ranks in ([1, 2, 3, 7, 10, 11, 1], [1], [9], [2, 2, 5, 5], [1, 1, 1], [30, 40, 10]):
        for k in (1, 5, 10):
            yield {"ranks": torch.tensor(ranks), "k": k}


def recall_specification(ranks: Tensor, k: int) -> float:
    """Percentage of queries that found a match among the first k."""
    return 100.0 * sum(1 for rank in ranks.tolist() if rank <= k) / len(ranks)


RECALL_MISTAKES = {
    "rank k itself counts: R@k means rank <= k, not < k": lambda ranks, k: 100 * float((ranks < k).double().mean()),
    "this is a fraction: the field reports percent, multiply by 100": lambda ranks, k: float(
        (ranks <= k).double().mean()
    ),
    "this is a count of hits: divide by the number of queries": lambda ranks, k: float((ranks <= k).sum()),
    "this counts the misses: a hit is a rank of at most k": lambda ranks, k: 100 * float((ranks > k).double().mean()),
    "you divided by k: that is precision; recall divides by the number of queries": lambda ranks, k: (
        100 * float((ranks <= k).double().mean()) / k
    ),
    "only rank k itself counts as a hit here: every rank up to k does": lambda ranks, k: (
        100 * float((ranks == k).double().mean())
    ),
}

# --- chance-recall ---------------------------------------------------------------------------------------------------


def chance_cases() -> Iterator[Inputs]:
    """Galleries from one image to 1,000 x 5, and a k that leaves no way to miss."""
    for images, captions, k in [
        (1000, 5, 1),
        (1000, 5, 10),
        (10, 5, 5),
        (100, 1, 1),
        (100, 1, 10),
        (2, 5, 5),
        (2, 5, 6),
        (1, 5, 1),
        (3, 2, 5),
    ]:
        yield {"images": images, "captions_per_image": captions, "k": k}


def chance_specification(images: int, captions_per_image: int, k: int) -> float:
    """Walk down a shuffled list: the chance of still having missed after k places, place by place."""
    total = images * captions_per_image
    missed = 1.0
    for place in range(min(k, total)):
        missed *= max(total - captions_per_image - place, 0) / (total - place)
    return 100.0 * (1.0 - missed)


CHANCE_MISTAKES = {
    "this is the chance for one caption an image (k / number of captions): any of an image's captions is a hit": (
        lambda images, captions_per_image, k: 100 * min(1.0, k / (images * captions_per_image))
    ),
    "k / number of images is the chance of a caption that looks for its one image, or a sum of chances that overlap: "
    "an image asks here, and it can find two of its captions at once": (
        lambda images, captions_per_image, k: 100 * k / images
    ),
    "you drew with replacement, (1 - p) ** k: a ranking never shows the same caption twice": (
        lambda images, captions_per_image, k: 100 * (1 - (1 - 1 / images) ** k)
    ),
    "you assume five captions an image: use captions_per_image": lambda images, captions_per_image, k: (
        chance_specification(images, 5, k)
    ),
    "this is a probability: give percent, multiply by 100": lambda images, captions_per_image, k: (
        chance_specification(images, captions_per_image, k) / 100
    ),
    "this is the chance to miss: take it from 100": lambda images, captions_per_image, k: (
        100 - chance_specification(images, captions_per_image, k)
    ),
}

# --- ndcg ------------------------------------------------------------------------------------------------------------


def ndcg_cases() -> Iterator[Inputs]:
    """Graded relevance, lists shorter and longer than k, one query."""
    for seed, (queries, candidates, k) in enumerate([(4, 8, 3), (1, 5, 5), (3, 6, 25), (5, 30, 10)]):
        g = _generator(seed)
        scores = torch.randn(queries, candidates, generator=g, dtype=torch.float64)
        relevance = torch.rand(queries, candidates, generator=g, dtype=torch.float64) ** 3
        yield {"scores": scores, "relevance": relevance, "k": k}


def ndcg_specification(scores: Tensor, relevance: Tensor, k: int) -> float:
    """Gain of the model's first k, each over log2(rank + 1), by that of the best order; mean over the queries."""
    return _ndcg(scores, relevance, k)


def _ndcg(scores, relevance, k, gain=lambda r: r, discount=lambda rank: math.log2(rank + 1), ideal_k=None, ideal=True):
    values = []
    for row, grades in zip(scores.tolist(), relevance.tolist(), strict=True):
        order = sorted(range(len(row)), key=lambda c: -row[c])
        best = sorted(grades, reverse=True)[: ideal_k or k]
        dcg = sum(gain(grades[c]) / discount(rank) for rank, c in enumerate(order[:k], start=1))
        idcg = sum(gain(g) / discount(rank) for rank, g in enumerate(best, start=1))
        values.append(dcg / idcg if ideal else dcg)
    return sum(values) / len(values)


def _ndcg_of_means(scores, relevance, k):
    ideal = _ndcg(relevance, relevance, k, ideal=False)
    return _ndcg(scores, relevance, k, ideal=False) / ideal


def _ndcg_by_rank_numbers(scores, relevance, k):
    places = scores.argsort(dim=1, descending=True).argsort(dim=1)
    descending = torch.arange(scores.shape[1], 0, -1, device=scores.device, dtype=scores.dtype).expand_as(scores)
    return _ndcg(descending, relevance.gather(1, places), k)


NDCG_MISTAKES = {
    "this is the mean DCG over the mean best DCG: divide query by query, then take the mean": _ndcg_of_means,
    "this is the sum over the queries: take the mean": lambda scores, relevance, k: (
        _ndcg(scores, relevance, k) * len(scores)
    ),
    "you gathered by each candidate's rank number: gather by the order itself, scores.argsort(descending=True)": (
        _ndcg_by_rank_numbers
    ),
    "this is DCG: divide by the DCG of the best order": lambda scores, relevance, k: _ndcg(
        scores, relevance, k, ideal=False
    ),
    "the discount is the natural logarithm: NDCG takes log2(rank + 1)": lambda scores, relevance, k: _ndcg(
        scores, relevance, k, discount=lambda rank: 1 + math.log(rank)
    ),
    "the discount is missing: divide the gain at each rank by log2(rank + 1)": lambda scores, relevance, k: _ndcg(
        scores, relevance, k, discount=lambda rank: 1.0
    ),
    "ranks start from 1, so the first place is divided by log2(2) = 1; yours is one too far": (
        lambda scores, relevance, k: _ndcg(scores, relevance, k, discount=lambda rank: math.log2(rank + 2))
    ),
    "the discount is the rank itself: take log2(rank + 1)": lambda scores, relevance, k: _ndcg(
        scores, relevance, k, discount=float
    ),
    "this is the exponential gain 2^r - 1: with graded relevance between 0 and 1 we use r itself": (
        lambda scores, relevance, k: _ndcg(scores, relevance, k, gain=lambda r: 2**r - 1)
    ),
    "the best order is not cut at k: both sums stop at rank k": lambda scores, relevance, k: _ndcg(
        scores, relevance, k, ideal_k=scores.shape[1]
    ),
    "you sorted upwards: the highest score comes first": lambda scores, relevance, k: _ndcg(-scores, relevance, k),
    "the sums are not cut at k: both stop at rank k": lambda scores, relevance, k: _ndcg(
        scores, relevance, scores.shape[1]
    ),
}

EXERCISES = (
    Exercise("cosine-scores", cosine_cases, cosine_specification, COSINE_MISTAKES),
    Exercise("caption-ranks", rank_cases, rank_specification, RANK_MISTAKES, explain=explain_ranks),
    Exercise("recall-at-k", recall_cases, recall_specification, RECALL_MISTAKES),
    Exercise("chance-recall", chance_cases, chance_specification, CHANCE_MISTAKES),
    Exercise("ndcg", ndcg_cases, ndcg_specification, NDCG_MISTAKES),
)
