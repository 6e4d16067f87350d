"""The checks that nobody has seen: the same kinds of cases with other numbers, in another order, and in other shapes.

A secret decides the numbers and the shapes (:func:`itr_lib.checks._inputs.sizes`), so that they stand in no file, and
are the same for everybody who is graded with it. Where the cases of an exercise are made by hand, ``MORE`` draws some.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch

from itr_lib.checks import exercise
from itr_lib.checks._inputs import drawn, drawn_anew, generator
from itr_lib.checks.frame import Case, Exercise


def hidden(slug: str, secret: str) -> Exercise:
    """The exercise with hidden cases only, ready made. Raises ``ValueError`` for an exercise that does not exist."""
    task = exercise(slug)
    with numbers_of(slug, secret):
        cases = [*task.cases(), *(MORE[slug](random.Random(drawn(0))) if slug in MORE else ())]
        random.Random(drawn(1)).shuffle(cases)
    if not cases:  # the example only says how to begin
        return task
    return replace(task, example=None, cases=lambda: iter(cases))


def seen(slug: str) -> Exercise:
    """The exercise with the cases of the notebook ready made, so that each is one and the same object at every turn."""
    cases = list(exercise(slug).cases())
    return replace(exercise(slug), cases=lambda: iter(cases))


def numbers_of(slug: str, secret: str):
    """Inside, the cases of an exercise are drawn with the numbers of that secret."""
    exercise(slug)  # imported before: an example that its module makes then is the notebook's
    return drawn_anew(f"{secret} {slug}")


def ordinary(task: Exercise) -> Exercise | None:
    """What an answer must do to be half right: the cases without a trap, without gradients; None: there are none."""
    shown = [case for case in ([task.example] if task.example else []) + list(task.cases()) if not case.trap]
    return replace(task, example=None, cases=lambda: iter(shown), gradients=()) if shown else None


def _ranks(chance: random.Random) -> Iterator[Case]:
    for seed in range(80, 88):
        ranks = 1 + torch.randint(chance.choice([8, 40]), (chance.randint(1, 30),), generator=generator(seed))
        yield Case({"ranks": ranks, "k": chance.randint(1, 15)})


def _chances(chance: random.Random) -> Iterator[Case]:
    for _ in range(6):
        yield Case(
            {"images": chance.randint(20, 900), "captions_per_image": chance.randint(2, 7), "k": chance.randint(1, 12)}
        )


MORE: dict[str, Callable[[random.Random], Iterator[Case]]] = {
    "recall-at-k": _ranks,
    "chance-recall": _chances,
}
