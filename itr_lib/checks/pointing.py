"""``pointing``, lesson 02.

The percentage of questions whose best region is a right one, and what chance would have, beside a count.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from itr_lib.checks._inputs import generator, mask_any_real, sizes, uniform
from itr_lib.checks.frame import Case, Exercise, Inputs
from itr_lib.checks.outcome import double, is_array, is_number

SMALL: Inputs = {
    "alignments": torch.tensor([[0.9, 0.2, 0.5], [0.1, 0.3, -torch.inf]], dtype=torch.float64),
    "right": torch.tensor([[True, False, False], [True, False, True]]),
}


def questions(count: int, width: int, seed: int, negative: float = 0.3, level: bool = True) -> Inputs:
    """Multiples of 1/64, exact in float32, and many ``level``; padding at -inf, and sometimes called right."""
    count, width = sizes(count, width)
    g = generator(seed)
    mask = mask_any_real(count, width, g)
    right = torch.rand(count, width, generator=g) < 0.3  # in padded places, too
    right[torch.arange(count), torch.where(mask, torch.rand(count, width, generator=g), -1).argmax(dim=1)] = True
    steps = torch.tensor([4, 64])[torch.randint(2, (count, 1), generator=g)]
    cosines = (steps * uniform(count, width, g=g)).round() / steps
    cosines -= (cosines.abs() + cosines) * (torch.rand(count, 1, generator=g) < negative)  # all of a row negative
    cosines = cosines if level else uniform(count, width, g=g)
    return {"alignments": cosines.masked_fill(~mask, -torch.inf), "right": right}


def pointing_cases() -> Iterator[Case]:
    """So many questions that each mistake has its own number of hits; few; one; regions that are all right."""
    yield Case(questions(997, 7, seed=0))
    yield Case(questions(7, 9, seed=1))
    yield Case(questions(400, 4, seed=2, level=False))  # many: some are nearly level
    yield Case(questions(12, 5, seed=5, negative=1.0), "every alignment is negative")
    alike = torch.full((3, 4), 0.25, dtype=torch.float64)
    right = torch.tensor([[1, 0, 0, 0], [1, 1, 1, 1], [0, 1, 1, 1]]).bool()
    yield Case({"alignments": alike, "right": right}, "all regions are level, as those of a collapsed model")
    some = questions(12, 5, seed=6)
    some["right"][::3] = False
    yield Case(some, "a question has no right region")
    yield Case(questions(1, 1, seed=3), "there is one question about one region")


def pointing_specification(alignments: Tensor, right: Tensor) -> dict[str, float]:
    """Question by question: does a right region stand above every wrong one, and how many are right?"""
    hits, chance = 0, 0.0
    for row, good in zip(alignments.tolist(), right.tolist(), strict=True):
        real = [(value, g) for value, g in zip(row, good, strict=True) if value > -torch.inf]
        above = max([value for value, g in real if g], default=-math.inf)
        hits += all(above > value for value, g in real if not g)
        chance += sum(g for _, g in real) / len(real)
    return {"hits": 100 * hits / len(alignments), "chance": 100 * chance / len(alignments)}


def _extremes(alignments: Tensor, right: Tensor, fill: float) -> tuple[Tensor, Tensor]:
    """The best right and the best wrong region of each question."""
    real = alignments > -torch.inf
    return tuple(alignments.masked_fill(~(some & real), fill).amax(dim=1) for some in (right, ~right))


def _by_place(alignments: Tensor, right: Tensor, pick: str) -> Tensor:
    """Hits by where the highest alignments stand, of a question or of a region."""
    level = alignments == alignments.amax(dim=0 if pick == "columns" else 1, keepdim=True)
    if pick == "columns":
        return ~(level & ~right).any(dim=0)
    if pick == "all on top":
        return (level == (right & (alignments > -torch.inf))).all(dim=1)
    if pick == "level share":
        return (level & right).sum(dim=1) / level.sum(dim=1)
    if pick == "questions":
        return right.gather(0, alignments.argmax(dim=0)[None])[0]
    places = alignments.topk(min(int(pick[3:]), alignments.shape[1]), dim=1).indices
    return (right & (alignments > -torch.inf)).gather(1, places).any(dim=1)


def _hits(alignments: Tensor, right: Tensor, ties: str, pick: str, fill: float) -> Tensor:
    """One truth value a question, with all that a learner may change in it."""
    real = alignments > -torch.inf
    good, (best, rival) = right & real, _extremes(alignments, right, fill)
    if pick == "lowest":
        alignments = torch.where(real, -alignments, -torch.inf)
        best, rival = _extremes(alignments, right, fill)
    if pick == "padding":  # the smallest number of all
        return right.gather(1, alignments.argmin(dim=1, keepdim=True))[:, 0]
    if pick == "level with its axis":
        return ~((alignments == alignments.amax(dim=0)) & ~right).any(dim=1)
    if pick in ("columns", "level share", "questions", "all on top") or pick.startswith("top"):
        return _by_place(alignments, right, pick)
    if pick in ("above mean", "means", "mean of right"):
        of_real, of_right, of_wrong = (_mean(alignments, some) for some in (real, good, real & ~right))
        above = ((alignments > of_real[:, None]) & good).any(dim=1)
        return {"above mean": above, "means": of_right > of_wrong, "mean of right": of_right > rival}[pick]
    if pick == "every":
        return alignments.masked_fill(~good, torch.inf).amin(dim=1) > rival
    if pick == "shares":
        return ((alignments > rival[:, None]) & good)[good]
    if pick == "size":
        return right.gather(1, alignments.masked_fill(~real, 0).abs().argmax(dim=1, keepdim=True))[:, 0]
    if pick == "single":
        return (best > rival) & (((alignments == best[:, None]) & good).sum(dim=1) == 1)
    if ties == "argmax":
        return right.gather(1, alignments.argmax(dim=1, keepdim=True))[:, 0]
    return best >= rival if ties == "hit" else best > rival


def _mean(alignments: Tensor, some: Tensor) -> Tensor:
    """Over some of a question's regions; minus infinity where there are none."""
    return (alignments.masked_fill(~some, 0).sum(dim=1) / some.sum(dim=1)).nan_to_num(nan=-torch.inf)


