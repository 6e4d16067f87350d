"""What a wrong result looks like where no known mistake explains it: its relation to the right one, where it fails.

Each symptom must hold in all cases before it is named.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from itr_lib.checks import as_if
from itr_lib.checks.outcome import Inputs, as_kind, double, is_array, is_number, run, same
from itr_lib.checks.trial import Trial

NOT_FINITE = (
    "your result holds NaN or infinity where it should not: "
    "0 / 0, the log of 0, infinity less infinity, or an exp that overflowed"
)
FACTORS = {
    -1.0: "your result is the negative of what is expected: a sign is turned round",
    2.0: "your result is twice what is expected: something is counted twice, or a mean of two became a sum",
    0.5: "your result is half of what is expected: one of two parts is missing, or a sum became a mean",
    100.0: "your result is 100 times what is expected: it is in percent already",
    0.01: "your result is a hundredth of what is expected: percent is asked for",
    1 / math.log(2): "your result is larger by 1 / ln 2: a logarithm has the wrong base",
    math.log(2): "your result is smaller by ln 2: a logarithm has the wrong base",
}
RELATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "your result is the exponential of what is expected: a logarithm is missing": torch.exp,
    "your result is the logarithm of what is expected": torch.log,
    "your result is the square of what is expected: a square root is missing": torch.square,
    "your result is the square root of what is expected": torch.sqrt,
    "your result has lost its negative numbers: a relu, a clamp or a maximum with 0 is too much": torch.relu,
    "your result has lost its signs: an absolute value is too much": torch.abs,
    "your result is 1 minus what is expected": lambda x: 1 - x,
    "your result is 100 minus what is expected: hits and misses are exchanged": lambda x: 100 - x,
    "your result is the reciprocal of what is expected": lambda x: 1 / x,
    "your result is upside down: reverse it": lambda x: x.flip(0) if x.ndim else x,
    "rows and columns are exchanged: transpose the result": lambda x: x.mT if x.ndim >= 2 else x,
}


def name(trials: list[Trial], wrong: list[Trial], answer: Callable, specification: Callable | None) -> str | None:
    """The symptom that fits best, or None."""
    pairs = [pair for trial in trials if (pair := _pair(trial)) is not None]
    if len(pairs) < len(trials):
        return _where(trials, wrong)
    return (
        _factor(trials, pairs)
        or _offset(trials, pairs)
        or _relation(pairs)
        or (specification and as_if.name(trials, wrong, specification))
        or _where(trials, wrong)
        or _not_finite(pairs)
        or _ignored(trials, answer, specification)
        or _partly(pairs)
    )


def part(wrong: list[Trial]) -> str | None:
    """Which rows are missing, where each wrong result holds the first, all but one, or one more than all of them."""
    rows = [(as_kind(trial.outcome.value, trial.expected), trial.expected) for trial in wrong]
    if any(trial.outcome.error for trial in wrong) or not all(is_array(v) and v.ndim for pair in rows for v in pair):
        return None
    pairs = [(double(mine), double(right)) for mine, right in rows]
    kinds: dict[str, Callable[[Tensor, Tensor], bool]] = {
        "it holds the first only; is the return inside the loop?": lambda mine, right: (
            len(mine) == 1 < len(right) and same(mine, right[:1])
        ),
        "the last is missing; does a range leave it out?": lambda mine, right: same(mine, right[:-1]),
        "the first is missing; counting starts at 0": lambda mine, right: same(mine, right[1:]),
        "it goes on for one too many at its end": lambda mine, right: (
            len(mine) == len(right) + 1 and same(mine[:-1], right)
        ),
    }
    told = next((told for told, holds in kinds.items() if all(holds(*pair) for pair in pairs)), None)
    mine, right = (tuple(value.shape) for value in pairs[0])
    return told and f"your result has shape {mine}, expected {right}: {told}"


def _pair(trial: Trial) -> tuple[Tensor, Tensor] | None:
    """Result and expectation as numbers of one shape, or None."""
    value = as_kind(trial.outcome.value, trial.expected)
    if trial.outcome.error or not all(is_array(v) or is_number(v) for v in (value, trial.expected)):
        return None
    mine, right = double(value), double(trial.expected)
    return (mine, right) if mine.shape == right.shape else None


def _factor(trials: list[Trial], pairs: list[tuple[Tensor, Tensor]]) -> str | None:
    """A factor that is the same everywhere, or that is the size of an axis in every case."""
    ratios = [_constant(mine, right, torch.div) for mine, right in pairs]
    known = [(trial, ratio) for trial, ratio in zip(trials, ratios, strict=True) if ratio is not None]
    if None in (ratio for ratio, (_, right) in zip(ratios, pairs, strict=True) if bool((right != 0).any())):
        return None
    if not known or all(abs(ratio - 1) < 1e-4 for _, ratio in known):
        return None
    for factor, message in FACTORS.items():
        if all(abs(ratio - factor) < 1e-4 * abs(factor) for _, ratio in known):
            return message
    for label in dict(_sizes(known[0][0].inputs)):
        sizes = [dict(_sizes(trial.inputs)).get(label, math.nan) for trial, _ in known]
        if all(abs(ratio - size) < 1e-4 * size for (_, ratio), size in zip(known, sizes, strict=True)):
            return f"your result is too large by the factor {label}: a mean became a sum, or a division is missing"
        if all(abs(ratio * size - 1) < 1e-4 for (_, ratio), size in zip(known, sizes, strict=True)):
            return f"your result is too small by the factor {label}: a sum became a mean, or it is divided twice"
    return None


def _offset(trials: list[Trial], pairs: list[tuple[Tensor, Tensor]]) -> str | None:
    """A number that was added everywhere: 1, or one of the arguments."""
    gaps = [_constant(mine, right, torch.sub) for mine, right in pairs]
    if None in gaps or all(abs(gap) < 1e-6 for gap in gaps):
        return None
    for sign, word in ((1, "large"), (-1, "small")):
        if all(abs(gap - sign) < 1e-4 for gap in gaps):
            return f"your result is too {word} by 1 everywhere: counting starts at another number, or one is left out"
        for label in dict(_sizes(trials[0].inputs)):
            sizes = [dict(_sizes(trial.inputs)).get(label, math.nan) for trial in trials]
            if all(abs(gap - sign * size) < 1e-4 for gap, size in zip(gaps, sizes, strict=True)):
                return f"your result is too {word} by {label} everywhere"
    return None


def _constant(mine: Tensor, right: Tensor, relation: Callable) -> float | None:
    """``relation(mine, right)``, if it is one finite number wherever it is defined."""
    usable = (right != 0) & (right.abs() > 1e-9) if relation is torch.div else torch.ones_like(right, dtype=torch.bool)
    if not bool(usable.any()) or (relation is torch.div and bool((mine[~usable].abs() > 1e-6).any())):
        return None
    values = relation(mine[usable], right[usable])
    values = values[values.isfinite()] if bool((mine == right)[usable].any()) else values
    first = float(values[0]) if values.numel() else math.nan
    even = bool(values.isfinite().all()) and bool(((values - first).abs() <= 1e-4 * max(1.0, abs(first))).all())
    return first if even and math.isfinite(first) else None


def _sizes(inputs: Inputs) -> Iterator[tuple[str, float]]:
    """Numbers that a result may be off by: axes and arguments."""
    for label, value in inputs.items():
        if is_array(value):
            for axis, size in enumerate(value.shape):
                yield f"{size_word(label, axis)}", float(size)
                yield f"2 x {size_word(label, axis)}", 2.0 * size
                yield f"the square of {size_word(label, axis)}", float(size) ** 2
            if len(value.shape) == 2:
                yield f"the number of entries of {label}", float(value.shape[0] * value.shape[1])
        elif is_number(value) and not isinstance(value, bool):
            yield label, float(value)


def size_word(label: str, axis: int) -> str:
    """How a learner reads the length of an axis."""
    return f"{label}.shape[{axis}]"


def _relation(pairs: list[tuple[Tensor, Tensor]]) -> str | None:
    if all(torch.equal(mine, mine.flatten()[:1].expand(mine.numel()).view(mine.shape)) for mine, _ in pairs) and any(
        right.numel() > 1 and float((right - right.flatten()[0]).abs().max()) > 1e-6 for _, right in pairs
    ):
        return "your result holds the same number everywhere"
    for message, function in RELATIONS.items():
        if all(same(mine, function(right)) for mine, right in pairs):
            return message
    several = [(mine, right) for mine, right in pairs if right.numel() > 1]
    if several and all(same(_sorted(mine), _sorted(right)) for mine, right in pairs):
        return "your result holds the right numbers in another order: an axis, a sort or a reshape is wrong"
    return None


def _sorted(values: Tensor) -> Tensor:
    return values.flatten().sort().values


def _ignored(trials: list[Trial], answer: Callable, specification: Callable | None) -> str | None:
    """An input on which the right result depends, and yours never does."""
    if specification is None:
        return None
    for label in trials[0].inputs:
        found = [_depends(trial, label, answer, specification) for trial in trials]
        if "used" not in found and found.count("ignored") >= min(4, len(trials)):
            return f"your result does not depend on {label}"
    return None


def _depends(trial: Trial, label: str, answer: Callable, specification: Callable) -> str:
    """Whether another value of an input changes the answer's result: "used", "ignored", or "unknown" if it need not."""
    moved = False
    for other in _changed(trial.inputs[label]):
        inputs = trial.inputs | {label: other}
        try:
            right, mine = run(specification, inputs), run(answer, inputs)
        except NotImplementedError:
            continue
        if mine.error or not same(mine.value, trial.outcome.value):
            return "used"
        moved |= right.error is None and not same(right.value, trial.expected)
    return "ignored" if moved else "unknown"


