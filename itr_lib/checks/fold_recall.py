"""``fold-recall``, lesson 06.

COCO 1K: text to image recall as the mean over folds of the gallery, beside a loop over folds and captions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from itr_lib.checks._inputs import generator, sizes
from itr_lib.checks.frame import Case, Exercise, Rehearsal
from itr_lib.checks.outcome import Inputs


def _gallery(images: int, captions: int, seed: int, strength: float = 1.5) -> Inputs:
    """Scores in which a caption's own picture stands out; captions in any order, and not equally many a picture."""
    g = generator(700 + seed)
    owner = torch.cat([torch.arange(images), torch.randint(images, (captions - images,), generator=g)])
    owner = owner[torch.randperm(captions, generator=g)]
    scores = torch.randn(images, captions, generator=g, dtype=torch.float64)
    scores[owner, torch.arange(captions)] += strength * (0.4 + owner / images)  # later folds are easier
    return {"scores": scores, "image_of_caption": owner}


def fold_cases() -> Iterator[Case]:
    """Several numbers of folds and ranks; captions in no order; levels; a fold of one picture; one fold of all."""
    for seed, (images, captions, folds, k) in enumerate(
        [(10, 61, 5, 1), (12, 41, 3, 1), (24, 97, 3, 2), (40, 211, 4, 5), (30, 67, 2, 3)]
    ):
        yield Case(_gallery(images, *sizes(captions), seed) | {"folds": folds, "k": k})
    in_order = _gallery(10, 50, 5) | {"image_of_caption": torch.arange(50) // 5}
    yield Case(in_order | {"folds": 5, "k": 1}, "captions stand in the order of their pictures, five each")
    yield Case(_gallery(9, 40, 6) | {"folds": 1, "k": 1}, "there is one fold, of all pictures")
    yield Case(_gallery(7, 23, 7) | {"folds": 7, "k": 1}, "a fold is a single picture")
    level = _gallery(12, 60, 8)
    level = level | {"scores": level["scores"].round(), "folds": 3, "k": 1}
    yield Case(level, "a wrong picture is level with the right one")
    low = _gallery(12, 50, 9)
    yield Case(low | {"scores": low["scores"] - 9, "folds": 2, "k": 1}, "all scores are below 0")
    yield Case(_gallery(12, 55, 10) | {"folds": 3, "k": 10}, "k is above the number of pictures in a fold")


def fold_specification(scores: Tensor, image_of_caption: Tensor, folds: int, k: int) -> float:
    """Fold by fold, caption by caption: how many pictures of the fold score at least as much as its own?"""
    table, owners, size = scores.tolist(), image_of_caption.tolist(), len(scores) // folds
    recalls = []
    for fold in range(folds):
        pictures, hits = range(fold * size, (fold + 1) * size), []
        for caption, owner in enumerate(owners):
            if owner in pictures:
                rank = 1 + sum(table[i][caption] >= table[owner][caption] for i in pictures if i != owner)
                hits.append(rank <= k)
        recalls.append(100 * sum(hits) / len(hits))
    return sum(recalls) / folds


def _blocks(scores: Tensor, owner: Tensor, folds: int) -> list[tuple[Tensor, Tensor]]:
    """The pictures of each fold, and the captions that belong to them."""
    size = len(scores) // folds
    pictures = [torch.arange(f * size, (f + 1) * size, device=scores.device) for f in range(folds)]
    return [(rows, ((owner >= rows[0]) & (owner <= rows[-1])).nonzero()[:, 0]) for rows in pictures]


def _strided(scores: Tensor, owner: Tensor, folds: int) -> list[tuple[Tensor, Tensor]]:
    pictures = [torch.arange(f, len(scores), folds, device=scores.device) for f in range(folds)]
    return [(rows, (owner % folds == f).nonzero()[:, 0]) for f, rows in enumerate(pictures)]


def _of_captions(scores: Tensor, owner: Tensor, folds: int) -> list[tuple[Tensor, Tensor]]:
    """Captions cut into equal runs, each among all pictures."""
    every = torch.arange(len(scores), device=scores.device)
    return [(every, some) for some in torch.arange(len(owner), device=scores.device).chunk(folds)]


def _runs_of_both(scores: Tensor, owner: Tensor, folds: int) -> list[tuple[Tensor, Tensor]]:
    """Equal runs of captions and of pictures, as if captions stood in the order of their pictures."""
    size, each = len(scores) // folds, len(owner) // folds
    return [
        (torch.arange(f * size, (f + 1) * size, device=scores.device), torch.arange(f * each, (f + 1) * each))
        for f in range(folds)
    ]


def _uncut(scores: Tensor, owner: Tensor, folds: int) -> list[tuple[Tensor, Tensor]]:
    every = torch.arange(len(scores), device=scores.device)
    return [(every, captions) for _, captions in _blocks(scores, owner, folds)]


def _all_captions(scores: Tensor, owner: Tensor, folds: int) -> list[tuple[Tensor, Tensor]]:
    return [(rows, torch.arange(len(owner), device=scores.device)) for rows, _ in _blocks(scores, owner, folds)]


def _mean(hits: list[Tensor]) -> float:
    return sum(float(h.double().mean()) for h in hits) / len(hits)


def folded(
    scores, image_of_caption, folds, k, blocks=_blocks, some=lambda blocks: blocks, beats=torch.ge, shift=0,
    percent=100.0, over=_mean, last=lambda share: share,
) -> float:  # fmt: skip
    """The mean over folds, with options to spoil it; every one is a mistake of the family below."""
    hits = []
    for rows, captions in some(blocks(scores, image_of_caption, folds)):
        own = scores[image_of_caption[captions], captions]
        foreign = rows[:, None] != image_of_caption[captions]
        rank = (beats(scores[rows][:, captions], own) & foreign).sum(0)
        here = (~foreign).any(0)  # its picture is not in this gallery: no rank at all
        hits.append((1 + rank + shift <= k) & here)
    return last(percent * over(hits))


FAMILY: dict[str, dict] = {
    "the gallery is not cut: a caption of a fold is to look for its picture among the pictures of that fold alone": {
        "blocks": _uncut
    },
    "folds are cut from the captions, and the gallery is not cut: a fold is N / folds pictures, with the captions that "
    "belong to them": {"blocks": _of_captions},
    "captions are cut into equal runs beside the pictures: they come in any order, so a fold has those whose "
    "image_of_caption lies in it": {"blocks": _runs_of_both},
    "all captions ask in every fold: only those ask whose picture is in it, the others could never find it": {
        "blocks": _all_captions
    },
    "a fold takes every folds-th picture: it is a run of pictures, fold f begins at f * N / folds": {
        "blocks": _strided
    },
    "only the first fold is measured: take the mean over all": {"some": lambda blocks: blocks[:1]},
    "only the last fold is measured: collect the recalls of all folds, then average": {
        "some": lambda blocks: blocks[-1:]
    },
    "the last fold is dropped: there are `folds` of them, range(folds)": {
        "some": lambda blocks: blocks[: max(1, len(blocks) - 1)]
    },
    "the first fold is left out: begin with fold 0": {"some": lambda blocks: blocks[1:] or blocks},
    "a wrong picture that is level with the right one must stand before it: >=, not >": {"beats": torch.gt},
    "pictures that score less are counted: the rank counts those that score at least as much": {"beats": torch.lt},
    "a picture counts itself already (>=), and 1 is added to that: ranks are one too large": {"shift": 1},
    "a hit is a rank of at most k, ranks from 1: yours takes rank k + 1, too": {"shift": -1},
    "this is a fraction: give percent, multiply by 100": {"percent": 1.0},
    "the hits of all folds are put together first: take each fold's recall, then the mean of these": {
        "over": lambda hits: float(torch.cat(hits).double().mean())
    },
    "the recalls of the folds are added: take their mean": {
        "over": lambda hits: sum(float(h.double().mean()) for h in hits)
    },
    "this is the best fold: take the mean over all": {"over": lambda hits: max(float(h.double().mean()) for h in hits)},
    "this is the worst fold: take the mean over all": {
        "over": lambda hits: min(float(h.double().mean()) for h in hits)
    },
    "this is the median of the folds: take their mean": {
        "over": lambda hits: float(torch.stack([h.double().mean() for h in hits]).median())
    },
    "these are the misses: count the hits": {"over": lambda hits: 1 - _mean(hits)},
    "these are hits, not their share: divide by the number of captions that ask in the fold": {
        "over": lambda hits: sum(int(h.sum()) for h in hits) / len(hits)
    },
    "the result is rounded: keep the decimals": {"last": round},
    "the result is rounded to one decimal: keep them all": {"last": lambda share: round(share, 1)},
}


def _from_pictures(scores: Tensor, image_of_caption: Tensor, folds: int, k: int) -> float:
    """Image to text: has a picture one of its captions among its first k of the fold?"""
    recalls = []
    for rows, captions in _blocks(scores, image_of_caption, folds):
        block, own = scores[rows][:, captions], image_of_caption[captions] == rows[:, None]
        best = block.masked_fill(~own, -torch.inf).amax(1, keepdim=True)
        recalls.append(float(((((block >= best) & ~own).sum(1) + 1) <= k).double().mean()))
    return 100 * sum(recalls) / folds


def _all_ask(scores: Tensor, image_of_caption: Tensor, folds: int, k: int) -> float:
    """In every fold every caption, whose own picture need not be there to be outscored by few."""
    own = scores[image_of_caption, torch.arange(len(image_of_caption), device=scores.device)]
    return 100 * sum(float(((block >= own).sum(0) <= k).double().mean()) for block in scores.chunk(folds)) / folds


def _of_one_size(scores: Tensor, image_of_caption: Tensor, folds: int, k: int) -> float:
    """Folds of ``folds`` pictures each."""
    size = min(folds, len(scores))
    return folded(scores, image_of_caption, len(scores) // size, k)


def _best_alone(scores: Tensor, image_of_caption: Tensor, folds: int, k: int) -> float:
    return folded(scores, image_of_caption, folds, 1)


def _row_of_the_fold(scores: Tensor, image_of_caption: Tensor, folds: int, k: int) -> float:
    """The number of a picture in all, looked up within a fold."""
    recalls = []
    for rows, captions in _blocks(scores, image_of_caption, folds):
        found = scores[rows][:, captions].topk(min(k, len(rows)), 0).indices
        recalls.append(float((found == image_of_caption[captions]).any(0).double().mean()))
    return 100 * sum(recalls) / folds


def _by_order(scores: Tensor, image_of_caption: Tensor, folds: int, k: int) -> float:
    """topk takes the first of those that are level."""
    recalls = []
    for rows, captions in _blocks(scores, image_of_caption, folds):
        order = scores[rows][:, captions].argsort(0, descending=True, stable=True)[:k]
        recalls.append(float((rows[order] == image_of_caption[captions]).any(0).double().mean()))
    return 100 * sum(recalls) / folds


MISTAKES: dict[str, Callable] = {
    "pictures look for captions here: each caption looks for its picture, down its column": _from_pictures,
    "all captions ask in every fold, and one counts as found where few pictures score as much as its own, which is "
    "elsewhere: only those ask whose picture is in the fold": _all_ask,
    "folds is taken for the number of pictures in a fold: there are that many folds": _of_one_size,
    "k is not used: a hit is a rank of at most k": _best_alone,
    "within a fold the first picture is row 0, but image_of_caption counts from the first of all pictures: subtract "
    "where the fold begins": _row_of_the_fold,
    "topk and argsort take the first of pictures that are level, so their order decides: count those that score at "
    "least as much as the right one": _by_order,
}


def _first_fold(scores: Tensor, image_of_caption: Tensor, folds: int, k: int) -> str:
    """What there is to count in a case's first fold."""
    (rows, captions), hit = _blocks(scores, image_of_caption, folds)[0], []
    for caption in captions.tolist():
        own = scores[image_of_caption[caption], caption]
        hit += [caption] * (int((scores[rows][:, caption] >= own).sum()) <= k)
    return f"fold 0 has pictures 0 to {int(rows[-1])} and {len(captions)} captions, of which {hit[:12]} are hits"


def library_folds(scores: Tensor, image_of_caption: Tensor, folds: int, k: int) -> float:
    """Recall of each block of the gallery, then the mean."""
    recalls = []
    for rows in torch.arange(len(scores), device=scores.device).chunk(folds):
        captions = torch.isin(image_of_caption, rows).nonzero()[:, 0]
        block, own = scores[rows][:, captions], scores[image_of_caption[captions], captions]
        recalls.append(100 * float(((block >= own).sum(0) <= k).double().mean()))
    return sum(recalls) / folds


EXERCISE = Exercise(
    "fold-recall",
    library=library_folds,
    example=Case(
        {
            "scores": torch.tensor(
                [[0.9, 0.8, 0.1, 0.2], [0.3, 0.7, 0.5, 0.1], [0.2, 0.9, 0.4, 0.6], [0.8, 0.1, 0.2, 0.5]],
                dtype=torch.float64,
            ),
            "image_of_caption": torch.tensor([0, 1, 2, 3]),
            "folds": 2,
            "k": 1,
        },
        worked=50,
    ),
    cases=fold_cases,
    specification=fold_specification,
    mistakes=MISTAKES,
    family=(folded, FAMILY),
    steps=_first_fold,
    rehearsal=Rehearsal(lambda: _gallery(500, 2500, 11) | {"folds": 5, "k": 1}, calls=10),
)
