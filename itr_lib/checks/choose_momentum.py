"""``choose-momentum``, lesson 04.

A choice from measurements: of the followers whose keys still find their images, the one whose keys agree best.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from itr_lib.checks._inputs import longer
from itr_lib.checks.frame import Case, Exercise
from itr_lib.checks.outcome import Inputs


def _given(momenta: list[float], recalls: list[float], kept: list[float], share: float) -> Inputs:
    values = {"momenta": momenta, "recalls": recalls, "kept": kept}
    return {name: torch.tensor(longer(value), dtype=torch.float64) for name, value in values.items()} | {"share": share}


def momentum_choices() -> Iterator[Case]:
    """Candidates in any order, one exactly at the limit, one alone, none that finds anything."""
    yield Case(_given([0.5, 0.8, 0.95, 0.998], [30, 31, 26, 4], [0.5, 0.6, 0.75, 0.99], 0.7))
    yield Case(_given([0.5, 0.9], [10, 40], [0.5, 0.8], 0.75))
    mixed = _given([0.998, 0.95, 0.3, 0.8], [3, 27, 28, 31], [0.99, 0.8, 0.4, 0.6], 0.75)
    yield Case(mixed, trap="the candidates are in no order")
    odd = _given([0.2, 0.9, 0.99, 0.7], [24, 40, 31, 39], [0.97, 0.7, 0.62, 0.8], 0.75)
    yield Case(odd, trap="the highest momentum is not the one whose keys agree best")
    weak = _given([0.5, 0.9, 0.99, 0.999], [30, 28, 17, 9], [0.5, 0.6, 0.7, 0.9], 0.75)
    yield Case(weak, trap="a follower finds more than the mean of all, and too little")
    limit = _given([0.4, 0.9, 0.99], [40, 39.5, 30], [0.5, 0.6, 0.8], 0.75)
    yield Case(limit, trap="a recall lies exactly at the limit")
    apart = _given([0.9, 0.99, 0.5], [40, 32, 38], [0.7, 0.8, 0.5], 0.75)
    yield Case(apart, trap="the keys that agree best do not find most")
    low = _given([0.5, 0.9, 0.3], [20, 1, 19], [-0.1, 0.3, -0.2], 0.75)
    yield Case(low, trap="the keys that are left agree less than 0")
    yield Case(_given([0.9], [12], [0.7], 0.9), trap="there is one candidate")
    yield Case(_given([0.1, 0.9, 0.99], [0, 0, 0], [0.5, 0.8, 0.7], 0.75), trap="no follower finds anything")


def choice_specification(momenta: Tensor, recalls: Tensor, kept: Tensor, share: float) -> float:
    """Candidate by candidate, the best so far kept."""
    highest, best = max(recalls.tolist()), None
    for momentum, recall, agrees in zip(momenta.tolist(), recalls.tolist(), kept.tolist(), strict=True):
        if recall >= share * highest and (best is None or agrees > best[0]):
            best = (agrees, momentum)
    return best[1]


def choose_momentum(momenta: Tensor, recalls: Tensor, kept: Tensor, share: float) -> float:
    """Of the momenta whose recall is at least ``share`` of the highest, the one whose keys agree best."""
    admitted = recalls >= share * recalls.max()
    return float(momenta[kept.masked_fill(~admitted, -torch.inf).argmax()])


def _limit(limit: str, recalls: Tensor, share: float) -> Tensor:
    """The recall that must be reached."""
    return {
        "share": share * recalls.max(),
        "highest": recalls.max(),
        "percent": torch.tensor(100 * share).to(recalls),
        "mean": share * recalls.mean(),
        "first": share * recalls[0],
        "last": share * recalls[-1],
        "median": share * recalls.median(),
        "difference": recalls.max() - share,
        "less": (1 - share) * recalls.max(),
    }[limit]


def _quality(pick: str, momenta: Tensor, recalls: Tensor, kept: Tensor) -> Tensor:
    """What the highest is looked for of."""
    return {
        "kept": kept, "kept least": -kept, "recall": recalls, "recall least": -recalls, "momentum": momenta,
        "momentum least": -momenta, "product": kept * recalls, "first": -torch.arange(len(kept)).to(kept),
        "last": torch.arange(len(kept)).to(kept),
    }[pick]  # fmt: skip


def spoiled(
    momenta, recalls, kept, share, *, limit="share", sign=">=", pick="kept", give="momentum", also="", out=-torch.inf
):
    """The choice with one or two of its steps spoiled."""
    if also == "exchanged":
        recalls, kept = kept, recalls
    tests = {">=": torch.ge, ">": torch.gt, "<=": torch.le, "<": torch.lt}
    admitted = (
        tests[sign](recalls, _limit(limit, recalls, share)) if limit != "none" else torch.ones_like(recalls).bool()
    )
    if also == "ratio":
        admitted = recalls / recalls.max() >= share
    if also == "kept":
        admitted &= kept >= share * kept.max()
    if also == "count":
        admitted = recalls >= recalls.sort(descending=True).values[max(1, int(share * len(recalls))) - 1]
    quality = _quality(pick, momenta, recalls, kept)
    place = int(quality.to(kept).masked_fill(~admitted, out).argmax())
    inside = int(admitted[:place].sum())
    gives = {"momentum": momenta[place], "place": place, "inside": inside, "mixed": momenta[inside]}
    gives |= {"recall": recalls[place], "kept": kept[place]}
    return float(gives[give])


CHOICE_TOGGLES = {
    "recalls are divided by the highest, and 0 / 0 is NaN where nothing is found: compare them with share times the "
    "highest": {"also": "ratio"},
    "nothing is left out: first keep the momenta whose recall is at least share times the highest": {"limit": "none"},
    "only the highest recall is kept: share times the highest is enough": {"limit": "highest"},
    "recalls are compared with share in percent: the limit is share times the highest recall": {"limit": "percent"},
    "the limit is a share of the mean recall: it is one of the highest": {"limit": "mean"},
    "the limit is a share of the first recall: it is one of the highest, wherever that stands": {"limit": "first"},
    "the limit is a share of the last recall: it is one of the highest, wherever that stands": {"limit": "last"},
    "the limit is a share of the median recall: it is one of the highest": {"limit": "median"},
    "share is taken off the highest recall: the limit is share times the highest": {"limit": "difference"},
    "kept must reach a share of its highest, too: only the recall has a limit": {"also": "kept"},
    "recalls and kept are exchanged: the recalls have the limit, and of what is left the highest kept is taken": {
        "also": "exchanged"
    },
    "what is left out became 0 (a product with the mask, or a fill), and 0 beats a kept below it: fill with "
    "-torch.inf, or index the ones that are left": {"out": 0.0},
    "a share of the candidates is left: left are those whose recall is at least share times the highest": {
        "also": "count"
    },
    "the limit is 1 - share of the highest recall: it is share": {"limit": "less"},
    "a recall exactly at the limit is left out: at least share, >=": {"sign": ">"},
    "those below the limit are kept, the others left out: turn the comparison round": {"sign": "<="},
    "those below the limit are kept, the others left out: turn the comparison round, with >=": {"sign": "<"},
    "of those that are left, the least agreeing is taken: the highest kept is asked for": {"pick": "kept least"},
    "of those that are left, the one with the highest recall is taken: the highest kept is asked for": {
        "pick": "recall"
    },
    "of those that are left, the one with the lowest recall is taken: the highest kept is asked for": {
        "pick": "recall least"
    },
    "of those that are left, the highest momentum is taken: what counts is kept, as measured": {"pick": "momentum"},
    "of those that are left, the lowest momentum is taken: the highest kept is asked for": {"pick": "momentum least"},
    "of those that are left, the highest kept times recall is taken: the highest kept is asked for": {
        "pick": "product"
    },
    "of those that are left, the first is taken: look for the highest kept": {"pick": "first"},
    "of those that are left, the last is taken: look for the highest kept": {"pick": "last"},
    "this is a place in the list: return the momentum that stands there": {"give": "place"},
    "this is a place among those that are left: return the momentum that stands there": {"give": "inside"},
    "a place among those that are left was used in the list of all: index the same list": {"give": "mixed"},
    "this is the recall of the right one: return its momentum": {"give": "recall"},
    "this is kept of the right one: return its momentum": {"give": "kept"},
}


def _above_share(momenta, recalls, kept, share):
    """Fails where nothing reaches it."""
    left = recalls >= share
    return float(momenta[left][kept[left].argmax()])


def _ratio(momenta, recalls, kept, share):
    """Fails where nothing is found."""
    left = recalls / recalls.max() >= share
    return float(momenta[left][kept[left].argmax()])


def _begins_at_0(momenta, recalls, kept, share, chosen=0.0):
    best, limit = 0.0, share * float(recalls.max())
    for momentum, recall, agrees in zip(momenta.tolist(), recalls.tolist(), kept.tolist(), strict=True):
        if recall >= limit and agrees > best:
            best, chosen = agrees, momentum
    return chosen


EXERCISE = Exercise(
    "choose-momentum",
    library=choose_momentum,
    example=Case(_given([0.0, 0.9, 0.99, 0.999], [20, 22, 18, 1], [0.6, 0.65, 0.8, 0.99], 0.75), worked=0.99),
    cases=momentum_choices,
    specification=choice_specification,
    mistakes={
        "recalls are compared with share itself, and nothing is left where none reaches it: the limit is share "
        "times the highest recall": _above_share,
        "recalls are divided by the highest, and 0 / 0 is NaN where nothing is found, so that nothing is left: compare "
        "them with share times the highest": _ratio,
        "the best kept so far begins at 0, and one below 0 is never chosen: begin at minus infinity": _begins_at_0,
        "the best kept so far begins at 0, and one below 0 is never chosen: begin at minus infinity, and set a "
        "momentum in every case": lambda **inputs: _begins_at_0(**inputs, chosen=None),
    },
    family=(spoiled, CHOICE_TOGGLES),
)
