"""``twin-choices``, lesson 01.

The percentage of captions that choose their picture over its twin, beside a count.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from itr_lib.checks._inputs import random_scores
from itr_lib.checks.frame import Exercise
from itr_lib.checks.outcome import Inputs


def twin_cases() -> Iterator[Inputs]:
    """Pairs of twins, with ties, and a model that sees no difference at all."""
    for seed, pairs in enumerate([6, 1, 3]):
        scores = random_scores(2 * pairs, 30 + seed)
        yield {"scores": scores}
        yield {"scores": (3 * scores).round()}
    yield {"scores": torch.full((4, 4), 0.7, dtype=torch.float64)}


def twin_specification(scores: Tensor) -> float:
    """For each caption: its own picture against the twin's; a tie counts one half."""
    values = scores.tolist()
    points = 0.0
    for caption in range(len(values)):
        twin = caption + 1 if caption % 2 == 0 else caption - 1
        own, other = values[caption][caption], values[twin][caption]
        points += 1.0 if own > other else 0.5 if own == other else 0.0
    return 100.0 * points / len(values)


def _twin(scores, axis="image", tie=0.5):
    row = torch.arange(len(scores), device=scores.device)
    other = scores[row ^ 1, row] if axis == "image" else scores[row, row ^ 1]
    gap = scores.diagonal() - other
    return 100 * float(((gap > 0).double() + tie * (gap == 0).double()).mean())


TWIN_MISTAKES = {
    "you compared two captions for one picture (a row): here the caption asks, so compare two pictures (a column)": (
        lambda scores: _twin(scores, axis="text")
    ),
    "a tie counts one half: who sees no difference can do no better than guess": lambda scores: _twin(scores, tie=0.0),
    "a tie counts one half, not a whole: a model that sees nothing would be perfect": lambda scores: _twin(
        scores, tie=1.0
    ),
    "you compared with all other pictures (that is R@1): only the twin competes": lambda scores: (
        100 * float((scores.diagonal() >= scores.amax(0)).double().mean())
    ),
    "this is a fraction: give percent, multiply by 100": lambda scores: _twin(scores) / 100,
    "the twin of picture 2k + 1 is 2k, not the next one: pairs are (0, 1), (2, 3), ...": lambda scores: (
        100 * float((0.5 + 0.5 * (scores.diagonal() - scores.roll(-1, 0).diagonal()).sign().double()).mean())
    ),
    "only the first caption of each pair is asked: both are": lambda scores: (
        100 * float((0.5 + 0.5 * (scores.diagonal()[::2] - scores.diagonal(-1)[::2]).sign().double()).mean())
    ),
}

EXERCISE = Exercise("twin-choices", twin_cases, twin_specification, TWIN_MISTAKES)
