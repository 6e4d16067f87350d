"""How every check works: cases, a specification, and the mistakes that explain a difference."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

# Relative to the largest expected number. A right answer may compute in float32, or guard a division with 1e-8; the
# mistakes that the checks know differ by a hundred times as much. (Tests hold the library itself to 1e-9.)
TOLERANCE = {torch.float64: 1e-6, torch.float32: 2e-5}
Inputs = dict[str, Any]


@dataclass(frozen=True)
class Exercise:
    """One exercise's check.

    Attributes:
        slug: its name in the notebook.
        cases: inputs by argument name, made anew at each call; floats in float64.
        specification: the right answer as plain loops.
        mistakes: what a learner is told -> the wrong function that would give just that result.
        gradients: names of the inputs by which the result is differentiated too.
        explain: (inputs, result, expected) -> what may be wrong when no mistake matches, or None.
        properties: used instead of ``specification`` where many answers are right: takes the inputs and a function
            that runs the answer on them (with changes by name), raises AssertionError with the diagnosis.
    """

    slug: str
    cases: Callable[[], Iterator[Inputs]]
    specification: Callable | None = None
    mistakes: dict[str, Callable] = field(default_factory=dict)
    gradients: tuple[str, ...] = ()
    explain: Callable[[Inputs, Any, Any], str | None] | None = None
    properties: Callable[[Inputs, Callable[..., Any]], None] | None = None


def verify(exercise: Exercise, answer: object) -> int:
    """Run the check; returns the number of cases. Raises AssertionError with the diagnosis."""
    if not callable(answer):
        raise AssertionError(f"check got a {type(answer).__name__}, expected the function itself, without calling it")
    total = 0
    for inputs in exercise.cases():
        for version in _versions(inputs):
            total += 1
            _verify_case(exercise, answer, version)
    return total


def _versions(inputs: Inputs) -> Iterator[Inputs]:
    """The same case in float64, in float32, and on the GPU where there is one."""
    yield inputs
    if any(_is_float(value) for value in inputs.values()):
        yield {name: value.float() if _is_float(value) else value for name, value in inputs.items()}
    if torch.cuda.is_available() and any(isinstance(value, Tensor) for value in inputs.values()):
        yield {name: value.cuda() if isinstance(value, Tensor) else value for name, value in inputs.items()}


def _verify_case(exercise: Exercise, answer: Callable, inputs: Inputs) -> None:
    if exercise.properties is not None:
        exercise.properties(inputs, lambda **changes: _run(answer, {**inputs, **changes}, ())[0])
        return
    result, gradients = _run(answer, inputs, exercise.gradients)
    expected, expected_gradients = _run(exercise.specification, inputs, exercise.gradients, trusted=True)
    _expect_kind(result, expected, inputs)
    if not _same(result, expected, inputs):
        raise AssertionError(_diagnosis(exercise, inputs, result, expected))
    for name, own, right in zip(exercise.gradients, gradients, expected_gradients, strict=True):
        if not bool(own.isfinite().all()):
            raise AssertionError(
                f"the value is right, but its gradient by {name} is NaN: the log of a probability 0, 0 times "
                "infinity, or a division by a length of 0 on the way; log_softmax, logsumexp and F.normalize are safe"
            )
        if not _same(own, right, inputs):
            raise AssertionError(
                f"the value is right, but its gradient by {name} is not: an operation without a gradient "
                f"(.item(), .detach(), a comparison, a new tensor) stands between {name} and your result"
            )


def _run(function: Callable, inputs: Inputs, gradients: tuple[str, ...], trusted: bool = False):
    """Call the function on copies; returns its result and the gradients asked for."""
    given = {n: v.detach().clone() if isinstance(v, Tensor) else copy.deepcopy(v) for n, v in inputs.items()}
    for name in gradients:
        given[name].requires_grad_(True)
    before = {name: (given[name], copy.deepcopy(value)) for name, value in inputs.items() if _is_array(value)}
    try:
        result = function(**given)
    except AssertionError:
        raise
    except Exception as error:
        # torch raises NotImplementedError, too, for a kind of number that an operation does not know
        if trusted or (isinstance(error, NotImplementedError) and "not implemented for" not in str(error)):
            raise
        raise AssertionError(_stopped(error, inputs)) from error
    for name, (after, original) in before.items():
        if not np.array_equal(_as_double(after), _as_double(original), equal_nan=True):
            raise AssertionError(f"your function changes its input {name} in place: work on a copy")
    return _detached(result), _gradients(result, [given[name] for name in gradients])


def _stopped(error: Exception, inputs: Inputs) -> str:
    """What a learner is told when the function raises."""
    if "in-place" in str(error) or "inplace" in str(error):
        return f"your function changes its input in place: work on a copy ({error})"
    hint = ""
    if "unexpected keyword argument" in str(error):
        hint = "\nKeep the parameter names of the stub: checks call your function by name."
    if "dtype" in str(error) or ("Float" in str(error) and "Double" in str(error)):
        hint = "\nMake new tensors of the input's kind: torch.zeros(..., dtype=x.dtype, device=x.device)."
    return f"your function stopped with {type(error).__name__}: {error}{hint}\n{_shapes(inputs)}"


def _gradients(result: Any, by: list[Tensor]) -> list[Tensor]:
    """The gradients of a sum in which each number of the result has a weight of its own."""
    if not by or not isinstance(result, Tensor) or not result.requires_grad:
        return [torch.zeros_like(value) for value in by]
    weights = torch.linspace(0.5, 1.5, result.numel(), dtype=result.dtype, device=result.device).view(result.shape)
    found = torch.autograd.grad((result * weights).sum(), by, allow_unused=True)
    return [torch.zeros_like(value) if g is None else g for value, g in zip(by, found, strict=True)]


def _expect_kind(result: Any, expected: Any, inputs: Inputs) -> None:
    if result is None:
        raise AssertionError("your function returned None: is a return missing at its end?")
    single = not isinstance(expected, Tensor) or expected.ndim == 0
    if single:
        if not (isinstance(result, Real) or (_is_array(result) and result.ndim == 0)):
            raise AssertionError(f"your function returned {_kind(result)}, expected a number")
        return
    if isinstance(result, tuple) and hasattr(result, "values"):
        raise AssertionError("x.max(dim=...) and x.sort(...) return values and places: take .values, or use amax")
    if not isinstance(result, Tensor):
        raise AssertionError(f"your function returned a {type(result).__name__}, expected a tensor")
    if result.shape != expected.shape:
        raise AssertionError(
            f"your result has shape {tuple(result.shape)}, expected {tuple(expected.shape)}\n{_shapes(inputs)}"
        )


def _same(result: Any, expected: Any, inputs: Inputs) -> bool:
    result, expected = _as_double(result), _as_double(expected)
    if result.shape != expected.shape:
        return False
    kinds = [value.dtype for value in inputs.values() if _is_float(value)]
    tolerance = max((TOLERANCE[kind] for kind in kinds), default=TOLERANCE[torch.float64])
    scale = max(1.0, float(expected[expected.isfinite()].abs().max())) if expected.isfinite().any() else 1.0
    return torch.allclose(result, expected, rtol=0, atol=tolerance * scale, equal_nan=True)


def _diagnosis(exercise: Exercise, inputs: Inputs, result: Any, expected: Any) -> str:
    for message, mistake in exercise.mistakes.items():
        try:
            wrong, _ = _run(mistake, inputs, (), trusted=True)
        except Exception:  # a mistake that cannot be made on this case explains nothing
            continue
        if _same(result, wrong, inputs) and not _same(wrong, expected, inputs):
            return f"{message}\n{_difference(result, expected)}"
    explained = exercise.explain and exercise.explain(inputs, result, expected)
    if explained:
        return f"{explained}\n{_difference(result, expected)}"
    if not bool(_as_double(result).isfinite().all()):
        return (
            f"your result holds NaN or infinity where it should not\n{_difference(result, expected)}\n{_shapes(inputs)}"
        )
    return f"your result differs from the specification\n{_difference(result, expected)}\n{_shapes(inputs)}"


def _difference(result: Any, expected: Any) -> str:
    result, expected = _as_double(result), _as_double(expected)
    if result.ndim == 0:
        return f"(yours {float(result):.6g}, expected {float(expected):.6g})"
    gap = (result - expected).abs().nan_to_num(nan=torch.inf)
    place = torch.unravel_index(gap.argmax(), gap.shape)
    where = ", ".join(str(int(i)) for i in place)
    return f"(largest difference at [{where}]: yours {float(result[place]):.6g}, expected {float(expected[place]):.6g})"


def _shapes(inputs: Inputs) -> str:
    parts = [f"{n} {tuple(v.shape)}" if isinstance(v, Tensor) else f"{n}={v!r}" for n, v in inputs.items()]
    return f"The case: {', '.join(parts)}."


def _as_double(value: Any) -> Tensor:
    return torch.as_tensor(_plain(value), dtype=torch.float64)


def _plain(value: Any) -> Any:
    return value.detach().cpu() if isinstance(value, Tensor) else value


def _kind(value: Any) -> str:
    shape = f" of shape {tuple(value.shape)}" if hasattr(value, "shape") else ""
    return f"a {type(value).__name__}{shape}"


def _detached(value: Any) -> Any:
    return value.detach() if isinstance(value, Tensor) else value


def _is_array(value: Any) -> bool:
    return isinstance(value, Tensor | np.ndarray)


def _is_float(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()
