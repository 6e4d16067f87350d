"""``warm-up``, lesson 01.

All negatives first, the hardest afterwards: a loss that changes with the epoch, beside lists; gradients too.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from itr_lib.checks._mistakes import eye
from itr_lib.checks.frame import Case, Exercise, Rehearsal
from itr_lib.checks.triplet_hardest import masked, never, quarter_of_a_batch
from itr_lib.checks.triplet_loop import SMALL, rounded
from itr_lib.objectives import triplet_loss

MARGIN = 0.2
QUERY = ("rows", "columns")  # a direction in which the positive is the query's


def warm_cases() -> Iterator[Case]:
    """Epochs on both sides of the switch, warm-ups of none, one and two epochs, and batches as they come."""
    plain, shared = [0, 1, 2, 3, 4], [0, 1, 2, 1, 3, 0]
    for seed, (owners, epoch, warmup, trap) in enumerate(
        [
            (plain, 0, 1, ""),
            (plain, 2, 1, ""),
            (plain, 0, 2, ""),
            (plain, 1, 1, "the warm-up has just ended (epoch 1, warmup_epochs 1)"),
            (plain, 1, 2, "the warm-up is in its last epoch (epoch 1, warmup_epochs 2)"),
            (plain, 0, 0, "there is no warm-up (warmup_epochs 0)"),
            (plain, 2, 2, "the warm-up has just ended (epoch 2, warmup_epochs 2)"),
            (shared, 0, 1, "captions of one picture meet during the warm-up"),
            (shared, 1, 1, "captions of one picture meet after the warm-up"),
            ([0], 0, 1, "the batch has one pair"),
            ([0], 1, 1, "the batch has one pair"),
        ]
    ):
        yield Case({**masked(owners, 50 + seed), "margin": MARGIN, "epoch": epoch, "warmup_epochs": warmup}, trap)
    low = masked(shared, 70, shift=1)
    yield Case({**low, "margin": 0.5, "epoch": 0, "warmup_epochs": 1}, "all scores are negative")
    yield Case({**low, "margin": 0.5, "epoch": 3, "warmup_epochs": 1}, "all scores are negative")
    far = {**masked([0, 1, 2, 1, 3], 71, 1000.0, 20.0), "margin": 0.5, "warmup_epochs": 1}
    for epoch in (0, 1):
        yield Case({**far, "epoch": epoch}, "the scores lie far below -10,000")


def warm_specification(scores: Tensor, margin: float, same_image: Tensor, epoch: int, warmup_epochs: int) -> Tensor:
    """A list of shortfalls for each query: all of them, or the largest; divided by the number of pairs."""
    size, total = len(scores), 0 * scores.sum()
    for i in range(size):
        for asked in ([scores[i, j] for j in range(size) if not same_image[i, j]],
                      [scores[j, i] for j in range(size) if not same_image[j, i]]):  # fmt: skip
            shortfalls = [torch.relu(margin + negative - scores[i, i]) for negative in asked]
            if shortfalls:
                kept = shortfalls if epoch < warmup_epochs else [max(shortfalls, key=Tensor.item)]
                total = total + torch.stack(kept).sum()
    return total / size


def _warm(
    scores: Tensor, margin: float, same_image: Tensor, epoch: int, warmup_epochs: int, switch="<", all_mask="same",
    hard_mask="same", rows=1, columns=1, inside=True, cut=True, own="query", all_over="batch", hard_over="batch",
    scale=1.0, pick="each", fill=None,
) -> Tensor:  # fmt: skip
    """The loss with all that a learner may change in it."""
    costs, totals, violations = [], {"all": [], "hardest": []}, {"all": 0, "hardest": 0}
    for direction, table in enumerate((scores, scores.T)):
        positive = scores.diagonal()[:, None] if own in ("query", QUERY[direction]) else scores.diagonal()[None, :]
        table = table if fill is None else table.masked_fill(never(scores, same_image, all_mask, direction), fill)
        cost = (scale * margin if inside else 0) + table - positive
        cost = (torch.relu(cost) if cut else cost) + (0 if inside else margin)
        weight = {"B": len(scores)}.get((rows, columns)[direction], (rows, columns)[direction])
        costs.append(cost)
        kept = [
            cost if fill is not None else cost.masked_fill(never(scores, same_image, mask, direction), 0)
            for mask in (all_mask, hard_mask)
        ]
        totals["all"].append(weight * kept[0].sum())
        worst = kept[1].amax(dim=0 if pick == ("columns", "rows")[direction] else 1)
        violations["all"] += int((kept[0] > 0).sum())
        violations["hardest"] += int((worst > 0).sum())
        totals["hardest"].append(weight * (worst.amax() if pick == "one" else worst.sum()))
    totals["hardest"] = [_worse(costs, same_image, hard_mask)] if pick == "worse" else totals["hardest"]
    sizes = {"batch": len(scores), "queries": 2 * len(scores), "pairs": len(scores) ** 2}
    sizes["negatives"] = int((~same_image).sum())
    everything, hardest = (
        sum(totals[kind]) / (sizes | {"violations": max(1, violations[kind])}).get(over, 1)
        for kind, over in (("all", all_over), ("hardest", hard_over))
    )
    return _of_epoch(everything, hardest, switch, epoch, warmup_epochs)


def _of_epoch(everything: Tensor, hardest: Tensor, switch: str, epoch: int, warmup_epochs: int) -> Tensor:
    """What counts in an epoch."""
    warm = {
        "<": epoch < warmup_epochs, "<=": epoch <= warmup_epochs, "late": epoch + 1 < warmup_epochs,
        "first": epoch == 0, ">=": epoch >= warmup_epochs, "all": True, "hardest": False, "sum": False,
        "sum after": True,
    }[switch]  # fmt: skip
    both = switch in ("sum", "sum after") and (epoch < warmup_epochs) == (switch == "sum")
    return everything + hardest if both else everything if warm else hardest


def _worse(costs: list[Tensor], same_image: Tensor, mask: str) -> Tensor:
    rows, columns = (cost.masked_fill(never(cost, same_image, mask, k), 0).amax(dim=1) for k, cost in enumerate(costs))
    return torch.maximum(rows, columns).sum()


def _growing_margin(scores: Tensor, margin: float, same_image: Tensor, epoch: int, warmup_epochs: int, late: int = 1):
    """The margin warms up, and the hardest negative counts all the while."""
    share = min(1.0, (epoch + late) / max(1, warmup_epochs + late))
    return _warm(scores, share * margin, same_image, epoch, warmup_epochs, switch="hardest")


MISTAKES = {
    f"the margin grows with the epoch{more}: it stays, and what changes is how many negatives count": (
        lambda late=late, **inputs: _growing_margin(**inputs, late=late)
    )
    for late, more in ((1, ""), (0, ", from 0"))
}
TOGGLES = {
    "the warm-up lasts one epoch too long: epochs are counted from 0, so it is epoch < warmup_epochs": {"switch": "<="},
    "the warm-up ends one epoch too early: epochs are counted from 0, so it is epoch < warmup_epochs": {
        "switch": "late",
    },
    "only epoch 0 is warm: compare with warmup_epochs": {"switch": "first"},
    "the two are exchanged: all negatives come first, while epoch < warmup_epochs, the hardest afterwards": {
        "switch": ">=",
    },
    "all negatives count in every epoch: after the warm-up only the hardest of each query does": {"switch": "all"},
    "only the hardest counts in every epoch: during the warm-up all negatives do": {"switch": "hardest"},
    "the warm-up adds the hardest to all negatives: it takes all of them, once": {"switch": "sum"},
    "after the warm-up all negatives go on to count, beside the hardest: only the hardest do": {"switch": "sum after"},
    "only the columns are divided by B, for want of brackets: (rows + columns) / B": {"rows": "B"},
    "only the rows are divided by B, for want of brackets: (rows + columns) / B": {"columns": "B"},
    **{
        f"masked scores became {fill} before the hinge, and can cost something: mask the costs, or fill with "
        "-torch.inf": {"fill": float(fill)}
        for fill in (0, -1, -100, -1000, -10000)
    },
    "after the warm-up both maxima go along the rows: captions ask down the columns, amax(dim=0)": {"pick": "rows"},
    "after the warm-up both maxima go down the columns: images ask along the rows, amax(dim=1)": {"pick": "columns"},
    "this is a mean over the costs above 0: divide by the number of pairs, B": {
        "all_over": "violations", "hard_over": "violations",
    },
    "the positives stand as a column in both directions: captions that ask need them as a row, positives[None, :]": {
        "own": "rows",
    },
    "the positives stand as a row in both directions: images that ask need them as a column, positives[:, None]": {
        "own": "columns",
    },
    "the loss is not divided: divide by the number of pairs, B, in both phases": {
        "all_over": "", "hard_over": "",
    },
    "the sum over all negatives is not divided by B": {"all_over": ""},
    "the sum over the hardest is not divided by B": {"hard_over": ""},
    "divided by 2B: divide by the number of pairs, B": {"all_over": "queries", "hard_over": "queries"},
    "the warm-up is divided by 2B: divide by the number of pairs, B": {"all_over": "queries"},
    "the hardest are divided by 2B: divide by the number of pairs, B": {"hard_over": "queries"},
    "the warm-up is a mean over all B x B costs: it is the sum of all, divided by B": {"all_over": "pairs"},
    "both phases are divided by B x B: divide by B": {"all_over": "pairs", "hard_over": "pairs"},
    "the warm-up is a mean over each query's negatives: it is the sum of all, divided by B": {"all_over": "negatives"},
    "after the warm-up one hardest negative of the whole batch is taken: each query has its own, amax(dim=...)": {
        "pick": "one",
    },
    "after the warm-up only the worse direction of each pair is counted: add both": {"pick": "worse"},
    "captions of the same picture count as negatives: use same_image in both phases": {
        "all_mask": "diagonal", "hard_mask": "diagonal",
    },
    "captions of the same picture count as negatives during the warm-up: use same_image there, too": {
        "all_mask": "diagonal",
    },
    "captions of the same picture count as negatives after the warm-up: use same_image there, too": {
        "hard_mask": "diagonal",
    },
    "nothing is masked: same_image says what is no negative": {"all_mask": "none", "hard_mask": "none"},
    "nothing is masked during the warm-up: the positive costs the margin": {"all_mask": "none"},
    "nothing is masked after the warm-up: the positive takes part in the maximum": {"hard_mask": "none"},
    "the mask is turned round: same_image is True at what is no negative": {
        "all_mask": "turned", "hard_mask": "turned",
    },
    "the columns are not masked: captions that ask need same_image too": {
        "all_mask": "rows alone", "hard_mask": "rows alone",
    },
    "the rows are not masked: images that ask need same_image too": {
        "all_mask": "columns alone", "hard_mask": "columns alone",
    },
    "only images ask here (rows): add the captions, which go down the columns": {"columns": 0},
    "only captions ask here (columns): add the images, which go along the rows": {"rows": 0},
    "the rows are counted twice: the second term goes down the columns": {"rows": 2, "columns": 0},
    "positives and axis do not fit: rows belong to images, positives[:, None] and dim=1, columns to captions": {
        "own": "candidate",
    },
    "the margin stands outside the bracket: it belongs inside, before the cut at 0": {"inside": False},
    "the margin is missing": {"scale": 0.0},
    "negatives that are far enough away must cost 0, not less: cut off with clamp(min=0)": {"cut": False},
}  # fmt: skip


def _steps(scores: Tensor, margin: float, same_image: Tensor, epoch: int, warmup_epochs: int) -> str:
    """What each query of a case pays in this epoch."""
    own, warm = scores.diagonal(), epoch < warmup_epochs
    costs = (margin + scores - own[:, None], (margin + scores - own[None, :]).T)
    costs = [torch.relu(cost).masked_fill(same_image, 0) for cost in costs]
    images, captions = (rounded(cost.sum(dim=1) if warm else cost.amax(dim=1)) for cost in costs)
    phase = "all negatives count" if warm else "the hardest count"
    return f"in this epoch {phase}: the images that ask cost {images}, the captions {captions}"


def warm_triplet(scores: Tensor, margin: float, same_image: Tensor, epoch: int, warmup_epochs: int) -> Tensor:
    """What :class:`itr_lib.objectives.TripletObjective` does with the scores of a batch."""
    negatives = "all" if epoch < warmup_epochs else "hardest"
    return triplet_loss(scores, margin=margin, negatives=negatives, same_image=same_image) / len(scores)


EXERCISE = Exercise(
    "warm-up",
    library=warm_triplet,
    example=Case(
        {"scores": SMALL, "margin": MARGIN, "same_image": eye(SMALL), "epoch": 0, "warmup_epochs": 1}, worked=1.3 / 3
    ),
    cases=warm_cases,
    specification=warm_specification,
    steps=_steps,
    mistakes=MISTAKES,
    family=(_warm, TOGGLES),
    gradients=("scores",),
    rehearsal=Rehearsal(
        lambda: {**quarter_of_a_batch(), "margin": MARGIN, "epoch": 0, "warmup_epochs": 1}, calls=4 * 800
    ),
)
