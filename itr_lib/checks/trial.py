"""One case of a check beside what an answer made of it: is it right, and if not, how does it differ?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from itr_lib.checks.outcome import Inputs, Outcome, as_kind, double, is_array, is_number, same
from itr_lib.checks.wrong import own_line

ELSEWHERE = (
    "Right on the CPU, but the lesson runs on a GPU, where a tensor of the CPU meets those that came: make new ones "
    "where those are, as in torch.arange(n, device=x.device)."
)
NUMPY_READS_THE_CPU = (
    "Right on the CPU, but the lesson runs on a GPU, and numpy cannot read its memory: keep to torch's operations, or "
    "take x.cpu().numpy()."
)


@dataclass(frozen=True, eq=False)
class Trial:
    """A case and its outcome.

    Attributes:
        inputs: what the function was called with.
        trap: what the case is there for, or "".
        outcome: what the answer made of it.
        expected: what the specification says.
    """

    inputs: Inputs
    trap: str
    outcome: Outcome
    expected: Any

    def problem(self, index: bool = False, plain: bool = False) -> str:
        """What is wrong, "" where it is right; with ``plain`` also "" for a mere difference of numbers."""
        if blunder := self.blunder():
            return blunder
        if self.outcome.error:
            return self._stopped(self.outcome.error)
        if self.outcome.changed:
            return f"your function changes its input {self.outcome.changed} in place: work on a copy of it"
        value = as_kind(self.outcome.value, self.expected)
        if told := self._kind(value, index):
            return told
        if plain or same(value, self.expected):
            return ""
        return "your result differs from what is expected"

    def blunder(self) -> str:
        """What no mistake needs to explain: nothing was returned, or an iterator, or a result of ``max(dim=...)``."""
        value = self.outcome.value
        if self.outcome.error or self.expected is None:
            return ""
        if value is None:
            return "your function returned None: is a return missing at its end?"
        if isinstance(value, tuple) and hasattr(value, "values"):
            return "x.max(dim=...) and x.sort(...) return values and places: take .values, or .indices"
        if callable(value) and not callable(self.expected):
            return "your function returned a function: are the brackets of a call missing?"
        return ""

    def difference(self) -> str:
        """The numbers where they differ most; "" where there are none to compare."""
        mine, right = as_kind(self.outcome.value, self.expected), self.expected
        if self.outcome.error or self.outcome.changed:
            return ""
        if not all(is_array(v) or is_number(v) for v in (mine, right)):
            return f"(yours {_short(mine)}, expected {_short(right)})"
        result, expected = double(mine), double(right)
        if result.ndim == 0 and expected.ndim == 0:
            return f"(yours {float(result):.6g}, expected {float(expected):.6g})"
        if max(result.numel(), expected.numel()) <= 8:
            return f"(yours {_short(mine)}, expected {_short(right)})"
        if result.shape != expected.shape:
            return ""
        gap = torch.where(result == expected, 0.0, (result - expected).abs()).nan_to_num(nan=torch.inf)
        place = torch.unravel_index(gap.argmax(), gap.shape)
        where = ", ".join(str(int(i)) for i in place)
        return f"(largest difference at [{where}]: yours {result[place]:.6g}, expected {expected[place]:.6g})"

    def is_finite(self) -> bool:
        """Whether all numbers of the result are finite."""
        value = self.outcome.value
        return not (is_array(value) or is_number(value)) or bool(double(value).isfinite().all())

    def shapes(self) -> str:
        """The case: its inputs' shapes, or their values where they are small, and what it is there for."""
        parts = [f"{name} {_size(value)}" for name, value in self.inputs.items()]
        return f"The case{f', where {self.trap}' if self.trap else ''}: {', '.join(parts)}."

    def _stopped(self, error: Exception) -> str:
        """What a learner is told when the function raises."""
        told = f"your function stopped with {type(error).__name__}: {error}"
        if isinstance(error, AssertionError) and str(error):  # from a stand-in of the check's, which knows why
            told = str(error)
        if line := own_line(error):
            told += f"\n    {line}"
        text = str(error)
        if "same device" in text or "indices should be either on cpu" in text:
            return f"{told}\n{ELSEWHERE}"
        if "device type tensor to numpy" in text:
            return f"{told}\n{NUMPY_READS_THE_CPU}"
        if "in-place" in text or "inplace" in text:
            return f"your function changes its input in place: work on a copy\n{told}"
        if "unexpected keyword argument" in text or "positional argument" in text:
            told += "\nKeep the parameter names of the stub: checks call your function by name."
        elif "that requires grad" in text:
            told += "\nnumpy cannot carry a gradient, which is asked for here: use torch's operations."
        elif "dtype" in text or ("Float" in text and "Double" in text):
            told += "\nMake new tensors of the input's kind: torch.zeros(..., dtype=x.dtype, device=x.device). "
            told += "Float64 must do as well as float32."
        return told

    def _kind(self, value: Any, index: bool) -> str:
        """What is wrong with the kind or the shape of a result, "" where nothing is."""
        expected = self.expected
        if not (is_array(expected) or is_number(expected)):
            return ""
        if not (is_array(value) or is_number(value)):
            wanted = f"a tensor of shape {tuple(expected.shape)}" if is_array(expected) else "a number"
            return f"your function returned {_described(value)}, expected {wanted}"
        mine, wanted = tuple(getattr(value, "shape", ())), tuple(getattr(expected, "shape", ()))
        if mine != wanted:
            if not wanted:
                return f"your function returned {_described(value)}, expected a number"
            return f"your result has shape {mine}, expected {wanted}"
        if index and isinstance(value, Tensor) and isinstance(expected, Tensor):
            return _index_kind(value, expected)
        return ""


def _index_kind(value: Tensor, expected: Tensor) -> str:
    truth = expected.dtype == torch.bool
    if (truth and value.dtype == torch.bool) or not (truth or value.dtype == torch.bool or value.is_floating_point()):
        return ""
    wanted = "True and False (torch.bool)" if truth else "whole numbers (torch.long)"
    return f"your result is of {value.dtype}, and cannot serve as an index: {wanted} are asked for"


def _described(value: Any) -> str:
    shape = f" of shape {tuple(value.shape)}" if hasattr(value, "shape") else ""
    return f"a {type(value).__name__}{shape}"


def _short(value: Any) -> str:
    plain = value.tolist() if is_array(value) else value
    text = str(_rounded(plain))
    return text if len(text) <= 160 else text[:157] + "..."


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.4g}")
    return [_rounded(v) for v in value] if isinstance(value, list) else value


def _size(value: Any) -> str:
    if is_array(value):
        return _short(value) if value.ndim == 0 else str(tuple(value.shape))
    return _short(value) if isinstance(value, int | float | str | bool | list | tuple | dict) else type(value).__name__