def _chance(alignments: Tensor, right: Tensor, chance: str) -> float:
    real = alignments > -torch.inf
    good, count = (right & real).sum(dim=1).double(), real.sum(dim=1).double()
    return {
        "right": good / count,
        "width": good / right.shape[1],
        "padded": right.sum(dim=1) / count,
        "unmasked": right.double().mean(dim=1),
        "ratio": good.sum() / count.sum(),
        "one": 1 / count,
        "one of all": torch.tensor(1 / right.shape[1]),
        "wrong": 1 - good / count,
        "count": good,
        "half": torch.tensor(0.5),
        "any": good / count * (count > good),
    }[chance].mean()


def _some(alignments: Tensor, right: Tensor, asked: Tensor, which: str) -> tuple[Tensor, Tensor]:
    return (alignments, right) if which == "all" else (alignments[asked], right[asked])


def _pointing(
    alignments: Tensor, right: Tensor, ties="miss", pick="highest", fill=-torch.inf, chance="right",
    hits_as=100.0, chance_as=100.0, misses=False, exchanged=False, hits_of="all", chance_of="all",
) -> dict[str, float]:  # fmt: skip
    """Both numbers with all that a learner may change in them."""
    asked = (right & (alignments > -torch.inf)).any(dim=1)  # the questions that have an answer
    found = _hits(*_some(alignments, right, asked, hits_of), ties, pick, fill).double()
    share = float(found.sum() if hits_as == "count" else found.mean())
    hits = (1 if hits_as == "count" else hits_as) * (1 - share if misses else share)
    lot = chance_as * float(_chance(*_some(alignments, right, asked, chance_of), chance))
    return {"hits": lot, "chance": hits} if exchanged else {"hits": hits, "chance": lot}


