"""``recall-by-group``, lesson 03.

R@1 from text to image, apart for each group of captions, beside a count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from itr_lib.checks._inputs import generator, sizes
from itr_lib.checks.frame import Case, Exercise, Inputs, Rehearsal


def group_library(scores: Tensor, image_of_caption: Tensor, group: Tensor) -> Tensor:
    """A caption's own picture against the best of the others, averaged within groups."""
    own = torch.arange(len(scores), device=scores.device)[:, None] == image_of_caption
    rival = scores.masked_fill(own, -torch.inf).amax(dim=0)
    hit = scores.masked_fill(~own, -torch.inf).amax(dim=0) > rival
    hits = scores.new_zeros(int(group.max()) + 1).index_add(0, group, hit.to(scores))
    return 100 * hits / torch.bincount(group)


EXAMPLE = Case(
    {
        "scores": torch.tensor([[0.9, 0.2, 0.1, 0.6], [0.3, 0.8, 0.7, 0.5]], dtype=torch.float64),
        "image_of_caption": torch.tensor([0, 1, 0, 0]),
        "group": torch.tensor([0, 0, 1, 1]),
    },
    worked=[100, 50],
)


def group_cases() -> Iterator[Case]:
    """Groups of several sizes; then levels, one caption a group, and pictures that own no caption, or many."""
    for seed, (images, captions, groups) in enumerate([(5, 23, 2), (4, 40, 3), (7, 31, 2)]):
        yield Case(_random(*sizes(images, captions), groups, seed))
    yield Case(_random(6, 60, 1, 4), "there is one group only")
    alone = _random(4, 4, 4, 5)
    yield Case(alone | {"group": torch.tensor([2, 0, 3, 1])}, "a group is a single caption")
    level = _random(3, 137, 2, 6)
    yield Case(level | {"scores": (2 * level["scores"]).round()}, "a wrong picture is level with the right one")
    low = _random(5, 30, 2, 7)
    yield Case(low | {"scores": low["scores"] - 9}, "all scores are below 0")
    uneven = _random(5, 30, 2, 8)
    owners = torch.tensor([0] * 11 + [3] * 2 + [1] * 7 + [3] * 10)
    yield Case(uneven | {"image_of_caption": owners}, "pictures own several captions or none")


def _random(images: int, captions: int, groups: int, seed: int) -> Inputs:
    g = generator(400 + seed)
    owner = torch.randint(images, (captions,), generator=g)
    group = torch.cat([torch.arange(groups), torch.randint(groups, (captions - groups,), generator=g)])
    scores = torch.randn(images, captions, generator=g, dtype=torch.float64)
    scores[owner, torch.arange(captions)] += 1.2 * (1 + group % 2)
    return {"scores": scores, "image_of_caption": owner, "group": group}


def group_specification(scores: Tensor, image_of_caption: Tensor, group: Tensor) -> Tensor:
    """Caption by caption: is its picture above all others? Then the percentage of each group."""
    hits: dict[int, list[bool]] = {g: [] for g in range(max(group.tolist()) + 1)}
    for column, owner, g in zip(scores.T.tolist(), image_of_caption.tolist(), group.tolist(), strict=True):
        others = [score for i, score in enumerate(column) if i != owner]
        hits[g].append(all(column[owner] > score for score in others))
    return scores.new_tensor([100 * sum(found) / len(found) for found in hits.values()])


def _true_and_best(scores, owner):
    """The score of each caption's own picture, and the best of the others."""
    own = torch.arange(len(scores), device=scores.device)[:, None] == owner
    return scores.masked_fill(~own, -torch.inf).amax(0), scores.masked_fill(own, -torch.inf).amax(0)


def _hits(scores, owner, how="above"):
    true, rival = _true_and_best(scores, owner)
    if how == "above":
        return true > rival
    if how == "first":
        return scores.argmax(0) == owner
    if how == "level":
        return true >= rival
    if how == "missed":
        return ~(true > rival)
    if how == "none":  # the true picture among its own rivals
        return true > scores.amax(0)
    if how == "zero":
        return true > torch.where(rival.isinf(), 0, rival).clamp(min=0)
    if how == "mean":
        return true > scores.mean(0)
    if how == "worst":
        return scores.argmin(0) == owner
    if how == "row":
        return true >= scores[owner].amax(1)
    if how == "row of others":
        return true > scores[owner].masked_fill(owner[:, None] == owner, -torch.inf).amax(1)
    return (scores >= true).sum(0) <= int(how)


