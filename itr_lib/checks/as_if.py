"""Mistakes that any exercise knows: a result that would be right if an input were another one.

A mask that is turned round, an axis that is exchanged, an argument that is left out: the specification itself says what
would come of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from itr_lib.checks.outcome import Inputs, Outcome, run, same_outcome
from itr_lib.checks.trial import Trial

Change = Callable[[Inputs], Inputs]


def name(trials: list[Trial], wrong: list[Trial], specification: Callable) -> str | None:
    """The change of inputs that explains the result in all cases, or None."""
    for message, change in changes(wrong[0].inputs):
        if all(_agrees(trial, change, specification) for trial in [wrong[0], *trials]):
            return message
    return None


def changes(inputs: Inputs) -> Iterator[tuple[str, Change]]:
    """What may have been done to the inputs, in words."""
    for label, value in inputs.items():
        for message, changed in _of_one(label, value):
            yield message, lambda given, label=label, changed=changed: given | {label: changed(given[label])}
    for one, other in combinations(inputs, 2):
        if _alike(inputs[one], inputs[other]):
            yield (
                f"{one} and {other} are exchanged",
                lambda given, one=one, other=other: given | {one: given[other], other: given[one]},
            )


def _of_one(label: str, value: Any) -> Iterator[tuple[str, Callable]]:
    if isinstance(value, Tensor) and value.dtype == torch.bool:
        yield f"{label} is turned round: True and False are exchanged (~)", torch.logical_not
        yield f"{label} is not used", torch.ones_like
    if isinstance(value, Tensor) and value.ndim == 2 and value.shape[0] == value.shape[1] > 1:
        yield f"rows and columns of {label} are exchanged", lambda x: x.T
    if isinstance(value, Tensor) and value.ndim and len(value) > 1:
        yield f"{label}[0] is used for all of {label}: an index does not move on", lambda x: x[:1].expand_as(x).clone()
    if isinstance(value, Tensor) and value.is_floating_point():
        yield f"the sign of {label} is turned round", torch.neg
    if isinstance(value, float):
        yield (
            f"{label} stands where 1 / {label} belongs: multiplied for divided, or the other way",
            lambda x: 1 / x,
        )
        yield f"{label} is not used", lambda x: 1.0
        yield f"{label} is left out", lambda x: 0.0
        yield f"the sign of {label} is turned round", lambda x: -x
        yield f"{label} is used twice", lambda x: 2 * x
    if isinstance(value, int) and not isinstance(value, bool):
        yield f"{label} is one too large in your code: an index or a range goes one too far", lambda x: x + 1
        yield f"{label} is one too small in your code: an index or a range ends one early", lambda x: x - 1


def _alike(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.ndim == other.ndim and one.dtype == other.dtype
    return isinstance(one, float) and isinstance(other, float)


def _agrees(trial: Trial, change: Change, specification: Callable) -> bool:
    try:
        outcome = run(specification, change(trial.inputs))
    except (ValueError, TypeError, ZeroDivisionError, RuntimeError):
        outcome = Outcome(error=ValueError())
    if outcome.error:  # this case cannot be changed so: it speaks neither for nor against, if it is a wrong one
        return bool(trial.problem())
    return same_outcome(outcome, trial.outcome)
