"""Checks of results that are right or wrong, never nearly right: orders, ranks, choices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from itr_lib.checks.outcome import Inputs


def whole_numbers(specification: Callable, mistakes: dict[str, Callable]) -> Callable:
    """Properties for results that are right or wrong, never nearly right: a mistake of another length is named too."""

    def properties(inputs: Inputs, run: Callable[..., Any]) -> None:
        result, expected = run(), specification(**inputs)
        if not isinstance(result, Tensor):
            hint = ": is a return missing at its end?" if result is None else f", expected a tensor of {len(expected)}"
            raise AssertionError(f"your function returned {type(result).__name__}{hint}")
        mine, right = result.tolist(), expected.tolist()
        if mine == right:
            return
        told = next((m for m, wrong in mistakes.items() if mine == _outcome(wrong, inputs) != right), None)
        if told is None and result.shape != expected.shape:
            told = f"your result has shape {tuple(result.shape)}, expected {tuple(expected.shape)}"
        stage = f"shortlist {inputs['shortlist']}; " if "shortlist" in inputs else ""
        raise AssertionError(
            f"{told or 'your result differs from the specification'}\n({stage}yours {mine}, expected {right})"
        )

    return properties


def _outcome(wrong: Callable, inputs: Inputs) -> list | None:
    try:
        return wrong(**inputs).tolist()
    except Exception:  # a mistake that cannot be made on this case explains nothing
        return None
