"""What a function makes of a case: run on copies, with its gradients; and when two results are the same."""

from __future__ import annotations

import copy
import numbers
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

# Relative to the largest expected number. A right answer may compute in float32, or guard a division with 1e-6; the
# mistakes that the checks know differ by a hundred times as much. (Tests hold the library itself to 1e-9.)
TOLERANCE = 2e-5
HUGE = 1e5  # no right result is as large; some fill with -1e9 or the like where others take infinity
Inputs = dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """What came out of one call.

    Attributes:
        value: what it returned, without its graph; numpy arrays and lists of numbers as tensors.
        error: what it raised instead, or None.
        changed: the name of an input that is no longer what it was, or "".
        converted: whether ``value`` came as something else than a tensor or a number.
        cut: the name of an input by which a gradient was asked for, and which no longer carries one, or "".
        has_graph: whether a gradient could flow back from the result.
        gradients: one a name asked for.
    """

    value: Any = None
    error: Exception | None = None
    changed: str = ""
    converted: bool = False
    cut: str = ""
    has_graph: bool = False
    gradients: tuple[Tensor, ...] = ()


class Elsewhere:
    """A function that another process runs. Its ``outcome`` takes what :func:`run` takes, and returns the same."""

    def outcome(self, inputs: Inputs, gradients: tuple[str, ...], may_change: tuple[str, ...]) -> Outcome:
        """What came out there."""
        raise NotImplementedError

    def __call__(self, *values: Any, **named: Any) -> Any:
        """Nobody calls it here."""
        raise TypeError("this function runs in another process")


def run(function: Callable, inputs: Inputs, gradients: tuple[str, ...] = (), may_change: tuple[str, ...] = ()):
    """Call ``function`` on copies of the inputs. ``NotImplementedError`` passes through, all else is an outcome."""
    if isinstance(function, Elsewhere):
        return function.outcome(inputs, gradients, may_change)
    given = {name: _copied(value) for name, value in inputs.items()}
    for name in gradients:
        given[name].requires_grad_(True)
    try:
        result = function(**given)
    except Exception as error:
        # torch raises NotImplementedError, too, for a kind of number that an operation does not know
        if isinstance(error, NotImplementedError) and "not implemented for" not in str(error):
            raise
        return Outcome(error=error)
    changed = (n for n, v in inputs.items() if n not in may_change and not _unchanged(given[n], v))
    value = as_tensors(result)
    by = [given[name] for name in gradients]
    cut = next((name for name in gradients if not given[name].requires_grad), "")
    graph = isinstance(result, Tensor) and result.requires_grad and all(value.requires_grad for value in by)
    found = _gradients(result, by) if by and graph else ()
    return Outcome(detached(value), None, next(changed, ""), value is not result, cut, graph, found)