TOGGLES = {
    "hits is a fraction: give percent, multiply by 100": {"hits_as": 1.0},
    "chance is a fraction: give percent, multiply by 100": {"chance_as": 1.0},
    "both are fractions: give percent, multiply by 100": {"hits_as": 1.0, "chance_as": 1.0},
    "hits counts the questions: divide by their number, times 100": {"hits_as": "count"},
    "hits counts the misses": {"misses": True},
    "hits and chance are exchanged": {"exchanged": True},
    "argmax takes the first of regions that are level, so their order decides: a wrong one that is level makes a "
    "miss": {"ties": "argmax"},
    "a wrong region that is level with the best right one makes a miss: use >, not >=": {"ties": "hit"},
    "what is left out became 0 and wins where alignments are negative: fill it with -torch.inf": {"fill": 0.0},
    "you took the region with the lowest alignment: the best is the highest": {"pick": "lowest"},
    "you took the lowest alignment, which is padding's minus infinity: the best is the highest": {"pick": "padding"},
    "you took the largest alignment without its sign: no abs": {"pick": "size"},
    "the maximum goes over the questions (axis 0): each question, a row, has its own best region": {
        "pick": "questions"
    },
    "a right region among the best two is no hit yet: only the best counts": {"pick": "top2"},
    "a right region among the best three is no hit yet: only the best counts": {"pick": "top3"},
    "a right region among the best five is no hit yet: only the best counts": {"pick": "top5"},
    "a right region above the mean is no hit yet: only the best counts": {"pick": "above mean"},
    "you compared means of right and wrong regions: compare the best of each": {"pick": "means"},
    "you took the mean of the right regions: one good one is enough, take the best": {"pick": "mean of right"},
    "you asked every right region to beat the wrong ones: one is enough": {"pick": "every"},
    "this is the share of right regions that beat all wrong ones: a question has one answer, its best region": {
        "pick": "shares"
    },
    "the maximum goes over the questions (axis 0), and a hit is counted for each region: a question, a row, has its "
    "own best region": {"pick": "columns"},
    "the maximum goes over the questions (axis 0): each question, a row, has its own best region, dim=1": {
        "pick": "level with its axis"
    },
    "you asked for all right regions to be level with the best: one is enough": {"pick": "all on top"},
    "of level regions the share that is right counts: a wrong one that is level makes a miss": {"pick": "level share"},
    "questions without a right region are left out: they count, as a miss with a chance of 0": {
        "hits_of": "asked",
        "chance_of": "asked",
    },
    "hits leaves out questions without a right region: they count, as a miss": {"hits_of": "asked"},
    "chance leaves out questions without a right region: they count, with a chance of 0": {"chance_of": "asked"},
    "two right regions that are level are no miss: only a wrong one makes it": {"pick": "single"},
    "chance divides by the padded width: count the real regions, those above minus infinity": {"chance": "width"},
    "chance counts padded places that right calls True: combine right with alignments > -torch.inf": {
        "chance": "padded"
    },
    "chance counts padding: take right and real regions alone, those above minus infinity": {"chance": "unmasked"},
    "chance is a ratio of sums over all questions: take each question's share, then their mean": {"chance": "ratio"},
    "chance is 1 over the number of regions: several may be right": {"chance": "one"},
    "chance is 1 over the width: several regions may be right, and padding is none": {"chance": "one of all"},
    "chance is the share of wrong regions: take that of right ones": {"chance": "wrong"},
    "chance counts right regions: divide by the number of real ones": {"chance": "count"},
    "chance is taken for 50 %: it is the share of right regions among the real ones": {"chance": "half"},
    "a question whose every region is right counts, too, with a chance of 100 %": {"chance": "any"},
}


def _single(value: Any) -> bool:
    return is_number(value) or (is_array(value) and double(value).numel() == 1)


def _explain(inputs: Inputs, result: Any, expected: Any) -> str:
    """What can be said of another kind of result, and of one wrong number of two."""
    if not isinstance(result, dict):
        return f'your function returned a {type(result).__name__}, expected {{"hits": ..., "chance": ...}}'
    if set(result) != {"hits", "chance"}:
        return f'the names in your result are {", ".join(map(str, result)) or "none"}: expected "hits" and "chance"'
    if odd := [name for name, value in result.items() if not _single(value)]:
        return f"{odd[0]} is no number: give one percentage for each name"
    wrong = [name for name in ("hits", "chance") if abs(float(result[name]) - expected[name]) > 1e-3]
    if len(wrong) == 2:
        return "neither hits nor chance is right yet: begin with hits, the share of questions that point right"
    if wrong == ["hits"]:
        return "chance is right, hits is not: count the questions whose best right region stands above every wrong one"
    return "hits is right, chance is not: the mean over questions of (right and real regions) / (real regions)"


def library_pointing(alignments: Tensor, right: Tensor) -> dict[str, float]:
    """Of all questions at once."""
    real = alignments > -torch.inf
    level = alignments == alignments.amax(dim=1, keepdim=True)
    hits = ~(level & ~right).any(dim=1)
    lot = (right & real).sum(dim=1) / real.sum(dim=1)
    return {"hits": 100 * float(hits.double().mean()), "chance": 100 * float(lot.double().mean())}


EXERCISE = Exercise(
    "pointing",
    library=library_pointing,
    example=Case(SMALL),
    cases=pointing_cases,
    specification=pointing_specification,
    family=(_pointing, TOGGLES),
    explain=_explain,
)