def _by_group(
    scores, image_of_caption, group, owner=lambda owner, scores: owner, how="above", percent=100.0, divisor="group",
    groups=lambda group: group, change=lambda S: S, last=lambda share: share,
):  # fmt: skip
    """The recalls with a step done otherwise; every option is a mistake of the family below."""
    scores = change(scores)
    hit = _hits(scores, owner(image_of_caption, scores), how).to(scores)
    size = int(group.max()) + 1
    total = scores.new_zeros(size).index_add(0, groups(group), hit)
    counts = torch.bincount(groups(group), minlength=size).to(scores)
    by = {
        "group": counts,
        "all": len(group),
        "none": 1.0,
        "mean": len(group) / size,
        "images": len(scores),
        "hits": hit.sum(),
        "more": counts + 1,
    }
    return last(percent * total / by[divisor])


def _from_images(scores, image_of_caption, group):
    """R@1 from image to text, in groups by the caption that was found."""
    found = scores.argmax(1)
    hit = (image_of_caption[found] == torch.arange(len(scores), device=scores.device)).to(scores)
    total = scores.new_zeros(int(group.max()) + 1).index_add(0, group[found], hit)
    return 100 * total / torch.bincount(group[found], minlength=len(total))


def _found_from_images(scores, image_of_caption, group):
    """Captions that their own picture finds first, as a share of all captions of the group."""
    found = scores.argmax(1)
    hit = torch.zeros_like(scores[0])
    hit[found[image_of_caption[found] == torch.arange(len(scores), device=scores.device)]] = 1
    return torch.stack([100 * hit[group == g].mean() for g in range(int(group.max()) + 1)])


def _all(scores, image_of_caption, group):
    share = 100 * _hits(scores, image_of_caption, "above").double().mean()
    return share.to(scores).expand(int(group.max()) + 1)


def _single(scores, image_of_caption, group):
    return 100 * _hits(scores, image_of_caption, "above").to(scores).mean()


def _among_group(scores, image_of_caption, group):
    """Rivals are only pictures that own a caption of the same group."""
    found = []
    for g in range(int(group.max()) + 1):
        rows = image_of_caption[group == g].unique()
        some, owner = scores[rows][:, group == g], image_of_caption[group == g]
        place = torch.searchsorted(rows, owner)
        found.append(100 * _hits(some, place, "above").double().mean())
    return torch.stack(found).to(scores)


