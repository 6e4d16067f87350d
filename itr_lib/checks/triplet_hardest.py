"""``triplet-hardest``, lesson 01.

The hinge of each query's hardest negative, beside lists of its negatives; gradients too.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from itr_lib.checks._inputs import owners, random_scores
from itr_lib.checks._mistakes import eye
from itr_lib.checks.frame import Case, Exercise, Rehearsal
from itr_lib.checks.outcome import Inputs
from itr_lib.checks.triplet_loop import SMALL, rounded
from itr_lib.objectives import triplet_loss


def masked(ids: list[int], seed: int, scale: float = 1.0, shift: float = 0.0) -> Inputs:
    """Scores of a batch in which some captions are of one picture."""
    owner = torch.tensor(owners(ids))
    return {
        "scores": scale * (random_scores(len(owner), seed) - shift),
        "same_image": owner[:, None] == owner[None, :],
    }


def masked_cases() -> Iterator[Case]:
    """Batches with captions of one picture among them, without, and of one pair."""
    yield Case(masked([0, 1, 2, 3, 4], 9))
    yield Case(masked([0, 1, 2, 1, 3, 0], 10), "two captions belong to one picture")
    yield Case(masked([0, 1, 2, 0, 3], 11, shift=1), "all scores are negative")
    yield Case(masked([0, 0, 1], 12), "two captions belong to one picture")
    yield Case(masked([0], 13, shift=1), "the batch has one pair")
    yield Case(masked([0, 0], 14), "no query has a negative")


def hardest_cases() -> Iterator[Case]:
    """The masked batches with margins, an easy one, scores that are no cosines, and a mask of one direction."""
    for margin, case in zip([0.2, 0.2, 0.5, 0.1, 0.2, 0.2], masked_cases(), strict=True):
        yield Case({**case.inputs, "margin": margin}, case.trap)
    yield Case({**masked([0, 1, 2, 1], 15, 1000.0, 11.0), "margin": 0.2}, "the scores lie far below -10,000")
    level = masked([0, 1, 2, 1, 3], 16, 0.9)
    level["scores"][[0, 0], [0, 2]], level["scores"][[4, 2], [4, 4]] = 0.95, 0.97
    yield Case({**level, "margin": 0.2}, "a negative scores just what its positive does")
    easy = torch.eye(3, dtype=torch.float64)
    yield Case({"scores": easy, "margin": 0.2, "same_image": easy.bool()}, "no negative comes close to its positive")


def hardest_specification(scores: Tensor, margin: float, same_image: Tensor) -> Tensor:
    """The worst negative of each query, in both directions; captions of the same picture are none."""
    total = 0 * scores.sum()  # a batch without negatives has a gradient, too: 0
    for i in range(len(scores)):
        captions = [scores[i, j] for j in range(len(scores)) if not same_image[i, j]]
        images = [scores[j, i] for j in range(len(scores)) if not same_image[j, i]]
        for negatives in (captions, images):
            if negatives:
                total = total + torch.relu(margin + torch.stack(negatives).max() - scores[i, i])
    return total


def never(scores: Tensor, same_image: Tensor, mask: str, direction: int) -> Tensor:
    """What a variant leaves out, as (query, candidate); ``direction``: 0 images ask, 1 captions ask."""
    diagonal, full = eye(scores), same_image if direction == 0 else same_image.T
    return {
        "same": full, "diagonal": diagonal, "none": torch.zeros_like(full), "turned": ~full, "others": full & ~diagonal,
        "rows": full if direction == 0 else diagonal, "columns": full if direction == 1 else diagonal,
        "rows alone": full & (direction == 0), "columns alone": full & (direction == 1),
        "other rows": full & ~diagonal & (direction == 0), "other columns": full & ~diagonal & (direction == 1),
    }[mask]  # fmt: skip


def _hardest(
    scores: Tensor, margin: float, same_image: Tensor, mask="same", fill=None, rows=1, columns=1, pick="max",
    cut=True, inside=True, scale=1.0, sign=1, own="query", over="sum", semi=False, level=False,
) -> Tensor:  # fmt: skip
    """The loss with all that a learner may change in it; ``fill``: masked scores instead of masked costs."""
    worst = []
    for direction, table in enumerate((scores, scores.T)):  # (query, candidate)
        left_out = never(scores, same_image, mask, direction)
        positive = _positive(scores, same_image, own, direction)
        left_out = left_out | ((table > positive) if semi else (table == positive) if level else False)
        if fill is not None:
            table = table - left_out.to(table.dtype) if fill == "less" else table.masked_fill(left_out, fill)
        cost = sign * (table - (positive if own else 0))
        cost = scale * margin + cost if inside else cost
        cost = {
            True: torch.relu,
            "floor": lambda x: (x - margin).clamp(min=margin),
            "square": lambda x: torch.relu(x) ** 2,
            "abs": torch.abs,
        }.get(cut, lambda x: x)(cost)
        cost = cost if inside else cost + margin
        if fill is None:
            cost = cost.masked_fill(
                left_out,
                -torch.inf if pick == "max" and cut in (False, "end", "joint") else 0 if pick != "min" else 1e9,
            )
        worst.append(_pick(cost, left_out, pick))
        worst[-1] = worst[-1].sum().clamp(min=0) if cut == "end" else worst[-1]
    worst = [torch.relu(worst[0] + worst[1]), 0 * worst[1]] if cut == "joint" else worst
    total = torch.maximum(*worst).sum() if over == "worse" else rows * worst[0].sum() + columns * worst[1].sum()
    return total / {"queries": len(scores), "two": 2, "all": 2 * len(scores), "square": len(scores) ** 2}.get(over, 1)


def _positive(scores: Tensor, same_image: Tensor, own: str, direction: int) -> Tensor:
    """What is subtracted from (query, candidate)."""
    diagonal = scores.diagonal()
    if own == "best":
        best = scores.masked_fill(~same_image, -torch.inf)
        return best.amax(dim=1 - direction)[:, None]
    return diagonal[None, :] if own in ("candidate", ("rows", "columns")[direction]) else diagonal[:, None]


def _of_all(scores: Tensor, margin: float, same_image: Tensor, directions: int = 2) -> Tensor:
    """The highest negative of the whole batch for every query."""
    highest = scores.masked_fill(same_image, -torch.inf).amax()
    return directions * torch.relu(margin + highest - scores.diagonal()).sum()


def _joint(scores: Tensor, margin: float, same_image: Tensor, dim: int = 1) -> Tensor:
    """Both directions added before the maximum."""
    own = scores.diagonal()
    cost = torch.relu(margin + scores - own[:, None]) + torch.relu(margin + scores - own[None, :])
    return cost.masked_fill(same_image, 0).amax(dim=dim).sum()


def _place(scores: Tensor, margin: float, same_image: Tensor) -> Tensor:
    """argmax in place of the maximum."""
    negatives = scores.masked_fill(same_image, -torch.inf)
    places = negatives.argmax(dim=1), negatives.argmax(dim=0)
    return sum(torch.relu(margin + place - scores.diagonal()).sum() for place in places)


def _soft(scores: Tensor, margin: float, same_image: Tensor) -> Tensor:
    negatives = scores.masked_fill(same_image, -torch.inf)
    return sum(torch.relu(margin + negatives.logsumexp(dim) - scores.diagonal()).sum() for dim in (1, 0))


def steps(scores: Tensor, margin: float, same_image: Tensor) -> str:
    """What each query of a case pays for its hardest negative."""
    negatives, own = scores.masked_fill(same_image, -torch.inf), scores.diagonal()
    images, captions = (rounded(torch.relu(margin + negatives.amax(dim) - own)) for dim in (1, 0))
    return f"the images that ask cost {images}, the captions {captions}"


MISTAKES = {
    "every query is held against the highest negative of the whole batch: each has its own, amax(dim=...)": _of_all,
    "every image is held against the highest negative of the whole batch: each has its own; and captions ask too": (
        lambda scores, margin, same_image: _of_all(scores, margin, same_image, 1)
    ),
    "the costs of both directions are added before the maximum: take the maximum of each, then add": _joint,
    "the costs of both directions are added before the maximum, down the columns: take each maximum, then add": (
        lambda scores, margin, same_image: _joint(scores, margin, same_image, 0)
    ),
    "argmax says where the highest negative stands: its score is amax": _place,
    "logsumexp is a soft maximum: the hardest negative is amax": _soft,
}


def _pick(cost: Tensor, left_out: Tensor, pick: str) -> Tensor:
    """One cost a query."""
    if pick == "mean":
        return cost.sum(dim=1) / (~left_out).sum(dim=1).clamp(min=1)
    if pick == "min":
        lowest = cost.amin(dim=1)
        return lowest.masked_fill(lowest > 1e8, 0)
    if pick == "second":
        return cost.sort(dim=1, descending=True).values[:, min(1, len(cost) - 1)]
    whole = {"max": lambda: cost.amax(dim=1), "sum": lambda: cost.sum(dim=1), "one": lambda: cost.amax().reshape(1)}
    return whole[pick]()


TOGGLES = {
    "only images ask here (rows): captions ask too, take the maximum of each column as well": {"columns": 0},
    "only captions ask here (columns): images ask too, take the maximum of each row as well": {"rows": 0},
    "this is divided by the batch: the loss is a plain sum over queries": {"over": "queries"},
    "positives and axis do not fit: where images ask, subtract them as a column [:, None] and take the maximum over "
    "dim=1; where captions ask, as a row [None, :] and over dim=0": {"own": "candidate"},
    "the rows are counted twice: the second term goes down the columns": {"rows": 2, "columns": 0},
    "the columns are counted twice: the first term goes along the rows": {"rows": 0, "columns": 2},
    "captions of the same picture are pushed away as negatives: use same_image, not the diagonal alone": {
        "mask": "diagonal",
    },
    "same_image is used for the rows only: captions that ask need it too": {"mask": "rows"},
    "same_image is used for the columns only: images that ask need it too": {"mask": "columns"},
    "the columns are not masked: captions that ask need same_image too": {"mask": "rows alone"},
    "the rows are not masked: images that ask need same_image too": {"mask": "columns alone"},
    "every negative is counted: keep only the worst one of each query (max, not sum)": {"pick": "sum"},
    "this is the mean over each query's negatives: keep only the worst one (max)": {"pick": "mean"},
    "this is one worst negative for the whole batch: each query has its own, amax(dim=...)": {"pick": "one"},
    "you took the second hardest negative: after the mask the worst one is the maximum itself": {"pick": "second"},
    "only the worse direction of each pair is counted: add both": {"over": "worse"},
    "the positive takes part in the maximum: mask the diagonal before you look for the worst": {"mask": "none"},
    "every query costs the margin at least: it stands outside the bracket, or the positive takes part in the maximum "
    "(same_image is True on the diagonal, leave it so)": {"mask": "others"},
    "the mask is turned round: same_image is True at what is no negative": {"mask": "turned"},
    "you took the easiest negative (min): the hardest is the one with the highest score": {"pick": "min"},
    "a masked score became 0 before the maximum, so it can win where real scores are lower: fill with -torch.inf, "
    "or mask after the hinge": {"fill": 0.0},
    "a masked score became -1 before the maximum: scores can be lower still; fill with -torch.inf": {"fill": -1.0},
    "a masked score became -100 before the maximum: scores can be lower still; fill with -torch.inf": {"fill": -100.0},
    **{
        f"a masked score became {fill} before the maximum: scores can be lower still; fill with -torch.inf": {
            "fill": float(fill),
        }
        for fill in (-1000, -10000)
    },
    "a masked score became 1 before the maximum, and wins: fill with -torch.inf": {"fill": 1.0},
    "negatives that are far enough away must cost 0, not less: cut off with clamp(min=0)": {"cut": False},
    **{
        f"negatives that are far enough away must cost 0, not less (and {fill} stands in their place where there are "
        "none): cut off with clamp(min=0)": {"cut": False, "fill": float(fill)}
        for fill in (-1000, -10000)
    },
    "both directions of a pair are cut off together: each query's cost is cut off at 0 for itself": {"cut": "joint"},
    "negatives above the positive are left out (semi-hard): the hardest of all counts": {"semi": True},
    "negatives that score just what the positive does are left out: same_image alone says what is no negative": {
        "level": True,
    },
    "you took max(margin, ...): the floor is 0, and the margin stands inside": {"cut": "floor"},
    "you cut off once, after adding up: each query's cost is cut off at 0 for itself": {"cut": "end"},
    "where images ask, the positive is that of the candidate: it is a column there, [:, None]": {"own": "rows"},
    "where captions ask, the positive is that of the candidate: it is a row there, [None, :]": {"own": "columns"},
    "the positive is the best caption of the picture: it is the diagonal, scores[i, i]": {"own": "best"},
    "1 was subtracted from what is no negative: it can still be the highest; fill with -torch.inf": {"fill": "less"},
    "each shortfall is squared: it counts as it is": {"cut": "square"},
    "you took the absolute value: a negative that is far enough away costs 0": {"cut": "abs"},
    "the margin is added after the cut: it belongs inside, before clamp(min=0)": {"inside": False},
    "the margin is missing: a negative must stay that far below its positive": {"scale": 0.0},
    "the margin is subtracted: add it": {"scale": -1.0},
    "the sign is turned round: a negative costs when margin + negative - positive is above 0": {"sign": -1},
    "the positive is not subtracted": {"own": ""},
    "this is a mean over all 2B queries: the loss is a plain sum": {"over": "all"},
    "this is divided by B x B: the loss is a plain sum over queries": {"over": "square"},
    "the two directions are averaged: add them": {"over": "two"},
}  # fmt: skip


def quarter_of_a_batch() -> Inputs:
    """A quarter of the pairs that a batch of the lesson has."""
    return {"scores": random_scores(64, 0).float().requires_grad_(True), "same_image": torch.eye(64).bool()}


EXERCISE = Exercise(
    "triplet-hardest",
    library=lambda scores, margin, same_image: triplet_loss(scores, margin=margin, same_image=same_image),
    example=Case({"scores": SMALL, "margin": 0.2, "same_image": torch.eye(3).bool()}, worked=1.15),
    cases=hardest_cases,
    specification=hardest_specification,
    mistakes=MISTAKES,
    steps=steps,
    family=(_hardest, TOGGLES),
    gradients=("scores",),
    rehearsal=Rehearsal(lambda: {**quarter_of_a_batch(), "margin": 0.2}, calls=4 * 60),
)