def _changed(value: Any) -> Iterator[Any]:
    """Other values of the same kind; none where it is not clear which would be valid."""
    if isinstance(value, Tensor) and value.is_floating_point():
        g = torch.Generator().manual_seed(0)
        for size in (0.3, 2.0, -1.0):
            yield value + size * torch.randn(value.shape, generator=g).to(value)
    elif isinstance(value, Tensor) and value.dtype == torch.bool and value.ndim == 2:
        for row in (value.sum(1) > 1).nonzero()[:3, 0].tolist():
            other = value.clone()
            other[row, int(value[row].nonzero()[-1])] = False
            yield other
    elif isinstance(value, float):
        yield from (1.7 * value, 0.3 * value)
    elif isinstance(value, int) and not isinstance(value, bool):
        yield from (value + 1, max(1, value - 1))


def _where(trials: list[Trial], wrong: list[Trial]) -> str | None:
    """The traps that are fallen into, where the ordinary cases are right."""
    traps = list(dict.fromkeys(trial.trap for trial in wrong))
    if "" in traps or len(wrong) == len(trials):
        return None
    return f"right elsewhere, but not where {', nor where '.join(traps[:3])}"


def _partly(pairs: list[tuple[Tensor, Tensor]]) -> str | None:
    """Which part of the result is right in all cases that have more than one row."""
    tables = [(mine, right) for mine, right in pairs if mine.ndim and len(mine) > 1]
    if max((len(right) for _, right in tables), default=0) < 3:
        return None
    rows = [(mine == mine) & ((mine - right).abs() < 1e-4) for mine, right in tables]
    per_row = [row.reshape(len(row), -1).all(1) for row in rows]
    if all(bool(row[0]) and not bool(row[1:].any()) for row in per_row):
        return "only the first row is right: a return inside the loop, or an index that stays at 0?"
    if all(bool(row[1:].all()) for row in per_row):
        return "all rows but the first are right"
    if all(bool(row[:-1].all()) for row in per_row):
        return "all rows but the last are right: the end of a range is left out, or the last batch"
    square = [row for row in rows if row.ndim == 2 and row.shape[0] == row.shape[1]]
    if len(square) < len(rows):
        return None
    if square and all(bool((row | torch.eye(len(row), dtype=torch.bool)).all()) for row in square):
        return "only the diagonal is wrong"
    if square and all(bool(row.diagonal().all()) for row in square):
        return "only the diagonal is right"
    if square and all(bool(row.triu().eq(torch.ones_like(row).triu()).all()) for row in square):
        return "only entries below the diagonal are wrong"
    return None


def _not_finite(pairs: list[tuple[Tensor, Tensor]]) -> str | None:
    if any(not bool(mine.isfinite().all()) and bool(right.isfinite().all()) for mine, right in pairs):
        return NOT_FINITE
    return None