FAMILY: dict[str, dict] = {
    "argmax takes the first of pictures that are level, so their order decides: the caption's own must stand above "
    "every other": {"how": "first"},
    "a wrong picture that is level with the right one makes a miss: use >, not >=": {"how": "level"},
    "these are the misses: count the hits": {"how": "missed"},
    "the caption's own picture is among the rivals, and is never above itself: leave it out": {"how": "none"},
    "what is left out became 0, and beats scores below 0: leave it out with -inf": {"how": "zero"},
    "above the mean is no hit yet: the caption's own picture must stand above every other": {"how": "mean"},
    "this looks for the lowest score (or a sign is turned round): the best is the highest": {"how": "worst"},
    "the rivals are the captions of its picture's row: a caption looks for its picture, so the rivals are the pictures "
    "in its column": {"how": "row"},
    "the rivals are other pictures' captions, along the row: a caption looks for its picture, so the rivals are the "
    "pictures in its column": {"how": "row of others"},
    "this is R@2: the caption's own picture must stand first": {"how": "2"},
    "this is R@5: the caption's own picture must stand first": {"how": "5"},
    "this is R@10: the caption's own picture must stand first": {"how": "10"},
    "this is a fraction: give percent, multiply by 100": {"percent": 1.0},
    "these are counts: divide by the number of captions in the group, times 100": {"percent": 1.0, "divisor": "none"},
    "these are counts times 100: divide by the number of captions in the group": {"divisor": "none"},
    "you divide by the number of all captions: each group has its own number": {"divisor": "all"},
    "you divide as if all groups were equally large: count each one's captions": {"divisor": "mean"},
    "you divide by the number of pictures: by the captions of the group": {"divisor": "images"},
    "this is the share of hits that fall into a group: divide by the group's own number of captions": {
        "divisor": "hits"
    },
    "caption i is taken to belong to picture i: its picture is image_of_caption[i]": {
        "owner": lambda owner, scores: torch.arange(len(owner), device=owner.device) % len(scores)
    },
    "captions are taken to come in fives: the picture of caption i is image_of_caption[i]": {
        "owner": lambda owner, scores: (torch.arange(len(owner), device=owner.device) // 5) % len(scores)
    },
    "captions are taken to be spread evenly over the pictures, in order: use image_of_caption": {
        "owner": lambda owner, scores: torch.arange(len(owner), device=owner.device) * len(scores) // len(owner)
    },
    "you divide by one too many: by the number of captions in the group": {"divisor": "more"},
    "the percentages are rounded: leave them as they are": {"last": torch.round},
    "the groups stand in reverse: group 0 comes first": {"last": lambda share: share.flip(0)},
    "the scores have lost their signs": {"change": torch.abs},
}


def _of_pictures(scores, image_of_caption, group):
    """A mean over pictures of the mean over their captions."""
    hit, found = _hits(scores, image_of_caption).to(scores), []
    for g in range(int(group.max()) + 1):
        mine = [hit[(group == g) & (image_of_caption == i)].mean() for i in image_of_caption[group == g].unique()]
        found.append(100 * torch.stack(mine).mean())
    return torch.stack(found)


def _compared(relation: Callable) -> Callable:
    """Another choice of the captions that belong to a group."""

    def recalls(scores, image_of_caption, group):
        hit = _hits(scores, image_of_caption).to(scores)
        return torch.stack([100 * hit[relation(group, g)].mean() for g in range(int(group.max()) + 1)])

    return recalls


def _own_on_the_diagonal(scores, image_of_caption, group):
    hit = ((scores >= scores.diagonal()[image_of_caption]).sum(0) == 1).to(scores)
    return torch.stack([100 * hit[group == g].mean() for g in range(int(group.max()) + 1)])


def _last_group_missing(scores, image_of_caption, group):
    return group_specification(scores, image_of_caption, group)[:-1]


def _one_caption(last: bool) -> Callable:
    """One caption decides for its group."""

    def recalls(scores, image_of_caption, group):
        hit = _hits(scores, image_of_caption).to(scores)
        found = [hit[group == g][-1 if last else 0] for g in range(int(group.max()) + 1)]
        return 100 * torch.stack(found)

    return recalls


def _hits_of_groups(scores, image_of_caption, group) -> str:
    """The captions of the first groups, and which of them are hits."""
    hit, told = _hits(scores, image_of_caption), []
    for g in range(min(2, int(group.max()) + 1)):
        mine = (group == g).nonzero()[:, 0].tolist()
        told.append(f"group {g} has {len(mine)} captions, of which {[c for c in mine if hit[c]][:8]} are hits")
    return "; ".join(told)


EXERCISE = Exercise(
    "recall-by-group",
    library=group_library,
    example=EXAMPLE,
    cases=group_cases,
    specification=group_specification,
    steps=_hits_of_groups,
    mistakes={
        "this averages over pictures first: every caption of the group counts alike": _of_pictures,
        "only the last caption of each group counts: collect all of them, then average": _one_caption(last=True),
        "only the first caption of each group counts: collect all of them, then average": _one_caption(last=False),
        "the last group is missing: groups are numbered from 0, so there are group.max() + 1 of them": (
            _last_group_missing
        ),
        "the true score is read at [i, i] of its picture i: that of caption c stands at [image_of_caption[c], c]": (
            _own_on_the_diagonal
        ),
        "these are the captions outside the group: take group == g": _compared(torch.ne),
        "these are all groups up to g: take group == g": _compared(torch.le),
        "these are all groups from g on: take group == g": _compared(torch.ge),
        "this is image to text: each caption, a column of scores, looks for its picture": _from_images,
        "pictures look for captions here, image to text, along the rows: each caption, a column of scores, looks for "
        "its picture": _found_from_images,
        "this is the R@1 of all captions for every group: average within each one": _all,
        "this is one number, of all captions: each group has its own": _single,
        "only pictures with a caption in the group compete: every picture is a rival": _among_group,
    },
    family=(_by_group, FAMILY),
    rehearsal=Rehearsal(lambda: _random(200, 1000, 2, 9), calls=12),
)