def as_tensors(value: Any) -> Any:
    """Arrays and lists of numbers as tensors, a single number of shape (1,) as one of shape (); all else as it is."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, np.ndarray) and value.dtype != object:
        return torch.from_numpy(np.ascontiguousarray(value)) if value.ndim else torch.as_tensor(value.item())
    if isinstance(value, list) and value and all(isinstance(v, Tensor) and v.ndim == 0 for v in value):
        return torch.stack(value)
    if isinstance(value, list) and value and _numbers(value):
        return torch.tensor(value)
    return value


def _numbers(value: list) -> bool:
    """Whether a list holds numbers, or lists of numbers all of one length."""
    if all(isinstance(v, list) for v in value):
        return len({len(v) for v in value}) == 1 and all(_numbers(v) for v in value) and bool(value[0])
    return all(isinstance(v, numbers.Real | np.bool_) for v in value)


def as_kind(value: Any, expected: Any) -> Any:
    """A result in the shape and kind of what is expected, where nothing is lost by it."""
    if isinstance(expected, Tensor) and type(value) in (list, tuple) and (not value or _numbers(list(value))):
        value = torch.tensor(list(value))  # a tuple, or nothing at all, where a list of numbers may be given
    if isinstance(expected, Tensor) and isinstance(value, Tensor):
        single = expected.ndim == 0 and value.numel() == 1
        return value.reshape(()) if single else value
    if is_number(expected) and isinstance(value, Tensor) and value.numel() == 1:
        return value.reshape(())
    return value


def same(result: Any, expected: Any) -> bool:
    """Whether two results are equal, numbers up to rounding: tensors, numbers, and lists, tuples or dicts of them."""
    result = as_kind(result, expected)
    if isinstance(expected, dict):
        return (
            isinstance(result, dict)
            and result.keys() == expected.keys()
            and all(same(result[key], expected[key]) for key in expected)
        )
    if isinstance(expected, list | tuple) and not isinstance(result, Tensor):
        return isinstance(result, list | tuple) and len(result) == len(expected) and all(map(same, result, expected))
    if not (is_array(expected) or is_number(expected)):
        return type(result) is type(expected) and result == expected
    if not (is_array(result) or is_number(result)):
        return False
    return close(result, expected)


def close(result: Any, expected: Any, tolerance: float = TOLERANCE) -> bool:
    """Whether numbers are equal up to a share of the largest one that is expected, or of 1 where that is smaller."""
    result, expected = double(result), double(expected)
    if result.shape != expected.shape:
        return False
    finite = expected[expected.isfinite()]
    scale = max(1.0, float(finite.abs().max())) if finite.numel() else 1.0
    return torch.allclose(result, expected, rtol=0, atol=tolerance * scale, equal_nan=True)


def same_outcome(one: Outcome, other: Outcome) -> bool:
    """Whether two functions did the same: the same result, or an error of the same kind."""
    if one.error or other.error:
        return type(one.error) is type(other.error)
    return one.changed == other.changed and same(_only_finite(one.value), _only_finite(other.value))


def _only_finite(value: Any) -> Any:
    """NaN, infinities and what is as good as one: which of them comes out of a mistake depends on how it is written."""
    if not is_float(value):
        return value
    numbers = double(value).nan_to_num(nan=HUGE, posinf=HUGE, neginf=HUGE)
    return torch.where(numbers.abs() >= HUGE, HUGE, numbers)


def double(value: Any) -> Tensor:
    """Numbers as float64 on the CPU."""
    return torch.as_tensor(value.detach().cpu() if isinstance(value, Tensor) else value, dtype=torch.float64)


def detached(value: Any) -> Any:
    """A result without its graph."""
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, list | tuple) and type(value) in (list, tuple):
        return type(value)(detached(v) for v in value)
    return value


def is_array(value: Any) -> bool:
    """A tensor or a numpy array."""
    return isinstance(value, Tensor | np.ndarray)


def is_number(value: Any) -> bool:
    """A single number of Python's or numpy's."""
    return isinstance(value, numbers.Real | np.bool_)


def is_float(value: Any) -> bool:
    """A tensor of floating-point numbers."""
    return isinstance(value, Tensor) and value.is_floating_point()


def _copied(value: Any) -> Any:
    return value.detach().clone() if type(value) is Tensor else copy.deepcopy(value)


def _unchanged(after: Any, before: Any) -> bool:
    """Whether an input is still what it was; what cannot be compared is taken to be."""
    if is_array(before):
        old, new = double(before), double(after)
        return old.shape == new.shape and torch.equal(old.nan_to_num(nan=7.5), new.nan_to_num(nan=7.5))
    if isinstance(before, dict):
        return after.keys() == before.keys() and all(_unchanged(after[key], before[key]) for key in before)
    if isinstance(before, list | tuple):
        return len(after) == len(before) and all(map(_unchanged, after, before))
    if isinstance(before, nn.Module):
        return _unchanged(dict(after.state_dict()), dict(before.state_dict()))
    return not isinstance(before, set | str | numbers.Number) or after == before


def _gradients(result: Tensor, by: list[Tensor]) -> tuple[Tensor, ...]:
    """The gradients of a sum in which each number of the result has a weight of its own."""
    weights = torch.linspace(0.5, 1.5, result.numel(), dtype=result.dtype, device=result.device).view(result.shape)
    found = torch.autograd.grad((result * weights).sum(), by, allow_unused=True)
    return tuple(torch.zeros_like(value) if g is None else g for value, g in zip(by, found, strict=True))
